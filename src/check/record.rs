//! A function, its derivatives in both modes to second order, on one tape, and their values at a
//! point.

use super::difference::{Claim, size};
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

/// y = f(x), g = ∇ₓ⟨ct, y⟩, s = ⟨g, u⟩ and the gradients of s in x and ct; in forward mode the
/// tangents of y and of g along u.
pub(super) struct Recorded<'t, T: Scalar> {
    pub(super) tape: &'t Tape<T>,
    /// The placeholders: the x, ct, and a u for each x that has a gradient.
    pub(super) inputs: Vec<Expr<'t, T>>,
    pub(super) n_x: usize,
    /// For each x the place of its u among the placeholders.
    pub(super) directions: Vec<Option<usize>>,
    /// Nodes before the first adjoint one.
    pub(super) n_forward: usize,
    pub(super) y: Expr<'t, T>,
    first: Vec<Option<Expr<'t, T>>>,
    s: Option<Expr<'t, T>>,
    second: Vec<Option<Expr<'t, T>>>,
    pub(super) tangent: Option<Expr<'t, T>>,
    curvature: Vec<Option<Expr<'t, T>>>,
}

/// The fetched values, under the names of their expressions.
pub(super) struct Values<T: Scalar> {
    pub(super) y: Option<Tensor<T>>,
    pub(super) first: Vec<Option<Tensor<T>>>,
    pub(super) s: Option<Tensor<T>>,
    pub(super) second: Vec<Option<Tensor<T>>>,
    pub(super) tangent: Option<Tensor<T>>,
    pub(super) curvature: Vec<Option<Tensor<T>>>,
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
        let mut directions = vec![None; x.len()];
        let mut seeds = Vec::new();
        for (i, x) in x.iter().enumerate().filter(|(i, _)| first[*i].is_some()) {
            let u = tape.placeholder("u", x.shape());
            directions[i] = Some(inputs.len());
            inputs.push(u);
            seeds.push((x.node().id, u));
        }
        let slope = |(g, at): (&Option<Expr<'t, T>>, &Option<usize>)| Some((*g)? * inputs[(*at)?]);
        let terms = first.iter().zip(&directions).filter_map(slope).map(Expr::sum);
        let s = terms.reduce(|s, term| s + term).filter(|_| order > 1);
        let second = match s {
            Some(s) => tape.vjp(s, tape.literal(1.0), &inputs[..=x.len()])?,
            None => vec![None; x.len() + 1],
        };
        let ids = |exprs: &[Option<Expr<'t, T>>]| -> Vec<_> {
            exprs.iter().flatten().map(|e| e.node().id).collect()
        };
        let tangent = match order {
            0 => None,
            _ => tape.tangents(&[y.node().id], &seeds)?[0],
        };
        let curvature = match order {
            0 | 1 => vec![],
            _ => tape.tangents(&ids(&first), &seeds)?,
        };
        let n_x = x.len();
        Ok(Recorded {
            tape,
            inputs,
            n_x,
            directions,
            n_forward,
            y,
            first,
            s,
            second,
            tangent,
            curvature,
        })
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
        for (at, e) in self.inputs.iter().enumerate().skip(x.len()) {
            // A direction is as large as what moves along it.
            let of = self.directions.iter().position(|d| *d == Some(at));
            let scale = of.map_or(1.0, |i| size(&x[i]));
            let shape = e.shape();
            if !shape.is_known() {
                bail!(Check, "{}: expected a value of known shape, got {shape}", self.title());
            }
            point.push(Tensor::from_fn(shape, |_| T::lit(scale * signed(&mut rng)))?);
        }
        Ok(point)
    }

    pub(super) fn feeds<'a>(&self, point: &'a [Tensor<T>]) -> Vec<Feed<'a, T>> {
        self.inputs.iter().zip(point).map(|(e, value)| e.feed(value)).collect()
    }

    /// Those that exist, in the order of the fields of [`Values`].
    fn fetches(&self) -> Vec<Expr<'t, T>> {
        let first = self.first.iter().flatten().chain(&self.s);
        let second = self.second.iter().flatten();
        let forward = self.tangent.iter().chain(self.curvature.iter().flatten());
        std::iter::once(&self.y).chain(first).chain(second).chain(forward).copied().collect()
    }

    /// The values of the fetches, sorted.
    pub(super) fn sorted(&self, values: &[Tensor<T>]) -> Values<T> {
        let mut values = values.iter().cloned();
        let mut take = |exists: &Option<Expr<'t, T>>| exists.and_then(|_| values.next());
        Values {
            y: take(&Some(self.y)),
            first: self.first.iter().map(&mut take).collect(),
            s: take(&self.s),
            second: self.second.iter().map(&mut take).collect(),
            tangent: take(&self.tangent),
            curvature: self.curvature.iter().map(&mut take).collect(),
        }
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
        values: &Values<T>,
    ) -> Vec<Claim<'a, 't, T>> {
        let weights = point[self.n_x].as_slice().iter().map(|w| w.to_f64()).collect();
        let (value, gradients) = (values.y.clone(), values.first.clone());
        let mut claims =
            vec![Claim { of: self, order: 1, y: self.y, value, weights, gradients, point }];
        if let Some(s) = self.s {
            let (value, gradients) = (values.s.clone(), values.second.clone());
            let weights = vec![1.0];
            claims.push(Claim { of: self, order: 2, y: s, value, weights, gradients, point });
        }
        claims
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
