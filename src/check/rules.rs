//! Every recorded op on its own, adjoint ones too: what it says of shapes, memory and batches
//! against what its kernel does.

use super::record::{Recorded, first_difference};
use crate::Session;
use crate::error::{Result, bail};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::op::{Arg, Combine, Leaf, Op, Out, Primitive, RowRule, Runs, Units, list};
use crate::tape::{Expr, Tape};
use crate::tensor::{Tensor, TensorView};
use std::collections::BTreeSet;
use std::ops::Range;

/// The value of a node.
#[derive(Clone)]
pub(super) enum Value<T: Scalar> {
    Float(Tensor<T>),
    Index(Tensor<Index>),
}

impl<T: Scalar> Value<T> {
    pub(super) fn float(&self) -> Option<&Tensor<T>> {
        match self {
            Value::Float(t) => Some(t),
            Value::Index(_) => None,
        }
    }

    /// The value as an input of a new tape: indices are constants, numbers the next of `floats`.
    pub(super) fn input<'t>(
        &self,
        tape: &'t Tape<T>,
        floats: &mut std::slice::Iter<'_, Expr<'t, T>>,
    ) -> Option<Expr<'t, T>> {
        match self {
            Value::Float(_) => floats.next().copied(),
            Value::Index(_) => Some(self.constant(tape)),
        }
    }

    /// The value as it is.
    pub(super) fn constant<'t>(&self, tape: &'t Tape<T>) -> Expr<'t, T> {
        match self {
            Value::Float(t) => tape.constant(t.clone()),
            Value::Index(t) => tape.index_constant(t.clone()).as_node_expr(),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        match self {
            Value::Float(t) => t.shape(),
            Value::Index(t) => t.shape(),
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Value::Float(_) => DType::Float,
            Value::Index(_) => DType::Index,
        }
    }

    /// As an op sees it: without elements if it does not read them.
    fn arg(&self, reads: bool) -> Arg<'_, T> {
        match self {
            _ if !reads => Arg::Float(TensorView::of(self.shape(), &[])),
            Value::Float(t) => Arg::Float(t.view()),
            Value::Index(t) => Arg::Index(t.view()),
        }
    }

    fn rows(&self, range: Range<usize>) -> Result<Value<T>> {
        fn cut<E: crate::Element>(t: &Tensor<E>, range: &Range<usize>) -> Result<Tensor<E>> {
            let view = t.view();
            Tensor::from_fn(t.shape().with(0, range.len()), |at| {
                let mut at = at.to_vec();
                at[0] += range.start;
                view.get(&at).unwrap_or_default()
            })
        }
        Ok(match self {
            Value::Float(t) => Value::Float(cut(t, &range)?),
            Value::Index(t) => Value::Index(cut(t, &range)?),
        })
    }

    /// What differs from `want`, for a message.
    fn difference(&self, want: &Value<T>) -> Option<String> {
        if self.shape() != want.shape() {
            return Some(format!("expected {}, got {}", want.shape(), self.shape()));
        }
        match (self, want) {
            (Value::Float(got), Value::Float(want)) => first_difference(got, want)
                .map(|(at, want, got)| format!("at {at}: expected {want}, got {got}")),
            (Value::Index(got), Value::Index(want)) => {
                (got != want).then(|| format!("expected {want:?}, got {got:?}"))
            }
            _ => Some("expected a value of another type".to_string()),
        }
    }
}

/// The value of every node, from the interpreter.
pub(super) fn values<T: Scalar>(
    recorded: &Recorded<'_, T>,
    point: &[Tensor<T>],
) -> Result<Vec<Value<T>>> {
    let (graph, tape) = (recorded.tape.snapshot(), recorded.tape);
    let all = || (0..graph.len() as u32).map(|id| Expr::of(tape, id));
    let is = |dtype: DType| move |e: &Expr<'_, T>| e.info().is_ok_and(|info| info.dtype == dtype);
    let floats: Vec<_> = all().filter(is(DType::Float)).collect();
    let indices: Vec<_> = all().filter(is(DType::Index)).map(|e| e.as_index()).collect();
    let feeds = recorded.feeds(point);
    let (floats, indices) =
        Session::new(tape)?.interpret((floats.as_slice(), indices.as_slice()), &feeds)?;
    let (mut floats, mut indices) = (floats.into_iter(), indices.into_iter());
    let value = |node: &crate::tape::Node<T>| match node.dtype {
        DType::Float => floats.next().map(Value::Float),
        DType::Index => indices.next().map(Value::Index),
    };
    Ok(graph.nodes.iter().filter_map(value).collect())
}

/// Checks every node that is not a leaf; returns the names of their ops.
pub(super) fn check<T: Scalar>(
    recorded: &Recorded<'_, T>,
    point: &[Tensor<T>],
) -> Result<BTreeSet<String>> {
    let values = values(recorded, point)?;
    let graph = recorded.tape.snapshot();
    let mut ops = BTreeSet::new();
    for (node, value) in graph.nodes.iter().zip(&values) {
        if matches!(node.op, Op::Leaf(_) | Op::Effect(_)) {
            continue;
        }
        let x: Vec<Value<T>> = node.inputs.iter().map(|&i| values[i as usize].clone()).collect();
        let shapes: Vec<Shape> = x.iter().map(Value::shape).collect();
        let is_place = |&i: &u32| matches!(graph.node(i).op, Op::Leaf(Leaf::Place));
        let places: Vec<bool> = node.inputs.iter().map(is_place).collect();
        let op = node.op.primitive();
        let rules = [
            alone(op, &x, value),
            units(op, &x, value),
            unknown(op, &shapes, value),
            batch(op, &x, &places, value),
        ];
        for rule in rules {
            let title = format_args!("{} of {}", op.name(), list(&shapes));
            rule.map_err(|e| e.within(title).at(node.at))?;
        }
        ops.insert(op.name().to_string());
    }
    Ok(ops)
}

fn forward<T: Scalar>(op: &dyn Primitive<T>, x: &[Value<T>]) -> Result<Value<T>> {
    let shapes: Vec<Shape> = x.iter().map(Value::shape).collect();
    let dtypes: Vec<DType> = x.iter().map(Value::dtype).collect();
    let args: Vec<_> = x.iter().enumerate().map(|(i, x)| x.arg(op.reads(i))).collect();
    let mut scratch = vec![T::lit(f64::NAN); op.scratch(&shapes)];
    let shape = op.shape(&shapes)?;
    // What memory holds before is arbitrary; NaN shows if it is read.
    Ok(match op.dtype(&dtypes)? {
        DType::Float => {
            let mut y = Tensor::full(shape, T::lit(f64::NAN))?;
            op.forward(&args, Out::Float(shape, y.as_mut_slice()), &mut scratch)?;
            Value::Float(y)
        }
        DType::Index => {
            let mut y = Tensor::full(shape, Index::MAX)?;
            op.forward(&args, Out::Index(shape, y.as_mut_slice()), &mut scratch)?;
            Value::Index(y)
        }
    })
}

/// On stale memory, and without what it does not read, the value is the same; that of a view is
/// its first input.
fn alone<T: Scalar>(op: &dyn Primitive<T>, x: &[Value<T>], value: &Value<T>) -> Result<()> {
    if let Some(text) = forward(op, x)?.difference(value) {
        bail!(Check, "alone, on stale memory: {text}");
    }
    let same = |a: &Value<T>, b: &Value<T>| match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            a.len() == b.len()
                && a.clone().reshaped(b.shape()).is_ok_and(|a| first_difference(&a, b).is_none())
        }
        (Value::Index(a), Value::Index(b)) => a.as_slice() == b.as_slice(),
        _ => false,
    };
    if op.is_view() && !x.first().is_some_and(|x| same(x, value)) {
        bail!(Check, "expected the elements of its first input, since it says it is a view");
    }
    Ok(())
}

/// In two runs of units, wherever it is cut, it has the bits of the whole.
fn units<T: Scalar>(op: &dyn Primitive<T>, x: &[Value<T>], value: &Value<T>) -> Result<()> {
    let shapes: Vec<Shape> = x.iter().map(Value::shape).collect();
    let (units, shape) = (op.units(&shapes), value.shape());
    let n = units.count();
    if n < 2 || value.float().is_none() || shape.is_empty() {
        return Ok(());
    }
    let Some((period, unit)) = units.of(shape.len()) else {
        bail!(Check, "units: expected {shape} to fall into {units:?}");
    };
    let args: Vec<_> = x.iter().enumerate().map(|(i, x)| x.arg(op.reads(i))).collect();
    for cut in [1, n / 2, n - 1] {
        let mut y = Tensor::full(shape, T::lit(f64::NAN))?;
        let (a, b) = Runs::new(y.as_mut_slice(), period).split_at(cut * unit);
        for (y, of) in [(a, 0..cut), (b, cut..n)] {
            let mut scratch = vec![T::lit(f64::NAN); op.scratch(&shapes)];
            let y = match units {
                Units::Contiguous(_) => Out::Float(shape, y.into_runs().next().unwrap_or_default()),
                Units::Strided { .. } => Out::Runs(shape, y),
            };
            op.forward_units(&args, y, &mut scratch, of)?;
        }
        if let Some(text) = Value::Float(y).difference(value) {
            bail!(Check, "units cut at {cut} of {n}: {text}");
        }
    }
    Ok(())
}

/// With extents that are not known, one at a time and all rows at once, the shape rule gives a
/// shape that accepts the real one.
fn unknown<T: Scalar>(op: &dyn Primitive<T>, shapes: &[Shape], value: &Value<T>) -> Result<()> {
    let mut variants = vec![shapes.to_vec(), shapes.to_vec()];
    for (i, shape) in shapes.iter().enumerate().filter(|(_, s)| s.rank() > 0) {
        variants[1][i] = shape.with(0, ANY);
        for axis in 0..shape.rank() {
            let mut one = shapes.to_vec();
            one[i] = shape.with(axis, ANY);
            variants.push(one);
        }
    }
    for shapes in variants {
        match op.shape(&shapes) {
            Ok(shape) if shape.accepts(&value.shape()) => {}
            Ok(shape) => {
                let (from, real) = (list(&shapes), value.shape());
                bail!(Check, "shape rule of {from}: expected one that accepts {real}, got {shape}");
            }
            Err(e) => bail!(Check, "shape rule of {}: expected a shape, got {e}", list(&shapes)),
        }
    }
    Ok(())
}

/// What the batch rule says of every set of inputs that may be split holds for two shards: halves,
/// and none and all. An input that is a place is told to the shards.
fn batch<T: Scalar>(
    op: &dyn Primitive<T>,
    x: &[Value<T>],
    places: &[bool],
    value: &Value<T>,
) -> Result<()> {
    let shapes: Vec<Shape> = x.iter().map(Value::shape).collect();
    // Concatenations may have many inputs; the sets of the first ones are enough.
    for set in 1u32..1 << x.len().min(6) {
        let split: Vec<bool> = (0..x.len()).map(|i| set >> i & 1 == 1).collect();
        let mut extents = (0..x.len()).filter(|&i| split[i]).map(|i| shapes[i].dim(0));
        let Some(Some(n)) = extents.next() else { continue };
        if n < 2 || extents.any(|e| e != Some(n)) {
            continue;
        }
        let rule = op.rows(&shapes, &split);
        if rule == RowRule::Mixes {
            continue;
        }
        for cut in [n / 2, 0] {
            let shard = |range: Range<usize>| -> Result<Option<Value<T>>> {
                let place = Tensor::vector(vec![range.start as Index, n as Index]);
                let part = |i: usize| match (split[i], places[i]) {
                    (true, _) => x[i].rows(range.clone()),
                    (false, true) => Ok(Value::Index(place.clone())),
                    (false, false) => Ok(x[i].clone()),
                };
                let x: Vec<_> = (0..x.len()).map(part).collect::<Result<_>>()?;
                let shapes: Vec<_> = x.iter().map(Value::shape).collect();
                // No maximum of no rows: an empty shard may be refused.
                if range.is_empty() && op.shape(&shapes).is_err() {
                    return Ok(None);
                }
                forward(op, &x).map(Some)
            };
            let name =
                |e: crate::Error| e.within(format_args!("{rule:?} of {split:?} at row {cut}"));
            let parts = (shard(0..cut).map_err(name)?, shard(cut..n).map_err(name)?);
            let (Some(a), Some(b)) = parts else { continue };
            let reads_rows = (0..x.len()).any(|i| split[i] && op.reads(i));
            let wrong = match rule {
                // A count over other axes is whole in every shard.
                RowRule::Split if !reads_rows && value.shape() == Shape::SCALAR => {
                    a.difference(value).or(b.difference(value))
                }
                RowRule::Split => split_differs(value, n, cut, [&a, &b], largest(x))?,
                RowRule::Partial(combine) => combined_differs(value, combine, [&a, &b], largest(x)),
                RowRule::Mixes => None,
            };
            if let Some(text) = wrong {
                bail!(Check, "batch rule {rule:?} for inputs {split:?} cut at row {cut}: {text}");
            }
        }
    }
    Ok(())
}

/// How a split value differs from its shards, one after the other. The order of sums may depend on
/// the number of rows, so that numbers are compared within rounding.
fn split_differs<T: Scalar>(
    whole: &Value<T>,
    n: usize,
    cut: usize,
    [a, b]: [&Value<T>; 2],
    size: f64,
) -> Result<Option<String>> {
    if whole.shape().dim(0) != Some(n) {
        return Ok(Some(format!("expected {n} rows, got {}", whole.shape())));
    }
    for (part, range) in [(a, 0..cut), (b, cut..n)] {
        let want = whole.rows(range)?;
        if let Some(text) = part.difference(&want)
            && !near(part, &want, size)
        {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn combined_differs<T: Scalar>(
    whole: &Value<T>,
    combine: Combine,
    [a, b]: [&Value<T>; 2],
    size: f64,
) -> Option<String> {
    let (Value::Float(x), Value::Float(y)) = (a, b) else {
        return Some("expected floats".to_string());
    };
    if x.shape() != whole.shape() || y.shape() != whole.shape() {
        return Some(format!("expected {}, got {}, {}", whole.shape(), x.shape(), y.shape()));
    }
    let combined = x.as_slice().iter().zip(y.as_slice()).map(|(a, b)| {
        let (a, b) = (a.to_f64(), b.to_f64());
        T::lit(match combine {
            Combine::Sum => a + b,
            Combine::Prod => a * b,
            Combine::Max => a.max(b),
            Combine::Min => a.min(b),
            Combine::LogAddExp if a == b => a + std::f64::consts::LN_2,
            Combine::LogAddExp => a.max(b) + (-(a - b).abs()).exp().ln_1p(),
        })
    });
    let combined = Value::Float(Tensor::new(whole.shape(), combined.collect()).ok()?);
    combined.difference(whole).filter(|_| !near(&combined, whole, size))
}

/// Whether two values of one shape are the same but for rounding: √ε of the largest element of
/// theirs and of the op's inputs, since the terms of a sum may be much larger than the sum.
fn near<T: Scalar>(a: &Value<T>, b: &Value<T>, size: f64) -> bool {
    let tolerance = T::EPSILON.sqrt() * size.max(largest(std::slice::from_ref(b)));
    let (Value::Float(a), Value::Float(b)) = (a, b) else { return false };
    let near = |(&a, &b): (&T, &T)| {
        let gap = (a.to_f64() - b.to_f64()).abs();
        a == b || (a.is_nan() && b.is_nan()) || gap <= tolerance
    };
    a.shape() == b.shape() && a.as_slice().iter().zip(b.as_slice()).all(near)
}

/// The largest finite magnitude.
fn largest<T: Scalar>(x: &[Value<T>]) -> f64 {
    let elements = x.iter().filter_map(Value::float).flat_map(Tensor::as_slice);
    elements.filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.to_f64().abs()))
}
