//! Rows A6, A8, A10, A12, A14: sessions, variables, feeds, fetches, plans.

mod support;

use gradtape::{
    ANY, Arg, ErrorKind, Out, Passes, Pool, Primitive, Result, RowRule, Scalar, Session, Shape,
    Tape, Tensor,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::counted;

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

#[test]
fn a6_variables_survive_runs_and_belong_to_their_session() {
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", Tensor::vector(vec![1.0, 2.0]));
    let y = (w * 10.0).sum();
    let (mut one, mut two) = (Session::new(&tape).unwrap(), Session::new(&tape).unwrap());
    one.assign(w, &Tensor::vector(vec![5.0, 5.0])).unwrap();
    one.assign_add(w, &Tensor::vector(vec![0.5, -0.5])).unwrap();
    assert_eq!(one.value(w).unwrap().as_slice(), [5.5, 4.5]);
    assert_eq!(one.run(y, &[]).unwrap(), 100.0.into());
    assert_eq!(two.run(y, &[]).unwrap(), 30.0.into());
    let names: Vec<_> = one.variables().map(|(name, _)| name).collect();
    assert_eq!((names, w.name().as_str()), (vec!["w".to_string()], "w"));
}

#[test]
fn a6_assignments_on_the_tape_happen_after_all_reads() {
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", 1.0);
    let v = tape.variable("v", 10.0);
    let swap = (tape.assign(w, v), tape.assign(v, w));
    let bump = tape.assign_add(w, 2.0);
    let read = w * 1.0;
    let mut session = Session::new(&tape).unwrap();
    // Both right sides see the values from before the run.
    let (w_new, v_new, before) = session.run((swap.0, swap.1, read), &[]).unwrap();
    assert_eq!((w_new, v_new, before), (10.0.into(), 1.0.into(), 1.0.into()));
    assert_eq!((session.value(w).unwrap(), session.value(v).unwrap()), (10.0.into(), 1.0.into()));
    assert_eq!(session.run(bump, &[]).unwrap(), 12.0.into());
    assert_eq!(session.value(w).unwrap(), 12.0.into());
    assert_eq!(session.view(w).unwrap().as_slice().as_ptr(), session.parameters().as_ptr());
    // An assignment that is not fetched does not happen.
    session.run(read, &[]).unwrap();
    assert_eq!(session.value(w).unwrap(), 12.0.into());
    // Two writers of one variable in one run have no order.
    let err = session.run((swap.0, bump), &[]).unwrap_err();
    assert!(err.to_string().contains("`w` is written twice in one run"), "{err}");
}

#[test]
fn a6_uninitialized_and_unknown_variables_are_named() {
    let tape = Tape::<f64>::new();
    let w = tape.uninitialized("weights", [2]);
    let y = w.sum();
    let c = tape.literal(1.0);
    let set = tape.assign(w, Tensor::vector(vec![3.0, 4.0]));
    let mut session = Session::new(&tape).unwrap();
    for err in [session.run(y, &[]).unwrap_err(), session.value(w).unwrap_err()] {
        assert_eq!(err.kind(), ErrorKind::Uninitialized);
        assert!(
            err.to_string().contains("variable `weights` is read before it has a value"),
            "{err}"
        );
        assert!(err.to_string().contains("tests/session.rs:"), "{err}");
    }
    assert_eq!(session.interpret(y, &[]).unwrap_err().kind(), ErrorKind::Uninitialized);
    session.run(set, &[]).unwrap();
    assert_eq!(session.run(y, &[]).unwrap(), 7.0.into());
    assert!(session.value(c).unwrap_err().to_string().contains("expected a variable, got literal"));
    let err = session.assign(w, &Tensor::vector(vec![1.0])).unwrap_err();
    assert!(err.to_string().starts_with("assign: variable `weights` is [2], got [1]"), "{err}");
    let other = Tape::<f64>::new().variable("x", 0.0).var();
    assert_eq!(session.value(other).unwrap_err().kind(), ErrorKind::Tape);
}

#[test]
fn a8_feeds_are_checked_by_name_and_shape() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("images", [ANY, 784]);
    let labels = tape.index_placeholder("labels", [ANY]);
    let y = x.sum_axes(&[1]) + labels.to_float();
    let mut session = Session::new(&tape).unwrap();
    let wrong = Tensor::zeros([784, 12]).unwrap();
    let err = session.run(y, &[x.feed(&wrong)]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Shape);
    let text = err.to_string();
    assert!(
        text.starts_with("feed of placeholder `images`: expected [?, 784], got [784, 12]"),
        "{text}"
    );
    let batch = Tensor::zeros([3, 784]).unwrap();
    let err = session.run(y, &[x.feed(&batch)]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotFed);
    assert!(err.to_string().starts_with("placeholder `labels` [?] was not fed"), "{err}");
    let err = session.run(y, &[x.feed(&batch), x.feed(&batch)]).unwrap_err();
    assert!(err.to_string().contains("fed twice"), "{err}");
    // Batches that fit their declarations but not each other.
    let four = Tensor::vector(vec![1; 4]);
    let err = session.run(y, &[x.feed(&batch), labels.feed(&four)]).unwrap_err();
    assert!(err.to_string().starts_with("add: [3], [4]: extents do not broadcast"), "{err}");
    assert!(err.to_string().contains("tests/session.rs:"), "{err}");
    let numbers = Tensor::vector(vec![1.0; 3]);
    let untyped = gradtape::Placeholder::from(labels);
    let err = session.run(y, &[x.feed(&batch), untyped.feed(&numbers)]).unwrap_err();
    assert!(err.to_string().contains("expected Index, got Float"), "{err}");
}

#[test]
fn a8_an_unknown_batch_takes_any_number_of_rows() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 3]);
    let w = tape.variable("w", Tensor::from_rows([3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap());
    let y = x.matmul(w).tanh();
    let mean = y.square().mean();
    let gradient = tape.gradient(mean, &[w]).unwrap()[0];
    let mut session = Session::new(&tape).unwrap();
    for n in [128, 1, 37, 0, 128] {
        let batch = Tensor::from_fn([n, 3], |at| (at[0] * 3 + at[1]) as f64 / 100.0).unwrap();
        let feeds = [x.feed(&batch)];
        let run = session.run((y, mean, gradient), &feeds).unwrap();
        assert_eq!((run.0.shape(), run.2.shape()), ([n, 2].into(), [3, 2].into()));
        // The mean of no rows is 0/0, as in NumPy; everything else is a number.
        assert_eq!(run.1.item().unwrap().is_nan(), n == 0);
        let reference = session.interpret((y, mean, gradient), &feeds).unwrap();
        assert_eq!(
            (&run.0, bits(&run.1), bits(&run.2)),
            (&reference.0, bits(&reference.1), bits(&reference.2))
        );
    }
    assert_eq!(session.n_plans(), 4);
}

#[test]
fn a10_fetches_are_computed_once_and_intermediates_can_be_fed() {
    let calls = Arc::new(AtomicUsize::new(0));
    let tape = Tape::<f64>::new();
    let b = tape.placeholder("b", []);
    let c = tape.placeholder("c", []);
    let d = tape.custom(Counted(Arc::clone(&calls)), &[b]) + c;
    let e = c + 2.0;
    let a = d * e;
    let mut session = Session::new(&tape).unwrap();
    let (a1, d1, e1, a2) = session.run((a, d, e, a), &[b.feed(&2.0), c.feed(&1.0)]).unwrap();
    assert_eq!((a1, d1, e1, a2), (9.0.into(), 3.0.into(), 3.0.into(), 9.0.into()));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    // With d fed, b is not needed and the op behind it does not run.
    assert_eq!(session.run(a, &[d.feed(&7.0), c.feed(&1.0)]).unwrap(), 21.0.into());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a10_a_second_run_uses_the_same_plan_and_allocates_nothing() {
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, 20]);
    let labels = tape.index_placeholder("labels", [ANY]);
    let w = tape.variable("w", Tensor::full([20, 7], 0.1).unwrap());
    let b = tape.variable("b", Tensor::zeros([7]).unwrap());
    let p = (x.matmul(w) + b).log_softmax(1);
    let loss = -(p * labels.one_hot(7)).sum_axes(&[1]).mean();
    let accuracy = p.argmax(1).equal(labels).mean();
    let gradient = tape.gradient(loss, &[w, b]).unwrap();
    let step = (tape.assign(w, w - gradient[0] * 0.1), tape.assign(b, b - gradient[1] * 0.1));
    let fetches = (loss, accuracy, step.0, step.1);
    let mut session = Session::new(&tape).unwrap();
    let batch =
        Tensor::from_fn([64, 20], |at| ((at[0] * 7 + at[1] * 3) % 11) as f32 / 11.0).unwrap();
    let classes = Tensor::from_fn([64], |at| (at[0] % 7) as u32).unwrap();
    let mut out = Default::default();
    let mut losses = Vec::with_capacity(10);
    for run in 0..10 {
        let feeds = [x.feed(&batch), labels.feed(&classes)];
        let (result, _, allocations) = counted(|| session.run_into(fetches, &feeds, &mut out));
        result.unwrap();
        assert!(run == 0 || allocations == 0, "run {run}: {allocations} allocations");
        losses.push(out.0.item().unwrap());
    }
    assert_eq!(session.n_plans(), 1);
    assert!(losses.windows(2).all(|l| l[1] < l[0]), "{losses:?}");
}

#[test]
fn a10_large_fetches_are_computed_where_the_caller_gets_them() {
    let n = 150;
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [n, n]);
    let kept = tape.variable("kept", Tensor::zeros([n, n]).unwrap());
    // A loop's value that a product reads, whose value a loop reads; seen twice; assigned.
    let a = x.tanh() + 1.0;
    let b = a.matmul(a);
    let c = (b * 0.5 - a).exp();
    let (twice, assigned) = (c + 1.0, c + 2.0);
    let write = tape.assign(kept, assigned);
    let seen = twice.reshape([n * n]);
    let fetches = (a, b, (c, twice, seen), write, c.sum());
    let mut session = Session::new(&tape).unwrap().with_threads(2).unwrap();
    let mut outs: [_; 2] = Default::default();
    for run in 0..6 {
        let fed = Tensor::from_fn([n, n], |at| ((at[0] * 7 + at[1] * run) % 11) as f64 * 0.01);
        let fed = fed.unwrap();
        let feeds = [x.feed(&fed)];
        let want = session.interpret(fetches, &feeds).unwrap();
        let out = &mut outs[run % 2];
        let (result, _, allocations) = counted(|| session.run_into(fetches, &feeds, out));
        result.unwrap();
        // The first run of each of the two has its memory to get.
        assert!(run < 2 || allocations == 0, "run {run}: {allocations} allocations");
        assert!(want == *out, "run {run}");
        assert_eq!(session.value(kept).unwrap(), want.3);
    }
    // A mistake in between leaves the next run whole; new memory is given every time.
    let fed = Tensor::full([n, n], 0.25).unwrap();
    let wrong = tape.index_placeholder("i", [1]);
    assert!(session.run((a, wrong), &[x.feed(&fed)]).is_err());
    let one = session.run((a, b), &[x.feed(&fed)]).unwrap();
    let two = session.run((a, b), &[x.feed(&fed)]).unwrap();
    assert!(one == two && one == session.interpret((a, b), &[x.feed(&fed)]).unwrap());
    session.assert_finite(true);
    let fed = Tensor::full([n, n], f64::NAN).unwrap();
    let e = session.run((a, b), &[x.feed(&fed)]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFinite, "{e}");
}

#[test]
fn a12_an_op_that_nobody_fetches_never_runs() {
    let calls = Arc::new(AtomicUsize::new(0));
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 1.0);
    let _unused = tape.custom(Counted(Arc::clone(&calls)), &[x]) + x;
    let used = x * 2.0;
    // Only the shape of this one is asked for.
    let shape_only =
        x.broadcast_like(tape.custom(Counted(Arc::clone(&calls)), &[x]).expand_dims(&[0]));
    let mut session = Session::new(&tape).unwrap();
    assert_eq!(session.run(used, &[]).unwrap(), 2.0.into());
    assert_eq!(session.run(shape_only, &[]).unwrap().as_slice(), [1.0]);
    session.interpret((used, shape_only), &[]).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[test]
fn a12_a_chain_is_one_kernel_that_reads_and_writes_each_byte_once() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY]);
    let y = x.tanh() * x.sigmoid() + (-(x * x)).exp();
    let mut session = Session::new(&tape).unwrap();
    let n = 10_000;
    let fed = Tensor::from_fn([n], |at| at[0] as f64 / 1000.0 - 5.0).unwrap();
    let report = session.report(y, &[x.feed(&fed)]).unwrap();
    assert_eq!((report.kernels, report.loops, report.elementwise_ops), (1, 1, 7), "{report}");
    assert_eq!((report.bytes_read, report.bytes_written), (n * 8, n * 8), "{report}");
    let mut unfused = Session::new(&tape).unwrap().with_passes(Passes::NONE);
    assert_eq!(unfused.report(y, &[x.feed(&fed)]).unwrap().kernels, 7);
    let feeds = [x.feed(&fed)];
    let (a, b) = (session.run(y, &feeds).unwrap(), unfused.run(y, &feeds).unwrap());
    assert_eq!((&a, &b), (&session.interpret(y, &feeds).unwrap(), &a));
}

#[test]
fn a12_equal_subexpressions_run_once() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [4]);
    let y = (x.exp() + 1.0) * (x.exp() + 1.0);
    let fed = Tensor::vector(vec![0.0; 4]);
    let mut session = Session::new(&tape).unwrap();
    assert_eq!(session.report(y, &[x.feed(&fed)]).unwrap().elementwise_ops, 3);
}

#[test]
fn a14_many_steps_leave_memory_flat() {
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", Tensor::full([4], 1.0).unwrap());
    let x = tape.placeholder("x", [4]);
    let loss = (w * x - 2.0).square().sum();
    let gradient = tape.gradient(loss, &[w]).unwrap()[0];
    let step = tape.assign(w, w - gradient * 0.05);
    let mut session = Session::new(&tape).unwrap();
    let recorded = tape.len();
    let fed = Tensor::vector(vec![1.0, 2.0, -1.0, 0.5]);
    let mut out = Default::default();
    session.run_into((loss, step), &[x.feed(&fed)], &mut out).unwrap();
    let ((), peak, allocations) = counted(|| {
        for _ in 0..100_000 {
            session.run_into((loss, step), &[x.feed(&fed)], &mut out).unwrap();
        }
    });
    assert_eq!((peak, allocations, tape.len()), (0, 0, recorded));
    assert!(out.0.item().unwrap() < 1e-20);
}

#[test]
fn many_shapes_do_not_grow_the_plan_cache_without_bound() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY]);
    let y = x.sum();
    let mut session = Session::new(&tape).unwrap();
    for n in 0..300 {
        let fed = Tensor::full([n], 1.0).unwrap();
        assert_eq!(session.run(y, &[x.feed(&fed)]).unwrap().item().unwrap(), n as f64);
    }
    assert!(session.n_plans() <= 64);
}

#[test]
fn assert_finite_names_the_first_node_that_turned_nan() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [3]);
    let y = (x.log().named("logs") * 0.0).exp().sum();
    let mut session = Session::new(&tape).unwrap();
    let fed = Tensor::vector(vec![1.0, -1.0, 2.0]);
    assert!(session.run(y, &[x.feed(&fed)]).unwrap().item().unwrap().is_nan());
    session.assert_finite(true);
    let err = session.run(y, &[x.feed(&fed)]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotFinite);
    assert!(
        err.to_string().starts_with("log `logs` [3]: expected finite numbers, got NaN"),
        "{err}"
    );
    let fine = Tensor::vector(vec![1.0, 1.0, 2.0]);
    assert_eq!(session.run(y, &[x.feed(&fine)]).unwrap(), 3.0.into());
}

#[test]
fn a_chain_of_a_million_nodes_records_runs_and_drops() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 0.5);
    let mut y = x;
    for i in 0..1_000_000 {
        y = if i % 2 == 0 { y + 1.0 } else { y - x };
    }
    let gradient = tape.gradient(y, &[x]).unwrap()[0];
    let mut session = Session::new(&tape).unwrap();
    let (y, gradient) = session.run((y, gradient), &[]).unwrap();
    assert_eq!((y.item().unwrap(), gradient.item().unwrap()), (250_000.5, 1.0 - 500_000.0));
}

#[test]
fn a_node_used_a_hundred_thousand_times() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 1.0);
    let mut sum = tape.literal(0.0);
    for i in 0..100_000 {
        sum = sum + x * f64::from(i);
    }
    let gradient = tape.gradient(sum, &[x]).unwrap()[0];
    let gradient = Session::new(&tape).unwrap().run(gradient, &[]).unwrap();
    assert_eq!(gradient.item().unwrap(), 99_999.0 * 50_000.0);
}

#[test]
fn variables_larger_than_memory_together_are_an_error() {
    let tape = Tape::<f64>::new();
    for _ in 0..17 {
        tape.uninitialized("w", [(1 << 60) - 1]);
    }
    assert_eq!(Session::new(&tape).unwrap_err().kind(), ErrorKind::Memory);
}

#[test]
fn values_larger_than_memory_are_an_error_not_an_abort() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY]);
    let outer = (x.expand_dims(&[1]) * x.expand_dims(&[0])).exp();
    let total = outer.max();
    let fed = Tensor::zeros([20_000_000]).unwrap();
    let mut session = Session::new(&tape).unwrap();
    assert_eq!(session.run(total, &[x.feed(&fed)]).unwrap_err().kind(), ErrorKind::Memory);
    let small = Tensor::zeros([3]).unwrap();
    assert_eq!(session.run(total, &[x.feed(&small)]).unwrap(), 1.0.into());
}

#[test]
fn h_empty_axes_empty_batches_and_products_over_nothing() {
    let tape = Tape::<f64>::new();
    let a = tape.placeholder("a", [ANY, ANY]);
    let b = tape.variable("b", Tensor::zeros([0, 3]).unwrap());
    let c = tape.variable("c", Tensor::zeros([2, 0]).unwrap());
    let nothing = a.matmul(b);
    let gradient = tape.gradient((nothing + 1.0).square().sum(), &[b]).unwrap()[0];
    let sums = (c.sum(), c.sum_axes(&[0]), c.prod_axes(&[1]), c.tanh());
    let none = c.max_axes(&[0]);
    let bad = a.max();
    let mut session = Session::new(&tape).unwrap();
    let fed = Tensor::zeros([4, 0]).unwrap();
    let (y, dy) = session.run((nothing, gradient), &[a.feed(&fed)]).unwrap();
    assert_eq!((y, dy.shape()), (Tensor::zeros([4, 3]).unwrap(), [0, 3].into()));
    let (all, columns, rows, same) = session.run(sums, &[]).unwrap();
    assert_eq!((all.item().unwrap(), columns.len(), rows.as_slice()), (0.0, 0, &[1.0, 1.0][..]));
    assert_eq!(same.shape(), [2, 0].into());
    assert_eq!(session.run(none, &[]).unwrap().len(), 0);
    let err = session.run(bad, &[a.feed(&fed)]).unwrap_err();
    assert!(
        err.to_string().contains("max") && err.to_string().contains("tests/session.rs"),
        "{err}"
    );
}

#[test]
fn h_numbers_that_are_not_finite_pass_through_and_are_never_hidden() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 2]);
    let w = tape.variable("w", Tensor::zeros([2, 1]).unwrap());
    let y = x.matmul(w).relu().sum();
    let mut session = Session::new(&tape).unwrap();
    for bad in [f64::NAN, f64::INFINITY] {
        // 0 · ∞ and 0 · NaN are NaN: nothing skips a product because a factor is 0.
        let fed = Tensor::from_rows([2, 2], &[1.0, bad, 1.0, 1.0]).unwrap();
        assert!(session.run(y, &[x.feed(&fed)]).unwrap().item().unwrap().is_nan());
    }
}

#[test]
fn a12_a_loop_never_reads_its_own_memory_under_another_shape() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 1]);
    let y = x.exp();
    let all_pairs = y - y.squeeze(&[1]);
    let there_and_back = y - y.expand_dims(&[0]).squeeze(&[0]).stop_gradient();
    let fetches = (all_pairs, there_and_back);
    for passes in [Passes::ALL, Passes { simplify: false, ..Passes::ALL }] {
        let mut session = Session::new(&tape).unwrap().with_passes(passes);
        for n in [3, 1] {
            let ones = Tensor::full([n, 1], 1.0).unwrap();
            let (pairs, zeros) = session.run(fetches, &[x.feed(&ones)]).unwrap();
            assert_eq!(pairs, Tensor::zeros([n, n]).unwrap(), "{n} rows, {passes:?}");
            assert_eq!(zeros, Tensor::zeros([n, 1]).unwrap(), "{n} rows, {passes:?}");
        }
    }
}

#[test]
fn a12_a_loop_that_is_cut_has_no_more_inputs_than_a_loop_may_have() {
    let tape = Tape::<f64>::new();
    let x: Vec<_> = (0..13)
        .map(|i| tape.variable(&format!("x{i}"), Tensor::full([4], f64::from(i)).unwrap()))
        .collect();
    // Six outputs, which the rest of the chain reads beside twelve more inputs.
    let mut fetches = vec![x[0].sin()];
    (0..5).for_each(|i| fetches.push(fetches[i].sin()));
    let end = x[1..].iter().chain(&fetches[..5]).fold(fetches[5], |sum, &x| sum + x);
    fetches.push(end);
    let mut session = Session::new(&tape).unwrap();
    let want = session.interpret(&fetches, &[]).unwrap();
    assert_eq!(session.run(&fetches, &[]).unwrap(), want);
}

#[test]
fn a12_a_chain_of_views_is_compiled_in_linear_time() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", Tensor::zeros([4]).unwrap());
    let y = (0..50_000).fold(x, |y, _| y.reshape([2, 2]).reshape([4])).exp();
    assert_eq!(Session::new(&tape).unwrap().run(y, &[]).unwrap().as_slice(), [1.0; 4]);
}

#[test]
fn a12_rewrites_keep_the_sign_of_zero() {
    let tape = Tape::<f64>::new();
    let (x, like) = (tape.placeholder("x", [ANY]), tape.placeholder("like", [ANY]));
    let fetches = [x - 0.0, x - (-0.0), x.sum_to_like(like)];
    let mut session = Session::new(&tape).unwrap();
    let zeros = Tensor::vector(vec![-0.0, 0.0]);
    let feeds = [x.feed(&zeros), like.feed(&zeros)];
    let want = session.interpret(fetches, &feeds).unwrap();
    for (got, want) in session.run(fetches, &feeds).unwrap().iter().zip(&want) {
        assert_eq!(bits(got), bits(want));
    }
}

#[test]
fn a12_masks_are_made_where_they_are_read_with_the_same_bits() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 5, 6, 2]);
    let w = tape.variable("w", Tensor::from_fn([2], |at| 1.0 + at[0] as f64).unwrap());
    // Windows beside and over each other, numbers on both sides of the kink, zeros and NaN.
    for (window, stride) in [([2, 2], [2, 2]), ([3, 2], [1, 2]), ([1, 3], [1, 3])] {
        let y = (x * w).relu();
        let pooled = y.max_pool2d(Pool::new(window).with_stride(stride));
        let loss = (pooled * pooled.sin()).sum();
        let gradient = tape.gradient(loss, &[w]).unwrap()[0];
        let of_y = tape.gradient(loss, &[y]).unwrap()[0];
        for n in [1, 9, 33, 70] {
            let fed = Tensor::from_fn([n, 5, 6, 2], |at| {
                let i = at.iter().fold(7, |i, &at| i * 31 + at * 17);
                if i % 41 == 0 { f64::NAN } else { f64::from((i % 23) as u32) * 0.25 - 3.0 }
            });
            let fed = fed.unwrap();
            let feeds = [x.feed(&fed)];
            for threads in [1, 2] {
                let mut session = Session::new(&tape).unwrap().with_threads(threads).unwrap();
                let fetches = [gradient, of_y, pooled];
                let got = session.run(fetches, &feeds).unwrap();
                let want = session.interpret(fetches, &feeds).unwrap();
                for (got, want) in got.iter().zip(&want) {
                    assert_eq!(bits(got), bits(want), "{window:?} {stride:?}, {n} images");
                }
            }
        }
    }
    // The mask of relu is not written by the loop of the forward pass.
    let x = tape.placeholder("rows", [64, 32]);
    let v = tape.variable("v", Tensor::zeros([32, 32]).unwrap());
    let h = x.matmul(v).relu();
    let loss = h.matmul(v).square().sum();
    let gradient = tape.gradient(loss, &[v]).unwrap()[0];
    let fed = Tensor::zeros([64, 32]).unwrap();
    let report = Session::new(&tape).unwrap().report(gradient, &[x.feed(&fed)]).unwrap();
    let loops = report.instructions.iter().filter(|work| work.name.starts_with("loop"));
    assert!(loops.clone().count() > 1 && loops.clone().all(|work| work.outputs.len() == 1));
}

#[test]
fn a12_one_times_a_matrix_is_the_matrix() {
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", Tensor::zeros([3, 2]).unwrap());
    let v = Tensor::from_rows([3, 2], &[1.0, -2.0, 3.0, -4.0, 5.0, -0.0]).unwrap();
    let slope = tape.gradient((w * v.clone()).sum(), &[w]).unwrap()[0];
    let mut session = Session::new(&tape).unwrap();
    assert_eq!(session.report(slope, &[]).unwrap().kernels, 0);
    assert_eq!(bits(&session.run(slope, &[]).unwrap()), bits(&v));
}

#[test]
fn assert_finite_sees_constants_and_leaves_passes_alone() {
    let tape = Tape::<f64>::new();
    let (x, y) = (tape.variable("x", Tensor::zeros([3]).unwrap()), tape.literal(0.0).log());
    let chain = x.exp().sin().cos();
    let mut session = Session::new(&tape).unwrap().with_passes(Passes::NONE);
    session.assert_finite(false);
    assert_eq!(session.report(chain, &[]).unwrap().loops, 3);
    let mut session = Session::new(&tape).unwrap();
    session.assert_finite(true);
    assert_eq!(session.run(y, &[]).unwrap_err().kind(), ErrorKind::NotFinite);
}

fn bits(t: &Tensor<f64>) -> Vec<u64> {
    t.as_slice().iter().map(|x| x.to_bits()).collect()
}

/// The identity, counting how often it runs.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl<T: Scalar> Primitive<T> for Counted {
    fn name(&self) -> &str {
        "counted"
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }
    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        y.float().copy_from_slice(x[0].float());
        Ok(())
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
}
