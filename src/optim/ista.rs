//! Proximal gradient descent for an L1 penalty: weights become 0, not only small.

use super::{Pace, Rule, Schedule, Step, Whole, not_negative, trains};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// Iterative soft thresholding: minimizes loss + λ‖w‖₁, of which the loss is given. At rate γ:
///
/// ```text
/// w ← S(w − γg, γλ),   S(x, a) = sign(x) max(|x| − a, 0)
/// ```
///
/// State: none. Daubechies, Defrise and De Mol, *An iterative thresholding algorithm for linear
/// inverse problems with a sparsity constraint* (2004); Beck and Teboulle, *A Fast Iterative
/// Shrinkage-Thresholding Algorithm* (2009), eq. 1.4. For a loss ‖Xw − y‖²/2 (the lasso) it
/// descends at every rate up to 1 / ‖XᵀX‖₂. Clipping would change the minimum. An intercept is not
/// penalized if it has a group of its own, see [`Groups`](super::Groups).
///
/// ```
/// use gradtape::{Session, Tape, Tensor, optim::Ista};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", Tensor::vector(vec![3.0, 0.5, -2.0]));
/// let train = Ista::new(0.5, 1.0).minimize(w.sum() * 0.0)?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert_eq!(session.value(w)?.as_slice(), [2.5, 0.0, -1.5]);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ista {
    pace: Pace,
    penalty: f64,
}

impl Ista {
    /// At this rate, with this λ ≥ 0.
    pub fn new(rate: impl Into<Schedule>, penalty: f64) -> Self {
        Ista { pace: Pace::new(rate), penalty }
    }

    /// With λ₂w added to the gradient: the gradient of λ₂/2 ‖w‖², the other part of an elastic net.
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.pace.weight_decay = weight_decay;
        self
    }
}

trains!(Ista, pace);

impl<T: Scalar> Rule<T> for Ista {
    fn name(&self) -> &str {
        "ista"
    }

    fn slots(&self) -> usize {
        0
    }

    fn check(&self) -> Result<()> {
        self.pace.check::<T>()?;
        not_negative("penalty", self.penalty)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], _: &mut [&mut [T]]) {
        let common = self.pace.common(step, step.rate);
        update::soft_threshold(common, T::lit(step.rate * self.penalty), w, g);
    }
}
