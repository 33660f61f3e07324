//! Linear algebra over the last two axes, the axes before them a batch: one factorization for a
//! value and all its derivatives, which read the factors and not the matrix again.
//!
//! An op that divides by factors takes `(A, factors, …)` and reads only the factors, whose own
//! derivative is zero: the cotangent goes to A.

mod cholesky;
mod det;
mod diagonal;
mod eigh;
mod lu;
mod products;
mod qr;
mod svd;
mod triangular;

pub use cholesky::Cholesky;
pub use det::Det;
pub use diagonal::{Diagonal, DiagonalMatrix};
pub use eigh::Eigh;
pub use lu::{Factor, FactorSolve, Lu};
pub use qr::Qr;
pub use svd::{Pinv, Svd};
pub use triangular::TriangularSolve;

use super::matmul::{batch, fits, matrix};
use super::{Arg, Op, RowRule, broadcast_strides, list};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::linalg::{Pivot, SWEEPS};
use crate::scalar::Scalar;
use crate::shape::{ANY, MAX_RANK, Shape};
use crate::tape::{Expr, Operand};

/// The extent of square matrices.
fn square(x: &Shape) -> Result<usize> {
    match x.extents() {
        [.., m, n] if fits(*m, *n) => Ok(*m.min(n)),
        _ => bail!(Shape, "{x}: expected square matrices"),
    }
}

/// Matrices of `rows × columns` behind these batch axes.
fn matrices(mut batch: Shape, rows: usize, columns: usize) -> Shape {
    batch.push(rows);
    batch.push(columns);
    batch
}

/// Square matrices with one more column, in which factors keep a vector beside them.
fn with_column(x: &Shape) -> Result<Shape> {
    let n = square(x)?;
    Ok(matrices(batch(x), n, plus(n, 1)))
}

/// The sum of extents, unknown if one of them is.
fn plus(a: usize, b: usize) -> usize {
    if a == ANY || b == ANY { ANY } else { a.saturating_add(b) }
}

/// The shape of T⁻¹·B for square T: `(…, n, n) (…, n, k) -> (…, n, k)`, batches broadcast.
fn solution(a: &Shape, b: &Shape) -> Result<Shape> {
    let shapes = [*a, *b];
    let n = square(a)?;
    if b.rank() < 2 || !fits(n, matrix(b, false).0) {
        bail!(Shape, "{}: expected {n} rows on the right", list(&shapes));
    }
    match batch(a).broadcast(&batch(b)) {
        Some(out) => Ok(matrices(out, n.min(matrix(b, false).0), matrix(b, false).1)),
        None => bail!(Shape, "{}: batch extents do not broadcast", list(&shapes)),
    }
}

/// The rows of a batch are matrices of their own; those of a single matrix are not.
fn batch_rows(x: &[Shape], split: &[bool]) -> RowRule {
    let rank = x.iter().map(Shape::rank).max().unwrap_or(0);
    // A split input has the batch axis; any other must be the same for all of it.
    let has = |x: &Shape| x.rank() == rank && x.dim(0) != Some(1);
    match rank > 2 && x.iter().zip(split).all(|(x, &split)| split == has(x)) {
        true => RowRule::Split,
        false => RowRule::Mixes,
    }
}

/// Calls `f` for every matrix of a batch of shape `out`, with its number and the number that it
/// has in the batch of each input.
fn each<T: Scalar, const N: usize>(
    x: [&Arg<'_, T>; N],
    out: &Shape,
    mut f: impl FnMut(usize, [usize; N]) -> Result<()>,
) -> Result<()> {
    let strides: [[usize; MAX_RANK]; N] =
        std::array::from_fn(|i| broadcast_strides(&batch(&x[i].shape()), out));
    for number in 0..out.len() {
        let (mut rest, mut of) = (number, [0; N]);
        for (axis, &extent) in out.extents().iter().enumerate() {
            of.iter_mut().zip(&strides).for_each(|(of, s)| *of += rest % extent * s[axis]);
            rest /= extent;
        }
        f(number, of)?;
    }
    Ok(())
}

/// The error of a matrix that has such a pivot, with its number if it has neighbors.
fn singular<T: Scalar>(what: &str, pivot: Pivot<T>, number: usize, n: usize) -> Error {
    let Pivot { at, value } = pivot;
    let mut text = format!("expected {what} matrix, got pivot {at} of {value}");
    if n > 1 {
        text += &format!(" in matrix {number} of the batch");
    }
    Error::new(ErrorKind::Singular, text)
}

/// Refuses a matrix of `rows` rows that holds NaN or an infinity: rotations would never end.
fn finite<T: Scalar>(rows: usize, matrix: &[T], number: usize, n: usize) -> Result<()> {
    let Some(at) = matrix.iter().position(|x| !x.is_finite()) else { return Ok(()) };
    let (i, j, x) = (at % rows, at / rows, matrix[at]);
    match n {
        1 => bail!(NotFinite, "expected finite numbers, got {x} at [{i}, {j}]"),
        _ => bail!(
            NotFinite,
            "expected finite numbers, got {x} at [{i}, {j}] of matrix {number} of the batch"
        ),
    }
}

/// An error instead of values that rotations have not reached.
fn converged(is: bool) -> Result<()> {
    if !is {
        bail!(NotFinite, "expected rotations to converge within {SWEEPS} rounds");
    }
    Ok(())
}

/// The transposes of a batch of matrices.
#[track_caller]
fn transposed<T: Scalar>(x: Expr<'_, T>) -> Expr<'_, T> {
    x.swap_axes(-2, -1)
}

/// As a matrix of one column if it is a vector, and whether it is.
#[track_caller]
fn columns<'t, T: Scalar>(a: Expr<'t, T>, b: impl Operand<'t, T>) -> (Expr<'t, T>, bool) {
    let b = b.on(a.tape());
    if b.rank() == 1 { (b.expand_dims(&[1]), true) } else { (b, false) }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The factors of square matrices, or the mistake of `method` that they are not square.
    #[track_caller]
    fn factors(self, method: &str, op: impl Into<Op<T>>) -> Result<Expr<'t, T>, Expr<'t, T>> {
        match square(&self.shape()) {
            Ok(_) => Ok(self.tape().apply(op, &[self])),
            Err(_) => {
                let e = Error::new(ErrorKind::Shape, "expected square matrices");
                Err(self.refuse(method, e))
            }
        }
    }
}
