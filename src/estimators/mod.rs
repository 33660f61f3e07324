//! Estimators for those who only want the answer: `fit`, `predict`, `score`, as users of
//! scikit-learn and linfa expect. Each is a short file on the public API, most of it the objective.
//!
//! Features x are `(n, p)`, a row a sample; targets are `[n]`, numbers or class labels from 0. Both
//! may be nalgebra's or a [`Tensor`](crate::Tensor). Penalties leave intercepts alone. Smooth
//! objectives are minimized in standardized features, which changes the way and not the minimum.
//! A fit has the same bits each time. Models are saved as safetensors, and loaded to the bit.
//!
//! ```
//! use gradtape::estimators::{Ridge, SoftmaxRegression};
//! use nalgebra::{DMatrix, DVector};
//! let x = DMatrix::from_row_slice(4, 2, &[0.0, 1.0, 1.0, 0.0, 2.0, 1.0, 3.0, 3.0]);
//! let y = DVector::from_vec(vec![1.0, 2.0, 3.9, 5.1]);
//! let model = Ridge::new(0.1).fit(&x, &y)?;
//! assert!(model.score(&x, &y)? > 0.98);
//! let labels = DVector::from_vec(vec![0, 0, 1, 2]);
//! let model = SoftmaxRegression::new().fit(&x, &labels)?;
//! assert_eq!(model.predict(&x)?.len(), 4);
//! assert_eq!(model.predict_probabilities(&x)?.shape(), (4, 3));
//! # Ok::<(), gradtape::Error>(())
//! ```

mod centered;
mod elastic_net;
mod file;
mod huber;
mod input;
mod linear;
mod logistic;
mod mlp;
mod poisson;
mod ridge;
mod smooth;
mod softmax;

pub use elastic_net::{ElasticNet, Lasso};
pub use huber::HuberRegression;
pub use linear::{LinearModel, LinearRegression};
pub use logistic::{LogisticModel, LogisticRegression};
pub use mlp::{MlpClassifier, MlpClassifierModel, MlpRegressor, MlpRegressorModel};
pub use poisson::{PoissonModel, PoissonRegression};
pub use ridge::Ridge;
pub use softmax::{SoftmaxModel, SoftmaxRegression};

/// The option that linear models share.
macro_rules! with_intercept {
    ($name:ident) => {
        impl $name {
            /// With an intercept, which is the default, or without.
            pub fn with_intercept(mut self, intercept: bool) -> Self {
                self.intercept = intercept;
                self
            }
        }
    };
}
use with_intercept;

/// The option that regressions on classes share, and their defaults.
macro_rules! with_c {
    ($name:ident) => {
        impl $name {
            /// With this C > 0, the inverse of the penalty's strength; infinite for no penalty.
            pub fn with_c(self, c: f64) -> Self {
                $name { c, ..self }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $name::new()
            }
        }
    };
}
use with_c;

/// How good a model is that predicts classes.
macro_rules! class_score {
    ($name:ident) => {
        impl $name {
            /// The share of rows whose class is predicted.
            ///
            /// # Errors
            /// As `predict`; labels of another number.
            pub fn score<'a, 'b>(
                &self,
                x: impl Into<$crate::TensorView<'a, f64>>,
                y: impl Into<$crate::TensorView<'b, $crate::Index>>,
            ) -> $crate::error::Result<f64> {
                let predicted = $crate::Tensor::from(self.predict(x)?);
                $crate::data::metrics::accuracy(&y.into().to_tensor(), &predicted)
            }
        }
    };
}
use class_score;
