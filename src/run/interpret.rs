//! The reference: computes node by node what is asked for, one fresh buffer each. Slow and clear;
//! every plan must equal it, bit for bit where the order of sums is kept.

use super::variables::Variables;
use crate::error::Result;
use crate::plan::{Need, needs, not_fed, run_shape};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::{Arg, Cond, Leaf, Op, Out};
use crate::tape::{FeedValue, Graph, NodeId};
use crate::tensor::{Tensor, TensorView};

/// A value of the interpreter.
#[derive(Clone, Debug)]
pub(super) enum Value<T: Scalar> {
    Float(Tensor<T>),
    Index(Tensor<Index>),
}

impl<T: Scalar> Value<T> {
    pub(super) fn arg(&self) -> Arg<'_, T> {
        match self {
            Value::Float(t) => Arg::Float(t.view()),
            Value::Index(t) => Arg::Index(t.view()),
        }
    }

    pub(super) fn feed(&self) -> FeedValue<'_, T> {
        match self {
            Value::Float(t) => FeedValue::Float(t.view()),
            Value::Index(t) => FeedValue::Index(t.view()),
        }
    }
}

/// The values of the needed nodes, by node; of a conditional those of the branch that is taken.
/// Effects write nothing here.
pub(super) fn interpret<T: Scalar>(
    graph: &Graph<T>,
    variables: &Variables<T>,
    fetches: &[NodeId],
    feeds: &[(NodeId, FeedValue<'_, T>)],
) -> Result<Vec<Option<Value<T>>>> {
    let fed = |id: NodeId| feeds.iter().find(|f| f.0 == id).map(|f| f.1);
    let needs = needs(graph, fetches, |id| fed(id).is_some());
    let mut shapes = vec![Shape::SCALAR; needs.len()];
    let mut values: Vec<Option<Value<T>>> = (0..needs.len()).map(|_| None).collect();
    // Shapes and leaves are there whatever branch is taken.
    for (id, &need) in (0 as NodeId..).zip(&needs).filter(|(_, need)| **need != Need::Nothing) {
        let node = graph.node(id);
        if let Some(value) = fed(id) {
            shapes[id as usize] = value.shape();
            values[id as usize] = Some(match value {
                FeedValue::Float(v) => Value::Float(v.to_tensor()),
                FeedValue::Index(v) => Value::Index(v.to_tensor()),
            });
            continue;
        }
        let of_inputs: Vec<Shape> = node.inputs.iter().map(|&i| shapes[i as usize]).collect();
        let shape = run_shape(graph, id, &of_inputs)?;
        shapes[id as usize] = shape;
        if need == Need::Shape {
            continue;
        }
        if let Op::Leaf(Leaf::Placeholder { .. }) = node.op {
            return Err(not_fed(graph, id));
        }
        if let Some((_, range)) = variables.layout.find(id) {
            variables.check(graph, &[id])?;
            let value = variables.values.as_slice()[range].to_vec();
            values[id as usize] = Some(Value::Float(Tensor::new(shape, value)?));
        }
    }
    // What a node waits for stands behind it, and goes first.
    let mut waiting: Vec<NodeId> = fetches.to_vec();
    while let Some(&id) = waiting.last() {
        if values[id as usize].is_none() {
            let before = waiting.len();
            waiting.extend(missing(graph, id, &values));
            if waiting.len() > before {
                continue;
            }
            values[id as usize] = Some(evaluate(graph, id, &shapes, &values)?);
        }
        waiting.pop();
    }
    Ok(values)
}

/// The inputs that the node reads and that are not there; of a conditional first the predicate,
/// then the branch that is taken.
fn missing<T: Scalar>(graph: &Graph<T>, id: NodeId, values: &[Option<Value<T>>]) -> Vec<NodeId> {
    let node = graph.node(id);
    let op = node.op.primitive();
    let is_read = |i: usize| match node.op.taken_if(i) {
        None => op.reads(i),
        Some(taken) => match &values[node.inputs[0] as usize] {
            Some(Value::Float(predicate)) => Cond::holds(predicate.as_slice()[0]) == taken,
            _ => false,
        },
    };
    let read = node.inputs.iter().enumerate().filter(|(i, _)| is_read(*i));
    read.map(|(_, &input)| input).filter(|&input| values[input as usize].is_none()).rev().collect()
}

/// The value of a node whose inputs are there as far as they are read.
fn evaluate<T: Scalar>(
    graph: &Graph<T>,
    id: NodeId,
    shapes: &[Shape],
    values: &[Option<Value<T>>],
) -> Result<Value<T>> {
    let node = graph.node(id);
    let arg = |&i: &NodeId| match &values[i as usize] {
        Some(value) => value.arg(),
        None => Arg::Float(TensorView::of(shapes[i as usize], &[])),
    };
    let args: Vec<Arg<'_, T>> = node.inputs.iter().map(arg).collect();
    let of_inputs: Vec<Shape> = args.iter().map(Arg::shape).collect();
    let (op, shape) = (node.op.primitive(), shapes[id as usize]);
    let mut scratch = vec![T::lit(0.0); op.scratch(&of_inputs)];
    let fail = |e: crate::Error| e.within(graph.describe(id)).at(node.at);
    Ok(match node.dtype {
        DType::Float => {
            let mut y = Tensor::zeros(shape)?;
            let out = Out::Float(shape, y.as_mut_slice());
            op.forward(&args, out, &mut scratch).map_err(fail)?;
            Value::Float(y)
        }
        DType::Index => {
            let mut y = Tensor::zeros(shape)?;
            let out = Out::Index(shape, y.as_mut_slice());
            op.forward(&args, out, &mut scratch).map_err(fail)?;
            Value::Index(y)
        }
    })
}
