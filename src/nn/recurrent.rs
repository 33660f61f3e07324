//! Recurrent layers, one above the other, in one direction or both.

use super::{Embedding, Init};
use crate::error::{Result, bail};
use crate::{Cell, Expr, IndexExpr, Philox, Scalar, Steps, Tape, Tensor, Var};

/// What a recurrent network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RnnConfig {
    /// The cell of all layers.
    pub cell: Cell,
    /// Features of the input.
    pub inputs: usize,
    /// The extent of the state of a layer, in each direction.
    pub hidden: usize,
    /// The number of layers, each of which reads the outputs of the one before.
    pub n_layers: usize,
    /// Whether each layer also runs in reverse, with weights of its own. Its outputs are then the
    /// two directions' side by side.
    pub bidirectional: bool,
}

/// The variables of one direction of a layer; G is [`Cell::gates`].
#[derive(Clone, Copy, Debug)]
pub struct RnnWeights {
    /// Weights of the inputs, `[inputs, G·hidden]`.
    pub wx: Var,
    /// Weights of the state, `[hidden, G·hidden]`.
    pub wh: Var,
    /// Biases, `[G·hidden]`.
    pub b: Var,
    /// Of a GRU, the bias within its product n, `[hidden]`.
    pub bn: Option<Var>,
}

/// Recurrent layers: `(batch, time, inputs) -> (batch, time, outputs)`.
///
/// ```
/// use gradtape::nn::{Rnn, RnnConfig, summary};
/// use gradtape::{ANY, Cell, Philox, Tape};
/// let tape = Tape::<f32>::new();
/// let x = tape.placeholder("x", [ANY, 50, 8]);
/// let config =
///     RnnConfig { cell: Cell::Lstm, inputs: 8, hidden: 16, n_layers: 2, bidirectional: true };
/// let model = Rnn::new(&tape, "rnn", config, &mut Philox::new(7, 0))?;
/// assert_eq!(model.forward(x).shape(), [ANY, 50, 32].into());
/// assert_eq!(summary(&tape).n_parameters(), 2 * (8 + 16 + 1) * 64 + 2 * (32 + 16 + 1) * 64);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rnn {
    name: String,
    config: RnnConfig,
    /// For each layer its weights, and after them those in reverse if there are any. They are
    /// named `layer_1/wx`, `layer_1/reversed/wx` and so on, in the scope of the network's name.
    pub weights: Vec<RnnWeights>,
}

impl Rnn {
    /// Layers whose weights start gate by gate: those of inputs as [`Init::GlorotUniform`], those
    /// of states orthogonal (Saxe et al. 2014), biases 0, but 1 for the forget gates of an LSTM
    /// (Jozefowicz et al. 2015, An empirical exploration of recurrent network architectures).
    ///
    /// # Errors
    /// No layers; no memory for the weights.
    #[track_caller]
    pub fn new<T: Scalar>(
        tape: &Tape<T>,
        name: &str,
        config: RnnConfig,
        rng: &mut Philox,
    ) -> Result<Self> {
        let RnnConfig { inputs, n_layers, .. } = config;
        if n_layers == 0 {
            bail!(Argument, "{name}: expected one layer or more, got 0");
        }
        let mut rnn = Rnn { name: name.to_string(), config, weights: vec![] };
        let _scope = tape.scope(name);
        for layer in 0..n_layers {
            let inputs = if layer == 0 { inputs } else { rnn.outputs() };
            let _scope = tape.scope(&format!("layer_{}", layer + 1));
            rnn.weights.push(weights(tape, config, inputs, rng).map_err(|e| e.within(name))?);
            if config.bidirectional {
                let _scope = tape.scope("reversed");
                rnn.weights.push(weights(tape, config, inputs, rng).map_err(|e| e.within(name))?);
            }
        }
        Ok(rnn)
    }

    /// The features of the outputs.
    pub fn outputs(&self) -> usize {
        self.config.hidden * self.n_directions()
    }

    /// All variables.
    pub fn parameters(&self) -> Vec<Var> {
        let each = |w: &RnnWeights| [Some(w.wx), Some(w.wh), Some(w.b), w.bn];
        self.weights.iter().flat_map(each).flatten().collect()
    }

    /// The outputs of the last layer, from states of zeros, all sequences of full length.
    #[track_caller]
    pub fn forward<'t, T: Scalar>(&self, x: Expr<'t, T>) -> Expr<'t, T> {
        let _scope = x.tape().scope(&self.name);
        let mut y = x;
        for layer in self.weights.chunks(self.n_directions()) {
            y = self.outputs_of(&projected(y, layer), layer);
        }
        y
    }

    /// [`Rnn::forward`] of embedded indices, `(batch, time) -> (batch, time, outputs)`. The table
    /// is multiplied by the weights before its rows are taken: less work than multiplying the rows
    /// if there are fewer rows in the table than indices.
    #[track_caller]
    pub fn forward_embedded<'t, T: Scalar>(
        &self,
        embedding: &Embedding,
        indices: IndexExpr<'t, T>,
    ) -> Expr<'t, T> {
        let tape = indices.as_node_expr().tape();
        let _scope = tape.scope(&self.name);
        let table = tape.expr(embedding.table);
        let (first, others) = self.weights.split_at(self.n_directions());
        let mut pre = projected(table, first);
        for pre in &mut pre {
            *pre = pre.take(0, indices);
        }
        let mut y = self.outputs_of(&pre, first);
        for layer in others.chunks(self.n_directions()) {
            y = self.outputs_of(&projected(y, layer), layer);
        }
        y
    }

    /// The outputs of the last layer and the last states of all of them: for each layer, and
    /// within it each direction, h and of an LSTM c, `[batch, hidden]` each. `initial` has such
    /// states to start from, or nothing for zeros; `lengths` are the steps of each sequence, see
    /// [`Steps::with_lengths`].
    ///
    /// ```
    /// use gradtape::nn::{Rnn, RnnConfig};
    /// use gradtape::{ANY, Cell, Philox, Tape};
    /// let tape = Tape::<f32>::new();
    /// let x = tape.placeholder("x", [ANY, 50, 8]);
    /// let config =
    ///     RnnConfig { cell: Cell::Gru, inputs: 8, hidden: 16, n_layers: 2, bidirectional: false };
    /// let model = Rnn::new(&tape, "rnn", config, &mut Philox::new(7, 0))?;
    /// let (_, states) = model.run(x, &[], None)?;
    /// let (y, _) = model.run(x, &states, None)?;
    /// assert_eq!((states.len(), y.shape()), (2, [ANY, 50, 16].into()));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// Another number of first states.
    #[track_caller]
    pub fn run<'t, T: Scalar>(
        &self,
        x: Expr<'t, T>,
        initial: &[Expr<'t, T>],
        lengths: Option<IndexExpr<'t, T>>,
    ) -> Result<(Expr<'t, T>, Vec<Expr<'t, T>>)> {
        let cell = self.config.cell;
        let of_layer = cell.states() * self.n_directions();
        let n_states = of_layer * self.config.n_layers;
        if !initial.is_empty() && initial.len() != n_states {
            bail!(
                Argument,
                "{}: expected {n_states} first states, got {}",
                self.name,
                initial.len()
            );
        }
        let _scope = x.tape().scope(&self.name);
        let (mut y, mut last, mut initial) = (x, Vec::with_capacity(n_states), initial);
        for layer in self.weights.chunks(self.n_directions()) {
            let (own, rest) = initial.split_at(of_layer.min(initial.len()));
            let mut outputs = Vec::with_capacity(layer.len());
            for (direction, (pre, w)) in projected(y, layer).into_iter().zip(layer).enumerate() {
                let mut steps = self.steps(x.tape(), w, direction);
                if let Some(own) = own.chunks(cell.states()).nth(direction) {
                    steps = steps.with_initial(own);
                }
                if let Some(lengths) = lengths {
                    steps = steps.with_lengths(lengths);
                }
                let (outputs_of, states) = pre.recurrent_states(cell, w.wh, &steps);
                outputs.push(outputs_of);
                last.extend(states);
            }
            (y, initial) = (x.tape().concat(&outputs, -1), rest);
        }
        Ok((y, last))
    }

    fn n_directions(&self) -> usize {
        if self.config.bidirectional { 2 } else { 1 }
    }

    /// A layer's outputs from the pre-activations of each direction.
    #[track_caller]
    fn outputs_of<'t, T: Scalar>(&self, pre: &[Expr<'t, T>], layer: &[RnnWeights]) -> Expr<'t, T> {
        let tape = pre[0].tape();
        let mut outputs = Vec::with_capacity(layer.len());
        for (direction, (pre, w)) in pre.iter().zip(layer).enumerate() {
            let steps = self.steps(tape, w, direction);
            outputs.push(pre.recurrent(self.config.cell, w.wh, &steps));
        }
        tape.concat(&outputs, -1)
    }

    /// How the steps of a direction, 1 for the reversed one, are run.
    fn steps<'t, T: Scalar>(
        &self,
        tape: &'t Tape<T>,
        weights: &RnnWeights,
        direction: usize,
    ) -> Steps<'t, T> {
        let steps = if direction == 1 { Steps::new().reversed() } else { Steps::new() };
        match weights.bn {
            Some(bn) => steps.with_hidden_bias(tape.expr(bn)),
            None => steps,
        }
    }
}

/// What the inputs add to each direction's pre-activations.
#[track_caller]
fn projected<'t, T: Scalar>(x: Expr<'t, T>, layer: &[RnnWeights]) -> Vec<Expr<'t, T>> {
    let mut pre = Vec::with_capacity(layer.len());
    for w in layer {
        pre.push(x.matmul(w.wx) + w.b);
    }
    pre
}

/// The variables of one direction of a layer.
#[track_caller]
fn weights<T: Scalar>(
    tape: &Tape<T>,
    config: RnnConfig,
    inputs: usize,
    rng: &mut Philox,
) -> Result<RnnWeights> {
    let RnnConfig { cell, hidden, .. } = config;
    let gates = cell.gates();
    let (mut wx, mut wh) = (Vec::new(), Vec::new());
    for _ in 0..gates {
        wx.extend(Init::GlorotUniform.tensor::<T>([inputs, hidden], rng)?.into_vec());
        let orthogonal = Init::Orthogonal { gain: 1.0 };
        wh.extend(orthogonal.tensor::<T>([hidden, hidden], rng)?.into_vec());
    }
    let mut b = Tensor::zeros([gates * hidden])?;
    if cell == Cell::Lstm {
        b.as_mut_slice()[hidden..2 * hidden].fill(T::one());
    }
    let wx = tape.variable("wx", Tensor::new([inputs, gates * hidden], wx)?).var();
    let wh = tape.variable("wh", Tensor::new([hidden, gates * hidden], wh)?).var();
    let b = tape.variable("b", b).var();
    let bn = match cell {
        Cell::Gru => Some(tape.variable("bn", Tensor::zeros([hidden])?).var()),
        _ => None,
    };
    Ok(RnnWeights { wx, wh, b, bn })
}
