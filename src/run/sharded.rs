//! Runs a computation that is cut into shards. Workers take runs of shards, each in memory of its
//! own; the partial results of a run meet in the worker, those of the workers in slices of the
//! block.

use super::execute::{Executor, Feeds};
use super::fetch::Wanted;
use super::interpret::Value;
use super::meeting::{Meeting, combined_nodes, fold};
use super::ranks::{Ranks, Rendezvous, Transit};
use super::trace::{Recorder, Stage, Watched};
use super::variables::Variables;
use crate::dist::{Tree, TreeNode};
use crate::error::{Error, Result, bail};
use crate::kernel::arena::Arena;
use crate::kernel::team::{MAX_THREADS, Pieces, Team, part, part_of};
use crate::plan::{
    Cut, EffectStep, FeedFrom, FetchedAt, Level, OncePlan, Plan, Report, Sharded, parts_of_update,
    worth_threads,
};
use crate::scalar::{DType, Element, Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::Arg;
use crate::tape::{FeedValue, Graph, NodeId};
use crate::tensor::{Tensor, TensorView};
use std::ops::Range;
use std::sync::Arc;

/// A sharded computation with the memory it runs in.
#[derive(Debug)]
pub(super) struct ShardRun<T: Scalar> {
    levels: Vec<Level<T>>,
    fetches: Vec<FetchedAt>,
    cut: Cut,
    /// The shards that run here.
    own: Range<usize>,
    /// The plans that run once, before each level, and the last.
    wholes: Vec<Option<Once<T>>>,
    last: Once<T>,
    workers: Vec<Worker<T>>,
    /// For each shard that runs here, its values that outlive a level.
    crossing: Vec<Vec<Value<T>>>,
    /// The shape of each in a shard without rows.
    no_rows: Vec<Shape>,
    kept: Vec<Value<T>>,
    combined: Arena<T>,
    /// How the workers' nodes meet: one node is left, or of several ranks a few.
    meetings: Vec<Meeting>,
    /// Of several ranks, what the workers' nodes become.
    own_nodes: Vec<Vec<T>>,
    /// How those of ranks meet.
    rendezvous: Option<Rendezvous<T>>,
    pub(super) report: Report,
}

/// A plan that runs once.
#[derive(Debug)]
struct Once<T: Scalar> {
    executor: Executor<T>,
    feeds: Vec<FeedFrom>,
    keeps: Vec<usize>,
    /// The number in the report of its first instruction.
    first: usize,
    spare: FeedList<'static, T>,
}

/// What runs shards, one after the other.
#[derive(Debug)]
struct Worker<T: Scalar> {
    /// For each level, one for each number of rows that a shard may have.
    plans: Vec<Vec<ShardPlan<T>>>,
    /// A shard's rows of the user's feeds.
    rows: Vec<Value<T>>,
    place: Tensor<Index>,
    /// Nodes of the tree that its shards have made, and their values.
    nodes: Vec<TreeNode>,
    sums: Vec<Vec<T>>,
    /// For each two nodes that the shard joins, the place of the left one.
    joins: Vec<usize>,
    /// The values that a shard is about to write of those that outlive the level.
    written: Vec<Value<T>>,
    spare: FeedList<'static, T>,
    team: Team,
    recorder: Option<Recorder>,
    error: Option<Error>,
}

/// What a shard with this many rows does on a level.
#[derive(Debug)]
struct ShardPlan<T: Scalar> {
    rows: usize,
    executor: Executor<T>,
    /// The number in the report of its first instruction.
    first: usize,
    /// For each bucket, after how many instructions it is there; none if only after all.
    stops: Vec<Option<usize>>,
}

type FeedList<'a, T> = Vec<(NodeId, FeedValue<'a, T>)>;

/// An empty list, in the memory of one whose values are gone.
fn recycled<'a, T: Scalar>(mut list: FeedList<'_, T>) -> FeedList<'a, T> {
    list.clear();
    // Of the same size, so that collecting keeps the memory.
    list.into_iter().map(|(id, _)| (id, nothing())).collect()
}

fn nothing<'a, T: Scalar>() -> FeedValue<'a, T> {
    FeedValue::Float(TensorView::of(Shape::from(0), &[]))
}

/// What a run is given.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a, T: Scalar> {
    pub(super) graph: &'a Graph<T>,
    pub(super) variables: &'a Variables<T>,
    pub(super) feeds: &'a [(NodeId, FeedValue<'a, T>)],
    /// Whether every value is looked at.
    pub(super) finite: bool,
}

/// What shards and workers read of a run.
#[derive(Clone, Copy)]
struct Outside<'a, T: Scalar> {
    graph: &'a Graph<T>,
    variables: &'a Variables<T>,
    feeds: &'a [(NodeId, FeedValue<'a, T>)],
    kept: &'a [Value<T>],
    combined: &'a [T],
    cut: Cut,
    /// The first row of the batch that the feeds have.
    first_row: usize,
    finite: bool,
}

impl<T: Scalar> ShardRun<T> {
    /// `ranks` are the number of this rank and how many there are, if there are several.
    pub(super) fn new(
        plan: Sharded<T>,
        cut: Cut,
        threads: usize,
        ranks: Option<(usize, usize)>,
    ) -> Result<Self> {
        let (rank, size) = ranks.unwrap_or((0, 1));
        let own = cut.of_rank(rank, size);
        let Sharded { levels, last, fetches, combined, kept, crossing } = plan;
        let once = report(&levels, &last, cut, 1);
        let n_workers = threads.min(own.len()).min(worth_threads(&once)).clamp(1, MAX_THREADS);
        let workers = (0..n_workers).map(|_| Worker::new(&levels)).collect::<Result<Vec<_>>>()?;
        let report = report(&levels, &last, cut, n_workers);
        let mut run = ShardRun {
            wholes: levels
                .iter()
                .map(|level| level.whole.as_ref().map(Once::new).transpose())
                .collect::<Result<_>>()?,
            last: Once::new(&last)?,
            workers,
            crossing: own.clone().map(|_| crossing.iter().map(|c| empty(c.0)).collect()).collect(),
            no_rows: crossing.iter().map(|c| c.1).collect(),
            kept: kept.iter().map(|&d| empty(d)).collect(),
            combined: Arena::new(combined).map_err(|e| e.within("shards"))?,
            meetings: Meeting::of_workers(Tree { shards: cut.active() }, &own, n_workers),
            own_nodes: Vec::new(),
            rendezvous: ranks.map(|(rank, size)| Rendezvous::new(cut, rank, size)),
            levels,
            fetches,
            cut,
            own,
            report,
        };
        run.number();
        Ok(run)
    }

    /// Says of each plan which instruction of the report is its first.
    fn number(&mut self) {
        let mut next = 0;
        let mut number = |first: &mut usize, plan: &Plan<T>| {
            *first = next;
            next += plan.instructions.len();
        };
        for (at, level) in self.levels.iter().enumerate() {
            if let Some(once) = &mut self.wholes[at] {
                number(&mut once.first, &once.executor.plan);
            }
            for (i, (_, plan)) in level.plans.iter().enumerate() {
                let mut first = 0;
                number(&mut first, plan);
                self.workers.iter_mut().for_each(|worker| worker.plans[at][i].first = first);
            }
        }
        number(&mut self.last.first, &self.last.executor.plan);
    }

    /// Everything but the effects; then [`ShardRun::fetch`] finds the values.
    pub(super) fn run(
        &mut self,
        inputs: Inputs<'_, T>,
        team: &mut Watched<'_>,
        mut ranks: Option<&mut Ranks>,
    ) -> Result<()> {
        let Inputs { graph, variables, feeds, finite } = inputs;
        for worker in &mut self.workers {
            worker.recorder = team.recorder.as_ref().map(|recorder| recorder.beside());
            if let Some(recorder) = &mut worker.recorder {
                recorder.reserve(&self.report, self.own.len());
            }
        }
        for at in 0..self.levels.len() {
            let ShardRun { wholes, kept, combined, .. } = self;
            if let Some(whole) = &mut wholes[at] {
                let shared = (graph, variables, feeds, combined.as_slice());
                whole.run(shared, kept, team, finite)?;
                whole.keep(shared, kept)?;
            }
            self.level(at, inputs, team, ranks.as_deref_mut())?;
        }
        if let Some(recorder) = &mut team.recorder {
            recorder.join(self.workers.iter_mut().filter_map(|worker| worker.recorder.take()));
        }
        let shared = (graph, variables, feeds, self.combined.as_slice());
        self.last.run(shared, &mut self.kept, team, finite)
    }

    /// Lets every shard do its part of a level, and their results meet.
    fn level(
        &mut self,
        at: usize,
        Inputs { graph, variables, feeds, finite }: Inputs<'_, T>,
        team: &mut Watched<'_>,
        mut ranks: Option<&mut Ranks>,
    ) -> Result<()> {
        let level = &self.levels[at];
        if level.plans.is_empty() {
            return Ok(());
        }
        let (cut, tree) = (self.cut, Tree { shards: self.cut.active() });
        let (n, own) = (self.workers.len(), self.own.clone());
        // Of what is combined, shards read what those before them made.
        let (combined, block) = self.combined.as_mut_slice().split_at_mut(level.block.start);
        let block = &mut block[..level.block.len()];
        let len = block.len();
        let kept = &*self.kept;
        let first_row = cut.of(own.start.min(cut.shards - 1)).start;
        let outside = Outside { graph, variables, feeds, kept, combined, cut, first_row, finite };
        let mut transit = match (&mut self.rendezvous, &mut ranks) {
            (Some(rendezvous), Some(ranks)) => {
                Some(Transit::new(rendezvous, &mut *ranks.group, level, &mut *block))
            }
            _ => None,
        };
        if let ([worker], Some(transit)) = (&mut *self.workers, &mut transit) {
            worker.nodes.clear();
            let mut shards = own.clone().zip(&mut self.crossing);
            let done = shards.try_for_each(|(shard, crossing)| {
                let last = (shard + 1 == own.end).then_some(&mut *transit);
                worker.shard(at, level, shard, tree, crossing, &outside, last)
            });
            worker.error = done.err();
        } else {
            let workers = Pieces::new(&mut self.workers, 1, n);
            let crossing = Pieces::new(&mut self.crossing, 1, n);
            team.run(n, &|i| {
                let (worker, crossing) = (&mut workers.take(i)[0], crossing.take(i));
                worker.nodes.clear();
                worker.error = None;
                for (i, crossing) in part(own.len(), n, i).zip(crossing) {
                    let shard = own.start + i;
                    let done = worker.shard(at, level, shard, tree, crossing, &outside, None);
                    if let Err(e) = done {
                        worker.error = Some(e);
                        return;
                    }
                }
            });
        }
        // Of several errors that of the first shards.
        if let Some(e) = self.workers.iter_mut().find_map(|worker| worker.error.take()) {
            if let Some(ranks) = &mut ranks {
                ranks.group.fail(&e.to_string());
            }
            return Err(e);
        }
        if let ([worker], Some(transit)) = (&*self.workers, &mut transit) {
            let event = team.begin(Stage::Exchange);
            let done = transit.end(worker.made());
            team.end(event);
            return done;
        }
        let parts = parts_of_update(len, n);
        let workers = &self.workers;
        let event = team.begin(Stage::Combine);
        let meet = |meeting: &Meeting, out: &mut [T], team: &mut Watched<'_>| {
            let pieces = Pieces::new(out, SLICE, parts);
            team.run(parts, &|i| {
                let range = part_of(len, SLICE, parts, i);
                let node = |(worker, node): (usize, usize)| {
                    let sums: &[T] = &workers[worker].sums[node];
                    &sums[range.clone()]
                };
                combined_nodes(meeting, node, &level.segments, range.start, pieces.take(i));
            });
        };
        match &mut transit {
            Some(transit) => {
                let mut own = std::mem::take(&mut self.own_nodes);
                own.resize(self.meetings.len(), Vec::new());
                for (meeting, own) in self.meetings.iter().zip(&mut own) {
                    own.resize(len, T::zero());
                    meet(meeting, own, team);
                }
                team.end(event);
                let event = team.begin(Stage::Exchange);
                let done = transit.end(&own);
                team.end(event);
                self.own_nodes = own;
                done
            }
            None => {
                // Of all shards one node is left.
                self.meetings.iter().for_each(|meeting| meet(meeting, block, team));
                team.end(event);
                Ok(())
            }
        }
    }

    /// Puts the value of fetch number `i` of the run before where it is wanted, once.
    pub(super) fn fetch(
        &mut self,
        i: usize,
        variables: &Variables<T>,
        feeds: &[(NodeId, FeedValue<'_, T>)],
        out: Wanted<'_, T>,
    ) -> Result<()> {
        match self.fetches.get(i) {
            Some(&FetchedAt::Last(n)) => {
                let combined = self.combined.as_slice();
                self.last.fetch(n, variables, feeds, &self.kept, combined, out)
            }
            Some(&FetchedAt::Crossing(slot)) => {
                let (no_rows, all) = (self.no_rows[slot], &self.crossing);
                let shards = all.iter().map(|values| values[slot].arg());
                match out {
                    Wanted::Float(out) => stack(no_rows, shards.filter_map(float_view), out),
                    Wanted::Index(out) => stack(no_rows, shards.filter_map(index_view), out),
                }
            }
            None => bail!(Tape, "fetch: {} values, asked for one more", self.fetches.len()),
        }
    }

    /// Writes variables.
    pub(super) fn effects(
        &mut self,
        graph: &Graph<T>,
        variables: &mut Variables<T>,
        feeds: &[(NodeId, FeedValue<'_, T>)],
        team: &mut Watched<'_>,
        ranks: Option<&mut Ranks>,
    ) -> Result<()> {
        let combined = self.combined.as_slice();
        self.last.with_feeds(feeds, &self.kept, |executor, values| {
            executor.effects(graph, variables, Feeds { values, combined }, team, ranks)
        })
    }

    /// What writes variables.
    pub(super) fn effect_steps(&self) -> &[EffectStep<T>] {
        &self.last.executor.plan.effects
    }

    /// The variables that must have a value.
    pub(super) fn reads(&self) -> impl Iterator<Item = &[NodeId]> {
        let wholes = self.wholes.iter().flatten().chain([&self.last]);
        let plans = self.levels.iter().flat_map(|level| &level.plans);
        let of_shards = plans.map(|(_, plan)| plan.reads.as_slice());
        wholes.map(|once| once.executor.plan.reads.as_slice()).chain(of_shards)
    }
}

/// What runs once and reads: the graph, the variables, the user's feeds, what shards computed.
type Shared<'a, T> = (&'a Graph<T>, &'a Variables<T>, &'a [(NodeId, FeedValue<'a, T>)], &'a [T]);

impl<T: Scalar> Once<T> {
    fn new(whole: &OncePlan<T>) -> Result<Self> {
        Ok(Once {
            executor: Executor::new(whole.plan.clone())?,
            feeds: whole.feeds.clone(),
            keeps: whole.keeps.clone(),
            first: 0,
            spare: Vec::with_capacity(whole.feeds.len()),
        })
    }

    /// Calls `f` with the executor and its feeds.
    fn with_feeds<R>(
        &mut self,
        feeds: &[(NodeId, FeedValue<'_, T>)],
        kept: &[Value<T>],
        f: impl FnOnce(&mut Executor<T>, &[(NodeId, FeedValue<'_, T>)]) -> R,
    ) -> R {
        let mut list = recycled(std::mem::take(&mut self.spare));
        for source in &self.feeds {
            list.push(match *source {
                FeedFrom::User(i) => feeds[i],
                FeedFrom::Kept(slot) => (0, kept[slot].feed()),
                // Only shards have rows of their own.
                FeedFrom::Rows(_) | FeedFrom::Crossing(_) | FeedFrom::Place => (0, nothing()),
            });
        }
        let result = f(&mut self.executor, &list);
        self.spare = recycled(list);
        result
    }

    fn run(
        &mut self,
        (graph, variables, feeds, combined): Shared<'_, T>,
        kept: &mut [Value<T>],
        team: &mut Watched<'_>,
        finite: bool,
    ) -> Result<()> {
        team.plan(self.first, None);
        self.with_feeds(feeds, kept, |executor, values| {
            executor.run(graph, variables, Feeds { values, combined }, team, finite)
        })
    }

    /// Puts the fetches among the values that are kept.
    fn keep(
        &mut self,
        (_, variables, feeds, combined): Shared<'_, T>,
        kept: &mut [Value<T>],
    ) -> Result<()> {
        for i in 0..self.keeps.len() {
            let slot = self.keeps[i];
            let mut value = take(&mut kept[slot]);
            let done = self.fetch(i, variables, feeds, kept, combined, wanted(&mut value));
            kept[slot] = value;
            done?;
        }
        Ok(())
    }

    fn fetch(
        &mut self,
        i: usize,
        variables: &Variables<T>,
        feeds: &[(NodeId, FeedValue<'_, T>)],
        kept: &[Value<T>],
        combined: &[T],
        out: Wanted<'_, T>,
    ) -> Result<()> {
        self.with_feeds(feeds, kept, |executor, values| {
            executor.fetch(i, variables, Feeds { values, combined }, out)
        })
    }
}

fn wanted<T: Scalar>(value: &mut Value<T>) -> Wanted<'_, T> {
    match value {
        Value::Float(t) => Wanted::Float(t),
        Value::Index(t) => Wanted::Index(t),
    }
}

impl<T: Scalar> Worker<T> {
    fn new(levels: &[Level<T>]) -> Result<Self> {
        let plans = |level: &Level<T>| {
            let plans = level.plans.iter();
            let plan = |(rows, plan): &(usize, Arc<Plan<T>>)| {
                let stops = level.buckets.iter().map(|bucket| plan.partials_after(bucket));
                let (rows, stops) = (*rows, stops.collect());
                let executor = Executor::new(Arc::clone(plan))?;
                Ok(ShardPlan { rows, executor, first: 0, stops })
            };
            plans.map(plan).collect()
        };
        let most = levels.iter().map(|level| level.feeds.len()).max().unwrap_or(0);
        Ok(Worker {
            plans: levels.iter().map(plans).collect::<Result<_>>()?,
            rows: Vec::new(),
            place: Tensor::zeros([2])?,
            nodes: Vec::new(),
            sums: Vec::new(),
            joins: Vec::new(),
            written: Vec::new(),
            spare: Vec::with_capacity(most),
            team: Team::new(1)?,
            recorder: None,
            error: None,
        })
    }

    /// The values of the nodes that its shards have made.
    fn made(&self) -> &[Vec<T>] {
        &self.sums[..self.nodes.len()]
    }

    /// Runs a shard's part of a level, and combines its partial results with those before. If it is
    /// the last of a rank, what is there leaves before the rest is computed.
    #[allow(clippy::too_many_arguments)]
    fn shard(
        &mut self,
        at: usize,
        level: &Level<T>,
        shard: usize,
        tree: Tree,
        crossing: &mut [Value<T>],
        outside: &Outside<'_, T>,
        transit: Option<&mut Transit<'_, T>>,
    ) -> Result<()> {
        let Outside { graph, variables, feeds, kept, combined, cut, first_row, finite } = *outside;
        let rows = cut.of(shard);
        let found = self.plans[at].iter_mut().find(|plan| plan.rows == rows.len());
        let Some(ShardPlan { executor, first, stops, .. }) = found else {
            bail!(Tape, "shards: no plan for {} rows", rows.len());
        };
        self.place.as_mut_slice().copy_from_slice(&[rows.start as Index, cut.rows as Index]);
        for (_, feed) in &feeds[self.rows.len().min(feeds.len())..] {
            self.rows.push(empty(feed.dtype()));
        }
        let here = rows.start - first_row..rows.end - first_row;
        for (i, source) in level.feeds.iter().enumerate() {
            if let FeedFrom::Rows(of) = *source
                && executor.plan.reads_feed(i)
            {
                match (&mut self.rows[of], feeds[of].1) {
                    (Value::Float(to), FeedValue::Float(from)) => slice(from, &here, to)?,
                    (Value::Index(to), FeedValue::Index(from)) => slice(from, &here, to)?,
                    _ => bail!(Tape, "feed {of}: expected the type of the run before"),
                }
            }
        }
        // What this level writes of the shard's own values it does not read.
        let written = level.crosses.iter();
        self.written.extend(written.map(|&slot| take(&mut crossing[slot])));
        let mut list = recycled(std::mem::take(&mut self.spare));
        for source in &level.feeds {
            list.push(match *source {
                FeedFrom::User(i) => feeds[i],
                FeedFrom::Rows(i) => (0, self.rows[i].feed()),
                FeedFrom::Kept(slot) => (0, kept[slot].feed()),
                FeedFrom::Crossing(slot) => (0, crossing[slot].feed()),
                FeedFrom::Place => (0, FeedValue::Index(self.place.view())),
            });
        }
        let values = Feeds { values: &list, combined };
        let mut team = Watched { team: &mut self.team, recorder: self.recorder.as_mut() };
        team.plan(*first, Some(shard));
        let event = team.begin(Stage::Shard(shard));
        let (len, before) = (level.block.len(), self.nodes.len());
        self.joins.clear();
        tree.push(&mut self.nodes, TreeNode::leaf(shard), |to, _| self.joins.push(to));
        if self.sums.len() == before {
            self.sums.push(Vec::new());
        }
        self.sums[before].resize(len, T::zero());
        let joins = (before, &*self.joins);

        executor.begin(variables)?;
        let (mut done, mut rest) = (0, len);
        if let Some(transit) = transit {
            for (bucket, stop) in level.buckets.iter().zip(&*stops) {
                let Some(stop) = *stop else { break };
                while done < stop {
                    // One by one, if something has left that may have arrived meanwhile.
                    let next = done..if transit.is_under_way() { done + 1 } else { stop };
                    done = next.end;
                    executor.run_some(next, graph, variables, values, &mut team, finite)?;
                    transit.look(&self.sums[..self.nodes.len()])?;
                }
                fold(
                    &mut self.sums,
                    joins,
                    &level.segments,
                    bucket.clone(),
                    executor.partials_so_far(),
                );
                rest = bucket.start;
                transit.send(&self.sums[..self.nodes.len()])?;
            }
        }
        let next = done..executor.plan.instructions.len();
        executor.run_some(next, graph, variables, values, &mut team, finite)?;
        for (i, value) in self.written.iter_mut().enumerate() {
            executor.fetch(i, variables, values, wanted(value))?;
        }
        fold(&mut self.sums, joins, &level.segments, 0..rest, executor.partials(values));
        team.end(event);
        self.spare = recycled(list);
        let written = level.crosses.iter().zip(self.written.drain(..));
        written.for_each(|(&slot, value)| crossing[slot] = value);
        Ok(())
    }
}

fn empty<T: Scalar>(dtype: DType) -> Value<T> {
    match dtype {
        DType::Float => Value::Float(Tensor::default()),
        DType::Index => Value::Index(Tensor::default()),
    }
}

/// The value, with an empty one in its place.
fn take<T: Scalar>(value: &mut Value<T>) -> Value<T> {
    let empty = empty(value.feed().dtype());
    std::mem::replace(value, empty)
}

fn float_view<T: Scalar>(x: Arg<'_, T>) -> Option<TensorView<'_, T>> {
    if let Arg::Float(view) = x { Some(view) } else { None }
}

fn index_view<T: Scalar>(x: Arg<'_, T>) -> Option<TensorView<'_, Index>> {
    if let Arg::Index(view) = x { Some(view) } else { None }
}

/// These rows of a tensor.
fn slice<E: Element>(
    from: TensorView<'_, E>,
    rows: &Range<usize>,
    to: &mut Tensor<E>,
) -> Result<()> {
    let n = from.shape().dim(0).unwrap_or(0).max(1);
    let to = to.resize_for(from.shape().with(0, rows.len()))?;
    let columns = from.as_slice().chunks(n).zip(to.chunks_mut(rows.len().max(1)));
    columns.for_each(|(from, to)| to.copy_from_slice(&from[rows.clone()]));
    Ok(())
}

/// The rows of these tensors, one after the other.
fn stack<'a, E: Element>(
    no_rows: Shape,
    shards: impl Iterator<Item = TensorView<'a, E>> + Clone,
    out: &mut Tensor<E>,
) -> Result<()> {
    let rows = shards.clone().map(|shard| shard.shape().dim(0).unwrap_or(0)).sum();
    let out = out.resize_for(no_rows.with(0, rows))?;
    let mut start = 0;
    for shard in shards {
        let n = shard.shape().dim(0).unwrap_or(0);
        let columns = shard.as_slice().chunks(n.max(1)).zip(out.chunks_mut(rows.max(1)));
        columns.for_each(|(from, to)| to[start..start + n].copy_from_slice(from));
        start += n;
    }
    Ok(())
}

/// Elements of a block between which threads share it.
const SLICE: usize = 1024;

/// The plans that run once, and one shard's of each level, together.
fn report<T: Scalar>(
    levels: &[Level<T>],
    last: &OncePlan<T>,
    cut: Cut,
    n_workers: usize,
) -> Report {
    let mut report = Report::default();
    for level in levels {
        if let Some(whole) = &level.whole {
            report.join(&whole.plan.report, 1, 1);
        }
        for (rows, plan) in &level.plans {
            let times = (0..cut.active()).filter(|&shard| cut.of(shard).len() == *rows).count();
            report.join(&plan.report, times, n_workers);
        }
    }
    report.join(&last.plan.report, 1, 1);
    report
}
