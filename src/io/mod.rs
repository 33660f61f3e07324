//! Readers of files that others made: CSV tables, IDX, NPY and NPZ arrays, texts. They believe
//! nothing a file says before they have checked it, and know nothing of training.

mod csv;
mod idx;
pub mod npy;
mod npz;
mod source;
mod table;
pub mod text;

pub use csv::Csv;
pub use idx::{Idx, IdxData};
pub use npy::Npy;
pub use npz::Npz;
pub(crate) use source::{is_gzip, read_error};
pub use table::{Classes, Kind, Table};
