//! A tape for people: one line a node as text, and a drawing in DOT, boxed by scope.

use super::Tape;
use super::graph::{Graph, NodeId};
use super::op::{Leaf, Op};
use crate::scalar::{DType, Scalar};
use std::fmt::{self, Write};

impl<T: Scalar> fmt::Display for Tape<T> {
    /// One line a node: name, op, inputs, type and shape.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = self.snapshot();
        for id in 0..graph.len() as NodeId {
            let info = graph.info(id);
            let dtype = dtype_name::<T>(info.dtype);
            let inputs = info.inputs.join(", ");
            writeln!(f, "{} = {}({inputs}): {dtype} {}", info.name, label(&graph, id), info.shape)?;
        }
        Ok(())
    }
}

impl<T: Scalar> Tape<T> {
    /// The tape as a drawing in Graphviz's DOT language: leaves as boxes, ops as ellipses, scopes
    /// as frames. `dot -Tsvg` makes a picture of it.
    ///
    /// ```
    /// use gradtape::Tape;
    /// let tape = Tape::<f64>::new();
    /// let _a = tape.placeholder("b", []) + 1.0;
    /// assert!(tape.to_dot().contains("\"b\" -> \"add#2\""));
    /// ```
    pub fn to_dot(&self) -> String {
        let graph = self.snapshot();
        let mut dot =
            String::from("digraph tape {\n  rankdir=BT;\n  node [fontname=\"sans-serif\"];\n");
        draw_scope(&graph, 0, &mut dot);
        for id in 0..graph.len() as NodeId {
            for &input in &graph.node(id).inputs {
                let (from, to) = (quoted(&graph.name(input)), quoted(&graph.name(id)));
                let _ = writeln!(dot, "  {from} -> {to};");
            }
        }
        dot.push_str("}\n");
        dot
    }
}

/// The nodes of a scope, then its inner scopes as frames. Writing to a `String` cannot fail.
fn draw_scope<T: Scalar>(graph: &Graph<T>, scope: usize, dot: &mut String) {
    let path = &graph.scopes[scope];
    let pad = "  ".repeat(path.matches('/').count() + 1);
    for id in 0..graph.len() as NodeId {
        let node = graph.node(id);
        if node.scope as usize != scope {
            continue;
        }
        let name = graph.name(id);
        let given = node.name.as_deref().map(|n| &n[path.len().min(n.len())..]);
        let given = given.map_or(String::new(), |n| format!("{}\\n", escaped(n)));
        let text = format!("{given}{} {}", escaped(&label(graph, id)), node.shape);
        let shape = if matches!(node.op, Op::Leaf(_)) { "box" } else { "ellipse" };
        let _ = writeln!(dot, "{pad}{} [label=\"{text}\", shape={shape}];", quoted(&name));
    }
    for (inner, inside) in graph.scopes.iter().enumerate() {
        let Some(rest) = inside.strip_prefix(&**path).filter(|r| !r.is_empty()) else { continue };
        if rest.matches('/').count() == 1 {
            let label = quoted(rest.trim_end_matches('/'));
            let _ = writeln!(dot, "{pad}subgraph cluster_{inner} {{\n{pad}  label={label};");
            draw_scope(graph, inner, dot);
            let _ = writeln!(dot, "{pad}}}");
        }
    }
}

/// The op's name, or the number that a literal is.
fn label<T: Scalar>(graph: &Graph<T>, id: NodeId) -> String {
    match &graph.node(id).op {
        Op::Leaf(Leaf::Literal(bits)) => f64::from_bits(*bits).to_string(),
        op => op.primitive().name().to_string(),
    }
}

fn dtype_name<T: Scalar>(dtype: DType) -> &'static str {
    match dtype {
        DType::Float => T::NAME,
        DType::Index => "index",
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
