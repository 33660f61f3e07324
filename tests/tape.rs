//! Rows A3 to A5, A7, A9, A14, A15: what the tape records, and what it refuses.

use gradtape::{
    ANY, Arg, Cotangents, ErrorKind, Out, Primitive, Result, RowRule, Scalar, Session, Shape, Tape,
    Tensor, Var, Vjp,
};
use nalgebra::DMatrix;

#[test]
fn a3_a_product_is_3_nodes_and_2_edges() {
    let (m, k, n) = (17, 23, 11);
    let a = DMatrix::from_fn(m, k, |i, j| ((i * 31 + j * 17) % 13) as f64 / 7.0 - 0.9);
    let b = DMatrix::from_fn(k, n, |i, j| ((i * 19 + j * 5) % 11) as f64 / 3.0 - 1.7);
    let tape = Tape::new();
    let c = tape.constant(a.clone()).matmul(tape.constant(b.clone()));
    let nodes = tape.nodes();
    assert_eq!(nodes.len(), 3);
    assert_eq!(nodes.iter().map(|n| n.inputs.len()).sum::<usize>(), 2);

    let c = Session::new(&tape).unwrap().run(c, &[]).unwrap().into_matrix().unwrap();
    let bound = k as f64 * f64::EPSILON * a.norm() * b.norm();
    assert!((c - a * b).amax() <= bound);
}

#[test]
fn a4_the_lectures_graph() {
    let tape = Tape::<f64>::new();
    let b = tape.placeholder("b", []);
    let c = tape.placeholder("c", []);
    let d = (b + c).named("d");
    let e = (c + 2.0).named("e");
    let a = (d * e).named("a");
    assert_eq!(tape.to_dot(), include_str!("golden/lecture.dot"));
    assert_eq!(tape.to_string(), include_str!("golden/lecture.txt"));

    let gradient = tape.gradient(a, &[b, c]).unwrap();
    let rows: Vec<_> =
        gradient.iter().map(|&g| tape.gradient_allow_unused(g, &[b, c]).unwrap()).collect();
    let mut session = Session::new(&tape).unwrap();
    for value in 0..10 {
        let feeds = (f64::from(value), 1.0);
        let a = session.run(a, &[b.feed(&feeds.0), c.feed(&feeds.1)]).unwrap();
        assert_eq!(a.item().unwrap(), 3.0 * f64::from(value + 1));
    }
    let feeds = [b.feed(&2.0), c.feed(&1.0)];
    assert_eq!(session.run(a, &feeds).unwrap(), 9.0.into());
    // c reaches a by two paths: (c + 2) + (b + c).
    assert_eq!(session.run(&gradient, &feeds).unwrap(), [3.0.into(), 6.0.into()]);
    let hessian = session.run([&rows[0][..], &rows[1][..]], &feeds).unwrap();
    assert_eq!(hessian, [[0.0.into(), 1.0.into()], [1.0.into(), 2.0.into()]]);
}

#[test]
fn a4_nothing_is_computed_while_recording() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 1.0);
    let y = tape.custom(Panics, &[x]);
    let z = y * 2.0 + x;
    assert_eq!(z.shape(), Shape::SCALAR);
    let session = Session::new(&tape);
    assert!(session.is_ok());
}

#[test]
fn a5_a_layer_runs_ten_times_and_its_adjoints_stand_on_the_same_tape() {
    let tape = Tape::<f64>::new();
    let w =
        tape.variable("W", Tensor::from_rows([3, 2], &[1.0, -2.0, 0.5, 1.5, -1.0, 1.0]).unwrap());
    let b = tape.variable("b", Tensor::vector(vec![0.5, -0.25, 1.0]));
    let x = tape.placeholder("x", [2]);
    let c = (w.matmul(x) + b).relu().sum();
    let recorded = tape.len();
    let gradient = tape.gradient(c, &[w, b]).unwrap();
    assert!(tape.len() > recorded);
    assert!(gradient.iter().all(|g| g.info().unwrap().at.file().ends_with("tape.rs")));

    let mut session = Session::new(&tape).unwrap();
    for run in 0..10 {
        let x0 = [f64::from(run) - 5.0, 3.0 - f64::from(run)];
        let fed = Tensor::vector(x0.to_vec());
        let (c, dw, db) = session.run((c, gradient[0], gradient[1]), &[x.feed(&fed)]).unwrap();
        let z = [x0[0] - 2.0 * x0[1] + 0.5, 0.5 * x0[0] + 1.5 * x0[1] - 0.25, -x0[0] + x0[1] + 1.0];
        let on = z.map(|z| if z > 0.0 { 1.0 } else { 0.0 });
        assert_eq!(c.item().unwrap(), z.iter().zip(on).map(|(z, on)| z * on).sum::<f64>());
        assert_eq!(db.as_slice(), on);
        assert_eq!(dw, Tensor::from_fn([3, 2], |at| on[at[0]] * x0[at[1]]).unwrap());
    }
}

#[test]
fn a7_constants_are_folded_and_not_copied_into_plans() {
    let tape = Tape::<f64>::new();
    let big = tape.constant(Tensor::full([1000, 1000], 2.0).unwrap());
    let x = tape.placeholder("x", []);
    let y = big.sum() * x;
    let k = (tape.literal(2.0) + 3.0).exp() * x;
    let mut session = Session::new(&tape).unwrap();
    let report = session.report(y, &[x.feed(&1.0)]).unwrap();
    assert_eq!(report.kernels, 1, "the sum of a constant is folded:\n{report}");
    assert!(report.arena_bytes < 100_000, "{report}");
    assert_eq!(session.run(y, &[x.feed(&0.5)]).unwrap(), 1e6.into());
    let report = session.report(k, &[x.feed(&1.0)]).unwrap();
    assert_eq!((report.kernels, report.elementwise_ops), (1, 1), "{report}");
    assert_eq!(session.run(k, &[x.feed(&2.0)]).unwrap().item().unwrap(), 5f64.exp() * 2.0);
}

#[test]
fn a9_nodes_are_listed_with_unique_names_and_nested_scopes() {
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, 4]);
    let model = tape.scope("model");
    let mut h = x;
    for _ in 0..2 {
        let _layer = tape.scope("layer");
        let w = tape.variable("w", Tensor::zeros([4, 4]).unwrap());
        h = h.matmul(w).tanh();
    }
    drop(model);
    let loss = h.mean().named("loss");
    tape.gradient(loss, &[x]).unwrap();

    let nodes = tape.nodes();
    let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    assert_eq!(
        names[..6],
        [
            "x",
            "model/layer/w",
            "model/layer/matmul#2",
            "model/layer/tanh#3",
            "model/layer/w_1",
            "model/layer/matmul#5"
        ]
    );
    let w = &nodes[1];
    assert_eq!(
        (w.op.as_str(), w.shape, w.dtype),
        ("variable", [4, 4].into(), gradtape::DType::Float)
    );
    assert_eq!(nodes[2].inputs, ["x", "model/layer/w"]);
    assert_eq!(nodes[2].shape, [ANY, 4].into());
    for n in &nodes {
        assert!(n.at.file().ends_with("tests/tape.rs"), "{} is said to be at {}", n.name, n.at);
    }
    assert!(nodes.iter().any(|n| n.name == "loss"));

    let bad = Tape::<f64>::new();
    bad.variable("a#1", 0.0);
    assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Argument);
}

#[test]
fn a9_scopes_end_in_any_order() {
    let tape = Tape::<f64>::new();
    let (a, b) = (tape.scope("a"), tape.scope("b"));
    assert_eq!(tape.variable("x", 0.0).name(), "a/b/x");
    drop(a);
    assert_eq!(tape.variable("y", 0.0).name(), "a/b/y");
    drop(b);
    assert_eq!(tape.variable("z", 0.0).name(), "z");
}

#[test]
fn a9_equal_nodes_are_recorded_once() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 1.0);
    let a = (x + 1.0).exp();
    let n = tape.len();
    let b = (x + 1.0).exp();
    assert_eq!((a.name(), tape.len()), (b.name(), n));
    // Placeholders, variables and custom ops are themselves only.
    let p = (tape.placeholder("p", [2]), tape.placeholder("p", [2]));
    assert_eq!((p.0.name().as_str(), p.1.name().as_str()), ("p", "p_1"));
}

#[test]
fn a14_a_session_does_not_see_what_is_recorded_later() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 3.0);
    let y = x * x;
    let mut session = Session::new(&tape).unwrap();
    let later = y + 1.0;
    let err = session.run(later, &[]).unwrap_err();
    assert_eq!(err.to_string(), "fetch: this node was recorded after the session was made");
    assert_eq!(session.run(y, &[]).unwrap(), 9.0.into());
    assert_eq!(Session::new(&tape).unwrap().run(later, &[]).unwrap(), 10.0.into());
}

#[test]
fn handles_outlive_the_tape_and_belong_to_it() {
    struct Model {
        w: Var,
    }
    let (model, mut session, y) = {
        let tape = Tape::<f64>::new();
        let w = tape.variable("w", 2.0);
        let y: gradtape::Fetch = (w * 3.0).into();
        (Model { w: w.var() }, Session::new(&tape).unwrap(), y)
    };
    let handle = std::thread::spawn(move || session.run((y, model.w), &[]).unwrap());
    assert_eq!(handle.join().unwrap(), (6.0.into(), 2.0.into()));

    let other = Tape::<f64>::new();
    let x = other.variable("x", 1.0);
    let mixed = x * model.w;
    let err = other.gradient(mixed, &[x]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Tape);
    assert!(err.to_string().contains("got one of another"), "{err}");
    let err = Session::new(&Tape::<f64>::new()).unwrap().run(y, &[]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Tape);
}

#[test]
fn the_first_mistake_is_reported_by_the_first_call_that_can() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 4]);
    let w = tape.variable("w", Tensor::zeros([3, 2]).unwrap());
    let line = line!() + 1;
    let loss = x.matmul(w).tanh().sum(); // the mistake
    let worse = x + w;
    assert_eq!((loss.shape(), worse.name().as_str()), (Shape::SCALAR, "mistake"));
    for err in [
        tape.check().unwrap_err(),
        tape.gradient(loss, &[w]).unwrap_err(),
        Session::new(&tape).unwrap_err(),
    ] {
        let text = err.to_string();
        assert!(
            text.starts_with("matmul: [?, 4] · [3, 2]: inner extents 4 and 3 differ\n  --> "),
            "{text}"
        );
        assert!(text.contains(&format!("tests/tape.rs:{line}:")), "{text}");
    }
}

#[test]
fn a15_a_custom_op_runs_and_differentiates_by_its_own_rule() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", Tensor::vector(vec![1.0, 2.0]));
    let with = tape.custom(Twice { derivative: true }, &[x]).sum();
    let without = tape.custom(Twice { derivative: false }, &[x]).sum();
    let gradient = tape.gradient(with, &[x]).unwrap()[0];
    let mut session = Session::new(&tape).unwrap();
    let (a, b, g) = session.run((with, without, gradient), &[]).unwrap();
    assert_eq!((a, b, g.as_slice()), (6.0.into(), 6.0.into(), &[2.0, 2.0][..]));

    // Without a rule it is refused only when a gradient is asked through it.
    let err = tape.gradient(without, &[x]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Gradient);
    let text = err.to_string();
    assert!(text.starts_with("gradient: twice of [2]: has no derivative"), "{text}");
    assert!(text.contains("tests/tape.rs:"), "{text}");
}

#[test]
fn a15_cotangents_that_do_not_fit_are_errors() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", Tensor::full([3], 2.0).unwrap());
    // Beside a right cotangent a scalar would be broadcast, and the sum look right.
    let y = tape.custom_gradient(&[x], x.square(), |_, _, ct| vec![ct.sum()]);
    let err = tape.gradient(y.sum() + x.sum(), &[x]).unwrap_err();
    let text = "gradient: custom_gradient of [3], [3]: expected a cotangent of [3] for input 1";
    assert!(err.message().starts_with(text), "{err}");

    let tape = Tape::<f64>::new();
    let (x, w) = (tape.placeholder("x", [ANY, 3]), tape.variable("w", Tensor::zeros([3]).unwrap()));
    let narrow = tape.constant(Tensor::full([1, 3], 1.0).unwrap());
    let dw = tape.vjp(x + w, narrow, &[w]).unwrap()[0].unwrap();
    let rows = Tensor::zeros([5, 3]).unwrap();
    let err = Session::new(&tape).unwrap().run(dw, &[x.feed(&rows)]).unwrap_err();
    assert!(err.message().starts_with("vjp: [5, 3], [1, 3]: expected"), "{err}");

    let labels = tape.index_placeholder("labels", [3]);
    let err = tape.gradient_allow_unused(w.sum(), &[labels]).unwrap_err();
    assert!(err.message().contains("expected floats"), "{err}");
}

#[test]
fn powers_of_integers_beyond_i32_are_exact() {
    let tape = Tape::<f64>::new();
    let (x, n) = (tape.placeholder("x", []), tape.placeholder("n", []));
    let y = x.powi(n);
    let mut session = Session::new(&tape).unwrap();
    for (a, b, want) in [(-1.0, 3e9, 1.0), (-1.0, 3e9 + 1.0, -1.0), (-2.0, -3.0, -0.125)] {
        assert_eq!(session.run(y, &[x.feed(&a), n.feed(&b)]).unwrap(), want.into(), "{a}^{b}");
    }
}

#[test]
fn f3_drawings_know_scopes_within_names_and_escape_names() {
    let tape = Tape::<f64>::new();
    let _scope = tape.scope("a/b");
    tape.placeholder("x\\\"", []);
    let dot = tape.to_dot();
    assert!(dot.contains("label=\"b\";"), "{dot}");
    assert!(dot.contains(r#"[label="x\\\"\nplaceholder []", shape=box]"#), "{dot}");
}

#[test]
fn unreachable_targets_are_errors_that_say_why() {
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", 1.0);
    let unused = tape.variable("unused", Tensor::zeros([2, 3]).unwrap());
    let err = tape.gradient(w * 2.0, &[unused]).unwrap_err();
    assert!(
        err.to_string().starts_with("gradient: mul [] does not depend on variable `unused` [2, 3]"),
        "{err}"
    );
    let stepped = unused.floor().sum() * w;
    let err = tape.gradient(stepped, &[unused]).unwrap_err().to_string();
    assert!(err.contains("but through floor of [2, 3], whose derivative is zero"), "{err}");
    let stopped = unused.stop_gradient().sum() * w;
    assert!(tape.gradient(stopped, &[unused]).unwrap_err().to_string().contains("stop_gradient"));

    let zeros = tape.gradient_allow_unused(stopped, &[unused, w]).unwrap();
    let zeros = Session::new(&tape).unwrap().run(&zeros, &[]).unwrap();
    assert_eq!(zeros, [Tensor::zeros([2, 3]).unwrap(), 0.0.into()]);

    let err = tape.gradient(unused * 2.0, &[unused]).unwrap_err();
    assert!(
        err.to_string().starts_with("gradient: expected a scalar loss, got mul of shape [2, 3]"),
        "{err}"
    );
}

/// An op that must never run.
#[derive(Debug)]
struct Panics;

impl<T: Scalar> Primitive<T> for Panics {
    fn name(&self) -> &str {
        "panics"
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }
    fn forward(&self, _: &[Arg<'_, T>], _: Out<'_, T>, _: &mut [T]) -> Result<()> {
        panic!("was not to run")
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
}

/// 2x, with a derivative or without.
#[derive(Debug)]
struct Twice {
    derivative: bool,
}

impl<T: Scalar> Primitive<T> for Twice {
    fn name(&self) -> &str {
        "twice"
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }
    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        y.float().iter_mut().zip(x[0].float()).for_each(|(y, &x)| *y = x + x);
        Ok(())
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        if self.derivative {
            return Ok(vec![Some(at.ct * 2)]);
        }
        // What the trait does when a rule is left out.
        Primitive::<T>::vjp(&Panics, at)
    }
}
