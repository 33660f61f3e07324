//! Each op of a function on its own: what it says of its derivatives and batches, and how well
//! those derivatives hold at the inputs that it had.

use super::record::Recorded;
use super::rules::{self, Value};
use super::{Check, Report, with_any_rows};
use crate::Passes;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::{Derivative, Jvp, Op, Primitive, RowRule, Vjp};
use crate::tape::{Expr, NodeId, Tape};
use crate::tensor::Tensor;

/// One recorded op, from [`Check::each_op`].
#[derive(Debug)]
pub struct OpReport {
    /// Its name.
    pub name: String,
    /// Its family, a variant of [`Op`].
    pub family: &'static str,
    /// What the family is, in a sentence.
    pub doc: &'static str,
    /// For each input where its cotangent comes from.
    pub reverse: Vec<Reverse>,
    /// For each input where the value's tangent along it comes from.
    pub forward: Vec<Forward>,
    /// The batch rule for the inputs that share an extent of axis 0, all of them split; one for
    /// each such extent above 1.
    pub rows: Vec<(Vec<bool>, RowRule)>,
    /// The errors of its derivatives in the inputs that it has a rule for, the others held fixed,
    /// or why they are wrong; `None` without such inputs, and where the derivative is not
    /// that of the value on purpose. Rules that take a value together with what it is made of,
    /// such as a matrix and its factors, hold only in the function that records both.
    pub errors: Result<Option<Report>>,
}

/// Where the cotangent of an input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reverse {
    /// From [`Primitive::vjp`].
    Rule,
    /// It is zero.
    Zero,
    /// There is no rule for it.
    Missing,
}

/// Where the tangent of a value along an input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forward {
    /// From the op itself, which is linear in the input.
    Linear,
    /// From [`Primitive::jvp`].
    Rule,
    /// From [`Primitive::vjp`], transposed.
    Transpose,
    /// It is zero.
    Zero,
    /// There is no rule for it.
    Missing,
}

impl Check {
    /// Checks each op that a function of these inputs records, adjoint ones among them, on its
    /// own, again with axis 0 of every input unknown if it can be. `wanted` is asked with the name
    /// of each, and whether it is the function's own, recorded with known rows. Leaves, effects and
    /// ops from indices to indices are left out.
    ///
    /// ```
    /// use gradtape::{Tensor, check::{Check, Forward}};
    /// let x = Tensor::vector(vec![0.3, -1.2, 2.0]);
    /// let ops = Check::default().each_op(|_, x| x[0].sin().sum(), &[x], |_, own| own)?;
    /// let sum = &ops[1];
    /// assert_eq!((sum.name.as_str(), &sum.forward[..]), ("sum", &[Forward::Linear][..]));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// A mistake in the function.
    pub fn each_op<T: Scalar, F>(
        &self,
        f: F,
        inputs: &[Tensor<T>],
        mut wanted: impl FnMut(&str, bool) -> bool,
    ) -> Result<Vec<OpReport>>
    where
        F: for<'t> Fn(&'t Tape<T>, &[Expr<'t, T>]) -> Expr<'t, T>,
    {
        let tape = Tape::new();
        let recorded = Recorded::new(&tape, &f, inputs, self.order)?;
        let point = recorded.point(inputs, self.seed)?;
        let mut reports = self.each_of(&recorded, &point, &mut wanted)?;
        // Where rows are not known, some cotangents take other ways, by other ops.
        let tape = Tape::new();
        let shapes = inputs.iter().map(with_any_rows);
        if let Ok(open) = Recorded::with_shapes(&tape, f, shapes, self.order) {
            reports.extend(self.each_of(&open, &point, |name, _| wanted(name, false))?);
        }
        Ok(reports)
    }

    fn each_of<T: Scalar>(
        &self,
        recorded: &Recorded<'_, T>,
        point: &[Tensor<T>],
        mut wanted: impl FnMut(&str, bool) -> bool,
    ) -> Result<Vec<OpReport>> {
        let tape = recorded.tape;
        let values = rules::values(recorded, point)?;
        let graph = tape.snapshot();
        let mut reports = Vec::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            let op = node.op.primitive();
            let is_op = !matches!(node.op, Op::Leaf(_) | Op::Effect(_));
            let is_float = |&i: &NodeId| values[i as usize].float().is_some();
            let has_floats = is_float(&(id as NodeId)) || node.inputs.iter().any(is_float);
            if !is_op || !has_floats || !wanted(op.name(), id < recorded.n_forward) {
                continue;
            }
            let x: Vec<&Value<T>> = node.inputs.iter().map(|&i| &values[i as usize]).collect();
            let at = At {
                op,
                x: node.inputs.iter().map(|&i| Expr::of(tape, i)).collect(),
                y: Expr::of(tape, id as NodeId),
                smooth: (0..x.len()).map(|i| op.derivative(i) == Derivative::Smooth).collect(),
            };
            // An op in a branch of a conditional has its rules there, too.
            let reverse: Vec<Reverse> = tape.on_behalf_of(id as NodeId, || at.reverse());
            let varies = |i: usize| at.smooth[i] && reverse[i] != Reverse::Missing;
            let has_own = (0..x.len()).any(varies) && !matches!(node.op, Op::Pass(_));
            let errors = has_own.then(|| self.alone(&node.op, &x, varies)).transpose();
            let shapes: Vec<Shape> = x.iter().map(|x| x.shape()).collect();
            reports.push(OpReport {
                name: op.name().to_string(),
                family: node.op.family(),
                doc: node.op.doc(),
                forward: (0..x.len())
                    .map(|i| tape.on_behalf_of(id as NodeId, || at.forward(i, reverse[i])))
                    .collect::<Result<_>>()?,
                reverse,
                rows: rows(op, &shapes),
                errors,
            });
        }
        Ok(reports)
    }

    /// The errors of an op's own derivatives in the inputs that vary.
    pub(super) fn alone<T: Scalar>(
        &self,
        op: &Op<T>,
        inputs: &[&Value<T>],
        varies: impl Fn(usize) -> bool,
    ) -> Result<Report> {
        let tape = Tape::new();
        let varying = inputs.iter().enumerate().filter(|(i, _)| varies(*i));
        let floats: Vec<Tensor<T>> = varying.filter_map(|(_, v)| v.float().cloned()).collect();
        let record = |tape, x: &[_]| {
            let mut x = x.iter();
            let input = |(i, v): (usize, &&Value<T>)| match varies(i) {
                true => v.input(tape, &mut x),
                false => Some(v.constant(tape)),
            };
            let inputs: Vec<_> = inputs.iter().enumerate().filter_map(input).collect();
            tape.apply(op.clone(), &inputs)
        };
        let alone = Recorded::new(&tape, record, &floats, self.order)?;
        let point = alone.point(&floats, self.seed)?;
        self.derivatives(&alone, &point, &alone.run(Passes::NONE, &point)?)
    }
}

/// An op as it stands on the tape, and which inputs it is differentiable in.
struct At<'a, 't, T: Scalar> {
    op: &'a dyn Primitive<T>,
    x: Vec<Expr<'t, T>>,
    y: Expr<'t, T>,
    smooth: Vec<bool>,
}

impl<'t, T: Scalar> At<'_, 't, T> {
    /// All inputs' at once, as a sweep asks.
    fn reverse(&self) -> Vec<Reverse> {
        let ct = self.y.tape().placeholder("cotangent", self.y.shape());
        let of = Vjp { x: &self.x, y: self.y, ct, want: &self.smooth };
        let cts = self.smooth.contains(&true).then(|| self.op.vjp(of));
        let rule = |(i, &smooth): (usize, &bool)| match &cts {
            Some(Err(_)) if smooth => Reverse::Missing,
            Some(Ok(cts)) if smooth && cts.get(i).is_some_and(Option::is_some) => Reverse::Rule,
            _ => Reverse::Zero,
        };
        self.smooth.iter().enumerate().map(rule).collect()
    }

    fn forward(&self, i: usize, reverse: Reverse) -> Result<Forward> {
        if !self.smooth[i] {
            return Ok(Forward::Zero);
        }
        if self.op.is_linear_in(i) {
            return Ok(Forward::Linear);
        }
        let mut dx = vec![None; self.x.len()];
        dx[i] = Some(self.y.tape().placeholder("tangent", self.x[i].shape()));
        let own = self.op.jvp(Jvp { x: &self.x, y: self.y, dx: &dx })?;
        Ok(match (own, reverse) {
            (Some(_), _) => Forward::Rule,
            (None, Reverse::Rule) => Forward::Transpose,
            (None, Reverse::Zero) => Forward::Zero,
            (None, Reverse::Missing) => Forward::Missing,
        })
    }
}

fn rows<T: Scalar>(op: &dyn Primitive<T>, shapes: &[Shape]) -> Vec<(Vec<bool>, RowRule)> {
    let mut rules: Vec<(Vec<bool>, RowRule)> = Vec::new();
    for n in shapes.iter().filter_map(|s| s.dim(0)).filter(|&n| n > 1) {
        let split: Vec<bool> = shapes.iter().map(|s| s.dim(0) == Some(n)).collect();
        if rules.iter().all(|(known, _)| *known != split) {
            let rule = op.rows(shapes, &split);
            rules.push((split, rule));
        }
    }
    rules
}
