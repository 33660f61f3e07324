//! Features standardized for the minimizer of a smooth objective, and the way back. Knows no
//! objective.

use super::input::features;
use crate::closure::Minimum;
use crate::data::Standardizer;
use crate::error::{Result, bail};
use crate::optim::{NewtonCg, Reason};
use crate::{Expr, Tensor, TensorView};
use nalgebra::{DMatrix, DVector};

/// The gradient of an objective divided by n, in standardized features: coefficients then have
/// about six digits or more.
pub(super) const TOLERANCE: f64 = 1e-10;

/// The option that estimators with such an objective share.
macro_rules! with_tolerance {
    ($name:ident) => {
        impl $name {
            /// With a fit that ends when the gradient, of the objective divided by the number of
            /// samples and in standardized features, is at most this in each element; the default
            /// is 10⁻¹⁰, scikit-learn's 10⁻⁴ or 10⁻⁵.
            pub fn with_tolerance(self, tolerance: f64) -> Self {
                $name { tolerance, ..self }
            }
        }
    };
}
pub(super) use with_tolerance;

/// Standardized features Z = (X − m)/s with a column of ones for the intercept. Parameters v of Z
/// stand for w = v/s and b = v₀ − m·w.
pub(super) struct Smooth {
    /// (n, p + 1), or (n, p) without intercept; then means are 0.
    pub(super) z: DMatrix<f64>,
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Smooth {
    pub(super) fn new<'a>(
        op: &str,
        x: impl Into<TensorView<'a, f64>>,
        intercept: bool,
    ) -> Result<Self> {
        let x = Tensor::from(features(op, x)?.clone_owned());
        let standardizer = Standardizer::fit(&x)?;
        let (mean, scale) = (standardizer.mean().to_vec(), standardizer.scale().to_vec());
        let mut smooth = Smooth { z: x.into_matrix()?, mean, scale };
        let p = smooth.z.ncols();
        if !intercept {
            smooth.mean.fill(0.0);
        }
        for (j, mut column) in smooth.z.column_iter_mut().enumerate() {
            let (mean, scale) = (smooth.mean[j], smooth.scale[j]);
            column.iter_mut().for_each(|x| *x = (*x - mean) / scale);
        }
        if intercept {
            smooth.z = smooth.z.insert_column(p, 1.0);
        }
        Ok(smooth)
    }

    /// The number of samples.
    pub(super) fn n(&self) -> usize {
        self.z.nrows()
    }

    /// The number of parameters of one output.
    pub(super) fn width(&self) -> usize {
        self.z.ncols()
    }

    /// ½‖w‖² of parameters v, (width) or (width, classes); the intercept does not count.
    pub(super) fn penalty<'t>(&self, v: Expr<'t, f64>) -> Expr<'t, f64> {
        let mut per_unit = DVector::zeros(self.width());
        per_unit.iter_mut().zip(&self.scale).for_each(|(u, s)| *u = 1.0 / s);
        let per_unit = match v.rank() {
            1 => v.constant(&per_unit),
            _ => v.constant(&per_unit).expand_dims(&[1]),
        };
        0.5 * (v * per_unit).square().sum()
    }

    /// w, (p, classes), and b of parameters v.
    pub(super) fn original(&self, v: &DMatrix<f64>) -> (DMatrix<f64>, DVector<f64>) {
        let p = self.scale.len();
        let w = DMatrix::from_fn(p, v.ncols(), |j, k| v[(j, k)] / self.scale[j]);
        let b = DVector::from_fn(v.ncols(), |k, _| {
            let at_mean = if self.width() > p { v[(p, k)] } else { 0.0 };
            at_mean - w.column(k).iter().zip(&self.mean).map(|(w, m)| w * m).sum::<f64>()
        });
        (w, b)
    }

    /// As [`Smooth::original`], of one output.
    pub(super) fn original_of_one(&self, v: &[f64]) -> (DVector<f64>, f64) {
        let (w, b) = self.original(&DMatrix::from_column_slice(v.len(), 1, v));
        (w.column(0).clone_owned(), b[0])
    }
}

/// Newton's method: its last steps are so short that the answer has all digits that rounding
/// leaves.
pub(super) fn newton(tolerance: f64) -> NewtonCg {
    NewtonCg::new().with_gradient_tolerance(tolerance)
}

/// The point of a minimum that was reached as far as rounding allows.
pub(super) fn reached<P>(op: &str, found: Minimum<P>) -> Result<P> {
    match found.outcome.reason {
        Reason::Converged | Reason::NoProgress => Ok(found.w),
        _ => bail!(NotConverged, "{op}: expected a minimum, got {}", found.outcome),
    }
}
