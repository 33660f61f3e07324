//! A folder with the last few checkpoints of a training, newest last. A newer one never takes the
//! place of an older one before it is whole and on the disk.

use super::Notes;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::file;
use crate::run::Session;
use crate::scalar::Scalar;
use std::path::{Path, PathBuf};

const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".safetensors";

/// A folder of checkpoints, `checkpoint-000001.safetensors` and so on, by the order in which they
/// were saved. One process at a time may save there.
///
/// ```
/// use gradtape::{Checkpoints, Notes, Session, Tape, optim::Sgd};
/// let folder = std::env::temp_dir().join(format!("checkpoints-{}", std::process::id()));
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 0.0);
/// let train = Sgd::new(0.1).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
///
/// let checkpoints = Checkpoints::new(&folder)?.keep(3)?;
/// let from = match checkpoints.resume(&mut session)? {
///     Some(resumed) => resumed.notes.get("step")?, // the run before was interrupted
///     None => 0,
/// };
/// for step in from..10 {
///     session.run(train, &[])?;
///     checkpoints.save(&session, &Notes::new().with("step", step + 1))?;
/// }
/// assert_eq!(checkpoints.files()?.len(), 3);
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// Where a training goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// The checkpoint that was loaded.
    pub path: PathBuf,
    /// What was noted when it was saved.
    pub notes: Notes,
    /// What was wrong with newer ones that were passed over: cut short, damaged, not readable.
    pub skipped: Vec<Error>,
}

impl Checkpoints {
    /// A folder of checkpoints, made if it is not there; all of them are kept.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(folder.display(), &e))?;
        Ok(Checkpoints { folder, keep: usize::MAX })
    }

    /// Keeps the last `n` only.
    ///
    /// # Errors
    /// An `n` of 0.
    pub fn keep(self, n: usize) -> Result<Self> {
        if n == 0 {
            bail!(Argument, "checkpoints: expected to keep at least 1, got 0");
        }
        Ok(Checkpoints { keep: n, ..self })
    }

    /// Saves a checkpoint as [`Session::save`] does, then removes those that are not to be kept
    /// and what an interrupted save has left. Returns its path.
    ///
    /// # Errors
    /// It cannot be written, or an old one not be removed.
    pub fn save<T: Scalar>(&self, session: &Session<T>, notes: &Notes) -> Result<PathBuf> {
        let files = self.numbered("")?;
        let number = files.last().map_or(0, |f| f.0).saturating_add(1);
        let path = self.folder.join(format!("{PREFIX}{number:06}{SUFFIX}"));
        session.save(&path, notes)?;
        let surplus = (files.len() + 1).saturating_sub(self.keep);
        let unfinished = self.numbered(file::UNFINISHED)?;
        for (_, path) in files.iter().take(surplus).chain(&unfinished) {
            std::fs::remove_file(path).map_err(|e| Error::io(path.display(), &e))?;
        }
        Ok(path)
    }

    /// Loads the newest checkpoint that can be read; `None` if there is none at all.
    ///
    /// # Errors
    /// The newest readable one is of another graph, type of numbers or newer version (see
    /// [`Session::load`]); there are some, and none can be read. Then nothing changes.
    pub fn resume<T: Scalar>(&self, session: &mut Session<T>) -> Result<Option<Resumed>> {
        let mut skipped = Vec::new();
        for path in self.files()?.into_iter().rev() {
            match session.load(&path) {
                Ok(notes) => return Ok(Some(Resumed { path, notes, skipped })),
                Err(e) if matches!(e.kind(), ErrorKind::Format | ErrorKind::Io) => skipped.push(e),
                Err(e) => return Err(e),
            }
        }
        match skipped.first() {
            None => Ok(None),
            Some(newest) => bail!(
                Format,
                "{}: expected a checkpoint that can be read, got {} that cannot; {newest}",
                self.folder.display(),
                skipped.len()
            ),
        }
    }

    /// The checkpoints that are there, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        Ok(self.numbered("")?.into_iter().map(|f| f.1).collect())
    }

    /// The files `checkpoint-NUMBER.safetensors`, with this end behind, by number.
    fn numbered(&self, end: &str) -> Result<Vec<(u64, PathBuf)>> {
        let number = |path: &Path| -> Option<u64> {
            let name = path.file_name()?.to_str()?;
            let digits = name.strip_prefix(PREFIX)?.strip_suffix(end)?.strip_suffix(SUFFIX)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let mut files = Vec::new();
        let failed = |e| Error::io(self.folder.display(), &e);
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            files.extend(number(&path).map(|n| (n, path)));
        }
        files.sort();
        Ok(files)
    }
}
