//! Products with second derivatives, and whole matrices of first and second ones: sweeps over
//! sweeps. Knows no single op.

use crate::error::{Error, ErrorKind, Result};
use crate::scalar::Scalar;
use crate::shape::{ANY, MAX_RANK, Shape};
use crate::tape::{AsNode, Expr, NodeId, Tape};

/// The most sweeps that a Jacobian is recorded with: each records its nodes anew.
const MAX_SWEEPS: usize = 4096;

const ZERO: &str = "its derivative is zero";
const LINEAR: &str = "the loss is linear there";

impl<T: Scalar> Tape<T> {
    /// The products H·v of the Hessian of a scalar with vectors, one for each target, of its shape:
    /// Σ_j ∂²loss/∂w_i∂w_j·v_j for targets w_j with vectors v_j. The Hessian is never made.
    ///
    /// Forward over reverse: the tangent of the gradient along v (Pearlmutter 1994). Cost: about
    /// two gradients, whatever the number of parameters; less memory than the gradient of
    /// ⟨gradient, v⟩ takes.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let w = tape.variable("w", Tensor::vector(vec![1.0, 2.0]));
    /// let v = tape.constant(Tensor::vector(vec![1.0, 10.0]));
    /// let loss = w.powi(3).sum(); // H = diag(6w)
    /// let product = tape.hessian_vector_product(loss, &[(w, v)])?[0];
    /// assert_eq!(Session::new(&tape)?.run(product, &[])?.as_slice(), [6.0, 120.0]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tape::gradient`] and [`Tape::jvp`]; a loss that is linear in all targets. A product is
    /// zero where the gradient of its target depends on no target.
    pub fn hessian_vector_product<N: AsNode>(
        &self,
        loss: Expr<'_, T>,
        vectors: &[(N, Expr<'_, T>)],
    ) -> Result<Vec<Expr<'_, T>>> {
        const METHOD: &str = "hessian_vector_product";
        self.check()?;
        let seeds = self.seeds(METHOD, vectors)?;
        let targets: Vec<N> = vectors.iter().map(|pair| pair.0).collect();
        let gradients = self.gradient_or(loss, &targets, "leave it out")?;
        let ids: Vec<NodeId> = gradients.iter().map(|g| g.node().id).collect();
        let products = self.tangents(&ids, &seeds)?;
        if products.iter().all(Option::is_none) {
            let first = ids.first().copied().unwrap_or_default();
            return Err(self.no_tangent(METHOD, first, &seeds, LINEAR));
        }
        let zero = |&(id, v): &(NodeId, Expr<'_, T>)| {
            self.on_behalf_of(id, || self.literal(0.0).broadcast_like(self.expr(v)))
        };
        Ok(products
            .into_iter()
            .zip(&seeds)
            .map(|(p, seed)| p.unwrap_or_else(|| zero(seed)))
            .collect())
    }

    /// The products G·v of the Gauss-Newton matrix G = Jᵀ·H·J with vectors, one for each target, of
    /// its shape: J is the Jacobian of `outputs` in the targets and H the Hessian of `loss` in
    /// `outputs`, which is any node that the loss depends on, predictions for instance. G is
    /// positive semidefinite where H is, as of a convex loss of the predictions, and equal to the
    /// Hessian of the loss where `outputs` is linear in the targets. What of the loss depends on a
    /// target otherwise, a penalty for instance, takes no part.
    ///
    /// Forward over reverse between a forward and a reverse sweep (Schraudolph 2002). Cost: about
    /// two gradients.
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let w = tape.variable("w", Tensor::vector(vec![1.0, 2.0]));
    /// let v = tape.constant(Tensor::vector(vec![1.0, 1.0]));
    /// let residual = w.square() - 3.0; // J = diag(2w)
    /// let loss = residual.square().sum(); // H = 2
    /// let product = tape.gauss_newton_product(loss, residual, &[(w, v)])?[0];
    /// assert_eq!(Session::new(&tape)?.run(product, &[])?.as_slice(), [8.0, 32.0]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tape::gradient`] and [`Tape::jvp`]; a loss that does not depend on the outputs, or
    /// linearly; a target that the outputs do not depend on.
    pub fn gauss_newton_product<N: AsNode>(
        &self,
        loss: Expr<'_, T>,
        outputs: Expr<'_, T>,
        vectors: &[(N, Expr<'_, T>)],
    ) -> Result<Vec<Expr<'_, T>>> {
        const METHOD: &str = "gauss_newton_product";
        self.check()?;
        let seeds = self.seeds(METHOD, vectors)?;
        let node = self.resolve(outputs.node())?;
        let Some(along) = self.tangents(&[node], &seeds)?[0] else {
            return Err(self.no_tangent(METHOD, node, &seeds, ZERO));
        };
        let slope = self.gradient_or(loss, &[outputs], ZERO)?[0];
        let curved = vec![(node, along)];
        let slope = slope.node().id;
        let Some(curved_along) = self.tangents(&[slope], &curved)?[0] else {
            return Err(self.no_tangent(METHOD, slope, &curved, LINEAR));
        };
        let targets: Vec<N> = vectors.iter().map(|pair| pair.0).collect();
        let products = self.vjp(outputs, curved_along, &targets)?;
        self.all_used(METHOD, outputs, &targets, products, "leave it out")
    }

    /// The Jacobian ∂y/∂x, of the shape of y followed by that of x: element (i, j) is ∂y_i/∂x_j.
    ///
    /// One sweep for each element of x in forward mode or of y in reverse mode, whichever are
    /// fewer, at most 4096; each is recorded. Cost: that number times about one or two evaluations
    /// of y, and as many nodes. For the product with a vector see [`Tape::jvp`] and [`Tape::vjp`].
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.variable("x", Tensor::vector(vec![2.0, 3.0]));
    /// let y = tape.stack(&[x.sum(), x.prod(), x.square().sum()], 0);
    /// let jacobian = tape.jacobian(y, x)?;
    /// let jacobian = Session::new(&tape)?.run(jacobian, &[])?;
    /// assert_eq!(jacobian, Tensor::from_rows([3, 2], &[1.0, 1.0, 3.0, 2.0, 4.0, 6.0])?);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tape::jvp`]; more than [`MAX_RANK`] axes of both together; more sweeps, or more
    /// extents that are not known, than can be recorded. One side may have one unknown extent.
    pub fn jacobian<N: AsNode>(&self, y: Expr<'_, T>, x: N) -> Result<Expr<'_, T>> {
        self.jacobian_of("jacobian", y, x, ZERO)
    }

    /// The Hessian of a scalar, of the shape of x twice: element (i, j) is ∂²loss/∂x_i∂x_j.
    ///
    /// The [Jacobian](Tape::jacobian) of the gradient, in forward over reverse mode. Cost: one
    /// gradient and for each element of x about another one; for products with vectors see
    /// [`Tape::hessian_vector_product`].
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.variable("x", Tensor::vector(vec![2.0, 3.0]));
    /// let hessian = tape.hessian(x.square().prod(), x)?;
    /// let hessian = Session::new(&tape)?.run(hessian, &[])?;
    /// assert_eq!(hessian, Tensor::from_rows([2, 2], &[18.0, 24.0, 24.0, 8.0])?);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tape::gradient`] and [`Tape::jacobian`]; a loss that is linear in x.
    pub fn hessian<N: AsNode>(&self, loss: Expr<'_, T>, x: N) -> Result<Expr<'_, T>> {
        let gradient = self.gradient_or(loss, &[x], ZERO)?[0];
        self.jacobian_of("hessian", gradient, x, LINEAR)
    }

    fn jacobian_of<N: AsNode>(
        &self,
        method: &'static str,
        y: Expr<'_, T>,
        x: N,
        advice: &str,
    ) -> Result<Expr<'_, T>> {
        self.check()?;
        let (y, x) = (self.resolve(y.node())?, self.target(method, x)?);
        let (of_y, of_x) = (Expr::of(self, y).shape(), Expr::of(self, x).shape());
        let error = |kind, text: String| {
            let graph = self.snapshot();
            let (y, from, x) = (graph.describe(y), graph.describe(x), graph.node(x).at);
            Error::new(kind, format!("{method}: {y} {of_y} by {from} {of_x}: {text}")).at(x)
        };
        let extents = [of_y.extents(), of_x.extents()].concat();
        if extents.len() > MAX_RANK {
            let n = extents.len();
            let text = format!("expected at most {MAX_RANK} axes of both together, got {n}");
            return Err(error(ErrorKind::Shape, text));
        }
        let shape = Shape::new(&extents)?;
        let n_unknown = extents.iter().filter(|&&e| e == ANY).count();
        let (n_y, n_x) = (of_y.checked_len(), of_x.checked_len());
        let sweeps = n_y.into_iter().chain(n_x).min();
        let Some(sweeps) = sweeps.filter(|_| n_unknown < 2) else {
            let text = "expected one of them of known extents, the other with at most one unknown";
            return Err(error(ErrorKind::Shape, text.into()));
        };
        if sweeps > MAX_SWEEPS {
            let text = format!(
                "expected at most {MAX_SWEEPS} elements in one of them; use products with \
                 vectors (jvp, vjp, hessian_vector_product)"
            );
            return Err(error(ErrorKind::Argument, text));
        }
        if sweeps == 0 {
            return match shape.is_known() {
                true => Ok(self.on_behalf_of(y, || self.literal(0.0).broadcast_to(shape))),
                false => Err(error(ErrorKind::Shape, "expected at least one element".into())),
            };
        }
        let forward = n_x == Some(sweeps);
        let (of, along) = if forward { (x, of_x) } else { (y, of_y) };
        let mut parts = Vec::with_capacity(sweeps);
        for element in 0..sweeps {
            let seed = self.on_behalf_of(of, || self.one_hot_at(along, element));
            let part = match forward {
                true => self.tangents(&[y], &[(x, seed)])?[0],
                false => self.sweep(y, seed, &[x], 0)?[0],
            };
            match part {
                Some(part) => parts.push(part),
                None => return Err(self.no_tangent(method, y, &[(x, seed)], advice)),
            }
        }
        // Columns lie in memory one after the other; the elements of rows lie in between.
        let axis = if forward { -1 } else { 0 };
        let whole = self.on_behalf_of(of, || match parts[..] {
            [one] => one.reshape(shape),
            _ => self.stack(&parts, axis).reshape(shape),
        });
        self.check()?;
        Ok(whole)
    }

    /// 1 at this element of zeros, counted in memory order.
    pub(crate) fn one_hot_at(&self, shape: Shape, element: usize) -> Expr<'_, T> {
        let (mut rest, mut one) = (element, Shape::SCALAR);
        let mut widths = Vec::with_capacity(shape.rank());
        for &extent in shape.extents() {
            let at = rest % extent;
            rest /= extent;
            widths.push((at, extent - 1 - at));
            one.push(1);
        }
        self.literal(1.0).reshape(one).pad(&widths, 0.0)
    }
}
