//! When everything in one run happened, and the file of it that Chrome and Perfetto show.
//! Knows nothing of what runs; the executor says when something begins and ends.

use crate::error::{Error, Result};
use crate::kernel::team::{Pieces, Team};
use crate::plan::{Report, Work};
use crate::tape::op::list;
use std::fmt::{self, Write};
use std::path::Path;
use std::time::Instant;

/// When everything in one run happened. Made by [`Session::trace`](crate::Session::trace).
#[derive(Clone, Debug)]
pub struct Trace {
    /// What ran: the instructions and effects that events name by number.
    pub report: Report,
    /// The events in the order in which they began, but for the parts of one instruction without
    /// shards, which come by number. The first is the whole run.
    pub events: Vec<TraceEvent>,
    /// The threads of the session.
    pub threads: usize,
}

/// Something that took time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// What it was.
    pub stage: Stage,
    /// Which part, if it is what one thread did of something that threads share.
    pub part: Option<usize>,
    /// The shard whose instruction it was, if it was one's.
    pub shard: Option<usize>,
    /// The thread, from 0, the caller's.
    pub thread: usize,
    /// Nanoseconds from the beginning of the trace.
    pub start_ns: u64,
    /// How many nanoseconds it took.
    pub ns: u64,
}

/// What a [`TraceEvent`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The run.
    Step,
    /// The instruction of this number in [`Report::instructions`].
    Instruction(usize),
    /// All that is done for this shard of the batch before partial results meet.
    Shard(usize),
    /// The meeting of the shards' partial results, of those that one thread had not added up.
    Combine,
    /// The exchange with other ranks, as far as it was waited for.
    Exchange,
    /// The copies of what was fetched.
    Fetch,
    /// What comes before all updates: gradients are gathered and looked at, rates made.
    BeginUpdates,
    /// The update or assignment of this number in [`Report::effects`].
    Effect(usize),
}

impl Trace {
    /// The trace in Chrome's trace event format: complete events (`"ph": "X"`), times in
    /// microseconds, a `tid` for each thread. The arguments of an event say what it worked on,
    /// which line of the program recorded it, and how fast it was.
    pub fn to_json(&self) -> String {
        Json(self).to_string()
    }

    /// Writes [`Trace::to_json`] to a file, for chrome://tracing or <https://ui.perfetto.dev>.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.to_json()).map_err(|e| Error::io(path.display(), &e))
    }

    fn work(&self, stage: Stage) -> Option<&Work> {
        match stage {
            Stage::Instruction(i) => self.report.instructions.get(i),
            Stage::Effect(i) => self.report.effects.get(i),
            _ => None,
        }
    }
}

/// Notes events in memory set aside before.
#[derive(Debug)]
pub(super) struct Recorder {
    origin: Instant,
    events: Vec<TraceEvent>,
    /// The shard whose instructions come.
    shard: Option<usize>,
    /// The number in the report of the first instruction of the plan that runs.
    first: usize,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Recorder { origin: Instant::now(), events: Vec::new(), shard: None, first: 0 }
    }

    /// Another one of the same run, for what a thread does.
    pub(super) fn beside(&self) -> Self {
        Recorder { origin: self.origin, events: Vec::new(), shard: None, first: 0 }
    }

    /// Sets memory aside for a run of all that the report names, or several.
    pub(super) fn reserve(&mut self, report: &Report, times: usize) {
        let works = report.instructions.iter().chain(&report.effects);
        let most = 8 + works.map(|work| 1 + work.parts).sum::<usize>();
        self.events.reserve(most * times);
    }

    /// Takes the events of others, all of which have ended.
    pub(super) fn join(&mut self, others: impl Iterator<Item = Recorder>) {
        others.for_each(|other| self.events.extend(other.events));
    }

    pub(super) fn trace(mut self, report: Report, threads: usize) -> Trace {
        if self.events.iter().any(|event| event.shard.is_some()) {
            self.events.sort_by_key(|event| event.start_ns);
        }
        Trace { report, events: self.events, threads }
    }

    fn begin(&mut self, stage: Stage) -> usize {
        let stage = match stage {
            Stage::Instruction(i) => Stage::Instruction(self.first + i),
            stage => stage,
        };
        let (start_ns, thread, shard) = (nanoseconds(self.origin), Team::thread(), self.shard);
        self.events.push(TraceEvent { stage, part: None, shard, thread, start_ns, ns: 0 });
        self.events.len() - 1
    }

    fn end(&mut self, event: usize) {
        let event = &mut self.events[event];
        event.ns = nanoseconds(self.origin) - event.start_ns;
    }

    /// Runs the parts, each an event of what was begun last.
    fn run(&mut self, team: &mut Team, parts: usize, f: &(dyn Fn(usize) + Sync)) {
        let Some(&whole) = self.events.last() else { return team.run(parts, f) };
        let (origin, first) = (self.origin, self.events.len());
        self.events.resize(first + parts, whole);
        let events = Pieces::new(&mut self.events[first..], 1, parts);
        team.run(parts, &|i| {
            let start_ns = nanoseconds(origin);
            f(i);
            let ns = nanoseconds(origin) - start_ns;
            let (part, thread) = (Some(i), Team::thread());
            events.take(i)[0] = TraceEvent { part, thread, start_ns, ns, ..whole };
        });
    }
}

fn nanoseconds(origin: Instant) -> u64 {
    origin.elapsed().as_nanos() as u64
}

/// A team, and who notes what it does, if anybody.
pub(super) struct Watched<'a> {
    pub(super) team: &'a mut Team,
    pub(super) recorder: Option<&'a mut Recorder>,
}

impl Watched<'_> {
    /// As [`Team::run`].
    #[inline]
    pub(super) fn run(&mut self, parts: usize, f: &(dyn Fn(usize) + Sync)) {
        match &mut self.recorder {
            Some(recorder) if parts > 1 => recorder.run(self.team, parts, f),
            _ => self.team.run(parts, f),
        }
    }

    /// Begins an event, which [`Watched::end`] is told of.
    #[inline]
    pub(super) fn begin(&mut self, stage: Stage) -> Option<usize> {
        self.recorder.as_mut().map(|recorder| recorder.begin(stage))
    }

    /// Names the plan that comes, by the number of its first instruction in the report, and the
    /// shard that it is of.
    #[inline]
    pub(super) fn plan(&mut self, first: usize, shard: Option<usize>) {
        if let Some(recorder) = &mut self.recorder {
            (recorder.first, recorder.shard) = (first, shard);
        }
    }

    #[inline]
    pub(super) fn end(&mut self, event: Option<usize>) {
        if let (Some(recorder), Some(event)) = (&mut self.recorder, event) {
            recorder.end(event);
        }
    }
}

/// A trace as it is written.
struct Json<'a>(&'a Trace);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n")?;
        let named = "\"ph\": \"M\", \"pid\": 1";
        write!(f, "{{\"name\": \"process_name\", {named}, \"args\": {{\"name\": \"gradtape\"}}}}")?;
        for thread in 0..self.0.threads {
            let name = format_args!("\"args\": {{\"name\": \"thread {thread}\"}}");
            write!(f, ",\n{{\"name\": \"thread_name\", {named}, \"tid\": {thread}, {name}}}")?;
        }
        for event in &self.0.events {
            f.write_str(",\n")?;
            self.event(event, f)?;
        }
        f.write_str("\n]}\n")
    }
}

impl Json<'_> {
    fn event(&self, event: &TraceEvent, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = self.0.work(event.stage);
        let (name, sort) = match (event.stage, work) {
            (Stage::Instruction(_), Some(work)) => (work.name.as_str(), "instruction"),
            (Stage::Effect(_), Some(work)) => (work.name.as_str(), "effect"),
            (Stage::Shard(_), _) => ("shard", "step"),
            (Stage::Combine, _) => ("combine", "step"),
            (Stage::Exchange, _) => ("exchange", "step"),
            (Stage::Fetch, _) => ("fetch", "step"),
            (Stage::BeginUpdates, _) => ("begin updates", "step"),
            _ => ("step", "step"),
        };
        let sort = if event.part.is_some() { "part" } else { sort };
        let (ts, dur) = (Microseconds(event.start_ns), Microseconds(event.ns));
        write!(f, "{{\"name\": {}, \"cat\": \"{sort}\", \"ph\": \"X\", ", Quoted(name))?;
        write!(f, "\"ts\": {ts}, \"dur\": {dur}, \"pid\": 1, \"tid\": {}", event.thread)?;
        f.write_str(", \"args\": {")?;
        if let Stage::Shard(shard) = event.stage {
            write!(f, "\"shard\": {shard}")?;
        }
        if let (Some(work), part) = (work, event.part) {
            if let Some(shard) = event.shard {
                write!(f, "\"shard\": {shard}, ")?;
            }
            if let Stage::Instruction(i) | Stage::Effect(i) = event.stage {
                write!(f, "\"number\": {i}, ")?;
            }
            write!(f, "\"node\": {}", Quoted(&work.node))?;
            match part {
                Some(part) => write!(f, ", \"part\": {part}, \"parts\": {}", work.parts)?,
                None => self.work(work, event.ns, f)?,
            }
        }
        f.write_str("}}")
    }

    fn work(&self, work: &Work, ns: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Work { at, inputs, outputs, flops, bytes_read, bytes_written, .. } = work;
        let shapes = format!("{} -> {}", list(inputs), list(outputs));
        write!(f, ", \"shapes\": {}", Quoted(&shapes))?;
        write!(f, ", \"source\": {}", Quoted(&at.to_string()))?;
        write!(f, ", \"FLOPs\": {flops}")?;
        write!(f, ", \"bytes read\": {bytes_read}, \"bytes written\": {bytes_written}")?;
        // Something a nanosecond is as many giga a second.
        let rate = |n: usize| n as f64 / ns.max(1) as f64;
        let moved = bytes_read + bytes_written;
        write!(f, ", \"GFLOP/s\": {:.3}, \"GB/s\": {:.3}", rate(*flops), rate(moved))
    }
}

/// Nanoseconds, written in microseconds.
struct Microseconds(u64);

impl fmt::Display for Microseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Text as a JSON string (RFC 8259): names are the user's, and may hold anything.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                ..'\u{20}' => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
