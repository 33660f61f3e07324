//! The workloads as numbers in reading order, which no peer has part in. Images are moved to
//! channels first once, here, and with them the weights of the layer that reads them flat.

use crate::{Result, data};
use gradtape::{Element, Index, Tensor};

pub enum Workload {
    /// (b + c) (c + 2) and both gradients, at these b and c.
    Scalar(f32, f32),
    /// mean(tanh(x)·σ(x) + exp(−x²)) and its gradient, at this x.
    Elementwise(Vec<f32>),
    Training(Training),
}

/// A network of convolutions and then dense layers, and the steps that train it.
pub struct Training {
    pub convolutions: Vec<Convolution>,
    pub dense: Vec<Dense>,
    /// Between dense layers; a convolution has relu.
    pub activation: Activation,
    pub optimizer: Optimizer,
    pub batches: Vec<Batch>,
    /// The step whose loss is `lossK`.
    pub k: usize,
}

/// Weights `[outputs, inputs, height, width]`, bias, zeros at each border, and whether the maximum
/// of each 2 × 2 follows.
pub struct Convolution {
    pub weights: Array<4>,
    pub bias: Vec<f32>,
    pub border: usize,
    pub pooled: bool,
}

/// Weights `[inputs, outputs]` and bias.
pub struct Dense {
    pub weights: Array<2>,
    pub bias: Option<Vec<f32>>,
}

#[derive(Clone, Copy)]
pub enum Activation {
    Relu,
    Tanh,
}

#[derive(Clone, Copy)]
pub enum Optimizer {
    Sgd {
        rate: f64,
    },
    /// m ← μ·m + g, p ← p − rate·m
    Momentum {
        rate: f64,
        mu: f64,
    },
    Adam {
        rate: f64,
    },
}

/// Inputs of one step and what it learns.
pub struct Batch {
    pub inputs: Inputs,
    pub targets: Targets,
}

pub enum Inputs {
    Rows(Array<2>),
    /// `[images, channels, height, width]`
    Images(Array<4>),
}

pub enum Targets {
    /// Mean cross-entropy.
    Classes(Vec<Index>),
    /// Mean squared error.
    Values(Array<2>),
}

/// Numbers, the last axis fastest.
pub struct Array<const RANK: usize> {
    pub extents: [usize; RANK],
    pub numbers: Vec<f32>,
}

/// Adam of all workloads that have it: β₁, β₂, ε.
pub const ADAM: (f64, f64, f64) = (0.9, 0.999, 1e-8);

const ADAM_1E3: Optimizer = Optimizer::Adam { rate: 1e-3 };
const NAMES: &str = "scalar_graph, elementwise_1e4, elementwise_1e6, linreg_gd, logreg_mnist, \
                     mlp_small, mlp_mnist, mlp_large, lenet, cnn_cifar";

impl Workload {
    pub fn of(name: &str) -> Result<Workload> {
        use Activation::{Relu, Tanh};
        let sgd = Optimizer::Sgd { rate: 0.1 };
        Ok(Workload::Training(match name {
            "scalar_graph" => return Ok(Workload::Scalar(2.0, 1.0)),
            "elementwise_1e4" => return elementwise(10_000),
            "elementwise_1e6" => return elementwise(1_000_000),
            "linreg_gd" => linear_regression(100_000, 100, sgd)?,
            "logreg_mnist" => classifier(&[784, 10], 128, Relu, sgd)?,
            "mlp_small" => classifier(&[4, 16, 3], 16, Tanh, ADAM_1E3)?,
            "mlp_mnist" => classifier(&[784, 256, 128, 10], 128, Relu, ADAM_1E3)?,
            "mlp_large" => regressor(&[1024, 2048, 2048, 1024], 512)?,
            "lenet" => lenet()?,
            "cnn_cifar" => cifar()?,
            _ => return Err(format!("expected one of {NAMES}, got {name:?}").into()),
        }))
    }
}

fn elementwise(n: usize) -> Result<Workload> {
    Ok(Workload::Elementwise(data::reals(data::INPUTS, 0, 2.0, &[n])?.into_vec()))
}

fn linear_regression(rows: usize, features: usize, optimizer: Optimizer) -> Result<Training> {
    let targets = data::linear_targets(rows, features).into_vec();
    let batch = Batch {
        inputs: Inputs::Rows(rows_of(data::INPUTS, 0, [rows, features])?),
        targets: Targets::Values(Array { extents: [rows, 1], numbers: targets }),
    };
    let weights = Array { extents: [features, 1], numbers: vec![0.0; features] };
    Ok(Training {
        convolutions: Vec::new(),
        dense: vec![Dense { weights, bias: None }],
        activation: Activation::Relu,
        optimizer,
        batches: vec![batch],
        k: 50,
    })
}

fn classifier(
    layers: &[usize],
    rows: usize,
    activation: Activation,
    optimizer: Optimizer,
) -> Result<Training> {
    let (features, classes) = (layers[0], layers[layers.len() - 1]);
    let batch = |b| {
        let inputs = rows_of(data::INPUTS, b * rows, [rows, features])?;
        let targets = data::labels(b, rows, features, classes).into_vec();
        Ok(Batch { inputs: Inputs::Rows(inputs), targets: Targets::Classes(targets) })
    };
    let batches = (0..8).map(batch).collect::<Result<_>>()?;
    let dense = Parameters::default().dense_layers(layers)?;
    Ok(Training { convolutions: Vec::new(), dense, activation, optimizer, batches, k: 50 })
}

fn regressor(layers: &[usize], rows: usize) -> Result<Training> {
    let (features, outputs) = (layers[0], layers[layers.len() - 1]);
    let batch = |b| {
        let inputs = Inputs::Rows(rows_of(data::INPUTS, b * rows, [rows, features])?);
        let targets = Targets::Values(rows_of(data::TARGETS, b * rows, [rows, outputs])?);
        Ok(Batch { inputs, targets })
    };
    Ok(Training {
        convolutions: Vec::new(),
        dense: Parameters::default().dense_layers(layers)?,
        activation: Activation::Relu,
        optimizer: ADAM_1E3,
        batches: (0..4).map(batch).collect::<Result<_>>()?,
        k: 10,
    })
}

fn lenet() -> Result<Training> {
    let mut p = Parameters::default();
    let convolutions =
        vec![p.convolution([5, 5, 1, 6], 2, true)?, p.convolution([5, 5, 6, 16], 0, true)?];
    let mut dense = vec![p.dense(&[5, 5, 16, 120])?];
    dense.extend(p.dense_layers(&[120, 84, 10])?);
    let optimizer = Optimizer::Momentum { rate: 0.05, mu: 0.9 };
    let batches = images([64, 28, 28, 1], 8)?;
    Ok(Training { convolutions, dense, activation: Activation::Relu, optimizer, batches, k: 20 })
}

fn cifar() -> Result<Training> {
    let mut p = Parameters::default();
    let convolutions = vec![
        p.convolution([3, 3, 3, 32], 1, false)?,
        p.convolution([3, 3, 32, 64], 1, true)?,
        p.convolution([3, 3, 64, 64], 1, true)?,
    ];
    let dense = vec![p.dense(&[8, 8, 64, 10])?];
    let (optimizer, batches) = (ADAM_1E3, images([32, 32, 32, 3], 4)?);
    Ok(Training { convolutions, dense, activation: Activation::Relu, optimizer, batches, k: 10 })
}

/// Batches of images `[images, height, width, channels]`, each with its class of ten.
fn images(extents: [usize; 4], n_batches: usize) -> Result<Vec<Batch>> {
    let [rows, height, width, channels] = extents;
    let features = height * width * channels;
    let batch = |b| {
        let x = data::reals(data::INPUTS, b * rows * features, 1.0, &extents)?;
        let numbers = in_order(&x, &[0, 3, 1, 2]);
        let images = Array { extents: [rows, channels, height, width], numbers };
        let targets = data::labels(b, rows, features, 10).into_vec();
        Ok(Batch { inputs: Inputs::Images(images), targets: Targets::Classes(targets) })
    };
    (0..n_batches).map(batch).collect()
}

/// The parameters, by their numbers.
#[derive(Default)]
struct Parameters {
    n: u64,
}

impl Parameters {
    /// Weights as they are drawn, and as many zeros as they have outputs.
    fn next(&mut self, extents: &[usize]) -> Result<(Tensor<f32>, Vec<f32>)> {
        let weights = data::weights(self.n, extents)?;
        self.n += 2;
        Ok((weights, vec![0.0; extents[extents.len() - 1]]))
    }

    /// Drawn as `[height, width, inputs, outputs]`.
    fn convolution(&mut self, e: [usize; 4], border: usize, pooled: bool) -> Result<Convolution> {
        let (weights, bias) = self.next(&e)?;
        let numbers = in_order(&weights, &[3, 2, 0, 1]);
        let weights = Array { extents: [e[3], e[2], e[0], e[1]], numbers };
        Ok(Convolution { weights, bias, border, pooled })
    }

    /// Of rows, or of images that are drawn as `[height, width, channels]`.
    fn dense(&mut self, extents: &[usize]) -> Result<Dense> {
        let (weights, bias) = self.next(extents)?;
        let axes: &[usize] = if extents.len() == 4 { &[2, 0, 1, 3] } else { &[0, 1] };
        let extents = [weights.len() / bias.len(), bias.len()];
        let weights = Array { extents, numbers: in_order(&weights, axes) };
        Ok(Dense { weights, bias: Some(bias) })
    }

    fn dense_layers(&mut self, layers: &[usize]) -> Result<Vec<Dense>> {
        layers.windows(2).map(|io| self.dense(io)).collect()
    }
}

/// Rows of a stream, from row number `row` on.
fn rows_of(stream: u64, row: usize, extents: [usize; 2]) -> Result<Array<2>> {
    let numbers = data::reals(stream, row * extents[1], 1.0, &[extents[0] * extents[1]])?;
    Ok(Array { extents, numbers: numbers.into_vec() })
}

/// The elements of a tensor with its axes in this order, the last fastest.
fn in_order<T: Element>(tensor: &Tensor<T>, axes: &[usize]) -> Vec<T> {
    let shape = tensor.shape();
    let mut at = vec![0; axes.len()];
    let element = |i: usize| {
        let mut rest = i;
        for &axis in axes.iter().rev() {
            at[axis] = rest % shape.extents()[axis];
            rest /= shape.extents()[axis];
        }
        tensor.get(&at)
    };
    (0..tensor.len()).filter_map(element).collect()
}
