//! Convolution over two axes and its two adjoints, each computed directly, or all but the adjoint
//! in the weights by Winograd's transforms where that pays. Samples are neighbors in memory, then
//! rows: so for a column of the image and a channel, the samples of all rows are one vector, and a
//! tap of the window is that vector some rows further on. Knows no tapes.

mod micro;
mod strip;
#[cfg(test)]
mod tests;
mod winograd;

use crate::Scalar;
use crate::kernel::gemm::micro::{DOTS, DotBlock, Dots, Kernels};
use crate::kernel::window::Axis;
use micro::{Terms, Tile, Tiles};
use std::ops::Range;
use strip::{Ahead, Strip, Strips};
use winograd::Correlation;

/// y\[n, i, j, o\] = Σ x\[n, i·stride + p·dilation − before, …, c\] w\[p, q, c, o\] over the
/// taps p, q and the channels c of o's group; x is zero outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Conv {
    pub batch: usize,
    pub rows: Axis,
    pub columns: Axis,
    /// Channels of x and y, in all groups.
    pub inputs: usize,
    pub outputs: usize,
    pub groups: usize,
}

impl Conv {
    /// Multiplications and additions of the value, and of each adjoint, by their definitions,
    /// borders counted.
    pub(crate) fn flops(&self) -> usize {
        let y = [self.batch, self.rows.output, self.columns.output, self.outputs];
        [2, self.terms()].into_iter().chain(y).fold(1, usize::saturating_mul)
    }

    /// Weights of one output channel.
    fn terms(&self) -> usize {
        self.rows.taps * self.columns.taps * (self.inputs / self.groups)
    }

    /// The scratch of [`Conv::forward`].
    pub(crate) fn scratch(&self) -> usize {
        match winograd::pays(self) {
            true => Correlation::forward(self).scratch(),
            false => self.strips_of_input().len(),
        }
    }

    /// The scratch of [`Conv::weights`].
    pub(crate) fn scratch_of_weights<T: Scalar>(&self) -> usize {
        let (_, most_cols) = Kernels::<T>::get().dots_extents();
        let n_blocks = self.groups * (self.outputs / self.groups).div_ceil(most_cols);
        self.strips_of_input().len() + n_blocks * self.terms() * DOTS.1
    }

    /// The scratch of [`Conv::input`].
    pub(crate) fn scratch_of_input(&self) -> usize {
        if winograd::pays(self) {
            return Correlation::input(self).scratch();
        }
        let phase = match self.rows.stride {
            1 => 0,
            stride => self.batch * self.rows.input.div_ceil(stride) * self.inputs / self.groups,
        };
        self.strips_of_output().len() + phase
    }

    /// The units of [`Conv::forward`]: channels of y, or channel by channel columns of the image.
    pub(crate) fn units(&self) -> usize {
        self.outputs * if winograd::pays(self) { 1 } else { self.columns.output }
    }

    /// The units of [`Conv::input`]: the same of x.
    pub(crate) fn units_of_input(&self) -> usize {
        self.inputs * if winograd::pays(self) { 1 } else { self.columns.input }
    }

    fn strips_of_input(&self) -> Strips {
        let slots = (self.columns.span() + 1).min(self.columns.input);
        Strips::new(Strip::of_input(self.rows), self.batch, self.inputs, slots)
    }

    fn strips_of_output(&self) -> Strips {
        let slots = (self.columns.span() / self.columns.stride + 1).min(self.columns.output);
        Strips::new(Strip::of_output(self.rows), self.batch, self.outputs, slots)
    }

    /// The columns of x that the windows of column `at` of y see.
    fn columns_of_input(&self, at: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let axis = self.columns;
        (0..axis.taps).filter_map(move |tap| Some((tap, axis.input_of(at, tap)?)))
    }

    /// The columns of y whose windows see column `at` of x.
    fn columns_of_output(&self, at: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let axis = self.columns;
        (0..axis.taps).filter_map(move |tap| Some((tap, axis.output_of(at, tap)?)))
    }

    /// y, or these of its units.
    pub(crate) fn forward<T: Scalar>(
        &self,
        x: &[T],
        w: &[T],
        y: &mut [T],
        units: Range<usize>,
        scratch: &mut [T],
    ) {
        if winograd::pays(self) {
            return Correlation::forward(self).run(x, w, y, units, scratch);
        }
        let (width, run) = (self.columns.output, self.batch * self.rows.output);
        let (group_in, group_out) = (self.inputs / self.groups, self.outputs / self.groups);
        let mut strips = self.strips_of_input();
        let mut terms = Terms::new();
        if run == 0 {
            return;
        }
        for column in 0..width {
            let channels = in_units(&units, column, width);
            if channels.is_empty() {
                continue;
            }
            let taps = self.columns_of_input(column);
            strips.load(self.columns.inputs_of(column), x, self.rows.input, scratch);
            let next = self.columns.inputs_of((column + 1).min(width - 1));
            let mut ahead = strips.ahead(next, x, self.rows.input);
            for (group, part) in by_group(channels, group_out) {
                let mut sum = Sum {
                    terms: &mut terms,
                    ahead: &mut ahead,
                    a: scratch,
                    b: &w[part.start * self.terms()..],
                    b_step: self.terms(),
                    c: &mut y[(column + width * part.start - units.start) * run..],
                    c_step: width * run,
                    rows: run,
                    cols: part.len(),
                    add: false,
                };
                for (q, at) in taps.clone() {
                    let first = strips.column(at) + group * group_in * strips.channel();
                    for c in 0..group_in {
                        let weight = self.rows.taps * (q + self.columns.taps * c);
                        for p in 0..self.rows.taps {
                            sum.push(first + c * strips.channel() + strips.tap(p), weight + p);
                        }
                    }
                }
                sum.finish();
            }
        }
    }

    /// The adjoint in x: Σ dy w, or these of its units.
    pub(crate) fn input<T: Scalar>(
        &self,
        dy: &[T],
        w: &[T],
        dx: &mut [T],
        units: Range<usize>,
        scratch: &mut [T],
    ) {
        if winograd::pays(self) {
            return Correlation::input(self).run(dy, w, dx, units, scratch);
        }
        let (width, height, stride) = (self.columns.input, self.rows.input, self.rows.stride);
        let (group_in, group_out) = (self.inputs / self.groups, self.outputs / self.groups);
        let taps_all = self.rows.taps * self.columns.taps;
        let mut strips = self.strips_of_output();
        let (scratch, phase) = scratch.split_at_mut(strips.len());
        let mut terms = Terms::new();
        if self.batch * height == 0 {
            return;
        }
        for column in 0..width {
            let channels = in_units(&units, column, width);
            if channels.is_empty() {
                continue;
            }
            let taps = self.columns_of_output(column);
            strips.load(self.columns.outputs_of(column), dy, self.rows.output, scratch);
            let next = self.columns.outputs_of((column + 1).min(width - 1));
            let mut ahead = strips.ahead(next, dy, self.rows.output);
            for (group, part) in by_group(channels, group_in) {
                let start = (column + width * part.start - units.start) * self.batch * height;
                // Rows that are a stride apart see the same taps.
                for first in 0..stride.min(height) {
                    let rows = (height - first).div_ceil(stride) * self.batch;
                    let (c, c_step) = match stride {
                        1 => (&mut dx[start..], width * self.batch * height),
                        _ => (&mut *phase, rows),
                    };
                    let mut sum = Sum {
                        terms: &mut terms,
                        ahead: &mut ahead,
                        a: scratch,
                        b: &w[taps_all * (part.start % group_in + group_in * group * group_out)..],
                        b_step: taps_all,
                        c,
                        c_step,
                        rows,
                        cols: part.len(),
                        add: false,
                    };
                    let (window, residue) = strips.window_of(first);
                    for (q, at) in taps.clone() {
                        let place = strips.column(at)
                            + group * group_out * strips.channel()
                            + window * self.batch;
                        for o in 0..group_out {
                            let place = place + o * strips.channel();
                            let weight = taps_all * group_in * o + self.rows.taps * q;
                            for p in 0..self.rows.taps {
                                if p * self.rows.dilation % stride == residue {
                                    sum.push(place + strips.tap(p), weight + p);
                                }
                            }
                        }
                    }
                    sum.finish();
                    if stride > 1 {
                        for (c, phase) in phase.chunks_exact(rows).take(part.len()).enumerate() {
                            let dx = &mut dx[start + c * width * self.batch * height..];
                            let dx = dx[..self.batch * height].chunks_exact_mut(self.batch);
                            let dx = dx.skip(first).step_by(stride);
                            for (dx, row) in dx.zip(phase.chunks_exact(self.batch)) {
                                dx.copy_from_slice(row);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The adjoint in w: Σ x dy over samples and windows, or these of its units: output channels.
    pub(crate) fn weights<T: Scalar>(
        &self,
        x: &[T],
        dy: &[T],
        dw: &mut [T],
        units: Range<usize>,
        scratch: &mut [T],
    ) {
        let (width, run) = (self.columns.output, self.batch * self.rows.output);
        let (group_in, group_out) = (self.inputs / self.groups, self.outputs / self.groups);
        let kernels = Kernels::<T>::get();
        let (most_places, most_cols) = kernels.dots_extents();
        let mut strips = self.strips_of_input();
        if run == 0 {
            return dw.fill(T::zero());
        }
        let (scratch, blocks) = scratch.split_at_mut(strips.len());
        let n_terms = self.terms().max(1);
        // Sums in the order of the blocks of dot products; each term has its columns side by side.
        let sums = blocks.as_chunks_mut::<{ DOTS.1 }>().0;
        sums.fill([T::zero(); DOTS.1]);
        let parts = || {
            by_group(units.clone(), group_out).flat_map(|(group, part)| {
                let cols = equal_parts(part.len(), most_cols);
                let end = part.end;
                part.step_by(cols).map(move |first| (group, first, cols.min(end - first)))
            })
        };
        assert!(sums.len() >= parts().count() * n_terms, "conv: got {} of scratch", sums.len());
        let terms_of_column = group_in * self.rows.taps;
        for column in 0..width {
            let taps = self.columns_of_input(column);
            strips.load(self.columns.inputs_of(column), x, self.rows.input, scratch);
            let next = self.columns.inputs_of((column + 1).min(width - 1));
            let mut ahead = strips.ahead(next, x, self.rows.input);
            let mut parts_left = parts();
            for sums in sums.chunks_exact_mut(n_terms) {
                let Some((group, first, cols)) = parts_left.next() else { break };
                let b = &dy[(column + width * first) * run..];
                let b_next = b.get(width * run * cols..).unwrap_or_default();
                let mut b_ahead = Ahead::new(b_next, run, width * run, cols);
                let (mut at, mut n) = ([0; DOTS.0], 0);
                let mut out: DotBlock<T> = [[T::zero(); DOTS.1]; DOTS.0];
                let mut add = |at: &[usize], end: usize| {
                    let b_step = width * run;
                    let dots = Dots { k: run, a: scratch, at, b, b_step, cols, ahead: 0 };
                    b_ahead.fetch(LINES / 2);
                    ahead.fetch(LINES / 4);
                    kernels.dots(&dots, &mut out);
                    let sums = sums[end - at.len()..end].as_flattened_mut();
                    sums.iter_mut().zip(out.as_flattened()).for_each(|(sum, &x)| *sum += x);
                };
                let mut term = 0;
                for (q, from) in taps.clone() {
                    let from = strips.column(from) + group * group_in * strips.channel();
                    term = q * terms_of_column;
                    for c in 0..group_in {
                        for p in 0..self.rows.taps {
                            at[n] = from + c * strips.channel() + strips.tap(p);
                            (n, term) = (n + 1, term + 1);
                            if n == most_places {
                                add(&at[..n], term);
                                n = 0;
                            }
                        }
                    }
                }
                if n > 0 {
                    add(&at[..n], term);
                }
            }
        }
        for (sums, (_, first, cols)) in sums.chunks_exact(n_terms).zip(parts()) {
            for (o, dw) in dw[(first - units.start) * n_terms..]
                .chunks_exact_mut(n_terms)
                .take(cols)
                .enumerate()
            {
                for q in 0..self.columns.taps {
                    for c in 0..group_in {
                        for p in 0..self.rows.taps {
                            let term = p + self.rows.taps * (c + group_in * q);
                            let weight = p + self.rows.taps * (q + self.columns.taps * c);
                            dw[weight] = sums[term][o];
                        }
                    }
                }
            }
        }
    }
}

/// The channels whose unit of this column is among `units`: unit = column + width · channel.
fn in_units(units: &Range<usize>, column: usize, width: usize) -> Range<usize> {
    let from = |unit: usize| unit.saturating_sub(column).div_ceil(width);
    from(units.start)..from(units.end)
}

/// Channels cut where groups of this many begin, with the group of each part.
fn by_group(channels: Range<usize>, group: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let groups = channels.start / group..channels.end.div_ceil(group);
    groups.map(move |g| (g, channels.start.max(g * group)..channels.end.min((g + 1) * group)))
}

/// The size of equal parts of at most `max`.
fn equal_parts(n: usize, max: usize) -> usize {
    n.div_ceil(n.div_ceil(max).max(1)).max(1)
}

/// Cache lines that are asked for ahead beside each tile, or block of dot products: what a core
/// waits for at once, at most.
const LINES: usize = 16;

/// One column of some channels as sums over terms that are pushed one by one.
struct Sum<'a, 'x, T> {
    terms: &'a mut Terms,
    /// What the next column reads.
    ahead: &'a mut Ahead<'x, T>,
    a: &'a [T],
    b: &'a [T],
    b_step: usize,
    c: &'a mut [T],
    c_step: usize,
    rows: usize,
    cols: usize,
    add: bool,
}

impl<T: Scalar> Sum<'_, '_, T> {
    #[inline]
    fn push(&mut self, a: usize, b: usize) {
        if self.terms.is_full() {
            self.flush();
        }
        self.terms.push(a, b);
    }

    fn flush(&mut self) {
        let kernels = Tiles::<T>::get();
        let (most_rows, most_cols) = kernels.tile_extents();
        let cols = equal_parts(self.cols, most_cols);
        for row in (0..self.rows).step_by(most_rows) {
            for col in (0..self.cols).step_by(cols) {
                let tile = Tile {
                    rows: most_rows.min(self.rows - row),
                    cols: cols.min(self.cols - col),
                    terms: self.terms,
                    a: &self.a[row..],
                    b: &self.b[col * self.b_step..],
                    b_step: self.b_step,
                    c_step: self.c_step,
                    add: self.add,
                };
                self.ahead.fetch(LINES);
                kernels.tile(&tile, &mut self.c[row + col * self.c_step..]);
            }
        }
        self.terms.clear();
        self.add = true;
    }

    fn finish(mut self) {
        if !self.terms.is_empty() {
            return self.flush();
        }
        if !self.add {
            for col in 0..self.cols {
                self.c[col * self.c_step..][..self.rows].fill(T::zero());
            }
        }
    }
}
