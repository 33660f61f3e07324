//! Matrix products: C = A·B or C += A·B over any strides, in blocks that stay in cache, with
//! packing buffers from the caller. Every element is summed in an order that depends on the path
//! and k alone, so splitting C (never k) along a path leaves the bits as they are.

mod batch;
pub(super) mod micro;
mod pack;
mod product;
#[cfg(target_arch = "x86_64")]
pub(super) mod simd;
#[cfg(test)]
mod tests;

pub(crate) use batch::{BatchAxis, gemm_batched, gemm_batched_scratch};
pub(crate) use product::{Matrix, Product};

use crate::Scalar;
use crate::kernel::cpu::{LINE, multiversion};
use micro::{DOTS, DotBlock, Dots, Kernels, MAX_TILE, Tile, fetch_soon};
use pack::pack;
use std::ops::Range;

/// A matrix in a slice: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct MatRef<'a, T> {
    pub data: &'a [T],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
    /// Rows and columns of the matrix this is a part of: they decide how a product is computed,
    /// so that its parts have the bits of the whole.
    pub whole: (usize, usize),
    /// From an element that is read to one that will be soon, for which memory is asked; 0 for none.
    pub ahead: usize,
}

/// A matrix in a mutable slice, laid out as in [`MatRef`]; no two elements share a place.
pub(crate) struct MatMut<'a, T> {
    pub data: &'a mut [T],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// A column-major matrix.
    #[cfg(test)]
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        MatRef::strided(data, (rows, cols), (1, rows))
    }

    /// A matrix of these (rows, columns) with these strides.
    pub(crate) fn strided(data: &'a [T], whole: (usize, usize), strides: (usize, usize)) -> Self {
        let ((rows, cols), (row_stride, col_stride)) = (whole, strides);
        MatRef { data, rows, cols, row_stride, col_stride, whole, ahead: 0 }
    }

    /// The transpose, in place.
    pub(crate) fn t(self) -> Self {
        MatRef {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            whole: (self.whole.1, self.whole.0),
            ..self
        }
    }

    /// The part of these columns.
    pub(crate) fn columns(self, cols: Range<usize>) -> Self {
        // Without rows there is no place to go to.
        let data = self.data.get(cols.start * self.col_stride..).unwrap_or_default();
        MatRef { data, cols: cols.len(), ..self }
    }

    /// The elements from (i, j) on.
    fn from(&self, i: usize, j: usize) -> &'a [T] {
        &self.data[i * self.row_stride + j * self.col_stride..]
    }

    /// The block of `rows` × `cols` at (i, j).
    fn block(&self, i: usize, j: usize, rows: usize, cols: usize) -> Self {
        MatRef { data: self.from(i, j), rows, cols, ..*self }
    }

    /// Whether neighbors in a column are neighbors in memory.
    fn unit_rows(&self) -> bool {
        self.row_stride == 1 || self.whole.0 == 1
    }

    /// Whether neighbors in a row are neighbors in memory.
    fn unit_cols(&self) -> bool {
        self.col_stride == 1 || self.whole.1 == 1
    }

    /// Whether columns are best read one after the other: they come from memory, and each is so
    /// short that of several at once none has been found to be a stream before it ends.
    fn one_by_one(&self) -> bool {
        let column = self.rows * size_of::<T>();
        column <= SHORT && column * self.cols > LARGE
    }
}

impl<'a, T> MatMut<'a, T> {
    /// A column-major matrix.
    #[cfg(test)]
    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        MatMut { data, rows, cols, row_stride: 1, col_stride: rows }
    }

    /// The same matrix, from this place of the data on.
    fn reborrow(&mut self, at: usize) -> MatMut<'_, T> {
        MatMut { data: &mut self.data[at..], ..*self }
    }

    /// The transpose, in place.
    pub(crate) fn t(self) -> Self {
        MatMut {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

fn check(what: &str, len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) {
    if rows > 0 && cols > 0 {
        let last = (rows - 1)
            .checked_mul(row_stride)
            .zip((cols - 1).checked_mul(col_stride))
            .and_then(|(i, j)| i.checked_add(j));
        assert!(
            last.is_some_and(|last| last < len),
            "gemm: {what} is {rows} × {cols} with strides {row_stride}, {col_stride}, got {len}"
        );
    }
}

/// Bytes of a matrix that no cache is counted on to hold, and of a short column: columns of 2 KiB took
/// twice as long eight at once as one at a time, of 8 KiB as long, and of 32 KiB half as long.
const LARGE: usize = 1 << 23;
const SHORT: usize = 1 << 13;

/// How a product is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Path {
    /// A·x with A's columns contiguous: columns added up, memory read in order.
    Columns,
    /// Dot products of rows and columns that are contiguous, or are packed to be.
    Dots,
    /// Blocks of C from columns of A and rows of B.
    Tiles,
}

/// From this k on a product with few rows or columns pays for dot products.
const DOTS_K: usize = 32;
/// Up to this many rows or columns the other operand is better read in place than packed.
const DOTS_NARROW: usize = 32;
/// Up to this many rows or columns an operand is packed to make dot products possible.
const DOTS_PACKED: usize = 4;
/// Terms of a dot product summed at a time: some ten vectors of these stay in L2, and reading so
/// many in order is about as fast as reading all.
const DOTS_KC: usize = 4096;
/// The same of one row: a pass over rows of X stops as often, so that these rows of a hundred columns
/// and the next ones stay in L2.
pub(crate) const ROW_KC: usize = 512;

impl Path {
    fn choose<T>(a: &MatRef<T>, b: &MatRef<T>) -> Path {
        let (m, n, k) = (a.whole.0, b.whole.1, a.cols);
        let dots_a = a.unit_cols() || m <= DOTS_PACKED;
        let dots_b = b.unit_rows() || n <= DOTS_PACKED;
        let narrow = if a.unit_rows() { m <= DOTS_PACKED } else { m.min(n) <= DOTS_NARROW };
        if n == 1 && a.unit_rows() && m > 1 {
            Path::Columns
        } else if dots_a && dots_b && narrow && (k >= DOTS_K || n == 1) {
            Path::Dots
        } else {
            Path::Tiles
        }
    }
}

/// The blocking of [`Path::Tiles`]: an mc × kc block of A fills half of a 1 MiB L2 cache, a
/// kc × nr panel of B half of a 32 KiB L1 cache, a kc × nc block of B a share of the L3 cache.
struct Blocks {
    mr: usize,
    nr: usize,
    mc: usize,
    kc: usize,
    nc: usize,
}

/// The size of equal parts of at most about `max`, rounded up to whole `unit`s. Small products
/// take the first way out, because divisions are a good part of their time.
fn even(n: usize, max: usize, unit: usize) -> usize {
    if n <= unit {
        unit
    } else if n <= max {
        n.next_multiple_of(unit)
    } else {
        n.div_ceil(n.div_ceil(max)).next_multiple_of(unit)
    }
}

impl Blocks {
    fn new<T: Scalar>(m: usize, n: usize, k: usize) -> Blocks {
        let kernels = Kernels::<T>::get();
        let (registers, cols) = kernels.tile_extents();
        let mr = even(m, registers * kernels.lanes, kernels.lanes);
        let nr = even(n, cols, 1);
        let kc = even(k, 2048 / size_of::<T>(), 1);
        Blocks { mr, nr, mc: even(m, 240, mr), kc, nc: even(n, 1024, nr) }
    }

    /// The packing buffers of A and B.
    fn scratch(&self) -> usize {
        (self.mc + self.nc) * self.kc
    }
}

/// 0, `step`, 2·`step`, … below n. Unlike `step_by` it does not divide beforehand, which small
/// products would notice.
fn steps(n: usize, step: usize) -> impl Iterator<Item = usize> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let at = next;
        next += step;
        (at < n).then_some(at)
    })
}

/// The first `wanted` elements on a cache line; the alignment is for speed, no result shows it.
fn aligned<T>(scratch: &mut [T], wanted: usize) -> &mut [T] {
    let (pad, got) = (LINE / size_of::<T>(), scratch.len());
    assert!(got >= wanted + pad, "gemm: expected {} of scratch, got {got}", wanted + pad);
    let skip = scratch.as_ptr().align_offset(LINE).min(pad);
    &mut scratch[skip..skip + wanted]
}

/// The elements of scratch that [`gemm`] wants for A (m × k) · B (k × n), whatever the strides.
pub(crate) fn gemm_scratch<T: Scalar>(m: usize, n: usize, k: usize) -> usize {
    // C may be computed as its transpose, which swaps m and n.
    let tiles = |m, n| Blocks::new::<T>(m, n, k).scratch();
    let dots = 2 * DOTS_PACKED * k;
    tiles(m, n).max(tiles(n, m)).max(dots) + LINE / size_of::<T>()
}

/// C = A·B, or C += A·B if `add`. k = 0 gives zeros; NaN and infinity spread as in the sum.
///
/// # Panics
/// Extents that do not fit, slices too short for their strides, scratch below [`gemm_scratch`].
pub(crate) fn gemm<T: Scalar>(
    a: MatRef<T>,
    b: MatRef<T>,
    c: MatMut<T>,
    add: bool,
    scratch: &mut [T],
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert!(
        b.rows == k && c.rows == m && c.cols == n,
        "gemm: expected (m, k) (k, n) -> (m, n), got ({m}, {k}) ({}, {n}) -> ({}, {})",
        b.rows,
        c.rows,
        c.cols
    );
    check("A", a.data.len(), m, k, a.row_stride, a.col_stride);
    check("B", b.data.len(), k, n, b.row_stride, b.col_stride);
    check("C", c.data.len(), m, n, c.row_stride, c.col_stride);
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            for j in 0..n {
                for i in 0..m {
                    c.data[i * c.row_stride + j * c.col_stride] = T::zero();
                }
            }
        }
        return;
    }
    // The kernels want C's columns contiguous, and a vector as a column.
    let (whole_m, whole_n) = (a.whole.0, b.whole.1);
    let vector = whole_m == 1 || whole_n == 1;
    let swap = if vector { whole_n > 1 } else { c.row_stride != 1 && c.col_stride == 1 };
    let (a, b, c) = if swap { (b.t(), a.t(), c.t()) } else { (a, b, c) };
    match Path::choose(&a, &b) {
        Path::Columns if c.row_stride == 1 => columns(a, b, c, add),
        Path::Dots => dots(a, b, c, add, scratch),
        _ => tiles(a, b, c, add, scratch),
    }
}

multiversion! {
    /// y = A·x or y += A·x, eight columns at a time, or one.
    fn columns<T: Scalar>(a: MatRef<T>, x: MatRef<T>, y: MatMut<T>, add: bool) {
        const COLS: usize = 8;
        const ROWS: usize = 16;
        let y = &mut y.data[..a.rows];
        if !add {
            y.fill(T::zero());
        }
        let full = if a.one_by_one() { 0 } else { a.cols / COLS * COLS };
        for p in (0..full).step_by(COLS) {
            let cols: [_; COLS] = std::array::from_fn(|q| {
                a.from(0, p + q)[..a.rows].as_chunks::<ROWS>()
            });
            let x: [T; COLS] = std::array::from_fn(|q| x.from(p + q, 0)[0]);
            let (blocks, rest) = y.as_chunks_mut::<ROWS>();
            for (i, y) in blocks.iter_mut().enumerate() {
                let mut sum = *y;
                // The other half of the lines is for the product that reads these columns next.
                if a.ahead > 0 && i % 2 == 0 {
                    cols.iter().for_each(|(col, _)| fetch_soon(col[i].as_ptr().wrapping_add(a.ahead)));
                }
                for (&(col, _), &x) in cols.iter().zip(&x) {
                    for (sum, &a) in sum.iter_mut().zip(&col[i]) {
                        *sum += a * x;
                    }
                }
                *y = sum;
            }
            for (i, y) in rest.iter_mut().enumerate() {
                for (&(_, col), &x) in cols.iter().zip(&x) {
                    *y += col[i] * x;
                }
            }
        }
        for p in full..a.cols {
            let x = x.from(p, 0)[0];
            for (y, &a) in y.iter_mut().zip(a.from(0, p)) {
                *y += a * x;
            }
        }
    }
}

/// [`Path::Dots`]: the operand whose vectors are not contiguous is small and packed.
fn dots<T: Scalar>(a: MatRef<T>, b: MatRef<T>, c: MatMut<T>, add: bool, scratch: &mut [T]) {
    // A single column becomes a single row: blocks are wider than high.
    let (a, b, c) = if b.cols == 1 { (b.t(), a.t(), c.t()) } else { (a, b, c) };
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let (a_in_place, b_in_place) = (a.unit_cols(), b.unit_rows());
    let (a_len, b_len) = (if a_in_place { 0 } else { m * k }, if b_in_place { 0 } else { k * n });
    let (a_scratch, b_scratch) = match a_len + b_len {
        0 => (&mut [][..], &mut [][..]),
        wanted => aligned(scratch, wanted).split_at_mut(a_len),
    };
    let a = if a_in_place { a } else { contiguous(a, a_scratch) };
    let b = if b_in_place { b } else { contiguous(b.t(), b_scratch).t() };
    let kernels = Kernels::<T>::get();
    let (rows, cols) = kernels.dots_extents();
    let cols = if m == 1 && b.one_by_one() { 1 } else { cols };
    let (rows, cols) = (even(m, rows, 1), even(n, cols, 1));
    let at: [usize; DOTS.0] = std::array::from_fn(|row| row * a.row_stride);
    let mut out = DotBlock::default();
    let kc = if a.whole.0 == 1 { ROW_KC } else { DOTS_KC };
    for p0 in steps(k, DOTS_KC) {
        for i in steps(m, rows) {
            for j in steps(n, cols) {
                for p in steps(k.min(p0 + DOTS_KC) - p0, kc) {
                    let p = p0 + p;
                    let block = Dots {
                        at: &at[..rows.min(m - i)],
                        cols: cols.min(n - j),
                        k: kc.min(k - p),
                        a: a.from(i, p),
                        b: b.from(p, j),
                        b_step: b.col_stride,
                        ahead: b.ahead,
                    };
                    kernels.dots(&block, &mut out);
                    let add = add || p > 0;
                    for (i, out) in (i..m).zip(&out[..block.at.len()]) {
                        for (j, &x) in (j..n).zip(&out[..block.cols]) {
                            let c = &mut c.data[i * c.row_stride + j * c.col_stride];
                            *c = if add { *c + x } else { x };
                        }
                    }
                }
            }
        }
    }
}

/// The matrix with contiguous rows, in `out`.
pub(crate) fn contiguous<'a, T: Scalar>(src: MatRef<T>, out: &'a mut [T]) -> MatRef<'a, T> {
    pack(src.t(), src.cols, out);
    MatRef { data: out, row_stride: src.cols, col_stride: 1, ..src }
}

/// Packing A pays from this many columns of C on, packing B from this many rows on.
const PACK_A: usize = 64;
const PACK_B: usize = 2048;
/// The same where a column of B is not contiguous: its elements may all fall into a few sets of a
/// cache, and each tile reads them again.
const PACK_B_ROWS: usize = 256;

/// [`Path::Tiles`]: the blocked product of Goto and van de Geijn (2008).
fn tiles<T: Scalar>(a: MatRef<T>, b: MatRef<T>, c: MatMut<T>, add: bool, scratch: &mut [T]) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let kernels = Kernels::<T>::get();
    let Blocks { mr, nr, mc, kc, nc } = Blocks::new::<T>(m, n, k);
    let pack_a = !a.unit_rows() || n >= PACK_A;
    let pack_b = m >= if b.unit_rows() { PACK_B } else { PACK_B_ROWS };
    // Where A is copied as it is, the first tiles do that beside their sums.
    let in_tiles = pack_a && a.row_stride == 1 && c.row_stride == 1;
    let in_tiles = in_tiles && nr == kernels.tile_extents().1;
    let (a_len, b_len) = (if pack_a { mc * kc } else { 0 }, if pack_b { nc * kc } else { 0 });
    let (a_scratch, b_scratch) = match a_len + b_len {
        0 => (&mut [][..], &mut [][..]),
        wanted => aligned(scratch, wanted).split_at_mut(a_len),
    };
    for j0 in steps(n, nc) {
        let n = nc.min(n - j0);
        let in_tiles = in_tiles && n >= nr;
        for p0 in steps(k, kc) {
            let k = kc.min(k - p0);
            let add = add || p0 > 0;
            let b = b.block(p0, j0, k, n);
            if pack_b {
                pack(b.t(), nr, b_scratch);
            }
            for i0 in steps(m, mc) {
                let m = mc.min(m - i0);
                let a = a.block(i0, p0, m, k);
                if pack_a && !in_tiles {
                    pack(a, mr, a_scratch);
                }
                for j in steps(n, nr) {
                    let (b, b_row, b_col) = match pack_b {
                        true => (&b_scratch[j * k..], nr, 1),
                        false => (b.from(0, j), b.row_stride, b.col_stride),
                    };
                    for i in steps(m, mr) {
                        let rows = mr.min(m - i);
                        let cols = nr.min(n - j);
                        let c_at = (i0 + i) * c.row_stride + (j0 + j) * c.col_stride;
                        let c_step = if c.row_stride == 1 { c.col_stride } else { rows };
                        let (c_data, a_step) = (&mut c.data[c_at..], a.col_stride);
                        let a = a.from(i, 0);
                        let mut tile =
                            Tile { rows, cols, k, a, a_step, b, b_row, b_col, c_step, add };
                        if in_tiles && j == 0 {
                            kernels.packing(&tile, c_data, &mut a_scratch[i * k..], mr);
                            continue;
                        }
                        if pack_a {
                            (tile.a, tile.a_step) = (&a_scratch[i * k..], mr);
                        }
                        if c.row_stride == 1 {
                            kernels.tile(&tile, c_data);
                        } else {
                            scattered(kernels, tile, c_data, c.row_stride, c.col_stride);
                        }
                    }
                }
            }
        }
    }
}

/// [`Path::Tiles`] for a product of one block, whose C has contiguous columns `c_step` apart. Small
/// products take less time than [`gemm`] takes to find out how to compute them.
fn one_block<T: Scalar>(a: MatRef<T>, b: MatRef<T>, c: &mut [T], c_step: usize, scratch: &mut [T]) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let kernels = Kernels::<T>::get();
    let (registers, cols) = kernels.tile_extents();
    let (mr, nr) = (even(m, registers * kernels.lanes, kernels.lanes), even(n, cols, 1));
    let (a, a_row, a_step) = match a.unit_rows() {
        true => (a.data, 1, a.col_stride),
        false => {
            let packed = aligned(scratch, even(m, m, mr) * k);
            pack(a, mr, packed);
            (&*packed, k, mr)
        }
    };
    let (b_row, b_col) = (b.row_stride, b.col_stride);
    let (rows, cols, add) = (mr, nr, false);
    let mut tile = Tile { rows, cols, k, a, a_step, b: b.data, b_row, b_col, c_step, add };
    for i in steps(m, mr) {
        (tile.rows, tile.a) = (mr.min(m - i), &a[i * a_row..]);
        for j in steps(n, nr) {
            (tile.cols, tile.b) = (nr.min(n - j), &b.data[j * b_col..]);
            kernels.tile(&tile, &mut c[i + j * c_step..]);
        }
    }
}

/// A tile of a C whose columns are not contiguous.
fn scattered<T: Scalar>(
    kernels: &Kernels<T>,
    tile: Tile<T>,
    c: &mut [T],
    row_stride: usize,
    col_stride: usize,
) {
    let mut block = [T::zero(); MAX_TILE];
    kernels.tile(&Tile { add: false, ..tile }, &mut block);
    for (j, column) in block.chunks_exact(tile.rows).take(tile.cols).enumerate() {
        for (i, &x) in column.iter().enumerate() {
            let c = &mut c[i * row_stride + j * col_stride];
            *c = if tile.add { *c + x } else { x };
        }
    }
}
