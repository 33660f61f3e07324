//! Rows of numbers, one after the other: data sets that need not fit into memory. A chain of
//! readers and adapters does nothing until a row is asked for, and runs once for each row.

mod adapt;
mod batches;
mod csv;
mod npy;
mod prefetch;

pub use adapt::{Beside, Filter, Map, Shuffle};
pub use batches::RowBatches;
pub use csv::CsvRows;
pub use npy::NpyRows;
pub use prefetch::Prefetch;

use crate::error::Result;
use crate::{Index, Scalar};

/// Rows of equal width, one after the other: what Spark calls a pipeline, for one machine.
///
/// [`NpyRows`] and [`CsvRows`] read files in blocks; the methods here are lazy adapters. An epoch
/// is one chain: make a new one for the next, with another seed in [`Rows::shuffle`]. A training
/// that goes on in the middle of one makes the same chain and calls [`Rows::skip`].
///
/// ```
/// use gradtape::data::{NpyRows, Rows};
/// use gradtape::io::npy::RowWriter;
/// let path = std::env::temp_dir().join(format!("rows-{}.npy", std::process::id()));
/// let mut writer = RowWriter::create(&path, 3)?;
/// for i in 0..1000 {
///     writer.write(&[i as f32, 0.5, (i % 2) as f32])?;
/// }
/// writer.finish()?;
///
/// let rows = NpyRows::<f32>::open(&path)?
///     .filter(|row| row[0] >= 10.0)
///     .map(3, |row, out| out.copy_from_slice(&[row[0] / 1000.0, row[1], row[2]]))
///     .shuffle(256, 1) // a random one of the next 256, with this seed
///     .prefetch(512); // on a thread of its own, at most so far ahead
/// let (mut x, mut y) = Default::default();
/// let mut batches = rows.labeled_batches(64, 2)?;
/// let mut n = 0;
/// while batches.next_into(&mut x, &mut y)? {
///     assert_eq!((x.shape().extents()[1], y.rank()), (2, 1)); // feed them
///     n += y.len();
/// }
/// assert_eq!(n, 990);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), gradtape::Error>(())
/// ```
pub trait Rows<T: Scalar> {
    /// The length of every row.
    fn width(&self) -> usize;

    /// Goes to the next row; false after the last.
    ///
    /// # Errors
    /// What the reader met, with the file and, in a text, the line. There are no rows after it.
    fn advance(&mut self) -> Result<bool>;

    /// The row that [`Rows::advance`] went to; anything before it has said true.
    fn row(&self) -> &[T];

    /// Passes over `n` rows, or as many as are left. Cost: that of reading them, where there is no
    /// shorter way.
    ///
    /// # Errors
    /// As [`Rows::advance`].
    fn skip(&mut self, n: u64) -> Result<()> {
        for _ in 0..n {
            if !self.advance()? {
                break;
            }
        }
        Ok(())
    }

    /// Each row by a function that writes its `width` numbers, all of them 0 before.
    fn map<F: FnMut(&[T], &mut [T])>(self, width: usize, f: F) -> Map<T, Self, F>
    where
        Self: Sized,
    {
        Map::new(self, width, f)
    }

    /// The rows for which this holds.
    fn filter<F: FnMut(&[T]) -> bool>(self, f: F) -> Filter<Self, F>
    where
        Self: Sized,
    {
        Filter::new(self, f)
    }

    /// Each row with that of `right` behind it, for instance targets in a file of their own. One
    /// that ends before the other is an error.
    fn beside<R: Rows<T>>(self, right: R) -> Beside<T, Self, R>
    where
        Self: Sized,
    {
        Beside::new(self, right)
    }

    /// In a random order that depends on `seed` alone: each time one of the next `n_rows` that are
    /// left, each as likely. With as many as there are, every order is as likely as every other.
    /// Memory: so many rows.
    fn shuffle(self, n_rows: usize, seed: u64) -> Shuffle<T, Self>
    where
        Self: Sized,
    {
        Shuffle::new(self, n_rows, seed)
    }

    /// Everything up to here on a thread of its own, which waits when it is `n_rows` ahead. Memory:
    /// half as many rows again. The thread starts with the first row that is asked for, and has
    /// ended when this is dropped.
    fn prefetch(self, n_rows: usize) -> Prefetch<T, Self>
    where
        Self: Sized + Send + 'static,
    {
        Prefetch::new(self, n_rows)
    }

    /// Batches of `size` rows whose last `n_targets` columns are targets: x `[batch, width −
    /// n_targets]`, y `[batch, n_targets]`. The last batch may be smaller.
    ///
    /// # Errors
    /// A size of 0; no target, or no column that is none.
    fn batches(self, size: usize, n_targets: usize) -> Result<RowBatches<T, T, Self>>
    where
        Self: Sized,
    {
        RowBatches::new(self, size, n_targets)
    }

    /// Batches of `size` rows whose last column is a class below `n_classes`: x `[batch, width −
    /// 1]`, y `[batch]`. The last batch may be smaller.
    ///
    /// # Errors
    /// A size of 0; less than two columns. *Batches* fail at a row whose label is no such class.
    fn labeled_batches(self, size: usize, n_classes: usize) -> Result<RowBatches<T, Index, Self>>
    where
        Self: Sized,
    {
        RowBatches::labeled(self, size, n_classes)
    }
}
