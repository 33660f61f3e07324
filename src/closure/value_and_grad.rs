//! A closure compiled with its gradient: traced once for each shape, replayed after that.

use super::Point;
use crate::{Expr, Fetch, Placeholder, Result, Session, Shape, Tape, Tensor};

/// The most shapes whose traces are kept; the oldest goes first.
const MAX_TRACES: usize = 16;

/// A function of w that gives f(w) and ∇f(w).
///
/// `f` writes the value as an expression of `w`, once for each shape of w; what it gives is a
/// single number. It sees no numbers: data that it captures, as [`Expr::constant`] and beside
/// operators, are those of the trace. All methods of [`Expr`] are there.
///
/// ```
/// use gradtape::value_and_grad;
/// use nalgebra::{DMatrix, DVector};
/// let xs = DMatrix::from_row_slice(3, 2, &[1.0, 0.0, 0.0, 2.0, 1.0, 1.0]);
/// let ys = DVector::from_vec(vec![1.0, 2.0, 3.0]);
/// let mut loss = value_and_grad(|w| (w.constant(&xs).matmul(w) - &ys).square().sum());
///
/// let w = DVector::from_vec(vec![1.0, 1.0]);
/// let (value, gradient) = loss.at(&w)?;
/// assert_eq!(value, 1.0);
/// assert_eq!(gradient, 2.0 * xs.transpose() * (&xs * &w - &ys));
/// # Ok::<(), gradtape::Error>(())
/// ```
pub fn value_and_grad<F>(f: F) -> ValueAndGrad<F>
where
    F: for<'t> Fn(Expr<'t, f64>) -> Expr<'t, f64>,
{
    ValueAndGrad { f, traces: Vec::new() }
}

/// What [`value_and_grad`] makes: the closure with the plans it was compiled to.
#[derive(Debug)]
pub struct ValueAndGrad<F> {
    f: F,
    traces: Vec<Trace>,
}

/// The closure for one shape.
#[derive(Debug)]
struct Trace {
    shape: Shape,
    w: Placeholder,
    fetches: (Fetch, Fetch),
    session: Session<f64>,
    fetched: (Tensor<f64>, Tensor<f64>),
}

impl<F> ValueAndGrad<F>
where
    F: for<'t> Fn(Expr<'t, f64>) -> Expr<'t, f64>,
{
    /// f(w) and ∇f(w), which has the shape of w.
    ///
    /// # Errors
    /// The first mistake in the formula, with its line; a value that is not one number; one that
    /// does not depend on w, or only through ops without a derivative; what ops report of these
    /// numbers, a matrix that is singular for instance.
    pub fn at<P: Point>(&mut self, w: &P) -> Result<(f64, P)> {
        let mut gradient = P::from_tensor(Tensor::zeros(w.view().shape())?)?;
        let value = self.at_into(w, &mut gradient)?;
        Ok((value, gradient))
    }

    /// As [`ValueAndGrad::at`], into the memory of `gradient`. At a shape that was seen before it
    /// allocates nothing, if `gradient` has that shape, too; otherwise it takes it.
    ///
    /// ```
    /// use gradtape::value_and_grad;
    /// use nalgebra::DVector;
    /// let mut rosenbrock = value_and_grad(|w| {
    ///     let (a, b) = (w.index_axis(0, 0), w.index_axis(0, 1));
    ///     (1.0 - a).square() + 100.0 * (b - a.square()).square()
    /// });
    /// let mut w = DVector::from_vec(vec![-1.2, 1.0]);
    /// let mut gradient = DVector::zeros(2);
    /// for _ in 0..3 {
    ///     rosenbrock.at_into(&w, &mut gradient)?;
    ///     w -= 1e-3 * &gradient;
    /// }
    /// assert!(rosenbrock.at_into(&w, &mut gradient)? < 5.0);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ValueAndGrad::at`]; then the numbers in `gradient` are of no use.
    pub fn at_into<P: Point>(&mut self, w: &P, gradient: &mut P) -> Result<f64> {
        let w = w.view();
        let Trace { w: placeholder, fetches, session, fetched, .. } = self.trace(w.shape())?;
        fetched.1 = gradient.take();
        let ran = session.run_into(*fetches, &[placeholder.feed(w)], fetched);
        let back = P::from_tensor(std::mem::take(&mut fetched.1));
        ran?;
        *gradient = back?;
        fetched.0.item()
    }

    /// The number of shapes that traces are kept of, 16 at most.
    pub fn n_traces(&self) -> usize {
        self.traces.len()
    }

    fn trace(&mut self, shape: Shape) -> Result<&mut Trace> {
        let at = match self.traces.iter().position(|trace| trace.shape.same(&shape)) {
            Some(at) => at,
            None => {
                let trace = Trace::new(&self.f, shape)?;
                if self.traces.len() == MAX_TRACES {
                    self.traces.remove(0);
                }
                self.traces.push(trace);
                self.traces.len() - 1
            }
        };
        Ok(&mut self.traces[at])
    }
}

impl Trace {
    fn new<F>(f: &F, shape: Shape) -> Result<Trace>
    where
        F: for<'t> Fn(Expr<'t, f64>) -> Expr<'t, f64>,
    {
        let tape = Tape::new();
        let w = tape.placeholder("w", shape);
        let value = f(w);
        let gradient = tape.gradient(value, &[w])?[0];
        let session = Session::new(&tape)?;
        let fetches = (value.into(), gradient.into());
        Ok(Trace { shape, w: w.into(), fetches, session, fetched: <_>::default() })
    }
}
