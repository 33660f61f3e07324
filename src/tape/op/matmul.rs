//! Matrix products over the last two axes, with batch axes before them. Transposes are flags: no
//! derivative of a product copies a matrix.

#[cfg(test)]
mod tests;

use super::{
    Arg, Combine, Cotangents, Op, Out, Permute, Primitive, RowRule, Vjp, broadcast_strides,
};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::gemm::{self, BatchAxis, MatMut, MatRef};
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
fn matrix(x: &Shape, transposed: bool) -> (usize, usize) {
    let last = &x.extents()[x.rank() - 2..];
    if transposed { (last[1], last[0]) } else { (last[0], last[1]) }
}

/// The axes before the last two.
fn batch(x: &Shape) -> Shape {
    let mut out = Shape::SCALAR;
    x.extents()[..x.rank() - 2].iter().for_each(|&e| out.push(e));
    out
}

fn fits(a: usize, b: usize) -> bool {
    a == b || a == ANY || b == ANY
}

impl MatMul {
    /// The batch axes of a product of these shapes, and its m, n, k.
    fn extents(&self, a: &Shape, b: &Shape) -> ([BatchAxis; MAX_RANK], [usize; 3]) {
        let ((m, k), (_, n)) = (matrix(a, self.ta), matrix(b, self.tb));
        let (a, b) = (batch(a), batch(b));
        let out = a.broadcast(&b).unwrap_or_default();
        let (a, b, c) = (broadcast_strides(&a, &out), broadcast_strides(&b, &out), out.strides());
        let mut axes = [BatchAxis { extent: 1, ..BatchAxis::default() }; MAX_RANK];
        for (i, &extent) in out.extents().iter().enumerate() {
            axes[i] = BatchAxis { extent, a: a[i], b: b[i], c: c[i] };
        }
        (axes, [m, n, k])
    }

    /// The extent of the slowest axis of the value.
    fn n_units(&self, a: &Shape, b: &Shape) -> usize {
        let (_, [m, n, _]) = self.extents(a, b);
        if n == 1 { m } else { n }
    }
}

/// The matrix at the first batch position; positions lie next to each other in memory.
fn first<'a, T: Scalar>(x: &Arg<'a, T>, transposed: bool) -> MatRef<'a, T> {
    let (rows, cols) = matrix(&x.shape(), false);
    let row_stride = batch(&x.shape()).len();
    let whole = MatRef::strided(x.float(), (rows, cols), (row_stride, row_stride * rows));
    if transposed { whole.t() } else { whole }
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

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let units = self.n_units(&x[0].shape(), &x[1].shape());
        self.forward_units(x, y, scratch, 0..units)
    }

    fn units(&self, x: &[Shape]) -> usize {
        self.n_units(&x[0], &x[1])
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        let (axes, [_, n, _]) = self.extents(&x[0].shape(), &x[1].shape());
        let row_stride = batch(&y.shape()).len();
        let (a, b) = (first(&x[0], self.ta), first(&x[1], self.tb));
        let (a, b) = if n == 1 { (a.t().columns(units).t(), b) } else { (a, b.columns(units)) };
        let (rows, cols) = (a.rows, b.cols);
        let c = MatMut { data: y.float(), rows, cols, row_stride, col_stride: row_stride * rows };
        gemm::gemm_batched(&axes, a, b, c, scratch);
        Ok(())
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        let (axes, [m, n, k]) = self.extents(&x[0], &x[1]);
        product(axes.iter().map(|a| a.extent).chain([2, m, n, k]))
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        let (axes, [m, n, k]) = self.extents(&x[0], &x[1]);
        gemm::gemm_batched_scratch::<T>(&axes, m, n, k)
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

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let [_, n, _] = folded_extents(&x[0].shape(), &x[1].shape());
        self.forward_units(x, y, scratch, 0..n)
    }

    fn units(&self, x: &[Shape]) -> usize {
        folded_extents(&x[0], &x[1])[1]
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        let [m, n, k] = folded_extents(&x[0].shape(), &x[1].shape());
        let (a, b) = (MatRef::new(x[0].float(), k, m).t(), MatRef::new(x[1].float(), k, n));
        let b = b.columns(units);
        gemm::gemm(a, b, MatMut::new(y.float(), m, b.cols), false, scratch);
        Ok(())
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        product(folded_extents(&x[0], &x[1]).into_iter().chain([2]))
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        let [m, n, k] = folded_extents(&x[0], &x[1]);
        gemm::gemm_scratch::<T>(m, n, k)
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

/// ∏ x, at most what a number can hold.
fn product(x: impl Iterator<Item = usize>) -> usize {
    x.fold(1, usize::saturating_mul)
}

/// (m, n, k) of the one product.
fn folded_extents(a: &Shape, b: &Shape) -> [usize; 3] {
    let last = |x: &Shape| x.extents().last().copied().unwrap_or(1);
    let rows = a.extents()[..a.rank() - 1].iter().product();
    [last(a), last(b), rows]
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
    fn untransposed(self) -> (Expr<'t, T>, bool) {
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
