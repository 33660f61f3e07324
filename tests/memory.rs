//! Row E2: training on data several times as large as the memory it may take. The only test of its
//! program, as it counts what all threads allocate.

use gradtape::data::{CsvRows, NpyRows, Rows};
use gradtape::io::{Csv, npy::RowWriter};
use gradtape::optim::Sgd;
use gradtape::{ANY, Philox, Result, Session, Tape, Tensor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor
// unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

const FEATURES: usize = 31;

/// y = Σ ±xⱼ, and rows (x, y) with x in [−1, 1].
fn row(rng: &mut Philox, row: &mut [f32; FEATURES + 1]) {
    row[FEATURES] = 0.0;
    for j in 0..FEATURES {
        row[j] = rng.below(2001) as f32 / 1000.0 - 1.0;
        row[FEATURES] += if j % 2 == 0 { row[j] } else { -row[j] };
    }
}

/// Two epochs of a linear regression, and what they took at most.
fn train<R: Rows<f32> + Send + 'static>(open: impl Fn() -> Result<R>) -> Result<(f32, usize)> {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let tape = Tape::<f32>::new();
    let (x, y) = (tape.placeholder("x", [ANY, FEATURES]), tape.placeholder("y", [ANY, 1]));
    let w = tape.variable("w", Tensor::zeros([FEATURES, 1])?);
    let loss = x.matmul(w).squared_error(y).mean();
    let step = Sgd::new(0.5).minimize(loss)?;
    let mut session = Session::new(&tape)?;
    let (mut xs, mut ys) = Default::default();
    for epoch in 0..2 {
        let mut batches = open()?.shuffle(1000, epoch).prefetch(1000).batches(128, 1)?;
        while batches.next_into(&mut xs, &mut ys)? {
            session.run(step, &[x.feed(&xs), y.feed(&ys)])?;
        }
    }
    let loss = session.run(loss, &[x.feed(&xs), y.feed(&ys)])?.item()?;
    Ok((loss, PEAK.load(Ordering::Relaxed) - before))
}

#[test]
fn e2_training_on_data_larger_than_memory() -> Result<()> {
    // The bound leaves room for 1000 rows to shuffle, 1500 on the way, blocks, batches, the plan.
    const BOUND: usize = 4 << 20;
    let path = |name| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (large_npy, large_csv) = (path("large.npy"), path("large.csv"));
    let (mut rng, mut numbers) = (Philox::new(1, 0), [0.0; FEATURES + 1]);
    let mut writer = RowWriter::create(&large_npy, FEATURES + 1)?;
    for _ in 0..4 * BOUND / size_of_val(&numbers) {
        row(&mut rng, &mut numbers);
        writer.write(&numbers)?;
    }
    writer.finish()?;
    let mut text = (0..=FEATURES).map(|j| format!("c{j}")).collect::<Vec<_>>().join(",") + "\n";
    while text.len() < 4 * BOUND {
        row(&mut rng, &mut numbers);
        let cells = numbers.map(|x| x.to_string());
        writeln!(text, "{}", cells.join(",")).unwrap();
    }
    std::fs::write(&large_csv, &text).unwrap();
    drop(text);

    let (loss, peak) = train(|| NpyRows::open(&large_npy))?;
    assert!(loss < 1e-6 && peak < BOUND, "NPY: loss {loss:.1e}, {peak} bytes");
    let columns = || (0..=FEATURES).map(|j| format!("c{j}"));
    let (loss, peak) = train(|| CsvRows::open(Csv::new(), &large_csv, columns()))?;
    assert!(loss < 1e-6 && peak < BOUND, "CSV: loss {loss:.1e}, {peak} bytes");
    for file in [large_npy, large_csv] {
        assert!(std::fs::metadata(&file).unwrap().len() >= 4 * BOUND as u64);
        std::fs::remove_file(file).unwrap();
    }
    Ok(())
}
