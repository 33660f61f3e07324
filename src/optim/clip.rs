//! Clipping of gradients, and with the schedule what every optimizer begins a step with.

use super::{Schedule, Step, positive};
use crate::error::{Result, bail};
use crate::kernel::update::sum_of_squares;
use crate::scalar::Scalar;

/// What keeps gradients small. Clipping comes first, before weight decay and moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// Gradients as they are.
    None,
    /// Each element is moved into `[−c, c]`.
    Value(f64),
    /// All gradients of the update are multiplied by `min(1, c / ‖g‖₂)`, with one norm over all
    /// of its variables, summed in f64.
    ///
    /// Pascanu et al., *On the difficulty of training recurrent neural networks* (2013), algorithm
    /// 1. PyTorch divides by ‖g‖ + 10⁻⁶ instead.
    Norm(f64),
}

/// Rate and clipping.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    rate: Schedule,
    pub(super) clip: Clip,
}

impl Pace {
    pub(super) fn new(rate: impl Into<Schedule>) -> Self {
        Pace { rate: rate.into(), clip: Clip::None }
    }

    pub(super) fn check<T: Scalar>(&self) -> Result<()> {
        self.rate.check()?;
        match self.clip {
            Clip::None => Ok(()),
            Clip::Value(c) | Clip::Norm(c) => positive::<T>("limit to clip to", c),
        }
    }

    pub(super) fn begin<T: Scalar>(&self, t: u64, gradients: &[T]) -> Result<Step> {
        let rate = self.rate.at(t);
        if !(rate >= 0.0 && T::lit(rate).is_finite()) {
            bail!(Argument, "expected a finite rate ≥ 0 in {}, got {rate}", T::NAME);
        }
        let mut step = Step::new(t, rate);
        match self.clip {
            Clip::None => {}
            Clip::Value(c) => step.limit = c,
            Clip::Norm(c) => {
                let norm = sum_of_squares(gradients).sqrt();
                if !norm.is_finite() {
                    bail!(NotFinite, "expected a finite norm of the gradients, got {norm}");
                }
                // Not c / norm first: that overflows for a norm next to 0.
                step.scale = if norm > c { c / norm } else { 1.0 };
            }
        }
        Ok(step)
    }
}
