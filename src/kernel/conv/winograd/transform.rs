//! Winograd's transforms, each between tiles of 2 × 2 outputs and what is multiplied: sums and
//! differences of vectors of neighbors in memory. Knows what a tile is, not what is summed over.

use crate::Scalar;
use crate::kernel::cpu::multiversion;
use std::ops::Range;

/// Numbers of a tile that are multiplied: 4 × 4.
pub(super) const POINTS: usize = 16;

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
}

/// Runs over 0..`$n` in vectors of 16, then one by one.
macro_rules! each_vector {
    ($n:expr, |$from:ident, $N:ident| $body:block) => {
        let mut $from = 0;
        {
            const $N: usize = 16;
            while $from + $N <= $n {
                $body
                $from += $N;
            }
        }
        {
            const $N: usize = 1;
            while $from < $n {
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

multiversion! {
    /// Bᵀ d B of the tiles of a channel, point (p, q) from `(p + 4 q) · step` on.
    pub(super) fn of_input<T: Scalar>(
        image: &Image,
        block: &Block,
        x: &[T],
        out: &mut [T],
        step: usize,
    ) {
        let (batch, height) = (image.batch, image.rows.input);
        let column = image.columns.first + 2 * block.column as isize;
        let columns: [Option<&[T]>; 4] = [0, 1, 2, 3].map(|q| {
            let at = usize::try_from(column + q).ok().filter(|&at| at < image.columns.input)?;
            Some(&x[at * height * batch..][..height * batch])
        });
        let first = image.rows.first + 2 * block.rows.start as isize;
        let n_samples = block.samples.len();
        each_vector!(n_samples, |from, N| {
            let at = block.samples.start + from;
            let row = |row: isize| {
                let inside = (0..height as isize).contains(&row);
                points(columns.map(|x| match x {
                    Some(x) if inside => load::<T, N>(x, row as usize * batch + at),
                    _ => [T::zero(); N],
                }))
            };
            let (mut a, mut b) = (row(first), row(first + 1));
            for tile in 0..block.rows.len() {
                let next = first + 2 * tile as isize + 2;
                let (c, d) = (row(next), row(next + 1));
                for q in 0..4 {
                    for (p, point) in points([a[q], b[q], c[q], d[q]]).into_iter().enumerate() {
                        store(point, out, (p + 4 * q) * step + tile * n_samples + from);
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

multiversion! {
    /// Aᵀ m A: the outputs of a channel, of the points (p, q) from `(p + 4 q) · step` on.
    pub(super) fn to_output<T: Scalar>(
        image: &Image,
        block: &Block,
        m: &[T],
        step: usize,
        y: &mut [T],
    ) {
        let (batch, height) = (image.batch, image.rows.output);
        let n_samples = block.samples.len();
        for tile in 0..block.rows.len() {
            let row = 2 * (block.rows.start + tile);
            each_vector!(n_samples, |from, N| {
                let at = tile * n_samples + from;
                let point = |p: usize, q: usize| load::<T, N>(m, (p + 4 * q) * step + at);
                let columns = [0, 1, 2, 3].map(|q| outputs([0, 1, 2, 3].map(|p| point(p, q))));
                let [a, b, c, d] = columns;
                for i in 0..2 {
                    let pair = outputs([a[i], b[i], c[i], d[i]]);
                    for (j, y_point) in pair.into_iter().enumerate() {
                        let (row, column) = (row + i, 2 * block.column + j);
                        if row < height && column < image.columns.output {
                            let at = (row + height * column) * batch + block.samples.start + from;
                            store(y_point, y, at);
                        }
                    }
                }
            });
        }
    }
}

/// A y
#[inline(always)]
fn spread<T: Scalar, const N: usize>([a, b]: [[T; N]; 2]) -> [[T; N]; 4] {
    [a, add(a, b), sub(a, b), b]
}

multiversion! {
    /// A y Aᵀ of outputs (i, j) from `(i + 2 j) · len` on, points as in [`of_input`].
    pub(super) fn of_output<T: Scalar>(y: &[T], out: &mut [T], len: usize) {
        each_vector!(len, |from, N| {
            let [a, b] = [0, 1].map(|j| {
                spread([0, 1].map(|i| load::<T, N>(y, (i + 2 * j) * len + from)))
            });
            for p in 0..4 {
                for (q, point) in spread([a[p], b[p]]).into_iter().enumerate() {
                    store(point, out, (p + 4 * q) * len + from);
                }
            }
        });
    }
}

/// G g
fn taps<T: Scalar>([a, b, c]: [T; 3]) -> [T; 4] {
    let half = T::lit(0.5);
    [a, (a + c + b) * half, (a + c - b) * half, c]
}

/// G g Gᵀ of the weights g\[p\]\[q\], as points.
pub(super) fn of_weights<T: Scalar>(g: [[T; 3]; 3]) -> [T; POINTS] {
    let [a, b, c] = g.map(taps);
    let mut out = [T::zero(); POINTS];
    for q in 0..4 {
        for (p, point) in taps([a[q], b[q], c[q]]).into_iter().enumerate() {
            out[p + 4 * q] = point;
        }
    }
    out
}

/// Gᵀ s
fn untaps<T: Scalar>([a, b, c, d]: [T; 4]) -> [T; 3] {
    let half = T::lit(0.5);
    let both = (b + c) * half;
    [a + both, (b - c) * half, d + both]
}

/// Gᵀ s G: what is summed at the points, as weights \[q\]\[p\].
pub(super) fn to_weights<T: Scalar>(s: [T; POINTS]) -> [[T; 3]; 3] {
    let columns = [0, 4, 8, 12].map(|q| untaps([s[q], s[q + 1], s[q + 2], s[q + 3]]));
    let rows = [0, 1, 2].map(|p| untaps(columns.map(|column| column[p])));
    [0, 1, 2].map(|q| rows.map(|row| row[q]))
}
