//! The tile kernels of convolutions, over AVX-512, AVX2 and portable: sums of products whose
//! factors lie at places a table names. They check lengths and know nothing of images. Dot products
//! are those of `gemm/`.

use crate::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::kernel::gemm::micro::of_level;
use crate::kernel::gemm::micro::{LANES, table, write};

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

type TileFn<T> = unsafe fn(&Tile<T>, &mut [T]);

/// The tile kernels of one level, indexed by (registers of rows − 1, columns − 1).
pub(super) struct Tiles<T: 'static> {
    lanes: usize,
    tile: &'static [&'static [TileFn<T>]],
}

impl<T: Scalar> Tiles<T> {
    /// The table of the level to run at.
    pub(super) fn get() -> &'static Tiles<T> {
        #[cfg(target_arch = "x86_64")]
        if let Some(table) =
            of_level([&x86::AVX512_F32, &x86::AVX512_F64], [&x86::AVX2_F32, &x86::AVX2_F64])
        {
            return table;
        }
        const { &Tiles { lanes: LANES, tile: table!(tile, T; 1 2; [1 2 3 4]) } }
    }

    /// The most rows and columns of a tile.
    pub(super) fn tile_extents(&self) -> (usize, usize) {
        (self.tile.len() * self.lanes, self.tile[0].len())
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
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Tile, Tiles, table};
    use crate::kernel::gemm::micro::x86::{FAR, fetch_tile, write};
    use crate::kernel::gemm::simd::Simd;
    use core::arch::x86_64::*;

    /// # Safety
    /// The instructions of `V`; (M − 1)·LANES < rows ≤ M·LANES, N = cols, and slices as long as
    /// [`Tiles::tile`] checks.
    #[inline(always)]
    unsafe fn tile<V: Simd, const M: usize, const N: usize>(t: &Tile<V::T>, c: &mut [V::T]) {
        // SAFETY: full registers lie inside `rows`, the last one is masked to it, and no place is
        // beyond the last ones, which the caller has checked.
        unsafe {
            let last = V::first(t.rows - (M - 1) * V::LANES);
            let mut acc = [[V::zero(); M]; N];
            let b_step = t.b_step;
            if t.terms.len >= FAR {
                fetch_tile::<V, M, N>(c.as_ptr(), t.c_step);
            }
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
            write::<V, M, N>(acc, last, c.as_mut_ptr(), t.c_step, t.add);
        }
    }

    /// The kernels compiled for a level, and their tables for both scalars.
    macro_rules! level {
        ($features:literal, $tile:ident, $m:tt, $n:tt, $($TABLE:ident: $V:ty),*) => {
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
            $(pub(super) static $TABLE: Tiles<<$V as Simd>::T> = Tiles {
                lanes: <$V>::LANES,
                tile: level!(@ $tile, $V, $m, $n),
            };)*
        };
        (@ $f:ident, $V:ty, [$($m:literal)*], $n:tt) => { table!($f, $V; $($m)*; $n) };
    }
    level!(
        "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma",
        tile_avx512, [1 2 3], [1 2 3 4 5 6 7 8],
        AVX512_F32: __m512, AVX512_F64: __m512d
    );
    level!(
        "avx2,fma",
        tile_avx2, [1 2], [1 2 3 4 5 6],
        AVX2_F32: __m256, AVX2_F64: __m256d
    );
}

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
    write(&acc, t.rows, c, t.c_step, t.add);
}
