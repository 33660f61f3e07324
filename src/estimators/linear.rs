//! Ordinary least squares, and the model that linear regressions of all kinds end with.

use super::centered::Centered;
use super::file::one_output_file;
use super::input::{features, features_of, targets};
use super::with_intercept;
use crate::data::metrics::r2;
use crate::error::{Result, bail};
use crate::{Tensor, TensorView};
use nalgebra::{DMatrix, DVector, RowDVector};

const OP: &str = "linear_regression";

/// Least squares: w and b that make ‖y − Xw − b‖² least. scikit-learn's `LinearRegression`, but
/// that features which determine no single w are an error here, and the shortest w there.
///
/// By Householder QR of the centered columns, brought to one length, with pivoting. 2np² flops.
///
/// ```
/// use gradtape::estimators::LinearRegression;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_column_slice(4, 1, &[0.0, 1.0, 2.0, 3.0]);
/// let y = DVector::from_vec(vec![1.0, 3.0, 5.0, 7.0]);
/// let model = LinearRegression::new().fit(&x, &y)?;
/// assert!((model.coefficients[0] - 2.0).abs() < 1e-12 && (model.intercept - 1.0).abs() < 1e-12);
/// assert!(model.score(&x, &y)? > 1.0 - 1e-12);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LinearRegression {
    intercept: bool,
}

with_intercept!(LinearRegression);

impl Default for LinearRegression {
    fn default() -> Self {
        LinearRegression::new()
    }
}

impl LinearRegression {
    /// With an intercept.
    pub fn new() -> Self {
        LinearRegression { intercept: true }
    }

    /// Fits features (n, p) and targets `[n]`.
    ///
    /// # Errors
    /// Shapes that do not fit; numbers that are not finite; fewer samples than unknowns, a constant
    /// column, or one that is a combination of others (`Singular`, with its number).
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<LinearModel> {
        let x = features(OP, x)?;
        let y = targets(OP, y, x.nrows())?;
        let (n, p) = x.shape();
        let unknowns = p + usize::from(self.intercept);
        if n < unknowns {
            bail!(Singular, "{OP}: expected as many rows as the {unknowns} unknowns, got {n}");
        }
        let mut data = Centered::new(x, y, self.intercept);
        let lengths = DVector::from_fn(p, |j, _| data.x.column(j).norm());
        if let Some(j) = lengths.iter().position(|&length| length == 0.0) {
            bail!(Singular, "{OP}: expected columns that vary, got a constant one: {j}");
        }
        for (mut column, length) in data.x.column_iter_mut().zip(&lengths) {
            column /= *length;
        }
        let qr = std::mem::replace(&mut data.x, DMatrix::zeros(0, 0)).col_piv_qr();
        let (r, permutation) = (qr.r(), qr.p());
        let least = f64::EPSILON * n as f64 * r[(0, 0)].abs();
        if let Some(k) = (0..p).find(|&k| r[(k, k)].abs() <= least) {
            let mut order = RowDVector::from_fn(p, |_, j| j);
            permutation.permute_columns(&mut order);
            bail!(
                Singular,
                "{OP}: expected features of rank {p}, got {k}: column {} follows from others",
                order[k]
            );
        }
        qr.q_tr_mul(&mut data.y);
        let mut coefficients = data.y.rows(0, p).clone_owned();
        // The diagonal has no 0, so there is a solution.
        r.solve_upper_triangular_mut(&mut coefficients);
        permutation.inv_permute_rows(&mut coefficients);
        coefficients.component_div_assign(&lengths);
        let intercept = data.intercept(&coefficients);
        Ok(LinearModel { coefficients, intercept })
    }
}

/// ŷ = Xw + b: what linear, ridge, lasso, elastic-net and Huber regression end with.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearModel {
    /// w, `[p]`.
    pub coefficients: DVector<f64>,
    /// b.
    pub intercept: f64,
}

one_output_file!(LinearModel, "linear");

impl LinearModel {
    /// Xw + b for features (n, p).
    ///
    /// # Errors
    /// Features of another number of columns, none, or such that are not finite.
    pub fn predict<'a>(&self, x: impl Into<TensorView<'a, f64>>) -> Result<DVector<f64>> {
        self.scores("predict", x)
    }

    /// The coefficient of determination R² of the predictions; see [`r2`].
    ///
    /// # Errors
    /// As [`LinearModel::predict`]; targets of another number, or that are all the same.
    pub fn score<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<f64> {
        let predicted = self.scores("score", x)?;
        let y = targets("score", y, predicted.len())?;
        r2(&Tensor::from(y.clone_owned()), &predicted.into())
    }

    pub(super) fn scores<'a>(
        &self,
        op: &str,
        x: impl Into<TensorView<'a, f64>>,
    ) -> Result<DVector<f64>> {
        let x = features_of(op, x, self.coefficients.len())?;
        Ok((x * &self.coefficients).add_scalar(self.intercept))
    }
}
