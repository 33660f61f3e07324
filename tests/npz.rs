//! Row E1 and section H for NPZ: archives that NumPy wrote, and ones that must be refused without
//! a panic or memory beyond what they may hold.

use gradtape::io::{Npy, Npz};
use gradtape::{Philox, Result, Tensor};

mod files;
mod support;

use files::{refused, scratch, written};
use std::path::PathBuf;

#[global_allocator]
static COUNTING: support::Counting = support::Counting;

const MIB: usize = 1 << 20;

fn reference(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference/npy").join(name)
}

/// A ZIP archive of stored entries, made by hand: (name, data, checksum to write).
fn archive(entries: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data, sum) in entries {
        let at = file.len() as u32;
        // Version 2.0, no flags, stored, no date, checksum, both sizes, length of the name.
        let mut about = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        about.extend(sum.to_le_bytes());
        about.extend([(data.len() as u32).to_le_bytes(); 2].concat());
        about.extend((name.len() as u16).to_le_bytes());
        about.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&about);
        file.extend(name.as_bytes());
        file.extend(*data);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&about);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (n, at) = (entries.len() as u16, file.len() as u32);
    file.extend(&directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend([n.to_le_bytes(); 2].concat());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(at.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn checksum(data: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(data);
    sum.sum()
}

/// The bytes of `[1.0, 2.0, 3.0]` as f32.
fn vector() -> Vec<u8> {
    std::fs::read(reference("vector.npy")).unwrap()
}

#[test]
fn e1_archives_of_numpy_have_their_arrays() -> Result<()> {
    let x = Tensor::from_fn([2, 3, 2], |at| (6 * at[0] + 2 * at[1] + at[2]) as f64 - 3.0)?;
    for name in ["plain.npz", "packed.npz"] {
        let read = Npz::read(reference(name))?;
        assert_eq!(read.names().collect::<Vec<_>>(), ["x", "labels"], "{name}");
        assert_eq!(read.get("x").unwrap().to_tensor::<f64>(), x, "{name}");
        assert_eq!(read.get("labels").unwrap().labels(3)?.as_slice(), [2, 0, 1], "{name}");
        assert_eq!(read.get("y"), None);
        assert_eq!(read, Npz::from_bytes(&std::fs::read(reference(name)).unwrap())?);
        assert_eq!(read.into_iter().count(), 2);
    }
    let by_hand = archive(&[("a.npy", &vector(), checksum(&vector()))]);
    let read = Npz::read(written("by_hand.npz", &by_hand))?;
    assert_eq!(read.get("a"), Some(&Npy::F32(Tensor::vector(vec![1.0, 2.0, 3.0]))));
    assert_eq!(Npz::from_bytes(&archive(&[]))?.names().count(), 0);
    Ok(())
}

#[test]
fn h_npz_archives_are_not_believed() {
    let (data, sum) = (vector(), checksum(&vector()));
    let twice = archive(&[("a.npy", &data, sum), ("a.npy", &data, sum)]);
    refused(Npz::from_bytes(&twice), "npz: expected each array once, got two of one name");
    refused(Npz::from_bytes(&archive(&[("a.npy", &data, sum ^ 1)])), "a: ");
    refused(Npz::from_bytes(&archive(&[("a.txt", &data, sum)])), "expected arrays NAME.npy");
    let longer = [&data[..], &[0]].concat();
    let longer = archive(&[("a.npy", &longer, checksum(&longer))]);
    refused(Npz::from_bytes(&longer), "a: the header claims [3], 12 bytes, got 13");
    for not_zip in [&b""[..], b"P", b"PK\x03\x04", b"<html></html>", &data] {
        refused(Npz::from_bytes(not_zip), "npz: expected a ZIP archive");
    }
    refused(Npz::read(scratch("none.npz")), "none.npz");
    refused(Npz::read(env!("CARGO_TARGET_TMPDIR")), "expected a regular file, got a directory");
}

/// A hundred megabytes of zeros in a hundred kilobytes; and one that only says so.
#[test]
fn h_npz_bombs_are_refused_before_they_unpack() {
    use std::io::Write;
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (100000000,), }";
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend((header.len() as u16).to_le_bytes());
    array.extend(header.as_bytes());
    array.resize(array.len() + 100_000_000, 0);
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = zip::write::SimpleFileOptions::default();
    out.start_file("a.npy", deflated).unwrap();
    out.write_all(&array).unwrap();
    let bomb = out.finish().unwrap().into_inner();
    assert!(bomb.len() < MIB, "{}", bomb.len());
    let (result, peak, _) = support::counted(|| Npz::from_bytes(&bomb));
    refused(result, "bytes of arrays, got 100000075");
    assert!(peak < MIB, "{peak} bytes");

    // A stored entry of 12 bytes of payload whose sizes and header claim gigabytes.
    let mut claims = archive(&[("a.npy", &vector(), checksum(&vector()))]);
    let size = (vector().len() as u32).to_le_bytes();
    let at = claims.windows(4).rposition(|w| w == size).unwrap();
    claims[at..at + 4].copy_from_slice(&u32::MAX.wrapping_sub(16).to_le_bytes());
    let (result, peak, _) = support::counted(|| Npz::from_bytes(&claims));
    assert!(result.is_err() && peak < MIB, "{peak} bytes");
}

#[test]
fn h_no_truncated_or_changed_npz_panics_or_takes_memory() {
    let good = std::fs::read(reference("packed.npz")).unwrap();
    let limit = 100 * good.len() + 2 * MIB;
    let try_read = |bytes: &[u8]| {
        let (result, peak, _) = support::counted(|| Npz::from_bytes(bytes).is_ok());
        assert!(peak <= limit, "{peak} bytes");
        result
    };
    assert!(try_read(&good));
    assert!((0..good.len()).all(|n| !try_read(&good[..n])), "a truncated archive was accepted");
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = good.clone();
            changed[at] ^= flip;
            try_read(&changed);
        }
    }
    let mut random = Philox::new(7, 0);
    for _ in 0..3000 {
        let mut changed = good.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(good.len() as u64) as usize;
            changed[at] = random.below(256) as u8;
        }
        try_read(&changed);
    }
}
