//! Row E2: how fast rows of a file become batches and training steps, beside reading the file and
//! doing nothing with it. `cargo bench --bench stream [MiB]`; cold runs need `dd` and a real disk.

use gradtape::data::{CsvRows, NpyRows, Rows};
use gradtape::io::{Csv, npy::RowWriter};
use gradtape::optim::Sgd;
use gradtape::{ANY, Result, Session, Tape, Tensor};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The last column is the target.
const WIDTH: usize = 101;
const BATCH: usize = 1024;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let mib = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(512);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (npy, csv) = (folder.join("stream.npy"), folder.join("stream.csv"));
    write(&npy, &csv, mib << 20)?;
    println!("MB/s, the best of {ROUNDS}, and the share of reading the file only");
    for (kind, is_cold) in [("from the disk", true), ("from the page cache", false)] {
        measure(&format!("NPY {kind}"), &npy, is_cold, || NpyRows::open(&npy))?;
    }
    let columns = || (0..WIDTH).map(|j| j.to_string());
    let rows = || CsvRows::open(Csv::new().header(false), &csv, columns());
    measure("CSV from the page cache", &csv, false, rows)?;
    for file in [npy, csv] {
        std::fs::remove_file(file).expect("a file to remove");
    }
    Ok(())
}

fn measure<R: Rows<f32> + Send + 'static>(
    name: &str,
    file: &Path,
    is_cold: bool,
    open: impl Fn() -> Result<R>,
) -> Result<()> {
    if is_cold && !forget(file) {
        println!("{name}: no `dd iflag=nocache` here");
        return Ok(());
    }
    let tape = Tape::<f32>::new();
    let (x, y) = (tape.placeholder("x", [ANY, WIDTH - 1]), tape.placeholder("y", [ANY, 1]));
    let w = tape.variable("w", Tensor::zeros([WIDTH - 1, 1])?);
    let step = Sgd::new(1e-3).minimize(x.matmul(w).squared_error(y).mean())?;
    let mut session = Session::new(&tape)?;

    let mut seconds = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        // In turn, so that all meet the same neighbors.
        for (what, seconds) in seconds.iter_mut().enumerate() {
            if is_cold {
                forget(file);
            }
            let start = Instant::now();
            match what {
                0 => read(file),
                1 => {
                    let mut rows = open()?;
                    while rows.advance()? {
                        black_box(rows.row());
                    }
                }
                2 => {
                    let (mut xs, mut ys) = Default::default();
                    let mut batches = open()?.prefetch(4 * BATCH).batches(BATCH, 1)?;
                    while batches.next_into(&mut xs, &mut ys)? {
                        black_box((&xs, &ys));
                    }
                }
                _ => {
                    let (mut xs, mut ys) = Default::default();
                    let mut batches = open()?.prefetch(4 * BATCH).batches(BATCH, 1)?;
                    while batches.next_into(&mut xs, &mut ys)? {
                        session.run(step, &[x.feed(&xs), y.feed(&ys)])?;
                    }
                }
            }
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let bytes = std::fs::metadata(file).expect("a file").len() as f64;
    let speeds =
        seconds.map(|seconds| bytes / seconds.into_iter().fold(f64::INFINITY, f64::min) / 1e6);
    println!("{name}");
    for (what, speed) in ["reading only", "rows", "batches", "linear regression"].iter().zip(speeds)
    {
        println!("  {what:<20}{speed:>8.0}{:>8.2}", speed / speeds[0]);
    }
    Ok(())
}

fn read(file: &Path) {
    let mut file = File::open(file).expect("a file");
    let mut buffer = vec![0; 1 << 18];
    while file.read(&mut buffer).expect("bytes") > 0 {
        black_box(&buffer);
    }
}

/// Takes the file out of the page cache; false if nothing here can.
fn forget(file: &Path) -> bool {
    let file = format!("if={}", file.display());
    let mut dd = Command::new("dd");
    dd.args([&file, "iflag=nocache", "count=0"]).stderr(Stdio::null());
    dd.status().is_ok_and(|status| status.success())
}

fn write(npy: &Path, csv: &Path, bytes: usize) -> Result<()> {
    let mut row = [0.0; WIDTH];
    let mut draw = 0u32;
    let mut next = || {
        draw = draw.wrapping_mul(1664525).wrapping_add(1013904223);
        (draw >> 8) as f32 / 8388608.0 - 1.0
    };
    let mut writer = RowWriter::create(npy, WIDTH)?;
    for _ in 0..bytes / size_of_val(&row) {
        row.fill_with(&mut next);
        writer.write(&row)?;
    }
    writer.finish()?;
    // Texts are slow enough to measure on an eighth.
    let mut text = std::io::BufWriter::new(File::create(csv).expect("a file"));
    let mut written = 0;
    while written < bytes / 8 {
        row.fill_with(&mut next);
        let line = row.map(|x| x.to_string()).join(",");
        writeln!(text, "{line}").expect("a line");
        written += line.len() + 1;
    }
    text.flush().expect("a text");
    // Only pages that are on the disk can be forgotten.
    File::open(npy).and_then(|file| file.sync_all()).expect("a disk");
    Ok(())
}
