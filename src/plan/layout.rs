//! Where each variable lies in a session's flat buffer.

use crate::scalar::Scalar;
use crate::tape::op::{Leaf, Op};
use crate::tape::{Graph, NodeId};
use std::ops::Range;

/// The variables of a graph in the order they were recorded, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layout {
    /// (node, its elements), by node.
    pub(crate) variables: Vec<(NodeId, Range<usize>)>,
    pub(crate) len: usize,
}

impl Layout {
    pub(crate) fn of<T: Scalar>(graph: &Graph<T>) -> Self {
        let mut layout = Layout::default();
        for (id, node) in (0..).zip(&graph.nodes) {
            if let Op::Leaf(Leaf::Variable(init)) = &node.op {
                // Too many elements for a number are too many for the session's memory, too.
                let end = layout.len.saturating_add(init.0.shape.len());
                layout.variables.push((id, layout.len..end));
                layout.len = end;
            }
        }
        layout
    }

    /// The number of a variable and its elements, if the node is one.
    pub(crate) fn find(&self, id: NodeId) -> Option<(usize, Range<usize>)> {
        let i = self.variables.binary_search_by_key(&id, |v| v.0).ok()?;
        Some((i, self.variables[i].1.clone()))
    }
}
