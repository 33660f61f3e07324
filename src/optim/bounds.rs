//! A box: a lower and an upper bound for each variable of a flat slice.

use super::layout::Layout;
use crate::error::{Result, bail};
use crate::scalar::Scalar;
use crate::tape::AsNode;
use crate::tensor::Tensor;

/// lower ≤ x ≤ upper, elementwise; either may be infinite.
///
/// ```
/// use gradtape::optim::Bounds;
/// let bounds = Bounds::new(vec![0.0, f64::NEG_INFINITY], vec![1.0, 5.0])?;
/// assert_eq!(bounds.upper(), [1.0, 5.0]);
/// assert!(Bounds::new(vec![2.0], vec![1.0]).is_err());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    lower: Vec<f64>,
    upper: Vec<f64>,
}

impl Bounds {
    /// The box between these.
    ///
    /// # Errors
    /// Lengths that differ; a lower bound above its upper one; NaN.
    pub fn new(lower: Vec<f64>, upper: Vec<f64>) -> Result<Self> {
        if lower.len() != upper.len() {
            let (n_lower, n_upper) = (lower.len(), upper.len());
            bail!(Argument, "bounds: expected as many lower as upper, got {n_lower} and {n_upper}");
        }
        let wrong =
            |(lower, upper): &(&f64, &f64)| lower > upper || lower.is_nan() || upper.is_nan();
        if let Some((lower, upper)) = lower.iter().zip(&upper).find(wrong) {
            bail!(Argument, "bounds: expected lower ≤ upper, got {lower} and {upper}");
        }
        Ok(Bounds { lower, upper })
    }

    /// The lower bounds.
    pub fn lower(&self) -> &[f64] {
        &self.lower
    }

    /// The upper bounds.
    pub fn upper(&self) -> &[f64] {
        &self.upper
    }

    /// These bounds, or none there were, with those of one variable replaced: by one number for
    /// all its elements, or by a tensor of its shape.
    pub(super) fn with(
        bounds: Option<Bounds>,
        variables: &Layout,
        variable: impl AsNode,
        lower: &Tensor<f64>,
        upper: &Tensor<f64>,
    ) -> Result<Bounds> {
        let n = variables.len();
        let Bounds { lower: mut all_lower, upper: mut all_upper } = bounds
            .unwrap_or(Bounds { lower: vec![f64::NEG_INFINITY; n], upper: vec![f64::INFINITY; n] });
        let (shape, range) = variables.find(variable)?;
        for (all, new) in [(&mut all_lower, lower), (&mut all_upper, upper)] {
            let all = &mut all[range.clone()];
            match new.as_slice() {
                &[one] if new.rank() == 0 => all.fill(one),
                values if new.shape() == shape => all.copy_from_slice(values),
                _ => bail!(Shape, "bounds: expected a number or {shape}, got {}", new.shape()),
            }
        }
        Bounds::new(all_lower, all_upper)
    }

    /// That there is one for each of `n` variables.
    pub(super) fn check_len(&self, n: usize) -> Result<()> {
        match self.lower.len() {
            got if got == n => Ok(()),
            got => bail!(Argument, "expected bounds for {n} variables, got {got}"),
        }
    }

    pub(super) fn in_units(&self, units: &[f64]) -> Self {
        let divided = |x: &[f64]| x.iter().zip(units).map(|(x, unit)| x / unit).collect();
        Bounds { lower: divided(&self.lower), upper: divided(&self.upper) }
    }

    /// The bounds of variable `i`, as numbers of T.
    pub(super) fn of<T: Scalar>(&self, i: usize) -> (T, T) {
        (T::lit(self.lower[i]), T::lit(self.upper[i]))
    }

    /// The nearest point of the box, in place of x.
    pub(super) fn project<T: Scalar>(&self, x: &mut [T]) {
        for (i, x) in x.iter_mut().enumerate() {
            let (lower, upper) = self.of(i);
            // So that NaN stays.
            if *x < lower {
                *x = lower;
            } else if *x > upper {
                *x = upper;
            }
        }
    }

    /// Whether variable `i` is at a bound that going along −g would leave.
    pub(super) fn holds<T: Scalar>(&self, i: usize, x: T, g: T) -> bool {
        let (lower, upper) = self.of(i);
        (x <= lower && g > T::zero()) || (x >= upper && g < T::zero()) || lower == upper
    }

    /// ‖P(x − g) − x‖∞ with the projection P: 0 where x satisfies the conditions of a minimum.
    pub(super) fn gradient_norm<T: Scalar>(&self, x: &[T], g: &[T]) -> f64 {
        let change = |(i, (&x, &g)): (usize, (&T, &T))| {
            let (lower, upper) = self.of::<T>(i);
            // Not (x − g) − x, which rounds.
            let g = if g > T::zero() { g.min(x - lower) } else { g.max(x - upper) };
            g.abs().to_f64()
        };
        x.iter().zip(g).enumerate().map(change).fold(0.0, f64::max)
    }
}
