//! The workloads in burn, on its flex backend, the one it recommends for CPUs: modules of its
//! layers, its losses, its optimizers.

use crate::Result;
use crate::timing::Steps;
use crate::workload::{
    ADAM, Activation, Array, Convolution, Dense, Inputs, Optimizer, Targets, Training, Workload,
};
use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::loss::{CrossEntropyLoss, MseLoss, Reduction};
use burn::nn::{Linear, PaddingConfig2d};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdamState, AdaptiveMomentumState, GradientsParams, LearningRate, ModuleOptimizer, SgdConfig,
};
use burn::tensor::activation::{relu, sigmoid, tanh};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};

pub fn steps(workload: &Workload) -> Box<dyn Steps + '_> {
    let device = Device::flex().autodiff();
    match workload {
        Workload::Scalar(b, c) => Box::new(Scalar {
            b: Tensor::from_floats([*b], &device).require_grad(),
            c: Tensor::from_floats([*c], &device).require_grad(),
        }),
        Workload::Elementwise(x) => {
            let x = Tensor::from_floats(x.as_slice(), &device).require_grad();
            Box::new(Elementwise { x, gradient: None })
        }
        Workload::Training(training) => Box::new(Trainer::new(training, device)),
    }
}

struct Scalar {
    b: Tensor<1>,
    c: Tensor<1>,
}

impl Steps for Scalar {
    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, _: usize, n: usize) -> Result<f32> {
        let mut last = 0.0;
        for _ in 0..n {
            let a = (self.b.clone() + self.c.clone()) * (self.c.clone() + 2.0);
            let mut gradients = a.backward();
            std::hint::black_box(self.b.grad_remove(&mut gradients));
            std::hint::black_box(self.c.grad_remove(&mut gradients));
            last = a.into_scalar();
        }
        Ok(last)
    }
}

struct Elementwise {
    x: Tensor<1>,
    gradient: Option<Tensor<1>>,
}

impl Steps for Elementwise {
    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, _: usize, n: usize) -> Result<f32> {
        let mut last = 0.0;
        for _ in 0..n {
            let x = || self.x.clone();
            let y = (tanh(x()) * sigmoid(x()) + (-x().square()).exp()).mean();
            self.gradient = self.x.grad_remove(&mut y.backward());
            last = y.into_scalar();
        }
        Ok(last)
    }

    fn gradient_sum(&self) -> Result<Option<f64>> {
        let Some(gradient) = self.gradient.clone() else { return Ok(None) };
        let gradient = gradient.into_data();
        Ok(Some(gradient.iter::<f32>().map(|g| f64::from(g).abs()).sum()))
    }
}

struct Trainer<'a> {
    training: &'a Training,
    device: Device,
    batches: Vec<(Input, Target)>,
    /// A step takes the network and puts the next one here.
    network: Option<Network>,
    optimizer: ModuleOptimizer,
}

#[derive(Module, Debug)]
struct Network {
    convolutions: Vec<Conv2d>,
    dense: Vec<Linear>,
}

enum Input {
    Rows(Tensor<2>),
    Images(Tensor<4>),
}

enum Target {
    Classes(Tensor<1, Int>, CrossEntropyLoss),
    Values(Tensor<2>),
}

impl Steps for Trainer<'_> {
    fn reset(&mut self) -> Result<()> {
        self.network = Some(network(self.training, &self.device));
        self.optimizer = optimizer(self.training.optimizer);
        Ok(())
    }

    fn run(&mut self, from: usize, n: usize) -> Result<f32> {
        let mut last = 0.0;
        for step in from..from + n {
            let (x, y) = &self.batches[step % self.batches.len()];
            let network = self.network.take().ok_or("run: expected a network, got none")?;
            let z = forward(&network, self.training, x);
            let loss = match y {
                Target::Classes(y, loss) => loss.forward(z, y.clone()),
                Target::Values(y) => MseLoss::new().forward(z, y.clone(), Reduction::Mean),
            };
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            let rate = match self.training.optimizer {
                Optimizer::Sgd { rate }
                | Optimizer::Momentum { rate, .. }
                | Optimizer::Adam { rate } => rate,
            };
            self.network = Some(self.optimizer.step(rate, network, gradients));
            if step + 1 == from + n {
                last = loss.into_scalar();
            }
        }
        Ok(last)
    }
}

impl<'a> Trainer<'a> {
    fn new(training: &'a Training, device: Device) -> Self {
        let inputs = |x: &Inputs| match x {
            Inputs::Rows(x) => Input::Rows(tensor(x, &device)),
            Inputs::Images(x) => Input::Images(tensor(x, &device)),
        };
        let targets = |y: &Targets| match y {
            Targets::Classes(y) => {
                let y: Vec<i32> = y.iter().map(|&y| y as i32).collect();
                Target::Classes(
                    Tensor::from_data(y.as_slice(), &device),
                    CrossEntropyLoss::new(None, &device),
                )
            }
            Targets::Values(y) => Target::Values(tensor(y, &device)),
        };
        let batches = &training.batches;
        let batches = batches.iter().map(|b| (inputs(&b.inputs), targets(&b.targets))).collect();
        let optimizer = optimizer(training.optimizer);
        Trainer { training, device, batches, network: None, optimizer }
    }
}

fn forward(network: &Network, training: &Training, x: &Input) -> Tensor<2> {
    let mut h = match x {
        Input::Rows(x) => x.clone(),
        Input::Images(x) => {
            let mut h = x.clone();
            for (layer, convolution) in training.convolutions.iter().zip(&network.convolutions) {
                h = relu(convolution.forward(h));
                if layer.pooled {
                    h = max_pool2d(h, MaxPoolOptions::new([2, 2]));
                }
            }
            h.flatten(1, 3)
        }
    };
    for (layer, dense) in network.dense.iter().enumerate() {
        if layer > 0 {
            h = match training.activation {
                Activation::Relu => relu(h),
                Activation::Tanh => tanh(h),
            };
        }
        h = dense.forward(h);
    }
    h
}

fn network(training: &Training, device: &Device) -> Network {
    let bias = |b: &Vec<f32>| Param::from_tensor(Tensor::from_floats(b.as_slice(), device));
    let convolution = |c: &Convolution| Conv2d {
        weight: Param::from_tensor(tensor(&c.weights, device)),
        bias: Some(bias(&c.bias)),
        stride: [1, 1],
        kernel_size: [c.weights.extents[2], c.weights.extents[3]],
        dilation: [1, 1],
        groups: 1,
        padding: PaddingConfig2d::Explicit(c.border, c.border, c.border, c.border),
    };
    let dense = |d: &Dense| Linear {
        weight: Param::from_tensor(tensor(&d.weights, device)),
        bias: d.bias.as_ref().map(bias),
    };
    Network {
        convolutions: training.convolutions.iter().map(convolution).collect(),
        dense: training.dense.iter().map(dense).collect(),
    }
}

fn optimizer(optimizer: Optimizer) -> ModuleOptimizer {
    match optimizer {
        Optimizer::Sgd { .. } => SgdConfig::new().init(),
        Optimizer::Momentum { mu, .. } => {
            let momentum = MomentumConfig::new().with_momentum(mu).with_dampening(0.0);
            SgdConfig::new().with_momentum(Some(momentum)).init()
        }
        Optimizer::Adam { .. } => ModuleOptimizer::from(Adam),
    }
}

/// Burn's Adam in the same operations, but with the powers of β in f64: in f32, as burn has them,
/// `lossK` of mlp_mnist is off by 2.6e-4 (and NumPy's with it, if given the same).
#[derive(Clone)]
struct Adam;

impl burn::optim::Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let (beta_1, beta_2, epsilon) = ADAM;
        let first = gradient.clone().mul_scalar(1.0 - beta_1);
        let second = gradient.square().mul_scalar(1.0 - beta_2);
        let moments = match state.map(|state| state.momentum) {
            Some(old) => AdaptiveMomentumState::new(
                old.time + 1,
                old.moment_1.mul_scalar(beta_1).add(first),
                old.moment_2.mul_scalar(beta_2).add(second),
            ),
            None => AdaptiveMomentumState::new(1, first, second),
        };
        let correction_1 = 1.0 - beta_1.powi(moments.time as i32);
        let correction_2 = (1.0 - beta_2.powi(moments.time as i32)).sqrt();
        let below = moments.moment_2.clone().sqrt().add_scalar(epsilon * correction_2);
        let direction = moments.moment_1.clone().mul_scalar(correction_2 / correction_1).div(below);
        (tensor - direction.mul_scalar(rate), Some(AdamState::new(moments)))
    }

    fn to_device<const D: usize>(mut state: AdamState<D>, device: &Device) -> AdamState<D> {
        state.momentum = state.momentum.to_device(device);
        state
    }
}

fn tensor<const RANK: usize>(array: &Array<RANK>, device: &Device) -> Tensor<RANK> {
    let data = TensorData::new(array.numbers.clone(), array.extents);
    Tensor::from_data(data, device)
}
