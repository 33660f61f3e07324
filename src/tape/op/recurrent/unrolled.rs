//! The steps of a recurrence one by one, in ops of the tape: what its gradient's gradient is
//! derived from. Every derivative from the second on comes from here.

use super::{Cell, Parts, Read, Recurrence, RecurrentGradient};
use crate::error::{Result, bail};
use crate::scalar::Scalar;
use crate::shape::ANY;
use crate::tape::Expr;
use crate::tape::op::{Cotangents, Span, Vjp};

/// The cotangents of a gradient's inputs: the steps are recorded, their gradient is taken, and
/// then that one's.
pub(super) fn vjp<'t, T: Scalar>(
    op: &RecurrentGradient,
    at: Vjp<'_, 't, T>,
) -> Result<Cotangents<'t, T>> {
    let RecurrentGradient { of, read, states } = *op;
    let tape = at.ct.tape();
    let time = at.x[2].shape().extents()[1];
    if time == ANY {
        bail!(Gradient, "expected a known number of steps for a second derivative");
    }
    // The steps depend on nodes that nothing else depends on. So paths from one input to another
    // are not taken here: they belong to the sweep that asks.
    let float = |i: usize| i > 0 && !(i > 1 && of.is_lengths(i - 2));
    let x: Vec<Expr<'t, T>> =
        (0..at.x.len()).map(|i| if float(i) { fresh(at.x[i]) } else { at.x[i] }).collect();
    let parts = of.parts(&x[2..]);
    let hidden = of.hidden(parts.wh);
    let zeros = tape.literal(0.0).broadcast_like(block(parts.pre, 0, hidden));
    let product = fresh(zeros);
    let wanted = |i: usize| float(i) && at.want[i];
    // A path there is, if only of zeros: from states of zeros nothing comes without steps.
    let zeros = |i: usize| tape.literal(0.0).broadcast_like(at.x[i]);
    let Some(y) = unrolled(&of, read, parts, product, time) else {
        return Ok((0..x.len()).map(|i| wanted(i).then(|| zeros(i))).collect());
    };
    let mut targets = vec![parts.pre, product];
    targets.extend(parts.initial);
    let first = tape.vjp(y, x[1], &targets)?;
    let of_target = |i: usize| match first[i] {
        Some(ct) => ct,
        None => tape.literal(0.0).broadcast_like(targets[i]),
    };
    let mut gradient = of_target(0);
    if of.cell == Cell::Gru {
        gradient = tape.concat(&[gradient, of_target(1)], 2);
    }
    if states {
        let mut last: Vec<_> = (0..parts.initial.len()).map(|i| of_target(2 + i)).collect();
        let zeros = tape.literal(0.0).broadcast_like(parts.initial[0]);
        last.resize(of.cell.cotangents(), zeros);
        gradient = tape.concat(&[gradient, tape.concat(&last, 1).expand_dims(&[1])], 1);
    }
    let wanted: Vec<usize> = (0..x.len()).filter(|&i| wanted(i)).collect();
    let targets: Vec<_> = wanted.iter().map(|&i| x[i]).collect();
    let second = tape.vjp(gradient, at.ct, &targets)?;
    let mut cts = vec![None; x.len()];
    for (i, ct) in wanted.into_iter().zip(second) {
        cts[i] = Some(ct.unwrap_or_else(|| zeros(i)));
    }
    Ok(cts)
}

/// The same value as a node of its own.
fn fresh<T: Scalar>(x: Expr<'_, T>) -> Expr<'_, T> {
    x.tape().custom_gradient(&[x], x, |_, _, ct| vec![ct])
}

/// Block number `i` of the columns.
fn block<T: Scalar>(x: Expr<'_, T>, i: usize, hidden: usize) -> Expr<'_, T> {
    x.slice_axis(-1, Span::from(i * hidden..(i + 1) * hidden))
}

/// What is read of the states, from the steps one by one. `product`, `[batch, time, H]`, is added
/// to a GRU's product n. `None` if there are no steps to read.
fn unrolled<'t, T: Scalar>(
    of: &Recurrence,
    read: Read,
    x: Parts<'_, Expr<'t, T>>,
    product: Expr<'t, T>,
    time: usize,
) -> Option<Expr<'t, T>> {
    let tape = x.pre.tape();
    let hidden = of.hidden(x.wh);
    let zeros = block(x.pre.sum_axes(&[1]), 0, hidden);
    let zeros = tape.literal(0.0).broadcast_like(zeros);
    let (mut h, mut c) = match *x.initial {
        [h, c] => (h, c),
        [h] => (h, zeros),
        _ => (zeros, zeros),
    };
    let mut taken = vec![None; time];
    for step in 0..time {
        let at = if of.reversed { time - 1 - step } else { step };
        let a = x.pre.index_axis(1, at as isize);
        let ah = h.matmul(x.wh);
        let gate = |i: usize| block(a, i, hidden) + block(ah, i, hidden);
        let (new_h, new_c) = match of.cell {
            Cell::Lstm => {
                let kept = gate(1).sigmoid() * c;
                let new_c = kept + gate(0).sigmoid() * gate(2).tanh();
                (gate(3).sigmoid() * new_c.tanh(), new_c)
            }
            Cell::Gru => {
                let (r, z) = (gate(0).sigmoid(), gate(1).sigmoid());
                let mut inner = block(ah, 2, hidden) + product.index_axis(1, at as isize);
                if let Some(bias) = x.bias {
                    inner = inner + bias;
                }
                let n = (block(a, 2, hidden) + r * inner).tanh();
                (n + z * (h - n), c)
            }
            Cell::Tanh => (gate(0).tanh(), c),
            Cell::Relu => (gate(0).relu(), c),
        };
        let before = h;
        let output = match x.lengths {
            None => {
                (h, c) = (new_h, new_c);
                h
            }
            Some(lengths) => {
                let runs = lengths.as_index().to_float().greater(tape.literal(at as f64));
                let runs = runs.expand_dims(&[1]);
                (h, c) = (runs.select(new_h, h), runs.select(new_c, c));
                runs.select(new_h, tape.literal(0.0))
            }
        };
        taken[at] = Some(if read == Read::Previous { before } else { output });
    }
    let mut all: Vec<Expr<'t, T>> = taken.into_iter().flatten().collect();
    if read == Read::OutputsAndLast {
        all.extend([h, c].into_iter().take(of.cell.states()));
    }
    if all.is_empty() {
        return None;
    }
    let all: Vec<_> = all.into_iter().map(|x| x.expand_dims(&[1])).collect();
    Some(tape.concat(&all, 1))
}
