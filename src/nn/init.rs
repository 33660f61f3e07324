//! What weights start as. Knows shapes and random numbers, no tape.

use crate::error::{Result, bail};
use crate::{Philox, Scalar, Shape, Tensor};
use nalgebra::DMatrix;
use rand_distr::{Distribution, StandardNormal, StandardUniform};

/// How weights start. The fan-in is the number of inputs that an output sums over, the fan-out
/// the reverse: (m, n) for weights `[m, n]`; a kernel `[…, in, out]` multiplies both by its taps.
///
/// Normal weights are not truncated, unlike Keras's of the same names.
///
/// ```
/// use gradtape::{Philox, Tensor, nn::Init};
/// let mut rng = Philox::new(7, 0);
/// let w: Tensor<f32> = Init::GlorotUniform.tensor([3, 5], &mut rng)?;
/// assert!(w.as_slice().iter().all(|w| w.abs() <= (6.0 / 8.0_f32).sqrt()));
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// 0
    Zeros,
    /// One number.
    Constant(f64),
    /// Uniform in `low..high`.
    Uniform {
        /// The smallest.
        low: f64,
        /// The bound above.
        high: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// Uniform in ±√(6/(fan-in + fan-out)): variance kept forwards and backwards through tanh
    /// (Glorot and Bengio 2010, eq. 16).
    GlorotUniform,
    /// Normal with variance 2/(fan-in + fan-out) (Glorot and Bengio 2010, eq. 12).
    GlorotNormal,
    /// Uniform in ±√(6/fan-in): the variance of [`Init::HeNormal`].
    HeUniform,
    /// Normal with variance 2/fan-in: variance kept forwards through relu (He et al. 2015, eq. 10).
    HeNormal,
    /// Columns, or rows if they are fewer, that are orthogonal and of length `gain`; all axes but
    /// the last count as rows. Drawn uniformly from all such matrices (Saxe et al. 2014). Cost:
    /// a QR decomposition.
    Orthogonal {
        /// The length.
        gain: f64,
    },
}

impl Init {
    /// A tensor that starts so. Its values depend on nothing but the shape and where the generator
    /// stands; those of f32 are those of f64, rounded.
    ///
    /// # Errors
    /// An unknown extent, or no memory; a bound that is not finite, `low` above `high`, a negative
    /// deviation; orthogonal weights of rank below 2.
    pub fn tensor<T: Scalar>(self, shape: impl Into<Shape>, rng: &mut Philox) -> Result<Tensor<T>> {
        let shape = shape.into();
        let (fan_in, fan_out) = fans(&shape);
        let glorot = 2.0 / (fan_in + fan_out);
        match self {
            Init::Zeros => Tensor::zeros(shape),
            Init::Constant(c) => Tensor::full(shape, T::lit(c)),
            Init::Uniform { low, high } => uniform(shape, low, high, rng),
            Init::Normal { std } => normal(shape, std, rng),
            Init::GlorotUniform => symmetric(shape, glorot, rng),
            Init::GlorotNormal => normal(shape, glorot.sqrt(), rng),
            Init::HeUniform => symmetric(shape, 2.0 / fan_in, rng),
            Init::HeNormal => normal(shape, (2.0 / fan_in).sqrt(), rng),
            Init::Orthogonal { gain } => orthogonal(shape, gain, rng),
        }
    }
}

/// Fan-in and fan-out, at least 1 each: without elements nothing is drawn.
fn fans(shape: &Shape) -> (f64, f64) {
    let product = |extents: &[usize]| extents.iter().map(|&e| e as f64).product::<f64>();
    let (fan_in, fan_out) = match *shape.extents() {
        [] => (1.0, 1.0),
        [n] => (n as f64, n as f64),
        [ref taps @ .., inputs, outputs] => {
            let n_taps = product(taps);
            (n_taps * inputs as f64, n_taps * outputs as f64)
        }
    };
    (fan_in.max(1.0), fan_out.max(1.0))
}

/// Uniform with mean 0.
fn symmetric<T: Scalar>(shape: Shape, variance: f64, rng: &mut Philox) -> Result<Tensor<T>> {
    let bound = (3.0 * variance).sqrt();
    uniform(shape, -bound, bound, rng)
}

fn uniform<T: Scalar>(shape: Shape, low: f64, high: f64, rng: &mut Philox) -> Result<Tensor<T>> {
    let width = high - low;
    if !(width >= 0.0 && width.is_finite()) {
        bail!(Argument, "uniform: expected finite bounds in order, got {low}..{high}");
    }
    let draw = |_: &[usize]| {
        let u: f64 = StandardUniform.sample(rng);
        T::lit(low + width * u)
    };
    Tensor::from_fn(shape, draw)
}

fn normal<T: Scalar>(shape: Shape, std: f64, rng: &mut Philox) -> Result<Tensor<T>> {
    if !(std >= 0.0 && std.is_finite()) {
        bail!(Argument, "normal: expected a standard deviation from 0 up, got {std}");
    }
    let draw = |_: &[usize]| {
        let z: f64 = StandardNormal.sample(rng);
        T::lit(std * z)
    };
    Tensor::from_fn(shape, draw)
}

fn orthogonal<T: Scalar>(shape: Shape, gain: f64, rng: &mut Philox) -> Result<Tensor<T>> {
    let (2.., Some(&n)) = (shape.rank(), shape.extents().last()) else {
        bail!(Shape, "orthogonal: expected at least two axes, got {shape}");
    };
    let drawn: Tensor<f64> = normal(shape, 1.0, rng)?;
    if drawn.is_empty() {
        return Tensor::zeros(shape);
    }
    let m = drawn.len() / n;
    let tall = DMatrix::from_vec(m.max(n), m.min(n), drawn.into_vec());
    // Uniform, because nalgebra's R has no negative diagonal elements (Mezzadri 2007, How to
    // generate random matrices from the classical compact groups).
    let q = tall.qr().q() * gain;
    let q = if m < n { q.transpose() } else { q };
    Tensor::new(shape, q.iter().map(|&x| T::lit(x)).collect())
}
