//! Stochastic gradient descent, with momentum (Polyak 1964, Nesterov 1983) and weight decay.

use super::{Pace, Rule, Schedule, Step, Whole, trains, within_unit};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// Stochastic gradient descent, as PyTorch writes it. With rate γ, weight decay λ, momentum μ:
///
/// ```text
/// g ← ∇f(w) + λw
/// b ← μb + g                     (b = 0 before the first step)
/// w ← w − γb                     or, with Nesterov's momentum, w − γ(g + μb)
/// ```
///
/// State: b, one number a parameter; none without momentum. Polyak, *Some methods of speeding up
/// the convergence of iteration methods* (1964); Nesterov (1983) in the form of Sutskever et al.,
/// *On the importance of initialization and momentum* (2013). They scale b by the rate, so that a
/// change of the rate acts on them more slowly than here.
///
/// ```
/// use gradtape::{Session, Tape, optim::Sgd};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = Sgd::new(0.25).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert_eq!(session.value(w)?, 2.0.into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sgd {
    pace: Pace,
    momentum: f64,
    nesterov: bool,
}

impl Sgd {
    /// Plain gradient descent at this rate: no momentum, no weight decay.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        Sgd { pace: Pace::new(rate), momentum: 0.0, nesterov: false }
    }

    /// With momentum μ, 0 ≤ μ < 1.
    pub fn with_momentum(self, momentum: f64) -> Self {
        Sgd { momentum, nesterov: false, ..self }
    }

    /// With momentum μ, 0 ≤ μ < 1, in Nesterov's form.
    pub fn with_nesterov(self, momentum: f64) -> Self {
        Sgd { momentum, nesterov: true, ..self }
    }

    /// With λw added to the (clipped) gradient: the gradient of λ/2 ‖w‖².
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.pace.weight_decay = weight_decay;
        self
    }
}

trains!(Sgd, pace);

impl<T: Scalar> Rule<T> for Sgd {
    fn name(&self) -> &str {
        "sgd"
    }

    fn slots(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }

    fn check(&self) -> Result<()> {
        self.pace.check::<T>()?;
        within_unit("momentum", self.momentum)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let common = self.pace.common(step, step.rate);
        match state {
            [b] => {
                let (momentum, nesterov) = (T::lit(self.momentum), self.nesterov);
                update::momentum(update::Momentum { common, momentum, nesterov }, w, g, b);
            }
            _ => update::sgd(common, w, g),
        }
    }
}
