//! Ops that write variables: assignments and optimizer updates. In a run every read of a variable
//! sees the value from before the run; writes come last.

use super::{Arg, ById, Derivative, Out, Primitive, RowRule};
use crate::error::{Result, bail};
use crate::scalar::Scalar;
use crate::shape::Shape;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A node that writes variables when a run is done with reading them.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect<T: Scalar> {
    /// `(variable, value)`: the variable becomes the value; so does the node.
    Assign,
    /// `(w₁, g₁, w₂, g₂, …)`: one optimizer step on the variables w with the gradients g. The
    /// node's value is the number of the step, counted from 1.
    Update(ById<dyn Rule<T>>),
}

/// An optimizer: plain state beside the parameters, one pass over both.
///
/// The session keeps the state: [`Rule::slots`] numbers for each parameter, zero at the start, in
/// the parameters' own flat layout.
pub trait Rule<T: Scalar>: fmt::Debug + Send + Sync {
    /// The name in listings: "sgd", "adam".
    fn name(&self) -> &str;

    /// How many state numbers each parameter has (two for Adam).
    fn slots(&self) -> usize;

    /// What holds for the whole step `t` (counted from 1): rate and scale of the gradients. Sees
    /// all gradients, flat, so that a global norm can be clipped.
    fn begin(&self, t: u64, gradients: &[T]) -> Step;

    /// Moves `w` by one step. All slices have the same length; a long vector may come in parts.
    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]);
}

/// What holds for all parameters in one optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The number of the step, from 1.
    pub t: u64,
    /// The learning rate of this step.
    pub rate: f64,
    /// A factor on every gradient, from clipping by global norm; 1 without.
    pub scale: f64,
}

impl<T: Scalar> Hash for Effect<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Effect::Assign => {}
            Effect::Update(rule) => rule.hash(state),
        }
    }
}

impl<T: Scalar> Primitive<T> for Effect<T> {
    fn name(&self) -> &str {
        match self {
            Effect::Assign => "assign",
            Effect::Update(rule) => rule.0.name(),
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        for pair in x.chunks(2) {
            if !pair[1].accepts(&pair[0]) {
                bail!(Shape, "variable {} and value {} differ", pair[0], pair[1]);
            }
        }
        Ok(match self {
            Effect::Assign => x[0],
            Effect::Update(_) => Shape::SCALAR,
        })
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        // The session does the writing; here is only the value that a fetch of the node sees.
        if let Effect::Assign = self {
            y.float().copy_from_slice(x[1].float());
        }
        Ok(())
    }

    /// The values; of the variables only which they are and their shape.
    fn reads(&self, i: usize) -> bool {
        i % 2 == 1
    }

    fn derivative(&self, _: usize) -> Derivative {
        Derivative::Zero
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Mixes
    }
}
