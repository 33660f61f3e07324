//! Averages of the weights over the steps, beside any optimizer.

use super::{Rule, Step, Whole, within_unit};
use crate::error::{Result, bail};
use crate::kernel::update;
use crate::scalar::Scalar;
use crate::tape::Expr;

/// An optimizer that also keeps an average a of the weights, which often predicts better than they
/// do. It trains as without; [`Session::swap_average`](crate::Session::swap_average) puts the
/// average in the weights' place, and back. After each step, the n-th that counts:
///
/// ```text
/// a ← a + c(w − a),   c = 1 if n = 1
/// exponential:  c = 1 − d
/// debiased:     c = (1 − d) / (1 − dⁿ)
/// uniform:      c = 1 / n
/// ```
///
/// State: a, one number a parameter, beside the optimizer's own; one more pass over w and a. The
/// first is PyTorch's `AveragedModel` with an exponential average, the second optax's `ema`, the
/// third Polyak's average and that of Izmailov et al., *Averaging Weights Leads to Wider Optima and
/// Better Generalization* (2018).
///
/// ```
/// use gradtape::{Session, Tape, optim::{Averaged, Sgd}};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 0.0);
/// let train = Averaged::exponential(Sgd::new(1.0), 0.75).minimize(w)?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// session.run(train, &[])?;
/// session.swap_average(train)?;
/// assert_eq!(session.value(w)?, (-1.25).into()); // 0.75 · −1 + 0.25 · −2
/// session.swap_average(train)?;
/// assert_eq!(session.value(w)?, (-2.0).into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Averaged<R> {
    rule: R,
    shares: Shares,
    start: u64,
}

#[derive(Clone, Copy, Debug)]
enum Shares {
    Uniform,
    Exponential { decay: f64, debiased: bool },
}

impl<R> Averaged<R> {
    /// With the exponential average of decay d in [0, 1).
    pub fn exponential(rule: R, decay: f64) -> Self {
        Averaged { rule, shares: Shares::Exponential { decay, debiased: false }, start: 1 }
    }

    /// With the exponential average of decay d in [0, 1), each step counting by dᵏ from the first.
    pub fn debiased(rule: R, decay: f64) -> Self {
        Averaged { rule, shares: Shares::Exponential { decay, debiased: true }, start: 1 }
    }

    /// With the mean of the weights.
    pub fn uniform(rule: R) -> Self {
        Averaged { rule, shares: Shares::Uniform, start: 1 }
    }

    /// With this step, from 1, as the first that counts; before it a is w.
    pub fn with_start(self, start: u64) -> Self {
        Averaged { start, ..self }
    }

    /// A train op over every variable the loss depends on; see
    /// [`optim::minimize`](crate::optim::minimize), also for the errors.
    #[track_caller]
    pub fn minimize<'t, T: Scalar>(&self, loss: Expr<'t, T>) -> Result<Expr<'t, T>>
    where
        R: Rule<T> + Clone + 'static,
    {
        super::minimize(self.clone(), loss)
    }

    fn share(&self, t: u64) -> f64 {
        let n = (t + 1).saturating_sub(self.start).max(1);
        match self.shares {
            _ if n == 1 => 1.0,
            Shares::Uniform => 1.0 / n as f64,
            Shares::Exponential { decay, debiased: false } => 1.0 - decay,
            Shares::Exponential { decay, .. } => (1.0 - decay) / (1.0 - libm::pow(decay, n as f64)),
        }
    }
}

impl<T: Scalar, R: Rule<T>> Rule<T> for Averaged<R> {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn slots(&self) -> usize {
        1 + self.rule.slots()
    }

    fn averages(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        self.rule.check()?;
        if let Shares::Exponential { decay, .. } = self.shares {
            within_unit("decay of the average", decay)?;
        }
        match self.start {
            0 => bail!(Argument, "expected the average to start at step 1 or later, got 0"),
            _ => Ok(()),
        }
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.rule.begin(&whole.without_slots(1), steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let Some((average, state)) = state.split_first_mut() else { return };
        self.rule.update(step, w, g, state);
        update::average(T::lit(self.share(step.t)), w, average);
    }
}
