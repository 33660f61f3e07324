//! A closure minimized by a full-batch method.

use super::Point;
use crate::optim::{FullBatch, Method, Outcome};
use crate::{Expr, Result, Session, Tape};

/// Where a minimization ended.
#[derive(Clone, Debug)]
#[must_use = "a run may end without convergence"]
pub struct Minimum<P> {
    /// The best point found.
    pub w: P,
    /// The loss there, and why the method ended.
    pub outcome: Outcome,
}

impl<P> Minimum<P> {
    /// Whether the gradient is as small as was asked for.
    pub fn converged(&self) -> bool {
        self.outcome.converged()
    }
}

/// Makes `loss`, a single number, small from w₀ by a full-batch method: [`Lbfgs`],
/// [`ConjugateGradient`], [`NewtonCg`], [`TrustRegion`], [`LbfgsB`] or one of your own.
///
/// Traced and compiled once, replayed at each evaluation.
///
/// ```
/// use gradtape::{minimize, optim::Lbfgs};
/// use nalgebra::DVector;
/// let rosenbrock = minimize(
///     |w| {
///         let (a, b) = (w.index_axis(0, 0), w.index_axis(0, 1));
///         (1.0 - a).square() + 100.0 * (b - a.square()).square()
///     },
///     DVector::from_vec(vec![-1.2, 1.0]),
///     Lbfgs::new(),
/// )?;
/// assert!(rosenbrock.converged());
/// assert!((rosenbrock.w - DVector::from_vec(vec![1.0, 1.0])).amax() < 1e-6);
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// [`Lbfgs`]: crate::optim::Lbfgs
/// [`ConjugateGradient`]: crate::optim::ConjugateGradient
/// [`NewtonCg`]: crate::optim::NewtonCg
/// [`TrustRegion`]: crate::optim::TrustRegion
/// [`LbfgsB`]: crate::optim::LbfgsB
///
/// # Errors
/// The first mistake in the formula, with its line; a loss that is not one number, that does not
/// depend on w, or only through ops without a derivative; hyperparameters out of range; what ops
/// report. How the method ended otherwise is in the outcome: also that a loss is not finite.
pub fn minimize<P, F, M>(loss: F, w0: P, method: M) -> Result<Minimum<P>>
where
    P: Point,
    F: for<'t> FnOnce(Expr<'t, f64>) -> Expr<'t, f64>,
    M: Method,
{
    let tape = Tape::new();
    let w = tape.variable("w", w0.view().to_tensor());
    let method = FullBatch::record_over(method, loss(w), &[w])?;
    let mut session = Session::new(&tape)?;
    let outcome = method.run(&mut session, &[])?;
    Ok(Minimum { w: P::from_tensor(session.value(w)?)?, outcome })
}
