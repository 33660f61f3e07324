//! The gradient checker: derivatives against central differences, plans against the interpreter,
//! ops against what they claim of shapes and batches. Knows no single op.

mod difference;
mod each;
mod forward;
mod record;
mod rules;

use crate::Passes;
use crate::Session;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::Scalar;
use crate::shape::{ANY, Shape};
use crate::tape::op::{ById, Op, Primitive};
use crate::tape::{Expr, Tape};
use crate::tensor::Tensor;
pub use each::{Forward, OpReport, Reverse};
use record::Recorded;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// What to check, and how closely. [`gradient`] and [`op`] check with the defaults.
///
/// ```
/// use gradtape::{Tensor, check::Check};
/// let x = Tensor::vector(vec![0.3, -1.2, 2.0]);
/// let once = Check { order: 1, ..Check::default() };
/// once.gradient(|_, x| x[0].sin().sum(), &[x])?;
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// 1 checks first derivatives in both modes, 2 also second ones, 0 only plans and rules.
    pub order: u8,
    /// The largest relative error that passes; by default 10·√ε of the scalar type, which is
    /// 1.5e-7 for f64 and 3.5e-3 for f32. Errors of right derivatives in f64 are about 1e-11.
    pub tolerance: Option<f64>,
    /// Of the random directions and cotangents.
    pub seed: u64,
}

impl Default for Check {
    fn default() -> Self {
        Check { order: 2, tolerance: None, seed: 0 }
    }
}

/// What a check that passed has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The largest relative error of a gradient.
    pub first: f64,
    /// The largest relative error of a gradient's gradient; 0 if there is none.
    pub second: f64,
    /// The largest relative error of a tangent.
    pub tangent: f64,
    /// The largest relative difference between forward and reverse mode.
    pub forward: f64,
    /// The names of the ops, adjoint ones among them, whose shape and batch rules were checked.
    pub ops: BTreeSet<String>,
    /// Whether the function can also be recorded with axis 0 of every input unknown; then its
    /// values were the same.
    pub unknown_batch: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { first, second, forward, ops, .. } = self;
        let ops: Vec<&str> = ops.iter().map(String::as_str).collect();
        let ops = ops.join(", ");
        write!(
            f,
            "relative error {first:.1e}, of second order {second:.1e}, of forward mode \
             {forward:.1e}; ops: {ops}"
        )
    }
}

/// Checks the derivatives of a function of these inputs: of a loss, a layer, a formula. The value
/// may have any shape.
///
/// - *Gradient*: for a random cotangent c, the sweep's ∇⟨c, f⟩ is compared with central
///   differences of ⟨c, f(x)⟩ along a random direction of each input, and of all at once.
/// - *Second order*: the same for the gradient of ⟨∇⟨c, f⟩, u⟩ in x and in c.
/// - *Forward mode*: the tangent of f along the random u is compared with central differences and
///   with reverse mode, ⟨c, J·u⟩ = ⟨Jᵀ·c, u⟩; that of the gradient, H·u, with the gradient's
///   gradient.
/// - *Plans*: with all passes, with none, and with each one off they give the interpreter's bits.
/// - *Rules*: every op that was recorded, adjoint ones too, is run on its own: on stale memory, on
///   the two halves of its rows as its batch rule says (sums may round otherwise), and with
///   extents that are not known.
///
/// Central differences at h and h/2 are extrapolated (Richardson), so that truncation errs by
/// h⁴ and rounding by ε/h: h = ε^(1/5) of the input's largest element, and should that cross a
/// kink, ε^(1/3). The better agreement counts: two steps do not agree with a wrong derivative.
/// At a kink itself there is nothing to compare with, so choose inputs beside it.
///
/// Cost: some ten runs for each input; one for each element once something is wrong.
///
/// ```
/// use gradtape::{Tensor, check};
/// let w = Tensor::from_rows([3, 2], &[0.1, -0.4, 0.7, 0.2, -0.3, 0.5])?;
/// let x = Tensor::from_rows([2, 3], &[1.0, -2.0, 0.5, 0.3, 1.1, -0.7])?;
/// let report = check::gradient(|_, x| x[0].matmul(x[1]).tanh().mean(), &[x, w])?;
/// assert!(report.first < 1e-9);
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// # Errors
/// A mistake in the function; [`ErrorKind::Check`] with the op, the input, the place in it, what
/// was expected and what was got, both times the random cotangent.
pub fn gradient<T: Scalar, F>(f: F, inputs: &[Tensor<T>]) -> Result<Report>
where
    F: for<'t> Fn(&'t Tape<T>, &[Expr<'t, T>]) -> Expr<'t, T>,
{
    Check::default().gradient(f, inputs)
}

/// Checks a user's op as [`gradient`] does, on each of these lists of inputs. For an op that takes
/// indices, give [`gradient`] a function that makes them constants.
///
/// ```
/// use gradtape::{Arg, Cotangents, Out, Primitive, Result, RowRule, Shape, Tensor, Vjp, check};
///
/// #[derive(Debug)]
/// struct Double;
///
/// impl Primitive<f64> for Double {
///     fn name(&self) -> &str {
///         "double"
///     }
///     fn shape(&self, x: &[Shape]) -> Result<Shape> {
///         Ok(x[0])
///     }
///     fn forward(&self, x: &[Arg<'_, f64>], y: Out<'_, f64>, _: &mut [f64]) -> Result<()> {
///         y.float().iter_mut().zip(x[0].float()).for_each(|(y, x)| *y = 2.0 * x);
///         Ok(())
///     }
///     fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
///         RowRule::Split
///     }
///     fn vjp<'t>(&self, at: Vjp<'_, 't, f64>) -> Result<Cotangents<'t, f64>> {
///         Ok(vec![Some(at.ct * 3.0)]) // wrong
///     }
/// }
///
/// let err = check::op(Double, &[vec![Tensor::vector(vec![1.5])]]).unwrap_err();
/// let text = "double of [1]: derivative in input 0 at [0]: expected ";
/// assert!(err.message().starts_with(text), "{err}");
/// ```
///
/// # Errors
/// As [`gradient`].
#[track_caller]
pub fn op<T: Scalar>(
    op: impl Primitive<T> + 'static,
    samples: &[Vec<Tensor<T>>],
) -> Result<Report> {
    Check::default().op(op, samples)
}

/// Compares a function in f32 with itself in f64: its value, and its gradient for a random
/// cotangent. Returns the largest difference, relative to the largest element of each tensor.
///
/// ```
/// use gradtape::{Expr, Scalar, Tape, Tensor, check};
/// fn loss<'t, T: Scalar>(_: &'t Tape<T>, x: &[Expr<'t, T>]) -> Expr<'t, T> {
///     x[0].softplus().mean()
/// }
/// let x = Tensor::vector(vec![-3.0_f32, 0.1, 8.0]);
/// assert!(check::precision(loss, loss, &[x])? < 1e-6);
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// # Errors
/// A mistake in either function; [`ErrorKind::Check`] for a difference above √ε of f32, 3.5e-4.
pub fn precision<F, G>(narrow: F, wide: G, inputs: &[Tensor<f32>]) -> Result<f64>
where
    F: for<'t> Fn(&'t Tape<f32>, &[Expr<'t, f32>]) -> Expr<'t, f32>,
    G: for<'t> Fn(&'t Tape<f64>, &[Expr<'t, f64>]) -> Expr<'t, f64>,
{
    let (tape32, tape64) = (Tape::new(), Tape::new());
    let wide_inputs: Vec<Tensor<f64>> = inputs.iter().map(|x| x.map(f64::from)).collect();
    let recorded = Recorded::new(&tape32, narrow, inputs, 1)?;
    let values = recorded.run(Passes::ALL, &recorded.point(inputs, 0)?)?;
    let reference = Recorded::new(&tape64, wide, &wide_inputs, 1)?;
    let expected = reference.run(Passes::ALL, &reference.point(&wide_inputs, 0)?)?;
    if values.len() != expected.len() {
        bail!(Check, "{}: expected as many gradients in f32 as in f64", recorded.title());
    }
    let mut worst = 0.0;
    for (got, want) in values.iter().zip(&expected) {
        let scale = want.as_slice().iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        for (i, (&a, &b)) in got.as_slice().iter().zip(want.as_slice()).enumerate() {
            let error = (f64::from(a) - b).abs() / scale;
            if error.is_nan() || error > f64::from(f32::EPSILON).sqrt() {
                let (title, at) = (recorded.title(), place(&want.shape(), i));
                bail!(Check, "{title}: at {at}: expected {b} as in f64, got {a} in f32");
            }
            worst = f64::max(worst, error);
        }
    }
    Ok(worst)
}

impl Check {
    /// As the function [`gradient`].
    ///
    /// # Errors
    /// As the function [`gradient`].
    pub fn gradient<T: Scalar, F>(&self, f: F, inputs: &[Tensor<T>]) -> Result<Report>
    where
        F: for<'t> Fn(&'t Tape<T>, &[Expr<'t, T>]) -> Expr<'t, T>,
    {
        let tape = Tape::new();
        let recorded = Recorded::new(&tape, &f, inputs, self.order)?;
        let point = recorded.point(inputs, self.seed)?;
        let values = recorded.plans_equal_interpreter(&point)?;
        let derivatives = self.derivatives(&recorded, &point, &values);
        let report = derivatives.map_err(|e| self.blame(&recorded, &point, e))?;
        let mut ops = rules::check(&recorded, &point)?;
        let open = self.unknown_batch(&f, inputs, &point, &values)?;
        let unknown_batch = open.is_some();
        ops.extend(open.into_iter().flatten());
        Ok(Report { ops, unknown_batch, ..report })
    }

    /// As the function [`op`].
    ///
    /// # Errors
    /// As the function [`gradient`].
    #[track_caller]
    pub fn op<T: Scalar>(
        &self,
        op: impl Primitive<T> + 'static,
        samples: &[Vec<Tensor<T>>],
    ) -> Result<Report> {
        let caller = Location::caller();
        let op: Arc<dyn Primitive<T>> = Arc::new(op);
        let mut worst = Report { unknown_batch: true, ..Report::default() };
        for inputs in samples {
            let custom = Op::Custom(ById(Arc::clone(&op)));
            let mut report = self
                .gradient(|tape, x| tape.apply(custom.clone(), x), inputs)
                .map_err(|e| Error::new(e.kind(), e.message()).at(caller))?;
            worst.first = worst.first.max(report.first);
            worst.second = worst.second.max(report.second);
            worst.tangent = worst.tangent.max(report.tangent);
            worst.forward = worst.forward.max(report.forward);
            worst.ops.append(&mut report.ops);
            worst.unknown_batch &= report.unknown_batch;
        }
        Ok(worst)
    }

    fn tolerance<T: Scalar>(&self) -> f64 {
        self.tolerance.unwrap_or(10.0 * T::EPSILON.sqrt())
    }

    /// The worst errors of first and second order, and of forward mode.
    fn derivatives<T: Scalar>(
        &self,
        recorded: &Recorded<'_, T>,
        point: &[Tensor<T>],
        values: &[Tensor<T>],
    ) -> Result<Report> {
        let session = &mut Session::new(recorded.tape)?;
        let tolerance = self.tolerance::<T>();
        let values = recorded.sorted(values);
        let claims = recorded.claims(point, &values);
        let mut report = Report::default();
        let errors = [&mut report.first, &mut report.second];
        for (claim, error) in claims.iter().zip(errors).take(self.order.into()) {
            *error = claim.check(session, tolerance, self.seed)?;
        }
        if self.order > 0 {
            let errors = forward::check(session, &claims[0], &values, tolerance)?;
            (report.tangent, report.forward) = errors;
        }
        Ok(report)
    }

    /// The failure of the first op whose own derivative is wrong at the inputs that it had, if
    /// there is one: where many ops are in question, this is the one to look at.
    fn blame<T: Scalar>(&self, whole: &Recorded<'_, T>, point: &[Tensor<T>], e: Error) -> Error {
        let Ok(values) = rules::values(whole, point) else { return e };
        let graph = whole.tape.snapshot();
        for node in &graph.nodes[..whole.n_forward] {
            if matches!(node.op, Op::Leaf(_) | Op::Pass(_) | Op::Effect(_)) {
                continue;
            }
            let inputs: Vec<_> = node.inputs.iter().map(|&i| &values[i as usize]).collect();
            match self.alone(&node.op, &inputs, |_| true) {
                Err(own) if own.kind() == ErrorKind::Check => {
                    return Error::new(ErrorKind::Check, own.message()).at(node.at);
                }
                _ => {}
            }
        }
        e
    }

    /// Records the function with unknown rows, if it can be; then its values must be the same, and
    /// the ops that are recorded only there keep their rules. Returns their names.
    fn unknown_batch<T: Scalar, F>(
        &self,
        f: F,
        inputs: &[Tensor<T>],
        point: &[Tensor<T>],
        values: &[Tensor<T>],
    ) -> Result<Option<BTreeSet<String>>>
    where
        F: for<'t> Fn(&'t Tape<T>, &[Expr<'t, T>]) -> Expr<'t, T>,
    {
        let tape = Tape::new();
        let shapes = inputs.iter().map(with_any_rows);
        let Ok(open) = Recorded::with_shapes(&tape, f, shapes, self.order) else {
            return Ok(None);
        };
        let again = open.run(Passes::ALL, point)?;
        // Where shapes are not known, cotangents take other ways, which may round otherwise.
        let near = |(a, b): (&Tensor<T>, &Tensor<T>)| {
            let size = b.as_slice().iter().fold(0.0, |m: f64, x| m.max(x.to_f64().abs()));
            let close = |(a, b): (&T, &T)| {
                a == b
                    || (a.is_nan() && b.is_nan())
                    || (a.to_f64() - b.to_f64()).abs() <= 64.0 * T::EPSILON * size
            };
            a.shape() == b.shape() && a.as_slice().iter().zip(b.as_slice()).all(close)
        };
        if again.len() != values.len() || !again.iter().zip(values).all(near) {
            bail!(
                Check,
                "{}: expected the same values with an unknown batch, {values:?}, got {again:?}",
                open.title()
            );
        }
        rules::check(&open, point).map(Some)
    }
}

/// The shape of a value with an unknown extent of axis 0.
fn with_any_rows<T: Scalar>(x: &Tensor<T>) -> Shape {
    match x.rank() {
        0 => Shape::SCALAR,
        _ => x.shape().with(0, ANY),
    }
}

/// The position of element `i` of a column-major tensor.
fn place(shape: &Shape, mut i: usize) -> Shape {
    let mut at = Shape::SCALAR;
    for &extent in shape.extents() {
        at.push(i % extent.max(1));
        i /= extent.max(1);
    }
    at
}
