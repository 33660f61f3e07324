//! How a CSV file is written: its encoding, delimiter, decimal mark, and what stands for a missing
//! value. Knows nothing of columns.

use super::source;
use super::table::{Classes, Table, line_of};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::{Index, Scalar};
use ::csv::{Reader, ReaderBuilder};
use std::io::Read;
use std::path::Path;

/// How to read a CSV file: by default commas between the fields and names in the first line.
///
/// Text is UTF-8, with or without a byte-order mark, plain or gzipped; lines end in LF, CRLF or CR;
/// empty lines are skipped; fields may be quoted with `"`, doubled inside. Blanks around a field
/// are not part of it. Missing values are: nothing, `NA`, `N/A`, `#N/A`, `NaN`, `null` and `?`, in
/// upper or lower case.
///
/// ```
/// use gradtape::io::Csv;
/// let table = Csv::new().parse("size,kind\n1.5,cat\n2.5,dog\n4,cat\n")?;
/// let x = table.numbers::<f64>(["size"])?;
/// let classes = table.classes("kind")?;
/// let y = table.labels("kind", &classes)?;
/// assert_eq!((x.as_slice(), y.as_slice()), (&[1.5, 2.5, 4.0][..], &[0, 1, 0][..]));
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Csv {
    pub(super) delimiter: u8,
    pub(crate) header: bool,
    decimal: char,
    missing: Vec<String>,
}

impl Default for Csv {
    fn default() -> Self {
        Csv::new()
    }
}

impl Csv {
    /// Commas between the fields, names in the first line.
    pub fn new() -> Self {
        let missing = ["", "NA", "N/A", "#N/A", "NaN", "null", "?"].map(String::from).to_vec();
        Csv { delimiter: b',', header: true, decimal: '.', missing }
    }

    /// The byte between fields, for instance `b';'` or `b'\t'`.
    pub fn delimiter(self, delimiter: u8) -> Self {
        Csv { delimiter, ..self }
    }

    /// Whether the first line holds the names; without, the columns are called `0`, `1`, `2`, ….
    pub fn header(self, header: bool) -> Self {
        Csv { header, ..self }
    }

    /// Numbers are written with a decimal comma: `1,5`.
    pub fn decimal_comma(self) -> Self {
        Csv { decimal: ',', ..self }
    }

    /// The texts that stand for a missing value, in place of the usual ones. Case is ignored.
    pub fn missing<S: Into<String>>(self, texts: impl IntoIterator<Item = S>) -> Self {
        Csv { missing: texts.into_iter().map(Into::into).collect(), ..self }
    }

    /// Reads a file, plain or gzipped, and checks every line of it. Memory: the size of the text,
    /// a byte a row and about 100 bytes a column; time: one pass.
    ///
    /// # Errors
    /// Not a regular file that can be read; a gzip file that is damaged or grows more than 100
    /// times; and what [`Csv::parse`] refuses, with file and line.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Table> {
        let path = path.as_ref();
        Table::new(self, path.display().to_string(), source::read_text(path)?)
    }

    /// A table from a text in memory, which is copied.
    ///
    /// # Errors
    /// An empty text or one without rows, text that is not UTF-8 (UTF-16 is named), a NUL, a quote
    /// that is never closed, rows of different lengths, a column name that is empty or used twice,
    /// an infinite number, a delimiter that cannot be one or is probably another.
    pub fn parse(&self, text: &str) -> Result<Table> {
        Table::new(self, "csv".to_string(), text.as_bytes().to_vec())
    }

    /// The length of the byte-order mark that a text begins with.
    pub(crate) fn begin(&self, head: &[u8]) -> Result<usize> {
        if !self.delimiter.is_ascii() || b"\"\r\n\0".contains(&self.delimiter) {
            let got = self.delimiter.escape_ascii();
            bail!(Argument, "expected a delimiter such as `,` `;` or a tab, got `{got}`");
        }
        source::refuse_stand_in(head)?;
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            bail!(Format, "expected UTF-8, got UTF-16; convert the file");
        }
        Ok(if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 })
    }

    /// The text of a file, without its byte-order mark.
    pub(super) fn text(&self, file: &str, mut bytes: Vec<u8>) -> Result<String> {
        let mark = self.begin(&bytes).map_err(|e| e.within(file))?;
        bytes.drain(..mark);
        if let Some(at) = bytes.iter().position(|&b| b == 0) {
            let line = line_of(&bytes, at);
            bail!(
                Format,
                "{file}, line {line}: expected text, got a NUL byte (UTF-16 or a binary file?)"
            );
        }
        String::from_utf8(bytes).map_err(|e| {
            let line = line_of(e.as_bytes(), e.utf8_error().valid_up_to());
            let text = format!("{file}, line {line}: expected UTF-8, got another encoding");
            Error::new(ErrorKind::Format, text)
        })
    }

    pub(crate) fn reader<R: Read>(&self, text: R) -> Reader<R> {
        ReaderBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(text)
    }

    pub(super) fn is_missing(&self, cell: &str) -> bool {
        self.missing.iter().any(|m| m.eq_ignore_ascii_case(cell))
    }

    /// The number a cell holds, infinite if it is too large.
    pub(super) fn number(&self, cell: &str) -> Option<f64> {
        match self.decimal {
            '.' => cell.parse().ok(),
            // With a decimal comma a dot divides thousands or is a mistake.
            _ if cell.contains('.') => None,
            comma => cell.replacen(comma, ".", 1).parse().ok(),
        }
    }

    /// The number a cell must hold, or what is wrong with it.
    pub(super) fn finite(&self, cell: &str) -> Result<f64, String> {
        match self.number(cell) {
            Some(x) if x.is_finite() => Ok(x),
            Some(_) => Err(format!("expected a finite number, got {cell:?}")),
            None => Err(format!("expected a number, got {cell:?}{}", self.hint(cell))),
        }
    }

    /// The number a cell must hold, or what is wrong with it; `way` is what to do about a missing
    /// one.
    pub(crate) fn cell<T: Scalar>(
        &self,
        cell: &str,
        missing: Option<T>,
        way: &str,
    ) -> Result<T, String> {
        if self.is_missing(cell) {
            let text = || format!("expected a number, got the missing value {cell:?}; {way}");
            return missing.ok_or_else(text);
        }
        let x = T::lit(self.finite(cell)?);
        match x.is_finite() {
            true => Ok(x),
            false => Err(format!("expected a number within {}, got {cell:?}", T::NAME)),
        }
    }

    /// The class a cell must hold, or what is wrong with it.
    pub(crate) fn class(&self, cell: &str, classes: &Classes) -> Result<Index, String> {
        if self.is_missing(cell) {
            return Err(format!("expected a class, got the missing value {cell:?}"));
        }
        classes.index(cell).ok_or_else(|| {
            let shown: Vec<_> = classes.names().iter().take(8).map(String::as_str).collect();
            let more = if classes.len() > shown.len() { ", …" } else { "" };
            format!("expected one of the classes {}{more}, got {cell:?}", shown.join(", "))
        })
    }

    /// What a cell that is not a number lets suspect.
    fn hint(&self, cell: &str) -> &'static str {
        let digits = cell.bytes().any(|b| b.is_ascii_digit());
        if digits && cell.contains(';') && self.delimiter != b';' {
            " (if the delimiter is `;`, say so with Csv::delimiter)"
        } else if digits && cell.matches(',').count() == 1 && self.decimal != ',' {
            " (if this is a decimal comma, say so with Csv::decimal_comma)"
        } else {
            ""
        }
    }
}
