//! Softmax regression on the penguins of the Palmer archipelago: numbers, categories and missing
//! values, to the optimum of mean(cross-entropy) + λ‖W‖².
//!
//!     cargo run --release --example 05_softmax_regression

mod common;

use common::{Options, Result, Run, Summary, gradient_norm, plot};
use gradtape::data::metrics::ConfusionMatrix;
use gradtape::data::{Dataset, Standardizer, hstack};
use gradtape::io::Csv;
use gradtape::optim::Sgd;
use gradtape::{ANY, Session, Tape, Tensor, nn};
use std::process::ExitCode;

/// Tell three species of penguins apart; descent until the gradient is below 1e-8
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Steps at most
    #[arg(long, default_value_t = 5000)]
    epochs: usize,
    /// Learning rate
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// How much of a step is repeated by the next one
    #[arg(long, default_value_t = 0.95)]
    momentum: f64,
    /// Weight of the penalty
    #[arg(long, default_value_t = 1e-3)]
    lambda: f64,
    /// Norm of the gradient at which to stop
    #[arg(long, default_value_t = 1e-8)]
    tolerance: f64,
    /// CSV file
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/penguins/penguins.csv"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    // Four measurements, and categories as columns of zeros and ones. Birds without a value in one
    // of these are left out.
    let numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"];
    let table = Csv::new().read(&args.data)?.drop_missing(numbers)?.drop_missing(["sex"])?;
    let [islands, sexes] = [table.classes("island")?, table.classes("sex")?];
    let x = hstack(&[
        &table.numbers(numbers)?,
        &table.one_hot("island", &islands)?,
        &table.one_hot("sex", &sexes)?,
    ])?;
    let species = table.classes("species")?;
    let (n_features, n_classes) = (x.shape().extents()[1], species.len());
    let data = Dataset::new(x, table.labels("species", &species)?)?;
    let [train, test] = data.split_stratified([0.75, 0.25], args.options.seed)?;
    let scale = Standardizer::fit(&train.x()?)?;
    let (train, test) = (train.standardized(&scale)?, test.standardized(&scale)?);

    // Record the logits x·W + b of the species, and the objective.
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, n_features]);
    let y = tape.index_placeholder("y", [ANY]);
    let w = tape.variable("w", Tensor::zeros([n_features, n_classes])?);
    let b = tape.variable("b", Tensor::zeros(n_classes)?);
    let logits = x.matmul(w) + b;
    let predicted = logits.argmax(-1);
    let loss = logits.softmax_cross_entropy(y).mean() + nn::l2(&tape, &[w], args.lambda);
    let norm = gradient_norm(loss, &[w, b])?;
    let step = Sgd::new(args.rate).with_momentum(args.momentum).minimize(loss)?;

    // Train on all samples at once.
    let mut run = Run::start(&args.options, args.epochs)?;
    let mut session = Session::new(&tape)?;
    let (train_x, train_y) = (train.x()?, train.y()?);
    let feeds = [x.feed(&train_x), y.feed(&train_y)];
    let (final_loss, norm) =
        run.descend(&mut session, step, (loss, norm), &feeds, args.tolerance)?;

    // Judge by the birds that were kept back.
    let predicted = session.run(predicted, &[x.feed(&test.x()?)])?;
    let confusion =
        ConfusionMatrix::new(&test.y()?, &predicted, n_classes)?.with_names(species.names())?;
    run.say(&confusion)?;
    run.write("loss.svg", &plot::convergence(run.losses(), final_loss)?)?;
    run.write("result.svg", &plot::confusion(&confusion, species.names())?)?;
    run.finish(
        &session,
        &Summary {
            epochs: run.losses().len(),
            final_loss,
            metric: "test accuracy",
            value: confusion.accuracy(),
            more: &[("gradient_norm", norm)],
        },
    )
}
