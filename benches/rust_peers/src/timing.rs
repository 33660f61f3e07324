//! The timing of the peers' benchmark: chunks of steps of some milliseconds, the state fresh every
//! 200 steps.

use crate::{Result, machine};
use std::time::Instant;

/// What is timed.
pub trait Steps {
    /// The initial state again.
    fn reset(&mut self) -> Result<()>;

    /// Steps `from` to `from + n`, and the loss of the last.
    fn run(&mut self, from: usize, n: usize) -> Result<f32>;

    /// Σ |dx| of the last step, for an elementwise workload.
    fn gradient_sum(&self) -> Result<Option<f64>> {
        Ok(None)
    }
}

/// After so many steps the state is fresh, before it converges into subnormal numbers.
const RESET: usize = 200;

/// The fields of the JSON line that are not the names of what ran. `k` is the step of `lossK`.
pub fn measure(steps: &mut dyn Steps, k: usize, trains: bool, seconds: f64) -> Result<String> {
    let start = Instant::now();
    steps.reset()?;
    let loss_1 = steps.run(0, 1)?;
    let first_call = start.elapsed().as_secs_f64();
    let gradient_sum = steps.gradient_sum()?;
    let loss_k = if k > 1 { steps.run(1, k - 1)? } else { loss_1 };

    let start = Instant::now();
    steps.run(0, 3)?;
    let step = start.elapsed().as_secs_f64() / 3.0;
    let chunk = if step > 2.5e-3 { 1 } else { (5e-3 / step).ceil().clamp(1.0, 100.0) as usize };

    let usage = machine::Usage::now();
    let (mut times, mut at, start) = (Vec::new(), RESET, Instant::now());
    while start.elapsed().as_secs_f64() < seconds || times.len() < 15 {
        if trains && at + chunk > RESET {
            steps.reset()?;
            at = chunk.clamp(2, 10);
            steps.run(0, at)?;
        }
        let begin = Instant::now();
        steps.run(at, chunk)?;
        times.push(begin.elapsed().as_secs_f64() * 1e6 / chunk as f64);
        at += chunk;
    }
    let usage = usage.and_then(|usage| usage.since());
    times.sort_by(f64::total_cmp);

    let number = |x: Option<f64>, digits| match x {
        Some(x) => format!("{x:.digits$}"),
        None => "null".to_string(),
    };
    let text = |x: f64, digits| number(Some(x), digits);
    let fields = [
        ("us_median", text(times[times.len() / 2], 3)),
        ("us_min", text(times[0], 3)),
        ("us_max", text(times[times.len() - 1], 3)),
        ("chunk", chunk.to_string()),
        ("chunks", times.len().to_string()),
        ("loss1", text(loss_1.into(), 9)),
        ("lossK", text(loss_k.into(), 9)),
        ("K", k.to_string()),
        ("gradsum", number(gradient_sum, 9)),
        ("first_call_s", text(first_call, 4)),
        ("peak_rss_mb", number(machine::peak_rss_mb(), 1)),
        ("other_cpu", number(usage.map(|u| u.0), 3)),
        ("own_cpu", number(usage.map(|u| u.1), 2)),
    ];
    Ok(fields.map(|(name, value)| format!("\"{name}\": {value}")).join(", "))
}
