//! The first pass: the nodes that the fetches need, with the shapes that were fed.

use super::program::{Def, EffectValue, Fetched, Program, Value, ValueId, leaf};
use super::simplify::simplify;
use super::{Origin, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::{Effect, Leaf, Op, Primitive, ScalarOp, Slice, SoftmaxResidual, Span, list};
use crate::tape::{Graph, NodeId};

/// What the fetches need of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    Nothing,
    Shape,
    Value,
}

/// What the fetches need of each node, walking back from them and stopping at what is fed.
pub(crate) fn needs<T: Scalar>(
    graph: &Graph<T>,
    fetches: &[NodeId],
    is_fed: impl Fn(NodeId) -> bool,
) -> Vec<Need> {
    let top = fetches.iter().max().map_or(0, |&id| id as usize + 1);
    let mut needs = vec![Need::Nothing; top];
    fetches.iter().for_each(|&id| needs[id as usize] = Need::Value);
    for id in (0..top).rev() {
        let need = needs[id];
        if need == Need::Nothing || is_fed(id as NodeId) {
            continue;
        }
        let node = &graph.nodes[id];
        let op = node.op.primitive();
        for (i, &input) in node.inputs.iter().enumerate() {
            let of_input = if op.reads(i) { need } else { Need::Shape };
            let known = &mut needs[input as usize];
            *known = of_input.max(*known);
        }
    }
    needs
}

/// The shape of a node in this run, from those of its inputs.
pub(crate) fn run_shape<T: Scalar>(graph: &Graph<T>, id: NodeId, x: &[Shape]) -> Result<Shape> {
    let node = graph.node(id);
    let describe = |e: Error| e.within(graph.describe(id)).at(node.at);
    if let Op::Leaf(Leaf::Placeholder { shape, .. }) = &node.op
        && !shape.is_known()
    {
        return Err(not_fed(graph, id));
    }
    let shape = node.op.primitive().shape(x).map_err(describe)?;
    if shape.checked_len().is_none() {
        let text = format!("{}: {shape} has more elements than memory can hold", list(x));
        return Err(describe(Error::new(ErrorKind::Memory, text)));
    }
    Ok(shape)
}

pub(crate) fn not_fed<T: Scalar>(graph: &Graph<T>, id: NodeId) -> Error {
    let node = graph.node(id);
    let text = format!("{} {} was not fed", graph.describe(id), node.shape);
    Error::new(ErrorKind::NotFed, text).at(node.at)
}

/// The value, copied if it is a variable: another effect may write that first.
fn before_writes<T: Scalar>(program: &mut Program<T>, id: ValueId) -> ValueId {
    if !matches!(program.value(program.root(id)).def, Def::Variable(_)) {
        return id;
    }
    let Value { shape, dtype, source, .. } = *program.value(id);
    program.add(Value { def: Def::Op(ScalarOp::Id.into()), inputs: vec![id], shape, dtype, source })
}

/// What a view is of: the memory of a view, so that there are no chains to follow and no way to
/// read twice. What else it reads, it waits for; such a view is not looked through.
fn seen<T: Scalar>(
    program: &Program<T>,
    op: &dyn Primitive<T>,
    inputs: &[ValueId],
) -> Vec<ValueId> {
    let mut of = inputs[0];
    while let Def::Alias = program.value(of).def
        && let [inner] = program.value(of).inputs[..]
    {
        of = inner;
    }
    let waits = inputs.iter().enumerate().skip(1).filter(|(i, _)| op.reads(*i));
    std::iter::once(of).chain(waits.map(|(_, &input)| input)).collect()
}

/// Whether this is the cross-entropy of some logits and labels and there is its slope, or the
/// reverse, among the first `n` nodes and those that `is_computed`.
fn has_pair<T: Scalar>(
    graph: &Graph<T>,
    id: NodeId,
    n: usize,
    is_computed: impl Fn(NodeId) -> bool,
) -> bool {
    let node = graph.node(id);
    let is_other: fn(&Op<T>) -> bool = match node.op {
        Op::SoftmaxCrossEntropy(_) => |op| matches!(op, Op::SoftmaxResidual(_)),
        Op::SoftmaxResidual(_) => |op| matches!(op, Op::SoftmaxCrossEntropy(_)),
        _ => return false,
    };
    (0..n as NodeId).filter(|&other| is_computed(other)).map(|other| graph.node(other)).any(
        |other| (&other.inputs, other.guard) == (&node.inputs, node.guard) && is_other(&other.op),
    )
}

/// A cross-entropy, or its slope, as a part of the one value that has both: exponentials are taken
/// once.
fn of_pair<T: Scalar>(program: &mut Program<T>, value: Value<T>) -> ValueId {
    let Value { def, inputs, shape, dtype, source } = value;
    let logits = program.value(inputs[0]).shape;
    let (last, n_classes) = (logits.rank() - 1, logits.dim(logits.rank() - 1).unwrap_or(0));
    let is_loss = matches!(def, Def::Op(Op::SoftmaxCrossEntropy(_)));
    let mut add = |def, inputs, shape| program.add(Value { def, inputs, shape, dtype, source });

    let pair = SoftmaxResidual { with_loss: true };
    let pair = add(Def::Op(pair.into()), inputs, logits.with(last, n_classes + 1));
    let (from, to) = if is_loss { (n_classes, n_classes + 1) } else { (0, n_classes) };
    let mut spans = vec![Span::ALL; logits.rank()];
    spans[last] = Span::new(from as isize, to as isize);
    let part = Slice { spans: spans.into() };
    let part = add(Def::Op(part.into()), vec![pair], logits.with(last, to - from));
    if is_loss { add(Def::Alias, vec![part], shape) } else { part }
}

/// Two writers of one variable in one run have no order.
fn refuse_two_writers<T: Scalar>(graph: &Graph<T>, program: &Program<T>) -> Result<()> {
    let mut written: Vec<NodeId> = Vec::new();
    for effect in &program.effects {
        match effect {
            EffectValue::Assign { variable, .. } => written.push(*variable),
            EffectValue::Update { pairs, .. } => written.extend(pairs.iter().map(|p| p.0)),
        }
    }
    written.sort_unstable();
    match written.windows(2).find(|w| w[0] == w[1]) {
        None => Ok(()),
        Some(&[id, ..]) => {
            let text = format!("{} is written twice in one run", graph.describe(id));
            Err(Error::new(ErrorKind::Tape, text).at(graph.node(id).at))
        }
        Some(_) => Ok(()),
    }
}

/// Lowers the needed nodes to a program.
pub(super) fn lower<T: Scalar>(graph: &Graph<T>, request: Request<'_>) -> Result<Program<T>> {
    let Request { fetches, partials, given, passes, .. } = request;
    let mut given_as = vec![None; graph.len()];
    given.iter().for_each(|g| given_as[g.node as usize] = Some(g));
    let wanted = [fetches, partials].concat();
    let needs = needs(graph, &wanted, |id| given_as[id as usize].is_some());

    let mut program = Program::new();
    program.n_needed = needs.iter().filter(|&&n| n == Need::Value).count();
    let mut shapes = vec![Shape::SCALAR; needs.len()];
    let mut values: Vec<Option<Fetched>> = (0..needs.len()).map(|_| None).collect();
    let mut inputs_shapes = Vec::new();

    for (id, &need) in (0 as NodeId..).zip(&needs).filter(|(_, need)| **need != Need::Nothing) {
        let node = graph.node(id);
        if let Some(given) = given_as[id as usize] {
            let (shape, dtype) = (given.shape, node.dtype);
            shapes[id as usize] = shape;
            let def = match given.from {
                Origin::Feed(n) => Def::Feed(n),
                Origin::Combined(at) => Def::Combined(at),
                Origin::Literal(bits) => Def::Literal(bits),
            };
            let value = program.add(Value { def, inputs: vec![], shape, dtype, source: id });
            values[id as usize] = Some(Fetched::Value(value));
            continue;
        }
        program.branch = node.guard;
        inputs_shapes.clear();
        inputs_shapes.extend(node.inputs.iter().map(|&i| shapes[i as usize]));
        let shape = run_shape(graph, id, &inputs_shapes)?;
        shapes[id as usize] = shape;
        if need == Need::Shape {
            continue;
        }
        let op = node.op.primitive();
        let of = |program: &mut Program<T>, i: usize| -> Result<ValueId> {
            let input = node.inputs[i];
            if !op.reads(i) {
                let (shape, dtype) = (shapes[input as usize], graph.node(input).dtype);
                return Ok(program.add(Value {
                    def: Def::Shape,
                    inputs: vec![],
                    shape,
                    dtype,
                    source: input,
                }));
            }
            match values[input as usize] {
                Some(Fetched::Value(value)) => Ok(value),
                _ => Err(Error::new(
                    ErrorKind::Tape,
                    format!("{}: the value of an update can only be fetched", graph.describe(id)),
                )
                .at(node.at)),
            }
        };
        let value = match &node.op {
            Op::Leaf(l) => {
                let def = leaf(id, l).ok_or_else(|| not_fed(graph, id))?;
                program.add(Value { def, inputs: vec![], shape, dtype: node.dtype, source: id })
            }
            Op::Effect(effect) => {
                values[id as usize] = Some(match effect {
                    Effect::Assign => {
                        let value = of(&mut program, 1)?;
                        let value = before_writes(&mut program, value);
                        let variable = node.inputs[0];
                        program.effects.push(EffectValue::Assign { variable, value });
                        Fetched::Value(value)
                    }
                    Effect::Update(rule) => {
                        let mut pairs = Vec::with_capacity(node.inputs.len() / 2);
                        for i in (0..node.inputs.len()).step_by(2) {
                            let gradient = of(&mut program, i + 1)?;
                            pairs.push((node.inputs[i], before_writes(&mut program, gradient)));
                        }
                        let rule = rule.0.clone();
                        program.effects.push(EffectValue::Update { node: id, rule, pairs });
                        Fetched::StepOf(program.effects.len() - 1)
                    }
                });
                continue;
            }
            _ => {
                let inputs = (0..node.inputs.len())
                    .map(|i| of(&mut program, i))
                    .collect::<Result<Vec<_>>>()?;
                let def = if op.is_view() { Def::Alias } else { Def::Op(node.op.clone()) };
                let inputs = if op.is_view() { seen(&program, op, &inputs) } else { inputs };
                let value = Value { def, inputs, shape, dtype: node.dtype, source: id };
                let both = |other: NodeId| {
                    needs[other as usize] == Need::Value && given_as[other as usize].is_none()
                };
                match passes.simplify {
                    true if has_pair(graph, id, needs.len(), both) => of_pair(&mut program, value),
                    true => simplify(&mut program, value)?,
                    false => program.add(value),
                }
            }
        };
        values[id as usize] = Some(Fetched::Value(value));
    }

    refuse_two_writers(graph, &program)?;
    for &id in fetches {
        program.fetches.push(match values[id as usize] {
            Some(Fetched::Value(value)) => Fetched::Value(value),
            Some(Fetched::StepOf(effect)) => Fetched::StepOf(effect),
            None => return Err(not_fed(graph, id)),
        });
    }
    for &id in partials {
        let Some(Fetched::Value(value)) = values[id as usize] else {
            return Err(not_fed(graph, id));
        };
        program.partials.push(value);
    }
    program.guard();
    Ok(program)
}
