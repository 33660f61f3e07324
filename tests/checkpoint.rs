//! Checkpoints: the same bits with less memory, whatever is captured, nested, or differentiated
//! again; what is refused.

use gradtape::{ANY, ErrorKind, Expr, Passes, Report, Result, Session, Tape, Tensor};

const LAYERS: usize = 64;
const WIDTH: usize = 16;

fn wave(shape: [usize; 2], seed: f64) -> Tensor {
    Tensor::from_fn(shape, |at| (seed + 1.7 * at[0] as f64 + 0.9 * at[1] as f64).sin() / 3.0)
        .unwrap()
}

/// The loss of a chain of layers tanh(h·W + b), a checkpoint around every `segment` of them, and
/// its gradients; 0 is no checkpoint.
fn chain<'t>(tape: &'t Tape, x: Expr<'t>, segment: usize) -> (Expr<'t>, Vec<Expr<'t>>) {
    let layers: Vec<_> = (0..LAYERS)
        .map(|i| {
            let w = tape.variable("w", wave([WIDTH, WIDTH], i as f64));
            (w, tape.variable("b", wave([1, WIDTH], 0.3 + i as f64)))
        })
        .collect();
    let run = |h: Expr<'t>, layers: &[(Expr<'t>, Expr<'t>)]| {
        layers.iter().fold(h, |h, (w, b)| (h.matmul(*w) + *b).tanh())
    };
    let h = match segment {
        0 => run(x, &layers),
        n => layers.chunks(n).fold(x, |h, part| tape.checkpoint(&[h], |h| run(h[0], part))),
    };
    let loss = h.square().mean();
    let mut targets: Vec<_> = layers.iter().flat_map(|&(w, b)| [w, b]).collect();
    targets.push(x);
    let gradients = tape.gradient(loss, &targets).unwrap();
    (loss, gradients)
}

/// The loss and its gradients, and the report of the plan.
fn of_chain(segment: usize, passes: Passes) -> Result<(Vec<Tensor>, Report)> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, WIDTH]);
    let (loss, mut fetches) = chain(&tape, x, segment);
    fetches.push(loss);
    let batch = wave([512, WIDTH], 0.1);
    let mut session = Session::new(&tape)?.with_passes(passes);
    let values = session.run(&fetches, &[x.feed(&batch)])?;
    let interpreted = session.interpret(&fetches, &[x.feed(&batch)])?;
    assert!(values == interpreted, "the plan differs from the interpreter");
    let report = session.report(&fetches, &[x.feed(&batch)])?;
    Ok((values, report))
}

#[test]
fn a_chain_needs_less_memory_for_the_same_bits() -> Result<()> {
    let (want, plain) = of_chain(0, Passes::ALL)?;
    let (got, report) = of_chain(8, Passes::ALL)?;
    assert!(got == want);
    // Eight results of checkpoints and the layers of one of them instead of all layers.
    let (less, more) = (report.arena_bytes, plain.arena_bytes);
    assert!(3 * less < more, "expected less than a third of {more} bytes, got {less}");
    let products = |r: &Report| r.instructions.iter().filter(|w| w.name == "matmul").count();
    assert_eq!(products(&report), products(&plain) + LAYERS);
    for segment in [1, 64] {
        let (got, report) = of_chain(segment, Passes::ALL)?;
        assert!(got == want && report.peak_bytes() > 0);
    }
    Ok(())
}

#[test]
fn no_pass_changes_a_bit() -> Result<()> {
    let (want, _) = of_chain(0, Passes::ALL)?;
    const ALL: Passes = Passes::ALL;
    let each_off = [
        Passes { simplify: false, ..ALL },
        Passes { fuse: false, ..ALL },
        Passes { share_memory: false, ..ALL },
        Passes { stream: false, ..ALL },
        Passes::NONE,
    ];
    for passes in each_off {
        assert!(of_chain(8, passes)?.0 == want, "{passes:?}");
    }
    Ok(())
}

/// A state that is one number repeated, and views of the inputs, are computed again all the same.
#[test]
fn views_and_uniform_inputs_are_kept_apart() -> Result<()> {
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", wave([6, 6], 0.4));
    let zeros = tape.literal(0.5).broadcast_to([4, 3, 2]);
    let y = tape.checkpoint(&[zeros], |h| h[0].reshape([4, 6]).matmul(w).exp().matmul(w).exp());
    let dw = tape.gradient(y.sum(), &[w])?[0];
    let report = Session::new(&tape)?.report(dw, &[])?;
    let products = report.instructions.iter().filter(|w| w.name == "matmul").count();
    // y is not fetched, and nothing of the first computation is needed: only the second runs.
    assert_eq!(products, 2 + 3);
    let both = Session::new(&tape)?.report((y, dw), &[])?;
    let products = both.instructions.iter().filter(|w| w.name == "matmul").count();
    assert_eq!(products, 4 + 3);
    Ok(())
}

/// What is captured has its gradient: of values of each other, shared by checkpoints, used outside.
#[test]
fn captured_values_have_their_gradients() -> Result<()> {
    fn around<'t>(
        is_kept: bool,
        x: &[Expr<'t>],
        f: impl FnOnce(&[Expr<'t>]) -> Expr<'t>,
    ) -> Expr<'t> {
        if is_kept { f(x) } else { x[0].tape().checkpoint(x, f) }
    }
    let f = |is_kept: bool| -> Result<Vec<Tensor>> {
        let tape = Tape::<f64>::new();
        let (x, w) = (tape.variable("x", wave([3, 4], 0.2)), tape.variable("w", wave([4, 4], 0.9)));
        let twice = w * 2.0;
        let h = around(is_kept, &[x, x], |h| h[0].matmul(w).tanh() + h[1].matmul(twice).sin());
        let g = around(is_kept, &[h, x], |h| (h[0] * h[1]).matmul(twice).sigmoid());
        let loss = (g + h * w.sum()).square().sum();
        let first = tape.gradient(loss, &[x, w, twice])?;
        let slope = (first[0] * x.cos()).sum() + (first[1] * w.sin()).sum();
        let second = tape.gradient(slope, &[x, w])?;
        let (vx, vw) = (x.sin(), w.cos());
        let product = tape.hessian_vector_product(loss, &[(x, vx), (w, vw)])?;
        let along = tape.jvp(loss, &[(x, vx), (w, vw)])?;
        let all: Vec<_> = first.into_iter().chain(second).chain(product).chain([along]).collect();
        Session::new(&tape)?.run(&all, &[])
    };
    let (got, want) = (f(false)?, f(true)?);
    for (got, want) in got.iter().zip(&want) {
        let size = want.as_slice().iter().fold(1.0, |m: f64, x| m.max(x.abs()));
        for (a, b) in got.as_slice().iter().zip(want.as_slice()) {
            assert!((a - b).abs() < 1e-13 * size, "{a} {b}");
        }
    }
    Ok(())
}

#[test]
fn what_does_not_depend_on_the_inputs_is_not_computed_again() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (x, w) = (tape.variable("x", 2.0), tape.variable("w", 3.0));
    assert_eq!(tape.checkpoint(&[x], |_| w.sin()).name(), w.sin().name());
    assert_eq!(tape.checkpoint(&[x], |x| x[0]).name(), "x");
    Ok(())
}

#[test]
fn refused() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 2.0);
    let mut inner = x;
    let y = tape.checkpoint(&[x], |x| {
        inner = x[0].sin().named("inner");
        inner.exp()
    });
    let error = tape.gradient(y, &[inner]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gradient);
    let text = "gradient: expected a target outside of checkpoints, got sin `inner`, which is \
                computed again";
    assert_eq!(error.message(), text);
    assert!(tape.jvp(y, &[(inner, x)]).is_ok());

    let _ = tape.checkpoint(&[x], |h| tape.assign(x, h[0] + 1.0).exp());
    let error = tape.check().unwrap_err();
    assert_eq!(error.message(), "checkpoint: expected no writes to variables, got assign");
    let line = line!() - 3;
    assert_eq!(error.location().map(|at| at.line()), Some(line));

    let (tape, other) = (Tape::<f64>::new(), Tape::<f64>::new());
    let (x, y) = (tape.variable("x", 2.0), other.variable("y", 2.0));
    let _ = tape.checkpoint(&[x], |_| y);
    let text = "checkpoint: expected a node of this tape, got one of another";
    assert_eq!(tape.check().unwrap_err().message(), text);
}
