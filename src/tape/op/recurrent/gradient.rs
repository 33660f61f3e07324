//! The cotangents of what enters each step.

use super::states::{packed, plus};
use super::{Extents, Read, Recurrence, times, unrolled};
use crate::error::{Result, bail};
use crate::kernel::recurrent::{Cell, Cotangent};
use crate::scalar::{DType, Scalar};
use crate::shape::Shape;
use crate::tape::op::{Arg, Cotangents, Derivative, Out, Primitive, RowRule, Units, Vjp, list};
use std::ops::Range;

/// `(states and gates, cotangent, inputs of the recurrence…)`: the cotangents of pre-activations,
/// of a GRU also of its product n, and of the first states at one more step. Of the inputs only
/// Wh and the lengths are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecurrentGradient {
    /// The recurrence.
    pub of: Recurrence,
    /// What the cotangent is of.
    pub read: Read,
    /// Whether the first states' cotangents are wanted.
    pub states: bool,
}

impl<T: Scalar> Primitive<T> for RecurrentGradient {
    fn name(&self) -> &str {
        match self.of.cell {
            Cell::Lstm => "lstm_gradient",
            Cell::Gru => "gru_gradient",
            Cell::Tanh | Cell::Relu => "rnn_gradient",
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let Extents { batch, time, hidden } = packed(&self.of, x, 2)?;
        let read = match self.read {
            Read::OutputsAndLast => plus(time, self.of.cell.states()),
            Read::Outputs | Read::Previous => time,
        };
        let want: Shape = [batch, read, hidden].into();
        if !want.accepts_or_any(&x[1]) {
            bail!(Shape, "{}: expected a cotangent of {want}", list(x));
        }
        let width = times(hidden, self.of.cell.cotangents());
        Ok([batch, plus(time, usize::from(self.states)), width].into())
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        self.of.dtype(&x[2..])
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        let units = self.of.units(&x[2].shape()).count();
        self.forward_units(x, y, scratch, 0..units)
    }

    fn units(&self, x: &[Shape]) -> Units {
        self.of.units(&x[2])
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        _: Range<usize>,
    ) -> Result<()> {
        let sequence = self.of.sequence(&x[2].shape(), &x[3].shape());
        let parts = self.of.parts(&x[2..]);
        let inputs = Cotangent {
            packed: x[0].float(),
            wh: parts.wh.float(),
            lengths: parts.lengths.as_ref().map(Arg::index),
            ct: x[1].float(),
            read: self.read,
            states: self.states,
        };
        sequence.backward(&inputs, y.runs(sequence.batch), scratch);
        Ok(())
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        self.of.sequence(&x[2], &x[3]).scratch_of_backward::<T>()
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        self.of.sequence(&x[2], &x[3]).flops()
    }

    fn reads(&self, i: usize) -> bool {
        i < 2 || i == 3 || self.of.is_lengths(i - 2)
    }

    fn derivative(&self, i: usize) -> Derivative {
        let is_smooth = i > 0 && !(i > 1 && self.of.is_lengths(i - 2));
        if is_smooth { Derivative::Smooth } else { Derivative::Zero }
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        unrolled::vjp(self, at)
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        self.of.rows(split)
    }
}
