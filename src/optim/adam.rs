//! Adam (Kingma and Ba 2015): steps of the size of the rate, whatever the size of the gradients.

use super::{Pace, Rule, Schedule, Step, Whole, positive, trains, within_unit};
use crate::error::Result;
use crate::kernel::update;
use crate::scalar::Scalar;

/// Adam. With rate γ, at step t = 1, 2, …:
///
/// ```text
/// m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²        (both 0 before the first step)
/// w ← w − γ m̂ / (√v̂ + ε),  m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)
/// ```
///
/// State: m and v, two numbers a parameter; a step moves seven numbers a parameter through memory.
/// Kingma and Ba, *Adam: A Method for Stochastic Optimization* (2015), algorithm 1, whose defaults
/// these are: β = (0.9, 0.999), ε = 10⁻⁸. Weight decay here is the gradient of a penalty, which the
/// moments rescale, as in PyTorch's `Adam`; for a decay of the weights themselves see
/// [`AdamW`](super::AdamW).
///
/// ```
/// use gradtape::{Session, Tape, optim::Adam};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", 1.0);
/// let train = Adam::new(1e-3).minimize((w - 3.0).square())?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert!((session.value(w)?.item()? - 1.001).abs() < 1e-10);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adam {
    pub(super) pace: Pace,
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    epsilon: f64,
}

impl Adam {
    /// The defaults of the paper, at this rate (the paper's is 0.001).
    pub fn new(rate: impl Into<Schedule>) -> Self {
        Adam { pace: Pace::new(rate), beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    /// With these rates of decay of the moments, each in [0, 1).
    pub fn with_betas(self, beta1: f64, beta2: f64) -> Self {
        Adam { beta1, beta2, ..self }
    }

    /// With this ε > 0 in the denominator, outside the root.
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Adam { epsilon, ..self }
    }

    /// With λw added to the (clipped) gradient: the gradient of λ/2 ‖w‖².
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.pace.weight_decay = weight_decay;
        self
    }

    pub(super) fn check<T: Scalar>(&self) -> Result<()> {
        self.pace.check::<T>()?;
        within_unit("beta1", self.beta1)?;
        within_unit("beta2", self.beta2)?;
        positive::<T>("epsilon", self.epsilon)
    }

    /// 1 − βᵗ of either moment.
    pub(super) fn corrections(&self, t: u64) -> [f64; 2] {
        [self.beta1, self.beta2].map(|beta| 1.0 - power(beta, t))
    }

    /// The kernel's numbers, with this rate before the moment and this root below v.
    pub(super) fn moments<T: Scalar>(&self, step: &Step, rate: f64, root: f64) -> update::Adam<T> {
        update::Adam {
            common: self.pace.common(step, rate),
            beta1: T::lit(self.beta1),
            beta2: T::lit(self.beta2),
            rest1: T::lit(1.0 - self.beta1),
            rest2: T::lit(1.0 - self.beta2),
            root: T::lit(root),
            epsilon: T::lit(self.epsilon),
        }
    }

    pub(super) fn step<T: Scalar>(
        &self,
        step: &Step,
        w: &mut [T],
        g: &[T],
        state: &mut [&mut [T]],
    ) {
        let [m, v] = state else { return };
        let [c1, c2] = self.corrections(step.t);
        update::adam(self.moments(step, step.rate / c1, c2.sqrt()), w, g, m, v);
    }
}

/// βᵗ by squares: products round alike everywhere, while std's powers differ between platforms.
fn power(beta: f64, mut t: u64) -> f64 {
    let (mut power, mut square) = (1.0, beta);
    while t > 0 {
        if t & 1 == 1 {
            power *= square;
        }
        square *= square;
        t >>= 1;
    }
    power
}

trains!(Adam, pace);

/// The methods of optimizers that have an `adam` in them.
macro_rules! has_moments {
    ($name:ident) => {
        impl $name {
            /// As [`Adam::with_betas`](super::Adam::with_betas).
            pub fn with_betas(mut self, beta1: f64, beta2: f64) -> Self {
                self.adam = self.adam.with_betas(beta1, beta2);
                self
            }

            /// With this ε > 0; see the formula for where it stands.
            pub fn with_epsilon(mut self, epsilon: f64) -> Self {
                self.adam = self.adam.with_epsilon(epsilon);
                self
            }
        }
    };
}
pub(super) use has_moments;

impl<T: Scalar> Rule<T> for Adam {
    fn name(&self) -> &str {
        "adam"
    }

    fn slots(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        Adam::check::<T>(self)
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        self.pace.begin(whole, steps)
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        self.step(step, w, g, state);
    }
}
