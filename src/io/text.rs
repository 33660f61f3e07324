//! Plain text: a file as a string, and characters as numbers. Knows nothing of lines or columns.

use super::source;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::{Index, Tensor};
use std::path::Path;

/// The text of a UTF-8 file, plain or gzipped, without its byte-order mark. Memory: its size.
///
/// # Errors
/// Not a regular file that can be read; an empty file, or one that is no text: UTF-16, a NUL, bytes
/// that are not UTF-8 (with their position); a gzip file that is damaged or grows more than 100
/// times.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    decode(source::read_text(path)?).map_err(|e| e.within(path.display()))
}

fn decode(mut bytes: Vec<u8>) -> Result<String> {
    source::refuse_stand_in(&bytes)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        bail!(Format, "expected UTF-8, got UTF-16; convert the file");
    }
    if let Some(at) = bytes.iter().position(|&b| b == 0) {
        bail!(Format, "byte {at}: expected text, got a NUL byte (UTF-16 or a binary file?)");
    }
    // Before the mark goes, so that positions are those of the file.
    if let Err(e) = std::str::from_utf8(&bytes) {
        let at = e.valid_up_to();
        bail!(Format, "byte {at}: expected UTF-8, got 0x{:02x}", bytes[at]);
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::Format, e.to_string()))
}

/// The distinct characters of a text in the order of their code points, each with a number: its
/// position. Characters are Unicode scalar values; an accent may be one of its own.
///
/// ```
/// use gradtape::io::text::Vocabulary;
/// let letters = Vocabulary::new("to be or not to be");
/// assert_eq!(letters.chars(), [' ', 'b', 'e', 'n', 'o', 'r', 't']);
/// assert_eq!(letters.encode("bet")?.as_slice(), [1, 2, 6]);
/// assert_eq!(letters.decode(&[1, 2, 6])?, "bet");
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary(Vec<char>);

impl Vocabulary {
    /// The characters of a text. Cost: a pass, and n log k for n characters, k distinct ones.
    pub fn new(text: &str) -> Vocabulary {
        let distinct: std::collections::BTreeSet<char> = text.chars().collect();
        Vocabulary(distinct.into_iter().collect())
    }

    /// The characters; the position of each is its number.
    pub fn chars(&self) -> &[char] {
        &self.0
    }

    /// The number of characters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of every character of a text, shape `[n]`.
    ///
    /// # Errors
    /// A character that is not in the vocabulary.
    pub fn encode(&self, text: &str) -> Result<Tensor<Index>> {
        let mut numbers = Vec::new();
        for (at, c) in text.chars().enumerate() {
            let Ok(number) = self.0.binary_search(&c) else {
                let n = self.len();
                bail!(Index, "encode: expected one of {n} characters, got {c:?} at {at}");
            };
            // There are fewer than 2²¹ characters.
            numbers.push(number as Index);
        }
        Ok(Tensor::vector(numbers))
    }

    /// The text of these numbers.
    ///
    /// # Errors
    /// A number that is not below [`Vocabulary::len`].
    pub fn decode(&self, numbers: &[Index]) -> Result<String> {
        let mut text = String::new();
        for (at, &number) in numbers.iter().enumerate() {
            let Some(&c) = self.0.get(number as usize) else {
                bail!(
                    Index,
                    "decode: expected a number below {}, got {number} at {at}",
                    self.len()
                );
            };
            text.push(c);
        }
        Ok(text)
    }
}
