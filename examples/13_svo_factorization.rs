//! Who does what to whom: a logistic factorization of Counts[verb][subject][object], the lecture's
//! example of more than two axes. Vectors of verbs, subjects and objects tell which clauses a text
//! may hold that were never seen.
//!
//!     cargo run --release --example 13_svo_factorization
//!
//! P(count > 0) = σ(⟨V₁[v], S₁[s]⟩ + ⟨V₂[v], O₂[o]⟩ + ⟨S₃[s], O₃[o]⟩ + the bias of each word):
//! pairwise interactions (Rendle and Schmidt-Thieme 2010), learned from some cells and judged by
//! the others.

mod common;

use common::{Options, Result, Run, Summary, plot};
use gradtape::data::metrics::roc_auc;
use gradtape::io::{Classes, Csv};
use gradtape::nn::Init;
use gradtape::optim::Lbfgs;
use gradtape::{Index, Philox, Session, Tape, Tensor, nn};
use std::process::ExitCode;

/// Factorize the table of verbs, subjects and objects; judge by cells that were left out
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Numbers in a vector; with 0 only the words themselves count
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=256))]
    rank: u32,
    /// Weight of the penalty on the factors
    #[arg(long, default_value_t = 1e-4)]
    lambda: f64,
    /// Iterations at most
    #[arg(long, default_value_t = 500)]
    #[arg(default_value_if("short", "true", "60"))]
    iterations: u64,
    /// The share of the cells that are left out
    #[arg(long, default_value_t = 0.2)]
    left_out: f64,
    /// CSV file of verb, subject, object, count
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/svo_counts/svo_counts_top_30x20x40.csv"))]
    data: std::path::PathBuf,
}

fn main() -> ExitCode {
    common::main(run)
}

const WORDS: [&str; 3] = ["verb", "subject", "object"];

fn run(args: Args) -> Result {
    if !(0.0..=0.9).contains(&args.left_out) {
        return Err(format!("--left-out: expected 0 to 0.9, got {}", args.left_out).into());
    }
    // The counts as a tensor; most cells are not in the file, and 0.
    let table = Csv::new().read(&args.data)?;
    let mut axes: Vec<(Classes, Vec<Index>)> = Vec::new();
    for word in WORDS {
        let classes = table.classes(word)?;
        let labels = table.labels(word, &classes)?.into_vec();
        axes.push((classes, labels));
    }
    let extents = [axes[0].0.len(), axes[1].0.len(), axes[2].0.len()];
    let counts: Tensor = table.numbers(["count"])?;
    let mut seen = Tensor::zeros(extents)?;
    for (row, &count) in counts.as_slice().iter().enumerate() {
        let position = axes.iter().map(|(_, labels)| labels[row] as usize).zip(extents);
        let cell = position.rev().fold(0, |cell, (at, extent)| cell * extent + at);
        seen.as_mut_slice()[cell] = f64::from(count > 0.0);
    }
    let mut rng = Philox::new(args.options.seed, 0);
    let chance: Tensor = Init::Uniform { low: 0.0, high: 1.0 }.tensor(extents, &mut rng)?;
    let left_out = chance.map(|x| f64::from(x < args.left_out));
    let n_left_out = left_out.as_slice().iter().sum::<f64>();

    // Record the logits of all cells, and the loss of those that are not left out.
    let tape = Tape::<f64>::new();
    let rank = args.rank as usize;
    let (mut logits, mut factors) = (tape.variable("bias", 0.0), Vec::new());
    for (axis, word) in WORDS.into_iter().enumerate() {
        let bias = tape.variable(&format!("{word} bias"), Tensor::zeros(extents[axis])?);
        let others: Vec<isize> = (0..3).filter(|&other| other != axis as isize).collect();
        logits = logits + bias.expand_dims(&others);
    }
    for (a, b, other) in [(0, 1, 2), (0, 2, 1), (1, 2, 0)] {
        let [a, b] = [(a, b), (b, a)].map(|(of, with)| -> Result<_> {
            let start = Init::Normal { std: 0.3 }.tensor([extents[of], rank], &mut rng)?;
            Ok(tape.variable(&format!("{} with {}", WORDS[of], WORDS[with]), start))
        });
        let (a, b) = (a?, b?);
        logits = logits + a.matmul(b.t()).expand_dims(&[other]);
        factors.extend([a, b]);
    }
    let seen_cells = tape.constant(seen.clone());
    let counted = 1.0 - tape.constant(left_out.clone());
    let loss = (logits.logistic_loss(seen_cells) * counted).sum() / counted.sum();
    let objective = loss + nn::l2(&tape, &factors, args.lambda);
    let attraction = factors[3].matmul(factors[2].t());
    let learn = Lbfgs::new().with_max_iterations(args.iterations).minimize(objective)?;

    let mut run = Run::start(&args.options, args.iterations as usize)?;
    let mut session = Session::new(&tape)?;
    let outcome = run.minimize(&mut session, &learn)?;

    // The objects that each verb attracts most, beyond how frequent they are.
    let [verbs, _, objects] = &axes[..] else { return Ok(()) };
    let likes = session.run(attraction, &[])?;
    for (verb, likes) in verbs.0.names().iter().zip(likes.as_slice().chunks(objects.0.len())) {
        let mut order: Vec<usize> = (0..likes.len()).collect();
        order.sort_by(|&a, &b| likes[b].total_cmp(&likes[a]));
        let best: Vec<&str> = order.iter().take(5).map(|&i| &*objects.0.names()[i]).collect();
        run.say(format_args!("{verb:<10} {}", best.join(", ")))?;
    }

    // Judge by the cells that were left out: how often a cell that is seen has the larger logit.
    let logits = session.run(logits, &[])?;
    let kept = |of: &Tensor| -> Vec<f64> {
        let cells = of.as_slice().iter().zip(left_out.as_slice());
        cells.filter(|(_, left)| **left > 0.0).map(|(&x, _)| x).collect()
    };
    let truth = kept(&seen).into_iter().map(|seen| seen as Index).collect();
    let auc = roc_auc(&Tensor::vector(truth), &Tensor::vector(kept(&logits)))?;
    run.write("loss.svg", &plot::convergence(run.losses(), outcome.loss)?)?;
    run.finish(
        &session,
        &Summary {
            epochs: outcome.iterations as usize,
            final_loss: outcome.loss,
            metric: "test auc",
            value: auc,
            more: &[("cells_left_out", n_left_out), ("gradient_norm", outcome.gradient_norm)],
        },
    )
}
