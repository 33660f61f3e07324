//! A Gaussian process learns ten years of airline passengers, month by month, and foretells the
//! next two with their uncertainty.
//!
//!     cargo run --release --example 14_gaussian_process
//!
//! After Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), sections 2.2 and
//! 5.4.3: the logarithm of the series is a line, a smooth curve, a yearly wave that may change, and
//! noise. Their sizes and scales minimize the negative log marginal likelihood
//! ½ yᵀK⁻¹y + ½ log det K + ½ n log 2π, by L-BFGS.

mod common;

use common::plot::{self, Series, SeriesLabelPosition};
use common::{Options, Result, Run, Summary};
use gradtape::io::Csv;
use gradtape::optim::Lbfgs;
use gradtape::{Expr, Session, Tape, Tensor};
use std::f64::consts::{PI, TAU};
use std::process::ExitCode;

/// Foretell airline passengers by a Gaussian process whose kernel is learned
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Months at the end that are foretold
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
    ahead: u32,
    /// Iterations at most
    #[arg(long, default_value_t = 300)]
    iterations: u64,
    /// Largest element of the gradient at which to stop
    #[arg(long, default_value_t = 1e-5)]
    tolerance: f64,
    /// CSV file
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/airline_passengers/airline_passengers.csv"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    let passengers: Tensor = Csv::new().read(&args.data)?.numbers(["passengers"])?;
    let (n, ahead) = (passengers.len(), args.ahead as usize);
    if n < ahead + 24 {
        return Err(format!("expected {} months or more, got {n}", ahead + 24).into());
    }
    let n = n - ahead;
    let logs: Vec<f64> = passengers.as_slice().iter().map(|count| count.ln()).collect();
    let level = logs[..n].iter().sum::<f64>() / n as f64;
    let years = |from: usize, to: usize| -> Vec<f64> {
        (from..to).map(|month| month as f64 / 12.0).collect()
    };

    // Record the covariances, and what makes the months seen most likely.
    let tape = Tape::<f64>::new();
    let kernel = Kernel::new(&tape);
    let (seen, next) = (tape.constant(Tensor::vector(years(0, n))), years(n, n + ahead));
    let next = tape.constant(Tensor::vector(next));
    let y = tape.constant(Tensor::vector(logs[..n].iter().map(|y| y - level).collect()));
    let noise = kernel.noise.exp().square();
    let covariance = kernel.between(seen, seen) + (seen * 0.0 + noise).diag_matrix();
    let fit = covariance.solve_spd(y);
    let loss = (y * fit).sum() * 0.5 + covariance.log_det() * 0.5 + 0.5 * n as f64 * TAU.ln();
    let learn = Lbfgs::new()
        .with_max_iterations(args.iterations)
        .with_gradient_tolerance(args.tolerance)
        .minimize(loss)?;
    // What it says of the months to come: mean, and standard deviation of a month with its noise.
    let across = kernel.between(next, seen);
    let mean = across.matmul(fit) + level;
    let known = (across * covariance.solve_spd(across.t()).t()).sum_axes(&[1]);
    let deviation = (kernel.between(next, next).diag() + noise - known).sqrt();

    let mut run = Run::start(&args.options, args.iterations as usize)?;
    let mut session = Session::new(&tape)?;
    let outcome = run.minimize(&mut session, &learn)?;
    for (name, variable) in session.variables() {
        run.say(format_args!("{name:<16} {:.4}", session.value(variable)?.item()?.exp()))?;
    }

    // Judge by the months that were left out, in passengers.
    let (mean, deviation) = session.run((mean, deviation), &[])?;
    let (mean, deviation) = (mean.into_vec(), deviation.into_vec());
    let truth = &passengers.as_slice()[n..];
    let error = |(mean, truth): (&f64, &f64)| (mean.exp() / truth - 1.0).abs();
    let error = mean.iter().zip(truth).map(error).sum::<f64>() / ahead as f64;
    let within = mean.iter().zip(&deviation).zip(truth);
    let within = within.filter(|((mean, sd), truth)| (truth.ln() - **mean).abs() <= 1.96 * **sd);
    let within = within.count() as f64 / ahead as f64;

    let line = |name, from: usize, values: Vec<f64>| {
        let month = |(i, value)| (1949.0 + (from + i) as f64 / 12.0, value);
        Series { name, points: values.into_iter().enumerate().map(month).collect() }
    };
    let band = |sign: f64| -> Vec<f64> {
        mean.iter().zip(&deviation).map(|(mean, sd)| (mean + sign * 1.96 * sd).exp()).collect()
    };
    // There and back again: the outline of the band.
    let mut outline = line("95 % of what may come", n, band(1.0));
    outline.points.extend(line("", n, band(-1.0)).points.into_iter().rev());
    let series = [
        line("passengers", 0, passengers.as_slice().to_vec()),
        outline,
        line("foretold", n, mean.iter().map(|mean| mean.exp()).collect()),
    ];
    let axes = ("year", "thousands a month");
    let picture = plot::lines("Airline passengers", axes, SeriesLabelPosition::UpperLeft, &series)?;
    run.write("result.svg", &picture)?;
    run.finish(
        &session,
        &Summary {
            epochs: outcome.iterations as usize,
            final_loss: outcome.loss,
            metric: "mean relative error",
            value: error,
            more: &[("within_95_percent", within), ("gradient_norm", outcome.gradient_norm)],
        },
    )
}

/// What two times have in common. Every number is positive, and is learned as its logarithm.
struct Kernel<'t> {
    slope: Expr<'t>,
    curve: [Expr<'t>; 2],
    wave: [Expr<'t>; 3],
    noise: Expr<'t>,
}

impl<'t> Kernel<'t> {
    fn new(tape: &'t Tape) -> Self {
        let start = |name: &str, value: f64| tape.variable(name, value.ln());
        Kernel {
            slope: start("slope", 0.1),
            curve: [start("curve", 0.1), start("curve years", 1.0)],
            wave: [start("wave", 0.1), start("wave shape", 1.0), start("wave years", 10.0)],
            noise: start("noise", 0.05),
        }
    }

    /// The covariances of the values at times a and b, without noise.
    fn between(&self, a: Expr<'t>, b: Expr<'t>) -> Expr<'t> {
        let (a, b) = (a.expand_dims(&[1]), b.expand_dims(&[0]));
        // The size of a part, and a distance in units of a learned one.
        let size = |log: Expr<'t>| log.exp().square();
        let apart = |scale: Expr<'t>| (a - b) / scale.exp();
        let [curve, curve_years] = self.curve;
        let [wave, shape, wave_years] = self.wave;
        let phase = ((a - b) * PI).sin() / shape.exp();
        size(self.slope) * a * b
            + size(curve) * (apart(curve_years).square() * -0.5).exp()
            + size(wave) * (phase.square() * -2.0 - apart(wave_years).square() * 0.5).exp()
    }
}
