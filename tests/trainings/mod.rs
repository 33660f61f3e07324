//! A training with everything that has state: dropout by a counter, running statistics, Adam's
//! moments, shuffled batches of which the last is smaller.

use gradtape::data::{Batches, Dataset};
use gradtape::nn::{Activation, BatchNorm, Dense, Dropout, Sequential, Training};
use gradtape::optim::Adam;
use gradtape::{
    ANY, Fetch, Index, IndexExpr, Notes, Philox, Placeholder, Result, Session, Tape, Tensor,
};

pub struct Trainer {
    pub session: Session<f32>,
    batches: Batches<f32, Index>,
    x: Placeholder,
    y: Placeholder,
    train: Fetch,
    updates: Vec<Fetch>,
}

impl Trainer {
    pub fn new() -> Result<Self> {
        let (tape, mut rng) = (Tape::<f32>::new(), Philox::new(3, 0));
        let x = tape.placeholder("x", [ANY, 4]);
        let y: IndexExpr<f32> = tape.index_placeholder("y", [ANY]);
        let mut model = Sequential::new();
        model.push(Dense::new(&tape, "hidden", [4, 8], Activation::Relu, &mut rng)?);
        model.push(BatchNorm::new(&tape, "norm", 8)?);
        model.push(Dropout::new(0.25, &mut rng));
        model.push(Dense::new(&tape, "out", [8, 3], Activation::Identity, &mut rng)?);
        let training = Training::new(&tape);
        let loss = model.forward(x, Some(&training)).softmax_cross_entropy(y).mean();
        let train = Adam::new(1e-2).minimize(loss)?;

        let samples = Tensor::from_fn([53, 4], |_| rng.below(1000) as f32 / 500.0 - 1.0)?;
        let labels = Tensor::from_fn([53], |_| rng.below(3) as Index)?;
        Ok(Trainer {
            session: Session::new(&tape)?,
            batches: Dataset::new(samples, labels)?.batches(8)?.shuffle(5),
            x: x.into(),
            y: y.into(),
            train: train.into(),
            updates: training.updates().into_iter().map(Fetch::from).collect(),
        })
    }

    /// Takes `n` steps.
    pub fn run(&mut self, n: u64) -> Result<()> {
        let (mut x, mut y) = Default::default();
        for _ in 0..n {
            while !self.batches.next_into(&mut x, &mut y)? {}
            let feeds = [self.x.feed(&x), self.y.feed_index(&y)];
            self.session.run((self.train, &self.updates), &feeds)?;
        }
        Ok(())
    }

    /// The steps taken, those before it was resumed among them.
    pub fn steps(&self) -> u64 {
        self.session.steps(self.train).unwrap()
    }

    pub fn notes(&self) -> Notes {
        Notes::new().with("position", self.batches.position())
    }

    /// Goes on where these notes were taken.
    pub fn resume(&mut self, notes: &Notes) -> Result<()> {
        self.batches.seek(notes.get("position")?)
    }

    /// The bits of all variables.
    pub fn bits(&self) -> Vec<u32> {
        self.session.parameters().iter().map(|w| w.to_bits()).collect()
    }
}
