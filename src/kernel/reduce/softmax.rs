//! Softmax, its logarithm and log-sum-exp along one axis, shifted by the maximum so that logits of
//! any size stay finite. A row that holds NaN, +∞, or nothing but −∞ has a softmax of NaN, as in
//! PyTorch and JAX; its log-sum-exp is NaN, +∞, or −∞.

use super::{Fold, LANES, Max, ROWS, Sum, around, fold_run};
use crate::error::Result;
use crate::kernel::cpu::{Level, multiversion};
use crate::kernel::index::check;
use crate::kernel::math::{Elementary, Math};
use crate::scalar::{Index, Scalar, of_type};
use crate::shape::Shape;
use std::ops::Range;

/// The elements of scratch that everything here wants, whatever the shape.
pub(crate) const SOFTMAX_SCRATCH: usize = 4 * LANES;

/// The elements of scratch that everything here wants along this axis of this shape.
pub(crate) fn softmax_scratch(shape: &Shape, axis: usize) -> usize {
    match around(shape, axis) {
        (1, ..) => SOFTMAX_SCRATCH,
        (stride, ..) => SOFTMAX_SCRATCH.min(4 * stride),
    }
}

/// Lanes that are computed as an array, so that a few of them are whole registers, too: what is
/// left of an unrolled loop is computed one by one.
const CHUNK: usize = 16;

/// A loop over rows: x, y, scratch.
type Kernel<T> = fn(Rows, &[T], &mut [T], &mut [T]);

/// y_k = exp(x_k) / Σ_j exp(x_j) along `axis`.
pub(crate) fn softmax<T: Scalar>(
    shape: &Shape,
    axis: usize,
    x: &[T],
    y: &mut [T],
    scratch: &mut [T],
) {
    let (single, double) = (softmax_of::<f32> as Kernel<f32>, softmax_of::<f64> as Kernel<f64>);
    of_type::<Kernel<T>>(&single, &double)(Rows::of(shape, axis), x, y, scratch);
}

multiversion! {
    fn softmax_of<L: Level, T: Elementary>(rows: Rows, x: &[T], y: &mut [T], scratch: &mut [T]) {
        for block in (0..rows.n_blocks()).map(|i| rows.block(i)) {
            let [top, sum, part, _] = block.lanes(scratch);
            block.max(x, top);
            block.sum::<L, T>(x, top, sum, part, Terms::Kept(y));
            for k in 0..block.n_pieces() {
                each_lane(&mut y[block.piece(k)], sum, |y, s| y / s);
            }
        }
    }
}

/// y_k = x_k − ln Σ_j exp(x_j) along `axis`.
pub(crate) fn log_softmax<T: Scalar>(
    shape: &Shape,
    axis: usize,
    x: &[T],
    y: &mut [T],
    scratch: &mut [T],
) {
    let single = log_softmax_of::<f32> as Kernel<f32>;
    let double = log_softmax_of::<f64> as Kernel<f64>;
    of_type::<Kernel<T>>(&single, &double)(Rows::of(shape, axis), x, y, scratch);
}

multiversion! {
    fn log_softmax_of<L: Level, T: Elementary>(
        rows: Rows, x: &[T], y: &mut [T], scratch: &mut [T],
    ) {
        for block in (0..rows.n_blocks()).map(|i| rows.block(i)) {
            let [top, sum, part, tile] = block.lanes(scratch);
            block.max(x, top);
            block.sum::<L, T>(x, top, sum, part, Terms::Dropped(tile));
            logs::<L, T>(sum);
            for piece in (0..block.n_pieces()).map(|k| block.piece(k)) {
                // Not x − (top + log): a large `top` would swallow the logarithm.
                let lanes = top.iter().zip(sum.iter());
                for ((y, &x), (&t, &l)) in y[piece.clone()].iter_mut().zip(&x[piece]).zip(lanes) {
                    *y = x - t - l;
                }
            }
        }
    }
}

/// y = ln Σ_j exp(x_j) along `axis`, −∞ for no elements. `y` has the other axes.
pub(crate) fn logsumexp<T: Scalar>(
    shape: &Shape,
    axis: usize,
    x: &[T],
    y: &mut [T],
    scratch: &mut [T],
) {
    if x.is_empty() {
        return y.fill(-T::infinity());
    }
    let single = logsumexp_of::<f32> as Kernel<f32>;
    let double = logsumexp_of::<f64> as Kernel<f64>;
    of_type::<Kernel<T>>(&single, &double)(Rows::of(shape, axis), x, y, scratch);
}

multiversion! {
    fn logsumexp_of<L: Level, T: Elementary>(
        rows: Rows, x: &[T], y: &mut [T], scratch: &mut [T],
    ) {
        for block in (0..rows.n_blocks()).map(|i| rows.block(i)) {
            let [top, sum, part, tile] = block.lanes(scratch);
            block.max(x, top);
            // ∞ − ∞ is NaN, where the sum of exponentials is 0 or ∞.
            top.iter_mut().filter(|t| !t.is_finite()).for_each(|t| *t = T::zero());
            block.sum::<L, T>(x, top, sum, part, Terms::Dropped(tile));
            let y = &mut y[block.row..][..block.width];
            for ((y, &t), &s) in y.iter_mut().zip(top.iter()).zip(sum.iter()) {
                *y = t + L::log(s);
            }
        }
    }
}

/// y = ln Σ_j exp(x_j) − x_label along the last axis, a label for each row. Not `logsumexp` less
/// x_label: that loses the digits of a small loss to large logits.
///
/// # Errors
/// A label that is no position of the axis; then nothing is written.
pub(crate) fn cross_entropy<T: Scalar>(
    shape: &Shape,
    x: &[T],
    labels: &[Index],
    y: &mut [T],
    scratch: &mut [T],
) -> Result<()> {
    type Kernel<T> = fn(Rows, &[T], &[Index], &mut [T], &mut [T]);
    let axis = shape.rank() - 1;
    check(labels, shape.extents()[axis])?;
    let single = cross_entropy_of::<f32> as Kernel<f32>;
    let double = cross_entropy_of::<f64> as Kernel<f64>;
    of_type::<Kernel<T>>(&single, &double)(Rows::of(shape, axis), x, labels, y, scratch);
    Ok(())
}

multiversion! {
    fn cross_entropy_of<L: Level, T: Elementary>(
        rows: Rows, x: &[T], labels: &[Index], y: &mut [T], scratch: &mut [T],
    ) {
        for block in (0..rows.n_blocks()).map(|i| rows.block(i)) {
            let [top, sum, part, tile] = block.lanes(scratch);
            block.max(x, top);
            block.sum::<L, T>(x, top, sum, part, Terms::Dropped(tile));
            logs::<L, T>(&mut sum[..block.width]);
            let rows = block.row..block.row + block.width;
            let (y, labels) = (&mut y[rows.clone()], &labels[rows]);
            let lanes = top.iter().zip(sum.iter());
            for (lane, ((y, &label), (&top, &log))) in y.iter_mut().zip(labels).zip(lanes).enumerate() {
                let own = x[block.start + lane + label as usize * block.stride];
                *y = log - (own - top);
            }
        }
    }
}

/// y = softmax(x) − one-hot(label) along the last axis, a label for each row.
///
/// # Errors
/// As [`cross_entropy`].
pub(crate) fn softmax_residual<T: Scalar>(
    shape: &Shape,
    x: &[T],
    labels: &[Index],
    y: &mut [T],
    scratch: &mut [T],
) -> Result<()> {
    let axis = shape.rank() - 1;
    check(labels, shape.extents()[axis])?;
    softmax(shape, axis, x, y, scratch);
    for (row, &label) in labels.iter().enumerate() {
        y[row + label as usize * labels.len()] -= T::one();
    }
    Ok(())
}

/// y ← f(y, x) for as many as y has.
#[inline(always)]
fn each_lane<T: Scalar>(y: &mut [T], x: &[T], f: impl Fn(T, T) -> T) {
    let (y, y_rest) = y.as_chunks_mut::<CHUNK>();
    let (x, x_rest) = x.split_at(y.len() * CHUNK);
    for (y, x) in y.iter_mut().zip(x.as_chunks::<CHUNK>().0) {
        for i in 0..CHUNK {
            y[i] = f(y[i], x[i]);
        }
    }
    y_rest.iter_mut().zip(x_rest).for_each(|(y, &x)| *y = f(*y, x));
}

/// x ← ln x
#[inline(always)]
fn logs<L: Level, T: Elementary>(x: &mut [T]) {
    let (x, rest) = x.as_chunks_mut::<CHUNK>();
    for x in x {
        for x in x {
            *x = L::log(*x);
        }
    }
    rest.iter_mut().for_each(|x| *x = L::log(*x));
}

/// terms = exp(x − top) for as many as x has, and part += terms.
#[inline(always)]
fn add_exps<L: Level, T: Elementary>(x: &[T], top: &[T], terms: &mut [T], part: &mut [T]) {
    let (xs, x_rest) = x.as_chunks::<CHUNK>();
    let (top, top_rest) = top.split_at(xs.len() * CHUNK);
    let (terms_of, terms_rest) = terms.split_at_mut(top.len());
    let (part, part_rest) = part.split_at_mut(top.len());
    let to = terms_of.as_chunks_mut::<CHUNK>().0.iter_mut().zip(part.as_chunks_mut::<CHUNK>().0);
    for ((x, top), (terms, part)) in xs.iter().zip(top.as_chunks::<CHUNK>().0).zip(to) {
        let mut own = [T::zero(); CHUNK];
        for i in 0..CHUNK {
            own[i] = L::exp(x[i] - top[i]);
        }
        *terms = own;
        for i in 0..CHUNK {
            part[i] += own[i];
        }
    }
    let to = terms_rest.iter_mut().zip(part_rest);
    for ((&x, &top), (term, part)) in x_rest.iter().zip(top_rest).zip(to) {
        *term = L::exp(x - top);
        *part += *term;
    }
}

/// Where the terms of a sum go.
enum Terms<'a, T> {
    /// Each to the place of its x.
    Kept(&'a mut [T]),
    /// To scratch, where the next ones follow.
    Dropped(&'a mut [T]),
}

/// The rows of a tensor along one axis.
#[derive(Clone, Copy)]
struct Rows {
    /// Elements of a row, and how far apart they are: there are as many rows side by side.
    n: usize,
    stride: usize,
    outer: usize,
}

impl Rows {
    fn of(shape: &Shape, axis: usize) -> Rows {
        let (stride, n, outer) = around(shape, axis);
        Rows { n, stride, outer }
    }

    #[inline(always)]
    fn n_blocks(self) -> usize {
        if self.n == 0 { 0 } else { self.outer * self.stride.div_ceil(LANES) }
    }

    /// Block `i`, in the order of the outputs.
    #[inline(always)]
    fn block(self, i: usize) -> Block {
        let Rows { n, stride, .. } = self;
        let (outer, lane) = match stride.div_ceil(LANES) {
            1 => (i, 0),
            abreast => (i / abreast, i % abreast * LANES),
        };
        let (row, start) = (outer * stride + lane, outer * n * stride + lane);
        Block { row, start, width: LANES.min(stride - lane), n, stride }
    }
}

/// Up to [`LANES`] neighboring rows of a softmax, `n` elements each, `stride` apart.
/// When the axis itself is contiguous there is one row, and its elements share the lanes.
#[derive(Clone, Copy)]
struct Block {
    /// The first row, counted over all.
    row: usize,
    start: usize,
    width: usize,
    n: usize,
    stride: usize,
}

impl Block {
    #[inline(always)]
    fn is_contiguous(&self) -> bool {
        self.stride == 1
    }

    #[inline(always)]
    fn n_pieces(&self) -> usize {
        if self.is_contiguous() { self.n.div_ceil(LANES) } else { self.n }
    }

    /// Piece `k`: at most [`LANES`] contiguous elements, those of a row of lanes.
    #[inline(always)]
    fn piece(&self, k: usize) -> Range<usize> {
        let Block { start, width, n, stride, .. } = *self;
        match self.is_contiguous() {
            true => start + k * LANES..start + n.min((k + 1) * LANES),
            false => start + k * stride..start + k * stride + width,
        }
    }

    /// Scratch for the rows, four times: a number for each lane.
    #[inline(always)]
    fn lanes<'s, T>(&self, scratch: &'s mut [T]) -> [&'s mut [T]; 4] {
        let n = if self.is_contiguous() { LANES } else { self.width };
        let (a, rest) = scratch.split_at_mut(n);
        let (b, rest) = rest.split_at_mut(n);
        let (c, rest) = rest.split_at_mut(n);
        [a, b, c, &mut rest[..n]]
    }

    /// The largest element of each lane's row.
    #[inline(always)]
    fn max<T: Scalar>(&self, x: &[T], top: &mut [T]) {
        if self.is_contiguous() {
            return top.fill(fold_run(Max, &x[self.start..][..self.n]));
        }
        top.copy_from_slice(&x[self.piece(0)]);
        for k in 1..self.n {
            each_lane(top, &x[self.piece(k)], |top, x| Max.join(top, x));
        }
    }

    /// For each lane the sum over its row of exp(x − top), [`ROWS`] pieces at a time. `part` is
    /// scratch.
    #[inline(always)]
    fn sum<L: Level, T: Elementary>(
        &self,
        x: &[T],
        top: &[T],
        sum: &mut [T],
        part: &mut [T],
        mut terms: Terms<'_, T>,
    ) {
        sum.fill(T::zero());
        part.fill(T::zero());
        for k in 0..self.n_pieces() {
            let piece = self.piece(k);
            let terms = match &mut terms {
                Terms::Kept(y) => &mut y[piece.clone()],
                Terms::Dropped(tile) => &mut **tile,
            };
            add_exps::<L, T>(&x[piece], top, terms, part);
            if (k + 1) % ROWS == 0 {
                sum.iter_mut().zip(&mut *part).for_each(|(s, p)| *s += std::mem::take(p));
            }
        }
        each_lane(sum, part, |s, p| s + p);
        if self.is_contiguous() {
            sum.fill(fold_run(Sum, sum));
        }
    }
}
