//! A thousand photographs of clothes: batch normalization and dropout keep a convolutional network
//! from learning them by heart.
//!
//!     cargo run --release --example 09_cnn_fashion
//!
//! The first 1,000 training images and 500 test images of Fashion-MNIST (Xiao, Rasul and Vollgraf
//! 2017).

mod common;

use common::images::{Classifier, Lesson};
use common::{Options, Result};
use gradtape::nn::{
    Activation, BatchNorm, Conv2d, Dense, Dropout, Flatten, MaxPool, Sequential, Training,
};
use gradtape::{ANY, Conv, Philox, Pool, Tape, data};
use std::process::ExitCode;

/// Tell ten kinds of clothes apart, from a thousand examples
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Times that all training images are seen
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_if("short", "true", "3"))]
    epochs: u32,
    /// Images in a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Learning rate of Adam at the start
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// The probability that a number is dropped in training
    #[arg(long, default_value_t = 0.4)]
    dropout: f64,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Folder with the four IDX files, plain or gzipped
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/fashion_mnist_small"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

const NAMES: [&str; 10] = [
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
];

fn run(args: Args) -> Result {
    // The files are laid out as MNIST's.
    let data = data::mnist::<f32>(&args.data)?;

    let tape = Tape::<f32>::new();
    let images = tape.placeholder("images", [ANY, 28, 28]);
    let labels = tape.index_placeholder("labels", [ANY]);
    let mut rng = Philox::new(args.options.seed, 0);
    let (relu, same) = (Activation::Relu, Conv::same());
    let mut model = Sequential::new();
    model.push(Conv2d::new(&tape, "conv1", [3, 3, 1, 16], same, relu, &mut rng)?);
    model.push(BatchNorm::new(&tape, "norm1", 16)?);
    model.push(MaxPool(Pool::new([2, 2])));
    model.push(Conv2d::new(&tape, "conv2", [3, 3, 16, 32], same, relu, &mut rng)?);
    model.push(BatchNorm::new(&tape, "norm2", 32)?);
    model.push(MaxPool(Pool::new([2, 2])));
    model.push(Flatten);
    model.push(Dropout::new(args.dropout, &mut rng));
    model.push(Dense::new(&tape, "dense", [1568, 64], relu, &mut rng)?);
    model.push(Dropout::new(args.dropout, &mut rng));
    model.push(Dense::new(&tape, "out", [64, 10], Activation::Identity, &mut rng)?);

    let channel = images.expand_dims(&[-1]);
    let training = Training::new(&tape);
    let classifier = Classifier {
        images,
        labels,
        training: model.forward(channel, Some(&training)),
        updates: training.updates(),
        logits: model.forward(channel, None),
    };
    let lesson = Lesson {
        options: &args.options,
        epochs: args.epochs,
        batch: args.batch,
        rate: args.rate,
        threads: args.threads,
        names: &NAMES.map(String::from),
        about: &model.summary(channel),
    };
    classifier.learn(&lesson, data)
}
