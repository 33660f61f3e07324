//! Row C8: recurrent ops against their steps written out on a tape: values and all gradients, for
//! batches around those that a kernel takes at a time.

use gradtape::nn::{Embedding, Init, Rnn, RnnConfig};
use gradtape::optim::Adam;
use gradtape::{
    ANY, Cell, ErrorKind, Expr, Feed, Index, IndexExpr, Passes, Philox, Result, Session, Steps,
    Tape, Tensor,
};

type E<'t> = Expr<'t, f64>;

const CELLS: [Cell; 4] = [Cell::Lstm, Cell::Gru, Cell::Tanh, Cell::Relu];

fn draw(shape: &[usize], rng: &mut Philox) -> Tensor {
    let shape = gradtape::Shape::new(shape).unwrap();
    Tensor::from_fn(shape, |_| rng.below(2001) as f64 / 1000.0 - 1.0).unwrap()
}

/// A step as the equations say: from pre-activations and states to new states.
fn step<'t>(cell: Cell, a: E<'t>, wh: E<'t>, bias: Option<E<'t>>, states: &[E<'t>]) -> Vec<E<'t>> {
    let (h, n) = (states[0], wh.shape().extents()[0] as isize);
    let product = h.matmul(wh);
    let part = |x: E<'t>, i: isize| x.slice_axis(1, i * n..(i + 1) * n);
    let gate = |i: isize| part(a, i) + part(product, i);
    match cell {
        Cell::Lstm => {
            let c = gate(1).sigmoid() * states[1] + gate(0).sigmoid() * gate(2).tanh();
            vec![gate(3).sigmoid() * c.tanh(), c]
        }
        Cell::Gru => {
            let inner = part(product, 2);
            let inner = bias.map_or(inner, |bias| inner + bias);
            let (r, z) = (gate(0).sigmoid(), gate(1).sigmoid());
            let new = (part(a, 2) + r * inner).tanh();
            vec![(1.0 - z) * new + z * h]
        }
        Cell::Tanh => vec![gate(0).tanh()],
        Cell::Relu => vec![gate(0).relu()],
    }
}

/// Outputs and last states, step by step.
fn by_steps<'t>(
    cell: Cell,
    x: E<'t>,
    wh: E<'t>,
    bias: Option<E<'t>>,
    states: &[E<'t>],
    lengths: Option<IndexExpr<'t>>,
    reversed: bool,
) -> (E<'t>, Vec<E<'t>>) {
    let time = x.shape().extents()[1];
    let mut states = states.to_vec();
    let mut outputs = vec![None; time];
    let mut order: Vec<usize> = (0..time).collect();
    if reversed {
        order.reverse();
    }
    for at in order {
        let new = step(cell, x.index_axis(1, at as isize), wh, bias, &states);
        let runs = lengths.map(|n| n.to_float().greater(at as f64).expand_dims(&[1]));
        outputs[at] = Some(runs.map_or(new[0], |runs| runs.select(new[0], 0.0)));
        for (state, new) in states.iter_mut().zip(new) {
            *state = runs.map_or(new, |runs| runs.select(new, *state));
        }
    }
    let outputs: Vec<_> = outputs.into_iter().flatten().collect();
    (x.tape().stack(&outputs, 1), states)
}

/// The largest difference of two lists of values, relative to the largest element of each.
fn difference(got: &[Tensor], want: &[Tensor]) -> f64 {
    assert_eq!(got.len(), want.len());
    let mut worst = 0.0;
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.shape(), want.shape());
        let size = want.as_slice().iter().fold(1e-300, |m: f64, x| m.max(x.abs()));
        for (a, b) in got.as_slice().iter().zip(want.as_slice()) {
            let error = (a - b).abs() / size;
            assert!(!error.is_nan());
            worst = f64::max(worst, error);
        }
    }
    worst
}

struct Example {
    cell: Cell,
    batch: usize,
    time: usize,
    hidden: usize,
    reversed: bool,
    lengths: bool,
    initial: bool,
    bias: bool,
}

impl Example {
    /// Value and gradients of both ways, all inputs' in one run.
    fn check(&self, seed: u64) -> Result<()> {
        let Example { cell, batch, time, hidden, .. } = *self;
        let mut rng = Philox::new(seed, 0);
        let width = cell.gates() * hidden;
        let mut shapes = vec![vec![batch, time, width], vec![hidden, width]];
        shapes.extend((0..cell.states()).map(|_| vec![batch, hidden]));
        shapes.push(vec![hidden]);
        let mut values: Vec<Tensor> = shapes.iter().map(|s| draw(s, &mut rng)).collect();
        if !self.initial {
            values[2..2 + cell.states()].iter_mut().for_each(|x| x.as_mut_slice().fill(0.0));
        }
        let lengths = (0..batch).map(|i| if i == 1 { 0 } else { rng.below(time as u64 + 1) });
        let lengths = Tensor::vector(lengths.map(|n| n as Index).collect());

        let tape = Tape::<f64>::new();
        let x: Vec<E> = values.iter().map(|v| tape.placeholder("x", v.shape())).collect();
        let n = tape.index_placeholder("lengths", [batch]);
        let (states, bias) = (&x[2..2 + cell.states()], x[x.len() - 1]);
        let mut steps = Steps::new();
        steps = if self.reversed { steps.reversed() } else { steps };
        steps = if self.initial { steps.with_initial(states) } else { steps };
        steps = if self.lengths { steps.with_lengths(n) } else { steps };
        steps = if self.bias { steps.with_hidden_bias(bias) } else { steps };
        let fused = x[0].recurrent_states(cell, x[1], &steps);
        let alone = x[0].recurrent(cell, x[1], &steps);
        let (bias, n_opt) = (self.bias.then_some(bias), self.lengths.then_some(n));
        let plain = by_steps(cell, x[0], x[1], bias, states, n_opt, self.reversed);

        let mut targets = vec![x[0], x[1]];
        targets.extend(if self.initial { states } else { &[] });
        targets.extend(bias);
        let ways = [fused, plain].map(|(y, last)| {
            // Weights that differ everywhere, so that no cotangent is 1.
            let mut loss = (y * (y + x[0].slice((.., .., ..hidden)) * 0.3)).sum();
            for h in &last {
                loss = loss + (*h * h.sin()).sum();
            }
            [vec![y], last, tape.gradient(loss, &targets).unwrap()].concat()
        });
        let mut session = Session::new(&tape)?;
        let mut feeds: Vec<Feed<f64>> = x.iter().zip(&values).map(|(x, v)| x.feed(v)).collect();
        feeds.push(n.feed(&lengths));
        let got = session.run(&ways[0], &feeds)?;
        let want = session.run(&ways[1], &feeds)?;
        let error = difference(&got, &want);
        let what = format!("{cell:?} {batch} {time} {hidden} seed {seed}");
        assert!(error < 1e-12, "{what}: {error:.1e}");
        assert_eq!(session.run(alone, &feeds)?, got[0], "{what}");
        assert_eq!(session.interpret(&ways[0], &feeds)?, got, "{what}");
        let mut plain = Session::new(&tape)?.with_passes(Passes::NONE);
        assert_eq!(plain.run(&ways[0], &feeds)?, got, "{what}");
        Ok(())
    }
}

#[test]
fn c8_values_and_gradients_are_those_of_the_steps() -> Result<()> {
    let extents = [(1, 1, 1), (1, 4, 9), (2, 3, 5), (17, 3, 33), (70, 2, 20), (130, 2, 3)];
    let mut seed = 0;
    for cell in CELLS {
        for (batch, time, hidden) in extents {
            let bits = seed as usize;
            seed += 1;
            let [reversed, initial, lengths] = [1, 2, 4].map(|bit| bits & bit != 0);
            let bias = cell == Cell::Gru && bits & 8 != 0;
            Example { cell, batch, time, hidden, reversed, lengths, initial, bias }.check(seed)?;
        }
    }
    Ok(())
}

#[test]
fn c8_every_combination_of_options() -> Result<()> {
    for (number, cell) in CELLS.into_iter().enumerate() {
        for bits in 0..16_u64 {
            let [reversed, initial, lengths, bias] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let bias = bias && cell == Cell::Gru;
            let (batch, time, hidden) = (3, 4, 2);
            let example = Example { cell, batch, time, hidden, reversed, lengths, initial, bias };
            example.check(100 + 16 * number as u64 + bits)?;
        }
    }
    Ok(())
}

/// Time may be unknown while recording; then the adjoint ops ask for it when they run.
#[test]
fn c8_time_is_known_when_run() -> Result<()> {
    let mut rng = Philox::new(5, 0);
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, ANY, 6]);
    let wh = tape.variable("wh", draw(&[2, 6], &mut rng));
    let (y, last) = x.recurrent_states(Cell::Gru, wh, &Steps::new());
    let loss = y.square().sum() + last[0].sum();
    let gradient = tape.gradient(loss, &[wh])?[0];
    let mut session = Session::new(&tape)?;
    for time in [3, 1, 0] {
        let value = draw(&[2, time, 6], &mut rng);
        let (y, gradient) = session.run((y, gradient), &[x.feed(&value)])?;
        assert_eq!(y.shape(), [2, time, 2].into());
        // With one step from zeros, Wh meets nothing but zeros.
        assert_eq!(gradient.as_slice().iter().any(|g| *g != 0.0), time > 1);
    }
    Ok(())
}

/// What stands beyond the end of a sequence does not reach anything.
#[test]
fn c8_padding_does_not_matter() -> Result<()> {
    for cell in CELLS {
        for reversed in [false, true] {
            let mut rng = Philox::new(9, 0);
            let width = cell.gates() * 3;
            let clean = draw(&[2, 4, width], &mut rng);
            let mut padded = clean.clone();
            for (i, x) in padded.as_mut_slice().iter_mut().enumerate() {
                // The second sequence has two steps.
                if i % 2 == 1 && i / 2 % 4 >= 2 {
                    *x = f64::NAN;
                }
            }
            let tape = Tape::<f64>::new();
            let x = tape.placeholder("x", [2, 4, width]);
            let wh = tape.variable("wh", draw(&[3, width], &mut rng));
            let lengths = tape.index_constant(Tensor::vector(vec![4, 2]));
            let steps = Steps::new().with_lengths(lengths);
            let steps = if reversed { steps.reversed() } else { steps };
            let (y, last) = x.recurrent_states(cell, wh, &steps);
            let loss = y.square().sum() + last[0].sum();
            let all = [vec![y, last[0]], tape.gradient(loss, &[x, wh])?].concat();
            let mut session = Session::new(&tape)?;
            let want = session.run(&all, &[x.feed(&clean)])?;
            assert_eq!(session.run(&all, &[x.feed(&padded)])?, want, "{cell:?}");
            assert!(want.iter().all(|x| x.as_slice().iter().all(|x| x.is_finite())));
        }
    }
    Ok(())
}

fn sum_of<'t>(y: E<'t>, last: &[E<'t>]) -> E<'t> {
    last.iter().map(|h| h.sin().sum()).fold(y.square().sum(), |a, b| a + b)
}

/// Layers in both directions are those of their steps, one above the other.
#[test]
fn c8_layers_in_both_directions() -> Result<()> {
    for cell in CELLS {
        let mut rng = Philox::new(3, 0);
        let tape = Tape::<f64>::new();
        let x = tape.placeholder("x", [3, 4, 5]);
        let lengths = tape.index_constant(Tensor::vector(vec![4, 0, 3]));
        let config = RnnConfig { cell, inputs: 5, hidden: 3, n_layers: 2, bidirectional: true };
        let rnn = Rnn::new(&tape, "rnn", config, &mut rng)?;
        let n_states = 4 * cell.states();
        let initial: Vec<E> =
            (0..n_states).map(|_| tape.constant(draw(&[3, 3], &mut rng))).collect();
        let (y, last) = rnn.run(x, &initial, Some(lengths))?;

        let (mut want, mut want_last) = (x, vec![]);
        let mut states = initial.chunks(cell.states());
        for layer in rnn.weights.chunks(2) {
            let mut sides = vec![];
            for (reversed, w) in [false, true].into_iter().zip(layer) {
                let (wx, wh, b) = (tape.expr(w.wx), tape.expr(w.wh), tape.expr(w.b));
                let (pre, bn) = (want.matmul(wx) + b, w.bn.map(|bn| tape.expr(bn)));
                let states = states.next().unwrap();
                let (y, last) = by_steps(cell, pre, wh, bn, states, Some(lengths), reversed);
                sides.push(y);
                want_last.extend(last);
            }
            want = tape.concat(&sides, -1);
        }
        let parameters = rnn.parameters();
        assert_eq!(parameters.len(), if cell == Cell::Gru { 16 } else { 12 });
        let got = tape.gradient(sum_of(y, &last), &parameters)?;
        let expected = tape.gradient(sum_of(want, &want_last), &parameters)?;
        let got = [vec![y], last, got].concat();
        let expected = [vec![want], want_last, expected].concat();
        let feed = draw(&[3, 4, 5], &mut rng);
        let mut session = Session::new(&tape)?;
        let got = session.run(&got, &[x.feed(&feed)])?;
        let expected = session.run(&expected, &[x.feed(&feed)])?;
        assert!(difference(&got, &expected) < 1e-12, "{cell:?}");

        let e = rnn.run(x, &initial[1..], None).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Argument);
        let want = format!("rnn: expected {n_states} first states, got {}", n_states - 1);
        assert_eq!(e.message(), want);
    }
    let none =
        RnnConfig { cell: Cell::Gru, inputs: 1, hidden: 1, n_layers: 0, bidirectional: true };
    let e = Rnn::new(&Tape::<f32>::new(), "rnn", none, &mut Philox::new(0, 0)).unwrap_err();
    assert_eq!(e.message(), "rnn: expected one layer or more, got 0");
    Ok(())
}

/// The three ways through a network agree, and it starts as it says.
#[test]
fn c8_embedded_sequences() -> Result<()> {
    let mut rng = Philox::new(4, 0);
    let tape = Tape::<f64>::new();
    let tokens = tape.index_placeholder("tokens", [ANY, ANY]);
    let embedding = Embedding::new(&tape, "tokens", [6, 4], Init::Normal { std: 1.0 }, &mut rng)?;
    let config =
        RnnConfig { cell: Cell::Lstm, inputs: 4, hidden: 5, n_layers: 2, bidirectional: true };
    let rnn = Rnn::new(&tape, "rnn", config, &mut rng)?;
    let x = embedding.forward(tokens);
    let (short, long) = (rnn.forward_embedded(&embedding, tokens), rnn.forward(x));
    let all = rnn.run(x, &[], None)?.0;
    let of = |y: E<'_>| tape.gradient(y.square().mean(), &[embedding.table]).map(|g| g[0]);
    let fetches = [short, long, all, of(short)?, of(long)?, of(all)?];
    let feed = Tensor::from_fn([3, 7], |_| rng.below(6) as Index)?;
    let mut session = Session::new(&tape)?;
    let values = session.run(&fetches[..], &[tokens.feed(&feed)])?;
    for k in [1, 2] {
        assert!(difference(&values[k..=k], &values[..1]) < 1e-13);
        assert!(difference(&values[3 + k..4 + k], &values[3..4]) < 1e-13);
    }

    let b = session.value(rnn.weights[3].b)?;
    assert!(b.as_slice().iter().enumerate().all(|(i, b)| *b == f64::from(i / 5 == 1)));
    let wh = session.value(rnn.weights[0].wh)?;
    let gate = nalgebra::DMatrix::from_column_slice(5, 5, &wh.as_slice()[25..50]);
    assert!((gate.transpose() * gate - nalgebra::DMatrix::identity(5, 5)).amax() < 1e-13);
    let e = Embedding::with_table(&tape, "words", Tensor::<f64>::zeros([3])?).unwrap_err();
    assert_eq!(e.message(), "words: expected a table [n, features], got [3]");
    Ok(())
}

/// A network that must keep the first token over nine steps learns to.
#[test]
fn c8_a_gru_remembers() -> Result<()> {
    let mut rng = Philox::new(8, 0);
    let tape = Tape::<f32>::new();
    let tokens = tape.index_placeholder("tokens", [64, 9]);
    let embedding = Embedding::new(&tape, "tokens", [4, 4], Init::Normal { std: 1.0 }, &mut rng)?;
    let config =
        RnnConfig { cell: Cell::Gru, inputs: 4, hidden: 16, n_layers: 1, bidirectional: false };
    let rnn = Rnn::new(&tape, "gru", config, &mut rng)?;
    let wo = tape.variable("wo", Init::GlorotUniform.tensor([16, 4], &mut rng)?);
    let last = rnn.forward_embedded(&embedding, tokens).index_axis(1, -1);
    let loss = last.matmul(wo).softmax_cross_entropy(tokens.index_axis(1, 0)).mean();
    let train = Adam::new(0.02).minimize(loss)?;
    let mut session = Session::new(&tape)?;
    let (mut first, mut late) = (0.0, 0.0);
    for step in 0..120 {
        let feed = Tensor::from_fn([64, 9], |_| rng.below(4) as Index)?;
        let (loss, _) = session.run((loss, train), &[tokens.feed(&feed)])?;
        let loss = loss.item()?;
        first = if step == 0 { loss } else { first };
        late = loss;
    }
    // Guessing costs ln 4 = 1.39.
    assert!(first > 1.0 && late < 0.05, "{first} {late}");
    Ok(())
}
