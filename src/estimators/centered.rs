//! Features and targets less their means, for least squares whose intercept is then known.

use nalgebra::{DMatrix, DMatrixView, DVector, DVectorView};

/// Columns with mean 0, or as they were where there is no intercept.
pub(super) struct Centered {
    pub(super) x: DMatrix<f64>,
    pub(super) y: DVector<f64>,
    x_mean: DVector<f64>,
    y_mean: f64,
}

impl Centered {
    pub(super) fn new(x: DMatrixView<'_, f64>, y: DVectorView<'_, f64>, intercept: bool) -> Self {
        let (mut x, mut y) = (x.clone_owned(), y.clone_owned());
        let (mut x_mean, mut y_mean) = (DVector::zeros(x.ncols()), 0.0);
        if intercept {
            for (mut column, mean) in x.column_iter_mut().zip(&mut x_mean) {
                *mean = center(column.as_mut_slice());
            }
            y_mean = center(y.as_mut_slice());
        }
        Centered { x, y, x_mean, y_mean }
    }

    /// The intercept that goes with these coefficients.
    pub(super) fn intercept(&self, coefficients: &DVector<f64>) -> f64 {
        self.y_mean - self.x_mean.dot(coefficients)
    }
}

/// Takes the mean away, and gives it. What is constant becomes 0 to the bit.
fn center(column: &mut [f64]) -> f64 {
    let first = column[0];
    let mean = first + column.iter().map(|x| x - first).sum::<f64>() / column.len() as f64;
    column.iter_mut().for_each(|x| *x -= mean);
    mean
}
