//! AdamW (Loshchilov and Hutter 2019): Adam with weight decay that the gradient's size does not
//! rescale.

use super::{Adam, Clip, Rule, Schedule, Step, not_negative, trains};
use crate::error::Result;
use crate::scalar::Scalar;

/// Adam with decoupled weight decay λ. At rate γ:
///
/// ```text
/// w ← (1 − γλ) w, then the step of Adam
/// ```
///
/// State: as [`Adam`]'s, and as costly. Loshchilov and Hutter, *Decoupled Weight Decay
/// Regularization* (2019), algorithm 2, with PyTorch's deviation: the decay is multiplied by the
/// whole rate γ, where the paper multiplies by the schedule's factor only. λ = 0.01 is PyTorch's.
///
/// ```
/// use gradtape::{Session, Tape, optim::AdamW};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 2.0);
/// let train = AdamW::new(1e-3).with_weight_decay(0.5).minimize(w.square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert!((session.value(w)?.item()? - (2.0 * 0.9995 - 1e-3)).abs() < 1e-10);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdamW {
    adam: Adam,
    weight_decay: f64,
}

impl AdamW {
    /// Adam's defaults and a weight decay of 0.01, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        AdamW { adam: Adam::new(rate), weight_decay: 0.01 }
    }

    /// As [`Adam::with_betas`].
    pub fn with_betas(self, beta1: f64, beta2: f64) -> Self {
        AdamW { adam: self.adam.with_betas(beta1, beta2), ..self }
    }

    /// As [`Adam::with_epsilon`].
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        AdamW { adam: self.adam.with_epsilon(epsilon), ..self }
    }

    /// With this λ ≥ 0.
    pub fn with_weight_decay(self, weight_decay: f64) -> Self {
        AdamW { weight_decay, ..self }
    }
}

trains!(AdamW, adam.pace);

impl<T: Scalar> Rule<T> for AdamW {
    fn name(&self) -> &str {
        "adamw"
    }

    fn slots(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        self.adam.check::<T>()?;
        not_negative("weight decay", self.weight_decay)
    }

    fn begin(&self, t: u64, gradients: &[T]) -> Result<Step> {
        self.adam.pace.begin(t, gradients)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        self.adam.step(step, 1.0 - step.rate * self.weight_decay, w, g, state);
    }
}
