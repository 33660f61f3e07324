//! Nonlinear conjugate gradients by the direction of Hager and Zhang (2005).

use super::descent::{Directions, Limits, Lines, Vectors, descend, descends, searches};
use super::full_batch::{Method, Objective, Observer};
use super::outcome::{Outcome, Progress};
use super::search::{Point, Wolfe};
use crate::error::Result;
use crate::kernel::vector::{add_scaled, difference, dot, max_norm, scale};
use crate::scalar::Scalar;

/// Nonlinear conjugate gradients with a strong-Wolfe line search: as L-BFGS, for losses over the
/// whole batch, with less memory and usually more evaluations. With g = ∇f(w):
///
/// ```text
/// w ← w + αd                                              (α by the line search)
/// d ← −g + max(β, η) d,   y = g_new − g_old
/// β = (y − 2d ‖y‖² / dᵀy)ᵀ g_new / dᵀy,   η = −1 / (‖d‖ min(0.01, ‖g_old‖))
/// ```
///
/// dᵀg ≤ −⅞ ‖g‖² whatever the line search did (their theorem 1), so every direction descends. On a
/// parabola of n variables with exact line searches it ends after n steps. The step tried first
/// promises the decrease of the last one: α' dᵀg' / dᵀg. Where a direction leads nowhere the next
/// one is −g. It ends with a [`Reason`](super::Reason), as L-BFGS.
///
/// State: 5 numbers a variable for the time of a run. An iteration needs one or two evaluations and
/// about ten passes over vectors; none allocates.
///
/// Sources: Hager and Zhang, *A new conjugate gradient method with guaranteed descent and an
/// efficient line search* (2005), equations 1.3 to 1.6; the search is that of
/// [`Lbfgs`](super::Lbfgs), not theirs.
///
/// ```
/// use gradtape::optim::ConjugateGradient;
/// use gradtape::{Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", Tensor::vector(vec![-1.2, 1.0]));
/// let (a, b) = (w.slice((0..1,)), w.slice((1..2,)));
/// let loss = ((b - a.square()).square() * 100.0 + (1.0 - a).square()).sum();
/// let fit = ConjugateGradient::new().minimize(loss)?;
/// let mut session = Session::new(&tape)?;
/// assert!(fit.run(&mut session, &[])?.converged());
/// assert!(session.value(w)?.as_slice().iter().all(|w| (w - 1.0).abs() < 1e-6));
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConjugateGradient {
    limits: Limits,
    wolfe: Wolfe,
}

impl ConjugateGradient {
    /// The defaults that each method here names.
    pub fn new() -> Self {
        ConjugateGradient { limits: Limits::DEFAULT, wolfe: Wolfe { c1: 1e-4, c2: 0.1 } }
    }
}

descends!(ConjugateGradient, limits);
searches!(ConjugateGradient, wolfe, "0.1");

impl Method for ConjugateGradient {
    fn name(&self) -> &str {
        "conjugate_gradient"
    }

    fn check<T: Scalar>(&self) -> Result<()> {
        self.limits.check::<T>()?;
        self.wolfe.check()
    }

    fn descend<T: Scalar>(
        &self,
        f: Objective<'_, T>,
        x: &mut [T],
        observe: Observer<'_>,
    ) -> Result<Outcome> {
        self.check::<T>().map_err(|e| e.within(self.name()))?;
        let max_evaluations = self.limits.max_evaluations;
        let mut lines = Lines { directions: Last(None), wolfe: self.wolfe, max_evaluations };
        descend(&self.limits, &mut lines, f, x, observe)
    }
}

/// What is remembered of the last step, whose direction is still in `v.d`: α dᵀg_old.
struct Last(Option<f64>);

impl<T: Scalar> Directions<T> for Last {
    fn direction(
        &mut self,
        _: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        _: &mut Progress,
    ) -> Result<Option<f64>> {
        /// The size of gradients below which η grows no more (Hager and Zhang 2005).
        const ETA: f64 = 0.01;
        let Some(promised) = self.0 else { return Ok(None) };
        // The point before is of no more use.
        let y = &mut *v.trial_w;
        difference(y, v.g, v.trial_g);
        let (dy, yy, dd) = (dot(v.d, y), dot(y, y), dot(v.d, v.d));
        let beta = (dot(y, v.g) - 2.0 * dot(v.d, v.g) * (yy / dy)) / dy;
        let eta = -1.0 / (dd.sqrt() * ETA.min(dot(v.trial_g, v.trial_g).sqrt()));
        let beta = beta.max(eta);
        if !(dy > 0.0 && beta.is_finite()) {
            return Ok(None);
        }
        scale(v.d, beta);
        add_scaled(v.d, -1.0, v.g);
        let first = promised / dot(v.g, v.d);
        Ok((first > 0.0 && first.is_finite()).then_some(first))
    }

    fn forget(&mut self) {
        self.0 = None;
    }

    fn learn(&mut self, v: &mut Vectors<'_, T>, slope: f64, found: &Point) -> f64 {
        self.0 = Some(found.step * slope);
        found.step * max_norm(v.d)
    }
}
