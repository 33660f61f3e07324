//! Threads that wait for work: a job is called once for each part, on as many threads as there
//! are. Which thread does a part, and how many there are, never shows in the results. A thread
//! that the system does not run leaves its parts to the others.

use crate::error::{Error, ErrorKind, Result};
use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

/// The most threads of a team and parts of a job, which have a bit each.
pub(crate) const MAX_THREADS: usize = 32;

/// Looks at the next job this often before a worker goes to sleep: some hundred microseconds,
/// which is longer than the gap between two instructions of a plan, or two runs in a loop.
const SPINS: u32 = 10_000;
/// Looks at the workers this often before the caller lets other threads run.
const SPINS_BEFORE_YIELD: u32 = 20_000;

/// Threads that sleep until [`Team::run`] wants them; they end with the team.
#[derive(Debug)]
pub(crate) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Jobs so far.
    jobs: u32,
}

/// A value on a cache line of its own (two, as they are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// The function of a job, which lives on the caller's stack.
type Job = &'static (dyn Fn(usize) + Sync);

#[derive(Debug, Default)]
struct Shared {
    /// The number of the job in the upper half, which is the signal to start; in the lower half a
    /// bit for each part that no thread has begun.
    open: Padded<AtomicU64>,
    /// Parts of the job that workers are done with.
    finished: Padded<AtomicUsize>,
    /// Workers that sleep, or are about to.
    sleepers: Padded<AtomicUsize>,
    stop: AtomicBool,
    /// Where the job's function stands: written before it starts, read by whoever has begun a
    /// part of it.
    job: AtomicPtr<Job>,
    /// What a worker panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    /// Begins a part of this job: the preferred one, or else the first that is open. `None` if
    /// there is none, or if this is not the job any more.
    fn claim(&self, job: u32, preferred: usize) -> Option<usize> {
        let mut now = self.open.0.load(Acquire);
        loop {
            let open = now as u32;
            if (now >> 32) as u32 != job || open == 0 {
                return None;
            }
            let part = match open >> preferred & 1 {
                1 => preferred,
                _ => open.trailing_zeros() as usize,
            };
            match self.open.0.compare_exchange_weak(now, now & !(1 << part), AcqRel, Acquire) {
                Ok(_) => return Some(part),
                Err(newer) => now = newer,
            }
        }
    }

    /// Starts the job after this one, with these parts.
    fn start(&self, job: u32, parts: usize) {
        let bits = (1u64 << parts) - 1;
        self.open.0.store(u64::from(job) << 32 | bits, SeqCst);
    }
}

impl Team {
    /// A team of `n` threads, the caller's own among them.
    ///
    /// # Errors
    /// 0 or more than [`MAX_THREADS`]; a thread that the system does not give.
    pub(crate) fn new(n: usize) -> Result<Team> {
        if !(1..=MAX_THREADS).contains(&n) {
            let text = format!("threads: expected 1 to {MAX_THREADS}, got {n}");
            return Err(Error::new(ErrorKind::Argument, text));
        }
        let shared = Arc::new(Shared::default());
        let mut team = Team { shared, workers: Vec::with_capacity(n - 1), jobs: 0 };
        for index in 1..n {
            let shared = Arc::clone(&team.shared);
            let worker = std::thread::Builder::new()
                .name(format!("gradtape-{index}"))
                .spawn(move || work(&shared, index))
                .map_err(|e| Error::new(ErrorKind::Io, format!("thread {index} of {n}: {e}")))?;
            team.workers.push(worker);
        }
        Ok(team)
    }

    /// The number of the calling thread in its team; the caller's of [`Team::run`] is 0.
    pub(crate) fn thread() -> usize {
        THREAD.get()
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f` once for each of 0..`parts`, on several threads at once, and returns when all
    /// calls have. Thread t begins with part t, if another has not taken it.
    ///
    /// # Panics
    /// If a call does; more than [`MAX_THREADS`] parts.
    pub(crate) fn run(&mut self, parts: usize, f: &(dyn Fn(usize) + Sync)) {
        if self.threads() == 1 || parts < 2 {
            return (0..parts).for_each(f);
        }
        assert!(parts <= MAX_THREADS, "{parts} parts");
        let shared = &*self.shared;
        self.jobs = self.jobs.wrapping_add(1);
        let job = self.jobs;
        // SAFETY: the lifetime is forgotten here and kept by `Wait`: this function does not
        // return, nor unwind, before every part that a worker began is finished, and from then
        // on `claim` refuses.
        let mut f_static = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(f) };
        shared.job.store(&raw mut f_static, Relaxed);
        *lock(&shared.panic) = None;
        shared.finished.0.store(0, Relaxed);
        shared.start(job, parts);
        if shared.sleepers.0.load(SeqCst) > 0 {
            self.workers.iter().map(JoinHandle::thread).for_each(Thread::unpark);
        }
        let mut wait = Wait { shared, job, left: parts };
        while let Some(part) = wait.claim() {
            f(part);
        }
        drop(wait);
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.start(self.jobs.wrapping_add(1), 0);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its jobs, so there is nothing to report.
            let _ = worker.join();
        }
    }
}

/// The caller's share of a job. Waits, when it goes, until workers have finished what they began;
/// also when the caller's own part panics.
struct Wait<'a> {
    shared: &'a Shared,
    job: u32,
    /// Parts that the caller has not begun.
    left: usize,
}

impl Wait<'_> {
    fn claim(&mut self) -> Option<usize> {
        let part = self.shared.claim(self.job, 0)?;
        self.left -= 1;
        Some(part)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // After a panic: nobody shall begin what is left.
        while self.claim().is_some() {}
        let mut spins = 0;
        while self.shared.finished.0.load(Acquire) < self.left {
            if spins < SPINS_BEFORE_YIELD {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// A worker's life.
fn work(shared: &Shared, index: usize) {
    THREAD.set(index);
    let mut seen = 0;
    loop {
        seen = next(shared, seen);
        if shared.stop.load(SeqCst) {
            return;
        }
        while let Some(part) = shared.claim(seen, index) {
            // SAFETY: the caller wrote the pointer before it started job `seen`, and keeps it and
            // the function alive until every part that was begun is finished; this one was begun,
            // and counts itself out below, after the call.
            let f = unsafe { *shared.job.load(Relaxed) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(part))) {
                lock(&shared.panic).get_or_insert(panic);
            }
            shared.finished.0.fetch_add(1, Release);
        }
    }
}

/// The number of a job other than `seen`, once there is one.
fn next(shared: &Shared, seen: u32) -> u32 {
    let job = |order| (shared.open.0.load(order) >> 32) as u32;
    for _ in 0..SPINS {
        let now = job(Acquire);
        if now != seen {
            return now;
        }
        std::hint::spin_loop();
    }
    shared.sleepers.0.fetch_add(1, SeqCst);
    let now = loop {
        // After the count: whoever starts a job later sees the sleeper, and wakes it.
        let now = job(SeqCst);
        if now != seen {
            break now;
        }
        std::thread::park();
    };
    shared.sleepers.0.fetch_sub(1, SeqCst);
    now
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The range of part `i` when `n` units are cut into `parts` parts of equal size, up to one.
pub(crate) fn part(n: usize, parts: usize, i: usize) -> Range<usize> {
    let (size, larger) = (n / parts, n % parts);
    let start = i * size + i.min(larger);
    start..start + size + usize::from(i < larger)
}

/// As [`part`], of `len` elements cut between units of this many.
pub(crate) fn part_of(len: usize, unit: usize, parts: usize, i: usize) -> Range<usize> {
    let units = part(len.div_ceil(unit), parts, i);
    (units.start * unit).min(len)..(units.end * unit).min(len)
}

/// The same range of every `period` elements of a slice: what one thread writes of a value that
/// threads share, where that is not one piece. Of a column-major tensor with the extent of axis 0
/// as the period, run j is some rows of column j.
///
/// ```
/// use gradtape::Runs;
/// let mut y = [0; 6];
/// let (mut a, mut b) = Runs::new(&mut y, 3).split_at(1);
/// a.run(0).fill(1);
/// b.run(1).fill(2);
/// assert_eq!(y, [1, 0, 0, 0, 2, 2]);
/// ```
#[derive(Debug)]
pub struct Runs<'a, T> {
    base: *mut T,
    n: usize,
    period: usize,
    range: Range<usize>,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: as the exclusive slices that it gives out, of elements that nobody else has.
unsafe impl<T: Send> Send for Runs<'_, T> {}
// SAFETY: as above; what is shared gives out no element.
unsafe impl<T: Sync> Sync for Runs<'_, T> {}

impl<'a, T> Runs<'a, T> {
    /// All of a slice: a run is a whole period.
    ///
    /// # Panics
    /// A length that is not a multiple of the period.
    pub fn new(slice: &'a mut [T], period: usize) -> Self {
        let len = slice.len();
        assert!(len.is_multiple_of(period), "runs: expected periods of {period}, got {len}");
        let n = len.checked_div(period).unwrap_or(0);
        Runs { base: slice.as_mut_ptr(), n, period, range: 0..period, of: PhantomData }
    }

    /// How many runs there are.
    pub fn count(&self) -> usize {
        self.n
    }

    /// Which elements of each period they are.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Run number `i`.
    ///
    /// # Panics
    /// A run that is not there.
    #[inline]
    pub fn run(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.n, "runs: expected one below {}, got {i}", self.n);
        // SAFETY: one of `n`, and borrowed from `self`, as all that `self` gives out.
        unsafe { self.at(i) }
    }

    /// All runs at once, in order.
    pub fn into_runs(self) -> impl Iterator<Item = &'a mut [T]> {
        // SAFETY: one of `n`, each once, and `self` is gone.
        (0..self.n).map(move |i| unsafe { self.at(i) })
    }

    /// The first `at` elements of each run, and the others.
    ///
    /// # Panics
    /// More than a run has.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let Range { start, end } = self.range;
        assert!(at <= end - start, "runs: expected at most {}, got {at}", end - start);
        (Runs { range: start..start + at, ..self }, Runs { range: start + at..end, ..self })
    }

    /// # Safety
    /// `i` is below `n`, and nobody else has that run.
    #[allow(clippy::mut_from_ref)] // see above
    unsafe fn at(&self, i: usize) -> &'a mut [T] {
        let Range { start, end } = self.range;
        // SAFETY: the range lies within the period and `n` periods within the slice, which stays
        // borrowed for 'a. Ranges of different `Runs` of a slice are disjoint.
        unsafe {
            std::slice::from_raw_parts_mut(self.base.add(i * self.period + start), end - start)
        }
    }
}

/// A slice cut into pieces, each of which some thread takes, once.
pub(crate) struct Pieces<'a, T> {
    whole: Runs<'a, T>,
    unit: usize,
    parts: usize,
    taken: AtomicU64,
}

// SAFETY: a shared `Pieces` gives out exclusive pieces, each once: as sending the pieces would.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'a, T> Pieces<'a, T> {
    /// The slice as `parts` pieces of whole units, of which the last may be short, cut as [`part`]
    /// does.
    ///
    /// # Panics
    /// More than [`MAX_THREADS`] parts; units of nothing.
    pub(crate) fn new(slice: &'a mut [T], unit: usize, parts: usize) -> Self {
        let len = slice.len();
        Pieces::strided(slice, len, unit, parts)
    }

    /// The slice with every `period` elements cut in the same way: a piece is runs.
    ///
    /// # Panics
    /// As [`Pieces::new`] and [`Runs::new`].
    pub(crate) fn strided(slice: &'a mut [T], period: usize, unit: usize, parts: usize) -> Self {
        assert!(parts <= MAX_THREADS && unit > 0);
        Pieces { whole: Runs::new(slice, period), unit, parts, taken: AtomicU64::new(0) }
    }

    /// Piece `i` of a slice of one period.
    ///
    /// # Panics
    /// A piece that is not there or that was taken before; more than one period.
    pub(crate) fn take(&self, i: usize) -> &'a mut [T] {
        assert!(self.whole.n <= 1, "a piece of {} runs", self.whole.n);
        self.take_runs(i).into_runs().next().unwrap_or_default()
    }

    /// Piece `i`.
    ///
    /// # Panics
    /// A piece that is not there or that was taken before.
    pub(crate) fn take_runs(&self, i: usize) -> Runs<'a, T> {
        assert!(i < self.parts, "piece {i} of {}", self.parts);
        let before = self.taken.fetch_or(1 << i, Relaxed);
        assert!(before & (1 << i) == 0, "piece {i} of {} is taken twice", self.parts);
        let Runs { base, n, period, .. } = self.whole;
        // The ranges of different pieces are disjoint, and this one is given out for the first
        // time: what the `unsafe` in `Runs` relies on.
        let range = part_of(period, self.unit, self.parts, i);
        Runs { base, n, period, range, of: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_done_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 5] {
            let mut team = Team::new(threads).unwrap();
            for round in 0..200 {
                for parts in [0, 1, 2, 3, 7, 32] {
                    let mut y = vec![0; parts * 3];
                    let pieces = Pieces::new(&mut y, 3, parts.max(1));
                    team.run(parts, &|i| pieces.take(i).fill(i + round));
                    let want: Vec<_> = (0..parts).flat_map(|i| [i + round; 3]).collect();
                    assert_eq!(y, want, "{parts} parts on {threads} threads");
                }
            }
        }
    }

    #[test]
    fn strided_pieces_are_the_same_range_of_every_period() {
        for threads in [1, 2, 3, 5] {
            let mut team = Team::new(threads).unwrap();
            for (period, unit) in [(1, 1), (7, 1), (7, 3), (33, 16), (32, 16), (5, 9)] {
                for (periods, parts) in [(0, 1), (1, 2), (3, 1), (4, 3), (2, 5)] {
                    let mut y = vec![usize::MAX; periods * period];
                    let pieces = Pieces::strided(&mut y, period, unit, parts);
                    team.run(parts, &|i| {
                        let mut runs = pieces.take_runs(i);
                        assert_eq!(runs.count(), periods);
                        assert_eq!(runs.range(), part_of(period, unit, parts, i));
                        // Backwards: no run hangs on another.
                        for o in (0..periods).rev() {
                            runs.run(o).fill(i + 10 * o);
                        }
                        runs.into_runs().for_each(|run| run.iter_mut().for_each(|y| *y += 1));
                    });
                    let owner = |at: usize| {
                        (0..parts).find(|&i| part_of(period, unit, parts, i).contains(&at))
                    };
                    let want: Vec<_> = (0..periods * period)
                        .map(|at| owner(at % period).unwrap() + 10 * (at / period) + 1)
                        .collect();
                    assert_eq!(y, want, "{periods} of {period} by {unit}, {parts} parts");
                }
            }
        }
    }

    #[test]
    fn runs_split_within_each_period() {
        let mut y = [0; 10];
        let (a, b) = Runs::new(&mut y, 5).split_at(2);
        let (b, c) = b.split_at(1);
        assert_eq!([a.range(), b.range(), c.range()], [0..2, 2..3, 3..5]);
        for (runs, number) in [(a, 1), (b, 2), (c, 3)] {
            runs.into_runs().for_each(|run| run.fill(number));
        }
        assert_eq!(y, [1, 1, 2, 3, 3, 1, 1, 2, 3, 3]);
        assert_eq!(Runs::new(&mut [0; 0], 0).into_runs().count(), 0);
    }

    #[test]
    #[should_panic(expected = "runs: expected one below 2, got 2")]
    fn a_run_past_the_last_is_refused() {
        Runs::new(&mut [0; 4], 2).run(2);
    }

    #[test]
    #[should_panic(expected = "runs: expected at most 1, got 2")]
    fn a_split_outside_the_range_is_refused() {
        // Inside the period, though.
        Runs::new(&mut [0; 3], 3).split_at(1).0.split_at(2);
    }

    #[test]
    #[should_panic(expected = "runs: expected periods of 3, got 4")]
    fn a_part_of_a_period_is_refused() {
        Runs::new(&mut [0; 4], 3);
    }

    #[test]
    #[should_panic(expected = "a piece of 2 runs")]
    fn a_strided_piece_is_not_a_slice() {
        Pieces::strided(&mut [0; 4], 2, 1, 2).take(0);
    }

    #[test]
    fn sleeping_workers_wake() {
        let mut team = Team::new(3).unwrap();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let calls = AtomicUsize::new(0);
            team.run(3, &|_| {
                calls.fetch_add(1, Relaxed);
            });
            assert_eq!(calls.into_inner(), 3);
        }
    }

    #[test]
    fn a_panic_in_any_part_reaches_the_caller_and_the_team_lives_on() {
        let mut team = Team::new(3).unwrap();
        for bad in 0..3 {
            let job = AssertUnwindSafe(|| team.run(3, &|i| assert_ne!(i, bad, "part {bad}")));
            assert!(catch_unwind(job).is_err());
            team.run(3, &|_| ());
        }
    }

    #[test]
    fn parts_differ_by_one_at_most() {
        let cuts: Vec<_> = (0..4).map(|i| part(10, 4, i)).collect();
        assert_eq!(cuts, [0..3, 3..6, 6..8, 8..10]);
        assert_eq!(part(1, 3, 2), 1..1);
        assert_eq!([0, 1, 2].map(|i| part_of(10, 4, 3, i)), [0..4, 4..8, 8..10]);
        assert_eq!([0, 1, 2].map(|i| part_of(3, 4, 3, i)), [0..3, 3..3, 3..3]);
    }

    #[test]
    #[should_panic(expected = "piece 1 of 2 is taken twice")]
    fn a_piece_is_taken_once() {
        let mut y = [0; 4];
        let pieces = Pieces::new(&mut y, 1, 2);
        pieces.take(1);
        pieces.take(1);
    }

    #[test]
    fn wrong_numbers_are_refused() {
        for n in [0, 33, usize::MAX] {
            let e = Team::new(n).unwrap_err();
            assert_eq!(e.to_string(), format!("threads: expected 1 to 32, got {n}"));
        }
    }
}
