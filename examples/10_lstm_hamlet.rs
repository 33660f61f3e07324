//! A long short-term memory reads Hamlet character by character, and prints what it would write
//! as it learns.
//!
//!     cargo run --release --example 10_lstm_hamlet
//!
//! With `--weights FILE` the weights it starts from are written as text: `tests/reference/hamlet.py`
//! reads them and trains PyTorch on the same batches in the same order.

mod common;

use common::plot::{self, Series};
use common::text::Text;
use common::{Options, Result, Run, Summary};
use gradtape::nn::{Activation, Dense, Embedding, Init, Rnn, RnnConfig, summary};
use gradtape::optim::{Adam, Clip};
use gradtape::{ANY, Cell, Fetch, Philox, Placeholder, Session, Tape};
use std::process::ExitCode;

/// Learn the characters of Hamlet with a long short-term memory
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Times that all windows are seen
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_if("short", "true", "1"))]
    epochs: u32,
    /// Windows in a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Characters in a window
    #[arg(long, default_value_t = 32)]
    steps: usize,
    /// The extent of the state
    #[arg(long, default_value_t = 128)]
    hidden: usize,
    /// Learning rate of Adam
    #[arg(long, default_value_t = 3e-3)]
    rate: f64,
    /// Text that samples begin with
    #[arg(long, default_value = "HAMLET\n")]
    start: String,
    /// File for the weights at the start
    #[arg(long, value_name = "FILE")]
    weights: Option<std::path::PathBuf>,
    /// UTF-8 text
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/hamlet/hamlet.txt"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    let text = Text::read(&args.data)?;
    let n_characters = text.characters.len();
    let (train, test) = (text.train(args.batch, args.steps)?, text.test(args.batch, args.steps)?);

    // Record the network: an embedding, the memory, and the logits of the next character.
    let tape = Tape::<f32>::new();
    let x = tape.index_placeholder("x", [ANY, args.steps]);
    let y = tape.index_placeholder("y", [ANY, args.steps]);
    let mut rng = Philox::new(args.options.seed, 0);
    let init = Init::Normal { std: 0.5 };
    let embedding = Embedding::new(&tape, "embedding", [n_characters, 64], init, &mut rng)?;
    let config = RnnConfig {
        cell: Cell::Lstm,
        inputs: 64,
        hidden: args.hidden,
        n_layers: 1,
        bidirectional: false,
    };
    let memory = Rnn::new(&tape, "lstm", config, &mut rng)?;
    let out =
        Dense::new(&tape, "out", [args.hidden, n_characters], Activation::Identity, &mut rng)?;
    let logits = out.forward(memory.forward_embedded(&embedding, x));
    let loss = logits.softmax_cross_entropy(y).mean();
    let step = Adam::new(args.rate).with_clip(Clip::Norm(1.0)).minimize(loss)?;

    let epochs = args.epochs as usize;
    let mut run = Run::start(&args.options, epochs * train.len())?;
    run.say(summary(&tape))?;
    let mut session = Session::new(&tape)?;
    if let Some(path) = &args.weights {
        write_weights(&session, path)?;
    }
    let evaluate = |session: &mut Session<f32>| -> Result<f64> {
        let mut sum = 0.0;
        for [from, to] in &test {
            sum += f64::from(session.run(loss, &[x.feed(from), y.feed(to)])?.item()?);
        }
        Ok(sum / test.len() as f64)
    };

    let mut test_losses = vec![(0.0, evaluate(&mut session)?)];
    let (input, next) = (Placeholder::from(x), Fetch::from(logits));
    let mut out = Default::default();
    for epoch in 1..=epochs {
        for [from, to] in &train {
            session.run_into((loss, step), &[x.feed(from), y.feed(to)], &mut out)?;
            run.step(out.0.item()?.into(), ("test loss", test_losses[epoch - 1].1));
        }
        let test_loss = evaluate(&mut session)?;
        test_losses.push((epoch as f64, test_loss));
        run.say(format_args!(
            "epoch {epoch:2}: loss {:.4}, test loss {test_loss:.4}",
            run.mean_loss(train.len())
        ))?;
        if epoch.is_power_of_two() || epoch == epochs {
            let (steps, wanted) = (args.steps, (args.start.as_str(), 160));
            let mut rng = Philox::new(args.options.seed, epoch as u64);
            let sample = text.sample(&mut session, (input, next), steps, wanted, &mut rng)?;
            run.say(format_args!("---\n{sample}\n---"))?;
        }
    }

    let test_loss = test_losses[epochs].1;
    let test_losses = Series { name: "test loss", points: test_losses };
    run.write("loss.svg", &plot::loss_curve(run.losses(), train.len(), &[test_losses])?)?;
    run.finish(
        &session,
        &Summary {
            epochs,
            final_loss: run.mean_loss(train.len()),
            metric: "test loss",
            value: test_loss,
            more: &[("bits_per_character", test_loss / std::f64::consts::LN_2)],
        },
    )
}

/// A line for each variable: its name, its extents, and its numbers column by column.
fn write_weights(session: &Session<f32>, path: &std::path::Path) -> Result {
    let mut lines = String::new();
    for (name, variable) in session.variables() {
        let value = session.value(variable)?;
        let numbers: Vec<String> = value.as_slice().iter().map(f32::to_string).collect();
        let extents: Vec<String> = value.shape().extents().iter().map(usize::to_string).collect();
        lines += &format!("{name},{},{}\n", extents.join(" "), numbers.join(" "));
    }
    std::fs::write(path, lines).map_err(|e| format!("--weights {}: {e}", path.display()).into())
}
