//! L-BFGS (Nocedal 1980, Liu and Nocedal 1989): quasi-Newton steps from the last few changes of
//! variables and gradient.

use super::full_batch::{FullBatch, Method, Objective, Observer};
use super::not_negative;
use super::outcome::{Outcome, Progress, Reason};
use super::search::{Found, Point, Trial, Wolfe};
use crate::error::{Result, bail};
use crate::kernel::arena::Arena;
use crate::kernel::update::all_finite;
use crate::kernel::vector::{add_scaled, difference, dot, max_norm, moved, scale, scaled};
use crate::scalar::Scalar;
use crate::tape::{AsNode, Expr};
use std::ops::ControlFlow;

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
/// It ends with a [`Reason`]: never without, never in a loop without end.
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
    gradient_tolerance: Option<f64>,
    max_iterations: u64,
    max_evaluations: u64,
    wolfe: Wolfe,
}

/// Losses that differ by this many units in the last place may be equal: they are long sums.
const ROUNDING: f64 = 100.0;
/// After this many iterations without a smaller loss or, at an equal loss, a smaller gradient,
/// there is no progress: gradients do not fall at each step.
const PATIENCE: u32 = 50;

impl Default for Lbfgs {
    fn default() -> Self {
        Lbfgs::new()
    }
}

impl Lbfgs {
    /// The defaults that each method here names.
    pub fn new() -> Self {
        Lbfgs {
            history: 10,
            gradient_tolerance: None,
            max_iterations: 15_000,
            max_evaluations: 15_000,
            wolfe: Wolfe { c1: 1e-4, c2: 0.9 },
        }
    }

    /// With m ≥ 1 pairs of changes kept; the default is 10.
    pub fn with_history(self, history: usize) -> Self {
        Lbfgs { history, ..self }
    }

    /// Converged when ‖∇loss‖∞ is at most this, which is ≥ 0; the default is √ε of the tape's type,
    /// 1.5·10⁻⁸ in f64 and 3.5·10⁻⁴ in f32. With 0 it goes on until nothing gets smaller.
    pub fn with_gradient_tolerance(self, tolerance: f64) -> Self {
        Lbfgs { gradient_tolerance: Some(tolerance), ..self }
    }

    /// With at most this many iterations; the default is 15,000, as SciPy's.
    pub fn with_max_iterations(self, max_iterations: u64) -> Self {
        Lbfgs { max_iterations, ..self }
    }

    /// With at most this many evaluations of loss and gradient, of which the start needs one; the
    /// default is 15,000, as SciPy's.
    pub fn with_max_evaluations(self, max_evaluations: u64) -> Self {
        Lbfgs { max_evaluations, ..self }
    }

    /// With these constants of the strong Wolfe conditions, 0 < c₁ < ½ and c₁ < c₂ < 1; the
    /// defaults are 10⁻⁴ and 0.9 (Nocedal and Wright, *Numerical Optimization*, section 3.1).
    pub fn with_wolfe(self, c1: f64, c2: f64) -> Self {
        Lbfgs { wolfe: Wolfe { c1, c2 }, ..self }
    }

    /// A handle that minimizes `loss` over every variable that it depends on. Variables behind
    /// [`stop_gradient`](Expr::stop_gradient) are not moved.
    ///
    /// # Errors
    /// As [`optim::minimize`](crate::optim::minimize).
    #[track_caller]
    pub fn minimize<T: Scalar>(&self, loss: Expr<'_, T>) -> Result<FullBatch<Self>> {
        FullBatch::record(self.clone(), loss)
    }

    /// As [`Lbfgs::minimize`], over these variables only.
    ///
    /// # Errors
    /// As [`optim::minimize_over`](crate::optim::minimize_over); also no variable.
    #[track_caller]
    pub fn minimize_over<T: Scalar>(
        &self,
        loss: Expr<'_, T>,
        variables: &[impl AsNode],
    ) -> Result<FullBatch<Self>> {
        FullBatch::record_over(self.clone(), loss, variables)
    }
}

impl Method for Lbfgs {
    fn name(&self) -> &str {
        "lbfgs"
    }

    fn check<T: Scalar>(&self) -> Result<()> {
        if self.history == 0 {
            bail!(Argument, "expected a history ≥ 1, got 0");
        }
        if self.max_evaluations == 0 {
            bail!(Argument, "expected max_evaluations ≥ 1, got 0");
        }
        not_negative("gradient tolerance", self.tolerance::<T>())?;
        self.wolfe.check()
    }

    fn descend<T: Scalar>(
        &self,
        f: Objective<'_, T>,
        x: &mut [T],
        observe: Observer<'_>,
    ) -> Result<Outcome> {
        self.check::<T>().map_err(|e| e.within(self.name()))?;
        let n_pairs = self.history.min(usize::try_from(self.max_iterations).unwrap_or(usize::MAX));
        let n = x.len();
        let mut history = History::new(n_pairs.max(1), n).map_err(|e| e.within(self.name()))?;
        let mut memory = Arena::new(n.saturating_mul(5)).map_err(|e| e.within(self.name()))?;
        let mut v = Vectors::of(memory.as_mut_slice(), n);

        let loss = f(x, v.g)?;
        let mut now = Progress {
            iteration: 0,
            evaluations: 1,
            loss,
            gradient_norm: max_norm(v.g),
            step: 0.0,
        };
        let mut best = now;
        let ended = |reason, now: &Progress, best: &Progress| Outcome {
            reason,
            iterations: now.iteration,
            evaluations: now.evaluations,
            loss: best.loss,
            gradient_norm: best.gradient_norm,
        };
        if !(loss.is_finite() && all_finite(v.g)) {
            return Ok(ended(Reason::NotFinite, &now, &best));
        }
        // From here x is the best point, and w the present one.
        v.w.copy_from_slice(x);
        let mut idle = 0;
        loop {
            let stop = observe(&now).is_break();
            if now.gradient_norm <= self.tolerance::<T>() {
                x.copy_from_slice(v.w);
                return Ok(ended(Reason::Converged, &now, &now));
            }
            let limit = match () {
                () if stop => Some(Reason::Stopped),
                () if now.iteration >= self.max_iterations => Some(Reason::MaxIterations),
                () if idle >= PATIENCE => Some(Reason::NoProgress),
                () => None,
            };
            if let Some(reason) = limit {
                return Ok(ended(reason, &now, &best));
            }
            match self.step(f, &mut v, &mut history, &mut now)? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(reason) => return Ok(ended(reason, &now, &best)),
            }
            let rounding = rounding::<T>(best.loss);
            let equal = now.loss <= best.loss + rounding;
            if now.loss < best.loss - rounding || equal && now.gradient_norm < best.gradient_norm {
                x.copy_from_slice(v.w);
                best = now;
                idle = 0;
            } else {
                idle += 1;
            }
        }
    }
}

impl Lbfgs {
    /// One iteration: from the present point to the next, or why there is none.
    fn step<T: Scalar>(
        &self,
        f: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        history: &mut History<T>,
        now: &mut Progress,
    ) -> Result<ControlFlow<Reason>> {
        let point = loop {
            let newton = history.direction(v.g, v.d);
            let mut slope = dot(v.g, v.d);
            let steepest = !(newton && slope < 0.0 && slope.is_finite());
            if steepest {
                // Of length 1, so that squares neither overflow nor vanish.
                history.clear();
                scaled(v.d, -1.0 / now.gradient_norm, v.g);
                slope = dot(v.g, v.d);
            }
            let first = match (steepest, now.iteration) {
                (false, _) => 1.0,
                (true, 0) => (now.loss.abs() / -slope).clamp(T::EPSILON, 1.0),
                (true, _) => now.step,
            };
            let start = Point { step: 0.0, loss: now.loss, slope };
            let found = self.wolfe.search(start, first, rounding::<T>(now.loss), &mut |step| {
                if !moved(v.trial_w, v.w, step, v.d) {
                    return Ok(Trial::Still);
                }
                if now.evaluations >= self.max_evaluations {
                    return Ok(Trial::Exhausted);
                }
                now.evaluations += 1;
                let loss = f(v.trial_w, v.trial_g)?;
                let slope = if all_finite(v.trial_g) { dot(v.trial_g, v.d) } else { f64::NAN };
                Ok(Trial::At(Point { step, loss, slope }))
            })?;
            let reason = match found {
                Found::Step(point) => break point,
                Found::Nothing | Found::NotFinite if !steepest => {
                    history.clear();
                    continue;
                }
                Found::Nothing => Reason::NoProgress,
                Found::NotFinite => Reason::NotFinite,
                Found::Unbounded => Reason::Unbounded,
                Found::Exhausted => Reason::MaxEvaluations,
            };
            return Ok(ControlFlow::Break(reason));
        };
        now.step = history.push((v.trial_w, v.w), (v.trial_g, v.g));
        std::mem::swap(&mut v.w, &mut v.trial_w);
        std::mem::swap(&mut v.g, &mut v.trial_g);
        now.iteration += 1;
        now.loss = point.loss;
        now.gradient_norm = max_norm(v.g);
        Ok(ControlFlow::Continue(()))
    }

    fn tolerance<T: Scalar>(&self) -> f64 {
        self.gradient_tolerance.unwrap_or(T::EPSILON.sqrt())
    }
}

/// The difference of losses of this size that may be rounding.
fn rounding<T: Scalar>(loss: f64) -> f64 {
    ROUNDING * T::EPSILON * loss.abs()
}

/// The present point with its gradient, the direction, and the point that is tried with its own.
struct Vectors<'a, T> {
    w: &'a mut [T],
    g: &'a mut [T],
    d: &'a mut [T],
    trial_w: &'a mut [T],
    trial_g: &'a mut [T],
}

impl<'a, T> Vectors<'a, T> {
    fn of(memory: &'a mut [T], n: usize) -> Self {
        let mut rest = memory;
        let [w, g, d, trial_w, trial_g] = std::array::from_fn(|_| {
            let piece;
            (piece, rest) = std::mem::take(&mut rest).split_at_mut(n);
            piece
        });
        Vectors { w, g, d, trial_w, trial_g }
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
}

impl<T: Scalar> History<T> {
    fn new(n_pairs: usize, n: usize) -> Result<Self> {
        let changes = Arena::new(n_pairs.saturating_mul(2).saturating_mul(n))?;
        let (rho, a) = (vec![0.0; n_pairs], vec![0.0; n_pairs]);
        Ok(History { changes, n, rho, a, gamma: 1.0, len: 0, next: 0 })
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    /// d ← −Hg; whether there is any pair to know H by.
    fn direction(&mut self, g: &[T], d: &mut [T]) -> bool {
        let (m, n, changes) = (self.rho.len(), self.n, self.changes.as_slice());
        let pair = |i: usize| changes[2 * i * n..2 * (i + 1) * n].split_at(n);
        let newest_first = (1..=self.len).map(|back| (self.next + m - back) % m);
        scaled(d, -1.0, g);
        for i in newest_first.clone() {
            let (s, y) = pair(i);
            self.a[i] = self.rho[i] * dot(s, d);
            add_scaled(d, -self.a[i], y);
        }
        scale(d, self.gamma);
        for i in newest_first.rev() {
            let (s, y) = pair(i);
            add_scaled(d, self.a[i] - self.rho[i] * dot(y, d), s);
        }
        self.len > 0
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
            self.next = (i + 1) % self.rho.len();
            self.len = (self.len + 1).min(self.rho.len());
        }
        max_norm(s)
    }
}
