//! A gated recurrent unit tells by their letters which first names are given to girls and which to
//! boys.
//!
//!     cargo run --release --example 11_gru_names
//!
//! Names have different lengths: what stands after the last letter does not count.

mod common;

use common::plot::{self, Series};
use common::{Options, Result, Run, Summary};
use gradtape::data::Dataset;
use gradtape::data::metrics::ConfusionMatrix;
use gradtape::io::Csv;
use gradtape::nn::{Activation, Dense, Embedding, Init, Rnn, RnnConfig, summary};
use gradtape::optim::{Adam, Schedule};
use gradtape::{ANY, Cell, Index, Philox, Session, Tape, Tensor};
use std::process::ExitCode;

/// Tell girls' and boys' names apart by a bidirectional recurrent network
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Times that all names are seen
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_if("short", "true", "2"))]
    epochs: u32,
    /// Names in a step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Learning rate of Adam at the start
    #[arg(long, default_value_t = 4e-3)]
    rate: f64,
    /// CSV file of name, list
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/first_names/first_names.csv"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

/// Longer names are cut.
const LETTERS: usize = 16;
const HIDDEN: usize = 48;

fn run(args: Args) -> Result {
    // A row for each name: its letters, zeros after them, and in the last column how many there
    // are. "Nan" is a name here.
    let table = Csv::new().missing([""]).read(&args.data)?;
    let (names, lists) = (table.classes("name")?, table.classes("list")?);
    let mut letters: Vec<char> = names.names().iter().flat_map(|name| name.chars()).collect();
    letters.sort_unstable();
    letters.dedup();
    let row = |&name: &Index| -> Vec<Index> {
        let name = names.names()[name as usize].chars().take(LETTERS);
        let mut row: Vec<Index> =
            name.map(|c| letters.binary_search(&c).unwrap_or_default() as Index).collect();
        let length = row.len() as Index;
        row.resize(LETTERS, 0);
        row.push(length);
        row
    };
    let rows: Vec<Vec<Index>> = table.labels("name", &names)?.as_slice().iter().map(row).collect();
    let x = Tensor::from_fn([rows.len(), LETTERS + 1], |at| f64::from(rows[at[0]][at[1]]) as f32)?;
    let data = Dataset::new(x, table.labels("list", &lists)?)?;
    let [train, test] = data.split_stratified([0.8, 0.2], args.options.seed)?;
    let mut batches = train.batches(args.batch)?.shuffle(args.options.seed);

    // Record the network: each letter's vector, both directions' last states, a logit each.
    let tape = Tape::<f32>::new();
    let x = tape.index_placeholder("letters", [ANY, LETTERS]);
    let lengths = tape.index_placeholder("lengths", [ANY]);
    let y = tape.index_placeholder("y", [ANY]);
    let mut rng = Philox::new(args.options.seed, 0);
    let init = Init::Normal { std: 0.5 };
    let embedding = Embedding::new(&tape, "embedding", [letters.len(), 16], init, &mut rng)?;
    let config =
        RnnConfig { cell: Cell::Gru, inputs: 16, hidden: HIDDEN, n_layers: 1, bidirectional: true };
    let reader = Rnn::new(&tape, "gru", config, &mut rng)?;
    let linear = Activation::Identity;
    let out = Dense::new(&tape, "out", [2 * HIDDEN, lists.len()], linear, &mut rng)?;
    let (_, last) = reader.run(embedding.forward(x), &[], Some(lengths))?;
    let logits = out.forward(tape.concat(&last, -1));
    let predicted = logits.argmax(-1);
    let loss = logits.softmax_cross_entropy(y).mean();
    let (epochs, n_batches) = (args.epochs as usize, batches.n_batches());
    let n_steps = (epochs * n_batches) as u64;
    let step = Adam::new(Schedule::Cosine { rate: args.rate, end: 0.0, n_steps }).minimize(loss)?;

    let mut run = Run::start(&args.options, n_steps as usize)?;
    run.say(summary(&tape))?;
    let mut session = Session::new(&tape)?;
    let (test_rows, truth) = (test.x()?, test.y()?);
    let evaluate = |session: &mut Session<f32>| -> Result<(f64, ConfusionMatrix)> {
        let [rows, length] = cut(&test_rows)?;
        let feeds = [x.feed(&rows), lengths.feed(&length), y.feed(&truth)];
        let (loss, predicted) = session.run((loss, predicted), &feeds)?;
        let confusion = ConfusionMatrix::new(&truth, &predicted, lists.len())?;
        Ok((loss.item()?.into(), confusion.with_names(lists.names())?))
    };

    let (mut rows, mut labels, mut out) = Default::default();
    let (mut test_loss, mut confusion) = evaluate(&mut session)?;
    let mut test_losses = vec![(0.0, test_loss)];
    for epoch in 1..=epochs {
        while batches.next_into(&mut rows, &mut labels)? {
            let [letters, length] = cut(&rows)?;
            let feeds = [x.feed(&letters), lengths.feed(&length), y.feed(&labels)];
            session.run_into((loss, step), &feeds, &mut out)?;
            run.step(out.0.item()?.into(), ("test accuracy", confusion.accuracy()));
        }
        (test_loss, confusion) = evaluate(&mut session)?;
        test_losses.push((epoch as f64, test_loss));
        run.say(format_args!(
            "epoch {epoch:2}: loss {:.4}, test loss {test_loss:.4}, test accuracy {:.2} %",
            run.mean_loss(n_batches),
            100.0 * confusion.accuracy(),
        ))?;
    }

    run.say(&confusion)?;
    let test_losses = Series { name: "test loss", points: test_losses };
    run.write("loss.svg", &plot::loss_curve(run.losses(), n_batches, &[test_losses])?)?;
    run.write("result.svg", &plot::confusion(&confusion, lists.names())?)?;
    run.finish(
        &session,
        &Summary {
            epochs,
            final_loss: run.mean_loss(n_batches),
            metric: "test accuracy",
            value: confusion.accuracy(),
            more: &[("test_loss", test_loss)],
        },
    )
}

/// The letters of each row, and how many there are.
fn cut(rows: &Tensor<f32>) -> Result<[Tensor<Index>; 2]> {
    let whole: Vec<Index> = rows.as_slice().iter().map(|&x| x as Index).collect();
    let n = rows.shape().extents()[0];
    let (letters, lengths) = whole.split_at(n * LETTERS);
    Ok([Tensor::new([n, LETTERS], letters.to_vec())?, Tensor::new([n], lengths.to_vec())?])
}
