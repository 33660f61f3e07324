//! A long short-term memory reads Hamlet character by character, and prints what it would write
//! as it learns.
//!
//!     cargo run --release --example 10_lstm_hamlet
//!
//! With `--weights FILE` the weights it starts from are written as text:
//! `tests/reference/hamlet.py` reads them and trains PyTorch on the same batches in the same order.

mod common;

use common::text::{Lesson, Model, Text};
use common::{Options, Result};
use gradtape::nn::{Activation, Dense, Embedding, Init, Rnn, RnnConfig};
use gradtape::optim::{Adam, Clip};
use gradtape::{ANY, Cell, Philox, Session, Tape};
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

    let mut session = Session::new(&tape)?;
    if let Some(path) = &args.weights {
        write_weights(&session, path)?;
    }
    let model = Model { x, y, loss, step, updates: vec![], logits, test_loss: loss };
    let lesson = Lesson {
        options: &args.options,
        epochs: args.epochs,
        windows: [&train, &test],
        start: &args.start,
    };
    model.learn(&mut session, &text, &lesson)
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
