//! Gradients of several micro-batches for one step.

use super::{Rule, Step, Whole, apply, trainable};
use crate::error::Result;
use crate::kernel::update::add_up;
use crate::scalar::Scalar;
use crate::tape::{Expr, Fetch};
use crate::tensor::Tensor;

/// One step from the gradients of k micro-batches: fetch [`Accumulate::add`] for the first k − 1 of
/// them and [`Accumulate::step`] for the last, each with its feeds. Equals the step of the whole
/// batch, up to rounding, if its loss is the mean (or the sum) of those of the micro-batches.
///
/// Sums are variables of the tape, one number a parameter, after those that are recorded already;
/// k may be another for each step. A micro-batch whose gradient is infinite or NaN is refused and
/// changes nothing.
///
/// ```
/// use gradtape::optim::{Accumulate, Sgd};
/// use gradtape::{ANY, Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let x = tape.placeholder("x", [ANY]);
/// let w = tape.variable("w", 0.0);
/// let loss = (w * x).mean();
/// let batches = Accumulate::mean(loss, |pairs| Sgd::new(1.0).apply(pairs))?;
/// let mut session = Session::new(&tape)?;
/// session.run(batches.add(), &[x.feed(&Tensor::vector(vec![1.0, 2.0]))])?;
/// session.run(batches.step(), &[x.feed(&Tensor::vector(vec![3.0, 4.0]))])?;
/// assert_eq!(session.value(w)?, (-2.5).into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Accumulate {
    add: Fetch,
    step: (Fetch, Fetch),
}

impl Accumulate {
    /// For a loss that is a mean over the batch: the gradient of the step is the mean of those of
    /// the micro-batches, which should be of one size. `train` makes the train op of the variables
    /// with their gradients: `|pairs| Adam::new(1e-3).apply(pairs)`.
    ///
    /// # Errors
    /// As [`optim::minimize`](crate::optim::minimize); what `train` reports.
    #[track_caller]
    pub fn mean<'t, T: Scalar>(
        loss: Expr<'t, T>,
        train: impl FnOnce(&[(Expr<'t, T>, Expr<'t, T>)]) -> Result<Expr<'t, T>>,
    ) -> Result<Self> {
        Self::of(loss, train, true)
    }

    /// For a loss that is a sum over the batch.
    ///
    /// # Errors
    /// As [`Accumulate::mean`].
    #[track_caller]
    pub fn sum<'t, T: Scalar>(
        loss: Expr<'t, T>,
        train: impl FnOnce(&[(Expr<'t, T>, Expr<'t, T>)]) -> Result<Expr<'t, T>>,
    ) -> Result<Self> {
        Self::of(loss, train, false)
    }

    #[track_caller]
    fn of<'t, T: Scalar>(
        loss: Expr<'t, T>,
        train: impl FnOnce(&[(Expr<'t, T>, Expr<'t, T>)]) -> Result<Expr<'t, T>>,
        is_mean: bool,
    ) -> Result<Self> {
        let (tape, variables) = (loss.tape(), trainable(loss)?);
        let gradients = tape.gradient_or(loss, &variables, super::NAME_THEM)?;
        let count = tape.variable("micro-batches", T::zero());
        let mut adds = vec![(count, tape.literal(1.0))];
        let n = count + tape.literal(1.0);
        let mut pairs = Vec::with_capacity(variables.len());
        for (&w, &g) in variables.iter().zip(&gradients) {
            let sum = tape.variable(&format!("sum of {}", w.name()), Tensor::zeros(w.shape())?);
            adds.push((sum, g));
            let total = sum + g;
            pairs.push((w, if is_mean { total / n } else { total }));
        }
        let clears: Vec<_> = adds.iter().map(|&(sum, _)| (sum, -sum)).collect();
        let step = train(&pairs)?;
        Ok(Accumulate {
            add: apply(AddUp, &adds)?.into(),
            step: (step.into(), apply(AddUp, &clears)?.into()),
        })
    }

    /// Adds the gradients of one more micro-batch, which is not the last.
    pub fn add(&self) -> Fetch {
        self.add
    }

    /// Adds those of the last, takes the step and starts again from 0. The first of its two values
    /// is that of the train op.
    pub fn step(&self) -> (Fetch, Fetch) {
        self.step
    }
}

/// w ← w + g
#[derive(Debug)]
struct AddUp;

impl<T: Scalar> Rule<T> for AddUp {
    fn name(&self) -> &str {
        "accumulate"
    }

    fn slots(&self) -> usize {
        0
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        steps.fill(Step::new(whole.t, 1.0));
        Ok(())
    }

    fn update(&self, _: &Step, w: &mut [T], g: &[T], _: &mut [&mut [T]]) {
        add_up(w, g);
    }
}
