//! Smaller rates when a metric stops falling. A plain value, as early stopping is.

use super::not_negative;
use crate::error::{Result, bail};

/// A factor on the learning rate that falls when a metric has not fallen for some time. It is told
/// the metric, once an epoch for instance, and what it answers is given to the session:
///
/// ```
/// use gradtape::optim::{OnPlateau, Sgd};
/// use gradtape::{Session, Tape};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 0.0);
/// let train = Sgd::new(1.0).minimize(w)?;
/// let mut session = Session::new(&tape)?;
/// let mut plateau = OnPlateau::new(0.5).with_patience(1);
/// for loss in [3.0, 2.0, 2.0, 2.0] {
///     session.run(train, &[])?;
///     session.scale_rate(train, plateau.update(loss)?)?;
/// }
/// session.run(train, &[])?;
/// assert_eq!(session.value(w)?, (-4.5).into());
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// The factor starts at 1 and is multiplied after more than `patience` metrics in a row that are
/// not less than the best one by more than `threshold · |best|`. After that, as many metrics as the
/// cooldown is long do not count as bad. NaN is never better. Lower is better: negate an accuracy.
/// The defaults (patience 10, threshold 10⁻⁴, no cooldown, smallest factor 0) are those of
/// PyTorch's `ReduceLROnPlateau`, which changes the rate itself.
#[derive(Clone, Debug, PartialEq)]
pub struct OnPlateau {
    multiplier: f64,
    patience: usize,
    threshold: f64,
    cooldown: usize,
    smallest: f64,
    factor: f64,
    best: Option<f64>,
    bad: usize,
    /// Metrics that are still to pass before bad ones count.
    cooling: usize,
}

impl OnPlateau {
    /// Multiplies the rate by this, in (0, 1), on each plateau.
    pub fn new(multiplier: f64) -> Self {
        OnPlateau {
            multiplier,
            patience: 10,
            threshold: 1e-4,
            cooldown: 0,
            smallest: 0.0,
            factor: 1.0,
            best: None,
            bad: 0,
            cooling: 0,
        }
    }

    /// With so many bad metrics in a row let pass.
    pub fn with_patience(self, patience: usize) -> Self {
        OnPlateau { patience, ..self }
    }

    /// With this part of the best metric as the least improvement.
    pub fn with_threshold(self, threshold: f64) -> Self {
        OnPlateau { threshold, ..self }
    }

    /// With so many metrics let pass after each change of the rate.
    pub fn with_cooldown(self, cooldown: usize) -> Self {
        OnPlateau { cooldown, ..self }
    }

    /// With this as the smallest factor, in [0, 1].
    pub fn with_smallest_factor(self, smallest: f64) -> Self {
        OnPlateau { smallest, ..self }
    }

    /// Takes one more metric; the factor on the rate from here on, for
    /// [`Session::scale_rate`](crate::Session::scale_rate).
    ///
    /// # Errors
    /// A multiplier, threshold or smallest factor out of range.
    pub fn update(&mut self, metric: f64) -> Result<f64> {
        self.check().map_err(|e| e.within("on plateau"))?;
        let better = match self.best {
            Some(best) => best - metric > self.threshold * best.abs(),
            None => !metric.is_nan(),
        };
        if better {
            (self.best, self.bad) = (Some(metric), 0);
        } else {
            self.bad += 1;
        }
        if self.cooling > 0 {
            (self.cooling, self.bad) = (self.cooling - 1, 0);
        }
        if self.bad > self.patience {
            self.factor = (self.factor * self.multiplier).max(self.smallest);
            (self.cooling, self.bad) = (self.cooldown, 0);
        }
        Ok(self.factor)
    }

    /// The factor on the rate, 1 at first.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// The best metric so far; `None` before the first that is a number.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    fn check(&self) -> Result<()> {
        if !(self.multiplier > 0.0 && self.multiplier < 1.0) {
            bail!(Argument, "expected a multiplier in (0, 1), got {}", self.multiplier);
        }
        not_negative("threshold", self.threshold)?;
        match (0.0..=1.0).contains(&self.smallest) {
            true => Ok(()),
            false => bail!(Argument, "expected a smallest factor in [0, 1], got {}", self.smallest),
        }
    }
}
