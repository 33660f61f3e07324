//! A batch cut into shards gives the values of the whole batch, and bits that depend on the number
//! of shards, not on who computes them.

mod models;
mod support;

use gradtape::dist::{Group, Incoming, Lane, Local, Outgoing};
use gradtape::nn::{Activation, BatchNorm, Dense, Sequential, Training};
use gradtape::optim::Sgd;
use gradtape::{
    ANY, Arg, Cotangents, Expr, Out, Philox, Primitive, Result, RowRule, Session, Shape, Tape,
    Tensor, Var, Vjp,
};
use models::{
    Model, ROWS, batch_normalization_and_dropout, classifier, convolutions, normal, perceptron,
    recurrence, rows_of, wide_perceptron,
};
use std::sync::{Arc, Mutex};
use support::{counted, on_ranks};

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

/// Equal but for rounding, which Adam makes larger where a gradient is 0 but for rounding.
fn near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!((a - b).abs() <= 1e-9 * size || a.to_bits() == b.to_bits(), "{what} {i}: {a} {b}");
    }
}

/// Trains with every number of threads and of ranks; the bits of losses and weights are the same
/// for all, and the values those of whole batches.
fn same_for_all_workers(make: fn() -> Model, name: &str, shards: usize, rows: &[usize]) {
    let model = make();
    let session = || Session::new(&model.tape).unwrap();
    let whole = model.train(&mut session(), rows);
    let one = model.train(&mut session().with_shards(shards).unwrap(), rows);
    near(&one.0, &whole.0, name);
    near(&one.1, &whole.1, name);
    let same = |got: &(Vec<f64>, Vec<f64>), who: &str| {
        let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same(&got.0, &one.0), "{name}: losses of {who}");
        assert!(same(&got.1, &one.1), "{name}: weights of {who}");
    };
    for threads in [2, 3, 4, 8] {
        let session = session().with_threads(threads).unwrap().with_shards(shards);
        same(&model.train(&mut session.unwrap(), rows), &format!("{threads} threads"));
    }
    for ranks in [1, 2, 3, 4] {
        let all = on_ranks(ranks, |rank| {
            // A tape of its own, as another process would have.
            let model = make();
            let session = Session::new(&model.tape).unwrap().with_threads(1 + rank.rank() % 2);
            let mut session = session.unwrap().with_shards(shards).unwrap().with_group(rank);
            model.train(&mut session, rows)
        });
        for (rank, got) in all.iter().enumerate() {
            same(got, &format!("rank {rank} of {ranks}"));
        }
    }
}

#[test]
fn d1_perceptron_has_the_same_bits() {
    same_for_all_workers(perceptron, "perceptron", 8, &ROWS);
    same_for_all_workers(perceptron, "perceptron, 5 shards", 5, &ROWS);
}

#[test]
fn d8_gradients_in_several_pieces_have_the_same_bits() {
    same_for_all_workers(wide_perceptron, "wide perceptron", 8, &[16, 5, 1, 16]);
    same_for_all_workers(wide_perceptron, "wide perceptron, 3 shards", 3, &[16, 2]);
}

/// What happens in a rank, in order.
type Log = Arc<Mutex<Vec<&'static str>>>;

/// A rank that notes when messages leave.
#[derive(Debug)]
struct Noted(Local, Log);

impl Group for Noted {
    fn rank(&self) -> usize {
        self.0.rank()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn exchange(&mut self, send: &[Outgoing<'_>], receive: &mut [Incoming<'_>]) -> Result<()> {
        self.0.exchange(send, receive)
    }
    fn start(
        &mut self,
        lane: Lane,
        send: &[Outgoing<'_>],
        receive: &[(usize, usize)],
    ) -> Result<()> {
        self.1.lock().unwrap().push("sends");
        self.0.start(lane, send, receive)
    }
    fn is_done(&mut self, lane: Lane) -> bool {
        self.0.is_done(lane)
    }
    fn finish(&mut self, lane: Lane, receive: &mut [Incoming<'_>]) -> Result<()> {
        self.0.finish(lane, receive)
    }
    fn fail(&mut self, why: &str) {
        self.0.fail(why);
    }
}

/// The same values; notes when their cotangents are computed.
#[derive(Debug)]
struct Mark(Log, bool);

impl Primitive<f64> for Mark {
    fn name(&self) -> &str {
        "mark"
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }
    fn forward(&self, x: &[Arg<'_, f64>], y: Out<'_, f64>, _: &mut [f64]) -> Result<()> {
        y.float().copy_from_slice(x[0].float());
        if self.1 {
            self.0.lock().unwrap().push("computes");
        }
        Ok(())
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
    fn vjp<'t>(&self, at: Vjp<'_, 't, f64>) -> Result<Cotangents<'t, f64>> {
        Ok(vec![Some(at.ct.tape().custom(Mark(Arc::clone(&self.0), true), &[at.ct]))])
    }
}

/// Gradients of the last layers leave before those of the first are computed, once only the last
/// shard of a rank is left.
#[test]
fn d8_gradients_leave_while_others_are_computed() {
    let logs = on_ranks(2, |rank| {
        let log = Log::default();
        let tape = Tape::<f64>::new();
        let mut h = tape.placeholder("x", [ANY, 300]);
        let x = h;
        for layer in 0..3 {
            let w = tape.variable(&format!("w{layer}"), normal([300, 300], layer));
            h = tape.custom(Mark(Arc::clone(&log), false), &[h.matmul(w).tanh()]);
        }
        let train = Sgd::new(0.1).minimize(h.square().mean()).unwrap();
        let session = Session::new(&tape).unwrap().with_shards(4).unwrap();
        let mut session = session.with_group(Noted(rank, Arc::clone(&log)));
        let xs = normal([session.rows(12).len(), 300], 9);
        session.run(train, &[x.feed(&xs)]).unwrap();
        let log = log.lock().unwrap();
        log.clone()
    });
    for log in logs {
        // Three layers; and once more in the second shard, where a bucket follows each. Its sum
        // leaves when it may.
        let computes = |i: &usize| log[*i] == "computes";
        let computed: Vec<usize> = (0..log.len()).filter(computes).collect();
        assert_eq!((computed.len(), log.len()), (6, 6 + 3 + 3), "{log:?}");
        assert_eq!(computed[..4], [0, 1, 2, 3], "{log:?}");
        assert!(computed[4] > 4 && computed[5] > computed[4] + 1, "{log:?}");
    }
}

#[test]
fn d1_linear_regression_over_the_whole_batch() {
    let tape = Tape::<f64>::new();
    let (x, y) = (tape.placeholder("x", [ANY, 5]), tape.placeholder("y", [ANY]));
    let (w, b) = (tape.variable("w", Tensor::zeros([5]).unwrap()), tape.variable("b", 0.0));
    let loss = (x.matmul(w) + b).squared_error(y).mean() + w.square().sum() * 0.01;
    let train = Sgd::new(0.05).minimize(loss).unwrap();
    let (xs, ys) = (normal([203, 5], 1), normal([203], 2));
    let run = |mut session: Session| {
        for _ in 0..50 {
            session.run((loss, train), &[x.feed(&xs), y.feed(&ys)]).unwrap();
        }
        session.parameters().to_vec()
    };
    let session = || Session::new(&tape).unwrap();
    let (whole, one) = (run(session()), run(session().with_shards(8).unwrap()));
    near(&one, &whole, "regression");
    for threads in [2, 3, 5] {
        let got = run(session().with_shards(8).unwrap().with_threads(threads).unwrap());
        assert_eq!(got, one, "{threads} threads");
    }
}

#[test]
fn d1_batch_normalization_and_dropout_has_the_same_bits() {
    same_for_all_workers(
        batch_normalization_and_dropout,
        "batch normalization and dropout",
        8,
        &[64, 40, 13, 9],
    );
}

#[test]
fn d1_convolutions_has_the_same_bits() {
    same_for_all_workers(convolutions, "convolutions", 8, &[24, 11, 3]);
}

#[test]
fn d1_recurrence_has_the_same_bits() {
    same_for_all_workers(recurrence, "recurrence", 8, &[24, 11, 3]);
}

/// Everything over the batch that is not a mean; values of rows, numbers and indices; a view of
/// the batch's extent; second derivatives; what is fed in the middle.
#[test]
fn values_are_those_of_the_whole_batch() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 4]);
    let w = tape.variable("w", normal([4, 3], 5));
    let y = x.matmul(w).tanh();
    let positive = y.square() + 1.0;
    let centered = y - y.mean_axes(&[0]);
    let variance = centered.square().mean_axes(&[0]);
    let standard = centered / (variance + 1e-5).sqrt();
    let loss = (standard.square() * y).sum() + y.max() + y.variance_axes(&[0], 0).sum();
    let gradient = tape.gradient(loss, &[w]).unwrap()[0];
    let second = tape.gradient(gradient.square().sum(), &[w]).unwrap()[0];
    let values = [
        loss,
        gradient,
        second,
        y,
        standard,
        y.max_axes(&[0]),
        y.min_axes(&[0]),
        positive.prod_axes(&[0]),
        y.greater(0.99).any_axes(&[0, 1]),
        y.greater(-2.0).all_axes(&[0, 1]),
        x.t().matmul(x),
        y.sum_axes(&[1]),
        (y.sum_axes(&[0]) * w).sum(),
        w.square().sum(),
    ];
    let classes = y.argmax(1);
    let rows: [usize; 6] = [100, 16, 9, 8, 3, 1];
    for n in rows {
        let xs = normal([n, 4], 6);
        let feeds = [x.feed(&xs)];
        let fetches = (values.as_slice(), classes);
        let want = Session::new(&tape).unwrap().run(fetches, &feeds).unwrap();
        let mut bits: Option<Vec<Tensor>> = None;
        for threads in [1, 3] {
            let session = Session::new(&tape).unwrap().with_threads(threads).unwrap();
            let mut session = session.with_shards(8).unwrap();
            for _ in 0..2 {
                let got = session.run(fetches, &feeds).unwrap();
                assert_eq!(got.1, want.1);
                for (i, (got, want)) in got.0.iter().zip(&want.0).enumerate() {
                    assert_eq!(got.shape(), want.shape(), "value {i}");
                    // Of one row, the variance is 0 and derivatives are large.
                    if n > 1 || i > 4 {
                        near(got.as_slice(), want.as_slice(), &format!("{n} rows, value {i}"));
                    }
                }
                assert_eq!(*bits.get_or_insert_with(|| got.0.clone()), got.0, "{threads} threads");
            }
        }
    }
}

#[test]
fn a_part_of_the_graph_may_be_fed() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 4]);
    let hidden = (x * 2.0).tanh();
    let total = (hidden * hidden.mean()).sum();
    let h = normal([10, 4], 7);
    let feeds = [hidden.feed(&h)];
    let want = Session::new(&tape).unwrap().run(total, &feeds).unwrap();
    let got = Session::new(&tape).unwrap().with_shards(4).unwrap().run(total, &feeds).unwrap();
    near(got.as_slice(), want.as_slice(), "total");
}

#[test]
fn a_running_step_allocates_nothing() {
    let model = classifier(&[6], 3, |tape, x| {
        let mut rng = Philox::new(2, 0);
        let mut net = Sequential::new();
        net.push(Dense::new(tape, "a", [6, 2000], Activation::Identity, &mut rng).unwrap());
        net.push(BatchNorm::new(tape, "n", 2000).unwrap());
        net.push(Dense::new(tape, "c", [2000, 3], Activation::Identity, &mut rng).unwrap());
        let training = Training::new(tape);
        (net.forward(x, Some(&training)), training.updates())
    });
    let session = Session::new(&model.tape).unwrap().with_threads(2).unwrap();
    let mut session = session.with_shards(4).unwrap();
    let (x, y) = model.batch(50, 0);
    let feeds = [model.x.feed(&x), model.y.feed_index(&y)];
    let mut out = Default::default();
    let fetches = (model.loss, model.train.as_slice());
    for _ in 0..2 {
        session.run_into(fetches, &feeds, &mut out).unwrap();
    }
    let (_, _, bytes) = counted(|| session.run_into(fetches, &feeds, &mut out).unwrap());
    assert_eq!(bytes, 0);
}

#[test]
fn what_mixes_rows_is_refused_by_name() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 4]);
    let y = x.cumsum(0);
    let xs = normal([6, 4], 1);
    let mut session = Session::new(&tape).unwrap().with_shards(2).unwrap();
    let e = session.run(y, &[x.feed(&xs)]).unwrap_err();
    let want = "cumsum of [6, 4]: expected an op that treats rows one by one, or adds them up, as \
                the batch is cut into shards; got one that mixes rows";
    assert_eq!(e.message(), want);
    assert!(e.to_string().contains("tests/shards.rs"), "{e}");
    // It can still be had whole.
    Session::new(&tape).unwrap().run(y, &[x.feed(&xs)]).unwrap();
}

#[test]
fn wrong_numbers_are_refused() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (x, y) = (tape.placeholder("x", [ANY]), tape.placeholder("y", [ANY]));
    let sum = x.sum() + y.sum();
    for n in [0, 4097] {
        let e = Session::new(&tape)?.with_shards(n).unwrap_err();
        assert_eq!(e.to_string(), format!("shards: expected 1 to 4096, got {n}"));
    }
    let (three, four) = (normal([3], 1), normal([4], 2));
    let feeds = [x.feed(&three), y.feed(&four)];
    let e = Session::new(&tape)?.with_shards(2)?.run(sum, &feeds).unwrap_err();
    assert_eq!(
        e.message(),
        "shards: expected as many rows of placeholder `y` as of placeholder `x`, 3, got 4"
    );
    Session::new(&tape)?.run(sum, &feeds)?;
    Ok(())
}

/// Ranks that do not do the same hear of each other.
#[test]
fn d5_ranks_that_disagree() {
    let run = |rank: Local, differ: fn(usize) -> [usize; 4]| -> String {
        let [extra, shards, fetch, rows] = differ(rank.rank());
        let tape = Tape::<f64>::new();
        let x = tape.placeholder("x", [ANY, 2]);
        let w = tape.variable("w", normal([2], extra as u64));
        let values = [x.matmul(w).sum().named("sum"), x.square().mean().named("mean")];
        let session = Session::new(&tape).unwrap().with_shards(shards).unwrap();
        let mut session = session.with_group(rank);
        let own = normal([session.rows(8).len() + rows, 2], 1);
        match session.run(values[fetch], &[x.feed(&own)]) {
            Ok(_) => "no error".to_string(),
            Err(e) => e.message().to_string(),
        }
    };
    let all = |differ: fn(usize) -> [usize; 4]| on_ranks(3, |rank| run(rank, differ));
    assert_eq!(all(|_| [0, 4, 0, 0]), ["no error"; 3]);
    for (differ, sides) in [
        (all(|rank| [rank / 2, 4, 0, 0]), ["start", "rank 2 has run 1 of"]),
        (all(|rank| [0, 4 + rank / 2, 0, 0]), ["4 shards", "5 shards"]),
        (all(|rank| [0, 4, rank / 2, 0]), ["`sum`", "`mean`"]),
        (all(|rank| [0, 4, 0, rank / 2]), ["ranks: expected [5, 2, 2] of 9 rows", "got [4, 2, 3]"]),
    ] {
        for text in &differ {
            assert!(sides.iter().all(|side| text.contains(side)), "{text}");
        }
        assert!(differ.iter().all(|text| *text == differ[0]), "{differ:?}");
    }
}

/// Values that have rows are this rank's; a rank without shards has none of them, and the sums.
#[test]
fn d4_ranks_without_rows() {
    let got = on_ranks(3, |rank| {
        let tape = Tape::<f64>::new();
        let x = tape.placeholder("x", [ANY, 2]);
        let (y, sum) = (x * 2.0 + 1.0, x.sum());
        let session = Session::new(&tape).unwrap().with_shards(2).unwrap();
        let mut session = session.with_group(rank);
        let own = Tensor::full([session.rows(5).len(), 2], 1.0).unwrap();
        let (y, sum) = session.run((y, sum), &[x.feed(&own)]).unwrap();
        (y.shape(), y.as_slice().iter().sum::<f64>(), sum.item().unwrap())
    });
    let want = [3, 2, 0].map(|rows| (Shape::from([rows, 2]), 6.0 * rows as f64, 10.0));
    assert_eq!(got, want);
}

/// What goes wrong in one rank's rows is known to all, without a wait.
#[test]
fn d5_errors_of_a_rank_reach_the_others() {
    let texts = on_ranks(3, |rank| {
        let tape = Tape::<f64>::new();
        let (x, y) = (tape.placeholder("x", [ANY, 3]), tape.index_placeholder("y", [ANY]));
        let w = tape.variable("w", normal([3, 4], 1));
        let loss = x.matmul(w).softmax_cross_entropy(y).mean();
        let train = Sgd::new(0.1).minimize(loss).unwrap();
        let bad = rank.rank() == 1;
        let session = Session::new(&tape).unwrap().with_shards(6).unwrap();
        let mut session = session.with_group(rank);
        let n = session.rows(6).len();
        let labels = Tensor::full([n], if bad { 9 } else { 1 }).unwrap();
        let xs = normal([n, 3], 2);
        let feeds = [x.feed(&xs), y.feed(&labels)];
        let e = session.run(train, &feeds).unwrap_err();
        e.to_string()
    });
    assert!(texts.iter().all(|text| text.contains('9')), "{texts:?}");
    assert!(texts[0].contains("rank 1"), "{texts:?}");
}

/// A mistake in what one rank alone is given is heard by the others, which are about to run.
#[test]
fn d5_wrong_feeds_of_a_rank_reach_the_others() {
    let texts = on_ranks(3, |rank| {
        let tape = Tape::<f64>::new();
        let x = tape.placeholder("x", [ANY, 3]);
        let sum = x.sum();
        let columns = if rank.rank() == 1 { 4 } else { 3 };
        let mut session = Session::new(&tape).unwrap().with_shards(6).unwrap().with_group(rank);
        let xs = normal([session.rows(6).len(), columns], 2);
        session.run(sum, &[x.feed(&xs)]).unwrap_err().message().to_string()
    });
    assert_eq!(texts[1], "feed of placeholder `x`: expected [?, 3], got [2, 4]");
    for other in [&texts[0], &texts[2]] {
        assert!(other.contains("rank 1") && other.contains(&texts[1]), "{texts:?}");
    }
}

/// What one rank alone does to its variables between runs never stays unnoticed.
#[test]
fn d5_variables_changed_on_one_rank() {
    type Change = fn(&mut Session<f64>, Var, Expr<'_>) -> Result<()>;
    let assign: Change = |session, w, _| session.assign(w, &normal([3], 7));
    let scale: Change = |session, _, train| session.scale_rate(train, 0.5);
    let nothing: Change = |_, _, _| Ok(());
    let run = |changed: fn(usize) -> bool, change: Change| {
        on_ranks(2, |rank| {
            let (tape, number) = (Tape::<f64>::new(), rank.rank());
            let x = tape.placeholder("x", [ANY, 3]);
            let w = tape.variable("w", normal([3], 1));
            let train =
                Sgd::new(0.1).with_momentum(0.9).minimize(x.matmul(w).square().mean()).unwrap();
            let session = Session::new(&tape).unwrap().with_shards(4).unwrap();
            let mut session = session.with_group(rank);
            let xs = normal([session.rows(8).len(), 3], 2);
            session.run(train, &[x.feed(&xs)]).unwrap();
            if changed(number) {
                change(&mut session, w.into(), train).unwrap();
            }
            match session.run(train, &[x.feed(&xs)]) {
                Ok(_) => "no error".to_string(),
                Err(e) => e.message().to_string(),
            }
        })
    };
    for change in [assign, scale] {
        assert_eq!(run(|_| true, change), ["no error"; 2]);
        for text in run(|rank| rank == 1, change) {
            let want = "ranks disagree: rank 0 has run 2 of a tape of";
            assert!(text.starts_with(want) && text.contains("start"), "{text}");
        }
    }
    assert_eq!(run(|rank| rank == 1, nothing), ["no error"; 2]);
}

/// An error in any shard is that of the first one, and no variable changes.
#[test]
fn errors_of_shards_reach_the_caller() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (x, y) = (tape.placeholder("x", [ANY, 3]), tape.index_placeholder("y", [ANY]));
    let w = tape.variable("w", normal([3, 4], 1));
    let loss = x.matmul(w).softmax_cross_entropy(y).mean();
    let train = Sgd::new(0.1).minimize(loss)?;
    let xs = normal([8, 3], 2);
    let ys = Tensor::vector(vec![0, 1, 2, 3, 0, 7, 9, 1]);
    let mut session = Session::new(&tape)?.with_shards(8)?.with_threads(3)?;
    let before = session.parameters().to_vec();
    let e = session.run((loss, train), &[x.feed(&xs), y.feed(&ys)]).unwrap_err();
    assert!(e.to_string().contains('7'), "{e}");
    assert_eq!(session.parameters(), before);
    let ys = Tensor::vector(vec![0, 1, 2, 3, 0, 1, 2, 1]);
    session.run((loss, train), &[x.feed(&xs), y.feed(&ys)])?;
    assert_ne!(session.parameters(), before);
    Ok(())
}

/// The gradient of a whole batch is the mean of those of any parts, weighted by their rows.
#[test]
fn c5_gradients_of_parts_add_up_to_that_of_the_whole() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (x, y) = (tape.placeholder("x", [ANY, 5]), tape.index_placeholder("y", [ANY]));
    let w = tape.variable("w", normal([5, 4], 1));
    let loss = x.matmul(w).tanh().softmax_cross_entropy(y).mean();
    let gradient = tape.gradient(loss, &[w])?[0];
    let n = 60;
    let xs = normal([n, 5], 2);
    let ys = Tensor::vector((0..n as u32).map(|i| i * 7 % 4).collect());
    let mut session = Session::new(&tape)?;
    let whole = session.run(gradient, &[x.feed(&xs), y.feed(&ys)])?;
    for cuts in [vec![0, 60], vec![0, 1, 60], vec![0, 13, 14, 40, 60], (0..=60).collect()] {
        let mut sum = vec![0.0; whole.len()];
        for part in cuts.windows(2) {
            let rows = part[0]..part[1];
            let (x_part, y_part) = (rows_of(&xs, rows.clone()), rows_of(&ys, rows.clone()));
            let g = session.run(gradient, &[x.feed(&x_part), y.feed(&y_part)])?;
            let share = rows.len() as f64 / n as f64;
            sum.iter_mut().zip(g.as_slice()).for_each(|(sum, g)| *sum += share * g);
        }
        let off = sum.iter().zip(whole.as_slice()).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert!(off < 1e-14, "{cuts:?}: {off:e}");
    }
    Ok(())
}
