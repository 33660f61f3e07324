//! What optimizers have in common: rate, clipping and weight decay. Here a step begins.

use super::clip::factor;
use super::{Clip, Schedule, Step, Whole, not_negative};
use crate::error::{Result, bail};
use crate::kernel::update::{Common, sum_of_squares};
use crate::scalar::Scalar;

/// Rate, clipping and weight decay.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    pub(super) rate: Schedule,
    pub(super) clip: Clip,
    /// Added to the norms of clipping.
    pub(super) clip_epsilon: f64,
    /// λ in g ← g + λw.
    pub(super) weight_decay: f64,
    /// λ in w ← (1 − γλ)w.
    pub(super) decoupled: f64,
}

impl Pace {
    pub(super) fn new(rate: impl Into<Schedule>) -> Self {
        let (clip, clip_epsilon) = (Clip::None, 0.0);
        Pace { rate: rate.into(), clip, clip_epsilon, weight_decay: 0.0, decoupled: 0.0 }
    }

    pub(super) fn check<T: Scalar>(&self) -> Result<()> {
        self.rate.check()?;
        self.clip.check::<T>()?;
        not_negative("epsilon of clipping", self.clip_epsilon)?;
        not_negative("weight decay", self.weight_decay)?;
        not_negative("weight decay", self.decoupled)
    }

    pub(super) fn begin<T: Scalar>(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        let rate = self.rate.at(whole.t);
        if !(rate >= 0.0 && T::lit(rate).is_finite()) {
            bail!(Argument, "expected a finite rate ≥ 0 in {}, got {rate}", T::NAME);
        }
        let mut step = Step { scale: whole.scale, ..Step::new(whole.t, rate) };
        let scale = |c, g| factor(c, self.clip_epsilon, whole.scale, sum_of_squares(g));
        match self.clip {
            Clip::None | Clip::TensorNorm(_) => {}
            Clip::Value(c) => step.limit = c,
            Clip::Norm(c) => step.scale = scale(c, whole.gradients)?,
        }
        steps.fill(step);
        if let Clip::TensorNorm(c) = self.clip {
            for (step, variable) in steps.iter_mut().zip(whole.variables()) {
                step.scale = scale(c, variable.g)?;
            }
        }
        Ok(())
    }

    /// What a kernel wants to know of a step, with this rate before the direction.
    pub(super) fn common<T: Scalar>(&self, step: &Step, rate: f64) -> Common<T> {
        Common {
            rate: T::lit(rate),
            scale: T::lit(step.scale),
            limit: T::lit(step.limit),
            decay: T::lit(self.weight_decay),
            keep: T::lit(1.0 - step.rate * self.decoupled),
        }
    }
}
