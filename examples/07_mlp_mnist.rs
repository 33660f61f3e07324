//! The main job: a network of dense layers learns to read the digits of MNIST.
//!
//!     cargo run --release --example 07_mlp_mnist

mod common;

use common::plot::{self, Series};
use common::{Options, Result, Run, Summary};
use gradtape::data::metrics::ConfusionMatrix;
use gradtape::nn::{Activation, Mlp, summary};
use gradtape::optim::{Adam, Schedule};
use gradtape::{ANY, Philox, Session, Tape, data};
use std::process::ExitCode;
use std::time::Instant;

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
    let mut batches = train.subset(&first)?.batches(args.batch)?.shuffle(args.options.seed);
    let (test_images, test_labels) = (test.x()?, test.y()?);

    // Record the network, its loss and a step of training.
    let tape = Tape::<f32>::new();
    let images = tape.placeholder("images", [ANY, 28, 28]);
    let labels = tape.index_placeholder("labels", [ANY]);
    let mut rng = Philox::new(args.options.seed, 0);
    let model = Mlp::new(&tape, &[784, 256, 128, 10], Activation::Relu, &mut rng)?;
    let logits = model.forward(images.flatten());
    let predicted = logits.argmax(-1);
    let loss = logits.softmax_cross_entropy(labels).mean();
    // The rate falls to 0 along a cosine: large steps at first, small ones to settle.
    let (epochs, n_batches) = (args.epochs as usize, batches.n_batches());
    let n_steps = (epochs * n_batches) as u64;
    let step = Adam::new(Schedule::Cosine { rate: args.rate, end: 0.0, n_steps }).minimize(loss)?;
    let mut run = Run::start(&args.options, n_steps as usize)?;
    run.say(summary(&tape))?;

    let mut session = Session::new(&tape)?;
    let evaluate = |session: &mut Session<f32>| -> Result<(f64, ConfusionMatrix)> {
        let feeds = [images.feed(&test_images), labels.feed(&test_labels)];
        let (loss, predicted) = session.run((loss, predicted), &feeds)?;
        let confusion = ConfusionMatrix::new(&test_labels, &predicted, 10)?;
        Ok((loss.item()?.into(), confusion))
    };

    // Train. Once there was a step of each size of batch, steps allocate nothing.
    let (mut x, mut y, mut out) = Default::default();
    let (mut test_loss, mut confusion) = evaluate(&mut session)?;
    let mut test_losses = vec![(0.0, test_loss)];
    let mut train_seconds = 0.0;
    for epoch in 1..=epochs {
        let started = Instant::now();
        while batches.next_into(&mut x, &mut y)? {
            session.run_into((loss, step), &[images.feed(&x), labels.feed(&y)], &mut out)?;
            run.step(out.0.item()?.into(), ("test accuracy", confusion.accuracy()));
        }
        let seconds = started.elapsed().as_secs_f64();
        train_seconds += seconds;
        (test_loss, confusion) = evaluate(&mut session)?;
        test_losses.push((epoch as f64, test_loss));
        run.say(format_args!(
            "epoch {epoch:2}: loss {:.4}, test loss {test_loss:.4}, test accuracy {:.2} %, \
             {seconds:.2} s, {:.0} steps/s",
            run.mean_loss(n_batches),
            100.0 * confusion.accuracy(),
            n_batches as f64 / seconds,
        ))?;
    }

    let test_losses = Series { name: "test loss", points: test_losses };
    run.write("loss.svg", &plot::loss_curve(run.losses(), n_batches, &[test_losses])?)?;
    run.write("result.svg", &plot::confusion(&confusion, &plot::names(0..10))?)?;
    run.finish(
        &session,
        &Summary {
            epochs,
            final_loss: run.mean_loss(n_batches),
            metric: "test accuracy",
            value: confusion.accuracy(),
            more: &[
                ("test_loss", test_loss),
                ("epoch_seconds", train_seconds / epochs as f64),
                ("steps_per_second", n_steps as f64 / train_seconds),
            ],
        },
    )
}
