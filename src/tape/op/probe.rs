//! What stands for a cotangent that only derivatives are taken by.

use super::{Arg, Derivative, Out, Primitive, RowRule};
use crate::error::Result;
use crate::scalar::Scalar;
use crate::shape::Shape;

/// A cotangent of the shape of its input. A vector-Jacobian product is linear in the cotangent, so
/// its derivative by this, the transpose, does not depend on the value, which is 0. Of its own
/// kind, so that no rule records an equal node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Probe;

impl<T: Scalar> Primitive<T> for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }

    fn forward(&self, _: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        y.float().fill(T::zero());
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn reads(&self, _: usize) -> bool {
        false
    }

    fn derivative(&self, _: usize) -> Derivative {
        Derivative::Zero
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
}
