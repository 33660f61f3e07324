//! What estimators are given, looked at before anything is computed: shapes, numbers, labels.

use crate::error::{Result, bail};
use crate::{Index, TensorView};
use nalgebra::{DMatrixView, DVectorView};

/// Features of at least one sample, all finite.
pub(super) fn features<'a>(
    op: &str,
    x: impl Into<TensorView<'a, f64>>,
) -> Result<DMatrixView<'a, f64>> {
    let x = x.into();
    match x.shape().extents() {
        [n, p] if *n > 0 && *p > 0 => {}
        _ => bail!(Shape, "{op}: expected features (n, p), got {}", x.shape()),
    }
    let n = x.shape().extents()[0];
    if let Some(at) = x.as_slice().iter().position(|x| !x.is_finite()) {
        let (got, row, column) = (x.as_slice()[at], at % n, at / n);
        bail!(NotFinite, "{op}: expected finite features, got {got} in row {row}, column {column}");
    }
    Ok(x.as_matrix())
}

/// Features of as many columns as the model was fitted on.
pub(super) fn features_of<'a>(
    op: &str,
    x: impl Into<TensorView<'a, f64>>,
    p: usize,
) -> Result<DMatrixView<'a, f64>> {
    let x = features(op, x)?;
    match x.ncols() {
        got if got == p => Ok(x),
        got => bail!(Shape, "{op}: expected {p} features as in the fit, got {got}"),
    }
}

/// A finite target for each of n samples.
pub(super) fn targets<'a>(
    op: &str,
    y: impl Into<TensorView<'a, f64>>,
    n: usize,
) -> Result<DVectorView<'a, f64>> {
    let y = y.into();
    if y.shape().extents() != [n] {
        bail!(Shape, "{op}: expected {n} targets, one for each row, got {}", y.shape());
    }
    if let Some(row) = y.as_slice().iter().position(|y| !y.is_finite()) {
        bail!(NotFinite, "{op}: expected finite targets, got {} in row {row}", y.as_slice()[row]);
    }
    Ok(DVectorView::from_slice(y.as_slice(), n))
}

/// A label for each of n samples, and the number of classes, each of which has a sample.
pub(super) fn labels<'a>(
    op: &str,
    y: impl Into<TensorView<'a, Index>>,
    n: usize,
) -> Result<(&'a [Index], usize)> {
    let y = y.into();
    if y.shape().extents() != [n] {
        bail!(Shape, "{op}: expected {n} labels, one for each row, got {}", y.shape());
    }
    let labels = y.as_slice();
    let n_classes = labels.iter().max().map_or(0, |&label| label as usize + 1);
    if n_classes < 2 {
        bail!(Argument, "{op}: expected labels of two classes or more, got only 0");
    }
    // Before memory is taken for the classes.
    if n_classes > n {
        let got = n_classes - 1;
        bail!(Argument, "{op}: expected labels from 0 without gaps, got {got} among {n} samples");
    }
    let mut occurs = vec![false; n_classes];
    labels.iter().for_each(|&label| occurs[label as usize] = true);
    if let Some(class) = occurs.iter().position(|occurs| !occurs) {
        bail!(Argument, "{op}: expected samples of each class, got none of {class}");
    }
    Ok((labels, n_classes))
}

/// A hyperparameter that is finite and not negative.
pub(super) fn not_negative(op: &str, what: &str, x: f64) -> Result<()> {
    match x >= 0.0 && x.is_finite() {
        true => Ok(()),
        false => bail!(Argument, "{op}: expected a finite {what} ≥ 0, got {x}"),
    }
}
