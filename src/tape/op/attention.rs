//! Scaled dot-product attention of several heads, and its derivative.

use super::{Arg, Cotangents, Derivative, Out, Primitive, RowRule, Units, Vjp, list};
use crate::error::{Result, bail};
use crate::kernel::attention as kernel;
use crate::scalar::Scalar;
use crate::shape::{ANY, Shape};
use crate::tape::{Expr, Operand};
use crate::tensor::Tensor;
use std::ops::Range;

/// The heads of an attention, and which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// How many heads: blocks of as many columns, each with a softmax of its own.
    pub heads: usize,
    /// Whether the query at time t sees the keys up to t only.
    pub causal: bool,
}

impl Attention {
    /// So many heads, each of whose queries sees all keys.
    pub fn new(heads: usize) -> Self {
        Attention { heads, causal: false }
    }

    /// Where no query sees keys after its own time.
    pub fn causal(self) -> Self {
        Attention { causal: true, ..self }
    }
}

/// Attention as the tape stores it.
///
/// The inputs are q, k and v, or all three as blocks of columns of one; then the mask, if there is
/// one; then, of a slope, the cotangent of the value. A slope is the cotangents of q, k and v one
/// after the other in memory: of one input, of its shape; of three, `(batch, elements)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attend {
    /// The heads, and who sees whom.
    form: Attention,
    /// Whether q, k and v are one input.
    joint: bool,
    masked: bool,
    slope: bool,
}

/// The shapes of q, k and v.
struct Extents {
    q: [usize; 3],
    k: [usize; 3],
    v: [usize; 3],
}

impl Attend {
    fn n_parts(&self) -> usize {
        if self.joint { 1 } else { 3 }
    }

    fn extents(&self, x: &[Shape]) -> Result<Extents> {
        let of = |i: usize| match *x[i].extents() {
            [batch, time, features] => Ok([batch, time, features]),
            _ => bail!(Shape, "expected [batch, time, features], got {}", x[i]),
        };
        if !self.joint {
            return Ok(Extents { q: of(0)?, k: of(1)?, v: of(2)? });
        }
        let [batch, time, features] = of(0)?;
        if features == ANY {
            return Ok(Extents {
                q: [batch, time, ANY],
                k: [batch, time, ANY],
                v: [batch, time, ANY],
            });
        }
        if features % 3 > 0 {
            bail!(Shape, "expected queries, keys and values as equal blocks of columns");
        }
        let part = [batch, time, features / 3];
        Ok(Extents { q: part, k: part, v: part })
    }

    /// The shape of the value, or what does not fit.
    fn value(&self, x: &[Shape]) -> Result<Shape> {
        let Extents { q, k, v } = self.extents(x)?;
        let same = |a: usize, b: usize| a == b || a == ANY || b == ANY;
        if !(same(q[0], k[0]) && same(k[0], v[0]) && same(k[1], v[1]) && same(q[2], k[2])) {
            bail!(Shape, "expected [b, t, f], [b, s, f], [b, s, g] as queries, keys and values");
        }
        let heads = self.form.heads;
        let fits = |f: usize| f == ANY || (f > 0 && heads > 0 && f.is_multiple_of(heads));
        if ![q[2], k[2], v[2]].into_iter().all(fits) {
            bail!(Shape, "expected features in {heads} equal heads");
        }
        if self.form.causal && !same(q[1], k[1]) {
            bail!(Shape, "expected as many queries as keys, got {} and {}", q[1], k[1]);
        }
        if self.masked {
            let (mask, wanted) = (&x[self.n_parts()], Shape::from([k[0], k[1]]));
            if !wanted.accepts_or_any(mask) {
                bail!(Shape, "expected a mask of {wanted}, got {mask}");
            }
        }
        Ok([q[0], q[1], v[2]].into())
    }

    fn kernel(&self, x: &[Shape]) -> Result<kernel::Attention> {
        let Extents { q, k, v } = self.extents(x)?;
        let Attention { heads, causal } = self.form;
        let ([batch, queries, _], keys) = (q, k[1]);
        let (depth, width) = (q[2] / heads, v[2] / heads);
        Ok(kernel::Attention { batch, queries, keys, heads, depth, width, causal })
    }
}

impl<T: Scalar> Primitive<T> for Attend {
    fn name(&self) -> &str {
        if self.slope { "attention_slope" } else { "attention" }
    }

    fn shape(&self, x: &[Shape]) -> Result<Shape> {
        let value = self.value(x).map_err(|e| e.within(list(x)))?;
        if !self.slope {
            return Ok(value);
        }
        let ct = &x[x.len() - 1];
        if !value.accepts_or_any(ct) {
            bail!(Shape, "{}: expected {value}, got {ct}", list(x));
        }
        if self.joint {
            return Ok(x[0]);
        }
        let Extents { q, k, v } = self.extents(x)?;
        let known = [q, k, v].iter().all(|part| part[1] != ANY && part[2] != ANY);
        let elements = [q, k, v].map(|part| part[1].saturating_mul(part[2]));
        let total = elements.into_iter().fold(0, usize::saturating_add);
        Ok([q[0], if known { total } else { ANY }].into())
    }

    fn forward(&self, x: &[Arg<'_, T>], y: Out<'_, T>, scratch: &mut [T]) -> Result<()> {
        self.forward_units(x, y, scratch, 0..self.form.heads)
    }

    fn scratch(&self, x: &[Shape]) -> usize {
        self.kernel(x).map_or(0, |kernel| kernel.scratch::<T>(self.slope))
    }

    fn units(&self, x: &[Shape]) -> Units {
        let heads = self.form.heads;
        match self.kernel(x) {
            _ if !self.slope => Units::Contiguous(heads),
            // A head of each of the three.
            Ok(kernel) if kernel.is_even() => {
                let period = kernel.lengths_of_inputs()[0];
                Units::Strided { period, unit: (period / heads).max(1) }
            }
            _ => Units::Contiguous(1),
        }
    }

    fn forward_units(
        &self,
        x: &[Arg<'_, T>],
        y: Out<'_, T>,
        scratch: &mut [T],
        units: Range<usize>,
    ) -> Result<()> {
        let n = self.n_parts();
        let mut shapes = [Shape::SCALAR; 3];
        shapes.iter_mut().zip(&x[..n]).for_each(|(shape, x)| *shape = x.shape());
        let kernel = self.kernel(&shapes[..n])?;
        let [n_q, n_k, _] = kernel.lengths_of_inputs();
        let (q, k, v) = match x[..n] {
            [q, k, v] => (q.float(), k.float(), v.float()),
            _ => {
                let (q, rest) = x[0].float().split_at(n_q);
                let (k, v) = rest.split_at(n_k);
                (q, k, v)
            }
        };
        let mask = self.masked.then(|| x[n].float());
        let inputs = kernel::Inputs { q, k, v, mask };
        if self.slope {
            let (heads, slopes) = if kernel.is_even() {
                let mut runs = y.runs(n_q).into_runs();
                (units, [0; 3].map(|_| runs.next().unwrap_or_default()))
            } else {
                let (dq, rest) = y.float().split_at_mut(n_q);
                let (dk, dv) = rest.split_at_mut(n_k);
                (0..kernel.heads, [dq, dk, dv])
            };
            kernel.slope(&inputs, x[x.len() - 1].float(), heads, slopes, scratch);
        } else {
            kernel.value(&inputs, units, y.float(), scratch);
        }
        Ok(())
    }

    fn flops(&self, x: &[Shape], _: &Shape) -> usize {
        self.kernel(x).map_or(0, |kernel| kernel.flops(self.slope))
    }

    fn derivative(&self, i: usize) -> Derivative {
        let is_mask = self.masked && i == self.n_parts();
        if is_mask { Derivative::Zero } else { Derivative::Smooth }
    }

    fn vjp<'t>(&self, at: Vjp<'_, 't, T>) -> Result<Cotangents<'t, T>> {
        let Vjp { x, ct, .. } = at;
        let n = self.n_parts();
        let mut cotangents = if self.slope {
            let mask = self.masked.then(|| x[n]);
            let parts = self.apart(&x[..n], x[0])?;
            let [q, k, v, d] = self.second(parts, mask, x[x.len() - 1], self.apart(&x[..n], ct)?);
            let mut all = self.together(&[q, k, v]);
            all.extend(self.masked.then_some(None));
            all.push(Some(d));
            return Ok(all);
        } else {
            let inputs: Vec<_> = x.iter().copied().chain([ct]).collect();
            let slope = ct.tape().apply(Attend { slope: true, ..*self }, &inputs);
            match self.joint {
                true => vec![Some(slope)],
                false => self.apart(x, slope)?.map(Some).to_vec(),
            }
        };
        cotangents.extend(self.masked.then_some(None));
        Ok(cotangents)
    }

    fn rows(&self, _: &[Shape], split: &[bool]) -> RowRule {
        if split.iter().all(|&s| s) { RowRule::Split } else { RowRule::Mixes }
    }
}

/// The derivative of the slope, in ops that differentiate again.
impl Attend {
    /// What belongs to q, k and v: of one input its columns, of three the inputs themselves, or the
    /// parts of what lies as [`Attend`] says.
    fn apart<'t, T: Scalar>(
        &self,
        x: &[Expr<'t, T>],
        from: Expr<'t, T>,
    ) -> Result<[Expr<'t, T>; 3]> {
        let unknown = |x: &Expr<'t, T>| x.shape().extents().iter().skip(1).any(|&e| e == ANY);
        if let Some(x) = x.iter().find(|x| unknown(x)) {
            bail!(Shape, "expected known extents but for the batch, got {}", x.shape());
        }
        if self.joint {
            let third = *from.shape().extents().last().unwrap_or(&0) / 3;
            let part = |i: usize| {
                let (start, stop) = (i * third, (i + 1) * third);
                from.slice_axis(-1, start as isize..stop as isize)
            };
            return Ok([part(0), part(1), part(2)]);
        }
        if from.rank() == 3 {
            return Ok([x[0], x[1], x[2]]);
        }
        let mut start = 0;
        let mut parts = [from; 3];
        for (part, x) in parts.iter_mut().zip(x) {
            let [_, time, features] = *x.shape().extents() else { continue };
            let stop = start + time * features;
            *part = from.slice_axis(1, start as isize..stop as isize).reshape_like(*x);
            start = stop;
        }
        Ok(parts)
    }

    /// The reverse for cotangents of q, k and v.
    fn together<'t, T: Scalar>(&self, parts: &[Expr<'t, T>; 3]) -> Cotangents<'t, T> {
        match self.joint {
            true => vec![Some(parts[0].tape().concat(parts, -1))],
            false => parts.map(Some).to_vec(),
        }
    }

    /// The cotangents of q, k, v and the value's cotangent d, when those of the slopes of q, k and
    /// v are a, b and c.
    ///
    /// With S = q·kᵀ·s, P = softmax(S), D = d·vᵀ and T = P∘(D − Σ P∘D), the slopes are s·T·k,
    /// s·Tᵀ·q and Pᵀ·d; sums run over the keys.
    fn second<'t, T: Scalar>(
        &self,
        parts: [Expr<'t, T>; 3],
        mask: Option<Expr<'t, T>>,
        d: Expr<'t, T>,
        of_slopes: [Expr<'t, T>; 3],
    ) -> [Expr<'t, T>; 4] {
        let [like_q, like_k, like_v] = parts;
        let like_d = d;
        let [q, k, v] = parts.map(|x| self.by_head(x));
        let [a, b, c] = of_slopes.map(|x| self.by_head(x));
        let d = self.by_head(d);
        let depth = *q.shape().extents().last().unwrap_or(&1);
        let s = q.lit((depth.max(1) as f64).sqrt().recip());
        let sum = |x: Expr<'t, T>| x.sum_keep(&[-1]);
        let p = self.probabilities(q.matmul(k.t()) * s, mask);
        let big_d = d.matmul(v.t());
        let centered = big_d - sum(p * big_d);
        let t = p * centered;

        // The cotangents of T, D, P and S.
        let of_t = (a.matmul(k.t()) + q.matmul(b.t())) * s;
        let mean = sum(p * of_t);
        let of_d = p * (of_t - mean);
        let of_p = d.matmul(c.t()) + of_t * centered - mean * big_d;
        let of_s = p * (of_p - sum(p * of_p)) * s;
        [
            self.joined(of_s.matmul(k) + (t * s).matmul(b), like_q),
            self.joined(of_s.t().matmul(q) + (t * s).t().matmul(a), like_k),
            self.joined(of_d.t().matmul(d), like_v),
            self.joined(of_d.matmul(v) + p.matmul(c), like_d),
        ]
    }

    /// `(batch, time, features) -> (batch, heads, time, features / heads)`
    fn by_head<'t, T: Scalar>(&self, x: Expr<'t, T>) -> Expr<'t, T> {
        let [batch, time, features] = *x.shape().extents() else { return x };
        let heads = self.form.heads;
        x.reshape([batch, time, features / heads, heads]).permute(&[0, 3, 1, 2])
    }

    /// The reverse, of the shape of `like`.
    fn joined<'t, T: Scalar>(&self, x: Expr<'t, T>, like: Expr<'t, T>) -> Expr<'t, T> {
        x.permute(&[0, 2, 3, 1]).reshape_like(like)
    }

    fn probabilities<'t, T: Scalar>(
        &self,
        scores: Expr<'t, T>,
        mask: Option<Expr<'t, T>>,
    ) -> Expr<'t, T> {
        let mut sees = mask.map(|mask| mask.expand_dims(&[1, 2]));
        if self.form.causal {
            let n = *scores.shape().extents().last().unwrap_or(&0);
            let past = Tensor::from_fn([n, n], |at| T::lit(f64::from(u8::from(at[1] <= at[0]))));
            let past = match past {
                Ok(past) => scores.tape().constant(past),
                Err(e) => return scores.refuse("attention", e),
            };
            sees = Some(sees.map_or(past, |mask| mask.logical_and(past)));
        }
        match sees {
            None => scores.softmax(-1),
            // Zero where nothing is seen; a finite number, as −∞ for all keys would make NaN.
            Some(sees) => {
                let p = sees.select(scores, scores.lit(-1e30)).softmax(-1);
                sees.select(p, p.lit(0.0))
            }
        }
    }
}

impl<'t, T: Scalar> Expr<'t, T> {
    /// Attention of these queries over keys and values, head by head (Vaswani et al. 2017,
    /// Attention is all you need, section 3.2): softmax(q·kᵀ/√d)·v, where d is the number of
    /// features of a head. A head is a block of columns of each.
    ///
    /// ```text
    /// (batch, t, f) (batch, s, f) (batch, s, g) [mask: (batch, s)] -> (batch, t, g)
    /// ```
    ///
    /// The mask is 0 for keys that nobody sees, as those of padding, which must be finite all the
    /// same. A query that sees no key has the value 0 and gradients 0.
    ///
    /// Cost: 2·batch·t·s·(f + g) flops, half of that if causal; scores are never in memory, and
    /// the gradient computes them again.
    ///
    /// ```
    /// use gradtape::{ANY, Attention, Tape};
    /// let tape = Tape::<f32>::new();
    /// let q = tape.placeholder("q", [ANY, 5, 8]);
    /// let (k, v) = (tape.placeholder("k", [ANY, 9, 8]), tape.placeholder("v", [ANY, 9, 6]));
    /// assert_eq!(q.attention(k, v, None, Attention::new(2)).shape(), [ANY, 5, 6].into());
    /// ```
    #[track_caller]
    pub fn attention(
        self,
        k: impl Operand<'t, T>,
        v: impl Operand<'t, T>,
        mask: Option<Expr<'t, T>>,
        form: Attention,
    ) -> Expr<'t, T> {
        let mut inputs = vec![self, k.on(self.tape), v.on(self.tape)];
        inputs.extend(mask);
        let op = Attend { form, joint: false, masked: mask.is_some(), slope: false };
        self.tape.apply(op, &inputs)
    }

    /// [`Expr::attention`] where queries, keys and values are blocks of columns of one expression:
    /// `(batch, t, 3·f) -> (batch, t, f)`. Nothing is copied, forwards or backwards.
    #[track_caller]
    pub fn self_attention(self, mask: Option<Expr<'t, T>>, form: Attention) -> Expr<'t, T> {
        let op = Attend { form, joint: true, masked: mask.is_some(), slope: false };
        match mask {
            Some(mask) => self.tape.apply(op, &[self, mask]),
            None => self.tape.apply(op, &[self]),
        }
    }
}
