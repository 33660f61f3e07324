//! Lion (Chen et al. 2023): the sign of a momentum, found by a search over programs.

use super::{Pace, Rule, Schedule, Step, Whole, trains, within_unit};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// Lion. With rate γ and weight decay λ:
///
/// ```text
/// w ← (1 − γλ) w − γ sign(β₁m + (1 − β₁)g)
/// m ← β₂m + (1 − β₂)g                           (0 before the first step)
/// ```
///
/// State: m, one number a parameter. Chen et al., *Symbolic Discovery of Optimization Algorithms*
/// (2023), program 1: β = (0.9, 0.99), and λ = 0 unless given (optax: 10⁻³). sign(0) = 0. Its steps
/// are larger than Adam's: the authors advise a rate 3 to 10 times smaller.
///
/// ```
/// use gradtape::{Session, Tape, optim::Lion};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = Lion::new(0.125).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert_eq!(session.value(w)?, 1.125.into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lion {
    pace: Pace,
    beta1: f64,
    beta2: f64,
}

impl Lion {
    /// The defaults above, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        Lion { pace: Pace::new(rate), beta1: 0.9, beta2: 0.99 }
    }

    /// With these β, each in [0, 1).
    pub fn with_betas(self, beta1: f64, beta2: f64) -> Self {
        Lion { beta1, beta2, ..self }
    }

    /// With this λ ≥ 0.
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.pace.decoupled = weight_decay;
        self
    }
}

trains!(Lion, pace);

impl<T: Scalar> Rule<T> for Lion {
    fn name(&self) -> &str {
        "lion"
    }

    fn slots(&self) -> usize {
        1
    }

    fn check(&self) -> Result<()> {
        self.pace.check::<T>()?;
        within_unit("beta1", self.beta1)?;
        within_unit("beta2", self.beta2)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [m] = state else { return };
        let c = update::Lion {
            common: self.pace.common(step, step.rate),
            beta1: T::lit(self.beta1),
            beta2: T::lit(self.beta2),
            rest1: T::lit(1.0 - self.beta1),
            rest2: T::lit(1.0 - self.beta2),
        };
        update::lion(c, w, g, m);
    }
}
