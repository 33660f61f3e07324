//! Huber regression: a line that outliers do not pull, with a scale of its own.

use super::input::{not_negative, targets};
use super::smooth::{Smooth, TOLERANCE, newton, reached, with_tolerance};
use super::{LinearModel, with_intercept};
use crate::error::{Result, bail};
use crate::{TensorView, minimize};
use nalgebra::DVector;

const OP: &str = "huber_regression";

/// Regression that counts large residuals by their size instead of their square: w, b and the scale
/// σ > 0 that make Σᵢ [σ + σ H((yᵢ − xᵢᵀw − b)/σ)] + α‖w‖² least, with H(r) = r² for |r| < ε
/// and 2ε|r| − ε² beyond, as scikit-learn's `HuberRegressor` (Huber, *Robust statistics*, 1981).
/// Jointly convex; the scale makes ε independent of the units of y.
///
/// By [`NewtonCg`](crate::optim::NewtonCg) in w, b and ln σ.
///
/// ```
/// use gradtape::estimators::HuberRegression;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_fn(20, 1, |i, _| i as f64);
/// let mut y = DVector::from_fn(20, |i, _| 2.0 * i as f64 + [0.1, -0.1][i % 2]);
/// y[3] = 500.0;
/// let model = HuberRegression::new().fit(&x, &y)?;
/// assert!((model.coefficients[0] - 2.0).abs() < 0.05);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct HuberRegression {
    epsilon: f64,
    alpha: f64,
    intercept: bool,
    tolerance: f64,
}

with_intercept!(HuberRegression);
with_tolerance!(HuberRegression);

impl Default for HuberRegression {
    fn default() -> Self {
        HuberRegression::new()
    }
}

impl HuberRegression {
    /// With scikit-learn's numbers: ε = 1.35 (95 % efficient on normal residuals), α = 0.0001, and
    /// an intercept.
    pub fn new() -> Self {
        HuberRegression { epsilon: 1.35, alpha: 1e-4, intercept: true, tolerance: TOLERANCE }
    }

    /// With this ε ≥ 1.
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        HuberRegression { epsilon, ..self }
    }

    /// With this α ≥ 0.
    pub fn with_alpha(self, alpha: f64) -> Self {
        HuberRegression { alpha, ..self }
    }

    /// Fits features (n, p) and targets `[n]`.
    ///
    /// # Errors
    /// Shapes that do not fit; numbers that are not finite; targets that are all the same; ε or α
    /// out of range; no convergence (`NotConverged`).
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<LinearModel> {
        not_negative(OP, "alpha", self.alpha)?;
        if !(self.epsilon >= 1.0 && self.epsilon.is_finite()) {
            bail!(Argument, "{OP}: expected a finite epsilon ≥ 1, got {}", self.epsilon);
        }
        let design = Smooth::new(OP, x, self.intercept)?;
        let y = targets(OP, y, design.n())?;
        if y.iter().all(|&one| one == y[0]) {
            bail!(Argument, "{OP}: expected targets that vary, got only {}", y[0]);
        }
        // Targets in units of their deviation: v and σ then are of the order of 1.
        let center = if self.intercept { y.mean() } else { 0.0 };
        let unit = y.add_scalar(-center).norm() / (design.n() as f64).sqrt();
        let y = y.map(|y| (y - center) / unit);
        let (n, width) = (design.n() as f64, design.width());
        let found = minimize(
            |v| {
                let (w, sigma) = (v.slice((..width,)), v.index_axis(0, width as isize).exp());
                let residual = v.constant(&design.z).matmul(w) - &y;
                let loss = 2.0 * (residual / sigma).huber_loss(0.0, self.epsilon).mean();
                sigma + sigma * loss + design.penalty(w) * (2.0 * self.alpha * unit / n)
            },
            DVector::zeros(width + 1),
            newton(self.tolerance),
        )?;
        let v = reached(OP, found)?;
        let (coefficients, intercept) = design.original_of_one(&v.as_slice()[..width]);
        Ok(LinearModel { coefficients: coefficients * unit, intercept: intercept * unit + center })
    }
}
