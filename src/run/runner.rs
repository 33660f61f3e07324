//! What a session keeps of a run: one plan, or one cut into shards, with its memory.

use super::execute::{Executor, Feeds};
use super::fetch::Wanted;
use super::ranks::Ranks;
use super::sharded::{Inputs, ShardRun};
use super::share::Share;
use super::trace::Watched;
use super::variables::Variables;
use crate::error::Result;
use crate::plan::{EffectStep, Report};
use crate::scalar::Scalar;
use crate::tape::{FeedValue, Graph, NodeId};

#[derive(Debug)]
pub(super) enum Runner<T: Scalar> {
    Plan(Box<Executor<T>>),
    Shards(Box<ShardRun<T>>),
}

impl<T: Scalar> Runner<T> {
    pub(super) fn report(&self) -> &Report {
        match self {
            Runner::Plan(executor) => &executor.plan.report,
            Runner::Shards(run) => &run.report,
        }
    }

    /// Bytes of the state that optimizers of this run keep here.
    pub(super) fn state_bytes(&self, share: Share) -> usize {
        let effects = match self {
            Runner::Plan(executor) => &executor.plan.effects,
            Runner::Shards(run) => run.effect_steps(),
        };
        let of = |effect: &EffectStep<T>| match effect {
            EffectStep::Assign { .. } => 0,
            EffectStep::Update { rule, gradients, .. } => {
                rule.slots() * share.slice(gradients.len).len() * size_of::<T>()
            }
        };
        effects.iter().map(of).sum()
    }

    /// Computes everything; then [`Runner::fetch`] finds the values.
    #[inline]
    pub(super) fn run(
        &mut self,
        inputs: Inputs<'_, T>,
        team: &mut Watched<'_>,
        ranks: Option<&mut Ranks>,
    ) -> Result<()> {
        let Inputs { graph, variables, feeds, finite } = inputs;
        match self {
            Runner::Plan(executor) => {
                variables.check(graph, &executor.plan.reads)?;
                executor.run(graph, variables, whole(feeds), team, finite)
            }
            Runner::Shards(run) => {
                run.reads().try_for_each(|reads| variables.check(graph, reads))?;
                run.run(inputs, team, ranks)
            }
        }
    }

    /// Puts the value of fetch number `i` of the run before where it is wanted, once.
    #[inline]
    pub(super) fn fetch(
        &mut self,
        i: usize,
        variables: &Variables<T>,
        feeds: &[(NodeId, FeedValue<'_, T>)],
        out: Wanted<'_, T>,
    ) -> Result<()> {
        match self {
            Runner::Plan(executor) => executor.fetch(i, variables, whole(feeds), out),
            Runner::Shards(run) => run.fetch(i, variables, feeds, out),
        }
    }

    /// Writes variables.
    #[inline]
    pub(super) fn effects(
        &mut self,
        graph: &Graph<T>,
        variables: &mut Variables<T>,
        feeds: &[(NodeId, FeedValue<'_, T>)],
        team: &mut Watched<'_>,
        ranks: Option<&mut Ranks>,
    ) -> Result<()> {
        match self {
            Runner::Plan(executor) => executor.effects(graph, variables, whole(feeds), team, ranks),
            Runner::Shards(run) => run.effects(graph, variables, feeds, team, ranks),
        }
    }
}

/// Feeds of a plan that is not cut.
fn whole<'a, T: Scalar>(values: &'a [(NodeId, FeedValue<'a, T>)]) -> Feeds<'a, T> {
    Feeds { values, combined: &[] }
}
