//! Steps of networks on one thread and two, whole and cut into shards; and, launched by `mpirun`,
//! on ranks. Everything in one run, in turn, least and median of the steps.
//!
//!     cargo bench --bench shards
//!     cargo bench --features mpi --bench shards --no-run      # prints where the program is
//!     mpirun -n 2 PROGRAM mpi mlp_deep
//!
//! Ranks say, too, what the rows of one take without the others: the rest is communication that no
//! computation hides.

use gradtape::nn::{Activation, Init, Mlp};
use gradtape::optim::Adam;
use gradtape::{ANY, Fetch, Philox, Placeholder, Result, Session, Tape, Tensor};
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
