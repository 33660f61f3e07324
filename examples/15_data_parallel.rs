//! Data parallelism over threads: however many there are, the weights have the same bits.
//!
//!     cargo run --release --example 15_data_parallel

mod common;

use common::parallel::{Done, Job, Workers};
use common::{Options, Result, Run};
use gradtape::{Scalar, Session};
use serde_json::json;
use std::process::ExitCode;

/// Train with 1, 2, 4 and 8 threads, and compare the hashes of the weights
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    job: Job,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    threads: Vec<usize>,
}

fn main() -> ExitCode {
    common::main(run)
}

/// Threads of this process.
struct Threads<'a> {
    n: usize,
    run: &'a mut Run,
}

impl Workers for Threads<'_> {
    fn hire<T: Scalar>(&mut self, session: Session<T>) -> Result<Session<T>> {
        Ok(session.with_threads(self.n)?)
    }

    fn step<T: Scalar>(&mut self, _: &mut Session<T>, done: Done) -> Result {
        self.run.step(done.loss, ("threads", self.n as f64));
        Ok(())
    }
}

fn run(args: Args) -> Result {
    let mut run = Run::start(&args.options, 0)?;
    let mut hashes: Vec<String> = Vec::new();
    for &n in &args.threads {
        let outcome = args.job.train(args.options.seed, &mut Threads { n, run: &mut run })?;
        let (steps, seconds) = (outcome.losses.len(), outcome.seconds);
        let loss = outcome.losses.last().copied().unwrap_or(f64::NAN);
        let hash = outcome.hash;
        let line = format!("{n} threads: {steps} steps, {seconds:.2} s, loss {loss:.9}, {hash}");
        match args.options.json {
            true => run.say(json!({
                "example": env!("CARGO_BIN_NAME"), "threads": n, "shards": args.job.shards,
                "steps": steps, "seconds": seconds, "final_loss": loss, "weights_sha256": hash,
            }))?,
            false => run.say(line)?,
        }
        hashes.push(hash);
    }
    match hashes.windows(2).find(|pair| pair[0] != pair[1]) {
        Some(pair) => Err(format!("weights differ: {} and {}", pair[0], pair[1]).into()),
        None => Ok(()),
    }
}
