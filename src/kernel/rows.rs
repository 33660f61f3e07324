//! One pass over the rows of a matrix X: y = X·w, a loop over y, g = Xᵀ·r of what the loop made;
//! block of rows by block of rows, so that X is read from memory once.

use super::gemm::{Product, ROW_KC};
use super::map::{BLOCK, MAX_INPUTS, MAX_OUTPUTS, MapLoop};
use crate::scalar::Scalar;
use std::ops::Range;

/// The two products and the loop between them. The loop's extent is the rows of X.
#[derive(Clone, Debug)]
pub(crate) struct RowPass<T> {
    /// X·w, a column.
    pub(crate) forward: Product,
    pub(crate) map: MapLoop<T>,
    /// Xᵀ·r, a column.
    pub(crate) backward: Product,
    /// Which inputs of the loop are y.
    pub(crate) reads_y: [bool; MAX_INPUTS],
    /// Which output of the loop is r.
    pub(crate) r: usize,
}

/// What some blocks of rows read and write: of the loop's outputs, sums and partial results the
/// memory of these blocks only.
pub(crate) struct Rows<'a, 's, T> {
    pub(crate) blocks: Range<usize>,
    pub(crate) x: &'a [T],
    pub(crate) w: &'a [T],
    /// The loop's inputs, whole; those that are y are empty.
    pub(crate) inputs: &'a [&'a [T]],
    pub(crate) y: &'s mut [T],
    pub(crate) outputs: [&'s mut [T]; MAX_OUTPUTS],
    pub(crate) sums: &'s mut [T],
    /// A column of g for each block.
    pub(crate) partial: &'s mut [T],
    pub(crate) scratch: &'s mut [T],
}

impl<T: Scalar> RowPass<T> {
    /// Rows of a block: as many as the backward product adds up at a time, and whole blocks of the
    /// loop.
    pub(crate) const ROWS: usize = ROW_KC;
    const _WHOLE: () = assert!(ROW_KC.is_multiple_of(BLOCK));

    pub(crate) fn n_blocks(&self) -> usize {
        self.map.len.div_ceil(Self::ROWS)
    }

    /// Of both products and the loop.
    pub(crate) fn flops(&self) -> usize {
        let products = self.forward.flops().saturating_add(self.backward.flops());
        products.saturating_add(self.map.flops())
    }

    /// The elements of scratch that [`RowPass::run`] wants.
    pub(crate) fn scratch(&self) -> usize {
        let backward = self.backward.scratch_of_terms::<T>(Self::ROWS.min(self.map.len));
        self.forward.scratch::<T>().max(backward) + self.map.scratch()
    }

    /// Runs over these blocks; [`RowPass::finish`] adds up what all blocks left.
    pub(crate) fn run(&self, rows: Rows<'_, '_, T>) {
        let Rows { blocks, x, w, inputs, y, mut outputs, sums, partial, scratch } = rows;
        let columns = self.backward.units();
        let (map_scratch, scratch) = scratch.split_at_mut(self.map.scratch());
        let first = blocks.start * Self::ROWS;
        let (mut sums, mut partial) = (sums, partial.chunks_exact_mut(columns));
        for block in blocks {
            let range = block * Self::ROWS..self.map.len.min((block + 1) * Self::ROWS);
            let here = range.start - first..range.end - first;
            let y = &mut y[here.clone()];
            // Memory gives the next rows while these are multiplied.
            let ahead = if range.end < self.map.len { Self::ROWS } else { 0 };
            self.forward.run_ahead(x, w, y, range.clone(), ahead, scratch);

            let mut cut: [&[T]; MAX_INPUTS] = [&[]; MAX_INPUTS];
            for (i, (cut, &input)) in cut.iter_mut().zip(inputs).enumerate() {
                *cut = match self.reads_y[i] {
                    true => y,
                    false => self.map.cut(i, input, &range),
                };
            }
            let own;
            (own, sums) = sums.split_at_mut(range.len().div_ceil(BLOCK) * self.map.n_sums);
            let mut outs = outputs.each_mut().map(|y| match y.len() {
                0 => &mut [][..],
                _ => &mut y[here.clone()],
            });
            let outs = &mut outs[..self.map.n_outputs];
            self.map.run(range.clone(), &cut[..inputs.len()], outs, own, map_scratch);

            if let Some(g) = partial.next() {
                self.backward.run_terms(x, &*outs[self.r], g, range, ahead, scratch);
            }
        }
    }

    /// g from the partial results of all blocks, added in their order.
    pub(crate) fn finish(&self, partial: &[T], g: &mut [T]) {
        let mut columns = partial.chunks_exact(g.len());
        if let Some(first) = columns.next() {
            g.copy_from_slice(first);
        }
        for column in columns {
            g.iter_mut().zip(column).for_each(|(g, &p)| *g += p);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu::Cpu;
    use crate::kernel::gemm::Matrix;
    use crate::kernel::map::{Access, Instruction, Loop, Slot, Target, each2, total};

    /// y = X·w, r = y − t with Σ r, g = Xᵀ·r, apart and in one pass of any cut.
    #[test]
    fn a_pass_has_the_bits_of_its_parts() {
        type Pass = RowPass<f64>;
        let (rows, columns) =
            if cfg!(miri) { (Pass::ROWS + 3, 2) } else { (2 * Pass::ROWS + 700, 7) };
        let x: Vec<f64> = (0..rows * columns).map(|i| (i as f64 * 0.37).sin()).collect();
        let w: Vec<f64> = (0..columns).map(|i| i as f64 - 2.5).collect();
        let t: Vec<f64> = (0..rows).map(|i| (i as f64 * 0.11).cos()).collect();
        let matrix = Matrix::new(rows, columns);
        let forward = Product::new(&[], matrix, Matrix::new(columns, 1), Matrix::new(rows, 1));
        let column = Matrix::new(columns, 1);
        let backward = Product::new(&[], matrix.t(), Matrix::new(rows, 1), column);
        let unused = Slot::Input(0);
        let code = [
            Instruction {
                run: Loop::Two(|a, b, y| each2(|a: f64, b: f64| a - b, a, b, y)),
                args: [Slot::Input(0), Slot::Input(1), unused],
                to: Target::Output(0),
            },
            Instruction {
                run: Loop::Sum,
                args: [Slot::Output(0), unused, unused],
                to: Target::Sum(0),
            },
        ];
        let inputs = vec![Access::Dense, Access::Dense];
        let map = MapLoop::new(&code, inputs, (1, 0), 1, 1, rows);
        let mut reads_y = [false; MAX_INPUTS];
        reads_y[0] = true;
        let pass = RowPass { forward, map, backward, reads_y, r: 0 };
        Cpu::for_each(|cpu| {
            let scratch_len = forward.scratch::<f64>().max(backward.scratch::<f64>());
            let mut scratch = vec![f64::NAN; scratch_len.max(pass.map.scratch())];
            let (mut y, mut r) = (vec![f64::NAN; rows], vec![f64::NAN; rows]);
            let (mut sums, mut g) = (vec![f64::NAN; pass.map.n_blocks()], vec![f64::NAN; columns]);
            forward.run(&x, &w, &mut y, 0..rows, &mut scratch);
            pass.map.run(0..rows, &[&y, &t], &mut [&mut r], &mut sums, &mut scratch);
            backward.run(&x, &r, &mut g, 0..columns, &mut scratch);
            let want = (y, r, total(&sums, 1, 0), g);

            let (n, of_block) = (pass.n_blocks(), Pass::ROWS / BLOCK);
            for cut in [0, 1, n - 1] {
                let (mut y, mut r) = (vec![f64::NAN; rows], vec![f64::NAN; rows]);
                let mut sums = vec![f64::NAN; pass.map.n_blocks()];
                let mut partial = vec![f64::NAN; n * columns];
                let mut g = vec![f64::NAN; columns];
                for blocks in [0..cut, cut..n] {
                    // Scratch of exactly the size asked for.
                    let mut scratch = vec![f64::NAN; pass.scratch()];
                    let here = blocks.start * Pass::ROWS..rows.min(blocks.end * Pass::ROWS);
                    let of_sums = (blocks.start * of_block)..sums.len().min(blocks.end * of_block);
                    let mut outputs: [&mut [f64]; MAX_OUTPUTS] = Default::default();
                    outputs[0] = &mut r[here.clone()];
                    pass.run(Rows {
                        x: &x,
                        w: &w,
                        inputs: &[&[], &t],
                        y: &mut y[here],
                        outputs,
                        sums: &mut sums[of_sums],
                        partial: &mut partial[blocks.start * columns..blocks.end * columns],
                        scratch: &mut scratch,
                        blocks,
                    });
                }
                pass.finish(&partial, &mut g);
                assert!((y, r, total(&sums, 1, 0), g) == want, "{cpu:?}, cut at block {cut}");
            }
        });
    }
}
