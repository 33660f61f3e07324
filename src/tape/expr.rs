//! Expressions: `Copy` handles with operators and methods, each of which records a node.
//! The methods of an op family stand in that family's file under `op/`.

use super::graph::{NodeId, NodeInfo};
use super::handle::{AsNode, Feed, FeedValue, Placeholder, Var};
use super::op::{BroadcastLike, Pass, Size, SumToLike, View};
use super::{POISON, Tape};
use crate::error::{Error, ErrorKind, Result};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::{Axes, Shape};
use crate::tensor::{Tensor, TensorView};
use nalgebra::{DMatrix, DVector};
use std::ops;
use std::panic::Location;

/// A value that will be computed: a reference to a [`Tape`] and the number of a node.
///
/// Formulas are written with operators and methods; a number or a [`Var`] may stand on either
/// side. Shapes broadcast as in NumPy, trailing axes aligned.
///
/// ```
/// use gradtape::{ANY, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let x = tape.placeholder("x", [ANY, 3]);
/// let w = tape.variable("w", Tensor::zeros([3])?);
/// let loss = (1.0 - x * w).square().sum();
/// assert_eq!(loss.shape(), [].into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Debug)]
pub struct Expr<'t, T: Scalar = f64> {
    pub(super) tape: &'t Tape<T>,
    pub(super) id: NodeId,
}

/// An [`Expr`] whose value is a tensor of [`Index`]: labels, positions.
///
/// Indices in arithmetic do not compile; [`IndexExpr::to_float`] makes numbers of them.
///
/// ```compile_fail,E0277
/// let tape = gradtape::Tape::<f64>::new();
/// let x = tape.placeholder("x", [3]);
/// let labels = tape.index_placeholder("labels", [3]);
/// let wrong = x + labels;
/// ```
#[derive(Debug)]
pub struct IndexExpr<'t, T: Scalar = f64>(pub(super) Expr<'t, T>);

impl<T: Scalar> Clone for Expr<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Scalar> Copy for Expr<'_, T> {}

impl<T: Scalar> Clone for IndexExpr<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Scalar> Copy for IndexExpr<'_, T> {}

/// What may stand beside an [`Expr`] in a formula: expressions, [`Var`], [`Placeholder`], numbers,
/// and tensors, `&DMatrix` and `&DVector`, which become constants.
pub trait Operand<'t, T: Scalar> {
    /// The operand as an expression of `tape`.
    #[track_caller]
    fn on(self, tape: &'t Tape<T>) -> Expr<'t, T>;
}

impl<'t, T: Scalar> Operand<'t, T> for Expr<'t, T> {
    fn on(self, _: &'t Tape<T>) -> Expr<'t, T> {
        self
    }
}

macro_rules! operand {
    ($($t:ty => $tape:ident, $x:ident: $e:expr, $scalar:ty;)*) => {$(
        impl<'t> Operand<'t, $scalar> for $t {
            #[track_caller]
            fn on(self, $tape: &'t Tape<$scalar>) -> Expr<'t, $scalar> {
                let $x = self;
                $e
            }
        }
    )*};
}
operand! {
    f32 => tape, x: tape.literal(f64::from(x)), f32;
    f64 => tape, x: tape.literal(x), f64;
}

impl<'t, T: Scalar> Operand<'t, T> for Tensor<T> {
    #[track_caller]
    fn on(self, tape: &'t Tape<T>) -> Expr<'t, T> {
        tape.constant(self)
    }
}

macro_rules! constants {
    ($($t:ty),*) => {$(
        impl<'t, T: Scalar> Operand<'t, T> for $t {
            #[track_caller]
            fn on(self, tape: &'t Tape<T>) -> Expr<'t, T> {
                tape.constant(self.clone())
            }
        }
    )*};
}
constants!(&Tensor<T>, &DMatrix<T>, &DVector<T>);

impl<'t, T: Scalar> Operand<'t, T> for i32 {
    #[track_caller]
    fn on(self, tape: &'t Tape<T>) -> Expr<'t, T> {
        tape.literal(f64::from(self))
    }
}

impl<'t, T: Scalar> Operand<'t, T> for Var {
    #[track_caller]
    fn on(self, tape: &'t Tape<T>) -> Expr<'t, T> {
        tape.expr(self)
    }
}

impl<'t, T: Scalar> Operand<'t, T> for Placeholder {
    #[track_caller]
    fn on(self, tape: &'t Tape<T>) -> Expr<'t, T> {
        tape.expr(self)
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    pub(crate) fn of(tape: &'t Tape<T>, id: NodeId) -> Self {
        Expr { tape, id }
    }

    /// The tape it is recorded on.
    pub fn tape(self) -> &'t Tape<T> {
        self.tape
    }

    /// The shape as far as it is known; `[]` for an expression that stands for a mistake.
    pub fn shape(self) -> Shape {
        match self.id {
            POISON => Shape::SCALAR,
            id => self.tape.graph.borrow().node(id).shape,
        }
    }

    /// The number of axes.
    pub fn rank(self) -> usize {
        self.shape().rank()
    }

    /// Gives the node a name, within the scopes it was recorded in. A name that is taken gets a
    /// suffix; the first name of a node stays.
    #[track_caller]
    pub fn named(self, name: &str) -> Self {
        if self.id == POISON {
            return self;
        }
        match self.tape.set_name(self.id, name) {
            Ok(()) => self,
            Err(e) => self.tape.mistake(e.at(Location::caller())),
        }
    }

    /// The unique name.
    pub fn name(self) -> String {
        match self.id {
            POISON => "mistake".to_string(),
            id => self.tape.graph.borrow().name(id),
        }
    }

    /// All that is recorded of the node.
    ///
    /// # Errors
    /// The expression stands for a mistake.
    pub fn info(self) -> Result<NodeInfo> {
        let id = self.tape.resolve(self.node())?;
        Ok(self.tape.graph.borrow().info(id))
    }

    /// One number on the same tape.
    #[track_caller]
    pub fn lit(self, x: f64) -> Expr<'t, T> {
        self.tape.literal(x)
    }

    /// A tensor, matrix or vector on the same tape.
    #[track_caller]
    pub fn constant(self, x: impl Operand<'t, T>) -> Expr<'t, T> {
        x.on(self.tape)
    }

    /// The same node as an index expression; a mistake if its value is not indices.
    #[track_caller]
    pub fn as_index(self) -> IndexExpr<'t, T> {
        if self.id != POISON && self.tape.graph.borrow().node(self.id).dtype != DType::Index {
            let text = format!("{}: expected indices, got floats", self.name());
            return IndexExpr(
                self.tape.mistake(Error::new(ErrorKind::Shape, text).at(Location::caller())),
            );
        }
        IndexExpr(self)
    }

    /// The variable this is, as a handle without a lifetime.
    pub fn var(self) -> Var {
        self.into()
    }

    /// A value for this node in a run: of a placeholder, or of an intermediate result, whose
    /// inputs are then not needed.
    pub fn feed<'a>(self, value: impl Into<TensorView<'a, T>>) -> Feed<'a, T> {
        Feed { node: self.node(), value: FeedValue::Float(value.into()) }
    }

    /// The same value, a constant for derivatives.
    #[track_caller]
    pub fn stop_gradient(self) -> Expr<'t, T> {
        self.tape.apply(Pass::StopGradient, &[self])
    }

    /// Broadcast to the shape of `like`, whose elements are not read.
    #[track_caller]
    pub fn broadcast_like(self, like: impl Operand<'t, T>) -> Expr<'t, T> {
        let like = like.on(self.tape);
        if self.shape().surely_eq(&like.shape()) {
            return self;
        }
        self.tape.apply(BroadcastLike, &[self, like])
    }

    /// Summed over the axes along which `like` is broadcast to this shape: the adjoint of
    /// [`Expr::broadcast_like`].
    #[track_caller]
    pub fn sum_to_like(self, like: impl Operand<'t, T>) -> Expr<'t, T> {
        let like = like.on(self.tape);
        if self.shape().surely_eq(&like.shape()) {
            return self;
        }
        self.tape.apply(SumToLike, &[self, like])
    }

    /// New axes of extent 1 at these places of the result; negative ones count from its end.
    ///
    /// ```
    /// use gradtape::{Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.constant(Tensor::zeros([3, 4])?);
    /// assert_eq!(x.expand_dims(&[1, -1]).shape(), [3, 1, 4, 1].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn expand_dims(self, axes: &[isize]) -> Expr<'t, T> {
        let rank = self.rank() + axes.len();
        let grown = Shape::new(&vec![1; rank]).and_then(|shape| Axes::of(&shape, axes));
        match grown {
            Ok(axes) => self.tape.apply(View::Expand(axes), &[self]),
            Err(e) => self.refuse("expand_dims", e),
        }
    }

    /// These axes, of extent 1, taken out.
    #[track_caller]
    pub fn squeeze(self, axes: &[isize]) -> Expr<'t, T> {
        match Axes::of(&self.shape(), axes) {
            Ok(axes) => self.tape.apply(View::Squeeze(axes), &[self]),
            Err(e) => self.refuse("squeeze", e),
        }
    }

    /// The number of elements along these axes, as a scalar of the tape.
    #[track_caller]
    pub(crate) fn size(self, axes: Axes) -> Expr<'t, T> {
        self.tape.apply(Size { axes }, &[self])
    }

    /// A mistake in the arguments of a method of this expression.
    #[track_caller]
    pub(crate) fn refuse(self, method: &str, e: Error) -> Expr<'t, T> {
        if self.id == POISON {
            return self;
        }
        self.tape
            .mistake(e.within(format_args!("{method}: {}", self.shape())).at(Location::caller()))
    }
}

impl<'t, T: Scalar> IndexExpr<'t, T> {
    /// The shape as far as it is known.
    pub fn shape(self) -> Shape {
        self.0.shape()
    }

    /// The unique name.
    pub fn name(self) -> String {
        self.0.name()
    }

    /// Gives the node a name; see [`Expr::named`].
    #[track_caller]
    pub fn named(self, name: &str) -> Self {
        IndexExpr(self.0.named(name))
    }

    /// The node without its type, as inputs of ops are stored.
    pub fn as_node_expr(self) -> Expr<'t, T> {
        self.0
    }

    /// Indices for this node in a run.
    pub fn feed<'a>(self, value: impl Into<TensorView<'a, Index>>) -> Feed<'a, T> {
        Feed { node: self.node(), value: FeedValue::Index(value.into()) }
    }
}

macro_rules! operators {
    ($($trait:ident $op:ident),*) => {$(
        impl<'t, T: Scalar, R: Operand<'t, T>> ops::$trait<R> for Expr<'t, T> {
            type Output = Expr<'t, T>;
            #[track_caller]
            fn $op(self, rhs: R) -> Expr<'t, T> {
                Expr::$op(self, rhs)
            }
        }
        operators! { left $trait $op f32, f32 }
        operators! { left $trait $op f64, f64 }
        impl<'t, T: Scalar> ops::$trait<Expr<'t, T>> for Var {
            type Output = Expr<'t, T>;
            #[track_caller]
            fn $op(self, rhs: Expr<'t, T>) -> Expr<'t, T> {
                Expr::$op(self.on(rhs.tape), rhs)
            }
        }
    )*};
    (left $trait:ident $op:ident $left:ty, $scalar:ty) => {
        impl<'t> ops::$trait<Expr<'t, $scalar>> for $left {
            type Output = Expr<'t, $scalar>;
            #[track_caller]
            fn $op(self, rhs: Expr<'t, $scalar>) -> Expr<'t, $scalar> {
                Expr::$op(self.on(rhs.tape), rhs)
            }
        }
    };
}
operators! { Add add, Sub sub, Mul mul, Div div }

impl<'t, T: Scalar> ops::Neg for Expr<'t, T> {
    type Output = Expr<'t, T>;
    #[track_caller]
    fn neg(self) -> Expr<'t, T> {
        Expr::neg(self)
    }
}
