//! Rows E3, E5 and C5 for data that are read in blocks: adapters, a bounded queue, errors with
//! file and line, and what a chain does and does not do. `tests/memory.rs` has E2.

mod files;

use files::{refused, scratch, written};
use gradtape::data::{CsvRows, NpyRows, Rows};
use gradtape::io::npy::RowWriter;
use gradtape::io::{Classes, Csv, Npy, npy};
use gradtape::{Index, Result, Tensor};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rows (i, 10·i) for i < n, counted as they are read; at `fails` there is an error.
struct Counted {
    n: u64,
    fails: Option<u64>,
    read: Arc<AtomicU64>,
    row: [f64; 2],
}

fn counted(n: u64) -> (Counted, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    (Counted { n, fails: None, read: Arc::clone(&read), row: [0.0; 2] }, read)
}

impl Rows<f64> for Counted {
    fn width(&self) -> usize {
        2
    }

    fn advance(&mut self) -> Result<bool> {
        let i = self.read.load(Ordering::SeqCst);
        if self.fails == Some(i) {
            return Err(gradtape::Error::new(gradtape::ErrorKind::Format, format!("row {i}")));
        }
        if i == self.n {
            return Ok(false);
        }
        self.read.fetch_add(1, Ordering::SeqCst);
        self.row = [i as f64, 10.0 * i as f64];
        Ok(true)
    }

    fn row(&self) -> &[f64] {
        &self.row
    }
}

fn all(mut rows: impl Rows<f64>) -> Result<Vec<Vec<f64>>> {
    let mut all = vec![];
    while rows.advance()? {
        assert_eq!(rows.row().len(), rows.width());
        all.push(rows.row().to_vec());
    }
    assert!(!rows.advance()?, "rows that have ended stay so");
    Ok(all)
}

fn firsts(rows: impl Rows<f64>) -> Result<Vec<u64>> {
    Ok(all(rows)?.iter().map(|row| row[0] as u64).collect())
}

/// A file of `n` rows (i, i + ¼, i + ½).
fn numbers(name: &str, n: usize) -> PathBuf {
    let path = scratch(name);
    let mut writer = RowWriter::create(&path, 3).unwrap();
    for i in 0..n {
        writer.write(&[0.0, 0.25, 0.5].map(|part| i as f32 + part)).unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn e5_a_chain_reads_nothing_before_it_is_asked_and_runs_once_a_row() -> Result<()> {
    let (rows, read) = counted(100);
    let (maps, filters) = (Cell::new(0), Cell::new(0));
    let mut batches = rows
        .map(3, |row, out| {
            maps.set(maps.get() + 1);
            out[..2].copy_from_slice(row);
        })
        .filter(|row| {
            filters.set(filters.get() + 1);
            row[0] % 3.0 == 0.0
        })
        .shuffle(5, 1)
        .batches(4, 1)?;
    assert_eq!((read.load(Ordering::SeqCst), maps.get(), filters.get()), (0, 0, 0));
    let (mut x, mut y) = Default::default();
    assert!(batches.next_into(&mut x, &mut y)?);
    // Of 4 + 5 rows for which the filter holds, the last is the 25th; one place is free again.
    assert_eq!((read.load(Ordering::SeqCst), maps.get(), filters.get()), (22, 22, 22));
    let mut n = 4;
    while batches.next_into(&mut x, &mut y)? {
        n += y.len();
        assert!(y.as_slice().iter().all(|&y| y == 0.0), "a map's row is zeros at first");
        let (first, second) = x.as_slice().split_at(y.len());
        assert!(first.iter().zip(second).all(|(a, b)| 10.0 * a == *b));
    }
    assert_eq!((n, read.load(Ordering::SeqCst), maps.get(), filters.get()), (34, 100, 100, 100));
    Ok(())
}

#[test]
fn a_shuffle_gives_every_row_once_in_an_order_of_its_seed() -> Result<()> {
    let order = |n_rows, seed| firsts(counted(50).0.shuffle(n_rows, seed));
    for n_rows in [0, 1, 2, 7, 49, 50, usize::MAX] {
        let it = order(n_rows, 1)?;
        let mut sorted = it.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>(), "{n_rows}");
        assert_eq!(it, order(n_rows, 1)?);
        assert_eq!(it == order(n_rows, 2)?, n_rows < 2, "{n_rows}");
        // A row comes at most so much early.
        assert!(it.iter().zip(0..).all(|(&row, at)| row < at + n_rows.clamp(1, 50) as u64));
    }
    // Each of the 6 orders of 3 rows is as likely.
    let mut counts = std::collections::HashMap::new();
    for seed in 0..6000 {
        *counts.entry(firsts(counted(3).0.shuffle(3, seed))?).or_insert(0) += 1;
    }
    assert!(counts.len() == 6 && counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
    Ok(())
}

/// A chain that skips what was done gives the rest of what it gave.
#[test]
fn skipping_goes_on_in_the_middle() -> Result<()> {
    let path = numbers("skipped.npy", 20_000);
    let chain = |skip: u64, shuffle: usize| -> Result<Vec<f64>> {
        let rows = NpyRows::<f64>::open(&path)?;
        assert_eq!(rows.n_left(), 20_000);
        let rows = rows.map(1, |row, out| out[0] = row[0] + row[2]);
        let mut rows = rows.shuffle(shuffle, 3).prefetch(64);
        rows.skip(skip)?;
        let mut read = vec![];
        while rows.advance()? {
            read.push(rows.row()[0]);
        }
        Ok(read)
    };
    for shuffle in [1, 100] {
        let whole = chain(0, shuffle)?;
        assert_eq!(whole.len(), 20_000);
        for skip in [1, 64, 9_999, 19_999, 20_000, 30_000] {
            assert_eq!(chain(skip, shuffle)?, whole[(skip as usize).min(20_000)..]);
        }
    }
    // Also in the file itself, from any place in a block.
    for first in [0, 1, 5, 19_999] {
        for skip in [0, 1, 17_000, 19_998, u64::MAX] {
            let mut rows = NpyRows::<f64>::open(&path)?;
            (0..first).for_each(|_| assert!(rows.advance().unwrap()));
            rows.skip(skip)?;
            let left = 20_000_u64.saturating_sub(skip.saturating_add(first));
            assert_eq!((rows.n_left(), rows.advance()?), (left, left > 0));
            if left > 0 {
                assert_eq!(rows.row()[1], (first + skip) as f64 + 0.25);
            }
        }
    }
    Ok(())
}

#[test]
fn e3_a_prefetch_waits_when_it_is_far_enough_ahead_and_ends_after_the_last_row() -> Result<()> {
    for n in [0, 1, 4, 5, 399, 400, 401] {
        for ahead in [0, 1, 4, 100, 1000] {
            let want: Vec<u64> = (0..n).collect();
            assert_eq!(firsts(counted(n).0.prefetch(ahead))?, want, "{n} {ahead}");
        }
    }
    let (rows, read) = counted(10_000);
    let mut rows = rows.prefetch(100);
    assert_eq!(read.load(Ordering::SeqCst), 0, "the thread has not started");
    assert!(rows.advance()?);
    // 4 blocks of 25 rows wait, one is read, one is full and finds no place.
    reads(&read, 150);
    for _ in 0..24 {
        assert!(rows.advance()?);
    }
    reads(&read, 150);
    assert!(rows.advance()?);
    reads(&read, 175);
    drop(rows);
    assert_eq!(Arc::strong_count(&read), 1, "the thread has ended, and with it the reader");
    Ok(())
}

/// Waits until so many rows are read, and sees that no more are.
fn reads(read: &AtomicU64, n: u64) {
    while read.load(Ordering::SeqCst) < n {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(read.load(Ordering::SeqCst), n);
}

#[test]
fn e3_errors_come_after_the_rows_before_them_and_end_the_rows() -> Result<()> {
    for ahead in [1, 10, 1000] {
        let (mut rows, read) = counted(100);
        rows.fails = Some(37);
        let mut rows = rows.prefetch(ahead);
        for _ in 0..37 {
            assert!(rows.advance()?);
        }
        refused(rows.advance(), "row 37");
        assert!(!rows.advance()?);
        assert_eq!(read.load(Ordering::SeqCst), 37);
    }
    let (mut rows, _) = counted(100);
    rows.fails = Some(37);
    let mut shuffled = rows.shuffle(10, 1);
    let mut n = 0;
    let error = loop {
        match shuffled.advance() {
            Ok(true) => n += 1,
            other => break other,
        }
    };
    refused(error, "row 37");
    assert!(n < 37 && !shuffled.advance()?);
    Ok(())
}

#[test]
fn a_panic_on_the_thread_comes_out_where_rows_are_read() {
    let panics = |row: &[f64], _: &mut [f64]| assert!(row[0] < 12.0, "row twelve");
    let mut rows = counted(100).0.map(1, panics).prefetch(10);
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| while rows.advance().unwrap() {}));
    let panic = caught.expect_err("a panic");
    assert_eq!(*panic.downcast::<&str>().unwrap(), "row twelve");
    drop(counted(100).0.map(1, panics).prefetch(10)); // never started
}

#[test]
fn files_of_samples_and_targets_go_side_by_side() -> Result<()> {
    let (samples, labels) = (numbers("samples.npy", 10), scratch("labels.npy"));
    npy::write(&labels, &Tensor::from_fn([10], |at| (at[0] % 3) as u8)?)?;
    let rows = || Ok(NpyRows::<f32>::open(&samples)?.beside(NpyRows::open(&labels)?));
    let mut seen = 0;
    for batch in rows()?.labeled_batches(4, 3)? {
        let batch = batch?;
        for (i, &label) in batch.y.as_slice().iter().enumerate() {
            assert_eq!(label, (seen % 3) as Index);
            for (j, part) in [0.0, 0.25, 0.5].into_iter().enumerate() {
                assert_eq!(batch.x.get(&[i, j]), Some(seen as f32 + part));
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
    let sizes = |drop: bool| -> Result<Vec<usize>> {
        let batches = rows()?.batches(4, 2)?;
        let batches = if drop { batches.drop_partial() } else { batches };
        batches.map(|batch| batch.map(|b| b.y.shape().extents()[0])).collect()
    };
    assert_eq!((sizes(false)?, sizes(true)?), (vec![4, 4, 2], vec![4, 4]));
    refused(rows()?.labeled_batches(4, 2)?.collect::<Result<Vec<_>>>(), "below 2, got 2 in row 2");
    refused(rows()?.labeled_batches(0, 3), "at least 1, got 0");
    refused(rows()?.batches(4, 0), "from 1 to 3 of 4 columns as targets, got 0");
    refused(rows()?.batches(4, 4), "got 4");
    let short = numbers("short.npy", 7);
    let uneven = NpyRows::<f32>::open(&samples)?.beside(NpyRows::open(short)?);
    refused(uneven.batches(4, 1)?.collect::<Result<Vec<_>>>(), "got 7 and more left");
    Ok(())
}

#[test]
fn npy_rows_are_what_the_whole_file_holds() -> Result<()> {
    let path = numbers("whole.npy", 1000);
    let Npy::F32(whole) = Npy::read(&path)? else { panic!("f32") };
    let mut rows = NpyRows::<f32>::open(&path)?;
    for i in 0..1000 {
        assert!(rows.advance()?);
        let want: Vec<_> = (0..3).map(|j| whole.get(&[i, j]).unwrap()).collect();
        assert_eq!(rows.row(), want);
    }
    // Every type and byte order; three axes; one.
    let header = |descr: &str, shape: &str| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
    };
    let file = |descr: &str, shape: &str, bytes: &[u8]| {
        written("typed.npy", &[&header(descr, shape)[..], bytes].concat())
    };
    let read = |path: PathBuf| all(NpyRows::<f64>::open(path)?);
    let bytes = [0, 1, 0, 2, 255, 253];
    assert_eq!(read(file(">i2", "(3,)", &bytes))?, [[1.0], [2.0], [-3.0]]);
    assert_eq!(read(file("<u2", "(1, 3)", &bytes))?, [[256.0, 512.0, 65023.0]]);
    assert_eq!(read(file("|u1", "(1, 3, 2)", &bytes))?, [[0.0, 1.0, 0.0, 2.0, 255.0, 253.0]]);
    assert_eq!(read(file("|b1", "(3, 2)", &bytes))?, [[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]]);
    assert_eq!(read(file("<f8", "(1,)", &(-0.1_f64).to_le_bytes()))?, [[-0.1]]);
    assert_eq!(read(file(">f4", "(1,)", &0.5_f32.to_be_bytes()))?, [[0.5]]);
    assert_eq!(read(file("<i8", "(0, 3)", &[]))?, Vec::<Vec<f64>>::new());

    refused(read(file("<f4", "()", &[0; 4])), "expected an axis of rows");
    refused(read(file("<f4", "(5, 0)", &[])), "expected rows of some numbers");
    refused(read(file("<f4", "(2, 3)", &[0; 23])), "24 bytes, got 23");
    refused(read(file("<f4", "(2, 3)", &[0; 25])), "24 bytes, got 25");
    refused(read(file("|O", "(2,)", &[0; 16])), "Python objects");
    let fortran = scratch("fortran.npy");
    npy::write(&fortran, &Tensor::<f32>::zeros([4, 3])?)?;
    refused(read(fortran), "row-major order, got column-major");
    refused(read(scratch("")), "a directory");

    // A writer that was not finished, and one that is given no whole rows.
    let path = scratch("unfinished.npy");
    let mut writer = RowWriter::create(&path, 2)?;
    writer.write(&[1.0, 2.0, 3.0, 4.0])?;
    refused(writer.write(&[1.0]), "rows of 2 numbers, got 1");
    drop(writer);
    refused(NpyRows::<f64>::open(&path), "0 bytes, got 32");
    refused(RowWriter::<f32>::create(&path, 0), "at least 1");
    Ok(())
}

/// A file that shrinks while it is read.
#[test]
fn npy_rows_of_a_file_that_is_cut_short_meanwhile() -> Result<()> {
    let path = numbers("shrinks.npy", 100_000);
    let mut rows = NpyRows::<f32>::open(&path)?;
    assert!(rows.advance()?);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(300_000).unwrap();
    let error = loop {
        match rows.advance() {
            Ok(true) => {}
            other => break other,
        }
    };
    refused(error, "shrinks.npy: the file is cut short");
    assert!(!rows.advance()?);
    Ok(())
}

#[test]
fn csv_rows_are_those_of_the_table() -> Result<()> {
    let gz = |text: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, text).unwrap();
        packed.finish().unwrap()
    };
    let text = "\u{feff}a, b ,kind\n1,2,x\r\n\r\n\"3\",-4e2,\"y\"\"z\"\n 5 ,6,\"two\nlines\"";
    for (name, bytes) in
        [("plain.csv", text.as_bytes().to_vec()), ("p.csv.gz", gz(text.as_bytes()))]
    {
        let path = written(name, &bytes);
        let table = Csv::new().read(&path)?;
        let classes = table.classes("kind")?;
        let (numbers, labels) =
            (table.numbers::<f64>(["b", "a"])?, table.labels("kind", &classes)?);
        let rows =
            CsvRows::open(Csv::new(), &path, ["b", "a", "kind"])?.classes("kind", classes)?;
        let rows = all(rows)?;
        assert_eq!(rows.len(), 3);
        for (i, row) in rows.iter().enumerate() {
            let at = |j| numbers.get(&[i, j]).unwrap();
            assert_eq!(*row, [at(0), at(1), f64::from(labels.as_slice()[i])]);
        }
    }
    let path = written("bare.csv", b"1;NA;3,5\n4;5;6\n");
    let csv = Csv::new().header(false).delimiter(b';').decimal_comma();
    let rows = CsvRows::open(csv, path, ["2", "1"])?.missing_as(-1.0);
    assert_eq!(all(rows)?, [[3.5, -1.0], [6.0, 5.0]]);
    Ok(())
}

#[test]
fn e3_errors_of_a_text_name_file_and_line() -> Result<()> {
    let read = |text: &[u8]| {
        let path = written("wrong.csv", text);
        all(CsvRows::open(Csv::new(), path, ["a", "b"])?.prefetch(10))
    };
    let long = [b"a,b\n1,\"".to_vec(), vec![b'x'; 17 << 20]].concat();
    for (text, fragment) in [
        (&b"a,b\n1,2\n3,x\n"[..], "wrong.csv, line 3, column \"b\": expected a number, got \"x\""),
        (b"a,b\r1,2\r\r\n\r3,\"4\r\n5\"\r", "wrong.csv, line 5, column \"b\""),
        (b"a,b\n\"1\",2\n3\n", "wrong.csv, line 3: expected 2 fields as in the first line, got 1"),
        (b"a,b\n1,NA\n", "line 2, column \"b\": expected a number, got the missing value"),
        (b"a,b\n1,1e400\n", "line 2, column \"b\": expected a finite number"),
        (b"a,b\n1,\xff\n", "line 2, column \"b\": expected UTF-8"),
        (b"a,b\n1,2\n3,\"4\n5,6\n", "line 3: a quote is never closed"),
        (b"a,b\n1,2\n\0\n3,4\n", "line 3: expected text, got a NUL byte"),
        (b"a,b\n1,2\0\n3,4\n", "line 2: expected text, got a NUL byte"),
        (&long, "line 2: expected records of at most 16777216 bytes"),
        (b"", "an empty file"),
        (b"\n\n", "empty lines"),
        (b"a,c\n1,2\n", "no column \"b\" among a, c"),
        (b"a,b,b\n1,2,3\n", "two columns are named \"b\""),
        (b"\xff\xfea\0", "UTF-16"),
        (b"<html>", "an HTML page"),
        (b"\x1f\x8b\x08\x00", "cut short"),
    ] {
        refused(read(text), fragment);
    }
    assert_eq!(read(b"a,b\n")?, Vec::<Vec<f64>>::new());
    let path = written("fine.csv", b"a,b\n1,2\n");
    let none = Classes::new(["x"])?;
    refused(CsvRows::<f64>::open(Csv::new(), &path, ["a"])?.classes("b", none), "\"b\" is not one");
    Ok(())
}
