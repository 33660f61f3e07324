//! What the examples of data parallelism share: two jobs, which any number of workers does to the
//! same bits.

use super::{Result, weights_sha256};
use gradtape::data::{self, Dataset, Position, Standardizer};
use gradtape::io::Csv;
use gradtape::nn::{Activation, Mlp};
use gradtape::optim::{Adam, Sgd};
use gradtape::{
    ANY, Element, Feed, Fetch, Notes, Philox, Placeholder, Scalar, Session, Tape, Tensor,
};
use std::path::PathBuf;
use std::time::Instant;

/// What to train, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct Job {
    /// What to train
    #[arg(long, value_enum, default_value = "mnist")]
    pub job: Kind,
    /// Shards that every batch is cut into: on them the bits depend, and on nothing else
    #[arg(long, default_value_t = 8)]
    pub shards: usize,
    /// Times that all samples are seen; by default 2 of the network, 100 of the regression
    #[arg(long)]
    #[arg(default_value_if("short", "true", "1"))]
    pub epochs: Option<u64>,
    /// Samples in a step
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    /// Train on the first images only
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_if("short", "true", "3000"))]
    pub images: u32,
    /// CSV file of the regression
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/diabetes/diabetes.csv"))]
    pub csv: PathBuf,
    /// Column of the CSV file that is to be predicted
    #[arg(long, default_value = "progression")]
    pub target: String,
    /// Folder with the four IDX files of MNIST, plain or gzipped
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/mnist"))]
    pub mnist: PathBuf,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Linear regression from a CSV file
    Regression,
    /// The network 784-256-128-10 on MNIST
    Mnist,
}

/// Who does it.
pub trait Workers {
    /// Gives a session its threads or its group.
    fn hire<T: Scalar>(&mut self, session: Session<T>) -> Result<Session<T>>;

    /// Before the first step: where to go on, if this is not the beginning.
    fn begin<T: Scalar>(&mut self, _: &mut Session<T>) -> Result<Position> {
        Ok(Position::default())
    }

    /// After each step.
    fn step<T: Scalar>(&mut self, session: &mut Session<T>, done: Done) -> Result;

    /// After the last one.
    fn end<T: Scalar>(&mut self, _: &mut Session<T>, _: &Outcome) -> Result {
        Ok(())
    }
}

/// What a step has done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub loss: f64,
    /// What comes next.
    pub next: Position,
    pub batches: usize,
}

/// What comes out of it.
pub struct Outcome {
    /// The loss of every step.
    pub losses: Vec<f64>,
    pub hash: String,
    pub seconds: f64,
}

impl Job {
    /// Does the job.
    ///
    /// # Errors
    /// Files that are not there or not what they should be; what a session reports.
    pub fn train(&self, seed: u64, workers: &mut impl Workers) -> Result<Outcome> {
        match self.job {
            Kind::Regression => self.regression(seed, workers),
            Kind::Mnist => self.network(seed, workers),
        }
    }

    fn regression(&self, seed: u64, workers: &mut impl Workers) -> Result<Outcome> {
        let table = Csv::new().read(&self.csv)?;
        let features = table.all_except([self.target.as_str()])?;
        let data = Dataset::new(table.numbers(&features)?, table.numbers([self.target.as_str()])?)?;
        let data = data.standardized(&Standardizer::fit(&data.x()?)?)?;

        let tape = Tape::<f64>::new();
        let (x, y) =
            (tape.placeholder("x", [ANY, features.len()]), tape.placeholder("y", [ANY, 1]));
        let w = tape.variable("w", Tensor::zeros([features.len(), 1])?);
        let b = tape.variable("b", 0.0);
        let loss = (x.matmul(w) + b).squared_error(y).mean();
        let step = Sgd::new(0.05).minimize(loss)?;
        let nodes = Nodes { x: x.into(), y: y.into(), loss: loss.into(), step: step.into() };
        self.learn(seed, &tape, data, nodes, |y, value| y.feed(value), workers)
    }

    fn network(&self, seed: u64, workers: &mut impl Workers) -> Result<Outcome> {
        let [train, _] = data::mnist::<f32>(&self.mnist)?;
        let first: Vec<u32> = (0..self.images.min(train.len() as u32)).collect();
        let train = train.subset(&first)?;

        let tape = Tape::<f32>::new();
        let x = tape.placeholder("images", [ANY, 28, 28]);
        let y = tape.index_placeholder("labels", [ANY]);
        let mut rng = Philox::new(seed, 0);
        let model = Mlp::new(&tape, &[784, 256, 128, 10], Activation::Relu, &mut rng)?;
        let loss = model.forward(x.flatten()).softmax_cross_entropy(y).mean();
        let step = Adam::new(1e-3).minimize(loss)?;
        let nodes = Nodes { x: x.into(), y: y.into(), loss: loss.into(), step: step.into() };
        self.learn(seed, &tape, train, nodes, |y, value| y.feed_index(value), workers)
    }

    fn learn<T: Scalar, Y: Element>(
        &self,
        seed: u64,
        tape: &Tape<T>,
        data: Dataset<T, Y>,
        nodes: Nodes,
        feed_y: for<'a> fn(Placeholder, &'a Tensor<Y>) -> Feed<'a, T>,
        workers: &mut impl Workers,
    ) -> Result<Outcome> {
        let mut session = workers.hire(Session::new(tape)?.with_shards(self.shards)?)?;
        let mut batches = data.clone().batches(self.batch)?.shuffle(seed);
        batches.seek(workers.begin(&mut session)?)?;
        let n_batches = batches.n_batches();
        let (mut x, mut y, mut out) = Default::default();
        let mut losses = Vec::new();
        let started = Instant::now();
        let epochs = self.epochs.unwrap_or(match self.job {
            Kind::Regression => 100,
            Kind::Mnist => 2,
        });
        while batches.position().epoch < epochs {
            let Some(rows) = batches.next_rows() else { continue };
            // A rank gathers its own rows of the batch.
            data.gather_into(&rows[session.rows(rows.len())], &mut x, &mut y)?;
            let feeds = [nodes.x.feed(&x), feed_y(nodes.y, &y)];
            session.run_into((nodes.loss, nodes.step), &feeds, &mut out)?;
            let (loss, next) = (out.0.item()?.to_f64(), batches.position());
            losses.push(loss);
            workers.step(&mut session, Done { loss, next, batches: n_batches })?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let outcome = Outcome { losses, hash: weights_sha256(&session)?, seconds };
        workers.end(&mut session, &outcome)?;
        Ok(outcome)
    }
}

/// What is fed and fetched.
struct Nodes {
    x: Placeholder,
    y: Placeholder,
    loss: Fetch,
    step: Fetch,
}

/// The notes of a checkpoint, and what they say.
pub fn notes(next: Position) -> Notes {
    Notes::new().with("position", next)
}

/// Where a checkpoint was made.
pub fn position(notes: &Notes) -> Result<Position> {
    Ok(notes.get("position")?)
}
