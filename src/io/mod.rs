//! Readers of files that others made: CSV tables and IDX arrays, plain or gzipped. They believe
//! nothing a file says before they have checked it, and know nothing of training.

mod csv;
mod idx;
mod source;
mod table;

pub use csv::Csv;
pub use idx::{Idx, IdxData};
pub use table::{Classes, Kind, Table};
