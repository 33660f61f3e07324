//! Batches of a data set, epoch after epoch, in an order that depends on (seed, epoch) alone: not
//! on workers, nor on where training was interrupted.

use super::{Dataset, stream};
use crate::error::{Error, Result, bail};
use crate::scalar::Element;
use crate::{Index, Philox, Scalar, Tensor};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The batches of a [`Dataset`], epoch after epoch.
///
/// As an iterator it ends with the epoch and then goes on with the next one. For steps that must
/// not allocate, [`Batches::next_into`] fills tensors that are there.
///
/// ```
/// # use gradtape::{Tensor, data::Dataset};
/// # let [x, y] = [2, 1].map(|k| Tensor::<f64>::zeros([10, k]).unwrap());
/// let mut batches = Dataset::new(x, y)?.batches(4)?.shuffle(1);
/// let sizes: Vec<usize> = batches.by_ref().map(|batch| batch.y.len()).collect();
/// assert_eq!(sizes, [4, 4, 2]);
///
/// let (mut x, mut y) = (Tensor::scalar(0.0), Tensor::scalar(0.0));
/// while batches.next_into(&mut x, &mut y)? {
///     assert_eq!(x.len(), 2 * y.len());
/// }
/// assert_eq!(batches.position().epoch, 2);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batches<T: Scalar = f64, Y: Element = T> {
    data: Dataset<T, Y>,
    size: usize,
    seed: Option<u64>,
    drop_partial: bool,
    /// The rows in the order of `ordered`, the epoch it was last made for.
    order: Vec<Index>,
    ordered: Option<u64>,
    position: Position,
}

/// Where a [`Batches`] stands. With its seed and size it is all a checkpoint needs: its text,
/// `epoch:batch`, is for [`Notes`](crate::Notes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Epochs begun before this one.
    pub epoch: u64,
    /// Batches of this epoch that are done.
    pub batch: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.batch)
    }
}

impl FromStr for Position {
    type Err = Error;

    /// # Errors
    /// Anything but `epoch:batch`.
    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once(':').map(|(e, b)| (e.parse().ok(), b.parse().ok()));
        match numbers {
            Some((Some(epoch), Some(batch))) => Ok(Position { epoch, batch }),
            _ => bail!(Argument, "position: expected `epoch:batch`, got {text:?}"),
        }
    }
}

/// Samples and targets of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T: Scalar = f64, Y: Element = T> {
    /// The samples, shape `[batch, …]`.
    pub x: Tensor<T>,
    /// The targets, shape `[batch]` or `[batch, …]`.
    pub y: Tensor<Y>,
}

impl<T: Scalar, Y: Element> Batches<T, Y> {
    pub(super) fn new(data: Dataset<T, Y>, size: usize) -> Result<Self> {
        if size == 0 {
            bail!(Argument, "batches: expected a size of at least 1, got 0");
        }
        let order = (0..data.len() as Index).collect();
        let position = Position::default();
        Ok(Batches { data, size, seed: None, drop_partial: false, order, ordered: None, position })
    }

    /// Takes the samples in a new random order each epoch, every order as likely as every other:
    /// a function of seed and epoch.
    pub fn shuffle(self, seed: u64) -> Self {
        Batches { seed: Some(seed), ordered: None, ..self }
    }

    /// Leaves out the last batch of an epoch if it is smaller than the others.
    ///
    /// # Errors
    /// Fewer samples than one batch, so that nothing would be left.
    pub fn drop_partial(self) -> Result<Self> {
        if self.data.len() < self.size {
            bail!(
                Argument,
                "batches: {} samples make no full batch of {}",
                self.data.len(),
                self.size
            );
        }
        Ok(Batches { drop_partial: true, ..self })
    }

    /// The number of batches in an epoch.
    pub fn n_batches(&self) -> usize {
        match self.drop_partial {
            true => self.data.len() / self.size,
            false => self.data.len().div_ceil(self.size),
        }
    }

    /// What comes next: save it to go on from here with [`Batches::seek`].
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to a position, for instance that of a checkpoint in the middle of an epoch.
    ///
    /// # Errors
    /// A batch beyond the end of an epoch.
    pub fn seek(&mut self, position: Position) -> Result<()> {
        let n = self.n_batches();
        if position.batch > n {
            bail!(Argument, "seek: expected at most {n} batches, got {}", position.batch);
        }
        self.position = position;
        Ok(())
    }

    /// Fills x and y with the next batch, giving them its shape. False, and nothing filled, at the
    /// end of an epoch; the call after that begins the next. Allocates only what is missing in
    /// x and y.
    ///
    /// # Errors
    /// No memory.
    pub fn next_into(&mut self, x: &mut Tensor<T>, y: &mut Tensor<Y>) -> Result<bool> {
        let Some(range) = self.advance() else { return Ok(false) };
        self.data.gather_into(&self.order[range], x, y)?;
        Ok(true)
    }

    /// The rows of the next batch, or `None` at the end of an epoch: for a worker that gathers its
    /// part alone ([`Dataset::gather_into`]).
    pub fn next_rows(&mut self) -> Option<&[Index]> {
        let range = self.advance()?;
        Some(&self.order[range])
    }

    fn advance(&mut self) -> Option<Range<usize>> {
        let Position { epoch, batch } = self.position;
        if batch >= self.n_batches() {
            self.position = Position { epoch: epoch.wrapping_add(1), batch: 0 };
            return None;
        }
        if let Some(seed) = self.seed
            && self.ordered != Some(epoch)
        {
            // From the stored order, not from that of the epoch before, which a resumed run lacks.
            self.order.iter_mut().zip(0..).for_each(|(row, i)| *row = i);
            Philox::new(seed, stream::SHUFFLE ^ epoch).shuffle(&mut self.order);
            self.ordered = Some(epoch);
        }
        self.position.batch += 1;
        let start = batch * self.size;
        Some(start..self.data.len().min(start.saturating_add(self.size)))
    }
}

impl<T: Scalar, Y: Element> Iterator for Batches<T, Y> {
    type Item = Batch<T, Y>;

    /// The next batch in new tensors, `None` at the end of every epoch.
    fn next(&mut self) -> Option<Batch<T, Y>> {
        let range = self.advance()?;
        let part = self.data.part(self.order[range].iter().copied());
        // Running out of memory is the only way to fail; as in all of std's collections it ends
        // the program.
        let message = "memory for a batch";
        Some(Batch { x: part.x().expect(message), y: part.y().expect(message) })
    }
}
