//! What a step does, in numbers before it runs.

use gradtape::optim::Adam;
use gradtape::{ANY, Index, Result, Session, Tape, Tensor, Work};

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
    let loops = || report.instructions.iter().filter(|work| work.name.starts_with("loop"));
    assert_eq!((loops().count(), report.kernels), (report.loops, 3 + report.loops), "{report}");
    let in_loops = 10 * report.elementwise_ops;
    assert_eq!(loops().map(|work| work.flops).sum::<usize>(), in_loops, "{report}");
    assert_eq!(report.flops, 60 + 60 + 10 + in_loops, "{report}");
    let (read, written) = works.iter().fold((0, 0), |sum, w| (sum.0 + w.2 * 8, sum.1 + w.3 * 8));
    assert_eq!((report.bytes_read, report.bytes_written), (read, written), "{report}");
    let [adam] = &report.effects[..] else { panic!("{report}") };
    // w, g, m, v in; w, m, v out; for each of 8 parameters.
    assert_eq!(numbers(adam), ("adam", 0, 4 * 8, 3 * 8));
    assert_eq!((report.variable_bytes, report.state_bytes), (8 * 8, 2 * 8 * 8));
    assert_eq!(report.peak_bytes(), report.arena_bytes + 8 * 8 + 2 * 8 * 8);
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
