//! Data sets on their way to training: samples and targets, splits, scaling, batches in an order
//! that depends on a seed alone, rows of files larger than memory, when to stop, and how good the
//! result is. Knows no model.
//!
//! ```
//! use gradtape::Tensor;
//! use gradtape::data::{Dataset, Standardizer};
//! let x = Tensor::from_fn([100, 3], |at| (at[0] * at[1]) as f64)?;
//! let y = Tensor::from_fn([100, 1], |at| at[0] as f64)?;
//! let [train, test] = Dataset::new(x, y)?.split([0.8, 0.2], 1)?;
//! let scale = Standardizer::fit(&train.x()?)?; // of the training part only
//! let (train, test) = (train.standardized(&scale)?, test.standardized(&scale)?);
//! let mut batches = train.batches(32)?.shuffle(1);
//! for _epoch in 0..2 {
//!     for batch in &mut batches {
//!         assert!(batch.x.len() == 3 * batch.y.len()); // feed them
//!     }
//! }
//! assert_eq!((test.len(), batches.position().epoch), (20, 2));
//! # Ok::<(), gradtape::Error>(())
//! ```

mod batches;
mod dataset;
pub mod metrics;
mod mnist;
mod rows;
mod split;
mod standardizer;
mod stopping;

pub use batches::{Batch, Batches, Position};
pub use dataset::{Dataset, hstack};
pub use mnist::mnist;
pub use rows::{Beside, CsvRows, Filter, Map, NpyRows, Prefetch, RowBatches, Rows, Shuffle};
pub use standardizer::Standardizer;
pub use stopping::{EarlyStopping, Verdict};

/// What a seed is used for, in the high half of the stream, so that one seed serves for all.
mod stream {
    pub(super) const SHUFFLE: u64 = 1 << 60;
    pub(super) const SPLIT: u64 = 2 << 60;
    pub(super) const FOLD: u64 = 3 << 60;
    pub(super) const ROWS: u64 = 4 << 60;
}
