//! Methods that see the whole batch at each step: their handle, and how it drives a session. The
//! only file of optim/ that knows sessions.

use super::outcome::{Outcome, Progress};
use super::{in_order, trainable};
use crate::error::{Result, bail};
use crate::kernel::vector::multiply;
use crate::run::Session;
use crate::scalar::Scalar;
use crate::tape::{AsNode, Expr, Feed, Fetch, Var};
use crate::tensor::{Tensor, TensorView};
use std::fmt;
use std::ops::ControlFlow;

/// The loss and, into the second slice, its gradient at the point in the first. An error ends the
/// method; a value that is not finite does not.
pub type Objective<'a, T> = &'a mut dyn FnMut(&[T], &mut [T]) -> Result<f64>;

/// Sees each iteration, the start as number 0, and may end the run.
pub type Observer<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// A method that makes a function of many variables small by its values and gradients, over flat
/// slices; it knows neither tapes nor sessions. [`FullBatch`] runs it on a loss.
///
/// ```
/// use gradtape::optim::{Lbfgs, Method};
/// use std::ops::ControlFlow;
/// let mut x = [3.0, -1.0];
/// let mut f = |x: &[f64], g: &mut [f64]| {
///     g.copy_from_slice(&[2.0 * (x[0] - 1.0), 20.0 * x[1]]);
///     Ok((x[0] - 1.0).powi(2) + 10.0 * x[1].powi(2))
/// };
/// let outcome = Lbfgs::new().descend(&mut f, &mut x, &mut |_| ControlFlow::Continue(()))?;
/// assert!(outcome.converged() && (x[0] - 1.0).abs() < 1e-8 && x[1].abs() < 1e-8);
/// # Ok::<(), gradtape::Error>(())
/// ```
pub trait Method: fmt::Debug + Clone {
    /// The name in messages.
    fn name(&self) -> &str;

    /// That the hyperparameters are in range for numbers of type T.
    ///
    /// # Errors
    /// They are not.
    fn check<T: Scalar>(&self) -> Result<()>;

    /// Moves `x` from where it starts to the best point found, also when `f` fails.
    ///
    /// # Errors
    /// Hyperparameters out of range; no memory; what `f` reports.
    fn descend<T: Scalar>(
        &self,
        f: Objective<'_, T>,
        x: &mut [T],
        observe: Observer<'_>,
    ) -> Result<Outcome>;
}

/// A loss to be minimized over the whole batch by a [`Method`]: a handle that outlives the tape's
/// borrow. Make it before the session, because it records the gradient.
///
/// The loss has to be a function of the variables and the feeds alone: what draws new random
/// numbers at each run has no gradient that a line search could follow.
#[derive(Clone, Debug)]
pub struct FullBatch<M> {
    method: M,
    loss: Fetch,
    variables: Vec<Var>,
    gradients: Vec<Fetch>,
    start_scales: bool,
}

impl<M: Method> FullBatch<M> {
    /// Over every variable that the loss depends on.
    #[track_caller]
    pub(super) fn record<T: Scalar>(method: M, loss: Expr<'_, T>) -> Result<Self> {
        Self::of(method, loss, &trainable(loss)?, super::NAME_THEM)
    }

    /// Over these.
    #[track_caller]
    pub(super) fn record_over<T: Scalar, N: AsNode>(
        method: M,
        loss: Expr<'_, T>,
        variables: &[N],
    ) -> Result<Self> {
        Self::of(method, loss, variables, super::LEAVE_IT_OUT)
    }

    fn of<T: Scalar, N: AsNode>(
        method: M,
        loss: Expr<'_, T>,
        variables: &[N],
        advice: &str,
    ) -> Result<Self> {
        method.check::<T>().map_err(|e| e.within(method.name()))?;
        if variables.is_empty() {
            bail!(Argument, "{}: expected variables, got none", method.name());
        }
        let gradients = loss.tape().gradient_or(loss, variables, advice)?;
        let pairs: Vec<_> = variables.iter().copied().zip(gradients).collect();
        let pairs = in_order(loss.tape(), &pairs).map_err(|e| e.within(method.name()))?;
        let (variables, gradients) =
            pairs.chunks_exact(2).map(|p| (p[0].var(), Fetch::from(p[1]))).unzip();
        Ok(FullBatch { method, loss: loss.into(), variables, gradients, start_scales: false })
    }

    /// With each element of a variable measured in units of where it starts: as if it had been
    /// written 2ᵏθ, with θ in place of w in the method, 2ᵏ ≤ |w₀| < 2ᵏ⁺¹, and 2ᵏ = 1 if w₀ = 0.
    /// Gradient norms are then those of θ, that is of 2ᵏ ∂f/∂w.
    ///
    /// For parameters of different sizes, of which the start knows the order: those of a curve fit,
    /// where 500 may stand beside 0.0001. Not for random weights, whose smallest would hardly move.
    pub fn with_start_scales(self) -> Self {
        FullBatch { start_scales: true, ..self }
    }

    /// Minimizes from the variables' present values, which end at the best point found. Compiled at
    /// the first run of these fetches and shapes, replayed at each evaluation.
    ///
    /// # Errors
    /// As [`Session::run`]; the variables keep their best values so far. How the run ended
    /// otherwise, with success or without, is in the outcome.
    pub fn run<T: Scalar>(
        &self,
        session: &mut Session<T>,
        feeds: &[Feed<'_, T>],
    ) -> Result<Outcome> {
        self.run_with(session, feeds, |_| ControlFlow::Continue(()))
    }

    /// As [`FullBatch::run`], with an observer that sees each iteration and may end the run.
    ///
    /// # Errors
    /// As [`FullBatch::run`].
    pub fn run_with<T: Scalar>(
        &self,
        session: &mut Session<T>,
        feeds: &[Feed<'_, T>],
        mut observe: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Outcome> {
        let mut x = self.gather(session).map_err(|e| e.within(self.method.name()))?;
        let scales: Option<Vec<T>> = match self.start_scales {
            true => Some(x.iter_mut().map(split_off_scale).collect()),
            false => None,
        };
        let mut w = x.clone();
        let mut fetched: (Tensor<T>, Vec<Tensor<T>>) = Default::default();
        let mut f = |x: &[T], gradient: &mut [T]| {
            self.assign(session, x, &mut w, scales.as_deref())?;
            session.run_into((self.loss, self.gradients.as_slice()), feeds, &mut fetched)?;
            let mut rest = &mut *gradient;
            for g in &fetched.1 {
                let here;
                (here, rest) = rest.split_at_mut(g.len());
                here.copy_from_slice(g.as_slice());
            }
            if let Some(scales) = &scales {
                multiply(gradient, scales);
            }
            Ok(fetched.0.item()?.to_f64())
        };
        let outcome = self.method.descend(&mut f, &mut x, &mut observe);
        self.assign(session, &x, &mut w, scales.as_deref())?;
        outcome
    }

    /// The variables it moves, in the order recorded.
    pub fn variables(&self) -> &[Var] {
        &self.variables
    }

    /// The variables' values, one after the other.
    fn gather<T: Scalar>(&self, session: &Session<T>) -> Result<Vec<T>> {
        let mut x = Vec::new();
        for &variable in &self.variables {
            x.extend_from_slice(session.view(variable)?.as_slice());
        }
        Ok(x)
    }

    /// Gives each variable its part of x, by way of `w` if there are scales to multiply by.
    fn assign<T: Scalar>(
        &self,
        session: &mut Session<T>,
        x: &[T],
        w: &mut [T],
        scales: Option<&[T]>,
    ) -> Result<()> {
        w.copy_from_slice(x);
        if let Some(scales) = scales {
            multiply(w, scales);
        }
        let mut rest = &*w;
        for &variable in &self.variables {
            let shape = session.view(variable)?.shape();
            let here;
            (here, rest) = rest.split_at(shape.len());
            session.assign(variable, TensorView::of(shape, here))?;
        }
        Ok(())
    }
}

/// Leaves in `x` its sign and significand, and gives the power of two that it was that many times;
/// leaves 0 as it is, and 1 for it.
fn split_off_scale<T: Scalar>(x: &mut T) -> T {
    /// So that neither scales nor numbers of usual size times them leave the range of f32.
    const MAX_EXPONENT: i32 = 60;
    let (_, exponent) = libm::frexp(x.to_f64());
    let exponent = (exponent - 1).clamp(-MAX_EXPONENT, MAX_EXPONENT);
    if *x == T::zero() || !x.is_finite() {
        return T::one();
    }
    *x = T::lit(libm::ldexp(x.to_f64(), -exponent));
    T::lit(libm::ldexp(1.0, exponent))
}
