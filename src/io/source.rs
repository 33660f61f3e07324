//! The bytes of a file, unpacked where it is gzipped. Knows no format.

use crate::error::{Error, ErrorKind, Result};
use crate::file::{self, read_up_to};
pub(super) use crate::file::{open, refuse_stand_in};
use flate2::bufread::MultiGzDecoder;
use std::io;
use std::path::Path;

/// A packed file that grows more than this is refused as a bomb; tables shrink 3 to 30 times.
pub(super) const MAX_GROWTH: u64 = 100;

/// Whether the bytes begin as gzip does.
pub(crate) fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
}

/// The bytes of a text, unpacked if it is gzipped.
pub(super) fn read_text(path: &Path) -> Result<Vec<u8>> {
    let packed = file::read(path)?;
    if !is_gzip(&packed) {
        return Ok(packed);
    }
    let limit = packed.len() as u64 * MAX_GROWTH;
    read_up_to(MultiGzDecoder::new(&packed[..]), 0, limit)
        .map_err(|e| read_error(&e).within(path.display()))
}

/// An error met while reading or unpacking.
pub(crate) fn read_error(e: &io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, UnexpectedEof};
    match e.kind() {
        UnexpectedEof => Error::new(ErrorKind::Format, "the file is cut short"),
        FileTooLarge => Error::new(ErrorKind::Format, e.to_string()),
        InvalidData | InvalidInput => {
            Error::new(ErrorKind::Format, format!("the packed data are corrupted: {e}"))
        }
        _ => Error::new(ErrorKind::Io, e.to_string()),
    }
}
