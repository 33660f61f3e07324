//! A small transformer (Vaswani et al. 2017, with the normalizations before each part) reads Hamlet
//! character by character.
//!
//!     cargo run --release --example 12_transformer_hamlet

mod common;

use common::text::{Lesson, Model, Text};
use common::{Options, Result};
use gradtape::nn::{
    Activation, Dense, Dropout, Embedding, Init, Layer, LayerNorm, MultiHeadAttention, Training,
};
use gradtape::optim::{AdamW, Schedule};
use gradtape::{ANY, Attention, Expr, IndexExpr, Philox, Session, Tape};
use std::process::ExitCode;

/// Learn the characters of Hamlet with attention
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
    #[arg(long, default_value_t = 64)]
    steps: usize,
    /// Numbers for each character, a multiple of four: the heads
    #[arg(long, default_value_t = 64)]
    features: usize,
    /// Blocks of attention and a dense part
    #[arg(long, default_value_t = 2)]
    blocks: usize,
    /// The probability that a number is dropped in training
    #[arg(long, default_value_t = 0.1)]
    dropout: f64,
    /// Learning rate of AdamW at the start
    #[arg(long, default_value_t = 3e-3)]
    rate: f64,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Text that samples begin with
    #[arg(long, default_value = "HAMLET\n")]
    start: String,
    /// UTF-8 text
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/hamlet/hamlet.txt"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

const HEADS: usize = 4;

fn run(args: Args) -> Result {
    let text = Text::read(&args.data)?;
    let (train, test) = (text.train(args.batch, args.steps)?, text.test(args.batch, args.steps)?);

    // Record the network twice, for training with dropout and for use without.
    let tape = Tape::<f32>::new();
    let x = tape.index_placeholder("x", [ANY, args.steps]);
    let y = tape.index_placeholder("y", [ANY, args.steps]);
    let model = Transformer::new(&tape, &args, text.characters.len())?;
    let training = Training::new(&tape);
    let loss = model.forward(x, Some(&training)).softmax_cross_entropy(y).mean();
    let logits = model.forward(x, None);
    let test_loss = logits.softmax_cross_entropy(y).mean();
    let n_steps = u64::from(args.epochs) * train.len() as u64;
    let rate = Schedule::Cosine { rate: args.rate, end: 0.0, n_steps };
    let step = AdamW::new(rate).minimize(loss)?;

    let mut session = Session::new(&tape)?.with_threads(args.threads)?;
    let model = Model { x, y, loss, step, updates: training.updates(), logits, test_loss };
    let lesson = Lesson {
        options: &args.options,
        epochs: args.epochs,
        windows: [&train, &test],
        start: &args.start,
    };
    model.learn(&mut session, &text, &lesson)
}

/// Embeddings of characters and of places, blocks, and the logits of the next character.
struct Transformer {
    characters: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    out: Dense,
}

/// Attention and a dense part, each added to what it reads.
struct Block {
    norms: [LayerNorm; 2],
    attention: MultiHeadAttention,
    wide: Dense,
    narrow: Dense,
    dropouts: [Dropout; 2],
}

impl Transformer {
    fn new(tape: &Tape<f32>, args: &Args, n_characters: usize) -> gradtape::Result<Self> {
        let mut rng = Philox::new(args.options.seed, 0);
        let (features, init) = (args.features, Init::Normal { std: 0.1 });
        let mut embedding = |name, n| Embedding::new(tape, name, [n, features], init, &mut rng);
        let characters = embedding("characters", n_characters)?;
        let places = embedding("places", args.steps)?;
        let blocks = (1..=args.blocks)
            .map(|n| Block::new(tape, &format!("block_{n}"), features, args.dropout, &mut rng))
            .collect::<gradtape::Result<_>>()?;
        let norm = LayerNorm::new(tape, "norm", features)?;
        let extents = [features, n_characters];
        let out = Dense::new(tape, "out", extents, Activation::Identity, &mut rng)?;
        Ok(Transformer { characters, places, blocks, norm, out })
    }

    fn forward<'t>(
        &self,
        x: IndexExpr<'t, f32>,
        training: Option<&Training<'t, f32>>,
    ) -> Expr<'t, f32> {
        let tape = x.as_node_expr().tape();
        let mut h = self.characters.forward(x) + tape.expr(self.places.table);
        for block in &self.blocks {
            h = block.forward(h, training);
        }
        self.out.forward(self.norm.forward(h, None))
    }
}

impl Block {
    fn new(
        tape: &Tape<f32>,
        name: &str,
        features: usize,
        dropout: f64,
        rng: &mut Philox,
    ) -> gradtape::Result<Self> {
        let _scope = tape.scope(name);
        let norm = |name| LayerNorm::new(tape, name, features);
        let form = Attention::new(HEADS).causal();
        Ok(Block {
            norms: [norm("norm1")?, norm("norm2")?],
            attention: MultiHeadAttention::new(tape, "attention", features, form, rng)?,
            wide: Dense::new(tape, "wide", [features, 4 * features], Activation::GeluTanh, rng)?,
            narrow: Dense::new(
                tape,
                "narrow",
                [4 * features, features],
                Activation::Identity,
                rng,
            )?,
            dropouts: [Dropout::new(dropout, rng), Dropout::new(dropout, rng)],
        })
    }

    fn forward<'t>(&self, x: Expr<'t, f32>, training: Option<&Training<'t, f32>>) -> Expr<'t, f32> {
        let attended = self.attention.forward(self.norms[0].forward(x, None), None);
        let x = x + self.dropouts[0].forward(attended, training);
        let made = self.narrow.forward(self.wide.forward(self.norms[1].forward(x, None)));
        x + self.dropouts[1].forward(made, training)
    }
}
