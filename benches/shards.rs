//! Steps of networks on one thread and two, whole and cut into shards; and, launched by `mpirun`,
//! on ranks. Everything in one run, in turn, least and median of the steps.
//!
//!     cargo bench --bench shards
//!     cargo bench --features mpi --bench shards --no-run      # prints where the program is
//!     mpirun -n 2 PROGRAM mpi mlp_deep
//!
//! Threads also say what it takes to add up two gradients of 4 MB, beside a plain loop on as many
//! threads, and a step of a full-batch linear regression beside reading X once:
//! `cargo bench --bench shards -- memory`.
//!
//! Ranks say, too, what the rows of one take without the others: the rest is communication that no
//! computation hides.

use gradtape::nn::{Activation, Init, Mlp};
use gradtape::optim::{Adam, Sgd};
use gradtape::{ANY, Fetch, Philox, Placeholder, Result, Session, Stage, Tape, Tensor};
use std::sync::Barrier;
use std::time::Instant;

/// Name, extents of the layers, rows of a batch, steps.
const NETWORKS: [(&str, &[usize], usize, usize); 4] = [
    ("mlp_small", &[4, 16, 3], 16, 20_000),
    ("mlp_mnist", &[784, 256, 128, 10], 128, 600),
    ("mlp_large", &[1024, 2048, 2048, 1024], 512, 12),
    ("mlp_deep", &[1024; 13], 2048, 5),
];

fn main() -> Result<()> {
    if std::env::args().any(|arg| arg == "mpi") {
        return ranks();
    }
    averaging()?;
    reading()?;
    if std::env::args().any(|arg| arg == "memory") {
        return Ok(());
    }
    println!("{:<10} {:>10} {:>10} {:>10}", "", "threads", "shards", "µs a step (least)");
    for (name, extents, rows, steps) in NETWORKS.into_iter().filter(|n| n.0 != "mlp_deep") {
        let network = Network::new(extents, rows)?;
        let mut one = f64::NAN;
        for (threads, shards) in [(1, 1), (2, 1), (1, 2), (2, 2), (1, 8), (2, 8)] {
            let session = Session::new(&network.tape)?.with_threads(threads)?;
            let (median, least) = network.time(session.with_shards(shards)?, steps)?;
            if (threads, shards) == (1, 1) {
                one = median;
            }
            let speed = one / median;
            println!(
                "{name:<10} {threads:>10} {shards:>10} {median:>10.1} ({least:.1}) {speed:>6.2}×"
            );
        }
    }
    Ok(())
}

/// How long the partial gradients of two shards, 4 MB each, take to meet in a step of two threads,
/// from a trace; and how long a loop c = a + b does on two threads, over arrays of that size, which
/// each thread finds in its own cache, and over such as no cache holds.
fn averaging() -> Result<()> {
    const N: usize = 1 << 20;
    const STEPS: usize = 200;
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, N / 64]);
    let w = tape.variable("w", Tensor::full([N / 64, 64], 0.01)?);
    let train = Adam::new(1e-4).minimize(x.matmul(w).square().mean())?;
    let mut session = Session::new(&tape)?.with_shards(2)?.with_threads(2)?;
    let rows = Tensor::full([32, N / 64], 0.1)?;
    let mut rates = [const { Vec::new() }; 3];
    let mut arrays = [N, 16 * N].map(|n| [1.0, 2.0, 0.0].map(|x| vec![x; n]));
    for _ in 0..STEPS {
        let (_, trace) = session.trace(train, &[x.feed(&rows)])?;
        let met = trace.events.iter().find(|event| event.stage == Stage::Combine);
        rates[0].push(12.0 * N as f64 / met.map_or(f64::NAN, |event| event.ns as f64));
        for (rates, arrays) in rates[1..].iter_mut().zip(&mut arrays) {
            rates.push(12.0 * arrays[0].len() as f64 / added(arrays));
        }
    }
    let [small, large] = ["c = a + b of 4 MB", "c = a + b of 64 MB"];
    for (what, rates) in ["gradients of 4 MB meet", small, large].iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let (median, most) = (rates[STEPS / 2], rates[STEPS - 1]);
        println!("{what:<32} {median:>10.1} GB/s (at most {most:.1})");
    }
    Ok(())
}

/// A step of `linreg_gd` (10⁵ rows of 100) beside reading X once, in turns.
fn reading() -> Result<()> {
    const STEPS: usize = 150;
    let (n, p) = (100_000, 100);
    let tape = Tape::<f32>::new();
    let (x, y) = (tape.placeholder("x", [ANY, p]), tape.placeholder("y", [ANY]));
    let w = tape.variable("w", Tensor::zeros([p])?);
    let train = Sgd::new(0.1).minimize((x.matmul(w) - y).square().mean())?;
    let normal = Init::Normal { std: 1.0 };
    let xs: Tensor<f32> = normal.tensor([n, p], &mut Philox::new(3, 0))?;
    let ys: Tensor<f32> = normal.tensor([n], &mut Philox::new(4, 0))?;
    for (threads, shards) in [(1, 1), (1, 8), (2, 1), (2, 8)] {
        let session = Session::new(&tape)?.with_threads(threads)?;
        let mut session = session.with_shards(shards)?;
        let mut ratios = Vec::new();
        let (mut steps, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..STEPS {
            let start = Instant::now();
            session.run(train, &[x.feed(&xs), y.feed(&ys)])?;
            let step = start.elapsed().as_secs_f64() * 1e6;
            let read = read(xs.as_slice(), threads);
            ratios.push(step / read);
            steps.push(step);
            reads.push(read);
        }
        for all in [&mut ratios, &mut steps, &mut reads] {
            all.sort_by(f64::total_cmp);
        }
        let m = STEPS / 2;
        println!(
            "linreg_gd {threads:>2} threads {shards} shards {:>8.0} µs ({:.0}), X read in {:.0} \
             ({:.0}), ratio {:.2}",
            steps[m], steps[0], reads[m], reads[0], ratios[m]
        );
    }
    Ok(())
}

/// The microseconds that so many threads take to read all of it.
fn read(x: &[f32], threads: usize) -> f64 {
    let go = &Barrier::new(threads);
    let times: Vec<f64> = std::thread::scope(|scope| {
        let sum = |x: &[f32]| {
            go.wait();
            let start = Instant::now();
            let mut lanes = [0f32; 64];
            for x in x.as_chunks::<64>().0 {
                lanes.iter_mut().zip(x).for_each(|(lane, x)| *lane += x);
            }
            std::hint::black_box(lanes);
            start.elapsed().as_secs_f64() * 1e6
        };
        let parts = x.chunks(x.len().div_ceil(threads));
        let threads: Vec<_> = parts.map(|x| scope.spawn(move || sum(x))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    times.into_iter().fold(0.0, f64::max)
}

/// The nanoseconds that c = a + b takes on two threads, after each has touched its halves.
fn added([a, b, c]: &mut [Vec<f32>; 3]) -> f64 {
    let (half, go) = (a.len() / 2, &Barrier::new(2));
    let halves = a.chunks_mut(half).zip(b.chunks_mut(half)).zip(c.chunks_mut(half));
    let times: Vec<f64> = std::thread::scope(|threads| {
        let add = |a: &mut [f32], b: &mut [f32], c: &mut [f32]| {
            a.fill(1.0);
            b.fill(2.0);
            go.wait();
            let start = Instant::now();
            c.iter_mut().zip(&*a).zip(&*b).for_each(|((c, a), b)| *c = a + b);
            let ns = start.elapsed().as_nanos() as f64;
            std::hint::black_box(c);
            ns
        };
        let threads: Vec<_> =
            halves.map(|((a, b), c)| threads.spawn(move || add(a, b, c))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    times.into_iter().fold(0.0, f64::max)
}

/// The same on the ranks of this job, a shard each.
#[cfg(feature = "mpi")]
fn ranks() -> Result<()> {
    use gradtape::dist::{Group, Mpi};
    let group = Mpi::init()?;
    let (rank, size) = (group.rank(), group.size());
    let name = std::env::args().find(|arg| NETWORKS.iter().any(|n| n.0 == *arg));
    let name = name.unwrap_or_else(|| "mlp_large".to_string());
    let Some((_, extents, rows, steps)) = NETWORKS.into_iter().find(|n| n.0 == name) else {
        return Ok(());
    };
    let own = Network::new(extents, rows / size)?;
    let alone = own.time(Session::new(&own.tape)?, steps)?;
    let network = Network::new(extents, rows)?;
    let session = Session::new(&network.tape)?.with_shards(size)?.with_group(group);
    let together = network.time(session, steps)?;
    if rank == 0 {
        for (what, (median, least)) in [("alone", alone), ("together", together)] {
            println!("{name:<10} {size:>3} ranks {what:<10} {median:>10.1} ({least:.1})");
        }
    }
    Ok(())
}

#[cfg(not(feature = "mpi"))]
fn ranks() -> Result<()> {
    eprintln!("expected the feature mpi");
    std::process::exit(2);
}

struct Network {
    tape: Tape<f32>,
    feeds: [Placeholder; 2],
    outputs: usize,
    inputs: usize,
    rows: usize,
    fetches: [Fetch; 2],
}

impl Network {
    fn new(extents: &[usize], rows: usize) -> Result<Self> {
        let (inputs, outputs) = (extents[0], extents[extents.len() - 1]);
        let tape = Tape::<f32>::new();
        let x = tape.placeholder("x", [ANY, inputs]);
        let y = tape.placeholder("y", [ANY, outputs]);
        let model = Mlp::new(&tape, extents, Activation::Relu, &mut Philox::new(1, 0))?;
        let loss = model.forward(x).squared_error(y).mean();
        let train = Adam::new(1e-4).minimize(loss)?;
        let (feeds, fetches) = ([x.into(), y.into()], [loss.into(), train.into()]);
        Ok(Network { tape, feeds, outputs, inputs, rows, fetches })
    }

    /// Median and least microseconds of a step.
    fn time(&self, mut session: Session<f32>, steps: usize) -> Result<(f64, f64)> {
        let rows = session.rows(self.rows).len();
        let mut rng = Philox::new(2, 0);
        let normal = Init::Normal { std: 1.0 };
        let x: Tensor<f32> = normal.tensor([rows, self.inputs], &mut rng)?;
        let y: Tensor<f32> = normal.tensor([rows, self.outputs], &mut rng)?;
        let feeds = [self.feeds[0].feed(&x), self.feeds[1].feed(&y)];
        let (mut times, mut out) = (Vec::with_capacity(steps), Vec::new());
        for step in 0..steps + steps / 10 + 2 {
            let start = Instant::now();
            session.run_into(&self.fetches[..], &feeds, &mut out)?;
            if step >= steps / 10 + 2 {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        times.sort_by(f64::total_cmp);
        Ok((times[times.len() / 2], times[0]))
    }
}
