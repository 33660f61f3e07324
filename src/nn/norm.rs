//! Normalization layers: mean 0 and variance 1, then a gain and a bias that are trained.

use super::{Layer, Training};
use crate::error::Result;
use crate::{Expr, Scalar, Tape, Tensor, Var};

/// PyTorch's default, added to variances.
const EPS: f64 = 1e-5;
/// PyTorch's default: the share of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

fn ones<T: Scalar>(tape: &Tape<T>, name: &str, features: usize) -> Result<Var> {
    Ok(tape.variable(name, Tensor::full([features], T::lit(1.0))?).var())
}

fn zeros<T: Scalar>(tape: &Tape<T>, name: &str, features: usize) -> Result<Var> {
    Ok(tape.variable(name, Tensor::zeros([features])?).var())
}

/// Batch normalization: each channel by its mean and variance over the batch and all positions
/// (Ioffe and Szegedy 2015). `(batch, …, channels) -> (batch, …, channels)`
///
/// In inference these are running statistics, which a training moves by `momentum` of the way to
/// those of its batch, with the unbiased variance, as PyTorch does. A batch with one number for
/// each channel has variance 0: the value is the bias, and it counts as 0 in the running variance;
/// PyTorch refuses it.
///
/// Running statistics are no parameters: no optimizer trains them.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    name: String,
    /// What normalized numbers are multiplied by, `[channels]`.
    pub gain: Var,
    /// What is added then, `[channels]`.
    pub bias: Var,
    /// The running mean, `[channels]`.
    pub mean: Var,
    /// The running variance, `[channels]`.
    pub variance: Var,
    /// The share of a batch in the running statistics; 0.1 unless set.
    pub momentum: f64,
    /// What is added to variances; 1e-5 unless set.
    pub eps: f64,
}

impl BatchNorm {
    /// A layer with variables `name/gain` and `name/variance`, which start at 1, `name/bias` and
    /// `name/mean`, which start at 0.
    ///
    /// # Errors
    /// No memory.
    #[track_caller]
    pub fn new<T: Scalar>(tape: &Tape<T>, name: &str, channels: usize) -> Result<Self> {
        let _scope = tape.scope(name);
        Ok(BatchNorm {
            name: name.to_string(),
            gain: ones(tape, "gain", channels)?,
            bias: zeros(tape, "bias", channels)?,
            mean: zeros(tape, "mean", channels)?,
            variance: ones(tape, "variance", channels)?,
            momentum: MOMENTUM,
            eps: EPS,
        })
    }

    /// With the statistics of the batch, which are added to the running ones by the training's
    /// updates.
    #[track_caller]
    fn train<'t, T: Scalar>(&self, x: Expr<'t, T>, training: &Training<'t, T>) -> Expr<'t, T> {
        let tape = x.tape();
        let axes: Vec<isize> = (0..x.rank() as isize - 1).collect();
        let y = x.standardize(&axes, self.eps);
        let mean = x.mean_keep(&axes).squeeze(&axes);
        let biased = x.variance_keep(&axes, 0).squeeze(&axes);
        let unbiased = x.variance_keep(&axes, 1).squeeze(&axes);
        // Of one number the unbiased variance is 0/0.
        let variance = biased.equal(x.lit(0.0)).select(biased, unbiased);
        for (running, now) in [(self.mean, mean), (self.variance, variance)] {
            let before = tape.expr(running);
            training.update(tape.assign(running, before + (now - before) * x.lit(self.momentum)));
        }
        y
    }
}

impl<T: Scalar> Layer<T> for BatchNorm {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, training: Option<&Training<'t, T>>) -> Expr<'t, T> {
        let tape = x.tape();
        let _scope = tape.scope(&self.name);
        let normal = match training {
            Some(training) => self.train(x, training),
            None => {
                let mean = tape.expr(self.mean).stop_gradient();
                let variance = tape.expr(self.variance).stop_gradient();
                (x - mean) * (variance + x.lit(self.eps)).rsqrt()
            }
        };
        normal * tape.expr(self.gain) + tape.expr(self.bias)
    }

    fn parameters(&self) -> Vec<Var> {
        vec![self.gain, self.bias]
    }
}

/// Layer normalization: each row by the mean and variance of its features, the last axis (Ba, Kiros
/// and Hinton 2016). `(batch, …, features) -> (batch, …, features)`
///
/// ```
/// use gradtape::nn::{Layer, LayerNorm};
/// use gradtape::{Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let x = tape.constant(Tensor::from_rows([2, 2], &[1.0, 3.0, -7.0, 1.0])?);
/// let y = LayerNorm::new(&tape, "norm", 2)?.forward(x, None);
/// let y = Session::new(&tape)?.run(y, &[])?;
/// assert!(y.as_slice().iter().all(|y| (y.abs() - 1.0).abs() < 1e-5));
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    name: String,
    /// What normalized numbers are multiplied by, `[features]`.
    pub gain: Var,
    /// What is added then, `[features]`.
    pub bias: Var,
    /// What is added to variances; 1e-5 unless set.
    pub eps: f64,
}

impl LayerNorm {
    /// A layer with variables `name/gain`, which start at 1, and `name/bias`, which start at 0.
    ///
    /// # Errors
    /// No memory.
    #[track_caller]
    pub fn new<T: Scalar>(tape: &Tape<T>, name: &str, features: usize) -> Result<Self> {
        let _scope = tape.scope(name);
        let (gain, bias) = (ones(tape, "gain", features)?, zeros(tape, "bias", features)?);
        Ok(LayerNorm { name: name.to_string(), gain, bias, eps: EPS })
    }
}

impl<T: Scalar> Layer<T> for LayerNorm {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, _: Option<&Training<'t, T>>) -> Expr<'t, T> {
        let _scope = x.tape().scope(&self.name);
        x.standardize(&[-1], self.eps) * x.tape().expr(self.gain) + x.tape().expr(self.bias)
    }

    fn parameters(&self) -> Vec<Var> {
        vec![self.gain, self.bias]
    }
}

/// Each row divided by the root of the mean square of its features, then a gain (Zhang and Sennrich
/// 2019). `(batch, …, features) -> (batch, …, features)`
#[derive(Clone, Debug)]
pub struct RmsNorm {
    name: String,
    /// What normalized numbers are multiplied by, `[features]`.
    pub gain: Var,
    /// What is added to mean squares; 1e-5 unless set.
    pub eps: f64,
}

impl RmsNorm {
    /// A layer with a variable `name/gain`, which starts at 1.
    ///
    /// # Errors
    /// No memory.
    #[track_caller]
    pub fn new<T: Scalar>(tape: &Tape<T>, name: &str, features: usize) -> Result<Self> {
        let _scope = tape.scope(name);
        Ok(RmsNorm { name: name.to_string(), gain: ones(tape, "gain", features)?, eps: EPS })
    }
}

impl<T: Scalar> Layer<T> for RmsNorm {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, _: Option<&Training<'t, T>>) -> Expr<'t, T> {
        let _scope = x.tape().scope(&self.name);
        x.rms_normalize(&[-1], self.eps) * x.tape().expr(self.gain)
    }

    fn parameters(&self) -> Vec<Var> {
        vec![self.gain]
    }
}

/// Group normalization: the channels in groups of neighbors, each by its mean and variance over all
/// positions of a sample (Wu and He 2018); see [`Expr::group_standardize`].
/// `(batch, …, channels) -> (batch, …, channels)`
#[derive(Clone, Debug)]
pub struct GroupNorm {
    name: String,
    /// The number of groups.
    pub groups: usize,
    /// What normalized numbers are multiplied by, `[channels]`.
    pub gain: Var,
    /// What is added then, `[channels]`.
    pub bias: Var,
    /// What is added to variances; 1e-5 unless set.
    pub eps: f64,
}

impl GroupNorm {
    /// A layer with variables `name/gain`, which start at 1, and `name/bias`, which start at 0.
    ///
    /// # Errors
    /// No memory. That the channels fall into equal groups is checked where the layer is applied.
    #[track_caller]
    pub fn new<T: Scalar>(
        tape: &Tape<T>,
        name: &str,
        groups: usize,
        channels: usize,
    ) -> Result<Self> {
        let _scope = tape.scope(name);
        let (gain, bias) = (ones(tape, "gain", channels)?, zeros(tape, "bias", channels)?);
        Ok(GroupNorm { name: name.to_string(), groups, gain, bias, eps: EPS })
    }
}

impl<T: Scalar> Layer<T> for GroupNorm {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, _: Option<&Training<'t, T>>) -> Expr<'t, T> {
        let _scope = x.tape().scope(&self.name);
        let normal = x.group_standardize(self.groups, self.eps);
        normal * x.tape().expr(self.gain) + x.tape().expr(self.bias)
    }

    fn parameters(&self) -> Vec<Var> {
        vec![self.gain, self.bias]
    }
}
