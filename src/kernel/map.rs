//! Fused elementwise loops: a short program over registers of a few hundred elements that stay
//! in L1, run block by block. Knows nothing of graphs; the plan says what to load and where.

use super::block::{Places, Steps};
use super::cpu::{LINE, Level, fetch, multiversion};
use super::reduce::sum_blocks;
use crate::scalar::Scalar;
use crate::shape::MAX_RANK;
use std::ops::Range;

/// Elements in a register: 4 KiB of f64, so that a dozen registers fit into L1 and L2.
pub(crate) const BLOCK: usize = 512;

/// Elements to which the registers of short loops are rounded: a cache line of f32.
const VECTOR: usize = 16;

/// The most inputs a loop reads, outputs it writes, registers it holds and sums it makes.
pub(crate) const MAX_INPUTS: usize = 16;
pub(crate) const MAX_OUTPUTS: usize = 6;
pub(crate) const MAX_REGISTERS: usize = 24;
pub(crate) const MAX_SUMS: usize = 4;

/// Bytes of a loop's memory above which it is not in the cache of one core.
const CACHED: usize = 1 << 20;

/// The loop of an elementwise op over slices of equal length.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::type_complexity)] // three plain function pointers
pub(crate) enum Loop<T> {
    /// y = f(a)
    One(fn(&[T], &mut [T])),
    /// y = f(a, b)
    Two(fn(&[T], &[T], &mut [T])),
    /// y = f(a, b, c)
    Three(fn(&[T], &[T], &[T], &mut [T])),
    /// The sum of a block of a.
    Sum,
}

/// A function of N numbers, straight-line code that is compiled for each level.
pub(crate) trait Function<const N: usize, T>: Copy {
    fn at<L: Level>(self, x: [T; N]) -> T;
}

impl<T, F: Fn(T) -> T + Copy> Function<1, T> for F {
    #[inline(always)]
    fn at<L: Level>(self, [a]: [T; 1]) -> T {
        self(a)
    }
}

impl<T, F: Fn(T, T) -> T + Copy> Function<2, T> for F {
    #[inline(always)]
    fn at<L: Level>(self, [a, b]: [T; 2]) -> T {
        self(a, b)
    }
}

impl<T, F: Fn(T, T, T) -> T + Copy> Function<3, T> for F {
    #[inline(always)]
    fn at<L: Level>(self, [a, b, c]: [T; 3]) -> T {
        self(a, b, c)
    }
}

multiversion! {
    /// y = f(a)
    pub(crate) fn each1<L: Level, T: Scalar, F: Function<1, T>>(f: F, a: &[T], y: &mut [T]) {
        for (y, &a) in y.iter_mut().zip(a) {
            *y = f.at::<L>([a]);
        }
    }
}

multiversion! {
    /// y = f(a, b)
    pub(crate) fn each2<L: Level, T: Scalar, F: Function<2, T>>(
        f: F, a: &[T], b: &[T], y: &mut [T],
    ) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = f.at::<L>([a, b]);
        }
    }
}

multiversion! {
    /// y = f(a, b, c)
    pub(crate) fn each3<L: Level, T: Scalar, F: Function<3, T>>(
        f: F, a: &[T], b: &[T], c: &[T], y: &mut [T],
    ) {
        for (((y, &a), &b), &c) in y.iter_mut().zip(a).zip(b).zip(c) {
            *y = f.at::<L>([a, b, c]);
        }
    }
}

/// y = f(a) again, where |a| is beyond `limit`: the rare numbers that lanes do not compute.
pub(crate) fn each_beyond<T: Scalar>(limit: T, f: impl Fn(T) -> T, a: &[T], y: &mut [T]) {
    if any_beyond(limit, a) {
        for (y, &a) in y.iter_mut().zip(a).filter(|(_, a)| a.abs() > limit) {
            *y = f(a);
        }
    }
}

multiversion! {
    fn any_beyond<T: Scalar>(limit: T, x: &[T]) -> bool {
        x.iter().fold(false, |any, x| any | (x.abs() > limit))
    }
}

/// Where an instruction finds an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The block of an input.
    Input(u8),
    /// A register written before.
    Register(u8),
    /// The block of an output written before.
    Output(u8),
}

/// Where an instruction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Register(u8),
    Output(u8),
    /// The sum of this number.
    Sum(u8),
}

/// One elementwise op on a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction<T> {
    pub(crate) run: Loop<T>,
    pub(crate) args: [Slot; 3],
    pub(crate) to: Target,
}

/// How an input is laid under the loop's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// One to one.
    Dense,
    /// One number for all.
    Splat,
    /// Repeated along some axes: the loop's extents and this input's strides (0 repeats),
    /// adjacent axes folded.
    Strided { rank: u8, extents: [usize; MAX_RANK], strides: [usize; MAX_RANK] },
    /// One to one, and found in the memory of the output of this number, which the loop writes
    /// over it. There is no slice of its own.
    Over(u8),
    /// One to one with a part of the input, which starts at this element.
    Part(usize),
    /// The input from this element of the loop on, and zeros before and after it.
    Within(usize),
}

impl Access {
    /// Whether the loop's elements lie in the input as they are.
    fn in_place(&self) -> bool {
        matches!(self, Access::Dense | Access::Part(_))
    }
}

/// A fused loop.
#[derive(Clone, Debug)]
pub(crate) struct MapLoop<T> {
    pub(crate) steps: Steps<T>,
    pub(crate) inputs: Vec<Access>,
    pub(crate) n_outputs: usize,
    pub(crate) n_registers: usize,
    pub(crate) n_sums: usize,
    /// Elementwise ops, of which an instruction may be two.
    pub(crate) n_ops: usize,
    pub(crate) len: usize,
}

impl<T: Scalar> MapLoop<T> {
    /// # Panics
    /// Instructions that do not fit the rest: a fault of the planner.
    pub(crate) fn new(
        code: &[Instruction<T>],
        inputs: Vec<Access>,
        (n_outputs, n_registers): (usize, usize),
        n_sums: usize,
        n_ops: usize,
        len: usize,
    ) -> Self {
        let steps = Steps::new(code, inputs.len(), (n_outputs, n_registers), n_sums);
        MapLoop { steps, inputs, n_outputs, n_registers, n_sums, n_ops, len }
    }

    /// The elements of scratch that [`MapLoop::run`] wants: the registers, and a block for each
    /// input that is not read in place.
    pub(crate) fn scratch(&self) -> usize {
        let copies = self.inputs.iter().filter(|a| !a.in_place()).count();
        (self.n_registers + copies) * self.register()
    }

    /// The elements of a register: a block, or in short loops whole vectors.
    fn register(&self) -> usize {
        self.len.next_multiple_of(VECTOR).min(BLOCK)
    }

    /// One for each op and sum and element, at most what a number can hold.
    pub(crate) fn flops(&self) -> usize {
        (self.n_ops + self.n_sums).saturating_mul(self.len)
    }

    /// The blocks of the loop.
    pub(crate) fn n_blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// Of the whole input `i`, what [`MapLoop::run`] wants for these elements.
    ///
    /// # Panics
    /// An input that does not fit the loop.
    #[inline(always)]
    pub(crate) fn cut<'a>(&self, i: usize, input: &'a [T], range: &Range<usize>) -> &'a [T] {
        match self.inputs[i] {
            Access::Dense => {
                assert_eq!(input.len(), self.len, "dense input");
                &input[range.clone()]
            }
            Access::Part(start) => &input[start..][range.clone()],
            _ => input,
        }
    }

    /// Runs the loop over these elements, which begin with a block. `outputs` and dense inputs
    /// have their memory only, `sums` an element for each sum of each of their blocks.
    ///
    /// # Panics
    /// Slices that do not fit the loop: a fault of the planner.
    pub(crate) fn run(
        &self,
        range: Range<usize>,
        inputs: &[&[T]],
        outputs: &mut [&mut [T]],
        sums: &mut [T],
        scratch: &mut [T],
    ) {
        assert!(inputs.len() == self.inputs.len() && outputs.len() == self.n_outputs);
        assert!(outputs.iter().all(|y| y.len() == range.len()) && range.end <= self.len);
        assert!(sums.len() == range.len().div_ceil(BLOCK) * self.n_sums);
        if range.len() > BLOCK {
            return self.run_blocks(range, inputs, outputs, sums, scratch);
        }
        // Most loops of a small plan are one block, and what a row of blocks wants would be felt.
        if !range.is_empty() {
            self.run_block(0..range.len(), range.start, inputs, outputs, sums, scratch);
        }
    }

    /// As [`MapLoop::run`], over more than one block.
    fn run_blocks(
        &self,
        range: Range<usize>,
        inputs: &[&[T]],
        outputs: &mut [&mut [T]],
        sums: &mut [T],
        scratch: &mut [T],
    ) {
        let in_place = self.inputs.iter().filter(|a| a.in_place()).count();
        let is_large = range.len() * (in_place + self.n_outputs) * size_of::<T>() > CACHED;
        for (n, start) in (0..range.len()).step_by(BLOCK).enumerate() {
            let block = start..range.len().min(start + BLOCK);
            if is_large {
                // The processor loses a stream that rests while it works on a block.
                let next = block.end..range.len().min(block.end + BLOCK);
                let in_place = |(x, access): (&&[T], &Access)| {
                    if access.in_place() {
                        fetch_lines(&x[next.clone()]);
                    }
                };
                inputs.iter().zip(&self.inputs).for_each(in_place);
                outputs.iter().for_each(|y| fetch_lines(&y[next.clone()]));
            }
            let sums = &mut sums[n * self.n_sums..][..self.n_sums];
            self.run_block(block, range.start, inputs, outputs, sums, scratch);
        }
    }

    /// One block of the elements that a run goes over, which are those from `first` on.
    #[inline(never)] // inside a loop, all it knows beforehand would be worked out for each run
    fn run_block(
        &self,
        block: Range<usize>,
        first: usize,
        inputs: &[&[T]],
        outputs: &mut [&mut [T]],
        sums: &mut [T],
        scratch: &mut [T],
    ) {
        let (size, n) = (self.register(), block.len());
        let (mut registers, mut copies) = scratch.split_at_mut(self.n_registers * size);
        let mut places = Places::new(n);
        // Inputs that are not read in place have a register each.
        for (access, x) in self.inputs.iter().zip(inputs) {
            if access.in_place() {
                places.read(&x[block.clone()]);
                continue;
            }
            let (copy, rest) = copies.split_at_mut(size);
            copies = rest;
            let copy = &mut copy[..n];
            match access {
                // Once, for the longest block, which is the first.
                Access::Splat if block.start == 0 => copy.fill(x[0]),
                Access::Strided { rank, extents, strides } => {
                    Walk::from(first + block.start, x, *rank, extents, strides).fill(copy);
                }
                Access::Over(o) => copy.copy_from_slice(&outputs[*o as usize][block.clone()]),
                Access::Within(at) => within(x, *at, first + block.start, copy),
                Access::Dense | Access::Splat | Access::Part(_) => {}
            }
            places.read(copy);
        }
        for y in outputs {
            places.write(&mut y[block.clone()]);
        }
        for _ in 0..self.n_registers {
            let (register, rest) = registers.split_at_mut(size);
            registers = rest;
            places.write(&mut register[..n]);
        }
        self.steps.run(&mut places, sums);
    }
}

/// Of `x` between zeros, where it begins at `first`, the elements from `start` on.
fn within<T: Scalar>(x: &[T], first: usize, start: usize, block: &mut [T]) {
    // Before, of and behind the input, as far as this block has them.
    let here = |at: usize| at.saturating_sub(start).min(block.len());
    let (from, to) = (here(first), here(first + x.len()));
    block[..from].fill(T::zero());
    let skipped = start.saturating_sub(first).min(x.len());
    block[from..to].copy_from_slice(&x[skipped..][..to - from]);
    block[to..].fill(T::zero());
}

/// Asks for all cache lines of x.
fn fetch_lines<T>(x: &[T]) {
    x.iter().step_by(LINE / size_of::<T>()).for_each(fetch);
}

/// Sum number `i` of a loop of `n_sums`, from those of all its blocks.
pub(crate) fn total<T: Scalar>(sums: &[T], n_sums: usize, i: usize) -> T {
    sum_blocks(sums.len() / n_sums, &|block| sums[block * n_sums + i])
}

/// Reads a broadcast input in the loop's order, run by run along the first folded axis.
struct Walk<'a, T> {
    x: &'a [T],
    extents: &'a [usize],
    strides: &'a [usize],
    at: [usize; MAX_RANK],
    offset: usize,
}

impl<'a, T: Scalar> Walk<'a, T> {
    /// A walk that begins at this element of the loop.
    fn from(
        start: usize,
        x: &'a [T],
        rank: u8,
        extents: &'a [usize; MAX_RANK],
        strides: &'a [usize; MAX_RANK],
    ) -> Self {
        let (extents, strides) = (&extents[..rank as usize], &strides[..rank as usize]);
        let (mut at, mut offset, mut left) = ([0; MAX_RANK], 0, start);
        for ((at, &extent), &stride) in at.iter_mut().zip(extents).zip(strides) {
            if left == 0 {
                break;
            }
            *at = left % extent;
            offset += *at * stride;
            left /= extent;
        }
        Walk { x, extents, strides, at, offset }
    }

    fn fill(&mut self, mut block: &mut [T]) {
        if let (&[extent, n_columns], &[0, step]) = (self.extents, self.strides)
            && (block.len(), self.offset) == (extent * n_columns, 0)
        {
            // One number for each column, as a bias over a small batch: all of it at once.
            for (j, column) in block.chunks_exact_mut(extent).enumerate() {
                column.fill(self.x[j * step]);
            }
            return;
        }
        while !block.is_empty() {
            let n = (self.extents[0] - self.at[0]).min(block.len());
            let (run, rest) = block.split_at_mut(n);
            match self.strides[0] {
                0 => run.fill(self.x[self.offset]),
                1 => run.copy_from_slice(&self.x[self.offset..self.offset + n]),
                s => run
                    .iter_mut()
                    .zip(self.x[self.offset..].iter().step_by(s))
                    .for_each(|(y, &x)| *y = x),
            }
            block = rest;
            self.advance(n);
        }
    }

    /// Moves on by `n` elements, which do not go past the end of the first axis.
    fn advance(&mut self, n: usize) {
        self.at[0] += n;
        self.offset += n * self.strides[0];
        let mut axis = 0;
        while self.at[axis] == self.extents[axis] {
            self.offset -= self.at[axis] * self.strides[axis];
            self.at[axis] = 0;
            axis += 1;
            if axis == self.extents.len() {
                return;
            }
            self.at[axis] += 1;
            self.offset += self.strides[axis];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_with_broadcasts_equals_the_scalar_loop() {
        // y = (x + bias) * s, z = y - x over [rows, columns], lengths around the block's.
        for rows in [1, 2, 7, 100, 511, 512, 513, 1300] {
            let columns = 3;
            let n = rows * columns;
            let x: Vec<f64> = (0..n).map(|i| i as f64 * 0.5).collect();
            let (bias, s) = ([1.0, 2.0, 3.0], [4.0]);
            let add: Loop<f64> = Loop::Two(|a, b, y| each2(|a, b| a + b, a, b, y));
            let mul: Loop<f64> = Loop::Two(|a, b, y| each2(|a, b| a * b, a, b, y));
            let sub: Loop<f64> = Loop::Two(|a, b, y| each2(|a, b| a - b, a, b, y));
            let strided = |strides: &[usize]| {
                let mut all = [0; MAX_RANK];
                all[..2].copy_from_slice(strides);
                let mut extents = [1; MAX_RANK];
                (extents[0], extents[1]) = (rows, columns);
                Access::Strided { rank: 2, extents, strides: all }
            };
            let unused = Slot::Input(0);
            let code = [
                Instruction {
                    run: add,
                    args: [Slot::Input(0), Slot::Input(1), unused],
                    to: Target::Register(0),
                },
                Instruction {
                    run: mul,
                    args: [Slot::Register(0), Slot::Input(2), unused],
                    to: Target::Output(0),
                },
                Instruction {
                    run: sub,
                    args: [Slot::Output(0), Slot::Input(0), unused],
                    to: Target::Output(1),
                },
                Instruction {
                    run: Loop::Sum,
                    args: [Slot::Register(0), unused, unused],
                    to: Target::Sum(0),
                },
            ];
            let inputs = vec![Access::Dense, strided(&[0, 1]), Access::Splat];
            let program = MapLoop::new(&code, inputs, (2, 1), 1, 3, n);
            let mut scratch = vec![0.0; program.scratch()];
            for cut in [0, BLOCK, n / 3 / BLOCK * BLOCK].map(|cut| cut.min(n)) {
                let (mut y, mut z) = (vec![0.0; n], vec![0.0; n]);
                let mut sums = vec![0.0; program.n_blocks()];
                for part in [0..cut, cut..n] {
                    let outputs = &mut [&mut y[part.clone()], &mut z[part.clone()]];
                    let blocks = part.start.div_ceil(BLOCK)..part.end.div_ceil(BLOCK);
                    let sums = &mut sums[blocks];
                    let inputs = [program.cut(0, &x, &part), &bias, &s];
                    program.run(part, &inputs, outputs, sums, &mut scratch);
                }
                // Small multiples of a half: every order gives the exact sum.
                let want: f64 = (0..n).map(|i| x[i] + bias[i / rows]).sum();
                assert_eq!(total(&sums, 1, 0), want, "sum, {rows} rows");
                for i in 0..n {
                    let want = (x[i] + bias[i / rows]) * 4.0;
                    assert_eq!((y[i], z[i]), (want, want - x[i]), "{i} of {rows} rows, {cut}");
                }
            }
        }
    }

    #[test]
    fn parts_and_zeros_around_one_are_read_where_they_lie() {
        let sub: Loop<f64> = Loop::Two(|a, b, y| each2(|a, b| a - b, a, b, y));
        for (n, first, inner) in [(1, 0, 1), (10, 3, 6), (1300, 511, 2), (1300, 5, 1295)] {
            let x: Vec<f64> = (0..n + 4).map(|i| i as f64 * 0.5).collect();
            let part: Vec<f64> = (0..inner).map(|i| 7.0 - i as f64).collect();
            let args = [Slot::Input(0), Slot::Input(1), Slot::Input(0)];
            let code = [Instruction { run: sub, args, to: Target::Output(0) }];
            let inputs = vec![Access::Part(3), Access::Within(first)];
            let program = MapLoop::new(&code, inputs, (1, 0), 0, 1, n);
            let around = |i: usize| i.checked_sub(first).and_then(|i| part.get(i)).unwrap_or(&0.0);
            let want: Vec<f64> = (0..n).map(|i| x[i + 3] - around(i)).collect();
            let (mut y, mut scratch) = (vec![f64::NAN; n], vec![f64::NAN; program.scratch()]);
            for cut in [0, BLOCK.min(n), n / BLOCK * BLOCK] {
                for range in [0..cut, cut..n] {
                    let inputs = [program.cut(0, &x, &range), program.cut(1, &part, &range)];
                    let y = &mut y[range.clone()];
                    program.run(range, &inputs, &mut [y], &mut [], &mut scratch);
                }
                assert_eq!(std::mem::replace(&mut y, vec![f64::NAN; n]), want, "{n}, {cut}");
            }
        }
    }

    #[test]
    fn an_output_over_an_input_has_what_it_would_have_elsewhere() {
        let sub: Loop<f64> = Loop::Two(|a, b, y| each2(|a, b| a - b, a, b, y));
        let mul: Loop<f64> = Loop::Two(|a, b, y| each2(|a, b| a * b, a, b, y));
        for n in [1, 511, 512, 513, 1300] {
            // y = b - a, z = y * a, with z over a: a is read after z's block is begun.
            let step = |run, args, to| Instruction { run, args, to };
            let (a, b, y) = (Slot::Input(0), Slot::Input(1), Slot::Output(0));
            let code = [
                step(mul, [b, b, b], Target::Output(1)),
                step(sub, [b, a, a], Target::Output(0)),
                step(mul, [y, a, a], Target::Output(1)),
            ];
            let inputs = vec![Access::Dense, Access::Dense];
            let mut program = MapLoop::new(&code, inputs, (2, 0), 0, 3, n);
            let a: Vec<f64> = (0..n).map(|i| i as f64 * 0.5).collect();
            let b: Vec<f64> = (0..n).map(|i| 7.0 - i as f64).collect();
            let mut run = |access, z: &mut [f64], a: &[f64]| {
                program.inputs[0] = access;
                let (mut y, mut scratch) = (vec![0.0; n], vec![f64::NAN; program.scratch()]);
                program.run(0..n, &[a, &b], &mut [&mut y, z], &mut [], &mut scratch);
                y
            };
            let (mut z, mut over) = (vec![0.0; n], a.clone());
            let y = run(Access::Dense, &mut z, &a);
            assert_eq!((run(Access::Over(1), &mut over, &[]), over), (y, z), "{n}");
        }
    }
}
