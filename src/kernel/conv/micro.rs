//! The microkernels of convolutions, over AVX-512, AVX2 and portable: sums of products whose
//! factors lie at places a table names. They check lengths and know nothing of images.

use crate::Scalar;
use crate::kernel::cpu::Cpu;
use std::any::Any;

/// Terms of a sum that are added up before the result is written and read again: their parts of
/// a block of samples, 48 f32 each, stay in L1.
const TERMS: usize = 192;

/// Where the two factors of each term lie, in their slices.
pub(super) struct Terms {
    len: usize,
    at: [(usize, usize); TERMS],
    /// The largest of each.
    last: (usize, usize),
}

impl Terms {
    pub(super) fn new() -> Terms {
        Terms { len: 0, at: [(0, 0); TERMS], last: (0, 0) }
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.last) = (0, (0, 0));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == TERMS
    }

    /// # Panics
    /// If it is full.
    pub(super) fn push(&mut self, a: usize, b: usize) {
        self.at[self.len] = (a, b);
        self.len += 1;
        self.last = (self.last.0.max(a), self.last.1.max(b));
    }
}

/// C (rows × cols, a column every `c_step`) = or += Σ over terms (p, q) of `a[p..][i] * b[q..][j *
/// b_step]`.
pub(super) struct Tile<'a, T> {
    pub rows: usize,
    pub cols: usize,
    pub terms: &'a Terms,
    pub a: &'a [T],
    pub b: &'a [T],
    pub b_step: usize,
    pub c_step: usize,
    pub add: bool,
}

/// Dot products of contiguous vectors of length `k`: one of A starting at each place, one of B
/// every `b_step`.
pub(super) struct Dots<'a, T> {
    pub k: usize,
    pub a: &'a [T],
    pub at: &'a [usize],
    pub b: &'a [T],
    pub b_step: usize,
    pub cols: usize,
}

/// The most rows and columns of dot products at any level.
pub(super) const DOTS: (usize, usize) = (4, 6);

/// Dot product (i, j) is element `[i][j]`.
pub(super) type DotBlock<T> = [[T; DOTS.1]; DOTS.0];

type TileFn<T> = unsafe fn(&Tile<T>, &mut [T]);
type DotsFn<T> = unsafe fn(&Dots<T>, &mut DotBlock<T>);

/// The microkernels of one level: tiles indexed by (registers of rows − 1, columns − 1), dot
/// products by (rows − 1, columns − 1).
pub(super) struct Kernels<T: 'static> {
    lanes: usize,
    tile: &'static [&'static [TileFn<T>]],
    dots: &'static [&'static [DotsFn<T>]],
}

/// `table!(f, V; 1 2; [1 2 3])`: rows of `f::<V, m, n>`.
macro_rules! table {
    ($f:ident, $V:ty; $($m:literal)*; $n:tt) => { &[$(table!(@ $f, $V, $m, $n)),*] };
    (@ $f:ident, $V:ty, $m:literal, [$($n:literal)*]) => { &[$($f::<$V, $m, $n>),*] };
}

impl<T: Scalar> Kernels<T> {
    /// The table of the level to run at.
    pub(super) fn get() -> &'static Kernels<T> {
        #[cfg(target_arch = "x86_64")]
        {
            let tables: [&'static dyn Any; 2] = match Cpu::get() {
                Cpu::Avx512 => [&x86::AVX512_F32, &x86::AVX512_F64],
                Cpu::Avx2Fma => [&x86::AVX2_F32, &x86::AVX2_F64],
                Cpu::Portable => [&(), &()],
            };
            if let Some(table) = tables.into_iter().find_map(|t| t.downcast_ref()) {
                return table;
            }
        }
        const {
            &Kernels {
                lanes: LANES,
                tile: table!(tile, T; 1 2; [1 2 3 4]),
                dots: table!(dots, T; 1 2 3 4; [1 2 3 4]),
            }
        }
    }

    /// The most rows and columns of a tile.
    pub(super) fn tile_extents(&self) -> (usize, usize) {
        (self.tile.len() * self.lanes, self.tile[0].len())
    }

    /// The most rows and columns of dot products.
    pub(super) fn dots_extents(&self) -> (usize, usize) {
        (self.dots.len(), self.dots[0].len())
    }

    /// Runs the tile kernel for these extents.
    #[inline]
    pub(super) fn tile(&self, t: &Tile<T>, c: &mut [T]) {
        let (last_row, last_col) = (t.rows - 1, t.cols - 1);
        assert!(t.terms.last.0 + last_row < t.a.len());
        assert!(t.terms.last.1 + last_col * t.b_step < t.b.len());
        assert!(last_row + last_col * t.c_step < c.len());
        // SAFETY: the lengths were checked for the largest places, which only `Terms::push` adds;
        // the index makes M = ⌈rows / lanes⌉ and N = cols, and `get` gave a table that the machine
        // can run.
        unsafe { self.tile[last_row / self.lanes][last_col](t, c) }
    }

    /// Runs the dot product kernel for these extents.
    #[inline]
    pub(super) fn dots(&self, d: &Dots<T>, out: &mut DotBlock<T>) {
        assert!(d.at.iter().all(|at| at + d.k <= d.a.len()));
        assert!((d.cols - 1) * d.b_step + d.k <= d.b.len());
        // SAFETY: as above, with R = places and N = cols.
        unsafe { self.dots[d.at.len() - 1][d.cols - 1](d, out) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{DotBlock, Dots, Kernels, Tile};
    use crate::kernel::gemm::simd::Simd;
    use core::arch::x86_64::*;

    /// # Safety
    /// The instructions of `V`; (M − 1)·LANES < rows ≤ M·LANES, N = cols, and slices as long as
    /// [`Kernels::tile`] checks.
    #[inline(always)]
    unsafe fn tile<V: Simd, const M: usize, const N: usize>(t: &Tile<V::T>, c: &mut [V::T]) {
        // SAFETY: full registers lie inside `rows`, the last one is masked to it, and no place is
        // beyond the last ones, which the caller has checked.
        unsafe {
            let last = V::first(t.rows - (M - 1) * V::LANES);
            let mut acc = [[V::zero(); M]; N];
            let b_step = t.b_step;
            for &(a, b) in &t.terms.at[..t.terms.len] {
                let (a, b) = (t.a.as_ptr().add(a), t.b.as_ptr().add(b));
                let mut col = [V::zero(); M];
                for (i, v) in col[..M - 1].iter_mut().enumerate() {
                    *v = V::load(a.add(i * V::LANES));
                }
                col[M - 1] = V::load_first(a.add((M - 1) * V::LANES), last);
                for (j, acc) in acc.iter_mut().enumerate() {
                    let x = V::splat(*b.add(j * b_step));
                    for (acc, v) in acc.iter_mut().zip(col) {
                        *acc = v.mul_add(x, *acc);
                    }
                }
            }
            for (j, acc) in acc.into_iter().enumerate() {
                let c = c.as_mut_ptr().add(j * t.c_step);
                for (i, mut v) in acc.into_iter().enumerate() {
                    let c = c.add(i * V::LANES);
                    if i < M - 1 {
                        if t.add {
                            v = V::load(c).add(v);
                        }
                        v.store(c);
                    } else {
                        if t.add {
                            v = V::load_first(c, last).add(v);
                        }
                        v.store_first(c, last);
                    }
                }
            }
        }
    }

    /// # Safety
    /// The instructions of `V`, R = places, N = cols, slices as [`Kernels::dots`] checks.
    #[inline(always)]
    unsafe fn dots<V: Simd, const R: usize, const N: usize>(
        d: &Dots<V::T>,
        out: &mut DotBlock<V::T>,
    ) {
        // SAFETY: registers start below k and the last one is masked to it.
        unsafe {
            let b = d.b.as_ptr();
            let mut a = [d.a.as_ptr(); R];
            for (a, &at) in a.iter_mut().zip(d.at) {
                *a = a.add(at);
            }
            let mut acc = [[V::zero(); N]; R];
            let full = d.k / V::LANES * V::LANES;
            for p in (0..full).step_by(V::LANES) {
                let mut col = [V::zero(); N];
                for (j, v) in col.iter_mut().enumerate() {
                    *v = V::load(b.add(j * d.b_step + p));
                }
                for (acc, a) in acc.iter_mut().zip(a) {
                    let row = V::load(a.add(p));
                    for (acc, col) in acc.iter_mut().zip(col) {
                        *acc = row.mul_add(col, *acc);
                    }
                }
            }
            if full < d.k {
                let rest = V::first(d.k - full);
                for (acc, a) in acc.iter_mut().zip(a) {
                    let row = V::load_first(a.add(full), rest);
                    for (j, acc) in acc.iter_mut().enumerate() {
                        let col = V::load_first(b.add(j * d.b_step + full), rest);
                        *acc = row.mul_add(col, *acc);
                    }
                }
            }
            for (acc, out) in acc.into_iter().zip(out) {
                for (acc, out) in acc.into_iter().zip(out) {
                    *out = acc.sum();
                }
            }
        }
    }

    /// The kernels compiled for a level, and their tables for both scalars.
    macro_rules! level {
        ($features:literal, $tile:ident, $dots:ident, $m:tt, $n:tt, $r:tt, $c:tt,
         $($TABLE:ident: $V:ty),*) => {
            /// # Safety
            /// As [`tile`].
            #[target_feature(enable = $features)]
            unsafe fn $tile<V: Simd, const M: usize, const N: usize>(
                t: &Tile<V::T>,
                c: &mut [V::T],
            ) {
                // SAFETY: the caller's.
                unsafe { tile::<V, M, N>(t, c) }
            }
            /// # Safety
            /// As [`dots`].
            #[target_feature(enable = $features)]
            unsafe fn $dots<V: Simd, const R: usize, const N: usize>(
                d: &Dots<V::T>,
                out: &mut DotBlock<V::T>,
            ) {
                // SAFETY: the caller's.
                unsafe { dots::<V, R, N>(d, out) }
            }
            $(pub(super) static $TABLE: Kernels<<$V as Simd>::T> = Kernels {
                lanes: <$V>::LANES,
                tile: level!(@ $tile, $V, $m, $n),
                dots: level!(@ $dots, $V, $r, $c),
            };)*
        };
        (@ $f:ident, $V:ty, [$($m:literal)*], $n:tt) => { table!($f, $V; $($m)*; $n) };
    }
    level!(
        "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma",
        tile_avx512, dots_avx512, [1 2 3], [1 2 3 4 5 6 7 8], [1 2 3 4], [1 2 3 4 5 6],
        AVX512_F32: __m512, AVX512_F64: __m512d
    );
    level!(
        "avx2,fma",
        tile_avx2, dots_avx2, [1 2], [1 2 3 4 5 6], [1 2 3], [1 2 3 4],
        AVX2_F32: __m256, AVX2_F64: __m256d
    );
}

/// The lanes of the portable twins: one SSE or NEON register of f32, two of f64.
const LANES: usize = 4;

/// The twin of the tile kernels.
fn tile<T: Scalar, const M: usize, const N: usize>(t: &Tile<T>, c: &mut [T]) {
    let mut acc = [[[T::zero(); LANES]; M]; N];
    for &(a, b) in &t.terms.at[..t.terms.len] {
        let mut col = [[T::zero(); LANES]; M];
        col.as_flattened_mut()[..t.rows].copy_from_slice(&t.a[a..][..t.rows]);
        for (j, acc) in acc.iter_mut().enumerate() {
            let x = t.b[b + j * t.b_step];
            for (acc, v) in acc.as_flattened_mut().iter_mut().zip(col.as_flattened()) {
                *acc += *v * x;
            }
        }
    }
    for (j, acc) in acc.iter().enumerate() {
        let c = &mut c[j * t.c_step..][..t.rows];
        for (c, &v) in c.iter_mut().zip(acc.as_flattened()) {
            *c = if t.add { *c + v } else { v };
        }
    }
}

/// The twin of the dot product kernels.
fn dots<T: Scalar, const R: usize, const N: usize>(d: &Dots<T>, out: &mut DotBlock<T>) {
    for (out, &at) in out[..R].iter_mut().zip(d.at) {
        let (a, a_rest) = d.a[at..][..d.k].as_chunks::<LANES>();
        for (j, out) in out[..N].iter_mut().enumerate() {
            let (b, b_rest) = d.b[j * d.b_step..][..d.k].as_chunks::<LANES>();
            let mut acc = [T::zero(); LANES];
            for (a, b) in a.iter().zip(b) {
                for (acc, (&a, &b)) in acc.iter_mut().zip(a.iter().zip(b)) {
                    *acc += a * b;
                }
            }
            for (acc, (&a, &b)) in acc.iter_mut().zip(a_rest.iter().zip(b_rest)) {
                *acc += a * b;
            }
            *out = acc[0] + acc[2] + (acc[1] + acc[3]);
        }
    }
}
