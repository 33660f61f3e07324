//! When to stop: the validation loss has not become better for some time.

/// Ends training once the loss has not improved for `patience` epochs in a row.
///
/// ```
/// use gradtape::data::{EarlyStopping, Verdict};
/// let mut stopping = EarlyStopping::new(2).min_delta(0.01);
/// let verdicts = [0.9, 0.5, 0.495, 0.6].map(|loss| stopping.update(loss));
/// use Verdict::{Improved, Stop, Wait};
/// assert_eq!(verdicts, [Improved, Improved, Wait, Stop]);
/// assert_eq!(stopping.best(), Some((1, 0.5)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStopping {
    patience: usize,
    min_delta: f64,
    /// Epochs seen.
    epochs: usize,
    /// Epoch and loss.
    best: Option<(usize, f64)>,
}

/// What a loss means for training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Better than all before: keep these weights.
    Improved,
    /// No better, but not for long.
    Wait,
    /// No better for `patience` epochs.
    Stop,
}

impl EarlyStopping {
    /// Stops after `patience` epochs without improvement; 0 and 1 both stop at the first.
    pub fn new(patience: usize) -> Self {
        EarlyStopping { patience, min_delta: 0.0, epochs: 0, best: None }
    }

    /// An improvement is a loss less than the best one by more than `delta`.
    pub fn min_delta(self, delta: f64) -> Self {
        EarlyStopping { min_delta: delta, ..self }
    }

    /// Takes the loss of one more epoch; lower is better (negate an accuracy). NaN never improves.
    pub fn update(&mut self, loss: f64) -> Verdict {
        let epoch = self.epochs;
        self.epochs += 1;
        let better = match self.best {
            Some((_, best)) => best - loss > self.min_delta,
            None => !loss.is_nan(),
        };
        if better {
            self.best = Some((epoch, loss));
            return Verdict::Improved;
        }
        let waited = self.best.map_or(self.epochs, |(at, _)| epoch - at);
        if waited >= self.patience { Verdict::Stop } else { Verdict::Wait }
    }

    /// The epoch, counted from 0, with the lowest loss, and that loss; `None` before the first
    /// that is a number.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.best
    }
}
