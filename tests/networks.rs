//! Rows C7 and C8, by short trainings on MNIST and Hamlet (examples 08 and 10 are the long ones);
//! convolutions against their definition.

use gradtape::data::mnist;
use gradtape::nn::{Activation, Conv2d, Dense, Embedding, Flatten, Init, MaxPool, Sequential};
use gradtape::nn::{Rnn, RnnConfig};
use gradtape::optim::{Adam, Clip};
use gradtape::{ANY, Cell, Conv, Index, Padding, Philox, Pool, Result, Session, Tape, Tensor};

fn draw<const N: usize>(shape: [usize; N], rng: &mut Philox) -> Result<Tensor> {
    Tensor::from_fn(shape, |_| rng.below(2001) as f64 / 1000.0 - 1.0)
}

fn path(file: &str) -> String {
    format!("{}/datasets/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// y(n, i, j, o) = Σ x(n, i·s + p·d − b, …, c)·w(p, q, c, o), and the cotangents of x and w, term
/// by term.
#[test]
fn c7_convolutions_are_their_definition() -> Result<()> {
    // Input, taps, stride, dilation along rows and columns; what is added at each side.
    type Geometry = ([usize; 4], [usize; 4], [(usize, usize); 2]);
    let geometries: [Geometry; 5] = [
        ([7, 3, 1, 1], [5, 2, 1, 1], [(0, 0), (0, 0)]),
        ([11, 3, 3, 1], [9, 2, 5, 1], [(2, 0), (0, 3)]),
        ([10, 3, 1, 3], [12, 4, 1, 2], [(1, 4), (3, 2)]),
        ([13, 5, 3, 2], [8, 3, 2, 3], [(3, 1), (0, 5)]),
        ([2, 2, 7, 1], [3, 1, 3, 1], [(1, 0), (4, 1)]),
    ];
    let mut rng = Philox::new(7, 0);
    for (rows, columns, sides) in geometries {
        let [extent, taps, stride, dilation] = [0, 1, 2, 3].map(|k| [rows[k], columns[k]]);
        let (batch, inputs, outputs) = (3, 2, 4);
        let conv =
            Conv::padded(Padding::Explicit(sides)).with_stride(stride).with_dilation(dilation);
        let x = draw([batch, extent[0], extent[1], inputs], &mut rng)?;
        let w = draw([taps[0], taps[1], inputs, outputs], &mut rng)?;
        let out = [0, 1].map(|k| {
            let reach = dilation[k] * (taps[k] - 1) + 1;
            (extent[k] + sides[k].0 + sides[k].1 - reach) / stride[k] + 1
        });
        let ct = draw([batch, out[0], out[1], outputs], &mut rng)?;

        let mut want = [&ct, &x, &w].map(|like| like.map(|_| 0.0));
        for (i, j) in (0..out[0]).flat_map(|i| (0..out[1]).map(move |j| (i, j))) {
            for (p, q) in (0..taps[0]).flat_map(|p| (0..taps[1]).map(move |q| (p, q))) {
                let row = (i * stride[0] + p * dilation[0]).checked_sub(sides[0].0);
                let column = (j * stride[1] + q * dilation[1]).checked_sub(sides[1].0);
                let (Some(row), Some(column)) = (row, column) else { continue };
                if row >= extent[0] || column >= extent[1] {
                    continue;
                }
                for n in 0..batch {
                    for (c, o) in (0..inputs).flat_map(|c| (0..outputs).map(move |o| (c, o))) {
                        let at = [[n, i, j, o], [n, row, column, c], [p, q, c, o]];
                        let [ct, x, w] =
                            [(&ct, 0), (&x, 1), (&w, 2)].map(|(t, k)| t.get(&at[k]).unwrap());
                        for (k, term) in [x * w, ct * w, ct * x].into_iter().enumerate() {
                            let strides = want[k].shape().strides();
                            let place: usize =
                                at[k].iter().zip(strides.iter()).map(|(a, s)| a * s).sum();
                            want[k].as_mut_slice()[place] += term;
                        }
                    }
                }
            }
        }

        let tape = Tape::<f64>::new();
        let inputs = [&x, &w, &ct].map(|t| tape.placeholder("input", t.shape()));
        let y = inputs[0].conv2d(inputs[1], conv);
        let gradients = tape.gradient((y * inputs[2]).sum(), &inputs[..2])?;
        let feeds = [inputs[0].feed(&x), inputs[1].feed(&w), inputs[2].feed(&ct)];
        let got = Session::new(&tape)?.run([y, gradients[0], gradients[1]], &feeds)?;
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got.shape(), want.shape(), "{rows:?} {columns:?} {sides:?}");
            let gaps = got.as_slice().iter().zip(want.as_slice()).map(|(a, b)| (a - b).abs());
            let gap = gaps.fold(0.0, f64::max);
            assert!(gap < 1e-13, "{rows:?} {columns:?} {sides:?}: {gap:.1e}");
        }
    }
    Ok(())
}

/// Two epochs over 3000 images; at least 90 % of 1000 others.
#[test]
fn c7_a_convolutional_network_reads_mnist() -> Result<()> {
    let [train, test] = mnist::<f32>(path("mnist"))?;
    let first = |n: Index| -> Vec<Index> { (0..n).collect() };
    let (train, test) = (train.subset(&first(3000))?, test.subset(&first(1000))?);

    let tape = Tape::<f32>::new();
    let images = tape.placeholder("images", [ANY, 28, 28]);
    let labels = tape.index_placeholder("labels", [ANY]);
    let mut rng = Philox::new(1, 0);
    let (relu, none) = (Activation::Relu, Activation::Identity);
    let by_two = Conv::valid().with_stride([2, 2]);
    let mut model = Sequential::new();
    model.push(Conv2d::new(&tape, "conv1", [5, 5, 1, 8], by_two, relu, &mut rng)?);
    model.push(Conv2d::new(&tape, "conv2", [3, 3, 8, 16], Conv::same(), relu, &mut rng)?);
    model.push(MaxPool(Pool::new([2, 2])));
    model.push(Flatten);
    model.push(Dense::new(&tape, "hidden", [576, 64], relu, &mut rng)?);
    model.push(Dense::new(&tape, "out", [64, 10], none, &mut rng)?);
    let logits = model.forward(images.expand_dims(&[-1]), None);
    let loss = logits.softmax_cross_entropy(labels).mean();
    let step = Adam::new(3e-3).minimize(loss)?;
    let hits = logits.argmax(-1).equal(labels).mean();

    let mut session = Session::new(&tape)?;
    let mut batches = train.batches(32)?.shuffle(1);
    let (mut x, mut y) = Default::default();
    for _ in 0..2 {
        while batches.next_into(&mut x, &mut y)? {
            session.run(step, &[images.feed(&x), labels.feed(&y)])?;
        }
    }
    let (x, y) = (test.x()?, test.y()?);
    let hits = session.run(hits, &[images.feed(&x), labels.feed(&y)])?.item()?;
    assert!(hits >= 0.9, "{hits}");
    Ok(())
}

/// A long short-term memory comes to 2.5 nats a character on the text's last tenth, where the
/// frequencies of characters alone cost 3.3.
#[test]
fn c8_characters_of_hamlet() -> Result<()> {
    const ROWS: usize = 32;
    const STEPS: usize = 16;
    let text = std::fs::read_to_string(path("hamlet/hamlet.txt")).expect("a text");
    let mut characters: Vec<char> = text.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    let all: Vec<Index> =
        text.chars().map(|c| characters.partition_point(|&known| known < c) as Index).collect();
    let (train, test) = all.split_at(all.len() / 10 * 9);
    let windows = |part: &[Index], start: &dyn Fn(usize) -> usize| -> Result<[_; 2]> {
        let at =
            |ahead: usize| Tensor::from_fn([ROWS, STEPS], |at| part[start(at[0]) + at[1] + ahead]);
        Ok([at(0)?, at(1)?])
    };

    let n = characters.len();
    let tape = Tape::<f32>::new();
    let x = tape.index_placeholder("x", [ROWS, STEPS]);
    let y = tape.index_placeholder("y", [ROWS, STEPS]);
    let mut rng = Philox::new(2, 0);
    let init = Init::Normal { std: 0.5 };
    let embedding = Embedding::new(&tape, "embedding", [n, 16], init, &mut rng)?;
    let config =
        RnnConfig { cell: Cell::Lstm, inputs: 16, hidden: 32, n_layers: 1, bidirectional: false };
    let memory = Rnn::new(&tape, "lstm", config, &mut rng)?;
    let out = Dense::new(&tape, "out", [32, n], Activation::Identity, &mut rng)?;
    let logits = out.forward(memory.forward_embedded(&embedding, x));
    let loss = logits.softmax_cross_entropy(y).mean();
    let step = Adam::new(1e-2).with_clip(Clip::Norm(1.0)).minimize(loss)?;

    let mut session = Session::new(&tape)?;
    for _ in 0..150 {
        let starts: Vec<usize> =
            (0..ROWS).map(|_| rng.below((train.len() - STEPS) as u64) as usize).collect();
        let [from, to] = windows(train, &|row| starts[row])?;
        session.run(step, &[x.feed(&from), y.feed(&to)])?;
    }
    let part = test.len() / ROWS;
    let [from, to] = windows(test, &|row| row * part)?;
    let learned = f64::from(session.run(loss, &[x.feed(&from), y.feed(&to)])?.item()?);

    // What the frequencies of the training part cost there.
    let mut counts = vec![1.0; n];
    train.iter().for_each(|&c| counts[c as usize] += 1.0);
    let total: f64 = counts.iter().sum();
    let costs = to.as_slice().iter().map(|&c| (total / counts[c as usize]).ln());
    let frequencies = costs.sum::<f64>() / (ROWS * STEPS) as f64;
    assert!(frequencies > 3.0 && learned < 2.5, "{frequencies:.3} {learned:.3}");
    Ok(())
}
