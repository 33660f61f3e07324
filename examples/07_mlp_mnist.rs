//! The main job: a network of dense layers learns to read the digits of MNIST.
//!
//!     cargo run --release --example 07_mlp_mnist

mod common;

use common::images::{Classifier, Lesson};
use common::{Options, Result, plot};
use gradtape::nn::{Activation, Mlp, summary};
use gradtape::{ANY, Philox, Tape, data};
use std::process::ExitCode;

/// Train 784-256-128-10 with relu and Adam on MNIST; 98 % of the test images within ten epochs
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Times that all training images are seen
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_if("short", "true", "2"))]
    epochs: u32,
    /// Train on the first images only
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_if("short", "true", "6000"))]
    images: u32,
    /// Images in a step
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Learning rate of Adam at the start
    #[arg(long, default_value_t = 1e-3)]
    rate: f64,
    /// Folder with the four IDX files, plain or gzipped
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/mnist"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    let [train, test] = data::mnist::<f32>(&args.data)?;
    let first: Vec<u32> = (0..args.images.min(train.len() as u32)).collect();
    let train = train.subset(&first)?;

    // Record the network; the rest is common to classifiers of images.
    let tape = Tape::<f32>::new();
    let images = tape.placeholder("images", [ANY, 28, 28]);
    let labels = tape.index_placeholder("labels", [ANY]);
    let mut rng = Philox::new(args.options.seed, 0);
    let model = Mlp::new(&tape, &[784, 256, 128, 10], Activation::Relu, &mut rng)?;
    let logits = model.forward(images.flatten());
    let classifier = Classifier { images, labels, training: logits, updates: vec![], logits };
    let lesson = Lesson {
        options: &args.options,
        epochs: args.epochs,
        batch: args.batch,
        // Large steps at first, small ones to settle.
        rate: args.rate,
        threads: 1,
        names: &plot::names(0..10),
        about: &summary(&tape),
    };
    classifier.learn(&lesson, [train, test])
}
