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

/// The most state numbers a parameter of an optimizer may have.
pub(crate) const MAX_SLOTS: usize = 4;

/// An optimizer: plain state beside the parameters, one pass over both.
///
/// The session keeps the state: [`Rule::slots`] numbers for each parameter, zero at the start, in
/// the parameters' own flat layout. Give one of your own to
/// [`optim::minimize`](crate::optim::minimize).
///
/// ```
/// use gradtape::optim::{self, Rule, Step};
/// use gradtape::{Result, Scalar, Session, Tape};
///
/// /// w ← w − 0.1 · sign(g)
/// #[derive(Debug)]
/// struct SignDescent;
///
/// impl<T: Scalar> Rule<T> for SignDescent {
///     fn name(&self) -> &str {
///         "sign_descent"
///     }
///     fn slots(&self) -> usize {
///         0
///     }
///     fn begin(&self, t: u64, _gradients: &[T]) -> Result<Step> {
///         Ok(Step::new(t, 0.1))
///     }
///     fn update(&self, step: &Step, w: &mut [T], g: &[T], _state: &mut [&mut [T]]) {
///         w.iter_mut().zip(g).for_each(|(w, g)| *w -= g.signum() * T::lit(step.rate));
///     }
/// }
///
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = optim::minimize(SignDescent, w.square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert_eq!(session.value(w)?, 0.9.into());
/// # Ok::<(), gradtape::Error>(())
/// ```
pub trait Rule<T: Scalar>: fmt::Debug + Send + Sync {
    /// The name in listings: "sgd", "adam".
    fn name(&self) -> &str;

    /// How many state numbers each parameter has (two for Adam), at most 4.
    fn slots(&self) -> usize;

    /// Looks at the hyperparameters, when the update is recorded.
    ///
    /// # Errors
    /// One that no step could be made with.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What holds for the whole step `t` (counted from 1). Sees all gradients, flat and finite, so
    /// that a global norm can be clipped.
    ///
    /// # Errors
    /// No step can be made; then nothing changes.
    fn begin(&self, t: u64, gradients: &[T]) -> Result<Step>;

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
    /// The largest size of each gradient, from clipping by value; +∞ without.
    pub limit: f64,
}

impl Step {
    /// Step number `t`, from 1, at this learning rate, without clipping.
    pub fn new(t: u64, rate: f64) -> Self {
        Step { t, rate, scale: 1.0, limit: f64::INFINITY }
    }
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
