//! Lasso and elastic net: coordinate descent, ended exactly once the signs are known.

use super::centered::Centered;
use super::input::{features, not_negative, targets};
use super::{LinearModel, with_intercept};
use crate::TensorView;
use crate::error::{Result, bail};
use nalgebra::{DMatrix, DVector};

/// Sweeps over all coefficients; so many are needed only where rounding hides the minimum.
const MAX_SWEEPS: usize = 100_000;
/// Of a coefficient's effect, in standard deviations of the targets.
const TOLERANCE: f64 = 1e-13;

/// Least squares with an L1 and an L2 penalty: w and b that make
/// ‖y − Xw − b‖²/(2n) + α(ρ‖w‖₁ + (1 − ρ)/2 ‖w‖²) least, as scikit-learn's `ElasticNet`.
///
/// By coordinate descent, whose inner products with a column are computed when its coefficient
/// first moves. As soon as signs stay, the equations of the coefficients that are not 0 are solved
/// by Cholesky; a solution that satisfies the conditions of a minimum is one. np flops for each
/// column that moves, p for a step; (p, moved) numbers.
///
/// Sources: Zou and Hastie, *Regularization and variable selection via the elastic net* (2005);
/// Friedman, Hastie and Tibshirani, *Regularization paths for generalized linear models via
/// coordinate descent* (2010), section 2.2.
///
/// ```
/// use gradtape::estimators::ElasticNet;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_column_slice(4, 2, &[-1.0, 1.0, -1.0, 1.0, 1.0, 1.0, -1.0, -1.0]);
/// let y = DVector::from_vec(vec![-2.9, 3.1, -3.1, 2.9]);
/// let model = ElasticNet::new(1.0, 0.5).fit(&x, &y)?;
/// assert!((model.coefficients[0] - 2.5 / 1.5).abs() < 1e-12); // (3 − αρ) / (1 + α(1 − ρ))
/// assert_eq!(model.coefficients[1], 0.0); // |0.1| < αρ
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ElasticNet {
    alpha: f64,
    l1_ratio: f64,
    intercept: bool,
}

/// Least squares with an L1 penalty: w and b that make ‖y − Xw − b‖²/(2n) + α‖w‖₁ least, as
/// scikit-learn's `Lasso` (Tibshirani 1996). An [`ElasticNet`] with ρ = 1.
///
/// ```
/// use gradtape::estimators::Lasso;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_column_slice(2, 1, &[-1.0, 1.0]);
/// let model = Lasso::new(0.5).fit(&x, &DVector::from_vec(vec![-2.0, 2.0]))?;
/// assert_eq!(model.coefficients[0], 1.5);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Lasso {
    alpha: f64,
    intercept: bool,
}

with_intercept!(ElasticNet);
with_intercept!(Lasso);

impl Lasso {
    /// With this α ≥ 0.
    pub fn new(alpha: f64) -> Self {
        Lasso { alpha, intercept: true }
    }

    /// Fits features (n, p) and targets `[n]`.
    ///
    /// # Errors
    /// As [`ElasticNet::fit`].
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<LinearModel> {
        fit("lasso", (self.alpha, 1.0), self.intercept, x.into(), y.into())
    }
}

impl ElasticNet {
    /// With this α ≥ 0 and this ρ from 0 to 1.
    pub fn new(alpha: f64, l1_ratio: f64) -> Self {
        ElasticNet { alpha, l1_ratio, intercept: true }
    }

    /// Fits features (n, p) and targets `[n]`. The coefficient of a constant column is 0.
    ///
    /// # Errors
    /// Shapes that do not fit; numbers that are not finite; α or ρ out of range; no convergence
    /// (`NotConverged`).
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<LinearModel> {
        let penalty = (self.alpha, self.l1_ratio);
        fit("elastic_net", penalty, self.intercept, x.into(), y.into())
    }
}

fn fit(
    op: &str,
    (alpha, l1_ratio): (f64, f64),
    intercept: bool,
    x: TensorView<'_, f64>,
    y: TensorView<'_, f64>,
) -> Result<LinearModel> {
    not_negative(op, "alpha", alpha)?;
    if !(0.0..=1.0).contains(&l1_ratio) {
        bail!(Argument, "{op}: expected an L1 ratio from 0 to 1, got {l1_ratio}");
    }
    let x = features(op, x)?;
    let y = targets(op, y, x.nrows())?;
    let data = Centered::new(x, y, intercept);
    let Some(coefficients) =
        Descent::new(&data, alpha * l1_ratio, alpha * (1.0 - l1_ratio)).minimum()
    else {
        bail!(NotConverged, "{op}: expected a minimum in {MAX_SWEEPS} sweeps, got none")
    };
    let intercept = data.intercept(&coefficients);
    Ok(LinearModel { coefficients, intercept })
}

struct Descent<'a> {
    data: &'a Centered,
    n: f64,
    l1: f64,
    l2: f64,
    w: DVector<f64>,
    /// Xᵀy/n, and Xᵀ(y − Xw)/n.
    at_zero: DVector<f64>,
    gradient: DVector<f64>,
    /// ‖xⱼ‖²/n, and Xᵀxⱼ/n of those that have moved.
    squares: DVector<f64>,
    products: Vec<Option<DVector<f64>>>,
}

impl<'a> Descent<'a> {
    fn new(data: &'a Centered, l1: f64, l2: f64) -> Self {
        let (n, p) = (data.x.nrows() as f64, data.x.ncols());
        let at_zero = data.x.tr_mul(&data.y) / n;
        Descent {
            data,
            n,
            l1,
            l2,
            w: DVector::zeros(p),
            gradient: at_zero.clone(),
            at_zero,
            squares: DVector::from_fn(p, |j, _| data.x.column(j).norm_squared() / n),
            products: vec![None; p],
        }
    }

    fn minimum(mut self) -> Option<DVector<f64>> {
        let unit = self.data.y.norm() / self.n.sqrt();
        let mut next_try = 1;
        for sweep in 1..=MAX_SWEEPS {
            let before = self.w.map(sign);
            let largest = self.sweep();
            let signs = self.w.map(sign);
            if sweep >= next_try && signs == before {
                // Each try costs a factorization: as many sweeps as there were go by between two.
                next_try = 2 * sweep;
                if let Some(w) = self.solution(&signs) {
                    return Some(w);
                }
            }
            if largest <= TOLERANCE * unit {
                return Some(self.w);
            }
        }
        None
    }

    /// Each coefficient once to where the objective is least in it; the largest effect of a change.
    fn sweep(&mut self) -> f64 {
        let mut largest: f64 = 0.0;
        for j in 0..self.w.len() {
            let (old, square) = (self.w[j], self.squares[j]);
            if square == 0.0 {
                continue;
            }
            let pull = self.gradient[j] + square * old;
            let new = sign(pull) * (pull.abs() - self.l1).max(0.0) / (square + self.l2);
            if new != old {
                let Centered { x, .. } = self.data;
                let column = || x.tr_mul(&x.column(j)) / self.n;
                let product = self.products[j].get_or_insert_with(column);
                self.gradient.axpy(old - new, product, 1.0);
                self.w[j] = new;
                largest = largest.max((new - old).abs() * square.sqrt());
            }
        }
        largest
    }

    /// The minimum among coefficients of these signs, if it is the minimum of all.
    fn solution(&self, signs: &DVector<f64>) -> Option<DVector<f64>> {
        let active: Vec<usize> = (0..signs.len()).filter(|&j| signs[j] != 0.0).collect();
        let columns: Vec<_> =
            active.iter().map(|&j| self.products[j].as_ref()).collect::<Option<_>>()?;
        let k = active.len();
        let hessian = DMatrix::from_fn(k, k, |a, b| {
            columns[b][active[a]] + if a == b { self.l2 } else { 0.0 }
        });
        let right = DVector::from_fn(k, |a, _| {
            let j = active[a];
            self.at_zero[j] - self.l1 * signs[j]
        });
        let solved = hessian.cholesky()?.solve(&right);
        let mut gradient = self.at_zero.clone();
        let mut w = DVector::zeros(signs.len());
        for ((&j, column), &value) in active.iter().zip(columns).zip(&solved) {
            if self.l1 > 0.0 && sign(value) != signs[j] {
                return None;
            }
            w[j] = value;
            gradient.axpy(-value, column, 1.0);
        }
        let rounding = 1e-12 * self.at_zero.amax();
        let within = |j: usize| signs[j] != 0.0 || gradient[j].abs() <= self.l1 + rounding;
        (0..signs.len()).all(within).then_some(w)
    }
}

/// −1, 0 or 1.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}
