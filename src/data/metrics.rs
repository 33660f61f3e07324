//! How good predictions are: of classes, of probabilities, of numbers. Each function takes the
//! truth first, and knows no model.

use crate::error::{Result, bail};
use crate::{Index, Scalar, Shape, Tensor};
use std::fmt;

/// The class of the largest score in every row: `[n, classes]` → `[n]`; the first of equal ones.
///
/// # Errors
/// A rank other than 2, no classes, or a NaN.
pub fn argmax<T: Scalar>(scores: &Tensor<T>) -> Result<Tensor<Index>> {
    let &[n, classes] = scores.shape().extents() else {
        bail!(Shape, "argmax: expected [n, classes], got {}", scores.shape());
    };
    if classes == 0 {
        bail!(Shape, "argmax: expected at least one class, got {}", scores.shape());
    }
    let s = scores.as_slice();
    if let Some(at) = s.iter().position(|x| x.is_nan()) {
        bail!(NotFinite, "argmax: got NaN in row {}, class {}", at % n, at / n);
    }
    let largest = |row: usize| {
        (1..classes).fold(0, |best, c| if s[row + n * c] > s[row + n * best] { c } else { best })
    };
    Tensor::from_fn([n], |at| largest(at[0]) as Index)
}

/// The share of predictions that are right: `[n]` `[n]` → a number in 0..=1.
///
/// # Errors
/// Different lengths, or none.
pub fn accuracy(truth: &Tensor<Index>, predicted: &Tensor<Index>) -> Result<f64> {
    check("accuracy", truth.shape(), predicted.shape())?;
    let right = truth.as_slice().iter().zip(predicted.as_slice()).filter(|(t, p)| t == p).count();
    Ok(right as f64 / truth.len() as f64)
}

/// How often each class was taken for each: rows are the truth, columns the prediction.
///
/// ```
/// use gradtape::{Tensor, data::metrics::ConfusionMatrix};
/// let [truth, predicted] = [[0, 0, 1, 1], [0, 1, 1, 1]].map(|v| Tensor::vector(v.to_vec()));
/// let matrix = ConfusionMatrix::new(&truth, &predicted, 2)?.with_names(["no", "yes"])?;
/// assert_eq!(matrix.count(0, 1), 1);
/// assert_eq!(matrix.class(1).recall, 1.0);
/// assert_eq!(matrix.to_string(), "\
/// truth \\ predicted no yes
///                no  1   1
///               yes  0   2
/// ");
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ConfusionMatrix {
    names: Vec<String>,
    /// Row after row.
    counts: Vec<u64>,
}

/// Precision, recall and F1. What would be 0 / 0 is 0, as in scikit-learn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Of those predicted to be of the class, the share that is.
    pub precision: f64,
    /// Of those of the class, the share predicted to be.
    pub recall: f64,
    /// 2·precision·recall / (precision + recall).
    pub f1: f64,
}

impl ConfusionMatrix {
    /// Counts the pairs of `truth` and `predicted`, both `[n]`, of classes below `n_classes`.
    ///
    /// # Errors
    /// Different lengths, or none; a class not below `n_classes`.
    pub fn new(truth: &Tensor<Index>, predicted: &Tensor<Index>, n_classes: usize) -> Result<Self> {
        check("confusion matrix", truth.shape(), predicted.shape())?;
        let all = truth.as_slice().iter().chain(predicted.as_slice());
        if let Some(class) = all.max().filter(|&&class| class as usize >= n_classes) {
            bail!(Index, "confusion matrix: expected classes below {n_classes}, got {class}");
        }
        let mut counts = Tensor::<u64>::zeros([n_classes, n_classes])?.into_vec();
        for (&t, &p) in truth.as_slice().iter().zip(predicted.as_slice()) {
            counts[t as usize * n_classes + p as usize] += 1;
        }
        let names = (0..n_classes).map(|class| class.to_string()).collect();
        Ok(ConfusionMatrix { names, counts })
    }

    /// The same matrix, its classes named, class 0 first.
    ///
    /// # Errors
    /// Not as many names as classes.
    pub fn with_names<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() != self.n_classes() {
            let (want, got) = (self.n_classes(), names.len());
            bail!(Argument, "confusion matrix: expected {want} names, got {got}");
        }
        Ok(ConfusionMatrix { names, ..self })
    }

    /// The number of classes.
    pub fn n_classes(&self) -> usize {
        self.names.len()
    }

    /// How many of class `truth` were taken for `predicted`; 0 for classes that are not there.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        let n = self.n_classes();
        if truth < n && predicted < n { self.counts[truth * n + predicted] } else { 0 }
    }

    /// The share of predictions that are right.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.n_classes()).map(|c| self.count(c, c)).sum();
        ratio(right, self.counts.iter().sum())
    }

    /// The scores of one class against all others.
    pub fn class(&self, class: usize) -> Scores {
        let (truth, predicted) = self.totals(class);
        Scores::new(self.count(class, class), truth, predicted)
    }

    /// The mean of the classes' scores, over those that occur in truth or prediction.
    pub fn macro_average(&self) -> Scores {
        let occur = |&c: &usize| self.totals(c) != (0, 0);
        let scores: Vec<Scores> =
            (0..self.n_classes()).filter(occur).map(|c| self.class(c)).collect();
        let mean = |f: fn(&Scores) -> f64| scores.iter().map(f).sum::<f64>() / scores.len() as f64;
        Scores { precision: mean(|s| s.precision), recall: mean(|s| s.recall), f1: mean(|s| s.f1) }
    }

    /// The scores of the counts of all classes added up. With one label a sample all three are the
    /// accuracy.
    pub fn micro_average(&self) -> Scores {
        let right = (0..self.n_classes()).map(|c| self.count(c, c)).sum();
        let all = self.counts.iter().sum();
        Scores::new(right, all, all)
    }

    /// How many are of a class, and how many were predicted to be.
    fn totals(&self, class: usize) -> (u64, u64) {
        let classes = 0..self.n_classes();
        let truth = classes.clone().map(|p| self.count(class, p)).sum();
        (truth, classes.map(|t| self.count(t, class)).sum())
    }
}

impl Scores {
    fn new(right: u64, truth: u64, predicted: u64) -> Self {
        Scores {
            precision: ratio(right, predicted),
            recall: ratio(right, truth),
            f1: ratio(2 * right, truth + predicted),
        }
    }
}

impl fmt::Display for ConfusionMatrix {
    /// A table with the names of the classes on both sides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CORNER: &str = "truth \\ predicted";
        let names = || self.names.iter().map(|name| name.chars().count());
        let left = names().max().unwrap_or(0).max(CORNER.len());
        let largest = self.counts.iter().max().map_or(0, |count| count.to_string().len());
        let widths: Vec<usize> = names().map(|width| width.max(largest)).collect();
        write!(f, "{CORNER:>left$}")?;
        for (name, width) in self.names.iter().zip(&widths) {
            write!(f, " {name:>width$}")?;
        }
        writeln!(f)?;
        for (truth, name) in self.names.iter().enumerate() {
            write!(f, "{name:>left$}")?;
            for (predicted, width) in widths.iter().enumerate() {
                write!(f, " {:>width$}", self.count(truth, predicted))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The area under the ROC curve: the probability that a sample of class 1 scores higher than one of
/// class 0, ties counting one half. `[n]` labels 0 and 1, as many scores. O(n log n).
///
/// # Errors
/// Different numbers, or none; a label above 1; only one class; a NaN.
pub fn roc_auc<T: Scalar>(truth: &Tensor<Index>, score: &Tensor<T>) -> Result<f64> {
    // Scores often come as [n, 1].
    check("roc_auc", truth.shape(), [score.len()].into())?;
    if let Some(label) = truth.as_slice().iter().find(|&&label| label > 1) {
        bail!(Index, "roc_auc: expected labels 0 and 1, got {label}");
    }
    if let Some(at) = score.as_slice().iter().position(|x| x.is_nan()) {
        bail!(NotFinite, "roc_auc: got NaN as score {at}");
    }
    let pairs = score.as_slice().iter().map(|x| x.to_f64()).zip(truth.as_slice());
    let mut pairs: Vec<(f64, Index)> = pairs.map(|(score, &label)| (score, label)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of (1, 0) pairs in the right order: whole numbers, hence exact.
    let (mut ones, mut zeros, mut doubled) = (0u128, 0u128, 0u128);
    for tied in pairs.chunk_by(|a, b| a.0 == b.0) {
        let tied_ones = tied.iter().filter(|(_, label)| *label == 1).count() as u128;
        let tied_zeros = tied.len() as u128 - tied_ones;
        doubled += tied_ones * (2 * zeros + tied_zeros);
        (ones, zeros) = (ones + tied_ones, zeros + tied_zeros);
    }
    if ones == 0 || zeros == 0 {
        bail!(Argument, "roc_auc: expected both classes, got {zeros} of 0 and {ones} of 1");
    }
    Ok(doubled as f64 / (2 * ones * zeros) as f64)
}

/// The mean of −ln p of the true class: labels `[n]`, probabilities `[n, classes]`. A probability
/// below the scalar type's epsilon counts as epsilon, as in scikit-learn.
///
/// # Errors
/// Different numbers of rows, or none; a label not below the number of classes; a row that is not
/// a distribution: numbers outside 0..=1, or of another sum than 1 (to √epsilon).
pub fn log_loss<T: Scalar>(truth: &Tensor<Index>, probabilities: &Tensor<T>) -> Result<f64> {
    let &[n, classes] = probabilities.shape().extents() else {
        bail!(Shape, "log_loss: expected [n, classes], got {}", probabilities.shape());
    };
    check("log_loss", truth.shape(), [n].into())?;
    let p = |row: usize, class: usize| probabilities.as_slice()[row + n * class].to_f64();
    let mut loss = 0.0;
    for (row, &label) in truth.as_slice().iter().enumerate() {
        let label = label as usize;
        if label >= classes {
            bail!(Index, "log_loss: expected labels below {classes}, got {label} in row {row}");
        }
        let sum: f64 = (0..classes).map(|class| p(row, class)).sum();
        let proper = (0..classes).all(|class| (0.0..=1.0).contains(&p(row, class)));
        if !proper || (sum - 1.0).abs() > T::EPSILON.sqrt() {
            bail!(Argument, "log_loss: expected probabilities of sum 1, got {sum} in row {row}");
        }
        loss -= p(row, label).clamp(T::EPSILON, 1.0 - T::EPSILON).ln();
    }
    Ok(loss / n as f64)
}

/// The coefficient of determination R² = 1 − Σ (ŷ − y)² / Σ (y − ȳ)², for several columns the mean
/// of theirs. `[n]` `[n]` or `[n, k]` `[n, k]`.
///
/// # Errors
/// Different shapes, or no samples; a column of the truth that is constant.
pub fn r2<T: Scalar>(truth: &Tensor<T>, predicted: &Tensor<T>) -> Result<f64> {
    check("r2", truth.shape(), predicted.shape())?;
    let n = truth.shape().dim(0).unwrap_or(1);
    let columns = truth.as_slice().chunks_exact(n).zip(predicted.as_slice().chunks_exact(n));
    let mut sum = 0.0;
    for (column, (truth, predicted)) in columns.enumerate() {
        if truth.iter().all(|y| *y == truth[0]) {
            bail!(
                Argument,
                "r2: expected a truth that varies, got {} in column {column}",
                truth[0]
            );
        }
        let mean = truth.iter().map(|y| y.to_f64()).sum::<f64>() / n as f64;
        let total: f64 = truth.iter().map(|y| (y.to_f64() - mean).powi(2)).sum();
        sum += 1.0 - residuals(truth, predicted).map(|r| r * r).sum::<f64>() / total;
    }
    Ok(sum / (truth.len() / n) as f64)
}

/// The root of the mean squared residual, over all elements: √(Σ (ŷ − y)² / N).
///
/// # Errors
/// Different shapes, or no elements.
pub fn rmse<T: Scalar>(truth: &Tensor<T>, predicted: &Tensor<T>) -> Result<f64> {
    check("rmse", truth.shape(), predicted.shape())?;
    let squares: f64 = residuals(truth.as_slice(), predicted.as_slice()).map(|r| r * r).sum();
    Ok((squares / truth.len() as f64).sqrt())
}

/// The mean absolute residual, over all elements: Σ |ŷ − y| / N.
///
/// # Errors
/// Different shapes, or no elements.
pub fn mae<T: Scalar>(truth: &Tensor<T>, predicted: &Tensor<T>) -> Result<f64> {
    check("mae", truth.shape(), predicted.shape())?;
    let sum: f64 = residuals(truth.as_slice(), predicted.as_slice()).map(f64::abs).sum();
    Ok(sum / truth.len() as f64)
}

/// ŷ − y.
fn residuals<T: Scalar>(truth: &[T], predicted: &[T]) -> impl Iterator<Item = f64> {
    truth.iter().zip(predicted).map(|(y, p)| p.to_f64() - y.to_f64())
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn check(op: &str, truth: Shape, predicted: Shape) -> Result<()> {
    if truth != predicted {
        bail!(Shape, "{op}: expected a prediction of shape {truth}, got {predicted}");
    }
    if truth.is_empty() {
        bail!(Shape, "{op}: expected at least one sample, got {truth}");
    }
    Ok(())
}
