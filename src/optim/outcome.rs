//! What every full-batch method returns, and what it shows while it runs.

use std::fmt;

/// How a run of a full-batch method ended. The variables are left at the best point found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a run may end without convergence"]
#[non_exhaustive]
pub struct Outcome {
    /// Why it ended.
    pub reason: Reason,
    /// Steps taken.
    pub iterations: u64,
    /// How often the loss and its gradient were computed; of a fit, its residuals.
    pub evaluations: u64,
    /// Products with the Hessian; of a fit, Jacobians.
    pub products: u64,
    /// The loss at the variables' values.
    pub loss: f64,
    /// ‖∇loss‖∞ there: the largest size of an element of the gradient, of the projected gradient
    /// if there are bounds.
    pub gradient_norm: f64,
}

impl Outcome {
    /// Whether the gradient is as small as was asked for.
    pub fn converged(&self) -> bool {
        self.reason == Reason::Converged
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { reason, iterations, evaluations, products, loss, gradient_norm } = self;
        write!(f, "{reason} after {iterations} iterations, {evaluations} evaluations")?;
        if *products > 0 {
            write!(f, ", {products} products")?;
        }
        write!(f, ": ")?;
        write!(f, "loss {loss:.9e}, gradient norm {gradient_norm:.1e}")
    }
}

/// Why a full-batch method ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The gradient's norm is at most the tolerance; of a fit, the residuals are orthogonal to the
    /// Jacobian's columns as far as asked for, or vanish but for rounding.
    Converged,
    /// Rounding hides any progress there may still be: no step makes the loss or the gradient
    /// smaller. Often as good as converged; `gradient_norm` tells.
    NoProgress,
    /// As many steps as are allowed.
    MaxIterations,
    /// As many evaluations as are allowed.
    MaxEvaluations,
    /// The loss or its gradient is infinite or NaN at the start, or at every point that was tried
    /// from the last one, however close.
    NotFinite,
    /// The loss is −∞ at a point that was tried: it has no least value. The variables are at the
    /// last point with a finite loss.
    Unbounded,
    /// The observer said so.
    Stopped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Converged => "converged",
            Reason::NoProgress => "no more progress",
            Reason::MaxIterations => "iteration limit reached",
            Reason::MaxEvaluations => "evaluation limit reached",
            Reason::NotFinite => "not finite",
            Reason::Unbounded => "unbounded below",
            Reason::Stopped => "stopped by the observer",
        })
    }
}

/// Where a run stands after an iteration: what its observer sees.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Steps taken so far; 0 for the start.
    pub iteration: u64,
    /// Evaluations so far.
    pub evaluations: u64,
    /// Products with the Hessian, or Jacobians, so far.
    pub products: u64,
    /// The loss now.
    pub loss: f64,
    /// ‖∇loss‖∞ now.
    pub gradient_norm: f64,
    /// ‖·‖∞ of the last change of the variables; 0 at the start.
    pub step: f64,
}
