//! Learning rates as functions of the step. Knows no optimizer.

use super::not_negative;
use crate::error::{Result, bail};
use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

/// The learning rate γ as a function of the step t = 1, 2, …; a number is a constant rate. What
/// depends on a metric is [`OnPlateau`](super::OnPlateau).
///
/// ```
/// use gradtape::optim::{Adam, Schedule};
/// let rate = Schedule::Cosine { rate: 1e-3, end: 0.0, n_steps: 1000 }.after_warm_up(100);
/// assert_eq!([1, 50, 100, 101].map(|t| rate.at(t)), [1e-5, 5e-4, 1e-3, 1e-3]);
/// let adam = Adam::new(rate);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Schedule {
    /// Always this rate.
    Constant(f64),
    /// `rate · factor^⌊(t − 1) / every⌋`.
    Step {
        /// The first rate.
        rate: f64,
        /// What the rate is multiplied with.
        factor: f64,
        /// After how many steps, each time.
        every: u64,
    },
    /// `rate · factorᵏ`, k the number of those steps in `after` that have been taken.
    MultiStep {
        /// The first rate.
        rate: f64,
        /// What the rate is multiplied with.
        factor: f64,
        /// After which steps; once for each mention.
        after: Vec<u64>,
    },
    /// `rate · factor^(t − 1)`.
    Exponential {
        /// The first rate.
        rate: f64,
        /// What the rate is multiplied with after each step.
        factor: f64,
    },
    /// `end + (rate − end) (1 + cos(π (t − 1) / n_steps)) / 2`, and `end` ever after: half a wave.
    ///
    /// Loshchilov and Hutter, *SGDR* (2017), eq. 5, without restarts.
    Cosine {
        /// The first rate.
        rate: f64,
        /// The last rate.
        end: f64,
        /// The steps from one to the other.
        n_steps: u64,
    },
    /// As [`Schedule::Cosine`], and then from the first rate again, each time over `growth` times
    /// as many steps.
    ///
    /// Loshchilov and Hutter, *SGDR* (2017), eq. 5.
    CosineRestarts {
        /// The first rate, also after a restart.
        rate: f64,
        /// The rate that each wave ends before.
        end: f64,
        /// The steps of the first wave.
        n_steps: u64,
        /// How many times longer each wave is than the one before, at least 1.
        growth: u64,
    },
    /// `end + (rate − end) (1 − (t − 1) / n_steps)^power`, and `end` ever after; linear for 1.
    Polynomial {
        /// The first rate.
        rate: f64,
        /// The last rate.
        end: f64,
        /// The power, at least 0.
        power: f64,
        /// The steps from one to the other.
        n_steps: u64,
    },
    /// `peak · min(t / n_steps, √(n_steps / t))`: linear up to `peak` at step `n_steps`, then down
    /// by the root of the steps.
    ///
    /// Vaswani et al., *Attention Is All You Need* (2017), eq. 3, where `peak` is
    /// `(d_model · n_steps)^(−1/2)`.
    InverseSqrt {
        /// The largest rate.
        peak: f64,
        /// The steps up to it; 1 for none.
        n_steps: u64,
    },
    /// Up to `peak` and down again, each along half a cosine wave: from `peak / 25` to `peak` in
    /// the first 30 % of the steps, then to `peak / 250000`, which stays.
    ///
    /// Smith and Topin, *Super-Convergence* (2018); the numbers are those of PyTorch's
    /// `OneCycleLR`, which also cycles the momentum (not done here).
    OneCycle {
        /// The largest rate.
        peak: f64,
        /// The steps of the whole cycle.
        n_steps: u64,
    },
    /// Linear from `then.at(1) / n_steps` to `then.at(1)` in the first steps, then `then` from its
    /// beginning. See [`Schedule::after_warm_up`].
    WarmUp {
        /// The number of steps that warm up.
        n_steps: u64,
        /// What comes after.
        then: Box<Schedule>,
    },
    /// Any function of the step. See [`Schedule::custom`].
    Custom(Custom),
}

/// A user's function of the step.
#[derive(Clone)]
pub struct Custom(Arc<dyn Fn(u64) -> f64 + Send + Sync>);

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fn(t) -> rate")
    }
}

impl Schedule {
    /// The rate as a function of the step t = 1, 2, …. A step whose rate is negative, infinite or
    /// NaN is an error when it is run.
    pub fn custom(rate: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Schedule::Custom(Custom(Arc::new(rate)))
    }

    /// This schedule after `n_steps` steps in which its first rate is approached linearly:
    /// `γ₁ t / n_steps`.
    ///
    /// Goyal et al., *Accurate, Large Minibatch SGD* (2017), section 2.2.
    pub fn after_warm_up(self, n_steps: u64) -> Self {
        Schedule::WarmUp { n_steps, then: Box::new(self) }
    }

    /// The rate at step t = 1, 2, ….
    pub fn at(&self, t: u64) -> f64 {
        let done = t.saturating_sub(1) as f64;
        match *self {
            Schedule::Constant(rate) => rate,
            Schedule::Step { rate, factor, every } => {
                rate * libm::pow(factor, (t.saturating_sub(1) / every.max(1)) as f64)
            }
            Schedule::MultiStep { rate, factor, ref after } => {
                let taken = after.iter().filter(|&&step| step < t).count();
                rate * libm::pow(factor, taken as f64)
            }
            Schedule::Exponential { rate, factor } => rate * libm::pow(factor, done),
            Schedule::Cosine { rate, end, n_steps } => half_wave(rate, end, done, n_steps as f64),
            Schedule::CosineRestarts { rate, end, n_steps, growth } => {
                let (done, n) = within_wave(t.saturating_sub(1), n_steps.max(1), growth.max(1));
                half_wave(rate, end, done as f64, n as f64)
            }
            Schedule::Polynomial { rate, end, power, n_steps } => {
                let rest = (1.0 - done / n_steps as f64).max(0.0);
                if t > n_steps { end } else { end + (rate - end) * libm::pow(rest, power) }
            }
            Schedule::InverseSqrt { peak, n_steps } => {
                let (t, n) = (t as f64, n_steps as f64);
                peak * (t / n).min((n / t).sqrt())
            }
            Schedule::OneCycle { peak, n_steps } => {
                let n = n_steps as f64;
                let up = (0.3 * n - 1.0).max(0.0);
                match done < up {
                    true => half_wave(peak / 25.0, peak, done, up),
                    false => half_wave(peak, peak / 250_000.0, done - up, n - 1.0 - up),
                }
            }
            Schedule::WarmUp { n_steps, ref then } if t <= n_steps => {
                then.at(1) * (t as f64 / n_steps as f64)
            }
            Schedule::WarmUp { n_steps, ref then } => then.at(t - n_steps),
            Schedule::Custom(ref rate) => (rate.0)(t),
        }
    }

    /// That the numbers make sense.
    pub(super) fn check(&self) -> Result<()> {
        let some = |what: &str, n: u64| match n {
            0 => bail!(Argument, "expected {what} ≥ 1, got 0"),
            _ => Ok(()),
        };
        match *self {
            Schedule::Constant(rate) => not_negative("rate", rate),
            Schedule::Step { rate, factor, every } => {
                not_negative("rate", rate)?;
                not_negative("factor", factor)?;
                some("every", every)
            }
            Schedule::MultiStep { rate, factor, .. } | Schedule::Exponential { rate, factor } => {
                not_negative("rate", rate)?;
                not_negative("factor", factor)
            }
            Schedule::Cosine { rate, end, n_steps } => {
                not_negative("rate", rate)?;
                not_negative("end", end)?;
                some("n_steps", n_steps)
            }
            Schedule::CosineRestarts { rate, end, n_steps, growth } => {
                not_negative("rate", rate)?;
                not_negative("end", end)?;
                some("n_steps", n_steps)?;
                some("growth", growth)
            }
            Schedule::Polynomial { rate, end, power, n_steps } => {
                not_negative("rate", rate)?;
                not_negative("end", end)?;
                not_negative("power", power)?;
                some("n_steps", n_steps)
            }
            Schedule::InverseSqrt { peak, n_steps } | Schedule::OneCycle { peak, n_steps } => {
                not_negative("peak", peak)?;
                some("n_steps", n_steps)
            }
            Schedule::WarmUp { n_steps, ref then } => {
                some("n_steps of warm-up", n_steps)?;
                then.check()
            }
            Schedule::Custom(_) => Ok(()),
        }
    }
}

impl From<f64> for Schedule {
    fn from(rate: f64) -> Self {
        Schedule::Constant(rate)
    }
}

/// How far into its wave a step is, and how long that wave; the first has `n` steps, each later one
/// `growth` times as many.
fn within_wave(mut done: u64, mut n: u64, growth: u64) -> (u64, u64) {
    if growth == 1 {
        return (done % n, n);
    }
    while done >= n {
        done -= n;
        n = n.saturating_mul(growth);
    }
    (done, n)
}

/// From `a` to `b` along half a cosine wave of `n` steps; `b` from there on.
fn half_wave(a: f64, b: f64, done: f64, n: f64) -> f64 {
    let part = 0.5 * (1.0 + libm::cos(PI * done / n));
    if done >= n { b } else { a * part + b * (1.0 - part) }
}
