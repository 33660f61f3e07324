//! What a session does with its optimizers beside running them: steps, rates, averages, and state
//! that is shared out over ranks.

use super::session::{Session, resolve};
use super::share::{self, Share, pieces};
use super::variables::{OptimizerState, Variables};
use crate::error::{Result, bail};
use crate::scalar::Scalar;
use crate::tape::op::{Effect, Op, Rule};
use crate::tape::{AsNode, NodeId, NodeRef};
use std::ops::Range;
use std::sync::Arc;

impl<T: Scalar> Session<T> {
    /// How many steps an optimizer's train op has taken in this session.
    ///
    /// # Errors
    /// Not an update of this session's tape.
    pub fn steps(&self, train: impl AsNode) -> Result<u64> {
        let (id, _) = self.update(train.node(), "steps")?;
        Ok(self.variables.steps(id))
    }

    /// Multiplies the rate of the train op's later steps in this session by `factor`, in place of
    /// the factor before, which is 1 at first. Schedules go on underneath. For what a training
    /// finds out by itself: [`OnPlateau`](crate::optim::OnPlateau).
    ///
    /// ```
    /// use gradtape::{Session, Tape, optim::Sgd};
    /// let tape = Tape::<f64>::new();
    /// let w = tape.variable("w", 0.0);
    /// let train = Sgd::new(1.0).minimize(w)?;
    /// let mut session = Session::new(&tape)?;
    /// session.scale_rate(train, 0.25)?;
    /// session.run(train, &[])?;
    /// assert_eq!(session.value(w)?, (-0.25).into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// Not an update of this session's tape; a factor that is negative, infinite or NaN; no memory.
    pub fn scale_rate(&mut self, train: impl AsNode, factor: f64) -> Result<()> {
        let (id, rule) = self.update(train.node(), "scale_rate")?;
        if !(factor >= 0.0 && factor.is_finite()) {
            bail!(Argument, "scale_rate: expected a finite factor ≥ 0, got {factor}");
        }
        let ranges = self.updated_by(id);
        let state = self.variables.optimizer(id, &*rule, &ranges)?;
        self.variables.optimizers[state].rate_factor = factor;
        self.variables.changes += 1;
        Ok(())
    }

    /// Exchanges the variables of a train op with the average that its optimizer keeps of them
    /// ([`Averaged`](crate::optim::Averaged), [`Asgd`](crate::optim::Asgd)): once to evaluate with
    /// averaged weights, or to end with them, and once more to train on. Every bit comes back.
    ///
    /// # Errors
    /// Not an update of this session's tape; an optimizer that keeps no average; no step taken
    /// yet; where state is shared out over ranks, which all call this, one that does not answer. A
    /// *run* of the train op fails while the average is in the weights' place.
    pub fn swap_average(&mut self, train: impl AsNode) -> Result<()> {
        let (id, rule) = self.update(train.node(), "swap_average")?;
        let name = rule.name();
        if !rule.averages() {
            bail!(Argument, "swap_average: expected an optimizer that averages, got {name}");
        }
        let ranges = self.updated_by(id);
        let begun = |o: &OptimizerState<T>| o.node == id && o.steps > 0;
        let Some(at) = self.variables.optimizers.iter().position(begun) else {
            bail!(Argument, "swap_average: expected {name} after a step, got it before the first");
        };
        if !self.variables.optimizers[at].slots.share().is_whole() {
            let together = self.together(&format!("swap_average of {}", self.graph.describe(id)));
            self.told(together)?;
        }
        let Session { variables: Variables { values, optimizers, changes, .. }, ranks, .. } = self;
        let (state, values) = (&mut optimizers[at], values.as_mut_slice());
        let own = state.slots.slice();
        if let Some(average) = state.slots.each_mut().next() {
            for (of_all, at) in pieces(&ranges, own.clone()) {
                let here = of_all.start - own.start..of_all.end - own.start;
                average[here].swap_with_slice(&mut values[at]);
            }
        }
        state.swapped = !state.swapped;
        *changes += 1;
        match ranks {
            Some(ranks) if !state.slots.share().is_whole() => {
                share::gather(&mut *ranks.group, values, &ranges)
            }
            _ => Ok(()),
        }
    }

    /// The session with the state of its optimizers shared out over the ranks of its group: each
    /// keeps that of one slice of the parameters, of Adam's 2n numbers 2n / ranks. In a step a rank
    /// moves its slice and gives it to the others, so weights are whole on every rank, with the
    /// bits that they would have anyhow. What a rank keeps is
    /// [`Report::state_bytes`](crate::Report::state_bytes).
    ///
    /// The price is an exchange of the weights in each step, beside the two of the gradients; it is
    /// worth it where the state is what memory lacks. This is stage 1 of Rajbhandari et al., *ZeRO:
    /// Memory Optimizations Toward Training Trillion Parameter Models* (2020), with gradients whole
    /// on every rank, as norms to clip and a look for NaN need them.
    ///
    /// To be set after the group, before the first step, and on every rank. To save such a session
    /// call [`Session::gather_state`] first; it loads as any other, from any number of ranks.
    ///
    /// ```
    /// use gradtape::{Notes, Session, Tape, Tensor, dist, optim::Adam};
    /// let path = std::env::temp_dir().join(format!("shares-{}.safetensors", std::process::id()));
    /// let train = |group: dist::Local| -> gradtape::Result<usize> {
    ///     let rank = dist::Group::rank(&group);
    ///     let tape = Tape::<f64>::new();
    ///     let w = tape.variable("w", Tensor::full([1000], 1.0)?);
    ///     let train = Adam::new(0.1).minimize(w.square().sum())?;
    ///     let mut session = Session::new(&tape)?.with_group(group).with_sharded_state()?;
    ///     session.run(train, &[])?;
    ///     session.gather_state(0)?;
    ///     if rank == 0 {
    ///         session.save(&path, &Notes::new())?;
    ///     }
    ///     Ok(session.report(train, &[])?.state_bytes)
    /// };
    /// let bytes: usize = std::thread::scope(|threads| {
    ///     let start = |group| threads.spawn(|| train(group));
    ///     let ranks: Vec<_> = dist::local(2).into_iter().map(start).collect();
    ///     ranks.into_iter().map(|rank| rank.join().unwrap()).sum::<gradtape::Result<_>>()
    /// })?;
    /// assert_eq!(bytes, 2 * 1000 * size_of::<f64>());
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A session without a group, or whose optimizers have state. A *run* fails if a step depends
    /// on all of the state ([`Lamb`](crate::optim::Lamb)). If a rank is lost while weights are
    /// exchanged, they are of two steps, and training goes on from a checkpoint.
    pub fn with_sharded_state(mut self) -> Result<Self> {
        let Some(ranks) = &self.ranks else {
            bail!(Argument, "with_sharded_state: expected a session with a group, got none");
        };
        if let Some(state) = self.variables.optimizers.first() {
            let name = self.graph.describe(state.node);
            bail!(Argument, "with_sharded_state: expected it first, got it after state of {name}");
        }
        self.variables.share = Share::of(&*ranks.group);
        Ok(self)
    }

    /// Gives rank `to` all state that is shared out over ranks, for [`Session::save`]; it keeps the
    /// copy until the next step. Every rank calls this. Without
    /// [`with_sharded_state`](Session::with_sharded_state) nothing is to be done.
    ///
    /// # Errors
    /// No such rank; ranks that disagree, or one that does not answer in time; no memory.
    pub fn gather_state(&mut self, to: usize) -> Result<()> {
        let share = self.variables.share;
        if share.is_whole() {
            return Ok(());
        }
        if to >= share.size() {
            bail!(Argument, "gather_state: expected one of {} ranks, got {to}", share.size());
        }
        let together = self.together(&format!("gather_state to rank {to}"));
        self.told(together)?;
        let Session { variables, ranks: Some(ranks), .. } = self else { return Ok(()) };
        let group = &mut *ranks.group;
        let gathered = variables.optimizers.iter_mut().try_for_each(|o| o.slots.gather(group, to));
        self.told(gathered)
    }

    /// That all ranks are about to do this, each with the same variables and state.
    pub(super) fn together(&mut self, what: &str) -> Result<()> {
        let Session { graph, variables, ranks, .. } = self;
        ranks.as_mut().map_or(Ok(()), |ranks| ranks.together(graph, variables, what))
    }

    /// The node and the rule of a train op.
    fn update(&self, train: NodeRef, verb: &str) -> Result<(NodeId, Arc<dyn Rule<T>>)> {
        let id = resolve(&self.graph, train)?;
        match &self.graph.node(id).op {
            Op::Effect(Effect::Update(rule)) => Ok((id, Arc::clone(&rule.0))),
            _ => bail!(Tape, "{verb}: expected a train op, got {}", self.graph.describe(id)),
        }
    }

    /// Where the variables of an update lie, in the order of its gradients.
    pub(super) fn updated_by(&self, id: NodeId) -> Vec<Range<usize>> {
        let variables = self.graph.node(id).inputs.iter().step_by(2);
        variables.filter_map(|&v| self.variables.layout.find(v).map(|found| found.1)).collect()
    }
}
