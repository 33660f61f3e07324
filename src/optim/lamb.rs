//! LAMB (You et al. 2020): Adam's direction, with steps in proportion to each variable's norm.

use super::adam::has_moments;
use super::{Adam, Rule, Schedule, Step, Whole, not_negative, trains};
use crate::error::{Result, bail};
use crate::kernel::update;
use crate::scalar::Scalar;

/// LAMB, for large batches. With m̂, v̂ of [`Adam`], rate γ and weight decay λ, in each variable:
///
/// ```text
/// d = m̂ / (√v̂ + ε) + λw
/// w ← w − γ ‖w‖₂ / ‖d‖₂ · d          (w − γd if either norm is 0)
/// ```
///
/// State: m and v, as [`Adam`]'s; a step reads parameters, gradients and state once more, for the
/// norms, summed in f64. You et al., *Large Batch Optimization for Deep Learning: Training BERT in
/// 76 minutes* (2020), algorithm 2, with φ the identity and norms over whole variables as the
/// layers, both as optax has it. β = (0.9, 0.999), ε = 10⁻⁶, λ = 0. Biases and scales are commonly
/// left out of the ratio: give them a rule of their own in [`Groups`](super::Groups).
///
/// ```
/// use gradtape::{Session, Tape, Tensor, optim::Lamb};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", Tensor::vector(vec![3.0, 4.0]));
/// let train = Lamb::new(0.1).minimize(w.sum())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// // A step of 0.1 · ‖(3, 4)‖, along (1, 1).
/// let moved = 0.5 / 2.0f64.sqrt();
/// assert!((session.value(w)?.as_slice()[0] - (3.0 - moved)).abs() < 1e-6);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lamb {
    adam: Adam,
    weight_decay: f64,
}

impl Lamb {
    /// The defaults above, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        Lamb { adam: Adam::new(rate).with_epsilon(1e-6), weight_decay: 0.0 }
    }

    /// With this λ ≥ 0.
    pub fn with_weight_decay(self, weight_decay: f64) -> Self {
        Lamb { weight_decay, ..self }
    }

    fn kernel<T: Scalar>(&self, step: &Step) -> update::Lamb<T> {
        let [c1, c2] = self.adam.corrections(step.t);
        let adam = self.adam.moments(step, step.rate, c2.sqrt());
        update::Lamb { adam, correction: T::lit(c1), decay: T::lit(self.weight_decay) }
    }
}

has_moments!(Lamb);
trains!(Lamb, adam.pace);

impl<T: Scalar> Rule<T> for Lamb {
    fn name(&self) -> &str {
        "lamb"
    }

    fn slots(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        self.adam.check::<T>()?;
        not_negative("weight decay", self.weight_decay)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.adam.pace.begin(whole, steps)?;
        for (step, x) in steps.iter_mut().zip(whole.variables()) {
            let of_w = update::sum_of_squares(x.w).sqrt();
            let (m, v) = (x.state(0)?, x.state(1)?);
            let of_d = update::lamb_squares(self.kernel(step), [x.w, x.g, m, v]);
            if step.rate > 0.0 && of_w > 0.0 && of_d > 0.0 {
                step.rate *= of_w / of_d.sqrt();
            }
            if !T::lit(step.rate).is_finite() {
                bail!(NotFinite, "expected a finite trust ratio, got {of_w} / {}", of_d.sqrt());
            }
        }
        Ok(())
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [m, v] = state else { return };
        update::lamb(self.kernel(step), w, g, m, v);
    }
}
