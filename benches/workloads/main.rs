//! Training workloads of the peers' benchmark: same data, initial values, losses and optimizers to
//! the letter, and the same JSON line, so that ours and a peer's can be run side by side.
//!
//!     cargo bench --bench workloads -- --workload mlp_mnist --threads 1 --seconds 3

mod data;
mod images;
mod machine;
mod models;
mod sequences;
#[path = "../../tests/support/mod.rs"]
mod support;

use gradtape::{Feed, Report, Result, Session, Tensor};
use models::Workload;
use std::time::Instant;
use support::counted;

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

/// After so many steps the variables start again, before they converge into subnormal numbers.
const RESET: usize = 200;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let number = |name, default| option(name).map_or(Some(default), |n| n.parse::<f64>().ok());
    let (Some(seconds), Some(threads)) = (number("--seconds", 1.0), number("--threads", 1.0))
    else {
        eprintln!("expected numbers after --seconds and --threads");
        std::process::exit(2);
    };
    let names = match option("--workload").map(String::as_str) {
        None | Some("all") => models::NAMES.to_vec(),
        Some(name) => vec![name],
    };
    for name in names {
        let Some(workload) = Workload::of(name)? else {
            eprintln!("expected one of {}, got {name}", models::NAMES.join(", "));
            std::process::exit(2);
        };
        let feeds = workload.feeds();
        let run = Run { workload: &workload, feeds: &feeds, threads: threads as usize };
        if args.iter().any(|a| a == "--report") {
            println!("{}", run.report(&mut run.session()?)?);
        }
        if let Some(path) = option("--trace") {
            run.trace(path)?;
        }
        println!("{}", run.measure(name, seconds)?);
    }
    Ok(())
}

/// A workload with its feeds.
struct Run<'a> {
    workload: &'a Workload,
    feeds: &'a [Vec<Feed<'a, f32>>],
    threads: usize,
}

impl Run<'_> {
    /// A session with the initial values.
    fn session(&self) -> Result<Session<f32>> {
        Session::new(&self.workload.tape)?.with_threads(self.threads)
    }

    fn report(&self, session: &mut Session<f32>) -> Result<Report> {
        session.report(&self.workload.fetches, &self.feeds[0])
    }

    /// Writes when everything in the eleventh step happened.
    fn trace(&self, path: &str) -> Result<()> {
        let mut session = self.session()?;
        self.steps(&mut session, &mut Vec::new(), 0, 10)?;
        let feeds = &self.feeds[10 % self.feeds.len()];
        session.trace(&self.workload.fetches, feeds)?.1.write(path)
    }

    /// Steps `from` to `from + n`.
    fn steps(
        &self,
        session: &mut Session<f32>,
        out: &mut Vec<Tensor<f32>>,
        from: usize,
        n: usize,
    ) -> Result<()> {
        for step in from..from + n {
            let feeds = &self.feeds[step % self.feeds.len()];
            session.run_into(&self.workload.fetches, feeds, out)?;
        }
        Ok(())
    }

    /// The JSON line: the losses, then the times of chunks of steps of some milliseconds, as the
    /// peers are timed.
    fn measure(&self, name: &str, seconds: f64) -> Result<String> {
        let (workload, mut out) = (self.workload, Vec::new());
        let start = Instant::now();
        let (first_run, heap_bytes, _) = counted(|| {
            let mut session = self.session()?;
            self.steps(&mut session, &mut out, 0, 1)?;
            Ok(session)
        });
        let mut session = first_run?;
        let first_call = start.elapsed().as_secs_f64();
        let plan_bytes = self.report(&mut session)?.peak_bytes();
        let loss_1 = workload.loss(&out)?;
        self.steps(&mut session, &mut out, 1, workload.k - 1)?;
        let loss_k = workload.loss(&out)?;
        let gradient_sum = workload.gradient_sum(&out);

        let start = Instant::now();
        self.steps(&mut session, &mut out, 0, 3)?;
        let step = start.elapsed().as_secs_f64() / 3.0;
        let chunk = if step > 2.5e-3 { 1 } else { (5e-3 / step).ceil().clamp(1.0, 100.0) as usize };

        let usage = machine::Usage::now();
        let (mut times, mut allocations, mut at, start) = (vec![], 0, RESET, Instant::now());
        while start.elapsed().as_secs_f64() < seconds || times.len() < 15 {
            if workload.trains && at + chunk > RESET {
                // The old one goes first: two at a time would count twice in the peak memory.
                drop(session);
                session = self.session()?;
                at = chunk.clamp(2, 10);
                self.steps(&mut session, &mut out, 0, at)?;
            }
            let begin = Instant::now();
            let (ran, _, calls) = counted(|| self.steps(&mut session, &mut out, at, chunk));
            times.push(begin.elapsed().as_secs_f64() * 1e6 / chunk as f64);
            ran?;
            allocations += calls;
            at += chunk;
        }
        let usage = usage.and_then(|usage| usage.since());
        let steps = times.len() * chunk;
        times.sort_by(f64::total_cmp);

        let mb = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let number = |x: Option<f64>, digits| match x {
            Some(x) => format!("{x:.digits$}"),
            None => "null".to_string(),
        };
        let text = |x: f64, digits| number(Some(x), digits);
        let fields = [
            ("threads", self.threads.to_string()),
            ("us_median", text(times[times.len() / 2], 3)),
            ("us_min", text(times[0], 3)),
            ("us_max", text(times[times.len() - 1], 3)),
            ("chunk", chunk.to_string()),
            ("chunks", times.len().to_string()),
            ("loss1", text(loss_1, 9)),
            ("lossK", text(loss_k, 9)),
            ("K", workload.k.to_string()),
            ("gradsum", number(gradient_sum, 9)),
            ("first_call_s", text(first_call, 4)),
            ("allocs_per_step", text(allocations as f64 / steps as f64, 3)),
            ("plan_mb", text(mb(plan_bytes), 3)),
            ("heap_mb", text(mb(heap_bytes), 3)),
            ("peak_rss_mb", number(machine::peak_rss_mb(), 1)),
            ("other_cpu", number(usage.map(|u| u.0), 3)),
            ("own_cpu", number(usage.map(|u| u.1), 2)),
        ];
        let fields = fields.map(|(name, value)| format!("\"{name}\": {value}"));
        let head = format!("\"peer\": \"gradtape\", \"workload\": \"{name}\"");
        Ok(format!("{{{head}, {}}}", fields.join(", ")))
    }
}
