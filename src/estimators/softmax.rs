//! Softmax (multinomial logistic) regression.

use super::file::{self, B, W};
use super::input::{features_of, labels};
use super::logistic::{penalty_weight, separated};
use super::smooth::{Smooth, TOLERANCE, reached, with_tolerance};
use super::{class_score, with_c, with_intercept};
use crate::data::metrics::argmax;
use crate::error::{Result, bail};
use crate::optim::Lbfgs;
use crate::{Index, Notes, Tensor, TensorView, minimize};
use nalgebra::{DMatrix, DVector};
use std::path::Path;

const OP: &str = "softmax_regression";
const KIND: &str = "softmax";
/// Pairs of changes that L-BFGS keeps: at most so many, of at most so many numbers, but some.
const HISTORY: usize = 120;
const HISTORY_LEN: usize = 1 << 23;
const LEAST_HISTORY: usize = 10;
/// Up to so many parameters the pairs know all curvature there is.
const FEW: usize = 80;

/// Two classes or more: p(k | x) = softmax(xᵀW + b)ₖ with W and b that make
/// C Σᵢ [ln Σₖ exp zᵢₖ − zᵢ,yᵢ] + ½‖W‖² least, z = XW + b, as scikit-learn's
/// `LogisticRegression` for several classes. Intercepts add up to 0: only their differences count.
///
/// By [`Lbfgs`].
///
/// ```
/// use gradtape::estimators::SoftmaxRegression;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_column_slice(6, 1, &[0.0, 0.5, 4.0, 4.5, 9.0, 9.5]);
/// let y = DVector::from_vec(vec![0, 0, 1, 1, 2, 2]);
/// let model = SoftmaxRegression::new().with_c(10.0).fit(&x, &y)?;
/// assert_eq!(model.predict(&x)?, y);
/// assert_eq!(model.score(&x, &y)?, 1.0);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SoftmaxRegression {
    c: f64,
    intercept: bool,
    tolerance: f64,
}

with_intercept!(SoftmaxRegression);
with_tolerance!(SoftmaxRegression);
with_c!(SoftmaxRegression);

impl SoftmaxRegression {
    /// With C = 1 and intercepts.
    pub fn new() -> Self {
        SoftmaxRegression { c: 1.0, intercept: true, tolerance: TOLERANCE }
    }

    /// Fits features (n, p) and labels `[n]` from 0 to the number of classes, less 1.
    ///
    /// # Errors
    /// Shapes that do not fit; features that are not finite; labels of one class, or a class
    /// without samples; C out of range; without a penalty, classes that planes separate
    /// (`NotConverged`).
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, Index>>,
    ) -> Result<SoftmaxModel> {
        let weight = penalty_weight(OP, self.c)?;
        let design = Smooth::new(OP, x, self.intercept)?;
        let (labels, n_classes) = labels(OP, y, design.n())?;
        let start = DMatrix::zeros(design.width(), n_classes);
        // Products with the Hessian of all classes cost more than they save. Features that are
        // orthonormal under the curvature near the minimum save a quarter of the evaluations, as
        // the diagonal does, but take several times as many where C is large.
        let history = (HISTORY_LEN / (2 * start.len())).clamp(LEAST_HISTORY, HISTORY);
        let mut method = Lbfgs::new().with_history(history).with_gradient_tolerance(self.tolerance);
        if start.len() > FEW {
            method = method.with_diagonal();
        }
        let found = minimize(
            |v| {
                let labels = v.tape().index_constant(Tensor::vector(labels.to_vec()));
                let loss = v.constant(&design.z).matmul(v).softmax_cross_entropy(labels).mean();
                loss + design.penalty(v) * (weight / design.n() as f64)
            },
            start,
            method,
        )?;
        let v = reached(OP, found)?;
        if weight == 0.0 && argmax(&(&design.z * &v).into())?.as_slice() == labels {
            return Err(separated(OP));
        }
        let (coefficients, intercepts) = design.original(&v);
        let mean = intercepts.mean();
        Ok(SoftmaxModel { coefficients, intercepts: intercepts.add_scalar(-mean) })
    }
}

/// p(k | x) = softmax(xᵀW + b)ₖ: a fitted [`SoftmaxRegression`].
#[derive(Clone, Debug, PartialEq)]
pub struct SoftmaxModel {
    /// W, (p, classes).
    pub coefficients: DMatrix<f64>,
    /// b, `[classes]`.
    pub intercepts: DVector<f64>,
}

class_score!(SoftmaxModel);

impl SoftmaxModel {
    /// The likeliest class of each row.
    ///
    /// # Errors
    /// Features of another number of columns, none, or such that are not finite.
    pub fn predict<'a>(&self, x: impl Into<TensorView<'a, f64>>) -> Result<DVector<Index>> {
        argmax(&self.logits("predict", x)?.into())?.into_dvector()
    }

    /// The probability of each class, (n, classes).
    ///
    /// # Errors
    /// As [`SoftmaxModel::predict`].
    pub fn predict_probabilities<'a>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
    ) -> Result<DMatrix<f64>> {
        let mut z = self.logits("predict_probabilities", x)?;
        softmax_rows(&mut z);
        Ok(z)
    }

    /// Saves the model as a safetensors file with `coefficients` and `intercept`, as
    /// [`Session::save`](crate::Session::save).
    ///
    /// # Errors
    /// The file cannot be written; then it is as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (p, n_classes) = self.coefficients.shape();
        let w = (W.into(), self.coefficients.clone().into());
        let b = (B.into(), self.intercepts.clone().into());
        file::save(path, KIND, &[p, n_classes], Notes::new(), vec![w, b])
    }

    /// The model that was saved there, to the bit.
    ///
    /// # Errors
    /// As [`Session::load`](crate::Session::load); also a file of another model.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let shapes = |e: &[usize]| vec![(W.into(), [e[0], e[1]].into()), (B.into(), e[1].into())];
        match <[_; 2]>::try_from(file::load(path, KIND, 2, shapes)?.1) {
            Ok([w, b]) => {
                Ok(SoftmaxModel { coefficients: w.into_matrix()?, intercepts: b.into_dvector()? })
            }
            Err(got) => bail!(Format, "{KIND}: expected two parameters, got {}", got.len()),
        }
    }

    fn logits<'a>(&self, op: &str, x: impl Into<TensorView<'a, f64>>) -> Result<DMatrix<f64>> {
        let x = features_of(op, x, self.coefficients.nrows())?;
        let mut z = x * &self.coefficients;
        z.column_iter_mut().zip(&self.intercepts).for_each(|(mut z, b)| z.add_scalar_mut(*b));
        Ok(z)
    }
}

/// Each row becomes its softmax.
pub(super) fn softmax_rows(z: &mut DMatrix<f64>) {
    for mut row in z.row_iter_mut() {
        let largest = row.max();
        row.apply(|z| *z = (*z - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
}
