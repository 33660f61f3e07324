//! Section H for CSV and IDX: files that must be refused with a clear error, without a panic, a
//! hang or memory beyond twice the file.

use gradtape::data::{Dataset, mnist};
use gradtape::io::{Csv, Idx};
use gradtape::{Error, ErrorKind, Index, Philox, Tensor};
use std::path::PathBuf;

mod files;
mod support;

use files::{refused, scratch, written};

#[global_allocator]
static COUNTING: support::Counting = support::Counting;

const MIB: usize = 1 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// An IDX file of bytes with these extents.
fn idx(extents: &[u32], payload: usize) -> Vec<u8> {
    let mut file = vec![0, 0, 8, extents.len() as u8];
    extents.iter().for_each(|e| file.extend(e.to_be_bytes()));
    file.extend((0..payload).map(|i| i as u8));
    file
}

#[test]
fn h_what_is_not_a_regular_file_is_refused_at_once() {
    let folder = scratch("folder.csv");
    std::fs::create_dir_all(&folder).unwrap();
    refused(Csv::new().read(&folder), "folder.csv: expected a regular file, got a directory");
    refused(Idx::read(&folder), "got a directory");
    refused(Csv::new().read(scratch("none.csv")), "none.csv");
    assert_eq!(Idx::read(scratch("none.idx")).unwrap_err().kind(), ErrorKind::Io);
    refused(mnist::<f32>(&folder), "expected a file train-images-idx3-ubyte or");
}

#[cfg(unix)]
#[test]
fn h_a_fifo_or_device_does_not_hang() {
    let fifo = scratch("fifo.csv");
    let _ = std::fs::remove_file(&fifo);
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    refused(Csv::new().read(&fifo), "expected a regular file, got a device, FIFO or socket");
    refused(Idx::read(&fifo), "expected a regular file, got a device, FIFO or socket");
    refused(Idx::read("/dev/zero"), "expected a regular file");
}

#[test]
fn h_stand_ins_are_named() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    let page = b"\n <!DOCTYPE html><html><body>404, sorry</body></html>";
    for (bytes, fragment) in [
        (&b""[..], "an empty file"),
        (pointer, "a Git-LFS pointer"),
        (page, "an HTML page"),
        (b"PK\x03\x04\0\0", "a ZIP archive"),
    ] {
        let path = written("stand-in", bytes);
        refused(Csv::new().read(&path), &format!("stand-in: expected data, got {fragment}"));
        refused(Idx::read(&path), &format!("stand-in: expected data, got {fragment}"));
    }
    refused(Idx::read(written("one.idx", &[0])), "one.idx: expected 4 bytes of magic number");
    refused(Csv::new().read(written("one.csv", b"a")), "expected rows below the header");
}

#[test]
fn h_csv_encodings() {
    let utf16: Vec<u8> = "a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with_mark = [&[0xff, 0xfe][..], &utf16].concat();
    refused(Csv::new().read(written("utf16.csv", &with_mark)), "expected UTF-8, got UTF-16");
    refused(Csv::new().read(written("utf16-bare.csv", &utf16)), "line 1: expected text, got a NUL");
    let latin1 = b"name,x\nAnna,1\nJos\xe9,2\n";
    refused(Csv::new().read(written("latin1.csv", latin1)), "latin1.csv, line 3: expected UTF-8");
    refused(Csv::new().parse("a,b\n1,\x002\n"), "line 2: expected text, got a NUL");
    let marked = Csv::new().read(written("bom.csv", b"\xef\xbb\xbfa,b\r\n1,2\r3,4\n")).unwrap();
    assert_eq!((marked.names(), marked.n_rows()), (&["a".to_string(), "b".to_string()][..], 2));
}

#[test]
fn h_csv_malformed() {
    for (text, fragment) in [
        ("a,b\n", "expected rows below the header, got none"),
        ("\n\r\n", "expected a table, got empty lines"),
        ("a,b\n1,2\n\n3\n", "csv, line 4: expected 2 fields as in the first line, got 1"),
        ("a,b\r1,2\r3,4,5\r", "line 3: expected 2 fields as in the first line, got 3"),
        ("a,b\n1,5,2,5\n", "got 4 (decimal commas"),
        ("a,b\n1,\"2\n3,4\n", "line 2: a quote is never closed"),
        ("a,\"b\n1,2\n3,4\n", "line 1: a quote is never closed"),
        ("a;b\n1;2\n", "say what divides fields with Csv::delimiter"),
        ("a\tb\n1\t2\n", "got one field with `\\t`"),
        ("a,b,a\n1,2,3\n", "two columns are named \"a\""),
        ("5.1,0.2,0.2\n1,2,3\n", "named \"0.2\" (without a line of names"),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        ("a,b\n1,2\n1e400,3\n", "line 3, column \"a\": expected a finite number, got \"1e400\""),
        ("a,b\n1,2\n2,-inf\n", "line 3, column \"b\": expected a finite number, got \"-inf\""),
    ] {
        refused(Csv::new().parse(text), fragment);
    }
    for delimiter in [b'"', b'\n', b'\r', 0, 0xff] {
        refused(Csv::new().delimiter(delimiter).parse("a\n1\n"), "expected a delimiter");
    }
}

#[test]
fn h_csv_cells_and_columns() {
    let table = Csv::new().parse("x,y,z\n1,\"2,5\",a\n2,3;4,NaN\nnan,?,n/a\nNULL,,NA\n").unwrap();
    let number = |column: &str| table.numbers::<f64>([column]);
    refused(
        number("y"),
        "line 2, column \"y\": expected a number, got \"2,5\" (if this is a decimal",
    );
    refused(table.numbers::<f64>(["z"]), "line 2, column \"z\": expected a number, got \"a\"");
    refused(number("x"), "line 4, column \"x\": expected a number, got the missing value \"nan\"");
    refused(number("label"), "no column \"label\" among x, y, z");
    refused(table.all_except(["lable"]), "no column \"lable\"");
    refused(table.labels("z", &table.classes("z").unwrap()), "line 3, column \"z\"");
    assert_eq!(["x", "y", "z"].map(|c| table.n_missing(c).unwrap()), [2, 2, 3]);
    refused(table.clone().drop_missing(["x", "z"]).unwrap().drop_missing(["none"]), "no column");
    let gone = Csv::new().parse("x,y\n1,NA\nNA,1\n").unwrap().drop_missing(["x", "y"]);
    refused(gone, "a value is missing in every row");
    let large = Csv::new().parse("x\n1e39\n").unwrap();
    refused(large.numbers::<f32>(["x"]), "expected a number within f32, got \"1e39\"");
    let semicolons = Csv::new().header(false).parse("1;2\n3;4\n").unwrap();
    refused(semicolons.numbers::<f64>(["0"]), "if the delimiter is `;`");
}

#[test]
fn h_gzip_is_unpacked_where_plain_is_expected_and_no_damage_is_missed() {
    let text = "a,b\n".to_string() + &"1,2\n3.25,4\n".repeat(20);
    let packed = gzip(text.as_bytes());
    let whole = Csv::new().read(written("whole.csv", &packed)).unwrap();
    assert_eq!(whole.n_rows(), 40);
    for length in 2..packed.len() {
        refused(Csv::new().read(written("cut.csv.gz", &packed[..length])), "cut short");
    }
    let image = gzip(&idx(&[7, 5], 35));
    for length in 0..image.len() {
        assert!(Idx::from_bytes(&image[..length]).is_err(), "{length} bytes");
    }
    let mut wrong_sum = image.clone();
    *wrong_sum.iter_mut().nth_back(7).unwrap() ^= 1;
    refused(Idx::from_bytes(&wrong_sum), "the packed data are corrupted");
    refused(
        Idx::from_bytes(&[&image[..], b"trailing bytes"].concat()),
        "the packed data are corrupted",
    );
    refused(
        Csv::new().read(written("bomb.csv", &gzip(&vec![b'1'; 4 * MIB]))),
        "bytes to come out of it, got more",
    );
}

#[test]
fn h_idx_headers_are_not_believed() {
    for (file, fragment) in [
        (vec![1, 0, 8, 1, 0, 0, 0, 1, 9], "expected the magic number 00 00"),
        (vec![0, 0, 10, 1, 0, 0, 0, 1, 9], "got 00 00 0a"),
        (vec![0, 0, 8, 0, 9], "expected 1 to 8 axes, got 0"),
        ([&[0, 0, 8, 255][..], &[0; 1020]].concat(), "expected 1 to 8 axes, got 255"),
        (idx(&[u32::MAX; 8], 9), "more elements than memory can hold"),
        (idx(&[u32::MAX, u32::MAX], 4), "more elements than memory can hold"),
        (idx(&[0, u32::MAX, u32::MAX, u32::MAX], 0), "more elements than memory can hold"),
        (idx(&[3, 4], 11), "the header claims [3, 4], 12 bytes, got 11"),
        (idx(&[3, 4], 13), "the header claims [3, 4], 12 bytes, got 13"),
        (gzip(&idx(&[3, 4], 11)), "the header claims [3, 4]: the file is cut short"),
        (gzip(&idx(&[3, 4], 13)), "the header claims [3, 4], got more bytes"),
        (b"\x1f\x8b".to_vec(), "cut short"),
    ] {
        refused(Idx::from_bytes(&file), fragment);
        refused(Idx::read(written("header.idx", &file)), "header.idx: ");
    }
    let file = idx(&[3, 4], 12);
    for length in 0..file.len() {
        assert!(Idx::from_bytes(&file[..length]).is_err(), "{length} bytes");
    }
    assert_eq!(Idx::from_bytes(&idx(&[0, 4], 0)).unwrap().shape(), [0, 4].into());
}

#[test]
fn h_a_claim_of_3_tib_costs_nothing() {
    let claim = idx(&[3072, 1 << 15, 1 << 15], 4000);
    let packed = gzip(&claim);
    let plain = written("claim.idx", &claim);
    for (length, read) in [
        (claim.len(), &(|| Idx::from_bytes(&claim)) as &dyn Fn() -> Result<Idx, Error>),
        (claim.len(), &|| Idx::read(&plain)),
        (packed.len(), &|| Idx::from_bytes(&packed)),
    ] {
        let (result, peak, _) = support::counted(read);
        refused(result, "the header claims [3072, 32768, 32768]");
        assert!(peak <= 2 * length + MIB, "{peak} bytes for {length}");
    }
}

#[test]
fn h_labels_must_fit_images_and_classes() {
    let labels = Idx::from_bytes(&[0, 0, 8, 1, 0, 0, 0, 2, 3, 9]).unwrap();
    refused(labels.labels(9), "labels: expected a class below 9, got 9 at 1");
    assert_eq!(labels.labels(10).unwrap().as_slice(), [3, 9]);
    refused(Idx::from_bytes(&[0, 0, 9, 1, 0, 0, 0, 1, 255]).unwrap().labels(10), "got -1 at 0");
    let half = [&[0, 0, 13, 1, 0, 0, 0, 1][..], &0.5f32.to_be_bytes()].concat();
    refused(Idx::from_bytes(&half).unwrap().labels(10), "got 0.5 at 0");
    let images = Idx::from_bytes(&idx(&[3, 2, 2], 12)).unwrap();
    refused(images.labels(10), "labels: expected one axis, got [3, 2, 2]");
    let y = labels.labels(10).unwrap();
    refused(
        Dataset::<f32, Index>::from_idx(images, 1.0, y),
        "expected as many targets as samples, got x [3, 2, 2], y [2]",
    );
    refused(Dataset::new(Tensor::scalar(1.0), Tensor::scalar(1.0)), "expected an axis of samples");
}

#[test]
fn h_shipped_files_take_at_most_twice_their_size() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("datasets");
    for name in ["iris", "digits", "svo_counts", "breast_cancer"] {
        let path = root.join(format!("{name}/{name}.csv"));
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        let (table, peak, _) = support::counted(|| Csv::new().read(&path));
        assert!(table.is_ok() && peak <= 2 * length + MIB, "{name}: {peak} bytes for {length}");
    }
    let path = root.join("mnist/t10k-images-idx3-ubyte.gz");
    let (images, peak, _) = support::counted(|| Idx::read(&path).unwrap());
    let unpacked = images.shape().len();
    assert!(peak <= 2 * unpacked + MIB, "{peak} bytes for {unpacked}");
}

/// Changes, removes and doubles bytes of good files. What comes back may be a table or an error,
/// but no panic, and no more memory than the file allows.
#[test]
fn h_no_changed_byte_panics() {
    let mut rng = Philox::new(20, 0);
    let csv = b"a,\"b\",c\n1,2.5,x\r\n-3e2,NA,\"y\"\"z\"\n4,,\"q, r\"\n".to_vec();
    let seeds = [csv.clone(), gzip(&csv), idx(&[4, 3, 2], 24), gzip(&idx(&[4, 3, 2], 24))];
    for (which, seed) in seeds.iter().enumerate() {
        let mut bytes: Vec<u8> = Vec::new();
        let check = |bytes: &[u8]| {
            let (_, peak, _) = support::counted(|| {
                let table = Csv::new().read(written("fuzz", bytes));
                if let Ok(table) = table {
                    for name in table.names() {
                        let _ = table.numbers_or::<f32>([name], 0.0);
                        let _ = table.classes(name).and_then(|c| table.labels(name, &c));
                    }
                    let _ = table.clone().drop_missing(table.names());
                }
                let _ = Idx::from_bytes(bytes).map(|idx| idx.to_tensor::<f64>());
            });
            assert!(peak <= 2 * bytes.len() + MIB, "{peak} bytes for {bytes:?}");
        };
        for at in 0..seed.len() {
            for value in [0, 1, b'"', b',', b'\n', 0x7f, 0xff, seed[at] ^ 1, seed[at] ^ 0x80] {
                bytes.clone_from(seed);
                bytes[at] = value;
                check(&bytes);
            }
        }
        for _ in 0..2000 {
            bytes.clone_from(seed);
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                match rng.below(4) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, rng.below(256) as u8),
                    2 => bytes[at] = rng.below(256) as u8,
                    _ => bytes.extend_from_within(at..),
                }
            }
            check(&bytes);
        }
        assert!(!bytes.is_empty(), "seed {which}");
    }
}
