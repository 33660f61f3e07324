//! One pass over the rows of a matrix X: y = X·w, a loop over y, g = Xᵀ·r of what the loop made;
//! block of rows by block of rows, so that X is read from memory once.

use super::gemm::{DOTS_KC, Product};
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
    pub(crate) const ROWS: usize = DOTS_KC;
    const _WHOLE: () = assert!(DOTS_KC.is_multiple_of(BLOCK));

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
        let products = self.forward.scratch::<T>().max(self.backward.scratch::<T>());
        products + self.map.scratch()
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
            self.forward.run(x, w, y, range.clone(), scratch);

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
                self.backward.run_terms(x, &*outs[self.r], g, range, scratch);
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
