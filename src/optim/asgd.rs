//! Averaged stochastic gradient descent (Polyak and Juditsky 1992).

use super::{Pace, Rule, Schedule, Step, Whole, not_negative, trains};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// Averaged SGD, as PyTorch writes it. At rate γ and step t = 1, 2, …:
///
/// ```text
/// η = γ / (1 + λγ(t − 1))^α
/// w ← (1 − λη) w − ηg
/// a ← a + (w − a) / max(1, t − 1 − t₀)
/// ```
///
/// State: a, one number a parameter; [`Session::swap_average`](crate::Session::swap_average) puts
/// it in the weights' place. Polyak and Juditsky, *Acceleration of Stochastic Approximation by
/// Averaging* (1992); the rates are those of Bottou's implementation, which PyTorch follows: λ =
/// 10⁻⁴, α = 0.75, t₀ = 10⁶ (until which a is w). For averages beside any other optimizer see
/// [`Averaged`](super::Averaged).
///
/// ```
/// use gradtape::{Session, Tape, optim::Asgd};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 0.0);
/// let train = Asgd::new(1.0).with_lambda(0.0).with_start(0).minimize(w)?;
/// let mut session = Session::new(&tape)?;
/// for _ in 0..3 {
///     session.run(train, &[])?;
/// }
/// session.swap_average(train)?;
/// assert_eq!(session.value(w)?, (-2.5).into()); // the mean of −2 and −3
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Asgd {
    /// λ is its decoupled decay, at rate η.
    pace: Pace,
    alpha: f64,
    start: u64,
}

impl Asgd {
    /// The defaults above, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        Asgd { pace: Pace::new(rate), alpha: 0.75, start: 1_000_000 }.with_lambda(1e-4)
    }

    /// With this λ ≥ 0, by which weights and rate decay.
    pub fn with_lambda(mut self, lambda: f64) -> Self {
        self.pace.decoupled = lambda;
        self
    }

    /// With this power α ≥ 0 of the rate.
    pub fn with_alpha(self, alpha: f64) -> Self {
        Asgd { alpha, ..self }
    }

    /// With this t₀.
    pub fn with_start(self, start: u64) -> Self {
        Asgd { start, ..self }
    }

    /// With λw added to the (clipped) gradient, beside the λ of the formula.
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.pace.weight_decay = weight_decay;
        self
    }
}

trains!(Asgd, pace);

impl<T: Scalar> Rule<T> for Asgd {
    fn name(&self) -> &str {
        "asgd"
    }

    fn slots(&self) -> usize {
        1
    }

    fn averages(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        not_negative("lambda", self.pace.decoupled)?;
        self.pace.check::<T>()?;
        not_negative("alpha", self.alpha)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)?;
        let done = whole.t.saturating_sub(1);
        for step in steps {
            let grown = 1.0 + self.pace.decoupled * step.rate * done as f64;
            step.rate /= libm::pow(grown, self.alpha);
            step.numbers[0] = 1.0 / done.saturating_sub(self.start).max(1) as f64;
        }
        Ok(())
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [a] = state else { return };
        let common = self.pace.common(step, step.rate);
        update::asgd(common, T::lit(step.numbers[0]), w, g, a);
    }
}
