//! Linear regression by gradient descent with momentum, against the closed form.
//!
//!     cargo run --release --example 02_linear_regression

mod common;

use common::{Options, Result, Run, Summary, gradient_norm, plot};
use gradtape::data::{Dataset, Standardizer, metrics};
use gradtape::io::Csv;
use gradtape::optim::Sgd;
use gradtape::{ANY, Session, Tape, Tensor};
use nalgebra::{DMatrix, DVector};
use std::process::ExitCode;

/// Predict the progression of diabetes; gradient descent comes within 1e-8 of the QR solution
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Steps at most
    #[arg(long, default_value_t = 5000)]
    epochs: usize,
    /// Learning rate
    #[arg(long, default_value_t = 0.25)]
    rate: f64,
    /// How much of a step is repeated by the next one
    #[arg(long, default_value_t = 0.9)]
    momentum: f64,
    /// Norm of the gradient at which to stop
    #[arg(long, default_value_t = 1e-11)]
    tolerance: f64,
    /// CSV file
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/diabetes/diabetes.csv"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    // Ten features of each patient, and the progression of the disease a year later.
    let table = Csv::new().read(&args.data)?;
    let features = table.all_except(["progression"])?;
    let x = table.numbers(&features)?;
    let y = table.numbers(["progression"])?;
    let [train, test] = Dataset::new(x, y)?.split([0.8, 0.2], args.options.seed)?;
    let scale = Standardizer::fit(&train.x()?)?;
    let (train, test) = (train.standardized(&scale)?, test.standardized(&scale)?);

    // Record ŷ = x·w + b, the mean square of ŷ − y, and a step of training.
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, features.len()]);
    let y = tape.placeholder("y", [ANY, 1]);
    let w = tape.variable("w", Tensor::zeros([features.len(), 1])?);
    let b = tape.variable("b", 0.0);
    let prediction = x.matmul(w) + b;
    let loss = prediction.squared_error(y).mean();
    let norm = gradient_norm(loss, &[w, b])?;
    let step = Sgd::new(args.rate).with_momentum(args.momentum).minimize(loss)?;

    // Train on all samples at once.
    let mut run = Run::start(&args.options, args.epochs)?;
    let mut session = Session::new(&tape)?;
    let (train_x, train_y) = (train.x()?, train.y()?);
    let feeds = [x.feed(&train_x), y.feed(&train_y)];
    let (final_loss, norm) =
        run.descend(&mut session, step, (loss, norm), &feeds, args.tolerance)?;

    // Compare.
    let learned = session.value(w)?.into_vec().into_iter().chain([session.value(b)?.item()?]);
    let exact = closed_form(train_x.into_matrix()?, train_y.into_matrix()?.column(0).into())?;
    let differences = learned.zip(&exact).map(|(learned, exact)| (learned - exact).abs());
    let predicted = session.run(prediction, &[x.feed(&test.x()?)])?;
    let test_y = test.y()?;
    run.write("loss.svg", &plot::convergence(run.losses(), final_loss)?)?;
    let picture =
        plot::predicted_against_true("progression", test_y.as_slice(), predicted.as_slice())?;
    run.write("result.svg", &picture)?;
    run.finish(
        &session,
        &Summary {
            epochs: run.losses().len(),
            final_loss,
            metric: "largest difference from the closed form",
            value: differences.fold(0.0, f64::max),
            more: &[("gradient_norm", norm), ("test_r2", metrics::r2(&test_y, &predicted)?)],
        },
    )
}

/// The least squares of [X 1]·(w, b) − y: R⁻¹Qᵀy.
fn closed_form(x: DMatrix<f64>, y: DVector<f64>) -> Result<DVector<f64>> {
    let n_features = x.ncols();
    let qr = x.insert_column(n_features, 1.0).qr();
    let solution = qr.r().solve_upper_triangular(&(qr.q().transpose() * y));
    Ok(solution.ok_or("closed form: expected independent columns")?)
}
