//! Handles without a lifetime: ids of nodes that a user's struct can keep while tapes come and go.

use super::expr::{Expr, IndexExpr};
use super::graph::NodeId;
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tensor::TensorView;

/// A node of a tape. Used on another tape it is an error, not a wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeRef {
    pub(crate) tape: u64,
    pub(crate) id: NodeId,
}

/// Anything that names a node: expressions and handles.
pub trait AsNode: Copy {
    /// The node.
    fn node(self) -> NodeRef;
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(NodeRef);

        impl AsNode for $name {
            fn node(self) -> NodeRef {
                self.0
            }
        }

        impl<T: Scalar> From<Expr<'_, T>> for $name {
            fn from(e: Expr<'_, T>) -> Self {
                $name(e.node())
            }
        }
    };
}

handle! {
    /// A variable that outlives its expression: `struct Model { w: Var, b: Var }`.
    /// Takes part in formulas beside an [`Expr`]: `x.matmul(model.w) + model.b`.
    Var
}
handle! {
    /// A placeholder that outlives its expression.
    Placeholder
}
handle! {
    /// Any node that outlives its expression, to be fetched from a session.
    Fetch
}

impl AsNode for NodeRef {
    fn node(self) -> NodeRef {
        self
    }
}

impl<T: Scalar> AsNode for Expr<'_, T> {
    fn node(self) -> NodeRef {
        NodeRef { tape: self.tape.id, id: self.id }
    }
}

impl<T: Scalar> AsNode for IndexExpr<'_, T> {
    fn node(self) -> NodeRef {
        self.0.node()
    }
}

impl<T: Scalar> From<IndexExpr<'_, T>> for Placeholder {
    fn from(e: IndexExpr<'_, T>) -> Self {
        Placeholder(e.node())
    }
}

/// A value for one run: a node and what it is to be. Made by [`Expr::feed`], [`IndexExpr::feed`],
/// [`Placeholder::feed`] and [`Placeholder::feed_index`].
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a, T: Scalar> {
    pub(crate) node: NodeRef,
    pub(crate) value: FeedValue<'a, T>,
}

/// The borrowed value of a [`Feed`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum FeedValue<'a, T: Scalar> {
    Float(TensorView<'a, T>),
    Index(TensorView<'a, Index>),
}

impl<T: Scalar> FeedValue<'static, T> {
    /// What a list of feeds holds where none has been written.
    pub(crate) const NONE: Self = FeedValue::Float(TensorView::NONE);
}

impl<T: Scalar> FeedValue<'_, T> {
    pub(crate) fn shape(&self) -> Shape {
        match self {
            FeedValue::Float(v) => v.shape(),
            FeedValue::Index(v) => v.shape(),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            FeedValue::Float(_) => DType::Float,
            FeedValue::Index(_) => DType::Index,
        }
    }
}

impl From<NodeRef> for Var {
    fn from(node: NodeRef) -> Self {
        Var(node)
    }
}

impl Placeholder {
    /// Numbers for this placeholder in a run.
    pub fn feed<'a, T: Scalar>(self, value: impl Into<TensorView<'a, T>>) -> Feed<'a, T> {
        Feed { node: self.0, value: FeedValue::Float(value.into()) }
    }

    /// Indices for this placeholder in a run.
    pub fn feed_index<'a, T: Scalar>(self, value: impl Into<TensorView<'a, Index>>) -> Feed<'a, T> {
        Feed { node: self.0, value: FeedValue::Index(value.into()) }
    }
}
