//! How partial results meet: along the tree, whoever computed them, so that what is added to what
//! depends on the number of shards alone.

use crate::dist::{Tree, TreeNode};
use crate::kernel::reduce::{SOFTMAX_SCRATCH, logsumexp};
use crate::kernel::team::part;
use crate::kernel::vector::{add, sum};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::Combine;
use std::ops::Range;

/// y ← y and x combined, where `segments` say how, from element `start` of the block on.
fn combine<T: Scalar>(segments: &[(usize, Combine)], start: usize, y: &mut [T], x: &[T]) {
    let mut first = 0;
    for &(len, how) in segments {
        let from = first.max(start) - start;
        let to = (first + len).saturating_sub(start).min(y.len());
        first += len;
        if from >= to {
            continue;
        }
        let (y, x) = (&mut y[from..to], &x[from..to]);
        let mut each = |f: fn(T, T) -> T| y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(*y, x));
        match how {
            Combine::Sum => add(y, x),
            Combine::Prod => each(|y, x| y * x),
            // NaN stays, as in the reductions themselves.
            Combine::Max => each(|y, x| if y > x || y.is_nan() { y } else { x }),
            Combine::Min => each(|y, x| if y < x || y.is_nan() { y } else { x }),
            Combine::LogAddExp => each(|y, x| {
                let mut sum = [T::zero()];
                let scratch = &mut [T::zero(); SOFTMAX_SCRATCH];
                logsumexp(&Shape::from(2), 0, &[y, x], &mut sum, scratch);
                sum[0]
            }),
        }
    }
}

/// Puts these elements of a shard's partial results where its node is, or into the node that it
/// joins, and that into the one that it joins.
pub(super) fn fold<T: Scalar>(
    sums: &mut [Vec<T>],
    (node, joins): (usize, &[usize]),
    segments: &[(usize, Combine)],
    range: Range<usize>,
    partials: &[T],
) {
    let start = range.start;
    let Some((&first, others)) = joins.split_first() else {
        sums[node][range.clone()].copy_from_slice(&partials[range]);
        return;
    };
    combine(segments, start, &mut sums[first][range.clone()], &partials[range.clone()]);
    for &to in others {
        let (left, right) = sums.split_at_mut(to + 1);
        combine(segments, start, &mut left[to][range.clone()], &right[0][range.clone()]);
    }
}

/// How nodes that stand side by side become one.
#[derive(Debug)]
pub(super) struct Meeting {
    /// Where each node is: whose, and which of its.
    nodes: Vec<(usize, usize)>,
    turns: Vec<Turn>,
}

/// What to do next with the stack of values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    /// The next node goes on the stack.
    Push,
    /// The two values on top become one.
    Join,
}

impl Meeting {
    /// How these nodes, which stand side by side, become as few as possible: one meeting for each.
    pub(super) fn all(
        tree: Tree,
        nodes: impl Iterator<Item = ((usize, usize), TreeNode)>,
    ) -> Vec<Meeting> {
        let mut meetings: Vec<Meeting> = Vec::new();
        let mut stack = Vec::new();
        for (place, node) in nodes {
            meetings.push(Meeting { nodes: vec![place], turns: vec![Turn::Push] });
            tree.push(&mut stack, node, |_, _| {
                let Some(mut right) = meetings.pop() else { return };
                let Some(left) = meetings.last_mut() else { return };
                left.nodes.append(&mut right.nodes);
                left.turns.append(&mut right.turns);
                left.turns.push(Turn::Join);
            });
        }
        meetings
    }

    /// Of workers that take equal runs of these shards.
    pub(super) fn of_workers(tree: Tree, own: &Range<usize>, n_workers: usize) -> Vec<Meeting> {
        let of_worker = |worker| {
            let mut nodes = Vec::new();
            let leaves = part(own.len(), n_workers, worker).map(|i| TreeNode::leaf(own.start + i));
            leaves.for_each(|leaf| tree.push(&mut nodes, leaf, |_, _| ()));
            nodes.into_iter().enumerate().map(move |(i, node)| ((worker, i), node))
        };
        Meeting::all(tree, (0..n_workers).flat_map(of_worker))
    }

    /// A piece that stays in the cache while all nodes meet: `at` elements on in what `node` gives.
    fn chunk<'a, T: Scalar>(
        &self,
        node: &impl Fn((usize, usize)) -> &'a [T],
        at: usize,
        segments: &[(usize, Combine)],
        start: usize,
        out: &mut [T],
    ) {
        let n = out.len();
        let mut stack = [[T::zero(); CHUNK]; DEPTH];
        let (mut top, mut next) = (0, 0);
        for turn in &self.turns {
            match turn {
                Turn::Push => {
                    stack[top][..n].copy_from_slice(&node(self.nodes[next])[at..at + n]);
                    (top, next) = (top + 1, next + 1);
                }
                Turn::Join => {
                    top -= 1;
                    let (left, right) = stack.split_at_mut(top);
                    combine(segments, start, &mut left[top - 1][..n], &right[0][..n]);
                }
            }
        }
        out.copy_from_slice(&stack[0][..n]);
    }
}

/// What nodes become, of which `node` gives the elements of `out`, from element `start` of the
/// block on.
pub(super) fn combined_nodes<'a, T: Scalar>(
    meeting: &Meeting,
    node: impl Fn((usize, usize)) -> &'a [T],
    segments: &[(usize, Combine)],
    start: usize,
    out: &mut [T],
) {
    match (&*meeting.nodes, segments) {
        (&[one], _) => out.copy_from_slice(node(one)),
        (&[left, right], [(_, Combine::Sum)]) => sum(out, node(left), node(right)),
        _ => {
            for (i, out) in out.chunks_mut(CHUNK).enumerate() {
                let at = i * CHUNK;
                meeting.chunk(&node, at, segments, start + at, out);
            }
        }
    }
}

/// Elements that meet at a time.
const CHUNK: usize = 256;
/// The most nodes that wait for their other half: one a level of the tree, and the one that comes.
const DEPTH: usize = MAX_LEVELS + 2;
const MAX_LEVELS: usize = MAX_SHARDS.ilog2() as usize;
/// The most shards of a session.
pub(super) const MAX_SHARDS: usize = 4096;
