//! AMSGrad (Reddi, Kale and Kumar 2018): Adam whose steps never grow because gradients shrink.

use super::adam::has_moments;
use super::{Adam, Rule, Schedule, Step, Whole, decays, trains};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// AMSGrad. With m, v, m̂, v̂ of [`Adam`] at rate γ:
///
/// ```text
/// u ← max(u, v)                              (0 before the first step)
/// w ← w − γ m̂ / (√(u / (1 − β₂ᵗ)) + ε)
/// ```
///
/// State: m, v and u, three numbers a parameter. Reddi, Kale and Kumar, *On the Convergence of Adam
/// and Beyond* (2018), algorithm 2, which corrects no bias and has no ε. The correction here is
/// PyTorch's; for optax's and the paper's see [`BiasCorrection`]. Defaults as [`Adam`]'s.
///
/// ```
/// use gradtape::{Session, Tape, optim::AmsGrad};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = AmsGrad::new(1e-3).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert!((session.value(w)?.item()? - 1.001).abs() < 1e-10);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AmsGrad {
    adam: Adam,
    correction: BiasCorrection,
}

/// Where AMSGrad corrects for moments that start at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasCorrection {
    /// m and the largest v, each by its correction of the present step (PyTorch).
    AfterMax,
    /// m and v: the largest v̂ is kept (optax).
    BeforeMax,
    /// Nowhere (the paper).
    None,
}

impl AmsGrad {
    /// Adam's defaults, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        AmsGrad { adam: Adam::new(rate), correction: BiasCorrection::AfterMax }
    }

    /// With bias corrected there.
    pub fn with_bias_correction(self, correction: BiasCorrection) -> Self {
        AmsGrad { correction, ..self }
    }
}

has_moments!(AmsGrad);
decays!(AmsGrad, adam.pace);
trains!(AmsGrad, adam.pace);

impl<T: Scalar> Rule<T> for AmsGrad {
    fn name(&self) -> &str {
        "amsgrad"
    }

    fn slots(&self) -> usize {
        3
    }

    fn check(&self) -> Result<()> {
        self.adam.check::<T>()
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.adam.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [m, v, u] = state else { return };
        let [c1, c2] = self.adam.corrections(step.t);
        let (c1, before, root) = match self.correction {
            BiasCorrection::AfterMax => (c1, 1.0, c2.sqrt()),
            BiasCorrection::BeforeMax => (c1, c2, 1.0),
            BiasCorrection::None => (1.0, 1.0, 1.0),
        };
        let adam = self.adam.moments(step, step.rate / c1, root);
        update::amsgrad(update::AmsGrad { adam, before: T::lit(before) }, w, g, m, v, u);
    }
}
