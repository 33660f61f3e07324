//! Rematerialization: parts of the forward computation that a gradient computes again instead of
//! keeping their values. Knows no single op.

use crate::error::{Error, ErrorKind, Result};
use crate::scalar::Scalar;
use crate::tape::op::{Cotangents, Op, Pass, Vjp, VjpRule};
use crate::tape::{AsNode, Expr, NodeId, Tape};
use std::collections::HashMap;
use std::panic::Location;

impl<T: Scalar> Tape<T> {
    /// f(inputs), of which gradients keep only the inputs: what lies between is computed again,
    /// when the cotangent of the result is there (gradient checkpointing, rematerialization).
    /// Values and gradients are the same; where the same node is used inside and outside, their
    /// parts are added in another order.
    ///
    /// What f uses besides, variables for instance, may be captured: it is kept, not computed
    /// again, and has its gradient as ever. Forward mode is that of f. Checkpoints nest.
    ///
    /// Cost: one more evaluation of f in each gradient. A chain of n layers with a checkpoint
    /// around every √n of them needs memory for 2√n layers instead of n (Chen et al. 2016).
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let w = tape.variable("w", Tensor::full([2], 0.5)?);
    /// let mut h = tape.variable("x", Tensor::vector(vec![1.0, 2.0]));
    /// for _ in 0..4 {
    ///     h = tape.checkpoint(&[h], |h| (h[0] * w).sin().exp());
    /// }
    /// let dw = tape.gradient(h.sum(), &[w])?[0];
    /// assert_eq!(Session::new(&tape)?.run(dw, &[])?.shape(), [2].into());
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// A mistake if f writes to variables.
    #[track_caller]
    pub fn checkpoint<'t>(
        &'t self,
        inputs: &[Expr<'t, T>],
        f: impl FnOnce(&[Expr<'t, T>]) -> Expr<'t, T>,
    ) -> Expr<'t, T> {
        let y = f(inputs);
        let resolved = inputs.iter().map(|x| self.resolve(x.node())).collect::<Result<Vec<_>>>();
        let (of, end) = match (resolved, self.resolve(y.node())) {
            (Ok(of), Ok(end)) => (of, end),
            (Err(e), _) | (_, Err(e)) => {
                return self.mistake(e.within("checkpoint").at(Location::caller()));
            }
        };
        let region = self.region(&of, end);
        if region.nodes.is_empty() {
            return y;
        }
        let graph = self.snapshot();
        let is_effect = |&&id: &&NodeId| matches!(graph.node(id).op, Op::Effect(_));
        if let Some(&id) = region.nodes.iter().find(is_effect) {
            let text =
                format!("checkpoint: expected no writes to variables, got {}", graph.describe(id));
            return self.mistake(Error::new(ErrorKind::Tape, text).at(graph.node(id).at));
        }
        drop(graph);
        let read = region.inputs.iter().chain(&region.captured);
        let all: Vec<_> = [end].iter().chain(read).map(|&id| Expr::of(self, id)).collect();
        let hides = region.nodes.clone();
        let rule = VjpRule::new(hides, move |at| at.ct.tape().gradient_again(&region, at));
        self.apply(Pass::Checkpoint(rule), &all)
    }

    /// That no target is a node that a checkpoint computes again.
    pub(super) fn refuse_hidden(&self, op: &Op<T>, targets: &[NodeId]) -> Result<()> {
        let Op::Pass(Pass::Checkpoint(rule)) = op else { return Ok(()) };
        match targets.iter().find(|t| rule.0.hides.contains(t)) {
            None => Ok(()),
            Some(&target) => {
                let graph = self.snapshot();
                let text = format!(
                    "gradient: expected a target outside of checkpoints, got {}, which is \
                     computed again",
                    graph.describe(target)
                );
                Err(Error::new(ErrorKind::Gradient, text).at(graph.node(target).at))
            }
        }
    }

    /// What lies between the inputs and the end.
    fn region(&self, inputs: &[NodeId], end: NodeId) -> Region {
        let graph = self.snapshot();
        let first = inputs.iter().copied().min().unwrap_or(end);
        // What a conditional chooses by is kept, so that its branches have the guards they had.
        let of = |id: NodeId| {
            let (op, inputs) = (&graph.node(id).op, &graph.node(id).inputs);
            &inputs[usize::from(op.taken_if(1).is_some())..]
        };
        let mut depends = vec![false; end as usize + 1];
        inputs.iter().filter(|&&i| i <= end).for_each(|&i| depends[i as usize] = true);
        for id in first..=end {
            depends[id as usize] |= of(id).iter().any(|&i| depends[i as usize]);
        }
        let mut inside = vec![false; end as usize + 1];
        inside[end as usize] = true;
        let mut region = Region { inputs: inputs.to_vec(), end, nodes: vec![], captured: vec![] };
        region.inputs.sort_unstable();
        region.inputs.dedup();
        for id in (first..=end).rev() {
            if inside[id as usize] && depends[id as usize] && !inputs.contains(&id) {
                region.nodes.push(id);
                of(id).iter().for_each(|&i| inside[i as usize] = true);
            }
        }
        region.nodes.reverse();
        let is_captured = |i: &NodeId| !depends[*i as usize];
        region.captured = region.nodes.iter().flat_map(|&id| of(id)).copied().collect();
        region.captured.retain(is_captured);
        region.captured.sort_unstable();
        region.captured.dedup();
        region
    }

    /// The cotangents of a region's inputs and of what it captured, through the region recorded
    /// again.
    fn gradient_again<'t>(
        &'t self,
        region: &Region,
        at: Vjp<'_, 't, T>,
    ) -> Result<Cotangents<'t, T>> {
        let mut again: HashMap<NodeId, Expr<'t, T>> = HashMap::new();
        let mut leaves = Vec::with_capacity(at.x.len());
        let n = region.inputs.len();
        let originals = region.inputs.iter().chain(&region.captured);
        for (k, (&original, &x)) in originals.zip(at.x).enumerate() {
            // Only what waits for the cotangent is not found to be equal to what was there.
            let x = if k < n { self.apply(Pass::Again, &[x, at.ct]) } else { x };
            again.insert(original, x);
            leaves.push(x);
        }
        for &id in &region.nodes {
            let node = self.node_of(id);
            let is_kept = |i: usize| i == 0 && node.op.taken_if(1).is_some();
            let input = |(i, &id): (usize, &NodeId)| match is_kept(i) {
                true => Expr::of(self, id),
                false => again[&id],
            };
            let inputs: Vec<_> = node.inputs.iter().enumerate().map(input).collect();
            again.insert(id, self.on_behalf_of(id, || self.apply(node.op, &inputs)));
        }
        self.check()?;
        let end = self.resolve(again[&region.end].node())?;
        let leaves: Vec<NodeId> =
            leaves.iter().map(|x| self.resolve(x.node())).collect::<Result<_>>()?;
        let wanted: Vec<NodeId> =
            leaves.iter().zip(at.want).filter(|(_, want)| **want).map(|(&id, _)| id).collect();
        // What was captured lies before the region: the sweep that asked goes on from there.
        let floor = leaves[..n].iter().copied().min().unwrap_or(end);
        let mut swept = self.sweep(end, at.ct, &wanted, floor)?.into_iter();
        let next = |&want: &bool| if want { swept.next().flatten() } else { None };
        Ok(at.want.iter().map(next).collect())
    }
}

/// The nodes between the inputs and the end, in order, and what they read from elsewhere.
#[derive(Debug)]
struct Region {
    inputs: Vec<NodeId>,
    end: NodeId,
    nodes: Vec<NodeId>,
    captured: Vec<NodeId>,
}
