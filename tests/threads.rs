//! Threads share large instructions, and no bit shows it: values, gradients and trained weights
//! are those of one thread and of the interpreter.

mod support;

use gradtape::nn::{Activation, Init, Mlp};
use gradtape::optim::{Adam, Clip};
use gradtape::{
    ANY, Arg, Attention, Cell, Conv, Cotangents, Expr, Index, Out, Passes, Philox, Pool, Primitive,
    Result, RowRule, Scalar, Session, Shape, Steps, Tape, Tensor, Units, Vjp,
};
use std::ops::Range;
use support::counted;

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

fn normal<T: Scalar>(shape: impl Into<gradtape::Shape>, seed: u64) -> Result<Tensor<T>> {
    Init::Normal { std: 1.0 }.tensor(shape, &mut Philox::new(seed, 0))
}

/// The values of what `record` records of two inputs, and gradients of their sums, with any number
/// of threads and from the interpreter. Returns how many instructions threads share.
fn check<T: Scalar>(
    inputs: [Tensor<T>; 2],
    record: impl for<'t> Fn([Expr<'t, T>; 2]) -> Vec<Expr<'t, T>>,
) -> Result<usize> {
    let tape = Tape::<T>::new();
    let (x, y) =
        (tape.placeholder("x", inputs[0].shape()), tape.placeholder("y", inputs[1].shape()));
    let values = record([x, y]);
    let mut fetches = values.clone();
    for v in values {
        fetches.extend(tape.gradient((v.tanh() * v).sum(), &[x, y])?);
    }
    let feeds = [x.feed(&inputs[0]), y.feed(&inputs[1])];
    let want = Session::new(&tape)?.interpret(fetches.as_slice(), &feeds)?;
    let mut shared = 0;
    for threads in [1, 2, 3, 5] {
        let mut session = Session::new(&tape)?.with_threads(threads)?;
        for round in 0..2 {
            let got = session.run(fetches.as_slice(), &feeds)?;
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let same = got.as_slice().iter().zip(want.as_slice()).all(|(a, b)| a == b);
                assert!(same && !want.is_empty(), "fetch {i}, {threads} threads, run {round}");
            }
        }
        shared = session.report(fetches.as_slice(), &feeds)?.shared;
        assert_eq!(threads == 1, shared == 0, "{threads} threads share {shared} instructions");
    }
    Ok(shared)
}

#[test]
fn products_of_every_layout() -> Result<()> {
    // Tiles, transposed tiles, narrow ones, a column, dot products, batches.
    for [m, k, n] in [[130, 260, 131], [700, 300, 10], [6000, 400, 1], [3, 70_000, 10]] {
        check::<f32>([normal([m, k], 1)?, normal([k, n], 2)?], |[a, b]| vec![a.matmul(b)])?;
        check::<f64>([normal([m, k], 3)?, normal([n, k], 4)?], |[a, b]| vec![a.matmul(b.t())])?;
    }
    check::<f64>([normal([17, 90, 40], 5)?, normal([17, 40, 50], 6)?], |[a, b]| vec![a.matmul(b)])?;
    check::<f32>([normal([40, 90, 60], 7)?, normal([60, 50], 8)?], |[a, b]| vec![a.matmul(b)])?;
    Ok(())
}

#[test]
fn convolutions_and_poolings() -> Result<()> {
    let (x, w) = (normal([64, 24, 20, 6], 1)?, normal([3, 3, 3, 8], 2)?);
    let shared = check::<f32>([x, w], |[x, w]| {
        let y = x.conv2d(w, Conv::same().with_stride([2, 1]).with_groups(2));
        let overlapping = Pool::new([3, 2]).with_stride([1, 2]);
        vec![y.max_pool2d(overlapping), y.avg_pool2d(overlapping)]
    })?;
    assert!(shared > 6, "{shared}");
    Ok(())
}

/// x², whose units are so many rows: a user's op with strided units.
#[derive(Debug)]
struct SquareRows(usize);

impl Primitive<f64> for SquareRows {
    fn name(&self) -> &str {
        "square_rows"
    }
    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        Ok(x[0])
    }
    fn forward(&self, x: &[Arg<'_, f64>], y: Out<'_, f64>, scratch: &mut [f64]) -> Result<()> {
        let units = self.units(&[x[0].shape()]).count();
        self.forward_units(x, y, scratch, 0..units)
    }
    fn units(&self, x: &[Shape]) -> Units {
        Units::Strided { period: x[0].extents()[0], unit: self.0 }
    }
    fn forward_units(
        &self,
        x: &[Arg<'_, f64>],
        y: Out<'_, f64>,
        _: &mut [f64],
        units: Range<usize>,
    ) -> Result<()> {
        let batch = y.shape().extents()[0];
        let mut y = y.runs(batch);
        let rows = y.range();
        assert_eq!(rows, units.start * self.0..batch.min(units.end * self.0));
        for (column, x) in x[0].float().chunks(batch.max(1)).enumerate() {
            y.run(column).iter_mut().zip(&x[rows.clone()]).for_each(|(y, x)| *y = x * x);
        }
        Ok(())
    }
    fn vjp<'t>(&self, at: Vjp<'_, 't, f64>) -> Result<Cotangents<'t, f64>> {
        Ok(vec![Some(at.ct * at.x[0] * 2.0)])
    }
    fn rows(&self, _: &[Shape], _: &[bool]) -> RowRule {
        RowRule::Split
    }
}

#[test]
fn rows_of_a_users_op() -> Result<()> {
    for (batch, unit) in [(50, 16), (50, 60), (33, 1), (33, 16)] {
        let inputs = [normal([batch, 4000], 1)?, normal([batch, 4000], 2)?];
        check::<f64>(inputs, |[x, y]| vec![x.tape().custom(SquareRows(unit), &[x * y])])?;
    }
    gradtape::check::op(SquareRows(2), &[vec![normal([5, 3], 3)?], vec![normal([1], 4)?]])?;
    Ok(())
}

/// A cell over sequences of all kinds: their number, reversed, from states, of lengths.
fn recurrences<T: Scalar>(cell: Cell) -> Result<()> {
    const HIDDEN: usize = 40;
    // So long that 33 sequences are worth several threads.
    let (width, time) = (cell.gates() * HIDDEN, 28 / cell.gates());
    let kinds = [(1, 0), (15, 1), (16, 2), (33, 4), (33, 3), (17, 7)];
    check::<T>([normal([33, time, width], 1)?, normal([HIDDEN, width], 2)?], |[x, wh]| {
        let (tape, wh) = (x.tape(), wh / 5);
        let mut values = vec![];
        for (batch, kind) in kinds {
            let pre = x.slice_axis(0, ..batch as isize);
            let mut steps = Steps::new();
            if kind & 1 != 0 {
                steps = steps.reversed();
            }
            if kind & 2 != 0 {
                let first = pre.index_axis(1, 3).slice_axis(1, ..HIDDEN as isize);
                steps = steps.with_initial(&vec![first; cell.states()]);
            }
            if kind & 4 != 0 {
                let lengths = (0..batch).map(|i| (i * 7 % (time + 1)) as Index).collect();
                steps = steps.with_lengths(tape.index_constant(Tensor::vector(lengths)));
            }
            if cell == Cell::Gru {
                steps = steps.with_hidden_bias(wh.index_axis(1, 5));
            }
            let (y, last) = pre.recurrent_states(cell, wh, &steps);
            values.push(y);
            values.extend(last);
        }
        values
    })?;
    Ok(())
}

#[test]
fn recurrent_cells() -> Result<()> {
    for cell in [Cell::Lstm, Cell::Gru, Cell::Tanh] {
        recurrences::<f32>(cell)?;
        recurrences::<f64>(cell)?;
    }
    Ok(())
}

#[test]
fn a_recurrence_is_shared_by_its_rows() -> Result<()> {
    // Of many rows the states that are read of it, too.
    for (batch, shared) in [(15, 0), (16, 0), (17, 1), (100, 2)] {
        let tape = Tape::<f32>::new();
        let pre = tape.variable("pre", normal([batch, 8, 4 * 64], 1)?);
        let wh = tape.variable("wh", normal([64, 4 * 64], 2)?);
        let y = pre.recurrent(Cell::Lstm, wh, &Steps::new());
        let mut session = Session::new(&tape)?.with_threads(2)?;
        assert_eq!(session.report(y, &[])?.shared, shared, "{batch} rows");
    }
    Ok(())
}

#[test]
fn slabs_by_index() -> Result<()> {
    let inputs = || Ok([normal([64, 600], 1)?, normal([64, 600], 2)?]);
    let indices = Tensor::from_fn([40, 30], |at| (at[0] * 7 + at[1] * 5) as Index % 64)?;
    check::<f32>(inputs()?, |[x, y]| {
        vec![(x * y).take(0, x.tape().index_constant(indices.clone()))]
    })?;
    let inputs = [normal([5, 20, 600], 3)?, normal([5, 20, 600], 4)?];
    let indices = Tensor::from_fn([50], |at| (at[0] * at[0]) as Index % 20)?;
    check::<f64>(inputs, |[x, y]| vec![(x * y).take(1, x.tape().index_constant(indices.clone()))])?;
    Ok(())
}

#[test]
fn heads_of_attention_and_of_its_slope() -> Result<()> {
    // Two values and two slopes.
    let shared = check::<f32>([normal([17, 40, 96], 1)?, normal([17, 40, 32], 2)?], |[x, y]| {
        let form = Attention::new(4);
        let own = y.attention(y * 0.5, y.square(), None, form);
        vec![x.self_attention(None, form.causal()) + own]
    })?;
    assert!(shared >= 4, "{shared}");
    // The slope is not shared where q, k and v differ.
    check::<f64>([normal([16, 66, 24], 1)?, normal([16, 100, 16], 2)?], |[x, y]| {
        let (q, k) = (x.slice_axis(-1, 0..8), y.slice_axis(-1, 0..8));
        vec![q.attention(k, y, None, Attention::new(4))]
    })?;
    Ok(())
}

#[test]
fn normalizations() -> Result<()> {
    // Rows that are neighbors are shared; a row of neighbors is not cut.
    for shape in [[300, 70, 40], [16, 1000, 60], [1, 400, 500]] {
        check::<f32>([normal(shape, 1)?, normal(shape, 2)?], |[x, y]| {
            vec![(x * y).standardize(&[-1], 1e-5), (x + y).rms_normalize(&[1], 1e-5)]
        })?;
    }
    Ok(())
}

#[test]
fn loops_with_broadcasts_and_sums() -> Result<()> {
    let shared = check::<f64>([normal([3000, 60], 1)?, normal([60], 2)?], |[x, bias]| {
        let y = (x + bias).tanh() * (x * 0.5).sigmoid();
        let (mean, total) = (y.mean(), (y * y).sum());
        vec![y, y * mean, x.sum_axes(&[0]) * total, (x - mean).square().sum_axes(&[1])]
    })?;
    assert!(shared > 4);
    Ok(())
}

/// Trains some steps; the weights, and what the last step allocated.
fn train(threads: usize) -> Result<(Vec<f32>, usize)> {
    let mut rng = Philox::new(1, 0);
    let x = normal::<f32>([256, 300], 2)?;
    let y = Tensor::from_fn([256], |at| (at[0] % 10) as Index)?;
    let tape = Tape::<f32>::new();
    let (inputs, targets) = (tape.placeholder("x", [ANY, 300]), tape.index_placeholder("y", [ANY]));
    let model = Mlp::new(&tape, &[300, 200, 10], Activation::Tanh, &mut rng)?;
    let loss = model.forward(inputs).softmax_cross_entropy(targets).mean();
    let step = Adam::new(1e-3).with_clip(Clip::Norm(0.5)).minimize(loss)?;
    let mut session = Session::new(&tape)?.with_threads(threads)?;
    let (feeds, mut out) = ([inputs.feed(&x), targets.feed(&y)], Default::default());
    session.run_into((loss, step), &feeds, &mut out)?;
    let mut allocations = 0;
    for _ in 0..5 {
        let (result, _, n) = counted(|| session.run_into((loss, step), &feeds, &mut out));
        result?;
        allocations += n;
    }
    Ok((session.parameters().to_vec(), allocations))
}

#[test]
fn a_training_gives_the_same_weights_and_allocates_nothing() -> Result<()> {
    let (want, allocations) = train(1)?;
    assert_eq!(allocations, 0);
    for threads in [2, 3, 4] {
        let (got, allocations) = train(threads)?;
        assert!(got == want, "{threads} threads");
        assert_eq!(allocations, 0, "{threads} threads");
    }
    Ok(())
}

/// A regression of this many rows and columns: loss, residuals, gradients.
fn regression(
    rows: usize,
    columns: usize,
    passes: Passes,
    threads: usize,
) -> Result<(Vec<Tensor>, String)> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, columns]);
    let y = tape.placeholder("y", [ANY]);
    let w = tape.variable("w", Tensor::from_fn([columns], |at| (at[0] as f64).sin())?);
    let residual = x.matmul(w) - y;
    let loss = (residual.square() + residual.abs()).mean();
    let g = tape.gradient(loss, &[w])?[0];
    let xs = Tensor::from_fn([rows, columns], |at| ((at[0] * 7 + at[1] * 13) as f64).cos())?;
    let ys = Tensor::from_fn([rows], |at| (at[0] as f64).sin())?;
    let feeds = [x.feed(&xs), y.feed(&ys)];
    let fetches = [loss, residual, g];
    if passes == Passes::NONE {
        return Ok((Session::new(&tape)?.interpret(fetches, &feeds)?, String::new()));
    }
    let mut session = Session::new(&tape)?.with_passes(passes).with_threads(threads)?;
    let report = session.report(fetches, &feeds)?.to_string();
    session.run(fetches, &feeds)?;
    Ok((session.run(fetches, &feeds)?, report))
}

#[test]
fn a_regression_reads_its_data_once() -> Result<()> {
    for (rows, columns) in [(4097, 80), (5000, 64), (12_288, 30), (300_000, 1)] {
        let (want, _) = regression(rows, columns, Passes::NONE, 1)?;
        for threads in [1, 2, 3] {
            let (got, report) = regression(rows, columns, Passes::ALL, threads)?;
            assert_eq!(got, want, "{rows} rows of {columns}, {threads} threads");
            assert!(report.contains("rows of matmul, loop of"), "{report}");
        }
        let (got, report) = regression(rows, columns, Passes { stream: false, ..Passes::ALL }, 1)?;
        assert_eq!(got, want, "{rows} rows of {columns}, not streamed");
        assert!(!report.contains("rows of"), "{report}");
    }
    // A small matrix stays in the cache.
    assert!(!regression(100, 100, Passes::ALL, 1)?.1.contains("rows of"));
    Ok(())
}
