//! The workloads: what is recorded, what is fed, what a step fetches.

use crate::data::{self, DIRECTIONS, INPUTS, TARGETS};
use crate::{images, sequences};
use gradtape::optim::{Adam, Sgd};
use gradtape::{ANY, Cell, Expr, Feed, Fetch, Index, Placeholder, Result, Tape, Tensor};

pub const NAMES: [&str; 13] = [
    "linreg_gd",
    "logreg_mnist",
    "mlp_mnist",
    "mlp_small",
    "mlp_large",
    "hvp",
    "elementwise_1e6",
    "elementwise_1e4",
    "scalar_graph",
    "lenet",
    "cnn_cifar",
    "lstm_char",
    "gru_char",
];

/// A tape with what a step fetches and feeds. Handles carry no lifetime, so it owns all it needs.
pub struct Workload {
    pub tape: Tape<f32>,
    /// The loss and then what else a step makes; of `hvp` the products.
    pub fetches: Vec<Fetch>,
    /// The step whose loss is `lossK`.
    pub k: usize,
    /// Whether steps change the variables.
    pub trains: bool,
    pub inputs: Vec<Placeholder>,
    pub batches: Vec<Vec<Value>>,
    /// Of `hvp`: what its products are dotted with for a loss.
    pub directions: Vec<Tensor<f32>>,
}

type Activation = for<'t> fn(Expr<'t, f32>) -> Expr<'t, f32>;
const RELU: Activation = |h| h.relu();
const TANH: Activation = |h| h.tanh();

/// What is fed.
pub enum Value {
    Float(Tensor<f32>),
    Index(Tensor<Index>),
}

impl Value {
    fn feed<'a>((to, value): (&Placeholder, &'a Value)) -> Feed<'a, f32> {
        match value {
            Value::Float(x) => to.feed(x),
            Value::Index(x) => to.feed_index(x),
        }
    }
}

impl Workload {
    /// # Errors
    /// Only faults of the recording; `None` for a name that is none of [`NAMES`].
    pub fn of(name: &str) -> Result<Option<Workload>> {
        const MNIST: [usize; 4] = [784, 256, 128, 10];
        Ok(Some(match name {
            "linreg_gd" => linreg(100_000, 100)?,
            "logreg_mnist" => classifier(&[784, 10], 128, RELU, |l| Sgd::new(0.1).minimize(l))?,
            "mlp_mnist" => classifier(&MNIST, 128, RELU, |l| Adam::new(1e-3).minimize(l))?,
            "mlp_small" => classifier(&[4, 16, 3], 16, TANH, |l| Adam::new(1e-3).minimize(l))?,
            "mlp_large" => regressor(&[1024, 2048, 2048, 1024], 512)?,
            "hvp" => hvp(&MNIST, 128)?,
            "elementwise_1e6" => elementwise(1_000_000)?,
            "elementwise_1e4" => elementwise(10_000)?,
            "scalar_graph" => scalar_graph()?,
            "lenet" => images::lenet()?,
            "cnn_cifar" => images::cifar()?,
            "lstm_char" => sequences::characters(Cell::Lstm)?,
            "gru_char" => sequences::characters(Cell::Gru)?,
            _ => return Ok(None),
        }))
    }

    /// What the steps feed, batch after batch.
    pub fn feeds(&self) -> Vec<Vec<Feed<'_, f32>>> {
        let feeds = |batch| self.inputs.iter().zip(batch).map(Value::feed).collect();
        self.batches.iter().map(feeds).collect()
    }

    /// The loss that a step fetched.
    pub fn loss(&self, out: &[Tensor<f32>]) -> Result<f64> {
        match self.directions[..] {
            [] => Ok(f64::from(out[0].item()?)),
            _ => Ok(self.directions.iter().zip(out).map(|(v, hv)| dot(v, hv)).sum()),
        }
    }

    /// Σ |dx| of an elementwise workload.
    pub fn gradient_sum(&self, out: &[Tensor<f32>]) -> Option<f64> {
        let gradient = out.get(1).filter(|g| !self.trains && g.len() > 1)?;
        let sum = gradient.as_slice().iter().map(|&g| f64::from(g).abs()).sum();
        self.directions.is_empty().then_some(sum)
    }
}

fn dot(a: &Tensor<f32>, b: &Tensor<f32>) -> f64 {
    a.as_slice().iter().zip(b.as_slice()).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The parameters of a workload in the order of their numbers.
pub struct Parameters<'t> {
    tape: &'t Tape<f32>,
    pub all: Vec<Expr<'t, f32>>,
}

impl<'t> Parameters<'t> {
    pub fn new(tape: &'t Tape<f32>) -> Self {
        Parameters { tape, all: Vec::new() }
    }

    /// Weights, and a bias of zeros for each output, their last axis.
    pub fn next(&mut self, shape: &[usize]) -> Result<[Expr<'t, f32>; 2]> {
        let weights = data::weights(self.all.len() as u64, shape)?;
        let w = self.tape.variable("w", weights);
        let b = self.tape.variable("b", Tensor::zeros([shape[shape.len() - 1]])?);
        self.all.extend([w, b]);
        Ok([w, b])
    }

    /// A dense layer over all axes but the batch, whose extents are the first of `shape`.
    pub fn dense(&mut self, x: Expr<'t, f32>, shape: &[usize]) -> Result<Expr<'t, f32>> {
        let [w, b] = self.next(shape)?;
        let [inputs @ .., outputs] = shape else { return Ok(x) };
        Ok(x.flatten().matmul(w.reshape([inputs.iter().product(), *outputs])) + b)
    }
}

/// Dense layers with an activation between them, and their variables.
fn dense<'t>(
    tape: &'t Tape<f32>,
    x: Expr<'t, f32>,
    layers: &[usize],
    activation: Activation,
) -> Result<(Expr<'t, f32>, Vec<Expr<'t, f32>>)> {
    let (mut h, mut parameters) = (x, Parameters::new(tape));
    for (layer, io) in layers.windows(2).enumerate() {
        if layer > 0 {
            h = activation(h);
        }
        h = parameters.dense(h, io)?;
    }
    Ok((h, parameters.all))
}

/// Batches of inputs of this shape, each with the class of every row.
pub fn labeled(
    shape: &[usize],
    classes: usize,
    rows: usize,
    n_batches: usize,
) -> Result<Vec<Vec<Value>>> {
    let features = shape.iter().product::<usize>();
    let batch = |b| {
        let x = data::reals(INPUTS, b * rows * features, 1.0, &[&[rows], shape].concat())?;
        Ok(vec![Value::Float(x), Value::Index(data::labels(b, rows, features, classes))])
    };
    (0..n_batches).map(batch).collect()
}

fn classifier(
    layers: &[usize],
    rows: usize,
    activation: Activation,
    minimize: for<'t> fn(Expr<'t, f32>) -> Result<Expr<'t, f32>>,
) -> Result<Workload> {
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, layers[0]]);
    let y = tape.index_placeholder("y", [ANY]);
    let loss = dense(&tape, x, layers, activation)?.0.softmax_cross_entropy(y).mean();
    let fetches = vec![loss.into(), minimize(loss)?.into()];
    let classes = layers[layers.len() - 1];
    let batches = labeled(&layers[..1], classes, rows, 8)?;
    let inputs = vec![x.into(), y.into()];
    Ok(Workload { fetches, k: 50, trains: true, inputs, batches, directions: vec![], tape })
}

fn regressor(layers: &[usize], rows: usize) -> Result<Workload> {
    let (features, outputs) = (layers[0], layers[layers.len() - 1]);
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, features]);
    let y = tape.placeholder("y", [ANY, outputs]);
    let loss = (dense(&tape, x, layers, RELU)?.0 - y).square().mean();
    let fetches = vec![loss.into(), Adam::new(1e-3).minimize(loss)?.into()];
    let inputs = vec![x.into(), y.into()];
    let batch = |b| {
        let x = data::reals(INPUTS, b * rows * features, 1.0, &[rows, features])?;
        let y = data::reals(TARGETS, b * rows * outputs, 1.0, &[rows, outputs])?;
        Ok(vec![Value::Float(x), Value::Float(y)])
    };
    let batches = (0..4).map(batch).collect::<Result<_>>()?;
    Ok(Workload { fetches, k: 10, trains: true, inputs, batches, directions: vec![], tape })
}

fn linreg(rows: usize, features: usize) -> Result<Workload> {
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, features]);
    let y = tape.placeholder("y", [ANY]);
    let w = tape.variable("w", Tensor::zeros([features])?);
    let loss = (x.matmul(w) - y).square().mean();
    let fetches = vec![loss.into(), Sgd::new(0.1).minimize(loss)?.into()];
    let inputs = vec![x.into(), y.into()];
    let batch = vec![
        Value::Float(data::reals(INPUTS, 0, 1.0, &[rows, features])?),
        Value::Float(data::linear_targets(rows, features)),
    ];
    let batches = vec![batch];
    Ok(Workload { fetches, k: 50, trains: true, inputs, batches, directions: vec![], tape })
}

/// Hessian-vector products at the initial parameters, forward over reverse.
fn hvp(layers: &[usize], rows: usize) -> Result<Workload> {
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, layers[0]]);
    let y = tape.index_placeholder("y", [ANY]);
    let (z, parameters) = dense(&tape, x, layers, RELU)?;
    let direction = |(p, w): (usize, &Expr<'_, f32>)| {
        data::reals(DIRECTIONS + p as u64, 0, 1.0, w.shape().extents())
    };
    let directions = parameters.iter().enumerate().map(direction).collect::<Result<Vec<_>>>()?;
    let along = directions.iter().map(|v| tape.constant(v.clone()));
    let vectors: Vec<_> = parameters.into_iter().zip(along).collect();
    let loss = z.softmax_cross_entropy(y).mean();
    let products = tape.hessian_vector_product(loss, &vectors)?;
    let fetches = products.into_iter().map(Fetch::from).collect();
    let classes = layers[layers.len() - 1];
    let batches = labeled(&layers[..1], classes, rows, 8)?;
    let inputs = vec![x.into(), y.into()];
    Ok(Workload { fetches, k: 8, trains: false, inputs, batches, directions, tape })
}

fn elementwise(n: usize) -> Result<Workload> {
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY]);
    let loss = (x.tanh() * x.sigmoid() + (-x * x).exp()).mean();
    let fetches = vec![loss.into(), tape.gradient(loss, &[x])?[0].into()];
    let batches = vec![vec![Value::Float(data::reals(INPUTS, 0, 2.0, &[n])?)]];
    let inputs = vec![x.into()];
    Ok(Workload { fetches, k: 1, trains: false, inputs, batches, directions: vec![], tape })
}

/// (b + c) (c + 2) and both gradients.
fn scalar_graph() -> Result<Workload> {
    let tape = Tape::<f32>::new();
    let (b, c) = (tape.placeholder("b", []), tape.placeholder("c", []));
    let loss = (b + c) * (c + 2.0);
    let gradient = tape.gradient(loss, &[b, c])?;
    let fetches = vec![loss.into(), gradient[0].into(), gradient[1].into()];
    let inputs = vec![b.into(), c.into()];
    let batches = vec![vec![Value::Float(2f32.into()), Value::Float(1f32.into())]];
    Ok(Workload { fetches, k: 1, trains: false, inputs, batches, directions: vec![], tape })
}
