//! A small network reads handwritten digits of 8 × 8 pixels; training stops early, when digits that
//! it does not learn from are no longer read better.
//!
//!     cargo run --release --example 06_mlp_digits

mod common;

use common::plot::{self, Series};
use common::{Options, Result, Run, Summary};
use gradtape::data::metrics::ConfusionMatrix;
use gradtape::data::{Dataset, EarlyStopping, Standardizer, Verdict};
use gradtape::io::Csv;
use gradtape::nn::{Activation, Mlp};
use gradtape::optim::AdamW;
use gradtape::{ANY, Index, Philox, Session, Tape};
use std::process::ExitCode;

/// Train 64-64-32-10 with relu and AdamW on digits of 8 x 8 pixels, with early stopping
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Times that all training images are seen, at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Epochs without improvement after which to stop
    #[arg(long, default_value_t = 10)]
    patience: usize,
    /// Images in a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Learning rate of AdamW
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// CSV file
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/digits/digits.csv"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    let table = Csv::new().read(&args.data)?;
    let classes = table.classes("digit")?;
    let pixels = table.all_except(["digit"])?;
    let data = Dataset::new(table.numbers::<f32>(&pixels)?, table.labels("digit", &classes)?)?;
    let [train, validation, test] = data.split_stratified([0.7, 0.15, 0.15], args.options.seed)?;
    let scale = Standardizer::fit(&train.x()?)?;
    let (train, validation) = (train.standardized(&scale)?, validation.standardized(&scale)?);
    let test = test.standardized(&scale)?;
    let mut batches = train.batches(args.batch)?.shuffle(args.options.seed);

    // Record the network, its loss and a step of training.
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, pixels.len()]);
    let y = tape.index_placeholder("y", [ANY]);
    let mut rng = Philox::new(args.options.seed, 0);
    let extents = [pixels.len(), 64, 32, classes.len()];
    let model = Mlp::new(&tape, &extents, Activation::Relu, &mut rng)?;
    let logits = model.forward(x);
    let predicted = logits.argmax(-1);
    let loss = logits.softmax_cross_entropy(y).mean();
    let step = AdamW::new(args.rate).minimize(loss)?;

    let mut session = Session::new(&tape)?;
    let evaluate = |session: &mut Session<f32>, part: &Dataset<f32, Index>| -> Result<_> {
        let (images, labels) = (part.x()?, part.y()?);
        let feeds = [x.feed(&images), y.feed(&labels)];
        let (loss, predicted) = session.run((loss, predicted), &feeds)?;
        Ok((f64::from(loss.item()?), ConfusionMatrix::new(&labels, &predicted, classes.len())?))
    };

    // Train, and keep the weights that are best on the validation part.
    let n_batches = batches.n_batches();
    let mut run = Run::start(&args.options, args.epochs as usize * n_batches)?;
    let mut stopping = EarlyStopping::new(args.patience);
    let (mut images, mut labels, mut out) = Default::default();
    let (mut best, mut validation_losses, mut accuracy) = (Vec::new(), Vec::new(), 0.0);
    for epoch in 1..=args.epochs {
        while batches.next_into(&mut images, &mut labels)? {
            session.run_into((loss, step), &[x.feed(&images), y.feed(&labels)], &mut out)?;
            run.step(out.0.item()?.into(), ("validation accuracy", accuracy));
        }
        let (validation_loss, confusion) = evaluate(&mut session, &validation)?;
        accuracy = confusion.accuracy();
        validation_losses.push((f64::from(epoch), validation_loss));
        match stopping.update(validation_loss) {
            Verdict::Improved => best = session.run(&model.parameters(), &[])?,
            Verdict::Wait => {}
            Verdict::Stop => break,
        }
    }
    for (variable, value) in model.parameters().into_iter().zip(&best) {
        session.assign(variable, value)?;
    }

    let (final_loss, _) = evaluate(&mut session, &train)?;
    let (test_loss, confusion) = evaluate(&mut session, &test)?;
    let validation_losses = Series { name: "validation loss", points: validation_losses };
    run.say(&confusion)?;
    run.write("loss.svg", &plot::loss_curve(run.losses(), n_batches, &[validation_losses])?)?;
    run.write("result.svg", &plot::confusion(&confusion, classes.names())?)?;
    run.finish(
        &session,
        &Summary {
            epochs: run.losses().len() / n_batches,
            final_loss,
            metric: "test accuracy",
            value: confusion.accuracy(),
            more: &[("test_loss", test_loss)],
        },
    )
}
