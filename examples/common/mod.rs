//! What the examples share: options, the progress bar, the last line, the hash of the weights, and
//! in `plot` their pictures. Knows no model.
#![allow(dead_code)] // Each example uses its part.

pub mod images;
pub mod parallel;
pub mod plot;
pub mod text;

use clap::Parser;
use gradtape::optim::{FullBatch, Method, Outcome};
use gradtape::{Expr, Feed, Scalar, Session};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The options that every example has.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Seed of all that is random: initial weights, splits, shuffles
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder for the pictures; made if it is not there
    #[arg(long, default_value = "out", value_name = "DIR")]
    pub out: PathBuf,
    /// End with one JSON object in place of the summary
    #[arg(long)]
    pub json: bool,
    /// Take a few seconds at most, for continuous integration
    #[arg(long)]
    pub short: bool,
}

/// Runs an example. What goes wrong is one line on stderr and exit code 1; clap's is 2.
pub fn main<Args: Parser>(example: fn(Args) -> Result) -> ExitCode {
    match example(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let text = e.to_string().replace("\n  --> ", ", at ");
            // With stderr closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// A run of an example: its clock, its losses so far, its progress bar.
pub struct Run {
    options: Options,
    started: Instant,
    bar: ProgressBar,
    n_steps: usize,
    /// The loss of every step.
    losses: Vec<f64>,
}

/// What an example ends with.
pub struct Summary<'a> {
    pub epochs: usize,
    pub final_loss: f64,
    /// What `value` is.
    pub metric: &'a str,
    pub value: f64,
    /// Further numbers.
    pub more: &'a [(&'a str, f64)],
}

impl Run {
    /// Starts the clock of a run of at most so many steps, and makes the folder of its pictures.
    pub fn start(options: &Options, n_steps: usize) -> Result<Run> {
        std::fs::create_dir_all(&options.out)
            .map_err(|e| format!("--out {}: {e}", options.out.display()))?;
        // On stderr, and silent if that is not a terminal.
        let bar = ProgressBar::new(n_steps as u64);
        bar.set_style(ProgressStyle::with_template(
            "{wide_bar:.blue} {pos}/{len}  {msg}  {eta} left",
        )?);
        let (options, started) = (options.clone(), Instant::now());
        Ok(Run { options, started, bar, n_steps, losses: Vec::new() })
    }

    /// One step is done: its loss, and another number worth watching.
    pub fn step(&mut self, loss: f64, metric: (&str, f64)) {
        self.losses.push(loss);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("loss {loss:.4}  {} {}", metric.0, number(metric.1)));
        }
        self.bar.inc(1);
    }

    /// Takes steps until the norm of the gradient is at most `tolerance`, or until the run's number
    /// of steps is done; gives loss and norm then.
    pub fn descend(
        &mut self,
        session: &mut Session,
        step: Expr,
        (loss, norm): (Expr, Expr),
        feeds: &[Feed<f64>],
        tolerance: f64,
    ) -> Result<(f64, f64)> {
        loop {
            let (loss, norm) = session.run((loss, norm), feeds)?;
            let (loss, norm) = (loss.item()?, norm.item()?);
            if norm <= tolerance || self.losses.len() >= self.n_steps {
                return Ok((loss, norm));
            }
            session.run(step, feeds)?;
            self.step(loss, ("gradient", norm));
        }
    }

    /// Minimizes by a full-batch method, whose iterations are the steps, and says how it ended.
    pub fn minimize(
        &mut self,
        session: &mut Session,
        method: &FullBatch<impl Method>,
    ) -> Result<Outcome> {
        let outcome = method.run_with(session, &[], |progress| {
            self.step(progress.loss, ("gradient", progress.gradient_norm));
            ControlFlow::Continue(())
        })?;
        self.say(outcome)?;
        Ok(outcome)
    }

    /// The loss of every step so far.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// The mean loss of the last steps.
    pub fn mean_loss(&self, n_steps: usize) -> f64 {
        let last = &self.losses[self.losses.len().saturating_sub(n_steps)..];
        last.iter().sum::<f64>() / last.len() as f64
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// A line on stdout, above the progress bar.
    pub fn say(&self, line: impl Display) -> Result {
        // Not println!, which panics when the reader of a pipe has gone.
        self.bar
            .suspend(|| writeln!(std::io::stdout(), "{line}"))
            .map_err(|e| format!("stdout: {e}"))?;
        Ok(())
    }

    /// Writes a file into the output folder: `<example>_<what>`.
    pub fn write(&self, what: &str, text: &str) -> Result {
        let path = self.options.out.join(format!("{}_{what}", env!("CARGO_BIN_NAME")));
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        self.say(format_args!("wrote {}", path.display()))
    }

    /// Says how the run ended, in a last line.
    pub fn finish<T: Scalar>(&self, session: &Session<T>, summary: &Summary) -> Result {
        self.bar.finish_and_clear();
        let Summary { epochs, final_loss, metric, value, more } = *summary;
        let mut fields: Vec<(&str, Value)> = vec![
            ("example", env!("CARGO_BIN_NAME").into()),
            ("seed", self.options.seed.into()),
            ("epochs", epochs.into()),
            ("final_loss", final_loss.into()),
            ("metric", metric.into()),
            ("value", value.into()),
        ];
        fields.extend(more.iter().map(|&(name, x)| (name, x.into())));
        fields.push(("seconds", self.seconds().into()));
        fields.push(("weights_sha256", weights_sha256(session)?.into()));
        if self.options.json {
            let object: Map<_, _> = fields.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
            return self.say(Value::from(object));
        }
        let show = |(name, value): &(&str, Value)| match value {
            Value::String(text) => format!("{name} {text}"),
            Value::Number(n) if n.is_f64() => {
                format!("{name} {}", number(value.as_f64().unwrap_or(f64::NAN)))
            }
            other => format!("{name} {other}"),
        };
        self.say(fields.iter().map(show).collect::<Vec<_>>().join(", "))
    }
}

/// ‖∂loss/∂(all of the variables)‖₂
pub fn gradient_norm<'t>(loss: Expr<'t>, variables: &[Expr<'t>]) -> Result<Expr<'t>> {
    let gradients = loss.tape().gradient(loss, variables)?;
    let squares = gradients.iter().map(|g| g.square().sum());
    Ok(squares.fold(loss.lit(0.0), |sum, square| sum + square).sqrt())
}

/// The SHA-256 of all variables in the order recorded, each column-major, little-endian.
pub fn weights_sha256<T: Scalar>(session: &Session<T>) -> Result<String> {
    let mut hash = Sha256::new();
    for (_, variable) in session.variables() {
        for x in session.value(variable)?.as_slice() {
            match size_of::<T>() {
                4 => hash.update((x.to_f64() as f32).to_le_bytes()),
                _ => hash.update(x.to_f64().to_le_bytes()),
            }
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Four digits, with an exponent where that is shorter.
pub fn number(x: f64) -> String {
    match x.abs() {
        size if size == 0.0 || (1e-3..1e6).contains(&size) => format!("{x:.4}"),
        _ => format!("{x:.2e}"),
    }
}
