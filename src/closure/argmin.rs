//! A closure as a problem of argmin's solvers (feature `argmin`).

use super::ValueAndGrad;
use crate::{Expr, Tensor};
use argmin::core::{CostFunction, Error, Gradient};
use std::sync::{Mutex, PoisonError};

/// A compiled closure as argmin's [`CostFunction`] and [`Gradient`], over `Vec<f64>`: argmin 0.11
/// knows nalgebra up to 0.34 only. Value and gradient of a point are computed together, and kept
/// until another point is asked for.
///
/// ```
/// use argmin::core::{Executor, State};
/// use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
/// use gradtape::value_and_grad;
/// let loss = value_and_grad(|w| {
///     let (a, b) = (w.index_axis(0, 0), w.index_axis(0, 1));
///     (1.0 - a).square() + 100.0 * (b - a.square()).square()
/// });
/// let solver = LBFGS::new(MoreThuenteLineSearch::new(), 7);
/// let run = Executor::new(loss.into_argmin(), solver)
///     .configure(|state| state.param(vec![-1.2, 1.0]).max_iters(100))
///     .run()
///     .unwrap();
/// let w = run.state().get_best_param().unwrap();
/// assert!((w[0] - 1.0).abs() < 1e-5 && (w[1] - 1.0).abs() < 1e-5);
/// ```
#[derive(Debug)]
pub struct ArgminProblem<F>(Mutex<Last<F>>);

/// The closure with the last point and what it was there.
#[derive(Debug)]
struct Last<F> {
    f: ValueAndGrad<F>,
    w: Tensor<f64>,
    value: Option<f64>,
    gradient: Tensor<f64>,
}

impl<F> ValueAndGrad<F> {
    /// The closure as a problem for argmin's solvers.
    pub fn into_argmin(self) -> ArgminProblem<F> {
        let (w, gradient) = (Tensor::default(), Tensor::default());
        ArgminProblem(Mutex::new(Last { f: self, w, value: None, gradient }))
    }
}

impl<F> ArgminProblem<F>
where
    F: for<'t> Fn(Expr<'t, f64>) -> Expr<'t, f64>,
{
    /// What `take` makes of value and gradient at w.
    fn at<R>(&self, w: &[f64], take: impl FnOnce(f64, &Tensor<f64>) -> R) -> Result<R, Error> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Last { f, w: at, value, gradient } = &mut *last;
        let value = match value {
            Some(value) if at.as_slice() == w => *value,
            _ => {
                *value = None;
                *at = Tensor::vector(w.to_vec());
                *value.insert(f.at_into(at, gradient)?)
            }
        };
        Ok(take(value, gradient))
    }
}

impl<F> CostFunction for ArgminProblem<F>
where
    F: for<'t> Fn(Expr<'t, f64>) -> Expr<'t, f64>,
{
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, w: &Vec<f64>) -> Result<f64, Error> {
        self.at(w, |value, _| value)
    }
}

impl<F> Gradient for ArgminProblem<F>
where
    F: for<'t> Fn(Expr<'t, f64>) -> Expr<'t, f64>,
{
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, w: &Vec<f64>) -> Result<Vec<f64>, Error> {
        self.at(w, |_, gradient| gradient.as_slice().to_vec())
    }
}
