//! Thin QR factors, packed into one value, and least squares.

use super::{batch, batch_rows, columns, each, finite, fits, matrices, matrix, plus, transposed};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::copy::Triangle as Side;
use crate::kernel::linalg::{gather, qr, scatter};
use crate::scalar::Scalar;
use crate::shape::{ANY, Shape};
use crate::tape::op::{Arg, Cotangents, Out, Primitive, RowRule, Span, TriangularSolve, Vjp};
use crate::tape::{Expr, Operand};

/// The factors of A = Q·R, Q above R: `(…, m, n) -> (…, m + n, n)` for m ≥ n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Qr;

impl<T: Scalar> Primitive<T> for Qr {
    fn name(&self) -> &str {
        "qr"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if x[0].rank() < 2 {
            bail!(Shape, "{}: expected at least 2 axes", x[0]);
        }
        let (m, n) = matrix(&x[0], false);
        if n != ANY && m < n {
            let or = "or a number of rows that is known while recording";
            bail!(Shape, "{}: expected at least as many rows as columns, {or}", x[0]);
        }
        Ok(matrices(batch(&x[0]), plus(m, n), n))
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let ((m, n), out) = (matrix(&x[0].shape(), false), batch(&x[0].shape()));
        let (a, y) = (x[0].float(), y.float());
        let (q, scratch) = scratch.split_at_mut(m * n);
        let (r, scratch) = scratch.split_at_mut(n * n);
        let (tau, packed) = scratch.split_at_mut(n);
        let packed = &mut packed[..(m + n) * n];
        each([&x[0]], &out, |i, _| {
            gather(a, i, out.len(), q);
            finite(m, q, i, out.len())?;
            qr(m, n, q, r, tau);
            for k in 0..n {
                let (above, below) = packed[k * (m + n)..][..m + n].split_at_mut(m);
                above.copy_from_slice(&q[k * m..][..m]);
                below.copy_from_slice(&r[k * n..][..n]);
            }
            scatter(packed, i, out.len(), y);
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        let (m, n) = matrix(&x[0], false);
        2 * (m + n) * n + n
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        4 * x[0].len() * matrix(&x[0], false).1
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { y, ct, .. } = at;
        let ((q, r), (dq, dr)) = (y.unpacked(), ct.unpacked());
        // What stands below the diagonal of R's cotangent meets zeros.
        let inner = r.matmul(transposed(dr)) - transposed(dq).matmul(q);
        let symmetric = inner.tril(0) + transposed(inner.tril(-1));
        let right = transposed(dq + q.matmul(symmetric));
        let solve = TriangularSolve { side: Side::Upper, transposed: false };
        Ok(vec![Some(transposed(ct.tape().apply(solve, &[r, right])))])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The thin QR factors of A = Q·R with k = min(m, n): Q, `(…, m, k)`, with orthonormal columns,
    /// and R, `(…, k, n)`, zero below its diagonal; signs are LAPACK's, so NumPy's. The number of
    /// columns must be known, and that of rows where it is smaller. Computed once for both, by
    /// Householder reflections.
    ///
    /// VJP for m ≥ n: Ā = (Q̄ + Q·S)·R⁻ᵀ, where S is symmetric with the lower triangle of
    /// R·R̄ᵀ − Q̄ᵀ·Q (Walter, Lehmann 2010, Algorithmic differentiation of linear algebra functions;
    /// Liao et al. 2019, Differentiable programming tensor networks). For m < n, A = [X, Y] with
    /// square X = Q·U and R = [U, QᵀY]: X̄ by the same rule from Q̄ + Y·V̄ᵀ and Ū, and Ȳ = Q·V̄
    /// (Roberts, Roberts 2020, QR and LQ decomposition matrix backpropagation algorithms for square,
    /// wide, and deep matrices, equations 9 to 12). Cost: 4mk² flops for each matrix, and 2m²(n − m)
    /// if it is wide; its VJP about 1.5 times that.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.constant(Tensor::from_rows([2, 1], &[3.0, 4.0])?);
    /// let (q, r) = a.qr();
    /// let (q, r) = Session::new(&tape)?.run((q, r), &[])?;
    /// assert!((q.as_slice()[0] + 0.6).abs() < 1e-15 && (q.as_slice()[1] + 0.8).abs() < 1e-15);
    /// assert_eq!(r.as_slice(), [-5.0]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run fails where a number of the first k columns is not finite. Where these are dependent
    /// the factors exist but have no derivative: a run that wants it fails for the pivot of R that
    /// is 0.
    #[track_caller]
    pub fn qr(self) -> (Expr<'t, T>, Expr<'t, T>) {
        if self.rank() > 1 {
            let (m, n) = matrix(&self.shape(), false);
            if n == ANY {
                let text = "expected a known number of columns";
                let mistake = self.refuse("qr", Error::new(ErrorKind::Shape, text));
                return (mistake, mistake);
            }
            if m < n {
                let (x, y) = (Span::inside(0, n - m), Span::inside(m, 0));
                let (q, u) = self.slice_axis(-1, x).qr();
                let v = transposed(q).matmul(self.slice_axis(-1, y));
                return (q, self.tape().concat(&[u, v], -1));
            }
        }
        let packed = self.tape().apply(Qr, &[self]);
        if packed.rank() < 2 { (packed, packed) } else { packed.unpacked() }
    }

    /// The X that makes |A·X − B|₂ smallest, for A of at least as many rows as columns, which must
    /// be independent: `(…, m, n) (…, m, k) -> (…, n, k)`, or `(m) -> (n)` for a vector. It is
    /// R⁻¹·Qᵀ·B by [`Expr::qr`], and differentiates as that. For dependent columns see
    /// [`Expr::pinv`]. Cost: 4mn² + 2mnk flops for each matrix.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.constant(Tensor::from_rows([3, 2], &[1.0, 0.0, 1.0, 1.0, 1.0, 2.0])?);
    /// let y = tape.constant(Tensor::vector(vec![1.0, 3.0, 5.0]));
    /// let line = x.lstsq(y);
    /// let line = Session::new(&tape)?.run(line, &[])?;
    /// assert!((line.as_slice()[0] - 1.0).abs() < 1e-14);
    /// assert!((line.as_slice()[1] - 2.0).abs() < 1e-14);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run fails where a pivot of R is 0, or a number of A is not finite.
    #[track_caller]
    pub fn lstsq(self, b: impl Operand<'t, T>) -> Expr<'t, T> {
        let (b, is_vector) = columns(self, b);
        let (a, right) = (self.shape(), b.shape());
        if a.rank() < 2 || right.rank() < 2 || !fits(matrix(&a, false).0, matrix(&right, false).0) {
            let text = format!("expected a matrix with as many rows on the right, got {right}");
            return self.refuse("lstsq", Error::new(ErrorKind::Shape, text));
        }
        let (m, n) = matrix(&a, false);
        if n != ANY && m < n {
            let text = "expected at least as many rows as columns";
            return self.refuse("lstsq", Error::new(ErrorKind::Shape, text));
        }
        let (q, r) = self.qr();
        let x = r.solve_upper_triangular(q.t().matmul(b));
        if is_vector { x.squeeze(&[-1]) } else { x }
    }

    /// The two factors that [`Qr`] packs into one value.
    #[track_caller]
    fn unpacked(self) -> (Expr<'t, T>, Expr<'t, T>) {
        let n = matrix(&self.shape(), false).1;
        let r = match n {
            0 => Span::from(..0),
            n => Span::from(-(n as isize)..),
        };
        (self.slice_axis(-2, Span::inside(0, n)), self.slice_axis(-2, r))
    }
}
