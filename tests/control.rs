//! Conditionals run one branch, forwards and backwards, whatever the passes and threads; a scan is
//! the loop written by hand.

use gradtape::check::Check;
use gradtape::{
    ANY, Arg, Cell, Cotangents, ErrorKind, Expr, Feed, Out, Passes, Primitive, Result, RowRule,
    Scalar, Session, Shape, Steps, Tape, Tensor, Vjp,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The identity, counting how often it runs, and how often its derivatives do.
#[derive(Clone, Debug, Default)]
struct Counted {
    calls: Arc<AtomicUsize>,
    backward: Arc<AtomicUsize>,
}

impl Counted {
    /// The calls since the last time, forwards and backwards.
    fn take(&self) -> (usize, usize) {
        (self.calls.swap(0, Ordering::Relaxed), self.backward.swap(0, Ordering::Relaxed))
    }
}

impl<T: Scalar> Primitive<T> for Counted {
    fn name(&self) -> &str {
        "counted"
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }
    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        y.float().copy_from_slice(x[0].float());
        Ok(())
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let calls = Arc::clone(&self.backward);
        let again = Counted { calls, backward: Arc::clone(&self.backward) };
        Ok(vec![Some(at.ct.tape().custom(again, &[at.ct]))])
    }
}

fn wave(shape: impl Into<Shape>, seed: f64) -> Tensor {
    Tensor::from_fn(shape, |at| {
        let terms = at.iter().enumerate().map(|(i, &x)| (1.7 - 0.6 * i as f64) * x as f64);
        (seed + terms.sum::<f64>()).sin()
    })
    .unwrap()
}

/// Every set of passes.
fn all_passes() -> impl Iterator<Item = Passes> {
    (0..16).map(|bits| Passes {
        simplify: bits & 1 > 0,
        fuse: bits & 2 > 0,
        share_memory: bits & 4 > 0,
        stream: bits & 8 > 0,
    })
}

/// The values, which the interpreter and every plan agree on to the last bit; `look` after each
/// run.
fn everywhere(
    tape: &Tape,
    fetches: &[Expr<'_>],
    feeds: &[Feed<'_, f64>],
    look: impl Fn(),
) -> Result<Vec<Tensor>> {
    let bits = |all: &[Tensor]| -> Vec<Vec<u64>> {
        all.iter().map(|t| t.as_slice().iter().map(|x| x.to_bits()).collect()).collect()
    };
    let want = Session::new(tape)?.interpret(fetches, feeds)?;
    look();
    for passes in all_passes() {
        for threads in [1, 2] {
            let mut session = Session::new(tape)?.with_threads(threads)?.with_passes(passes);
            for _ in 0..2 {
                let got = session.run(fetches, feeds)?;
                look();
                assert_eq!(bits(&got), bits(&want), "{passes:?}, {threads} threads");
            }
        }
    }
    Ok(want)
}

#[test]
fn a13_only_the_branch_that_is_taken_runs() -> Result<()> {
    let (then, otherwise) = (Counted::default(), Counted::default());
    let tape = Tape::<f64>::new();
    let (x, p) = (tape.placeholder("x", [ANY, 3]), tape.placeholder("p", []));
    let w = tape.variable("w", wave([3, 3], 0.2));
    // Fed, and computed from the batch.
    for (p_is, computed) in [(p, false), (x.sum().greater(0.0), true)] {
        let y = tape.cond(
            p_is,
            || (tape.custom(then.clone(), &[x.matmul(w)]) * x).exp(),
            || tape.custom(otherwise.clone(), &[x]).sin() * w.sum(),
        );
        let fetches = derivatives(y, x, w)?;
        // Large enough for threads to share the loops.
        for (rows, seed) in [(2, 0.4), (20_000, 0.4), (7, 3.9)] {
            let batch = wave([rows, 3], seed);
            let positive = batch.as_slice().iter().sum::<f64>() > 0.0;
            for value in [1.0, 0.0, -0.0, -2.0, f64::NAN] {
                let p_value = Tensor::scalar(value);
                let feeds = [x.feed(&batch), p.feed(&p_value)];
                let holds = if computed { positive } else { value != 0.0 };
                let look = || {
                    let (one, other) =
                        if holds { (&then, &otherwise) } else { (&otherwise, &then) };
                    assert_eq!(other.take(), (0, 0), "the other branch ran");
                    let (forward, backward) = one.take();
                    assert!(forward > 0 && backward > 0, "{forward} {backward}");
                };
                if rows > 1000 && value != 1.0 && value != 0.0 {
                    continue;
                }
                let got = everywhere(&tape, &fetches, &feeds, look)?;
                // What the branch alone gives.
                let alone = if holds { (x.matmul(w) * x).exp() } else { x.sin() * w.sum() };
                let all = derivatives(alone, x, w)?;
                let want = Session::new(&tape)?.run(&all[..], &feeds[..1])?;
                for (got, want) in got.iter().zip(&want) {
                    close(got, want);
                }
            }
        }
    }
    Ok(())
}

/// Σ y², with its first and second derivatives.
fn derivatives<'t>(y: Expr<'t>, x: Expr<'t>, w: Expr<'t>) -> Result<[Expr<'t>; 5]> {
    let (tape, loss) = (y.tape(), y.square().sum());
    let first = tape.gradient(loss, &[x, w])?;
    let slope = (first[0] * x).sum() + (first[1] * w.cos()).sum();
    let second = tape.gradient(slope, &[x, w])?;
    Ok([loss, first[0], first[1], second[0], second[1]])
}

fn close(got: &Tensor, want: &Tensor) {
    assert_eq!(got.shape(), want.shape());
    let size = want.as_slice().iter().fold(1e-300, |m: f64, x| m.max(x.abs()));
    for (a, b) in got.as_slice().iter().zip(want.as_slice()) {
        assert!((a - b).abs() <= 1e-12 * size, "{a} {b}");
    }
}

/// What a case of a conditional records.
type Function = for<'t> fn(&'t Tape<f64>, &[Expr<'t>]) -> Expr<'t>;

#[test]
fn a13_gradients_of_both_branches_are_right() -> Result<()> {
    let cases: [Function; 6] = [
        |t, x| t.cond(x[1].mean().greater(0.0), || x[0].exp() * x[1], || x[0] - x[1].sin()),
        // Nested, with a value of the outer branch in both inner ones, and one predicate twice.
        |t, x| {
            let p = x[1].mean().greater(0.0);
            t.cond(
                p,
                || x[0].exp(),
                || {
                    let h = (x[0] * x[1]).tanh();
                    let q = h.sum().greater(-100.0);
                    t.cond(q, || h * x[0], || h) + t.cond(p, || x[0], || h.square())
                },
            )
        },
        // In a row: branches of the second read the result of the first.
        |t, x| {
            let y = t.cond(x[1].mean().less(0.0), || x[0].sin(), || x[1].cos());
            t.cond(x[1].mean().greater(0.0), || y * x[0], || y.exp() + x[1])
        },
        // A branch that is an input, and one that is a constant.
        |t, x| {
            let zero = t.literal(0.0).broadcast_like(x[0]);
            let p = x[1].mean().greater(0.0);
            t.cond(p, || x[0], || zero) * x[1] + t.cond(p, || zero, || x[0])
        },
        // A gradient within a branch, of a conditional with another predicate.
        |t, x| {
            let (p, q) = (x[1].mean().greater(0.0), x[1].sum().square().greater(1e-30));
            let y = t.cond(q, || x[0].square() * x[1], || x[1]);
            t.cond(
                p,
                || t.gradient((y * x[0]).sum(), &[x[0]]).unwrap()[0].sin(),
                || t.gradient(y.exp().sum(), &[x[1]]).unwrap()[0],
            )
        },
        // A checkpoint around one and within it.
        |t, x| {
            let p = x[1].mean().greater(0.0);
            let y = t.checkpoint(&[x[0]], |h| {
                let q = h[0].square().sum().greater(0.0);
                t.cond(p, || t.cond(q, || h[0].sin() * x[1].exp(), || x[1]), || h[0].cos())
            });
            t.cond(p, || t.checkpoint(&[y], |h| (h[0] * x[1]).exp()), || y.tanh())
        },
    ];
    let other = wave([4, 2], 0.3);
    for (i, f) in cases.iter().enumerate() {
        for sign in [1.0, -1.0] {
            let one = wave([4, 2], 0.6).map(|x| sign * (x.abs() + 0.1));
            let report = Check::default().gradient(f, &[other.clone(), one])?;
            assert!(report.first < 1e-8 && report.second < 1e-8, "case {i}: {report:?}");
            assert!(report.forward < 1e-12, "case {i}: {report:?}");
            assert!(report.unknown_batch && report.ops.contains("cond"), "case {i}");
        }
    }
    Ok(())
}

#[test]
fn a13_errors_of_the_other_branch_do_not_happen() -> Result<()> {
    let tape = Tape::<f64>::new();
    let p = tape.placeholder("p", []);
    let a = tape.placeholder("a", [2, 2]);
    let at = tape.index_placeholder("at", [2]);
    let y = tape.cond(p, || a.inverse().take(0, at), || a.sqrt());
    let da = tape.gradient(y.sum(), &[a])?[0];
    let slope = tape.jvp(y, &[(a, a)])?;
    let fetches = [y, da, slope];
    let (singular, wrong) = (Tensor::full([2, 2], 4.0)?, Tensor::vector(vec![1, 7]));
    let no = Tensor::scalar(0.0);
    let feeds = [p.feed(&no), a.feed(&singular), at.feed(&wrong)];
    let got = everywhere(&tape, &fetches, &feeds, || {})?;
    assert_eq!(got[0].as_slice(), [2.0; 4]);
    assert_eq!(got[1].as_slice(), [0.25; 4]);
    // Nor is what does not run looked at.
    let mut session = Session::new(&tape)?;
    session.assert_finite(true);
    session.run(&fetches[..], &feeds)?;

    let yes = Tensor::scalar(1.0);
    let feeds = [p.feed(&yes), a.feed(&singular), at.feed(&wrong)];
    let want = Session::new(&tape)?.interpret(&fetches[..], &feeds).unwrap_err();
    let got = session.run(&fetches[..], &feeds).unwrap_err();
    assert_eq!((got.kind(), got.message()), (want.kind(), want.message()));
    // Both branches need what they are fed.
    let feeds = [p.feed(&no), a.feed(&singular)];
    let want = Session::new(&tape)?.interpret(y, &feeds).unwrap_err();
    let got = session.run(y, &feeds).unwrap_err();
    assert_eq!((got.kind(), got.message()), (want.kind(), want.message()));
    assert_eq!(got.kind(), ErrorKind::NotFed);
    Ok(())
}

/// NaN left behind by a branch that ran before is not seen by the other one.
#[test]
fn a13_one_plan_takes_either_branch() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (p, x) = (tape.placeholder("p", []), tape.placeholder("x", [ANY]));
    let y = tape.cond(p, || x.log().sqrt(), || x.square());
    let dx = tape.gradient(y.sum(), &[x])?[0];
    let batch = Tensor::full([3000], -1.0)?;
    let mut session = Session::new(&tape)?;
    for round in 0..4 {
        let (holds, value) = (round % 2 == 0, Tensor::scalar(f64::from((round + 1) % 2)));
        let (y, dx) = session.run((y, dx), &[p.feed(&value), x.feed(&batch)])?;
        assert!(y.as_slice().iter().all(|&y| if holds { y.is_nan() } else { y == 1.0 }));
        assert!(dx.as_slice().iter().all(|&d| if holds { d.is_nan() } else { d == -2.0 }));
    }
    assert_eq!(session.n_plans(), 1);
    Ok(())
}

#[test]
fn a13_a_value_of_a_branch_can_be_fetched_and_derived_by() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (p, x) = (tape.placeholder("p", []), tape.variable("x", 0.5));
    let mut inner = x;
    let y = tape.cond(
        p,
        || {
            inner = x.exp();
            inner.square()
        },
        || x,
    );
    // Equal to the inner one, but of its own.
    let outside = x.exp() * y;
    let d = tape.gradient(outside, &[inner, x])?;
    let (e, yes, no) = (0.5f64.exp(), Tensor::scalar(1.0), Tensor::scalar(0.0));
    let all = [inner, d[0], d[1]];
    for (value, want) in [(&yes, [e, e * 2.0 * e, 3.0 * e.powi(3)]), (&no, [e, 0.0, 1.5 * e])] {
        let got = everywhere(&tape, &all, &[p.feed(value)], || {})?;
        for (got, want) in got.iter().zip(want) {
            close(got, &Tensor::scalar(want));
        }
    }
    Ok(())
}

#[test]
fn a13_the_report_says_what_is_guarded() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (p, x) = (tape.placeholder("p", []), tape.variable("x", wave([4, 4], 0.1)));
    let y = tape.cond(p, || x.matmul(x).named("square"), || x.exp().sin());
    let report = Session::new(&tape)?.report(y, &[p.feed(&Tensor::scalar(1.0))])?;
    let guards = |name: &str| {
        let work = report.instructions.iter().find(|w| w.name == name);
        work.unwrap_or_else(|| panic!("{name} in {report}")).only_if.clone()
    };
    assert_eq!(guards("matmul"), [("p".to_string(), true)]);
    assert_eq!(guards("loop of 2 ops"), [("p".to_string(), false)]);
    assert_eq!(guards("cond"), []);
    let text = report.to_string();
    assert!(text.contains("matmul: [4, 4], [4, 4] -> [4, 4], if p"), "{text}");
    assert!(text.contains("loop of 2 ops: [4, 4] -> [4, 4], unless p"), "{text}");
    // A constant predicate leaves nothing to choose.
    let y = tape.cond(tape.literal(0.0), || x.matmul(x), || x.cos());
    let report = Session::new(&tape)?.report(y, &[])?;
    assert_eq!(report.kernels, 1, "{report}");
    assert_eq!(report.instructions[0].only_if, []);
    Ok(())
}

/// The message of the first mistake, and whether it names a line of this file.
fn mistake(f: impl for<'t> Fn(&'t Tape<f64>, Expr<'t>, Expr<'t>)) -> String {
    let tape = Tape::<f64>::new();
    let (p, x) = (tape.placeholder("p", []), tape.placeholder("x", [2, 3]));
    f(&tape, p, x);
    let e = tape.check().unwrap_err();
    assert_eq!(e.location().map(|at| at.file()), Some(file!()), "{e}");
    e.message().to_string()
}

#[test]
fn a13_refused_conditionals() -> Result<()> {
    let text = mistake(|t, _, x| {
        t.cond(x, || x, || x.exp());
    });
    assert_eq!(text, "cond: [2, 3], [2, 3], [2, 3]: expected a scalar predicate, got [2, 3]");
    let text = mistake(|t, p, x| {
        t.cond(p, || x, || x.sum_axes(&[1]));
    });
    let want = "cond: [], [2, 3], [2]: expected branches of one shape, got [2, 3] and [2]";
    assert_eq!(text, want);
    let text = mistake(|t, p, x| {
        let w = t.variable("w", 1.0);
        t.cond(p, || t.assign(w, x.sum()), || w);
    });
    assert_eq!(text, "cond: expected no writes to variables, got assign");
    let text = mistake(|t, p, x| {
        let mut h = x;
        let then = || {
            h = x.exp().named("h");
            h
        };
        let y = t.cond(p, then, || x);
        let _ = h.sin() * y;
    });
    assert_eq!(text, "sin: expected no value from inside a branch of cond, got exp `h`");
    let text = mistake(|t, p, x| {
        t.cond(p, || x, || x.matmul(x));
    });
    assert!(text.starts_with("matmul: "), "{text}");

    let tape = Tape::<f64>::new();
    let (p, x) = (tape.placeholder("p", []), tape.variable("x", 1.0));
    let mut inner = x;
    let _ = tape.cond(
        p,
        || {
            inner = x.exp();
            inner
        },
        || x,
    );
    let e = tape.gradient(inner, &[x]).unwrap_err();
    let want = "gradient: expected no value from inside a branch of cond, got exp";
    assert_eq!((e.kind(), e.message()), (ErrorKind::Gradient, want));
    Ok(())
}

#[test]
fn a13_a_scan_is_the_loop_written_by_hand() -> Result<()> {
    const STEPS: usize = 5;
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, STEPS, 3]);
    let (w, h0) = (tape.variable("w", wave([2, 2], 0.3)), tape.placeholder("h0", [ANY, 2]));
    let v = tape.variable("v", wave([3, 2], 0.8));
    fn step<'t>(h: Expr<'t>, c: Expr<'t>, x: Expr<'t>, w: [Expr<'t>; 2]) -> (Expr<'t>, Expr<'t>) {
        let h = (x.matmul(w[1]) + h.matmul(w[0]) * c).tanh();
        (h, c * 0.5 + h.square())
    }
    fn derive<'t>(last: Expr<'t>, all: Expr<'t>, of: &[Expr<'t>]) -> Result<Vec<Expr<'t>>> {
        let (tape, loss) = (last.tape(), (all * all.cos()).sum() + last.exp().sum());
        let first = tape.gradient(loss, of)?;
        let slope = (first[1] * of[1].sin()).sum() + (first[0] * of[0]).sum();
        let second = tape.gradient(slope, of)?;
        let along = tape.jvp(loss, &[(of[1], of[1].cos())])?;
        let mut out = vec![last, all, loss, along];
        out.extend(first.into_iter().chain(second));
        Ok(out)
    }
    let of = [x, w, v, h0];
    let (last, all) = tape.scan(&[h0, h0 * 0.1], &[x], |state, x| {
        let (h, c) = step(state[0], state[1], x[0], [w, v]);
        (vec![h, c], vec![h])
    });
    let scanned = derive(last[1], all[0], &of)?;

    let (mut h, mut c, mut outputs) = (h0, h0 * 0.1, vec![]);
    for t in 0..STEPS as isize {
        (h, c) = step(h, c, x.index_axis(1, t), [w, v]);
        outputs.push(h);
    }
    let unrolled = derive(c, tape.stack(&outputs, 1), &of)?;
    for rows in [1, 4] {
        let (batch, start) = (wave([rows, STEPS, 3], 0.5), wave([rows, 2], 0.7));
        let feeds = [x.feed(&batch), h0.feed(&start)];
        let got = everywhere(&tape, &scanned, &feeds, || {})?;
        assert!(got == everywhere(&tape, &unrolled, &feeds, || {})?);
    }
    Ok(())
}

#[test]
fn a13_a_scanned_cell_is_the_recurrent_op() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 6, 4]);
    let wh = tape.variable("wh", wave([4, 4], 0.3));
    let zeros = tape.literal(0.0).broadcast_like(x.index_axis(1, 0));
    let (_, y) = tape.scan(&[zeros], &[x], |h, x| {
        let h = (x[0] + h[0].matmul(wh)).tanh();
        (vec![h], vec![h])
    });
    let op = x.recurrent(Cell::Tanh, wh, &Steps::new());
    let mut both = Vec::new();
    for y in [y[0], op] {
        both.push(y);
        both.extend(tape.gradient((y * y.cos()).sum(), &[x, wh])?);
    }
    let batch = wave([5, 6, 4], 0.2);
    let values = Session::new(&tape)?.run(&both, &[x.feed(&batch)])?;
    let (got, want) = values.split_at(3);
    got.iter().zip(want).for_each(|(got, want)| close(got, want));
    Ok(())
}

/// A scan that stops early: steps after a bound copy the state.
#[test]
fn a13_conditionals_in_a_scan_skip_steps() -> Result<()> {
    let counted = Counted::default();
    let tape = Tape::<f64>::new();
    let (x, bound) = (tape.placeholder("x", [ANY, 8]), tape.placeholder("bound", []));
    let zeros = tape.literal(0.0).broadcast_like(x.index_axis(1, 0));
    let (last, _) = tape.scan(&[zeros], &[x], |s, x| {
        let goes_on = s[0].sum().less(bound);
        let next = || tape.custom(counted.clone(), &[s[0]]) + x[0].square();
        (vec![tape.cond(goes_on, next, || s[0])], vec![])
    });
    let dx = tape.gradient(last[0].sum(), &[x])?[0];
    let (ones, limit) = (Tensor::full([1, 8], 1.0)?, Tensor::scalar(2.5));
    let feeds = [x.feed(&ones), bound.feed(&limit)];
    let look = || assert_eq!(counted.take(), (3, 3 - 1));
    let got = everywhere(&tape, &[last[0], dx], &feeds, look)?;
    assert_eq!(got[0].as_slice(), [3.0]);
    assert_eq!(got[1].as_slice(), [2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn a13_refused_scans() {
    let scan = |shapes: &[Shape]| {
        let shapes = shapes.to_vec();
        mistake(move |t, _, _| {
            let xs: Vec<_> = shapes.iter().map(|&s| t.placeholder("x", s)).collect();
            let (states, outputs) = t.scan(&[t.literal(0.0)], &xs, |s, x| (vec![s[0]], x.to_vec()));
            assert_eq!((states.len(), outputs.len()), (1, xs.len()));
        })
    };
    assert_eq!(scan(&[]), "scan: expected at least one sequence, got none");
    let text = "scan: expected sequences with time on axis 1, got [3]";
    assert_eq!(scan(&[[3].into()]), text);
    let text = "scan: expected a known number of steps, got [2, ?, 3]";
    assert_eq!(scan(&[[2, ANY, 3].into()]), text);
    assert_eq!(scan(&[[2, 0].into()]), "scan: expected at least one step, got [2, 0]");
    let text = "scan: expected sequences of equal length, got [2, 3] and [2, 4]";
    assert_eq!(scan(&[[2, 3].into(), [2, 4].into()]), text);
    let text = mistake(|t, _, x| drop(t.scan(&[x], &[x], |s, _| (vec![s[0].sum()], vec![]))));
    assert_eq!(text, "scan: expected a state of [2, 3], got [] after step 0");
    let text = mistake(|t, _, x| drop(t.scan(&[x], &[x], |_, _| (vec![], vec![]))));
    assert_eq!(text, "scan: expected 1 states and 0 outputs, got 0 and 0 after step 0");
}
