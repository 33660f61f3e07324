//! Methods that see the whole batch at each step: their handle, and how it drives a session.

use super::layout::Layout;
use super::outcome::{Outcome, Progress};
use super::{in_order, trainable};
use crate::error::{Result, bail};
use crate::kernel::vector::multiply;
use crate::run::Session;
use crate::scalar::Scalar;
use crate::tape::{AsNode, Expr, Feed, Fetch, Placeholder, Var};
use crate::tensor::Tensor;
use std::fmt;
use std::ops::ControlFlow;

/// A function of many variables with its derivatives, over flat slices. An error ends the method; a
/// value that is not finite does not.
///
/// A closure of the point and the gradient's memory is one, and so is a pair of closures, of which
/// the second gives products with the Hessian.
pub trait Function<T: Scalar> {
    /// The value at `x` and, into the second slice, the gradient.
    ///
    /// # Errors
    /// Whatever ends the method.
    fn gradient(&mut self, x: &[T], gradient: &mut [T]) -> Result<f64>;

    /// The product of the Hessian at `x` with `v`, into the third slice.
    ///
    /// # Errors
    /// Whatever ends the method; a function that has none.
    fn product(&mut self, x: &[T], v: &[T], product: &mut [T]) -> Result<()> {
        let _ = (x, v, product);
        bail!(Gradient, "expected a function with Hessian-vector products, got a gradient only")
    }
}

impl<T: Scalar, F: FnMut(&[T], &mut [T]) -> Result<f64>> Function<T> for F {
    fn gradient(&mut self, x: &[T], gradient: &mut [T]) -> Result<f64> {
        self(x, gradient)
    }
}

impl<T, F, H> Function<T> for (F, H)
where
    T: Scalar,
    F: FnMut(&[T], &mut [T]) -> Result<f64>,
    H: FnMut(&[T], &[T], &mut [T]) -> Result<()>,
{
    fn gradient(&mut self, x: &[T], gradient: &mut [T]) -> Result<f64> {
        (self.0)(x, gradient)
    }

    fn product(&mut self, x: &[T], v: &[T], product: &mut [T]) -> Result<()> {
        (self.1)(x, v, product)
    }
}

/// What a [`Method`] minimizes.
pub type Objective<'a, T> = &'a mut dyn Function<T>;

/// Sees each iteration, the start as number 0, and may end the run.
pub type Observer<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// A method that makes a function of many variables small by its values and gradients, over flat
/// slices; it knows neither tapes nor sessions. [`FullBatch`] runs it on a loss.
///
/// ```
/// use gradtape::optim::{Lbfgs, Method};
/// use std::ops::ControlFlow;
/// let mut x = [3.0, -1.0];
/// let mut f = |x: &[f64], g: &mut [f64]| {
///     g.copy_from_slice(&[2.0 * (x[0] - 1.0), 20.0 * x[1]]);
///     Ok((x[0] - 1.0).powi(2) + 10.0 * x[1].powi(2))
/// };
/// let outcome = Lbfgs::new().descend(&mut f, &mut x, &mut |_| ControlFlow::Continue(()))?;
/// assert!(outcome.converged() && (x[0] - 1.0).abs() < 1e-8 && x[1].abs() < 1e-8);
/// # Ok::<(), gradtape::Error>(())
/// ```
pub trait Method: fmt::Debug + Clone {
    /// The name in messages.
    fn name(&self) -> &str;

    /// That the hyperparameters are in range for numbers of type T.
    ///
    /// # Errors
    /// They are not.
    fn check<T: Scalar>(&self) -> Result<()>;

    /// Whether it asks for products with the Hessian.
    fn needs_products(&self) -> bool {
        false
    }

    /// The method for variables measured in these units: bounds change with them.
    fn in_units(&self, _units: &[f64]) -> Self {
        self.clone()
    }

    /// Moves `x` from where it starts to the best point found, also when `f` fails.
    ///
    /// # Errors
    /// Hyperparameters out of range; no memory; what `f` reports.
    fn descend<T: Scalar>(
        &self,
        f: Objective<'_, T>,
        x: &mut [T],
        observe: Observer<'_>,
    ) -> Result<Outcome>;
}

/// A loss to be minimized over the whole batch by a [`Method`]: a handle that outlives the tape's
/// borrow. Make it before the session, because it records the gradient.
///
/// The loss has to be a function of the variables and the feeds alone: what draws new random
/// numbers at each run has no gradient that a line search could follow.
#[derive(Clone, Debug)]
pub struct FullBatch<M> {
    pub(super) method: M,
    loss: Fetch,
    pub(super) variables: Layout,
    gradients: Vec<Fetch>,
    products: Option<Products>,
    start_scales: bool,
}

/// Placeholders for a vector, one for each variable, and the Hessian's products with it.
#[derive(Clone, Debug)]
struct Products {
    vectors: Vec<Placeholder>,
    products: Vec<Fetch>,
}

impl<M: Method> FullBatch<M> {
    /// Over every variable that the loss depends on: what a method's own `minimize` calls.
    ///
    /// # Errors
    /// As [`optim::minimize`](super::minimize).
    #[track_caller]
    pub fn record<T: Scalar>(method: M, loss: Expr<'_, T>) -> Result<Self> {
        Self::of(method, loss, &trainable("minimize: expected a loss", loss)?, super::NAME_THEM)
    }

    /// As [`FullBatch::record`], over these variables only.
    ///
    /// # Errors
    /// As [`optim::minimize_over`](super::minimize_over); also no variable.
    #[track_caller]
    pub fn record_over<T: Scalar, N: AsNode>(
        method: M,
        loss: Expr<'_, T>,
        variables: &[N],
    ) -> Result<Self> {
        Self::of(method, loss, variables, super::LEAVE_IT_OUT)
    }

    #[track_caller]
    fn of<T: Scalar, N: AsNode>(
        method: M,
        loss: Expr<'_, T>,
        variables: &[N],
        advice: &str,
    ) -> Result<Self> {
        method.check::<T>().map_err(|e| e.within(method.name()))?;
        if variables.is_empty() {
            bail!(Argument, "{}: expected variables, got none", method.name());
        }
        let tape = loss.tape();
        let gradients = tape.gradient_or(loss, variables, advice)?;
        let pairs: Vec<_> = variables.iter().copied().zip(gradients).collect();
        let pairs = in_order(tape, &pairs).map_err(|e| e.within(method.name()))?;
        let (variables, gradients): (Vec<_>, Vec<_>) =
            pairs.chunks_exact(2).map(|p| (p[0], Fetch::from(p[1]))).unzip();
        let products = match method.needs_products() {
            true => {
                let vector = |&w| (w, tape.placeholder("vector", Expr::shape(w)));
                let vectors: Vec<_> = variables.iter().map(vector).collect();
                let products = tape.hessian_vector_product(loss, &vectors)?;
                Some(Products {
                    vectors: vectors.into_iter().map(|(_, v)| v.into()).collect(),
                    products: products.into_iter().map(Fetch::from).collect(),
                })
            }
            false => None,
        };
        let variables = Layout::of(&variables);
        let loss = loss.into();
        Ok(FullBatch { method, loss, variables, gradients, products, start_scales: false })
    }

    /// With each element of a variable measured in units of where it starts: as if it had been
    /// written 2ᵏθ, with θ in place of w in the method, 2ᵏ ≤ |w₀| < 2ᵏ⁺¹, and 2ᵏ = 1 if w₀ = 0.
    /// Gradient norms are then those of θ, that is of 2ᵏ ∂f/∂w.
    ///
    /// For parameters of different sizes, of which the start knows the order: those of a curve fit,
    /// where 500 may stand beside 0.0001. Not for random weights, whose smallest would hardly move.
    pub fn with_start_scales(self) -> Self {
        FullBatch { start_scales: true, ..self }
    }

    /// Minimizes from the variables' present values, which end at the best point found. Compiled at
    /// the first run of these fetches and shapes, replayed at each evaluation.
    ///
    /// # Errors
    /// As [`Session::run`]; the variables keep their best values so far. How the run ended
    /// otherwise, with success or without, is in the outcome.
    pub fn run<T: Scalar>(
        &self,
        session: &mut Session<T>,
        feeds: &[Feed<'_, T>],
    ) -> Result<Outcome> {
        self.run_with(session, feeds, |_| ControlFlow::Continue(()))
    }

    /// As [`FullBatch::run`], with an observer that sees each iteration and may end the run.
    ///
    /// # Errors
    /// As [`FullBatch::run`].
    pub fn run_with<T: Scalar>(
        &self,
        session: &mut Session<T>,
        feeds: &[Feed<'_, T>],
        mut observe: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Outcome> {
        let name = self.method.name();
        let mut x = self.variables.gather(session).map_err(|e| e.within(name))?;
        let scales: Option<Vec<T>> = match self.start_scales {
            true => Some(x.iter_mut().map(split_off_scale).collect()),
            false => None,
        };
        let method = match &scales {
            Some(scales) => {
                &self.method.in_units(&scales.iter().map(|s| s.to_f64()).collect::<Vec<_>>())
            }
            None => &self.method,
        };
        let mut f =
            OnSession { fit: self, session, feeds, w: x.clone(), scales, fetched: <_>::default() };
        let outcome = method.descend(&mut f, &mut x, &mut observe);
        f.assign(&x)?;
        outcome
    }

    /// The variables it moves, in the order recorded.
    pub fn variables(&self) -> &[Var] {
        self.variables.variables()
    }
}

/// The loss as a function of flat slices, by runs of a session.
struct OnSession<'a, T: Scalar, M> {
    fit: &'a FullBatch<M>,
    session: &'a mut Session<T>,
    feeds: &'a [Feed<'a, T>],
    w: Vec<T>,
    scales: Option<Vec<T>>,
    fetched: (Tensor<T>, Vec<Tensor<T>>),
}

impl<T: Scalar, M: Method> OnSession<'_, T, M> {
    /// Gives the variables the values x, by way of `w` if there are scales to multiply by.
    fn assign(&mut self, x: &[T]) -> Result<()> {
        self.w.copy_from_slice(x);
        if let Some(scales) = &self.scales {
            multiply(&mut self.w, scales);
        }
        self.fit.variables.assign(self.session, &self.w)
    }

    /// The fetched parts one after the other, in the units of x.
    fn take(&self, parts: &[Tensor<T>], out: &mut [T]) {
        let mut rest = &mut *out;
        for part in parts {
            let here;
            (here, rest) = rest.split_at_mut(part.len());
            here.copy_from_slice(part.as_slice());
        }
        if let Some(scales) = &self.scales {
            multiply(out, scales);
        }
    }
}

impl<T: Scalar, M: Method> Function<T> for OnSession<'_, T, M> {
    fn gradient(&mut self, x: &[T], gradient: &mut [T]) -> Result<f64> {
        self.assign(x)?;
        let fetches = (self.fit.loss, self.fit.gradients.as_slice());
        self.session.run_into(fetches, self.feeds, &mut self.fetched)?;
        self.take(&self.fetched.1, gradient);
        self.fetched.0.item().map(T::to_f64)
    }

    fn product(&mut self, x: &[T], v: &[T], product: &mut [T]) -> Result<()> {
        let Some(Products { vectors, products }) = &self.fit.products else {
            bail!(Gradient, "{}: expected products to be recorded", self.fit.method.name());
        };
        self.assign(x)?;
        self.w.copy_from_slice(v);
        if let Some(scales) = &self.scales {
            multiply(&mut self.w, scales);
        }
        let feeds: Vec<_> = (self.feeds.iter().copied())
            .chain(self.fit.variables.feeds(vectors, &self.w))
            .collect();
        self.session.run_into(products.as_slice(), &feeds, &mut self.fetched.1)?;
        self.take(&self.fetched.1, product);
        Ok(())
    }
}

/// Leaves in `x` its sign and significand, and gives the power of two that it was that many times;
/// leaves 0 as it is, and 1 for it.
fn split_off_scale<T: Scalar>(x: &mut T) -> T {
    /// So that neither scales nor numbers of usual size times them leave the range of f32.
    const MAX_EXPONENT: i32 = 60;
    let (_, exponent) = libm::frexp(x.to_f64());
    let exponent = (exponent - 1).clamp(-MAX_EXPONENT, MAX_EXPONENT);
    if *x == T::zero() || !x.is_finite() {
        return T::one();
    }
    *x = T::lit(libm::ldexp(x.to_f64(), -exponent));
    T::lit(libm::ldexp(1.0, exponent))
}
