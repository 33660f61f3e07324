//! Data parallelism over processes and machines, with checkpoints: the weights have the bits that
//! `15_data_parallel` has, for any number of ranks.
//!
//!     cargo build --release --features mpi --example mpi_train
//!     mpirun -n 2 target/release/examples/mpi_train --job regression
//!
//! Where MPI outlives the death of a rank (Open MPI 5), those left go on in the same job:
//!
//!     mpirun --with-ft ulfm -n 4 target/release/examples/mpi_train --checkpoint last --survive

mod common;

use common::Result;
use common::parallel::{self, Done, Job, Outcome, Workers};
use gradtape::data::Position;
use gradtape::dist::{Group, Mpi};
use gradtape::{Scalar, Session};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Train one model on all ranks that `mpirun` has started
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    job: Job,
    /// Seed of all that is random: initial weights, shuffles
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of each rank
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// File for checkpoints; if it is there, training goes on from it
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Steps from one checkpoint to the next
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// If ranks die, the others go on from the checkpoint (Open MPI 5, mpirun --with-ft ulfm)
    #[arg(long, requires = "checkpoint")]
    survive: bool,
    /// Each rank keeps its slice of the optimizer's state only
    #[arg(long)]
    shard_state: bool,
    /// Seconds to wait for another rank
    #[arg(long, default_value_t = 60)]
    deadline: u64,
    /// Take a few seconds at most
    #[arg(long)]
    short: bool,
    /// End with one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    common::main(run)
}

/// This rank, with its threads.
struct Ranks<'a> {
    args: &'a Args,
    rank: usize,
    size: usize,
    group: Option<Mpi>,
    resumed: bool,
}

impl Workers for Ranks<'_> {
    fn hire<T: Scalar>(&mut self, session: Session<T>) -> Result<Session<T>> {
        let group = self.group.take().ok_or("one training for each group")?;
        let session = session.with_threads(self.args.threads)?.with_group(group);
        if self.args.shard_state { Ok(session.with_sharded_state()?) } else { Ok(session) }
    }

    fn begin<T: Scalar>(&mut self, session: &mut Session<T>) -> Result<Position> {
        match &self.args.checkpoint {
            Some(path) if path.exists() => {
                self.resumed = true;
                parallel::position(&session.load(path)?)
            }
            _ => Ok(Position::default()),
        }
    }

    fn step<T: Scalar>(&mut self, session: &mut Session<T>, done: Done) -> Result {
        let steps = done.next.epoch * done.batches as u64 + done.next.batch as u64;
        if let Some(path) = &self.args.checkpoint
            && steps.is_multiple_of(self.args.every)
        {
            session.gather_state(0)?;
            if self.rank == 0 {
                session.save(path, &parallel::notes(done.next))?;
            }
        }
        Ok(())
    }

    /// The first rank says what has come out, before any goes.
    fn end<T: Scalar>(&mut self, session: &mut Session<T>, outcome: &Outcome) -> Result {
        let (args, size) = (self.args, self.size);
        let (steps, seconds, hash) = (outcome.losses.len(), outcome.seconds, &outcome.hash);
        let loss = outcome.losses.last().copied();
        match args.json {
            _ if self.rank != 0 => {}
            true => println!(
                "{}",
                json!({
                    "example": env!("CARGO_BIN_NAME"), "ranks": size, "threads": args.threads,
                    "shards": args.job.shards, "resumed": self.resumed, "steps": steps,
                    "seconds": seconds, "final_loss": loss, "weights_sha256": hash,
                })
            ),
            false => println!(
                "{size} ranks: {steps} steps, {seconds:.2} s, loss {:.9}, {hash}",
                loss.unwrap_or(f64::NAN)
            ),
        }
        Ok(session.barrier()?)
    }
}

fn run(args: Args) -> Result {
    let deadline = Duration::from_secs(args.deadline);
    let mut group = Mpi::init()?.with_deadline(deadline);
    loop {
        let (rank, size) = (group.rank(), group.size());
        let mut ranks = Ranks { args: &args, rank, size, group: Some(group), resumed: false };
        let e = match args.job.train(args.seed, &mut ranks) {
            Err(e) if args.survive => e,
            outcome => return outcome.map(drop),
        };
        // Those that are left can only meet when the group that has failed is gone.
        drop(ranks);
        group = match Mpi::survivors(deadline) {
            Ok(Some(survivors)) => survivors,
            Ok(None) => return Err(e),
            Err(why) => return Err(format!("{e}; {why}").into()),
        };
        if group.rank() == 0 {
            eprintln!("{e}: {} of {size} ranks go on", group.size());
        }
    }
}
