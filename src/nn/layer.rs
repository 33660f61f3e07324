//! What all layers have in common, what training adds to a forward pass, and layers in a row.

use super::summary::table;
use crate::{Expr, Scalar, Shape, Tape, Var};
use std::cell::RefCell;
use std::fmt::{self, Debug};

/// A function of one expression, with or without weights.
///
/// Layers hold handles, so a model is recorded as often as it is needed: once for training, with a
/// [`Training`], and once for inference, without; both share the variables.
pub trait Layer<T: Scalar>: Debug {
    /// What the layer is called in a summary: the scope of its variables, or its kind.
    fn name(&self) -> &str;

    /// The layer applied to x, in training or, without one, in inference.
    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, training: Option<&Training<'t, T>>) -> Expr<'t, T>;

    /// The variables that are trained.
    fn parameters(&self) -> Vec<Var> {
        vec![]
    }
}

/// What a forward pass in training counts with and leaves behind: the number of the step, which
/// [`Dropout`](super::Dropout) draws by, and updates of running statistics.
///
/// Fetch [`Training::updates`] in every step of training, with the train op. The counter is a
/// variable: who restores it with the others goes on with the same bits.
///
/// ```
/// use gradtape::nn::{Activation, BatchNorm, Dense, Dropout, Sequential, Training};
/// use gradtape::optim::Sgd;
/// use gradtape::{ANY, Philox, Session, Tape, Tensor};
/// let (tape, mut rng) = (Tape::<f64>::new(), Philox::new(1, 0));
/// let x = tape.placeholder("x", [ANY, 3]);
/// let mut model = Sequential::new();
/// model.push(Dense::new(&tape, "hidden", [3, 8], Activation::Relu, &mut rng)?);
/// model.push(BatchNorm::new(&tape, "norm", 8)?);
/// model.push(Dropout::new(0.5, &mut rng));
/// model.push(Dense::new(&tape, "out", [8, 1], Activation::Identity, &mut rng)?);
///
/// let training = Training::new(&tape);
/// let loss = model.forward(x, Some(&training)).square().mean();
/// let train = Sgd::new(0.1).minimize(loss)?;
/// let prediction = model.forward(x, None);
///
/// let mut session = Session::new(&tape)?;
/// let batch = Tensor::from_fn([4, 3], |at| (at[0] * 3 + at[1]) as f64)?;
/// let updates = training.updates();
/// session.run((train, &updates), &[x.feed(&batch)])?;
/// let y = session.run(prediction, &[x.feed(&batch)])?;
/// assert_eq!(session.run(prediction, &[x.feed(&batch)])?, y);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Debug)]
pub struct Training<'t, T: Scalar> {
    step: Expr<'t, T>,
    updates: RefCell<Vec<Expr<'t, T>>>,
}

impl<'t, T: Scalar> Training<'t, T> {
    /// With a variable `step` that counts from 0.
    #[track_caller]
    pub fn new(tape: &'t Tape<T>) -> Self {
        let step = tape.variable("step", T::lit(0.0));
        let count = tape.assign_add(step, tape.literal(1.0));
        Training { step, updates: RefCell::new(vec![count]) }
    }

    /// The number of the step, from 0.
    pub fn step(&self) -> Expr<'t, T> {
        self.step
    }

    /// Adds an assignment that belongs to each step.
    pub fn update(&self, assignment: Expr<'t, T>) {
        let mut updates = self.updates.borrow_mut();
        // The same layer on the same input is one node.
        if updates.iter().all(|known| known.name() != assignment.name()) {
            updates.push(assignment);
        }
    }

    /// What each step of training must fetch: the counter, and what the layers recorded so far
    /// have added.
    pub fn updates(&self) -> Vec<Expr<'t, T>> {
        self.updates.borrow().clone()
    }
}

/// Layers, one after the other.
///
/// ```
/// use gradtape::nn::{Activation, Conv2d, Dense, Flatten, Layer, MaxPool, Sequential};
/// use gradtape::{ANY, Conv, Philox, Pool, Tape};
/// let (tape, mut rng) = (Tape::<f32>::new(), Philox::new(1, 0));
/// let mut model = Sequential::new();
/// let (relu, same) = (Activation::Relu, Conv::same());
/// model.push(Conv2d::new(&tape, "conv", [5, 5, 1, 6], same, relu, &mut rng)?);
/// model.push(MaxPool(Pool::new([2, 2])));
/// model.push(Flatten);
/// model.push(Dense::new(&tape, "out", [1176, 10], Activation::Identity, &mut rng)?);
/// let x = tape.placeholder("x", [ANY, 28, 28, 1]);
/// assert_eq!(model.summary(x).to_string(), "\
/// layer     output          parameters
/// conv      [?, 28, 28, 6]         156
/// max_pool  [?, 14, 14, 6]           0
/// flatten   [?, 1176]                0
/// out       [?, 10]              11770
/// total                          11926
/// ");
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Debug)]
pub struct Sequential<T: Scalar> {
    /// The layers in order.
    pub layers: Vec<Box<dyn Layer<T>>>,
}

impl<T: Scalar> Default for Sequential<T> {
    fn default() -> Self {
        Sequential::new()
    }
}

impl<T: Scalar> Sequential<T> {
    /// No layers: what goes in comes out.
    pub fn new() -> Self {
        Sequential { layers: vec![] }
    }

    /// Puts a layer at the end.
    pub fn push(&mut self, layer: impl Layer<T> + 'static) {
        self.layers.push(Box::new(layer));
    }

    /// All layers applied to x; see [`Layer::forward`].
    #[track_caller]
    pub fn forward<'t>(&self, x: Expr<'t, T>, training: Option<&Training<'t, T>>) -> Expr<'t, T> {
        let mut y = x;
        for layer in &self.layers {
            y = layer.forward(y, training);
        }
        y
    }

    /// The trained variables of all layers.
    pub fn parameters(&self) -> Vec<Var> {
        self.layers.iter().flat_map(|layer| layer.parameters()).collect()
    }

    /// What each layer makes of x, in inference, and how many numbers it trains.
    #[track_caller]
    pub fn summary(&self, x: Expr<'_, T>) -> LayerSummary {
        let mut rows = Vec::with_capacity(self.layers.len());
        let mut y = x;
        for layer in &self.layers {
            y = layer.forward(y, None);
            let of = |v: &Var| x.tape().expr(*v).shape().len();
            let n_parameters = layer.parameters().iter().map(of).sum();
            rows.push((layer.name().to_string(), y.shape(), n_parameters));
        }
        LayerSummary { rows }
    }
}

impl<T: Scalar> Layer<T> for Sequential<T> {
    fn name(&self) -> &str {
        "sequential"
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, training: Option<&Training<'t, T>>) -> Expr<'t, T> {
        Sequential::forward(self, x, training)
    }

    fn parameters(&self) -> Vec<Var> {
        Sequential::parameters(self)
    }
}

/// The layers of a model; displayed as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSummary {
    /// Name, shape of the value and number of trained numbers of each layer.
    pub rows: Vec<(String, Shape, usize)>,
}

impl LayerSummary {
    /// The number of numbers that are trained.
    pub fn n_parameters(&self) -> usize {
        self.rows.iter().map(|row| row.2).sum()
    }
}

impl fmt::Display for LayerSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |(name, shape, n): &(String, Shape, usize)| (name.clone(), *shape, *n);
        table(f, ["layer", "output"], self.rows.iter().map(row))
    }
}
