//! Our matrix products beside the gemm crate and nalgebra, one thread: GFLOP/s, medians of
//! alternating runs. `cargo bench --bench gemm [filter]`; GRADTAPE_CPU=avx2|portable lowers ours.

use gradtape::{MAX_RANK, Scalar};
use kernel::gemm::{
    BatchAxis, MatMut, MatRef, gemm, gemm_batched, gemm_batched_scratch, gemm_scratch,
};
use nalgebra::{DMatrix, DMatrixView};
use std::hint::black_box;
use std::time::Instant;

// The kernels are private to the crate: the bench compiles them from their source.
#[allow(dead_code, unused_imports)]
#[path = "../src/kernel"]
mod kernel {
    pub mod cpu;
    pub mod gemm;
}

/// Operands are column-major; the first is given transposed in TN, the second in NT.
const CASES: [(&str, [usize; 3]); 30] = [
    ("NN", [128, 256, 784]),
    ("TN", [784, 256, 128]),
    ("NT", [128, 784, 256]),
    ("NT", [128, 256, 128]),
    ("NT", [512, 2048, 2048]),
    ("NN", [128, 10, 784]),
    ("TN", [784, 10, 128]),
    ("NT", [128, 784, 10]),
    ("TN", [128, 10, 128]),
    ("TN", [25, 6, 36864]),
    ("NN", [4096, 16, 150]),
    ("NN", [16, 16, 4]),
    ("TN", [16, 16, 4]),
    ("NT", [16, 16, 4]),
    ("NN", [4, 4, 4]),
    ("NN", [4, 256, 784]),
    ("NN", [32, 64, 64]),
    ("NN", [64, 64, 64]),
    ("NN", [256, 256, 256]),
    ("NN", [512, 512, 512]),
    ("NN", [1024, 1024, 1024]),
    ("TN", [1024, 1024, 1024]),
    ("NT", [1024, 1024, 1024]),
    ("NN", [2048, 2048, 2048]),
    ("NN", [256, 1, 784]),
    ("TN", [256, 1, 784]),
    ("NN", [1, 256, 784]),
    ("NN", [4096, 1, 4096]),
    ("TN", [4096, 1, 4096]),
    ("NN", [256, 256, 1]),
];

/// A batch, the fastest axis of both factors, and m, n, k of each product.
const BATCHED: [(usize, [usize; 3]); 4] =
    [(32, [64, 64, 32]), (32, [64, 32, 64]), (128, [16, 16, 16]), (4, [64, 64, 32])];

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    println!("{:<30}{:>9}{:>9}{:>9}{:>14}", "", "ours", "gemm", "nalgebra", "ours / gemm");
    for (kind, extents) in CASES {
        run::<f32>(kind, extents, &filter);
        run::<f64>(kind, extents, &filter);
    }
    for (batch, extents) in BATCHED {
        run_batched::<f32>(batch, extents, &filter);
        run_batched::<f64>(batch, extents, &filter);
    }
}

fn run<T: Scalar>(kind: &str, [m, n, k]: [usize; 3], filter: &str) {
    let name = format!("{} {kind} {m}x{k} . {k}x{n}", T::NAME);
    if !name.contains(filter) {
        return;
    }
    let numbers = |n: usize| (0..n).map(|i| T::lit((i % 17) as f64 - 8.0)).collect::<Vec<T>>();
    let (a, b) = (numbers(m * k), numbers(k * n));
    let (ta, tb) = (kind.starts_with('T'), kind.ends_with('T'));
    let am = if ta { MatRef::new(&a, k, m).t() } else { MatRef::new(&a, m, k) };
    let bm = if tb { MatRef::new(&b, n, k).t() } else { MatRef::new(&b, k, n) };
    let av = if ta { DMatrixView::from_slice(&a, k, m) } else { DMatrixView::from_slice(&a, m, k) };
    let bv = if tb { DMatrixView::from_slice(&b, n, k) } else { DMatrixView::from_slice(&b, k, n) };
    let mut scratch = numbers(gemm_scratch::<T>(m, n, k));
    let (mut ours, mut theirs) = (numbers(m * n), numbers(m * n));
    let mut peer = DMatrix::<T>::zeros(m, n);
    let medians = medians([
        &mut || gemm(black_box(am), bm, MatMut::new(&mut ours, m, n), false, &mut scratch),
        &mut || gemm_crate(black_box(am), bm, &mut theirs, 1, m),
        &mut || match (ta, tb) {
            (false, false) => black_box(av).mul_to(&bv, &mut peer),
            (true, _) => black_box(av).tr_mul_to(&bv, &mut peer),
            (false, true) => black_box(av).mul_to(&bv.transpose(), &mut peer),
        },
    ]);
    assert!(ours == theirs && ours == peer.as_slice(), "{name}");
    let [ours, gemm, nalgebra] = medians.map(|seconds| 2e-9 * (m * n * k) as f64 / seconds);
    println!("{name:<30}{ours:>9.1}{gemm:>9.1}{nalgebra:>9.1}{:>14.2}", ours / gemm);
}

/// Products of `[batch, m, k]` and `[batch, k, n]` tensors; nalgebra has none.
fn run_batched<T: Scalar>(batch: usize, [m, n, k]: [usize; 3], filter: &str) {
    let name = format!("{} {batch} x {m}x{k} . {k}x{n}", T::NAME);
    if !name.contains(filter) {
        return;
    }
    let numbers = |n: usize| (0..n).map(|i| T::lit((i % 17) as f64 - 8.0)).collect::<Vec<T>>();
    let (a, b) = (numbers(batch * m * k), numbers(batch * k * n));
    let strided = |data, rows, cols| MatRef {
        row_stride: batch,
        col_stride: batch * rows,
        ..MatRef::new(data, rows, cols)
    };
    let (am, bm) = (strided(&a, m, k), strided(&b, k, n));
    let axes = [BatchAxis { extent: batch, a: 1, b: 1, c: 1 }];
    let mut scratch = numbers(gemm_batched_scratch::<T>(&axes, m, n, k));
    let (mut ours, mut theirs) = (numbers(batch * m * n), numbers(batch * m * n));
    let medians = medians([
        &mut || {
            let c = MatMut::new(&mut ours, m, n);
            let c = MatMut { row_stride: batch, col_stride: batch * m, ..c };
            gemm_batched(black_box(&axes), am, bm, c, false, &mut scratch);
        },
        &mut || {
            for l in 0..batch {
                let (am, bm) = (MatRef { data: &a[l..], ..am }, MatRef { data: &b[l..], ..bm });
                gemm_crate(am, bm, &mut theirs[l..], batch, batch * m);
            }
        },
    ]);
    assert!(ours == theirs, "{name}");
    let [ours, gemm] = medians.map(|seconds| 2e-9 * (batch * m * n * k) as f64 / seconds);
    println!("{name:<30}{ours:>9.1}{gemm:>9.1}{:>9}{:>14.2}", "", ours / gemm);
}

/// Median seconds a call, the calls taking turns.
fn medians<const N: usize>(mut calls: [&mut dyn FnMut(); N]) -> [f64; N] {
    const ROUNDS: usize = 15;
    let mut time = |which: usize, reps: usize| {
        let start = Instant::now();
        (0..reps).for_each(|_| calls[which]());
        start.elapsed().as_secs_f64() / reps as f64
    };
    let reps: [usize; N] = std::array::from_fn(|i| {
        time(i, 1);
        (0.003 / time(i, 1)).ceil() as usize
    });
    let mut seconds = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (i, seconds) in seconds.iter_mut().enumerate() {
            seconds.push(time(i, reps[i]));
        }
    }
    seconds.map(|mut s| {
        s.sort_by(f64::total_cmp);
        s[ROUNDS / 2]
    })
}

fn gemm_crate<T: Scalar>(a: MatRef<T>, b: MatRef<T>, c: &mut [T], c_row: usize, c_col: usize) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let strides = |m: &MatRef<T>| (m.col_stride as isize, m.row_stride as isize);
    let ((a_col, a_row), (b_col, b_row)) = (strides(&a), strides(&b));
    let (dst, lhs, rhs) = (c.as_mut_ptr(), a.data.as_ptr(), b.data.as_ptr());
    let one_thread = ::gemm::Parallelism::None;
    // SAFETY: the matrices are as long as their extents and strides say; so is C.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            dst,
            c_col as isize,
            c_row as isize,
            false,
            lhs,
            a_col,
            a_row,
            rhs,
            b_col,
            b_row,
            T::zero(),
            T::one(),
            false,
            false,
            false,
            one_thread,
        );
    }
}
