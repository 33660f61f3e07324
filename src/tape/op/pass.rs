//! Ops that pass their first input on and change only the derivative, or when it is computed.

use super::view::copy;
use super::{Arg, ById, Cotangents, Derivative, Jvp, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::Shape;
use crate::tape::{Expr, NodeId};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The value of the first input under another derivative.
#[derive(Clone, Debug, PartialEq)]
pub enum Pass<T: Scalar> {
    /// A constant as far as derivatives are concerned.
    StopGradient,
    /// `(y, x₁, …)`: the value y; cotangents go to the x by the user's rule instead.
    WithVjp(ById<VjpRule<T>>),
    /// `(y, x₁, …)`: the value y, a function of the x; cotangents go to the x by a rule that
    /// computes y again, so that nothing of the first computation is kept for it.
    Checkpoint(ById<VjpRule<T>>),
    /// `(x, after)`: the value x, but not before `after` is computed, and not the same as x: what
    /// is made of it is made again.
    Again,
}

type VjpFn<T> = dyn for<'t> Fn(Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> + Send + Sync;

/// A rule for the cotangents of the x, written in ops.
pub struct VjpRule<T: Scalar> {
    rule: Box<VjpFn<T>>,
    /// The nodes that the rule records again: cotangents of theirs would not be whole.
    pub(crate) hides: Vec<NodeId>,
}

impl<T: Scalar> VjpRule<T> {
    pub(crate) fn new(
        hides: Vec<NodeId>,
        rule: impl for<'t> Fn(Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> + Send + Sync + 'static,
    ) -> ById<Self> {
        ById(Arc::new(VjpRule { rule: Box::new(rule), hides }))
    }
}

impl<T: Scalar> fmt::Debug for VjpRule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VjpRule")
    }
}

impl<T: Scalar> Hash for Pass<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Pass::StopGradient | Pass::Again => {}
            Pass::WithVjp(rule) | Pass::Checkpoint(rule) => rule.hash(state),
        }
    }
}

impl<T: Scalar> Primitive<T> for Pass<T> {
    fn name(&self) -> &str {
        match self {
            Pass::StopGradient => "stop_gradient",
            Pass::WithVjp(_) => "custom_gradient",
            Pass::Checkpoint(_) => "checkpoint",
            Pass::Again => "again",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        Ok(x[0])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        copy(&x[0], y);
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn reads(&self, i: usize) -> bool {
        i == 0 || *self == Pass::Again
    }

    fn derivative(&self, i: usize) -> Derivative {
        match (self, i) {
            (Pass::WithVjp(_), 1..) | (Pass::Checkpoint(_), _) | (Pass::Again, 0) => {
                Derivative::Smooth
            }
            _ => Derivative::Zero,
        }
    }

    fn is_view(&self) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let rule = match self {
            Pass::StopGradient => return Ok(vec![None]),
            Pass::Again => return Ok(vec![Some(at.ct), None]),
            Pass::WithVjp(rule) | Pass::Checkpoint(rule) => rule,
        };
        let (x, want) = (&at.x[1..], &at.want[1..]);
        let cts = (rule.0.rule)(Vjp { x, want, ..at })?;
        if cts.len() != x.len() {
            bail!(Gradient, "expected {} cotangents from its rule, got {}", x.len(), cts.len());
        }
        Ok(std::iter::once(None).chain(cts).collect())
    }

    /// The tangent of the value passes as it does, where the value's derivative is not another.
    fn jvp<'t>(&self, at: Jvp<'_, 't, T>) -> Result<Option<Expr<'t, T>>> {
        Ok(at.dx[0])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split[0] { RowRule::Split } else { RowRule::Mixes }
    }
}
