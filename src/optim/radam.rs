//! RAdam (Liu et al. 2020): Adam that trusts its second moment once it has seen enough gradients.

use super::adam::has_moments;
use super::{Adam, Rule, Schedule, Step, Whole, decays, trains};
use crate::error::{Result, bail};
use crate::kernel::update;
use crate::scalar::Scalar;

/// Rectified Adam. With m̂, v of [`Adam`] at rate γ:
///
/// ```text
/// ρ∞ = 2 / (1 − β₂) − 1,   ρ = ρ∞ − 2t β₂ᵗ / (1 − β₂ᵗ)
/// if ρ > 5:  w ← w − γ r m̂ √(1 − β₂ᵗ) / (√v + ε),
///            r = √((ρ − 4)(ρ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρ))
/// else:      w ← w − γ m̂
/// ```
///
/// State: m and v, as [`Adam`]'s. Liu et al., *On the Variance of the Adaptive Learning Rate and
/// Beyond* (2020), algorithm 2, whose threshold is 4 and which has no ε. Both are PyTorch's here;
/// optax has the same threshold and adds ε to the corrected root
/// ([`RAdam::with_corrected_epsilon`]). Defaults as [`Adam`]'s.
///
/// ```
/// use gradtape::{Session, Tape, optim::RAdam};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = RAdam::new(0.25).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// // The first steps are those of the mean gradient.
/// assert!((session.value(w)?.item()? - 2.0).abs() < 1e-12);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RAdam {
    adam: Adam,
    threshold: f64,
    corrected_epsilon: bool,
}

impl RAdam {
    /// Adam's defaults and the threshold 5, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        RAdam { adam: Adam::new(rate), threshold: 5.0, corrected_epsilon: false }
    }

    /// With this threshold for ρ, at least 4.
    pub fn with_threshold(self, threshold: f64) -> Self {
        RAdam { threshold, ..self }
    }

    /// With √v̂ + ε in the denominator, as in [`Adam`].
    pub fn with_corrected_epsilon(self) -> Self {
        RAdam { corrected_epsilon: true, ..self }
    }

    /// r of step t, once v counts.
    fn rectified(&self, t: u64) -> Option<f64> {
        let (beta2, t) = (self.adam.beta2, t as f64);
        let power = libm::pow(beta2, t);
        let last = 2.0 / (1.0 - beta2) - 1.0;
        let rho = last - 2.0 * t * power / (1.0 - power);
        let r = |rho: f64| (rho - 4.0) * (rho - 2.0) / rho;
        (rho > self.threshold).then(|| (r(rho) / r(last)).sqrt())
    }
}

has_moments!(RAdam);
decays!(RAdam, adam.pace);
trains!(RAdam, adam.pace);

impl<T: Scalar> Rule<T> for RAdam {
    fn name(&self) -> &str {
        "radam"
    }

    fn slots(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        self.adam.check::<T>()?;
        match self.threshold >= 4.0 && self.threshold.is_finite() {
            true => Ok(()),
            false => bail!(Argument, "expected a finite threshold ≥ 4, got {}", self.threshold),
        }
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.adam.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [m, v] = state else { return };
        let [c1, c2] = self.adam.corrections(step.t);
        let r = self.rectified(step.t);
        let mut c = self.adam.moments(step, step.rate * r.unwrap_or(1.0) / c1, c2.sqrt());
        if r.is_none() {
            // Then √v / root + ε is 1.
            (c.root, c.epsilon) = (T::infinity(), T::one());
        } else if !self.corrected_epsilon {
            c.epsilon /= c.root;
        }
        update::adam(c, w, g, m, v);
    }
}
