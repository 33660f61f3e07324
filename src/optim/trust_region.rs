//! A trust-region Newton method: quadratic models by products with the Hessian, made small inside a
//! ball by truncated conjugate gradients (Steihaug 1983, Toint 1981).

use super::descent::{Limits, Stepper, Vectors, descend, descends, pieces, rounding, try_it};
use super::full_batch::{Method, Objective, Observer};
use super::outcome::{Outcome, Progress, Reason};
use super::positive;
use super::search::Trial;
use super::truncated::{Ended, Work, forcing, truncated_cg};
use crate::error::Result;
use crate::kernel::arena::Arena;
use crate::kernel::vector::{dot, max_norm, moved};
use crate::scalar::Scalar;
use std::ops::ControlFlow;

/// The least ρ of a step that is taken.
const TAKEN: f64 = 1e-4;
/// Below and above these ρ the ball shrinks and may grow.
const POOR: f64 = 0.25;
const GOOD: f64 = 0.75;

/// A Newton method that trusts its model of the loss inside a ball only, whose radius Δ grows and
/// shrinks with how well the model predicts. From w₀, with g = ∇f(w) and H = ∇²f(w):
///
/// ```text
/// m(p) = gᵀp + ½ pᵀHp,   made small over ‖p‖₂ ≤ Δ by truncated conjugate gradients
/// ρ = (f(w) − f(w + p)) / −m(p)
/// w ← w + p if ρ > 10⁻⁴;   Δ ← ¼‖p‖ if ρ < ¼,  2Δ if ρ > ¾ and ‖p‖ = Δ
/// ```
///
/// Directions of negative curvature are followed to the edge of the ball, so it leaves saddles that
/// a line search along −g is slow at. Both differences in ρ are enlarged by the rounding of f, so
/// that steps are taken where only gradients still tell (Conn, Gould and Toint 2000, section
/// 17.4.2). It ends with a [`Reason`], as L-BFGS.
///
/// State: 9 numbers a variable. An iteration needs one evaluation and at most twice as many
/// products as variables, usually few; a product costs about two gradients
/// ([`Tape::hessian_vector_product`](crate::Tape::hessian_vector_product)).
///
/// Sources: Steihaug, *The conjugate gradient method and trust regions in large scale optimization*
/// (1983); Nocedal and Wright, *Numerical Optimization* (2006), algorithms 4.1 and 7.2.
///
/// # Errors
/// As `minimize` of other methods; also a loss that is linear in its variables.
///
/// ```
/// use gradtape::optim::TrustRegion;
/// use gradtape::{Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", Tensor::vector(vec![1e-3, 1.0])); // beside a saddle
/// let (a, b) = (w.slice((0..1,)), w.slice((1..2,)));
/// let loss = (a.powi(4) - a.square() + b.square()).sum();
/// let fit = TrustRegion::new().minimize(loss)?;
/// let mut session = Session::new(&tape)?;
/// assert!(fit.run(&mut session, &[])?.converged());
/// assert!((session.value(w)?.as_slice()[0] - 0.5f64.sqrt()).abs() < 1e-8);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrustRegion {
    limits: Limits,
    radius: f64,
}

impl TrustRegion {
    /// The defaults that each method here names.
    pub fn new() -> Self {
        TrustRegion { limits: Limits::DEFAULT, radius: 1.0 }
    }

    /// With this radius Δ > 0 of the ball at the start; the default is 1.
    pub fn with_radius(self, radius: f64) -> Self {
        TrustRegion { radius, ..self }
    }
}

descends!(TrustRegion, limits);

impl Method for TrustRegion {
    fn name(&self) -> &str {
        "trust_region"
    }

    fn check<T: Scalar>(&self) -> Result<()> {
        self.limits.check::<T>()?;
        positive::<T>("radius", self.radius)
    }

    fn needs_products(&self) -> bool {
        true
    }

    fn descend<T: Scalar>(
        &self,
        f: Objective<'_, T>,
        x: &mut [T],
        observe: Observer<'_>,
    ) -> Result<Outcome> {
        self.check::<T>().map_err(|e| e.within(self.name()))?;
        let memory = Arena::new(x.len().saturating_mul(4)).map_err(|e| e.within(self.name()))?;
        let max_evaluations = self.limits.max_evaluations;
        let mut ball = Ball { memory, radius: self.radius, first_norm: 0.0, max_evaluations };
        descend(&self.limits, &mut ball, f, x, observe)
    }
}

struct Ball<T: Scalar> {
    memory: Arena<T>,
    radius: f64,
    first_norm: f64,
    max_evaluations: u64,
}

impl<T: Scalar> Stepper<T> for Ball<T> {
    fn step(
        &mut self,
        f: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        now: &mut Progress,
    ) -> Result<ControlFlow<Reason>> {
        if now.iteration == 0 {
            self.first_norm = now.gradient_norm;
        }
        let n = v.w.len();
        let [p, residual, d, hd] = pieces(self.memory.as_mut_slice(), n);
        let mut work = Work { p, residual, d, hd };
        let tolerance = forcing(now.gradient_norm, self.first_norm);
        let rounding = rounding::<T>(now.loss).max(f64::MIN_POSITIVE);
        let (mut tried, mut any_finite) = (false, false);
        loop {
            let w = &*v.w;
            let mut product = |d: &[T], hd: &mut [T]| {
                now.products += 1;
                f.product(w, d, hd)
            };
            let most = n.saturating_mul(2);
            let ended = truncated_cg(&mut product, v.g, self.radius, tolerance, most, &mut work)?;
            v.d.copy_from_slice(work.p);
            if ended == Ended::NotFinite {
                return Ok(ControlFlow::Break(Reason::NotFinite));
            }
            if !moved(v.trial_w, v.w, 1.0, v.d) {
                return Ok(ControlFlow::Break(match tried && !any_finite {
                    true => Reason::NotFinite,
                    false => Reason::NoProgress,
                }));
            }
            tried = true;
            let point = match try_it(f, v, now, self.max_evaluations, 1.0)? {
                Trial::At(point) => point,
                Trial::Still | Trial::Exhausted => {
                    return Ok(ControlFlow::Break(Reason::MaxEvaluations));
                }
            };
            if point.loss == f64::NEG_INFINITY {
                return Ok(ControlFlow::Break(Reason::Unbounded));
            }
            let finite = point.loss.is_finite() && point.slope.is_finite();
            any_finite |= finite;
            let promised = rounding - work.model(v.g);
            let ratio = match finite {
                true => (now.loss - point.loss + rounding) / promised,
                false => f64::NEG_INFINITY,
            };
            if ratio < POOR {
                self.radius = 0.25 * dot(v.d, v.d).sqrt();
            } else if ratio > GOOD && ended == Ended::Edge {
                self.radius = (2.0 * self.radius).min(f64::MAX.sqrt());
            }
            if ratio > TAKEN {
                now.step = max_norm(v.d);
                now.loss = point.loss;
                v.accept();
                return Ok(ControlFlow::Continue(()));
            }
        }
    }
}
