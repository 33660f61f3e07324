//! Least squares of closures: of residuals, and of a model's curve through points.

use super::Point;
use crate::optim::{Fit, Fitter, LeastSquares, LevenbergMarquardt, Outcome};
use crate::{Error, ErrorKind, Expr, Feed, Result, Session, Tape, Tensor, TensorView};
use nalgebra::DMatrix;

/// Fitted parameters, and how well the residuals determine them.
#[derive(Clone, Debug)]
#[must_use = "a fit may end without convergence"]
pub struct Fitted<P> {
    /// The parameters of the best fit found.
    pub w: P,
    /// How the method ended, with the factors of the Jacobian there.
    pub fit: Fit,
}

impl<P: Point> Fitted<P> {
    /// Why the method ended, after how many steps; the loss is ½Σr².
    pub fn outcome(&self) -> Outcome {
        self.fit.outcome
    }

    /// Whether the residuals are orthogonal to the Jacobian's columns as far as was asked for.
    pub fn converged(&self) -> bool {
        self.fit.outcome.converged()
    }

    /// The covariance s²(JᵀJ)⁻¹ of the parameters, (n, n), with s² = Σr² / (m − n); see
    /// [`Fit::covariance`].
    ///
    /// # Errors
    /// Parameters that the residuals do not determine; no more residuals than parameters.
    pub fn covariance(&self) -> Result<DMatrix<f64>> {
        self.fit.covariance()
    }

    /// The standard error of each parameter, in the shape of w.
    ///
    /// # Errors
    /// As [`Fitted::covariance`].
    pub fn standard_errors(&self) -> Result<P> {
        P::from_tensor(Tensor::new(self.w.view().shape(), self.fit.standard_errors()?)?)
    }
}

/// Makes Σr² small over w, from w₀, by [`LevenbergMarquardt`]; `residuals` gives r, of any shape.
///
/// Traced and compiled once, with the Jacobian; replayed at each evaluation.
///
/// ```
/// use gradtape::least_squares;
/// use nalgebra::DVector;
/// // The point from which three others are as far as measured.
/// let (x, y) = (DVector::from_vec(vec![0.0, 4.0, 0.0]), DVector::from_vec(vec![0.0, 0.0, 3.0]));
/// let measured = DVector::from_vec(vec![2.24, 2.23, 2.83]);
/// let here = least_squares(
///     |w| {
///         let (dx, dy) = (w.index_axis(0, 0) - &x, w.index_axis(0, 1) - &y);
///         (dx.square() + dy.square()).sqrt() - &measured
///     },
///     DVector::from_vec(vec![1.0, 0.5]),
/// )?;
/// assert!(here.converged());
/// assert!((here.w - DVector::from_vec(vec![2.0, 1.0])).amax() < 0.01);
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// # Errors
/// The first mistake in the formula, with its line; residuals that do not depend on w, or only
/// through ops without a derivative; what ops report. How the fit ended otherwise is in its
/// outcome: also that residuals are not finite.
pub fn least_squares<P, F>(residuals: F, w0: P) -> Result<Fitted<P>>
where
    P: Point,
    F: for<'t> FnOnce(Expr<'t, f64>) -> Expr<'t, f64>,
{
    least_squares_with(residuals, w0, LevenbergMarquardt::new())
}

/// As [`least_squares`], by a method with bounds, a robust loss or other limits, for instance.
///
/// ```
/// use gradtape::optim::{LevenbergMarquardt, RobustLoss};
/// use gradtape::least_squares_with;
/// use nalgebra::DVector;
/// let readings = DVector::from_vec(vec![1.0, 1.1, 0.9, 1.0, 50.0]);
/// let robust = LevenbergMarquardt::new().with_loss(RobustLoss::Huber(0.1));
/// let mean = least_squares_with(|w| w - &readings, DVector::from_vec(vec![0.0]), robust)?;
/// assert!((mean.w[0] - 1.0).abs() < 0.05);
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// # Errors
/// As [`least_squares`]; also hyperparameters out of range.
pub fn least_squares_with<P, F, M>(residuals: F, w0: P, method: M) -> Result<Fitted<P>>
where
    P: Point,
    F: for<'t> FnOnce(Expr<'t, f64>) -> Expr<'t, f64>,
    M: Fitter,
{
    let tape = Tape::new();
    let w = tape.variable("w", w0.view().to_tensor());
    run(&tape, w, residuals(w), &[], method)
}

/// Fits ŷ = model(x, w) to points by least squares of ŷ − y, from a start of w, by
/// [`LevenbergMarquardt`]. Axis 0 of xs counts the points; ŷ and ys have the same shape.
///
/// ```
/// use gradtape::curve_fit;
/// use nalgebra::DVector;
/// let xs = DVector::from_fn(30, |i, _| i as f64 / 10.0);
/// let ys = xs.map(|x| 2.5 * (-1.3 * x).exp() + 0.5 + 0.01 * (37.0 * x).sin());
/// let fit = curve_fit(
///     |x, w| w.index_axis(0, 0) * (-w.index_axis(0, 1) * x).exp() + w.index_axis(0, 2),
///     &xs,
///     &ys,
///     DVector::from_vec(vec![1.0, 1.0, 0.0]),
/// )?;
/// let errors = fit.standard_errors()?;
/// assert!(fit.converged());
/// for (i, truth) in [2.5, 1.3, 0.5].into_iter().enumerate() {
///     assert!((fit.w[i] - truth).abs() < 3.0 * errors[i] && errors[i] < 0.02);
/// }
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// # Errors
/// As [`least_squares`]; also a prediction of another shape than ys, no points, points or a start
/// that are not finite.
pub fn curve_fit<'a, P, F>(
    model: F,
    xs: impl Into<TensorView<'a, f64>>,
    ys: impl Into<TensorView<'a, f64>>,
    start: P,
) -> Result<Fitted<P>>
where
    P: Point,
    F: for<'t> FnOnce(Expr<'t, f64>, Expr<'t, f64>) -> Expr<'t, f64>,
{
    curve_fit_with(model, xs, ys, start, LevenbergMarquardt::new())
}

/// As [`curve_fit`], by a method with bounds, a robust loss or other limits, for instance.
///
/// # Errors
/// As [`curve_fit`]; also hyperparameters out of range.
pub fn curve_fit_with<'a, P, F, M>(
    model: F,
    xs: impl Into<TensorView<'a, f64>>,
    ys: impl Into<TensorView<'a, f64>>,
    start: P,
    method: M,
) -> Result<Fitted<P>>
where
    P: Point,
    F: for<'t> FnOnce(Expr<'t, f64>, Expr<'t, f64>) -> Expr<'t, f64>,
    M: Fitter,
{
    let (xs, ys) = (xs.into(), ys.into());
    for (what, view) in [("xs", xs), ("ys", ys), ("a start", start.view())] {
        if let Some(at) = view.as_slice().iter().position(|x| !x.is_finite()) {
            let got = view.as_slice()[at];
            let text = format!("curve_fit: expected {what} of finite numbers, got {got} at {at}");
            return Err(Error::new(ErrorKind::NotFinite, text));
        }
    }
    if ys.as_slice().is_empty() {
        return Err(Error::new(ErrorKind::Shape, "curve_fit: expected points, got none"));
    }
    let tape = Tape::new();
    let (x, y) = (tape.placeholder("x", xs.shape()), tape.placeholder("y", ys.shape()));
    let w = tape.variable("w", start.view().to_tensor());
    let prediction = model(x, w);
    tape.check()?;
    if prediction.shape() != ys.shape() {
        // Else [n, 1] beside [n] would broadcast to a matrix.
        let (want, got) = (ys.shape(), prediction.shape());
        let text = format!("curve_fit: expected a prediction of the shape {want} of ys, got {got}");
        return Err(Error::new(ErrorKind::Shape, text));
    }
    run(&tape, w, prediction - y, &[x.feed(xs), y.feed(ys)], method)
}

fn run<P: Point, M: Fitter>(
    tape: &Tape<f64>,
    w: Expr<'_, f64>,
    residuals: Expr<'_, f64>,
    feeds: &[Feed<'_, f64>],
    method: M,
) -> Result<Fitted<P>> {
    let method = LeastSquares::record_over(method, residuals, &[w])?;
    let mut session = Session::new(tape)?;
    let fit = method.run(&mut session, feeds)?;
    Ok(Fitted { w: P::from_tensor(session.value(w)?)?, fit })
}
