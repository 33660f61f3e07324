//! One of two values, of which the other is not computed.

use super::scalar::list;
use super::view::copy;
use super::{Arg, Cotangents, Derivative, Jvp, Op, Out, Primitive, RowRule, Vjp};
use crate::error::{Result, bail};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::{AsNode, Expr, Operand, Tape};

/// `(predicate, then, otherwise)`: the second input where the scalar predicate is not 0, else the
/// third, both of one shape. What only the other one needs is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cond;

impl Cond {
    /// Whether a predicate of this value holds.
    pub(crate) fn holds<T: Scalar>(predicate: T) -> bool {
        predicate != T::zero()
    }
}

impl<T: Scalar> Op<T> {
    /// Whether the first input has to hold, or not to, for input `i` to be needed; `None` if that
    /// is needed anyway.
    pub(crate) fn taken_if(&self, i: usize) -> Option<bool> {
        match (self, i) {
            (Op::Cond(_), 1) => Some(true),
            (Op::Cond(_), 2) => Some(false),
            _ => None,
        }
    }
}

impl<T: Scalar> Primitive<T> for Cond {
    fn name(&self) -> &str {
        "cond"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let mut out = x[1];
        if x[0] != Shape::SCALAR {
            bail!(Shape, "{}: expected a scalar predicate, got {}", list(x), x[0]);
        }
        if !out.accepts_or_any(&x[2]) {
            bail!(Shape, "{}: expected branches of one shape, got {} and {}", list(x), x[1], x[2]);
        }
        for (extent, &other) in out.extents_mut().iter_mut().zip(x[2].extents()) {
            // Whichever is known.
            *extent = (*extent).min(other);
        }
        Ok(out)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        copy(&x[if Cond::holds(x[0].float()[0]) { 1 } else { 2 }], y);
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn derivative(&self, i: usize) -> Derivative {
        if i == 0 { Derivative::Zero } else { Derivative::Smooth }
    }

    /// The sweep sees to it that a branch's cotangent counts only where the branch is taken.
    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        Ok(vec![None, Some(at.ct), Some(at.ct)])
    }

    fn jvp<'t>(&self, at: Jvp<'_, 't, T>) -> Result<Option<Expr<'t, T>>> {
        let Jvp { x, y, dx } = at;
        let of = |i: usize| dx[i].unwrap_or_else(|| x[i].lit(0.0).broadcast_like(x[i]));
        Ok(Some(y.tape().apply(Cond, &[x[0], of(1), of(2)])))
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match split {
            [false, true, true] => RowRule::Split,
            _ => RowRule::Mixes,
        }
    }
}

impl<T: Scalar> Tape<T> {
    /// The value of `then` if the scalar `predicate` is not 0, else that of `otherwise`, both of
    /// one shape; NaN is not 0. Only the branch that is taken runs, forwards and backwards: what is
    /// recorded within the other costs nothing, and an error it would end with (an index out of
    /// range, a singular matrix) does not happen. What a branch captures from outside is computed
    /// in any case if something else needs it. Elementwise, where both sides are computed, there is
    /// [`Expr::select`].
    ///
    /// A value recorded within a branch can be used in that branch only, but be fetched, and be a
    /// target of derivatives, which are zero where it is not taken. Branches of conditionals with
    /// the same predicate are one branch. Conditionals nest. The placeholders of both branches
    /// have to be fed, as for any run. Cost: a copy of the value; the loops of a branch are its
    /// own.
    ///
    /// ```
    /// use gradtape::{Session, Tape};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.variable("x", -3.0);
    /// let y = tape.cond(x.greater(0.0), || x.sqrt(), || x.square());
    /// let dy = tape.gradient(y, &[x])?[0];
    /// assert_eq!(Session::new(&tape)?.run((y, dy), &[])?, (9.0.into(), (-6.0).into()));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// A mistake if the predicate is not a scalar, if the shapes of the branches differ, if a
    /// branch writes to variables, or if one of its values is used elsewhere.
    #[track_caller]
    pub fn cond<'t>(
        &'t self,
        predicate: impl Operand<'t, T>,
        then: impl FnOnce() -> Expr<'t, T>,
        otherwise: impl FnOnce() -> Expr<'t, T>,
    ) -> Expr<'t, T> {
        let predicate = predicate.on(self);
        let then = self.branch(predicate, true, then);
        let otherwise = self.branch(predicate, false, otherwise);
        self.apply(Cond, &[predicate, then, otherwise])
    }

    /// Records a branch that is taken where the predicate holds, or where it does not.
    fn branch<'t>(
        &'t self,
        predicate: Expr<'t, T>,
        holds: bool,
        f: impl FnOnce() -> Expr<'t, T>,
    ) -> Expr<'t, T> {
        // A predicate that is a mistake, or of another tape, is refused with the op.
        match self.resolve(predicate.node()) {
            Ok(id) => self.under(self.guarded(self.here(), id, holds), f),
            Err(_) => f(),
        }
    }
}
