//! Groups of variables, each with a rule of its own, in one train op.

use super::clip::factor;
use super::{LEAVE_IT_OUT, NAME_THEM, Rule, Step, Whole, positive, prepare, record, trainable};
use crate::error::{Result, bail};
use crate::kernel::update::sum_of_squares;
use crate::scalar::Scalar;
use crate::tape::{AsNode, Expr, NodeRef};
use std::ops::Range;
use std::sync::Arc;

/// An optimizer of groups of variables with different rates, decays or schedules, or with
/// different rules. Each rule sees its group as if it were alone: clipping by norm in it is by the
/// norm of the group.
///
/// State: each rule's own, with as many numbers a parameter as the largest has.
///
/// ```
/// use gradtape::optim::{AdamW, Groups};
/// use gradtape::{Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let (w, b) = (tape.variable("w", Tensor::vector(vec![1.0, 2.0])), tape.variable("b", 3.0));
/// let loss = (w * b).sum() * 0.0;
/// let train = Groups::new(AdamW::new(0.5).with_weight_decay(0.5))
///     .with(&[b], AdamW::new(0.5).with_weight_decay(0.0))
///     .minimize(loss)?;
/// let mut session = Session::new(&tape)?;
/// session.run(train, &[])?;
/// assert_eq!(session.parameters(), [0.75, 1.5, 3.0]);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Groups<T: Scalar> {
    /// The first is for the variables that no other has.
    rules: Vec<Arc<dyn Rule<T>>>,
    /// Variables of the others, and which rule each has.
    members: Vec<(NodeRef, usize)>,
    /// The norm to clip to, if at all.
    norm: Option<f64>,
}

impl<T: Scalar> Groups<T> {
    /// With this rule for every variable that is in no group.
    pub fn new(rule: impl Rule<T> + 'static) -> Self {
        Groups { rules: vec![Arc::new(rule)], members: vec![], norm: None }
    }

    /// With this rule for these variables.
    pub fn with(mut self, variables: &[impl AsNode], rule: impl Rule<T> + 'static) -> Self {
        let group = self.rules.len();
        self.rules.push(Arc::new(rule));
        self.members.extend(variables.iter().map(|v| (v.node(), group)));
        self
    }

    /// With the gradients of all groups multiplied by `min(1, c / ‖g‖₂)`, with one norm over all of
    /// them, before the clipping that a rule does.
    pub fn with_clip_norm(self, c: f64) -> Self {
        Groups { norm: Some(c), ..self }
    }

    /// A train op over every variable the loss depends on.
    ///
    /// # Errors
    /// As [`optim::minimize`](crate::optim::minimize), and as [`Groups::apply`].
    #[track_caller]
    pub fn minimize<'t>(&self, loss: Expr<'t, T>) -> Result<Expr<'t, T>> {
        self.descend(loss, &trainable(loss)?, NAME_THEM)
    }

    /// A train op over these variables.
    ///
    /// # Errors
    /// As [`optim::minimize_over`](crate::optim::minimize_over), and as [`Groups::apply`].
    #[track_caller]
    pub fn minimize_over<'t>(
        &self,
        loss: Expr<'t, T>,
        variables: &[impl AsNode],
    ) -> Result<Expr<'t, T>> {
        self.descend(loss, variables, LEAVE_IT_OUT)
    }

    /// A train op with these gradients: `(variable, gradient)`.
    ///
    /// # Errors
    /// As [`optim::apply`](crate::optim::apply); also a variable in two groups, or in a group and
    /// not among those to be trained.
    #[track_caller]
    pub fn apply<'t>(&self, pairs: &[(impl AsNode, Expr<'t, T>)]) -> Result<Expr<'t, T>> {
        let inputs = prepare(&self.bound(vec![]), pairs)?;
        let tape = inputs[0].tape();
        let mut group_of = Vec::with_capacity(inputs.len() / 2);
        for pair in inputs.chunks_exact(2) {
            let node = pair[0].node();
            let mut groups = self.members.iter().filter(|m| m.0 == node).map(|m| m.1);
            group_of.push(groups.next().unwrap_or(0));
            if groups.next().is_some() {
                bail!(
                    Argument,
                    "groups: expected each variable once, got {} twice",
                    pair[0].name()
                );
            }
        }
        for (member, _) in &self.members {
            if !inputs.iter().step_by(2).any(|v| v.node() == *member) {
                let name = Expr::of(tape, tape.resolve(*member)?).name();
                bail!(Argument, "groups: expected variables that are trained, got `{name}`");
            }
        }
        // A group's variables together, so that its rule can see them as one.
        let mut order: Vec<usize> = (0..group_of.len()).collect();
        order.sort_by_key(|&i| group_of[i]);
        let inputs: Vec<_> =
            order.iter().flat_map(|&i| [inputs[2 * i], inputs[2 * i + 1]]).collect();
        let ends = (0..self.rules.len())
            .map(|group| order.iter().filter(|&&i| group_of[i] <= group).count())
            .collect();
        record(self.bound(ends), &inputs)
    }

    #[track_caller]
    fn descend<'t>(
        &self,
        loss: Expr<'t, T>,
        variables: &[impl AsNode],
        advice: &str,
    ) -> Result<Expr<'t, T>> {
        let bound = self.bound(vec![]);
        bound.check().map_err(|e| e.within(bound.name()))?;
        let gradients = loss.tape().gradient_or(loss, variables, advice)?;
        self.apply(&variables.iter().copied().zip(gradients).collect::<Vec<_>>())
    }

    fn bound(&self, ends: Vec<usize>) -> Bound<T> {
        Bound { rules: self.rules.clone(), ends, norm: self.norm }
    }
}

/// The rule of a train op: its variables come in the order of the groups.
#[derive(Debug)]
struct Bound<T: Scalar> {
    rules: Vec<Arc<dyn Rule<T>>>,
    /// For each group, how many variables it and those before have.
    ends: Vec<usize>,
    norm: Option<f64>,
}

impl<T: Scalar> Bound<T> {
    /// The rules that have variables, with these.
    fn groups(&self) -> impl Iterator<Item = (usize, &dyn Rule<T>, Range<usize>)> {
        let mut start = 0;
        let groups =
            self.rules.iter().zip(&self.ends).enumerate().map(move |(group, (rule, &end))| {
                let variables = start..end;
                start = end;
                (group, &**rule, variables)
            });
        groups.filter(|(.., variables)| !variables.is_empty())
    }
}

impl<T: Scalar> Rule<T> for Bound<T> {
    fn name(&self) -> &str {
        "groups"
    }

    fn slots(&self) -> usize {
        self.rules.iter().map(|rule| rule.slots()).max().unwrap_or(0)
    }

    fn averages(&self) -> bool {
        self.groups().all(|(_, rule, _)| rule.averages())
    }

    fn check(&self) -> Result<()> {
        if let Some(c) = self.norm {
            positive::<T>("norm to clip to", c)?;
        }
        self.rules.iter().try_for_each(|rule| rule.check().map_err(|e| e.within(rule.name())))
    }

    fn begin(&self, whole: &Whole<'_, T>, steps: &mut [Step]) -> Result<()> {
        let scale = match self.norm {
            Some(c) => factor(c, 0.0, whole.scale, sum_of_squares(whole.gradients))?,
            None => whole.scale,
        };
        let mut whole = *whole;
        whole.scale = scale;
        for (group, rule, variables) in self.groups() {
            let steps = &mut steps[variables.clone()];
            rule.begin(&whole.part(variables), steps).map_err(|e| e.within(rule.name()))?;
            for step in steps {
                // Of the user's rules, which need not know of a scale.
                step.scale = step.scale.min(scale);
                step.group = group;
            }
        }
        Ok(())
    }

    fn update(&self, step: &Step, w: &mut [T], g: &[T], state: &mut [&mut [T]]) {
        let rule = &self.rules[step.group];
        rule.update(step, w, g, &mut state[..rule.slots()]);
    }
}
