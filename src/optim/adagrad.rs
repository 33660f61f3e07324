//! AdaGrad (Duchi, Hazan and Singer 2011): gradients over the root of the sum of their squares.

use super::{Pace, Rule, Schedule, Step, Whole, decays, not_negative, positive, trains};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// AdaGrad, with a matrix that is diagonal. At rate γ:
///
/// ```text
/// s ← s + g²                                    (s₀ before the first step)
/// w ← w − γ g / (√s + ε)
/// ```
///
/// State: Σg², one number a parameter. Duchi, Hazan and Singer, *Adaptive Subgradient Methods for
/// Online Learning and Stochastic Optimization* (2011), figure 1. s₀ = 0 and ε = 10⁻¹⁰ outside the
/// root are PyTorch's; optax and TensorFlow have s₀ = 0.1, and optax ε = 10⁻⁷ in the root.
/// PyTorch's decay of the rate is a [`Schedule`] here.
///
/// ```
/// use gradtape::{Session, Tape, optim::AdaGrad};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = AdaGrad::new(0.125).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert!((session.value(w)?.item()? - 1.125).abs() < 1e-9);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdaGrad {
    pace: Pace,
    epsilon: f64,
    inside: bool,
    initial: f64,
}

impl AdaGrad {
    /// The defaults above, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        AdaGrad { pace: Pace::new(rate), epsilon: 1e-10, inside: false, initial: 0.0 }
    }

    /// With this ε > 0 added to the root.
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        AdaGrad { epsilon, inside: false, ..self }
    }

    /// With √(s + ε), ε > 0.
    pub fn with_epsilon_inside(self, epsilon: f64) -> Self {
        AdaGrad { epsilon, inside: true, ..self }
    }

    /// With this s₀ ≥ 0.
    pub fn with_initial_accumulator(self, initial: f64) -> Self {
        AdaGrad { initial, ..self }
    }
}

decays!(AdaGrad, pace);
trains!(AdaGrad, pace);

impl<T: Scalar> Rule<T> for AdaGrad {
    fn name(&self) -> &str {
        "adagrad"
    }

    fn slots(&self) -> usize {
        1
    }

    fn check(&self) -> Result<()> {
        self.pace.check::<T>()?;
        positive::<T>("epsilon", self.epsilon)?;
        not_negative("initial accumulator", self.initial)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [s] = state else { return };
        let (inside, outside) = match self.inside {
            true => (self.initial + self.epsilon, 0.0),
            false => (self.initial, self.epsilon),
        };
        let common = self.pace.common(step, step.rate);
        let (inside, outside) = (T::lit(inside), T::lit(outside));
        update::adagrad(update::AdaGrad { common, inside, outside }, w, g, s);
    }
}
