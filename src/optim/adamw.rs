//! AdamW (Loshchilov and Hutter 2019): Adam with weight decay that the gradient's size does not
//! rescale.

use super::adam::has_moments;
use super::{Adam, Rule, Schedule, Step, Whole, trains};
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
}

impl AdamW {
    /// Adam's defaults and a weight decay of 0.01, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        AdamW { adam: Adam::new(rate) }.with_weight_decay(0.01)
    }

    /// With this λ ≥ 0.
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.adam.pace.decoupled = weight_decay;
        self
    }
}

has_moments!(AdamW);
trains!(AdamW, adam.pace);

impl<T: Scalar> Rule<T> for AdamW {
    fn name(&self) -> &str {
        "adamw"
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
        self.adam.step(step, w, g, state);
    }
}
