//! The shard pass: cuts a computation over the rows of a batch into what every shard does with its
//! rows, and what is done once. The ops' batch rules say which values are split like the rows,
//! which are partial results that meet in a tree, and which are whole.
//!
//! A whole value that is made of partial results can be read by shards again (the mean of a batch,
//! by what is normalized with it): so the work falls into levels, with a meeting after each.

use super::{Given, Layout, Origin, Passes, Plan, Request, compile, needs, run_shape};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::team::part;
use crate::scalar::{DType, Scalar};
use crate::shape::{ANY, Shape};
use crate::tape::op::{Combine, Leaf, Op, RowRule, ScalarOp, list};
use crate::tape::{Graph, NodeId};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A computation over shards.
#[derive(Debug)]
pub(crate) struct Sharded<T: Scalar> {
    /// What is done before the last plan, in this order.
    pub(crate) levels: Vec<Level<T>>,
    /// What is done once, at the end: fetches and effects.
    pub(crate) last: OncePlan<T>,
    /// Where the fetched values are.
    pub(crate) fetches: Vec<FetchedAt>,
    /// Elements of what shards compute together.
    pub(crate) combined: usize,
    /// The type of each value that is kept.
    pub(crate) kept: Vec<DType>,
    /// Type and shape of each value of shards that outlives a level: that of a shard without rows.
    pub(crate) crossing: Vec<(DType, Shape)>,
}

/// Some work that is done once, what every shard does, and how their results meet.
#[derive(Debug)]
pub(crate) struct Level<T: Scalar> {
    pub(crate) whole: Option<OncePlan<T>>,
    /// One plan for each number of rows that a shard may have.
    pub(crate) plans: Vec<(usize, Arc<Plan<T>>)>,
    pub(crate) feeds: Vec<FeedFrom>,
    /// Where the fetches of the plans go, of the shard's own values.
    pub(crate) crosses: Vec<usize>,
    /// The partial results among what shards compute together.
    pub(crate) block: Range<usize>,
    /// How the elements of the block are combined: runs that follow on each other.
    pub(crate) segments: Vec<(usize, Combine)>,
    /// The pieces of the block, counted from its start, that travel between ranks one by one: the
    /// last comes first, as gradients are computed from the last layer to the first.
    pub(crate) buckets: Vec<Range<usize>>,
}

/// A plan that runs once.
#[derive(Debug)]
pub(crate) struct OncePlan<T: Scalar> {
    pub(crate) plan: Arc<Plan<T>>,
    pub(crate) feeds: Vec<FeedFrom>,
    /// Where its fetches go, of the values that are kept; none for the last plan.
    pub(crate) keeps: Vec<usize>,
}

/// What a feed of a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeedFrom {
    /// The user's feed of this number.
    User(usize),
    /// The shard's rows of that.
    Rows(usize),
    /// A whole value that was kept.
    Kept(usize),
    /// A value of the shard's own.
    Crossing(usize),
    /// The first row of the shard, and how many rows the batch has.
    Place,
}

/// Where a fetched value is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchedAt {
    /// The last plan's fetch of this number.
    Last(usize),
    /// The rows of this value, shard by shard.
    Crossing(usize),
}

/// A batch, and how it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) rows: usize,
    pub(crate) shards: usize,
}

impl Cut {
    /// The shards that have rows; one if there are no rows.
    pub(crate) fn active(self) -> usize {
        self.shards.min(self.rows).max(1)
    }

    /// The rows of a shard.
    pub(crate) fn of(self, shard: usize) -> Range<usize> {
        part(self.rows, self.shards, shard)
    }

    /// The shards with rows among those of one of several ranks, which take runs of equal length.
    pub(crate) fn of_rank(self, rank: usize, ranks: usize) -> Range<usize> {
        let own = part(self.shards, ranks, rank);
        own.start.min(self.active())..own.end.min(self.active())
    }
}

/// Whether a feed for this node is a batch: its rows were not known while recording.
pub(crate) fn is_batch(declared: &Shape) -> bool {
    declared.dim(0) == Some(ANY)
}

/// What a value is when the batch is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// The same for all.
    Whole,
    /// Cut like the rows.
    Split,
    /// Each shard has a part of it.
    Partial(Combine),
    /// A count of elements of the whole batch.
    Count(u64),
}

/// What the pass knows of a node.
#[derive(Clone, Copy, Debug)]
struct Known {
    kind: Kind,
    /// The level on which it can be computed.
    level: usize,
    shape: Shape,
}

/// Cuts a computation. `fed` has the shapes of the whole batch.
///
/// # Errors
/// An op that mixes rows; as [`compile`].
pub(crate) fn shard<T: Scalar>(
    graph: &Graph<T>,
    layout: &Layout,
    fetches: &[NodeId],
    fed: &[(NodeId, Shape)],
    cut: Cut,
    passes: Passes,
    threads: usize,
) -> Result<Sharded<T>> {
    let known = look(graph, fetches, fed)?;
    let mut cutter =
        Cutter { graph, fed, known, kept: Numbers::default(), crossing: Numbers::default() };
    cutter.cut(layout, fetches, cut, passes, threads)
}

/// Sees of every node that is needed what it is.
fn look<T: Scalar>(
    graph: &Graph<T>,
    fetches: &[NodeId],
    fed: &[(NodeId, Shape)],
) -> Result<Vec<Option<Known>>> {
    let given: BTreeMap<NodeId, Shape> = fed.iter().copied().collect();
    let needs = needs(graph, fetches, |id| given.contains_key(&id));
    let mut known: Vec<Option<Known>> = vec![None; needs.len()];
    for (id, _) in (0 as NodeId..).zip(&needs).filter(|n| *n.1 != super::Need::Nothing) {
        let node = graph.node(id);
        if let Some(&shape) = given.get(&id) {
            let kind = if is_batch(&node.shape) { Kind::Split } else { Kind::Whole };
            known[id as usize] = Some(Known { kind, level: 0, shape });
            continue;
        }
        let inputs: Vec<Known> = node.inputs.iter().filter_map(|&i| known[i as usize]).collect();
        let shapes: Vec<Shape> = inputs.iter().map(|k| k.shape).collect();
        let shape = run_shape(graph, id, &shapes)?;
        let op = node.op.primitive();
        let split: Vec<bool> = inputs.iter().map(|k| k.kind == Kind::Split).collect();
        let read = |i: &usize| op.reads(*i);
        // What a partial result is read by comes after the meeting.
        let after = |k: &Known| k.level + usize::from(matches!(k.kind, Kind::Partial(_)));
        let level = (0..inputs.len()).filter(read).map(|i| after(&inputs[i])).max().unwrap_or(0);
        let sums = Kind::Partial(Combine::Sum);
        let here = match &node.op {
            // The sum of two partial sums is one.
            Op::Scalar(ScalarOp::Add)
                if let [a, b] = inputs[..]
                    && (a.kind, b.kind) == (sums, sums)
                    && (a.level, a.shape) == (b.level, b.shape) =>
            {
                Known { kind: sums, level: a.level, shape }
            }
            Op::Size(size) if split[0] => {
                let n = size.count(&shapes[0]) as f64;
                Known { kind: Kind::Count(n.to_bits()), level: 0, shape }
            }
            Op::Effect(_) if (0..inputs.len()).any(|i| split[i] && op.reads(i)) => {
                return Err(mixes(graph, id, &shapes));
            }
            _ if !split.contains(&true) => Known { kind: Kind::Whole, level, shape },
            _ => match op.rows(&shapes, &split) {
                RowRule::Split => Known { kind: Kind::Split, level, shape },
                RowRule::Partial(combine) => Known { kind: Kind::Partial(combine), level, shape },
                RowRule::Mixes => return Err(mixes(graph, id, &shapes)),
            },
        };
        known[id as usize] = Some(here);
    }
    Ok(known)
}

fn mixes<T: Scalar>(graph: &Graph<T>, id: NodeId, shapes: &[Shape]) -> Error {
    let text = format!(
        "{} of {}: expected an op that treats rows one by one, or adds them up, as the batch is \
         cut into shards; got one that mixes rows",
        graph.describe(id),
        list(shapes)
    );
    Error::new(ErrorKind::Argument, text).at(graph.node(id).at)
}

/// Elements from which on a bucket is long enough, and those it has at most: so that neither what a
/// message costs nor the wait for the last one shows.
const BUCKET: Range<usize> = 1 << 16..1 << 17;

/// The buckets of partial results of these lengths that stand side by side.
fn buckets(lens: &[usize]) -> Vec<Range<usize>> {
    let mut buckets = Vec::new();
    let mut start: usize = lens.iter().sum();
    let mut end = start;
    for (i, len) in lens.iter().enumerate().rev() {
        start -= len;
        if end - start < BUCKET.start && i > 0 {
            continue;
        }
        let n = (end - start).div_ceil(BUCKET.end);
        buckets.extend((0..n).rev().map(|i| {
            let piece = part(end - start, n, i);
            start + piece.start..start + piece.end
        }));
        end = start;
    }
    buckets
}

/// Numbers for nodes, in the order in which they are asked for.
#[derive(Default)]
struct Numbers {
    of: BTreeMap<NodeId, usize>,
    nodes: Vec<NodeId>,
}

impl Numbers {
    fn number(&mut self, id: NodeId) -> usize {
        *self.of.entry(id).or_insert_with(|| {
            self.nodes.push(id);
            self.nodes.len() - 1
        })
    }
}

struct Cutter<'g, T: Scalar> {
    graph: &'g Graph<T>,
    fed: &'g [(NodeId, Shape)],
    known: Vec<Option<Known>>,
    /// Whole values that outlive the plan that computes them.
    kept: Numbers,
    /// Values of shards that outlive it.
    crossing: Numbers,
}

/// Who walks: the shards of a level, or the plan that runs before them (one past the last level:
/// after all).
#[derive(Clone, Copy, PartialEq)]
enum Walker {
    Shards(usize),
    Whole(usize),
}

impl<T: Scalar> Cutter<'_, T> {
    fn known(&self, id: NodeId) -> Result<Known> {
        let unknown = || Error::new(ErrorKind::Tape, format!("shards: {id} was not looked at"));
        self.known.get(id as usize).copied().flatten().ok_or_else(unknown)
    }

    fn is_fed(&self, id: NodeId) -> bool {
        self.fed.iter().any(|f| f.0 == id)
    }

    /// Whether a whole value costs nothing, so that whoever reads it makes it for itself.
    fn is_cheap(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        let Ok(Known { kind: Kind::Whole, level, shape }) = self.known(id) else { return false };
        let scalar = shape == Shape::SCALAR && level == 0;
        match &node.op {
            Op::Leaf(_) => true,
            Op::Effect(_) => false,
            op if op.primitive().is_view() => node.inputs.iter().all(|&i| self.is_cheap(i)),
            Op::Scalar(_) if scalar => {
                let cheap = |&i: &NodeId| {
                    self.known(i)
                        .is_ok_and(|k| matches!(k.kind, Kind::Count(_)) || self.is_cheap(i))
                };
                node.inputs.iter().all(cheap)
            }
            _ => false,
        }
    }

    /// What these results need that the walker does not compute itself.
    fn walk(&self, walker: Walker, results: &[NodeId]) -> Result<Vec<NodeId>> {
        let mut seen = vec![false; self.known.len()];
        let mut outside = Vec::new();
        let mut waiting = results.to_vec();
        while let Some(id) = waiting.pop() {
            if std::mem::replace(&mut seen[id as usize], true) || self.is_fed(id) {
                continue;
            }
            let known = self.known(id)?;
            let inside = match (known.kind, walker) {
                (Kind::Count(_), _) => continue,
                (Kind::Whole, Walker::Shards(_)) => self.is_cheap(id),
                (Kind::Whole, Walker::Whole(w)) => {
                    let before = self.kept.of.contains_key(&id) && known.level < w;
                    self.is_cheap(id) || !before
                }
                (_, Walker::Shards(level)) => known.level == level,
                (_, Walker::Whole(_)) => false,
            };
            if !inside {
                outside.push(id);
                continue;
            }
            let (node, op) = (self.graph.node(id), self.graph.node(id).op.primitive());
            let read = node.inputs.iter().enumerate().filter(|(i, _)| op.reads(*i));
            waiting.extend(read.map(|(_, &input)| input));
        }
        outside.sort_unstable();
        Ok(outside)
    }

    fn cut(
        &mut self,
        layout: &Layout,
        fetches: &[NodeId],
        cut: Cut,
        passes: Passes,
        threads: usize,
    ) -> Result<Sharded<T>> {
        let by_shards = self.known.iter().flatten().filter(|k| k.kind != Kind::Whole);
        let n_levels = by_shards.map(|k| k.level + 1).max().unwrap_or(0);
        // What is fetched: split values come from the shards, everything else from the last plan.
        let mut last = Vec::new();
        let mut fetched_at = Vec::new();
        for &id in fetches {
            let split = self.known(id)?.kind == Kind::Split && !self.is_fed(id);
            fetched_at.push(match split {
                true => FetchedAt::Crossing(self.crossing.number(id)),
                false => {
                    last.push(id);
                    FetchedAt::Last(last.len() - 1)
                }
            });
        }

        // From the end to the beginning: what each part needs is a result of those before it.
        let mut partials: Vec<Vec<NodeId>> = vec![Vec::new(); n_levels];
        let mut outside = self.walk(Walker::Whole(n_levels), &last)?;
        self.demand(&outside, &mut partials)?;
        for level in (0..n_levels).rev() {
            let mut crossing = self.crossing_of(level)?;
            crossing.extend(&partials[level]);
            outside = self.walk(Walker::Shards(level), &crossing)?;
            self.demand(&outside, &mut partials)?;
            let kept = self.kept_of(level)?;
            outside = self.walk(Walker::Whole(level), &kept)?;
            self.demand(&outside, &mut partials)?;
        }

        // Where everything is that shards compute together.
        let mut combined = BTreeMap::new();
        let mut blocks = Vec::new();
        let mut at = 0;
        for partials in &mut partials {
            self.in_order_of_updates(&last, partials);
            let start = at;
            for &id in partials.iter() {
                combined.insert(id, at);
                at += self.known(id)?.shape.len();
            }
            blocks.push(start..at);
        }

        let mut levels = Vec::new();
        for (level, block) in blocks.into_iter().enumerate() {
            let kept = self.kept_of(level)?;
            let whole = match kept.is_empty() {
                true => None,
                false => {
                    let whole = self.whole(level, &kept, &combined, layout, passes, threads)?;
                    Some(OncePlan {
                        keeps: kept.iter().map(|id| self.kept.of[id]).collect(),
                        ..whole
                    })
                }
            };
            let crossing = self.crossing_of(level)?;
            let mut segments: Vec<(usize, Combine)> = Vec::new();
            for &id in &partials[level] {
                let known = self.known(id)?;
                let Kind::Partial(combine) = known.kind else { continue };
                match segments.last_mut() {
                    Some((len, last)) if *last == combine => *len += known.shape.len(),
                    _ => segments.push((known.shape.len(), combine)),
                }
            }
            let lens = partials[level].iter().map(|&id| Ok(self.known(id)?.shape.len()));
            let buckets = buckets(&lens.collect::<Result<Vec<_>>>()?);
            let mut plans = Vec::new();
            let mut feeds = Vec::new();
            if !crossing.is_empty() || !partials[level].is_empty() {
                for shard in [0, cut.active() - 1] {
                    let rows = cut.of(shard).len();
                    if plans.iter().any(|(n, _)| *n == rows) {
                        continue;
                    }
                    let plan;
                    (plan, feeds) = self.shards(
                        level,
                        rows,
                        [&crossing, &partials[level]],
                        &combined,
                        layout,
                        passes,
                    )?;
                    plans.push((rows, plan));
                }
            }
            let crosses = crossing.iter().map(|id| self.crossing.of[id]).collect();
            levels.push(Level { whole, plans, feeds, crosses, block, segments, buckets });
        }
        let last = self.whole(n_levels, &last, &combined, layout, passes, threads)?;
        let dtype = |id: NodeId| self.graph.node(id).dtype;
        let kept = self.kept.nodes.iter().map(|&id| dtype(id)).collect();
        let crossing = self.crossing.nodes.iter();
        let crossing = crossing.map(|&id| Ok((dtype(id), self.known(id)?.shape.with(0, 0))));
        let crossing = crossing.collect::<Result<_>>()?;
        Ok(Sharded { levels, last, fetches: fetched_at, combined: at, kept, crossing })
    }

    /// Makes these nodes results of whoever computes them.
    fn demand(&mut self, outside: &[NodeId], partials: &mut [Vec<NodeId>]) -> Result<()> {
        for &id in outside {
            let known = self.known(id)?;
            match known.kind {
                Kind::Partial(_) => {
                    if !partials[known.level].contains(&id) {
                        partials[known.level].push(id);
                    }
                }
                Kind::Split => {
                    self.crossing.number(id);
                }
                Kind::Whole => {
                    self.kept.number(id);
                }
                Kind::Count(_) => {}
            }
        }
        Ok(())
    }

    fn crossing_of(&self, level: usize) -> Result<Vec<NodeId>> {
        self.of_level(&self.crossing.nodes, level)
    }

    fn kept_of(&self, level: usize) -> Result<Vec<NodeId>> {
        self.of_level(&self.kept.nodes, level)
    }

    fn of_level(&self, nodes: &[NodeId], level: usize) -> Result<Vec<NodeId>> {
        let mut out = Vec::new();
        for &id in nodes {
            if self.known(id)?.level == level {
                out.push(id);
            }
        }
        Ok(out)
    }

    /// Gradients first, in the order in which the first update that is fetched reads them: then it
    /// finds them side by side.
    fn in_order_of_updates(&self, last: &[NodeId], partials: &mut [NodeId]) {
        let updates = last.iter().map(|&id| self.graph.node(id));
        let gradients: Vec<NodeId> = updates
            .filter(|node| matches!(node.op, Op::Effect(_)))
            .flat_map(|node| node.inputs.iter().skip(1).step_by(2))
            .map(|&id| self.seen_through(id))
            .collect();
        partials
            .sort_by_key(|&id| (gradients.iter().position(|&g| g == id).unwrap_or(usize::MAX), id));
    }

    /// What a view is of.
    fn seen_through(&self, mut id: NodeId) -> NodeId {
        while self.graph.node(id).op.primitive().is_view() {
            id = self.graph.node(id).inputs[0];
        }
        id
    }

    /// A plan that is done once.
    fn whole(
        &self,
        level: usize,
        results: &[NodeId],
        combined: &BTreeMap<NodeId, usize>,
        layout: &Layout,
        passes: Passes,
        threads: usize,
    ) -> Result<OncePlan<T>> {
        let outside = self.walk(Walker::Whole(level), results)?;
        let (given, feeds) = self.given(&outside, combined, None)?;
        let request = Request { fetches: results, partials: &[], given: &given, passes, threads };
        let plan = Arc::new(compile(self.graph, layout, request)?);
        Ok(OncePlan { plan, feeds, keeps: Vec::new() })
    }

    /// The plan of shards with this many rows.
    fn shards(
        &self,
        level: usize,
        rows: usize,
        [crossing, partials]: [&[NodeId]; 2],
        combined: &BTreeMap<NodeId, usize>,
        layout: &Layout,
        passes: Passes,
    ) -> Result<(Arc<Plan<T>>, Vec<FeedFrom>)> {
        let results = [crossing, partials].concat();
        let outside = self.walk(Walker::Shards(level), &results)?;
        let (given, feeds) = self.given(&outside, combined, Some(rows))?;
        let request = Request { fetches: crossing, partials, given: &given, passes, threads: 1 };
        Ok((Arc::new(compile(self.graph, layout, request)?), feeds))
    }

    /// What a plan does not compute itself, and where it finds that: of the whole batch, or of a
    /// shard with this many rows.
    fn given(
        &self,
        outside: &[NodeId],
        combined: &BTreeMap<NodeId, usize>,
        rows: Option<usize>,
    ) -> Result<(Vec<Given>, Vec<FeedFrom>)> {
        let (mut given, mut feeds) = (Vec::new(), Vec::new());
        let mut feed = |node: NodeId, shape: Shape, source: FeedFrom| {
            given.push(Given { node, shape, from: Origin::Feed(feeds.len()) });
            feeds.push(source);
        };
        let local = |known: Known| match rows {
            Some(rows) if known.kind == Kind::Split => known.shape.with(0, rows),
            _ => known.shape,
        };
        for (i, &(id, shape)) in self.fed.iter().enumerate() {
            let Some(known) = self.known.get(id as usize).copied().flatten() else {
                // Fed, and not needed.
                continue;
            };
            let source = match rows {
                Some(_) if known.kind == Kind::Split => FeedFrom::Rows(i),
                _ => FeedFrom::User(i),
            };
            debug_assert_eq!(shape, known.shape);
            feed(id, local(known), source);
        }
        for &id in outside {
            let known = self.known(id)?;
            match known.kind {
                Kind::Whole => feed(id, known.shape, FeedFrom::Kept(self.kept.of[&id])),
                Kind::Split => feed(id, local(known), FeedFrom::Crossing(self.crossing.of[&id])),
                Kind::Partial(_) | Kind::Count(_) => {}
            }
        }
        if rows.is_some() {
            for (id, node) in (0 as NodeId..).zip(&self.graph.nodes) {
                if let (Op::Leaf(Leaf::Place), Some(known)) =
                    (&node.op, self.known.get(id as usize).copied().flatten())
                {
                    feed(id, known.shape, FeedFrom::Place);
                }
            }
        }
        for (id, known) in (0 as NodeId..).zip(&self.known) {
            let Some(known) = known else { continue };
            match known.kind {
                Kind::Count(bits) => {
                    given.push(Given { node: id, shape: known.shape, from: Origin::Literal(bits) });
                }
                Kind::Partial(_) if outside.binary_search(&id).is_ok() => {
                    let from = Origin::Combined(combined[&id]);
                    given.push(Given { node: id, shape: known.shape, from });
                }
                _ => {}
            }
        }
        Ok((given, feeds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_a_block_from_its_end() {
        let (few, many) = (BUCKET.start, BUCKET.end);
        for (lens, want) in [
            (vec![], 0),
            (vec![0], 0),
            (vec![1], 1),
            (vec![few, few], 2),
            // What is left over at the start is a bucket, too.
            (vec![1, few], 2),
            (vec![few, 1], 1),
            (vec![few, few / 2, few / 2, 1], 2),
            (vec![many, 1, few], 1 + 2),
            (vec![3 * many + 1, few, few - 1, 1], 4 + 2),
        ] {
            let buckets = buckets(&lens);
            assert_eq!(buckets.len(), want, "{lens:?}");
            let mut end = lens.iter().sum();
            for bucket in buckets {
                assert!(bucket.end == end && (1..=many).contains(&bucket.len()), "{lens:?}");
                end = bucket.start;
            }
            assert_eq!(end, 0, "{lens:?}");
        }
    }
}
