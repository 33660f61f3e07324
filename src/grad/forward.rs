//! The forward sweep: tangents in the order of the tape. Knows the order in which ops are asked,
//! no single op.

use super::why_unused;
use crate::error::{Error, ErrorKind, Result};
use crate::scalar::Scalar;
use crate::tape::op::{Derivative, Jvp, Probe, Vjp};
use crate::tape::{AsNode, Expr, Node, NodeId, Tape};

impl<T: Scalar> Tape<T> {
    /// The Jacobian-vector product Σ_k ∂y/∂x_k·v_k in forward mode, for targets x_k with tangents
    /// v_k of their shapes: the derivative of y along v, of the shape of y. Targets may be any
    /// nodes; a part of y that depends on one through another counts for both, as in a gradient.
    ///
    /// Equal nodes are recorded once, so products of several values along the same tangents share
    /// what they have in common. Cost: about one evaluation of y for each product of factors that
    /// both depend on a target, whatever the sizes of y and the targets; nothing of the forward
    /// computation has to be kept.
    ///
    /// An op's tangent is the op itself where it is [linear](crate::Primitive::is_linear_in), its
    /// [rule](crate::Primitive::jvp) where it has one, else the transpose of its
    /// [reverse rule](crate::Primitive::vjp).
    ///
    /// ```
    /// use gradtape::{Session, Tape, Tensor};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.variable("x", Tensor::vector(vec![1.0, 2.0]));
    /// let v = tape.constant(Tensor::vector(vec![10.0, 1.0]));
    /// let along = tape.jvp(x.square(), &[(x, v)])?; // 2x·v
    /// assert_eq!(Session::new(&tape)?.run(along, &[])?.as_slice(), [20.0, 4.0]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first mistake made while recording; a tangent whose shape is not that of its target; a
    /// y that depends on no target, or only through ops whose derivative is zero or missing; an op
    /// whose reverse rule is not linear in the cotangent, as that of a clipped gradient.
    pub fn jvp<N: AsNode>(
        &self,
        y: Expr<'_, T>,
        tangents: &[(N, Expr<'_, T>)],
    ) -> Result<Expr<'_, T>> {
        self.check()?;
        let y = self.resolve(y.node())?;
        let seeds = self.seeds("jvp", tangents)?;
        match self.tangents(&[y], &seeds)?[0] {
            Some(dy) => Ok(dy),
            None => Err(self.no_tangent("jvp", y, &seeds, "its tangent is zero")),
        }
    }

    /// The nodes of targets, with tangents of their shapes.
    pub(super) fn seeds<'t, N: AsNode>(
        &'t self,
        method: &'static str,
        tangents: &[(N, Expr<'_, T>)],
    ) -> Result<Vec<(NodeId, Expr<'t, T>)>> {
        let seed = |&(target, v): &(N, Expr<'_, T>)| {
            let target = self.target(method, target)?;
            Ok((target, self.seed(method, "tangent", target, v)?))
        };
        tangents.iter().map(seed).collect()
    }

    /// Why `y` has no tangent, with this advice at the end.
    pub(super) fn no_tangent(
        &self,
        method: &str,
        y: NodeId,
        seeds: &[(NodeId, Expr<'_, T>)],
        advice: &str,
    ) -> Error {
        let advice = match seeds.len() {
            0 | 1 => advice.to_string(),
            n => format!("nor on any other of the {n} targets; {advice}"),
        };
        match seeds.first() {
            Some(seed) => why_unused(method, &self.snapshot(), y, seed.0, &advice),
            None => {
                let text = format!("{method}: expected at least one target, got none");
                Error::new(ErrorKind::Argument, text)
            }
        }
    }

    /// One sweep from the targets up to `ys`; `None` is the tangent of a y that no path through
    /// derivatives leads to. Tangents that reach a node on several ways are added up here.
    pub(crate) fn tangents<'t>(
        &'t self,
        ys: &[NodeId],
        seeds: &[(NodeId, Expr<'t, T>)],
    ) -> Result<Vec<Option<Expr<'t, T>>>> {
        let first = seeds.iter().map(|seed| seed.0).min().unwrap_or(NodeId::MAX);
        let wanted = self.leads_to(ys, first);
        let mut tangents: Vec<Option<Expr<'t, T>>> = vec![None; wanted.len()];
        for &(target, v) in seeds.iter().filter(|seed| (seed.0 as usize) < wanted.len()) {
            let sum =
                tangents[target as usize].map_or(v, |sum| self.on_behalf_of(target, || sum + v));
            tangents[target as usize] = Some(sum);
        }
        for id in (first..wanted.len() as NodeId).filter(|&id| wanted[id as usize]) {
            let node = self.node_of(id);
            let op = node.op.primitive();
            let smooth = |i: usize| op.derivative(i) == Derivative::Smooth;
            let dx: Vec<_> = (0..node.inputs.len())
                .map(|i| tangents[node.inputs[i] as usize].filter(|_| smooth(i)))
                .collect();
            if dx.iter().all(Option::is_none) {
                continue;
            }
            let through = self.on_behalf_of(id, || self.tangent_of(id, &node, dx));
            let through = through.map_err(|e| self.of_node("jvp", id, e))?;
            self.check_tangent(id, &node, through)?;
            let slot = &mut tangents[id as usize];
            *slot = match (*slot, through) {
                (Some(own), Some(more)) => Some(self.on_behalf_of(id, || own + more)),
                (own, more) => own.or(more),
            };
        }
        self.check()?;
        Ok(ys.iter().map(|&y| tangents[y as usize]).collect())
    }

    /// For each node from `first` up to `ys`: whether its value flows into one of those through
    /// ops that have a derivative.
    fn leads_to(&self, ys: &[NodeId], first: NodeId) -> Vec<bool> {
        let graph = self.snapshot();
        let mut leads = vec![false; ys.iter().max().map_or(0, |&y| y as usize + 1)];
        ys.iter().for_each(|&y| leads[y as usize] = true);
        for id in (first..leads.len() as NodeId).rev() {
            if !leads[id as usize] {
                continue;
            }
            let node = graph.node(id);
            let op = node.op.primitive();
            for (i, &input) in node.inputs.iter().enumerate() {
                leads[input as usize] |= op.derivative(i) == Derivative::Smooth;
            }
        }
        leads
    }

    /// The tangent that comes through one op: the op itself on the tangents of inputs that it is
    /// linear in, and its rule for the others.
    fn tangent_of<'t>(
        &'t self,
        id: NodeId,
        node: &Node<T>,
        mut dx: Vec<Option<Expr<'t, T>>>,
    ) -> Result<Option<Expr<'t, T>>> {
        let op = node.op.primitive();
        let x: Vec<_> = node.inputs.iter().map(|&i| Expr::of(self, i)).collect();
        let mut parts = Vec::new();
        for (i, dx) in dx.iter_mut().enumerate().filter(|(i, _)| op.is_linear_in(*i)) {
            if let Some(dx) = dx.take() {
                let mut inputs = x.clone();
                inputs[i] = dx;
                parts.push(self.apply(node.op.clone(), &inputs));
            }
        }
        if dx.iter().any(Option::is_some) {
            let y = Expr::of(self, id);
            parts.extend(match op.jvp(Jvp { x: &x, y, dx: &dx })? {
                Some(own) => Some(own),
                None => self.transposed(id, node, &x, &dx)?,
            });
        }
        Ok(parts.into_iter().reduce(|sum, part| sum + part))
    }

    /// J·dx without a rule for it: c ↦ Jᵀc is the reverse rule, and J its transpose.
    fn transposed<'t>(
        &'t self,
        id: NodeId,
        node: &Node<T>,
        x: &[Expr<'t, T>],
        dx: &[Option<Expr<'t, T>>],
    ) -> Result<Option<Expr<'t, T>>> {
        let y = Expr::of(self, id);
        let ct = self.apply(Probe, &[y]);
        let probe = self.resolve(ct.node())?;
        let want: Vec<bool> = dx.iter().map(Option::is_some).collect();
        let cts = node.op.primitive().vjp(Vjp { x, y, ct, want: &want })?;
        self.check_cotangents(id, &cts)?;
        let mut parts = Vec::new();
        for (ct, dx) in cts.iter().zip(dx) {
            if let (Some(ct), Some(dx)) = (ct, dx) {
                parts.extend(self.sweep(self.resolve(ct.node())?, *dx, &[probe], probe)?[0]);
            }
        }
        let sum = parts.into_iter().reduce(|sum, part| sum + part);
        match sum {
            Some(sum) if self.reads(self.resolve(sum.node())?, probe) => Err(Error::new(
                ErrorKind::Gradient,
                "expected a `vjp` that is linear in the cotangent, whose transpose is the `jvp`",
            )),
            sum => Ok(sum),
        }
    }

    /// Whether the value of `y` depends on that of `x`.
    fn reads(&self, y: NodeId, x: NodeId) -> bool {
        let graph = self.snapshot();
        let mut read = vec![false; y as usize + 1];
        read[y as usize] = true;
        for id in (x + 1..=y).rev().filter(|_| y > x) {
            if read[id as usize] {
                let node = graph.node(id);
                let op = node.op.primitive();
                for (i, &input) in node.inputs.iter().enumerate() {
                    read[input as usize] |= op.reads(i);
                }
            }
        }
        read.get(x as usize).copied().unwrap_or(false)
    }

    /// That a rule, perhaps a user's, gave a tangent of the value's shape.
    fn check_tangent(&self, id: NodeId, node: &Node<T>, dy: Option<Expr<'_, T>>) -> Result<()> {
        self.check()?;
        match dy.map(Expr::shape) {
            Some(got) if !node.shape.accepts_or_any(&got) => {
                let text = format!("expected a tangent of {} from its rule, got {got}", node.shape);
                Err(self.of_node("jvp", id, Error::new(ErrorKind::Gradient, text)))
            }
            _ => Ok(()),
        }
    }
}
