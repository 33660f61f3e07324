//! The microkernels: a small block of C kept in registers, and the table of them for each level.
//! Each has a safe portable twin. They check lengths and know nothing of blocking.

use crate::Scalar;
use crate::kernel::cpu::Cpu;
use std::any::Any;

/// The largest block of C any microkernel holds: 3 registers of 16 by 8.
pub(super) const MAX_TILE: usize = 3 * 16 * 8;

/// C (rows × cols, a column every `c_step`) = or += A·B. A's rows are contiguous, a column
/// every `a_step`; B has any strides.
pub(in crate::kernel) struct Tile<'a, T> {
    pub rows: usize,
    pub cols: usize,
    pub k: usize,
    pub a: &'a [T],
    pub a_step: usize,
    pub b: &'a [T],
    pub b_row: usize,
    pub b_col: usize,
    pub c_step: usize,
    pub add: bool,
}

/// Dot products of contiguous vectors of length k: a row of A starting at each place, `cols`
/// columns of B, one every `b_step`.
pub(in crate::kernel) struct Dots<'a, T> {
    pub at: &'a [usize],
    pub cols: usize,
    pub k: usize,
    pub a: &'a [T],
    pub b: &'a [T],
    pub b_step: usize,
    /// As [`super::MatRef::ahead`].
    pub ahead: usize,
}

/// The most rows and columns of dot products at any level.
pub(in crate::kernel) const DOTS: (usize, usize) = (4, 6);

/// Dot product (i, j) is element `[i][j]`.
pub(in crate::kernel) type DotBlock<T> = [[T; DOTS.1]; DOTS.0];

/// C = or += A·B for `lanes` products at once, product l one place after product l − 1 in all
/// three; any strides between rows and columns.
pub(super) struct Lanes<'a, T> {
    pub lanes: usize,
    pub rows: usize,
    pub cols: usize,
    pub k: usize,
    pub a: &'a [T],
    pub a_row: usize,
    pub a_col: usize,
    pub b: &'a [T],
    pub b_row: usize,
    pub b_col: usize,
    pub c_row: usize,
    pub c_col: usize,
    pub add: bool,
}

/// A square of as many numbers as a register has, rows `step` apart.
pub(super) struct Square<'a, T> {
    pub data: &'a [T],
    pub step: usize,
}

type TransposeFn<T> = unsafe fn(&Square<T>, &mut [T], usize);
type TileFn<T> = unsafe fn(&Tile<T>, &mut [T]);
type PackingFn<T> = unsafe fn(&Tile<T>, &mut [T], &mut [T], usize);
type DotsFn<T> = unsafe fn(&Dots<T>, &mut DotBlock<T>);
type LanesFn<T> = unsafe fn(&Lanes<T>, &mut [T]);

/// The microkernels of one level: tiles indexed by (registers of rows − 1, columns − 1), the
/// others by (rows − 1, columns − 1).
pub(in crate::kernel) struct Kernels<T: 'static> {
    /// Numbers in a register.
    pub lanes: usize,
    tile: &'static [&'static [TileFn<T>]],
    /// As `tile`, but for the most columns only.
    packing: &'static [&'static [PackingFn<T>]],
    dots: &'static [&'static [DotsFn<T>]],
    batch: &'static [&'static [LanesFn<T>]],
    transpose: TransposeFn<T>,
}

/// `table!(f, V; 1 2; [1 2 3])`: rows of `f::<V, m, n>`.
macro_rules! table {
    ($f:ident, $V:ty; $($m:literal)*; $n:tt) => { &[$(table!(@ $f, $V, $m, $n)),*] };
    (@ $f:ident, $V:ty, $m:literal, [$($n:literal)*]) => { &[$($f::<$V, $m, $n>),*] };
}

pub(in crate::kernel) use table;

/// Of tables for f32 and f64, that of this type at the level to run at, if it is above portable.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(in crate::kernel) fn of_level<K: 'static>(
    [single512, double512]: [&'static dyn Any; 2],
    [single, double]: [&'static dyn Any; 2],
) -> Option<&'static K> {
    // Each comparison with types that are known here: it is done when this is compiled.
    match Cpu::get() {
        Cpu::Avx512 => single512.downcast_ref().or(double512.downcast_ref()),
        Cpu::Avx2Fma => single.downcast_ref().or(double.downcast_ref()),
        Cpu::Portable => None,
    }
}

impl<T: Scalar> Kernels<T> {
    /// The table of the level to run at.
    pub(in crate::kernel) fn get() -> &'static Kernels<T> {
        #[cfg(target_arch = "x86_64")]
        if let Some(table) =
            of_level([&x86::AVX512_F32, &x86::AVX512_F64], [&x86::AVX2_F32, &x86::AVX2_F64])
        {
            return table;
        }
        const {
            &Kernels {
                lanes: LANES,
                tile: table!(tile, T; 1 2; [1 2 3 4]),
                packing: table!(packing, T; 1 2; [4]),
                dots: table!(dots, T; 1 2 3 4; [1 2 3 4]),
                batch: table!(batch, T; 1 2 3 4; [1 2 3 4]),
                transpose: transpose::<T>,
            }
        }
    }

    /// The most registers of rows, and columns, of a tile.
    pub(in crate::kernel) fn tile_extents(&self) -> (usize, usize) {
        (self.tile.len(), self.tile[0].len())
    }

    /// The most rows and columns of one block of many products.
    pub(super) fn batch_extents(&self) -> (usize, usize) {
        (self.batch.len(), self.batch[0].len())
    }

    /// The most rows and columns of dot products.
    pub(in crate::kernel) fn dots_extents(&self) -> (usize, usize) {
        (self.dots.len(), self.dots[0].len())
    }

    /// Writes the rows of a square as columns: as rows of `to`, `to_step` apart.
    #[inline]
    pub(super) fn transpose(&self, from: &Square<T>, to: &mut [T], to_step: usize) {
        assert!((self.lanes - 1) * from.step + self.lanes <= from.data.len());
        assert!((self.lanes - 1) * to_step + self.lanes <= to.len());
        // SAFETY: the lengths were checked, and `get` gave a table that the machine can run.
        unsafe { (self.transpose)(from, to, to_step) }
    }

    /// How many full registers come before this row. Small products would notice a division.
    #[inline]
    fn registers_before(&self, row: usize) -> usize {
        row >> self.lanes.trailing_zeros()
    }

    /// Runs the tile kernel for these extents.
    #[inline]
    pub(in crate::kernel) fn tile(&self, t: &Tile<T>, c: &mut [T]) {
        let (last_row, last_col, last_k) = (t.rows - 1, t.cols - 1, t.k - 1);
        assert!(last_row + last_k * t.a_step < t.a.len());
        assert!(last_k * t.b_row + last_col * t.b_col < t.b.len());
        assert!(last_row + last_col * t.c_step < c.len());
        // SAFETY: the lengths were checked, the index makes M = ⌈rows / lanes⌉ and N = cols, and
        // `get` gave a table that the machine can run.
        unsafe { self.tile[self.registers_before(last_row)][last_col](t, c) }
    }

    /// Runs the tile kernel for these rows and the most columns, and writes A's columns `to_step`
    /// apart on the way: the time that memory takes passes under the sums.
    #[inline]
    pub(super) fn packing(&self, t: &Tile<T>, c: &mut [T], to: &mut [T], to_step: usize) {
        let (last_row, last_col, last_k) = (t.rows - 1, t.cols - 1, t.k - 1);
        assert!(t.cols == self.tile_extents().1);
        assert!(last_row + last_k * t.a_step < t.a.len());
        assert!(last_k * t.b_row + last_col * t.b_col < t.b.len());
        assert!(last_row + last_col * t.c_step < c.len());
        assert!(last_row + last_k * to_step < to.len());
        // SAFETY: as above.
        unsafe { self.packing[last_row / self.lanes][0](t, c, to, to_step) }
    }

    /// Runs the dot product kernel for these extents.
    #[inline]
    pub(in crate::kernel) fn dots(&self, d: &Dots<T>, out: &mut DotBlock<T>) {
        assert!(d.at.iter().all(|at| at + d.k <= d.a.len()));
        assert!((d.cols - 1) * d.b_step + d.k <= d.b.len());
        // SAFETY: as above, with R = places and N = cols.
        unsafe { self.dots[d.at.len() - 1][d.cols - 1](d, out) }
    }

    /// Runs the kernel of many products for these extents.
    #[inline]
    pub(super) fn batch(&self, l: &Lanes<T>, c: &mut [T]) {
        let (last_row, last_col, last_k) = (l.rows - 1, l.cols - 1, l.k - 1);
        assert!((1..=self.lanes).contains(&l.lanes));
        assert!(last_row * l.a_row + last_k * l.a_col + l.lanes <= l.a.len());
        assert!(last_k * l.b_row + last_col * l.b_col + l.lanes <= l.b.len());
        assert!(last_row * l.c_row + last_col * l.c_col + l.lanes <= c.len());
        // SAFETY: as above, with R = rows and N = cols.
        unsafe { self.batch[last_row][last_col](l, c) }
    }
}

/// Asks for the cache line of `p` no nearer than the second cache; where that cannot be asked, it
/// does nothing.
#[inline(always)]
pub(super) fn fetch_soon<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which every x86-64 has and which accesses nothing.
    unsafe {
        use core::arch::x86_64::*;
        _mm_prefetch::<_MM_HINT_T1>(p.cast())
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

#[cfg(target_arch = "x86_64")]
pub(in crate::kernel) mod x86 {
    use super::super::simd::Simd;
    use super::{DotBlock, Dots, Kernels, Lanes, Square, Tile, fetch_soon};
    use core::arch::x86_64::*;

    /// From this many terms on there is time to fetch what a tile's columns are added to.
    pub(in crate::kernel) const FAR: usize = 64;
    /// Columns of A that are fetched before they are read, when packing.
    const AHEAD: usize = 16;

    /// # Safety
    /// The instructions of `V`; (M − 1)·LANES < rows ≤ M·LANES, N = cols, and slices as long as
    /// [`Kernels::tile`], and if PACK, [`Kernels::packing`] checks.
    #[inline(always)]
    unsafe fn tile<V: Simd, const M: usize, const N: usize, const PACK: bool>(
        t: &Tile<V::T>,
        c: &mut [V::T],
        to: &mut [V::T],
        to_step: usize,
    ) {
        // SAFETY: full registers lie inside `rows`, the last one is masked to it, and steps run
        // to the last k, row and column only, which the caller has checked. Pointers move past
        // the last element only by `wrapping_add`; what is fetched is not accessed.
        unsafe {
            let last = V::first(t.rows - (M - 1) * V::LANES);
            let mut acc = [[V::zero(); M]; N];
            let (mut a, mut b, mut to) = (t.a.as_ptr(), t.b.as_ptr(), to.as_mut_ptr());
            let (a_step, b_row, b_col) = (t.a_step, t.b_row, t.b_col);
            if t.k >= FAR {
                fetch_tile::<V, M, N>(c.as_ptr(), t.c_step);
            }
            for _ in 0..t.k {
                let mut col = [V::zero(); M];
                for (i, v) in col[..M - 1].iter_mut().enumerate() {
                    *v = V::load(a.add(i * V::LANES));
                }
                col[M - 1] = V::load_first(a.add((M - 1) * V::LANES), last);
                if PACK {
                    for (i, v) in col[..M - 1].iter().enumerate() {
                        v.store(to.add(i * V::LANES));
                    }
                    col[M - 1].store_first(to.add((M - 1) * V::LANES), last);
                    to = to.wrapping_add(to_step);
                    for i in 0..M {
                        fetch(a.wrapping_add(AHEAD * a_step + i * V::LANES));
                    }
                }
                for (j, acc) in acc.iter_mut().enumerate() {
                    let x = V::splat(*b.add(j * b_col));
                    for (acc, v) in acc.iter_mut().zip(col) {
                        *acc = v.mul_add(x, *acc);
                    }
                }
                a = a.wrapping_add(a_step);
                b = b.wrapping_add(b_row);
            }
            write::<V, M, N>(acc, last, c.as_mut_ptr(), t.c_step, t.add);
        }
    }

    /// Asks for the cache line of `p`; no place is wrong to ask for.
    #[inline(always)]
    fn fetch<T>(p: *const T) {
        // SAFETY: a hint, which every x86-64 has and which accesses nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    /// Asks for the N columns of M registers that [`write`] will write.
    #[inline(always)]
    pub(in crate::kernel) fn fetch_tile<V: Simd, const M: usize, const N: usize>(
        c: *const V::T,
        c_step: usize,
    ) {
        for j in 0..N {
            for i in 0..M {
                fetch(c.wrapping_add(j * c_step + i * V::LANES));
            }
        }
    }

    /// Writes a tile's columns, or adds them to what is there.
    ///
    /// # Safety
    /// The instructions of `V`; N columns of (M − 1)·LANES and `last` places at `c`, `c_step`
    /// apart.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn write<V: Simd, const M: usize, const N: usize>(
        tile: [[V; M]; N],
        last: V::Mask,
        c: *mut V::T,
        c_step: usize,
        add: bool,
    ) {
        // SAFETY: full registers but for the last one of a column, which is masked.
        unsafe {
            for (j, column) in tile.into_iter().enumerate() {
                let c = c.add(j * c_step);
                for (i, mut v) in column.into_iter().enumerate() {
                    let c = c.add(i * V::LANES);
                    if i < M - 1 {
                        if add {
                            v = V::load(c).add(v);
                        }
                        v.store(c);
                    } else {
                        if add {
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
                // The product that read these columns before asked for the other half.
                if R == 1 && d.ahead > 0 && p & V::LANES != 0 {
                    for j in 0..N {
                        fetch_soon(b.wrapping_add(j * d.b_step + p + d.ahead));
                    }
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

    /// # Safety
    /// The instructions of `V`, R = rows, N = cols, slices as [`Kernels::batch`] checks.
    #[inline(always)]
    unsafe fn batch<V: Simd, const R: usize, const N: usize>(l: &Lanes<V::T>, c: &mut [V::T]) {
        // SAFETY: every register is masked to `lanes`, and rows, columns and terms stay below
        // their extents; pointers move past the last term only by `wrapping_add`.
        unsafe {
            let mask = V::first(l.lanes);
            let (mut a, mut b) = (l.a.as_ptr(), l.b.as_ptr());
            let (a_row, a_col, b_row, b_col) = (l.a_row, l.a_col, l.b_row, l.b_col);
            let mut acc = [[V::zero(); N]; R];
            for _ in 0..l.k {
                let mut col = [V::zero(); N];
                for (j, v) in col.iter_mut().enumerate() {
                    *v = V::load_first(b.add(j * b_col), mask);
                }
                for (i, acc) in acc.iter_mut().enumerate() {
                    let row = V::load_first(a.add(i * a_row), mask);
                    for (acc, col) in acc.iter_mut().zip(col) {
                        *acc = row.mul_add(col, *acc);
                    }
                }
                a = a.wrapping_add(a_col);
                b = b.wrapping_add(b_row);
            }
            for (i, acc) in acc.into_iter().enumerate() {
                for (j, mut v) in acc.into_iter().enumerate() {
                    let c = c.as_mut_ptr().add(i * l.c_row + j * l.c_col);
                    if l.add {
                        v = V::load_first(c, mask).add(v);
                    }
                    v.store_first(c, mask);
                }
            }
        }
    }

    /// By log₂ N perfect shuffles of the rows: each zips the first half with the second.
    ///
    /// # Safety
    /// The instructions of `V`, N = its lanes, slices as [`Kernels::transpose`] checks.
    #[inline(always)]
    unsafe fn transpose<V: Simd, const N: usize>(
        from: &Square<V::T>,
        to: &mut [V::T],
        to_step: usize,
    ) {
        // SAFETY: N rows of N numbers, which the caller has checked.
        unsafe {
            let mut rows = [V::zero(); N];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = V::load(from.data.as_ptr().add(r * from.step));
            }
            for _ in 0..N.ilog2() {
                let before = rows;
                for r in 0..N / 2 {
                    [rows[2 * r], rows[2 * r + 1]] = before[r].zip(before[r + N / 2]);
                }
            }
            for (r, row) in rows.into_iter().enumerate() {
                row.store(to.as_mut_ptr().add(r * to_step));
            }
        }
    }

    /// The kernels compiled for a level, and their tables for both scalars.
    macro_rules! level {
        ($features:literal, $tile:ident, $packing:ident, $dots:ident, $batch:ident,
         $transpose:ident, $m:tt, $n:tt, $most:tt, $r:tt, $c:tt, $($TABLE:ident: $V:ty, $lanes:literal),*) => {
            /// # Safety
            /// As [`tile`].
            #[target_feature(enable = $features)]
            unsafe fn $tile<V: Simd, const M: usize, const N: usize>(
                t: &Tile<V::T>,
                c: &mut [V::T],
            ) {
                // SAFETY: the caller's.
                unsafe { tile::<V, M, N, false>(t, c, &mut [], 0) }
            }
            /// # Safety
            /// As [`tile`].
            #[target_feature(enable = $features)]
            unsafe fn $packing<V: Simd, const M: usize, const N: usize>(
                t: &Tile<V::T>,
                c: &mut [V::T],
                to: &mut [V::T],
                to_step: usize,
            ) {
                // SAFETY: the caller's.
                unsafe { tile::<V, M, N, true>(t, c, to, to_step) }
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
            /// # Safety
            /// As [`batch`].
            #[target_feature(enable = $features)]
            unsafe fn $batch<V: Simd, const R: usize, const N: usize>(
                l: &Lanes<V::T>,
                c: &mut [V::T],
            ) {
                // SAFETY: the caller's.
                unsafe { batch::<V, R, N>(l, c) }
            }
            /// # Safety
            /// As [`transpose`].
            #[target_feature(enable = $features)]
            unsafe fn $transpose<V: Simd, const N: usize>(
                from: &Square<V::T>,
                to: &mut [V::T],
                to_step: usize,
            ) {
                // SAFETY: the caller's.
                unsafe { transpose::<V, N>(from, to, to_step) }
            }
            $(pub(super) static $TABLE: Kernels<<$V as Simd>::T> = Kernels {
                lanes: <$V>::LANES,
                tile: level!(@ $tile, $V, $m, $n),
                packing: level!(@ $packing, $V, $m, $most),
                dots: level!(@ $dots, $V, $r, $c),
                batch: level!(@ $batch, $V, $r, $c),
                transpose: $transpose::<$V, $lanes>,
            };)*
        };
        (@ $f:ident, $V:ty, [$($m:literal)*], $n:tt) => { table!($f, $V; $($m)*; $n) };
    }
    level!(
        "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma",
        tile_avx512, packing_avx512, dots_avx512, batch_avx512, transpose_avx512,
        [1 2 3], [1 2 3 4 5 6 7 8], [8], [1 2 3 4], [1 2 3 4 5 6],
        AVX512_F32: __m512, 16, AVX512_F64: __m512d, 8
    );
    level!(
        "avx2,fma",
        tile_avx2, packing_avx2, dots_avx2, batch_avx2, transpose_avx2,
        [1 2], [1 2 3 4 5 6], [6], [1 2 3], [1 2 3 4],
        AVX2_F32: __m256, 8, AVX2_F64: __m256d, 4
    );
}

/// The lanes of the portable twins: one SSE or NEON register of f32, two of f64.
pub(in crate::kernel) const LANES: usize = 4;

/// The twin of the tile kernels.
fn tile<T: Scalar, const M: usize, const N: usize>(t: &Tile<T>, c: &mut [T]) {
    let mut acc = [[[T::zero(); LANES]; M]; N];
    for p in 0..t.k {
        let a = &t.a[p * t.a_step..][..t.rows];
        let (full, rest) = a.as_chunks();
        let mut col = [[T::zero(); LANES]; M];
        match full.first_chunk() {
            Some(full) => col = *full,
            None => {
                col[..M - 1].copy_from_slice(full);
                col[M - 1][..rest.len()].copy_from_slice(rest);
            }
        }
        for (j, acc) in acc.iter_mut().enumerate() {
            let x = t.b[p * t.b_row + j * t.b_col];
            for (acc, v) in acc.as_flattened_mut().iter_mut().zip(col.as_flattened()) {
                *acc += *v * x;
            }
        }
    }
    write(&acc, t.rows, c, t.c_step, t.add);
}

/// The twin of the tile kernels that pack.
fn packing<T: Scalar, const M: usize, const N: usize>(
    t: &Tile<T>,
    c: &mut [T],
    to: &mut [T],
    to_step: usize,
) {
    for p in 0..t.k {
        to[p * to_step..][..t.rows].copy_from_slice(&t.a[p * t.a_step..][..t.rows]);
    }
    tile::<T, M, N>(t, c);
}

/// The twin of writing a tile.
pub(in crate::kernel) fn write<T: Scalar, const M: usize, const N: usize>(
    tile: &[[[T; LANES]; M]; N],
    rows: usize,
    c: &mut [T],
    c_step: usize,
    add: bool,
) {
    for (j, column) in tile.iter().enumerate() {
        let c = &mut c[j * c_step..][..rows];
        for (c, &v) in c.iter_mut().zip(column.as_flattened()) {
            *c = if add { *c + v } else { v };
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

/// The twin of the transposes.
fn transpose<T: Scalar>(from: &Square<T>, to: &mut [T], to_step: usize) {
    for p in 0..LANES {
        for r in 0..LANES {
            to[p * to_step + r] = from.data[r * from.step + p];
        }
    }
}

/// The twin of the kernels of many products.
fn batch<T: Scalar, const R: usize, const N: usize>(l: &Lanes<T>, c: &mut [T]) {
    for i in 0..R {
        for j in 0..N {
            let mut acc = [T::zero(); LANES];
            for p in 0..l.k {
                let a = &l.a[i * l.a_row + p * l.a_col..][..l.lanes];
                let b = &l.b[p * l.b_row + j * l.b_col..][..l.lanes];
                for (acc, (&a, &b)) in acc.iter_mut().zip(a.iter().zip(b)) {
                    *acc += a * b;
                }
            }
            let c = &mut c[i * l.c_row + j * l.c_col..][..l.lanes];
            for (c, acc) in c.iter_mut().zip(acc) {
                *c = if l.add { *c + acc } else { acc };
            }
        }
    }
}
