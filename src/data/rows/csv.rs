//! Rows of a CSV file, read one after the other. The file may be larger than memory.

use super::Rows;
use crate::Scalar;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::file;
use crate::io::{Classes, Csv, is_gzip, read_error};
use ::csv::{ByteRecord, Reader};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The most bytes of a record: a quote that is never closed would swallow the rest of the file.
const MAX_RECORD: usize = 1 << 24;

/// Some columns of a CSV file, plain or gzipped, a row at a time: what
/// [`Table::numbers`](crate::io::Table::numbers) gives, with the same conversions and errors.
/// Memory: 128 KiB and a record.
///
/// ```
/// use gradtape::data::{CsvRows, Rows};
/// use gradtape::io::{Classes, Csv};
/// # let path = std::env::temp_dir().join(format!("rows-{}.csv", std::process::id()));
/// # std::fs::write(&path, "name,size,kind\nTom,3.5,cat\nRex,7,dog\nKim,,cat\n").unwrap();
/// let mut rows = CsvRows::<f64>::open(Csv::new(), &path, ["size", "kind"])?
///     .missing_as(-1.0)
///     .classes("kind", Classes::new(["cat", "dog"])?)?;
/// let mut read = vec![];
/// while rows.advance()? {
///     read.extend_from_slice(rows.row());
/// }
/// assert_eq!(read, [3.5, 0.0, 7.0, 1.0, -1.0, 0.0]);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Debug)]
pub struct CsvRows<T> {
    csv: Csv,
    path: PathBuf,
    reader: Reader<Bounded>,
    record: ByteRecord,
    /// Whether the record was read, to see how many columns there are, and is a row.
    is_first: bool,
    n_fields: usize,
    columns: Vec<Column>,
    missing: Option<T>,
    row: Vec<T>,
    ended: bool,
}

#[derive(Debug)]
struct Column {
    name: String,
    at: usize,
    classes: Option<Classes>,
}

impl<T: Scalar> CsvRows<T> {
    /// Reads the names of the columns and finds these.
    ///
    /// # Errors
    /// Not a regular file that can be read; no text, or no line; a column that is not there, or
    /// there twice.
    pub fn open<S: AsRef<str>>(
        csv: Csv,
        path: impl AsRef<Path>,
        columns: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let text = open_text(&csv, path)?;
        let mut rows = CsvRows {
            reader: csv.reader(Bounded::new(text)),
            csv,
            path: path.to_path_buf(),
            record: ByteRecord::new(),
            is_first: false,
            n_fields: 0,
            columns: Vec::new(),
            missing: None,
            row: Vec::new(),
            ended: false,
        };
        if !rows.read_record()? {
            bail!(Format, "{}: expected a table, got empty lines", path.display());
        }
        rows.n_fields = rows.record.len();
        rows.is_first = !rows.csv.header;
        let text = |field: &[u8]| String::from_utf8_lossy(field.trim_ascii()).into_owned();
        let names: Vec<String> = match rows.csv.header {
            true => rows.record.iter().map(text).collect(),
            false => (0..rows.n_fields).map(|i| i.to_string()).collect(),
        };
        rows.columns = columns
            .into_iter()
            .map(|name| find(&names, name.as_ref()))
            .collect::<Result<_>>()
            .map_err(|e| e.within(path.display()))?;
        rows.row = vec![T::zero(); rows.columns.len()];
        Ok(rows)
    }

    /// Takes this number (NaN, for instance) for what is missing, which otherwise is an error.
    pub fn missing_as(self, value: T) -> Self {
        CsvRows { missing: Some(value), ..self }
    }

    /// The numbers of these classes for the texts of a column.
    ///
    /// # Errors
    /// Not one of the columns.
    pub fn classes(mut self, column: &str, classes: Classes) -> Result<Self> {
        match self.columns.iter_mut().find(|c| c.name == column) {
            Some(found) => found.classes = Some(classes),
            None => bail!(Argument, "classes: {column:?} is not one of the columns"),
        }
        Ok(self)
    }

    /// Reads the next record; false after the last.
    fn read_record(&mut self) -> Result<bool> {
        self.reader.get_mut().left = MAX_RECORD;
        if let Err(e) = self.reader.read_byte_record(&mut self.record) {
            let ::csv::ErrorKind::Io(e) = e.kind() else {
                bail!(Format, "{}: {e}", self.path.display());
            };
            return Err(match e.kind() {
                io::ErrorKind::FileTooLarge => self.error(format!(": {e}")),
                _ => read_error(e).within(self.path.display()),
            });
        }
        let Some(last) = self.record.get(self.record.len().wrapping_sub(1)) else {
            return Ok(false);
        };
        if !last.ends_with(b"\0") {
            return Ok(true);
        }
        // The sentinel behind the text: alone, it is the end; in a field, a quote is open.
        let is_alone = self.record.len() == 1 && last.len() == 1;
        match self.reader.read_byte_record(&mut ByteRecord::new()) {
            Ok(false) if is_alone => Ok(false),
            Ok(false) => Err(self.error(": a quote is never closed")),
            _ => Err(self.error(": expected text, got a NUL byte (UTF-16 or a binary file?)")),
        }
    }

    fn convert(&mut self) -> Result<()> {
        let (want, got) = (self.n_fields, self.record.len());
        if got != want {
            let text = format!(": expected {want} fields as in the first line, got {got}");
            return Err(self.error(text));
        }
        for (i, column) in self.columns.iter().enumerate() {
            let cell = std::str::from_utf8(&self.record[column.at]);
            let number = match (cell.map(str::trim), &column.classes) {
                (Err(_), _) => Err("expected UTF-8, got another encoding".to_string()),
                (Ok(cell), Some(classes)) => {
                    self.csv.class(cell, classes).map(|class| T::lit(f64::from(class)))
                }
                (Ok(cell), None) => self.csv.cell(cell, self.missing, "CsvRows::missing_as"),
            };
            match number {
                Ok(number) => self.row[i] = number,
                Err(text) => return Err(self.error(format!(", column {:?}: {text}", column.name))),
            }
        }
        Ok(())
    }

    /// What is wrong with the record: `: …`, or `, column …`, behind its line.
    fn error(&self, text: impl std::fmt::Display) -> Error {
        let at = self.record.position().map_or(0, |p| p.byte());
        let path = self.path.display();
        // Counted only now, because the `csv` crate does not count lone CRs nor lines left out.
        let line = open_text(&self.csv, &self.path)
            .and_then(|text| line_at(text, at).map_err(|e| Error::io(&path, &e)));
        match line {
            Ok(line) => Error::new(ErrorKind::Format, format!("{path}, line {line}{text}")),
            Err(_) => Error::new(ErrorKind::Format, format!("{path}, byte {at}{text}")),
        }
    }
}

impl<T: Scalar> Rows<T> for CsvRows<T> {
    fn width(&self) -> usize {
        self.columns.len()
    }

    fn advance(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.ended = true;
        if std::mem::take(&mut self.is_first) || self.read_record()? {
            self.convert()?;
            self.ended = false;
        }
        Ok(!self.ended)
    }

    fn row(&self) -> &[T] {
        &self.row
    }
}

fn find(names: &[String], name: &str) -> Result<Column> {
    let mut found = (0..names.len()).filter(|&i| names[i] == name);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(Column { name: name.to_string(), at, classes: None }),
        (Some(_), Some(_)) => bail!(Format, "two columns are named {name:?}"),
        (None, _) => {
            let shown = names.iter().take(16).map(String::as_str).collect::<Vec<_>>();
            let more = if names.len() > shown.len() { ", …" } else { "" };
            bail!(Argument, "no column {name:?} among {}{more}", shown.join(", "))
        }
    }
}

/// The text of a file, unpacked, without its byte-order mark.
fn open_text(csv: &Csv, path: &Path) -> Result<Text> {
    let (file, _) = file::open(path)?;
    let begin = || {
        let mut file = BufReader::with_capacity(1 << 16, file);
        let is_packed = is_gzip(file.fill_buf().map_err(|e| read_error(&e))?);
        let mut text = match is_packed {
            true => Text::Packed(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file))),
            false => Text::Plain(file),
        };
        let mark = csv.begin(text.buffer().fill_buf().map_err(|e| read_error(&e))?)?;
        text.buffer().consume(mark);
        Ok(text)
    };
    begin().map_err(|e: Error| e.within(path.display()))
}

#[derive(Debug)]
enum Text {
    Plain(BufReader<File>),
    Packed(BufReader<MultiGzDecoder<BufReader<File>>>),
}

impl Text {
    fn buffer(&mut self) -> &mut dyn BufRead {
        match self {
            Text::Plain(text) => text,
            Text::Packed(text) => text,
        }
    }
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Text::Plain(text) => text.read(buffer),
            Text::Packed(text) => text.read(buffer),
        }
    }
}

/// A text with a sentinel behind it, which gives out only so many bytes.
#[derive(Debug)]
struct Bounded {
    text: io::Chain<Text, &'static [u8]>,
    left: usize,
}

impl Bounded {
    /// No text that is read to its end contains a NUL.
    fn new(text: Text) -> Self {
        Bounded { text: text.chain(&b"\n\0"[..]), left: 0 }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = buffer.len().min(self.left);
        if n == 0 {
            let text = format!("expected records of at most {MAX_RECORD} bytes (an open quote?)");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let n = self.text.read(&mut buffer[..n])?;
        self.left -= n;
        Ok(n)
    }
}

/// The line on which the record at byte `at` begins, counted from 1. CR, LF and CRLF each end one.
fn line_at(text: Text, at: u64) -> io::Result<u64> {
    let (mut line, mut before) = (1, 0);
    for (i, byte) in (0..).zip(BufReader::with_capacity(1 << 16, text).bytes()) {
        let byte = byte?;
        // Empty lines before the record are no part of it.
        if i >= at && !b"\r\n".contains(&byte) {
            break;
        }
        line += u64::from(byte == b'\r' || byte == b'\n' && before != b'\r');
        before = byte;
    }
    Ok(line)
}
