//! The reductions, softmax and running sums as recorded: values by hand, derivatives of first and
//! second order by central differences, batches that are unknown while recording.

use crate::{
    ANY, AsNode, Combine, Cumulate, ErrorKind, Expr, Fetches, Result, RowRule, Session, Shape,
    Tape, Tensor,
};

type E<'t> = Expr<'t, f64>;

/// What the reference interpreter gets for `y`, with `x` fed to node 0.
fn value<F: Fetches<f64>>(tape: &Tape<f64>, y: F, x: &Tensor) -> Result<F::Output> {
    Session::new(tape)?.interpret(y, &[E::of(tape, 0).feed(x)])
}

fn float(y: E<'_>, x: &Tensor) -> Tensor {
    value(y.tape(), y, x).unwrap()
}

/// Numbers in [-1, 1) without a pattern.
fn noise(shape: Shape, seed: f64) -> Tensor {
    let mut i = seed;
    Tensor::from_fn(shape, |_| {
        i += 1.0;
        2.0 * (i * 12.9898).sin().mul_add(43_758.545_3, 0.0).rem_euclid(1.0) - 1.0
    })
    .unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| a * b).sum()
}

/// Compares the derivative of `y` in `x`, in random directions, with a central difference.
#[track_caller]
fn check_slope(y: E<'_>, x: E<'_>, at: &Tensor, what: &str) {
    let tape = x.tape();
    let ct = noise(float(y, at).shape(), 0.5);
    let gradient = tape.vjp(y, tape.constant(ct.clone()), &[x]).unwrap()[0].unwrap();
    let gradient = float(gradient, at);
    assert_eq!(gradient.shape(), at.shape(), "{what}");
    let (direction, h) = (noise(at.shape(), 77.0), 1e-5);
    let along = |h: f64| {
        let (mut moved, d) = (at.clone(), direction.as_slice());
        moved.as_mut_slice().iter_mut().zip(d).for_each(|(x, d)| *x += h * d);
        dot(&ct, &float(y, &moved))
    };
    let (got, want) = (dot(&gradient, &direction), (along(h) - along(-h)) / (2.0 * h));
    assert!((got - want).abs() <= 1e-7 * (1.0 + want.abs()), "{what}: {got} for {want}");
}

/// First, second and third derivative of `f` at `at`, recorded for any batch.
#[track_caller]
fn check(what: &str, f: impl for<'t> Fn(E<'t>) -> E<'t>, at: &Tensor) {
    let tape = Tape::new();
    let mut extents = at.shape();
    extents.extents_mut().iter_mut().take(1).for_each(|e| *e = ANY);
    let x = tape.placeholder("x", extents);
    let mut y = f(x);
    for order in 1..=3 {
        check_slope(y, x, at, &format!("{what}, order {order}"));
        let ct = tape.constant(noise(float(y, at).shape(), 9.0 * f64::from(order)));
        // Beyond a slope that is constant there is nothing to differentiate.
        match tape.vjp(y, ct, &[x]).unwrap()[0] {
            Some(g) if tape.vjp(g, g, &[x]).unwrap()[0].is_some() => y = g,
            _ => break,
        }
    }
}

const AXES: [&[isize]; 6] = [&[], &[0], &[1], &[-1], &[0, 2], &[0, 1, 2]];

#[test]
fn derivatives_agree_with_differences() {
    let x = noise([3, 2, 4].into(), 3.0);
    for axes in AXES {
        let what = |name: &str| format!("{name} over {axes:?}");
        check(&what("sum"), |x| x.sum_axes(axes), &x);
        check(&what("sum_keep"), |x| x.sum_keep(axes), &x);
        check(&what("prod"), |x| x.prod_axes(axes), &x);
        check(&what("prod_keep"), |x| x.square().prod_keep(axes), &x);
        check(&what("max"), |x| x.max_axes(axes).square(), &x);
        check(&what("min"), |x| x.min_keep(axes).square(), &x);
        check(&what("mean"), |x| x.mean_axes(axes).square(), &x);
        check(&what("mean_keep"), |x| x.mean_keep(axes).square(), &x);
        check(&what("norm"), |x| x.norm_axes(axes), &x);
    }
    for axes in [&[0][..], &[1], &[0, 2]] {
        check("variance", |x| x.variance_axes(axes, 0), &x);
        check("variance_keep", |x| x.variance_keep(axes, 1), &x);
        check("std", |x| x.std_axes(axes, 1), &x);
    }
    check("norm_l1", |x| x.norm_l1().square(), &x);
    for axis in [0, 1, -1] {
        for (reverse, exclusive) in [(false, false), (false, true), (true, false), (true, true)] {
            let how = Cumulate { reverse, exclusive };
            check("cumsum", |x| x.cumsum_with(axis, how).square(), &x);
        }
        check("softmax", |x| x.softmax(axis), &x);
        check("log_softmax", |x| x.log_softmax(axis), &x);
        check("logsumexp", |x| x.logsumexp(axis), &x);
        check("logsumexp_keep", |x| x.logsumexp_keep(axis), &x);
    }
}

#[test]
fn products_with_zeros_have_exact_derivatives() {
    for zeros in 0..4 {
        let mut x = noise([5].into(), 1.0);
        x.as_mut_slice()[..zeros].fill(0.0);
        check(&format!("prod with {zeros} zeros"), |x| x.prod(), &x);
    }
    // x⁵ as a product: all of its derivatives but the last, by hand.
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", []);
    let mut y = x.broadcast_like(tape.constant(Tensor::zeros([5]).unwrap())).prod();
    for want in [32.0, 80.0, 160.0, 240.0, 240.0, 120.0, 0.0] {
        assert_eq!(float(y, &2.0.into()).item().unwrap(), want);
        y = tape.gradient(y, &[x]).unwrap()[0];
    }
    let err = tape.gradient(y, &[x]).unwrap_err();
    assert!(err.message().contains("expected at most 6 directions, got 7"), "{err}");
}

#[test]
fn values_are_those_of_the_definition() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 3]);
    let fed = Tensor::from_rows([2, 3], &[1.0, 2.0, 6.0, 0.0, 4.0, 5.0]).unwrap();
    for (y, shape, want) in [
        (x.sum(), &[][..], &[18.0][..]),
        (x.mean(), &[], &[3.0]),
        (x.mean_axes(&[0]), &[3], &[0.5, 3.0, 5.5]),
        (x.mean_keep(&[1]), &[2, 1], &[3.0, 3.0]),
        (x.max_axes(&[-1]), &[2], &[6.0, 5.0]),
        (x.min_keep(&[0]), &[1, 3], &[0.0, 2.0, 5.0]),
        (x.prod_axes(&[1]), &[2], &[12.0, 0.0]),
        (x.all_axes(&[1]), &[2], &[1.0, 0.0]),
        (x.any_axes(&[0]), &[3], &[1.0, 1.0, 1.0]),
        (x.variance(0), &[], &[14.0 / 3.0]),
        (x.variance_axes(&[1], 1), &[2], &[7.0, 7.0]),
        (x.std_axes(&[0], 0), &[3], &[0.5, 1.0, 0.5]),
        (x.norm_l1(), &[], &[18.0]),
        (x.norm_axes(&[0]), &[3], &[1.0, 20f64.sqrt(), 61f64.sqrt()]),
        (x.cumsum(0), &[2, 3], &[1.0, 1.0, 2.0, 6.0, 6.0, 11.0]),
    ] {
        let got = float(y, &fed);
        assert_eq!(got.shape().extents(), shape, "{}", y.name());
        for (g, w) in got.as_slice().iter().zip(want) {
            assert!((g - w).abs() < 1e-14, "{}: {got:?} for {want:?}", y.name());
        }
    }
    for (y, want) in
        [(x.argmax(1), &[2, 2][..]), (x.argmin(-1), &[0, 0]), (x.argmax(0), &[0, 1, 0])]
    {
        assert_eq!(value(&tape, y, &fed).unwrap().as_slice(), want);
    }
}

#[test]
fn a_large_mean_does_not_spoil_the_variance() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY]);
    let fed = Tensor::vector(vec![1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]);
    assert_eq!(float(x.variance(1), &fed).item().unwrap(), 30.0);
}

#[test]
fn subgradients_at_kinks() {
    let gradient = |f: for<'t> fn(E<'t>) -> E<'t>, at: &[f64]| {
        let tape = Tape::new();
        let x = tape.placeholder("x", [ANY]);
        let g = tape.gradient(f(x), &[x]).unwrap()[0];
        float(g, &Tensor::vector(at.to_vec())).into_vec()
    };
    assert_eq!(
        gradient(|x| x.max(), &[3.0, 1.0, 3.0, 3.0, 2.0]),
        [1.0, 0.0, 1.0, 1.0, 0.0].map(|g| g / 3.0)
    );
    assert_eq!(gradient(|x| x.min_keep(&[0]).sum(), &[1.0, 1.0, 3.0]), [0.5, 0.5, 0.0]);
    assert_eq!(gradient(|x| x.norm(), &[0.0, 0.0]), [0.0, 0.0]);
    assert_eq!(gradient(|x| x.norm(), &[0.0, -4.0]), [0.0, -1.0]);
    assert_eq!(gradient(|x| x.std(0), &[2.0, 2.0]), [0.0, 0.0]);
    assert_eq!(gradient(|x| x.norm_l1(), &[0.0, -2.0]), [0.0, -1.0]);
    assert_eq!(gradient(|x| x.prod(), &[0.0, 3.0, 0.0]), [0.0, 0.0, 0.0]);
    // Over the rows p = exp(x − y), where y has the rounding errors of 1e4.
    assert!(gradient(|x| x.logsumexp(0), &[1e4; 2]).iter().all(|g| (g - 0.5).abs() < 1e-12));
}

#[test]
fn empty_batches() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 2]);
    let none = Tensor::zeros([0, 2]).unwrap();
    assert_eq!(float(x.sum_axes(&[0]), &none).as_slice(), [0.0, 0.0]);
    assert_eq!(float(x.prod(), &none).as_slice(), [1.0]);
    assert_eq!(float(x.max_axes(&[1]), &none).shape(), [0].into());
    assert_eq!(float(x.softmax(1), &none).shape(), [0, 2].into());
    assert_eq!(float(x.logsumexp(0), &none).as_slice(), [f64::NEG_INFINITY; 2]);
    assert!(float(x.mean(), &none).item().unwrap().is_nan());
    let gradient = tape.gradient(x.square().sum(), &[x]).unwrap()[0];
    assert_eq!(float(gradient, &none).shape(), [0, 2].into());
    // What recording could not know is refused when shapes are fed.
    for (err, want) in [
        (value(&tape, x.max_axes(&[0]), &none).unwrap_err(), "max: [0, 2]: expected at least one"),
        (value(&tape, x.min(), &none).unwrap_err(), "min: [0, 2]: expected at least one"),
        (value(&tape, x.argmax(0), &none).unwrap_err(), "argmax: [0, 2]: expected 1 to 2³²"),
    ] {
        assert!(err.message().starts_with(want), "{err}");
    }
}

#[test]
fn mistakes_name_the_op_and_the_shape() {
    type Bad = for<'t> fn(E<'t>, &'t Tape<f64>) -> E<'t>;
    let cases: [(Bad, &str); 9] = [
        (
            |x, _| x.sum_axes(&[2]),
            "sum: [?, 3]: expected an axis of [?, 3], which has 2, got axis 2",
        ),
        (|x, _| x.mean_keep(&[0, 0]), "mean: [?, 3]: axis 0 is named twice"),
        (|x, _| x.norm_axes(&[-3]), "norm: [?, 3]: expected an axis of [?, 3]"),
        (|x, _| x.softmax(5), "softmax: [?, 3]: expected an axis"),
        (|x, _| x.cumsum(-4), "cumsum: [?, 3]: expected an axis"),
        (|x, _| x.argmax(2).as_node_expr(), "argmax: [?, 3]: expected an axis"),
        (
            |_, tape| tape.placeholder("e", [0, 3]).max_axes(&[0]),
            "max: [0, 3]: expected at least one element along axes [0]",
        ),
        (
            |_, tape| tape.placeholder("e", [3, 0]).argmin(1).as_node_expr(),
            "argmin: [3, 0]: expected 1 to 2³² elements along axis 1",
        ),
        (
            |_, tape| tape.index_placeholder("i", [3]).as_node_expr().sum(),
            "sum(i): expected floats, got indices as input 0",
        ),
    ];
    for (i, (record, want)) in cases.into_iter().enumerate() {
        let tape = Tape::new();
        record(tape.placeholder("x", [ANY, 3]), &tape);
        let err = tape.check().unwrap_err();
        assert!(err.message().starts_with(want), "{err}\n{want}");
        // The axes are read by methods, which must pass on who called them.
        assert!(i > 5 || err.location().is_some_and(|at| at.file() == file!()), "{err}");
    }
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [3]);
    let err = tape.gradient(x.all(), &[x]).unwrap_err();
    assert!(err.kind() == ErrorKind::Gradient && err.message().contains("all"), "{err}");
}

#[test]
fn batch_rules() {
    let rule = |y: E<'_>| {
        let graph = y.tape().snapshot();
        let node = graph.node(y.node().id);
        node.op.primitive().rows(&graph.input_shapes(node), &vec![true; node.inputs.len()])
    };
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 3]);
    for (y, want) in [
        (x.sum_axes(&[1]), RowRule::Split),
        (x.sum(), RowRule::Partial(Combine::Sum)),
        (x.prod_axes(&[0]), RowRule::Partial(Combine::Prod)),
        (x.max_axes(&[0]), RowRule::Partial(Combine::Max)),
        (x.min(), RowRule::Partial(Combine::Min)),
        (x.all(), RowRule::Partial(Combine::Min)),
        (x.any(), RowRule::Partial(Combine::Max)),
        (x.softmax(1), RowRule::Split),
        (x.softmax(0), RowRule::Mixes),
        (x.log_softmax(0), RowRule::Mixes),
        (x.logsumexp(0), RowRule::Partial(Combine::LogAddExp)),
        (x.logsumexp(1), RowRule::Split),
        (x.cumsum(0), RowRule::Mixes),
        (x.cumsum(1), RowRule::Split),
        (x.argmax(0).as_node_expr(), RowRule::Mixes),
        (x.argmax(1).as_node_expr(), RowRule::Split),
    ] {
        assert_eq!(rule(y), want, "{}", y.name());
    }
}
