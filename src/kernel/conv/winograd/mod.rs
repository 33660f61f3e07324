//! Winograd's F(2 × 2, 3 × 3): windows of 3 × 3 in steps of 1, with 16 products where four outputs
//! by definition take 36. Tiles are transformed, multiplied point by point (sums over channels are
//! matrix products), and transformed back, a block of samples that stays in cache at a time.
//! Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, with the sign
//! of the last point changed.

mod transform;

use super::{Conv, by_group, equal_parts};
use crate::Scalar;
use crate::kernel::gemm::micro::{Kernels, Tile};
use crate::kernel::gemm::{MatRef, transposed};
use crate::kernel::window::Axis;
use std::ops::Range;
use transform::{Block, Image, POINTS, Side};

/// Samples of a block: so many or, at the end of a batch, less than twice as many.
const SAMPLES: usize = 32;
/// Numbers of each channel and point that tiles are made of: a register tile of AVX-512.
const ROWS: usize = 48;
/// The same where sums over them join those of other blocks.
const ROWS_OF_WEIGHTS: usize = 96;
/// Outputs that are multiplied before they are transformed back, which are still in L1 then.
const OUTPUTS: usize = 8;
/// Between points, so that those of a tile are not all in one set of L1.
const GAP: usize = 16;

/// Whether it pays: by the shape alone, so that bits depend on nothing else.
pub(super) fn pays(conv: &Conv) -> bool {
    static OFF: std::sync::OnceLock<bool> = std::sync::OnceLock::new(); // XXX
    if *OFF.get_or_init(|| std::env::var("GT_DIRECT").is_ok()) {
        return false;
    }
    let axes = [conv.rows, conv.columns];
    let tiles: usize = axes.iter().map(|axis| axis.output.div_ceil(2)).product();
    let outputs: usize = axes.iter().map(|axis| axis.output).product();
    axes.iter().all(|axis| (axis.taps, axis.stride, axis.dilation) == (3, 1, 1))
        && (conv.inputs / conv.groups).min(conv.outputs / conv.groups) >= 16
        && conv.batch >= 16
        && 3 * POINTS * tiles <= 2 * 9 * outputs
}

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
        let rows = self.image.most_rows(ROWS);
        POINTS * (self.inputs * (rows + self.outputs) + GAP + rows * OUTPUTS)
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
        let rows = image.most_rows(ROWS);
        let (v, rest) = scratch.split_at_mut(POINTS * (inputs * rows + GAP));
        let (u, m) = rest.split_at_mut(POINTS * inputs * outputs);
        for (group, part) in by_group(channels.clone(), *outputs) {
            let x = &x[group * inputs * x_len..];
            let y = &mut y[(part.start - channels.start) * y_len..][..part.len() * y_len];
            self.weights(w, group, part.start % outputs..part.start % outputs + part.len(), u);
            for block in image.blocks(ROWS) {
                let (rows, step) = (block.len(), inputs * block.len() + GAP);
                for (c, x) in x.chunks_exact(x_len).take(*inputs).enumerate() {
                    transform::of_input(image, &block, x, &mut v[c * rows..], step);
                }
                let weights = u.chunks(POINTS * inputs * OUTPUTS);
                for (u, y) in weights.zip(y.chunks_mut(OUTPUTS * y_len)) {
                    let cols = y.len() / y_len;
                    for q in 0..POINTS {
                        let (v, u) = (&v[q * step..], &u[q * inputs * cols..]);
                        let product = Product {
                            k: *inputs,
                            a: (v, rows),
                            b: (u, cols, 1),
                            c_step: rows,
                            add: false,
                        };
                        product.run(rows, cols, &mut m[q * cols * rows..]);
                    }
                    for (o, y) in y.chunks_exact_mut(y_len).enumerate() {
                        transform::to_output(image, &block, &m[o * rows..], cols * rows, y);
                    }
                }
            }
        }
    }

    /// The weights of these outputs of a group: for [`OUTPUTS`] at a time and each point, those of
    /// an input side by side.
    fn weights<T: Scalar>(&self, w: &[T], group: usize, outputs: Range<usize>, u: &mut [T]) {
        let inputs = self.inputs;
        for first in outputs.clone().step_by(OUTPUTS) {
            let cols = OUTPUTS.min(outputs.end - first);
            let u = &mut u[(first - outputs.start) * POINTS * inputs..];
            for o in first..first + cols {
                for c in 0..inputs {
                    let at = match self.adjoint {
                        false => c + inputs * (o + self.outputs * group),
                        true => o + self.outputs * (c + inputs * group),
                    };
                    let w = &w[9 * at..][..9];
                    let g = [0, 1, 2].map(|p| {
                        [0, 1, 2].map(|q| if self.adjoint { w[8 - p - 3 * q] } else { w[p + 3 * q] })
                    });
                    for (q, x) in transform::of_weights(g).into_iter().enumerate() {
                        u[(q * inputs + c) * cols + o - first] = x;
                    }
                }
            }
        }
    }
}

/// The scratch of [`weights`].
pub(super) fn scratch_of_weights(conv: &Conv) -> usize {
    let rows = Correlation::forward(conv).image.most_rows(ROWS_OF_WEIGHTS);
    let (inputs, outputs) = (conv.inputs / conv.groups, conv.outputs / conv.groups);
    POINTS * (inputs * (rows + outputs) + GAP + rows * outputs) + 4 * rows * outputs
}

/// The adjoint in w, or these of its output channels: the sums of what is multiplied at each point
/// are transformed to weights at last.
pub(super) fn weights<T: Scalar>(
    conv: &Conv,
    x: &[T],
    dy: &[T],
    dw: &mut [T],
    channels: Range<usize>,
    scratch: &mut [T],
) {
    let Correlation { image, inputs, outputs, .. } = Correlation::forward(conv);
    let (x_len, y_len) = image.channels();
    let rows = image.most_rows(ROWS_OF_WEIGHTS);
    let (v, rest) = scratch.split_at_mut(POINTS * (inputs * rows + GAP));
    let (sums, rest) = rest.split_at_mut(POINTS * inputs * outputs);
    let (spread, folded) = rest.split_at_mut(POINTS * rows * outputs);
    for (group, part) in by_group(channels.clone(), outputs) {
        let cols = part.len();
        let x = &x[group * inputs * x_len..];
        let dy = &dy[part.start * y_len..][..cols * y_len];
        let sums = &mut sums[..POINTS * inputs * cols];
        sums.fill(T::zero());
        for block in image.blocks(ROWS_OF_WEIGHTS) {
            let (rows, step) = (block.len(), inputs * block.len() + GAP);
            for (c, x) in x.chunks_exact(x_len).take(inputs).enumerate() {
                transform::of_input(&image, &block, x, &mut v[c * rows..], step);
            }
            fold(&image, &block, dy, folded, cols);
            let len = rows * cols;
            transform::of_output(folded, spread, len);
            for (q, sums) in sums.chunks_exact_mut(inputs * cols).enumerate() {
                let product = Product {
                    k: rows,
                    a: (&spread[q * len..], cols),
                    b: (&v[q * step..], 1, rows),
                    c_step: cols,
                    add: true,
                };
                product.run(cols, inputs, sums);
            }
        }
        let dw = &mut dw[(part.start - channels.start) * 9 * inputs..];
        for (o, dw) in dw.chunks_exact_mut(9 * inputs).take(cols).enumerate() {
            for (c, dw) in dw.chunks_exact_mut(9).enumerate() {
                let at: [usize; POINTS] = std::array::from_fn(|q| o + cols * (c + inputs * q));
                let g = transform::to_weights(at.map(|at| sums[at]));
                dw.copy_from_slice(g.as_flattened());
            }
        }
    }
}

/// The outputs of a block with channels side by side, place (i, j) of the tiles from
/// `(i + 2 j) · rows` channels on; zero outside.
fn fold<T: Scalar>(image: &Image, block: &Block, y: &[T], out: &mut [T], channels: usize) {
    let (batch, height) = (image.batch, image.rows.output);
    let (n_samples, y_len) = (block.samples.len(), image.channels().1);
    for j in 0..2 {
        for i in 0..2 {
            let out = &mut out[(i + 2 * j) * block.len() * channels..];
            let tiles = out.chunks_exact_mut(n_samples * channels);
            for (tile, out) in block.rows.clone().zip(tiles) {
                let (row, column) = (2 * tile + i, 2 * block.column + j);
                if row >= height || column >= image.columns.output {
                    out.fill(T::zero());
                    continue;
                }
                let at = (row + height * column) * batch + block.samples.start;
                let extents = (channels, n_samples);
                transposed(MatRef::strided(&y[at..], extents, (y_len, 1)), 0, channels, channels, out);
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

    /// The most numbers of a channel and point in [`Image::blocks`].
    fn most_rows(&self, rows: usize) -> usize {
        rows.max(self.batch.min(2 * SAMPLES - 1))
    }

    /// All tiles, about `rows` numbers of each channel and point at a time.
    fn blocks(&self, rows: usize) -> impl Iterator<Item = Block> {
        let n_chunks = (self.batch / SAMPLES).max(1);
        let chunk = move |i: usize, batch: usize| {
            i * SAMPLES..if i + 1 == n_chunks { batch } else { (i + 1) * SAMPLES }
        };
        let tiles = self.rows.output.div_ceil(2);
        let (batch, columns) = (self.batch, self.columns.output.div_ceil(2));
        (0..n_chunks).map(move |i| chunk(i, batch)).flat_map(move |samples| {
            let step = equal_parts(tiles, (rows / samples.len().max(1)).max(1));
            (0..columns).flat_map(move |column| {
                let samples = samples.clone();
                (0..tiles).step_by(step).map(move |first| Block {
                    samples: samples.clone(),
                    rows: first..(first + step).min(tiles),
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
