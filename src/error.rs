//! What went wrong, said once: op or file, what was wanted, what was got, and where.
//! Knows nothing of tapes, plans or files; they fill it in.

use std::fmt;
use std::panic::Location;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The sort of an [`Error`], for programs; its text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Shapes that do not fit each other, or do not fit what was declared.
    Shape,
    /// An argument outside what the call accepts: an axis, a rate, a rank, a name.
    Argument,
    /// An expression, variable or fetch of another tape, or a kind of node that does not fit.
    Tape,
    /// A gradient that does not exist: unreachable, not differentiable, not of a scalar.
    Gradient,
    /// A placeholder that a fetch needs was not fed.
    NotFed,
    /// A variable that is read has no value yet.
    Uninitialized,
    /// A value that was to be finite is not.
    NotFinite,
    /// An index outside its axis: a label, a gather.
    Index,
    /// A matrix that is singular, or not positive definite, where it must not be.
    Singular,
    /// A fit that found no minimum: there is none, or it is too far for the limits.
    NotConverged,
    /// Memory that could not be had.
    Memory,
    /// A file or a text that does not follow its format.
    Format,
    /// A file that a newer version of this crate has written.
    Version,
    /// The operating system refused: a file is not there, is a directory, cannot be read.
    Io,
    /// Ranks that disagree, or one that does not answer or has failed.
    Group,
    /// A derivative that does not agree with the function it claims to be of.
    Check,
}

/// What went wrong. [`Error::kind`] is for programs, the text is for people.
///
/// ```
/// use gradtape::{ErrorKind, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let a = tape.constant(Tensor::zeros([2, 4])?);
/// let b = tape.constant(Tensor::zeros([3, 2])?);
/// let c = a.matmul(b).sum(); // no `?` inside a formula
/// let err = tape.gradient(c, &[a]).unwrap_err();
/// assert_eq!(err.kind(), ErrorKind::Shape);
/// assert!(err.to_string().starts_with("matmul: [2, 4] · [3, 2]: inner extents 4 and 3 differ"));
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    at: Option<&'static Location<'static>>,
}

impl Error {
    /// An error of this kind. The message names op, wanted and got, and ends without a dot.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), at: None }))
    }

    /// The sort of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The text without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The line of the user's program that recorded the node at fault, if one is known.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.0.at
    }

    /// The same error with the line that recorded the node; the first line set is kept.
    pub fn at(mut self, place: &'static Location<'static>) -> Self {
        self.0.at.get_or_insert(place);
        self
    }

    /// The same error with `name: ` before its message, for instance a node's or a file's name.
    pub fn within(mut self, name: impl fmt::Display) -> Self {
        self.0.message = format!("{name}: {}", self.0.message);
        self
    }

    /// An operating-system error about `what` (a path).
    pub fn io(what: impl fmt::Display, e: &std::io::Error) -> Self {
        Error::new(ErrorKind::Io, format!("{what}: {e}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.0.at {
            Some(l) => write!(f, "\n  --> {}:{}:{}", l.file(), l.line(), l.column()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// `bail!(Shape, "…", …)`: return an [`Error`] of that kind.
macro_rules! bail {
    ($kind:ident, $($message:tt)*) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($message)*)))
    };
}
pub(crate) use bail;
