//! Rewrites that keep every bit of every value, one rule each: what costs nothing is not run.

use super::program::{Def, Program, Value, ValueId};
use crate::error::Result;
use crate::scalar::{DType, Scalar};
use crate::shape::Shape;
use crate::tape::op::{Arg, Cond, Op, Out, Pooling, ScalarOp};
use crate::tensor::{Tensor, TensorView};
use std::sync::Arc;

/// Adds the value, or something equal to it that is cheaper.
pub(super) fn simplify<T: Scalar>(
    program: &mut Program<T>,
    mut value: Value<T>,
) -> Result<ValueId> {
    read_before_broadcast(program, &mut value);
    if let Some(same) = same_as_input(program, &value) {
        return Ok(same);
    }
    view_of_uniform(program, &mut value);
    mask_before_unpooling(program, &mut value);
    match fold(program, &value)? {
        Some(constant) => Ok(constant),
        None => Ok(program.add(value)),
    }
}

/// The input that the value is equal to, bit for bit.
fn same_as_input<T: Scalar>(program: &Program<T>, value: &Value<T>) -> Option<ValueId> {
    let literal = |i: usize| match program.value(program.root(value.inputs[i])).def {
        Def::Literal(bits) => Some(bits),
        _ => None,
    };
    let is = |i: usize, x: f64| literal(i) == Some(x.to_bits());
    let i = match &value.def {
        // It is there so that nothing before is found to be equal to what is made of it.
        Def::Alias if value.inputs.len() > 1 => return None,
        // The same memory under the same shape; a broadcast or a sum over nothing.
        Def::Alias | Def::Op(Op::BroadcastLike(_) | Op::SumToLike(_)) => 0,
        Def::Op(Op::Cond(_)) => {
            let predicate = f64::from_bits(literal(0)?);
            if Cond::holds(predicate) { 1 } else { 2 }
        }
        Def::Op(Op::Scalar(op)) => match op {
            ScalarOp::Id => 0,
            ScalarOp::Mul if is(1, 1.0) => 0,
            ScalarOp::Mul if is(0, 1.0) => 1,
            ScalarOp::Div if is(1, 1.0) => 0,
            // Not x + 0, nor x − (−0): they turn −0 into 0.
            ScalarOp::Sub if is(1, 0.0) => 0,
            ScalarOp::Neg => {
                let inner = program.value(value.inputs[0]);
                let twice = inner.def == Def::Op(ScalarOp::Neg.into());
                return twice.then(|| inner.inputs[0]);
            }
            _ => return None,
        },
        _ => return None,
    };
    let input = value.inputs[i];
    (program.value(input).shape == value.shape).then_some(input)
}

/// An elementwise op reads the narrow source of a broadcast, as it broadcasts by itself.
fn read_before_broadcast<T: Scalar>(program: &Program<T>, value: &mut Value<T>) {
    let Def::Op(Op::Scalar(_)) = value.def else { return };
    for i in 0..value.inputs.len() {
        let wide = program.value(value.inputs[i]);
        let Def::Op(Op::BroadcastLike(_)) = wide.def else { continue };
        let narrow = wide.inputs[0];
        let shape = |j: usize| match j == i {
            true => program.value(narrow).shape,
            false => program.value(value.inputs[j]).shape,
        };
        let whole = (0..value.inputs.len())
            .try_fold(Shape::SCALAR, |whole: Shape, j| whole.broadcast(&shape(j)));
        if whole == Some(value.shape) {
            value.inputs[i] = narrow;
        }
    }
}

/// Another shape of one number repeated is that number repeated.
fn view_of_uniform<T: Scalar>(program: &mut Program<T>, value: &mut Value<T>) {
    let (Def::Alias, [wide]) = (&value.def, &value.inputs[..]) else { return };
    let wide = program.value(*wide);
    let Def::Op(op @ Op::BroadcastLike(_)) = &wide.def else { return };
    let (op, narrow) = (op.clone(), wide.inputs[0]);
    let from = program.value(narrow).shape;
    if from.len() == 1 && from.rank() <= value.shape.rank() {
        let Value { shape, dtype, source, .. } = *value;
        let like = program.add(Value { def: Def::Shape, inputs: vec![], shape, dtype, source });
        value.def = Def::Op(op);
        value.inputs = vec![narrow, like];
    }
}

/// Behind relu and max-pooling, select(y > 0, unpooled ct, 0) has the mask of every window's
/// largest number only where that number is: fewer numbers are masked before they are put there.
fn mask_before_unpooling<T: Scalar>(program: &mut Program<T>, value: &mut Value<T>) {
    let (Def::Op(Op::Scalar(ScalarOp::Select)), &[mask, unpooled, zero]) =
        (&value.def, &value.inputs[..])
    else {
        return;
    };
    let (mask, unpooled) = (program.value(mask), program.value(unpooled));
    let is_zero = |id| program.value(id).def == Def::Literal(0f64.to_bits());
    let (Def::Op(Op::Pooling(Pooling::MaxAdd(pool))), &[y, ct]) =
        (&unpooled.def, &unpooled.inputs[..])
    else {
        return;
    };
    if mask.def != Def::Op(ScalarOp::Greater.into())
        || mask.inputs != [y, zero]
        || !is_zero(zero)
        || program.value(y).shape != value.shape
    {
        return;
    }
    let (pool, shape) = (*pool, program.value(ct).shape);
    let Value { dtype, source, .. } = *value;
    let mut add = |op: Op<T>, inputs: Vec<ValueId>| {
        program.add(Value { def: Def::Op(op), inputs, shape, dtype, source })
    };
    let pooled = add(Pooling::Max(pool).into(), vec![y]);
    let mask = add(ScalarOp::Greater.into(), vec![pooled, zero]);
    let ct = add(ScalarOp::Select.into(), vec![mask, ct, zero]);
    value.def = Def::Op(Pooling::MaxAdd(pool).into());
    value.inputs = vec![y, ct];
}

/// The value of an op all of whose inputs are constants, if it is not larger than they are.
fn fold<T: Scalar>(program: &mut Program<T>, value: &Value<T>) -> Result<Option<ValueId>> {
    let Def::Op(op) = &value.def else { return Ok(None) };
    if matches!(op, Op::Custom(_)) || value.dtype != DType::Float || value.inputs.is_empty() {
        return Ok(None);
    }
    let mut tensors = Vec::with_capacity(value.inputs.len());
    for &input in &value.inputs {
        let input = program.value(input);
        tensors.push(match &input.def {
            Def::Literal(bits) => Arc::new(Tensor::scalar(T::lit(f64::from_bits(*bits)))),
            Def::Constant(tensor) => Arc::clone(&tensor.0),
            // Its elements are not read; an empty slice stands for them.
            Def::Shape => Arc::new(Tensor::scalar(T::lit(0.0))),
            _ => return Ok(None),
        });
    }
    let size: usize = tensors.iter().map(|t| t.len()).sum();
    if value.shape.len() > size {
        return Ok(None);
    }
    let args: Vec<_> = value
        .inputs
        .iter()
        .zip(&tensors)
        .map(|(&id, t)| {
            let of = program.value(id);
            let data = if of.def == Def::Shape { &[][..] } else { t.as_slice() };
            Arg::Float(TensorView::of(of.shape, data))
        })
        .collect();
    let shapes: Vec<Shape> = args.iter().map(Arg::shape).collect();
    let mut folded = Tensor::zeros(value.shape)?;
    let mut scratch = vec![T::lit(0.0); op.primitive().scratch(&shapes)];
    let out = Out::Float(value.shape, folded.as_mut_slice());
    let failed = op.primitive().forward(&args, out, &mut scratch).is_err();
    if failed || !folded.as_slice().iter().all(|x| x.is_finite()) {
        // Left for the run, which knows which node to name.
        return Ok(None);
    }
    Ok(Some(match value.shape {
        Shape::SCALAR => program.literal(folded.as_slice()[0].to_f64(), value.source),
        shape => program.add(Value {
            def: Def::Constant(crate::tape::op::ById(Arc::new(folded))),
            inputs: vec![],
            shape,
            dtype: DType::Float,
            source: value.source,
        }),
    }))
}
