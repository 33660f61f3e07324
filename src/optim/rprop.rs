//! Rprop (Riedmiller and Braun 1993): step sizes that the gradients' signs alone decide.

use super::{Pace, Rule, Schedule, Step, Whole, positive, trains};
use crate::error::{Result, bail};
use crate::kernel::update;
use crate::scalar::Scalar;

/// Rprop, for whole batches. With the gradient p of the step before (0 at first):
///
/// ```text
/// s ← s η⁺ if gp > 0,  s η⁻ if gp < 0,  within [s_min, s_max]      (γ₁ at first)
/// g ← 0 if gp < 0
/// w ← w − γₜ/γ₁ · s · sign(g),  p ← g
/// ```
///
/// State: p and s, two numbers a parameter. Riedmiller and Braun, *A Direct Adaptive Method for
/// Faster Backpropagation Learning: The RPROP Algorithm* (1993), in the form without backtracking
/// of Igel and Hüsken (2000), iRprop⁻, as in PyTorch and optax, whose numbers these are: η = (0.5,
/// 1.2), s in [10⁻⁶, 50]. There the rate is only the size of the first step; here a schedule, and
/// [`Session::scale_rate`](crate::Session::scale_rate), scale those after it, and a rate of 0 moves
/// nothing.
///
/// ```
/// use gradtape::{Session, Tape, optim::Rprop};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = Rprop::new(0.25).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// session.run(train, &[])?;
/// assert!((session.value(w)?.item()? - 1.55).abs() < 1e-12); // 1 + 0.25 + 0.25 · 1.2
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rprop {
    pace: Pace,
    factors: [f64; 2],
    sizes: [f64; 2],
}

impl Rprop {
    /// The defaults above, with the first rate as the first size.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        Rprop { pace: Pace::new(rate), factors: [0.5, 1.2], sizes: [1e-6, 50.0] }
    }

    /// With these factors, 0 < η⁻ < 1 < η⁺.
    pub fn with_factors(self, shrink: f64, grow: f64) -> Self {
        Rprop { factors: [shrink, grow], ..self }
    }

    /// With sizes between these, 0 < s_min ≤ s_max.
    pub fn with_sizes(self, smallest: f64, largest: f64) -> Self {
        Rprop { sizes: [smallest, largest], ..self }
    }
}

trains!(Rprop, pace);

impl<T: Scalar> Rule<T> for Rprop {
    fn name(&self) -> &str {
        "rprop"
    }

    fn slots(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        self.pace.check::<T>()?;
        let ([shrink, grow], [smallest, largest]) = (self.factors, self.sizes);
        if !(shrink > 0.0 && shrink < 1.0 && grow > 1.0 && grow.is_finite()) {
            bail!(Argument, "expected factors with 0 < η⁻ < 1 < η⁺, got {shrink} and {grow}");
        }
        positive::<T>("smallest size", smallest)?;
        match largest >= smallest && T::lit(largest).is_finite() {
            true => Ok(()),
            false => bail!(Argument, "expected a largest size ≥ {smallest}, got {largest}"),
        }
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)?;
        let first = self.pace.rate.at(1);
        for step in steps {
            step.rate = if first > 0.0 { step.rate / first } else { 0.0 };
            step.numbers[0] = first;
        }
        Ok(())
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [p, s] = state else { return };
        let c = update::Rprop {
            common: self.pace.common(step, step.rate),
            first: T::lit(step.numbers[0]),
            shrink: T::lit(self.factors[0]),
            grow: T::lit(self.factors[1]),
            smallest: T::lit(self.sizes[0]),
            largest: T::lit(self.sizes[1]),
        };
        update::rprop(c, w, g, p, s);
    }
}
