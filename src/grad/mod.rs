//! DIFFERENTIATE: adjoint and tangent nodes on the same tape. Here is the reverse sweep; it knows
//! the order in which ops are asked, no single op.

mod branch;
mod checkpoint;
mod forward;
mod second;

use crate::error::{Error, ErrorKind, Result};
use crate::scalar::{DType, Scalar};
use crate::shape::Shape;
use crate::tape::op::{Cotangents, Derivative, Labels, Target, Vjp, list};
use crate::tape::{AsNode, Expr, Graph, Node, NodeId, Tape};
use branch::Leaving;

impl<T: Scalar> Tape<T> {
    /// The gradients of a scalar with respect to each target, as new nodes on this tape; they can
    /// be fetched, used in formulas and differentiated again.
    ///
    /// ```
    /// use gradtape::{Session, Tape};
    /// let tape = Tape::<f64>::new();
    /// let w = tape.variable("w", 3.0);
    /// let first = tape.gradient(w.powi(3), &[w])?[0]; // 3w²
    /// let second = tape.gradient(first, &[w])?[0]; // 6w
    /// let (first, second) = Session::new(&tape)?.run((first, second), &[])?;
    /// assert_eq!((first.item()?, second.item()?), (27.0, 18.0));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first mistake made while recording; a `loss` that is not a scalar; a target that the
    /// loss does not depend on, or only through ops whose derivative is zero or missing. To get
    /// zeros for those, see [`Tape::gradient_allow_unused`].
    pub fn gradient<N: AsNode>(
        &self,
        loss: Expr<'_, T>,
        targets: &[N],
    ) -> Result<Vec<Expr<'_, T>>> {
        self.gradient_or(loss, targets, "if that is meant, use gradient_allow_unused")
    }

    /// As [`Tape::gradient`], with this advice at the end of the message about an unused target.
    pub(crate) fn gradient_or<N: AsNode>(
        &self,
        loss: Expr<'_, T>,
        targets: &[N],
        advice: &str,
    ) -> Result<Vec<Expr<'_, T>>> {
        let swept = self.scalar_sweep(loss, targets)?;
        self.all_used("gradient", loss, targets, swept, advice)
    }

    /// The cotangents, or why one of them is missing.
    fn all_used<'t, N: AsNode>(
        &'t self,
        method: &str,
        y: Expr<'_, T>,
        targets: &[N],
        cts: Cotangents<'t, T>,
        advice: &str,
    ) -> Result<Vec<Expr<'t, T>>> {
        let used = |(ct, target): (Option<Expr<'t, T>>, &N)| match ct {
            Some(ct) => Ok(ct),
            None => {
                let target = self.resolve(target.node())?;
                Err(why_unused(method, &self.snapshot(), y.node().id, target, advice))
            }
        };
        cts.into_iter().zip(targets).map(used).collect()
    }

    /// As [`Tape::gradient`], with zeros for targets that the loss does not depend on.
    ///
    /// # Errors
    /// As [`Tape::gradient`], but for unused targets.
    pub fn gradient_allow_unused<N: AsNode>(
        &self,
        loss: Expr<'_, T>,
        targets: &[N],
    ) -> Result<Vec<Expr<'_, T>>> {
        let swept = self.scalar_sweep(loss, targets)?;
        let zero = |target: &N| {
            let target = self.expr(target.node());
            let zeros = || self.literal(0.0).broadcast_like(target);
            let here = self.here();
            self.on_behalf_of(target.node().id, || self.under(here, zeros))
        };
        Ok(swept.into_iter().zip(targets).map(|(ct, t)| ct.unwrap_or_else(|| zero(t))).collect())
    }

    /// The vector-Jacobian product: the gradient of Σ y·cotangent, for a y of any shape.
    ///
    /// # Errors
    /// As [`Tape::gradient`]; also a cotangent whose shape is not that of y. `None` stands for a
    /// target that y does not depend on.
    pub fn vjp<N: AsNode>(
        &self,
        y: Expr<'_, T>,
        cotangent: Expr<'_, T>,
        targets: &[N],
    ) -> Result<Vec<Option<Expr<'_, T>>>> {
        self.check()?;
        let y = self.resolve(y.node())?;
        let seed = self.seed("vjp", "cotangent", y, cotangent)?;
        let targets: Vec<NodeId> =
            targets.iter().map(|&t| self.target("gradient", t)).collect::<Result<_>>()?;
        self.sweep(y, seed, &targets, 0)
    }

    /// The node of something to derive by.
    fn target(&self, method: &str, target: impl AsNode) -> Result<NodeId> {
        let id = self.resolve(target.node())?;
        let graph = self.snapshot();
        if graph.node(id).dtype != DType::Float {
            let text =
                format!("{method}: expected floats to derive by, got {}", graph.describe(id));
            return Err(Error::new(ErrorKind::Gradient, text).at(graph.node(id).at));
        }
        Ok(id)
    }

    /// What a sweep starts with at node `of`, looked at to have its shape.
    fn seed<'t>(
        &'t self,
        method: &'static str,
        what: &str,
        of: NodeId,
        seed: Expr<'_, T>,
    ) -> Result<Expr<'t, T>> {
        self.resolve(seed.node())?;
        let (want, got) = (Expr::of(self, of).shape(), seed.shape());
        if !want.accepts(&got) {
            let graph = self.snapshot();
            let of_what = graph.describe(of);
            let text = format!("{method}: expected a {what} of {want} for {of_what}, got {got}");
            return Err(Error::new(ErrorKind::Shape, text).at(graph.node(of).at));
        }
        let seed = self.expr(seed);
        if want.surely_eq(&got) {
            return Ok(seed);
        }
        // Looked at again with the shapes that are fed.
        let check = Target { of: method, labels: Labels::Real };
        Ok(self.on_behalf_of(of, || self.apply(check, &[seed, Expr::of(self, of)])))
    }

    /// A copy of the node: nobody may hold the graph while nodes are added to it.
    fn node_of(&self, id: NodeId) -> Node<T> {
        self.snapshot().node(id).clone()
    }

    fn scalar_sweep<N: AsNode>(
        &self,
        loss: Expr<'_, T>,
        targets: &[N],
    ) -> Result<Vec<Option<Expr<'_, T>>>> {
        self.check()?;
        let id = self.resolve(loss.node())?;
        let graph = self.snapshot();
        let node = graph.node(id);
        if node.shape != Shape::SCALAR || node.dtype != DType::Float {
            let text = format!(
                "gradient: expected a scalar loss, got {} of shape {}; reduce it with sum() or mean()",
                graph.describe(id),
                node.shape
            );
            return Err(Error::new(ErrorKind::Gradient, text).at(node.at));
        }
        let seed = self.on_behalf_of(id, || self.literal(1.0));
        self.vjp(loss, seed, targets)
    }

    /// One sweep from `y` down, through no node before `floor`. Cotangents are added up here, in
    /// the order in which users of a node come up; rules never add and never see an input that no
    /// target is behind.
    fn sweep<'t>(
        &'t self,
        y: NodeId,
        seed: Expr<'t, T>,
        targets: &[NodeId],
        floor: NodeId,
    ) -> Result<Cotangents<'t, T>> {
        self.refuse_inside(y)?;
        let leads_to = leads_to_target(&self.snapshot(), y, targets);
        let (mut leaving, here) = (Leaving::new(), self.here());
        // Adds what is there wherever the node is.
        let add = |slot: &mut Option<Expr<'t, T>>, id: NodeId, ct: Expr<'t, T>| {
            *slot = Some(match *slot {
                None => ct,
                Some(sum) => self.on_behalf_of(id, || sum + ct),
            });
        };
        let mut cotangents: Cotangents<'t, T> = vec![None; y as usize + 1];
        cotangents[y as usize] = Some(seed);
        let first = targets.iter().copied().min().unwrap_or(y);
        for id in (first.max(floor)..=y).rev() {
            if let Some(ct) = self.on_behalf_of(id, || leaving.settle(id, self)) {
                add(&mut cotangents[id as usize], id, ct);
            }
            let Some(ct) = cotangents[id as usize].filter(|_| leads_to[id as usize]) else {
                continue;
            };
            let node = self.node_of(id);
            self.refuse_hidden(&node.op, targets)?;
            let op = node.op.primitive();
            let want: Vec<bool> = (0..node.inputs.len())
                .map(|i| {
                    leads_to[node.inputs[i] as usize] && op.derivative(i) == Derivative::Smooth
                })
                .collect();
            if !want.contains(&true) {
                continue;
            }
            let expr = |id: NodeId| Expr::of(self, id);
            let inputs: Vec<_> = node.inputs.iter().map(|&i| expr(i)).collect();
            let rule = || op.vjp(Vjp { x: &inputs, y: expr(id), ct, want: &want });
            let cts = self.on_behalf_of(id, rule).map_err(|e| self.of_node("gradient", id, e))?;
            self.check_cotangents(id, &cts)?;
            let own = self.guards_with(id);
            for (i, (&input, ct)) in node.inputs.iter().zip(cts).enumerate() {
                let Some(ct) = ct.filter(|_| want[i]) else { continue };
                let under = match node.op.taken_if(i) {
                    Some(holds) => self.guarded(own, node.inputs[0], holds),
                    None => own,
                };
                match self.guard_unless(under, self.guards_with(input)) {
                    None => add(&mut cotangents[input as usize], input, ct),
                    Some(_) => self.on_behalf_of(id, || leaving.add(input, under, ct)),
                }
            }
        }
        let of = |&t: &NodeId| {
            let slot = cotangents.get_mut(t as usize)?;
            if let Some(ct) = self.on_behalf_of(t, || leaving.settle(t, self)) {
                add(slot, t, ct);
            }
            // What is asked for may be used here, not only where the target is.
            let mut guard = self.guards_with(t);
            self.on_behalf_of(t, || {
                let mut out = *slot;
                while let Some(last) = self.guard_unless(guard, here) {
                    out = out.map(|ct| self.ungated(last, ct, None));
                    guard = last.outer;
                }
                out
            })
        };
        let swept = targets.iter().map(of).collect();
        self.check()?;
        Ok(swept)
    }

    /// That y is a value that may be used here, not one of a branch of a conditional.
    fn refuse_inside(&self, y: NodeId) -> Result<()> {
        match self.guard_unless(self.guards_with(y), self.here()) {
            None => Ok(()),
            Some(_) => {
                let graph = self.snapshot();
                let y_is = graph.describe(y);
                let text =
                    format!("gradient: expected no value from inside a branch of cond, got {y_is}");
                Err(Error::new(ErrorKind::Gradient, text).at(graph.node(y).at))
            }
        }
    }

    /// That a rule, perhaps a user's, gave one cotangent for each input, of its shape: a missing
    /// one would be a missing gradient, and one of another shape would broadcast into a wrong one.
    fn check_cotangents(&self, id: NodeId, cts: &[Option<Expr<'_, T>>]) -> Result<()> {
        self.check()?;
        let graph = self.snapshot();
        let node = graph.node(id);
        let shapes = graph.input_shapes(node);
        let wrong = shapes
            .iter()
            .zip(cts)
            .position(|(shape, ct)| ct.is_some_and(|ct| !shape.accepts_or_any(&ct.shape())));
        let problem = match (wrong, cts.len() == shapes.len()) {
            (None, true) => return Ok(()),
            (None, false) => format!("{} cotangents, got {}", shapes.len(), cts.len()),
            (Some(i), _) => {
                let got = cts[i].map_or(Shape::SCALAR, |ct| ct.shape());
                format!("a cotangent of {} for input {i}, got {got}", shapes[i])
            }
        };
        let text = format!("expected {problem} from its rule");
        Err(self.of_node("gradient", id, Error::new(ErrorKind::Gradient, text)))
    }

    /// An error of the rule of node `id`.
    fn of_node(&self, method: &str, id: NodeId, e: Error) -> Error {
        let graph = self.snapshot();
        let node = graph.node(id);
        let shapes = list(&graph.input_shapes(node));
        e.within(format_args!("{method}: {} of {shapes}", graph.describe(id))).at(node.at)
    }
}

/// For each node up to `y`: whether it is a target or a target's value flows into it through ops
/// that have a derivative.
fn leads_to_target<T: Scalar>(graph: &Graph<T>, y: NodeId, targets: &[NodeId]) -> Vec<bool> {
    let mut leads = vec![false; y as usize + 1];
    for &t in targets.iter().filter(|&&t| t <= y) {
        leads[t as usize] = true;
    }
    let first = targets.iter().copied().min().unwrap_or(y);
    for id in first..=y {
        let node = graph.node(id);
        let op = node.op.primitive();
        let through = |(i, &input): (usize, &NodeId)| {
            leads[input as usize] && op.derivative(i) == Derivative::Smooth
        };
        leads[id as usize] = leads[id as usize] || node.inputs.iter().enumerate().any(through);
    }
    leads
}

/// Why the derivative of `loss` with respect to `target` does not exist: no path at all, or a path
/// only through ops whose derivative is zero.
fn why_unused<T: Scalar>(
    method: &str,
    graph: &Graph<T>,
    loss: NodeId,
    target: NodeId,
    advice: &str,
) -> Error {
    // Not by way of a shape alone: that is no dependence.
    let passes = |node: &Node<T>, i: usize| {
        let op = node.op.primitive();
        op.reads(i) || op.derivative(i) == Derivative::Smooth
    };
    let mut reached = vec![false; loss as usize + 1];
    reached[loss as usize] = true;
    for id in (0..=loss).rev().filter(|&id| id > target) {
        if reached[id as usize] {
            let node = graph.node(id);
            for (i, &input) in node.inputs.iter().enumerate() {
                reached[input as usize] |= passes(node, i);
            }
        }
    }
    let (from, to) = (graph.node(target), graph.node(loss));
    let mut text = format!(
        "{method}: {} {} does not depend on {} {}",
        graph.describe(loss),
        to.shape,
        graph.describe(target),
        from.shape
    );
    let leads = leads_to_target(graph, loss, &[target]);
    let blocks = |&id: &NodeId| {
        let node = graph.node(id);
        let from = |(i, &input): (usize, &NodeId)| leads[input as usize] && passes(node, i);
        let led_to = node.inputs.iter().enumerate().any(from);
        reached[id as usize] && !leads[id as usize] && led_to
    };
    let mut at = from.at;
    if let Some(block) = (0..=loss).find(blocks) {
        let shapes = list(&graph.input_shapes(graph.node(block)));
        text += &format!(
            " but through {} of {shapes}, whose derivative is zero",
            graph.describe(block)
        );
        at = graph.node(block).at;
    }
    Error::new(ErrorKind::Gradient, format!("{text}; {advice}")).at(at)
}
