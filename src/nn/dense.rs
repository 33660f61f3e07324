//! Dense layers, and a stack of them.

use super::{Init, Layer, Training};
use crate::error::{Result, bail};
use crate::{Expr, Philox, Scalar, Tape, Tensor, Var};

/// What follows the product of a layer, elementwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing: the layer is affine.
    Identity,
    /// max(a, 0)
    Relu,
    /// a where a > 0, else eᵃ − 1
    Elu,
    /// a·Φ(a)
    Gelu,
    /// The same with Φ by tanh, which is faster; see [`Expr::gelu_tanh`].
    GeluTanh,
    /// a·sigmoid(a)
    Silu,
    /// tanh(a)
    Tanh,
    /// 1/(1 + e⁻ᵃ)
    Sigmoid,
    /// ln(1 + eᵃ)
    Softplus,
}

impl Activation {
    /// The activation of x, elementwise.
    #[track_caller]
    pub fn of<T: Scalar>(self, x: Expr<'_, T>) -> Expr<'_, T> {
        match self {
            Activation::Identity => x,
            Activation::Relu => x.relu(),
            Activation::Elu => x.elu(x.lit(1.0)),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Silu => x.silu(),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Softplus => x.softplus(),
        }
    }

    /// The weights that keep the variance through it: He's where half of the inputs are cut off,
    /// else Glorot's.
    pub fn init(self) -> Init {
        match self {
            Activation::Relu
            | Activation::Elu
            | Activation::Gelu
            | Activation::GeluTanh
            | Activation::Silu => Init::HeNormal,
            _ => Init::GlorotUniform,
        }
    }
}

/// A layer y = activation(x·W + b). `(…, inputs) -> (…, outputs)`
///
/// Cost of a forward pass: 2·rows·inputs·outputs flops.
///
/// ```
/// use gradtape::nn::{Activation, Dense};
/// use gradtape::{ANY, Philox, Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let x = tape.placeholder("x", [ANY, 4]);
/// let layer = Dense::new(&tape, "hidden", [4, 3], Activation::Tanh, &mut Philox::new(1, 0))?;
/// let y = layer.forward(x);
/// assert_eq!(y.shape(), [ANY, 3].into());
/// assert_eq!(tape.expr(layer.w).name(), "hidden/w");
/// let y = Session::new(&tape)?.run(y, &[x.feed(&Tensor::zeros([2, 4])?)])?;
/// assert_eq!(y, Tensor::zeros([2, 3])?);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dense {
    name: String,
    /// The weights W, `[inputs, outputs]`.
    pub w: Var,
    /// The biases b, `[outputs]`.
    pub b: Var,
    /// What follows the product.
    pub activation: Activation,
}

impl Dense {
    /// A layer of `[inputs, outputs]` with variables `name/w`, which start as suits the activation
    /// (see [`Activation::init`]), and `name/b`, which start at 0.
    ///
    /// # Errors
    /// No memory for the weights. Further mistakes, of the name for instance, are kept on the tape.
    #[track_caller]
    pub fn new<T: Scalar>(
        tape: &Tape<T>,
        name: &str,
        extents: [usize; 2],
        activation: Activation,
        rng: &mut Philox,
    ) -> Result<Self> {
        let w = activation.init().tensor(extents, rng).map_err(|e| e.within(name))?;
        Dense::with_weights(tape, name, w, activation)
    }

    /// A layer whose weights start as this tensor of `[inputs, outputs]`, from another [`Init`] or
    /// from anywhere.
    ///
    /// # Errors
    /// Weights of a rank other than 2.
    #[track_caller]
    pub fn with_weights<T: Scalar>(
        tape: &Tape<T>,
        name: &str,
        w: Tensor<T>,
        activation: Activation,
    ) -> Result<Self> {
        let &[_, outputs] = w.shape().extents() else {
            bail!(Shape, "{name}: expected weights [inputs, outputs], got {}", w.shape());
        };
        let _scope = tape.scope(name);
        let b = Tensor::zeros(outputs)?;
        let (w, b) = (tape.variable("w", w).var(), tape.variable("b", b).var());
        Ok(Dense { name: name.to_string(), w, b, activation })
    }

    /// The layer applied to x, recorded in the scope of its name.
    #[track_caller]
    pub fn forward<'t, T: Scalar>(&self, x: Expr<'t, T>) -> Expr<'t, T> {
        let _scope = x.tape().scope(&self.name);
        self.activation.of(x.matmul(self.w) + self.b)
    }
}

impl<T: Scalar> Layer<T> for Dense {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, _: Option<&Training<'t, T>>) -> Expr<'t, T> {
        Dense::forward(self, x)
    }

    fn parameters(&self) -> Vec<Var> {
        vec![self.w, self.b]
    }
}

impl<T: Scalar> Layer<T> for Activation {
    fn name(&self) -> &str {
        match self {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::Elu => "elu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::Silu => "silu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Softplus => "softplus",
        }
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, _: Option<&Training<'t, T>>) -> Expr<'t, T> {
        self.of(x)
    }
}

/// Dense layers, one after the other: a multilayer perceptron.
///
/// ```
/// use gradtape::nn::{Activation, Mlp, summary};
/// use gradtape::{ANY, Philox, Tape};
/// let tape = Tape::<f32>::new();
/// let x = tape.placeholder("pixels", [ANY, 784]);
/// let model = Mlp::new(&tape, &[784, 256, 128, 10], Activation::Relu, &mut Philox::new(7, 0))?;
/// let logits = model.forward(x);
/// assert_eq!(logits.shape(), [ANY, 10].into());
/// assert_eq!(summary(&tape).n_parameters(), 235_146);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mlp {
    /// The layers in order, named `dense_1`, `dense_2` and so on.
    pub layers: Vec<Dense>,
}

impl Mlp {
    /// Layers between these extents, of which the first is the number of features. The last layer
    /// is affine: its outputs are logits or predictions. Weights start as by [`Dense::new`].
    ///
    /// # Errors
    /// Fewer than two extents; no memory for the weights.
    #[track_caller]
    pub fn new<T: Scalar>(
        tape: &Tape<T>,
        extents: &[usize],
        activation: Activation,
        rng: &mut Philox,
    ) -> Result<Self> {
        let n_layers = extents.len().saturating_sub(1);
        if n_layers == 0 {
            bail!(Argument, "mlp: expected two extents or more, got {extents:?}");
        }
        let mut layers = Vec::with_capacity(n_layers);
        for (i, pair) in (1..).zip(extents.windows(2)) {
            let activation = if i == n_layers { Activation::Identity } else { activation };
            let name = format!("dense_{i}");
            layers.push(Dense::new(tape, &name, [pair[0], pair[1]], activation, rng)?);
        }
        Ok(Mlp { layers })
    }

    /// All layers applied to x. `(…, features) -> (…, outputs)`
    #[track_caller]
    pub fn forward<'t, T: Scalar>(&self, x: Expr<'t, T>) -> Expr<'t, T> {
        let mut y = x;
        for layer in &self.layers {
            y = layer.forward(y);
        }
        y
    }

    /// The weights W of all layers, which penalties are put on.
    pub fn weights(&self) -> Vec<Var> {
        self.layers.iter().map(|layer| layer.w).collect()
    }

    /// All variables: W and b of each layer in turn.
    pub fn parameters(&self) -> Vec<Var> {
        self.layers.iter().flat_map(|layer| [layer.w, layer.b]).collect()
    }
}
