//! Cotangents that leave the branches of conditionals: they count where the branch is taken.
//! Knows no single op.

use crate::scalar::Scalar;
use crate::tape::{Expr, GuardId, NodeId, Tape};
use std::collections::HashMap;

/// Cotangents of nodes, by the guards that they are there under, which the nodes do not stand
/// under themselves.
#[derive(Debug)]
pub(super) struct Leaving<'t, T: Scalar> {
    of: HashMap<NodeId, Vec<(GuardId, Expr<'t, T>)>>,
}

impl<'t, T: Scalar> Leaving<'t, T> {
    pub(super) fn new() -> Self {
        Leaving { of: HashMap::new() }
    }

    /// Adds a cotangent of `node` that is there only under `guard`.
    pub(super) fn add(&mut self, node: NodeId, guard: GuardId, ct: Expr<'t, T>) {
        add_under(ct.tape(), self.of.entry(node).or_default(), guard, ct);
    }

    /// The sum of the cotangents of `node`: the two branches of a conditional make one value, from
    /// the innermost to the outermost, until it is there wherever the node is. To be called on
    /// behalf of the node.
    pub(super) fn settle(&mut self, node: NodeId, tape: &'t Tape<T>) -> Option<Expr<'t, T>> {
        let mut parts = self.of.remove(&node)?;
        let mut sum = None;
        while let Some(last) = (0..parts.len()).max_by_key(|&i| tape.n_guards(parts[i].0)) {
            let (guard, ct) = parts.swap_remove(last);
            match tape.guard_unless(guard, tape.here()) {
                None => sum = Some(sum.map_or(ct, |sum: Expr<'t, T>| sum + ct)),
                Some(own) => {
                    let other = tape.guarded(own.outer, own.predicate, !own.holds);
                    let other = parts.iter().position(|part| part.0 == other);
                    let other = other.map(|i| parts.swap_remove(i).1);
                    let chosen = tape.ungated(own, ct, other);
                    add_under(tape, &mut parts, own.outer, chosen);
                }
            }
        }
        sum
    }
}

fn add_under<'t, T: Scalar>(
    tape: &'t Tape<T>,
    parts: &mut Vec<(GuardId, Expr<'t, T>)>,
    guard: GuardId,
    ct: Expr<'t, T>,
) {
    match parts.iter_mut().find(|part| part.0 == guard) {
        Some(part) => part.1 = tape.under(guard, || part.1 + ct),
        None => parts.push((guard, ct)),
    }
}
