//! What ranks have to agree on, and how their partial results meet: slice by slice, each rank adds
//! up one slice of all along the tree, and gives it to the others.

use super::meeting::{Meeting, combined_nodes};
use super::variables::{OptimizerState, Variables};
use crate::dist::{Group, Incoming, Lane, Outgoing, Tree, TreeNode};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::bytes::{bytes, bytes_mut};
use crate::kernel::team::part_of;
use crate::plan::{Cut, Level, is_batch};
use crate::scalar::Scalar;
use crate::tape::op::Combine;
use crate::tape::{FeedValue, Graph, NodeId};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

/// The group of a session.
#[derive(Debug)]
pub(super) struct Ranks {
    pub(super) group: Box<dyn Group>,
    /// Runs so far.
    runs: u64,
    /// The changes to the variables when they were compared.
    compared: Option<u64>,
}

/// What each rank says before a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Header {
    /// Runs so far.
    run: u64,
    /// A hash of everything that has to be the same.
    what: u64,
    /// Rows that the rank has been fed.
    rows: u64,
}

const HEADER: usize = 24;
/// The longest description of what a rank does, in bytes.
const TEXT: usize = 512;

impl Header {
    fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let words = [self.run, self.what, self.rows];
        out.chunks_exact_mut(8).zip(words).for_each(|(to, x)| to.copy_from_slice(&x.to_ne_bytes()));
        out
    }

    fn of(bytes: &[u8; HEADER]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let [run, what, rows] = [0, 1, 2].map(|i| u64::from_ne_bytes(words[i]));
        Header { run, what, rows }
    }
}

impl Ranks {
    pub(super) fn new(group: Box<dyn Group>) -> Self {
        Ranks { group, runs: 0, compared: None }
    }

    /// Begins a run of these fetches and feeds. Returns the rows of all ranks together.
    ///
    /// # Errors
    /// Ranks disagree: on all of them, and the message has both sides.
    pub(super) fn begin<T: Scalar>(
        &mut self,
        graph: &Graph<T>,
        variables: &Variables<T>,
        (fetched, feeds): (&[NodeId], &[(NodeId, FeedValue<'_, T>)]),
        shards: usize,
    ) -> Result<usize> {
        let is_open = |id: NodeId| is_batch(&graph.node(id).shape);
        let batch = feeds.iter().find(|feed| is_open(feed.0));
        let rows = batch.and_then(|feed| feed.1.shape().dim(0)).unwrap_or(0);
        // Compared at first and when something else than a run has changed the variables: the same
        // runs do the same to them.
        let start = match self.compared.replace(variables.changes) == Some(variables.changes) {
            true => 0,
            false => state(graph, variables),
        };
        let mut hasher = DefaultHasher::new();
        (fetched, shards, start, env!("CARGO_PKG_VERSION"), T::NAME).hash(&mut hasher);
        for (id, value) in feeds {
            let shape = value.shape();
            (id, if is_open(*id) { shape.with(0, 0) } else { shape }).hash(&mut hasher);
        }
        let text = || {
            let fetches = fetched.iter().map(|&id| graph.describe(id)).collect::<Vec<_>>();
            let fed =
                |f: &(NodeId, FeedValue<'_, T>)| format!("{} {}", graph.describe(f.0), f.1.shape());
            let (fetches, feeds) =
                (fetches.join(", "), feeds.iter().map(fed).collect::<Vec<_>>().join(", "));
            let (nodes, name) = (graph.len(), T::NAME);
            format!(
                "a tape of {nodes} nodes in {name}, start {start:016x}, {shards} shards, fetches \
                 {fetches}, feeds {feeds}"
            )
        };
        self.agree(hasher.finish(), rows, shards, text)
    }

    /// That all ranks are about to do this beside runs, each with the same variables and state.
    ///
    /// # Errors
    /// As [`Ranks::begin`].
    pub(super) fn together<T: Scalar>(
        &mut self,
        graph: &Graph<T>,
        variables: &Variables<T>,
        what: &str,
    ) -> Result<()> {
        let start = state(graph, variables);
        let mut hasher = DefaultHasher::new();
        (what, start).hash(&mut hasher);
        self.agree(hasher.finish(), 0, 1, || format!("{what}, start {start:016x}")).map(drop)
    }

    /// That all ranks are about to do the same, which `what` is a hash of and `text` describes, on
    /// so many rows each.
    fn agree(
        &mut self,
        what: u64,
        rows: usize,
        shards: usize,
        text: impl Fn() -> String,
    ) -> Result<usize> {
        let own = Header { run: self.runs, what, rows: rows as u64 };
        self.runs += 1;
        let all = self.tell_all(own.to_bytes())?;
        let all: Vec<Header> = all.iter().map(Header::of).collect();
        let same = |h: &Header| (h.run, h.what) == (all[0].run, all[0].what);
        if let Some(other) = all.iter().position(|h| !same(h)) {
            let mut said = [0; TEXT];
            let text = format!("run {} of {}", own.run + 1, text());
            let mut end = text.len().min(TEXT);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            said[..end].copy_from_slice(&text.as_bytes()[..end]);
            let texts = self.tell_all(said)?;
            let said = |rank: usize| {
                String::from_utf8_lossy(&texts[rank]).trim_end_matches('\0').to_string()
            };
            let text =
                format!("ranks disagree: rank 0 has {}; rank {other} has {}", said(0), said(other));
            return Err(Error::new(ErrorKind::Group, text));
        }
        let total = all.iter().map(|h| h.rows as usize).sum();
        let cut = Cut { rows: total, shards };
        let want: Vec<usize> =
            (0..all.len()).map(|rank| cut.rows_of_rank(rank, all.len()).len()).collect();
        let got: Vec<usize> = all.iter().map(|h| h.rows as usize).collect();
        if want != got {
            let text = format!("ranks: expected {want:?} of {total} rows, got {got:?}");
            return Err(Error::new(ErrorKind::Group, text));
        }
        Ok(total)
    }

    /// What every rank says, by rank.
    fn tell_all<const N: usize>(&mut self, own: [u8; N]) -> Result<Vec<[u8; N]>> {
        let (rank, size) = (self.group.rank(), self.group.size());
        let mut all = vec![own; size];
        let send: Vec<Outgoing<'_>> = others(rank, size).map(|to| (to, &own[..])).collect();
        let from = all.iter_mut().enumerate().filter(|(from, _)| *from != rank);
        let mut receive: Vec<Incoming<'_>> = from.map(|(from, x)| (from, &mut x[..])).collect();
        self.group.exchange(&send, &mut receive)?;
        Ok(all)
    }
}

/// A hash of the tape, the variables' values and what optimizers keep.
fn state<T: Scalar>(graph: &Graph<T>, variables: &Variables<T>) -> u64 {
    let Variables { layout: _, values, has_value, optimizers, share, changes: _ } = variables;
    let mut hasher = DefaultHasher::new();
    (graph.hash(), has_value, share.size()).hash(&mut hasher);
    bytes(values.as_slice()).hash(&mut hasher);
    for state in optimizers {
        let OptimizerState { node, steps, rate_factor, swapped, begun: _, slots } = state;
        (node, steps, rate_factor.to_bits(), swapped, slots).hash(&mut hasher);
    }
    hasher.finish()
}

pub(super) fn others(rank: usize, size: usize) -> impl Iterator<Item = usize> {
    (0..size).filter(move |&other| other != rank)
}

/// How partial results of ranks meet, with the memory for it.
#[derive(Debug)]
pub(super) struct Rendezvous<T: Scalar> {
    rank: usize,
    /// Of each rank, how many nodes its shards make.
    nodes: Vec<usize>,
    meeting: Meeting,
    /// What others have sent of a bucket: the elements of their nodes that this rank adds up.
    received: Vec<T>,
}

/// Up to so many elements, everybody gets everything at once.
const SMALL: usize = 1 << 11;
/// Slices are cut at whole cache lines.
pub(super) const GRAIN: usize = 64;

impl<T: Scalar> Rendezvous<T> {
    pub(super) fn new(cut: Cut, rank: usize, size: usize) -> Self {
        let tree = Tree { shards: cut.active() };
        let of_rank = |rank| {
            let mut nodes = Vec::new();
            let leaves = cut.of_rank(rank, size).map(TreeNode::leaf);
            leaves.for_each(|leaf| tree.push(&mut nodes, leaf, |_, _| ()));
            nodes
        };
        let nodes: Vec<Vec<TreeNode>> = (0..size).map(of_rank).collect();
        let all = nodes.iter().enumerate().flat_map(|(rank, nodes)| {
            nodes.iter().enumerate().map(move |(i, &node)| ((rank, i), node))
        });
        let mut meetings = Meeting::all(tree, all);
        let nodes: Vec<usize> = nodes.iter().map(Vec::len).collect();
        let meeting = meetings.swap_remove(0);
        Rendezvous { rank, nodes, meeting, received: Vec::new() }
    }
}

/// A block of partial results on its way. Bucket by bucket each rank gets one slice of all nodes, on
/// one lane; and gives what they combine to everybody, on the other one.
pub(super) struct Transit<'a, T: Scalar> {
    rendezvous: &'a mut Rendezvous<T>,
    group: &'a mut dyn Group,
    segments: &'a [(usize, Combine)],
    buckets: &'a [Range<usize>],
    /// Buckets that have left, those of which this rank has combined its slice, and those that are
    /// whole again.
    sent: usize,
    combined: usize,
    whole: usize,
    /// Where the combined results go.
    block: &'a mut [T],
}

/// Buckets that are on their way while there is nothing else to do.
const AHEAD: usize = 2;
const SLICES: Lane = Lane::First;
const SUMS: Lane = Lane::Second;

impl<'a, T: Scalar> Transit<'a, T> {
    pub(super) fn new(
        rendezvous: &'a mut Rendezvous<T>,
        group: &'a mut dyn Group,
        level: &'a Level<T>,
        block: &'a mut [T],
    ) -> Self {
        let (segments, buckets) = (&*level.segments, &*level.buckets);
        let (sent, combined, whole) = (0, 0, 0);
        let transit =
            Transit { rendezvous, group, segments, buckets, sent, combined, whole, block };
        let most = (0..buckets.len()).map(|bucket| transit.theirs(bucket)).max().unwrap_or(0);
        transit.rendezvous.received.resize(most, T::zero());
        transit
    }

    /// Sends the next bucket of this rank's nodes.
    pub(super) fn send(&mut self, own: &[Vec<T>]) -> Result<()> {
        let (rank, size) = (self.rendezvous.rank, self.rendezvous.nodes.len());
        let bucket = self.sent;
        let mine = self.slice(bucket, rank).len() * size_of::<T>();
        // A message from each rank to each in a round: of its next node.
        for round in 0..self.rounds() {
            let mut send: Vec<Outgoing<'_>> = Vec::with_capacity(size);
            if let Some(own) = own.get(round) {
                let slice = |to| bytes(&own[self.slice(bucket, to)]);
                send.extend(others(rank, size).map(|to| (to, slice(to))));
            }
            let from = others(rank, size).filter(|&from| self.rendezvous.nodes[from] > round);
            let receive: Vec<(usize, usize)> = from.map(|from| (from, mine)).collect();
            self.group.start(SLICES, &send, &receive)?;
        }
        self.sent += 1;
        Ok(())
    }

    /// Whether something is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.whole < self.sent
    }

    /// Goes on with what has arrived.
    pub(super) fn look(&mut self, own: &[Vec<T>]) -> Result<()> {
        while self.combined < self.sent && self.group.is_done(SLICES) {
            self.combine(own)?;
        }
        while self.whole < self.combined && self.group.is_done(SUMS) {
            self.gather()?;
        }
        Ok(())
    }

    /// Sends what has not left yet, and waits for everything.
    pub(super) fn end(&mut self, own: &[Vec<T>]) -> Result<()> {
        let n = self.buckets.len();
        while self.whole < n {
            while self.sent < n.min(self.combined + AHEAD) {
                self.send(own)?;
            }
            if self.combined < self.sent {
                self.combine(own)?;
            }
            if self.combined == n || self.whole + 1 < self.combined {
                self.gather()?;
            }
        }
        Ok(())
    }

    /// Waits for this rank's slice of the next bucket, combines it, and gives it to the others.
    fn combine(&mut self, own: &[Vec<T>]) -> Result<()> {
        let (rank, size) = (self.rendezvous.rank, self.rendezvous.nodes.len());
        let bucket = self.combined;
        self.receive_slices(bucket)?;
        self.add_up(bucket, own);
        self.combined += 1;
        if is_small(&self.buckets[bucket]) {
            return Ok(());
        }
        let sum = bytes(&self.block[self.slice(bucket, rank)]);
        let send: Vec<Outgoing<'_>> = others(rank, size).map(|to| (to, sum)).collect();
        let room = |from| self.slice(bucket, from).len() * size_of::<T>();
        let receive: Vec<(usize, usize)> =
            others(rank, size).map(|from| (from, room(from))).collect();
        self.group.start(SUMS, &send, &receive)
    }

    /// Waits for the others' slices of the next bucket.
    fn gather(&mut self) -> Result<()> {
        let (rank, size) = (self.rendezvous.rank, self.rendezvous.nodes.len());
        let bucket = self.whole;
        self.whole += 1;
        if is_small(&self.buckets[bucket]) {
            return Ok(());
        }
        let lens: Vec<usize> = (0..size).map(|rank| self.slice(bucket, rank).len()).collect();
        let mut rest = &mut self.block[self.buckets[bucket].clone()];
        let mut receive: Vec<Incoming<'_>> = Vec::with_capacity(size);
        for (from, len) in lens.into_iter().enumerate() {
            let sum;
            (sum, rest) = rest.split_at_mut(len);
            if from != rank {
                receive.push((from, bytes_mut(sum)));
            }
        }
        self.group.finish(SUMS, &mut receive)
    }

    /// Waits for this rank's slice of the others' nodes.
    fn receive_slices(&mut self, bucket: usize) -> Result<()> {
        let (rank, rounds) = (self.rendezvous.rank, self.rounds());
        let mine = self.slice(bucket, rank).len();
        let Rendezvous { nodes, received, .. } = &mut *self.rendezvous;
        let mut rest = &mut received[..];
        for round in 0..rounds {
            let mut receive: Vec<Incoming<'_>> = Vec::with_capacity(nodes.len());
            for from in others(rank, nodes.len()).filter(|&from| nodes[from] > round) {
                let into;
                (into, rest) = rest.split_at_mut(mine);
                receive.push((from, bytes_mut(into)));
            }
            self.group.finish(SLICES, &mut receive)?;
        }
        Ok(())
    }

    /// Combines all ranks' nodes in this rank's slice.
    fn add_up(&mut self, bucket: usize, own: &[Vec<T>]) {
        let mine = self.slice(bucket, self.rendezvous.rank);
        let Rendezvous { rank, nodes, meeting, received, .. } = &*self.rendezvous;
        let size = nodes.len();
        let place = |(from, i): (usize, usize)| {
            // Round by round, and in a round rank by rank.
            let before: usize = others(*rank, size).map(|other| nodes[other].min(i)).sum();
            let here = others(*rank, size).filter(|&other| other < from && nodes[other] > i);
            before + here.count()
        };
        let node = |(from, i): (usize, usize)| match from == *rank {
            true => &own[i][mine.clone()],
            false => &received[place((from, i)) * mine.len()..][..mine.len()],
        };
        let out = &mut self.block[mine.clone()];
        combined_nodes(meeting, node, self.segments, mine.start, out);
    }

    /// The elements of a bucket that a rank adds up.
    fn slice(&self, bucket: usize, rank: usize) -> Range<usize> {
        let bucket = &self.buckets[bucket];
        if is_small(bucket) {
            return bucket.clone();
        }
        let slice = part_of(bucket.len(), GRAIN, self.rendezvous.nodes.len(), rank);
        bucket.start + slice.start..bucket.start + slice.end
    }

    /// How many elements this rank receives of the others' nodes for this bucket.
    fn theirs(&self, bucket: usize) -> usize {
        let Rendezvous { rank, nodes, .. } = &*self.rendezvous;
        (nodes.iter().sum::<usize>() - nodes[*rank]) * self.slice(bucket, *rank).len()
    }

    /// Messages from a rank to another for each bucket.
    fn rounds(&self) -> usize {
        self.rendezvous.nodes.iter().copied().max().unwrap_or(0)
    }
}

fn is_small(bucket: &Range<usize>) -> bool {
    bucket.len() <= SMALL
}

impl Cut {
    /// The rows of a rank's shards.
    pub(super) fn rows_of_rank(self, rank: usize, ranks: usize) -> Range<usize> {
        let own = self.of_rank(rank, ranks);
        let start = if own.start < self.shards { self.of(own.start).start } else { self.rows };
        match own.is_empty() {
            true => start..start,
            false => start..self.of(own.end - 1).end,
        }
    }
}
