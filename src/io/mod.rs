//! Readers of files that others made: CSV tables and IDX arrays, plain or gzipped. They believe
//! nothing a file says before they have checked it, and know nothing of training.

pub mod csv;
pub mod idx;
mod source;

pub use csv::{Classes, Csv, Kind, Table};
pub use idx::{Idx, IdxData};
