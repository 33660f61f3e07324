//! The states of all steps with what their gradient reads, and the outputs among them.

use super::{Extents, Read, Recurrence, RecurrentGradient, times};
use crate::error::{Result, bail};
use crate::kernel::recurrent::{Cell, Inputs};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::Expr;
use crate::tape::op::{
    Arg, Cotangents, Derivative, FoldedMatMul, Out, Primitive, RowRule, Span, Units, Vjp, list,
};
use std::ops::Range;

/// States and gates of all steps, packed; see [`Recurrence`] for the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recurrent(pub Recurrence);

/// `(states and gates, inputs of the recurrence…)`: some of the states. Of the inputs only the
/// lengths are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecurrentStates {
    /// The recurrence.
    pub of: Recurrence,
    /// Which states.
    pub read: Read,
}

impl<T: Scalar> Primitive<T> for Recurrent {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let Extents { batch, time, hidden } = self.0.extents(x)?;
        Ok([batch, times(hidden, self.0.cell.packed()), plus(time, 1)].into())
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        self.0.dtype(x)
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let units = self.0.units(&x[0].shape()).count();
        self.forward_units(x, y, scratch, 0..units)
    }

    fn units(&self, x: &[Shape]) -> Units {
        self.0.units(&x[0])
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        _: Range<usize>,
    ) -> Result<()> {
        let sequence = self.0.sequence(&x[0].shape(), &x[1].shape());
        let parts = self.0.parts(x);
        let lengths = parts.lengths.as_ref().map(Arg::index);
        check(lengths, sequence.time)?;
        let mut initial = [None; 2];
        initial.iter_mut().zip(parts.initial).for_each(|(to, x)| *to = Some(x.float()));
        let inputs = Inputs {
            pre: parts.pre.float(),
            wh: parts.wh.float(),
            initial,
            bias: parts.bias.as_ref().map(Arg::float),
            lengths,
        };
        sequence.forward(&inputs, y.runs(sequence.batch), scratch);
        Ok(())
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        self.0.sequence(&x[0], &x[1]).scratch::<T>()
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        self.0.sequence(&x[0], &x[1]).flops()
    }

    fn derivative(&self, _: usize) -> Derivative {
        Derivative::Zero
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        self.0.rows(split)
    }
}

impl<T: Scalar> Primitive<T> for RecurrentStates {
    fn name(&self) -> &str {
        match self.of.cell {
            Cell::Lstm => "lstm_states",
            Cell::Gru => "gru_states",
            Cell::Tanh | Cell::Relu => "rnn_states",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let Extents { batch, time, hidden } = packed(&self.of, x, 1)?;
        let time = match self.read {
            Read::OutputsAndLast => plus(time, self.of.cell.states()),
            Read::Outputs | Read::Previous => time,
        };
        Ok([batch, time, hidden].into())
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        self.of.dtype(&x[1..])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let columns = x[2].shape().extents()[0];
        self.forward_units(x, y, scratch, 0..columns)
    }

    fn units(&self, x: &[Shape]) -> Units {
        Units::Contiguous(x[2].extents()[0])
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        _: &mut [T],
        columns: Range<usize>,
    ) -> Result<()> {
        let sequence = self.of.sequence(&x[1].shape(), &x[2].shape());
        let parts = self.of.parts(&x[1..]);
        let lengths = parts.lengths.as_ref().map(Arg::index);
        sequence.read(self.read, x[0].float(), lengths, columns, y.float());
        Ok(())
    }

    fn flops(&self, _: &[Shape], _: &Shape) -> usize {
        0
    }

    fn reads(&self, i: usize) -> bool {
        i == 0 || self.of.is_lengths(i - 1)
    }

    fn derivative(&self, i: usize) -> Derivative {
        if i == 0 || self.of.is_lengths(i - 1) { Derivative::Zero } else { Derivative::Smooth }
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, want, .. } = at;
        let tape = ct.tape();
        let n_initial = self.of.n_initial();
        let own = &want[1..];
        let states = own[2..2 + n_initial].contains(&true);
        let op = RecurrentGradient { of: self.of, read: self.read, states };
        let all = tape.apply(op, &[&[x[0], ct], &x[1..]].concat());
        let steps = if states { all.slice_axis(1, ..-1) } else { all };
        let hidden = self.of.hidden(x[2]);
        let columns = |x: Expr<'t, T>, first: usize, n: usize| {
            x.slice_axis(-1, Span::from(first * hidden..(first + n) * hidden))
        };
        let is_gru = self.of.cell == Cell::Gru;
        let mut cts = vec![None];
        cts.push(own[0].then(|| if is_gru { columns(steps, 0, 3) } else { steps }));
        cts.push(own[1].then(|| {
            let before = RecurrentStates { of: self.of, read: Read::Previous };
            let before = tape.apply(before, x);
            let product = |d| tape.apply(FoldedMatMul, &[before, d]);
            match is_gru {
                // Not all four blocks are multiplied by the state.
                true => {
                    let parts = [columns(steps, 0, 2), columns(steps, 3, 1)];
                    tape.concat(&parts.map(product), 1)
                }
                false => product(steps),
            }
        }));
        for (state, &want) in own[2..2 + n_initial].iter().enumerate() {
            cts.push(want.then(|| columns(all.index_axis(1, -1), state, 1)));
        }
        if self.of.bias {
            let want = own[2 + n_initial];
            cts.push(want.then(|| columns(steps, 3, 1).sum_axes(&[0, 1])));
        }
        if self.of.lengths {
            cts.push(None);
        }
        Ok(cts)
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        self.of.rows(split)
    }
}

/// The extents of a recurrence whose inputs follow `others`, the first of which are its states
/// and gates.
pub(super) fn packed(of: &Recurrence, x: &[Shape], others: usize) -> Result<Extents> {
    let extents = of.extents(&x[others..])?;
    let Extents { batch, time, hidden } = extents;
    let want: Shape = [batch, times(hidden, of.cell.packed()), plus(time, 1)].into();
    match want.accepts_or_any(&x[0]) {
        true => Ok(extents),
        false => bail!(Shape, "{}: expected {want} first", list(x)),
    }
}

pub(super) fn plus(extent: usize, n: usize) -> usize {
    if extent == ANY { ANY } else { extent.saturating_add(n) }
}

/// Refuses lengths above the extent of time.
fn check(lengths: Option<&[Index]>, time: usize) -> Result<()> {
    let mut all = lengths.unwrap_or_default().iter().enumerate();
    match all.find(|(_, n)| **n as usize > time) {
        None => Ok(()),
        Some((at, n)) => {
            bail!(Index, "expected lengths of at most {time}, got {n} at position {at}")
        }
    }
}
