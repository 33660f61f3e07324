//! A function, its vector-Jacobian product and the gradient of that, on one tape, and their
//! values at a point.

use super::difference::Claim;
use super::place;
use crate::Passes;
use crate::Philox;
use crate::Session;
use crate::error::{Result, bail};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::list;
use crate::tape::{AsNode, Expr, Feed, Tape};
use crate::tensor::Tensor;
use rand::Rng;

/// y = f(x), g = ∇ₓ⟨ct, y⟩, s = ⟨g, u⟩ and the gradients of s in x and ct.
pub(super) struct Recorded<'t, T: Scalar> {
    pub(super) tape: &'t Tape<T>,
    /// The placeholders: the x, ct, and a u for each x that has a gradient.
    pub(super) inputs: Vec<Expr<'t, T>>,
    pub(super) n_x: usize,
    /// Nodes before the first adjoint one.
    pub(super) n_forward: usize,
    y: Expr<'t, T>,
    first: Vec<Option<Expr<'t, T>>>,
    s: Option<Expr<'t, T>>,
    second: Vec<Option<Expr<'t, T>>>,
}

impl<'t, T: Scalar> Recorded<'t, T> {
    pub(super) fn new<F>(tape: &'t Tape<T>, f: F, x: &[Tensor<T>], order: u8) -> Result<Self>
    where
        F: Fn(&'t Tape<T>, &[Expr<'t, T>]) -> Expr<'t, T>,
    {
        Recorded::with_shapes(tape, f, x.iter().map(Tensor::shape), order)
    }

    pub(super) fn with_shapes<F>(
        tape: &'t Tape<T>,
        f: F,
        shapes: impl Iterator<Item = Shape>,
        order: u8,
    ) -> Result<Self>
    where
        F: Fn(&'t Tape<T>, &[Expr<'t, T>]) -> Expr<'t, T>,
    {
        let x: Vec<_> =
            shapes.enumerate().map(|(i, s)| tape.placeholder(&format!("x{i}"), s)).collect();
        let y = f(tape, &x);
        tape.check()?;
        let n_forward = tape.len();
        let ct = tape.placeholder("ct", y.shape());
        let first = tape.vjp(y, ct, &x)?;
        let mut inputs = x.clone();
        inputs.push(ct);
        let mut s: Option<Expr<'t, T>> = None;
        for (x, g) in x.iter().zip(&first).filter_map(|(x, g)| Some((x, (*g)?))) {
            let u = tape.placeholder("u", x.shape());
            let term = (g * u).sum();
            s = Some(s.map_or(term, |s| s + term));
            inputs.push(u);
        }
        let second = match s.filter(|_| order > 1) {
            Some(s) => tape.vjp(s, tape.literal(1.0), &inputs[..=x.len()])?,
            None => vec![None; x.len() + 1],
        };
        let n_x = x.len();
        Ok(Recorded { tape, inputs, n_x, n_forward, y, first, s: s.filter(|_| order > 1), second })
    }

    /// What the value is made by: an op and the shapes of its inputs.
    pub(super) fn title(&self) -> String {
        let (graph, id) = (self.tape.snapshot(), self.y.node().id);
        let shapes = list(&graph.input_shapes(graph.node(id)));
        format!("{} of {shapes}", graph.describe(id))
    }

    /// Values for the placeholders: the inputs, and random directions for the rest.
    pub(super) fn point(&self, x: &[Tensor<T>], seed: u64) -> Result<Vec<Tensor<T>>> {
        let mut rng = Philox::new(seed, 0);
        let mut point = x.to_vec();
        for e in &self.inputs[x.len()..] {
            let shape = e.shape();
            if !shape.is_known() {
                bail!(Check, "{}: expected a value of known shape, got {shape}", self.title());
            }
            point.push(Tensor::from_fn(shape, |_| T::lit(signed(&mut rng)))?);
        }
        Ok(point)
    }

    pub(super) fn feeds<'a>(&self, point: &'a [Tensor<T>]) -> Vec<Feed<'a, T>> {
        self.inputs.iter().zip(point).map(|(e, value)| e.feed(value)).collect()
    }

    /// y, the gradients that exist, s, and its gradients that exist.
    fn fetches(&self) -> Vec<Expr<'t, T>> {
        let first = self.first.iter().copied().flatten();
        let second = self.second.iter().copied().flatten();
        std::iter::once(self.y).chain(first).chain(self.s).chain(second).collect()
    }

    pub(super) fn run(&self, passes: Passes, point: &[Tensor<T>]) -> Result<Vec<Tensor<T>>> {
        let mut session = Session::new(self.tape)?.with_passes(passes);
        session.run(&self.fetches(), &self.feeds(point))
    }

    /// The values from the interpreter, which plans of every kind must equal bit for bit.
    pub(super) fn plans_equal_interpreter(&self, point: &[Tensor<T>]) -> Result<Vec<Tensor<T>>> {
        let fetches = self.fetches();
        let want = Session::new(self.tape)?.interpret(&fetches, &self.feeds(point))?;
        const ALL: Passes = Passes::ALL;
        let each_off = [
            Passes { simplify: false, ..ALL },
            Passes { fuse: false, ..ALL },
            Passes { share_memory: false, ..ALL },
            Passes { stream: false, ..ALL },
        ];
        for passes in [ALL, Passes::NONE].into_iter().chain(each_off) {
            let got = self.run(passes, point)?;
            for ((got, want), node) in got.iter().zip(&want).zip(&fetches) {
                if let Some((at, want, got)) = first_difference(got, want) {
                    let (title, node) = (self.title(), node.info()?);
                    bail!(
                        Check,
                        "{title}: {} at {at}: expected {want} as the interpreter, got {got} with \
                         {passes:?}",
                        node.name
                    );
                }
            }
        }
        Ok(want)
    }

    /// The gradient of ⟨ct, y⟩ and that of s, with their values.
    pub(super) fn claims<'a>(
        &'a self,
        point: &'a [Tensor<T>],
        values: &[Tensor<T>],
    ) -> Result<Vec<Claim<'a, 't, T>>> {
        let mut values = values.iter().cloned();
        let mut take = |exists: &Option<Expr<'t, T>>| exists.and_then(|_| values.next());
        let value = take(&Some(self.y));
        let gradients = self.first.iter().map(&mut take).collect();
        let weights = point[self.n_x].as_slice().iter().map(|w| w.to_f64()).collect();
        let mut claims =
            vec![Claim { of: self, order: 1, y: self.y, value, weights, gradients, point }];
        if let Some(s) = self.s {
            let (value, weights) = (take(&self.s), vec![1.0]);
            let gradients = self.second.iter().map(&mut take).collect();
            claims.push(Claim { of: self, order: 2, y: s, value, weights, gradients, point });
        }
        Ok(claims)
    }
}

/// The first element that differs in its bits; any NaN is any other.
pub(super) fn first_difference<T: Scalar>(
    got: &Tensor<T>,
    want: &Tensor<T>,
) -> Option<(Shape, T, T)> {
    let same =
        |a: T, b: T| (a.is_nan() && b.is_nan()) || a.to_f64().to_bits() == b.to_f64().to_bits();
    let (got_slice, want_slice) = (got.as_slice(), want.as_slice());
    let differs = (0..want.len()).find(|&i| !same(got_slice[i], want_slice[i]));
    differs.map(|i| (place(&want.shape(), i), want_slice[i], got_slice[i]))
}

/// A number of either sign, between a half and one and a half.
pub(super) fn signed(rng: &mut Philox) -> f64 {
    let word = rng.next_u32();
    let size = 0.5 + f64::from(word >> 1) / f64::from(1u32 << 31);
    if word & 1 == 0 { size } else { -size }
}
