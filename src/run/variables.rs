//! The variables of a session: one flat aligned buffer, and what optimizers keep beside it.

use super::share::{Share, Slots};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::arena::Arena;
use crate::plan::Layout;
use crate::scalar::Scalar;
use crate::tape::op::{Leaf, Op, Rule, Step};
use crate::tape::{Graph, NodeId};
use std::ops::Range;

/// Values of all variables, and the state of each optimizer.
#[derive(Debug)]
pub(crate) struct Variables<T: Scalar> {
    pub(crate) layout: Layout,
    pub(crate) values: Arena<T>,
    /// Which variables have a value, in the layout's order.
    pub(crate) has_value: Vec<bool>,
    pub(crate) optimizers: Vec<OptimizerState<T>>,
    /// Whose part of their state is kept.
    pub(crate) share: Share,
    /// How often something else than a run has changed any of this.
    pub(crate) changes: u64,
}

/// The state of one update node.
#[derive(Debug)]
pub(crate) struct OptimizerState<T: Scalar> {
    pub(crate) node: NodeId,
    /// Steps taken.
    pub(crate) steps: u64,
    /// A factor on the rate of each step.
    pub(crate) rate_factor: f64,
    /// Whether the first slot holds the parameters, and the variables their average.
    pub(crate) swapped: bool,
    /// What holds for each variable in the step that was begun last.
    pub(crate) begun: Vec<Step>,
    pub(crate) slots: Slots<T>,
}

impl<T: Scalar> OptimizerState<T> {
    /// Before the first step of an update of these variables.
    pub(crate) fn new(
        node: NodeId,
        rule: &dyn Rule<T>,
        variables: &[Range<usize>],
        share: Share,
    ) -> Result<Self> {
        let n_parameters: usize = variables.iter().map(Range::len).sum();
        let slots = Slots::new(rule.slots(), n_parameters, share)
            .map_err(|e| e.within(format_args!("state of {}", rule.name())))?;
        let begun = vec![Step::new(1, 0.0); variables.len()];
        Ok(OptimizerState { node, steps: 0, rate_factor: 1.0, swapped: false, begun, slots })
    }
}

impl<T: Scalar> Variables<T> {
    pub(crate) fn new(graph: &Graph<T>) -> Result<Self> {
        let layout = Layout::of(graph);
        let mut values = Arena::new(layout.len).map_err(|e| e.within("variables"))?;
        let mut has_value = Vec::with_capacity(layout.variables.len());
        for (id, range) in &layout.variables {
            let Op::Leaf(Leaf::Variable(init)) = &graph.node(*id).op else { continue };
            if let Some(value) = &init.0.value {
                values.as_mut_slice()[range.clone()].copy_from_slice(value.as_slice());
            }
            has_value.push(init.0.value.is_some());
        }
        let (optimizers, share) = (Vec::new(), Share::WHOLE);
        Ok(Variables { layout, values, has_value, optimizers, share, changes: 0 })
    }

    /// Where the state of an update stands, made (with zeros) at the first step.
    ///
    /// # Errors
    /// No memory; state that is shared out over other ranks.
    pub(crate) fn optimizer(
        &mut self,
        node: NodeId,
        rule: &dyn Rule<T>,
        variables: &[Range<usize>],
    ) -> Result<usize> {
        if let Some(i) = self.optimizers.iter().position(|o| o.node == node) {
            if self.optimizers[i].slots.share() != self.share {
                let (name, got) = (rule.name(), self.optimizers[i].slots.share().size());
                let want = self.share.size();
                bail!(Argument, "{name}: expected state shared by {want} ranks, got it of {got}");
            }
            return Ok(i);
        }
        self.optimizers.push(OptimizerState::new(node, rule, variables, self.share)?);
        Ok(self.optimizers.len() - 1)
    }

    /// The steps that an update has taken.
    pub(crate) fn steps(&self, node: NodeId) -> u64 {
        self.optimizers.iter().find(|o| o.node == node).map_or(0, |o| o.steps)
    }

    pub(crate) fn mark(&mut self, range: Range<usize>) {
        for ((_, r), has) in self.layout.variables.iter().zip(&mut self.has_value) {
            if r.start >= range.start && r.end <= range.end {
                *has = true;
            }
        }
    }

    /// That these variables can be read.
    pub(crate) fn check(&self, graph: &Graph<T>, reads: &[NodeId]) -> Result<()> {
        if self.has_value.iter().all(|&has| has) {
            return Ok(());
        }
        for &id in reads {
            if let Some((i, _)) = self.layout.find(id)
                && !self.has_value[i]
            {
                let text = format!("{} is read before it has a value", graph.describe(id));
                return Err(Error::new(ErrorKind::Uninitialized, text).at(graph.node(id).at));
            }
        }
        Ok(())
    }
}

/// Calls `f` with each step and the elements of `part` that it holds for, counted from where `part`
/// starts. `part` is of the gradients, which lie in the order of these variables, one step each;
/// neighbors with equal steps go in one pass.
pub(crate) fn each_step(
    steps: &[Step],
    variables: &[Range<usize>],
    part: Range<usize>,
    mut f: impl FnMut(&Step, Range<usize>),
) {
    if part.is_empty() {
        return;
    }
    let (mut from, mut end) = (part.start, 0);
    for (i, (step, variable)) in steps.iter().zip(variables).enumerate() {
        end += variable.len();
        let goes_on = end < part.end && steps.get(i + 1) == Some(step);
        if end <= from || goes_on {
            continue;
        }
        let to = end.min(part.end);
        f(step, from - part.start..to - part.start);
        from = to;
        if end >= part.end {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_neighbors_are_one_pass_and_any_cut_covers_all() {
        let variables = [0..3, 10..10, 3..5, 7..10, 20..20, 5..6].to_vec();
        let steps = [1, 9, 1, 2, 2, 1].map(|group| Step { group, ..Step::new(1, 0.1) });
        let owner = [1, 1, 1, 1, 1, 2, 2, 2, 1];
        for start in 0..=owner.len() {
            for end in start..=owner.len() {
                let mut seen = vec![];
                each_step(&steps, &variables, start..end, |step, range| {
                    assert!(!range.is_empty() && range.start == seen.len());
                    seen.extend(range.map(|_| step.group));
                });
                assert_eq!(seen, owner[start..end], "{start}..{end}");
            }
        }
        let mut passes = 0;
        let same = [Step::new(3, 0.5); 6];
        each_step(&same, &variables, 0..9, |_, range| {
            passes += 1;
            assert_eq!(range, 0..9);
        });
        assert_eq!(passes, 1);
    }
}
