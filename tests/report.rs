//! What a step does: in numbers before it runs, and in a trace while it runs.

use gradtape::dist::local;
use gradtape::nn::{Activation, Mlp};
use gradtape::optim::Adam;
use gradtape::{
    ANY, Arg, ErrorKind, Index, Out, Philox, Primitive, Result, RowRule, Scalar, Session, Shape,
    Stage, Tape, Tensor, Trace, TraceEvent, Work,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Name, FLOPs, elements read and written.
fn numbers(work: &Work) -> (&str, usize, usize, usize) {
    (&work.name, work.flops, work.bytes_read / 8, work.bytes_written / 8)
}

#[test]
fn f3_the_report_of_a_dense_layer_is_what_one_counts_by_hand() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 3]);
    let w = tape.variable("w", Tensor::zeros([3, 2])?);
    let b = tape.variable("b", Tensor::zeros([2])?);
    let loss = (x.matmul(w) + b).square().sum();
    let step = Adam::new(0.1).minimize(loss)?;
    let mut session = Session::new(&tape)?;
    let fed = Tensor::zeros([5, 3])?;
    let report = session.report((loss, step), &[x.feed(&fed)])?;

    let works: Vec<_> = report.instructions.iter().map(numbers).collect();
    for work in [
        // x·w: 2·5·3·2 FLOPs of 5·3 and 3·2 numbers to 5·2.
        ("matmul", 60, 15 + 6, 10),
        // xᵀ·slope
        ("matmul", 60, 15 + 10, 6),
        // The slope summed over 5 rows.
        ("sum_to_like", 10, 10, 2),
    ] {
        assert!(works.contains(&work), "{work:?} in {works:?}");
    }
    // The rest is elementwise, or the sum of the loss: one operation for each of 10 elements.
    let rest = 10 * report.elementwise_ops + 10;
    assert_eq!(report.flops, 60 + 60 + 10 + rest, "{report}");
    let (read, written) = works.iter().fold((0, 0), |sum, w| (sum.0 + w.2 * 8, sum.1 + w.3 * 8));
    assert_eq!((report.bytes_read, report.bytes_written), (read, written), "{report}");
    let [adam] = &report.effects[..] else { panic!("{report}") };
    // w, g, m, v in; w, m, v out; for each of 8 parameters.
    assert_eq!(numbers(adam), ("adam", 0, 4 * 8, 3 * 8));
    assert_eq!((report.variable_bytes, report.state_bytes), (8 * 8, 2 * 8 * 8));
    assert_eq!(report.peak_bytes(), report.arena_bytes + 8 * 8 + 2 * 8 * 8 + 2 * 8);
    // At least the product or the slope, beside all gradients.
    assert!(report.arena_bytes >= (10 + 8) * 8, "{report}");
    Ok(())
}

#[test]
fn f3_a_loop_reads_and_writes_each_byte_once() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (x, b) = (tape.placeholder("x", [7, 3]), tape.placeholder("b", [3]));
    let y = (x + b).tanh() * x - b;
    let (fed, bias) = (Tensor::zeros([7, 3])?, Tensor::zeros([3])?);
    let report = Session::new(&tape)?.report(y, &[x.feed(&fed), b.feed(&bias)])?;
    let works: Vec<_> = report.instructions.iter().map(numbers).collect();
    assert_eq!(works, [("loop of 4 ops", 4 * 21, 21 + 3, 21)]);
    assert_eq!(report.instructions[0].intensity(), 84.0 / (45.0 * 8.0));
    Ok(())
}

#[test]
fn f3_bytes_are_counted_once_and_copies_have_no_flops() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (x, i) = (tape.placeholder("x", [4, 4]), tape.index_placeholder("i", [3]));
    let w = tape.variable("w", Tensor::zeros([4, 4])?);
    let [squared, taken, softmax] = [x.matmul(x), x.take(0, i), x.softmax(-1)];
    let assign = tape.assign(w, x);
    let fed = Tensor::zeros([4, 4])?;
    let indices = Tensor::<Index>::zeros([3])?;
    let mut session = Session::new(&tape)?;
    let mut only = |node| session.report(node, &[x.feed(&fed), i.feed(&indices)]);

    let report = only(squared)?;
    assert_eq!(numbers(&report.instructions[0]), ("matmul", 2 * 64, 16, 16), "{report}");
    let report = only(taken)?;
    // Indices are four bytes.
    let work = &report.instructions[0];
    assert_eq!((work.flops, work.bytes_read, work.bytes_written), (0, 16 * 8 + 12, 12 * 8));
    let report = only(softmax)?;
    assert_eq!(numbers(&report.instructions[0]), ("softmax", 5 * 16, 16, 16), "{report}");
    let report = only(assign)?;
    assert_eq!((report.kernels, report.bytes_read, report.state_bytes), (0, 0, 0), "{report}");
    assert_eq!(numbers(&report.effects[0]), ("assign", 0, 16, 16), "{report}");
    assert_eq!(report.effects[0].node, "w");
    Ok(())
}

#[test]
fn f3_nodes_are_counted_before_and_after() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [6]);
    let unused = x.cos();
    let y = (x.exp() * 1.0).reshape([2, 3]) + x.exp().reshape([2, 3]);
    let fed = Tensor::zeros([6])?;
    let report = Session::new(&tape)?.report(y, &[x.feed(&fed)])?;
    // x, exp, 1 and their product, both reshaped, the sum; and cos.
    assert_eq!((report.nodes_recorded, report.nodes_needed), (8, 7), "{report}");
    // exp and the sum.
    assert_eq!(report.nodes_computed, 2, "{report}");
    assert!(report.to_string().contains("\nnodes     8 recorded, 7 needed, 2 computed\n"));
    let _ = unused;
    Ok(())
}

/// A training step, and what it and its twin that was not traced ended with.
struct Traced {
    trace: Trace,
    losses: [Tensor<f32>; 2],
    weights: [Vec<f32>; 2],
}

/// The second step of a small network on two threads.
fn traced_training() -> Result<Traced> {
    let tape = Tape::<f32>::new();
    let (x, y) = (tape.placeholder("x", [ANY, 256]), tape.index_placeholder("y", [ANY]));
    let model = Mlp::new(&tape, &[256, 128, 10], Activation::Tanh, &mut Philox::new(1, 0))?;
    let loss = model.forward(x).softmax_cross_entropy(y).mean();
    let step = Adam::new(1e-3).minimize(loss)?;
    let inputs = Tensor::from_fn([128, 256], |at| ((at[0] * 7 + at[1] * 3) % 11) as f32 / 11.0)?;
    let labels = Tensor::from_fn([128], |at| (at[0] % 10) as Index)?;
    let feeds = [x.feed(&inputs), y.feed(&labels)];
    let mut session = Session::new(&tape)?.with_threads(2)?;
    session.run((loss, step), &feeds)?;
    let ((got, _), trace) = session.trace((loss, step), &feeds)?;

    let mut twin = Session::new(&tape)?.with_threads(2)?;
    twin.run((loss, step), &feeds)?;
    let (want, _) = twin.run((loss, step), &feeds)?;
    let weights = [session.parameters().to_vec(), twin.parameters().to_vec()];
    Ok(Traced { trace, losses: [got, want], weights })
}

#[test]
fn f4_a_traced_run_is_a_run() -> Result<()> {
    let Traced { losses: [got, want], weights: [weights, expected], .. } = traced_training()?;
    assert_eq!(got, want);
    assert!(weights == expected);
    Ok(())
}

#[test]
fn f4_each_instruction_and_part_is_one_event_inside_the_step() -> Result<()> {
    let Traced { trace, .. } = traced_training()?;
    let Trace { report, events, .. } = &trace;
    assert!(report.shared > 0 && report.instructions.iter().any(|work| work.parts == 1));
    let step = events[0];
    assert_eq!(step.stage, Stage::Step);
    let inside = |inner: &gradtape::TraceEvent, outer: &gradtape::TraceEvent| {
        inner.start_ns >= outer.start_ns && inner.start_ns + inner.ns <= outer.start_ns + outer.ns
    };
    assert!(events.iter().all(|event| inside(event, &step)));

    let instructions = report.instructions.iter().enumerate();
    let instructions = instructions.map(|(i, work)| (Stage::Instruction(i), work.parts));
    let effects = report.effects.iter().enumerate().map(|(i, w)| (Stage::Effect(i), w.parts));
    let mut n_events = 1;
    let mut end_of_last = 0;
    let once = [(Stage::Fetch, 1), (Stage::BeginUpdates, 1)];
    for (stage, parts) in instructions.chain(once).chain(effects) {
        let of_stage: Vec<_> = events.iter().filter(|event| event.stage == stage).collect();
        let (whole, of_parts) = of_stage.split_first().expect("an event of each stage");
        assert_eq!((whole.part, whole.thread), (None, 0), "{stage:?}");
        assert!(whole.start_ns >= end_of_last, "{stage:?} begins after what came before");
        end_of_last = whole.start_ns + whole.ns;
        let expected = if parts > 1 { parts } else { 0 };
        assert_eq!(of_parts.len(), expected, "{stage:?}");
        for (i, part) in of_parts.iter().enumerate() {
            // Which thread takes a part is the system's to say.
            assert!(part.part == Some(i) && part.thread < 2, "{stage:?}: {part:?}");
            assert!(inside(part, whole), "{stage:?}: {part:?} in {whole:?}");
        }
        n_events += of_stage.len();
    }
    assert_eq!(events.len(), n_events);
    Ok(())
}

/// The third step of a network on a batch of 43 rows in eight shards.
fn traced_shards(prepare: impl FnOnce(Session) -> Result<Session>) -> Result<(Trace, [Bits; 2])> {
    let tape = Tape::new();
    let x = tape.placeholder("x", [ANY, 20]);
    let model = Mlp::new(&tape, &[20, 300, 300, 5], Activation::Tanh, &mut Philox::new(1, 0))?;
    // Of two levels: the mean over the batch comes before the rest.
    let y = model.forward(x - x.mean_axes(&[0]));
    let step = Adam::new(1e-3).minimize(y.square().mean())?;
    let mut session = prepare(Session::new(&tape)?.with_shards(8)?)?;
    let rows = session.rows(43);
    let first = rows.start;
    let x_rows =
        Tensor::from_fn([rows.len(), 20], |at| ((at[0] + first) * 7 % 11 + at[1]) as f64 / 30.0)?;
    let feeds = [x.feed(&x_rows)];
    session.run(step, &feeds)?;
    session.run(step, &feeds)?;
    let (_, trace) = session.trace(step, &feeds)?;
    let traced = session.parameters().iter().map(|w| w.to_bits()).collect();
    // A trace leaves nothing behind.
    session.run(step, &feeds)?;
    let after = session.parameters().iter().map(|w| w.to_bits()).collect();
    Ok((trace, [traced, after]))
}

type Bits = Vec<u64>;

/// Every shard once a level, and in it, on its thread, the instructions of a shard of its rows.
fn check_shards(trace: &Trace, shards: std::ops::Range<usize>) {
    let Trace { report, events, threads } = trace;
    assert_eq!(events[0].stage, Stage::Step);
    assert!(events.windows(2).all(|e| e[0].start_ns <= e[1].start_ns));
    let end = |event: &TraceEvent| event.start_ns + event.ns;
    assert!(events.iter().all(|event| end(event) <= end(&events[0]) && event.thread < *threads));
    let all = |shard| events.iter().filter(move |e| e.shard == Some(shard));
    for shard in 0..8 {
        let whole: Vec<_> = all(shard).filter(|e| e.stage == Stage::Shard(shard)).collect();
        assert_eq!(whole.len(), if shards.contains(&shard) { 2 } else { 0 }, "shard {shard}");
        let of_shard: Vec<_> = all(shard).filter(|e| e.stage != Stage::Shard(shard)).collect();
        for event in &of_shard {
            let Stage::Instruction(i) = event.stage else { panic!("{event:?}") };
            let inside = |w: &&&TraceEvent| w.start_ns <= event.start_ns && end(event) <= end(w);
            let owner = whole.iter().find(inside).expect("an event of its shard");
            assert_eq!(owner.thread, event.thread);
            // 43 rows in eight shards are 6, 6, 6, 5, …, which the shapes show.
            let rows = format!("[{}", if shard < 3 { 6 } else { 5 });
            let other = format!("[{}", if shard < 3 { 5 } else { 6 });
            let shapes = [&report.instructions[i].inputs[..], &report.instructions[i].outputs];
            let shapes: Vec<_> = shapes.concat().iter().map(|s| s.to_string()).collect();
            let begins = |text: &str| {
                shapes
                    .iter()
                    .any(|s| *s == format!("{text}]") || s.starts_with(&format!("{text},")))
            };
            assert!(begins(&rows) || !begins(&other), "{event:?}: {shapes:?}");
        }
        let seen: BTreeSet<_> = of_shard.iter().map(|e| format!("{:?}", e.stage)).collect();
        assert_eq!(seen.len(), of_shard.len(), "no instruction twice");
        assert_eq!(seen.len() > 10, shards.contains(&shard));
    }
    let once = events.iter().filter(|e| e.shard.is_none());
    assert!(once.clone().any(|e| matches!(e.stage, Stage::Effect(0))));
    let json: Value = serde_json::from_str(&trace.to_json()).expect("JSON");
    assert!(json["traceEvents"].as_array().expect("a list").len() > events.len());
}

#[test]
fn f4_shards_are_traced_on_their_threads() -> Result<()> {
    let (one, want) = traced_shards(Ok)?;
    check_shards(&one, 0..8);
    assert_ne!(want[0], want[1]);
    let (two, got) = traced_shards(|session| session.with_threads(2))?;
    check_shards(&two, 0..8);
    assert_eq!(got, want);
    assert!(two.events.iter().any(|e| e.stage == Stage::Combine));
    Ok(())
}

#[test]
fn f4_each_rank_traces_what_it_does() -> Result<()> {
    let (_, want) = traced_shards(Ok)?;
    std::thread::scope(|threads| {
        let ranks = local(3).into_iter().enumerate().map(|(rank, group)| {
            let want = &want;
            threads.spawn(move || {
                let (trace, got) = traced_shards(|session| Ok(session.with_group(group)))?;
                check_shards(&trace, [0..3, 3..6, 6..8][rank].clone());
                assert_eq!(got, *want);
                assert!(trace.events.iter().any(|e| e.stage == Stage::Exchange));
                Ok(())
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().try_for_each(|rank| rank.join().unwrap())
    })
}

#[test]
fn f4_the_file_holds_each_event_with_what_it_worked_on() -> Result<()> {
    let Traced { trace, .. } = traced_training()?;
    let path = std::env::temp_dir().join(format!("gradtape-trace-{}.json", std::process::id()));
    trace.write(&path)?;
    let text = std::fs::read_to_string(&path).expect("the trace");
    std::fs::remove_file(&path).expect("to be removed");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let of_phase = |phase: &str| -> Vec<&Value> {
        let events = json["traceEvents"].as_array().expect("a list");
        events.iter().filter(|event| event["ph"] == phase).collect()
    };
    let threads: Vec<_> = of_phase("M").iter().map(|m| m["args"]["name"].clone()).collect();
    assert_eq!(threads, ["gradtape", "thread 0", "thread 1"]);

    let written = of_phase("X");
    assert_eq!(written.len(), trace.events.len());
    for (event, json) in trace.events.iter().zip(written) {
        let nanoseconds = |key: &str| (json[key].as_f64().expect(key) * 1e3).round() as u64;
        assert_eq!((nanoseconds("ts"), nanoseconds("dur")), (event.start_ns, event.ns));
        assert_eq!(json["tid"], event.thread);
        let (Stage::Instruction(i) | Stage::Effect(i)) = event.stage else { continue };
        let (works, sort) = match event.stage {
            Stage::Effect(_) => (&trace.report.effects, "effect"),
            _ => (&trace.report.instructions, "instruction"),
        };
        let (args, work) = (&json["args"], &works[i]);
        assert_eq!(
            (&json["name"], &args["node"]),
            (&work.name.as_str().into(), &work.node.as_str().into())
        );
        assert_eq!(args["number"], i);
        if let Some(part) = event.part {
            assert_eq!((&json["cat"], &args["part"]), (&"part".into(), &part.into()));
            continue;
        }
        assert_eq!((&json["cat"], &args["FLOPs"]), (&sort.into(), &work.flops.into()));
        assert_eq!(args["bytes read"], work.bytes_read);
        assert_eq!(args["bytes written"], work.bytes_written);
        assert_eq!(args["source"], work.at.to_string());
        let rate = args["GFLOP/s"].as_f64().expect("a number");
        assert!(
            (rate * event.ns as f64 / work.flops.max(1) as f64 - 1.0).abs() < 0.1 || rate < 0.1
        );
    }
    Ok(())
}

/// x, under a name that a careless writer would spoil a file with.
#[derive(Debug)]
struct Hostile;

const HOSTILE: &str = "a\"b\\c\n\t\r\u{8}\u{0}\u{1f}\u{7f}</script>{}[]é∂\u{2028}\u{1f600}";

impl<T: Scalar> Primitive<T> for Hostile {
    fn name(&self) -> &str {
        HOSTILE
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }
    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, _: &mut [T]) -> Result<()> {
        y.float().copy_from_slice(x[0].float());
        Ok(())
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
}

#[test]
fn f4_names_that_hold_anything_come_back_from_the_file() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 1.0);
    let y = tape.custom(Hostile, &[x]);
    let (value, trace) = Session::new(&tape)?.trace(y, &[])?;
    assert_eq!(value, 1.0.into());
    let json: Value = serde_json::from_str(&trace.to_json()).expect("JSON");
    let events = json["traceEvents"].as_array().expect("a list");
    let event = events.iter().find(|event| event["cat"] == "instruction").expect("the op");
    assert_eq!(event["name"], HOSTILE);
    assert_eq!(event["args"]["node"], trace.report.instructions[0].node);
    assert!(trace.report.instructions[0].node.starts_with(HOSTILE));
    Ok(())
}

#[test]
fn f4_a_trace_that_fails_says_so_and_changes_nothing() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (x, i) = (tape.placeholder("x", [2]), tape.index_placeholder("i", [1]));
    let w = tape.variable("w", Tensor::zeros([1])?);
    let assign = tape.assign(w, x.take(0, i));
    let mut session = Session::new(&tape)?;
    let (fed, wrong) = (Tensor::full([2], 1.0)?, Tensor::vector(vec![7]));
    let feeds = [x.feed(&fed), i.feed(&wrong)];
    let error = session.trace(assign, &feeds).unwrap_err();
    assert_eq!(error.to_string(), session.run(assign, &feeds).unwrap_err().to_string());
    assert_eq!(session.value(w)?.as_slice(), [0.0]);
    let (_, trace) = session.trace(w, &[])?;
    let error = trace.write("/nowhere/step.json").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with("/nowhere/step.json: "), "{error}");
    Ok(())
}
