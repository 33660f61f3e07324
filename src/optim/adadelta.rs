//! Adadelta (Zeiler 2012): steps in the units of the parameters, from the sizes of those before.

use super::{Pace, Rule, Schedule, Step, Whole, decays, positive, trains, within_unit};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// Adadelta. At rate γ:
///
/// ```text
/// v ← ρv + (1 − ρ)g²                            (0 before the first step)
/// d = √(u + ε) / √(v + ε) · g
/// u ← ρu + (1 − ρ)d²                            (likewise)
/// w ← w − γd
/// ```
///
/// State: v and u, two numbers a parameter. Zeiler, *ADADELTA: An Adaptive Learning Rate Method*
/// (2012), algorithm 1, which has no rate: γ = 1. ρ = 0.9 and ε = 10⁻⁶ are PyTorch's and optax's.
///
/// ```
/// use gradtape::{Session, Tape, optim::Adadelta};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = Adadelta::new(1.0).with_rho(0.75).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// // √10⁻⁶ / √(16 / 4) · 4
/// assert!((session.value(w)?.item()? - 1.002).abs() < 1e-8);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adadelta {
    pace: Pace,
    rho: f64,
    epsilon: f64,
}

impl Adadelta {
    /// The defaults above, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        Adadelta { pace: Pace::new(rate), rho: 0.9, epsilon: 1e-6 }
    }

    /// With this ρ in [0, 1), by which the means forget.
    pub fn with_rho(self, rho: f64) -> Self {
        Adadelta { rho, ..self }
    }

    /// With this ε > 0 in both roots.
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Adadelta { epsilon, ..self }
    }
}

decays!(Adadelta, pace);
trains!(Adadelta, pace);

impl<T: Scalar> Rule<T> for Adadelta {
    fn name(&self) -> &str {
        "adadelta"
    }

    fn slots(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        self.pace.check::<T>()?;
        within_unit("rho", self.rho)?;
        positive::<T>("epsilon", self.epsilon)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [v, u] = state else { return };
        let c = update::Adadelta {
            common: self.pace.common(step, step.rate),
            rho: T::lit(self.rho),
            rest: T::lit(1.0 - self.rho),
            epsilon: T::lit(self.epsilon),
        };
        update::adadelta(c, w, g, v, u);
    }
}
