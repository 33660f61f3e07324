//! Ridge regression for many penalties with one recording: the penalty is fed. Each solution is
//! compared with (XᵀX + λI)⁻¹Xᵀy.
//!
//!     cargo run --release --example 03_ridge

mod common;

use common::plot::{self, Series, SeriesLabelPosition::LowerLeft};
use common::{Options, Result, Run, Summary, gradient_norm};
use gradtape::data::{Dataset, Standardizer, metrics};
use gradtape::io::Csv;
use gradtape::optim::Sgd;
use gradtape::{ANY, Session, Tape, Tensor};
use nalgebra::{DMatrix, DVector};
use std::process::ExitCode;

/// Ridge regression on the diabetes data; descent comes within 1e-10 of the closed form
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Steps at most, over all penalties
    #[arg(long, default_value_t = 20_000)]
    epochs: usize,
    /// Learning rate
    #[arg(long, default_value_t = 0.25)]
    rate: f64,
    /// How much of a step is repeated by the next one
    #[arg(long, default_value_t = 0.9)]
    momentum: f64,
    /// Norm of the gradient at which to stop
    #[arg(long, default_value_t = 3e-13)]
    tolerance: f64,
    /// CSV file
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/diabetes/diabetes.csv"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    let table = Csv::new().read(&args.data)?;
    let features = table.all_except(["progression"])?;
    let x = table.numbers(&features)?;
    let y = table.numbers(["progression"])?;
    let [train, validation] = Dataset::new(x, y)?.split([0.8, 0.2], args.options.seed)?;
    let scale = Standardizer::fit(&train.x()?)?;
    let (train, validation) = (train.standardized(&scale)?, validation.standardized(&scale)?);

    // Record (‖x·w + b − y‖² + λ‖w‖²)/n. The intercept b is not penalized.
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, features.len()]);
    let y = tape.placeholder("y", [ANY, 1]);
    let lambda = tape.placeholder("lambda", []);
    let w = tape.variable("w", Tensor::zeros([features.len(), 1])?);
    let b = tape.variable("b", 0.0);
    let prediction = x.matmul(w) + b;
    let n = train.len() as f64;
    let loss = (prediction.squared_error(y).sum() + lambda * w.square().sum()) / n;
    let norm = gradient_norm(loss, &[w, b])?;
    let step = Sgd::new(args.rate).with_momentum(args.momentum).minimize(loss)?;

    // Train for λ = 0.01 to 1000, each from where the one before ended.
    let mut run = Run::start(&args.options, args.epochs)?;
    let mut session = Session::new(&tape)?;
    let (train_x, train_y) = (train.x()?, train.y()?);
    let (validation_x, validation_y) = (validation.x()?, validation.y()?);
    let (mut final_loss, mut norm_then, mut difference) = (f64::NAN, f64::NAN, 0.0_f64);
    let (mut of_train, mut of_validation) = (Vec::new(), Vec::new());
    for exponent in (-8..=12).map(|quarter| f64::from(quarter) / 4.0) {
        let penalty = 10_f64.powf(exponent);
        let feeds = [x.feed(&train_x), y.feed(&train_y), lambda.feed(&penalty)];
        (final_loss, norm_then) =
            run.descend(&mut session, step, (loss, norm), &feeds, args.tolerance)?;
        if of_train.is_empty() {
            run.write("loss.svg", &plot::convergence(run.losses(), final_loss)?)?;
        }

        let learned = session.value(w)?.into_vec().into_iter().chain([session.value(b)?.item()?]);
        let exact = closed_form(train_x.as_matrix().into(), train_y.as_dvector().into(), penalty)?;
        let differences = learned.zip(&exact).map(|(learned, exact)| (learned - exact).abs());
        difference = differences.fold(difference, f64::max);
        for (x_fed, truth, curve) in [
            (&train_x, &train_y, &mut of_train),
            (&validation_x, &validation_y, &mut of_validation),
        ] {
            let predicted = session.run(prediction, &[x.feed(x_fed)])?;
            curve.push((exponent, metrics::r2(truth, &predicted)?));
        }
    }

    let best = of_validation.iter().fold((0.0, f64::MIN), |a, &b| if b.1 > a.1 { b } else { a });
    let series = [("training part", of_train), ("validation part", of_validation)];
    let series = series.map(|(name, points)| Series { name, points });
    let picture = plot::lines("R² of ridge regression", ("log₁₀ λ", "R²"), LowerLeft, &series)?;
    run.write("result.svg", &picture)?;
    run.finish(
        &session,
        &Summary {
            epochs: run.losses().len(),
            final_loss,
            metric: "largest difference from the closed form",
            value: difference,
            more: &[
                ("gradient_norm", norm_then),
                ("best_lambda", 10_f64.powf(best.0)),
                ("best_validation_r2", best.1),
            ],
        },
    )
}

/// (XᵀX + λI)⁻¹Xᵀy with a column of ones in X, for which λ is 0.
fn closed_form(x: DMatrix<f64>, y: DVector<f64>, lambda: f64) -> Result<DVector<f64>> {
    let n_features = x.ncols();
    let x = x.insert_column(n_features, 1.0);
    let mut gram = x.tr_mul(&x);
    (0..n_features).for_each(|i| gram[(i, i)] += lambda);
    let factor = gram.cholesky().ok_or("closed form: expected a positive definite matrix")?;
    Ok(factor.solve(&x.tr_mul(&y)))
}
