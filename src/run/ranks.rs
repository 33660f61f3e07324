//! What ranks have to agree on, and how their partial results meet: slice by slice, each rank adds
//! up one slice of all along the tree, and gives it to the others.

use super::sharded::{Meeting, combined};
use super::variables::{OptimizerState, Variables};
use crate::dist::{Group, Incoming, Outgoing, Tree, TreeNode};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::bytes::{bytes, bytes_mut};
use crate::kernel::team::part_of;
use crate::plan::{Cut, is_batch};
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
    let Variables { layout: _, values, has_value, optimizers, changes: _ } = variables;
    let mut hasher = DefaultHasher::new();
    (graph.hash(), has_value).hash(&mut hasher);
    bytes(values.as_slice()).hash(&mut hasher);
    for state in optimizers {
        let OptimizerState { node, steps, rate_factor, swapped, begun: _, slots } = state;
        (node, steps, rate_factor.to_bits(), swapped).hash(&mut hasher);
        bytes(slots.as_slice()).hash(&mut hasher);
    }
    hasher.finish()
}

fn others(rank: usize, size: usize) -> impl Iterator<Item = usize> {
    (0..size).filter(move |&other| other != rank)
}

/// How partial results of ranks meet.
#[derive(Debug)]
pub(super) struct Rendezvous<T: Scalar> {
    rank: usize,
    /// Of each rank, how many nodes its shards make.
    nodes: Vec<usize>,
    meeting: Meeting,
    /// The values of this rank's nodes, each of the whole block.
    pub(super) own: Vec<Vec<T>>,
    /// Those of the others, one after the other, of this rank's slice or of the whole block.
    received: Vec<T>,
}

/// Up to so many elements, everybody gets everything at once.
const SMALL: usize = 1 << 11;
/// Slices are cut at whole cache lines.
const GRAIN: usize = 64;

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
        Rendezvous {
            rank,
            own: vec![Vec::new(); nodes[rank]],
            nodes,
            meeting: meetings.swap_remove(0),
            received: Vec::new(),
        }
    }

    /// Lets the ranks' nodes meet in `out`, on all ranks.
    pub(super) fn meet(
        &mut self,
        group: &mut dyn Group,
        segments: &[(usize, Combine)],
        out: &mut [T],
    ) -> Result<()> {
        let (rank, size, len) = (self.rank, self.nodes.len(), out.len());
        let small = len <= SMALL;
        // Which elements a rank adds up.
        let slice = |rank: usize| match small {
            true => 0..len,
            false => part_of(len, GRAIN, size, rank),
        };
        let mine = slice(rank);
        let n_others = self.nodes.iter().sum::<usize>() - self.own.len();
        self.received.resize(n_others * mine.len(), T::zero());
        // A message from each rank to each in a round: of its next node.
        let most = self.nodes.iter().copied().max().unwrap_or(0);
        let mut rest = &mut self.received[..];
        for round in 0..most {
            let mut send: Vec<Outgoing<'_>> = Vec::with_capacity(size);
            if let Some(own) = self.own.get(round) {
                send.extend(others(rank, size).map(|to| (to, bytes(&own[slice(to)]))));
            }
            let mut receive: Vec<Incoming<'_>> = Vec::with_capacity(size);
            for from in others(rank, size).filter(|&from| self.nodes[from] > round) {
                let into;
                (into, rest) = rest.split_at_mut(mine.len());
                receive.push((from, bytes_mut(into)));
            }
            group.exchange(&send, &mut receive)?;
        }
        let (received, own) = (&self.received, &self.own);
        let place = |(from, i): (usize, usize)| {
            // Round by round, and in a round rank by rank.
            let before: usize = others(rank, size).map(|other| self.nodes[other].min(i)).sum();
            let here = others(rank, size).filter(|&other| other < from && self.nodes[other] > i);
            before + here.count()
        };
        let node = |(from, i): (usize, usize)| match from == rank {
            true => &own[i][mine.clone()],
            false => &received[place((from, i)) * mine.len()..][..mine.len()],
        };
        combined(&self.meeting, node, segments, mine.start, &mut out[mine.clone()]);
        if small {
            return Ok(());
        }
        let mut pieces = out;
        let mut sums: Vec<&mut [T]> = Vec::with_capacity(size);
        for rank in 0..size {
            let piece;
            (piece, pieces) = pieces.split_at_mut(slice(rank).len());
            sums.push(piece);
        }
        let own = std::mem::take(&mut sums[rank]);
        let send: Vec<Outgoing<'_>> = others(rank, size).map(|to| (to, bytes(own))).collect();
        let mut receive: Vec<Incoming<'_>> = Vec::with_capacity(size);
        for (from, sum) in sums.into_iter().enumerate().filter(|(from, _)| *from != rank) {
            receive.push((from, bytes_mut(sum)));
        }
        group.exchange(&send, &mut receive)
    }
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
