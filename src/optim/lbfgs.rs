//! L-BFGS (Nocedal 1980, Liu and Nocedal 1989): quasi-Newton steps from the last few changes of
//! variables and gradient.

use super::descent::{Directions, Limits, Lines, Vectors, descend, descends, searches};
use super::full_batch::{Method, Objective, Observer};
use super::outcome::{Outcome, Progress};
use super::search::{Point, Wolfe};
use crate::error::{Result, bail};
use crate::kernel::arena::Arena;
use crate::kernel::vector::{
    add_scaled_dot, difference, divide, dot, max_norm, multiply, product, rescale, scale, scaled,
};
use crate::scalar::Scalar;

/// L-BFGS with a strong-Wolfe line search, for losses over the whole batch that have no noise.
/// From w₀, with g = ∇f(w):
///
/// ```text
/// w ← w + αd,  d = −Hg                                  (α by the line search)
/// s = w_new − w_old,  y = g_new − g_old,  ρ = 1 / sᵀy   (the last m of each are kept)
/// H = (I − ρsyᵀ) H' (I − ρysᵀ) + ρssᵀ                   (H' the same of the m − 1 before it …)
/// H = γI,  γ = sᵀy / yᵀy of the newest pair             (… and this before the oldest)
/// ```
///
/// Hg is computed without any matrix, by the recursion of two loops:
///
/// ```text
/// q ← g;  from the newest pair to the oldest:  a ← ρ sᵀq,  q ← q − ay
/// r ← γq; from the oldest pair to the newest:  r ← r + (a − ρ yᵀr) s
/// ```
///
/// α satisfies the strong Wolfe conditions, by the first of 1, growing and interpolated steps that
/// does:
///
/// ```text
/// f(w + αd) ≤ f(w) + c₁ α gᵀd,   |∇f(w + αd)ᵀd| ≤ c₂ |gᵀd|
/// ```
///
/// so that sᵀy > 0 and H is positive definite. Where both losses are equal but for rounding, the
/// first is read as ∇f(w + αd)ᵀd ≤ (2c₁ − 1) gᵀd (Hager and Zhang 2005): gradients are exact longer
/// than losses are, and gradient norms of 10⁻¹⁰ can be reached. Steps to points that are not
/// finite are made shorter.
///
/// It ends with a [`Reason`](super::Reason): never without, never in a loop without end.
///
/// State: 2m + 5 numbers a variable for the time of a run, and 3 of the handle's. Most iterations
/// need one evaluation and 4m + 10 passes over vectors; none allocates. Vectors are of the tape's
/// type, their products are summed in f64.
///
/// Sources: Nocedal, *Updating quasi-Newton matrices with limited storage* (1980); Liu and Nocedal,
/// *On the limited memory BFGS method for large scale optimization* (1989), whose scaling γ and
/// m between 3 and 20 these are; Moré and Thuente, *Line search algorithms with guaranteed
/// sufficient decrease* (1994), for the interval that the search keeps; Hager and Zhang, *A new conjugate
/// gradient method with guaranteed descent and an efficient line search* (2005). The first step is
/// along −g, of length min(1, |f| / ‖g‖∞) or longer by the search: where f ≥ 0 a longer one is not
/// to be expected. (Liu and Nocedal: 1 / ‖g‖₂.)
///
/// ```
/// use gradtape::optim::{Lbfgs, Reason};
/// use gradtape::{ANY, Session, Tape, Tensor};
/// use nalgebra::{DMatrix, DVector};
/// let tape = Tape::<f64>::new();
/// let (x, y) = (tape.placeholder("x", [ANY, 2]), tape.placeholder("y", [ANY]));
/// let w = tape.variable("w", DVector::zeros(2));
/// let loss = x.matmul(w).squared_error(y).mean();
/// let fit = Lbfgs::new().minimize(loss)?; // before the session: it records the gradient
/// let mut session = Session::new(&tape)?;
///
/// let xs = DMatrix::from_fn(50, 2, |i, j| ((i * (j + 3)) % 7) as f64 - 3.0);
/// let ys = &xs * DVector::from_vec(vec![2.0, -1.0]);
/// let outcome = fit.run(&mut session, &[x.feed(&xs), y.feed(&ys)])?;
/// assert_eq!(outcome.reason, Reason::Converged);
/// assert!((session.value(w)?.as_slice()[0] - 2.0).abs() < 1e-8);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lbfgs {
    history: usize,
    diagonal: bool,
    limits: Limits,
    wolfe: Wolfe,
}

impl Lbfgs {
    /// The defaults that each method here names.
    pub fn new() -> Self {
        let wolfe = Wolfe { c1: 1e-4, c2: 0.9 };
        Lbfgs { history: 10, diagonal: false, limits: Limits::DEFAULT, wolfe }
    }

    /// With m ≥ 1 pairs of changes kept; the default is 10.
    pub fn with_history(self, history: usize) -> Self {
        Lbfgs { history, ..self }
    }

    /// With a diagonal matrix D in place of γI, which each pair of changes updates: the diagonal of
    /// what BFGS makes of (sᵀy / yᵀDy) D, from D = γI of the first pair. Where variables are many
    /// beside the pairs kept and of different curvature it takes fewer evaluations, a quarter fewer
    /// for softmax regression; where they are few it may take more. Costs 2 vectors of memory and
    /// about as much as another pair.
    ///
    /// ```text
    /// 1/D⁺ᵢ = yᵀDy / (sᵀy Dᵢ) + yᵢ² / sᵀy − yᵀDy (sᵢ/Dᵢ)² / (sᵀy sᵀD⁻¹s)
    /// ```
    ///
    /// Source: Gilbert and Lemaréchal, *Some numerical experiments with variable-storage
    /// quasi-Newton algorithms* (1989).
    pub fn with_diagonal(self) -> Self {
        Lbfgs { diagonal: true, ..self }
    }
}

descends!(Lbfgs, limits);
searches!(Lbfgs, wolfe, "0.9");

impl Method for Lbfgs {
    fn name(&self) -> &str {
        "lbfgs"
    }

    fn check<T: Scalar>(&self) -> Result<()> {
        if self.history == 0 {
            bail!(Argument, "expected a history ≥ 1, got 0");
        }
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
        let most = usize::try_from(self.limits.max_iterations).unwrap_or(usize::MAX);
        let directions = History::new(self.history.min(most).max(1), x.len(), self.diagonal)
            .map_err(|e| e.within(self.name()))?;
        let max_evaluations = self.limits.max_evaluations;
        let mut lines = Lines { directions, wolfe: self.wolfe, max_evaluations };
        descend(&self.limits, &mut lines, f, x, observe)
    }
}

impl<T: Scalar> Directions<T> for History<T> {
    fn direction(
        &mut self,
        _: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        _: &mut Progress,
    ) -> Result<Option<f64>> {
        Ok(self.newton(v.g, v.d).then_some(1.0))
    }

    fn forget(&mut self) {
        self.len = 0;
    }

    fn learn(&mut self, v: &mut Vectors<'_, T>, _: f64, _: &Point) -> f64 {
        self.push((v.trial_w, v.w), (v.trial_g, v.g))
    }
}

/// The last pairs of changes, in a ring.
struct History<T: Scalar> {
    /// Of the variables and of the gradient in turn, n numbers each.
    changes: Arena<T>,
    n: usize,
    /// 1 / sᵀy of each pair, and what the first loop keeps for the second.
    rho: Vec<f64>,
    a: Vec<f64>,
    /// sᵀy / yᵀy of the newest pair.
    gamma: f64,
    len: usize,
    /// Where the next pair goes.
    next: usize,
    /// D, if it is to be kept, and as much scratch.
    diagonal: Option<Arena<T>>,
}

impl<T: Scalar> History<T> {
    fn new(n_pairs: usize, n: usize, diagonal: bool) -> Result<Self> {
        let changes = Arena::new(n_pairs.saturating_mul(2).saturating_mul(n))?;
        let (rho, a) = (vec![0.0; n_pairs], vec![0.0; n_pairs]);
        let diagonal = diagonal.then(|| Arena::new(n.saturating_mul(2))).transpose()?;
        Ok(History { changes, n, rho, a, gamma: 1.0, len: 0, next: 0, diagonal })
    }

    /// d ← −Hg; whether there is any pair to know H by.
    fn newton(&mut self, g: &[T], d: &mut [T]) -> bool {
        let (m, n, changes) = (self.rho.len(), self.n, self.changes.as_slice());
        let pair = |i: usize| changes[2 * i * n..2 * (i + 1) * n].split_at(n);
        let at = |back: usize| (self.next + m - back) % m;
        scaled(d, -1.0, g);
        if self.len == 0 {
            return false;
        }
        // Each pass over d also makes the next one's dot product; the last one's is not needed.
        let mut sd = dot(pair(at(1)).0, d);
        for back in 1..=self.len {
            let (i, older) = (at(back), at(self.len.min(back + 1)));
            self.a[i] = self.rho[i] * sd;
            sd = add_scaled_dot(d, -self.a[i], pair(i).1, pair(older).0);
        }
        match &self.diagonal {
            Some(diagonal) => multiply(d, &diagonal.as_slice()[..n]),
            None => scale(d, self.gamma),
        }
        let mut yd = dot(pair(at(self.len)).1, d);
        for back in (1..=self.len).rev() {
            let (i, newer) = (at(back), at(1.max(back - 1)));
            let step = self.a[i] - self.rho[i] * yd;
            yd = add_scaled_dot(d, step, pair(i).0, pair(newer).1);
        }
        true
    }

    /// Keeps the change from the second to the first of each, of variables and gradient, if they
    /// have curvature along the step; gives the step's ‖·‖∞.
    fn push(&mut self, variables: (&[T], &[T]), gradients: (&[T], &[T])) -> f64 {
        let (i, n) = (self.next, self.n);
        let (s, y) = self.changes.as_mut_slice()[2 * i * n..2 * (i + 1) * n].split_at_mut(n);
        difference(s, variables.0, variables.1);
        difference(y, gradients.0, gradients.1);
        let (sy, ss, yy) = (dot(s, y), dot(s, s), dot(y, y));
        // Less is rounding; the search has seen to it that sᵀy > 0.
        if sy > T::EPSILON * ss.sqrt() * yy.sqrt() && yy.is_finite() {
            (self.rho[i], self.gamma) = (1.0 / sy, sy / yy);
            if let Some(diagonal) = &mut self.diagonal {
                let (diagonal, scratch) = diagonal.as_mut_slice().split_at_mut(n);
                if self.len == 0 {
                    diagonal.fill(T::lit(self.gamma));
                }
                update(diagonal, (s, y), sy, scratch);
            }
            self.next = (i + 1) % self.rho.len();
            self.len = (self.len + 1).min(self.rho.len());
        }
        max_norm(s)
    }
}

/// D ← the diagonal of what BFGS makes of it by these changes, of which sᵀy is given.
fn update<T: Scalar>(d: &mut [T], (s, y): (&[T], &[T]), sy: f64, scratch: &mut [T]) {
    product(scratch, d, y);
    let ydy = dot(scratch, y);
    divide(scratch, s, d);
    let sds = dot(scratch, s);
    rescale(d, y, scratch, [ydy / sy, 1.0 / sy, ydy / (sy * sds)]);
}
