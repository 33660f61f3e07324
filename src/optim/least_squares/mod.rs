//! Least squares of a residual vector: the handle on a tape, and how it drives a session. The
//! methods are in files of their own and see flat slices only.

mod factor;
mod fit;
mod gauss_newton;
mod levenberg_marquardt;
mod problem;
mod robust;

pub use factor::Solver;
pub use fit::Fit;
pub use gauss_newton::GaussNewton;
pub use levenberg_marquardt::LevenbergMarquardt;
pub use robust::RobustLoss;

use super::full_batch::Observer;
use super::layout::Layout;
use super::outcome::Progress;
use super::{in_order, trainable};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::run::Session;
use crate::scalar::Scalar;
use crate::tape::{AsNode, Expr, Feed, Fetch, Placeholder, Var};
use crate::tensor::Tensor;
use std::fmt;
use std::ops::ControlFlow;

/// Up to so many parameters the columns of a Jacobian are recorded and share what they have in
/// common; products with one vector are run for each column or row of larger ones.
const MAX_COLUMNS: usize = 32;

/// Residuals as a function of parameters, with their Jacobian, over flat slices. An error ends a
/// fit; a value that is not finite does not.
///
/// The number of residuals with two closures is one, of which the first puts r(x) into its second
/// slice and the second the Jacobian.
pub trait Residuals {
    /// The number of residuals m.
    fn n_residuals(&self) -> usize;

    /// r(x), into the second slice.
    ///
    /// # Errors
    /// Whatever ends the fit.
    fn residuals(&mut self, x: &[f64], r: &mut [f64]) -> Result<()>;

    /// ∂rᵢ/∂xⱼ at i + mj of the second slice: (m, n), column-major.
    ///
    /// # Errors
    /// Whatever ends the fit.
    fn jacobian(&mut self, x: &[f64], jacobian: &mut [f64]) -> Result<()>;

    /// The relative rounding of the numbers.
    fn epsilon(&self) -> f64 {
        f64::EPSILON
    }
}

impl<R, J> Residuals for (usize, R, J)
where
    R: FnMut(&[f64], &mut [f64]) -> Result<()>,
    J: FnMut(&[f64], &mut [f64]) -> Result<()>,
{
    fn n_residuals(&self) -> usize {
        self.0
    }

    fn residuals(&mut self, x: &[f64], r: &mut [f64]) -> Result<()> {
        (self.1)(x, r)
    }

    fn jacobian(&mut self, x: &[f64], jacobian: &mut [f64]) -> Result<()> {
        (self.2)(x, jacobian)
    }
}

/// A method that makes the sum of squares of residuals small, by their Jacobian. [`LeastSquares`]
/// runs it on a tape.
///
/// ```
/// use gradtape::optim::{Fitter, LevenbergMarquardt};
/// use std::ops::ControlFlow;
/// let (t, y) = ([0.0f64, 1.0, 2.0, 3.0], [2.0, 1.2, 0.75, 0.44]);
/// let residuals = |x: &[f64], r: &mut [f64]| {
///     (0..4).for_each(|i| r[i] = x[0] * (-x[1] * t[i]).exp() - y[i]);
///     Ok(())
/// };
/// let jacobian = |x: &[f64], j: &mut [f64]| {
///     for i in 0..4 {
///         j[i] = (-x[1] * t[i]).exp();
///         j[4 + i] = -t[i] * x[0] * j[i];
///     }
///     Ok(())
/// };
/// let mut x = [1.0, 1.0];
/// let mut f = (4, residuals, jacobian);
/// let fit = LevenbergMarquardt::new().fit(&mut f, &mut x, &mut |_| ControlFlow::Continue(()))?;
/// assert!(fit.outcome.converged() && (x[1] - 0.5).abs() < 0.01);
/// assert!(fit.standard_errors()?[1] < 0.01);
/// # Ok::<(), gradtape::Error>(())
/// ```
pub trait Fitter: fmt::Debug + Clone {
    /// The name in messages.
    fn name(&self) -> &str;

    /// That the hyperparameters are in range.
    ///
    /// # Errors
    /// They are not.
    fn check(&self) -> Result<()>;

    /// Moves `x` from where it starts to the best point found, also when `f` fails.
    ///
    /// # Errors
    /// Hyperparameters out of range; no memory; what `f` reports.
    fn fit(&self, f: &mut dyn Residuals, x: &mut [f64], observe: Observer<'_>) -> Result<Fit>;
}

/// Residuals whose squares are to be made small by a [`Fitter`]: a handle that outlives the tape's
/// borrow. Make it before the session, because it records the Jacobian.
///
/// Up to 32 parameters, the columns of the Jacobian are recorded in forward mode and computed by
/// one run. With more, a run gives the product with one vector: in forward mode a column, or in
/// reverse mode a row where residuals are fewer than parameters.
#[derive(Clone, Debug)]
pub struct LeastSquares<M> {
    method: M,
    residuals: Fetch,
    variables: Layout,
    jacobian: Jacobian,
}

/// How the Jacobian is computed.
#[derive(Clone, Debug)]
enum Jacobian {
    /// One run for all columns.
    Columns(Vec<Fetch>),
    /// J·v for a fed v, and Jᵀ·u for a fed u.
    Products { v: Vec<Placeholder>, jv: Fetch, u: Placeholder, jtu: Vec<Fetch> },
}

impl<M: Fitter> LeastSquares<M> {
    /// Over every variable that the residuals depend on: what a method's own `least_squares` calls.
    ///
    /// # Errors
    /// As [`LevenbergMarquardt::least_squares`].
    #[track_caller]
    pub fn record<T: Scalar>(method: M, residuals: Expr<'_, T>) -> Result<Self> {
        Self::record_over(
            method,
            residuals,
            &trainable("least_squares: expected residuals", residuals)?,
        )
    }

    /// As [`LeastSquares::record`], over these variables only.
    ///
    /// # Errors
    /// As [`LevenbergMarquardt::least_squares_over`].
    #[track_caller]
    pub fn record_over<T: Scalar, N: AsNode>(
        method: M,
        residuals: Expr<'_, T>,
        variables: &[N],
    ) -> Result<Self> {
        let within = |e: Error, method: &M| e.within(method.name());
        method.check().map_err(|e| within(e, &method))?;
        if variables.is_empty() {
            bail!(Argument, "{}: expected variables, got none", method.name());
        }
        let tape = residuals.tape();
        tape.check()?;
        let pairs: Vec<_> = variables.iter().map(|&w| (w, tape.expr(w))).collect();
        let pairs = in_order(tape, &pairs).map_err(|e| within(e, &method))?;
        let variables: Vec<_> = pairs.into_iter().step_by(2).collect();
        let layout = Layout::of(&variables);
        let jacobian = match layout.len() <= MAX_COLUMNS {
            true => {
                let mut columns = Vec::with_capacity(layout.len());
                for &w in &variables {
                    for element in 0..w.shape().len() {
                        let one = tape.one_hot_at(w.shape(), element);
                        columns.push(tape.jvp(residuals, &[(w, one)])?.into());
                    }
                }
                Jacobian::Columns(columns)
            }
            false => {
                let vector = |&w| (w, tape.placeholder("vector", Expr::shape(w)));
                let v: Vec<_> = variables.iter().map(vector).collect();
                let jv = tape.jvp(residuals, &v)?.into();
                let u = tape.placeholder("covector", residuals.shape());
                let cts = tape.vjp(residuals, u, &variables)?;
                let unused = |w: &Expr<'_, T>| {
                    let text =
                        format!("{}: the residuals do not depend on {}", method.name(), w.name());
                    Error::new(ErrorKind::Gradient, text)
                };
                let jtu = cts.into_iter().zip(&variables);
                let jtu = jtu.map(|(ct, w)| ct.map(Fetch::from).ok_or_else(|| unused(w)));
                let jtu = jtu.collect::<Result<_>>()?;
                let v = v.into_iter().map(|(_, v)| v.into()).collect();
                Jacobian::Products { v, jv, u: u.into(), jtu }
            }
        };
        Ok(LeastSquares { method, residuals: residuals.into(), variables: layout, jacobian })
    }

    /// Fits from the variables' present values, which end at the best point found. Compiled at the
    /// first run of these fetches and shapes, replayed at each evaluation.
    ///
    /// # Errors
    /// As [`Session::run`]; the variables keep their best values so far. How the run ended
    /// otherwise, with success or without, is in the fit's outcome.
    pub fn run<T: Scalar>(&self, session: &mut Session<T>, feeds: &[Feed<'_, T>]) -> Result<Fit> {
        self.run_with(session, feeds, |_| ControlFlow::Continue(()))
    }

    /// As [`LeastSquares::run`], with an observer that sees each iteration and may end the run.
    ///
    /// # Errors
    /// As [`LeastSquares::run`].
    pub fn run_with<T: Scalar>(
        &self,
        session: &mut Session<T>,
        feeds: &[Feed<'_, T>],
        mut observe: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Fit> {
        let w = self.variables.gather(session).map_err(|e| e.within(self.method.name()))?;
        let mut x: Vec<f64> = w.iter().map(|w| w.to_f64()).collect();
        // How many residuals there are is known when something is fed.
        let r = session.run(self.residuals, feeds)?;
        let n_residuals = r.len();
        let mut f = OnSession { fit: self, session, feeds, w, n_residuals, r, parts: vec![] };
        let fit = self.method.fit(&mut f, &mut x, &mut observe);
        f.assign(&x)?;
        fit
    }

    /// The variables it moves, in the order recorded: that of the parameters of a [`Fit`].
    pub fn variables(&self) -> &[Var] {
        self.variables.variables()
    }
}

/// The residuals as a function of flat slices, by runs of a session.
struct OnSession<'a, T: Scalar, M> {
    fit: &'a LeastSquares<M>,
    session: &'a mut Session<T>,
    feeds: &'a [Feed<'a, T>],
    w: Vec<T>,
    n_residuals: usize,
    r: Tensor<T>,
    parts: Vec<Tensor<T>>,
}

impl<T: Scalar, M: Fitter> OnSession<'_, T, M> {
    fn assign(&mut self, x: &[f64]) -> Result<()> {
        self.w.iter_mut().zip(x).for_each(|(w, &x)| *w = T::lit(x));
        self.fit.variables.assign(self.session, &self.w)
    }
}

impl<T: Scalar, M: Fitter> Residuals for OnSession<'_, T, M> {
    fn n_residuals(&self) -> usize {
        self.n_residuals
    }

    fn residuals(&mut self, x: &[f64], r: &mut [f64]) -> Result<()> {
        self.assign(x)?;
        self.session.run_into(self.fit.residuals, self.feeds, &mut self.r)?;
        copy(self.r.as_slice(), r.iter_mut());
        Ok(())
    }

    fn jacobian(&mut self, x: &[f64], jacobian: &mut [f64]) -> Result<()> {
        self.assign(x)?;
        let (m, n) = (self.n_residuals, x.len());
        match &self.fit.jacobian {
            Jacobian::Columns(columns) => {
                self.session.run_into(columns.as_slice(), self.feeds, &mut self.parts)?;
                for (j, part) in self.parts.iter().enumerate() {
                    copy(part.as_slice(), jacobian[j * m..][..m].iter_mut());
                }
            }
            Jacobian::Products { v, jv, .. } if n <= m => {
                for j in 0..n {
                    self.w.fill(T::zero());
                    self.w[j] = T::one();
                    let feeds = self.feeds.iter().copied();
                    let feeds: Vec<_> = feeds.chain(self.fit.variables.feeds(v, &self.w)).collect();
                    self.session.run_into(*jv, &feeds, &mut self.r)?;
                    copy(self.r.as_slice(), jacobian[j * m..][..m].iter_mut());
                }
            }
            Jacobian::Products { u, jtu, .. } => {
                let mut one = self.r.clone();
                for i in 0..m {
                    one.as_mut_slice().fill(T::zero());
                    one.as_mut_slice()[i] = T::one();
                    let feeds = self.feeds.iter().copied();
                    let feeds: Vec<_> = feeds.chain([u.feed(&one)]).collect();
                    self.session.run_into(jtu.as_slice(), &feeds, &mut self.parts)?;
                    let mut row = jacobian[i..].iter_mut().step_by(m);
                    self.parts.iter().for_each(|part| copy(part.as_slice(), &mut row));
                }
            }
        }
        Ok(())
    }

    fn epsilon(&self) -> f64 {
        T::EPSILON
    }
}

fn copy<'a, T: Scalar>(from: &[T], to: impl Iterator<Item = &'a mut f64>) {
    // The source first: it may end before what it goes to.
    from.iter().zip(to).for_each(|(x, to)| *to = x.to_f64());
}
