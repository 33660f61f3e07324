//! Columns of an image with zeros around them, copied so that every tap of a window finds its rows
//! contiguous; a few columns at a time, which stay in cache.

use crate::Scalar;
use crate::kernel::cpu::{LINE, fetch};
use crate::kernel::window::Axis;
use std::ops::Range;

/// The rows that the taps of windows along an axis read, for windows or inputs in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip {
    axis: Axis,
    of_output: bool,
    /// Whether taps share rows; else each tap has its own.
    shared: bool,
    /// Rows that each tap reads.
    run: usize,
}

impl Strip {
    /// Rows of the input, as windows read them.
    pub(super) fn of_input(axis: Axis) -> Strip {
        Strip::new(axis, false, axis.output)
    }

    /// Rows of the output, as the inputs that a stride apart read them.
    pub(super) fn of_output(axis: Axis) -> Strip {
        let Axis { input, stride, before, .. } = axis;
        let run = match input {
            0 => 0,
            _ => (input - 1 + before) / stride - before / stride + 1,
        };
        Strip::new(axis, true, run)
    }

    fn new(axis: Axis, of_output: bool, run: usize) -> Strip {
        let strip = Strip { axis, of_output, shared: false, run };
        let shared = strip.step() == 1 && run + strip.span() <= axis.taps * run;
        Strip { shared, ..strip }
    }

    /// The first row that a tap reads; rows that are not there are zero.
    fn first(&self, tap: usize) -> isize {
        let Axis { stride, dilation, before, .. } = self.axis;
        match self.of_output {
            true => (before / stride) as isize - (tap * dilation / stride) as isize,
            false => (tap * dilation) as isize - before as isize,
        }
    }

    /// From a row to the next that a tap reads.
    fn step(&self) -> usize {
        if self.of_output { 1 } else { self.axis.stride }
    }

    /// The tap that reads the first row of all.
    fn lowest(&self) -> usize {
        if self.of_output { self.axis.taps - 1 } else { 0 }
    }

    /// By how much the first rows of taps differ.
    fn span(&self) -> usize {
        if self.of_output { self.axis.span() / self.axis.stride } else { self.axis.span() }
    }

    /// Rows of one channel.
    fn len(&self) -> usize {
        if self.shared { self.run + self.span() } else { self.axis.taps * self.run }
    }

    /// The row of the strip that a tap reads first.
    fn place(&self, tap: usize) -> usize {
        match self.shared {
            true => (self.first(tap) - self.first(self.lowest())) as usize,
            false => tap * self.run,
        }
    }

    /// Copies the rows of one channel of a column, of `batch` numbers each.
    fn fill<T: Scalar>(&self, batch: usize, from: &[T], to: &mut [T]) {
        let n_from = from.len() / batch;
        let (segments, rows) = match self.shared {
            true => (1, self.len()),
            false => (self.axis.taps, self.run),
        };
        for segment in 0..segments {
            let to = &mut to[segment * self.run * batch..][..rows * batch];
            let first = self.first(if self.shared { self.lowest() } else { segment });
            let step = self.step();
            // Rows before the first and from the last on lie in the border.
            let before = ((-first).max(0) as usize).div_ceil(step).min(rows);
            let inside = (n_from as isize - first).max(0) as usize;
            let end = inside.div_ceil(step).clamp(before, rows);
            to[..before * batch].fill(T::zero());
            to[end * batch..].fill(T::zero());
            if before == end {
                continue;
            }
            let start = (first + (before * step) as isize) as usize * batch;
            let to = &mut to[before * batch..end * batch];
            match step {
                1 => to.copy_from_slice(&from[start..][..to.len()]),
                _ => {
                    let from = from[start..].chunks_exact(batch).step_by(step);
                    to.chunks_exact_mut(batch).zip(from).for_each(|(to, from)| {
                        to.copy_from_slice(from);
                    });
                }
            }
        }
    }
}

/// The strips of all channels of as many columns as a window needs at once, oldest replaced first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strips {
    strip: Strip,
    batch: usize,
    channels: usize,
    slots: usize,
    /// The first column that was never loaded.
    next: usize,
}

impl Strips {
    pub(super) fn new(strip: Strip, batch: usize, channels: usize, slots: usize) -> Strips {
        Strips { strip, batch, channels, slots, next: 0 }
    }

    /// The numbers that all of them hold.
    pub(super) fn len(&self) -> usize {
        self.slots * self.channels * self.strip.len() * self.batch
    }

    /// Makes these columns of an image of `rows` rows ready, of which the first is never before
    /// that of an earlier call.
    pub(super) fn load<T: Scalar>(
        &mut self,
        columns: Range<usize>,
        image: &[T],
        rows: usize,
        to: &mut [T],
    ) {
        let (from_len, len) = (rows * self.batch, self.strip.len() * self.batch);
        let width = image.len() / (from_len * self.channels).max(1);
        for column in self.next.max(columns.start)..columns.end {
            for channel in 0..self.channels {
                let from = &image[(column + width * channel) * from_len..][..from_len];
                let at = self.column(column) + channel * self.channel();
                self.strip.fill(self.batch, from, &mut to[at..at + len]);
            }
            self.next = column + 1;
        }
    }

    /// What the next [`Strips::load`] of these columns will read.
    pub(super) fn ahead<'a, T>(
        &self,
        columns: Range<usize>,
        image: &'a [T],
        rows: usize,
    ) -> Ahead<'a, T> {
        let run = rows * self.batch;
        let width = image.len() / (run * self.channels).max(1);
        let first = self.next.max(columns.start);
        let n = (columns.end.max(first) - first) * run;
        Ahead::new(&image[(first * run).min(image.len())..], n, width * run, self.channels)
    }

    /// Where a column that is loaded begins.
    #[inline]
    pub(super) fn column(&self, column: usize) -> usize {
        column % self.slots * self.channels * self.channel()
    }

    /// From a channel to the next.
    #[inline]
    pub(super) fn channel(&self) -> usize {
        self.strip.len() * self.batch
    }

    /// From the start of a channel to what a tap reads first.
    #[inline]
    pub(super) fn tap(&self, tap: usize) -> usize {
        self.strip.place(tap) * self.batch
    }

    /// Of the rows of the input that are a stride apart from this one: how many rows beyond the
    /// first the windows of their first tap begin, and the rest of a tap's distance by the stride.
    pub(super) fn window_of(&self, first: usize) -> (usize, usize) {
        let Axis { stride, before, .. } = self.strip.axis;
        ((first + before) / stride - before / stride, (first + before) % stride)
    }
}

/// Runs of numbers that will soon be read, some of whose cache lines are asked for at a time, while
/// sums keep the core busy: runs as short as a column of one channel are over before the hardware
/// has seen that memory is read in order.
pub(super) struct Ahead<'a, T> {
    from: &'a [T],
    len: usize,
    /// From a run to the next.
    step: usize,
    n_runs: usize,
    /// The next number to ask for, in the first run.
    at: usize,
}

impl<'a, T> Ahead<'a, T> {
    pub(super) fn new(from: &'a [T], len: usize, step: usize, n_runs: usize) -> Self {
        Ahead { from, len, step, n_runs: if len == 0 { 0 } else { n_runs }, at: 0 }
    }

    /// Asks for the next `n_lines`.
    #[inline]
    pub(super) fn fetch(&mut self, n_lines: usize) {
        for _ in 0..n_lines {
            if self.n_runs == 0 {
                return;
            }
            if let Some(x) = self.from.get(self.at) {
                fetch(x);
            }
            self.at += (LINE / size_of::<T>()).max(1);
            if self.at >= self.len {
                self.from = self.from.get(self.step..).unwrap_or_default();
                (self.at, self.n_runs) = (0, self.n_runs - 1);
            }
        }
    }
}
