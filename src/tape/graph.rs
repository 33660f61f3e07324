//! The record itself: nodes in the order they were made, each after its inputs.
//! Plain data that sessions share; knows nothing of expressions.

use super::guard::{Guard, GuardId};
use super::op::{Leaf, Op};
use crate::scalar::{DType, Scalar};
use crate::shape::Shape;
use std::panic::Location;
use std::sync::Arc;

/// The place of a node on its tape.
pub type NodeId = u32;

/// The nodes of a tape at one moment. Inputs come before their users, so that walking the list
/// forwards evaluates and walking it backwards differentiates, without recursion.
#[derive(Clone, Debug)]
pub struct Graph<T: Scalar> {
    pub(crate) tape: u64,
    pub(crate) nodes: Vec<Node<T>>,
    pub(crate) scopes: Vec<Arc<str>>,
    /// Of all conditionals.
    pub(crate) guards: Vec<Guard>,
}

/// One recorded op.
#[derive(Clone, Debug)]
pub struct Node<T: Scalar> {
    pub(crate) op: Op<T>,
    pub(crate) inputs: Box<[NodeId]>,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) scope: u32,
    /// The branches of conditionals that it stands in.
    pub(crate) guard: GuardId,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) at: &'static Location<'static>,
}

/// A line of [`Tape::nodes`](crate::Tape::nodes): a node for people and tools.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeInfo {
    /// Unique: the scopes and the name given, or the op and the node's number.
    pub name: String,
    /// The op's name.
    pub op: String,
    /// The recorded shape; [`ANY`](crate::ANY) where an extent is not known.
    pub shape: Shape,
    /// Float or index.
    pub dtype: DType,
    /// The names of the inputs, in order.
    pub inputs: Vec<String>,
    /// The line that recorded it.
    pub at: &'static Location<'static>,
}

impl<T: Scalar> Graph<T> {
    pub(crate) fn node(&self, id: NodeId) -> &Node<T> {
        &self.nodes[id as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn input_shapes(&self, node: &Node<T>) -> Vec<Shape> {
        node.inputs.iter().map(|&i| self.node(i).shape).collect()
    }

    /// The unique name of a node. `#` cannot stand in a given name, so that both kinds differ.
    pub(crate) fn name(&self, id: NodeId) -> String {
        let node = self.node(id);
        let scope = &self.scopes[node.scope as usize];
        match &node.name {
            Some(name) => name.to_string(),
            None => format!("{scope}{}#{id}", node.op.primitive().name()),
        }
    }

    /// What a message calls a node: its op, and its name if it was given one.
    pub(crate) fn describe(&self, id: NodeId) -> String {
        let node = self.node(id);
        match &node.name {
            Some(name) => format!("{} `{name}`", node.op.primitive().name()),
            None => node.op.primitive().name().to_string(),
        }
    }

    pub(crate) fn info(&self, id: NodeId) -> NodeInfo {
        let node = self.node(id);
        NodeInfo {
            name: self.name(id),
            op: node.op.primitive().name().to_string(),
            shape: node.shape,
            dtype: node.dtype,
            inputs: node.inputs.iter().map(|&i| self.name(i)).collect(),
            at: node.at,
        }
    }

    pub(crate) fn is_variable(&self, id: NodeId) -> bool {
        matches!(self.node(id).op, Op::Leaf(Leaf::Variable(_)))
    }
}
