//! Softmax, its logarithm and log-sum-exp along one axis, shifted by the maximum so that logits of
//! any size stay finite. A row that holds NaN, +∞, or nothing but −∞ has a softmax of NaN, as in
//! PyTorch and JAX; its log-sum-exp is NaN, +∞, or −∞.

use super::{Dims, LANES, Max, ROWS, Sum, around, fold_lanes, fold_run};
use crate::error::Result;
use crate::kernel::cpu::{Level, multiversion};
use crate::kernel::index::check;
use crate::kernel::map::{Function, each1, each2};
use crate::kernel::math::{Elementary, Math};
use crate::kernel::vector::add;
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

/// y_k = exp(x_k) / Σ_j exp(x_j) along `axis`.
pub(crate) fn softmax<T: Scalar>(
    shape: &Shape,
    axis: usize,
    x: &[T],
    y: &mut [T],
    scratch: &mut [T],
) {
    for block in Block::all(shape, axis) {
        let [top, sum, part, _] = block.lanes(scratch);
        block.softmax(x, y, [top, sum, part]);
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
    for block in Block::all(shape, axis) {
        let [top, sum, part, tile] = block.lanes(scratch);
        block.max(x, top);
        block.sum_exp(x, [top, sum, part, tile]);
        let log = part;
        logs(sum, log);
        for piece in block.pieces() {
            // Not x − (top + log): a large `top` would swallow the logarithm.
            for ((&x, y), (&t, &l)) in
                x[piece.clone()].iter().zip(&mut y[piece]).zip(top.iter().zip(&*log))
            {
                *y = x - t - l;
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
    let mut y = y.iter_mut();
    for block in Block::all(shape, axis) {
        let [top, sum, part, tile] = block.lanes(scratch);
        block.max(x, top);
        // ∞ − ∞ is NaN, where the sum of exponentials is 0 or ∞.
        top.iter_mut().filter(|t| !t.is_finite()).for_each(|t| *t = T::zero());
        block.sum_exp(x, [top, sum, part, tile]);
        let log = &mut part[..block.width];
        logs(&sum[..block.width], log);
        for ((&t, &l), y) in top.iter().zip(&*log).zip(&mut y) {
            *y = t + l;
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
    let axis = shape.rank() - 1;
    check(labels, shape.extents()[axis])?;
    for block in Block::all(shape, axis) {
        let [top, sum, part, tile] = block.lanes(scratch);
        block.max(x, top);
        block.sum_exp(x, [top, sum, part, tile]);
        block.cross_entropy(x, labels, y, [top, sum, part]);
    }
    Ok(())
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
    subtract_labels(labels, y);
    Ok(())
}

/// [`softmax_residual`], then [`cross_entropy`], from one pass over x: the bits of both.
///
/// # Errors
/// As [`cross_entropy`].
pub(crate) fn softmax_residual_and_loss<T: Scalar>(
    shape: &Shape,
    x: &[T],
    labels: &[Index],
    y: &mut [T],
    scratch: &mut [T],
) -> Result<()> {
    let axis = shape.rank() - 1;
    check(labels, shape.extents()[axis])?;
    let (residual, loss) = y.split_at_mut(x.len());
    for block in Block::all(shape, axis) {
        let [top, sum, part, _] = block.lanes(scratch);
        block.softmax(x, residual, [top, sum, part]);
        block.cross_entropy(x, labels, loss, [top, sum, part]);
    }
    subtract_labels(labels, residual);
    Ok(())
}

/// y ← y − one-hot(label), a label for each row.
fn subtract_labels<T: Scalar>(labels: &[Index], y: &mut [T]) {
    for (row, &label) in labels.iter().enumerate() {
        y[row + label as usize * labels.len()] -= T::one();
    }
}

multiversion! {
    /// y ← y/x, for as many as y has.
    fn divide<T: Scalar>(y: &mut [T], x: &[T]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y /= x);
    }
}

/// y = exp(x − top)
fn exp_shifted<T: Scalar>(x: &[T], top: &[T], y: &mut [T]) {
    type Kernel<T> = fn(&[T], &[T], &mut [T]);
    let single: Kernel<f32> = |x, top, y| each2(ExpShifted, x, top, y);
    let double: Kernel<f64> = |x, top, y| each2(ExpShifted, x, top, y);
    of_type::<Kernel<T>>(&single, &double)(x, top, y);
}

/// y = ln x
fn logs<T: Scalar>(x: &[T], y: &mut [T]) {
    type Kernel<T> = fn(&[T], &mut [T]);
    let single: Kernel<f32> = |x, y| each1(Log, x, y);
    let double: Kernel<f64> = |x, y| each1(Log, x, y);
    of_type::<Kernel<T>>(&single, &double)(x, y);
}

#[derive(Clone, Copy)]
struct ExpShifted;

impl<T: Elementary> Function<2, T> for ExpShifted {
    #[inline(always)]
    fn at<L: Level>(self, [x, top]: [T; 2]) -> T {
        L::exp(x - top)
    }
}

#[derive(Clone, Copy)]
struct Log;

impl<T: Elementary> Function<1, T> for Log {
    #[inline(always)]
    fn at<L: Level>(self, [x]: [T; 1]) -> T {
        L::log(x)
    }
}

/// Up to [`LANES`] neighboring rows of a softmax, `n` elements each, `stride` apart.
/// When the axis itself is contiguous there is one row, and its elements share the lanes.
struct Block {
    start: usize,
    width: usize,
    n: usize,
    stride: usize,
}

impl Block {
    /// The blocks of a tensor, in the order of their outputs. None if it is empty.
    fn all(shape: &Shape, axis: usize) -> impl Iterator<Item = Block> + use<> {
        let (stride, n, outer) = around(shape, axis);
        let n_outer = if n == 0 { 0 } else { outer };
        (0..n_outer).flat_map(move |o| {
            (0..stride).step_by(LANES).map(move |lane| {
                let width = LANES.min(stride - lane);
                Block { start: o * n * stride + lane, width, n, stride }
            })
        })
    }

    fn is_contiguous(&self) -> bool {
        self.stride == 1
    }

    /// Contiguous pieces of at most [`LANES`] elements, one row of lanes after another.
    fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Block { start, width, n, stride } = *self;
        let (end, step, width) = match self.is_contiguous() {
            true => (start + n, LANES, LANES),
            false => (start + n * stride, stride, width),
        };
        (start..end).step_by(step).map(move |at| at..end.min(at + width))
    }

    /// Scratch for the rows, four times: a number for each lane.
    fn lanes<'s, T>(&self, scratch: &'s mut [T]) -> [&'s mut [T]; 4] {
        let n = if self.is_contiguous() { LANES } else { self.width };
        let (a, rest) = scratch.split_at_mut(n);
        let (b, rest) = rest.split_at_mut(n);
        let (c, rest) = rest.split_at_mut(n);
        [a, b, c, &mut rest[..n]]
    }

    /// The largest element of each lane's row.
    fn max<T: Scalar>(&self, x: &[T], top: &mut [T]) {
        if self.is_contiguous() {
            return top.fill(fold_run(Max, &x[self.start..][..self.n]));
        }
        let mut rows = Dims::default();
        rows.push(self.n, self.stride);
        fold_lanes(Max, &x[self.start..], &rows, top);
    }

    /// The sum of exp(x − top) over each row.
    fn sum_exp<T: Scalar>(&self, x: &[T], [top, sum, part, tile]: [&mut [T]; 4]) {
        self.sum(sum, part, |piece, part| {
            let terms = &mut tile[..piece.len()];
            exp_shifted(&x[piece], top, terms);
            add(part, terms);
        });
    }

    /// Softmax of the rows; leaves the largest elements and the sums of exponentials in the first
    /// two of the lanes' scratch.
    fn softmax<T: Scalar>(&self, x: &[T], y: &mut [T], [top, sum, part]: [&mut [T]; 3]) {
        self.max(x, top);
        self.sum(sum, part, |piece, part| {
            let y = &mut y[piece.clone()];
            exp_shifted(&x[piece], top, y);
            add(part, y);
        });
        for piece in self.pieces() {
            divide(&mut y[piece], sum);
        }
    }

    /// The cross-entropy of the rows, along the last axis, whose largest elements are `top` and
    /// whose sums of exponentials are `sum`.
    fn cross_entropy<T: Scalar>(
        &self,
        x: &[T],
        labels: &[Index],
        y: &mut [T],
        [top, sum, log]: [&mut [T]; 3],
    ) {
        let log = &mut log[..self.width];
        logs(&sum[..self.width], log);
        for ((row, &log), &top) in (self.start..).zip(&*log).zip(&*top) {
            let own = x[row + labels[row] as usize * self.stride];
            y[row] = log - (own - top);
        }
    }

    /// For each lane the sum over its row of what `add_terms` adds for each piece to the second,
    /// [`ROWS`] pieces at a time. `part` is scratch.
    fn sum<T: Scalar>(
        &self,
        sum: &mut [T],
        part: &mut [T],
        mut add_terms: impl FnMut(Range<usize>, &mut [T]),
    ) {
        sum.fill(T::zero());
        part.fill(T::zero());
        let mut n_parts = 0;
        for piece in self.pieces() {
            let len = piece.len();
            add_terms(piece, &mut part[..len]);
            n_parts += 1;
            if n_parts % ROWS == 0 {
                sum.iter_mut().zip(&mut *part).for_each(|(s, p)| *s += std::mem::take(p));
            }
        }
        sum.iter_mut().zip(part).for_each(|(s, p)| *s += *p);
        if self.is_contiguous() {
            sum.fill(fold_run(Sum, sum));
        }
    }
}
