//! Attention and its derivatives, some samples, one head and a block of queries at a time, so that
//! scores never leave the cache. Vector lanes run over the samples. Knows nothing of tapes.

use super::cpu::{Level, multiversion};
use super::gemm::{BatchAxis, MatMut, MatRef, gemm_batched, gemm_batched_scratch};
use super::math::{Elementary, Math};
use crate::scalar::{Scalar, of_type};
use std::ops::Range;

/// The most samples side by side: one register of f32 at the highest level.
const LANES: usize = 16;
/// Scores of a block: 64 KiB of f32.
const BLOCK: usize = 1 << 14;
/// The fewest queries of a block, as many as a block of a product has rows.
const FEWEST: usize = 4;
/// The most queries of a block times samples: if causal, its first queries wait for keys that only
/// the last ones see.
const MOST: usize = 8 * LANES;

/// softmax(q·kᵀ/√depth)·v for every sample and head. Queries are `[batch, queries, heads · depth]`,
/// keys `[batch, keys, heads · depth]`, values `[batch, keys, heads · width]`, each head a block of
/// columns; the value is `[batch, queries, heads · width]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attention {
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub depth: usize,
    pub width: usize,
    /// Whether query t sees the keys up to t only.
    pub causal: bool,
}

/// What it reads. The mask is `[batch, keys]`: 0 where a key is not seen. A query that sees no key
/// has the value 0.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a, T> {
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
    pub mask: Option<&'a [T]>,
}

/// Some samples of a head, and some of their queries with the keys that these may see.
struct Block {
    head: usize,
    sample: usize,
    lanes: usize,
    queries: Range<usize>,
    keys: usize,
}

/// The parts of the scratch. The keys of a head, and of a slope its values, are packed: element
/// (i, j) of all lanes lies side by side, then the next j.
struct Scratch<'s, T> {
    keys: &'s mut [T],
    values: &'s mut [T],
    /// Probabilities of a block and their cotangents: the queries of all lanes side by side, then
    /// the next key.
    p: &'s mut [T],
    dp: &'s mut [T],
    sum: &'s mut [T],
    gemm: &'s mut [T],
}

impl Attention {
    /// The value of these heads, whose memory alone is `y`.
    pub(crate) fn value<T: Scalar>(
        &self,
        x: &Inputs<'_, T>,
        heads: Range<usize>,
        y: &mut [T],
        scratch: &mut [T],
    ) {
        let mut s = self.parts(false, scratch);
        for (i, head) in heads.enumerate() {
            for (sample, lanes) in self.lanes() {
                self.pack(x.k, self.depth, (head, sample, lanes), s.keys);
                for queries in self.blocks() {
                    let keys = self.visible(&queries);
                    let block = Block { head, sample, lanes, queries, keys };
                    self.probabilities(x, &block, &mut s);
                    let p = block.scores(s.p);
                    let v = self.seen(x.v, self.width, &block);
                    let at = (i * self.width * self.queries + block.queries.start) * self.batch;
                    let y =
                        self.place(&mut y[at + sample..], self.queries, block.rows(), self.width);
                    product(lanes, p, v, y, false, s.gemm);
                }
            }
        }
    }

    /// The cotangents of q, k and v for the cotangent `ct` of the value, of these heads, whose
    /// memory alone is given.
    pub(crate) fn slope<T: Scalar>(
        &self,
        x: &Inputs<'_, T>,
        ct: &[T],
        heads: Range<usize>,
        [dq, dk, dv]: [&mut [T]; 3],
        scratch: &mut [T],
    ) {
        let mut s = self.parts(true, scratch);
        if self.queries == 0 {
            dk.fill(T::zero());
            dv.fill(T::zero());
        }
        let scale = self.scale();
        for (i, head) in heads.enumerate() {
            for (sample, lanes) in self.lanes() {
                let of = (head, sample, lanes);
                self.pack(x.k, self.depth, of, s.keys);
                self.pack(x.v, self.width, of, s.values);
                // The last queries see all keys: what they write, the others add to.
                for (n, queries) in self.blocks().rev().enumerate() {
                    let keys = self.visible(&queries);
                    let block = Block { head, sample, lanes, queries, keys };
                    let rows = block.rows();
                    self.probabilities(x, &block, &mut s);
                    let d = self.queries(ct, self.width, &block);
                    let values = packed(s.values, (keys, self.width), lanes).t();
                    product(lanes, d, values, block.scores_mut(s.dp), false, s.gemm);

                    let n_scores = rows * lanes;
                    let sum = &mut s.sum[..n_scores];
                    score_slopes(&s.p[..n_scores * keys], &mut s.dp[..n_scores * keys], sum, scale);

                    let first = |n: usize| i * n * self.batch + sample;
                    let at = first(self.depth * self.queries) + block.queries.start * self.batch;
                    let to = self.place(&mut dq[at..], self.queries, rows, self.depth);
                    let k = self.seen(x.k, self.depth, &block);
                    product(lanes, block.scores(s.dp), k, to, false, s.gemm);

                    let to = &mut dk[first(self.depth * self.keys)..];
                    let to = self.place(to, self.keys, keys, self.depth);
                    let q = self.queries(x.q, self.depth, &block);
                    product(lanes, block.scores(s.dp).t(), q, to, n > 0, s.gemm);

                    let to = &mut dv[first(self.width * self.keys)..];
                    let to = self.place(to, self.keys, keys, self.width);
                    let d = self.queries(ct, self.width, &block);
                    product(lanes, block.scores(s.p).t(), d, to, n > 0, s.gemm);
                }
            }
        }
    }

    /// The elements of q, k and v.
    pub(crate) fn lengths_of_inputs(&self) -> [usize; 3] {
        let of = |rows: usize, cols: usize| self.batch * rows * self.heads * cols;
        [of(self.queries, self.depth), of(self.keys, self.depth), of(self.keys, self.width)]
    }

    /// Whether q, k and v are alike, so that each head is the same part of them.
    pub(crate) fn is_even(&self) -> bool {
        self.queries == self.keys && self.depth == self.width
    }

    /// The elements of scratch that [`Attention::value`] wants, or [`Attention::slope`].
    pub(crate) fn scratch<T: Scalar>(&self, slope: bool) -> usize {
        let lengths: usize = self.lengths(slope).iter().sum();
        let mut gemm = 0;
        let widths = [self.lanes().next(), self.lanes().last()];
        for (_, lanes) in widths.into_iter().flatten() {
            let axis = [BatchAxis { extent: lanes, a: 1, b: 1, c: 1 }];
            for queries in self.blocks() {
                let (rows, keys) = (queries.len(), self.visible(&queries));
                for features in [self.depth, self.width] {
                    for (m, n, k) in
                        [(rows, keys, features), (rows, features, keys), (keys, features, rows)]
                    {
                        gemm = gemm.max(gemm_batched_scratch::<T>(&axis, m, n, k));
                    }
                }
            }
        }
        lengths + gemm
    }

    /// Of the products, with the scores computed once more for a slope.
    pub(crate) fn flops(&self, slope: bool) -> usize {
        let scores = [self.batch, self.heads, self.queries, self.keys];
        let scores = scores.into_iter().fold(1, usize::saturating_mul);
        let (depth, width) = if slope { (3, 2) } else { (1, 1) };
        let each = 2 * (depth * self.depth + width * self.width) + 5;
        scores.saturating_mul(each) / if self.causal { 2 } else { 1 }
    }

    fn scale<T: Scalar>(&self) -> T {
        T::lit((self.depth.max(1) as f64).sqrt().recip())
    }

    /// The samples in about equal parts: the first of each, and how many.
    fn lanes(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (batch, width) = (self.batch, self.n_lanes());
        (0..batch).step_by(width).map(move |sample| (sample, width.min(batch - sample)))
    }

    fn n_lanes(&self) -> usize {
        self.batch.div_ceil(self.batch.div_ceil(LANES).max(1)).max(1)
    }

    fn n_rows(&self) -> usize {
        let lanes = self.n_lanes();
        (BLOCK / (self.keys.max(1) * lanes)).clamp(FEWEST, MOST / lanes)
    }

    fn blocks(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + ExactSizeIterator + use<> {
        let (n, rows) = (self.queries, self.n_rows());
        (0..n.div_ceil(rows)).map(move |i| i * rows..n.min((i + 1) * rows))
    }

    /// How many keys these queries may see.
    fn visible(&self, queries: &Range<usize>) -> usize {
        if self.causal { queries.end } else { self.keys }
    }

    fn lengths(&self, slope: bool) -> [usize; 5] {
        let (lanes, rows) = (self.n_lanes(), self.n_rows());
        let of_slope = usize::from(slope);
        [
            self.keys * self.depth * lanes,
            of_slope * self.keys * self.width * lanes,
            rows * self.keys * lanes,
            of_slope * rows * self.keys * lanes,
            rows * lanes,
        ]
    }

    fn parts<'s, T>(&self, slope: bool, scratch: &'s mut [T]) -> Scratch<'s, T> {
        let mut gemm = scratch;
        let [keys, values, p, dp, sum] = self.lengths(slope).map(|length| {
            let (part, rest) = std::mem::take(&mut gemm).split_at_mut(length);
            gemm = rest;
            part
        });
        Scratch { keys, values, p, dp, sum, gemm }
    }

    /// A head's keys or values, for some samples.
    fn pack<T: Scalar>(
        &self,
        x: &[T],
        cols: usize,
        (head, sample, lanes): (usize, usize, usize),
        to: &mut [T],
    ) {
        for j in 0..cols {
            let column = &x[(head * cols + j) * self.keys * self.batch..][..self.keys * self.batch];
            for (i, from) in column.chunks_exact(self.batch).enumerate() {
                let from = &from[sample..][..lanes];
                let to = &mut to[(i * cols + j) * lanes..][..lanes];
                // A copy of known length is a register or two, others are calls.
                match (from.first_chunk::<LANES>(), to.first_chunk_mut::<LANES>()) {
                    (Some(from), Some(to)) => *to = *from,
                    _ => to.copy_from_slice(from),
                }
            }
        }
    }

    /// The keys or values that a block's queries may see, where they are.
    fn seen<'a, T>(&self, x: &'a [T], cols: usize, block: &Block) -> MatRef<'a, T> {
        let at = block.head * cols * self.keys * self.batch + block.sample;
        let x = x.get(at..).unwrap_or_default();
        MatRef::strided(x, (block.keys, cols), (self.batch, self.keys * self.batch))
    }

    /// The queries of a block, or the cotangents of their values, where they are.
    fn queries<'a, T>(&self, x: &'a [T], cols: usize, block: &Block) -> MatRef<'a, T> {
        let first = block.head * cols * self.queries + block.queries.start;
        let x = x.get(first * self.batch + block.sample..).unwrap_or_default();
        MatRef::strided(x, (block.rows(), cols), (self.batch, self.queries * self.batch))
    }

    /// Rows of a head, from the first element on; a column has `n_rows` in all.
    fn place<'a, T>(
        &self,
        data: &'a mut [T],
        n_rows: usize,
        rows: usize,
        cols: usize,
    ) -> MatMut<'a, T> {
        MatMut { data, rows, cols, row_stride: self.batch, col_stride: n_rows * self.batch }
    }

    /// The probabilities of a block's queries, from the packed keys.
    fn probabilities<T: Scalar>(&self, x: &Inputs<'_, T>, block: &Block, s: &mut Scratch<'_, T>) {
        let &Block { sample, lanes, keys, .. } = block;
        let rows = block.rows();
        let q = self.queries(x.q, self.depth, block);
        let k = packed(s.keys, (keys, self.depth), lanes).t();
        product(lanes, q, k, block.scores_mut(s.p), false, s.gemm);

        if let Some(mask) = x.mask {
            for (key, scores) in s.p.chunks_exact_mut(rows * lanes).take(keys).enumerate() {
                let mask = &mask[key * self.batch + sample..][..lanes];
                for row in scores.chunks_exact_mut(lanes) {
                    let unseen = row.iter_mut().zip(mask).filter(|(_, mask)| **mask == T::zero());
                    unseen.for_each(|(score, _)| *score = -T::infinity());
                }
            }
        }
        let n = rows * lanes;
        if self.causal {
            // Each key from the block's second query on is unseen by one more of the block.
            let of_block = s.p[..n * keys].chunks_exact_mut(n).skip(block.queries.start);
            of_block.enumerate().for_each(|(i, p)| p[..i * lanes].fill(-T::infinity()));
        }
        softmax(&mut s.p[..n * keys], n, self.scale());
    }
}

impl Block {
    fn rows(&self) -> usize {
        self.queries.len()
    }

    fn scores<'a, T>(&self, data: &'a [T]) -> MatRef<'a, T> {
        let strides = (self.lanes, self.rows() * self.lanes);
        MatRef::strided(data, (self.rows(), self.keys), strides)
    }

    fn scores_mut<'a, T>(&self, data: &'a mut [T]) -> MatMut<'a, T> {
        let (rows, cols) = (self.rows(), self.keys);
        MatMut { data, rows, cols, row_stride: self.lanes, col_stride: rows * self.lanes }
    }
}

fn packed<T>(data: &[T], (rows, cols): (usize, usize), lanes: usize) -> MatRef<'_, T> {
    MatRef::strided(data, (rows, cols), (cols * lanes, lanes))
}

/// C = A·B or C += A·B for each lane.
fn product<T: Scalar>(
    lanes: usize,
    a: MatRef<T>,
    b: MatRef<T>,
    c: MatMut<T>,
    add: bool,
    scratch: &mut [T],
) {
    gemm_batched(&[BatchAxis { extent: lanes, a: 1, b: 1, c: 1 }], a, b, c, add, scratch);
}

/// Scores to the softmax of them times `scale` over the keys, `n` numbers for each. A query that
/// sees nothing, −∞ for every key, gets zeros.
fn softmax<T: Scalar>(p: &mut [T], n: usize, scale: T) {
    type Kernel<T> = fn(&mut [T], usize, T);
    let (single, double) = (softmax_of::<f32> as Kernel<f32>, softmax_of::<f64> as Kernel<f64>);
    of_type::<Kernel<T>>(&single, &double)(p, n, scale);
}

/// Numbers of a key that are worked on together: their keys are in L1, their sums in registers.
const SPAN: usize = 4 * LANES;

multiversion! {
    fn softmax_of<L: Level, T: Elementary>(p: &mut [T], n: usize, scale: T) {
        for from in (0..n).step_by(SPAN) {
            // Loops of known length are registers.
            match n - from >= SPAN {
                true => softmax_span::<L, T>(p, from, SPAN, n, scale),
                false => softmax_span::<L, T>(p, from, n - from, n, scale),
            }
        }
    }
}

#[inline(always)]
fn softmax_span<L: Level, T: Elementary>(
    p: &mut [T],
    from: usize,
    width: usize,
    n: usize,
    scale: T,
) {
    let mut top = [-T::infinity(); SPAN];
    for p in p.chunks_exact(n) {
        for (top, &p) in top.iter_mut().zip(&p[from..][..width]) {
            *top = if p > *top { p } else { *top };
        }
    }
    // Where nothing is seen exp(−∞) is 0, and 0/1.
    for top in &mut top {
        *top = if *top == -T::infinity() { T::zero() } else { *top * scale };
    }
    let mut sum = [T::zero(); SPAN];
    for p in p.chunks_exact_mut(n) {
        for ((p, &top), sum) in p[from..][..width].iter_mut().zip(&top).zip(&mut sum) {
            *p = L::exp(L::mul_add(*p, scale, -top));
            *sum += *p;
        }
    }
    for sum in &mut sum {
        *sum = T::one() / if *sum == T::zero() { T::one() } else { *sum };
    }
    for p in p.chunks_exact_mut(n) {
        p[from..][..width].iter_mut().zip(&sum).for_each(|(p, &sum)| *p *= sum);
    }
}

multiversion! {
    /// The cotangents `dp` of probabilities to those of scores: p·(dp − Σ p·dp)·scale.
    fn score_slopes<T: Scalar>(p: &[T], dp: &mut [T], sum: &mut [T], scale: T) {
        let n = sum.len().max(1);
        sum.fill(T::zero());
        for (p, dp) in p.chunks_exact(n).zip(dp.chunks_exact(n)) {
            for ((&p, &dp), sum) in p.iter().zip(dp).zip(sum.iter_mut()) {
                *sum += p * dp;
            }
        }
        for (p, dp) in p.chunks_exact(n).zip(dp.chunks_exact_mut(n)) {
            for ((&p, dp), &sum) in p.iter().zip(dp).zip(sum.iter()) {
                *dp = p * (*dp - sum) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu::Cpu;

    fn wave(n: usize, f: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * f).sin()).collect()
    }

    /// The value of one sample and head by its definition.
    fn defined(a: &Attention, x: &Inputs<'_, f64>, b: usize, head: usize) -> Vec<f64> {
        let at = |x: &[f64], (rows, cols): (usize, usize), t: usize, j: usize| {
            x[((head * cols + j) * rows + t) * a.batch + b]
        };
        let mut y = vec![0.0; a.queries * a.width];
        for t in 0..a.queries {
            let sees = |s: usize| {
                (!a.causal || s <= t) && x.mask.is_none_or(|m| m[s * a.batch + b] != 0.0)
            };
            let score = |s: usize| -> f64 {
                let term =
                    |j| at(x.q, (a.queries, a.depth), t, j) * at(x.k, (a.keys, a.depth), s, j);
                (0..a.depth).map(term).sum::<f64>() / (a.depth as f64).sqrt()
            };
            let weights: Vec<_> =
                (0..a.keys).filter(|&s| sees(s)).map(|s| (s, score(s).exp())).collect();
            let total: f64 = weights.iter().map(|w| w.1).sum();
            for (j, y) in y[t * a.width..][..a.width].iter_mut().enumerate() {
                let v = |s| at(x.v, (a.keys, a.width), s, j);
                *y = weights.iter().map(|&(s, w)| w / total * v(s)).sum();
            }
        }
        y
    }

    #[test]
    fn attention_is_its_definition() {
        let shape = |batch, queries, keys, heads, [depth, width]: [usize; 2], causal| Attention {
            batch,
            queries,
            keys,
            heads,
            depth,
            width,
            causal,
        };
        let small = [
            shape(1, 3, 5, 2, [2, 3], false),
            shape(3, 7, 7, 1, [3, 2], true),
            shape(9, 2, 1, 2, [1, 1], false),
            shape(2, 0, 3, 1, [2, 2], false),
        ];
        let large = [shape(20, 40, 40, 2, [5, 5], true), shape(16, 33, 70, 2, [8, 4], false)];
        let cases = small.iter().chain(if cfg!(miri) { &[][..] } else { &large });
        for (a, masked) in cases.flat_map(|a| [(a, false), (a, true)]) {
            let n = |rows: usize, cols: usize| a.batch * rows * a.heads * cols;
            let (n_q, n_k, n_v) = (n(a.queries, a.depth), n(a.keys, a.depth), n(a.keys, a.width));
            let (q, k, v) = (wave(n_q, 0.7), wave(n_k, 1.3), wave(n_v, 0.9));
            let ct = wave(n(a.queries, a.width), 1.7);
            // The first sample sees nothing.
            let see = |i: usize| f64::from(u8::from(!i.is_multiple_of(a.batch) && i % 3 != 1));
            let mask: Vec<f64> = (0..a.batch * a.keys).map(see).collect();
            let mask = masked.then_some(&mask[..]);
            let x = Inputs { q: &q, k: &k, v: &v, mask };
            Cpu::for_each(|cpu| {
                let mut y = vec![f64::NAN; n(a.queries, a.width)];
                let mut scratch = vec![f64::NAN; a.scratch::<f64>(false)];
                // Heads apart have the bits of all at once.
                let of_head = y.len() / a.heads;
                for head in 0..a.heads {
                    let y = &mut y[head * of_head..][..of_head];
                    a.value(&x, head..head + 1, y, &mut scratch);
                }
                let mut whole = vec![f64::NAN; y.len()];
                a.value(&x, 0..a.heads, &mut whole, &mut scratch);
                assert!(y == whole, "{cpu:?} {a:?}");
                for (head, b) in (0..a.heads).flat_map(|h| (0..a.batch).map(move |b| (h, b))) {
                    for (i, want) in defined(a, &x, b, head).into_iter().enumerate() {
                        let (t, j) = (i / a.width, i % a.width);
                        let got = y[((head * a.width + j) * a.queries + t) * a.batch + b];
                        assert!((got - want).abs() < 1e-13, "{cpu:?} {a:?}: {got}, not {want}");
                    }
                }

                let mut slopes = [n_q, n_k, n_v].map(|n| vec![f64::NAN; n]);
                let mut scratch = vec![f64::NAN; a.scratch::<f64>(true)];
                for head in 0..a.heads {
                    let of_head = slopes.each_mut().map(|d| {
                        let n = d.len() / a.heads;
                        &mut d[head * n..][..n]
                    });
                    a.slope(&x, &ct, head..head + 1, of_head, &mut scratch);
                }
                let mut whole = [n_q, n_k, n_v].map(|n| vec![f64::NAN; n]);
                a.slope(&x, &ct, 0..a.heads, whole.each_mut().map(|d| &mut d[..]), &mut scratch);
                assert!(slopes == whole, "{cpu:?} {a:?}");
                let value = |x: Inputs<'_, f64>| -> f64 {
                    let mut y = vec![f64::NAN; ct.len()];
                    let mut scratch = vec![f64::NAN; a.scratch::<f64>(false)];
                    a.value(&x, 0..a.heads, &mut y, &mut scratch);
                    y.iter().zip(&ct).map(|(y, ct)| y * ct).sum()
                };
                // Along a direction in each input, central differences.
                for (i, slope) in slopes.iter().enumerate() {
                    let along = wave(slope.len(), 0.31);
                    let moved = |h: f64| {
                        let of = [&q, &k, &v][i];
                        let of: Vec<f64> = of.iter().zip(&along).map(|(x, u)| x + h * u).collect();
                        match i {
                            0 => value(Inputs { q: &of, ..x }),
                            1 => value(Inputs { k: &of, ..x }),
                            _ => value(Inputs { v: &of, ..x }),
                        }
                    };
                    let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let got: f64 = slope.iter().zip(&along).map(|(g, u)| g * u).sum();
                    let what = format!("{cpu:?} {a:?} input {i}: {got}, not {want}");
                    assert!((got - want).abs() < 1e-8 * (1.0 + want.abs()), "{what}");
                }
            });
        }
    }
}
