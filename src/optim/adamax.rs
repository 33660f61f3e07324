//! Adamax (Kingma and Ba 2015): Adam with the largest gradient in place of their mean square.

use super::adam::has_moments;
use super::{Adam, Rule, Schedule, Step, Whole, decays, trains};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// Adamax. With rate γ, at step t = 1, 2, …:
///
/// ```text
/// m ← β₁m + (1 − β₁)g,  u ← max(β₂u, |g| + ε)       (both 0 before the first step)
/// w ← w − γ / (1 − β₁ᵗ) · m / u
/// ```
///
/// State: m and u, two numbers a parameter. Kingma and Ba, *Adam: A Method for Stochastic
/// Optimization* (2015), algorithm 2, which has no ε; it stands where PyTorch and optax have it.
/// Defaults as [`Adam`]'s; the rate is 0.002 in the paper.
///
/// ```
/// use gradtape::{Session, Tape, optim::Adamax};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = Adamax::new(0.125).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert!((session.value(w)?.item()? - 1.125).abs() < 1e-8);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adamax {
    adam: Adam,
}

impl Adamax {
    /// Adam's defaults, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        Adamax { adam: Adam::new(rate) }
    }
}

has_moments!(Adamax);
decays!(Adamax, adam.pace);
trains!(Adamax, adam.pace);

impl<T: Scalar> Rule<T> for Adamax {
    fn name(&self) -> &str {
        "adamax"
    }

    fn slots(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        self.adam.check::<T>()
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.adam.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [m, u] = state else { return };
        let [c1, _] = self.adam.corrections(step.t);
        update::adamax(self.adam.moments(step, step.rate / c1, 1.0), w, g, m, u);
    }
}
