//! Ops without inputs: placeholders, variables, constants, literals.

use super::{Arg, ById, Derivative, Out, Primitive, RowRule};
use crate::error::{Result, bail};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::hash::{Hash, Hasher};

/// A node that computes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf<T: Scalar> {
    /// Fed at each run.
    Placeholder {
        /// The declared shape; extents may be [`ANY`](crate::ANY).
        shape: Shape,
        /// What is fed.
        dtype: DType,
        /// Keeps two of the same shape apart.
        serial: u32,
    },
    /// Owned by sessions; survives runs.
    Variable(ById<VariableInit<T>>),
    /// A tensor that never changes.
    Constant(ById<Tensor<T>>),
    /// Indices that never change.
    IndexConstant(ById<Tensor<Index>>),
    /// One number, as the bits of an `f64`.
    Literal(u64),
    /// Two indices: the first row of the batch that a shard has, and how many the batch has; 0
    /// and 0 where it is not cut.
    Place,
}

/// What a session starts a variable with.
#[derive(Debug)]
pub struct VariableInit<T: Scalar> {
    /// Extents, all known.
    pub shape: Shape,
    /// The initial value; without one the variable must be assigned before it is read.
    pub value: Option<Tensor<T>>,
}

impl<T: Scalar> Leaf<T> {
    /// The literal for a number.
    pub fn literal(x: f64) -> Self {
        Leaf::Literal(x.to_bits())
    }
}

impl<T: Scalar> Hash for Leaf<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Leaf::Placeholder { serial, .. } => serial.hash(state),
            Leaf::Variable(init) => init.hash(state),
            Leaf::Constant(value) => value.hash(state),
            Leaf::IndexConstant(value) => value.hash(state),
            Leaf::Literal(bits) => bits.hash(state),
            Leaf::Place => {}
        }
    }
}

impl<T: Scalar> Primitive<T> for Leaf<T> {
    fn name(&self) -> &str {
        match self {
            Leaf::Placeholder { .. } => "placeholder",
            Leaf::Variable(_) => "variable",
            Leaf::Constant(_) | Leaf::IndexConstant(_) => "constant",
            Leaf::Literal(_) => "literal",
            Leaf::Place => "place",
        }
    }

    fn shape(&self, _: &[Shape]) -> Result<Shape> {
        Ok(match self {
            Leaf::Placeholder { shape, .. } => *shape,
            Leaf::Variable(init) => init.0.shape,
            Leaf::Constant(value) => value.0.shape(),
            Leaf::IndexConstant(value) => value.0.shape(),
            Leaf::Literal(_) => Shape::SCALAR,
            Leaf::Place => Shape::from(2),
        })
    }

    fn dtype(&self, _: &[DType]) -> Result<DType> {
        Ok(match self {
            Leaf::Placeholder { dtype, .. } => *dtype,
            Leaf::IndexConstant(_) | Leaf::Place => DType::Index,
            _ => DType::Float,
        })
    }

    fn forward(&self, _: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        match self {
            Leaf::Constant(value) => y.float().copy_from_slice(value.0.as_slice()),
            Leaf::IndexConstant(value) => y.index().copy_from_slice(value.0.as_slice()),
            Leaf::Literal(bits) => y.float().fill(T::lit(f64::from_bits(*bits))),
            Leaf::Place => y.index().fill(0),
            Leaf::Placeholder { .. } => bail!(NotFed, "was not fed"),
            Leaf::Variable(_) => bail!(Uninitialized, "has no value"),
        }
        Ok(())
    }

    fn derivative(&self, _: usize) -> Derivative {
        Derivative::Zero
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
}
