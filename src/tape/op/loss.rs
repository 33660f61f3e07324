//! Losses: methods of predictions, one number for each element or each row, never reduced; the
//! user adds `.mean()`. Two ops stand here; the other losses are formulas of the table's ops.

use super::view::copy;
use super::{
    Arg, Cotangents, Derivative, Each, Out, Primitive, RowRule, Softmax, Span, Take, TakeAdd, Vjp,
    list,
};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::reduce::{
    cross_entropy, softmax_residual, softmax_residual_and_loss, softmax_scratch,
};
use crate::scalar::{DType, Scalar};
use crate::shape::{Axes, Shape};
use crate::tape::{Expr, IndexExpr, Operand};
use std::f64::consts::TAU;

/// `(target, prediction)`: the target, checked to have the prediction's shape, so that a column
/// against a vector is an error instead of a silent matrix, and to hold labels of the right sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The loss it belongs to, which messages name.
    pub of: &'static str,
    /// What the target may hold.
    pub labels: Labels,
}

/// What the target of a loss may hold. Anything else is an error of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Labels {
    /// Any number.
    Real,
    /// −1 or 1.
    Sign,
    /// From 0 to 1: binary labels, probabilities.
    Unit,
    /// 0 and up: counts.
    Count,
    /// Classes, one for each row of predictions. The op that reads them checks them.
    Class,
}

/// `(logits, labels)`: ln Σ_j exp(z_j) − z_label along the last axis, which goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftmaxCrossEntropy;

/// `(logits, labels)`: softmax(z) − one-hot(label) along the last axis, the slope of
/// [`SoftmaxCrossEntropy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftmaxResidual {
    /// Whether the cross-entropy follows, at one more position of the last axis. Plans ask for it
    /// that need both, so that exponentials are taken once.
    pub with_loss: bool,
}

impl Labels {
    fn expected(self) -> &'static str {
        match self {
            Labels::Real | Labels::Class => "a number",
            Labels::Sign => "-1 or 1",
            Labels::Unit => "a number from 0 to 1",
            Labels::Count => "a finite number from 0 up",
        }
    }

    fn allow<T: Scalar>(self, y: T) -> bool {
        let (zero, one) = (T::zero(), T::one());
        match self {
            Labels::Real | Labels::Class => true,
            Labels::Sign => y == one || y == -one,
            Labels::Unit => y >= zero && y <= one,
            Labels::Count => y >= zero && y.is_finite(),
        }
    }
}

impl<T: Scalar> Primitive<T> for Target {
    fn name(&self) -> &str {
        self.of
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match self.labels {
            Labels::Class => class_labels(&x[1], &x[0]),
            _ if x[0].accepts_or_any(&x[1]) => Ok(x[0]),
            _ => bail!(Shape, "{}: expected targets of shape {}", list(&[x[1], x[0]]), x[1]),
        }
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        match (self.labels, x[0]) {
            (Labels::Class, DType::Float) => bail!(Shape, "expected indices, got floats"),
            (Labels::Class, DType::Index) | (_, DType::Float) => Ok(x[0]),
            (_, DType::Index) => bail!(Shape, "expected floats, got indices"),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let wrong = |&(_, &y): &(usize, &T)| !self.labels.allow(y);
        if let Some((at, y)) = x[0].float().iter().enumerate().find(wrong) {
            bail!(Argument, "expected {}, got {y} at position {at}", self.labels.expected());
        }
        copy(&x[0], y);
        Ok(())
    }

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn is_view(&self) -> bool {
        matches!(self.labels, Labels::Real | Labels::Class)
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { ct, .. } = at;
        Ok(vec![Some(ct), None])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split == [true, true] { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<T: Scalar> Primitive<T> for SoftmaxCrossEntropy {
    fn name(&self) -> &str {
        "softmax_cross_entropy"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        class_labels(&x[0], &x[1])
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        match x {
            [DType::Float, DType::Index] => Ok(DType::Float),
            _ => bail!(Shape, "expected floats and indices"),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        cross_entropy(&x[0].shape(), x[0].float(), x[1].index(), y.float(), scratch)
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        softmax_scratch(&x[0], x[0].rank() - 1)
    }

    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        Primitive::<T>::flops(&Softmax::LogSumExp { axis: 0, keep: false }, x, y)
    }

    fn derivative(&self, i: usize) -> Derivative {
        if i == 0 { Derivative::Smooth } else { Derivative::Zero }
    }

    /// ct·(softmax(z) − one-hot(label))
    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        Ok(vec![Some(residual(x) * ct.expand_dims(&[-1])), None])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        if x[0].rank() > 1 && split == [true, true] { RowRule::Split } else { RowRule::Mixes }
    }
}

impl<T: Scalar> Primitive<T> for SoftmaxResidual {
    fn name(&self) -> &str {
        "softmax_residual"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        class_labels(&x[0], &x[1])?;
        let last = x[0].rank() - 1;
        Ok(match x[0].dim(last) {
            Some(n_classes) if self.with_loss => x[0].with(last, n_classes + 1),
            _ => x[0],
        })
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        Primitive::<T>::dtype(&SoftmaxCrossEntropy, x)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let kernel = if self.with_loss { softmax_residual_and_loss } else { softmax_residual };
        kernel(&x[0].shape(), x[0].float(), x[1].index(), y.float(), scratch)
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        softmax_scratch(&x[0], x[0].rank() - 1)
    }

    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        Primitive::<T>::flops(&Softmax::Softmax { axis: 0 }, x, y)
    }

    fn derivative(&self, i: usize) -> Derivative {
        Primitive::<T>::derivative(&SoftmaxCrossEntropy, i)
    }

    /// That of softmax, and the residual times the loss's cotangent.
    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        let y = x[0].softmax(-1);
        let of_softmax = |ct: Expr<'t, T>| y * (ct - (ct * y).sum_keep(&[-1]));
        Ok(vec![
            Some(match self.with_loss {
                true => {
                    let loss = residual(x) * ct.slice_axis(-1, -1..);
                    of_softmax(ct.slice_axis(-1, Span::new(0, -1))) + loss
                }
                false => of_softmax(ct),
            }),
            None,
        ])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        Primitive::<T>::rows(&SoftmaxCrossEntropy, x, split)
    }
}

/// The slope of the cross-entropy of these logits and labels.
#[track_caller]
fn residual<'t, T: Scalar>(x: &[Expr<'t, T>]) -> Expr<'t, T> {
    x[0].tape().apply(SoftmaxResidual { with_loss: false }, x)
}

/// The shape of labels for these scores: theirs without the last axis.
fn class_labels(scores: &Shape, labels: &Shape) -> Result<Shape> {
    if scores.rank() == 0 {
        bail!(Shape, "{scores}: expected scores with an axis of classes");
    }
    let rows = scores.reduced(Axes::one(scores.rank() - 1), false);
    if !rows.accepts_or_any(labels) {
        bail!(Shape, "{}: expected labels of shape {rows}", list(&[*scores, *labels]));
    }
    Ok(*labels)
}

/// `x` (with a last axis of extent 1) at the position of each label, zeros elsewhere, as `like`.
#[track_caller]
fn at_labels<'t, T: Scalar>(x: Expr<'t, T>, labels: Expr<'t, T>, like: Expr<'t, T>) -> Expr<'t, T> {
    let take = Take { each: Each::Element, axis: like.rank().saturating_sub(1) };
    x.tape().apply(TakeAdd(take), &[x, labels.expand_dims(&[-1]), like])
}

/// Losses: `prediction.loss(target)` has one number for each element (`squared_error`,
/// `absolute_error`, `huber_loss`, `logistic_loss`, `hinge_loss`, `poisson_loss`), or one for each
/// row, over the last axis, which goes (`softmax_cross_entropy`, `softmax_cross_entropy_soft`,
/// `kl_divergence`, `multiclass_hinge_loss`). Nothing is averaged: write `.mean()` or `.sum()`.
///
/// Targets have the predictions' shape, or are one number; they do not broadcast otherwise. The
/// residual is Ŷ − Y. Logits of any finite size give finite values and gradients, but for
/// `poisson_loss`, which is exponential in its.
///
/// # Errors
/// When run: a label that the loss has no meaning for.
///
/// ```
/// use gradtape::{ANY, Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let logits = tape.placeholder("logits", [ANY, 3]);
/// let labels = tape.index_placeholder("labels", [ANY]);
/// let loss = logits.softmax_cross_entropy(labels).mean();
/// let mut session = Session::new(&tape)?;
/// let z = Tensor::from_rows([2, 3], &[1e4, 0.0, 0.0, 0.0, 0.0, 0.0])?;
/// let value = session.run(loss, &[logits.feed(&z), labels.feed(&Tensor::vector(vec![0, 2]))])?;
/// assert!((value.item()? - 3f64.ln() / 2.0).abs() < 1e-15);
/// let wrong = Tensor::vector(vec![0, 3]);
/// let error = session.run(loss, &[logits.feed(&z), labels.feed(&wrong)]).unwrap_err();
/// let text = "softmax_cross_entropy: expected an index below 3, got 3 at position 1";
/// assert_eq!(error.message(), text);
/// # Ok::<(), gradtape::Error>(())
/// ```
impl<'t, T: Scalar> Expr<'t, T> {
    /// (ŷ − y)², without a factor ½.
    #[track_caller]
    pub fn squared_error(self, target: impl Operand<'t, T>) -> Expr<'t, T> {
        (self - self.target("squared_error", Labels::Real, target)).square()
    }

    /// |ŷ − y|; the subgradient at 0 is 0.
    #[track_caller]
    pub fn absolute_error(self, target: impl Operand<'t, T>) -> Expr<'t, T> {
        (self - self.target("absolute_error", Labels::Real, target)).abs()
    }

    /// r²/2 for |r| ≤ δ, else δ(|r| − δ/2), with r = ŷ − y (Huber 1964). Its slope is r limited to
    /// ±δ; its curvature at |r| = δ is taken as 1. A mistake unless δ is positive and finite.
    #[track_caller]
    pub fn huber_loss(self, target: impl Operand<'t, T>, delta: f64) -> Expr<'t, T> {
        if !(delta > 0.0 && delta.is_finite()) {
            let text = format!("expected a positive finite delta, got {delta}");
            return self.refuse("huber_loss", Error::new(ErrorKind::Argument, text));
        }
        let residual = self - self.target("huber_loss", Labels::Real, target);
        let limited = residual.clamp(self.lit(-delta), self.lit(delta));
        limited * (residual - limited * self.lit(0.5))
    }

    /// ln(1 + eᶻ) − y·z: the negative log-likelihood of labels y under the logit z, that is of the
    /// probability sigmoid(z) for 1. Labels are 0, 1 or a probability between.
    #[track_caller]
    pub fn logistic_loss(self, target: impl Operand<'t, T>) -> Expr<'t, T> {
        let y = self.target("logistic_loss", Labels::Unit, target);
        // Written as z([z > 0] − y) + softplus(−|z|), so that a small loss or slope of a large
        // logit is not what rounding leaves of a difference; smooth, as [z > 0] is a constant.
        let up = self.greater(self.lit(0.0));
        self * (up - y) + up.select(-self, self).softplus()
    }

    /// max(0, 1 − y·z) for labels of −1 or 1; the subgradient at y·z = 1 is 0.
    #[track_caller]
    pub fn hinge_loss(self, target: impl Operand<'t, T>) -> Expr<'t, T> {
        (self.lit(1.0) - self * self.target("hinge_loss", Labels::Sign, target)).relu()
    }

    /// eᶻ − y·z: the negative log-likelihood of counts y under the rate eᶻ, without ln y!, which
    /// does not depend on z. z is the logarithm of the rate; overflows where eᶻ does.
    #[track_caller]
    pub fn poisson_loss(self, target: impl Operand<'t, T>) -> Expr<'t, T> {
        self.exp() - self * self.target("poisson_loss", Labels::Count, target)
    }

    /// [`Expr::poisson_loss`] with ln y! by Stirling's formula y·ln y − y + ½ ln(2πy) for y > 1,
    /// 0 for others, as in PyTorch and TensorFlow; the error is below 1/(12y).
    #[track_caller]
    pub fn poisson_loss_full(self, target: impl Operand<'t, T>) -> Expr<'t, T> {
        let y = self.target("poisson_loss_full", Labels::Count, target);
        let above = y.greater(y.lit(1.0));
        let safe = above.select(y, y.lit(1.0));
        let stirling = (safe + y.lit(0.5)) * safe.log() - safe + y.lit(0.5 * TAU.ln());
        self.exp() - self * y + above.select(stirling, y.lit(0.0))
    }

    /// ln Σ_j exp(z_j) − z_label for each row: the cross-entropy of softmax(z) with class labels.
    /// `(…, classes), (…) -> (…)`. One pass of exponentials;
    /// the slope softmax(z) − one-hot(label) takes another.
    ///
    /// # Errors
    /// When run: a label that is no class.
    #[track_caller]
    pub fn softmax_cross_entropy(self, labels: IndexExpr<'t, T>) -> Expr<'t, T> {
        self.tape().apply(SoftmaxCrossEntropy, &[self, labels.as_node_expr()])
    }

    /// −Σ_k p_k ln softmax(z)_k for each row: the cross-entropy of softmax(z) with label
    /// distributions p (smoothed or mixed labels). `(…, classes), (…, classes) -> (…)`.
    ///
    /// # Errors
    /// When run: a p outside 0 to 1. That rows add up to 1 is not checked.
    #[track_caller]
    pub fn softmax_cross_entropy_soft(self, target: impl Operand<'t, T>) -> Expr<'t, T> {
        let p = self.target("softmax_cross_entropy_soft", Labels::Unit, target);
        -(p * self.log_softmax(-1)).sum_axes(&[-1])
    }

    /// Σ_k p_k (ln p_k − ln softmax(z)_k) for each row: the Kullback-Leibler divergence of
    /// softmax(z) from the distribution p, with 0·ln 0 = 0. `(…, classes), (…, classes) -> (…)`.
    /// The derivative in p at 0, which is −∞, is taken without its term ln p.
    ///
    /// # Errors
    /// When run: a p outside 0 to 1. That rows add up to 1 is not checked.
    #[track_caller]
    pub fn kl_divergence(self, target: impl Operand<'t, T>) -> Expr<'t, T> {
        let p = self.target("kl_divergence", Labels::Unit, target);
        let log = p.equal(p.lit(0.0)).select(p.lit(1.0), p).log();
        (p * (log - self.log_softmax(-1))).sum_axes(&[-1])
    }

    /// max(0, 1 + max_{j ≠ label} z_j − z_label) for each row (Crammer and Singer 2001).
    /// `(…, classes), (…) -> (…)`. Where several terms are largest they share the slope equally;
    /// a margin of exactly 1 is such a tie between the label and its rival.
    ///
    /// # Errors
    /// When run: a label that is no class.
    #[track_caller]
    pub fn multiclass_hinge_loss(self, labels: IndexExpr<'t, T>) -> Expr<'t, T> {
        let check = Target { of: "multiclass_hinge_loss", labels: Labels::Class };
        let labels = self.tape().apply(check, &[labels.as_node_expr(), self]);
        let own = self.gather(-1, labels.expand_dims(&[-1]).as_index());
        // The label's own term is z_label − z_label = 0, the 0 of the outer maximum.
        let one = at_labels(self.lit(1.0).broadcast_like(own), labels, self);
        (self - own + self.lit(1.0) - one).max_axes(&[-1])
    }

    /// The target, checked against these predictions. One number stands for all of them.
    #[track_caller]
    fn target(self, of: &'static str, labels: Labels, target: impl Operand<'t, T>) -> Expr<'t, T> {
        let target = target.on(self.tape());
        let target = if target.rank() == 0 { target.broadcast_like(self) } else { target };
        self.tape().apply(Target { of, labels }, &[target, self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Philox, Session, Tape, Tensor};

    /// Only plans make the pair, but its rule holds.
    #[test]
    fn the_pair_has_the_derivatives_of_both() -> Result<()> {
        let tape = Tape::<f64>::new();
        let mut rng = Philox::new(1, 0);
        let mut numbers = |n| Tensor::from_fn([3, n], |_| rng.below(2001) as f64 / 1000.0 - 1.0);
        let (z, ct) = (tape.variable("z", numbers(4)?), tape.constant(numbers(5)?));
        let labels = tape.index_constant(Tensor::vector(vec![2, 0, 3])).as_node_expr();
        let pair = tape.apply(SoftmaxResidual { with_loss: true }, &[z, labels]);
        let loss = tape.apply(SoftmaxCrossEntropy, &[z, labels]).expand_dims(&[-1]);
        let both = tape.concat(&[residual(&[z, labels]), loss], -1);
        let of = |pair: Expr<'_, f64>| -> Result<_> {
            let slope = tape.gradient((pair * ct).sum(), &[z])?[0];
            let second = tape.gradient((slope * z).square().sum(), &[z])?[0];
            Session::new(&tape)?.interpret([pair, slope, second], &[])
        };
        for (got, want) in of(pair)?.iter().zip(&of(both)?) {
            let mut pairs = got.as_slice().iter().zip(want.as_slice());
            assert!(pairs.all(|(got, want)| (got - want).abs() < 1e-13), "{got:?} {want:?}");
        }
        Ok(())
    }
}
