//! Levenberg-Marquardt in the form of Moré (1978): Gauss-Newton steps in a trust region.

use super::problem::{Options, Problem, fit, fits};
use super::{Fit, Fitter, LeastSquares, Residuals};
use crate::error::Result;
use crate::kernel::vector::dot;
use crate::optim::bounds::Bounds;
use crate::optim::full_batch::Observer;
use crate::optim::outcome::Reason;
use crate::optim::positive;
use crate::tape::AsNode;
use crate::tensor::Tensor;
use std::ops::ControlFlow;

/// The least ratio of the actual to the predicted decrease of a step that is taken.
const TAKEN: f64 = 1e-4;
/// Below and above these ratios the region shrinks and grows.
const POOR: f64 = 0.25;
const GOOD: f64 = 0.75;

/// Levenberg-Marquardt: least squares of residuals r(x) whose Jacobian J is known, in as few
/// evaluations as curve fits need. The method to try first for regressions.
///
/// ```text
/// p = argmin ‖Jp + r‖  with  ‖Dp‖ ≤ Δ,   that is  (JᵀJ + λD²) p = −Jᵀr
/// D = diag(the longest that each column of J has been),   so units of parameters do not matter
/// ρ = (½‖r(x)‖² − ½‖r(x + p)‖²) / (½‖r‖² − ½‖Jp + r‖²)
/// x ← x + p if ρ > 10⁻⁴;   Δ shrinks if ρ < ¼, and is 2‖Dp‖ if ρ > ¾ or λ = 0
/// ```
///
/// The problem is solved by QR with column pivoting, λ by Newton's method on 1/‖Dp‖ with Givens
/// rotations, so J may be ill-conditioned, singular, or have fewer rows than columns. As MINPACK's
/// `lmder`, but for three things. The first region is Δ = ‖Dx‖, not 100 times that, which is the
/// difference between all of NIST's nonlinear regressions from both starts and all but one. It ends
/// where the residuals are orthogonal to the columns of J as far as asked for (`with_tolerance`),
/// a test that no units and no condition number blur. And where the decrease of the loss is lost
/// in rounding, steps are taken as long as that orthogonality gets better, so that parameters are
/// good to about 10 digits instead of 7.
///
/// With bounds, a parameter at one that the gradient pushes against is held, and steps are
/// projected into the box. With a robust loss ([`RobustLoss`](super::RobustLoss)) J and r are
/// weighted.
///
/// Converged also when the residuals vanish but for rounding. It ends with a [`Reason`] in any
/// case; [`Fit`] has it, and the covariance of the parameters.
///
/// State: 2mn + 2n² numbers in f64, whatever the tape's type, for m residuals and n parameters. An
/// iteration costs one Jacobian, 2mn² operations, and one or two evaluations with n³ each.
///
/// Sources: Moré, *The Levenberg-Marquardt algorithm: implementation and theory* (1978); Bates and
/// Watts, *A relative offset orthogonality convergence criterion for nonlinear least squares*
/// (1981).
///
/// ```
/// use gradtape::optim::LevenbergMarquardt;
/// use gradtape::{ANY, Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let (x, y) = (tape.placeholder("x", [ANY]), tape.placeholder("y", [ANY]));
/// let (a, b) = (tape.variable("a", 500.0), tape.variable("b", 0.0001));
/// let residuals = a * (1.0 - (-b * x).exp()) - y; // NIST's Misra1a
/// let fit = LevenbergMarquardt::new().least_squares(residuals)?; // before the session
/// let mut session = Session::new(&tape)?;
///
/// let xs = [77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1,
///     689.1, 760.0];
/// let ys = [10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40,
///     75.47, 81.78];
/// let (xs, ys) = (Tensor::vector(xs.to_vec()), Tensor::vector(ys.to_vec()));
/// let fit = fit.run(&mut session, &[x.feed(&xs), y.feed(&ys)])?;
/// assert!(fit.outcome.converged());
/// assert!((session.value(a)?.item()? / 2.3894212918e2 - 1.0).abs() < 1e-9);
/// assert!((fit.standard_errors()?[0] / 2.7070075241 - 1.0).abs() < 1e-9);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LevenbergMarquardt {
    options: Options,
    radius: f64,
    bounds: Option<Bounds>,
}

impl LevenbergMarquardt {
    /// The defaults that each method here names; no bounds.
    pub fn new() -> Self {
        LevenbergMarquardt { options: Options::DEFAULT, radius: 1.0, bounds: None }
    }

    /// With Δ this many times ‖Dx‖ at the start; the default is 1.
    pub fn with_radius(self, radius: f64) -> Self {
        LevenbergMarquardt { radius, ..self }
    }

    /// With these bounds on the flat slice that [`Fitter::fit`] moves. For variables of a tape see
    /// [`LeastSquares::with_bounds`].
    pub fn with_bounds(self, bounds: Bounds) -> Self {
        LevenbergMarquardt { bounds: Some(bounds), ..self }
    }
}

fits!(LevenbergMarquardt, options);

impl LeastSquares<LevenbergMarquardt> {
    /// With bounds on one variable: numbers for all its elements, or tensors of its shape;
    /// infinite ones bound nothing.
    ///
    /// # Errors
    /// A variable that is not moved; another shape; a lower bound above its upper one; NaN.
    pub fn with_bounds(
        mut self,
        variable: impl AsNode,
        lower: impl Into<Tensor<f64>>,
        upper: impl Into<Tensor<f64>>,
    ) -> Result<Self> {
        let (lower, upper) = (lower.into(), upper.into());
        let bounds = self.method.bounds.take();
        let bounds = Bounds::with(bounds, &self.variables, variable, &lower, &upper);
        self.method.bounds = Some(bounds.map_err(|e| e.within(self.method.name()))?);
        Ok(self)
    }
}

impl Fitter for LevenbergMarquardt {
    fn name(&self) -> &str {
        "levenberg_marquardt"
    }

    fn check(&self) -> Result<()> {
        self.options.check()?;
        positive::<f64>("radius", self.radius)
    }

    fn fit(&self, f: &mut dyn Residuals, x: &mut [f64], observe: Observer<'_>) -> Result<Fit> {
        self.check().map_err(|e| e.within(self.name()))?;
        let mut region = Region { radius: self.radius, lambda: 0.0 };
        let bounds = self.bounds.as_ref();
        fit(self.name(), self.options, bounds, f, x, observe, &mut |p| region.advance(p))
    }
}

/// ‖Dp‖ ≤ radius, and the multiplier of the last step.
struct Region {
    radius: f64,
    lambda: f64,
}

impl Region {
    /// To the next point, in ever smaller regions until there is one.
    fn advance(&mut self, p: &mut Problem<'_>) -> Result<ControlFlow<Reason>> {
        let mut q = vec![0.0; p.x.len()];
        let (mut tried, mut any_finite) = (false, false);
        if p.now.iteration == 0 {
            let size = p.size();
            self.radius *= if size > 0.0 { size } else { 1.0 };
        }
        loop {
            self.lambda = p.factor.damped(self.radius, self.lambda, &mut q);
            let length = dot(&q, &q).sqrt();
            if p.now.iteration == 0 {
                self.radius = self.radius.min(length);
            }
            let step = match p.attempt(&q)? {
                Ok(step) => step,
                Err(Reason::NoProgress) if tried && !any_finite => {
                    return Ok(ControlFlow::Break(Reason::NotFinite));
                }
                Err(reason) => return Ok(ControlFlow::Break(reason)),
            };
            tried = true;
            any_finite |= step.finite;
            let ratio = step.ratio();
            if ratio <= POOR {
                let factor = step.shortening();
                self.radius = factor * self.radius.min(10.0 * length);
                self.lambda /= factor;
            } else if self.lambda == 0.0 || ratio >= GOOD {
                self.radius = 2.0 * length;
                self.lambda *= 0.5;
            }
            if ratio >= TAKEN || step.rounding {
                p.accept(ratio < TAKEN);
                return Ok(ControlFlow::Continue(()));
            }
        }
    }
}
