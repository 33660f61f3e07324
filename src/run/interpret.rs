//! The reference: walks the tape node by node, one fresh buffer each. Slow and clear; every plan
//! must equal it, bit for bit where the order of sums is kept.

use super::variables::Variables;
use crate::error::Result;
use crate::plan::{Need, needs, not_fed, run_shape};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::{Arg, Leaf, Op, Out};
use crate::tape::{FeedValue, Graph, NodeId};
use crate::tensor::{Tensor, TensorView};

/// A value of the interpreter.
#[derive(Clone, Debug)]
pub(super) enum Value<T: Scalar> {
    Float(Tensor<T>),
    Index(Tensor<Index>),
    /// Only the shape is needed.
    Shape(Shape),
}

impl<T: Scalar> Value<T> {
    pub(super) fn arg(&self) -> Arg<'_, T> {
        match self {
            Value::Float(t) => Arg::Float(t.view()),
            Value::Index(t) => Arg::Index(t.view()),
            Value::Shape(shape) => Arg::Float(TensorView::of(*shape, &[])),
        }
    }
}

/// The values of the needed nodes, by node. Effects write nothing here.
pub(super) fn interpret<T: Scalar>(
    graph: &Graph<T>,
    variables: &Variables<T>,
    fetches: &[NodeId],
    feeds: &[(NodeId, FeedValue<'_, T>)],
) -> Result<Vec<Option<Value<T>>>> {
    let fed = |id: NodeId| feeds.iter().find(|f| f.0 == id).map(|f| f.1);
    let needs = needs(graph, fetches, |id| fed(id).is_some());
    let mut values: Vec<Option<Value<T>>> = (0..needs.len()).map(|_| None).collect();
    for (id, &need) in (0 as NodeId..).zip(&needs).filter(|(_, need)| **need != Need::Nothing) {
        let node = graph.node(id);
        if let Some(value) = fed(id) {
            values[id as usize] = Some(match value {
                FeedValue::Float(v) => Value::Float(v.to_tensor()),
                FeedValue::Index(v) => Value::Index(v.to_tensor()),
            });
            continue;
        }
        let args: Vec<Arg<'_, T>> =
            node.inputs.iter().filter_map(|&i| Some(values[i as usize].as_ref()?.arg())).collect();
        let shapes: Vec<Shape> = args.iter().map(Arg::shape).collect();
        let shape = run_shape(graph, id, &shapes)?;
        if need == Need::Shape {
            values[id as usize] = Some(Value::Shape(shape));
            continue;
        }
        if let Op::Leaf(Leaf::Placeholder { .. }) = node.op {
            return Err(not_fed(graph, id));
        }
        if let Some((_, range)) = variables.layout.find(id) {
            variables.check(graph, &[id])?;
            let value = variables.values.as_slice()[range].to_vec();
            values[id as usize] = Some(Value::Float(Tensor::new(shape, value)?));
            continue;
        }
        let op = node.op.primitive();
        let mut scratch = vec![T::lit(0.0); op.scratch(&shapes)];
        let fail = |e: crate::Error| e.within(graph.describe(id)).at(node.at);
        values[id as usize] = Some(match node.dtype {
            DType::Float => {
                let mut y = Tensor::zeros(shape)?;
                op.forward(&args, Out::Float(shape, y.as_mut_slice()), &mut scratch)
                    .map_err(fail)?;
                Value::Float(y)
            }
            DType::Index => {
                let mut y = Tensor::zeros(shape)?;
                op.forward(&args, Out::Index(shape, y.as_mut_slice()), &mut scratch)
                    .map_err(fail)?;
                Value::Index(y)
            }
        });
    }
    Ok(values)
}
