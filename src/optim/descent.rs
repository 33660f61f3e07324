//! What full-batch methods share: their limits, the loop that steps, watches and keeps the best
//! point, and the step along a line. Knows no single method.

use super::full_batch::{Objective, Observer};
use super::not_negative;
use super::outcome::{Outcome, Progress, Reason};
use super::search::{Found, Point, Trial, Wolfe};
use crate::error::{Result, bail};
use crate::kernel::arena::Arena;
use crate::kernel::update::all_finite;
use crate::kernel::vector::{dot, max_norm, moved, scaled};
use crate::scalar::Scalar;
use std::ops::ControlFlow;

/// Losses that differ by this many units in the last place may be equal: they are long sums.
const ROUNDING: f64 = 100.0;
/// After this many iterations without a smaller loss or, at an equal loss, a smaller gradient,
/// there is no progress: gradients do not fall at each step.
const PATIENCE: u32 = 50;

/// When a method ends at the latest, and when it has converged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) gradient_tolerance: Option<f64>,
    pub(super) max_iterations: u64,
    pub(super) max_evaluations: u64,
}

impl Limits {
    /// SciPy's numbers for L-BFGS.
    pub(super) const DEFAULT: Limits =
        Limits { gradient_tolerance: None, max_iterations: 15_000, max_evaluations: 15_000 };

    pub(super) fn check<T: Scalar>(&self) -> Result<()> {
        if self.max_evaluations == 0 {
            bail!(Argument, "expected max_evaluations ≥ 1, got 0");
        }
        not_negative("gradient tolerance", self.tolerance::<T>())
    }

    fn tolerance<T: Scalar>(&self) -> f64 {
        self.gradient_tolerance.unwrap_or(T::EPSILON.sqrt())
    }
}

/// The defaults, the builders of [`Limits`] and the calls that make a handle, given where the limits are.
macro_rules! descends {
    ($name:ident, $limits:ident) => {
        impl Default for $name {
            fn default() -> Self {
                $name::new()
            }
        }

        impl $name {
            /// Converged when ‖∇loss‖∞ is at most this, which is ≥ 0; the default is √ε of the
            /// tape's type, 1.5·10⁻⁸ in f64 and 3.5·10⁻⁴ in f32. With 0 it goes on until nothing
            /// gets smaller.
            pub fn with_gradient_tolerance(mut self, tolerance: f64) -> Self {
                self.$limits.gradient_tolerance = Some(tolerance);
                self
            }

            /// With at most this many iterations; the default is 15,000, as SciPy's.
            pub fn with_max_iterations(mut self, max_iterations: u64) -> Self {
                self.$limits.max_iterations = max_iterations;
                self
            }

            /// With at most this many evaluations of loss and gradient, of which the start needs
            /// one; the default is 15,000, as SciPy's.
            pub fn with_max_evaluations(mut self, max_evaluations: u64) -> Self {
                self.$limits.max_evaluations = max_evaluations;
                self
            }

            /// A handle that minimizes `loss` over every variable that it depends on. Variables
            /// behind [`stop_gradient`](crate::Expr::stop_gradient) are not moved.
            ///
            /// # Errors
            /// As [`optim::minimize`](crate::optim::minimize).
            #[track_caller]
            pub fn minimize<T: $crate::Scalar>(
                &self,
                loss: $crate::Expr<'_, T>,
            ) -> $crate::Result<$crate::optim::FullBatch<Self>> {
                $crate::optim::FullBatch::record(self.clone(), loss)
            }

            /// As `minimize`, over these variables only.
            ///
            /// # Errors
            /// As [`optim::minimize_over`](crate::optim::minimize_over); also no variable.
            #[track_caller]
            pub fn minimize_over<T: $crate::Scalar>(
                &self,
                loss: $crate::Expr<'_, T>,
                variables: &[impl $crate::AsNode],
            ) -> $crate::Result<$crate::optim::FullBatch<Self>> {
                $crate::optim::FullBatch::record_over(self.clone(), loss, variables)
            }
        }
    };
}
pub(super) use descends;

/// The builder of a line search's constants, given where they are and the default of c₂.
macro_rules! searches {
    ($name:ident, $wolfe:ident, $c2:literal) => {
        impl $name {
            /// With these constants of the strong Wolfe conditions, 0 < c₁ < ½ and c₁ < c₂ < 1; the
            #[doc = concat!("defaults are 10⁻⁴ and ", $c2)]
            /// (Nocedal and Wright, *Numerical Optimization*, section 3.1).
            pub fn with_wolfe(mut self, c1: f64, c2: f64) -> Self {
                self.$wolfe = $crate::optim::search::Wolfe { c1, c2 };
                self
            }
        }
    };
}
pub(super) use searches;

/// The present point with its gradient, the direction, and the point that is tried with its own.
pub(super) struct Vectors<'a, T> {
    pub(super) w: &'a mut [T],
    pub(super) g: &'a mut [T],
    pub(super) d: &'a mut [T],
    pub(super) trial_w: &'a mut [T],
    /// After a step, the gradient before it.
    pub(super) trial_g: &'a mut [T],
}

/// N pieces of `n` numbers.
pub(super) fn pieces<T, const N: usize>(memory: &mut [T], n: usize) -> [&mut [T]; N] {
    let mut rest = memory;
    std::array::from_fn(|_| {
        let piece;
        (piece, rest) = std::mem::take(&mut rest).split_at_mut(n);
        piece
    })
}

impl<T> Vectors<'_, T> {
    /// Makes the point tried last the present one.
    pub(super) fn accept(&mut self) {
        std::mem::swap(&mut self.w, &mut self.trial_w);
        std::mem::swap(&mut self.g, &mut self.trial_g);
    }
}

/// How a method gets from a point to the next.
pub(super) trait Stepper<T: Scalar> {
    /// One iteration: to a point and its gradient in `v`, its loss and ‖·‖∞ of the change in
    /// `now`; or why there is none.
    fn step(
        &mut self,
        f: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        now: &mut Progress,
    ) -> Result<ControlFlow<Reason>>;

    /// The size of the gradient that has to become small.
    fn gradient_norm(&self, _w: &[T], g: &[T]) -> f64 {
        max_norm(g)
    }
}

/// Steps until there is a reason to end; `x` is left at the best point.
pub(super) fn descend<T: Scalar>(
    limits: &Limits,
    stepper: &mut dyn Stepper<T>,
    f: Objective<'_, T>,
    x: &mut [T],
    observe: Observer<'_>,
) -> Result<Outcome> {
    let n = x.len();
    let mut memory = Arena::new(n.saturating_mul(5))?;
    let [w, g, d, trial_w, trial_g] = pieces(memory.as_mut_slice(), n);
    let mut v = Vectors { w, g, d, trial_w, trial_g };

    let loss = f.gradient(x, v.g)?;
    let gradient_norm = stepper.gradient_norm(x, v.g);
    let (iteration, evaluations, products, step) = (0, 1, 0, 0.0);
    let mut now = Progress { iteration, evaluations, products, loss, gradient_norm, step };
    let mut best = now;
    if !(loss.is_finite() && all_finite(v.g)) {
        return Ok(now.ended(Reason::NotFinite, &best));
    }
    // From here x is the best point, and w the present one.
    v.w.copy_from_slice(x);
    let mut idle = 0;
    loop {
        let stop = observe(&now).is_break();
        if now.gradient_norm <= limits.tolerance::<T>() {
            x.copy_from_slice(v.w);
            return Ok(now.ended(Reason::Converged, &now));
        }
        let limit = match () {
            () if stop => Some(Reason::Stopped),
            () if now.iteration >= limits.max_iterations => Some(Reason::MaxIterations),
            () if idle >= PATIENCE => Some(Reason::NoProgress),
            () => None,
        };
        if let Some(reason) = limit {
            return Ok(now.ended(reason, &best));
        }
        match stepper.step(f, &mut v, &mut now)? {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(reason) => return Ok(now.ended(reason, &best)),
        }
        now.iteration += 1;
        now.gradient_norm = stepper.gradient_norm(v.w, v.g);
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

impl Progress {
    /// How a run ends here, whose best point is that.
    pub(super) fn ended(&self, reason: Reason, best: &Progress) -> Outcome {
        Outcome {
            reason,
            iterations: self.iteration,
            evaluations: self.evaluations,
            products: self.products,
            loss: best.loss,
            gradient_norm: best.gradient_norm,
        }
    }
}

/// The difference of losses of this size that may be rounding.
pub(super) fn rounding<T: Scalar>(loss: f64) -> f64 {
    ROUNDING * T::EPSILON * loss.abs()
}

/// What a method with a line search adds to the search: where to.
pub(super) trait Directions<T: Scalar> {
    /// Puts a direction in `v.d` and gives the step to try first, or `None` if there is nothing to
    /// know one by; then the search goes along −g.
    fn direction(
        &mut self,
        f: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        now: &mut Progress,
    ) -> Result<Option<f64>>;

    /// That the last direction was of no use.
    fn forget(&mut self) {}

    /// Sees the step to `v.trial_w` that was found; gives ‖·‖∞ of the change.
    fn learn(&mut self, v: &mut Vectors<'_, T>, slope: f64, found: &Point) -> f64;
}

/// A line search along the directions of a method.
pub(super) struct Lines<D> {
    pub(super) directions: D,
    pub(super) wolfe: Wolfe,
    pub(super) max_evaluations: u64,
}

impl<T: Scalar, D: Directions<T>> Stepper<T> for Lines<D> {
    fn step(
        &mut self,
        f: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        now: &mut Progress,
    ) -> Result<ControlFlow<Reason>> {
        loop {
            let proposed = self.directions.direction(f, v, now)?;
            let mut slope = dot(v.g, v.d);
            let usable = proposed.filter(|_| slope < 0.0 && slope.is_finite());
            let first = usable.unwrap_or_else(|| {
                // Of length 1, so that squares neither overflow nor vanish.
                self.directions.forget();
                scaled(v.d, -1.0 / now.gradient_norm, v.g);
                slope = dot(v.g, v.d);
                match now.iteration {
                    0 => (now.loss.abs() / -slope).clamp(T::EPSILON, 1.0),
                    _ => now.step,
                }
            });
            let start = Point { step: 0.0, loss: now.loss, slope };
            let rounding = rounding::<T>(now.loss);
            let found = self.wolfe.search(start, first, f64::INFINITY, rounding, &mut |step| {
                if !moved(v.trial_w, v.w, step, v.d) {
                    return Ok(Trial::Still);
                }
                try_it(f, v, now, self.max_evaluations, step)
            })?;
            let reason = match found {
                Found::Step(point) => {
                    now.step = self.directions.learn(v, slope, &point);
                    now.loss = point.loss;
                    v.accept();
                    return Ok(ControlFlow::Continue(()));
                }
                Found::Nothing | Found::NotFinite if usable.is_some() => {
                    self.directions.forget();
                    continue;
                }
                Found::Nothing => Reason::NoProgress,
                Found::NotFinite => Reason::NotFinite,
                Found::Unbounded => Reason::Unbounded,
                Found::Exhausted => Reason::MaxEvaluations,
            };
            return Ok(ControlFlow::Break(reason));
        }
    }
}

/// Evaluates the loss at `v.trial_w`, a step along `v.d`.
pub(super) fn try_it<T: Scalar>(
    f: Objective<'_, T>,
    v: &mut Vectors<'_, T>,
    now: &mut Progress,
    max_evaluations: u64,
    step: f64,
) -> Result<Trial> {
    if now.evaluations >= max_evaluations {
        return Ok(Trial::Exhausted);
    }
    now.evaluations += 1;
    let loss = f.gradient(v.trial_w, v.trial_g)?;
    let slope = if all_finite(v.trial_g) { dot(v.trial_g, v.d) } else { f64::NAN };
    Ok(Trial::At(Point { step, loss, slope }))
}
