//! Matrix products over the last two axes, with batch axes before them. Transposes are flags: no
//! derivative of a product copies a matrix.

#[cfg(test)]
mod tests;

use super::{
    Arg, Combine, Cotangents, Op, Out, Permute, Primitive, RowRule, Units, Vjp, broadcast_strides,
};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::gemm::{BatchAxis, Matrix, Product};
use crate::scalar::Scalar;
use crate::shape::{ANY, MAX_RANK, Shape};
use crate::tape::{AsNode, Expr, Operand};
use std::ops::Range;

/// A·B over the last two axes, `(…, m, k) (…, k, n) -> (…, m, n)`; the axes before broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatMul {
    /// A is given as its transpose, `(…, k, m)`.
    pub ta: bool,
    /// B is given as its transpose, `(…, n, k)`.
    pub tb: bool,
}

/// Aᵀ·B with all axes but the last as rows, `(…, k) (…, n) -> (k, n)`: the gradient of a matrix
/// that was shared by a batch. A fold by reshape would not know how shards add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FoldedMatMul;

/// (rows, columns) of the last two axes as the product reads them, of a rank of 2 or more.
pub(super) fn matrix(x: &Shape, transposed: bool) -> (usize, usize) {
    let last = &x.extents()[x.rank() - 2..];
    if transposed { (last[1], last[0]) } else { (last[0], last[1]) }
}

/// The axes before the last two.
pub(super) fn batch(x: &Shape) -> Shape {
    let mut out = Shape::SCALAR;
    x.extents()[..x.rank() - 2].iter().for_each(|&e| out.push(e));
    out
}

pub(super) fn fits(a: usize, b: usize) -> bool {
    a == b || a == ANY || b == ANY
}

impl MatMul {
    /// The product of factors of these shapes.
    pub(crate) fn product(&self, a: &Shape, b: &Shape) -> Product {
        let ((m, _), (_, n)) = (matrix(a, self.ta), matrix(b, self.tb));
        let (batch_a, batch_b) = (batch(a), batch(b));
        let out = batch_a.broadcast(&batch_b).unwrap_or_default();
        let a_strides = broadcast_strides(&batch_a, &out);
        let b_strides = broadcast_strides(&batch_b, &out);
        let mut axes = [BatchAxis::default(); MAX_RANK];
        for (i, &extent) in out.extents().iter().enumerate() {
            axes[i] = BatchAxis { extent, a: a_strides[i], b: b_strides[i], c: out.strides()[i] };
        }
        let c = interleaved(out.len(), m, n);
        Product::new(&axes[..out.rank()], laid(a, self.ta), laid(b, self.tb), c)
    }
}

impl FoldedMatMul {
    /// The one product of factors of these shapes.
    pub(crate) fn product(&self, a: &Shape, b: &Shape) -> Product {
        let last = |x: &Shape| x.extents().last().copied().unwrap_or(1);
        let rows = a.extents()[..a.rank() - 1].iter().product();
        let (m, n) = (last(a), last(b));
        Product::new(&[], Matrix::new(rows, m).t(), Matrix::new(rows, n), Matrix::new(m, n))
    }
}

/// The first of `n` matrices: those of a batch lie next to each other, element for element.
fn interleaved(n: usize, rows: usize, cols: usize) -> Matrix {
    Matrix { rows, cols, row_stride: n, col_stride: n * rows }
}

/// How a factor lies in memory, as the product reads it.
fn laid(x: &Shape, transposed: bool) -> Matrix {
    let (rows, cols) = matrix(x, false);
    let first = interleaved(batch(x).len(), rows, cols);
    if transposed { first.t() } else { first }
}

/// What both products do with their [`Product`].
macro_rules! runs_product {
    () => {
        fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
            let product = self.product(&x[0].shape(), &x[1].shape());
            product.run(x[0].float(), x[1].float(), y.float(), 0..product.units(), scratch);
            Ok(())
        }

        fn scratch(&self, x: &[Shape]) -> usize {
            self.product(&x[0], &x[1]).scratch::<T>()
        }

        fn units(&self, x: &[Shape]) -> Units {
            Units::Contiguous(self.product(&x[0], &x[1]).units())
        }

        fn forward_units(
            &self,
            x: &[Arg<'_, T>],
            y: Out<'_, T>,
            scratch: &mut [T],
            units: Range<usize>,
        ) -> Result<()> {
            let product = self.product(&x[0].shape(), &x[1].shape());
            product.run(x[0].float(), x[1].float(), y.float(), units, scratch);
            Ok(())
        }

        fn flops(&self, x: &[Shape], _: &Shape) -> usize {
            self.product(&x[0], &x[1]).flops()
        }
    };
}

impl<T: Scalar> Primitive<T> for MatMul {
    fn name(&self) -> &str {
        "matmul"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let [a, b] = *x else { bail!(Shape, "expected two inputs, got {}", x.len()) };
        let t = |transposed| if transposed { "ᵀ" } else { "" };
        let what = format_args!("{a}{} · {b}{}", t(self.ta), t(self.tb));
        if a.rank() < 2 || b.rank() < 2 {
            bail!(Shape, "{what}: expected rank 2 or more");
        }
        let ((m, k), (inner, n)) = (matrix(&a, self.ta), matrix(&b, self.tb));
        if !fits(k, inner) {
            bail!(Shape, "{what}: inner extents {k} and {inner} differ");
        }
        let (a, b) = (batch(&a), batch(&b));
        let Some(mut out) = a.broadcast(&b) else {
            bail!(Shape, "{what}: batch extents {a} and {b} do not broadcast")
        };
        out.push(m);
        out.push(n);
        Ok(out)
    }

    runs_product!();

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let (a, b) = (x[0], x[1]);
        let product = |ta, x, tb, y| ct.tape().apply(MatMul { ta, tb }, &[x, y]);
        let folded = |x, y| ct.tape().apply(FoldedMatMul, &[x, y]);
        let da = || match self.ta {
            false => product(false, ct, !self.tb, b),
            true => product(self.tb, b, true, ct),
        };
        let db = || match (b.rank() == 2 && a.rank() > 2 && !self.ta, self.tb) {
            (true, false) => folded(a, ct),
            (true, true) => folded(ct, a),
            (false, false) => product(!self.ta, a, false, ct),
            (false, true) => product(true, ct, self.ta, a),
        };
        // A batch axis that only the other factor has is summed.
        let own = |g: Expr<'t, T>, x, other: Expr<'t, T>| match other.rank() {
            2 => g,
            _ => g.sum_to_like(x),
        };
        Ok(vec![want[0].then(|| own(da(), a, b)), want[1].then(|| own(db(), b, a))])
    }

    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        let rank = x[0].rank().max(x[1].rank());
        if rank == 2 {
            return match split {
                [true, false] if !self.ta => RowRule::Split,
                [true, true] if self.ta && !self.tb => RowRule::Partial(Combine::Sum),
                _ => RowRule::Mixes,
            };
        }
        // A split factor has the batch axis; the other one must be the same for all of it.
        let has = |x: &Shape| x.rank() == rank && x.dim(0) != Some(1);
        match x.iter().zip(split).all(|(x, &split)| split == has(x)) {
            true => RowRule::Split,
            false => RowRule::Mixes,
        }
    }
}

impl<T: Scalar> Primitive<T> for FoldedMatMul {
    fn name(&self) -> &str {
        "folded_matmul"
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let [a, b] = *x else { bail!(Shape, "expected two inputs, got {}", x.len()) };
        match (a.extents(), b.extents()) {
            ([a @ .., k], [b @ .., n])
                if a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| fits(a, b)) =>
            {
                Ok([*k, *n].into())
            }
            _ => bail!(Shape, "{a}ᵀ · {b}: expected the same extents but for the last"),
        }
    }

    runs_product!();

    fn is_linear_in(&self, _: usize) -> bool {
        true
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let product = |x, tb| ct.tape().apply(MatMul { ta: false, tb }, &[x, ct]);
        Ok(vec![want[0].then(|| product(x[1], true)), want[1].then(|| product(x[0], false))])
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        match split {
            [true, true] => RowRule::Partial(Combine::Sum),
            _ => RowRule::Mixes,
        }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// The matrix product over the last two axes; the axes before broadcast as in NumPy. A factor
    /// of rank 1 is a row on the left, a column on the right, and its axis of extent 1 goes.
    ///
    /// ```text
    /// (m, k) (k, n) -> (m, n)      (…, m, k) (k, n) -> (…, m, n)      (m, k) (k) -> (m)
    /// ```
    ///
    /// Cost: 2mnk flops for each matrix of the batch. A factor that is a [transpose](Expr::t) is
    /// read in place.
    ///
    /// ```
    /// use gradtape::{ANY, Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 2]);
    /// let w = tape.constant(Tensor::from_rows([2, 2], &[1.0, 2.0, 3.0, 4.0])?);
    /// let y = x.matmul(w);
    /// let ones = Tensor::full([1, 2], 1.0)?;
    /// let value = Session::new(&tape)?.run(y, &[x.feed(&ones)])?;
    /// assert_eq!(value, Tensor::from_rows([1, 2], &[4.0, 6.0])?);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn matmul(self, rhs: impl Operand<'t, T>) -> Expr<'t, T> {
        let rhs = rhs.on(self.tape);
        let vector = |x: Expr<'t, T>| x.rank() == 1;
        let a = if vector(self) { self.expand_dims(&[1]) } else { self };
        let b = if vector(rhs) { rhs.expand_dims(&[1]) } else { rhs };
        let ((a, ta), (b, tb)) = (a.untransposed(), b.untransposed());
        // A column read as a row keeps axis 0, which may be cut into shards.
        let ta = ta || vector(self);
        let product = self.tape.apply(MatMul { ta, tb }, &[a, b]);
        match (vector(self), vector(rhs)) {
            (false, false) => product,
            (true, false) => product.squeeze(&[-2]),
            (false, true) => product.squeeze(&[-1]),
            (true, true) => product.squeeze(&[-2, -1]),
        }
    }

    /// The inner product Σ aᵢ·bᵢ of two vectors, `(k) (k) -> ()`. Cost: 2k flops.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let a = tape.constant(Tensor::vector(vec![1.0, 2.0]));
    /// let b = tape.constant(Tensor::vector(vec![3.0, 4.0]));
    /// let (inner, outer) = (a.dot(b), a.outer(b));
    /// let (inner, outer) = Session::new(&tape)?.run((inner, outer), &[])?;
    /// assert_eq!(inner.item()?, 11.0);
    /// assert_eq!(outer, Tensor::from_rows([2, 2], &[3.0, 4.0, 6.0, 8.0])?);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn dot(self, rhs: impl Operand<'t, T>) -> Expr<'t, T> {
        let rhs = rhs.on(self.tape);
        match self.vectors("dot", rhs) {
            Ok(()) => self.matmul(rhs),
            Err(mistake) => mistake,
        }
    }

    /// The outer product aᵢ·bⱼ of two vectors, `(m) (n) -> (m, n)`. Cost: mn flops.
    #[track_caller]
    pub fn outer(self, rhs: impl Operand<'t, T>) -> Expr<'t, T> {
        let rhs = rhs.on(self.tape);
        match self.vectors("outer", rhs) {
            Ok(()) => {
                let columns = [self.expand_dims(&[1]), rhs.expand_dims(&[1])];
                self.tape.apply(MatMul { ta: false, tb: true }, &columns)
            }
            Err(mistake) => mistake,
        }
    }

    /// Whether both have rank 1, or the mistake that they have not.
    #[track_caller]
    fn vectors(self, method: &str, rhs: Expr<'t, T>) -> Result<(), Expr<'t, T>> {
        if self.rank() == 1 && rhs.rank() == 1 {
            return Ok(());
        }
        let text = format!("expected two vectors, got {} beside it", rhs.shape());
        Err(self.refuse(method, Error::new(ErrorKind::Shape, text)))
    }

    /// What this is the transpose of and true, or itself and false.
    pub(super) fn untransposed(self) -> (Expr<'t, T>, bool) {
        // An expression that stands for a mistake has no node.
        let Ok(id) = self.tape.resolve(self.node()) else { return (self, false) };
        let graph = self.tape.graph.borrow();
        let node = graph.node(id);
        match &node.op {
            Op::Permute(Permute { axes }) if is_transpose(axes) => {
                (Expr::of(self.tape, node.inputs[0]), true)
            }
            _ => (self, false),
        }
    }
}

/// Whether these axes are all in their places but the last two, which are exchanged.
fn is_transpose(axes: &[usize]) -> bool {
    let n = axes.len();
    n >= 2
        && axes[n - 2..] == [n - 1, n - 2]
        && axes[..n - 2].iter().enumerate().all(|(i, &a)| i == a)
}
