//! Newton-CG (truncated Newton) with a line search: directions by conjugate gradients on products
//! with the Hessian.

use super::descent::{Directions, Limits, Lines, Vectors, descend, descends, pieces, searches};
use super::full_batch::{Method, Objective, Observer};
use super::outcome::{Outcome, Progress};
use super::search::{Point, Wolfe};
use super::truncated::{Ended, Work, forcing, truncated_cg};
use crate::error::Result;
use crate::kernel::arena::Arena;
use crate::kernel::vector::max_norm;
use crate::scalar::Scalar;

/// Newton-CG with a strong-Wolfe line search: few iterations, each with several products with the
/// Hessian, which is never made. From w₀, with g = ∇f(w) and H = ∇²f(w):
///
/// ```text
/// w ← w + αd                                            (α by the line search, 1 first)
/// d: conjugate gradients on H d = −g, until ‖g + Hd‖ ≤ min(½, √(‖g‖ / ‖g₀‖)) ‖g‖
/// ```
///
/// Where the curvature dᵀHd of a direction of the inner iteration is not positive, it ends with
/// what there is, and with −g if it was the first; so every direction descends. The number of
/// inner iterations is at most twice that of variables. It ends with a
/// [`Reason`](super::Reason), as L-BFGS; `Outcome::products` counts the products.
///
/// State: 9 numbers a variable. A product costs about two gradients
/// ([`Tape::hessian_vector_product`](crate::Tape::hessian_vector_product)).
///
/// Sources: Dembo and Steihaug, *Truncated-Newton algorithms for large-scale unconstrained
/// optimization* (1983); Nocedal and Wright, *Numerical Optimization* (2006), algorithm 7.1, whose
/// tolerance is min(½, √‖g‖), which depends on the units of the loss.
///
/// # Errors
/// As `minimize` of other methods; also a loss that is linear in its variables.
///
/// ```
/// use gradtape::optim::NewtonCg;
/// use gradtape::{Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", Tensor::vector(vec![-1.2, 1.0]));
/// let (a, b) = (w.slice((0..1,)), w.slice((1..2,)));
/// let loss = ((b - a.square()).square() * 100.0 + (1.0 - a).square()).sum();
/// let fit = NewtonCg::new().minimize(loss)?;
/// let mut session = Session::new(&tape)?;
/// let outcome = fit.run(&mut session, &[])?;
/// assert!(outcome.converged() && outcome.iterations < 100 && outcome.products > 0);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewtonCg {
    limits: Limits,
    wolfe: Wolfe,
}

impl NewtonCg {
    /// The defaults that each method here names.
    pub fn new() -> Self {
        NewtonCg { limits: Limits::DEFAULT, wolfe: Wolfe { c1: 1e-4, c2: 0.9 } }
    }
}

descends!(NewtonCg, limits);
searches!(NewtonCg, wolfe, "0.9");

impl Method for NewtonCg {
    fn name(&self) -> &str {
        "newton_cg"
    }

    fn check<T: Scalar>(&self) -> Result<()> {
        self.limits.check::<T>()?;
        self.wolfe.check()
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
        let newton = Newton { memory, first_norm: 0.0, useless: false };
        let max_evaluations = self.limits.max_evaluations;
        let mut lines = Lines { directions: newton, wolfe: self.wolfe, max_evaluations };
        descend(&self.limits, &mut lines, f, x, observe)
    }
}

struct Newton<T: Scalar> {
    memory: Arena<T>,
    first_norm: f64,
    /// That the search found nothing along the last direction: the next is −g.
    useless: bool,
}

impl<T: Scalar> Directions<T> for Newton<T> {
    fn direction(
        &mut self,
        f: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        now: &mut Progress,
    ) -> Result<Option<f64>> {
        if std::mem::take(&mut self.useless) {
            return Ok(None);
        }
        if now.iteration == 0 {
            self.first_norm = now.gradient_norm;
        }
        let n = v.w.len();
        let [p, residual, d, hd] = pieces(self.memory.as_mut_slice(), n);
        let mut work = Work { p, residual, d, hd };
        let tolerance = forcing(now.gradient_norm, self.first_norm);
        let w = &*v.w;
        let mut product = |d: &[T], hd: &mut [T]| {
            now.products += 1;
            f.product(w, d, hd)
        };
        let most = n.saturating_mul(2);
        let ended = truncated_cg(&mut product, v.g, f64::INFINITY, tolerance, most, &mut work)?;
        v.d.copy_from_slice(work.p);
        // p is 0, which does not descend, where the first product was of no use.
        Ok((ended != Ended::NotFinite).then_some(1.0))
    }

    fn forget(&mut self) {
        self.useless = true;
    }

    fn learn(&mut self, v: &mut Vectors<'_, T>, _: f64, found: &Point) -> f64 {
        self.useless = false;
        found.step * max_norm(v.d)
    }
}
