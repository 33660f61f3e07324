//! Row B2: losses against their closed forms, their kinks, extreme logits, and what they refuse.

use gradtape::{
    ANY, Error, ErrorKind, Expr, Index, IndexExpr, Passes, Philox, Result, Scalar, Session, Shape,
    Tape, Tensor,
};
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::{E, LN_2, TAU};

/// Records the loss of predictions and targets.
type Record<T = f64> = for<'t> fn(Expr<'t, T>, Expr<'t, T>) -> Expr<'t, T>;

/// Records the loss of predictions.
type OfOne = for<'t> fn(Expr<'t>) -> Expr<'t>;

/// The value of a loss of z, and its gradient in z with a cotangent of ones; as the plan and the
/// interpreter give them, which must be the same bits.
fn value_and_slope<T: Scalar>(
    z: &Tensor<T>,
    loss: impl for<'t> Fn(Expr<'t, T>) -> Expr<'t, T>,
) -> Result<(Tensor<T>, Tensor<T>)> {
    let tape = Tape::new();
    let input = tape.variable("z", z.clone());
    let value = loss(input);
    let slope = tape.gradient(value.sum(), &[input])?[0];
    let mut session = Session::new(&tape)?;
    let pair = session.run((value, slope), &[])?;
    assert_eq!(pair, session.interpret((value, slope), &[])?);
    Ok(pair)
}

fn assert_close<T: Scalar>(got: &[T], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().map(|g| g.to_f64()).zip(want).enumerate() {
        let error = (got - want).abs();
        assert!(error <= tolerance * want.abs().max(1e-300), "{what} [{i}]: {got}, want {want}");
    }
}

fn tensor<T: Scalar>(rows: [usize; 2], numbers: &[f64]) -> Tensor<T> {
    Tensor::from_rows(rows, numbers).unwrap().map(T::lit)
}

/// (z, y, loss, slope in z); the slopes at kinks are the documented ones.
type Case = (f64, f64, f64, f64);

/// ln(1 + eˣ) for x < 0 by its series where that is shorter than rounding: independent of ln_1p.
fn log1p_exp(x: f64) -> f64 {
    let e = x.exp();
    if x < -20.0 { e - e * e / 2.0 } else { (1.0 + e).ln() }
}

fn elementwise<T: Scalar>() -> Vec<(&'static str, Record<T>, Vec<Case>)> {
    let (e, ln2) = (E, LN_2);
    let stirling = 3.0 * 3f64.ln() - 3.0 + 0.5 * (TAU * 3.0).ln();
    vec![
        (
            "squared_error",
            |z, y| z.squared_error(y),
            vec![(3.0, 1.0, 4.0, 4.0), (-1.0, 0.5, 2.25, -3.0), (2.0, 2.0, 0.0, 0.0)],
        ),
        (
            "absolute_error",
            |z, y| z.absolute_error(y),
            vec![(3.0, 1.0, 2.0, 1.0), (-1.0, 0.5, 1.5, -1.0), (2.0, 2.0, 0.0, 0.0)],
        ),
        (
            "huber_loss",
            |z, y| z.huber_loss(y, 1.5),
            vec![
                (1.0, 0.0, 0.5, 1.0),
                (0.0, 1.0, 0.5, -1.0),
                (0.0, 0.0, 0.0, 0.0),
                (1.5, 0.0, 1.125, 1.5),
                (-1.5, 0.0, 1.125, -1.5),
                (4.0, 0.0, 1.5 * 3.25, 1.5),
                (0.0, 1e4, 1.5 * (1e4 - 0.75), -1.5),
            ],
        ),
        (
            "logistic_loss",
            |z, y| z.logistic_loss(y),
            vec![
                (0.0, 0.0, ln2, 0.5),
                (0.0, 1.0, ln2, -0.5),
                (0.0, 0.25, ln2, 0.25),
                (2.0, 1.0, log1p_exp(-2.0), -1.0 / (1.0 + e * e)),
                (-2.0, 0.25, 0.5 + log1p_exp(-2.0), 1.0 / (1.0 + e * e) - 0.25),
                // What is left of the tail keeps its digits.
                (40.0, 1.0, log1p_exp(-40.0), -(-40f64).exp()),
                (-40.0, 0.0, log1p_exp(-40.0), (-40f64).exp()),
                (1e4, 1.0, 0.0, 0.0),
                (-1e4, 0.0, 0.0, 0.0),
                (1e4, 0.0, 1e4, 1.0),
                (-1e4, 1.0, 1e4, -1.0),
                (1e4, 0.5, 5e3, 0.5),
            ],
        ),
        (
            "hinge_loss",
            |z, y| z.hinge_loss(y),
            vec![
                (0.5, 1.0, 0.5, -1.0),
                (0.5, -1.0, 1.5, 1.0),
                (1.0, 1.0, 0.0, 0.0),
                (-1.0, -1.0, 0.0, 0.0),
                (2.0, 1.0, 0.0, 0.0),
                (-1e4, 1.0, 10001.0, -1.0),
                (1e4, 1.0, 0.0, 0.0),
            ],
        ),
        (
            "poisson_loss",
            |z, y| z.poisson_loss(y),
            vec![(0.0, 0.0, 1.0, 1.0), (1.0, 3.0, e - 3.0, e - 3.0), (-1e4, 2.0, 2e4, -2.0)],
        ),
        (
            "poisson_loss_full",
            |z, y| z.poisson_loss_full(y),
            vec![
                (0.0, 0.0, 1.0, 1.0),
                (0.0, 1.0, 1.0, 0.0),
                (1.0, 3.0, e - 3.0 + stirling, e - 3.0),
                (-1e4, 0.0, 0.0, 0.0),
            ],
        ),
    ]
}

fn elementwise_losses_are_their_closed_forms<T: Scalar>() {
    for (name, record, cases) in elementwise::<T>() {
        let column = |f: fn(&Case) -> f64| -> Vec<f64> { cases.iter().map(f).collect() };
        let y = tensor::<T>([cases.len(), 1], &column(|c| c.1));
        let z = tensor::<T>([cases.len(), 1], &column(|c| c.0));
        let (value, slope) = value_and_slope(&z, |z| record(z, z.tape().constant(y.clone())))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(value.shape(), z.shape(), "{name}");
        let tolerance = 8.0 * T::EPSILON;
        assert_close(value.as_slice(), &column(|c| c.2), tolerance, name);
        assert_close(slope.as_slice(), &column(|c| c.3), tolerance, name);
    }
}

#[test]
fn elementwise_losses_are_their_closed_forms_f64() {
    elementwise_losses_are_their_closed_forms::<f64>();
}

#[test]
fn elementwise_losses_are_their_closed_forms_f32() {
    elementwise_losses_are_their_closed_forms::<f32>();
}

/// The losses of rows, and elementwise ones, of 4 × 3 predictions.
fn all_of_4_by_3() -> Vec<(&'static str, OfOne)> {
    fn reals<'t>(z: Expr<'t>) -> Expr<'t> {
        let y = [0.3, -1.0, 2.0, 0.0, 0.6, -0.2, 1.0, 4.0, -3.0, 0.1, 0.2, 0.3];
        z.tape().constant(tensor([4, 3], &y))
    }
    fn shares<'t>(z: Expr<'t>) -> Expr<'t> {
        let p = [0.2, 0.3, 0.5, 0.0, 0.0, 1.0, 0.25, 0.75, 0.0, 0.1, 0.1, 0.8];
        z.tape().constant(tensor([4, 3], &p))
    }
    fn classes<'t>(z: Expr<'t>) -> IndexExpr<'t> {
        z.tape().index_constant(Tensor::vector(vec![2, 0, 1, 1]))
    }
    vec![
        ("squared_error", |z| z.squared_error(reals(z))),
        ("absolute_error", |z| z.absolute_error(reals(z))),
        ("huber_loss", |z| z.huber_loss(reals(z), 0.7)),
        ("logistic_loss", |z| z.logistic_loss(shares(z))),
        ("hinge_loss", |z| z.hinge_loss(reals(z).sign() + reals(z).equal(0.0))),
        ("poisson_loss", |z| z.poisson_loss(reals(z).abs())),
        ("poisson_loss_full", |z| z.poisson_loss_full(reals(z).abs())),
        ("softmax_cross_entropy", |z| z.softmax_cross_entropy(classes(z))),
        ("softmax_cross_entropy_soft", |z| z.softmax_cross_entropy_soft(shares(z))),
        ("kl_divergence", |z| z.kl_divergence(shares(z))),
        ("multiclass_hinge_loss", |z| z.multiclass_hinge_loss(classes(z))),
        // As functions of their targets.
        ("squared_error in y", |y| reals(y).squared_error(y)),
        ("logistic_loss in y", |y| reals(y).logistic_loss(y.sigmoid())),
        ("soft in p", |y| reals(y).softmax_cross_entropy_soft(y.softmax(-1))),
        ("kl_divergence in p", |y| reals(y).kl_divergence(y.softmax(-1))),
    ]
}

#[test]
fn gradients_of_both_orders_are_central_differences() {
    let mut rng = Philox::new(3, 0);
    let mut normal = |shape: &[usize]| {
        let shape = gradtape::Shape::new(shape).unwrap();
        Tensor::from_fn(shape, |_| StandardNormal.sample(&mut rng)).unwrap()
    };
    for (name, record) in all_of_4_by_3() {
        let tape = Tape::new();
        let z = tape.variable("z", normal(&[4, 3]));
        let loss = record(z);
        let cotangent = tape.constant(normal(loss.shape().extents()));
        let value = (loss * cotangent).sum();
        let slope = tape.gradient(value, &[z]).unwrap()[0];
        let along = tape.constant(normal(&[4, 3]));
        let value_along = (slope * along).sum();
        let curvature = tape.gradient_allow_unused(value_along, &[z]).unwrap()[0];
        let direction = normal(&[4, 3]);
        let d = tape.constant(direction.clone());
        let claims = ((slope * d).sum(), (curvature * d).sum());

        let mut session = Session::new(&tape).unwrap();
        let claims = session.run(claims, &[]).unwrap();
        let start = session.value(z).unwrap();
        let h = 1e-5;
        let mut at = |sign: f64| {
            let step = direction.map(|d| sign * h * d);
            session.assign(z, &start).unwrap();
            session.assign_add(z, &step).unwrap();
            let (a, b) = session.run((value, value_along), &[]).unwrap();
            [a.item().unwrap(), b.item().unwrap()]
        };
        let (up, down) = (at(1.0), at(-1.0));
        let claims = [claims.0.item().unwrap(), claims.1.item().unwrap()];
        for (order, claim) in claims.into_iter().enumerate() {
            let measured = (up[order] - down[order]) / (2.0 * h);
            let error = (claim - measured).abs();
            assert!(error < 1e-7 * (1.0 + claim.abs()), "{name} {order}: {claim}, {measured}");
        }
    }
}

/// The textbook form on numbers that cannot overflow.
fn cross_entropy_by_hand(row: &[f64], p: &[f64]) -> f64 {
    let total: f64 = row.iter().map(|z| z.exp()).sum();
    row.iter().zip(p).map(|(z, p)| -p * (z.exp() / total).ln()).sum()
}

/// Sizes on both sides of the kernel's blocks of 256 rows and 32 terms, and single rows.
#[test]
fn cross_entropies_are_the_textbook_sum() {
    let mut rng = Philox::new(5, 0);
    for (n, k) in [(1, 1), (1, 5), (1, 1000), (2, 33), (255, 3), (300, 40), (513, 2)] {
        let z = Tensor::from_fn([n, k], |_| StandardNormal.sample(&mut rng)).unwrap();
        let labels: Vec<u32> = (0..n).map(|_| rng.below(k as u64) as u32).collect();
        let hot = |row: usize| -> Vec<f64> {
            (0..k).map(|c| f64::from(u8::from(labels[row] as usize == c))).collect()
        };
        let row = |i: usize| -> Vec<f64> { (0..k).map(|c| z.get(&[i, c]).unwrap()).collect() };
        let p = Tensor::from_fn([n, k], |at| hot(at[0])[at[1]]).unwrap();

        let index = Tensor::vector(labels.clone());
        let (of_labels, slope) = value_and_slope(&z, |z| {
            z.softmax_cross_entropy(z.tape().index_constant(index.clone()))
        })
        .unwrap();
        let (of_shares, slope_of_shares) =
            value_and_slope(&z, |z| z.softmax_cross_entropy_soft(z.tape().constant(p.clone())))
                .unwrap();
        let (divergence, _) =
            value_and_slope(&z, |z| z.kl_divergence(z.tape().constant(p.clone()))).unwrap();
        for i in 0..n {
            let want = cross_entropy_by_hand(&row(i), &hot(i));
            for got in [&of_labels, &of_shares, &divergence] {
                let got = got.as_slice()[i];
                assert!((got - want).abs() < 1e-13 * (1.0 + want), "{n} {k}: {got} {want}");
            }
            let total: f64 = row(i).iter().map(|z| z.exp()).sum();
            for (c, (z, hot)) in row(i).into_iter().zip(hot(i)).enumerate() {
                let want = z.exp() / total - hot;
                for slope in [&slope, &slope_of_shares] {
                    assert!((slope.get(&[i, c]).unwrap() - want).abs() < 1e-15 * 8.0);
                }
            }
        }
    }
}

fn extreme_logits_are_finite_and_exact<T: Scalar>() {
    let z = tensor::<T>([3, 3], &[1e4, -1e4, 0.0, 1e4, -1e4, 0.0, 1e4, -1e4, 0.0]);
    let softmax_less_label = [0.0, 1.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0];
    let (value, slope) = value_and_slope(&z, |z| {
        z.softmax_cross_entropy(z.tape().index_constant(Tensor::vector(vec![0, 1, 2])))
    })
    .unwrap();
    assert_eq!(value, Tensor::vector(vec![0.0, 2e4, 1e4]).map(T::lit));
    assert_eq!(slope.as_slice(), softmax_less_label.map(T::lit));

    let p = tensor::<T>([3, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.5]);
    let records: [Record<T>; 2] = [
        |z, p| z.softmax_cross_entropy_soft(p),
        // The divergence lacks the entropy of p, which in the last row is that of two halves.
        |z, p| z.kl_divergence(p) + (p.equal(p.lit(0.5)) * p.lit(LN_2 / 2.0)).sum_axes(&[-1]),
    ];
    for record in records {
        let (value, slope) =
            value_and_slope(&z, |z| record(z, z.tape().constant(p.clone()))).unwrap();
        assert_close(value.as_slice(), &[0.0, 2e4, 1.5e4], 4.0 * T::EPSILON, "soft");
        let want = [0.0, 1.0, 1.0, 0.0, -1.0, -0.5, 0.0, 0.0, -0.5];
        assert_eq!(slope.as_slice(), want.map(T::lit));
    }

    let (value, slope) = value_and_slope(&z, |z| {
        z.multiclass_hinge_loss(z.tape().index_constant(Tensor::vector(vec![0, 1, 2])))
    })
    .unwrap();
    assert_eq!(value, Tensor::vector(vec![0.0, 20001.0, 10001.0]).map(T::lit));
    assert_eq!(slope.as_slice(), softmax_less_label.map(T::lit));
}

#[test]
fn extreme_logits_are_finite_and_exact_f64() {
    extreme_logits_are_finite_and_exact::<f64>();
}

#[test]
fn extreme_logits_are_finite_and_exact_f32() {
    extreme_logits_are_finite_and_exact::<f32>();
}

#[test]
fn rivals_of_the_multiclass_hinge_share_its_slope() {
    let hinge = |z: [f64; 3]| {
        let label = Tensor::vector(vec![0]);
        let z = tensor::<f64>([1, 3], &z);
        value_and_slope(&z, |z| z.multiclass_hinge_loss(z.tape().index_constant(label.clone())))
            .unwrap()
    };
    for (z, value, slope) in [
        ([3.0, 1.0, 0.0], 0.0, [0.0, 0.0, 0.0]),
        ([1.0, 0.5, 0.0], 0.5, [-1.0, 1.0, 0.0]),
        ([0.0, 2.0, 2.0], 3.0, [-1.0, 0.5, 0.5]),
        // A margin of exactly 1: the label's own 0 is the third of the tied terms.
        ([1.0, 0.0, 0.0], 0.0, [-2.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]),
    ] {
        let got = hinge(z);
        assert_eq!(got.0.as_slice(), [value], "{z:?}");
        assert_close(got.1.as_slice(), &slope, 4.0 * f64::EPSILON, "slope");
    }
}

#[test]
fn divergence_of_a_distribution_from_itself_is_0() {
    let z = tensor::<f64>([2, 3], &[0.1, 2.0, -1.0, 700.0, 0.0, 699.0]);
    let (value, slope) =
        value_and_slope(&z, |z| z.kl_divergence(z.softmax(-1).stop_gradient())).unwrap();
    assert!(value.as_slice().iter().chain(slope.as_slice()).all(|x| x.abs() < 1e-15), "{value:?}");
}

#[test]
fn one_number_is_the_target_of_all() {
    let z = tensor::<f64>([2, 2], &[0.0, 1.0, -3.0, 2.0]);
    let (value, slope) = value_and_slope(&z, |z| z.hinge_loss(1.0)).unwrap();
    assert_eq!(value, tensor([2, 2], &[1.0, 0.0, 4.0, 0.0]));
    assert_eq!(slope, tensor([2, 2], &[-1.0, 0.0, -1.0, 0.0]));
}

#[test]
fn losses_take_batches_of_any_size_and_rank() {
    let tape = Tape::<f64>::new();
    let z = tape.placeholder("z", [ANY, ANY, ANY]);
    let labels = tape.index_placeholder("labels", [ANY, 5]);
    let cross = z.softmax_cross_entropy(labels);
    let hinge = z.multiclass_hinge_loss(labels);
    let slope = tape.gradient(cross.sum() + hinge.sum(), &[z]).unwrap()[0];
    let mut session = Session::new(&tape).unwrap();
    for n in [0, 1, 4] {
        let feed = Tensor::from_fn([n, 5, 3], |at| (at[0] + at[1] * at[2]) as f64).unwrap();
        let classes = Tensor::full([n, 5], 1).unwrap();
        let feeds = [z.feed(&feed), labels.feed(&classes)];
        let (cross, hinge, slope) = session.run((cross, hinge, slope), &feeds).unwrap();
        assert_eq!((cross.shape(), hinge.shape()), ([n, 5].into(), [n, 5].into()));
        assert_eq!(slope.shape(), feed.shape());
        // Row (i, 2) has the scores i, i + 2, i + 4; its class is the middle one.
        if n == 4 {
            let want = cross_entropy_by_hand(&[0.0, 2.0, 4.0], &[0.0, 1.0, 0.0]);
            assert!((cross.get(&[3, 2]).unwrap() - want).abs() < 1e-14);
            assert_eq!(hinge.get(&[3, 2]), Some(3.0));
        }
    }
}

/// The error of recording a loss of a column `z` of five rows.
fn mistake(record: impl for<'t> Fn(&'t Tape, Expr<'t>) -> Expr<'t>) -> Error {
    let tape = Tape::new();
    let z = tape.placeholder("z", [5, 1]);
    record(&tape, z);
    tape.check().unwrap_err()
}

#[test]
fn targets_of_another_shape_are_refused() {
    let records: [(&str, Record); 9] = [
        ("squared_error", |z, y| z.squared_error(y)),
        ("absolute_error", |z, y| z.absolute_error(y)),
        ("huber_loss", |z, y| z.huber_loss(y, 1.0)),
        ("logistic_loss", |z, y| z.logistic_loss(y)),
        ("hinge_loss", |z, y| z.hinge_loss(y)),
        ("poisson_loss", |z, y| z.poisson_loss(y)),
        ("poisson_loss_full", |z, y| z.poisson_loss_full(y)),
        ("softmax_cross_entropy_soft", |z, y| z.softmax_cross_entropy_soft(y)),
        ("kl_divergence", |z, y| z.kl_divergence(y)),
    ];
    for (name, record) in records {
        let e = mistake(|tape, z| record(z, tape.placeholder("y", [5])));
        let text = format!("{name}: [5, 1], [5]: expected targets of shape [5, 1]");
        assert_eq!((e.kind(), e.message()), (ErrorKind::Shape, &*text));
        assert!(e.location().is_some_and(|at| at.file().ends_with("losses.rs")), "{e}");
    }
}

fn class_0(tape: &Tape) -> IndexExpr<'_> {
    tape.index_constant(Tensor::scalar(0))
}

#[test]
fn labels_that_do_not_fit_the_scores_are_refused() {
    let e = mistake(|tape, z| z.softmax_cross_entropy(tape.index_placeholder("y", [5, 1])));
    assert_eq!(e.message(), "softmax_cross_entropy: [5, 1], [5, 1]: expected labels of shape [5]");
    let e = mistake(|tape, z| z.multiclass_hinge_loss(tape.index_placeholder("y", [5, 1])));
    assert_eq!(e.message(), "multiclass_hinge_loss: [5, 1], [5, 1]: expected labels of shape [5]");
    let e = mistake(|tape, _| tape.literal(1.0).softmax_cross_entropy(class_0(tape)));
    assert_eq!(e.message(), "softmax_cross_entropy: []: expected scores with an axis of classes");
    let e = mistake(|tape, _| tape.literal(1.0).multiclass_hinge_loss(class_0(tape)));
    assert_eq!(e.message(), "multiclass_hinge_loss: []: expected scores with an axis of classes");
    let e = mistake(|_, z| z.huber_loss(0.0, f64::NAN));
    assert_eq!(e.kind(), ErrorKind::Argument);
    let text = "huber_loss: [5, 1]: expected a positive finite delta, got ";
    assert_eq!(e.message(), format!("{text}NaN"));
    assert!(mistake(|_, z| z.huber_loss(0.0, 0.0)).message().starts_with(text));
    assert!(mistake(|_, z| z.huber_loss(0.0, f64::INFINITY)).message().starts_with(text));
}

/// With extents that are known only when fed, broadcasting would be silent.
#[test]
fn a_single_target_for_many_predictions_is_refused_when_run() {
    let tape = Tape::<f64>::new();
    let z = tape.placeholder("z", [ANY]);
    let y = tape.placeholder("y", [ANY]);
    let loss = z.squared_error(y).mean();
    let slope = tape.gradient(loss, &[z]).unwrap()[0];
    let mut session = Session::new(&tape).unwrap();
    let (five, one) = (Tensor::zeros([5]).unwrap(), Tensor::zeros([1]).unwrap());
    for fetch in [loss, slope] {
        assert!(session.run(fetch, &[z.feed(&five), y.feed(&five)]).is_ok());
        let e = session.run(fetch, &[z.feed(&five), y.feed(&one)]).unwrap_err();
        assert_eq!(e.message(), "squared_error: [5], [1]: expected targets of shape [5]");
    }
}

/// The errors of a loss and of its gradient alone, run with these targets.
fn refusals(record: Record, y: &Tensor) -> [Error; 2] {
    let tape = Tape::new();
    let z = tape.variable("z", Tensor::zeros(y.shape()).unwrap());
    let target = tape.placeholder("y", y.shape());
    let loss = record(z, target).sum();
    let slope = tape.gradient(loss, &[z]).unwrap()[0];
    let mut session = Session::new(&tape).unwrap();
    let feeds = [target.feed(y)];
    [loss, slope].map(|fetch| {
        let e = session.run(fetch, &feeds).unwrap_err();
        assert_eq!(session.interpret(fetch, &feeds).unwrap_err().message(), e.message());
        e
    })
}

#[test]
fn labels_without_a_meaning_are_errors_of_the_run() {
    let unit = "expected a number from 0 to 1, got ";
    let count = "expected a finite number from 0 up, got ";
    let cases: [(&str, Record, f64, &str); 8] = [
        ("logistic_loss", |z, y| z.logistic_loss(y), -1.0, unit),
        ("logistic_loss", |z, y| z.logistic_loss(y), f64::NAN, unit),
        ("hinge_loss", |z, y| z.hinge_loss(y), 0.0, "expected -1 or 1, got "),
        ("poisson_loss", |z, y| z.poisson_loss(y), -2.0, count),
        ("poisson_loss", |z, y| z.poisson_loss(y), f64::INFINITY, count),
        ("poisson_loss_full", |z, y| z.poisson_loss_full(y), -0.5, count),
        ("softmax_cross_entropy_soft", |z, y| z.softmax_cross_entropy_soft(y), 1.5, unit),
        ("kl_divergence", |z, y| z.kl_divergence(y), -0.5, unit),
    ];
    for (name, record, label, expected) in cases {
        let y = tensor([3, 2], &[1.0, 1.0, 1.0, label, 1.0, 1.0]);
        for e in refusals(record, &y) {
            let text = format!("{name}: {expected}{label} at position 4");
            assert_eq!((e.kind(), e.message()), (ErrorKind::Argument, &*text));
        }
    }
}

/// A plan that needs both takes exponentials once; no bit may differ from either alone.
#[test]
fn cross_entropy_and_its_slope_are_one_value_of_a_plan() -> Result<()> {
    let rows: [&[usize]; 4] = [&[], &[3], &[0], &[2, 300]];
    for rows in rows {
        let shape = [rows, &[5]].concat();
        let tape = Tape::<f64>::new();
        let mut rng = Philox::new(3, 0);
        let numbers = |rng: &mut Philox| rng.below(2001) as f64 / 100.0 - 10.0;
        let z = tape.variable("z", Tensor::from_fn(Shape::new(&shape)?, |_| numbers(&mut rng))?);
        let labels =
            Tensor::from_fn(Shape::new(rows)?, |at| at.iter().sum::<usize>() as Index % 5)?;
        let loss = z.softmax_cross_entropy(tape.index_constant(labels));
        let weights = tape.constant(Tensor::from_fn(Shape::new(rows)?, |_| numbers(&mut rng))?);
        let slope = tape.gradient((loss * weights).sum(), &[z])?[0];
        let second = tape.gradient(slope.square().sum(), &[z])?[0];
        let all = Passes::ALL;
        for passes in [
            all,
            Passes { simplify: false, ..all },
            Passes { fuse: false, ..all },
            Passes { share_memory: false, ..all },
            Passes { stream: false, ..all },
            Passes::NONE,
        ] {
            let mut session = Session::new(&tape)?.with_passes(passes);
            for fetches in [vec![loss], vec![slope], vec![loss, slope], vec![slope, loss, second]] {
                let got = session.run(&fetches, &[])?;
                let want = session.interpret(&fetches, &[])?;
                let same = |a: &Tensor<f64>, b: &Tensor<f64>| {
                    a.shape() == b.shape()
                        && a.as_slice()
                            .iter()
                            .zip(b.as_slice())
                            .all(|(a, b)| a.to_bits() == b.to_bits())
                };
                assert!(got.iter().zip(&want).all(|(a, b)| same(a, b)), "{shape:?} {passes:?}");
            }
        }
        let mut session = Session::new(&tape)?;
        let report = session.report([loss, slope], &[])?.to_string();
        assert_eq!(report.matches("softmax_").count(), 1, "{report}");
    }
    Ok(())
}

#[test]
fn a_class_that_is_not_there_is_an_error_of_the_run() {
    let tape = Tape::<f64>::new();
    let z = tape.variable("z", Tensor::zeros([3, 4]).unwrap());
    let labels = tape.index_placeholder("labels", [ANY]);
    let cross = z.softmax_cross_entropy(labels).sum();
    let hinge = z.multiclass_hinge_loss(labels).sum();
    let slopes = [cross, hinge].map(|loss| tape.gradient(loss, &[z]).unwrap()[0]);
    let mut session = Session::new(&tape).unwrap();
    let classes = Tensor::vector(vec![3, 0, 4]);
    for (fetch, op) in [
        (cross, "softmax_cross_entropy"),
        (hinge, "gather"),
        (slopes[0], "softmax_residual"),
        (slopes[1], "gather"),
    ] {
        let e = session.run(fetch, &[labels.feed(&classes)]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Index);
        let text = format!("{op}: expected an index below 4, got 4 at position 2");
        assert_eq!(e.message(), text);
        assert!(e.location().is_some_and(|at| at.file().ends_with("losses.rs")), "{e}");
    }
    let fewer = Tensor::vector(vec![3, 0]);
    let e = session.run(cross, &[labels.feed(&fewer)]).unwrap_err();
    assert_eq!(e.message(), "softmax_cross_entropy: [3, 4], [2]: expected labels of shape [3]");
}
