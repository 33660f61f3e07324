//! Singular values and vectors, packed into one value; spectral norms and pseudo-inverses by them.

use super::eigh::{inverse_gaps, rounding};
use super::{batch, batch_rows, converged, each, finite, matrices, matrix, plus, transposed};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::linalg::{gather, scatter, svd};
use crate::scalar::Scalar;
use crate::shape::{ANY, Shape};
use crate::tape::Expr;
use crate::tape::op::{Arg, Cotangents, Derivative, Out, Primitive, RowRule, Vjp};

/// The parts of A = U·diag(s)·Vᵀ, U above s above V: `(…, m, n) -> (…, m + 1 + n, min(m, n))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Svd;

/// `(A, parts)`: the pseudo-inverse of A by the parts that [`Svd`] packs, `(…, m, n) -> (…, n, m)`;
/// the elements of A are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pinv;

impl<T: Scalar> Primitive<T> for Svd {
    fn name(&self) -> &str {
        "svd"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if x[0].rank() < 2 {
            bail!(Shape, "{}: expected at least 2 axes", x[0]);
        }
        let (m, n) = matrix(&x[0], false);
        let k = if m.max(n) == ANY { ANY } else { m.min(n) };
        Ok(matrices(batch(&x[0]), plus(plus(m, 1), n), k))
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let ((m, n), out) = (matrix(&x[0].shape(), false), batch(&x[0].shape()));
        let (long, k) = (m.max(n), m.min(n));
        let (a, y) = (x[0].float(), y.float());
        let (packed, scratch) = scratch.split_at_mut((m + 1 + n) * k);
        let (left, scratch) = scratch.split_at_mut(long * k);
        let (right, s) = scratch.split_at_mut(k * k);
        let s = &mut s[..k];
        each([&x[0]], &out, |i, _| {
            // The packed value has room for A, which a wide matrix is transposed from.
            let given = &mut packed[..m * n];
            gather(a, i, out.len(), given);
            finite(m, given, i, out.len())?;
            for (at, &x) in given.iter().enumerate() {
                left[if m < n { at / m + at % m * n } else { at }] = x;
            }
            converged(svd(long, k, left, s, right))?;
            let (u, v) = if m < n { (&*right, &*left) } else { (&*left, &*right) };
            for j in 0..k {
                let column = &mut packed[j * (m + 1 + n)..][..m + 1 + n];
                column[..m].copy_from_slice(&u[j * m..][..m]);
                column[m] = s[j];
                column[m + 1..].copy_from_slice(&v[j * n..][..n]);
            }
            scatter(packed, i, out.len(), y);
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        let (m, n) = matrix(&x[0], false);
        let k = m.min(n);
        (m + 1 + n) * k + m.max(n) * k + k * k + k
    }

    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        // About eight rounds of k²/2 rotations with three products each.
        48 * x[0].len() * matrix(y, false).1
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, .. } = at;
        let (m, n) = matrix(&x[0].shape(), false);
        let ((u, s, v), (du, ds, dv)) = (y.parts(m), ct.parts(m));
        let (row, column) = (s.expand_dims(&[-2]), s.expand_dims(&[-1]));
        // 1/(s_j² − s_i²), where s_j and s_i differ.
        let sums = row + column;
        let positive = sums.greater(ct.lit(0.0));
        let gaps = inverse_gaps(row - column, s) / positive.select(sums, ct.lit(1.0));
        let inverse = {
            let nonzero = s.greater(rounding(s));
            (nonzero / nonzero.select(s, ct.lit(1.0))).expand_dims(&[-2])
        };
        let (along_u, along_v) = (transposed(u).matmul(du), transposed(v).matmul(dv));
        let inner = gaps * (along_u - transposed(along_u)) * row
            + column * gaps * (along_v - transposed(along_v))
            + ds.diag_matrix();
        // What of a cotangent is orthogonal to all vectors: nothing, if they are a basis.
        let mut left = u.matmul(inner);
        if m > n {
            left = left + (du - u.matmul(along_u)) * inverse;
        }
        let mut da = left.matmul(transposed(v));
        if n > m {
            da = da + (u * inverse).matmul(transposed(dv - v.matmul(along_v)));
        }
        Ok(vec![Some(da)])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<T: Scalar> Primitive<T> for Pinv {
    fn name(&self) -> &str {
        "pinv"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        if x[0].rank() < 2 {
            bail!(Shape, "{}: expected at least 2 axes", x[0]);
        }
        let (m, n) = matrix(&x[0], false);
        Ok(matrices(batch(&x[0]), n, m))
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let ((m, n), out) = (matrix(&x[0].shape(), false), batch(&x[0].shape()));
        let (k, height) = (m.min(n), m + 1 + n);
        let (parts, y) = (x[1].float(), y.float());
        let (packed, inverse) = scratch[..height * k + m * n].split_at_mut(height * k);
        each([&x[1]], &out, |i, _| {
            gather(parts, i, out.len(), packed);
            inverse.fill(T::zero());
            let largest = if k > 0 { packed[m] } else { T::zero() };
            let negligible = largest * T::lit(T::EPSILON * m.max(n) as f64);
            for column in packed.chunks_exact(height).filter(|column| column[m] > negligible) {
                for (u, y) in column[..m].iter().zip(inverse.chunks_exact_mut(n.max(1))) {
                    let scaled = *u / column[m];
                    y.iter_mut().zip(&column[m + 1..]).for_each(|(y, &v)| *y += scaled * v);
                }
            }
            scatter(inverse, i, out.len(), y);
            Ok(())
        })
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        let (m, n) = matrix(&x[0], false);
        (m + 1 + n) * m.min(n) + m * n
    }

    fn flops(&self, x: &[Shape], y: &Shape) -> usize {
        let (m, n) = matrix(&x[0], false);
        2 * y.len() * m.min(n)
    }

    fn reads(&self, i: usize) -> bool {
        i == 1
    }

    fn derivative(&self, i: usize) -> Derivative {
        if i == 1 { Derivative::Zero } else { Derivative::Smooth }
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, y, ct, .. } = at;
        let (a, y_t, ct_t) = (x[0], transposed(y), transposed(ct));
        let turn = y_t.matmul(ct).matmul(y_t);
        // What A cannot reach, and what it does not see; nothing, if its rank is full.
        let left = (ct_t - a.matmul(y.matmul(ct_t))).matmul(y.matmul(y_t));
        let right = y_t.matmul(y).matmul(ct_t - ct_t.matmul(y).matmul(a));
        Ok(vec![Some(left + right - turn), None])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        batch_rows(x, split)
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// Singular values and vectors, A = U·diag(s)·Vᵀ with k = min(m, n): U, `(…, m, k)`, s, `(…,
    /// k)`, descending, and Vᵀ, `(…, k, n)`; vectors are orthonormal, and pairs of them of either
    /// sign. The extents of the matrix must be known. All are parts of one value, computed once by
    /// Jacobi rotations.
    ///
    /// VJP: Ā = U·(F∘(Uᵀ·Ū − Ūᵀ·U)·S + S·F∘(Vᵀ·V̄ − V̄ᵀ·V) + diag(s̄))·Vᵀ + (1 − U·Uᵀ)·Ū·S⁻¹·Vᵀ +
    /// U·S⁻¹·V̄ᵀ·(1 − V·Vᵀ), with Fᵢⱼ = 1/(sⱼ² − sᵢ²) and Fᵢᵢ = 0 (Townsend 2016, Differentiating
    /// the singular value decomposition, eq. 31 to 36). Where singular values are equal, or 0
    /// (within
    /// 8ε|s|₂), vectors are not unique and have no derivative; there Fᵢⱼ and 1/sᵢ are 0, so that
    /// gradients of what depends on values only are right, and nothing is NaN. The second
    /// derivative leaves out what equal values add. Cost: about 50mnk flops for each matrix; its
    /// VJP about 10mnk.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.constant(Tensor::from_rows([2, 3], &[3.0, 0.0, 0.0, 0.0, 0.0, -4.0])?);
    /// let (u, s, vt) = a.svd();
    /// let again = (u * s).matmul(vt);
    /// let (s, again, a) = Session::new(&tape)?.run((s, again, a), &[])?;
    /// assert_eq!((s.as_slice(), again), (&[4.0, 3.0][..], a));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run fails where a number is not finite.
    #[track_caller]
    pub fn svd(self) -> (Expr<'t, T>, Expr<'t, T>, Expr<'t, T>) {
        let packed = self.packed_svd("svd");
        if packed.rank() < 2 {
            return (packed, packed, packed);
        }
        let (u, s, v) = packed.parts(matrix(&self.shape(), false).0);
        (u, s, transposed(v))
    }

    /// The spectral norm |A|₂, the largest [singular value](Expr::svd): `(…, m, n) -> (…)`. (The
    /// Frobenius norm is [`Expr::norm_axes`] of the last two axes.)
    ///
    /// VJP: Ā = d̄·u·vᵀ of the first singular vectors; a subgradient where that value is not
    /// single.
    ///
    /// # Errors
    /// As [`Expr::svd`]; a matrix without elements is a mistake.
    #[track_caller]
    pub fn norm2(self) -> Expr<'t, T> {
        let (_, s, _) = self.svd();
        if s.rank() == 0 { s } else { s.index_axis(-1, 0) }
    }

    /// The pseudo-inverse A⁺ = V·diag(1/s)·Uᵀ over the singular values above max(m, n)·ε of the
    /// largest: `(…, m, n) -> (…, n, m)`. A⁺·b is the shortest x that makes |A·x − b|₂ smallest.
    ///
    /// VJP: Ā = −A⁺ᵀ·P̄·A⁺ᵀ + (1 − A·A⁺)·P̄ᵀ·A⁺·A⁺ᵀ + A⁺ᵀ·A⁺·P̄ᵀ·(1 − A⁺·A) (Golub, Pereyra 1973,
    /// The differentiation of pseudo-inverses, eq. 4.12), for changes that keep the rank; A⁺ is not
    /// continuous where it changes. Cost: that of [`Expr::svd`] and 2mnk flops for each matrix; its
    /// VJP about 16mnk.
    ///
    /// # Errors
    /// As [`Expr::svd`].
    #[track_caller]
    pub fn pinv(self) -> Expr<'t, T> {
        let parts = self.packed_svd("pinv");
        self.tape().apply(Pinv, &[self, parts])
    }

    #[track_caller]
    fn packed_svd(self, method: &str) -> Expr<'t, T> {
        let shape = self.shape();
        if shape.extents().iter().rev().take(2).any(|&extent| extent == ANY) {
            let text = "expected matrices of known extents";
            return self.refuse(method, Error::new(ErrorKind::Shape, text));
        }
        self.tape().apply(Svd, &[self])
    }

    /// U, s and V that [`Svd`] packs into one value, U of m rows.
    #[track_caller]
    fn parts(self, m: usize) -> (Expr<'t, T>, Expr<'t, T>, Expr<'t, T>) {
        let s = self.index_axis(-2, m as isize);
        (self.slice_axis(-2, ..m), s, self.slice_axis(-2, m + 1..))
    }
}
