//! NPZ archives, as NumPy's `savez` and `savez_compressed` write them: a ZIP file of NPY arrays.
//! The `zip` crate unpacks; here is what is believed of it.

use super::npy::{self, Npy};
use super::source::{self, MAX_GROWTH};
use crate::error::{Error, ErrorKind, Result, bail};
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;
use zip::ZipArchive;
use zip::result::ZipError;

/// What an archive may hold beside [`MAX_GROWTH`] times its size: small arrays of zeros.
const SLACK: u64 = 1 << 20;

/// The arrays of an NPZ file by name, in the order of the file.
///
/// ```no_run
/// use gradtape::io::Npz;
/// let data = Npz::read("data.npz")?;
/// let x = data.get("x").map(|x| x.to_tensor::<f64>());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Npz {
    arrays: Vec<(String, Npy)>,
}

impl Npz {
    /// Reads a file.
    ///
    /// # Errors
    /// Not a regular file that can be read, or what [`Npz::from_bytes`] refuses.
    pub fn read(path: impl AsRef<Path>) -> Result<Npz> {
        let path = path.as_ref();
        let (file, length) = source::open(path)?;
        unpack(BufReader::new(file), length).map_err(|e| e.within(path.display()))
    }

    /// The arrays from the bytes of a file, plain or deflated.
    ///
    /// # Errors
    /// Not a ZIP archive, or a damaged one; two arrays of one name; an entry that is not
    /// `NAME.npy`, that is encrypted, that has another checksum, or that [`Npy::from_bytes`]
    /// refuses; arrays that together claim more than 100 times the archive's size and 1 MiB.
    pub fn from_bytes(bytes: &[u8]) -> Result<Npz> {
        unpack(Cursor::new(bytes), bytes.len() as u64).map_err(|e| e.within("npz"))
    }

    /// The names, without `.npy`, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.iter().map(|(name, _)| name.as_str())
    }

    /// The array of this name.
    pub fn get(&self, name: &str) -> Option<&Npy> {
        self.arrays.iter().find(|(n, _)| n == name).map(|(_, array)| array)
    }
}

impl IntoIterator for Npz {
    type Item = (String, Npy);
    type IntoIter = std::vec::IntoIter<(String, Npy)>;

    fn into_iter(self) -> Self::IntoIter {
        self.arrays.into_iter()
    }
}

fn unpack(from: impl Read + Seek, length: u64) -> Result<Npz> {
    let mut archive = ZipArchive::new(from).map_err(zip_error)?;
    if archive.has_duplicate_names() {
        bail!(Format, "expected each array once, got two of one name");
    }
    let limit = length.saturating_mul(MAX_GROWTH).saturating_add(SLACK);
    let (mut arrays, mut claimed) = (Vec::new(), 0u64);
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(zip_error)?;
        let file = entry.name().map_err(zip_error)?.into_owned();
        let Some(name) = file.strip_suffix(".npy").map(str::to_string) else {
            bail!(Format, "expected arrays NAME.npy, got {file:?}");
        };
        let size = entry.size();
        claimed = claimed.saturating_add(size);
        if claimed > limit {
            bail!(Format, "{name}: expected at most {limit} bytes of arrays, got {claimed}");
        }
        let array = npy::parse_packed(&mut entry, size).map_err(|e| e.within(&name))?;
        // The end is read, too: only there is the checksum compared.
        match entry.read(&mut [0]) {
            Ok(0) => arrays.push((name, array)),
            Ok(_) => bail!(Format, "{name}: expected {size} bytes, got more"),
            Err(e) => return Err(source::read_error(&e).within(&name)),
        }
    }
    Ok(Npz { arrays })
}

fn zip_error(e: ZipError) -> Error {
    match e {
        ZipError::Io(e) => source::read_error(&e),
        e => Error::new(ErrorKind::Format, format!("expected a ZIP archive of arrays: {e}")),
    }
}
