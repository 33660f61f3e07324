//! The session: variables, a cache of plans, and the runs.

use super::execute::Executor;
use super::fetch::{Fetches, Source, Wanted};
use super::interpret::interpret;
use super::ranks::Ranks;
use super::runner::Runner;
use super::sharded::{Inputs, ShardRun};
use super::trace::{Recorder, Stage, Trace, Watched};
use super::variables::Variables;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::team::Team;
use crate::plan::{self, Given, Origin, Passes, Report, Request, is_batch};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::{Leaf, Op};
use crate::tape::{AsNode, Feed, FeedValue, Graph, NodeId, NodeRef, Tape};
use crate::tensor::{Tensor, TensorView};
use std::sync::Arc;

/// The most plans a session keeps; the one not used for longest goes first.
const MAX_PLANS: usize = 64;

/// Runs a tape: owns its variables and the plans compiled so far. Needs no tape alive, can be sent
/// to another thread, and several sessions of one tape hold different values.
///
/// A session sees the tape as it was when the session was made; nodes recorded later are unknown
/// to it, so a training loop cannot grow what it runs.
///
/// ```
/// use gradtape::{ANY, Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let x = tape.placeholder("x", [ANY, 2]);
/// let w = tape.variable("w", Tensor::from_rows([2, 1], &[1.0, -1.0])?);
/// let y = (x * w.reshape([2])).sum_axes(&[1]);
/// let mut session = Session::new(&tape)?;
/// let batch = Tensor::from_rows([3, 2], &[1.0, 2.0, 3.0, 4.0, 6.0, 5.0])?;
/// assert_eq!(session.run(y, &[x.feed(&batch)])?.as_slice(), [-1.0, -1.0, 1.0]);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Debug)]
pub struct Session<T: Scalar = f64> {
    pub(super) graph: Arc<Graph<T>>,
    pub(super) variables: Variables<T>,
    pub(super) cached: Vec<Cached<T>>,
    /// The plan that ran last.
    newest: usize,
    clock: u64,
    passes: Passes,
    team: Team,
    pub(super) shards: usize,
    pub(super) ranks: Option<Ranks>,
    finite: bool,
    /// The fetched nodes of the run going on: kept to reuse their memory.
    pub(super) fetched: Vec<NodeId>,
}

#[derive(Debug)]
pub(super) struct Cached<T: Scalar> {
    fetches: Vec<NodeId>,
    fed: Vec<(NodeId, Shape)>,
    last_used: u64,
    runner: Runner<T>,
}

/// Most runs have at most so many feeds; at most this many stand on the stack.
const FEW: usize = 4;
const MANY: usize = 16;

impl<T: Scalar> Session<T> {
    /// A session of the tape as it is now, with the variables at their initial values.
    ///
    /// # Errors
    /// The first mistake made while recording; no memory for the variables.
    pub fn new(tape: &Tape<T>) -> Result<Self> {
        tape.check()?;
        let graph = tape.snapshot();
        Ok(Session {
            variables: Variables::new(&graph)?,
            graph,
            cached: Vec::new(),
            newest: 0,
            clock: 0,
            passes: Passes::ALL,
            team: Team::new(1)?,
            shards: 1,
            ranks: None,
            finite: false,
            fetched: Vec::new(),
        })
    }

    /// The session with `n` threads, the caller's among them, for work that is large enough:
    /// products, fused loops, optimizer steps. Small plans stay on one. The bits of every value
    /// are the same for any number of threads; the default is one.
    ///
    /// ```
    /// use gradtape::{Session, Tape};
    /// let tape = Tape::<f32>::new();
    /// let session = Session::new(&tape)?.with_threads(2)?;
    /// assert!(Session::new(&tape)?.with_threads(0).is_err());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// 0 or more than 32; a thread that the system does not give.
    pub fn with_threads(mut self, n: usize) -> Result<Self> {
        self.team = Team::new(n)?;
        self.cached.clear();
        Ok(self)
    }

    /// The session with other plan passes: for tests and measurements.
    pub fn with_passes(mut self, passes: Passes) -> Self {
        self.passes = passes;
        self.cached.clear();
        self
    }

    /// Whether each run checks every value it computes, and reports the first node that is not
    /// finite. Costs the fusion of loops; for finding faults.
    pub fn assert_finite(&mut self, on: bool) {
        self.finite = on;
        self.cached.clear();
    }

    /// Computes `fetches` with these values fed, each needed node once. Reads of variables see the
    /// values from before the run; assignments and optimizer steps among the fetches happen last.
    ///
    /// # Errors
    /// A placeholder that is needed and not fed; a fed value of another shape or type than
    /// declared; a variable without a value; a node of another tape or recorded after the session
    /// was made; what ops report, an index out of range for instance. Then no variable changes.
    pub fn run<F: Fetches<T>>(&mut self, fetches: F, feeds: &[Feed<'_, T>]) -> Result<F::Output> {
        let mut out = F::Output::default();
        self.run_into(fetches, feeds, &mut out)?;
        Ok(out)
    }

    /// As [`Session::run`], into tensors there are already: a run that was done before with these
    /// fetches and shapes allocates nothing (but for lists of more than 16 feeds, or of more than
    /// 64 inputs of one op).
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_into<F: Fetches<T>>(
        &mut self,
        fetches: F,
        feeds: &[Feed<'_, T>],
        out: &mut F::Output,
    ) -> Result<()> {
        let collected = self.collect(&fetches);
        self.told(collected)?;
        match feeds.len() {
            0..=FEW => self.run_on_stack::<F, FEW>(&fetches, feeds, out),
            n if n <= MANY => self.run_on_stack::<F, MANY>(&fetches, feeds, out),
            n => {
                let mut checked = vec![(0, FeedValue::NONE); n];
                let fed = self.check_feeds(feeds, &mut checked);
                self.told(fed)?;
                self.run_checked(&fetches, &checked, out, None)
            }
        }
    }

    /// With at most N feeds.
    fn run_on_stack<F: Fetches<T>, const N: usize>(
        &mut self,
        fetches: &F,
        feeds: &[Feed<'_, T>],
        out: &mut F::Output,
    ) -> Result<()> {
        let mut checked = [(0, FeedValue::NONE); N];
        let fed = self.check_feeds(feeds, &mut checked);
        self.told(fed)?;
        self.run_checked(fetches, &checked[..feeds.len()], out, None)
    }

    fn run_checked<F: Fetches<T>>(
        &mut self,
        fetches: &F,
        feeds: &[(NodeId, FeedValue<'_, T>)],
        out: &mut F::Output,
        recorder: Option<&mut Recorder>,
    ) -> Result<()> {
        let rows = self.rows_of_all(feeds)?;
        let at = self.plan_for(feeds, rows)?;
        let Session { graph, variables, cached, team, finite, ranks, .. } = self;
        let runner = &mut cached[at].runner;
        let mut recorder = recorder;
        if let Some(recorder) = &mut recorder {
            recorder.reserve(runner.report(), 1);
        }
        let team = &mut Watched { team, recorder };
        let step = team.begin(Stage::Step);
        let inputs = Inputs { graph, variables, feeds, finite: *finite };
        runner.run(inputs, team, ranks.as_mut())?;

        let event = team.begin(Stage::Fetch);
        let mut i = 0;
        let mut next = |out: Wanted<'_, T>| {
            i += 1;
            runner.fetch(i - 1, variables, feeds, out)
        };
        fetches.take(&mut Source { next: &mut next }, out)?;
        team.end(event);
        runner.effects(graph, variables, feeds, team, ranks.as_mut())?;
        team.end(step);
        Ok(())
    }

    /// The values from the reference interpreter: slow, clear, one buffer a node, no shards. No
    /// variable changes.
    ///
    /// # Errors
    /// As [`Session::run`]; a session of several ranks, none of which has the whole batch.
    pub fn interpret<F: Fetches<T>>(
        &mut self,
        fetches: F,
        feeds: &[Feed<'_, T>],
    ) -> Result<F::Output> {
        if self.ranks.is_some() {
            bail!(Argument, "interpret: expected a session without a group");
        }
        self.collect(&fetches)?;
        let mut checked = vec![(0, FeedValue::NONE); feeds.len()];
        self.check_feeds(feeds, &mut checked)?;
        let values = interpret(&self.graph, &self.variables, &self.fetched, &checked)?;
        let mut out = F::Output::default();
        let mut ids = self.fetched.iter();
        let mut next =
            |out: Wanted<'_, T>| match ids.next().and_then(|&id| values[id as usize].as_ref()) {
                Some(value) => out.copy_from(value.arg()),
                None => bail!(Tape, "fetch: nothing was computed"),
            };
        fetches.take(&mut Source { next: &mut next }, &mut out)?;
        Ok(out)
    }

    /// What a run of these fetches and feeds does, before it runs. Of a session with shards the
    /// counts are of all shards together, and the instructions those of one shard of each extent
    /// and of what is done once. Of several ranks all have to ask.
    ///
    /// # Errors
    /// As [`Session::run`], but for what ops report.
    pub fn report<F: Fetches<T>>(&mut self, fetches: F, feeds: &[Feed<'_, T>]) -> Result<Report> {
        self.collect(&fetches)?;
        let mut checked = vec![(0, FeedValue::NONE); feeds.len()];
        self.check_feeds(feeds, &mut checked)?;
        let rows = self.rows_of_all(&checked)?;
        let at = self.plan_for(&checked, rows)?;
        let runner = &self.cached[at].runner;
        let state_bytes = runner.state_bytes(self.variables.share);
        Ok(Report { state_bytes, ..runner.report().clone() })
    }

    /// As [`Session::run`], and when everything in it happened, for Chrome's and Perfetto's
    /// timelines: the instructions, what each thread did of those that threads share, and the
    /// writes to variables. Of a session with shards also each of them, on the thread that took
    /// it, and how their partial results met; of several ranks, which all ask, what this one did.
    /// The first run of a plan touches its memory for the first time, so trace a later one.
    ///
    /// ```
    /// use gradtape::{Session, Stage, Tape, Tensor, optim::Sgd};
    /// let tape = Tape::<f64>::new();
    /// let w = tape.variable("w", Tensor::vector(vec![1.0, 2.0]));
    /// let loss = w.square().sum();
    /// let train = Sgd::new(0.1).minimize(loss)?;
    /// let mut session = Session::new(&tape)?;
    /// let ((value, _), trace) = session.trace((loss, train), &[])?;
    /// assert_eq!(value.item()?, 5.0);
    /// assert_eq!(trace.events[0].stage, Stage::Step);
    /// trace.write(std::env::temp_dir().join("step.json"))?;
    /// # std::fs::remove_file(std::env::temp_dir().join("step.json")).ok();
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn trace<F: Fetches<T>>(
        &mut self,
        fetches: F,
        feeds: &[Feed<'_, T>],
    ) -> Result<(F::Output, Trace)> {
        let collected = self.collect(&fetches);
        self.told(collected)?;
        let mut checked = vec![(0, FeedValue::NONE); feeds.len()];
        let fed = self.check_feeds(feeds, &mut checked);
        self.told(fed)?;
        let mut out = F::Output::default();
        let mut recorder = Recorder::new();
        self.run_checked(&fetches, &checked, &mut out, Some(&mut recorder))?;
        let report = self.cached[self.newest].runner.report().clone();
        Ok((out, recorder.trace(report, self.team.threads())))
    }

    /// The number of plans compiled and kept.
    pub fn n_plans(&self) -> usize {
        self.cached.len()
    }

    /// The present value of a variable.
    ///
    /// # Errors
    /// Not a variable of this session, or one without a value.
    pub fn value(&self, variable: impl AsNode) -> Result<Tensor<T>> {
        Ok(self.view(variable)?.to_tensor())
    }

    /// The present value of a variable where it lies, without a copy.
    ///
    /// # Errors
    /// As [`Session::value`].
    pub fn view(&self, variable: impl AsNode) -> Result<TensorView<'_, T>> {
        let (id, _, range) = self.variable(variable.node())?;
        self.variables.check(&self.graph, &[id])?;
        let values = &self.variables.values.as_slice()[range];
        Ok(TensorView::of(self.graph.node(id).shape, values))
    }

    /// Gives a variable a value of its shape.
    ///
    /// # Errors
    /// Not a variable of this session; another shape.
    pub fn assign<'a>(
        &mut self,
        variable: impl AsNode,
        value: impl Into<TensorView<'a, T>>,
    ) -> Result<()> {
        self.write(variable.node(), value.into(), "assign", |w, x| *w = x)
    }

    /// Adds to a variable.
    ///
    /// # Errors
    /// As [`Session::assign`]; also a variable without a value.
    pub fn assign_add<'a>(
        &mut self,
        variable: impl AsNode,
        value: impl Into<TensorView<'a, T>>,
    ) -> Result<()> {
        let (id, ..) = self.variable(variable.node())?;
        self.variables.check(&self.graph, &[id])?;
        self.write(variable.node(), value.into(), "assign_add", |w, x| *w += x)
    }

    /// Every variable with its unique name, in the order recorded.
    pub fn variables(&self) -> impl Iterator<Item = (String, crate::Var)> + '_ {
        let tape = self.graph.tape;
        let layout = &self.variables.layout.variables;
        layout.iter().map(move |&(id, _)| (self.graph.name(id), NodeRef { tape, id }.into()))
    }

    /// All variables in one flat slice, each column-major, in the order recorded.
    pub fn parameters(&self) -> &[T] {
        self.variables.values.as_slice()
    }

    /// Plans compiled for these fetches and shapes, most recent run last; compiled now if new.
    /// `rows` are those of the whole batch, if this is one of several ranks.
    fn plan_for(
        &mut self,
        feeds: &[(NodeId, FeedValue<'_, T>)],
        rows: Option<usize>,
    ) -> Result<usize> {
        self.clock += 1;
        let graph = &*self.graph;
        let whole = |feed: &(NodeId, FeedValue<'_, T>)| {
            let (id, shape) = (feed.0, feed.1.shape());
            let rows = rows.filter(|_| is_batch(&graph.node(id).shape));
            (id, rows.map_or(shape, |rows| shape.with(0, rows)))
        };
        let same = |c: &Cached<T>| {
            // One by one, as `Shape::same` says.
            c.fetches.iter().eq(&self.fetched)
                && c.fed.len() == feeds.len()
                && c.fed.iter().zip(feeds).all(|(a, b)| {
                    let (id, shape) = whole(b);
                    a.0 == id && a.1.same(&shape)
                })
        };
        // Most runs are of the plan of the run before.
        let before = self.newest.min(self.cached.len());
        let (older, newer) = self.cached.split_at(before);
        let found = newer.iter().position(same).map(|i| before + i);
        if let Some(at) = found.or_else(|| older.iter().position(same)) {
            self.cached[at].last_used = self.clock;
            self.newest = at;
            return Ok(at);
        }
        let fed: Vec<_> = feeds.iter().map(whole).collect();
        let layout = &self.variables.layout;
        let passes = Passes { fuse: self.passes.fuse && !self.finite, ..self.passes };
        let (fetched, threads) = (&*self.fetched, self.team.threads());
        let runner = match self.cut(&fed)? {
            Some(cut) => {
                let sharded = plan::shard(graph, layout, fetched, &fed, cut, passes, threads)?;
                let ranks = self.ranks.as_ref().map(|r| (r.group.rank(), r.group.size()));
                Runner::Shards(Box::new(ShardRun::new(sharded, cut, threads, ranks)?))
            }
            None => {
                let given: Vec<Given> = (0..)
                    .zip(&fed)
                    .map(|(i, &(node, shape))| Given { node, shape, from: Origin::Feed(i) })
                    .collect();
                let (fetches, given, partials) = (fetched, &*given, &[][..]);
                let request = Request { fetches, partials, given, passes, threads };
                let plan = plan::compile(graph, layout, request)?;
                Runner::Plan(Box::new(Executor::new(Arc::new(plan))?))
            }
        };
        let fetches = self.fetched.clone();
        let cached = Cached { fetches, fed, last_used: self.clock, runner };
        let oldest = (0..self.cached.len()).min_by_key(|&i| self.cached[i].last_used);
        match oldest.filter(|_| self.cached.len() >= MAX_PLANS) {
            Some(at) => {
                self.cached[at] = cached;
                Ok(at)
            }
            None => {
                self.cached.push(cached);
                Ok(self.cached.len() - 1)
            }
        }
    }

    /// The fetched nodes, checked, in `self.fetched`.
    fn collect<F: Fetches<T>>(&mut self, fetches: &F) -> Result<()> {
        let mut wrong = None;
        let Session { graph, fetched, .. } = self;
        fetched.clear();
        fetches.nodes(&mut |node| match resolve(graph, node) {
            Ok(id) => fetched.push(id),
            Err(e) => drop(wrong.get_or_insert(e)),
        });
        match wrong {
            Some(e) => Err(e.within("fetch")),
            None => Ok(()),
        }
    }

    /// Feeds as nodes of this graph, with their types and shapes checked, in `out`.
    fn check_feeds<'a>(
        &self,
        feeds: &[Feed<'a, T>],
        out: &mut [(NodeId, FeedValue<'a, T>)],
    ) -> Result<()> {
        for (i, feed) in feeds.iter().enumerate() {
            let id = resolve(&self.graph, feed.node).map_err(|e| e.within("feed"))?;
            let node = self.graph.node(id);
            let describe = || self.graph.describe(id);
            if matches!(node.op, Op::Leaf(Leaf::Variable(_)) | Op::Effect(_)) {
                let text = format!("feed: {} cannot be fed; assign it", describe());
                return Err(Error::new(ErrorKind::Tape, text).at(node.at));
            }
            if feed.value.dtype() != node.dtype {
                let (want, got) = (node.dtype, feed.value.dtype());
                let text = format!("feed of {}: expected {want:?}, got {got:?}", describe());
                return Err(Error::new(ErrorKind::Tape, text).at(node.at));
            }
            let got = feed.value.shape();
            if !node.shape.accepts(&got) {
                let text = format!("feed of {}: expected {}, got {got}", describe(), node.shape);
                return Err(Error::new(ErrorKind::Shape, text).at(node.at));
            }
            if out[..i].iter().any(|o| o.0 == id) {
                let text = format!("feed of {}: fed twice", describe());
                return Err(Error::new(ErrorKind::Argument, text).at(node.at));
            }
            out[i] = (id, feed.value);
        }
        Ok(())
    }

    pub(super) fn variable(
        &self,
        node: NodeRef,
    ) -> Result<(NodeId, usize, std::ops::Range<usize>)> {
        let id = resolve(&self.graph, node)?;
        match self.variables.layout.find(id) {
            Some((n, range)) => Ok((id, n, range)),
            None => {
                let text = format!("expected a variable, got {}", self.graph.describe(id));
                Err(Error::new(ErrorKind::Tape, text).at(self.graph.node(id).at))
            }
        }
    }

    fn write(
        &mut self,
        node: NodeRef,
        value: TensorView<'_, T>,
        verb: &str,
        f: impl Fn(&mut T, T),
    ) -> Result<()> {
        let (id, n, range) = self.variable(node)?;
        let node = self.graph.node(id);
        if value.shape() != node.shape {
            let (want, got) = (node.shape, value.shape());
            let text = format!("{verb}: {} is {want}, got {got}", self.graph.describe(id));
            return Err(Error::new(ErrorKind::Shape, text).at(node.at));
        }
        let w = &mut self.variables.values.as_mut_slice()[range];
        w.iter_mut().zip(value.as_slice()).for_each(|(w, &x)| f(w, x));
        self.variables.has_value[n] = true;
        self.variables.changes += 1;
        Ok(())
    }
}

/// The node of a handle in this graph.
pub(super) fn resolve<T: Scalar>(graph: &Graph<T>, node: NodeRef) -> Result<NodeId> {
    if node.tape != graph.tape {
        bail!(Tape, "expected a node of this session's tape, got one of another");
    }
    if node.id as usize >= graph.len() {
        bail!(Tape, "this node was recorded after the session was made");
    }
    Ok(node.id)
}
