//! Logistic regression for two classes.

use super::file::one_output_file;
use super::input::{features_of, labels};
use super::smooth::{Smooth, TOLERANCE, newton, reached, with_tolerance};
use super::{class_score, with_c, with_intercept};
use crate::error::{Result, bail};
use crate::{Error, ErrorKind, Index, TensorView, minimize};
use nalgebra::{DMatrix, DVector};

const OP: &str = "logistic_regression";

/// Two classes: p(1 | x) = σ(xᵀw + b) with w and b that make
/// C Σᵢ [ln(1 + exp zᵢ) − yᵢ zᵢ] + ½‖w‖² least, z = Xw + b, as scikit-learn's
/// `LogisticRegression`. For more classes see [`SoftmaxRegression`](super::SoftmaxRegression).
///
/// By [`NewtonCg`](crate::optim::NewtonCg).
///
/// ```
/// use gradtape::estimators::LogisticRegression;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_column_slice(6, 1, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
/// let y = DVector::from_vec(vec![0, 0, 1, 0, 1, 1]);
/// let model = LogisticRegression::new().fit(&x, &y)?;
/// assert_eq!(model.predict(&x)?.as_slice(), [0, 0, 0, 1, 1, 1]);
/// assert!(model.predict_probabilities(&x)?[(0, 0)] > 0.8);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticRegression {
    c: f64,
    intercept: bool,
    tolerance: f64,
}

with_intercept!(LogisticRegression);
with_tolerance!(LogisticRegression);
with_c!(LogisticRegression);

impl LogisticRegression {
    /// With C = 1 and an intercept.
    pub fn new() -> Self {
        LogisticRegression { c: 1.0, intercept: true, tolerance: TOLERANCE }
    }

    /// Fits features (n, p) and labels `[n]` of 0 and 1.
    ///
    /// # Errors
    /// Shapes that do not fit; features that are not finite; labels of one class, or of more than
    /// two; C out of range; without a penalty, classes that a plane separates (`NotConverged`).
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, Index>>,
    ) -> Result<LogisticModel> {
        let weight = penalty_weight(OP, self.c)?;
        let design = Smooth::new(OP, x, self.intercept)?;
        let (labels, n_classes) = labels(OP, y, design.n())?;
        if n_classes > 2 {
            let got = n_classes - 1;
            bail!(Argument, "{OP}: expected labels 0 and 1, got {got}; see SoftmaxRegression");
        }
        let y = DVector::from_fn(design.n(), |i, _| f64::from(labels[i]));
        let found = minimize(
            |v| {
                let loss = v.constant(&design.z).matmul(v).logistic_loss(&y).mean();
                loss + design.penalty(v) * (weight / design.n() as f64)
            },
            DVector::zeros(design.width()),
            newton(self.tolerance),
        )?;
        let v = reached(OP, found)?;
        let right = |(z, &y): (f64, &f64)| (z > 0.0) == (y > 0.0);
        if weight == 0.0 && (&design.z * &v).iter().copied().zip(&y).all(right) {
            return Err(separated(OP));
        }
        let (coefficients, intercept) = design.original_of_one(v.as_slice());
        Ok(LogisticModel { coefficients, intercept })
    }
}

/// 1/C.
pub(super) fn penalty_weight(op: &str, c: f64) -> Result<f64> {
    match c > 0.0 {
        true => Ok(1.0 / c),
        false => bail!(Argument, "{op}: expected C > 0, got {c}"),
    }
}

/// Without a penalty the loss then falls for ever as the parameters grow.
pub(super) fn separated(op: &str) -> Error {
    let text = format!("{op}: expected a penalty, or classes that overlap, got separated ones");
    Error::new(ErrorKind::NotConverged, text)
}

/// p(1 | x) = σ(xᵀw + b): a fitted [`LogisticRegression`].
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticModel {
    /// w, `[p]`.
    pub coefficients: DVector<f64>,
    /// b.
    pub intercept: f64,
}

one_output_file!(LogisticModel, "logistic");
class_score!(LogisticModel);

impl LogisticModel {
    /// The likelier class of each row.
    ///
    /// # Errors
    /// Features of another number of columns, none, or such that are not finite.
    pub fn predict<'a>(&self, x: impl Into<TensorView<'a, f64>>) -> Result<DVector<Index>> {
        Ok(self.logits("predict", x)?.map(|z| Index::from(z > 0.0)))
    }

    /// The probabilities of both classes, (n, 2).
    ///
    /// # Errors
    /// As [`LogisticModel::predict`].
    pub fn predict_probabilities<'a>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
    ) -> Result<DMatrix<f64>> {
        let z = self.logits("predict_probabilities", x)?;
        // Each by itself, so that small ones keep their digits.
        Ok(DMatrix::from_fn(z.len(), 2, |i, class| {
            let z = if class == 0 { z[i] } else { -z[i] };
            1.0 / (1.0 + z.exp())
        }))
    }

    fn logits<'a>(&self, op: &str, x: impl Into<TensorView<'a, f64>>) -> Result<DVector<f64>> {
        let x = features_of(op, x, self.coefficients.len())?;
        Ok((x * &self.coefficients).add_scalar(self.intercept))
    }
}
