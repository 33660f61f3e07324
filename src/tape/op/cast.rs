//! From indices to numbers: conversion, and whether two indices are equal.

use super::{Arg, Derivative, Out, Primitive, RowRule, ScalarOp};
use crate::error::{Result, bail};
use crate::scalar::{DType, Scalar};
use crate::shape::Shape;
use crate::tape::{Expr, IndexExpr};

/// Elementwise ops that take indices and give numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cast {
    /// The index as a number.
    ToFloat,
    /// 1 where two indices of the same shape are equal, else 0.
    IndexEqual,
}

impl<T: Scalar> Primitive<T> for Cast {
    fn name(&self) -> &str {
        match self {
            Cast::ToFloat => "to_float",
            Cast::IndexEqual => "index_equal",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match (self, x) {
            (Cast::IndexEqual, [a, b]) if !a.accepts(b) && !b.accepts(a) => {
                bail!(Shape, "{a}, {b}: expected equal shapes")
            }
            _ => Ok(x[0]),
        }
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        match x.iter().position(|&d| d != DType::Index) {
            None => Ok(DType::Float),
            Some(i) => bail!(Shape, "expected indices, got floats as input {i}"),
        }
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        let y = y.float();
        match (self, x) {
            (Cast::IndexEqual, [a, b]) => {
                for ((y, a), b) in y.iter_mut().zip(a.index()).zip(b.index()) {
                    *y = T::lit(if a == b { 1.0 } else { 0.0 });
                }
            }
            _ => y.iter_mut().zip(x[0].index()).for_each(|(y, &i)| *y = T::lit(f64::from(i))),
        }
        Ok(())
    }

    fn derivative(&self, _: usize) -> Derivative {
        Derivative::Zero
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        Primitive::<T>::rows(&ScalarOp::Add, x, split)
    }
}

impl<'t, T: Scalar> IndexExpr<'t, T> {
    /// The indices as numbers; in f32 exact up to 2²⁴.
    #[track_caller]
    pub fn to_float(self) -> Expr<'t, T> {
        let node = self.as_node_expr();
        node.tape().apply(Cast::ToFloat, &[node])
    }

    /// 1 where both are the same index, else 0: the mean of it is the accuracy of a classifier.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let scores = tape.constant(Tensor::from_rows([2, 3], &[0.1, 0.9, 0.2, 0.8, 0.1, 0.3])?);
    /// let labels = tape.index_constant(Tensor::vector(vec![1, 2]));
    /// let accuracy = scores.argmax(1).equal(labels).mean();
    /// assert_eq!(Session::new(&tape)?.run(accuracy, &[])?.item()?, 0.5);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn equal(self, other: IndexExpr<'t, T>) -> Expr<'t, T> {
        let (a, b) = (self.as_node_expr(), other.as_node_expr());
        a.tape().apply(Cast::IndexEqual, &[a, b])
    }
}
