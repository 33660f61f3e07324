//! IDX arrays, the format of MNIST: a big-endian header of type and extents, then the elements in
//! row-major order, samples first. Knows nothing of what they mean.

use super::source;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::Element;
use crate::{Index, MAX_RANK, Scalar, Shape, Tensor};
use flate2::bufread::MultiGzDecoder;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// An array read from an IDX file, plain or gzipped, as the file has it: row-major.
///
/// ```
/// use gradtape::io::{Idx, IdxData};
/// let file = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]; // u8, 2 × 3
/// let idx = Idx::from_bytes(&file)?;
/// assert_eq!(idx.data(), &IdxData::U8(vec![1, 2, 3, 4, 5, 6]));
/// assert_eq!(idx.to_tensor::<f64>()?.get(&[1, 0]), Some(4.0));
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    shape: Shape,
    data: IdxData,
}

/// The elements of an [`Idx`], row-major: the last axis is fastest.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The variants are their types.
pub enum IdxData {
    U8(Vec<u8>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// The same expression for every element type.
macro_rules! each {
    ($data:expr, $v:ident => $body:expr) => {
        #[allow(clippy::useless_conversion)] // f64 into f64
        match $data {
            IdxData::U8($v) => $body,
            IdxData::I8($v) => $body,
            IdxData::I16($v) => $body,
            IdxData::I32($v) => $body,
            IdxData::F32($v) => $body,
            IdxData::F64($v) => $body,
        }
    };
}

impl Idx {
    /// Reads a file, plain or gzipped. Memory: that of the elements; a gzip file needs up to twice
    /// as much while it is unpacked, never more than it really holds.
    ///
    /// # Errors
    /// Not a regular file that can be read, or what [`Idx::from_bytes`] refuses.
    pub fn read(path: impl AsRef<Path>) -> Result<Idx> {
        let path = path.as_ref();
        let (file, length) = source::open(path)?;
        parse(BufReader::new(file), length).map_err(|e| e.within(path.display()))
    }

    /// An array from the bytes of a file, plain or gzipped.
    ///
    /// # Errors
    /// Another magic number or element type, 0 or more than 8 axes, extents that overflow, fewer or
    /// more bytes than the extents claim, a damaged gzip file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Idx> {
        parse(bytes, bytes.len() as u64).map_err(|e| e.within("idx"))
    }

    /// The extents, samples first.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The elements, row-major.
    pub fn data(&self) -> &IdxData {
        &self.data
    }

    /// The elements, row-major.
    pub fn into_data(self) -> IdxData {
        self.data
    }

    /// The array as a column-major tensor of the same shape. An i32 or f64 is rounded to `T`.
    ///
    /// # Errors
    /// No memory.
    pub fn to_tensor<T: Scalar>(&self) -> Result<Tensor<T>> {
        each!(&self.data, v => Ok(Tensor::from_rows(self.shape, v)?.map(|x| T::lit(f64::from(x)))))
    }

    /// Class labels, shape `[n]`.
    ///
    /// # Errors
    /// More than one axis, elements that are not whole numbers, a label not below `n_classes`.
    pub fn labels(&self, n_classes: usize) -> Result<Tensor<Index>> {
        if self.shape.rank() != 1 {
            bail!(Shape, "labels: expected one axis, got {}", self.shape);
        }
        let mut labels = Tensor::<Index>::zeros(self.shape)?;
        let out = labels.as_mut_slice();
        each!(&self.data, v => for (i, &x) in v.iter().enumerate() {
            let x = f64::from(x);
            if !(x >= 0.0 && x < n_classes as f64 && x.fract() == 0.0) {
                bail!(Index, "labels: expected a class below {n_classes}, got {x} at {i}");
            }
            out[i] = x as Index;
        });
        Ok(labels)
    }
}

/// Reads an array of which `length` bytes are there, packed or not.
fn parse(mut from: impl BufRead, length: u64) -> Result<Idx> {
    let head = from.fill_buf().map_err(|e| source::read_error(&e))?;
    if source::is_gzip(head) {
        // How much comes out is known only when it is out.
        return parse_plain(&mut MultiGzDecoder::new(from), None);
    }
    source::refuse_stand_in(head)?;
    parse_plain(&mut from, Some(length))
}

fn parse_plain(from: &mut dyn Read, length: Option<u64>) -> Result<Idx> {
    let [z0, z1, code, rank] = bytes(from, "4 bytes of magic number")?;
    let width = match code {
        0x08 | 0x09 => 1,
        0x0b => 2,
        0x0c | 0x0d => 4,
        0x0e => 8,
        _ => 0,
    };
    if [z0, z1] != [0, 0] || width == 0 {
        bail!(
            Format,
            "expected the magic number 00 00 and an element type (08, 09, 0b, 0c, 0d, 0e), got \
             {z0:02x} {z1:02x} {code:02x}"
        );
    }
    let rank = usize::from(rank);
    if rank == 0 || rank > MAX_RANK {
        bail!(Format, "expected 1 to {MAX_RANK} axes, got {rank}");
    }
    let mut extents = [0; MAX_RANK];
    for extent in &mut extents[..rank] {
        *extent = u32::from_be_bytes(bytes(from, "4 bytes for every extent")?) as usize;
    }
    let shape = Shape::new(&extents[..rank])?;
    let Some(n) = shape.checked_len() else {
        bail!(Format, "the header claims {shape}, more elements than memory can hold");
    };
    // `checked_len` leaves room for 8 bytes an element.
    let claimed = (n * width) as u64;
    let header = 4 + 4 * rank as u64;
    if let Some(got) = length.map(|length| length.saturating_sub(header))
        && got != claimed
    {
        bail!(Format, "the header claims {shape}, {claimed} bytes, got {got}");
    }
    // Believed only where the length of the file agrees with it.
    let room = if length.is_some() { n } else { 0 };
    let read = Payload { from, shape, n, room };
    let data = match code {
        0x08 => IdxData::U8(read.elements(u8::from_be_bytes)?),
        0x09 => IdxData::I8(read.elements(i8::from_be_bytes)?),
        0x0b => IdxData::I16(read.elements(i16::from_be_bytes)?),
        0x0c => IdxData::I32(read.elements(i32::from_be_bytes)?),
        0x0d => IdxData::F32(read.elements(f32::from_be_bytes)?),
        _ => IdxData::F64(read.elements(f64::from_be_bytes)?),
    };
    Ok(Idx { shape, data })
}

/// The elements of an array of known shape, about to be read.
pub(super) struct Payload<'r> {
    pub(super) from: &'r mut dyn Read,
    pub(super) shape: Shape,
    pub(super) n: usize,
    pub(super) room: usize,
}

impl Payload<'_> {
    pub(super) fn elements<E: Element, const W: usize>(
        self,
        decode: fn([u8; W]) -> E,
    ) -> Result<Vec<E>> {
        let Payload { from, shape, n, room } = self;
        let no_memory = |_| Error::new(ErrorKind::Memory, format!("no memory for {shape}"));
        let mut out: Vec<E> = Vec::new();
        out.try_reserve_exact(room).map_err(no_memory)?;
        let mut buffer = [0; 1 << 14];
        while out.len() < n {
            let count = (n - out.len()).min(buffer.len() / W);
            let chunk = &mut buffer[..count * W];
            from.read_exact(chunk).map_err(|e| {
                let e = source::read_error(&e);
                e.within(format_args!("the header claims {shape}"))
            })?;
            if out.capacity() - out.len() < count {
                // Doubles, but never beyond the claim.
                let room = n.min(2 * out.len() + count) - out.len();
                out.try_reserve_exact(room).map_err(no_memory)?;
            }
            out.extend(chunk.as_chunks().0.iter().map(|&b| decode(b)));
        }
        // Reading up to the end also checks the sum at the end of a gzip file.
        match from.read(&mut buffer[..1]) {
            Ok(0) => Ok(out),
            Ok(_) => bail!(Format, "the header claims {shape}, got more bytes than that"),
            Err(e) => Err(source::read_error(&e)),
        }
    }
}

pub(super) fn bytes<const N: usize>(from: &mut dyn Read, what: &str) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)
        .map_err(|e| source::read_error(&e).within(format_args!("expected {what}")))?;
    Ok(bytes)
}
