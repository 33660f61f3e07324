//! Files on disk: regular ones only, read within bounds, written whole or not at all. Names what
//! often lies where data should be; knows no format.

use crate::error::{Error, Result, bail};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Opens a file for reading and returns its length in bytes. A FIFO is refused before it is
/// opened, because opening one waits for a writer.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let io = |e| Error::io(path.display(), &e);
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        let got = if metadata.is_dir() { "a directory" } else { "a device, FIFO or socket" };
        bail!(Io, "{}: expected a regular file, got {got}", path.display());
    }
    Ok((File::open(path).map_err(io)?, metadata.len()))
}

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    read_up_to(file, length, length).map_err(|e| Error::io(path.display(), &e))
}

/// Refuses an empty file and files that were put in the place of the wanted one.
pub(crate) fn refuse_stand_in(head: &[u8]) -> Result<()> {
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

/// All that `from` holds: about `expected` bytes, never more than `limit`.
pub(crate) fn read_up_to(from: impl Read, expected: u64, limit: u64) -> io::Result<Vec<u8>> {
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

/// The end of the name of a file that is not whole yet.
pub(crate) const UNFINISHED: &str = ".tmp";

/// Writes a file so that, whenever the process or the machine stops, `path` holds the old bytes
/// or the new ones: into a file beside it, to the disk, then under its name, and that to the disk.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let Some(name) = path.file_name() else {
        bail!(Argument, "{}: expected the name of a file", path.display());
    };
    let mut name = name.to_os_string();
    name.push(UNFINISHED);
    let unfinished = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&unfinished, path)?;
        sync_folder(&folder_of(path))
    };
    write().map_err(|e| {
        std::fs::remove_file(&unfinished).ok();
        Error::io(path.display(), &e)
    })
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// That the names in a folder are on the disk. Windows has no such call, and needs none.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}
