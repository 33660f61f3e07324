//! Winograd's F(2 × 2, 3 × 3): windows of 3 × 3 in steps of 1, with 16 products where four outputs
//! by definition take 36. Tiles are transformed, multiplied point by point (sums over channels are
//! matrix products), and transformed back, a block of samples that stays in cache at a time.
//! Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, with the sign
//! of the last point changed. Knows no tapes.

mod transform;

use super::{Conv, by_group, equal_parts};
use crate::Scalar;
use crate::kernel::gemm::micro::{Kernels, Tile};
use crate::kernel::team;
use crate::kernel::window::Axis;
use std::ops::Range;
use transform::{Block, Image, POINTS, Panel, Panels, ROWS, SIDE, Side};

/// Samples of a block are a multiple of this, but for the last ones of a batch.
const SAMPLES: usize = 16;

/// Whether it pays: by the shape alone, so that bits depend on nothing else. Measured with 8 to 256
/// channels: it takes 0.5 to 0.7 of the direct kernels' time from 32 × 32 channels on, 0.7 to 0.95
/// for 16 × 64, as long for 16 × 16 and for 8 samples, and 1.2 to 2 times as long for 8 × 8.
pub(super) fn pays(conv: &Conv) -> bool {
    let axes = [conv.rows, conv.columns];
    let outputs: usize = axes.iter().map(|axis| axis.output).product();
    let tiles: usize = axes.iter().map(|axis| axis.output.div_ceil(2)).product();
    let channels = [conv.inputs / conv.groups, conv.outputs / conv.groups];
    axes.iter().all(|axis| (axis.taps, axis.stride, axis.dilation) == (3, 1, 1))
        && conv.batch >= 16
        && channels.iter().all(|&n| n >= 16)
        && channels.iter().product::<usize>() >= 32 * 32
        // Tiles that reach beyond the image are wasted: 5/3 fewer products at least.
        && outputs > 0
        && 5 * POINTS * tiles <= 3 * 9 * outputs
}

// Worst errors measured, 64 to 64 channels, 32 images of 16 × 16, uniform on ±1, as multiples of
// ε Σ |terms|, against sums in twice the digits of f64:
//
//                value        gradient of x
// f32 direct     0.65         0.75
// f32 Winograd   0.67         0.71
// f64 direct     0.56         0.69
// f64 Winograd   0.61         0.64
//
// The gradient of w is computed directly: transformed it took 0.65 of the time, but 0.18 instead
// of 0.07 was wrong, and what only the border hides from a tap could reach it.

/// A correlation with windows of 3 × 3: a convolution or its adjoint in x, which differ in
/// where windows begin.
pub(super) struct Correlation {
    image: Image,
    /// Channels of a group.
    inputs: usize,
    outputs: usize,
    adjoint: bool,
}

impl Correlation {
    /// The convolution.
    pub(super) fn forward(conv: &Conv) -> Correlation {
        let side = |axis: Axis| Side {
            input: axis.input,
            output: axis.output,
            first: -(axis.before as isize),
        };
        Correlation {
            image: Image { batch: conv.batch, rows: side(conv.rows), columns: side(conv.columns) },
            inputs: conv.inputs / conv.groups,
            outputs: conv.outputs / conv.groups,
            adjoint: false,
        }
    }

    /// Its adjoint in x.
    pub(super) fn input(conv: &Conv) -> Correlation {
        let side = |axis: Axis| Side {
            input: axis.output,
            output: axis.input,
            first: axis.before as isize - 2,
        };
        Correlation {
            image: Image { batch: conv.batch, rows: side(conv.rows), columns: side(conv.columns) },
            inputs: conv.outputs / conv.groups,
            outputs: conv.inputs / conv.groups,
            adjoint: true,
        }
    }

    /// What [`Correlation::run`] works in.
    pub(super) fn scratch(&self) -> usize {
        POINTS * (self.inputs * (ROWS + self.outputs.next_multiple_of(SIDE)) + SIDE * ROWS)
    }

    /// y, or these of its channels.
    pub(super) fn run<T: Scalar>(
        &self,
        x: &[T],
        w: &[T],
        y: &mut [T],
        channels: Range<usize>,
        scratch: &mut [T],
    ) {
        let Correlation { image, inputs, outputs, .. } = self;
        let (x_len, y_len) = image.channels();
        let (v, rest) = scratch.split_at_mut(POINTS * inputs * ROWS);
        let (m, u) = rest.split_at_mut(POINTS * SIDE * ROWS);
        let v: &mut [Panel<T>] = v.as_chunks_mut().0.as_chunks_mut().0;
        let m: &mut [Panels<T>] = m.as_chunks_mut().0.as_chunks_mut().0.as_chunks_mut().0;
        let u: &mut [[T; SIDE]] = u.as_chunks_mut().0;
        let Some(m) = m.first_mut() else { return };
        for (group, part) in by_group(channels.clone(), *outputs) {
            let x = &x[group * inputs * x_len..];
            let y = &mut y[(part.start - channels.start) * y_len..][..part.len() * y_len];
            self.weights(w, group, part.start % outputs, part.len(), u);
            let mut blocks = image.blocks().peekable();
            while let Some(block) = blocks.next() {
                for (c, v) in v.iter_mut().enumerate() {
                    transform::of_input(image, &block, &x[c * x_len..][..x_len], v);
                }
                let v = v.as_flattened().as_flattened();
                let n_products = POINTS * part.len().div_ceil(SIDE);
                let sides = u.chunks(POINTS * inputs).zip(y.chunks_mut(SIDE * y_len));
                for (n, (u, y)) in sides.enumerate() {
                    let n_outputs = y.len() / y_len;
                    y.chunks_exact(y_len).for_each(|y| block.fetch_output(image, y));
                    for (q, m) in m.iter_mut().enumerate() {
                        let product = Product {
                            k: *inputs,
                            a: (&v[q * ROWS..], POINTS * ROWS),
                            b: (u[q * inputs..].as_flattened(), SIDE, 1),
                            c_step: ROWS,
                            add: false,
                        };
                        if let Some(next) = blocks.peek() {
                            for c in team::part(*inputs, n_products, POINTS * n + q) {
                                next.fetch_input(image, &x[c * x_len..][..x_len]);
                            }
                        }
                        product.run(block.len(), n_outputs, m.as_flattened_mut());
                    }
                    for (o, y) in y.chunks_exact_mut(y_len).enumerate() {
                        transform::to_output(image, &block, m, o, y);
                    }
                }
            }
        }
    }

    /// The weights of these outputs of a group: of [`SIDE`] at a time and each point, those of an
    /// input side by side.
    fn weights<T: Scalar>(
        &self,
        w: &[T],
        group: usize,
        first: usize,
        n_outputs: usize,
        u: &mut [[T; SIDE]],
    ) {
        let inputs = self.inputs;
        let mut g = [[[T::zero(); SIDE]; 3]; 3];
        let n_sides = n_outputs.div_ceil(SIDE);
        for (n, u) in u.chunks_exact_mut(POINTS * inputs).take(n_sides).enumerate() {
            let outputs = (first..first + n_outputs).skip(n * SIDE).take(SIDE);
            for c in 0..inputs {
                for (lane, o) in outputs.clone().enumerate() {
                    let at = match self.adjoint {
                        false => c + inputs * (o + self.outputs * group),
                        true => o + self.outputs * (c + inputs * group),
                    };
                    for (n, &w) in w[9 * at..][..9].iter().enumerate() {
                        let n = if self.adjoint { 8 - n } else { n };
                        g[n / 3][n % 3][lane] = w;
                    }
                }
                transform::of_weights(&g, &mut u[c..], inputs);
            }
        }
    }
}

impl Image {
    /// Numbers of a channel, of the input and of the output.
    fn channels(&self) -> (usize, usize) {
        let n = |rows, columns| self.batch * rows * columns;
        (n(self.rows.input, self.columns.input), n(self.rows.output, self.columns.output))
    }

    /// All tiles, at most [`ROWS`] numbers of each channel and point at a time.
    fn blocks(&self) -> impl Iterator<Item = Block> {
        let Image { batch, rows, columns } = *self;
        let n_samples = SAMPLES * equal_parts(batch.div_ceil(SAMPLES), ROWS / SAMPLES);
        let (n_rows, n_columns) = (rows.output.div_ceil(2), columns.output.div_ceil(2));
        let step = ROWS / n_samples.min(batch).max(1);
        (0..batch).step_by(n_samples).flat_map(move |first| {
            let samples = first..(first + n_samples).min(batch);
            (0..n_columns).flat_map(move |column| {
                let samples = samples.clone();
                (0..n_rows).step_by(step).map(move |first| Block {
                    samples: samples.clone(),
                    rows: first..(first + step).min(n_rows),
                    column,
                })
            })
        })
    }
}

/// C = or += A·B: a column of A every `a.1`, of C every `c_step`; rows and columns of B every
/// `b.1` and `b.2`.
struct Product<'a, T> {
    k: usize,
    a: (&'a [T], usize),
    b: (&'a [T], usize, usize),
    c_step: usize,
    add: bool,
}

impl<T: Scalar> Product<'_, T> {
    fn run(&self, rows: usize, cols: usize, c: &mut [T]) {
        let kernels = Kernels::<T>::get();
        let (registers, most_cols) = kernels.tile_extents();
        let row_step = equal_parts(rows.div_ceil(kernels.lanes), registers) * kernels.lanes;
        let col_step = equal_parts(cols, most_cols);
        for row in (0..rows).step_by(row_step) {
            for col in (0..cols).step_by(col_step) {
                let tile = Tile {
                    rows: row_step.min(rows - row),
                    cols: col_step.min(cols - col),
                    k: self.k,
                    a: &self.a.0[row..],
                    a_step: self.a.1,
                    b: &self.b.0[col * self.b.2..],
                    b_row: self.b.1,
                    b_col: self.b.2,
                    c_step: self.c_step,
                    add: self.add,
                };
                kernels.tile(&tile, &mut c[row + col * self.c_step..]);
            }
        }
    }
}
