//! Tables: named columns of numbers or categories, and where in the file what went wrong. The text
//! is kept and cells are converted when they are asked for, so a table takes the memory of its
//! file. Knows nothing of training.

use super::Csv;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::{Index, Scalar, Tensor};
use ::csv::StringRecord;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Read;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers only, apart from missing values.
    Number,
    /// At least one text that is not a number.
    Category,
}

/// A table read by [`Csv`]: named columns, rows without gaps in their fields.
#[derive(Clone, Debug)]
pub struct Table {
    file: String,
    csv: Csv,
    text: String,
    names: Vec<String>,
    kinds: Vec<Kind>,
    /// Of every row of the text, whether it was dropped.
    dropped: Vec<bool>,
    n_rows: usize,
}

impl Table {
    /// The table these bytes of a file hold, every line of it checked.
    pub(super) fn new(csv: &Csv, file: String, bytes: Vec<u8>) -> Result<Table> {
        let mut table = Table {
            text: csv.text(&file, bytes)?,
            csv: csv.clone(),
            file,
            names: Vec::new(),
            kinds: Vec::new(),
            dropped: Vec::new(),
            n_rows: 0,
        };
        table.scan()?;
        Ok(table)
    }

    /// The number of rows, those dropped not counted.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The columns' names, in the order of the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What a column holds.
    ///
    /// # Errors
    /// No such column.
    pub fn kind(&self, column: &str) -> Result<Kind> {
        Ok(self.kinds[self.column(column)?])
    }

    /// The names of all columns but these, in the order of the file.
    ///
    /// # Errors
    /// A column that is not there: a misspelt target must not end up among the features.
    pub fn all_except<S: AsRef<str>>(
        &self,
        columns: impl IntoIterator<Item = S>,
    ) -> Result<Vec<&str>> {
        let out = self.columns(columns)?;
        let kept = self.names.iter().enumerate().filter(|(i, _)| !out.contains(i));
        Ok(kept.map(|(_, name)| name.as_str()).collect())
    }

    /// Columns of numbers as a matrix, shape `[n_rows, columns]`.
    ///
    /// # Errors
    /// A column that is not there; a cell that is missing, no number, or beyond `T`'s range: file,
    /// line, column.
    pub fn numbers<T: Scalar>(
        &self,
        columns: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Tensor<T>> {
        self.matrix(&self.columns(columns)?, None)
    }

    /// As [`Table::numbers`], with `value` (for instance NaN) for what is missing.
    ///
    /// # Errors
    /// As [`Table::numbers`], missing values excepted.
    pub fn numbers_or<T: Scalar>(
        &self,
        columns: impl IntoIterator<Item = impl AsRef<str>>,
        value: T,
    ) -> Result<Tensor<T>> {
        self.matrix(&self.columns(columns)?, Some(value))
    }

    /// The distinct values of a column, sorted: as numbers if it holds numbers, else by their
    /// bytes. Missing values are no class. `1` and `1.0` are two classes.
    ///
    /// # Errors
    /// No such column.
    pub fn classes(&self, column: &str) -> Result<Classes> {
        let column = self.column(column)?;
        let mut distinct = BTreeSet::new();
        self.cells(&[column], |_, _, cell| {
            if !self.csv.is_missing(cell) && !distinct.contains(cell) {
                distinct.insert(cell.to_string());
            }
            Ok(())
        })?;
        let mut names: Vec<String> = distinct.into_iter().collect();
        if self.kinds[column] == Kind::Number {
            let number = |name: &String| self.csv.number(name).unwrap_or(f64::NAN);
            names.sort_by(|a, b| number(a).total_cmp(&number(b)));
        }
        Classes::new(names)
    }

    /// The class of every row, shape `[n_rows]`, by the numbers `classes` gives them. With the
    /// classes of the training file, a class met only in the test file is an error.
    ///
    /// # Errors
    /// No such column; a cell that is missing or not among the classes: file, line, column.
    pub fn labels(&self, column: &str, classes: &Classes) -> Result<Tensor<Index>> {
        let mut labels = Tensor::<Index>::zeros([self.n_rows])?;
        let out = labels.as_mut_slice();
        self.cells(&[self.column(column)?], |row, _, cell| {
            out[row] = self.csv.class(cell, classes)?;
            Ok(())
        })?;
        Ok(labels)
    }

    /// A category as indicator columns, shape `[n_rows, classes]`: 1 in the column of the row's
    /// class, 0 elsewhere.
    ///
    /// # Errors
    /// As [`Table::labels`].
    pub fn one_hot<T: Scalar>(&self, column: &str, classes: &Classes) -> Result<Tensor<T>> {
        let n = self.n_rows;
        let mut hot = Tensor::zeros([n, classes.len()])?;
        let out = hot.as_mut_slice();
        self.cells(&[self.column(column)?], |row, _, cell| {
            out[row + n * self.csv.class(cell, classes)? as usize] = T::one();
            Ok(())
        })?;
        Ok(hot)
    }

    /// The number of missing values in a column.
    ///
    /// # Errors
    /// No such column.
    pub fn n_missing(&self, column: &str) -> Result<usize> {
        let mut count = 0;
        self.cells(&[self.column(column)?], |_, _, cell| {
            count += usize::from(self.csv.is_missing(cell));
            Ok(())
        })?;
        Ok(count)
    }

    /// The table without the rows in which one of these columns is missing.
    ///
    /// # Errors
    /// A column that is not there, or no row left.
    pub fn drop_missing(
        mut self,
        columns: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Table> {
        let columns = self.columns(columns)?;
        let mut gaps = vec![false; self.n_rows];
        self.cells(&columns, |row, _, cell| {
            gaps[row] |= self.csv.is_missing(cell);
            Ok(())
        })?;
        self.n_rows -= gaps.iter().filter(|&&gap| gap).count();
        if self.n_rows == 0 {
            bail!(Format, "{}: a value is missing in every row", self.file);
        }
        let kept = self.dropped.iter_mut().filter(|dropped| !**dropped);
        kept.zip(gaps).for_each(|(dropped, gap)| *dropped = gap);
        Ok(self)
    }

    /// Checks every row once, and finds the names and the kinds of the columns.
    fn scan(&mut self) -> Result<()> {
        // A quote that is open at the end swallows the sentinel; otherwise it is the last record.
        // No text contains a NUL.
        let mut reader = self.csv.reader(self.text.as_bytes().chain(&b"\n\0"[..]));
        let mut record = StringRecord::new();
        let mut next = |record: &mut StringRecord| {
            reader.read_record(record).map_err(|e| self.failed(&e))?;
            match record.get(record.len().wrapping_sub(1)) {
                Some("\0") if record.len() == 1 => Ok(false),
                Some(last) if last.ends_with('\0') => {
                    let line = self.line(record);
                    bail!(Format, "{}, line {line}: a quote is never closed", self.file)
                }
                _ => Ok(true),
            }
        };
        if !next(&mut record)? {
            bail!(Format, "{}: expected a table, got empty lines", self.file);
        }
        let names = self.check_names(&record)?;
        let mut any = true;
        if self.csv.header {
            any = next(&mut record)?;
        }
        if !any {
            bail!(Format, "{}: expected rows below the header, got none", self.file);
        }
        let mut kinds = vec![Kind::Number; names.len()];
        let mut infinite = vec![false; names.len()];
        let mut n_rows = 0;
        while any {
            self.check_length(&record, names.len())?;
            for (column, cell) in record.iter().map(str::trim).enumerate() {
                if kinds[column] == Kind::Category || self.csv.is_missing(cell) {
                    continue;
                }
                match self.csv.number(cell) {
                    Some(x) => infinite[column] |= !x.is_finite(),
                    None => kinds[column] = Kind::Category,
                }
            }
            n_rows += 1;
            any = next(&mut record)?;
        }
        let infinite = (0..names.len()).find(|&c| infinite[c] && kinds[c] == Kind::Number);
        (self.names, self.kinds, self.n_rows) = (names, kinds, n_rows);
        self.dropped = vec![false; n_rows];
        // The second pass finds the line.
        infinite.map_or(Ok(()), |column| {
            self.cells(&[column], |_, _, cell| match self.csv.is_missing(cell) {
                true => Ok(()),
                false => self.csv.finite(cell).map(drop),
            })
        })
    }

    /// The names of the columns, from the first record.
    fn check_names(&self, first: &StringRecord) -> Result<Vec<String>> {
        if first.len() == 1 && self.csv.header {
            let other = b";\t|,".iter().find(|&&b| first[0].as_bytes().contains(&b));
            if let Some(&other) = other.filter(|&&b| b != self.csv.delimiter) {
                let [used, other] = [self.csv.delimiter, other].map(|b| b.escape_ascii());
                bail!(
                    Format,
                    "{}, line {}: expected fields divided by `{used}`, got one field with \
                     `{other}` in it; say what divides fields with Csv::delimiter",
                    self.file,
                    self.line(first)
                );
            }
        }
        if !self.csv.header {
            return Ok((0..first.len()).map(|i| i.to_string()).collect());
        }
        let mut seen = HashSet::new();
        for (i, name) in first.iter().map(str::trim).enumerate() {
            let hint = match name.is_empty() || self.csv.number(name).is_some() {
                true => " (without a line of names, say so with Csv::header)",
                false => "",
            };
            let line = self.line(first);
            if name.is_empty() {
                bail!(Format, "{}, line {line}: column {} has no name{hint}", self.file, i + 1);
            }
            if !seen.insert(name) {
                bail!(Format, "{}, line {line}: two columns are named {name:?}{hint}", self.file);
            }
        }
        Ok(first.iter().map(|name| name.trim().to_string()).collect())
    }

    fn check_length(&self, record: &StringRecord, want: usize) -> Result<()> {
        let got = record.len();
        if got == want {
            return Ok(());
        }
        let hint = match got == 2 * want && self.csv.delimiter == b',' {
            true => " (decimal commas need quotes or another delimiter)",
            false => "",
        };
        let line = self.line(record);
        bail!(
            Format,
            "{}, line {line}: expected {want} fields as in the first line, got {got}{hint}",
            self.file
        )
    }

    fn matrix<T: Scalar>(&self, columns: &[usize], missing: Option<T>) -> Result<Tensor<T>> {
        let n = self.n_rows;
        let mut matrix = Tensor::zeros([n, columns.len()])?;
        let out = matrix.as_mut_slice();
        self.cells(columns, |row, j, cell| {
            let way = "Table::drop_missing or Table::numbers_or";
            out[row + n * j] = self.csv.cell(cell, missing, way)?;
            Ok(())
        })?;
        Ok(matrix)
    }

    /// Calls `f(row, position in columns, cell)` for these columns of every row; its complaint is
    /// given file, line and column.
    fn cells(
        &self,
        columns: &[usize],
        mut f: impl FnMut(usize, usize, &str) -> Result<(), String>,
    ) -> Result<()> {
        let mut reader = self.csv.reader(self.text.as_bytes());
        let mut record = StringRecord::new();
        if self.csv.header {
            reader.read_record(&mut record).map_err(|e| self.failed(&e))?;
        }
        let mut row = 0;
        for &dropped in &self.dropped {
            reader.read_record(&mut record).map_err(|e| self.failed(&e))?;
            if dropped {
                continue;
            }
            for (j, &column) in columns.iter().enumerate() {
                f(row, j, record[column].trim())
                    .map_err(|text| self.error(&record, &self.names[column], &text))?;
            }
            row += 1;
        }
        Ok(())
    }

    fn columns(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Vec<usize>> {
        names.into_iter().map(|name| self.column(name.as_ref())).collect()
    }

    fn column(&self, name: &str) -> Result<usize> {
        self.names.iter().position(|n| n == name).ok_or_else(|| {
            let shown = self.names.iter().take(16).map(String::as_str).collect::<Vec<_>>();
            let more = if self.names.len() > shown.len() { ", …" } else { "" };
            let columns = shown.join(", ");
            let text = format!("{}: no column {name:?} among {columns}{more}", self.file);
            Error::new(ErrorKind::Argument, text)
        })
    }

    fn error(&self, record: &StringRecord, column: &str, text: &str) -> Error {
        let line = self.line(record);
        let text = format!("{}, line {line}, column {column:?}: {text}", self.file);
        Error::new(ErrorKind::Format, text)
    }

    fn failed(&self, e: &::csv::Error) -> Error {
        Error::new(ErrorKind::Format, format!("{}: {e}", self.file))
    }

    /// The line a record begins on. Counted anew, since the `csv` crate does not count lone CRs.
    fn line(&self, record: &StringRecord) -> usize {
        let bytes = self.text.as_bytes();
        let start = record.position().map_or(0, |p| p.byte() as usize).min(bytes.len());
        let blank = bytes[start..].iter().take_while(|b| b"\r\n".contains(b)).count();
        line_of(bytes, start + blank)
    }
}

/// The line a byte is on, counted from 1; CR, LF and CRLF each end one.
pub(super) fn line_of(bytes: &[u8], at: usize) -> usize {
    let ends =
        |i: &usize| bytes[*i] == b'\n' || bytes[*i] == b'\r' && bytes.get(i + 1) != Some(&b'\n');
    1 + (0..at).filter(ends).count()
}

/// The names of classes, and with them the number each has: its position.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    names: Vec<String>,
    numbers: HashMap<String, Index>,
}

impl Classes {
    /// Classes in this order: the first is class 0.
    ///
    /// # Errors
    /// A name used twice, or more classes than an [`Index`] can number.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let mut numbers = HashMap::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            let Ok(number) = Index::try_from(i) else {
                bail!(Argument, "classes: expected at most {} names", Index::MAX);
            };
            if numbers.insert(name.clone(), number).is_some() {
                bail!(Argument, "classes: the name {name:?} is used twice");
            }
        }
        Ok(Classes { names, numbers })
    }

    /// The number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names, class 0 first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of a class.
    pub fn index(&self, name: &str) -> Option<Index> {
        self.numbers.get(name).copied()
    }
}
