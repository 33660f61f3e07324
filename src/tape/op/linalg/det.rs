//! Determinants: the value, its sign, and the logarithm of its magnitude.

use super::{Lu, batch, batch_rows, each, singular, square};
use crate::error::Result;
use crate::kernel::linalg::{Pivot, gather};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::Expr;
use crate::tape::op::{Arg, Cotangents, Derivative, Out, Primitive, RowRule, Vjp};

/// `(A, factors)`: of the determinant of A by the factors of [`Lu`], `(…, n, n) -> (…)`; the
/// elements of A are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Det {
    /// The determinant.
    Value,
    /// Its sign, 0 if it is 0.
    Sign,
    /// The logarithm of its magnitude.
    LogAbs,
}

impl<T: Scalar> Primitive<T> for Det {
    fn name(&self) -> &str {
        match self {
            Det::Value => "det",
            Det::Sign => "det_sign",
            Det::LogAbs => "log_det",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        square(&x[0])?;
        Ok(batch(&x[0]))
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let (n, out) = (square(&x[0].shape())?, y.shape());
        let (packed, y) = (x[1].float(), y.float());
        let factors = &mut scratch[..n * n + n];
        each([&x[1]], &out, |i, _| {
            gather(packed, i, out.len(), factors);
            let (factors, rows) = factors.split_at(n * n);
            let pivots = (0..n).map(|k| factors[k + k * n]);
            let exchanges = (0..n).filter(|&k| rows[k] != T::lit(k as f64)).count();
            let sign = if exchanges % 2 == 0 { T::one() } else { -T::one() };
            y[i] = match self {
                Det::Value => pivots.fold(sign, |det, pivot| det * pivot),
                Det::Sign => pivots.fold(sign, |sign, pivot| match pivot == T::zero() {
                    true => T::zero(),
                    false => sign * pivot.signum(),
                }),
                Det::LogAbs => {
                    let mut sum = T::zero();
                    for (at, value) in pivots.enumerate() {
                        if value == T::zero() || value.is_nan() {
                            let pivot = Pivot { at, value };
                            return Err(singular("an invertible", pivot, i, out.len()));
                        }
                        sum += value.abs().ln();
                    }
                    sum
                }
            };
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        square(&x[0]).map_or(0, |n| n * n + n)
    }

    fn reads(&self, i: usize) -> bool {
        i == 1
    }

    fn derivative(&self, i: usize) -> Derivative {
        match (self, i) {
            (Det::Sign, _) | (_, 1) => Derivative::Zero,
            _ => Derivative::Smooth,
        }
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, .. } = at;
        let inverse = || x[0].inverse_of(x[1], true);
        Ok(vec![
            match self {
                Det::Value => Some((ct * y).expand_dims(&[-2, -1]) * inverse()),
                Det::LogAbs => Some(ct.expand_dims(&[-2, -1]) * inverse()),
                Det::Sign => None,
            },
            None,
        ])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The determinant, `(…, n, n) -> (…)`, by the LU factors that [`Expr::solve`] shares.
    ///
    /// VJP: Ā = d̄·det A·A⁻ᵀ (Giles 2008, section 2.2.4). At a singular matrix the value is 0 and
    /// the gradient, the matrix of cofactors, exists, but this formula for it does not: a run that
    /// wants it fails as [`Expr::inverse`]. Cost: 2n³/3 flops for each matrix; its VJP 2n³.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.constant(Tensor::from_rows([2, 2], &[1.0, 2.0, 3.0, 4.0])?);
    /// let (det, (sign, log_abs)) = (a.det(), a.slogdet());
    /// let (det, sign, log_abs) = Session::new(&tape)?.run((det, sign, log_abs), &[])?;
    /// assert!((det.item()? + 2.0).abs() < 1e-15);
    /// assert_eq!(sign.item()?, -1.0);
    /// assert!((log_abs.item()? - 2f64.ln()).abs() < 1e-15);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn det(self) -> Expr<'t, T> {
        self.of_factors("det", Det::Value)
    }

    /// log|det A|, `(…, n, n) -> (…)`, where the [determinant](Expr::det) itself would overflow.
    ///
    /// VJP: Ā = d̄·A⁻ᵀ (Giles 2008, section 2.2.4). Cost: 2n³/3 flops for each matrix; its VJP 2n³.
    ///
    /// # Errors
    /// A run fails where A is singular; it names the pivot, from 0.
    #[track_caller]
    pub fn log_det(self) -> Expr<'t, T> {
        self.of_factors("log_det", Det::LogAbs)
    }

    /// The sign of the determinant, whose derivative is zero, and [`Expr::log_det`].
    ///
    /// # Errors
    /// A run that fetches the logarithm fails where A is singular; the sign is 0 there.
    #[track_caller]
    pub fn slogdet(self) -> (Expr<'t, T>, Expr<'t, T>) {
        (self.of_factors("slogdet", Det::Sign), self.of_factors("slogdet", Det::LogAbs))
    }

    #[track_caller]
    fn of_factors(self, method: &str, det: Det) -> Expr<'t, T> {
        match self.factors(method, Lu) {
            Ok(factors) => self.tape().apply(det, &[self, factors]),
            Err(mistake) => mistake,
        }
    }
}
