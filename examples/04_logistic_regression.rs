//! Logistic regression on the Wisconsin breast cancer data, to the optimum of
//! mean(logistic loss) + λ‖w‖².
//!
//!     cargo run --release --example 04_logistic_regression

mod common;

use common::{Options, Result, Run, Summary, gradient_norm, plot};
use gradtape::data::metrics::{ConfusionMatrix, roc_auc};
use gradtape::data::{Dataset, Standardizer};
use gradtape::io::Csv;
use gradtape::optim::Sgd;
use gradtape::{ANY, Index, Session, Tape, Tensor, nn};
use std::process::ExitCode;

/// Tell benign from malignant tumors; descent until the gradient is below 1e-8
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
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/breast_cancer/breast_cancer.csv"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    // Thirty measurements of the cell nuclei of each tumor.
    let table = Csv::new().read(&args.data)?;
    let features = table.all_except(["benign"])?;
    let classes = table.classes("benign")?;
    let data = Dataset::new(table.numbers(&features)?, table.labels("benign", &classes)?)?;
    let [train, test] = data.split_stratified([0.75, 0.25], args.options.seed)?;
    let scale = Standardizer::fit(&train.x()?)?;
    let (train, test) = (train.standardized(&scale)?, test.standardized(&scale)?);

    // Record the logit z = x·w + b of being benign, and the objective.
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, features.len()]);
    let y = tape.index_placeholder("y", [ANY]);
    let w = tape.variable("w", Tensor::zeros(features.len())?);
    let b = tape.variable("b", 0.0);
    let logit = x.matmul(w) + b;
    let loss = logit.logistic_loss(y.to_float()).mean() + nn::l2(&tape, &[w], args.lambda);
    let norm = gradient_norm(loss, &[w, b])?;
    let step = Sgd::new(args.rate).with_momentum(args.momentum).minimize(loss)?;

    // Train on all samples at once.
    let mut run = Run::start(&args.options, args.epochs)?;
    let mut session = Session::new(&tape)?;
    let (train_x, train_y) = (train.x()?, train.y()?);
    let feeds = [x.feed(&train_x), y.feed(&train_y)];
    let (final_loss, norm) =
        run.descend(&mut session, step, (loss, norm), &feeds, args.tolerance)?;

    // Judge by the tumors that were left out.
    let truth = test.y()?;
    let logits = session.run(logit, &[x.feed(&test.x()?)])?;
    let predicted = logits.map(|z| Index::from(z > 0.0));
    let names = ["malignant", "benign"].map(String::from);
    let confusion = ConfusionMatrix::new(&truth, &predicted, 2)?.with_names(&names)?;
    run.say(&confusion)?;
    run.write("loss.svg", &plot::convergence(run.losses(), final_loss)?)?;
    run.write("result.svg", &plot::confusion(&confusion, &names)?)?;
    run.finish(
        &session,
        &Summary {
            epochs: run.losses().len(),
            final_loss,
            metric: "test accuracy",
            value: confusion.accuracy(),
            more: &[("test_auc", roc_auc(&truth, &logits)?), ("gradient_norm", norm)],
        },
    )
}
