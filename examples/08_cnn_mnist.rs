//! A convolutional network after LeNet-5 (LeCun et al. 1998) learns to read the digits of MNIST.
//!
//!     cargo run --release --example 08_cnn_mnist

mod common;

use common::images::{Classifier, Lesson};
use common::{Options, Result, plot};
use gradtape::nn::{Activation, Conv2d, Dense, Flatten, MaxPool, Sequential};
use gradtape::{ANY, Conv, Philox, Pool, Tape, data};
use std::process::ExitCode;

/// Train a convolutional network on MNIST; 98.8 % of the test images within five epochs
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Times that all training images are seen
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_if("short", "true", "1"))]
    epochs: u32,
    /// Train on the first images only
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_if("short", "true", "6000"))]
    images: u32,
    /// Images in a step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Learning rate of Adam at the start
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
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

    let tape = Tape::<f32>::new();
    let images = tape.placeholder("images", [ANY, 28, 28]);
    let labels = tape.index_placeholder("labels", [ANY]);
    let mut rng = Philox::new(args.options.seed, 0);
    let (relu, same, valid) = (Activation::Relu, Conv::same(), Conv::valid());
    let mut model = Sequential::new();
    model.push(Conv2d::new(&tape, "conv1", [5, 5, 1, 6], same, relu, &mut rng)?);
    model.push(MaxPool(Pool::new([2, 2])));
    model.push(Conv2d::new(&tape, "conv2", [5, 5, 6, 16], valid, relu, &mut rng)?);
    model.push(MaxPool(Pool::new([2, 2])));
    model.push(Flatten);
    model.push(Dense::new(&tape, "dense1", [400, 120], relu, &mut rng)?);
    model.push(Dense::new(&tape, "dense2", [120, 84], relu, &mut rng)?);
    model.push(Dense::new(&tape, "out", [84, 10], Activation::Identity, &mut rng)?);

    let channel = images.expand_dims(&[-1]);
    let logits = model.forward(channel, None);
    let classifier = Classifier { images, labels, training: logits, updates: vec![], logits };
    let lesson = Lesson {
        options: &args.options,
        epochs: args.epochs,
        batch: args.batch,
        rate: args.rate,
        threads: args.threads,
        names: &plot::names(0..10),
        about: &model.summary(channel),
    };
    classifier.learn(&lesson, [train, test])
}
