//! NPY arrays, as NumPy saves them: a small text header of type, order and shape, then the
//! elements in either order and byte order. Never unpickles; knows nothing of what they mean.

use super::idx::{Payload, bytes};
use super::source;
use crate::error::{Error, Result, bail};
use crate::scalar::Element;
use crate::{Index, Scalar, Shape, Tensor};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// What a file begins with, before the two bytes of its version.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longer headers describe structured types, which are refused anyway.
const MAX_HEADER: usize = u16::MAX as usize;

/// One row for each element type: its variant, its Rust type, its code in the header.
macro_rules! types {
    ($($variant:ident $t:ident $code:literal,)*) => {
        /// An array read from an NPY file, in the type of the file and column-major, whatever the
        /// file's order. Truth values (`b1`) come as the `u8` 0 and 1.
        ///
        /// ```
        /// use gradtape::io::Npy;
        /// let header = "{'descr': '>i2', 'fortran_order': False, 'shape': (2, 2), }";
        /// let mut file = b"\x93NUMPY\x01\x00".to_vec();
        /// file.extend((header.len() as u16).to_le_bytes());
        /// file.extend(header.as_bytes());
        /// file.extend([0, 1, 0, 2, 0, 3, 0, 4]); // 1 2 / 3 4, big-endian
        /// let x = Npy::from_bytes(&file)?.to_tensor::<f64>();
        /// assert_eq!(x.as_slice(), [1.0, 3.0, 2.0, 4.0]);
        /// # Ok::<(), gradtape::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        #[allow(missing_docs)] // The variants are their types.
        pub enum Npy {
            $($variant(Tensor<$t>),)*
        }

        const CODES: &[&str] = &[$($code),*];

        impl Npy {
            /// The extents.
            pub fn shape(&self) -> Shape {
                match self {
                    $(Npy::$variant(x) => x.shape(),)*
                }
            }

            fn map<U: Element>(&self, mut f: impl FnMut(f64) -> U) -> Tensor<U> {
                match self {
                    $(Npy::$variant(x) => x.map(|x| f(x as f64)),)*
                }
            }
        }

        /// The elements of a type whose code is in [`CODES`], or `b1`.
        fn elements(code: &str, big: bool, fortran: bool, read: Payload<'_>) -> Result<Npy> {
            let shape = read.shape;
            Ok(match code {
                $($code => {
                    let decode = if big { $t::from_be_bytes } else { $t::from_le_bytes };
                    Npy::$variant(tensor(shape, fortran, read.elements(decode)?)?)
                })*
                _ => Npy::U8(tensor(shape, fortran, read.elements(|[b]| u8::from(b != 0))?)?),
            })
        }

        fn decoder<T: Scalar>(code: &str, big: bool) -> DecodeRows<T> {
            match (code, big) {
                $(($code, false) => |bytes, out| {
                    let elements = bytes.as_chunks().0.iter();
                    out.extend(elements.map(|&b| T::lit($t::from_le_bytes(b) as f64)));
                },
                ($code, true) => |bytes, out| {
                    let elements = bytes.as_chunks().0.iter();
                    out.extend(elements.map(|&b| T::lit($t::from_be_bytes(b) as f64)));
                },)*
                _ => |bytes, out| out.extend(bytes.iter().map(|&b| T::lit(f64::from(b != 0)))),
            }
        }

        $(impl sealed::Bytes for $t {
            const CODE: &'static str = $code;
            fn put(self, out: &mut dyn Write) -> std::io::Result<()> {
                out.write_all(&self.to_le_bytes())
            }
        })*
    };
}

types! {
    I8 i8 "i1", I16 i16 "i2", I32 i32 "i4", I64 i64 "i8",
    U8 u8 "u1", U16 u16 "u2", U32 u32 "u4", U64 u64 "u8",
    F32 f32 "f4", F64 f64 "f8",
}

mod sealed {
    pub trait Bytes: Copy {
        const CODE: &'static str;
        fn put(self, out: &mut dyn std::io::Write) -> std::io::Result<()>;
    }
}

impl Npy {
    /// Reads a file. Memory: that of the elements, twice if the file is row-major with more than
    /// one axis.
    ///
    /// # Errors
    /// Not a regular file that can be read, or what [`Npy::from_bytes`] refuses.
    pub fn read(path: impl AsRef<Path>) -> Result<Npy> {
        let path = path.as_ref();
        let (file, length) = source::open(path)?;
        parse(&mut BufReader::new(file), length).map_err(|e| e.within(path.display()))
    }

    /// An array from the bytes of a file of version 1, 2 or 3.
    ///
    /// # Errors
    /// Another magic string or version, a header that is not the one NumPy writes, an element type
    /// other than bool, integers and floats of 1 to 8 bytes (Python objects, structures, texts,
    /// `f2` and complex numbers are named), more than 8 axes, extents that overflow, fewer or more
    /// bytes than the extents claim.
    pub fn from_bytes(bytes: &[u8]) -> Result<Npy> {
        parse(&mut &*bytes, bytes.len() as u64).map_err(|e| e.within("npy"))
    }

    /// The array as a tensor of the same shape, its elements rounded to `T`. Where it has that type
    /// already, taking the tensor out of its variant saves the copy.
    pub fn to_tensor<T: Scalar>(&self) -> Tensor<T> {
        self.map(T::lit)
    }

    /// Class labels, shape `[n]`.
    ///
    /// # Errors
    /// More than one axis, elements that are not whole numbers, a label not below `n_classes`.
    pub fn labels(&self, n_classes: usize) -> Result<Tensor<Index>> {
        if self.shape().rank() != 1 {
            bail!(Shape, "labels: expected one axis, got {}", self.shape());
        }
        let (mut wrong, mut at) = (None, 0);
        let labels = self.map(|x| {
            let label = x as Index;
            // The cast saturates, so the label equals x only where x was one.
            if f64::from(label) != x || label as usize >= n_classes {
                wrong.get_or_insert((x, at));
            }
            at += 1;
            label
        });
        match wrong {
            None => Ok(labels),
            Some((x, at)) => {
                bail!(Index, "labels: expected a class below {n_classes}, got {x} at {at}")
            }
        }
    }
}

/// Writes a tensor as NumPy's `save` does: version 1.0, little-endian, column-major (which NumPy
/// calls Fortran order). Any integer or float type up to 8 bytes.
///
/// ```
/// use gradtape::{Tensor, io::{Npy, npy}};
/// let path = std::env::temp_dir().join(format!("gradtape-{}.npy", std::process::id()));
/// let w = Tensor::from_rows([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// npy::write(&path, &w)?;
/// assert_eq!(Npy::read(&path)?, Npy::F64(w));
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// # Errors
/// The file cannot be written.
pub fn write<E: Element + sealed::Bytes>(path: impl AsRef<Path>, x: &Tensor<E>) -> Result<()> {
    let path = path.as_ref();
    save(path, x).map_err(|e| Error::io(path.display(), &e))
}

fn save<E: Element + sealed::Bytes>(path: &Path, x: &Tensor<E>) -> std::io::Result<()> {
    // With at most one long axis both orders are one, and NumPy names the other.
    let fortran = x.shape().extents().iter().filter(|&&e| e > 1).count() > 1 && !x.is_empty();
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&head_of::<E>(fortran, x.shape().extents(), 0))?;
    x.as_slice().iter().try_for_each(|&e| e.put(&mut out))?;
    out.flush()
}

/// What comes before the elements, in at least so many bytes.
fn head_of<E: sealed::Bytes>(fortran: bool, extents: &[usize], at_least: usize) -> Vec<u8> {
    let order = if size_of::<E>() == 1 { '|' } else { '<' };
    let fortran = if fortran { "True" } else { "False" };
    let mut text =
        format!("{{'descr': '{order}{}', 'fortran_order': {fortran}, 'shape': (", E::CODE);
    for (axis, extent) in extents.iter().enumerate() {
        let comma = if axis == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{extent}"); // a String takes everything
    }
    text.push_str(if extents.len() == 1 { ",), }" } else { "), }" });
    // The elements begin at a multiple of 64 bytes; a newline ends the header.
    let length = (10 + text.len() + 1).next_multiple_of(64).max(at_least) - 10;
    let mut head = MAGIC.to_vec();
    head.extend([1, 0]);
    // At most 8 extents of 20 digits: below 2¹⁶.
    head.extend((length as u16).to_le_bytes());
    head.extend(format!("{text:<0$}\n", length - 1).bytes());
    head
}

/// Writes an NPY file row by row, row-major, of any number of rows:
/// [`NpyRows`](crate::data::NpyRows) reads it in blocks, NumPy as any array.
///
/// Until [`RowWriter::finish`] the file says that it has no rows, and readers refuse it.
#[derive(Debug)]
pub struct RowWriter<E> {
    path: PathBuf,
    out: BufWriter<File>,
    width: usize,
    n_rows: usize,
    of: PhantomData<E>,
}

impl<E: Element + sealed::Bytes> RowWriter<E> {
    /// Room for the longest numbers of rows and columns.
    const HEAD: usize = 128;

    /// A new file for rows of this width.
    ///
    /// # Errors
    /// A width of 0; the file cannot be written.
    pub fn create(path: impl AsRef<Path>, width: usize) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        if width == 0 {
            bail!(Argument, "{}: expected rows of at least 1 number, got 0", path.display());
        }
        let failed = |e| Error::io(path.display(), &e);
        let mut out = BufWriter::with_capacity(1 << 16, File::create(&path).map_err(failed)?);
        out.write_all(&head_of::<E>(false, &[0, width], Self::HEAD)).map_err(failed)?;
        Ok(RowWriter { path, out, width, n_rows: 0, of: PhantomData })
    }

    /// Writes one row, or several, one after the other.
    ///
    /// # Errors
    /// Numbers that make no whole rows; the file cannot be written.
    pub fn write(&mut self, rows: &[E]) -> Result<()> {
        if !rows.len().is_multiple_of(self.width) {
            let (path, want, got) = (self.path.display(), self.width, rows.len());
            bail!(Shape, "{path}: expected rows of {want} numbers, got {got}");
        }
        self.n_rows += rows.len() / self.width;
        let written = rows.iter().try_for_each(|&e| e.put(&mut self.out));
        written.map_err(|e| Error::io(self.path.display(), &e))
    }

    /// Says how many rows there are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        let head = head_of::<E>(false, &[self.n_rows, self.width], Self::HEAD);
        let mut finish = || {
            self.out.flush()?;
            self.out.rewind()?;
            self.out.write_all(&head)?;
            self.out.flush()
        };
        finish().map_err(|e| Error::io(self.path.display(), &e))
    }
}

/// Reads an array of which `length` bytes are there.
fn parse(from: &mut dyn Read, length: u64) -> Result<Npy> {
    parse_with(from, length, usize::MAX)
}

/// Reads an array that is said to have `length` bytes; memory is taken as they come.
pub(super) fn parse_packed(from: &mut dyn Read, length: u64) -> Result<Npy> {
    parse_with(from, length, 0)
}

/// Reads an array, with room for at most `room` elements before they have come.
fn parse_with(from: &mut dyn Read, length: u64, room: usize) -> Result<Npy> {
    let Head { big, code, fortran, shape } = Head::read(from, length)?;
    let n = shape.len();
    elements(code, big, fortran, Payload { from, shape, n, room: n.min(room) })
}

/// What comes before the elements.
pub(crate) struct Head {
    big: bool,
    code: &'static str,
    pub(crate) fortran: bool,
    /// Its elements fit the file, and memory could number them.
    pub(crate) shape: Shape,
}

/// Appends the elements that these bytes hold, rounded.
pub(crate) type DecodeRows<T> = fn(&[u8], &mut Vec<T>);

impl Head {
    /// Reads it from a file of which `length` bytes are there.
    pub(crate) fn read(from: &mut dyn Read, length: u64) -> Result<Head> {
        let start: [u8; 8] = bytes(from, "8 bytes of magic string and version")?;
        if &start[..6] != MAGIC {
            source::refuse_stand_in(&start)?;
            let got = start[..6].escape_ascii();
            bail!(Format, "expected the magic string \\x93NUMPY, got {got}");
        }
        let what = "the length of the header";
        let (header, before) = match start[6..] {
            [1, 0] => (u16::from_le_bytes(bytes(from, what)?) as usize, 10),
            [2 | 3, 0] => (u32::from_le_bytes(bytes(from, what)?) as usize, 12),
            _ => bail!(Format, "expected version 1.0, 2.0 or 3.0, got {}.{}", start[6], start[7]),
        };
        if header > MAX_HEADER {
            bail!(Format, "expected a header of at most {MAX_HEADER} bytes, got {header}");
        }
        let mut text = Vec::new();
        let got =
            from.take(header as u64).read_to_end(&mut text).map_err(|e| source::read_error(&e))?;
        if got < header {
            bail!(Format, "expected a header of {header} bytes, got {got}");
        }
        let text = String::from_utf8_lossy(&text);
        let Header { descr, fortran, shape } = Header::parse(&text)?;
        let (big, code) = element(descr)?;
        let Some(n) = shape.checked_len() else {
            bail!(Format, "the header claims {shape}, more elements than memory can hold");
        };
        let head = Head { big, code, fortran, shape };
        // `checked_len` leaves room for 8 bytes an element.
        let claimed = (n * head.element_bytes()) as u64;
        let got = length.saturating_sub(before + header as u64);
        if got != claimed {
            bail!(Format, "the header claims {shape}, {claimed} bytes, got {got}");
        }
        Ok(head)
    }

    /// The code of a type ends with the number of its bytes.
    pub(crate) fn element_bytes(&self) -> usize {
        usize::from(self.code.as_bytes()[1] - b'0')
    }

    pub(crate) fn decoder<T: Scalar>(&self) -> DecodeRows<T> {
        decoder(self.code, self.big)
    }
}

/// Whether elements are big-endian, and the code of their type: `>f4` is `(true, "f4")`.
fn element(descr: &str) -> Result<(bool, &'static str)> {
    let order = descr.chars().next();
    if let (Some('<' | '>' | '|'), Some(code)) = (order, descr.get(1..))
        && let Some(code) = CODES.iter().chain(&["b1"]).find(|known| **known == code)
        && (order != Some('|') || code.ends_with('1'))
    {
        return Ok((order == Some('>'), code));
    }
    let what = match descr.trim_start_matches(['<', '>', '|', '=']).chars().next() {
        Some('O') => " (Python objects)",
        Some('V') => " (structures)",
        Some('U' | 'S' | 'a') => " (texts)",
        Some('c') => " (complex numbers)",
        Some('M' | 'm') => " (dates)",
        Some('f') => " (convert it with `astype`)",
        _ => "",
    };
    bail!(Format, "expected elements b1, i1 to i8, u1 to u8, f4 or f8, got {descr:?}{what}");
}

fn tensor<E: Element>(shape: Shape, fortran: bool, data: Vec<E>) -> Result<Tensor<E>> {
    if fortran || shape.rank() < 2 {
        Tensor::new(shape, data)
    } else {
        Tensor::from_rows(shape, &data)
    }
}

/// What the header says: a Python dictionary of just these three.
struct Header<'a> {
    descr: &'a str,
    fortran: bool,
    shape: Shape,
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let mut rest = Literal(text);
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        rest.expect('{')?;
        while !rest.eat('}') {
            let key = rest.string()?;
            rest.expect(':')?;
            let twice = match key {
                "descr" => descr.replace(rest.string()?).is_some(),
                "fortran_order" => fortran.replace(rest.truth()?).is_some(),
                "shape" => shape.replace(rest.shape()?).is_some(),
                _ => bail!(Format, "header: expected descr, fortran_order, shape, got {key:?}"),
            };
            if twice {
                bail!(Format, "header: {key} is given twice");
            }
            if !rest.eat(',') {
                rest.expect('}')?;
                break;
            }
        }
        if !rest.0.trim().is_empty() {
            return Err(rest.wrong("blanks"));
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(Header { descr, fortran, shape }),
            _ => bail!(Format, "header: expected descr, fortran_order and shape, got fewer"),
        }
    }
}

/// The rest of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn eat(&mut self, what: char) -> bool {
        self.0 = self.0.trim_start();
        self.0.strip_prefix(what).map(|rest| self.0 = rest).is_some()
    }

    fn expect(&mut self, what: char) -> Result<()> {
        if self.eat(what) { Ok(()) } else { Err(self.wrong(&format!("`{what}`"))) }
    }

    fn string(&mut self) -> Result<&'a str> {
        for quote in ['\'', '"'] {
            if self.eat(quote)
                && let Some((string, rest)) = self.0.split_once(quote)
            {
                self.0 = rest;
                return Ok(string);
            }
        }
        let hint = if self.0.starts_with('[') { "a plain type, not a structure" } else { "a text" };
        Err(self.wrong(hint))
    }

    fn word(&mut self) -> &'a str {
        let text = self.0.trim_start();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        word
    }

    fn truth(&mut self) -> Result<bool> {
        match self.word() {
            "True" => Ok(true),
            "False" => Ok(false),
            word => bail!(Format, "header: fortran_order: expected True or False, got {word:?}"),
        }
    }

    fn shape(&mut self) -> Result<Shape> {
        self.expect('(')?;
        let mut extents = Vec::new();
        while !self.eat(')') {
            let word = self.word();
            let Ok(extent) = word.parse() else {
                bail!(Format, "header: shape: expected an extent, got {word:?}");
            };
            extents.push(extent);
            if !self.eat(',') {
                if extents.len() == 1 {
                    return Err(self.wrong("`,`"));
                }
                self.expect(')')?;
                break;
            }
        }
        Shape::new(&extents).map_err(|e| e.within("header"))
    }

    fn wrong(&self, want: &str) -> Error {
        let got: String = self.0.trim_start().chars().take(40).collect();
        Error::new(crate::ErrorKind::Format, format!("header: expected {want}, got {got:?}"))
    }
}
