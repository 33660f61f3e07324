//! Guards: what has to hold for a node to be needed. A node recorded in a branch of a conditional
//! stands under its guards, and only what stands under them too may read it.

use super::op::{Cond, Derivative, Op, Pass};
use super::{Expr, Graph, NodeId, Tape};
use crate::error::{Error, ErrorKind, Result};
use crate::scalar::Scalar;
use std::sync::Arc;

/// A list of guards, as the number of its last one.
pub(crate) type GuardId = u32;

/// No guard at all.
pub(crate) const ALWAYS: GuardId = 0;

/// One more guard than the outer ones: that the value of the predicate is not 0, or that it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guard {
    pub(crate) outer: GuardId,
    pub(crate) predicate: NodeId,
    pub(crate) holds: bool,
}

impl<T: Scalar> Graph<T> {
    /// The last guard of a list.
    pub(crate) fn guard(&self, id: GuardId) -> Option<Guard> {
        let at = id.checked_sub(1)?;
        self.guards.get(at as usize).copied()
    }

    /// A list from its last guard to its first.
    pub(crate) fn guards(&self, id: GuardId) -> impl Iterator<Item = Guard> + '_ {
        std::iter::successors(self.guard(id), |guard| self.guard(guard.outer))
    }

    /// Whether the guards of `inner` are among those of `outer`, or are this one.
    fn stands_under(&self, inner: GuardId, outer: GuardId, or: Option<(NodeId, bool)>) -> bool {
        let is_among = |guard: Guard| {
            let own = (guard.predicate, guard.holds);
            Some(own) == or || self.guards(outer).any(|g| (g.predicate, g.holds) == own)
        };
        inner == outer || self.guards(inner).all(is_among)
    }
}

impl<T: Scalar> Tape<T> {
    /// The guards that what is recorded now stands under.
    pub(crate) fn here(&self) -> GuardId {
        self.guard.get()
    }

    /// Runs `f` with the nodes it records standing under these guards alone.
    pub(crate) fn under<R>(&self, guard: GuardId, f: impl FnOnce() -> R) -> R {
        let outer = self.guard.replace(guard);
        let result = f();
        self.guard.set(outer);
        result
    }

    /// These guards and one more.
    pub(crate) fn guarded(&self, outer: GuardId, predicate: NodeId, holds: bool) -> GuardId {
        let new = Guard { outer, predicate, holds };
        let known = {
            let graph = self.graph.borrow();
            let among = graph.guards(outer).any(|g| (g.predicate, g.holds) == (predicate, holds));
            match among {
                true => return outer,
                false => graph.guards.iter().position(|guard| *guard == new),
            }
        };
        let at = known.unwrap_or_else(|| {
            let mut graph = self.graph.borrow_mut();
            let guards = &mut Arc::make_mut(&mut graph).guards;
            guards.push(new);
            guards.len() - 1
        });
        at as GuardId + 1
    }

    /// The guards that hold here, and those of the node.
    pub(crate) fn guards_with(&self, id: NodeId) -> GuardId {
        let (here, of) = (self.guard.get(), self.graph.borrow().node(id).guard);
        if here == of || of == ALWAYS {
            return here;
        }
        let mut all: Vec<Guard> = self.graph.borrow().guards(of).collect();
        all.reverse();
        all.iter().fold(here, |outer, g| self.guarded(outer, g.predicate, g.holds))
    }

    /// The last guard of a list, unless all of them are among those of `outer`.
    pub(crate) fn guard_unless(&self, guard: GuardId, outer: GuardId) -> Option<Guard> {
        let graph = self.graph.borrow();
        graph.guard(guard).filter(|_| !graph.stands_under(guard, outer, None))
    }

    /// How many guards the list has.
    pub(crate) fn n_guards(&self, guard: GuardId) -> usize {
        self.graph.borrow().guards(guard).count()
    }

    /// That an op under these guards reads nothing from branches that it does not stand in, and
    /// writes nothing from within one.
    pub(super) fn check_guards(&self, op: &Op<T>, inputs: &[NodeId], guard: GuardId) -> Result<()> {
        let primitive = op.primitive();
        if guard != ALWAYS && matches!(op, Op::Effect(_)) {
            let text = format!("cond: expected no writes to variables, got {}", primitive.name());
            return Err(Error::new(ErrorKind::Tape, text));
        }
        let hidden: Vec<usize> = {
            let graph = self.graph.borrow();
            let is_hidden = |&i: &usize| {
                let own = op.taken_if(i).map(|holds| (inputs[0], holds));
                !graph.stands_under(graph.node(inputs[i]).guard, guard, own)
            };
            (0..inputs.len()).filter(is_hidden).collect()
        };
        // A checkpoint gates the cotangents of what it captured itself.
        let passes = |i: usize| {
            let gates = matches!(op, Op::Pass(Pass::Checkpoint(_)));
            primitive.reads(i) || primitive.derivative(i) == Derivative::Smooth && !gates
        };
        match hidden.into_iter().find(|&i| passes(i)) {
            None => Ok(()),
            Some(i) => {
                let graph = self.graph.borrow();
                let text = format!(
                    "{}: expected no value from inside a branch of cond, got {}",
                    primitive.name(),
                    graph.describe(inputs[i])
                );
                Err(Error::new(ErrorKind::Tape, text))
            }
        }
    }

    /// A value that is there only under the last of these guards, and zeros or `sibling` without
    /// it; recorded under the others.
    pub(crate) fn ungated<'t>(
        &'t self,
        guard: Guard,
        x: Expr<'t, T>,
        sibling: Option<Expr<'t, T>>,
    ) -> Expr<'t, T> {
        self.under(guard.outer, || {
            let other = sibling.unwrap_or_else(|| self.literal(0.0).broadcast_like(x));
            let (then, otherwise) = if guard.holds { (x, other) } else { (other, x) };
            self.apply(Cond, &[Expr::of(self, guard.predicate), then, otherwise])
        })
    }
}
