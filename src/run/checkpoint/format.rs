//! The bytes of a checkpoint: a safetensors file whose metadata say what it is of, with a checksum
//! over all of it. The `safetensors` crate reads and writes the format; here is what is believed
//! of a file. Knows nothing of sessions.

use crate::error::{Error, ErrorKind, Result, bail};
use crate::file;
use crate::kernel::copy::copy_strided;
use crate::scalar::{Scalar, of_type};
use crate::shape::{MAX_RANK, Shape};
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// Of the layout of the metadata. The checksum stays where it is in every version.
const VERSION: u64 = 1;

/// What every checkpoint begins with after 8 bytes of header length, up to the 8 digits of its
/// checksum.
const START: &[u8] = br#"{"__metadata__":{"gradtape":"{\"checksum\":\""#;
const CHECKSUM_AT: usize = 8 + START.len();

/// The digits while the checksum is computed.
const NO_CHECKSUM: &[u8; 8] = b"00000000";

/// Tensors by name.
pub(super) type Entries<'a, T> = BTreeMap<String, Entry<'a, T>>;

/// A tensor to save, column-major as in memory. Files have it row-major, as safetensors defines,
/// so that NumPy sees the same element at [i, j].
pub(super) struct Entry<'a, T> {
    pub(super) shape: Shape,
    pub(super) values: &'a [T],
}

impl<T: Scalar> View for Entry<'_, T> {
    fn dtype(&self) -> Dtype {
        match T::NAME {
            "f32" => Dtype::F32,
            _ => Dtype::F64,
        }
    }

    fn shape(&self) -> &[usize] {
        self.shape.extents()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut rows = vec![T::zero(); self.values.len()];
        // Column-major over the axes in reverse is row-major.
        let (mut extents, mut strides) = ([0; MAX_RANK], [0; MAX_RANK]);
        let rank = self.shape.rank();
        for (axis, (&extent, stride)) in
            self.shape.extents().iter().zip(self.shape.strides()).enumerate()
        {
            extents[rank - 1 - axis] = extent;
            strides[rank - 1 - axis] = stride as isize;
        }
        copy_strided(&extents[..rank], &strides[..rank], 0, self.values, &mut rows);
        Cow::Owned(encode(&rows))
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// The bytes of a checkpoint with these tensors and metadata: `graph`, `notes` and so on.
pub(super) fn write<T: Scalar>(
    entries: Entries<'_, T>,
    about: Map<String, Value>,
) -> Result<Vec<u8>> {
    // The digits come first, whatever order the map has.
    let mut text = format!(r#"{{"checksum":"{}""#, NO_CHECKSUM.escape_ascii());
    for (key, value) in [("version".to_string(), VERSION.into())].into_iter().chain(about) {
        text += &format!(",{}:{value}", Value::from(key));
    }
    text += "}";
    let metadata = [("gradtape".to_string(), text)].into_iter().collect();
    let mut bytes = safetensors::serialize(entries, Some(metadata))
        .map_err(|e| Error::new(ErrorKind::Argument, format!("checkpoint: {e}")))?;
    let digits = checksum(&bytes);
    bytes[CHECKSUM_AT..CHECKSUM_AT + digits.len()].copy_from_slice(digits.as_bytes());
    Ok(bytes)
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Contents<'a>(SafeTensors<'a>);

impl<'a> Contents<'a> {
    /// A safetensors file of anybody's.
    ///
    /// # Errors
    /// Kind [`ErrorKind::Format`]: one that is cut short or damaged, or no such file.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        file::refuse_stand_in(bytes)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damage(bytes, e))?;
        refuse_twins(header(bytes))?;
        if is_checkpoint(bytes) {
            check(bytes)?;
        }
        Ok(Contents(tensors))
    }

    /// A checkpoint of this crate, and its metadata.
    ///
    /// # Errors
    /// As [`Contents::parse`]; kind [`ErrorKind::Version`]: of a newer version.
    pub(super) fn parse_checkpoint(bytes: &'a [u8]) -> Result<(Self, Map<String, Value>)> {
        let contents = Contents::parse(bytes)?;
        if !is_checkpoint(bytes) {
            bail!(Format, "expected a checkpoint of gradtape, got another safetensors file");
        }
        let parsed = SafeTensors::read_metadata(bytes).ok();
        let text = parsed.as_ref().and_then(|m| m.1.metadata().as_ref()?.get("gradtape"));
        let Some(Ok(Value::Object(about))) = text.map(|t| serde_json::from_str(t)) else {
            bail!(Format, "metadata: expected a JSON object");
        };
        match about.get("version").and_then(Value::as_u64) {
            Some(VERSION) => Ok((contents, about)),
            Some(newer) if newer > VERSION => {
                bail!(Version, "expected a checkpoint of version {VERSION}, got version {newer}")
            }
            _ => bail!(Format, "metadata: expected a version"),
        }
    }

    /// The number of tensors.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes the tensor of this name and shape into `out`, column-major. False if there is none.
    ///
    /// # Errors
    /// Another shape or type of numbers; no memory.
    pub(super) fn take<T: Scalar>(&self, name: &str, shape: Shape, out: &mut [T]) -> Result<bool> {
        let Ok(tensor) = self.0.tensor(name) else { return Ok(false) };
        if tensor.shape() != shape.extents() {
            bail!(Shape, "{name}: expected {shape}, got {:?}", tensor.shape());
        }
        if shape.extents().iter().filter(|&&e| e > 1).count() <= 1 {
            // Both orders are one.
            decode(name, &tensor, out)?;
            return Ok(true);
        }
        let mut rows = Vec::new();
        if rows.try_reserve_exact(out.len()).is_err() {
            bail!(Memory, "{name}: no memory for {shape}");
        }
        rows.resize(out.len(), T::zero());
        decode(name, &tensor, &mut rows)?;
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for (stride, &extent) in strides.iter_mut().zip(shape.extents()).rev() {
            *stride = step;
            step *= extent as isize;
        }
        copy_strided(shape.extents(), &strides[..shape.rank()], 0, &rows, out);
        Ok(true)
    }
}

fn is_checkpoint(bytes: &[u8]) -> bool {
    bytes.get(8..).is_some_and(|rest| rest.starts_with(START))
}

/// That a checkpoint has the bytes it was written with.
fn check(bytes: &[u8]) -> Result<()> {
    let (want, got) = (bytes.get(CHECKSUM_AT..CHECKSUM_AT + 8), checksum(bytes));
    match want == Some(got.as_bytes()) {
        true => Ok(()),
        false => bail!(
            Format,
            "damaged: expected the checksum {}, got {got}",
            want.unwrap_or_default().escape_ascii()
        ),
    }
}

/// CRC-32 of all bytes with zeros for digits: any change of up to 32 bits in a row is seen.
fn checksum(bytes: &[u8]) -> String {
    let mut crc = crc32fast::Hasher::new();
    let (before, rest) = bytes.split_at(CHECKSUM_AT.min(bytes.len()));
    crc.update(before);
    crc.update(NO_CHECKSUM);
    crc.update(rest.get(NO_CHECKSUM.len()..).unwrap_or_default());
    format!("{:08x}", crc.finalize())
}

/// The JSON text of a file that was parsed.
fn header(bytes: &[u8]) -> &[u8] {
    let n = bytes.first_chunk().map_or(0, |&n| u64::from_le_bytes(n));
    let end = usize::try_from(n).unwrap_or(usize::MAX).saturating_add(8);
    bytes.get(8..end).unwrap_or_default()
}

/// What is wrong with bytes that are no safetensors file.
fn damage(bytes: &[u8], e: SafeTensorError) -> Error {
    let got = bytes.len();
    let claimed = bytes.first_chunk().map_or(0, |&n| u64::from_le_bytes(n));
    let text = match e {
        SafeTensorError::HeaderTooSmall => {
            format!("cut short: expected 8 bytes of header length, got {got}")
        }
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => format!(
            "cut short, or no safetensors file: expected a header of {claimed} bytes, got {} bytes",
            got - 8
        ),
        SafeTensorError::MetadataIncompleteBuffer => {
            let header = header(bytes);
            let metadata = serde_json::from_slice::<Metadata>(header).ok();
            let want = metadata.map_or(0, |m| m.data_len()).saturating_add(8 + header.len());
            let what = if got < want { "cut short" } else { "more bytes than it claims" };
            format!("{what}: expected {want} bytes, got {got}")
        }
        e => format!("damaged, or no safetensors file: {e}"),
    };
    Error::new(ErrorKind::Format, text)
}

/// That no key of the header stands there twice, which the crate would not see.
fn refuse_twins(header: &[u8]) -> Result<()> {
    let mut json = serde_json::Deserializer::from_slice(header);
    json.deserialize_map(Keys).map_err(|e| Error::new(ErrorKind::Format, format!("header: {e}")))
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with every name once")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if let Some(twin) = seen.replace(key) {
                return Err(serde::de::Error::custom(format_args!("{twin:?} is there twice")));
            }
        }
        Ok(())
    }
}

/// The little-endian bytes of these numbers.
fn encode<T: Scalar>(x: &[T]) -> Vec<u8> {
    type Encode<T> = fn(&[T]) -> Vec<u8>;
    let single: Encode<f32> = |x| x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let double: Encode<f64> = |x| x.iter().flat_map(|x| x.to_le_bytes()).collect();
    of_type::<Encode<T>>(&single, &double)(x)
}

/// The numbers of a tensor, in the order of the file. An f64 takes f32, too, which loses nothing.
fn decode<T: Scalar>(name: &str, tensor: &TensorView<'_>, out: &mut [T]) -> Result<()> {
    type Decode<T> = fn(&[u8], Dtype, &mut [T]) -> bool;
    fn each<T, const W: usize>(bytes: &[u8], out: &mut [T], f: impl Fn([u8; W]) -> T) -> bool {
        out.iter_mut().zip(bytes.as_chunks().0).for_each(|(out, &bytes)| *out = f(bytes));
        true
    }
    let single: Decode<f32> = |bytes, dtype, out| match dtype {
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        _ => false,
    };
    let double: Decode<f64> = |bytes, dtype, out| match dtype {
        Dtype::F64 => each(bytes, out, f64::from_le_bytes),
        Dtype::F32 => each(bytes, out, |b| f32::from_le_bytes(b).into()),
        _ => false,
    };
    match of_type::<Decode<T>>(&single, &double)(tensor.data(), tensor.dtype(), out) {
        true => Ok(()),
        false => bail!(Tape, "{name}: expected numbers of {}, got {}", T::NAME, tensor.dtype()),
    }
}
