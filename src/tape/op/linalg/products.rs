//! Powers and Kronecker products of matrices, made of other ops.

use super::{batch, matrix, square};
use crate::error::{Error, ErrorKind};
use crate::scalar::Scalar;
use crate::tape::{Expr, Operand};

impl<'t, T: Scalar> Expr<'t, T> {
    /// Aᵏ of square matrices, `(…, n, n) -> (…, n, n)`, by repeated squaring: the identity for 0,
    /// powers of the [inverse](Expr::inverse) for negative k. Cost: at most 4n³·log₂|k| flops.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let step = tape.constant(Tensor::from_rows([2, 2], &[1.0, 1.0, 1.0, 0.0])?);
    /// let fibonacci = step.matrix_power(10);
    /// let value = Session::new(&tape)?.run(fibonacci, &[])?;
    /// assert_eq!(value.as_slice(), [89.0, 55.0, 55.0, 34.0]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn matrix_power(self, k: i32) -> Expr<'t, T> {
        if let Err(e) = square(&self.shape()) {
            let text = e.message().split_once(": ").map_or(e.message(), |(_, text)| text);
            return self.refuse("matrix_power", Error::new(ErrorKind::Shape, text));
        }
        if k == 0 {
            return self.identity_like();
        }
        let mut square = if k < 0 { self.inverse() } else { self };
        let (mut left, mut power) = (k.unsigned_abs(), None::<Expr<'t, T>>);
        loop {
            if left % 2 == 1 {
                power = Some(match power {
                    Some(power) => square.matmul(power),
                    None => square,
                });
            }
            left /= 2;
            match power {
                Some(power) if left == 0 => return power,
                _ => square = square.matmul(square),
            }
        }
    }

    /// The Kronecker product over the last two axes, all products of an element of A with B:
    /// `(…, m, n) (…, p, q) -> (…, m·p, n·q)`, the axes before broadcast. (NumPy's has no batch.)
    /// Cost: mnpq flops for each pair.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.constant(Tensor::from_rows([1, 2], &[1.0, 2.0])?);
    /// let b = tape.constant(Tensor::from_rows([2, 1], &[3.0, 4.0])?);
    /// let product = a.kron(b);
    /// let value = Session::new(&tape)?.run(product, &[])?;
    /// assert_eq!(value, Tensor::from_rows([2, 2], &[3.0, 6.0, 4.0, 8.0])?);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn kron(self, rhs: impl Operand<'t, T>) -> Expr<'t, T> {
        let rhs = rhs.on(self.tape());
        if self.rank() < 2 || rhs.rank() < 2 {
            let text = format!("expected two matrices, got {} beside it", rhs.shape());
            return self.refuse("kron", Error::new(ErrorKind::Shape, text));
        }
        // In column-major order the rows of B are faster than those of A.
        let (a, b) = (self.expand_dims(&[-4, -2]), rhs.expand_dims(&[-3, -1]));
        let all = a * b;
        let shape = all.shape();
        if shape.rank() < 4 {
            return all; // the mistake that the batches do not broadcast
        }
        let (inner, (n, q)) = (batch(&batch(&shape)), matrix(&shape, false));
        let (p, m) = matrix(&batch(&shape), false);
        let times = |a: usize, b: usize| match a == crate::ANY || b == crate::ANY {
            true => crate::ANY,
            false => a.saturating_mul(b),
        };
        all.reshape(super::matrices(inner, times(p, m), times(n, q)))
    }
}
