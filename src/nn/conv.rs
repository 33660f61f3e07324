//! Layers of convolutions over one or two axes, and of their transposes.

use super::{Activation, Layer, Training};
use crate::error::{Result, bail};
use crate::{Conv, Expr, Philox, Scalar, Tape, Tensor, Var};

macro_rules! convolutions {
    ($(#[doc = $doc:literal])+ $name:ident<$n:literal>($axes:literal)
     |$x:ident, $w:ident, $conv:ident| $method:expr, weights $given:ident => $draw:expr,
     outputs $w_extents:ident, $of_conv:ident => $outputs:expr;) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub struct $name {
            name: String,
            /// The weights.
            pub w: Var,
            /// The biases, one for each channel of the value.
            pub b: Var,
            /// How the window moves.
            pub conv: Conv<$n>,
            /// What follows, elementwise.
            pub activation: Activation,
        }

        impl $name {
            #[doc = concat!("A layer with variables `name/w` of the extents ", $axes,
                ", which start as suits the activation (see [`Activation::init`]), and `name/b`, \
                 which start at 0.")]
            ///
            /// # Errors
            /// No memory for the weights. Further mistakes, of the name for instance, are kept on
            /// the tape.
            #[track_caller]
            pub fn new<T: Scalar>(
                tape: &Tape<T>,
                name: &str,
                $given: [usize; $n + 2],
                conv: Conv<$n>,
                activation: Activation,
                rng: &mut Philox,
            ) -> Result<Self> {
                let w = activation.init().tensor($draw, rng).map_err(|e| e.within(name))?;
                // Independent numbers may change places: only the fan-in counts.
                let w = Tensor::new($given, w.into_vec())?;
                $name::with_weights(tape, name, w, conv, activation)
            }

            /// A layer whose weights start as this tensor, from another [`Init`](super::Init) or
            /// from anywhere.
            ///
            /// # Errors
            /// Weights of another rank.
            #[track_caller]
            pub fn with_weights<T: Scalar>(
                tape: &Tape<T>,
                name: &str,
                w: Tensor<T>,
                conv: Conv<$n>,
                activation: Activation,
            ) -> Result<Self> {
                let Ok($w_extents) = <[usize; $n + 2]>::try_from(w.shape().extents()) else {
                    bail!(Shape, "{name}: expected weights {}, got {}", $axes, w.shape());
                };
                let $of_conv = &conv;
                let b = Tensor::zeros($outputs)?;
                let _scope = tape.scope(name);
                let (w, b) = (tape.variable("w", w).var(), tape.variable("b", b).var());
                Ok($name { name: name.to_string(), w, b, conv, activation })
            }

            /// The layer applied to x, recorded in the scope of its name.
            #[track_caller]
            pub fn forward<'t, T: Scalar>(&self, $x: Expr<'t, T>) -> Expr<'t, T> {
                let _scope = $x.tape().scope(&self.name);
                let ($w, $conv) = (self.w, self.conv);
                self.activation.of($method + self.b)
            }
        }

        impl<T: Scalar> Layer<T> for $name {
            fn name(&self) -> &str {
                &self.name
            }

            #[track_caller]
            fn forward<'t>(&self, x: Expr<'t, T>, _: Option<&Training<'t, T>>) -> Expr<'t, T> {
                $name::forward(self, x)
            }

            fn parameters(&self) -> Vec<Var> {
                vec![self.w, self.b]
            }
        }
    };
}

convolutions! {
    /// y = activation(conv1d(x, w) + b); see [`Expr::conv1d`].
    /// `(batch, length, inputs) -> (batch, length', outputs)`
    Conv1d<1>("`[taps, inputs / groups, outputs]`")
    |x, w, conv| x.conv1d(w, conv), weights extents => extents,
    outputs w, _conv => w[2];
}

convolutions! {
    /// y = activation(conv2d(x, w) + b); see [`Expr::conv2d`].
    /// `(batch, rows, columns, inputs) -> (batch, rows', columns', outputs)`
    ///
    /// ```
    /// use gradtape::nn::{Activation, Conv2d};
    /// use gradtape::{ANY, Conv, Philox, Tape};
    /// let tape = Tape::<f32>::new();
    /// let x = tape.placeholder("x", [ANY, 28, 28, 3]);
    /// let (relu, conv) = (Activation::Relu, Conv::same().with_stride([2, 2]));
    /// let layer = Conv2d::new(&tape, "conv", [3, 3, 3, 8], conv, relu, &mut Philox::new(1, 0))?;
    /// assert_eq!(layer.forward(x).shape(), [ANY, 14, 14, 8].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    Conv2d<2>("`[rows, columns, inputs / groups, outputs]`")
    |x, w, conv| x.conv2d(w, conv), weights extents => extents,
    outputs w, _conv => w[3];
}

convolutions! {
    /// y = activation(conv_transpose1d(x, w) + b); see [`Expr::conv_transpose1d`].
    /// `(batch, length', inputs) -> (batch, length, outputs)`
    ConvTranspose1d<1>("`[taps, outputs / groups, inputs]`")
    |x, w, conv| x.conv_transpose1d(w, conv, 0),
    weights extents => [extents[0], extents[2], extents[1]],
    outputs w, conv => w[1] * conv.groups;
}

convolutions! {
    /// y = activation(conv_transpose2d(x, w) + b); see [`Expr::conv_transpose2d`].
    /// `(batch, rows', columns', inputs) -> (batch, rows, columns, outputs)`
    ConvTranspose2d<2>("`[rows, columns, outputs / groups, inputs]`")
    |x, w, conv| x.conv_transpose2d(w, conv, [0, 0]),
    weights extents => [extents[0], extents[1], extents[3], extents[2]],
    outputs w, conv => w[2] * conv.groups;
}
