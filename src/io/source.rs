//! The bytes of a file: opens regular files only, names what often lies where data should be, and
//! unpacks gzip. Knows no format.

use crate::error::{Error, ErrorKind, Result, bail};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A packed file that grows more than this is refused as a bomb; tables shrink 3 to 30 times.
pub(super) const MAX_GROWTH: u64 = 100;

/// Opens a file for reading and returns its length in bytes. A FIFO is refused before it is
/// opened, because opening one waits for a writer.
pub(super) fn open(path: &Path) -> Result<(File, u64)> {
    let io = |e| Error::io(path.display(), &e);
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        let got = if metadata.is_dir() { "a directory" } else { "a device, FIFO or socket" };
        bail!(Io, "{}: expected a regular file, got {got}", path.display());
    }
    Ok((File::open(path).map_err(io)?, metadata.len()))
}

/// Whether the bytes begin as gzip does.
pub(super) fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
}

/// Refuses an empty file and files that were put in the place of the wanted one.
pub(super) fn refuse_stand_in(head: &[u8]) -> Result<()> {
    const STAND_INS: [(&str, &str); 5] = [
        ("version https://git-lfs", "a Git-LFS pointer; fetch the file itself with `git lfs pull`"),
        ("<!doctype html", "an HTML page"),
        ("<html", "an HTML page"),
        ("<?xml", "an XML document"),
        ("PK\x03\x04", "a ZIP archive"),
    ];
    if head.is_empty() {
        bail!(Format, "expected data, got an empty file");
    }
    let text = head.trim_ascii_start();
    for (start, what) in STAND_INS {
        if text.get(..start.len()).is_some_and(|h| h.eq_ignore_ascii_case(start.as_bytes())) {
            bail!(Format, "expected data, got {what}");
        }
    }
    Ok(())
}

/// The bytes of a text, unpacked if it is gzipped.
pub(super) fn read_text(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    let packed = read_up_to(file, length, length).map_err(|e| Error::io(path.display(), &e))?;
    if !is_gzip(&packed) {
        return Ok(packed);
    }
    let limit = packed.len() as u64 * MAX_GROWTH;
    read_up_to(MultiGzDecoder::new(&packed[..]), 0, limit)
        .map_err(|e| read_error(&e).within(path.display()))
}

/// An error met while reading or unpacking.
pub(super) fn read_error(e: &io::Error) -> Error {
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

/// All that `from` holds: about `expected` bytes, never more than `limit`.
fn read_up_to(from: impl Read, expected: u64, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let room = usize::try_from(expected).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.try_reserve_exact(room).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // One byte more than allowed tells a file that ends at the limit from one that does not.
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let text = format!("expected at most {limit} bytes to come out of it, got more");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}
