//! The workloads in candle: its layers' functions, its losses, its optimizers where it has them.

use crate::Result;
use crate::timing::Steps;
use crate::workload::{
    ADAM, Activation, Array, Batch, Convolution, Dense, Inputs, Optimizer, Targets, Training,
    Workload,
};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result as CandleResult, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW, SGD, loss, ops};

const CPU: Device = Device::Cpu;

pub fn steps(workload: &Workload) -> Result<Box<dyn Steps + '_>> {
    Ok(match workload {
        Workload::Scalar(b, c) => {
            Box::new(Scalar { b: Var::new(*b, &CPU)?, c: Var::new(*c, &CPU)? })
        }
        Workload::Elementwise(x) => {
            Box::new(Elementwise { x: Var::new(x.as_slice(), &CPU)?, gradient: None })
        }
        Workload::Training(training) => {
            let batches = training.batches.iter().map(batch).collect::<CandleResult<_>>()?;
            Box::new(Trainer { training, batches, state: State::new(training)? })
        }
    })
}

struct Scalar {
    b: Var,
    c: Var,
}

impl Steps for Scalar {
    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, _: usize, n: usize) -> Result<f32> {
        let mut last = 0.0;
        for _ in 0..n {
            let a = ((self.b.as_tensor() + self.c.as_tensor())? * (self.c.as_tensor() + 2.0)?)?;
            let gradients = a.backward()?;
            std::hint::black_box((gradients.get(&self.b), gradients.get(&self.c)));
            last = a.to_scalar()?;
        }
        Ok(last)
    }
}

struct Elementwise {
    x: Var,
    gradient: Option<Tensor>,
}

impl Steps for Elementwise {
    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, _: usize, n: usize) -> Result<f32> {
        let (x, mut last) = (self.x.as_tensor(), 0.0);
        for _ in 0..n {
            let y = ((x.tanh()? * ops::sigmoid(x)?)? + x.sqr()?.neg()?.exp()?)?.mean_all()?;
            self.gradient = y.backward()?.remove(x);
            last = y.to_scalar()?;
        }
        Ok(last)
    }

    fn gradient_sum(&self) -> Result<Option<f64>> {
        let Some(gradient) = &self.gradient else { return Ok(None) };
        let gradient: Vec<f32> = gradient.to_vec1()?;
        Ok(Some(gradient.iter().map(|&g| f64::from(g).abs()).sum()))
    }
}

struct Trainer<'a> {
    training: &'a Training,
    /// Inputs and targets.
    batches: Vec<(Tensor, Tensor)>,
    state: State,
}

struct State {
    /// Weights and bias of each layer.
    convolutions: Vec<(Var, Var)>,
    dense: Vec<(Var, Option<Var>)>,
    update: Update,
}

enum Update {
    Sgd(SGD),
    Adam(AdamW),
    /// Candle's SGD has no momentum: parameters and what they have of it.
    Momentum {
        parameters: Vec<(Var, Tensor)>,
        rate: f64,
        mu: f64,
    },
}

impl Steps for Trainer<'_> {
    fn reset(&mut self) -> Result<()> {
        self.state = State::new(self.training)?;
        Ok(())
    }

    fn run(&mut self, from: usize, n: usize) -> Result<f32> {
        let mut last = 0.0;
        for step in from..from + n {
            let (x, y) = &self.batches[step % self.batches.len()];
            let z = self.forward(x)?;
            let loss = match self.training.batches[0].targets {
                Targets::Classes(_) => loss::cross_entropy(&z, y)?,
                Targets::Values(_) => loss::mse(&z, y)?,
            };
            self.state.update.step(&loss.backward()?)?;
            if step + 1 == from + n {
                last = loss.to_scalar()?;
            }
        }
        Ok(last)
    }
}

impl Trainer<'_> {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let mut h = x.clone();
        for (layer, (w, b)) in self.training.convolutions.iter().zip(&self.state.convolutions) {
            h = h.conv2d(w, layer.border, 1, 1, 1)?.broadcast_add(b)?.relu()?;
            if layer.pooled {
                h = max_pool(&h)?;
            }
        }
        h = h.flatten_from(1)?;
        for (layer, (w, b)) in self.state.dense.iter().enumerate() {
            if layer > 0 {
                h = match self.training.activation {
                    Activation::Relu => h.relu()?,
                    Activation::Tanh => h.tanh()?,
                };
            }
            h = h.matmul(w)?;
            if let Some(b) = b {
                h = h.broadcast_add(b)?;
            }
        }
        Ok(h)
    }
}

impl State {
    fn new(training: &Training) -> CandleResult<State> {
        let convolution = |c: &Convolution| {
            let bias = Var::from_slice(&c.bias, (1, c.bias.len(), 1, 1), &CPU)?;
            Ok((Var::from_tensor(&tensor(&c.weights)?)?, bias))
        };
        let dense = |d: &Dense| {
            let bias = d.bias.as_ref().map(|b| Var::new(b.as_slice(), &CPU)).transpose()?;
            Ok((Var::from_tensor(&tensor(&d.weights)?)?, bias))
        };
        let convolutions =
            training.convolutions.iter().map(convolution).collect::<CandleResult<Vec<_>>>()?;
        let dense = training.dense.iter().map(dense).collect::<CandleResult<Vec<_>>>()?;
        let mut parameters = Vec::new();
        for (w, b) in &convolutions {
            parameters.extend([w.clone(), b.clone()]);
        }
        for (w, b) in &dense {
            parameters.push(w.clone());
            parameters.extend(b.clone());
        }
        let update = Update::new(parameters, training.optimizer)?;
        Ok(State { convolutions, dense, update })
    }
}

impl Update {
    fn new(parameters: Vec<Var>, optimizer: Optimizer) -> CandleResult<Update> {
        Ok(match optimizer {
            Optimizer::Sgd { rate } => Update::Sgd(SGD::new(parameters, rate)?),
            Optimizer::Adam { rate: lr } => {
                let (beta1, beta2, eps) = ADAM;
                let params = ParamsAdamW { lr, beta1, beta2, eps, weight_decay: 0.0 };
                Update::Adam(AdamW::new(parameters, params)?)
            }
            Optimizer::Momentum { rate, mu } => {
                let still = |p: Var| Ok((p.clone(), p.as_tensor().detach().zeros_like()?));
                let parameters = parameters.into_iter().map(still).collect::<CandleResult<_>>()?;
                Update::Momentum { parameters, rate, mu }
            }
        })
    }

    fn step(&mut self, gradients: &GradStore) -> CandleResult<()> {
        match self {
            Update::Sgd(sgd) => sgd.step(gradients),
            Update::Adam(adam) => adam.step(gradients),
            Update::Momentum { parameters, rate, mu } => {
                for (p, m) in parameters {
                    let Some(g) = gradients.get(p) else { continue };
                    *m = ((&*m * *mu)? + g)?;
                    p.set(&p.sub(&(&*m * *rate)?)?)?;
                }
                Ok(())
            }
        }
    }
}

/// Candle 0.11's gradient of max-pooling is that of the mean over its 2 × 2 window, a quarter of
/// what it should be. The value of 4·y − 3·y is y, and without a gradient of the second it is right.
fn max_pool(x: &Tensor) -> CandleResult<Tensor> {
    let y = x.max_pool2d(2)?;
    (&y * 4.0)? - (y.detach() * 3.0)?
}

fn batch(batch: &Batch) -> CandleResult<(Tensor, Tensor)> {
    let inputs = match &batch.inputs {
        Inputs::Rows(x) => tensor(x)?,
        Inputs::Images(x) => tensor(x)?,
    };
    let targets = match &batch.targets {
        Targets::Classes(y) => Tensor::new(y.as_slice(), &CPU)?,
        Targets::Values(y) => tensor(y)?,
    };
    Ok((inputs, targets))
}

fn tensor<const RANK: usize>(array: &Array<RANK>) -> CandleResult<Tensor> {
    Tensor::from_slice(&array.numbers, &array.extents, &CPU)
}
