//! Batches of rows: samples and targets in tensors that are filled again and again.

use super::Rows;
use crate::data::Batch;
use crate::data::dataset::gather;
use crate::error::{Result, bail};
use crate::scalar::Element;
use crate::{Index, Scalar, Shape, Tensor};

/// Batches of [`Rows`], until they end. As an iterator it gives each in new tensors;
/// [`RowBatches::next_into`] fills tensors that are there.
#[derive(Clone, Debug)]
pub struct RowBatches<T: Scalar, Y: Element, R> {
    rows: R,
    size: usize,
    drop_partial: bool,
    n_targets: usize,
    /// The shape of the targets of this many rows.
    y_shape: fn(usize, usize) -> Shape,
    /// A target below `n_classes`, if it is to be a class.
    target: fn(T, usize) -> Option<Y>,
    n_classes: usize,
    /// The rows of a batch, one after the other.
    batch: Vec<T>,
    /// Those that were read before.
    n_rows: u64,
}

impl<T: Scalar, R: Rows<T>> RowBatches<T, T, R> {
    pub(super) fn new(rows: R, size: usize, n_targets: usize) -> Result<Self> {
        let y_shape = |n, n_targets| Shape::from([n, n_targets]);
        RowBatches::of(rows, size, n_targets, y_shape, |x, _| Some(x), 0)
    }
}

impl<T: Scalar, R: Rows<T>> RowBatches<T, Index, R> {
    pub(super) fn labeled(rows: R, size: usize, n_classes: usize) -> Result<Self> {
        let label = |x: T, n_classes| {
            let label = x.to_f64() as Index;
            // The cast saturates, so the label equals x only where x was one.
            let is_label = f64::from(label) == x.to_f64() && (label as usize) < n_classes;
            is_label.then_some(label)
        };
        RowBatches::of(rows, size, 1, |n, _| Shape::from(n), label, n_classes)
    }
}

impl<T: Scalar, Y: Element, R: Rows<T>> RowBatches<T, Y, R> {
    fn of(
        rows: R,
        size: usize,
        n_targets: usize,
        y_shape: fn(usize, usize) -> Shape,
        target: fn(T, usize) -> Option<Y>,
        n_classes: usize,
    ) -> Result<Self> {
        if size == 0 {
            bail!(Argument, "batches: expected a size of at least 1, got 0");
        }
        let width = rows.width();
        if n_targets == 0 || n_targets >= width {
            bail!(
                Argument,
                "batches: expected from 1 to {} of {width} columns as targets, got {n_targets}",
                width.saturating_sub(1)
            );
        }
        Ok(RowBatches {
            rows,
            size,
            drop_partial: false,
            n_targets,
            y_shape,
            target,
            n_classes,
            batch: Vec::new(),
            n_rows: 0,
        })
    }

    /// Leaves out the last batch if it is smaller than the others.
    pub fn drop_partial(self) -> Self {
        RowBatches { drop_partial: true, ..self }
    }

    /// Fills x and y with the next batch, giving them its shape; false, and nothing filled, when
    /// the rows have ended. Allocates only what is missing in x and y.
    ///
    /// # Errors
    /// What the rows report ([`Rows::advance`]); a label that is no class; no memory.
    pub fn next_into(&mut self, x: &mut Tensor<T>, y: &mut Tensor<Y>) -> Result<bool> {
        let mut n = 0;
        self.batch.clear();
        while n < self.size && self.rows.advance()? {
            self.batch.extend_from_slice(self.rows.row());
            n += 1;
        }
        if n == 0 || n < self.size && self.drop_partial {
            return Ok(false);
        }
        let (width, batch) = (self.rows.width(), &self.batch);
        let n_features = width - self.n_targets;
        for (i, row) in batch.chunks_exact(width).enumerate() {
            for &got in &row[n_features..] {
                if (self.target)(got, self.n_classes).is_none() {
                    let (at, k) = (self.n_rows + i as u64, self.n_classes);
                    bail!(Index, "batches: expected a class below {k}, got {got} in row {at}");
                }
            }
        }
        self.n_rows += n as u64;
        let x = x.resize_for(Shape::from([n, n_features]))?;
        gather(batch, n_features, n, |row| row * width, x, |x| x);
        let y = y.resize_for((self.y_shape)(n, self.n_targets))?;
        let (target, n_classes) = (self.target, self.n_classes);
        let checked = |x| target(x, n_classes).unwrap_or_default();
        gather(batch, self.n_targets, n, |row| row * width + n_features, y, checked);
        Ok(true)
    }
}

impl<T: Scalar, Y: Element, R: Rows<T>> Iterator for RowBatches<T, Y, R> {
    type Item = Result<Batch<T, Y>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut x, mut y) = (Tensor::default(), Tensor::default());
        match self.next_into(&mut x, &mut y) {
            Ok(true) => Some(Ok(Batch { x, y })),
            Ok(false) => None,
            Err(e) => Some(Err(e)),
        }
    }
}
