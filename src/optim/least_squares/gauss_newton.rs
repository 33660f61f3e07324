//! Gauss-Newton with a line search.

use super::problem::{Options, Problem, fit, fits};
use super::{Fit, Fitter, Residuals};
use crate::error::Result;
use crate::optim::full_batch::Observer;
use crate::optim::outcome::Reason;
use std::ops::ControlFlow;

/// The part of the slope's promise that the decrease of a step has to keep.
const SUFFICIENT: f64 = 1e-4;

/// Gauss-Newton: least squares of residuals r(x) whose Jacobian J is known, by the solutions of
/// the linearized problem:
///
/// ```text
/// x ← x + αp,   p = argmin ‖Jp + r‖,   α = 1, or shortened until
/// ½‖r(x + αp)‖² ≤ ½‖r(x)‖² + 10⁻⁴ α pᵀJᵀr
/// ```
///
/// Cheaper an iteration than [`LevenbergMarquardt`](super::LevenbergMarquardt), and as fast where
/// the start is good; from a bad one it may end without progress where that goes on. Where J is
/// singular but for rounding, the parameters that the others determine stay where they are. It
/// converges, counts, weights residuals and ends as that does.
///
/// State: 2mn + n² numbers in f64, for m residuals and n parameters. An iteration costs one
/// Jacobian, 2mn² operations (half with [`Solver::Normal`](super::Solver::Normal)) and usually one
/// evaluation.
///
/// Sources: Björck, *Numerical Methods for Least Squares Problems* (1996), section 9.2; Nocedal and
/// Wright, *Numerical Optimization* (2006), section 10.3.
///
/// ```
/// use gradtape::optim::GaussNewton;
/// use gradtape::{Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let (a, b) = (tape.variable("a", 1.0), tape.variable("b", 1.0));
/// let x = tape.constant(Tensor::vector(vec![0.0, 1.0, 2.0, 3.0]));
/// let y = tape.constant(Tensor::vector(vec![2.0, 1.2, 0.75, 0.44]));
/// let fit = GaussNewton::new().least_squares(a * (-b * x).exp() - y)?;
/// let mut session = Session::new(&tape)?;
/// let fit = fit.run(&mut session, &[])?;
/// assert!(fit.outcome.converged() && fit.outcome.iterations < 20);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GaussNewton {
    options: Options,
}

impl GaussNewton {
    /// The defaults that each method here names.
    pub fn new() -> Self {
        GaussNewton { options: Options::DEFAULT }
    }
}

fits!(GaussNewton, options);

impl Fitter for GaussNewton {
    fn name(&self) -> &str {
        "gauss_newton"
    }

    fn check(&self) -> Result<()> {
        self.options.check()
    }

    fn fit(&self, f: &mut dyn Residuals, x: &mut [f64], observe: Observer<'_>) -> Result<Fit> {
        fit(self.name(), self.options, None, f, x, observe, &mut advance)
    }
}

/// To the next point along the Gauss-Newton step.
fn advance(p: &mut Problem<'_>) -> Result<ControlFlow<Reason>> {
    let mut q = p.newton.clone();
    let (mut tried, mut any_finite) = (false, false);
    loop {
        let step = match p.attempt(&q)? {
            Ok(step) => step,
            Err(Reason::NoProgress) if tried && !any_finite => {
                return Ok(ControlFlow::Break(Reason::NotFinite));
            }
            Err(reason) => return Ok(ControlFlow::Break(reason)),
        };
        tried = true;
        any_finite |= step.finite;
        // In parts of the loss, whose slope this is half of.
        let enough = step.finite && step.actual >= -2.0 * SUFFICIENT * step.slope;
        let descends = step.slope < 0.0 && enough;
        if descends || step.rounding {
            p.accept(!descends);
            return Ok(ControlFlow::Continue(()));
        }
        let factor = step.shortening();
        q.iter_mut().for_each(|q| *q *= factor);
    }
}
