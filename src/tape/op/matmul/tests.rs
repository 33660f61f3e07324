//! Products as recorded: values and batches against NumPy's definition, derivatives of first and
//! second order, batch rules against shards put together again, mistakes.

use super::*;
use crate::{Session, Tape, Tensor};

type E<'t> = Expr<'t, f64>;

/// (shape of A, transposed, shape of B, transposed)
type Case = (&'static [usize], bool, &'static [usize], bool);

const CASES: [Case; 17] = [
    (&[3, 4], false, &[4, 2], false),
    (&[4, 3], true, &[4, 2], false),
    (&[3, 4], false, &[2, 4], true),
    (&[4, 3], true, &[2, 4], true),
    (&[1, 4], false, &[4, 1], false),
    (&[0, 4], false, &[4, 2], false),
    (&[3, 0], false, &[0, 2], false),
    (&[5, 3, 4], false, &[4, 2], false), // leading axes fold into the rows
    (&[5, 3, 4], false, &[2, 4], true),
    (&[5, 4, 3], true, &[4, 2], false),
    (&[3, 4], false, &[5, 4, 2], false),
    (&[4, 3], true, &[5, 2, 4], true),
    (&[5, 3, 4], false, &[5, 4, 2], false),
    (&[5, 2, 3, 4], false, &[5, 2, 2, 4], true),
    (&[5, 1, 3, 4], false, &[1, 2, 4, 2], false),
    (&[2, 4, 3], true, &[5, 1, 4, 2], false),
    (&[1, 3, 4], false, &[5, 4, 2], false),
];

/// Numbers in [-1, 1) without a pattern.
fn noise(shape: impl Into<Shape>, seed: f64) -> Tensor {
    let mut i = seed;
    Tensor::from_fn(shape, |_| {
        i += 1.0;
        2.0 * ((i * 12.9898).sin() * 43_758.545_3).rem_euclid(1.0) - 1.0
    })
    .unwrap()
}

fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents).unwrap()
}

fn value(y: E<'_>) -> Tensor {
    Session::new(y.tape()).unwrap().run(y, &[]).unwrap()
}

/// The product, from its definition.
fn definition(a: &Tensor, ta: bool, b: &Tensor, tb: bool) -> Tensor {
    let out = MatMul { ta, tb };
    let out = Primitive::<f64>::shape(&out, &[a.shape(), b.shape()]).unwrap();
    let (_, k) = matrix(&a.shape(), ta);
    // Batch positions align at their ends; an extent of 1 is repeated.
    let element = |x: &Tensor, at: &[usize], row: usize, col: usize, transposed: bool| {
        let n_batch = x.rank() - 2;
        let mut own: Vec<usize> = at[at.len() - 2 - n_batch..at.len() - 2].to_vec();
        own.iter_mut()
            .zip(x.shape().extents())
            .for_each(|(i, &e)| *i = if e == 1 { 0 } else { *i });
        own.extend(if transposed { [col, row] } else { [row, col] });
        x.get(&own).unwrap()
    };
    Tensor::from_fn(out, |at| {
        let [.., i, j] = *at else { unreachable!() };
        (0..k).map(|p| element(a, at, i, p, ta) * element(b, at, p, j, tb)).sum()
    })
    .unwrap()
}

#[track_caller]
fn assert_close(got: &Tensor, want: &Tensor, what: &str) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    for (got, want) in got.as_slice().iter().zip(want.as_slice()) {
        assert!((got - want).abs() <= 1e-12 * (1.0 + want.abs()), "{what}: {got} for {want}");
    }
}

/// `op` alone, on these values.
fn forward(op: &Op<f64>, x: &[&Tensor]) -> Tensor {
    let op = op.primitive();
    let shapes: Vec<Shape> = x.iter().map(|x| x.shape()).collect();
    let args: Vec<Arg<'_, f64>> = x.iter().map(|x| Arg::Float(x.view())).collect();
    let shape = op.shape(&shapes).unwrap();
    let mut y = Tensor::full(shape, f64::NAN).unwrap();
    let mut scratch = vec![f64::NAN; op.scratch(&shapes)];
    op.forward(&args, Out::Float(shape, y.as_mut_slice()), &mut scratch).unwrap();
    y
}

#[test]
fn values_follow_the_definition() {
    for (a, ta, b, tb) in CASES {
        let (a, b) = (noise(shape(a), 1.0), noise(shape(b), 2.0));
        let got = forward(&MatMul { ta, tb }.into(), &[&a, &b]);
        let what = format!("{} {ta} · {} {tb}", a.shape(), b.shape());
        assert_close(&got, &definition(&a, ta, &b, tb), &what);
    }
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| a * b).sum()
}

/// A product is linear in each factor: a difference quotient with step 1 has no error but
/// rounding.
#[test]
fn derivatives_are_exact() {
    for (a_shape, ta, b_shape, tb) in CASES {
        let what = format!("{a_shape:?} {ta} · {b_shape:?} {tb}");
        let tape = Tape::<f64>::new();
        let open = |extents: &[usize]| shape(extents).with(0, ANY);
        let factors = [shape(a_shape), shape(b_shape)];
        let at = [noise(factors[0], 1.0), noise(factors[1], 2.0)];
        let along = [noise(factors[0], 3.0), noise(factors[1], 4.0)];
        // The batch is not known while recording, where axis 0 is not the contraction.
        let a = tape.placeholder("a", if ta { factors[0] } else { open(a_shape) });
        let b = tape.placeholder("b", factors[1]);
        let y = tape.apply(MatMul { ta, tb }, &[a, b]);
        let ct = definition(&at[0], ta, &at[1], tb).map(|x| x.mul_add(3.0, 0.5));
        let g = tape.vjp(y, tape.constant(ct.clone()), &[a, b]).unwrap();
        let [da, db] = [g[0].unwrap(), g[1].unwrap()];
        // Second order: the slope of each gradient along a direction, in the other factor.
        let dda = (da * tape.constant(along[0].clone())).sum();
        let ddb = (db * tape.constant(along[1].clone())).sum();
        let (ddab, ddba) = (tape.gradient(dda, &[b]).unwrap(), tape.gradient(ddb, &[a]).unwrap());
        let feeds = [a.feed(&at[0]), b.feed(&at[1])];
        let (da, db, ddab, ddba) = Session::new(&tape)
            .unwrap()
            .run((da, db, ddab[0], ddba[0]), &feeds)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!([da.shape(), db.shape()], factors, "{what}");
        let slope = |a: &Tensor, b: &Tensor| dot(&ct, &definition(a, ta, b, tb));
        let checks = [
            ("da", dot(&da, &along[0]), slope(&along[0], &at[1])),
            ("db", dot(&db, &along[1]), slope(&at[0], &along[1])),
            ("ddab", dot(&ddab, &along[1]), slope(&along[0], &along[1])),
            ("ddba", dot(&ddba, &along[0]), slope(&along[0], &along[1])),
        ];
        for (name, got, want) in checks {
            let tolerance = 1e-11 * (1.0 + want.abs());
            assert!((got - want).abs() <= tolerance, "{what}: {name} is {got}, not {want}");
        }
    }
}

/// The gradient of a matrix that a batch shares is one product, and no transpose is recorded.
#[test]
fn derivatives_are_products_alone() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 7, 4]);
    let w = tape.variable("w", noise([4, 2], 1.0));
    let loss = x.matmul(w).square().sum();
    let dw = tape.gradient(loss, &[w]).unwrap()[0];
    assert_eq!(dw.info().unwrap().op, "folded_matmul");
    let second = tape.gradient(dw.square().sum(), &[w, x]).unwrap();
    assert!(second.iter().all(|g| g.shape().rank() > 1));
    let permuted = |node: &crate::tape::Node<f64>| matches!(node.op, Op::Permute(Permute { .. }));
    assert!(!tape.snapshot().nodes.iter().any(permuted));
}

#[test]
fn vectors_and_transposes() {
    let (m, v, w) = (noise([3, 4], 1.0), noise([4], 2.0), noise([3], 3.0));
    let batch = noise([5, 3, 4], 4.0);
    let tape = Tape::new();
    let [em, ev, ew, eb] = [&m, &v, &w, &batch].map(|x| tape.constant(x.clone()));
    let column = |x: &Tensor| x.clone().reshaped([x.len(), 1]).unwrap();
    let row = |x: &Tensor| x.clone().reshaped([1, x.len()]).unwrap();
    let want = |a: &Tensor, b: &Tensor, to: &[usize]| {
        definition(a, false, b, false).reshaped(shape(to)).unwrap()
    };
    assert_close(&value(em.matmul(ev)), &want(&m, &column(&v), &[3]), "matrix · vector");
    assert_close(&value(ew.matmul(em)), &want(&row(&w), &m, &[4]), "vector · matrix");
    assert_close(&value(eb.matmul(ev)), &want(&batch, &column(&v), &[5, 3]), "batch · vector");
    assert_close(&value(ew.matmul(eb)), &want(&row(&w), &batch, &[5, 4]), "vector · batch");
    assert_close(&value(ev.matmul(ev)), &want(&row(&v), &column(&v), &[]), "vector · vector");
    assert_close(&value(ev.dot(ev)), &want(&row(&v), &column(&v), &[]), "dot");
    assert_close(&value(ew.outer(ev)), &want(&column(&w), &row(&v), &[3, 4]), "outer");
    // A transpose is read in place: the product's input is what was transposed.
    let product = eb.matmul(em.t());
    assert_eq!(product.info().unwrap().inputs, [eb.name(), em.name()]);
    assert_close(&value(product), &definition(&batch, false, &m, true), "batch · transpose");
    let product = eb.t().matmul(ew);
    assert_close(
        &value(product),
        &want(&value(eb.t()), &column(&w), &[5, 4]),
        "transpose · vector",
    );
    let other_axes = eb.permute(&[1, 0, 2]).matmul(ev);
    assert_eq!(value(other_axes).shape(), [3, 5].into());
}

/// Rows `from..to` of axis 0.
fn rows(x: &Tensor, from: usize, to: usize) -> Tensor {
    let part = x.shape().with(0, to - from);
    Tensor::from_fn(part, |at| {
        let mut at = at.to_vec();
        at[0] += from;
        x.get(&at).unwrap()
    })
    .unwrap()
}

/// Wherever a rule says how shards make the whole, they do; and it says so where it should.
#[test]
fn batch_rules_hold_for_shards() {
    let mut allowed = vec![];
    let folded = [&[4, 3, 5][..], &[4, 3, 2]].map(shape);
    let cases = CASES.map(|(a, ta, b, tb)| (MatMul { ta, tb }.into(), [shape(a), shape(b)]));
    for (op, shapes) in cases.into_iter().chain([(FoldedMatMul.into(), folded)]) {
        let op: Op<f64> = op;
        let x = [noise(shapes[0], 1.0), noise(shapes[1], 2.0)];
        let whole = forward(&op, &[&x[0], &x[1]]);
        for split in [[true, false], [false, true], [true, true]] {
            let rule = op.primitive().rows(&shapes, &split);
            if rule == RowRule::Mixes {
                continue;
            }
            allowed.push(format!("{} {} {split:?} {rule:?}", shapes[0], shapes[1]));
            let n = if split[0] { shapes[0].extents()[0] } else { shapes[1].extents()[0] };
            let shard = |from, to| {
                let part = |i: usize| if split[i] { rows(&x[i], from, to) } else { x[i].clone() };
                forward(&op, &[&part(0), &part(1)])
            };
            for cut in 0..=n {
                let parts = [shard(0, cut), shard(cut, n)];
                let what = format!("{op:?} {shapes:?} {split:?} at {cut} of {n}");
                if rule == RowRule::Split {
                    assert_close(&parts[0], &rows(&whole, 0, cut), &what);
                    assert_close(&parts[1], &rows(&whole, cut, n), &what);
                } else {
                    let mut sum = parts[0].clone();
                    let other = parts[1].as_slice();
                    sum.as_mut_slice().iter_mut().zip(other).for_each(|(x, y)| *x += y);
                    assert_close(&sum, &whole, &what);
                }
            }
        }
    }
    let sum = "Partial(Sum)";
    let want = [
        "[3, 4] [4, 2] [true, false] Split".into(),
        format!("[4, 3] [4, 2] [true, true] {sum}"),
        "[3, 4] [2, 4] [true, false] Split".into(),
        "[1, 4] [4, 1] [true, false] Split".into(),
        "[0, 4] [4, 2] [true, false] Split".into(),
        "[3, 0] [0, 2] [true, false] Split".into(),
        "[5, 3, 4] [4, 2] [true, false] Split".into(),
        "[5, 3, 4] [2, 4] [true, false] Split".into(),
        "[5, 4, 3] [4, 2] [true, false] Split".into(),
        "[3, 4] [5, 4, 2] [false, true] Split".into(),
        "[4, 3] [5, 2, 4] [false, true] Split".into(),
        "[5, 3, 4] [5, 4, 2] [true, true] Split".into(),
        "[5, 2, 3, 4] [5, 2, 2, 4] [true, true] Split".into(),
        "[5, 1, 3, 4] [1, 2, 4, 2] [true, false] Split".into(),
        "[2, 4, 3] [5, 1, 4, 2] [false, true] Split".into(),
        "[1, 3, 4] [5, 4, 2] [false, true] Split".into(),
        format!("[4, 3, 5] [4, 3, 2] [true, true] {sum}"),
    ];
    assert_eq!(allowed, want);
}

#[test]
fn mistakes_name_both_shapes() {
    #[track_caller]
    fn check(a: &[usize], b: &[usize], f: impl for<'t> Fn(E<'t>, E<'t>) -> E<'t>, want: &str) {
        let tape = Tape::new();
        f(tape.placeholder("a", shape(a)), tape.placeholder("b", shape(b)));
        let error = tape.check().unwrap_err();
        assert_eq!((error.kind(), error.message()), (crate::ErrorKind::Shape, want));
        assert!(error.location().is_some_and(|at| at.file().ends_with("tests.rs")), "{error}");
    }
    check(
        &[ANY, 4],
        &[3, 2],
        |a, b| a.matmul(b),
        "matmul: [?, 4] · [3, 2]: inner extents 4 and 3 differ",
    );
    check(
        &[5, 4],
        &[2, 3],
        |a, b| a.matmul(b.t()),
        "matmul: [5, 4] · [2, 3]ᵀ: inner extents 4 and 3 differ",
    );
    check(
        &[2, 5, 4],
        &[3, 4, 6],
        |a, b| a.matmul(b),
        "matmul: [2, 5, 4] · [3, 4, 6]: batch extents [2] and [3] do not broadcast",
    );
    check(&[], &[3, 2], |a, b| a.matmul(b), "matmul: [] · [3, 2]: expected rank 2 or more");
    check(&[3, 2], &[3], |a, b| a.dot(b), "dot: [3, 2]: expected two vectors, got [3] beside it");
    // An extent that is not known while recording is looked at when it is fed.
    let tape = Tape::<f64>::new();
    let [a, b] = [tape.placeholder("a", [2, ANY]), tape.placeholder("b", [ANY, 2])];
    let feeds = [noise([2, 3], 1.0), noise([4, 2], 1.0)];
    let (y, feeds) = (a.matmul(b), [a.feed(&feeds[0]), b.feed(&feeds[1])]);
    let error = Session::new(&tape).unwrap().run(y, &feeds).unwrap_err();
    assert!(error.message().contains("[2, 3] · [4, 2]: inner extents 3 and 4 differ"), "{error}");
}
