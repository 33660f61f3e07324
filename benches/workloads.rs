//! Training workloads of the peers' benchmark: same data, initial values, losses and optimizers to
//! the letter, and the same JSON line, so that ours and a peer's can be run side by side.
//!
//!     cargo bench --bench workloads -- --workload mlp_mnist --seconds 3

use gradtape::optim::{Adam, Sgd};
use gradtape::{ANY, Expr, Fetch, Index, Placeholder, Result, Session, Tape, Tensor};
use std::time::Instant;

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The peers' stream `k`: 24-bit integers.
fn integers(k: u64, n: usize) -> Vec<i64> {
    let seed = mix64(0x6772_6164_7461_7065 + k);
    let word = |i: u64| mix64(seed.wrapping_add(i.wrapping_mul(GAMMA)));
    (1..=n as u64).map(|i| (word(i) >> 40) as i64).collect()
}

fn reals(u: &[i64]) -> Vec<f32> {
    u.iter().map(|&u| (u - (1 << 23)) as f32 * 2f32.powi(-23)).collect()
}

/// Initial weights of parameter number `p`, with the peers' bound for this fan-in.
fn weights(p: u64, shape: [usize; 2]) -> Result<Tensor<f32>> {
    let bound = (3.0 / shape[0] as f64).sqrt() as f32;
    let rows = reals(&integers(100 + p, shape[0] * shape[1]));
    Tensor::from_rows(shape, &rows.iter().map(|r| bound * r).collect::<Vec<_>>())
}

/// A tape with its train op and its batches. Handles carry no lifetime, so it owns all it needs.
struct Workload {
    tape: Tape<f32>,
    loss: Fetch,
    train: Fetch,
    x: Placeholder,
    y: Placeholder,
    batches: Vec<(Tensor<f32>, Tensor<Index>)>,
}

/// A classifier of these layers on eight batches whose label is the block of features with the
/// largest sum.
fn classifier(layers: &[usize], batch: usize, tanh: bool, use_adam: bool) -> Result<Workload> {
    let (features, classes) = (layers[0], layers[layers.len() - 1]);
    let block = features / classes;
    let all = integers(1, batch * 8 * features);
    let label = |row: &[i64]| {
        let sums: Vec<i64> = row.chunks(block).take(classes).map(|b| b.iter().sum()).collect();
        (0..classes).rev().max_by_key(|&c| sums[c]).unwrap_or(0) as Index
    };
    let mut batches = Vec::new();
    for rows in all.chunks(batch * features) {
        let y = rows.chunks(features).map(label).collect();
        batches.push((Tensor::from_rows([batch, features], &reals(rows))?, Tensor::vector(y)));
    }

    let tape = Tape::<f32>::new();
    let (x, y, loss, train) = {
        let x = tape.placeholder("x", [ANY, features]);
        let y = tape.index_placeholder("y", [ANY]);
        let mut h = x;
        for (layer, io) in layers.windows(2).enumerate() {
            let w = tape.variable("w", weights(2 * layer as u64, [io[0], io[1]])?);
            let z = h.matmul(w) + tape.variable("b", Tensor::zeros([io[1]])?);
            let last = layer + 2 == layers.len();
            h = if last {
                z
            } else if tanh {
                z.tanh()
            } else {
                z.relu()
            };
        }
        let loss: Expr<'_, f32> = h.softmax_cross_entropy(y).mean();
        let train = match use_adam {
            true => Adam::new(1e-3).minimize(loss)?,
            false => Sgd::new(0.1).minimize(loss)?,
        };
        (x.into(), y.into(), loss.into(), train.into())
    };
    Ok(Workload { tape, loss, train, x, y, batches })
}

impl Workload {
    fn of(name: &str) -> Result<Option<Workload>> {
        Ok(Some(match name {
            "logreg_mnist" => classifier(&[784, 10], 128, false, false)?,
            "mlp_mnist" => classifier(&[784, 256, 128, 10], 128, false, true)?,
            "mlp_small" => classifier(&[4, 16, 3], 16, true, true)?,
            _ => return Ok(None),
        }))
    }

    /// Steps `from` to `from + n`, and the loss of the last.
    fn steps(&self, session: &mut Session<f32>, from: usize, n: usize) -> Result<f32> {
        let mut out = Default::default();
        for i in from..from + n {
            let (x, y) = &self.batches[i % self.batches.len()];
            let feeds = [self.x.feed(x), self.y.feed_index(y)];
            session.run_into((self.loss, self.train), &feeds, &mut out)?;
        }
        out.0.item()
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| Some(args[args.iter().position(|a| a == name)? + 1].clone());
    let seconds: f64 = option("--seconds").and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let names = match option("--workload") {
        Some(name) => vec![name],
        None => ["logreg_mnist", "mlp_mnist", "mlp_small"].map(String::from).to_vec(),
    };
    for name in names {
        let Some(work) = Workload::of(&name)? else {
            eprintln!("no workload {name}");
            std::process::exit(2);
        };
        let (k, mut session) = (50, Session::new(&work.tape)?);
        let first = work.steps(&mut session, 0, 1)?;
        let last = work.steps(&mut session, 1, k - 1)?;
        if args.iter().any(|a| a == "--report") {
            let (x, y) = &work.batches[0];
            let feeds = [work.x.feed(x), work.y.feed_index(y)];
            println!("{}", session.report((work.loss, work.train), &feeds)?);
        }

        // Chunks of some milliseconds; fresh weights every 200 steps, as the peers do.
        let mut session = Session::new(&work.tape)?;
        work.steps(&mut session, 0, 3)?;
        let start = Instant::now();
        work.steps(&mut session, 3, 3)?;
        let chunk =
            (5e-3 / (start.elapsed().as_secs_f64() / 3.0)).ceil().clamp(1.0, 100.0) as usize;
        let (mut times, mut i, start) = (Vec::new(), 200, Instant::now());
        while start.elapsed().as_secs_f64() < seconds || times.len() < 15 {
            if i + chunk > 200 {
                session = Session::new(&work.tape)?;
                i = chunk.clamp(2, 10);
                work.steps(&mut session, 0, i)?;
            }
            let begin = Instant::now();
            work.steps(&mut session, i, chunk)?;
            times.push(begin.elapsed().as_secs_f64() * 1e6 / chunk as f64);
            i += chunk;
        }
        times.sort_by(f64::total_cmp);
        let (median, min, max) = (times[times.len() / 2], times[0], times[times.len() - 1]);
        println!(
            "{{\"peer\": \"gradtape\", \"workload\": \"{name}\", \"threads\": 1, \"us_median\": {median:.3}, \
             \"us_min\": {min:.3}, \"us_max\": {max:.3}, \"loss1\": {first}, \"lossK\": {last}, \"K\": {k}}}"
        );
    }
    Ok(())
}
