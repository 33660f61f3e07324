//! The tour: the graph of a = (b + c) · (c + 2), which is recorded, listed, drawn, run,
//! differentiated twice, and followed downhill.
//!
//!     cargo run --release --example 01_lecture_graph

mod common;

use common::plot::{self, Series, SeriesLabelPosition::LowerRight};
use common::{Options, Result, Run, Summary};
use gradtape::optim::Sgd;
use gradtape::{Session, Tape};
use std::process::ExitCode;

/// Record, list, draw, run and differentiate a = (b + c) * (c + 2)
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Gradient steps on c
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Length of a step
    #[arg(long, default_value_t = 0.1)]
    rate: f64,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result {
    let mut run = Run::start(&args.options, args.epochs as usize)?;

    // Record. Nothing is computed yet.
    let tape = Tape::<f64>::new();
    let b = tape.placeholder("b", []);
    let c = tape.variable("c", 1.0);
    let d = (b + c).named("d");
    let e = (c + 2.0).named("e");
    let a = (d * e).named("a");
    run.say(format_args!("the tape:\n{tape}"))?;
    run.write("graph.dot", &tape.to_dot())?; // dot -Tsvg 01_lecture_graph_graph.dot

    // Differentiate: the derivatives are nodes of the same tape, and so have derivatives.
    let gradient = tape.gradient(a, &[b, c])?;
    let of_b = tape.gradient_allow_unused(gradient[0], &[b, c])?;
    let of_c = tape.gradient_allow_unused(gradient[1], &[b, c])?;

    // A step downhill in c, taken by every run that fetches it.
    let train = Sgd::new(args.rate).minimize(a)?;

    // Run.
    let mut session = Session::new(&tape)?;
    let mut values = Vec::new();
    for b_value in 0..10 {
        let b_value = f64::from(b_value);
        let a = session.run(a, &[b.feed(&b_value)])?.item()?;
        run.say(format_args!("b = {b_value}, c = 1: a = {a}"))?;
        values.push((b_value, a));
    }
    let two = [b.feed(&2.0)];
    let gradient = session.run(&gradient, &two)?;
    let hessian = session.run([&of_b[..], &of_c], &two)?;
    run.say(format_args!("at b = 2, c = 1: gradient {:?}", numbers(&gradient)?))?;
    run.say(format_args!("Hessian {:?}, {:?}", numbers(&hessian[0])?, numbers(&hessian[1])?))?;

    // With b = 2, a = (c + 2)² is least at c = −2.
    for _ in 0..args.epochs {
        let (a, _) = session.run((a, train), &two)?;
        run.step(a.item()?, ("c", session.value(c)?.item()?));
    }
    let (lowest, c) = session.run((a, c), &two)?;

    run.write("loss.svg", &plot::loss_curve(run.losses(), 1, &[])?)?;
    let (title, series) = ("a = (b + c) · (c + 2) at c = 1", Series { name: "a", points: values });
    run.write("result.svg", &plot::lines(title, ("b", "a"), LowerRight, &[series])?)?;
    run.finish(
        &session,
        &Summary {
            epochs: args.epochs as usize,
            final_loss: lowest.item()?,
            metric: "c, which tends to -2",
            value: c.item()?,
            more: &[],
        },
    )
}

/// The numbers of scalar tensors.
fn numbers(tensors: &[gradtape::Tensor]) -> gradtape::Result<Vec<f64>> {
    tensors.iter().map(|t| t.item()).collect()
}
