//! What the operating system says of this process and of its neighbors. Linux only; elsewhere
//! the figures are missing.

use std::fs::read_to_string;
use std::time::Instant;

/// The peak resident memory of this process so far in MiB.
pub fn peak_rss_mb() -> Option<f64> {
    let status = read_to_string("/proc/self/status").ok()?;
    let kib = field(&status, "VmHWM:")?;
    Some(kib.trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

/// The processor time spent so far on the CPUs that this process may use: by all, and by itself.
pub struct Usage {
    all: f64,
    own: f64,
    at: Instant,
}

impl Usage {
    pub fn now() -> Option<Usage> {
        let allowed = read_to_string("/proc/self/status").ok()?;
        let allowed: Vec<usize> =
            field(&allowed, "Cpus_allowed_list:")?.split(',').filter_map(span).flatten().collect();
        let mut all = 0.0;
        for line in read_to_string("/proc/stat").ok()?.lines() {
            let mut words = line.split_whitespace();
            let cpu = words.next().and_then(|w| w.strip_prefix("cpu")?.parse().ok());
            if cpu.is_some_and(|cpu| allowed.contains(&cpu)) {
                let ticks: Vec<f64> = words.filter_map(|w| w.parse().ok()).collect();
                // user, nice, system, irq, softirq
                all += [0, 1, 2, 5, 6].iter().filter_map(|&i| ticks.get(i)).sum::<f64>();
            }
        }
        let stat = read_to_string("/proc/self/stat").ok()?;
        // The name before may hold spaces; after it, user and system time are words 11 and 12.
        let words = stat.rsplit(')').next()?.split_whitespace();
        let own: f64 = words.skip(11).take(2).filter_map(|w| w.parse::<f64>().ok()).sum();
        const TICKS_PER_SECOND: f64 = 100.0;
        let (all, own) = (all / TICKS_PER_SECOND, own / TICKS_PER_SECOND);
        Some(Usage { all, own, at: Instant::now() })
    }

    /// CPUs that others and we have used since then.
    pub fn since(&self) -> Option<(f64, f64)> {
        let now = Usage::now()?;
        let seconds = (now.at - self.at).as_secs_f64();
        let own = now.own - self.own;
        Some(((now.all - self.all - own).max(0.0) / seconds, own / seconds))
    }
}

/// The text after a field's name.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// `3` or `0-2`.
fn span(list: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (from, to) = list.split_once('-').unwrap_or((list, list));
    Some(from.parse().ok()?..=to.parse().ok()?)
}
