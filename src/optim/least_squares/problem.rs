//! What fits share: the weighted linear problem at a point, steps tried from it, and the loop that
//! decides when to end. Knows not how a step is chosen.

use super::factor::{Factor, Solver};
use super::robust::RobustLoss;
use super::{Fit, Residuals};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::update::all_finite;
use crate::kernel::vector::{add_scaled, dot, max_norm};
use crate::optim::bounds::Bounds;
use crate::optim::full_batch::Observer;
use crate::optim::not_negative;
use crate::optim::outcome::{Progress, Reason};
use std::ops::ControlFlow;

/// Of what a point's relative rounding amounts to, how much a loss may differ by rounding: sums are
/// long, and models have many operations.
const ROUNDING: (f64, f64) = (100.0, 10.0);
/// Where the loss is rounding, a step has to make the offset smaller by this factor.
const SHRINKAGE: f64 = 0.9;

/// What every fit can be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) tolerance: Option<f64>,
    pub(super) max_iterations: u64,
    pub(super) max_evaluations: u64,
    pub(super) loss: RobustLoss,
    pub(super) solver: Solver,
}

impl Options {
    pub(super) const DEFAULT: Options = Options {
        tolerance: None,
        max_iterations: 10_000,
        max_evaluations: 10_000,
        loss: RobustLoss::Squares,
        solver: Solver::Qr,
    };

    pub(super) fn check(&self) -> Result<()> {
        if self.max_evaluations == 0 {
            bail!(Argument, "expected max_evaluations ≥ 1, got 0");
        }
        not_negative("tolerance", self.tolerance.unwrap_or(0.0))?;
        self.loss.check()
    }
}

/// The builders of [`Options`] and the calls that make a handle, given where the options are.
macro_rules! fits {
    ($name:ident, $options:ident) => {
        impl Default for $name {
            fn default() -> Self {
                $name::new()
            }
        }

        impl $name {
            /// Converged when the relative offset (Bates and Watts 1981) is at most this: the
            /// length of the part of the residuals that the Jacobian's columns explain, by that of
            /// all. The step that is left is then about so many standard errors, times √(m − n).
            /// The default is ε^⅔ of the tape's type, 3.7·10⁻¹¹ in f64 and 2.4·10⁻⁵ in f32.
            pub fn with_tolerance(mut self, tolerance: f64) -> Self {
                self.$options.tolerance = Some(tolerance);
                self
            }

            /// With at most this many steps; the default is 10,000.
            pub fn with_max_iterations(mut self, max_iterations: u64) -> Self {
                self.$options.max_iterations = max_iterations;
                self
            }

            /// With at most this many evaluations of the residuals, of which the start needs one;
            /// the default is 10,000.
            pub fn with_max_evaluations(mut self, max_evaluations: u64) -> Self {
                self.$options.max_evaluations = max_evaluations;
                self
            }

            /// With another loss than squares.
            pub fn with_loss(mut self, loss: $crate::optim::RobustLoss) -> Self {
                self.$options.loss = loss;
                self
            }

            /// With this solver of the linear problems; the default is QR.
            pub fn with_solver(mut self, solver: $crate::optim::Solver) -> Self {
                self.$options.solver = solver;
                self
            }

            /// A handle that makes the squares of `residuals`, of any shape, small over every
            /// variable that they depend on. Variables behind
            /// [`stop_gradient`](crate::Expr::stop_gradient) are not moved.
            ///
            /// # Errors
            /// Residuals that depend on no variable, or on one only through ops without a
            /// derivative; hyperparameters out of range; the first mistake made while recording.
            #[track_caller]
            pub fn least_squares<T: $crate::Scalar>(
                &self,
                residuals: $crate::Expr<'_, T>,
            ) -> $crate::Result<$crate::optim::LeastSquares<Self>> {
                $crate::optim::LeastSquares::record(self.clone(), residuals)
            }

            /// As `least_squares`, over these variables only.
            ///
            /// # Errors
            /// As `least_squares`; also no variable, one twice, or something that is not one.
            #[track_caller]
            pub fn least_squares_over<T: $crate::Scalar>(
                &self,
                residuals: $crate::Expr<'_, T>,
                variables: &[impl $crate::AsNode],
            ) -> $crate::Result<$crate::optim::LeastSquares<Self>> {
                $crate::optim::LeastSquares::record_over(self.clone(), residuals, variables)
            }
        }
    };
}
pub(super) use fits;

/// The residuals at a point, with their linearization there.
pub(super) struct Problem<'a> {
    f: &'a mut dyn Residuals,
    options: Options,
    bounds: Option<&'a Bounds>,
    m: usize,
    pub(super) x: Vec<f64>,
    r: Vec<f64>,
    /// (m, n), weighted.
    jacobian: Vec<f64>,
    gradient: Vec<f64>,
    held: Vec<bool>,
    /// The longest that each column of the Jacobian has been: the unit of a parameter is 1 by it
    /// (Moré 1978).
    pub(super) scales: Vec<f64>,
    /// Of the problem in those units.
    pub(super) factor: Factor,
    /// The Gauss-Newton step in those units.
    pub(super) newton: Vec<f64>,
    offset: f64,
    /// That the last step was taken although the loss did not tell.
    blind: bool,
    trial_x: Vec<f64>,
    trial_r: Vec<f64>,
    trial_loss: f64,
    step: Vec<f64>,
    pub(super) now: Progress,
}

/// A step that was tried, in parts of the loss.
pub(super) struct Tried {
    /// That the residuals there are finite.
    pub(super) finite: bool,
    /// How much smaller the loss is, and was to be by the linearization.
    pub(super) actual: f64,
    pub(super) predicted: f64,
    /// The loss's slope along the step.
    pub(super) slope: f64,
    /// Whether both differences may be rounding.
    pub(super) rounding: bool,
}

impl Tried {
    /// actual / predicted.
    pub(super) fn ratio(&self) -> f64 {
        match self.finite && self.predicted > 0.0 {
            true => self.actual / self.predicted,
            false => 0.0,
        }
    }

    /// By what factor to shorten the step: to the minimum of the parabola through what is known
    /// (Moré 1978).
    pub(super) fn shortening(&self) -> f64 {
        let factor = match self.actual >= 0.0 {
            true => 0.5,
            false => 0.5 * self.slope / (self.slope + self.actual),
        };
        if self.finite && factor >= 0.1 { factor.min(0.5) } else { 0.1 }
    }
}

impl<'a> Problem<'a> {
    fn new(
        f: &'a mut dyn Residuals,
        options: Options,
        bounds: Option<&'a Bounds>,
        x: &[f64],
    ) -> Result<Self> {
        let (m, n) = (f.n_residuals(), x.len());
        let mut jacobian = Vec::new();
        let size = m.saturating_mul(n);
        if jacobian.try_reserve_exact(size).is_err() {
            bail!(Memory, "no memory for a Jacobian of {m} × {n}");
        }
        jacobian.resize(size, 0.0);
        let (evaluations, iteration, products) = (1, 0, 0);
        let (loss, gradient_norm, step) = (f64::NAN, f64::NAN, 0.0);
        let mut p = Problem {
            f,
            options,
            bounds,
            m,
            x: x.to_vec(),
            r: vec![0.0; m],
            jacobian,
            gradient: vec![0.0; n],
            held: vec![false; n],
            scales: vec![0.0; n],
            factor: Factor::qr((0, 0), vec![], &[], 0.0),
            newton: vec![0.0; n],
            offset: 0.0,
            blind: false,
            trial_x: vec![0.0; n],
            trial_r: vec![0.0; m],
            trial_loss: f64::NAN,
            step: vec![0.0; n],
            now: Progress { iteration, evaluations, products, loss, gradient_norm, step },
        };
        if let Some(bounds) = bounds {
            bounds.project(&mut p.x);
        }
        p.f.residuals(&p.x, &mut p.r)?;
        p.now.loss = options.loss.cost(&p.r);
        Ok(p)
    }

    /// The Jacobian here, and all that follows from it; whether it is finite.
    fn linearize(&mut self) -> Result<bool> {
        let (m, n) = (self.m, self.x.len());
        self.now.products += 1;
        self.f.jacobian(&self.x, &mut self.jacobian)?;
        if !all_finite(&self.jacobian) {
            return Ok(false);
        }
        let mut b: Vec<f64> = self.r.iter().map(|r| -r).collect();
        if self.options.loss != RobustLoss::Squares {
            for (i, (b, &r)) in b.iter_mut().zip(&self.r).enumerate() {
                let (of_r, of_row) = self.options.loss.weights(r);
                *b *= of_r;
                self.jacobian[i..].iter_mut().step_by(m).for_each(|j| *j *= of_row);
            }
        }
        let mut a = self.jacobian.clone();
        for j in 0..n {
            let column = &mut a[j * m..][..m];
            let size = max_norm(column);
            // Squares of numbers up to 1 neither overflow nor vanish.
            column.iter_mut().filter(|_| size > 0.0).for_each(|a| *a /= size);
            let length = size * dot(column, column).sqrt();
            if self.scales[j] == 0.0 && length == 0.0 {
                self.scales[j] = 1.0;
            }
            self.scales[j] = self.scales[j].max(length);
            self.gradient[j] = -size * dot(column, &b);
            let x = self.x[j];
            self.held[j] = self.bounds.is_some_and(|box_| box_.holds(j, x, self.gradient[j]));
            let scale = if self.held[j] { 0.0 } else { size / self.scales[j] };
            column.iter_mut().for_each(|a| *a *= scale);
        }
        let epsilon = self.f.epsilon();
        let normal = match self.options.solver {
            Solver::Normal => Factor::normal((m, n), &a, &b, epsilon),
            Solver::Qr => None,
        };
        self.factor = normal.unwrap_or_else(|| Factor::qr((m, n), a, &b, epsilon));
        self.factor.newton(&mut self.newton);
        let length = dot(&b, &b).sqrt();
        self.offset = if length > 0.0 { self.factor.explained() / length } else { 0.0 };
        self.now.gradient_norm = match self.bounds {
            Some(bounds) => bounds.gradient_norm(&self.x, &self.gradient),
            None => max_norm(&self.gradient),
        };
        Ok(true)
    }

    /// The length of x in the units of the scales.
    pub(super) fn size(&self) -> f64 {
        let squares = self.x.iter().zip(&self.scales).map(|(x, d)| (x * d).powi(2));
        squares.sum::<f64>().sqrt()
    }

    /// Whether what is left to gain is less than rounding: no residuals, or no step.
    fn is_exact(&self) -> bool {
        let rounding = self.f.epsilon() * self.size();
        let step = dot(&self.newton, &self.newton).sqrt();
        (2.0 * self.now.loss).sqrt() <= rounding || step <= 4.0 * rounding
    }

    /// Evaluates the residuals after a step, in units of the scales; `None` if it does not move, or
    /// if no more evaluations are allowed.
    pub(super) fn attempt(&mut self, q: &[f64]) -> Result<Result<Tried, Reason>> {
        for (i, x) in self.trial_x.iter_mut().enumerate() {
            *x = self.x[i] + if self.held[i] { 0.0 } else { q[i] / self.scales[i] };
        }
        if let Some(bounds) = self.bounds {
            bounds.project(&mut self.trial_x);
        }
        if self.trial_x == self.x {
            return Ok(Err(Reason::NoProgress));
        }
        if self.now.evaluations >= self.options.max_evaluations {
            return Ok(Err(Reason::MaxEvaluations));
        }
        self.now.evaluations += 1;
        let mut change = vec![0.0; self.m];
        for j in 0..self.x.len() {
            self.step[j] = self.trial_x[j] - self.x[j];
            add_scaled(&mut change, self.step[j], &self.jacobian[j * self.m..][..self.m]);
        }
        self.f.residuals(&self.trial_x, &mut self.trial_r)?;
        self.trial_loss = self.options.loss.cost(&self.trial_r);
        let loss = self.now.loss;
        let slope = dot(&self.gradient, &self.step) / loss;
        let finite = self.trial_loss.is_finite();
        let actual = 1.0 - self.trial_loss / loss;
        let predicted = -slope - 0.5 * dot(&change, &change) / loss;
        // Residuals round like the numbers whose difference they are: about as long as x.
        let relative = ROUNDING.0 + ROUNDING.1 * self.size() / (2.0 * loss).sqrt();
        let rounding = (relative * self.f.epsilon()).min(1e-3);
        let rounding = finite && predicted <= rounding && actual.abs() <= rounding;
        Ok(Ok(Tried { finite, actual, predicted, slope: 0.5 * slope, rounding }))
    }

    /// Goes to the point tried last.
    pub(super) fn accept(&mut self, blind: bool) {
        std::mem::swap(&mut self.x, &mut self.trial_x);
        std::mem::swap(&mut self.r, &mut self.trial_r);
        self.blind = blind;
        self.now.loss = self.trial_loss;
        self.now.step = max_norm(&self.step);
        self.now.iteration += 1;
    }
}

/// Steps by `advance` until there is a reason to end; `x` is left at the best point.
pub(super) fn fit(
    method: &str,
    options: Options,
    bounds: Option<&Bounds>,
    f: &mut dyn Residuals,
    x: &mut [f64],
    observe: Observer<'_>,
    advance: &mut dyn FnMut(&mut Problem<'_>) -> Result<ControlFlow<Reason>>,
) -> Result<Fit> {
    let within = |e: Error| match e.kind() {
        ErrorKind::Argument | ErrorKind::Memory => e.within(method),
        _ => e,
    };
    options.check().map_err(within)?;
    if let Some(bounds) = bounds {
        bounds.check_len(x.len()).map_err(within)?;
    }
    let epsilon = f.epsilon();
    let tolerance = options.tolerance.unwrap_or(epsilon.powf(2.0 / 3.0));
    let mut p = Problem::new(f, options, bounds, x).map_err(within)?;
    let mut reason = match p.now.loss.is_finite() {
        true => None,
        false => Some(Reason::NotFinite),
    };
    let mut finite = false;
    while reason.is_none() {
        let before = p.offset;
        finite = p.linearize()?;
        x.copy_from_slice(&p.x);
        if !finite {
            reason = Some(Reason::NotFinite);
            break;
        }
        let stop = observe(&p.now).is_break();
        reason = match () {
            () if p.offset <= tolerance || p.is_exact() => Some(Reason::Converged),
            () if p.blind && p.offset > SHRINKAGE * before => Some(Reason::NoProgress),
            () if stop => Some(Reason::Stopped),
            () if p.now.iteration >= options.max_iterations => Some(Reason::MaxIterations),
            () => match advance(&mut p)? {
                ControlFlow::Continue(()) => None,
                ControlFlow::Break(reason) => Some(reason),
            },
        };
    }
    let reason = reason.unwrap_or(Reason::NoProgress);
    Ok(p.ended(method, reason, finite, epsilon))
}

impl Problem<'_> {
    fn ended(&self, method: &str, reason: Reason, finite: bool, epsilon: f64) -> Fit {
        let (m, n) = (self.m, self.x.len());
        let free: Vec<usize> = (0..n).filter(|&j| !self.held[j]).collect();
        let mut columns = Vec::with_capacity(m * free.len());
        let mut lengths = Vec::with_capacity(free.len());
        for &j in &free {
            let column = &self.jacobian[j * m..][..m];
            let size = max_norm(column);
            let unit = if size > 0.0 { size } else { 1.0 };
            let from = columns.len();
            columns.extend(column.iter().map(|a| a / unit));
            let length = dot(&columns[from..], &columns[from..]).sqrt();
            let length = if length > 0.0 { length } else { 1.0 };
            columns[from..].iter_mut().for_each(|a| *a /= length);
            lengths.push(unit * length);
        }
        let size = (m, free.len());
        let factor = finite.then(|| Factor::qr(size, columns, &vec![0.0; m], epsilon));
        Fit {
            outcome: self.now.ended(reason, &self.now),
            method: method.to_string(),
            n_residuals: m,
            free,
            n_parameters: n,
            factor,
            lengths,
        }
    }
}
