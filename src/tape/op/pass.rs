//! Ops that pass their first input on and change only the derivative.

use super::view::copy;
use super::{Arg, ById, Cotangents, Derivative, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::Shape;
use crate::tape::Expr;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The value of the first input under another derivative.
#[derive(Clone, Debug, PartialEq)]
pub enum Pass<T: Scalar> {
    /// A constant as far as derivatives are concerned.
    StopGradient,
    /// `(y, x₁, …)`: the value y; cotangents go to the x by the user's rule instead.
    WithVjp(ById<VjpRule<T>>),
}

type VjpFn<T> =
    dyn for<'t> Fn(&[Expr<'t, T>], Expr<'t, T>, Expr<'t, T>) -> Vec<Expr<'t, T>> + Send + Sync;

/// A user's rule `(x, y, ct) → cotangents of the x`, written in ops.
pub struct VjpRule<T: Scalar>(pub(crate) Box<VjpFn<T>>);

impl<T: Scalar> fmt::Debug for VjpRule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VjpRule")
    }
}

impl<T: Scalar> Hash for Pass<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Pass::StopGradient => {}
            Pass::WithVjp(rule) => rule.hash(state),
        }
    }
}

impl<T: Scalar> Primitive<T> for Pass<T> {
    fn name(&self) -> &str {
        match self {
            Pass::StopGradient => "stop_gradient",
            Pass::WithVjp(_) => "custom_gradient",
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

    fn reads(&self, i: usize) -> bool {
        i == 0
    }

    fn derivative(&self, i: usize) -> Derivative {
        match self {
            Pass::WithVjp(_) if i > 0 => Derivative::Smooth,
            _ => Derivative::Zero,
        }
    }

    fn is_view(&self) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, .. } = at;
        let Pass::WithVjp(rule) = self else { return Ok(vec![None]) };
        let cts = (rule.0.0)(&x[1..], y, ct);
        if cts.len() != x.len() - 1 {
            bail!(Gradient, "expected {} cotangents from its rule, got {}", x.len() - 1, cts.len());
        }
        Ok(std::iter::once(None).chain(cts.into_iter().map(Some)).collect())
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split[0] { RowRule::Split } else { RowRule::Mixes }
    }
}
