//! Every path, level and layout against the definition, summed in f64.

use super::*;
use crate::kernel::cpu::Cpu;

/// A small fixed sequence: the products' exact values do not matter, their variety does.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
    fn number<T: Scalar>(&mut self) -> T {
        T::lit(self.below(2001) as f64 / 1000.0 - 1.0)
    }
    fn vec<T: Scalar>(&mut self, n: usize) -> Vec<T> {
        (0..n).map(|_| self.number()).collect()
    }
}

/// Strides of a matrix: columns contiguous, rows contiguous, or every third row (a batched view).
#[derive(Clone, Copy, Debug)]
enum Layout {
    Columns,
    Rows,
    Batched,
}
use Layout::{Batched, Columns, Rows};

impl Layout {
    /// (length, row stride, column stride), with a gap of 2 after each column or row.
    fn strides(self, rows: usize, cols: usize) -> (usize, usize, usize) {
        match self {
            Columns => ((rows + 2) * cols, 1, rows + 2),
            Rows => (rows * (cols + 2), cols + 2, 1),
            Batched => (3 * rows * cols, 3, 3 * rows),
        }
    }
}

/// One product against the definition, within k·u·|A||B| + the addition's rounding; places
/// between the elements of C stay as they were.
fn check<T: Scalar>(extents: [usize; 3], layouts: [Layout; 3], add: bool, draw: &mut Draw) {
    let [m, n, k] = extents;
    let (len, row_stride, col_stride) = layouts[0].strides(m, k);
    let data = draw.vec::<T>(len);
    let a = MatRef::strided(&data, (m, k), (row_stride, col_stride));
    let (len, row_stride, col_stride) = layouts[1].strides(k, n);
    let data = draw.vec::<T>(len);
    let b = MatRef::strided(&data, (k, n), (row_stride, col_stride));
    let (len, row_stride, col_stride) = layouts[2].strides(m, n);
    let before = draw.vec::<T>(len);
    let mut after = before.clone();
    let c = MatMut { data: &mut after, rows: m, cols: n, row_stride, col_stride };
    // Scratch of exactly the size asked for, full of what would spoil a result.
    let mut scratch = vec![T::lit(f64::NAN); gemm_scratch::<T>(m, n, k)];
    gemm(a, b, c, add, &mut scratch);

    let what = format!("{} {extents:?} {layouts:?} add {add} {:?}", T::NAME, Cpu::get());
    let mut inside = vec![false; len];
    for j in 0..n {
        for i in 0..m {
            let at = i * row_stride + j * col_stride;
            let start = if add { before[at].to_f64() } else { 0.0 };
            let (mut want, mut size) = (start, start.abs());
            for p in 0..k {
                let product = a.from(i, p)[0].to_f64() * b.from(p, j)[0].to_f64();
                want += product;
                size += product.abs();
            }
            let error = (after[at].to_f64() - want).abs();
            let bound = (k + 2) as f64 * T::EPSILON * size;
            assert!(error <= bound, "{what}: ({i}, {j}) is {}, not {want}", after[at]);
            inside[at] = true;
        }
    }
    for at in 0..len {
        assert!(inside[at] || after[at] == before[at], "{what}: wrote outside, at {at}");
    }
}

#[test]
fn products_of_all_shapes_and_layouts() {
    let layouts = [Columns, Rows, Batched];
    let rounds = if cfg!(miri) { 12 } else { 400 };
    Cpu::for_each(|_| {
        let mut draw = Draw(7);
        for round in 0..rounds {
            let sizes = if cfg!(miri) { [2, 3, 6, 10] } else { [2, 6, 40, 70] };
            let extents = [0; 3].map(|_| {
                let size = sizes[draw.below(4)];
                draw.below(size)
            });
            let layouts = [0; 3].map(|_| layouts[draw.below(3)]);
            check::<f32>(extents, layouts, round % 2 == 0, &mut draw);
            check::<f64>(extents, layouts, round % 2 == 1, &mut draw);
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "several blocks of each kind are too much for an interpreter")]
fn products_of_several_blocks() {
    Cpu::for_each(|_| {
        let mut draw = Draw(11);
        for (extents, layouts) in [
            ([2050, 9, 33], [Columns, Columns, Columns]), // several blocks of A, B packed
            ([17, 70, 1100], [Columns, Rows, Columns]),   // several blocks of k, A packed
            ([3, 2100, 5], [Rows, Columns, Columns]),     // several blocks of B
            ([300, 40, 40], [Rows, Rows, Rows]),          // computed as the transpose
            ([2, 90, 700], [Columns, Columns, Columns]),  // dots with A packed
            ([90, 3, 700], [Rows, Rows, Batched]),        // dots with B packed
            ([300, 1, 77], [Columns, Rows, Columns]),     // matrix-vector, both ways
            ([1, 300, 77], [Columns, Columns, Columns]),
            ([1, 300, 77], [Rows, Rows, Batched]),
            ([900, 1, 2500], [Columns, Columns, Columns]), // short columns from memory
            ([2500, 1, 900], [Rows, Columns, Columns]),
            ([200, 130, 1], [Columns, Columns, Columns]), // outer product
        ] {
            for add in [false, true] {
                check::<f32>(extents, layouts, add, &mut draw);
                check::<f64>(extents, layouts, add, &mut draw);
            }
        }
    });
}

/// [batch…, m, k] · [batch…, k, n] as column-major tensors, either broadcast along any batch axis.
#[test]
fn batches_are_single_products() {
    let rounds = if cfg!(miri) { 4 } else { 150 };
    Cpu::for_each(|cpu| {
        let mut draw = Draw(5);
        for _ in 0..rounds {
            let [m, n, k] = [0; 3].map(|_| draw.below(7));
            let (ta, tb) = (draw.below(2) == 1, draw.below(2) == 1);
            let (mut a_len, mut b_len, mut c_len) = (1, 1, 1);
            let axes: Vec<BatchAxis> = (0..draw.below(4))
                .map(|_| {
                    let extent = [1, 2, 3, 9, 20][draw.below(5)];
                    let (in_a, in_b) = [(true, true), (true, false), (false, true)][draw.below(3)];
                    let axis = BatchAxis {
                        extent,
                        a: if in_a { a_len } else { 0 },
                        b: if in_b { b_len } else { 0 },
                        c: c_len,
                    };
                    a_len *= if in_a { extent } else { 1 };
                    b_len *= if in_b { extent } else { 1 };
                    c_len *= extent;
                    axis
                })
                .collect();
            let strided = |data, rows, cols, flip: bool, stride| match flip {
                true => MatRef::strided(data, (cols, rows), (stride, stride * cols)).t(),
                false => MatRef::strided(data, (rows, cols), (stride, stride * rows)),
            };
            let (a_data, b_data) = (draw.vec::<f64>(a_len * m * k), draw.vec::<f64>(b_len * k * n));
            let a = strided(&a_data, m, k, ta, a_len);
            let b = strided(&b_data, k, n, tb, b_len);
            let add = draw.below(2) == 1;
            let before = if add { 0.5 } else { f64::NAN };
            let mut data = vec![before; c_len * m * n];
            let c = MatMut {
                rows: m,
                cols: n,
                row_stride: c_len,
                col_stride: c_len * m,
                data: &mut data,
            };
            let mut scratch = vec![f64::NAN; gemm_batched_scratch::<f64>(&axes, m, n, k)];
            gemm_batched(&axes, a, b, c, add, &mut scratch);
            for l in 0..c_len {
                let at = |stride: fn(&BatchAxis) -> usize| -> usize {
                    axes.iter().map(|x| l / x.c % x.extent * stride(x)).sum()
                };
                let (a_at, b_at) = (at(|x| x.a), at(|x| x.b));
                for j in 0..n {
                    for i in 0..m {
                        let term = |p| {
                            a.data[a_at + i * a.row_stride + p * a.col_stride]
                                * b.data[b_at + p * b.row_stride + j * b.col_stride]
                        };
                        let product: f64 = (0..k).map(term).sum();
                        let want = if add { before + product } else { product };
                        let got = data[l + c_len * (i + m * j)];
                        let what = format!("{cpu:?} {axes:?} {m} {n} {k} {ta} {tb}");
                        assert!((got - want).abs() < 1e-14, "{what}: {got}, not {want}");
                    }
                }
            }
        }
    });
}

/// Rows of C computed apart by the same path have the bits of the whole product.
#[test]
fn tiles_do_not_show_in_the_bits() {
    let (m, n, k) = if cfg!(miri) { (19, 11, 9) } else { (101, 67, 75) };
    Cpu::for_each(|cpu| {
        let mut draw = Draw(3);
        let (a, b) = (draw.vec::<f32>(m * k), draw.vec::<f32>(k * n));
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        let mut scratch = vec![0.0; gemm_scratch::<f32>(m, n, k)];
        let mut whole = vec![0.0; m * n];
        gemm(a, b, MatMut::new(&mut whole, m, n), false, &mut scratch);
        let cut = m / 3;
        for (i, rows) in [(0, cut), (cut, m - cut)] {
            let mut part = vec![0.0; rows * n];
            let a = a.block(i, 0, rows, k);
            tiles(a, b, MatMut::new(&mut part, rows, n), false, &mut scratch);
            for j in 0..n {
                assert_eq!(part[j * rows..][..rows], whole[j * m + i..][..rows], "{cpu:?}");
            }
        }
    });
}

#[test]
fn nothing_is_skipped_because_it_is_zero() {
    Cpu::for_each(|cpu| {
        for (m, n, k) in [(1, 1, 40), (5, 1, 9), (1, 5, 9), (3, 3, 40), (20, 20, 3)] {
            for bad in [f64::NAN, f64::INFINITY] {
                let mut a = vec![0.0; m * k];
                let mut b = vec![0.0; k * n];
                a[m - 1] = bad; // row m − 1, k = 0
                let mut c = vec![1.0; m * n];
                let mut scratch = vec![0.0; gemm_scratch::<f64>(m, n, k)];
                let (am, bm) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
                gemm(am, bm, MatMut::new(&mut c, m, n), false, &mut scratch);
                for (at, x) in c.iter().enumerate() {
                    assert_eq!(x.is_nan(), at % m == m - 1, "{cpu:?} {m} {n} {k}: {at} is {x}");
                }
                b.fill(1.0);
                let bm = MatRef::new(&b, k, n);
                gemm(am, bm, MatMut::new(&mut c, m, n), false, &mut scratch);
                let want = if bad.is_nan() { "NaN" } else { "inf" };
                assert_eq!(c[m - 1].to_string(), want, "{cpu:?} {m} {n} {k}");
            }
        }
    });
}

#[test]
fn no_terms_make_zero() {
    let mut c = [3.0, 4.0];
    let (a, b) = (MatRef::new(&[], 2, 0), MatRef::new(&[], 0, 1));
    let mut scratch = vec![0.0; gemm_scratch::<f64>(2, 1, 0)];
    gemm(a, b, MatMut::new(&mut c, 2, 1), true, &mut scratch);
    assert_eq!(c, [3.0, 4.0]);
    gemm(a, b, MatMut::new(&mut c, 2, 1), false, &mut scratch);
    assert_eq!(c, [0.0, 0.0]);
}

#[test]
#[should_panic(expected = "gemm: A is 2 × 2 with strides 1, 2, got 3")]
fn short_slices_are_refused() {
    let mut c = [0.0; 4];
    let (a, b) = (MatRef::new(&[0.0; 3], 2, 2), MatRef::new(&[0.0; 4], 2, 2));
    gemm(a, b, MatMut::new(&mut c, 2, 2), false, &mut [0.0; 1000]);
}

#[test]
#[should_panic(expected = "of scratch, got 0")]
fn short_scratch_is_refused() {
    let mut c = [0.0; 4];
    let a = MatRef::new(&[0.0; 4], 2, 2);
    gemm(a.t(), a, MatMut::new(&mut c, 2, 2), false, &mut []);
}
