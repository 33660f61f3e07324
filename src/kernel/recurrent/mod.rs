//! Recurrent cells over whole sequences, and their gradients by backpropagation through time.
//! A few samples at a time go through all steps, so that their states stay in cache; a step is
//! products of the state with columns of the weights, each followed by its gates. Knows no tapes.

mod backward;
mod cell;
mod forward;
#[cfg(test)]
mod tests;

use crate::kernel::gemm::{MatMut, MatRef, gemm, gemm_scratch};
use crate::kernel::team::Runs;
use crate::scalar::{Index, Scalar, of_type};
use std::ops::Range;

/// The cells, with h for the state, H for its extent and a, of `[batch, G·H]`, for the part of the
/// input in a step's pre-activations. Blocks of H columns stand in the order of the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// i, f, g, o = a + h·Wh; c ← σ(f)·c + σ(i)·tanh(g); h ← σ(o)·tanh(c) (Hochreiter and
    /// Schmidhuber 1997; Gers et al. 2000). Its second state is c.
    Lstm,
    /// r, z = σ(a + h·Wh); n = tanh(a + r·(h·Wh + b)); h ← (1 − z)·n + z·h (Cho et al. 2014, with
    /// r after the product as in cuDNN and PyTorch).
    Gru,
    /// h ← tanh(a + h·Wh) (Elman 1990).
    Tanh,
    /// h ← max(a + h·Wh, 0); the subgradient at 0 is 0.
    Relu,
}

impl Cell {
    /// G: the blocks of pre-activations.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Tanh | Cell::Relu => 1,
        }
    }

    /// The states: h, and of an LSTM c.
    pub fn states(self) -> usize {
        if self == Cell::Lstm { 2 } else { 1 }
    }

    /// Blocks that are kept for the gradient: gates, and of a GRU what r is multiplied by.
    fn kept(self) -> usize {
        match self {
            Cell::Lstm | Cell::Gru => 4,
            Cell::Tanh | Cell::Relu => 0,
        }
    }

    /// Blocks of [`Sequence::forward`]'s result: the states, then what is kept.
    pub(crate) fn packed(self) -> usize {
        self.states() + self.kept()
    }

    /// Blocks of [`Sequence::backward`]'s result: the cotangents of the pre-activations, and of a
    /// GRU's product n.
    pub(crate) fn cotangents(self) -> usize {
        if self == Cell::Gru { 4 } else { self.gates() }
    }
}

/// What is read of the states over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    /// h after each step, 0 where a sequence has ended.
    Outputs,
    /// The same, and then the last states as further steps.
    OutputsAndLast,
    /// h before each step.
    Previous,
}

/// The extents of sequences, and which way they run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sequence {
    pub cell: Cell,
    pub batch: usize,
    pub time: usize,
    pub hidden: usize,
    pub reversed: bool,
}

/// What [`Sequence::forward`] reads; tensors are column-major.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a, T> {
    /// `[batch, time, G·H]`
    pub pre: &'a [T],
    /// `[H, G·H]`
    pub wh: &'a [T],
    /// The first states, `[batch, H]` each; none are zeros.
    pub initial: [Option<&'a [T]>; 2],
    /// What a GRU adds to its product n, `[H]`.
    pub bias: Option<&'a [T]>,
    /// The steps of each sequence; without them all are as long as time.
    pub lengths: Option<&'a [Index]>,
}

/// What [`Sequence::backward`] reads.
#[derive(Clone, Copy)]
pub(crate) struct Cotangent<'a, T> {
    /// The result of [`Sequence::forward`].
    pub packed: &'a [T],
    pub wh: &'a [T],
    pub lengths: Option<&'a [Index]>,
    /// The cotangent of what was read.
    pub ct: &'a [T],
    pub read: Read,
    /// Whether the first states' cotangents are wanted.
    pub states: bool,
}

/// A step: its place in time, and the positions of the states before and after it.
#[derive(Clone, Copy)]
struct Step {
    at: usize,
    before: usize,
    after: usize,
}

/// Samples that go through all steps together: some vectors of both types.
const ROWS: usize = 64;
/// Samples that threads do not share: a cache line of f32, which is a vector of AVX-512.
pub(crate) const UNIT: usize = 16;
/// About how many elements of a gate are worked on at a time, so that all gates stay in L1.
const BLOCK: usize = 1024;
/// Columns of a product made at a time: so few that gemm reads the state in place.
const COLUMNS: usize = 32;

impl Sequence {
    /// The elements of the forward result, `[batch, packed·H, time + 1]`: at position p the
    /// states, and in the blocks after them what is kept of the step at p. A sequence that has
    /// ended keeps its state. Time comes last, so that what a step reads and writes is one piece.
    /// Samples are the range of the runs, whose period is the batch.
    pub(crate) fn forward<T: Scalar>(&self, x: &Inputs<T>, packed: Runs<T>, scratch: &mut [T]) {
        type Run<T> = for<'a> fn(&Sequence, &Inputs<'a, T>, Runs<'a, T>, &mut [T]);
        let (single, double): (Run<f32>, Run<f64>) = (forward::run, forward::run);
        of_type::<Run<T>>(&single, &double)(self, x, packed, scratch);
    }

    /// The cotangents of what enters each step, `[batch, time, cotangents·H]`; if the states' are
    /// wanted, at one more position after the last those of the first states. Samples are as in
    /// [`Sequence::forward`].
    pub(crate) fn backward<T: Scalar>(&self, x: &Cotangent<T>, y: Runs<T>, scratch: &mut [T]) {
        type Run<T> = for<'a> fn(&Sequence, &Cotangent<'a, T>, Runs<'a, T>, &mut [T]);
        let (single, double): (Run<f32>, Run<f64>) = (backward::run, backward::run);
        of_type::<Run<T>>(&single, &double)(self, x, y, scratch);
    }

    /// The scratch of [`Sequence::forward`].
    pub(crate) fn scratch<T: Scalar>(&self) -> usize {
        let rows = self.batch.min(ROWS);
        rows * (4 * self.hidden + 4 * self.block_columns(rows))
            + gemm_scratch::<T>(rows, COLUMNS.min(self.hidden), self.hidden)
    }

    /// The scratch of [`Sequence::backward`].
    pub(crate) fn scratch_of_backward<T: Scalar>(&self) -> usize {
        let (rows, inner) = (self.batch.min(ROWS), self.cell.gates() * self.hidden);
        rows * (4 * self.hidden + inner + 7 * self.block_columns(rows))
            + inner * self.hidden
            + gemm_scratch::<T>(rows, COLUMNS.min(self.hidden), inner)
    }

    /// About how many operations each way takes: the product, and some thirty for each element
    /// of the state.
    pub(crate) fn flops(&self) -> usize {
        let states = self.batch.saturating_mul(self.time).saturating_mul(self.hidden);
        states.saturating_mul(2 * self.cell.gates() * self.hidden + 30)
    }

    /// What is read of the forward result: these columns of `[batch, time, H]`, and with the last
    /// states of `[batch, time + states, H]`.
    pub(crate) fn read<T: Scalar>(
        &self,
        read: Read,
        packed: &[T],
        lengths: Option<&[Index]>,
        columns: Range<usize>,
        y: &mut [T],
    ) {
        let Sequence { cell, batch, time, hidden, .. } = *self;
        if y.is_empty() {
            return;
        }
        let rows = Rows::over_time(0, batch, batch, self.read_positions(read));
        let (n, mut y) = (columns.len(), Runs::new(y, batch));
        let state = |position: usize, state: usize| {
            let column = hidden * (state + cell.packed() * position) + columns.start;
            &packed[batch * column..][..batch * n]
        };
        for step in self.steps() {
            let position = if read == Read::Previous { step.before } else { step.after };
            rows.store(state(position, 0), step.at, 0, &mut y);
            if read != Read::Previous {
                ended(lengths, &rows, step.at, |row| {
                    (0..n).for_each(|j| y.run(rows.run(step.at, j))[row] = T::zero());
                });
            }
        }
        for number in 0..self.read_positions(read) - time {
            rows.store(state(self.last(), number), time + number, 0, &mut y);
        }
    }

    /// The extent of what is read along time.
    pub(crate) fn read_positions(&self, read: Read) -> usize {
        match read {
            Read::OutputsAndLast => self.time + self.cell.states(),
            Read::Outputs | Read::Previous => self.time,
        }
    }

    /// All steps, in the order in which they are taken.
    fn steps(self) -> impl DoubleEndedIterator<Item = Step> {
        let back = usize::from(self.reversed);
        (0..self.time).map(move |s| {
            let at = if self.reversed { self.time - 1 - s } else { s };
            Step { at, before: at + back, after: at + 1 - back }
        })
    }

    /// The position of the first states.
    fn first(&self) -> usize {
        if self.reversed { self.time } else { 0 }
    }

    /// The position of the last states.
    fn last(&self) -> usize {
        self.time - self.first()
    }

    /// Some samples, in blocks that go through all steps together.
    fn blocks(&self, rows: Range<usize>) -> impl Iterator<Item = Block> {
        let (batch, Range { start, end }) = (self.batch, rows);
        (start / ROWS * ROWS..end).step_by(ROWS).map(move |first| {
            let (whole, own) = (ROWS.min(batch - first), first.max(start));
            Block { first: own, n: end.min(first + whole) - own, whole }
        })
    }

    /// The columns of a gate that are worked on at a time.
    fn block_columns(&self, rows: usize) -> usize {
        (BLOCK / rows.max(1)).max(8).min(self.hidden)
    }
}

/// Neighboring samples that go through all steps together.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    n: usize,
    /// How many it would be if threads did not share them. This decides how products are computed,
    /// so that no bit shows who did which samples.
    whole: usize,
}

/// Some neighboring samples of a tensor of positions in time and columns.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    n: usize,
    batch: usize,
    /// From a position to the next, and from a column to the next, in runs of the batch.
    position: usize,
    column: usize,
}

impl Rows {
    /// Of `[batch, positions, columns]`.
    fn over_time(first: usize, n: usize, batch: usize, positions: usize) -> Rows {
        Rows { first, n, batch, position: 1, column: positions }
    }

    /// Of `[batch, columns, positions]`.
    fn by_step(first: usize, n: usize, batch: usize, columns: usize) -> Rows {
        Rows { first, n, batch, position: columns, column: 1 }
    }

    /// The run of the batch that this column is at a position.
    fn run(&self, position: usize, column: usize) -> usize {
        self.position * position + self.column * column
    }

    /// Where this column begins at a position, and the distance of the next one.
    fn place(&self, position: usize, column: usize) -> (usize, usize) {
        (self.first + self.batch * self.run(position, column), self.batch * self.column)
    }

    /// Columns from `column` on, as many as `to` has room for.
    fn load<T: Scalar>(&self, x: &[T], position: usize, column: usize, to: &mut [T]) {
        let (at, step) = self.place(position, column);
        match self.n {
            n if n == step => to.copy_from_slice(&x[at..][..to.len()]),
            8 => load::<T, 8>(x, at, step, to),
            16 => load::<T, 16>(x, at, step, to),
            32 => load::<T, 32>(x, at, step, to),
            ROWS => load::<T, ROWS>(x, at, step, to),
            n => {
                for (j, to) in to.chunks_exact_mut(n).enumerate() {
                    to.copy_from_slice(&x[at + j * step..][..n]);
                }
            }
        }
    }

    /// Puts columns at `column` and after it.
    fn store<T: Scalar>(&self, from: &[T], position: usize, column: usize, y: &mut Runs<T>) {
        let (at, run) = (self.first - y.range().start, self.run(position, column));
        match self.n {
            8 => store::<T, 8>(from, y, run, self.column, at),
            16 => store::<T, 16>(from, y, run, self.column, at),
            32 => store::<T, 32>(from, y, run, self.column, at),
            ROWS => store::<T, ROWS>(from, y, run, self.column, at),
            n => {
                for (j, from) in from.chunks_exact(n).enumerate() {
                    y.run(run + j * self.column)[at..][..n].copy_from_slice(from);
                }
            }
        }
    }

    /// Zeros in so many columns from `column` on.
    fn clear<T: Scalar>(&self, position: usize, column: usize, columns: usize, y: &mut Runs<T>) {
        let at = self.first - y.range().start;
        for column in column..column + columns {
            y.run(self.run(position, column))[at..][..self.n].fill(T::zero());
        }
    }
}

/// [`Rows::load`] of a known number, which makes a copy a few moves.
#[inline(always)]
fn load<T: Scalar, const N: usize>(x: &[T], at: usize, step: usize, to: &mut [T]) {
    for (j, to) in to.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        if let Some(from) = x.get(at + j * step..).and_then(|x| x.first_chunk()) {
            *to = *from;
        }
    }
}

/// [`Rows::store`] of a known number.
#[inline(always)]
fn store<T: Scalar, const N: usize>(
    from: &[T],
    y: &mut Runs<T>,
    run: usize,
    step: usize,
    at: usize,
) {
    for (j, from) in from.as_chunks::<N>().0.iter().enumerate() {
        if let Some(to) = y.run(run + j * step).get_mut(at..).and_then(|y| y.first_chunk_mut()) {
            *to = *from;
        }
    }
}

/// C += A·B for A and C of contiguous columns, which are rows of a block, some columns at a time.
fn add_product<T: Scalar>(block: &Block, a: &[T], b: MatRef<T>, c: &mut [T], scratch: &mut [T]) {
    let (rows, inner, cols) = (block.n, b.rows, b.cols);
    let whole = (block.whole, inner);
    let a = MatRef { whole, ..MatRef::strided(a, (rows, inner), (1, rows)) };
    for j in (0..cols).step_by(COLUMNS) {
        let part = j..cols.min(j + COLUMNS);
        let data = &mut c[rows * j..rows * part.end];
        let c = MatMut { data, rows, cols: part.len(), row_stride: 1, col_stride: rows };
        gemm(a, b.columns(part), c, true, scratch);
    }
}

/// Calls `f` for each sample whose sequence has ended by this step.
fn ended(lengths: Option<&[Index]>, rows: &Rows, at: usize, mut f: impl FnMut(usize)) {
    let Some(lengths) = lengths else { return };
    let lengths = &lengths[rows.first..][..rows.n];
    lengths.iter().enumerate().filter(|(_, n)| at >= **n as usize).for_each(|(row, _)| f(row));
}

/// The next so many elements of the scratch.
fn cut<'a, T>(scratch: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (head, rest) = std::mem::take(scratch).split_at_mut(n);
    *scratch = rest;
    head
}
