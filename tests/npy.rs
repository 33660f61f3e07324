//! Rows E1 and section H for NPY and texts: arrays that NumPy wrote, round trips, and files
//! that must be refused without a panic or memory beyond what they hold.

use gradtape::io::text::{self, Vocabulary};
use gradtape::io::{Npy, npy};
use gradtape::{Philox, Result, Shape, Tensor};
use std::path::PathBuf;

mod files;
mod support;

use files::{refused, scratch, written};

#[global_allocator]
static COUNTING: support::Counting = support::Counting;

const MIB: usize = 1 << 20;

fn reference(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference/npy").join(name)
}

/// What `make.py` saves, plus `offset`.
fn x(offset: f64) -> Tensor {
    Tensor::from_fn([2, 3, 2], |at| (6 * at[0] + 2 * at[1] + at[2]) as f64 - 3.0 + offset).unwrap()
}

/// A file of version 1.0 with this header.
fn file(header: &str, payload: &[u8]) -> Vec<u8> {
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), payload].concat()
}

fn header(descr: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
}

#[test]
fn e1_arrays_of_numpy_have_their_values_type_and_order() -> Result<()> {
    let signed = "f4le f4be f8le f8be i1 i2le i2be i4le i4be i8le i8be fortran version2 version3";
    for name in signed.split(' ') {
        let array = Npy::read(reference(&format!("{name}.npy")))?;
        assert_eq!(array.to_tensor::<f64>(), x(0.0), "{name}");
        assert_eq!(array.to_tensor::<f32>(), x(0.0).map(|x| x as f32), "{name}");
    }
    for name in ["u1", "u2", "u4", "u8"] {
        let array = Npy::read(reference(&format!("{name}.npy")))?;
        assert_eq!(array.to_tensor::<f64>(), x(3.0), "{name}");
    }
    let mask = Npy::read(reference("b1.npy"))?;
    assert_eq!(mask, Npy::U8(x(3.0).map(|x| u8::from(x != 0.0))));
    assert_eq!(Npy::read(reference("i2be.npy"))?, Npy::I16(x(0.0).map(|x| x as i16)));
    assert_eq!(Npy::read(reference("scalar.npy"))?, Npy::F64(Tensor::scalar(2.5)));
    assert_eq!(Npy::read(reference("empty.npy"))?.shape(), [0, 3].into());
    Ok(())
}

#[test]
fn e1_what_is_written_reads_back_and_is_what_numpy_writes() -> Result<()> {
    let path = scratch("written.npy");
    let same =
        |name: &str| std::fs::read(&path).unwrap() == std::fs::read(reference(name)).unwrap();
    npy::write(&path, &x(0.0))?;
    assert_eq!(Npy::read(&path)?, Npy::F64(x(0.0)));
    assert!(same("fortran.npy"));
    npy::write(&path, &Tensor::from_rows([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?)?;
    assert!(same("matrix.npy"));
    npy::write(&path, &Tensor::vector(vec![1.0f32, 2.0, 3.0]))?;
    assert!(same("vector.npy"));
    npy::write(&path, &Tensor::scalar(2.5))?;
    assert!(same("scalar.npy"));
    npy::write(&path, &Tensor::<f64>::zeros([0, 3])?)?;
    assert!(same("empty.npy"));
    let labels = Tensor::vector(vec![0, 7, u32::MAX]);
    npy::write(&path, &labels)?;
    assert_eq!(Npy::read(&path)?, Npy::U32(labels));
    let odd = Tensor::vector(vec![f64::NAN, -0.0, f64::MIN_POSITIVE / 8.0, f64::NEG_INFINITY]);
    npy::write(&path, &odd)?;
    let bits = |x: &Tensor| x.map(f64::to_bits);
    assert_eq!(bits(&Npy::read(&path)?.to_tensor()), bits(&odd));
    let wide = Shape::new(&[1; 8])?;
    npy::write(&path, &Tensor::full(wide, -3i8)?)?;
    assert_eq!(Npy::read(&path)?, Npy::I8(Tensor::full(wide, -3)?));
    refused(npy::write(scratch("no/such/folder.npy"), &odd), "folder.npy");
    Ok(())
}

#[test]
fn e1_labels_are_whole_and_below_the_classes() -> Result<()> {
    let array = |x: &[f64]| Npy::F64(Tensor::vector(x.to_vec()));
    assert_eq!(array(&[0.0, 2.0, 1.0]).labels(3)?.as_slice(), [0, 2, 1]);
    assert_eq!(Npy::I64(Tensor::vector(vec![1, 0])).labels(2)?.as_slice(), [1, 0]);
    refused(array(&[0.0, 3.0]).labels(3), "labels: expected a class below 3, got 3 at 1");
    for wrong in [-1.0, 0.5, f64::NAN, f64::INFINITY, 4294967296.0] {
        refused(array(&[wrong]).labels(usize::MAX), "expected a class below");
    }
    refused(Npy::F64(x(3.0)).labels(3), "labels: expected one axis, got [2, 3, 2]");
    Ok(())
}

#[test]
fn e1_headers_may_be_in_any_order_and_spacing() -> Result<()> {
    let payload = [1.0f64, 2.0].map(f64::to_le_bytes).concat();
    for text in [
        "{\"shape\":(2,),\"fortran_order\":True,\"descr\":\"<f8\"}",
        " { 'fortran_order' : False , 'descr' : '<f8' , 'shape' : ( 2 , ) , }   \n",
    ] {
        assert_eq!(Npy::from_bytes(&file(text, &payload))?.to_tensor::<f64>().as_slice(), [1., 2.]);
    }
    Ok(())
}

#[test]
fn h_npy_headers_are_not_believed() {
    let read = |bytes: &[u8]| Npy::from_bytes(bytes);
    refused(read(b""), "npy: expected 8 bytes of magic string");
    refused(read(b"\x93NUMPX\x01\x00...."), "expected the magic string");
    refused(read(b"PK\x03\x04...."), "a ZIP archive");
    refused(read(b"\x93NUMPY\x04\x00...."), "expected version 1.0, 2.0 or 3.0, got 4.0");
    refused(read(b"\x93NUMPY\x01\x01...."), "got 1.1");
    refused(read(b"\x93NUMPY\x02\x00\xf0\xff\xff\xff"), "at most 65535 bytes, got 4294967280");
    refused(read(b"\x93NUMPY\x01\x00\xff\xff{"), "expected a header of 65535 bytes, got 1");

    let with = |text: &str| read(&file(text, &[0; 16]));
    for (shape, fragment) in [
        ("(4294967296, 4294967296)", "claims [4294967296, 4294967296], more elements"),
        ("(0, 4294967296, 4294967296)", "more elements than memory can hold"),
        ("(18446744073709551615,)", "more elements"),
        ("(18446744073709551616,)", "shape: expected an extent, got \"18446744073709551616\""),
        ("(-2,)", "expected an extent, got \"\""),
        ("(1, 1, 1, 1, 1, 1, 1, 1, 2)", "expected at most 8 axes, got 9"),
        ("(3,)", "claims [3], 24 bytes, got 16"),
        ("(1,)", "claims [1], 8 bytes, got 16"),
        ("(2)", "expected `,`"),
        ("(2,", "expected an extent"),
        ("[2]", "expected `(`"),
        ("2", "expected `(`"),
    ] {
        refused(with(&header("<f8", shape)), fragment);
    }
    for (descr, fragment) in [
        ("|O", "got \"|O\" (Python objects)"),
        ("|V8", "(structures)"),
        ("<U2", "(texts)"),
        ("<c16", "(complex numbers)"),
        ("<M8[s]", "(dates)"),
        ("<f2", "(convert it with `astype`)"),
        ("|f8", "got \"|f8\""),
        ("f8", "got \"f8\""),
        ("é8", "got \"é8\""),
        ("", "got \"\""),
    ] {
        refused(with(&header(descr, "(2,)")), fragment);
    }
    let good = header("<f8", "(2,)");
    assert!(with(&good).is_ok());
    refused(with(&good.replace("False", "0")), "expected True or False, got \"0\"");
    refused(with(&good.replace("'<f8'", "[('a', '<f8')]")), "a plain type, not a structure");
    refused(with(&good.replace("descr", "dtype")), "got \"dtype\"");
    refused(with(&good.replace("}", "'descr': '<f4'}")), "descr is given twice");
    refused(with("{'descr': '<f8', 'shape': (2,)}"), "got fewer");
    refused(with(&good.replace('}', "} x")), "expected blanks, got \"x");
    refused(with(&good[..good.len() - 2]), "header: expected");
    for name in ["object", "structure", "half", "text"] {
        refused(Npy::read(reference(&format!("{name}.npy"))), &format!("{name}.npy: "));
    }
    refused(Npy::read(reference("")), "expected a regular file, got a directory");
}

#[test]
fn h_no_truncated_or_changed_npy_panics_or_takes_memory() {
    let mut rng = Philox::new(21, 0);
    let check = |bytes: &[u8]| {
        let (result, peak, _) = support::counted(|| Npy::from_bytes(bytes).map(|a| a.shape()));
        assert!(peak <= 2 * bytes.len() + 4096, "{peak} bytes for {bytes:?}");
        result
    };
    for name in ["f8le", "i2be", "version3", "structure"] {
        let whole = std::fs::read(reference(&format!("{name}.npy"))).unwrap();
        for end in 0..whole.len() {
            assert!(check(&whole[..end]).is_err(), "{name} cut at {end}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(check(&longer).is_err(), "{name} with a byte more");
        for at in 0..whole.len() {
            for value in (0..=255).step_by(5).chain([b'9', b'\'', b'(', b')', b',', b'}']) {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = check(&bytes);
            }
        }
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                match rng.below(3) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, rng.below(256) as u8),
                    _ => bytes.extend_from_within(at..),
                }
            }
            let _ = check(&bytes);
        }
    }
}

#[test]
fn e1_texts_and_their_characters() -> Result<()> {
    let path = written("plain.txt", "\u{feff}a\r\nné€😀".as_bytes());
    let text = text::read(&path)?;
    assert_eq!(text, "a\r\nné€😀");
    let characters = Vocabulary::new(&text);
    assert_eq!(characters.chars(), ['\n', '\r', 'a', 'n', 'é', '€', '😀']);
    let numbers = characters.encode(&text)?;
    assert_eq!(numbers.as_slice(), [2, 1, 0, 3, 4, 5, 6]);
    assert_eq!(characters.decode(numbers.as_slice())?, text);
    refused(characters.encode("anz"), "encode: expected one of 7 characters, got 'z' at 2");
    refused(characters.decode(&[0, 7]), "decode: expected a number below 7, got 7 at 1");
    assert!(Vocabulary::new("").is_empty());
    assert!(Vocabulary::new("").encode("")?.is_empty());
    Ok(())
}

#[test]
fn h_what_is_no_text_is_refused() {
    let read = |bytes: &[u8]| text::read(written("hostile.txt", bytes));
    refused(read(b""), "hostile.txt: expected data, got an empty file");
    refused(read(b"\xff\xfea\0"), "expected UTF-8, got UTF-16");
    refused(read(b"\xfe\xff\0a"), "expected UTF-8, got UTF-16");
    refused(read(b"a\0b\0"), "byte 1: expected text, got a NUL byte");
    refused(read(b"\xef\xbb\xbfab\xe9c"), "byte 5: expected UTF-8, got 0xe9");
    refused(read(b"ab\xe2\x82"), "byte 2: expected UTF-8, got 0xe2");
    refused(text::read(reference("")), "expected a regular file, got a directory");
    let text = "x".repeat(MIB);
    let path = written("long.txt", text.as_bytes());
    let (read, peak, _) = support::counted(|| text::read(path));
    assert_eq!(read.unwrap(), text);
    assert!(peak <= MIB + 4096, "{peak} bytes for {MIB}");
}
