//! RMSProp (Hinton 2012): gradients over the root of their mean square, or of their variance.

use super::{Pace, Rule, Schedule, Step, Whole, decays, positive, trains, within_unit};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// RMSProp. With rate γ, momentum μ:
///
/// ```text
/// v ← αv + (1 − α)g²                           (0 before the first step)
/// b ← μb + g / (√v + ε)                        (likewise)
/// w ← w − γb
/// ```
///
/// and, centered, with √(v − a²) in place of √v, where a ← αa + (1 − α)g.
///
/// State: v, and a if centered, and b with momentum: one to three numbers a parameter. Tieleman and
/// Hinton, *Lecture 6.5: rmsprop* (2012), which has neither ε nor momentum; centered as in Graves,
/// *Generating Sequences With Recurrent Neural Networks* (2013), eq. 38 to 45. α = 0.99 and
/// ε = 10⁻⁸, outside the root, are PyTorch's; optax and TensorFlow have α = 0.9 and ε in the root
/// ([`RmsProp::with_epsilon_inside`]), and γ within b, which differs where the rate changes. A
/// variance that rounding made negative is 0 here.
///
/// ```
/// use gradtape::{Session, Tape, optim::RmsProp};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = RmsProp::new(0.01).with_alpha(0.75).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert!((session.value(w)?.item()? - 1.02).abs() < 1e-9);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RmsProp {
    pace: Pace,
    alpha: f64,
    epsilon: f64,
    inside: bool,
    momentum: f64,
    centered: bool,
}

impl RmsProp {
    /// The defaults above at this rate, not centered, without momentum.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        let pace = Pace::new(rate);
        let (alpha, epsilon, inside, momentum, centered) = (0.99, 1e-8, false, 0.0, false);
        RmsProp { pace, alpha, epsilon, inside, momentum, centered }
    }

    /// With this α in [0, 1), by which the means forget.
    pub fn with_alpha(self, alpha: f64) -> Self {
        RmsProp { alpha, ..self }
    }

    /// With this ε > 0 added to the root.
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        RmsProp { epsilon, inside: false, ..self }
    }

    /// With √(v + ε), ε > 0.
    pub fn with_epsilon_inside(self, epsilon: f64) -> Self {
        RmsProp { epsilon, inside: true, ..self }
    }

    /// With momentum μ, 0 ≤ μ < 1.
    pub fn with_momentum(self, momentum: f64) -> Self {
        RmsProp { momentum, ..self }
    }

    /// With the variance of the gradients in place of their mean square.
    pub fn centered(self) -> Self {
        RmsProp { centered: true, ..self }
    }
}

decays!(RmsProp, pace);
trains!(RmsProp, pace);

impl<T: Scalar> Rule<T> for RmsProp {
    fn name(&self) -> &str {
        "rmsprop"
    }

    fn slots(&self) -> usize {
        1 + usize::from(self.centered) + usize::from(self.momentum != 0.0)
    }

    fn check(&self) -> Result<()> {
        self.pace.check::<T>()?;
        within_unit("alpha", self.alpha)?;
        within_unit("momentum", self.momentum)?;
        positive::<T>("epsilon", self.epsilon)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let (epsilon, zero) = (T::lit(self.epsilon), T::zero());
        let (inside, outside) = if self.inside { (epsilon, zero) } else { (zero, epsilon) };
        let c = update::RmsProp {
            common: self.pace.common(step, step.rate),
            alpha: T::lit(self.alpha),
            rest: T::lit(1.0 - self.alpha),
            momentum: T::lit(self.momentum),
            inside,
            outside,
        };
        match (self.centered, state) {
            (false, [v]) => update::rmsprop(c, w, g, v),
            (false, [v, b]) => update::rmsprop_momentum(c, w, g, v, b),
            (true, [v, a]) => update::rmsprop_centered(c, w, g, v, a),
            (true, [v, a, b]) => update::rmsprop_centered_momentum(c, w, g, v, a, b),
            _ => {}
        }
    }
}
