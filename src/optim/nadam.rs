//! NAdam (Dozat 2016): Adam that looks ahead as Nesterov's momentum does.

use super::adam::has_moments;
use super::{Adam, Rule, Schedule, Step, Whole, decays, not_negative, trains};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// NAdam. With m, v, v̂ of [`Adam`] at rate γ:
///
/// ```text
/// μₜ = β₁ (1 − 0.96^(ψt) / 2),   Πₜ = μ₁μ₂…μₜ
/// w ← w − γ ((1 − μₜ) / (1 − Πₜ) g + μₜ₊₁ / (1 − Πₜ₊₁) m) / (√v̂ + ε)
/// ```
///
/// State: m and v, as [`Adam`]'s; the products follow from t. Dozat, *Incorporating Nesterov
/// Momentum into Adam* (2016), algorithm 2, with PyTorch's ψ = 0.004 and its deviation: m is moved
/// by β₁, not by μₜ. [`NAdam::with_constant_momentum`] is optax's: μₜ = β₁. A step works out Π in
/// at most about 40 / (1 − β₁) products. Defaults as [`Adam`]'s; PyTorch's rate is 0.002.
///
/// ```
/// use gradtape::{Session, Tape, optim::NAdam};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = NAdam::new(1e-3).with_constant_momentum().minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// // (1 + 0.9 · 0.1 / (1 − 0.81)) γ
/// assert!((session.value(w)?.item()? - 1.0014736842).abs() < 1e-9);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NAdam {
    adam: Adam,
    /// ψ, or none for a momentum that is β₁ from the start.
    momentum_decay: Option<f64>,
}

impl NAdam {
    /// Adam's defaults and ψ = 0.004, at this rate.
    pub fn new(rate: impl Into<Schedule>) -> Self {
        NAdam { adam: Adam::new(rate), momentum_decay: Some(0.004) }
    }

    /// With this ψ ≥ 0: the larger, the sooner the momentum is β₁.
    pub fn with_momentum_decay(self, momentum_decay: f64) -> Self {
        NAdam { momentum_decay: Some(momentum_decay), ..self }
    }

    /// With μₜ = β₁, as optax has it.
    pub fn with_constant_momentum(self) -> Self {
        NAdam { momentum_decay: None, ..self }
    }

    /// The shares of the gradient and of the moment in step t.
    fn shares(&self, t: u64) -> [f64; 2] {
        let beta1 = self.adam.beta1;
        let (now, next, product) = match self.momentum_decay {
            None => (beta1, beta1, libm::pow(beta1, t as f64)),
            Some(psi) => {
                let mu = |t: f64| beta1 * (1.0 - 0.5 * libm::pow(0.96, psi * t));
                (mu(t as f64), mu(t as f64 + 1.0), product(beta1, psi, t))
            }
        };
        [(1.0 - now) / (1.0 - product), next / (1.0 - product * next)]
    }
}

/// μ₁μ₂…μₜ, as far as 1 less that can be told from 1.
fn product(beta1: f64, psi: f64, t: u64) -> f64 {
    let (ratio, mut power, mut product) = (libm::pow(0.96, psi), 1.0, 1.0);
    for _ in 0..t {
        power *= ratio;
        product *= beta1 * (1.0 - 0.5 * power);
        if product < f64::EPSILON / 8.0 {
            break;
        }
    }
    product
}

has_moments!(NAdam);
decays!(NAdam, adam.pace);
trains!(NAdam, adam.pace);

impl<T: Scalar> Rule<T> for NAdam {
    fn name(&self) -> &str {
        "nadam"
    }

    fn slots(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        self.adam.check::<T>()?;
        not_negative("momentum decay", self.momentum_decay.unwrap_or(0.0))
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.adam.pace.begin(whole, steps)?;
        let numbers = self.shares(whole.t);
        steps.iter_mut().for_each(|step| step.numbers = numbers);
        Ok(())
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let [m, v] = state else { return };
        let [_, c2] = self.adam.corrections(step.t);
        let adam = self.adam.moments(step, step.rate, c2.sqrt());
        let [of_gradient, of_moment] = step.numbers.map(T::lit);
        update::nadam(update::NAdam { adam, of_gradient, of_moment }, w, g, m, v);
    }
}
