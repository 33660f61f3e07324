//! Ops that write variables: assignments and optimizer updates. In a run every read of a variable
//! sees the value from before the run; writes come last.

use super::{Arg, ById, Derivative, Out, Primitive, RowRule};
use crate::error::{Result, bail};
use crate::scalar::Scalar;
use crate::shape::Shape;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// A node that writes variables when a run is done with reading them.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect<T: Scalar> {
    /// `(variable, value)`: the variable becomes the value; so does the node.
    Assign,
    /// `(w₁, g₁, w₂, g₂, …)`: one optimizer step on the variables w with the gradients g. The
    /// node's value is the number of the step, counted from 1.
    Update(ById<dyn Rule<T>>),
}

/// The most state numbers a parameter of an optimizer may have.
pub(crate) const MAX_SLOTS: usize = 6;

/// An optimizer: plain state beside the parameters, one pass over both.
///
/// The session keeps the state: [`Rule::slots`] numbers for each parameter, zero at the start, in
/// the parameters' own flat layout. Give one of your own to
/// [`optim::minimize`](crate::optim::minimize).
///
/// A step has two halves. [`Rule::begin`] sees everything and writes nothing but a [`Step`] for
/// each variable: what needs a whole tensor, a norm for instance, belongs there, in sums whose
/// order the lengths alone decide. [`Rule::update`] then moves each element by what it finds at
/// its place, so that slices may be cut anywhere and shared among threads, with the same bits.
///
/// ```
/// use gradtape::optim::{self, Rule, Step, Whole};
/// use gradtape::{Result, Scalar, Session, Tape};
///
/// /// w ← w − 0.1 · sign(g)
/// #[derive(Debug)]
/// struct SignDescent;
///
/// impl<T: Scalar> Rule<T> for SignDescent {
///     fn name(&self) -> &str {
///         "sign_descent"
///     }
///     fn slots(&self) -> usize {
///         0
///     }
///     fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
///         steps.fill(Step::new(whole.t, 0.1));
///         Ok(())
///     }
///     fn update(&self, step: &Step, w: &mut [T], g: &[T], _state: &mut [&mut [T]]) {
///         w.iter_mut().zip(g).for_each(|(w, g)| *w -= g.signum() * T::lit(step.rate));
///     }
/// }
///
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = optim::minimize(SignDescent, w.square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert_eq!(session.value(w)?, 0.9.into());
/// # Ok::<(), gradtape::Error>(())
/// ```
pub trait Rule<T: Scalar>: fmt::Debug + Send + Sync {
    /// The name in listings: "sgd", "adam".
    fn name(&self) -> &str;

    /// How many state numbers each parameter has (two for Adam), at most 6.
    fn slots(&self) -> usize;

    /// Looks at the hyperparameters, when the update is recorded.
    ///
    /// # Errors
    /// One that no step could be made with.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the first slot is an average of the parameters, for
    /// [`Session::swap_average`](crate::Session::swap_average).
    fn averages(&self) -> bool {
        false
    }

    /// Writes what holds in this step into `steps`, one for each variable.
    ///
    /// # Errors
    /// No step can be made; then nothing changes.
    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()>;

    /// Moves `w` by one step, each element by itself. All slices have the same length: a variable,
    /// a part of one, or neighbors whose steps are equal.
    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]);
}

/// What holds for the parameters of one variable in one optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The number of the step, from 1.
    pub t: u64,
    /// The learning rate of this step.
    pub rate: f64,
    /// A factor on every gradient, from clipping by norm; 1 without.
    pub scale: f64,
    /// The largest size of each gradient after that, from clipping by value; +∞ without.
    pub limit: f64,
    /// Two numbers for the rule's own use.
    pub numbers: [f64; 2],
    /// Which rule of a [`Groups`](crate::optim::Groups) moves the variable.
    pub group: usize,
}

impl Step {
    /// Step number `t`, from 1, at this learning rate, without clipping.
    pub fn new(t: u64, rate: f64) -> Self {
        Step { t, rate, scale: 1.0, limit: f64::INFINITY, numbers: [0.0; 2], group: 0 }
    }
}

/// All that an optimizer step sees before anything has moved.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a, T> {
    /// The number of the step, from 1.
    pub t: u64,
    /// All gradients, flat and finite, in the order of the variables.
    pub gradients: &'a [T],
    /// A factor on every gradient, from clipping that others do; 1 without.
    pub scale: f64,
    /// All variables of the session.
    values: &'a [T],
    /// Where in them each variable of the update lies.
    ranges: &'a [Range<usize>],
    /// The slots of the update, one after the other, each of `n` numbers, if all are here.
    state: Option<&'a [T]>,
    n: usize,
    /// Where in a slot the state of these variables starts.
    start: usize,
}

/// A variable, its gradient and its state, all of one length.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a, T> {
    /// The parameters.
    pub w: &'a [T],
    /// Their gradient, as it was computed: neither scaled nor clipped.
    pub g: &'a [T],
    state: Option<&'a [T]>,
    n: usize,
    start: usize,
}

impl<'a, T> Whole<'a, T> {
    /// The variables at these ranges of `values`, with their gradients and slots, flat.
    pub(crate) fn new(
        t: u64,
        values: &'a [T],
        ranges: &'a [Range<usize>],
        gradients: &'a [T],
        state: Option<&'a [T]>,
    ) -> Self {
        let (scale, n, start) = (1.0, gradients.len(), 0);
        Whole { t, gradients, scale, values, ranges, state, n, start }
    }

    /// Each variable, in the order of the steps.
    pub fn variables(&self) -> impl Iterator<Item = Slices<'a, T>> + use<'a, T> {
        let Whole { gradients, values, ranges, state, n, start, .. } = *self;
        let mut at = 0;
        ranges.iter().map(move |range| {
            let from = at;
            at += range.len();
            let g = &gradients[from..at];
            Slices { w: &values[range.clone()], g, state, n, start: start + from }
        })
    }

    /// As a rule sees it whose slots come after the first `n`.
    pub(crate) fn without_slots(self, n: usize) -> Self {
        Whole { state: self.state.map(|all| &all[(n * self.n).min(all.len())..]), ..self }
    }

    /// Only the variables of these numbers.
    pub(crate) fn part(self, variables: Range<usize>) -> Self {
        let len = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).sum::<usize>();
        let before = len(&self.ranges[..variables.start]);
        let ranges = &self.ranges[variables];
        let gradients = &self.gradients[before..before + len(ranges)];
        Whole { gradients, ranges, start: self.start + before, ..self }
    }
}

impl<'a, T> Slices<'a, T> {
    /// Slot number `i` of the state.
    ///
    /// # Errors
    /// State that is shared out over ranks
    /// ([`with_sharded_state`](crate::Session::with_sharded_state)); no such slot.
    pub fn state(&self, i: usize) -> Result<&'a [T]> {
        let Some(all) = self.state else {
            bail!(Argument, "expected all state, which the step depends on, got one rank's share");
        };
        let at = i.saturating_mul(self.n).saturating_add(self.start);
        match all.get(at..at.saturating_add(self.w.len())) {
            Some(slot) => Ok(slot),
            None => bail!(Argument, "expected a slot that the rule has, got {i}"),
        }
    }
}

impl<T: Scalar> Hash for Effect<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Effect::Assign => {}
            Effect::Update(rule) => rule.hash(state),
        }
    }
}

impl<T: Scalar> Primitive<T> for Effect<T> {
    fn name(&self) -> &str {
        match self {
            Effect::Assign => "assign",
            Effect::Update(rule) => rule.0.name(),
        }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        for pair in x.chunks(2) {
            if !pair[1].accepts(&pair[0]) {
                bail!(Shape, "variable {} and value {} differ", pair[0], pair[1]);
            }
        }
        Ok(match self {
            Effect::Assign => x[0],
            Effect::Update(_) => Shape::SCALAR,
        })
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        // The session does the writing; here is only the value that a fetch of the node sees.
        if let Effect::Assign = self {
            y.float().copy_from_slice(x[1].float());
        }
        Ok(())
    }

    /// The values; of the variables only which they are and their shape.
    fn reads(&self, i: usize) -> bool {
        i % 2 == 1
    }

    fn derivative(&self, _: usize) -> Derivative {
        Derivative::Zero
    }

    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Mixes
    }
}
