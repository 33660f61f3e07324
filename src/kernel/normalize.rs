//! Numbers brought to mean 0 and variance 1, or to mean square 1, and the derivative of that.
//! Some rows at a time, so that all passes but the first find them in cache.

use super::cpu::multiversion;
use crate::Scalar;
use std::ops::Range;

/// Rows that are normalized side by side, and the length of the pieces of a contiguous row.
const LANES: usize = 64;
/// Pieces that are added up one after another; then their sum is.
const PIECES: usize = 32;

/// What is normalized: element k of row (i, o) is at `i + inner · (k + n · o)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Normalize {
    /// Rows that are neighbors in memory.
    pub inner: usize,
    /// Elements of a row.
    pub n: usize,
    pub outer: usize,
    /// Whether the mean is subtracted.
    pub center: bool,
    /// What is added to the variance, or to the mean square.
    pub eps: f64,
}

impl Normalize {
    /// y = (x − mean) / √(variance + eps), or x / √(mean of x² + eps).
    pub(crate) fn value<T: Scalar>(&self, x: &[T], y: &mut [T]) {
        self.blocks().for_each(|block| value_of(self, &block, x, y));
    }

    /// dx for the cotangent `ct` of y: with r = 1 / √(variance + eps),
    /// dx = r·(ct − mean(ct) − y·mean(ct·y)); mean(ct) is left out with the mean of x.
    pub(crate) fn slope<T: Scalar>(&self, x: &[T], ct: &[T], dx: &mut [T]) {
        self.blocks().for_each(|block| slope_of(self, &block, x, ct, dx));
    }

    /// Blocks of rows that make up everything.
    fn blocks(self) -> impl Iterator<Item = Block> {
        let Normalize { inner, n, outer, .. } = self;
        let outer = if n == 0 { 0 } else { outer };
        (0..outer).flat_map(move |o| {
            (0..inner).step_by(LANES).map(move |lane| {
                let start = o * n * inner + lane;
                match inner {
                    1 => Block { start, end: start + n, step: LANES, width: LANES, is_row: true },
                    _ => Block {
                        start,
                        end: start + (n - 1) * inner + 1,
                        step: inner,
                        width: LANES.min(inner - lane),
                        is_row: false,
                    },
                }
            })
        })
    }
}

/// Some rows side by side, an element of each in every piece; or one row that is contiguous and
/// is cut into pieces.
struct Block {
    start: usize,
    end: usize,
    step: usize,
    width: usize,
    is_row: bool,
}

impl Block {
    #[inline(always)]
    fn piece(&self, at: usize) -> Range<usize> {
        match self.is_row {
            true => at..self.end.min(at + self.width),
            false => at..at + self.width,
        }
    }

    /// The sum over each row of a term of elements `a` and `b`, and of the row.
    #[inline(always)]
    fn sum<T: Scalar>(
        &self,
        [a, b]: [&[T]; 2],
        of_row: &[[T; LANES]; 2],
        term: impl Fn(T, T, T, T) -> T,
    ) -> [T; LANES] {
        let mut total = [T::zero(); LANES];
        let mut from = self.start;
        while from < self.end {
            let to = self.end.min(from + PIECES * self.step);
            let mut part = [T::zero(); LANES];
            for at in (from..to).step_by(self.step) {
                let (a, b) = (&a[self.piece(at)], &b[self.piece(at)]);
                for (((part, &a), &b), (&m, &r)) in
                    part.iter_mut().zip(a).zip(b).zip(of_row[0].iter().zip(&of_row[1]))
                {
                    *part += term(a, b, m, r);
                }
            }
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
            from = to;
        }
        if self.is_row {
            let mut width = LANES / 2;
            while width > 0 {
                for i in 0..width {
                    total[i] += total[i + width];
                }
                width /= 2;
            }
            total = [total[0]; LANES];
        }
        total
    }

    /// The mean (0 if it stays) and 1 / √(variance + eps) of each row.
    #[inline(always)]
    fn moments<T: Scalar>(&self, of: &Normalize, x: &[T]) -> [[T; LANES]; 2] {
        let n = T::lit(of.n as f64);
        let zero = [T::zero(); LANES];
        let mut mean = zero;
        if of.center {
            mean = self.sum([x, x], &[zero, zero], |x, _, _, _| x);
            mean.iter_mut().for_each(|m| *m /= n);
        }
        let mut scale = self.sum([x, x], &[mean, zero], |x, _, m, _| (x - m) * (x - m));
        scale.iter_mut().for_each(|s| *s = T::one() / (*s / n + T::lit(of.eps)).sqrt());
        [mean, scale]
    }
}

multiversion! {
    fn value_of<T: Scalar>(of: &Normalize, block: &Block, x: &[T], y: &mut [T]) {
        let [mean, scale] = block.moments(of, x);
        for at in (block.start..block.end).step_by(block.step) {
            let (x, y) = (&x[block.piece(at)], &mut y[block.piece(at)]);
            for ((y, &x), (&m, &s)) in y.iter_mut().zip(x).zip(mean.iter().zip(&scale)) {
                *y = (x - m) * s;
            }
        }
    }
}

multiversion! {
    fn slope_of<T: Scalar>(of: &Normalize, block: &Block, x: &[T], ct: &[T], dx: &mut [T]) {
        let n = T::lit(of.n as f64);
        let [mean, scale] = block.moments(of, x);
        let moments = [mean, scale];
        let mut a = [T::zero(); LANES];
        if of.center {
            a = block.sum([ct, ct], &moments, |ct, _, _, _| ct);
            a.iter_mut().for_each(|a| *a /= n);
        }
        // Σ ct·y / n, once more times the scale, because y is one.
        let mut b = block.sum([x, ct], &moments, |x, ct, m, s| (x - m) * s * ct);
        b.iter_mut().zip(&scale).for_each(|(b, &s)| *b = *b / n * s);
        for at in (block.start..block.end).step_by(block.step) {
            let piece = block.piece(at);
            let (x, ct, dx) = (&x[piece.clone()], &ct[piece.clone()], &mut dx[piece]);
            let of_row = mean.iter().zip(&scale).zip(a.iter().zip(&b));
            for (((dx, &x), &ct), ((&m, &s), (&a, &b))) in
                dx.iter_mut().zip(x).zip(ct).zip(of_row)
            {
                *dx = (ct - a - (x - m) * b) * s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu::Cpu;

    /// Rows far from 0, of every way they lie in memory, against the formula, element by element.
    #[test]
    fn rows_are_normalized_as_by_the_formula() {
        let large: &[[usize; 3]] = &[[200, 70, 1], [1, 5000, 2], [64, 3, 2]];
        let small: &[[usize; 3]] =
            &[[5, 7, 2], [1, 131, 3], [1, 1, 4], [3, 1, 1], [70, 2, 1], [0, 3, 2], [3, 0, 2]];
        let cases = small.iter().chain(if cfg!(miri) { &[] } else { large });
        for (&[inner, n, outer], center) in cases.flat_map(|c| [(c, true), (c, false)]) {
            let of = Normalize { inner, n, outer, center, eps: 1e-3 };
            let len = inner * n * outer;
            let wave = |f: f64, shift: f64| -> Vec<f64> {
                (0..len).map(|i| shift + (i as f64 * f).sin()).collect()
            };
            let (x, ct) = (wave(0.7, 1e3), wave(1.3, 0.2));
            Cpu::for_each(|cpu| {
                let (mut y, mut dx) = (vec![f64::NAN; len], vec![f64::NAN; len]);
                of.value(&x, &mut y);
                of.slope(&x, &ct, &mut dx);
                for (i, o) in (0..inner).flat_map(|i| (0..outer).map(move |o| (i, o))) {
                    let at: Vec<usize> = (0..n).map(|k| i + inner * (k + n * o)).collect();
                    let mean = |f: &dyn Fn(usize) -> f64| {
                        at.iter().map(|&at| f(at)).sum::<f64>() / n as f64
                    };
                    let m = if center { mean(&|at| x[at]) } else { 0.0 };
                    let r = 1.0 / (mean(&|at| (x[at] - m).powi(2)) + 1e-3).sqrt();
                    let a = if center { mean(&|at| ct[at]) } else { 0.0 };
                    let b = mean(&|at| ct[at] * (x[at] - m) * r);
                    for &at in &at {
                        let own = (x[at] - m) * r;
                        let near = |got: f64, want: f64| (got - want).abs() < 1e-9;
                        let what = format!("{cpu:?} {of:?} at {at}: {} {}", y[at], dx[at]);
                        assert!(near(y[at], own), "{what}, not {own}");
                        assert!(near(dx[at], (ct[at] - a - own * b) * r), "{what}");
                    }
                }
            });
        }
    }
}
