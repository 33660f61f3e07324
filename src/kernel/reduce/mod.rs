//! Reductions over any set of axes: sum, product, maximum, minimum, all, any; beside them what
//! goes along one axis (`arg`, `cumsum`, `softmax`) and the derivatives of a product (`prod`).
//!
//! The order of every sum is a tree that the shape alone decides, so neither the CPU level nor
//! threads change a bit, and rounding errors grow with the logarithm of the number of terms.

mod arg;
mod cumsum;
mod prod;
mod softmax;

pub use arg::Extremum;
pub(crate) use arg::arg_reduce;
pub use cumsum::Cumulate;
pub(crate) use cumsum::cumsum;
pub(crate) use prod::{MAX_ORDER, prod_grad};
pub(crate) use softmax::{
    SOFTMAX_SCRATCH, cross_entropy, log_softmax, logsumexp, softmax, softmax_residual,
    softmax_residual_and_loss, softmax_scratch,
};

use crate::kernel::cpu::multiversion;
use crate::kernel::map::BLOCK;
use crate::scalar::Scalar;
use crate::shape::{Axes, MAX_RANK, Shape};

/// What the elements of a reduction are joined with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Σ x; of no elements 0.
    Sum,
    /// ∏ x; of no elements 1.
    Prod,
    /// The largest, NaN if any element is; of no elements −∞.
    Max,
    /// The smallest, NaN if any element is; of no elements +∞.
    Min,
    /// 1 if no element is 0, else 0; NaN is not 0.
    All,
    /// 1 if some element is not 0, else 0.
    Any,
}

/// As [`Reducer::run`], of a shape that is seen only now.
#[cfg(test)]
pub(crate) fn reduce<T: Scalar>(kind: Reduction, shape: &Shape, axes: Axes, x: &[T], y: &mut [T]) {
    assert_eq!((x.len(), y.len()), (shape.len(), shape.reduced(axes, false).len()));
    Reducer::new(kind, shape, axes).run(x, y);
}

/// A reduction whose shape and axes are known: what is left for each run is the numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reducer {
    kind: Reduction,
    loops: Loops,
}

impl Reducer {
    pub(crate) fn new(kind: Reduction, shape: &Shape, axes: Axes) -> Self {
        let loops = if shape.is_empty() { Loops::default() } else { Loops::new(shape, axes) };
        Reducer { kind, loops }
    }

    /// Joins the elements of `x` over the axes into `y`, which has the other axes. Of no elements
    /// it is what joins without effect, as the partial result of an empty shard must.
    pub(crate) fn run<T: Scalar>(&self, x: &[T], y: &mut [T]) {
        match self.kind {
            Reduction::Sum => fold(Sum, &self.loops, x, y),
            Reduction::Prod => fold(Prod, &self.loops, x, y),
            Reduction::Max => fold(Max, &self.loops, x, y),
            Reduction::Min => fold(Min, &self.loops, x, y),
            Reduction::All => fold(All, &self.loops, x, y),
            Reduction::Any => fold(Any, &self.loops, x, y),
        }
    }
}

/// A way to join elements; `unit` joined with anything changes nothing.
trait Fold<T: Scalar>: Copy {
    fn unit(self) -> T;
    /// What an element counts as.
    #[inline(always)]
    fn lift(self, x: T) -> T {
        x
    }
    fn join(self, a: T, b: T) -> T;
}

macro_rules! folds {
    ($($name:ident: $unit:expr, $x:pat => $lift:expr, $a:ident $b:ident => $join:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name;
        impl<T: Scalar> Fold<T> for $name {
            #[inline(always)]
            fn unit(self) -> T { $unit }
            #[inline(always)]
            fn lift(self, $x: T) -> T { $lift }
            #[inline(always)]
            fn join(self, $a: T, $b: T) -> T { $join }
        }
    )*};
}

// NaN passes through `max`: it is kept as `a`, and as `b` because no comparison with it holds.
folds! {
    Sum:  T::zero(),      x => x, a b => a + b;
    Prod: T::one(),       x => x, a b => a * b;
    Max:  -T::infinity(), x => x, a b => if a > b || a.is_nan() { a } else { b };
    Min:  T::infinity(),  x => x, a b => if a < b || a.is_nan() { a } else { b };
    All:  T::one(),       x => truth(x), a b => a * b;
    Any:  T::zero(),      x => truth(x), a b => if a > b { a } else { b };
}

#[inline(always)]
fn truth<T: Scalar>(x: T) -> T {
    if x == T::zero() { T::zero() } else { T::one() }
}

/// Outputs that lie side by side are folded together, this many at most.
const LANES: usize = 256;
/// Rows that are joined one after another; more are halved first.
const ROWS: usize = 32;
/// Accumulators of a contiguous run: four AVX-512 registers of f64.
const WIDTH: usize = 32;
/// Elements of a contiguous run that are joined one after another; of more, blocks of this many
/// are. The block of a fused loop, so that a loop can join what it computes.
const RUN: usize = BLOCK;

fn fold<T: Scalar, F: Fold<T>>(f: F, loops: &Loops, x: &[T], y: &mut [T]) {
    if x.is_empty() {
        return y.fill(f.unit());
    }
    if loops.lanes == 1 {
        if loops.folded.rank == 0 && loops.run <= RUN && loops.kept.is_dense_over(loops.run) {
            return join_runs(f, x, loops.run, y);
        }
        for (k, y) in y.iter_mut().enumerate() {
            *y = fold_runs(f, &x[loops.kept.at(k)..], loops, 0, loops.folded.len());
        }
        return;
    }
    for (k, y) in y.chunks_exact_mut(loops.lanes).enumerate() {
        for (block, y) in y.chunks_mut(LANES).enumerate() {
            fold_lanes(f, &x[loops.kept.at(k) + block * LANES..], &loops.folded, y);
        }
    }
}

/// The runs `from..to` of one output, halved until one is left.
fn fold_runs<T: Scalar, F: Fold<T>>(f: F, x: &[T], loops: &Loops, from: usize, to: usize) -> T {
    if to - from == 1 {
        return fold_run(f, &x[loops.folded.at(from)..][..loops.run]);
    }
    let mid = from.midpoint(to);
    f.join(fold_runs(f, x, loops, from, mid), fold_runs(f, x, loops, mid, to))
}

/// One contiguous run.
fn fold_run<T: Scalar, F: Fold<T>>(f: F, x: &[T]) -> T {
    fold_blocks(f, 0, x.len().div_ceil(RUN), &|b| {
        join_run(f, &x[b * RUN..x.len().min((b + 1) * RUN)])
    })
}

/// The blocks `from..to`, halved until one is left.
fn fold_blocks<T, F>(f: F, from: usize, to: usize, block: &impl Fn(usize) -> T) -> T
where
    T: Scalar,
    F: Fold<T>,
{
    match to - from {
        0 => f.unit(),
        1 => block(from),
        _ => {
            let mid = from.midpoint(to);
            f.join(fold_blocks(f, from, mid, block), fold_blocks(f, mid, to, block))
        }
    }
}

/// The sum of one block of a contiguous run, at most [`BLOCK`] elements.
pub(crate) fn sum_block<T: Scalar>(x: &[T]) -> T {
    join_run(Sum, x)
}

/// The sum of a contiguous run whose blocks have these sums: what [`reduce`] gives for it.
pub(crate) fn sum_blocks<T: Scalar>(n_blocks: usize, block: &impl Fn(usize) -> T) -> T {
    fold_blocks(Sum, 0, n_blocks, block)
}

/// All rows, each `y.len()` long and contiguous.
fn fold_lanes<T: Scalar, F: Fold<T>>(f: F, x: &[T], rows: &Dims, y: &mut [T]) {
    y.fill(f.unit());
    let (lanes, n) = (y.len(), rows.len());
    // Narrow rows that follow each other are joined as fewer, wider rows.
    let mut abreast = 1 << (LANES / lanes).ilog2();
    if lanes >= WIDTH || rows.rank != 1 || rows.dims[0].1 != lanes || n < 2 * abreast {
        return fold_rows(f, x, rows, 0, n, y);
    }
    let mut wide = Dims::default();
    wide.push(n / abreast, lanes * abreast);
    fold_rows(f, x, rows, n / abreast * abreast, n, y);
    let acc = &mut [f.unit(); LANES][..lanes * abreast];
    fold_rows(f, x, &wide, 0, n / abreast, acc);
    while abreast > 1 {
        abreast /= 2;
        for i in 0..lanes * abreast {
            acc[i] = f.join(acc[i], acc[i + lanes * abreast]);
        }
    }
    for (y, &a) in y.iter_mut().zip(&*acc) {
        *y = f.join(*y, a);
    }
}

/// Joins the rows `from..to` (each `acc.len()` long and contiguous) into `acc`.
fn fold_rows<T: Scalar, F: Fold<T>>(
    f: F,
    x: &[T],
    rows: &Dims,
    from: usize,
    to: usize,
    acc: &mut [T],
) {
    if to - from <= ROWS {
        return join_rows(f, x, rows, from, to, acc);
    }
    let mid = from.midpoint(to);
    fold_rows(f, x, rows, from, mid, acc);
    let right = &mut [f.unit(); LANES][..acc.len()];
    fold_rows(f, x, rows, mid, to, right);
    for (a, &b) in acc.iter_mut().zip(&*right) {
        *a = f.join(*a, b);
    }
}

/// Accumulators of a run that would not fill [`WIDTH`] of them twice.
const FEW: usize = 8;

#[inline(always)]
fn join_few<T: Scalar, F: Fold<T>>(f: F, x: &[T]) -> T {
    let mut acc = [f.unit(); FEW];
    let (eights, rest) = x.as_chunks::<FEW>();
    for eight in eights {
        for i in 0..FEW {
            acc[i] = f.join(acc[i], f.lift(eight[i]));
        }
    }
    for (a, &x) in acc.iter_mut().zip(rest) {
        *a = f.join(*a, f.lift(x));
    }
    let [a, b, c, d, e, g, h, i] = acc;
    f.join(f.join(f.join(a, e), f.join(c, h)), f.join(f.join(b, g), f.join(d, i)))
}

multiversion! {
    fn join_run<T: Scalar, F: Fold<T>>(f: F, x: &[T]) -> T {
        joined(f, x)
    }
}

multiversion! {
    /// Each run by itself, one after the other in `x`.
    fn join_runs<T: Scalar, F: Fold<T>>(f: F, x: &[T], run: usize, y: &mut [T]) {
        for (y, x) in y.iter_mut().zip(x.chunks_exact(run)) {
            *y = joined(f, x);
        }
    }
}

#[inline(always)]
fn joined<T: Scalar, F: Fold<T>>(f: F, x: &[T]) -> T {
    if x.len() < FEW {
        return x.iter().fold(f.unit(), |a, &x| f.join(a, f.lift(x)));
    }
    if x.len() < 2 * WIDTH {
        return join_few(f, x);
    }
    let mut acc = [f.unit(); WIDTH];
    // Four are joined before they meet an accumulator, whose additions wait for each other.
    let (fours, rest) = x.as_chunks::<{ 4 * WIDTH }>();
    for four in fours {
        for i in 0..WIDTH {
            let ab = f.join(f.lift(four[i]), f.lift(four[i + WIDTH]));
            let cd = f.join(f.lift(four[i + 2 * WIDTH]), f.lift(four[i + 3 * WIDTH]));
            acc[i] = f.join(acc[i], f.join(ab, cd));
        }
    }
    let (ones, rest) = rest.as_chunks::<WIDTH>();
    for one in ones {
        for i in 0..WIDTH {
            acc[i] = f.join(acc[i], f.lift(one[i]));
        }
    }
    for (a, &x) in acc.iter_mut().zip(rest) {
        *a = f.join(*a, f.lift(x));
    }
    // A `while`, as this is faster rolled: unrolled, LLVM shuffles single lanes about.
    let mut width = WIDTH / 2;
    while width > 0 {
        for i in 0..width {
            acc[i] = f.join(acc[i], acc[i + width]);
        }
        width /= 2;
    }
    acc[0]
}

multiversion! {
    fn join_rows<T: Scalar, F: Fold<T>>(
        f: F, x: &[T], rows: &Dims, from: usize, to: usize, acc: &mut [T]
    ) {
        let n = acc.len();
        let row = |r: usize| &x[rows.at(r)..][..n];
        let mut r = from;
        // Four rows at a time, so that the accumulators are loaded and stored less often.
        while r + 4 <= to {
            let (a, b, c, d) = (row(r), row(r + 1), row(r + 2), row(r + 3));
            for i in 0..n {
                let ab = f.join(f.lift(a[i]), f.lift(b[i]));
                let cd = f.join(f.lift(c[i]), f.lift(d[i]));
                acc[i] = f.join(acc[i], f.join(ab, cd));
            }
            r += 4;
        }
        for r in r..to {
            for (a, &x) in acc.iter_mut().zip(row(r)) {
                *a = f.join(*a, f.lift(x));
            }
        }
    }
}

/// The axes of a reduction, neighbors of one sort merged. Of `lanes` and `run`, one is 1.
#[derive(Clone, Copy, Debug, Default)]
struct Loops {
    /// Outputs that lie side by side, when axis 0 is kept.
    lanes: usize,
    /// Elements that lie side by side and are joined, when axis 0 is reduced.
    run: usize,
    /// The other kept axes.
    kept: Dims,
    /// The other reduced axes.
    folded: Dims,
}

impl Loops {
    /// The loops of a shape that is not empty.
    fn new(shape: &Shape, axes: Axes) -> Loops {
        let (mut kept, mut folded) = (Dims::default(), Dims::default());
        for (axis, (&extent, stride)) in shape.extents().iter().zip(shape.strides()).enumerate() {
            let dims = if axes.contains(axis) { &mut folded } else { &mut kept };
            dims.push(extent, stride);
        }
        Loops { lanes: kept.take_contiguous(), run: folded.take_contiguous(), kept, folded }
    }
}

/// Some axes of a tensor: (extent, stride) of each, fastest first; extents of 1 are left out.
#[derive(Clone, Copy, Debug, Default)]
struct Dims {
    dims: [(usize, usize); MAX_RANK],
    rank: usize,
}

impl Dims {
    /// Adds an axis, merged with the last one where their elements continue each other.
    fn push(&mut self, extent: usize, stride: usize) {
        if extent == 1 {
            return;
        }
        match self.dims[..self.rank].last_mut() {
            Some((n, step)) if *n * *step == stride => *n *= extent,
            _ => {
                self.dims[self.rank] = (extent, stride);
                self.rank += 1;
            }
        }
    }

    /// Takes the axis of stride 1 away, and gives its extent.
    fn take_contiguous(&mut self) -> usize {
        match self.dims[..self.rank] {
            [(n, 1), ..] => {
                self.dims.copy_within(1.., 0);
                self.rank -= 1;
                n
            }
            _ => 1,
        }
    }

    /// Whether the positions are one after the other, `step` apart.
    fn is_dense_over(&self, step: usize) -> bool {
        self.rank == 0 || (self.rank == 1 && self.dims[0].1 == step)
    }

    /// The number of positions.
    fn len(&self) -> usize {
        self.dims[..self.rank].iter().map(|d| d.0).product()
    }

    /// The offset of the i-th position, the first axis fastest.
    #[inline(always)]
    fn at(&self, mut i: usize) -> usize {
        match self.dims[..self.rank] {
            [] => 0,
            [(_, stride)] => i * stride,
            ref dims => {
                let mut offset = 0;
                for &(n, stride) in dims {
                    offset += i % n * stride;
                    i /= n;
                }
                offset
            }
        }
    }
}

/// What lies before, along and after one axis.
fn around(shape: &Shape, axis: usize) -> (usize, usize, usize) {
    let (before, rest) = shape.extents().split_at(axis);
    (before.iter().product(), rest[0], rest[1..].iter().product())
}

#[cfg(test)]
mod tests;
