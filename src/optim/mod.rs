//! OPTIMIZE: one rule or method per file: state, step, paper. Here is what rules share: how a loss
//! becomes a train op. They know nothing of sessions, which keep their state; what full-batch
//! methods share is in `full_batch.rs`, which drives one.

mod accumulate;
mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod adamw;
mod amsgrad;
mod asgd;
mod averaged;
mod clip;
mod full_batch;
mod groups;
mod ista;
mod lamb;
mod lbfgs;
mod lion;
mod nadam;
mod outcome;
mod pace;
mod plateau;
mod radam;
mod rmsprop;
mod rprop;
mod schedule;
mod search;
mod sgd;

pub use crate::tape::op::{Rule, Slices, Step, Whole};
pub use accumulate::Accumulate;
pub use adadelta::Adadelta;
pub use adagrad::AdaGrad;
pub use adam::Adam;
pub use adamax::Adamax;
pub use adamw::AdamW;
pub use amsgrad::{AmsGrad, BiasCorrection};
pub use asgd::Asgd;
pub use averaged::Averaged;
pub use clip::Clip;
pub use full_batch::{FullBatch, Method, Objective, Observer};
pub use groups::Groups;
pub use ista::Ista;
pub use lamb::Lamb;
pub use lbfgs::Lbfgs;
pub use lion::Lion;
pub use nadam::NAdam;
pub use outcome::{Outcome, Progress, Reason};
pub use plateau::OnPlateau;
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub use rprop::Rprop;
pub use schedule::{Custom, Schedule};
pub use sgd::Sgd;

use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::Scalar;
use crate::tape::op::{ById, Derivative, Effect, MAX_SLOTS, Op};
use crate::tape::{AsNode, Expr, Graph, NodeId, Tape};
use pace::Pace;
use std::sync::Arc;

/// A train op that makes `loss` smaller by `rule` in every variable that the loss depends on. A
/// run that fetches it takes one step, after everything else in the run has been computed from the
/// values before; its value is the number of the step, from 1.
///
/// Variables behind [`stop_gradient`](Expr::stop_gradient) are not trained. Each call makes a new
/// train op with a state of its own, which each session keeps for itself.
///
/// # Errors
/// A loss that is not a scalar, that depends on no variable, or on one only through ops without a
/// derivative; hyperparameters out of range; the first mistake made while recording. A *run* of
/// the train op fails, and changes nothing, if a gradient is infinite or NaN: the message names its
/// variable.
#[track_caller]
pub fn minimize<'t, T: Scalar>(
    rule: impl Rule<T> + 'static,
    loss: Expr<'t, T>,
) -> Result<Expr<'t, T>> {
    descend(rule, loss, &trainable(loss)?, NAME_THEM)
}

/// As [`minimize`], in these variables only.
///
/// # Errors
/// As [`minimize`]; also one of `variables` that the loss does not depend on, or that is not a
/// variable.
#[track_caller]
pub fn minimize_over<'t, T: Scalar, N: AsNode>(
    rule: impl Rule<T> + 'static,
    loss: Expr<'t, T>,
    variables: &[N],
) -> Result<Expr<'t, T>> {
    descend(rule, loss, variables, LEAVE_IT_OUT)
}

/// A train op with these gradients, whatever they were made of: `(variable, gradient)`.
///
/// # Errors
/// No pair; something that is not a variable, or one twice; a gradient of another shape;
/// hyperparameters out of range; the first mistake made while recording.
#[track_caller]
pub fn apply<'t, T: Scalar, N: AsNode>(
    rule: impl Rule<T> + 'static,
    pairs: &[(N, Expr<'t, T>)],
) -> Result<Expr<'t, T>> {
    let inputs = prepare(&rule, pairs)?;
    record(rule, &inputs)
}

/// Variables and gradients in turn, in the variables' order, for a rule that has been looked at.
fn prepare<'t, T: Scalar, N: AsNode>(
    rule: &dyn Rule<T>,
    pairs: &[(N, Expr<'t, T>)],
) -> Result<Vec<Expr<'t, T>>> {
    let name = rule.name();
    rule.check().map_err(|e| e.within(name))?;
    if rule.slots() > MAX_SLOTS {
        bail!(Argument, "{name}: expected at most {MAX_SLOTS} slots, got {}", rule.slots());
    }
    let Some(tape) = pairs.first().map(|p| p.1.tape()) else {
        bail!(Argument, "{name}: expected variables with their gradients, got none");
    };
    tape.check()?;
    in_order(tape, pairs).map_err(|e| e.within(name))
}

/// The train op of these variables and gradients in turn.
#[track_caller]
fn record<'t, T: Scalar>(
    rule: impl Rule<T> + 'static,
    inputs: &[Expr<'t, T>],
) -> Result<Expr<'t, T>> {
    let tape = inputs[0].tape();
    let train = tape.apply(Effect::Update(ById(Arc::new(rule))), inputs);
    tape.check()?;
    Ok(train)
}

#[track_caller]
fn descend<'t, T: Scalar, N: AsNode>(
    rule: impl Rule<T> + 'static,
    loss: Expr<'t, T>,
    variables: &[N],
    advice: &str,
) -> Result<Expr<'t, T>> {
    // Before the gradient, so that a refused optimizer leaves no nodes behind.
    rule.check().map_err(|e| e.within(rule.name()))?;
    let gradients = loss.tape().gradient_or(loss, variables, advice)?;
    apply(rule, &variables.iter().copied().zip(gradients).collect::<Vec<_>>())
}

/// What to do about a variable without a gradient: found by `minimize`, or named by the caller.
const NAME_THEM: &str =
    "name the variables to train with minimize_over, or stop_gradient on that path";
const LEAVE_IT_OUT: &str = "leave it out of minimize_over";

/// The variables that flow into the loss, in the order they were recorded; at least one.
fn trainable<T: Scalar>(loss: Expr<'_, T>) -> Result<Vec<Expr<'_, T>>> {
    let tape = loss.tape();
    tape.check()?;
    let graph = tape.snapshot();
    let id = tape.resolve(loss.node())?;
    let variables = flowing_into(&graph, id);
    if variables.is_empty() {
        let text = format!(
            "minimize: expected a loss that depends on a variable, got {}",
            graph.describe(id)
        );
        return Err(Error::new(ErrorKind::Gradient, text).at(graph.node(id).at));
    }
    Ok(variables.into_iter().map(|id| Expr::of(tape, id)).collect())
}

/// The variables below a node, in the order they were recorded. `stop_gradient` and the value of a
/// custom gradient are cut on purpose; other ops without a derivative are not, so that the gradient
/// reports them.
fn flowing_into<T: Scalar>(graph: &Graph<T>, loss: NodeId) -> Vec<NodeId> {
    let mut reached = vec![false; loss as usize + 1];
    reached[loss as usize] = true;
    for id in (0..=loss).rev() {
        if !reached[id as usize] {
            continue;
        }
        let node = graph.node(id);
        let op = node.op.primitive();
        for (i, &input) in node.inputs.iter().enumerate() {
            let cut = matches!(node.op, Op::Pass(_)) || !op.reads(i);
            reached[input as usize] |= !cut || op.derivative(i) == Derivative::Smooth;
        }
    }
    (0..=loss).filter(|&id| reached[id as usize] && graph.is_variable(id)).collect()
}

/// Variables and gradients in turn, in the variables' order: that of the session's flat buffer, so
/// that neighbors are updated in one pass.
fn in_order<'t, T: Scalar, N: AsNode>(
    tape: &'t Tape<T>,
    pairs: &[(N, Expr<'t, T>)],
) -> Result<Vec<Expr<'t, T>>> {
    let graph = tape.snapshot();
    let fail = |id: NodeId, text| Err(Error::new(ErrorKind::Argument, text).at(graph.node(id).at));
    let mut sorted = Vec::with_capacity(pairs.len());
    for (variable, gradient) in pairs {
        let (id, gradient_id) = (tape.resolve(variable.node())?, tape.resolve(gradient.node())?);
        let (shape, name) = (graph.node(id).shape, graph.describe(id));
        if !graph.is_variable(id) {
            return fail(id, format!("expected a variable, got {name}"));
        }
        let got = graph.node(gradient_id).shape;
        if !got.accepts(&shape) {
            return fail(id, format!("expected a gradient of {shape} for {name}, got {got}"));
        }
        sorted.push((id, *gradient));
    }
    sorted.sort_by_key(|&(id, _)| id);
    if let Some(twice) = sorted.windows(2).find(|w| w[0].0 == w[1].0) {
        let id = twice[0].0;
        return fail(id, format!("expected each variable once, got {} twice", graph.describe(id)));
    }
    Ok(sorted.into_iter().flat_map(|(id, g)| [Expr::of(tape, id), g]).collect())
}

/// The methods that every optimizer has, given where its [`Pace`] is.
macro_rules! trains {
    ($name:ident, $($pace:ident).+) => {
        impl $name {
            /// With gradients clipped so; the default is [`Clip::None`](crate::optim::Clip).
            pub fn with_clip(mut self, clip: $crate::optim::Clip) -> Self {
                self.$($pace).+.clip = clip;
                self
            }

            /// With this ε ≥ 0 added to the norms that are clipped; the default is 0, PyTorch's is
            /// 10⁻⁶.
            pub fn with_clip_epsilon(mut self, epsilon: f64) -> Self {
                self.$($pace).+.clip_epsilon = epsilon;
                self
            }

            /// A train op over every variable the loss depends on; see
            /// [`optim::minimize`](crate::optim::minimize), also for the errors.
            #[track_caller]
            pub fn minimize<'t, T: $crate::Scalar>(
                &self,
                loss: $crate::Expr<'t, T>,
            ) -> $crate::Result<$crate::Expr<'t, T>> {
                super::minimize(self.clone(), loss)
            }

            /// A train op over these variables; see
            /// [`optim::minimize_over`](crate::optim::minimize_over), also for the errors.
            #[track_caller]
            pub fn minimize_over<'t, T: $crate::Scalar>(
                &self,
                loss: $crate::Expr<'t, T>,
                variables: &[impl $crate::AsNode],
            ) -> $crate::Result<$crate::Expr<'t, T>> {
                super::minimize_over(self.clone(), loss, variables)
            }

            /// A train op with these gradients; see [`optim::apply`](crate::optim::apply), also
            /// for the errors.
            #[track_caller]
            pub fn apply<'t, T: $crate::Scalar>(
                &self,
                pairs: &[(impl $crate::AsNode, $crate::Expr<'t, T>)],
            ) -> $crate::Result<$crate::Expr<'t, T>> {
                super::apply(self.clone(), pairs)
            }
        }
    };
}
use trains;

/// Weight decay of either kind, given where the [`Pace`] is.
macro_rules! decays {
    ($name:ident, $($pace:ident).+) => {
        impl $name {
            /// With λw added to the (clipped) gradient: the gradient of λ/2 ‖w‖².
            pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
                self.$($pace).+.weight_decay = weight_decay;
                self
            }

            /// With w ← (1 − γλ)w before each step at rate γ, whatever the gradients: the decay of
            /// [`AdamW`](crate::optim::AdamW).
            pub fn with_decoupled_weight_decay(mut self, weight_decay: f64) -> Self {
                self.$($pace).+.decoupled = weight_decay;
                self
            }
        }
    };
}
use decays;

fn not_negative(what: &str, x: f64) -> Result<()> {
    match x >= 0.0 && x.is_finite() {
        true => Ok(()),
        false => bail!(Argument, "expected a finite {what} ≥ 0, got {x}"),
    }
}

/// More than 0 also when rounded to T.
fn positive<T: Scalar>(what: &str, x: f64) -> Result<()> {
    match T::lit(x) > T::zero() && x.is_finite() {
        true => Ok(()),
        false => bail!(Argument, "expected a finite {what} > 0 in {}, got {x}", T::NAME),
    }
}

fn within_unit(what: &str, x: f64) -> Result<()> {
    match (0.0..1.0).contains(&x) {
        true => Ok(()),
        false => bail!(Argument, "expected {what} in [0, 1), got {x}"),
    }
}
