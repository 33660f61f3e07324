//! Recurrent cells over whole sequences. The states of all steps and the gates are one value,
//! which the outputs read and their gradient reads again. As factors do in `linalg`, it has no
//! derivative of its own: what is read takes the inputs, too, and the cotangents go to those.

mod gradient;
mod states;
mod unrolled;

pub use crate::kernel::recurrent::{Cell, Read};
pub use gradient::RecurrentGradient;
pub use states::{Recurrent, RecurrentStates};

use super::matmul::fits;
use super::{RowRule, Units, list};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::recurrent::{Sequence, UNIT};
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::{Expr, IndexExpr, Operand};

/// A cell, which way it runs, and what it is given. Inputs are
/// `(pre-activations, Wh, first states…, bias, lengths)`, as far as there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recurrence {
    /// The cell.
    pub cell: Cell,
    /// From the last step to the first.
    pub reversed: bool,
    /// Whether first states are given; else they are zeros.
    pub initial: bool,
    /// Whether a GRU's product n has a bias.
    pub bias: bool,
    /// Whether lengths are given; else all sequences are as long as the time axis.
    pub lengths: bool,
}

/// The inputs of a recurrence by name.
#[derive(Clone, Copy)]
struct Parts<'a, X> {
    pre: X,
    wh: X,
    initial: &'a [X],
    bias: Option<X>,
    lengths: Option<X>,
}

/// Extents of sequences, as far as they are known.
#[derive(Clone, Copy)]
struct Extents {
    batch: usize,
    time: usize,
    hidden: usize,
}

impl Recurrence {
    fn name(&self) -> &'static str {
        match self.cell {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
            Cell::Tanh | Cell::Relu => "rnn",
        }
    }

    fn n_initial(&self) -> usize {
        if self.initial { self.cell.states() } else { 0 }
    }

    fn n_inputs(&self) -> usize {
        2 + self.n_initial() + usize::from(self.bias) + usize::from(self.lengths)
    }

    fn parts<'a, X: Copy>(&self, x: &'a [X]) -> Parts<'a, X> {
        let (initial, rest) = x[2..].split_at(self.n_initial());
        let mut rest = rest.iter().copied();
        let bias = if self.bias { rest.next() } else { None };
        let lengths = if self.lengths { rest.next() } else { None };
        Parts { pre: x[0], wh: x[1], initial, bias, lengths }
    }

    fn is_lengths(&self, i: usize) -> bool {
        self.lengths && i + 1 == self.n_inputs()
    }

    fn extents(&self, x: &[Shape]) -> Result<Extents> {
        let gates = self.cell.gates();
        let blocks = |hidden: usize| if hidden == ANY { ANY } else { gates * hidden };
        if x.len() != self.n_inputs() {
            bail!(Shape, "expected {} inputs, got {}", self.n_inputs(), x.len());
        }
        let Parts { pre, wh, initial, bias, lengths } = self.parts(x);
        let &[batch, time, columns] = pre.extents() else {
            bail!(
                Shape,
                "{}: expected pre-activations of [batch, time, {gates} × hidden]",
                list(x)
            );
        };
        let hidden = match *wh.extents() {
            [hidden, inner]
                if fits(blocks(hidden), inner) && (inner == ANY || inner % gates == 0) =>
            {
                hidden.min(if inner == ANY { ANY } else { inner / gates })
            }
            _ => bail!(Shape, "{}: expected weights of [hidden, {gates} × hidden]", list(x)),
        };
        if !fits(blocks(hidden), columns) {
            bail!(Shape, "{}: expected {gates} × {hidden} pre-activations, got {columns}", list(x));
        }
        let shaped = |x: &Shape, extents: &[usize]| {
            x.rank() == extents.len() && x.extents().iter().zip(extents).all(|(&a, &b)| fits(a, b))
        };
        if !initial.iter().all(|x| shaped(x, &[batch, hidden])) {
            bail!(Shape, "{}: expected first states of [batch, hidden]", list(x));
        }
        if bias.is_some_and(|x| !shaped(&x, &[hidden])) {
            bail!(Shape, "{}: expected a bias of [hidden]", list(x));
        }
        if lengths.is_some_and(|x| !shaped(&x, &[batch])) {
            bail!(Shape, "{}: expected lengths of [batch]", list(x));
        }
        Ok(Extents { batch, time, hidden })
    }

    /// The extent of the state, which the recording of an op wants known.
    fn hidden<T: Scalar>(&self, wh: Expr<'_, T>) -> usize {
        match *wh.shape().extents() {
            [ANY, inner] => inner / self.cell.gates(),
            [hidden, ..] => hidden,
            [] => 0,
        }
    }

    /// The sequence of inputs of these shapes, which are known.
    fn sequence(&self, pre: &Shape, wh: &Shape) -> Sequence {
        let (pre, hidden) = (pre.extents(), wh.extents()[0]);
        let (cell, reversed) = (self.cell, self.reversed);
        Sequence { cell, batch: pre[0], time: pre[1], hidden, reversed }
    }

    fn dtype(&self, x: &[DType]) -> Result<DType> {
        let wanted = |i| if self.is_lengths(i) { DType::Index } else { DType::Float };
        match x.iter().enumerate().find(|&(i, &dtype)| dtype != wanted(i)) {
            None => Ok(DType::Float),
            Some((i, _)) if self.is_lengths(i) => bail!(Shape, "expected indices as lengths"),
            Some((i, _)) => bail!(Shape, "expected floats, got indices as input {i}"),
        }
    }

    /// What threads may share of values with a row for each sample, of one for each row of `pre`.
    fn units(&self, pre: &Shape) -> Units {
        Units::Strided { period: pre.extents()[0], unit: UNIT }
    }

    /// Samples go apart; all of them need the weights. `split` begins with inputs that have a row
    /// for each sample.
    fn rows(&self, split: &[bool]) -> RowRule {
        let others = split.len() - self.n_inputs();
        let (before, own) = split.split_at(others);
        let Parts { pre, wh, initial, bias, lengths } = self.parts(own);
        let with_rows = before.iter().chain([&pre]).chain(initial).copied().chain(lengths);
        let whole = [wh].into_iter().chain(bias);
        match with_rows.into_iter().all(|s| s) && whole.into_iter().all(|s| !s) {
            true => RowRule::Split,
            false => RowRule::Mixes,
        }
    }
}

/// Extents times a number of blocks.
fn times(extent: usize, n: usize) -> usize {
    if extent == ANY { ANY } else { extent.saturating_mul(n) }
}

/// How sequences are run, for [`Expr::recurrent`]: which way, from which states, how many steps.
///
/// ```
/// use gradtape::{ANY, Cell, Steps, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let x = tape.placeholder("x", [ANY, 20, 8]);
/// let lengths = tape.index_placeholder("lengths", [ANY]);
/// let wx = tape.variable("wx", Tensor::zeros([8, 3 * 16])?);
/// let wh = tape.variable("wh", Tensor::zeros([16, 3 * 16])?);
/// let steps = Steps::new().reversed().with_lengths(lengths);
/// let y = x.matmul(wx).recurrent(Cell::Gru, wh, &steps);
/// assert_eq!(y.shape(), [ANY, 20, 16].into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Steps<'t, T: Scalar = f64> {
    reversed: bool,
    initial: Vec<Expr<'t, T>>,
    bias: Option<Expr<'t, T>>,
    lengths: Option<IndexExpr<'t, T>>,
}

impl<T: Scalar> Default for Steps<'_, T> {
    fn default() -> Self {
        Steps { reversed: false, initial: vec![], bias: None, lengths: None }
    }
}

impl<'t, T: Scalar> Steps<'t, T> {
    /// From the first step to the last, from states of zeros, all sequences of full length.
    pub fn new() -> Self {
        Self::default()
    }

    /// From the last step of each sequence to its first. The steps stay where they are: the output
    /// at a step is the state after that step.
    pub fn reversed(self) -> Self {
        Steps { reversed: true, ..self }
    }

    /// From these states, `[batch, hidden]` each: h, and of an LSTM also c.
    pub fn with_initial(self, states: &[Expr<'t, T>]) -> Self {
        Steps { initial: states.to_vec(), ..self }
    }

    /// How many steps each sequence has, `[batch]`. Where it has ended it keeps its state, outputs
    /// are 0, and nothing that stands there matters, not even NaN.
    pub fn with_lengths(self, lengths: IndexExpr<'t, T>) -> Self {
        Steps { lengths: Some(lengths), ..self }
    }

    /// The bias `[hidden]` within a GRU's product n (PyTorch's third block of `bias_hh`). Any other
    /// bias is added to the pre-activations.
    pub fn with_hidden_bias(self, bias: Expr<'t, T>) -> Self {
        Steps { bias: Some(bias), ..self }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// A recurrent cell over the steps of sequences. This has what the inputs add to each step,
    /// x·Wx + b with G blocks of columns as the [`Cell`] says; the value is the state h after each
    /// step.
    ///
    /// ```text
    /// (batch, time, G·hidden) (hidden, G·hidden) -> (batch, time, hidden)
    /// ```
    ///
    /// Cost: 2·G·batch·time·hidden² flops; its VJP twice as much, and memory for G + 1 or G + 2
    /// numbers a state. Time may be unknown while recording. A second derivative unrolls the
    /// steps into ops of a tape, so it wants a known time.
    ///
    /// ```
    /// use gradtape::{Cell, Session, Steps, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.constant(Tensor::from_rows([1, 3, 1], &[1.0, 0.0, 0.0])?);
    /// let wh = tape.constant(Tensor::from_rows([1, 1], &[0.5])?);
    /// let y = x.recurrent(Cell::Relu, wh, &Steps::new());
    /// assert_eq!(Session::new(&tape)?.run(y, &[])?.as_slice(), [1.0, 0.5, 0.25]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run fails for a length above the extent of time.
    #[track_caller]
    pub fn recurrent(
        self,
        cell: Cell,
        wh: impl Operand<'t, T>,
        steps: &Steps<'t, T>,
    ) -> Expr<'t, T> {
        match self.recurrence(cell, wh.on(self.tape()), steps) {
            Ok((of, inputs)) => {
                self.tape().apply(RecurrentStates { of, read: Read::Outputs }, &inputs)
            }
            Err(mistake) => mistake,
        }
    }

    /// [`Expr::recurrent`], and the states after the last step of each sequence, `[batch, hidden]`
    /// each: h, and of an LSTM also c. In reverse the last step is the first one of the sequence.
    ///
    /// ```
    /// use gradtape::{ANY, Cell, Steps, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY, 20, 4 * 16]);
    /// let wh = tape.variable("wh", Tensor::zeros([16, 4 * 16])?);
    /// let (y, states) = x.recurrent_states(Cell::Lstm, wh, &Steps::new());
    /// let next = Steps::new().with_initial(&states);
    /// let z = x.recurrent(Cell::Lstm, wh, &next);
    /// assert_eq!((y.shape(), z.shape()), ([ANY, 20, 16].into(), [ANY, 20, 16].into()));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Expr::recurrent`].
    #[track_caller]
    pub fn recurrent_states(
        self,
        cell: Cell,
        wh: impl Operand<'t, T>,
        steps: &Steps<'t, T>,
    ) -> (Expr<'t, T>, Vec<Expr<'t, T>>) {
        let n = cell.states() as isize;
        let read = Read::OutputsAndLast;
        let all = match self.recurrence(cell, wh.on(self.tape()), steps) {
            Ok((of, inputs)) => self.tape().apply(RecurrentStates { of, read }, &inputs),
            Err(mistake) => mistake,
        };
        if all.rank() != 3 {
            return (all, vec![all; cell.states()]);
        }
        let mut last = Vec::with_capacity(cell.states());
        for state in 0..n {
            last.push(all.index_axis(1, state - n));
        }
        (all.slice_axis(1, ..-n), last)
    }

    /// The recurrence and the inputs of what reads its states, or the mistake in the arguments.
    #[track_caller]
    fn recurrence(
        self,
        cell: Cell,
        wh: Expr<'t, T>,
        steps: &Steps<'t, T>,
    ) -> Result<(Recurrence, Vec<Expr<'t, T>>), Expr<'t, T>> {
        let Steps { reversed, initial, bias, lengths } = steps;
        let of = Recurrence {
            cell,
            reversed: *reversed,
            initial: !initial.is_empty(),
            bias: bias.is_some(),
            lengths: lengths.is_some(),
        };
        let refuse = |text: String| Err(Error::new(ErrorKind::Argument, text));
        let problem = if of.initial && initial.len() != cell.states() {
            refuse(format!("expected {} first states, got {}", cell.states(), initial.len()))
        } else if of.bias && cell != Cell::Gru {
            refuse("expected no hidden bias but for a GRU".to_string())
        } else if wh.shape().extents().iter().all(|&extent| extent == ANY) {
            refuse("expected weights of known extents".to_string())
        } else {
            Ok(())
        };
        if let Err(e) = problem {
            return Err(self.refuse(of.name(), e));
        }
        let mut inputs = vec![self, wh];
        inputs.extend(initial);
        inputs.extend(bias);
        inputs.extend(lengths.map(IndexExpr::as_node_expr));
        let packed = self.tape().apply(Recurrent(of), &inputs);
        inputs.insert(0, packed);
        Ok((of, inputs))
    }
}
