//! A test of the test: planted wrong derivatives. The checker must refuse every one of them, and
//! pass its right twin.

use gradtape::check;
use gradtape::tape::op::{
    Cholesky, MatMul, Reduce, Reduction, ScalarOp, Side, Softmax, TriangularSolve,
};
use gradtape::{
    Arg, Axes, Cotangents, Derivative, ErrorKind, Expr, Jvp, Out, Primitive, Result, RowRule,
    Shape, Tensor, Units, Vjp,
};

type E<'t> = Expr<'t, f64>;
type Rule = for<'t> fn(&[E<'t>], E<'t>, E<'t>) -> Vec<Option<E<'t>>>;

/// An op of the crate under another derivative.
#[derive(Debug)]
struct Wrapped<P> {
    inner: P,
    rule: Rule,
}

impl<P: Primitive<f64>> Primitive<f64> for Wrapped<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        self.inner.shape(x)
    }
    fn forward(&self, x: &[Arg<'_, f64>], y: Out<'_, f64>, scratch: &mut [f64]) -> Result<()> {
        self.inner.forward(x, y, scratch)
    }
    fn scratch(&self, x: &[Shape]) -> usize {
        self.inner.scratch(x)
    }
    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        self.inner.rows(x, split)
    }
    fn vjp<'t>(&self, at: Vjp<'_, 't, f64>) -> Result<Cotangents<'t, f64>> {
        let Vjp { x, y, ct, .. } = at;
        Ok((self.rule)(x, y, ct))
    }
}

type ForwardRule = for<'t> fn(&[E<'t>], E<'t>, &[Option<E<'t>>]) -> Option<E<'t>>;

/// An op of the crate under another forward rule. Its reverse rule is right.
#[derive(Debug)]
struct Forward<P> {
    inner: P,
    /// The input that it says it is linear in.
    linear: Option<usize>,
    rule: ForwardRule,
}

impl<P: Primitive<f64>> Primitive<f64> for Forward<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        self.inner.shape(x)
    }
    fn forward(&self, x: &[Arg<'_, f64>], y: Out<'_, f64>, scratch: &mut [f64]) -> Result<()> {
        self.inner.forward(x, y, scratch)
    }
    fn scratch(&self, x: &[Shape]) -> usize {
        self.inner.scratch(x)
    }
    fn rows(&self, x: &[Shape], split: &[bool]) -> RowRule {
        self.inner.rows(x, split)
    }
    fn vjp<'t>(&self, at: Vjp<'_, 't, f64>) -> Result<Cotangents<'t, f64>> {
        self.inner.vjp(at)
    }
    fn is_linear_in(&self, i: usize) -> bool {
        self.linear == Some(i)
    }
    fn jvp<'t>(&self, at: Jvp<'_, 't, f64>) -> Result<Option<E<'t>>> {
        Ok((self.rule)(at.x, at.y, at.dx))
    }
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::vector(values.to_vec())
}

fn matrix(rows: usize, columns: usize, seed: f64) -> Tensor {
    Tensor::from_fn([rows, columns], |at| (seed + at[0] as f64 * 1.7 + at[1] as f64 * 0.9).sin())
        .unwrap()
}

/// The right rule passes; every wrong one is refused with a message that says `what`.
fn twins<P, const N: usize>(inner: P, inputs: &[Tensor], right: Rule, wrong: [(Rule, &str); N])
where
    P: Primitive<f64> + Clone + 'static,
{
    let name = inner.name().to_string();
    let check = |rule| check::op(Wrapped { inner: inner.clone(), rule }, &[inputs.to_vec()]);
    match check(right) {
        Ok(report) => assert!(report.first < 1e-9 && report.second < 1e-9, "{name}: {report}"),
        Err(e) => panic!("the right twin of {name} was refused: {e}"),
    }
    for (i, (rule, what)) in wrong.into_iter().enumerate() {
        match check(rule) {
            Ok(report) => panic!("mutant {i} of {name} passed: {report}"),
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::Check | ErrorKind::Gradient), "{e}");
                let text = e.to_string();
                assert!(text.contains(&name) && text.contains(what), "{name} {i}: {text}");
            }
        }
    }
}

#[test]
fn elementwise() {
    let x = vector(&[0.3, -1.2, 2.0, -0.7, 1.1]);
    let positive = vector(&[0.3, 1.2, 2.0, 0.7, 1.1]);
    let both = [x.clone(), positive.clone()];
    twins(
        ScalarOp::Exp,
        std::slice::from_ref(&x),
        |_, y, ct| vec![Some(ct * y)],
        [
            (|x, _, ct| vec![Some(ct * x[0])], "derivative in input 0"),
            (|_, y, ct| vec![Some(ct * y * 1.00001)], "derivative in input 0"),
            (|_, y, _| vec![Some(y)], "derivative in input 0"),
            (|_, _, _| vec![None], "derivative in input 0"),
        ],
    );
    twins(
        ScalarOp::Log,
        std::slice::from_ref(&positive),
        |x, _, ct| vec![Some(ct / x[0])],
        [(|_, y, ct| vec![Some(ct / y)], "derivative in input 0")],
    );
    twins(
        ScalarOp::Tanh,
        std::slice::from_ref(&x),
        |_, y, ct| vec![Some(ct * (1.0 - y.square()))],
        [
            (|x, _, ct| vec![Some(ct * (1.0 - x[0].square()))], "derivative in input 0"),
            (|_, y, ct| vec![Some(ct * (1.0 - y))], "derivative in input 0"),
        ],
    );
    twins(
        ScalarOp::Mul,
        &both,
        |x, _, ct| vec![Some(ct * x[1]), Some(ct * x[0])],
        [
            (|x, _, ct| vec![Some(ct * x[0]), Some(ct * x[1])], "derivative in input 0"),
            (|x, _, ct| vec![Some(ct * x[1]), None], "derivative in input 1"),
        ],
    );
    twins(
        ScalarOp::Div,
        &both,
        |x, y, ct| vec![Some(ct / x[1]), Some(-(ct * y / x[1]))],
        [(|x, y, ct| vec![Some(ct / x[1]), Some(ct * y / x[1])], "derivative in input 1")],
    );
    twins(
        ScalarOp::Sub,
        &both,
        |_, _, ct| vec![Some(ct), Some(-ct)],
        [(|_, _, ct| vec![Some(ct), Some(ct)], "derivative in input 1")],
    );
    twins(
        ScalarOp::Relu,
        std::slice::from_ref(&x),
        |x, _, ct| vec![Some(x[0].greater(0.0).select(ct, 0.0))],
        [
            (|_, _, ct| vec![Some(ct)], "derivative in input 0 at [1]: expected 0.0"),
            (|x, _, ct| vec![Some(ct * x[0].less(0.0))], "derivative in input 0"),
        ],
    );
}

#[test]
fn broadcasting_and_reductions() {
    let x = matrix(3, 4, 0.2);
    let sum = Reduce { kind: Reduction::Sum, axes: Axes::all(2), keep: false };
    twins(
        sum,
        std::slice::from_ref(&x),
        |x, _, ct| vec![Some(ct.broadcast_like(x[0]))],
        [
            (|_, _, ct| vec![Some(ct)], "expected a cotangent of [3, 4] for input 0"),
            (|x, _, ct| vec![Some(ct.broadcast_like(x[0]) / 12.0)], "derivative in input 0"),
        ],
    );
    twins(
        ScalarOp::Add,
        &[x.clone(), vector(&[0.1, 0.2, 0.3, 0.4])],
        |x, _, ct| vec![Some(ct), Some(ct.sum_to_like(x[1]))],
        [
            (|_, _, ct| vec![Some(ct), Some(ct)], "expected a cotangent of [4] for input 1"),
            (|_, _, ct| vec![Some(ct)], "add of [3, 4], [4]: expected 2 cotangents, got 1"),
            (|_, _, ct| vec![Some(ct), Some(ct.mean_axes(&[0]))], "derivative in input 1"),
        ],
    );
    let columns = Reduce { kind: Reduction::Max, axes: Axes::one(0), keep: false };
    twins(
        columns,
        std::slice::from_ref(&x),
        |x, y, ct| vec![Some(ct * x[0].equal(y))],
        [
            (|x, _, ct| vec![Some(ct.broadcast_like(x[0]))], "derivative in input 0"),
            (|x, y, ct| vec![Some(ct * x[0].less(y))], "derivative in input 0"),
        ],
    );
    // Square, so that no shape gives the wrong transpose away.
    twins(
        MatMul { ta: false, tb: false },
        &[matrix(3, 3, 0.2), matrix(3, 3, 1.1)],
        |x, _, ct| vec![Some(ct.matmul(x[1].t())), Some(x[0].t().matmul(ct))],
        [
            (|x, _, ct| vec![Some(ct.matmul(x[1])), Some(x[0].t().matmul(ct))], "in input 0"),
            (|x, _, ct| vec![Some(ct.matmul(x[1].t())), Some(x[0].matmul(ct))], "in input 1"),
            (|x, _, ct| vec![Some(ct.matmul(x[1].t())), Some(ct.t().matmul(x[0]))], "in input 1"),
        ],
    );
    twins(
        Softmax::Softmax { axis: 1 },
        std::slice::from_ref(&x),
        |_, y, ct| vec![Some(y * (ct - (ct * y).sum_keep(&[1])))],
        [
            (|_, y, ct| vec![Some(y * ct)], "derivative in input 0"),
            (|_, y, ct| vec![Some(y * (ct - (ct * y).sum_keep(&[0])))], "derivative in input 0"),
            (|_, y, ct| vec![Some(y * (1.0 - y) * ct)], "derivative in input 0"),
        ],
    );
}

#[test]
fn linear_algebra() {
    let mut spd = matrix(3, 3, 0.2);
    (0..3).for_each(|i| spd.as_mut_slice()[4 * i] += 4.0);
    fn between<'t>(l: E<'t>, inner: E<'t>) -> Vec<Option<E<'t>>> {
        let left = l.t().solve_upper_triangular(inner);
        vec![Some(l.t().solve_upper_triangular(left.t()) * 0.5)]
    }
    twins(
        Cholesky,
        std::slice::from_ref(&spd),
        |_, y, ct| {
            let inner = y.t().matmul(ct);
            between(y, inner.tril(0) + inner.tril(-1).t())
        },
        [
            // The diagonal twice; no triangle; the factor on the wrong side.
            (
                |_, y, ct| between(y, y.t().matmul(ct).tril(0) + y.t().matmul(ct).tril(0).t()),
                "derivative in input 0",
            ),
            (|_, y, ct| between(y, y.t().matmul(ct)), "derivative in input 0"),
            (
                |_, y, ct| between(y, y.matmul(ct).tril(0) + y.matmul(ct).tril(-1).t()),
                "derivative in input 0",
            ),
        ],
    );
    fn solved<'t>(l: E<'t>, ct: E<'t>, dl: impl Fn(E<'t>) -> E<'t>) -> Vec<Option<E<'t>>> {
        let db = l.t().solve_upper_triangular(ct);
        vec![Some(dl(db)), Some(db)]
    }
    twins(
        TriangularSolve { side: Side::Lower, transposed: false },
        &[spd, matrix(3, 3, 1.1)],
        |x, y, ct| solved(x[0], ct, |db| -db.matmul(y.t()).tril(0)),
        [
            (|x, y, ct| solved(x[0], ct, |db| -db.matmul(y.t())), "derivative in input 0"),
            (|x, y, ct| solved(x[0], ct, |db| db.matmul(y.t()).tril(0)), "derivative in input 0"),
            (|x, y, ct| solved(x[0], ct, |db| -y.matmul(db.t()).tril(0)), "derivative in input 0"),
        ],
    );
}

/// Every wrong forward rule is refused with a message that says `what`; a right one, and none,
/// pass.
fn forward_twins<P, const N: usize>(
    inner: P,
    inputs: &[Tensor],
    right: ForwardRule,
    wrong: [(Option<usize>, ForwardRule, &str); N],
) where
    P: Primitive<f64> + Clone + 'static,
{
    let check = |linear, rule| {
        check::op(Forward { inner: inner.clone(), linear, rule }, &[inputs.to_vec()])
    };
    let name = inner.name();
    for rule in [right, |_, _, _| None] {
        let report = check(None, rule).unwrap_or_else(|e| panic!("right twin of {name}: {e}"));
        assert!(report.forward < 1e-13, "{name}: {report}");
    }
    for (i, (linear, rule, what)) in wrong.into_iter().enumerate() {
        let err = check(linear, rule).expect_err(&format!("mutant {i} of {name} passed"));
        assert!(matches!(err.kind(), ErrorKind::Check | ErrorKind::Gradient), "{err:?}");
        let text = err.to_string();
        assert!(text.contains(name) && text.contains(what), "{name} {i}: {text}");
    }
}

#[test]
fn forward_rules() {
    let x = vector(&[0.3, -1.2, 2.0, -0.7, 1.1]);
    let both = [x.clone(), vector(&[0.3, 1.2, 2.0, 0.7, 1.1])];
    forward_twins(
        ScalarOp::Exp,
        std::slice::from_ref(&x),
        |_, y, dx| Some(dx[0]? * y),
        [
            (None, |_, _, dx| dx[0], "tangent from input 0 at [2]: expected"),
            (None, |_, y, dx| Some(dx[0]? * y * 1.00001), "tangent from input 0"),
            (None, |_, y, dx| Some((dx[0]? * y).sum()), "expected a tangent of [5] from its rule"),
            (Some(0), |_, _, _| None, "tangent from input 0"),
        ],
    );
    forward_twins(
        ScalarOp::Mul,
        &both,
        |x, _, dx| match dx {
            [Some(a), Some(b)] => Some(*a * x[1] + *b * x[0]),
            [a, b] => a.map(|a| a * x[1]).or(b.map(|b| b * x[0])),
            _ => None,
        },
        [
            (None, |x, _, dx| Some(dx[0]? * x[1]), "tangent from input 1"),
            (None, |x, _, dx| Some(dx[0]? * x[1] - dx[1]? * x[0]), "tangent from input 1"),
            (Some(1), |x, _, dx| Some(dx[0]? * x[0]), "tangent from input 0"),
        ],
    );
    // Square, so that no shape gives the wrong factor away.
    forward_twins(
        MatMul { ta: false, tb: false },
        &[matrix(3, 3, 0.2), matrix(3, 3, 1.1)],
        |x, _, dx| {
            let parts = [dx[0].map(|a| a.matmul(x[1])), dx[1].map(|b| x[0].matmul(b))];
            parts.into_iter().flatten().reduce(|a, b| a + b)
        },
        [
            (
                None,
                |x, _, dx| Some(dx[0]?.matmul(x[1]) + dx[1]?.matmul(x[0])),
                "tangent from input 1",
            ),
            (Some(0), |x, _, dx| Some(x[0].t().matmul(dx[1]?)), "tangent from input 1"),
        ],
    );
}

/// A reverse rule that is not linear in the cotangent has no transpose.
#[test]
fn a_clipped_gradient_has_no_forward_mode() {
    let clipped: Rule = |_, y, ct| vec![Some((ct * y).clamp(-1e9, 1e9))];
    let op = Wrapped { inner: ScalarOp::Exp, rule: clipped };
    let err = check::op(op, &[vec![vector(&[0.3, -1.2])]]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Gradient);
    let text = "jvp: exp of [2]: expected a `vjp` that is linear in the cotangent";
    assert!(err.to_string().starts_with(text), "{err}");
}

/// A function through `custom_gradient`, whose first derivative is `vjp`.
fn under<'t>(x: E<'t>, y: E<'t>, vjp: impl Into<Option<Rule>>) -> E<'t> {
    match vjp.into() {
        Some(rule) => x.tape().custom_gradient(&[x], y, move |x, y, ct| {
            rule(x, y, ct).into_iter().flatten().collect()
        }),
        None => y,
    }
}

#[test]
fn a_mean_without_its_count() {
    let x = vector(&[0.3, -1.2, 2.0, -0.7, 1.1]);
    let mean = |rule: Rule| {
        check::gradient(move |_, x| under(x[0], x[0].mean(), rule), std::slice::from_ref(&x))
    };
    mean(|x, _, ct| vec![Some(ct.broadcast_like(x[0]) / 5.0)]).unwrap();
    let err = mean(|x, _, ct| vec![Some(ct.broadcast_like(x[0]))]).unwrap_err();
    assert!(err.to_string().contains("relative error 8.0e-1"), "{err}");
}

#[test]
fn a_second_derivative_alone() {
    let x = [vector(&[0.3, -1.2, 2.0, -0.7, 1.1])];
    // The first derivative is a cosine, right in value; `rule` is that of the cosine.
    let sine = |order, rule: Option<Rule>| {
        let check = check::Check { order, ..check::Check::default() };
        check.gradient(
            move |tape, x| {
                tape.custom_gradient(x, x[0].sin(), move |x, _, ct| {
                    vec![ct * under(x[0], x[0].cos(), rule)]
                })
            },
            &x,
        )
    };
    let wrong: Rule = |x, _, ct| vec![Some(ct * x[0].sin())];
    sine(2, None).unwrap();
    sine(2, Some(|x, _, ct| vec![Some(-(ct * x[0].sin()))])).unwrap();
    sine(1, Some(wrong)).unwrap();
    let err = sine(2, Some(wrong)).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Check);
    assert!(err.to_string().contains("second derivative in input 0"), "{err}");
}

/// x², with a choice of what it says wrongly.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    /// Its derivative is zero.
    Flat,
    /// Its rows are independent, although the last reads the first.
    Rows,
    /// Its memory is clean.
    Memory,
    /// It does not read its input.
    Reads,
    /// It is its input's memory.
    View,
    /// Its shape is fixed.
    Shape,
    /// Its halves are to be multiplied.
    Combine,
    /// It has periods of three elements.
    Period,
    /// It computes some of its units.
    Units,
}

#[derive(Debug)]
struct Liar(Lie);

impl Primitive<f64> for Liar {
    fn name(&self) -> &str {
        "liar"
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        match self.0 {
            Lie::Shape if !x[0].is_known() => Ok([7].into()),
            Lie::Combine => Ok(Shape::SCALAR),
            _ => Ok(x[0]),
        }
    }
    fn forward(&self, x: &[Arg<'_, f64>], y: Out<'_, f64>, _: &mut [f64]) -> Result<()> {
        let (x, y) = (x[0].float(), y.float());
        match self.0 {
            Lie::Combine => y[0] = x.iter().map(|x| x * x).sum(),
            Lie::Memory => y.iter_mut().zip(x).for_each(|(y, x)| *y = 0.0 * *y + x * x),
            _ => y.iter_mut().zip(x).for_each(|(y, x)| *y = x * x),
        }
        if let (Lie::Rows, [.., last], [first, ..]) = (self.0, y, x) {
            *last += first;
        }
        Ok(())
    }
    fn units(&self, x: &[Shape]) -> Units {
        match self.0 {
            Lie::Period => Units::Strided { period: 3, unit: 1 },
            Lie::Units => Units::Strided { period: x[0].len(), unit: 3 },
            _ => Units::Contiguous(1),
        }
    }
    fn is_view(&self) -> bool {
        self.0 == Lie::View
    }
    fn reads(&self, _: usize) -> bool {
        self.0 != Lie::Reads
    }
    fn derivative(&self, _: usize) -> Derivative {
        if self.0 == Lie::Flat { Derivative::Zero } else { Derivative::Smooth }
    }
    fn vjp<'t>(&self, at: Vjp<'_, 't, f64>) -> Result<Cotangents<'t, f64>> {
        let Vjp { x, ct, .. } = at;
        let dx = ct * x[0] * 2.0;
        if self.0 == Lie::Rows {
            let n = x[0].shape().extents()[0];
            let end = ct.slice_axis(0, n - 1..n).pad(&[(0, n - 1)], 0.0);
            return Ok(vec![Some(dx + end)]);
        }
        Ok(vec![Some(dx)])
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        match self.0 {
            Lie::Combine => RowRule::Partial(gradtape::Combine::Prod),
            _ => RowRule::Split,
        }
    }
}

#[test]
fn what_an_op_says_of_itself() {
    let x = || vec![vec![vector(&[0.3, -1.2, 2.0, -0.7])]];
    let report = check::op(Liar(Lie::None), &x()).unwrap();
    assert!(report.unknown_batch && report.ops.contains("liar"), "{report}");
    for (lie, what) in [
        (Lie::Flat, "derivative in input 0"),
        (Lie::Rows, "batch rule Split for inputs [true] cut at row 2: at [1]"),
        (Lie::Memory, "stale memory"),
        (Lie::Reads, "expected"),
        (Lie::View, "as the interpreter"),
        (Lie::Shape, "shape rule of [?]: expected one that accepts [4], got [7]"),
        (Lie::Combine, "batch rule Partial(Prod)"),
        (Lie::Period, "units: expected [4] to fall into Strided { period: 3, unit: 1 }"),
        (Lie::Units, "units cut at 1 of 2"),
    ] {
        let err = check::op(Liar(lie), &x()).expect_err(&format!("{lie:?}"));
        assert_eq!(err.kind(), ErrorKind::Check, "{lie:?}: {err}");
        assert!(err.to_string().contains(what), "{lie:?}: {err}");
    }
}

/// In a long formula the op with the wrong rule is named, with its line.
#[test]
fn the_op_to_blame_is_named() {
    let wrong: Rule = |_, y, ct| vec![Some(ct * y * 2.0)];
    let mut line = 0;
    let inputs = [matrix(3, 4, 0.1)];
    let err = check::gradient(
        |tape, x| {
            let bad = tape.custom(Wrapped { inner: ScalarOp::Exp, rule: wrong }, &[x[0].sin()]);
            (bad.square() + 1.0).sqrt().mean()
        },
        &inputs,
    )
    .unwrap_err();
    line += line!() - 6;
    assert!(err.to_string().starts_with("exp of [3, 4]: derivative in input 0"), "{err}");
    assert_eq!(err.location().map(|l| (l.file(), l.line())), Some((file!(), line)));
}
