//! Models to train, and what their training comes to, whoever does it.
#![allow(dead_code)] // Each test uses its part.

use gradtape::nn::{
    Activation, BatchNorm, Dense, Dropout, Init, Mlp, Rnn, RnnConfig, Sequential, Training,
};
use gradtape::optim::{Adam, Clip};
use gradtape::{
    ANY, Cell, Conv, Element, Expr, Fetch, Index, Philox, Placeholder, Pool, Result, Session,
    Shape, Tape, Tensor,
};
use std::ops::Range;

pub fn normal(shape: impl Into<Shape>, seed: u64) -> Tensor {
    Init::Normal { std: 1.0 }.tensor(shape, &mut Philox::new(seed, 0)).unwrap()
}

pub fn rows_of<E: Element>(x: &Tensor<E>, rows: Range<usize>) -> Tensor<E> {
    let shape = Shape::new(&[&[rows.len()], &x.shape().extents()[1..]].concat()).unwrap();
    let at = |at: &[usize]| x.get(&[&[at[0] + rows.start], &at[1..]].concat()).unwrap();
    Tensor::from_fn(shape, at).unwrap()
}

/// A model to train: a batch of any number of rows, its labels, what is fetched in a step.
pub struct Model {
    pub tape: Tape,
    pub x: Placeholder,
    pub y: Placeholder,
    pub loss: Fetch,
    pub train: Vec<Fetch>,
    row: Vec<usize>,
    classes: Index,
}

impl Model {
    fn shape(&self, rows: usize) -> Shape {
        Shape::new(&[&[rows], self.row.as_slice()].concat()).unwrap()
    }

    pub fn batch(&self, rows: usize, step: u64) -> (Tensor, Tensor<Index>) {
        let mut rng = Philox::new(99, step);
        let labels = (0..rows).map(|_| rng.below(self.classes as u64) as Index).collect();
        (normal(self.shape(rows), 1000 + step), Tensor::vector(labels))
    }

    /// Losses and parameters after some steps.
    pub fn train(&self, session: &mut Session, rows: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let steps = (0..).zip(rows);
        let losses = steps.map(|(step, &rows)| self.step(session, rows, step).unwrap()).collect();
        (losses, session.parameters().to_vec())
    }

    /// The loss of one step, on this session's rows of a batch.
    pub fn step(&self, session: &mut Session, rows: usize, step: u64) -> Result<f64> {
        let (x, y) = self.batch(rows, step);
        let (x, y) = (rows_of(&x, session.rows(rows)), rows_of(&y, session.rows(rows)));
        let feeds = [self.x.feed(&x), self.y.feed_index(&y)];
        session.run((self.loss, self.train.as_slice()), &feeds)?.0.item()
    }
}

/// Rows of the batches: whole ones, a partial last one, fewer than shards, one.
pub const ROWS: [usize; 6] = [64, 64, 13, 5, 1, 32];

pub fn classifier(
    row: &[usize],
    classes: usize,
    record: impl for<'t> FnOnce(&'t Tape, Expr<'t>) -> (Expr<'t>, Vec<Expr<'t>>),
) -> Model {
    let tape = Tape::new();
    let shape = Shape::new(&[&[ANY], row].concat()).unwrap();
    let (x, y) = (tape.placeholder("x", shape), tape.index_placeholder("y", [ANY]));
    let (logits, updates) = record(&tape, x);
    let loss = logits.softmax_cross_entropy(y).mean();
    let train = Adam::new(1e-2).with_clip(Clip::Norm(1.0)).minimize(loss).unwrap();
    let mut fetches = vec![train.into()];
    fetches.extend(updates.into_iter().map(Fetch::from));
    let (x, y, loss) = (x.into(), y.into(), loss.into());
    let (row, classes) = (row.to_vec(), classes as Index);
    Model { tape, x, y, loss, train: fetches, row, classes }
}

pub fn perceptron() -> Model {
    classifier(&[7], 3, |tape, x| {
        let mut rng = Philox::new(1, 0);
        let mlp = Mlp::new(tape, &[7, 16, 3], Activation::Tanh, &mut rng).unwrap();
        (mlp.forward(x), vec![])
    })
}

/// Gradients long enough to travel in three pieces.
pub fn wide_perceptron() -> Model {
    classifier(&[7], 3, |tape, x| {
        let mut rng = Philox::new(1, 0);
        let mlp = Mlp::new(tape, &[7, 300, 300, 300, 3], Activation::Tanh, &mut rng).unwrap();
        (mlp.forward(x), vec![])
    })
}

pub fn batch_normalization_and_dropout() -> Model {
    classifier(&[6], 3, |tape, x| {
        let mut rng = Philox::new(2, 0);
        let mut net = Sequential::new();
        net.push(Dense::new(tape, "a", [6, 12], Activation::Identity, &mut rng).unwrap());
        net.push(BatchNorm::new(tape, "n", 12).unwrap());
        net.push(Activation::Relu);
        net.push(Dropout::new(0.3, &mut rng));
        net.push(Dense::new(tape, "b", [12, 12], Activation::Tanh, &mut rng).unwrap());
        net.push(BatchNorm::new(tape, "m", 12).unwrap());
        net.push(Dense::new(tape, "c", [12, 3], Activation::Identity, &mut rng).unwrap());
        let training = Training::new(tape);
        (net.forward(x, Some(&training)), training.updates())
    })
}

pub fn convolutions() -> Model {
    classifier(&[8, 8, 2], 4, |tape, x| {
        let w = tape.variable("w", normal([3, 3, 2, 5], 3));
        let v = tape.variable("v", normal([4 * 4 * 5, 4], 4));
        let pooled = x.conv2d(w, Conv::same()).relu().max_pool2d(Pool::new([2, 2]));
        (pooled.reshape([ANY, 80]).matmul(v), vec![])
    })
}

pub fn recurrence() -> Model {
    classifier(&[6, 3], 3, |tape, x| {
        let mut rng = Philox::new(4, 0);
        let config =
            RnnConfig { cell: Cell::Lstm, inputs: 3, hidden: 8, n_layers: 1, bidirectional: false };
        let states = Rnn::new(tape, "lstm", config, &mut rng).unwrap().forward(x);
        let out = Dense::new(tape, "out", [8, 3], Activation::Identity, &mut rng).unwrap();
        (out.forward(states.mean_axes(&[1])), vec![])
    })
}
