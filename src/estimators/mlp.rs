//! Multilayer perceptrons for classes and for numbers, trained by Adam on shuffled batches.

use super::class_score;
use super::file;
use super::input::{features, features_of, labels, not_negative, targets};
use super::softmax::softmax_rows;
use crate::data::metrics::{argmax, r2};
use crate::data::{Dataset, EarlyStopping, Standardizer, Verdict};
use crate::error::{Result, bail};
use crate::nn::{Activation, Layer, Mlp, l2};
use crate::optim::Adam;
use crate::scalar::Element;
use crate::{
    ANY, Expr, Feed, Index, Notes, Philox, Placeholder, Session, Shape, Tape, Tensor, TensorView,
};
use nalgebra::{DMatrix, DMatrixView, DVector};
use std::path::Path;

/// A network for classes: softmax of its outputs, with weights that make the mean cross-entropy and
/// α/2 ‖W‖²/B small over batches of B, as scikit-learn's `MLPClassifier`, whose defaults these
/// are: one hidden layer of 100 with relu, α = 0.0001, Adam at 0.001, B = 200 or all there are, at
/// most 200 epochs, ended when the loss of an epoch has not fallen by 0.0001 for ten.
///
/// Otherwise than there, features are standardized first (the network takes that in), initial
/// weights are He's or Glorot's as the activation wants, and two classes have two outputs.
///
/// ```
/// use gradtape::estimators::MlpClassifier;
/// use nalgebra::{DMatrix, DVector};
/// // Exclusive or, which no line separates.
/// let x = DMatrix::from_fn(40, 2, |i, j| ((i >> j) % 2) as f64);
/// let y = DVector::from_fn(40, |i, _| (i as u32 ^ (i as u32 >> 1)) % 2);
/// let model = MlpClassifier::new().with_hidden(&[8]).with_rate(0.05).fit(&x, &y)?;
/// assert_eq!(model.score(&x, &y)?, 1.0);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MlpClassifier(Options);

/// A network for numbers, with weights that make the mean of ½(ŷ − y)² + α/2 ‖W‖²/B small over
/// batches of B, y in units of its deviation, as scikit-learn's `MLPRegressor`; defaults and
/// differences as for [`MlpClassifier`], and targets are standardized, too.
///
/// ```
/// use gradtape::estimators::MlpRegressor;
/// use nalgebra::{DMatrix, DVector};
/// let x = DMatrix::from_fn(100, 1, |i, _| i as f64 / 10.0);
/// let y = DVector::from_fn(100, |i, _| (i as f64 / 10.0 - 5.0).abs());
/// let model = MlpRegressor::new().with_hidden(&[16]).with_rate(0.02).fit(&x, &y)?;
/// assert!(model.score(&x, &y)? > 0.95);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MlpRegressor(Options);

#[derive(Clone, Debug, PartialEq)]
struct Options {
    hidden: Vec<usize>,
    activation: Activation,
    alpha: f64,
    rate: f64,
    batch: usize,
    max_epochs: u64,
    seed: u64,
}

/// An epoch's loss that is less by no more than this has not fallen.
const MIN_DELTA: f64 = 1e-4;
/// So many epochs in a row end the training.
const PATIENCE: usize = 10;

impl Options {
    fn new() -> Self {
        Options {
            hidden: vec![100],
            activation: Activation::Relu,
            alpha: 1e-4,
            rate: 1e-3,
            batch: 200,
            max_epochs: 200,
            seed: 0,
        }
    }

    fn check(&self, op: &str) -> Result<()> {
        not_negative(op, "alpha", self.alpha)?;
        if self.hidden.contains(&0) || self.batch == 0 || self.max_epochs == 0 {
            let Options { hidden, batch, max_epochs, .. } = self;
            bail!(
                Argument,
                "{op}: expected layers, batches and epochs of at least 1, got {hidden:?}, {batch}, \
                 {max_epochs}"
            );
        }
        Ok(())
    }
}

macro_rules! options {
    ($name:ident) => {
        impl Default for $name {
            fn default() -> Self {
                $name::new()
            }
        }

        impl $name {
            /// With the defaults named above.
            pub fn new() -> Self {
                $name(Options::new())
            }

            /// With hidden layers of these extents; none for a linear model.
            pub fn with_hidden(self, hidden: &[usize]) -> Self {
                $name(Options { hidden: hidden.to_vec(), ..self.0 })
            }

            /// With this activation after each hidden layer.
            pub fn with_activation(self, activation: Activation) -> Self {
                $name(Options { activation, ..self.0 })
            }

            /// With this α ≥ 0.
            pub fn with_alpha(self, alpha: f64) -> Self {
                $name(Options { alpha, ..self.0 })
            }

            /// With Adam at this rate.
            pub fn with_rate(self, rate: f64) -> Self {
                $name(Options { rate, ..self.0 })
            }

            /// With batches of this size.
            pub fn with_batch(self, batch: usize) -> Self {
                $name(Options { batch, ..self.0 })
            }

            /// With at most so many epochs.
            pub fn with_max_epochs(self, max_epochs: u64) -> Self {
                $name(Options { max_epochs, ..self.0 })
            }

            /// With initial weights and an order of samples from this seed.
            pub fn with_seed(self, seed: u64) -> Self {
                $name(Options { seed, ..self.0 })
            }
        }
    };
}
options!(MlpClassifier);
options!(MlpRegressor);

impl MlpClassifier {
    /// Trains on features (n, p) and labels `[n]` from 0 to the number of classes, less 1.
    ///
    /// # Errors
    /// Shapes that do not fit; features that are not finite; labels of one class, or a class
    /// without samples; hyperparameters out of range; a training that is no longer finite.
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, Index>>,
    ) -> Result<MlpClassifierModel> {
        const OP: &str = "mlp_classifier";
        self.0.check(OP)?;
        let x = features(OP, x)?;
        let (labels, n_classes) = labels(OP, y, x.nrows())?;
        let labels = Tensor::vector(labels.to_vec());
        let network = train(
            &self.0,
            x,
            labels,
            n_classes,
            |outputs| {
                let labels = outputs.tape().index_placeholder("labels", [ANY]);
                (outputs.softmax_cross_entropy(labels).mean(), labels.into())
            },
            |to, labels| to.feed_index(labels),
        )?;
        Ok(MlpClassifierModel { network })
    }
}

impl MlpRegressor {
    /// Trains on features (n, p) and targets `[n]`.
    ///
    /// # Errors
    /// Shapes that do not fit; numbers that are not finite; hyperparameters out of range; a
    /// training that is no longer finite.
    pub fn fit<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<MlpRegressorModel> {
        const OP: &str = "mlp_regressor";
        self.0.check(OP)?;
        let x = features(OP, x)?;
        let y = targets(OP, y, x.nrows())?;
        let mut y = Tensor::from(y.clone_owned());
        let unit = Standardizer::fit(&y)?;
        unit.apply(&mut y)?;
        let mut network = train(
            &self.0,
            x,
            y,
            1,
            |outputs| {
                let y = outputs.tape().placeholder("y", [ANY]);
                (0.5 * outputs.squeeze(&[1]).squared_error(y).mean(), y.into())
            },
            |to, y| to.feed(y),
        )?;
        if let Some(Affine { w, b }) = network.layers.last_mut() {
            *w *= unit.scale()[0];
            *b = &*b * unit.scale()[0] + DVector::repeat(1, unit.mean()[0]);
        }
        Ok(MlpRegressorModel { network })
    }
}

/// Trains a network of standardized features, and takes the standardization into its first layer.
fn train<Y, R>(
    options: &Options,
    x: DMatrixView<'_, f64>,
    y: Tensor<Y>,
    n_outputs: usize,
    record: R,
    feed: for<'a> fn(Placeholder, &'a Tensor<Y>) -> Feed<'a, f64>,
) -> Result<Network>
where
    Y: Element,
    R: for<'t> FnOnce(Expr<'t, f64>) -> (Expr<'t, f64>, Placeholder),
{
    let (n, p) = x.shape();
    let mut features = Tensor::from(x.clone_owned());
    let standardizer = Standardizer::fit(&features)?;
    standardizer.apply(&mut features)?;

    let tape = Tape::new();
    let x = tape.placeholder("x", [ANY, p]);
    let extents: Vec<usize> =
        [p].into_iter().chain(options.hidden.iter().copied()).chain([n_outputs]).collect();
    let mut rng = Philox::new(options.seed, 0);
    let mlp = Mlp::new(&tape, &extents, options.activation, &mut rng)?;
    let (loss, y_fed) = record(mlp.forward(x));
    let size = options.batch.min(n);
    let penalty = l2(&tape, &mlp.weights(), 0.5 * options.alpha / size as f64);
    let loss = loss + penalty;
    let step = Adam::new(options.rate).minimize(loss)?;

    let mut session = Session::new(&tape)?;
    let mut batches = Dataset::new(features, y.clone())?.batches(size)?.shuffle(options.seed);
    let mut stopping = EarlyStopping::new(PATIENCE).min_delta(MIN_DELTA);
    let (mut batch, mut out) = ((Tensor::default(), y), Default::default());
    for _ in 0..options.max_epochs {
        let mut total = 0.0;
        while batches.next_into(&mut batch.0, &mut batch.1)? {
            let feeds = [x.feed(&batch.0), feed(y_fed, &batch.1)];
            session.run_into((loss, step), &feeds, &mut out)?;
            total += out.0.item()? * batch.1.len() as f64;
        }
        if stopping.update(total / n as f64) == Verdict::Stop {
            break;
        }
    }

    let mut layers = Vec::with_capacity(mlp.layers.len());
    for layer in &mlp.layers {
        let (w, b) = (session.value(layer.w)?.into_matrix()?, session.value(layer.b)?);
        layers.push(Affine { w, b: b.into_dvector()? });
    }
    let Affine { w, b } = &mut layers[0];
    for (j, mut row) in w.row_iter_mut().enumerate() {
        row /= standardizer.scale()[j];
        *b -= standardizer.mean()[j] * row.transpose();
    }
    Ok(Network { layers, activation: options.activation })
}

/// x·W + b.
#[derive(Clone, Debug, PartialEq)]
struct Affine {
    w: DMatrix<f64>,
    b: DVector<f64>,
}

/// Affine layers with an activation between them.
#[derive(Clone, Debug, PartialEq)]
struct Network {
    layers: Vec<Affine>,
    activation: Activation,
}

impl Network {
    /// `(n, p) -> (n, outputs)`
    fn outputs<'a>(&self, op: &str, x: impl Into<TensorView<'a, f64>>) -> Result<Tensor<f64>> {
        let (x, p) = (x.into(), self.layers[0].w.nrows());
        features_of(op, x, p)?;
        let tape = Tape::new();
        let input = tape.placeholder("x", x.shape());
        let mut h = input;
        for (i, Affine { w, b }) in self.layers.iter().enumerate() {
            let before = if i == 0 { h } else { self.activation.of(h) };
            h = before.matmul(w) + b;
        }
        Session::new(&tape)?.run(h, &[input.feed(x)])
    }
}

/// What notes call the activation.
const ACTIVATION: &str = "activation";
const ACTIVATIONS: [Activation; 9] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Elu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Softplus,
];

impl Network {
    fn save(&self, path: impl AsRef<Path>, kind: &str) -> Result<()> {
        let mut extents = vec![self.layers[0].w.nrows()];
        let mut parameters = Vec::new();
        for (i, Affine { w, b }) in (1..).zip(&self.layers) {
            extents.push(b.len());
            parameters.push((format!("w_{i}"), w.clone().into()));
            parameters.push((format!("b_{i}"), b.clone().into()));
        }
        let activation = Layer::<f64>::name(&self.activation);
        file::save(path, kind, &extents, Notes::new().with(ACTIVATION, activation), parameters)
    }

    fn load(path: impl AsRef<Path>, kind: &str) -> Result<Self> {
        let shapes = |extents: &[usize]| {
            let mut shapes: Vec<(String, Shape)> = Vec::new();
            for (i, pair) in (1..).zip(extents.windows(2)) {
                shapes.push((format!("w_{i}"), [pair[0], pair[1]].into()));
                shapes.push((format!("b_{i}"), pair[1].into()));
            }
            shapes
        };
        let (notes, parameters) = file::load(path, kind, 2, shapes)?;
        let name: String = notes.get(ACTIVATION)?;
        let named = |a: &Activation| Layer::<f64>::name(a) == name;
        let Some(activation) = ACTIVATIONS.into_iter().find(named) else {
            bail!(Format, "{kind}: expected an activation, got {name:?}");
        };
        let mut layers = Vec::new();
        let mut parameters = parameters.into_iter();
        while let (Some(w), Some(b)) = (parameters.next(), parameters.next()) {
            layers.push(Affine { w: w.into_matrix()?, b: b.into_dvector()? });
        }
        Ok(Network { layers, activation })
    }
}

macro_rules! network_file {
    ($model:ident, $kind:literal) => {
        impl $model {
            /// Saves the model as a safetensors file with `w_1`, `b_1` and so on, as
            /// [`Session::save`].
            ///
            /// # Errors
            /// The file cannot be written; then it is as it was.
            pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
                self.network.save(path, $kind)
            }

            /// The model that was saved there, to the bit.
            ///
            /// # Errors
            /// As [`Session::load`]; also a file of another model.
            pub fn load(path: impl AsRef<Path>) -> Result<Self> {
                Ok($model { network: Network::load(path, $kind)? })
            }
        }
    };
}
network_file!(MlpClassifierModel, "mlp_classifier");
network_file!(MlpRegressorModel, "mlp_regressor");

/// A trained [`MlpClassifier`].
#[derive(Clone, Debug, PartialEq)]
pub struct MlpClassifierModel {
    network: Network,
}

class_score!(MlpClassifierModel);

impl MlpClassifierModel {
    /// The likeliest class of each row.
    ///
    /// # Errors
    /// Features of another number of columns, none, or such that are not finite.
    pub fn predict<'a>(&self, x: impl Into<TensorView<'a, f64>>) -> Result<DVector<Index>> {
        argmax(&self.network.outputs("predict", x)?)?.into_dvector()
    }

    /// The probability of each class, (n, classes).
    ///
    /// # Errors
    /// As [`MlpClassifierModel::predict`].
    pub fn predict_probabilities<'a>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
    ) -> Result<DMatrix<f64>> {
        let mut z = self.network.outputs("predict_probabilities", x)?.into_matrix()?;
        softmax_rows(&mut z);
        Ok(z)
    }
}

/// A trained [`MlpRegressor`].
#[derive(Clone, Debug, PartialEq)]
pub struct MlpRegressorModel {
    network: Network,
}

impl MlpRegressorModel {
    /// The prediction for each row.
    ///
    /// # Errors
    /// Features of another number of columns, none, or such that are not finite.
    pub fn predict<'a>(&self, x: impl Into<TensorView<'a, f64>>) -> Result<DVector<f64>> {
        Ok(DVector::from_vec(self.network.outputs("predict", x)?.into_vec()))
    }

    /// The coefficient of determination R² of the predictions; see [`r2`].
    ///
    /// # Errors
    /// As [`MlpRegressorModel::predict`]; targets of another number, or that are all the same.
    pub fn score<'a, 'b>(
        &self,
        x: impl Into<TensorView<'a, f64>>,
        y: impl Into<TensorView<'b, f64>>,
    ) -> Result<f64> {
        let predicted = self.predict(x)?;
        let y = targets("score", y, predicted.len())?;
        r2(&Tensor::from(y.clone_owned()), &predicted.into())
    }
}
