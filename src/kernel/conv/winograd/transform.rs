//! Winograd's transforms, each between tiles of 2 × 2 outputs and what is multiplied: sums and
//! differences of vectors of neighbors in memory. Knows what a tile is, not what is summed over.

use crate::Scalar;
use crate::kernel::cpu::{LINE, fetch, multiversion};
use std::ops::Range;

/// Numbers of a tile that are multiplied, its points: 4 × 4.
pub(super) const POINTS: usize = 16;
/// The most numbers of a channel and point in a block.
pub(super) const ROWS: usize = 64;
/// Channels whose weights lie side by side.
pub(super) const SIDE: usize = 8;

/// The points (p, q) of a channel at p + 4 q, each of all tiles and samples of a block.
pub(super) type Panel<T> = [[T; ROWS]; POINTS];

/// The points of [`SIDE`] channels.
pub(super) type Panels<T> = [[[T; ROWS]; SIDE]; POINTS];

/// An axis of what is correlated: window i begins at position `first + i` of the input, which is
/// zero outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub input: usize,
    pub output: usize,
    pub first: isize,
}

/// An image of one channel, samples first, then rows, and what it is correlated to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub batch: usize,
    pub rows: Side,
    pub columns: Side,
}

/// Some samples of tiles below each other.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub samples: Range<usize>,
    pub rows: Range<usize>,
    pub column: usize,
}

impl Block {
    /// Numbers of a channel and point.
    pub(super) fn len(&self) -> usize {
        self.samples.len() * self.rows.len()
    }

    /// Asks for what [`of_input`] will read of a channel.
    pub(super) fn fetch_input<T>(&self, image: &Image, x: &[T]) {
        let seen = |side: Side, tiles: Range<usize>| {
            let at = |tile: usize| (side.first + 2 * tile as isize).max(0) as usize;
            at(tiles.start)..(at(tiles.end) + 2).min(side.input)
        };
        let columns = seen(image.columns, self.column..self.column + 1);
        self.fetch(image.batch, image.rows.input, seen(image.rows, self.rows.clone()), columns, x);
    }

    /// Asks for the outputs of a channel.
    pub(super) fn fetch_output<T>(&self, image: &Image, y: &[T]) {
        let made =
            |side: Side, tiles: Range<usize>| 2 * tiles.start..(2 * tiles.end).min(side.output);
        let columns = made(image.columns, self.column..self.column + 1);
        self.fetch(image.batch, image.rows.output, made(image.rows, self.rows.clone()), columns, y);
    }

    fn fetch<T>(
        &self,
        batch: usize,
        height: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        x: &[T],
    ) {
        for column in columns {
            for row in rows.clone() {
                let x = &x[(row + height * column) * batch..][self.samples.clone()];
                x.iter().step_by(LINE / size_of::<T>()).for_each(fetch);
            }
        }
    }
}

/// Runs over 0..`$n` in vectors of 16, of which the last may begin within the one before it, or
/// if there are fewer, one by one.
macro_rules! each_vector {
    ($n:expr, |$from:ident, $N:ident| $body:block) => {
        let n = $n;
        let mut $from = 0;
        if n >= 16 {
            const $N: usize = 16;
            loop {
                $body
                if $from + $N == n {
                    break;
                }
                $from = ($from + $N).min(n - $N);
            }
        } else {
            const $N: usize = 1;
            while $from < n {
                $body
                $from += $N;
            }
        }
    };
}

#[inline(always)]
fn load<T: Scalar, const N: usize>(x: &[T], at: usize) -> [T; N] {
    let mut y = [T::zero(); N];
    y.copy_from_slice(&x[at..][..N]);
    y
}

#[inline(always)]
fn store<T: Scalar, const N: usize>(x: [T; N], y: &mut [T], at: usize) {
    y[at..][..N].copy_from_slice(&x);
}

#[inline(always)]
fn add<T: Scalar, const N: usize>(mut x: [T; N], y: [T; N]) -> [T; N] {
    for i in 0..N {
        x[i] += y[i];
    }
    x
}

#[inline(always)]
fn sub<T: Scalar, const N: usize>(mut x: [T; N], y: [T; N]) -> [T; N] {
    for i in 0..N {
        x[i] -= y[i];
    }
    x
}

/// Bᵀd
#[inline(always)]
fn points<T: Scalar, const N: usize>([a, b, c, d]: [[T; N]; 4]) -> [[T; N]; 4] {
    [sub(a, c), add(b, c), sub(c, b), sub(d, b)]
}

/// Bᵀd of the samples from `at` on of one row of the image, for each column.
#[inline(always)]
fn row<T: Scalar, const N: usize>(
    columns: &[&[T]; 4],
    row: isize,
    batch: usize,
    at: usize,
) -> [[T; N]; 4] {
    let mut d = [[T::zero(); N]; 4];
    if let Ok(row) = usize::try_from(row) {
        for (d, x) in d.iter_mut().zip(columns) {
            if let Some(x) = x.get(row * batch + at..)
                && x.len() >= N
            {
                *d = load(x, 0);
            }
        }
    }
    points(d)
}

multiversion! {
    /// Bᵀ d B of the tiles of a channel.
    pub(super) fn of_input<T: Scalar>(
        image: &Image,
        block: &Block,
        x: &[T],
        out: &mut Panel<T>,
    ) {
        let (batch, height) = (image.batch, image.rows.input);
        let mut columns: [&[T]; 4] = [&[]; 4];
        for (q, column) in columns.iter_mut().enumerate() {
            let at = image.columns.first + (2 * block.column + q) as isize;
            if (0..image.columns.input as isize).contains(&at) {
                *column = &x[at as usize * height * batch..][..height * batch];
            }
        }
        let first = image.rows.first + 2 * block.rows.start as isize;
        let n_samples = block.samples.len();
        each_vector!(n_samples, |from, N| {
            let at = block.samples.start + from;
            let mut a = row::<T, N>(&columns, first, batch, at);
            let mut b = row::<T, N>(&columns, first + 1, batch, at);
            for tile in 0..block.rows.len() {
                let next = first + 2 * tile as isize + 2;
                let c = row::<T, N>(&columns, next, batch, at);
                let d = row::<T, N>(&columns, next + 1, batch, at);
                for q in 0..4 {
                    let column = points([a[q], b[q], c[q], d[q]]);
                    for p in 0..4 {
                        store(column[p], &mut out[p + 4 * q], tile * n_samples + from);
                    }
                }
                (a, b) = (c, d);
            }
        });
    }
}

/// Aᵀm
#[inline(always)]
fn outputs<T: Scalar, const N: usize>([a, b, c, d]: [[T; N]; 4]) -> [[T; N]; 2] {
    [add(add(b, c), a), add(sub(b, c), d)]
}

/// Aᵀ m of a column of points.
#[inline(always)]
fn column<T: Scalar, const N: usize>(m: &[[[T; ROWS]; SIDE]], of: usize, at: usize) -> [[T; N]; 2] {
    outputs([load(&m[0][of], at), load(&m[1][of], at), load(&m[2][of], at), load(&m[3][of], at)])
}

multiversion! {
    /// Aᵀ m A: the outputs of one of the channels whose points these are.
    pub(super) fn to_output<T: Scalar>(
        image: &Image,
        block: &Block,
        m: &Panels<T>,
        channel: usize,
        y: &mut [T],
    ) {
        let (batch, height) = (image.batch, image.rows.output);
        let n_samples = block.samples.len();
        let two_columns = 2 * block.column + 1 < image.columns.output;
        for tile in 0..block.rows.len() {
            let row = 2 * (block.rows.start + tile);
            let two_rows = row + 1 < height;
            let first = (row + height * 2 * block.column) * batch + block.samples.start;
            each_vector!(n_samples, |from, N| {
                let at = tile * n_samples + from;
                let [a0, a1] = column::<T, N>(&m[..4], channel, at);
                let [b0, b1] = column::<T, N>(&m[4..8], channel, at);
                let [c0, c1] = column::<T, N>(&m[8..12], channel, at);
                let [d0, d1] = column::<T, N>(&m[12..], channel, at);
                let [left, right] = outputs([a0, b0, c0, d0]);
                let [left_below, right_below] = outputs([a1, b1, c1, d1]);
                let at = first + from;
                store(left, y, at);
                if two_rows {
                    store(left_below, y, at + batch);
                }
                if two_columns {
                    store(right, y, at + height * batch);
                }
                if two_rows && two_columns {
                    store(right_below, y, at + (height + 1) * batch);
                }
            });
        }
    }
}

/// G g
#[inline(always)]
fn taps<T: Scalar, const N: usize>([a, b, c]: [[T; N]; 3]) -> [[T; N]; 4] {
    let ends = add(a, c);
    [a, half(add(ends, b)), half(sub(ends, b)), c]
}

#[inline(always)]
fn half<T: Scalar, const N: usize>(mut x: [T; N]) -> [T; N] {
    for x in &mut x {
        *x *= T::lit(0.5);
    }
    x
}

multiversion! {
    /// G g Gᵀ of weights g\[q\]\[p\], of channels side by side: point n at n · `step`.
    pub(super) fn of_weights<T: Scalar>(
        g: &[[[T; SIDE]; 3]; 3],
        out: &mut [[T; SIDE]],
        step: usize,
    ) {
        let (a, b, c) = (taps(g[0]), taps(g[1]), taps(g[2]));
        for p in 0..4 {
            let row = taps([a[p], b[p], c[p]]);
            for q in 0..4 {
                out[(p + 4 * q) * step] = row[q];
            }
        }
    }
}
