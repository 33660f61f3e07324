//! Rows of an NPY file, read in blocks. The file may be larger than memory.

use super::Rows;
use crate::Scalar;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::file;
use crate::io::npy::{DecodeRows, Head};
use crate::io::read_error;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// About how many bytes are read at once.
const BLOCK: usize = 1 << 18;

/// The rows of an array `[n, …]` in an NPY file, as [`RowWriter`](crate::io::npy::RowWriter) and
/// NumPy's `save` write it (row-major). A row is what follows axis 0, flat, in the file's order;
/// numbers of any type are rounded to `T`. Memory: two blocks of 256 KiB, or of a row.
#[derive(Debug)]
pub struct NpyRows<T> {
    path: PathBuf,
    file: File,
    width: usize,
    row_bytes: usize,
    decode: DecodeRows<T>,
    /// Rows that are not read yet.
    left: u64,
    bytes: Vec<u8>,
    block: Vec<T>,
    /// The rows of the block, and which comes next.
    n_rows: usize,
    next: usize,
}

impl<T: Scalar> NpyRows<T> {
    /// Reads the header.
    ///
    /// # Errors
    /// Not a regular file that can be read; what [`Npy::from_bytes`](crate::io::Npy::from_bytes)
    /// refuses; no axis of rows, or rows of nothing; column-major order, in which no row is
    /// contiguous.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (mut file, length) = file::open(path)?;
        let within = |e: Error| e.within(path.display());
        let head = Head::read(&mut file, length).map_err(within)?;
        let shape = head.shape;
        let [n, row @ ..] = shape.extents() else {
            return Err(within(Error::new(
                ErrorKind::Format,
                "expected an axis of rows, got none",
            )));
        };
        let width: usize = row.iter().product();
        if width == 0 {
            let text = format!("expected rows of some numbers, got {shape}");
            return Err(within(Error::new(ErrorKind::Format, text)));
        }
        if head.fortran && *n > 1 && width > 1 {
            let text = "expected row-major order, got column-major (Fortran) order, in which rows \
                        are not contiguous; numpy.ascontiguousarray makes them so";
            return Err(within(Error::new(ErrorKind::Format, text)));
        }
        Ok(NpyRows {
            path: path.to_path_buf(),
            file,
            width,
            row_bytes: width * head.element_bytes(),
            decode: head.decoder(),
            left: *n as u64,
            bytes: Vec::new(),
            block: Vec::new(),
            n_rows: 0,
            next: 0,
        })
    }

    /// The number of rows that are left.
    pub fn n_left(&self) -> u64 {
        self.left + (self.n_rows - self.next) as u64
    }

    fn read_block(&mut self) -> Result<()> {
        let most = (BLOCK / self.row_bytes).max(1) as u64;
        let n = most.min(self.left) as usize;
        // After an error there are no more rows.
        let left = std::mem::take(&mut self.left) - n as u64;
        (self.n_rows, self.next) = (0, 0);
        self.block.clear();
        let want = n * self.row_bytes;
        let room = self.bytes.try_reserve_exact(want.saturating_sub(self.bytes.len()));
        if room.and(self.block.try_reserve(n * self.width)).is_err() {
            bail!(Memory, "{}: no memory for rows of {want} bytes", self.path.display());
        }
        self.bytes.resize(want, 0);
        if let Err(e) = self.file.read_exact(&mut self.bytes) {
            return Err(read_error(&e).within(self.path.display()));
        }
        (self.decode)(&self.bytes, &mut self.block);
        (self.n_rows, self.left) = (n, left);
        Ok(())
    }
}

impl<T: Scalar> Rows<T> for NpyRows<T> {
    fn width(&self) -> usize {
        self.width
    }

    fn advance(&mut self) -> Result<bool> {
        if self.next == self.n_rows {
            if self.left == 0 {
                return Ok(false);
            }
            self.read_block()?;
        }
        self.next += 1;
        Ok(true)
    }

    fn row(&self) -> &[T] {
        let at = self.next.saturating_sub(1) * self.width;
        self.block.get(at..at + self.width).unwrap_or_default()
    }

    /// Reads nothing of them.
    fn skip(&mut self, n: u64) -> Result<()> {
        let here = n.min((self.n_rows - self.next) as u64);
        self.next += here as usize;
        let beyond = (n - here).min(self.left);
        self.left -= beyond;
        // The length of the file was checked, so the product is one of positions in it.
        let bytes = (beyond * self.row_bytes as u64) as i64;
        let moved = self.file.seek(SeekFrom::Current(bytes));
        moved.map(drop).map_err(|e| Error::io(self.path.display(), &e))
    }
}
