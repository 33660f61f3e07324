//! Features brought to mean 0 and standard deviation 1, by numbers taken from one part of the data
//! and applied to all.

use crate::error::{Result, bail};
use crate::{Scalar, Shape, Tensor};

/// Takes the mean from each feature and divides by its standard deviation:
/// z = (x − mean) / std, with std² = Σ (x − mean)² / n (ddof 0), summed in f64.
///
/// A constant feature has no deviation: its scale is 1, so that it becomes 0. Fit it on the
/// training part only, or the test part leaks into training.
///
/// ```
/// use gradtape::{Tensor, data::Standardizer};
/// let mut x = Tensor::from_rows([2, 2], &[1.0, 5.0, 3.0, 5.0])?;
/// let scale = Standardizer::fit(&x)?;
/// scale.apply(&mut x)?;
/// assert_eq!(x, Tensor::from_rows([2, 2], &[-1.0, 0.0, 1.0, 0.0])?);
/// scale.inverse(&mut x)?;
/// assert_eq!(x, Tensor::from_rows([2, 2], &[1.0, 5.0, 3.0, 5.0])?);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Standardizer<T: Scalar = f64> {
    /// The shape of the samples, their number aside.
    shape: Shape,
    mean: Vec<T>,
    scale: Vec<T>,
}

impl<T: Scalar> Standardizer<T> {
    /// Mean and standard deviation of every feature of x, shape `[n, …]`.
    ///
    /// # Errors
    /// No samples, or a number that is not finite: its sample and feature.
    pub fn fit(x: &Tensor<T>) -> Result<Self> {
        let shape = x.shape();
        let Some(n) = shape.dim(0).filter(|&n| n > 0) else {
            bail!(Shape, "standardizer: expected at least one sample, got {shape}");
        };
        let (mut mean, mut scale) = (Vec::new(), Vec::new());
        for (feature, column) in x.as_slice().chunks_exact(n).enumerate() {
            if let Some(row) = column.iter().position(|x| !x.is_finite()) {
                let x = column[row];
                bail!(
                    NotFinite,
                    "standardizer: expected finite numbers, got {x} in sample {row}, feature \
                     {feature}"
                );
            }
            let (m, s) = mean_and_std(column);
            mean.push(T::lit(m));
            // A deviation too small for T is none.
            scale.push(Some(T::lit(s)).filter(|s| *s > T::zero()).unwrap_or(T::one()));
        }
        Ok(Standardizer { shape, mean, scale })
    }

    /// The mean of every feature, in column-major order of a sample.
    pub fn mean(&self) -> &[T] {
        &self.mean
    }

    /// What every feature is divided by: its standard deviation, or 1 if it is constant.
    pub fn scale(&self) -> &[T] {
        &self.scale
    }

    /// Standardizes x, shape `[n, …]`, in place.
    ///
    /// # Errors
    /// Samples of another shape than those it was fitted on.
    pub fn apply(&self, x: &mut Tensor<T>) -> Result<()> {
        self.each(x, |x, mean, scale| (x - mean) / scale)
    }

    /// Undoes [`Standardizer::apply`] but for rounding.
    ///
    /// # Errors
    /// Samples of another shape than those it was fitted on.
    pub fn inverse(&self, x: &mut Tensor<T>) -> Result<()> {
        self.each(x, |x, mean, scale| x * scale + mean)
    }

    fn each(&self, x: &mut Tensor<T>, f: impl Fn(T, T, T) -> T) -> Result<()> {
        let n = match x.shape().dim(0) {
            Some(n) if self.shape.with(0, n) == x.shape() => n,
            _ => {
                let want = self.shape.with(0, crate::ANY);
                bail!(Shape, "standardizer: expected {want}, got {}", x.shape())
            }
        };
        let columns = x.as_mut_slice().chunks_exact_mut(n.max(1));
        for (column, (&mean, &scale)) in columns.zip(self.mean.iter().zip(&self.scale)) {
            column.iter_mut().for_each(|x| *x = f(*x, mean, scale));
        }
        Ok(())
    }
}

/// Both of a column that is not empty; a constant one gives itself and 1.
fn mean_and_std<T: Scalar>(column: &[T]) -> (f64, f64) {
    let first = column[0].to_f64();
    if column.iter().all(|x| x.to_f64() == first) {
        // Rounding of the sum would leave a deviation of some ulps, and x / that is anything.
        return (first, 1.0);
    }
    let n = column.len() as f64;
    // Differences do not cancel, and those divided by the largest do not overflow when squared.
    let mean = first + column.iter().map(|x| x.to_f64() - first).sum::<f64>() / n;
    let largest = column.iter().map(|x| (x.to_f64() - mean).abs()).fold(0.0, f64::max);
    let squares = column.iter().map(|x| ((x.to_f64() - mean) / largest).powi(2)).sum::<f64>();
    (mean, largest * (squares / n).sqrt())
}
