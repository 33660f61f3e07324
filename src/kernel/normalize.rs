//! Numbers brought to mean 0 and variance 1, or to mean square 1, and the derivative of that.
//! Some rows at a time, so that all passes but the first find them in cache.

use super::cpu::multiversion;
use super::team::Runs;
use crate::Scalar;
use std::ops::Range;

/// Rows that are normalized side by side, and the length of the pieces of a contiguous row.
const LANES: usize = 256;
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
    /// y = (x − mean) / √(variance + eps), or x / √(mean of x² + eps), for these neighbors out
    /// of all: some or all of what [`Normalize::period`] says.
    pub(crate) fn value<T: Scalar>(&self, x: &[T], mut y: Runs<'_, T>) {
        self.blocks(y.range()).for_each(|block| value_of(self, &block, x, &mut y));
    }

    /// dx for the cotangent `ct` of y: with r = 1 / √(variance + eps),
    /// dx = r·(ct − mean(ct) − y·mean(ct·y)); mean(ct) is left out with the mean of x. For some
    /// neighbors or all, as [`Normalize::value`].
    pub(crate) fn slope<T: Scalar>(&self, x: &[T], ct: &[T], mut dx: Runs<'_, T>) {
        self.blocks(dx.range()).for_each(|block| slope_of(self, &block, x, ct, &mut dx));
    }

    /// The period and the unit of what may be computed apart: of rows that are neighbors so many,
    /// of others all.
    pub(crate) fn period(&self) -> (usize, usize) {
        match self.inner {
            1 => (self.n * self.outer, (self.n * self.outer).max(1)),
            inner => (inner, LANES),
        }
    }

    /// Blocks of rows that make up this range of every period.
    fn blocks(self, range: Range<usize>) -> impl Iterator<Item = Block> {
        let Normalize { inner, n, outer, .. } = self;
        let outer = if n == 0 || range.is_empty() { 0 } else { outer };
        let rows = if inner == 1 { 0..1 } else { range.clone() };
        (0..outer).flat_map(move |o| {
            let range = range.clone();
            rows.clone().step_by(LANES).map(move |lane| {
                let start = o * n * inner + lane;
                match inner {
                    1 => Block {
                        start,
                        end: start + n,
                        step: LANES,
                        width: LANES,
                        is_row: true,
                        run: 0,
                        at: 0,
                    },
                    _ => Block {
                        start,
                        end: start + (n - 1) * inner + 1,
                        step: inner,
                        width: LANES.min(range.end - lane),
                        is_row: false,
                        run: o * n,
                        at: lane - range.start,
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
    /// Where the first piece is written: in this run, from this element on. The next one is in
    /// the next run, but for a row, which is in one.
    run: usize,
    at: usize,
}

impl Block {
    #[inline(always)]
    fn piece(&self, at: usize) -> Range<usize> {
        match self.is_row {
            true => at..self.end.min(at + self.width),
            false => at..at + self.width,
        }
    }

    /// The pieces of a row in turn, with the memory to write for each.
    #[inline(always)]
    fn write<T: Scalar>(&self, y: &mut Runs<'_, T>, mut f: impl FnMut(Range<usize>, &mut [T])) {
        for (i, from) in (self.start..self.end).step_by(self.step).enumerate() {
            let piece = self.piece(from);
            match self.is_row {
                true => f(piece.clone(), &mut y.run(0)[piece]),
                false => f(piece, &mut y.run(self.run + i)[self.at..][..self.width]),
            }
        }
    }

    /// Sums over each row: `add` adds the terms of a piece. The same number for all of a row.
    #[inline(always)]
    fn sums<T: Scalar, const N: usize>(
        &self,
        mut add: impl FnMut(Range<usize>, &mut [[T; LANES]; N]),
    ) -> [[T; LANES]; N] {
        let mut total = [[T::zero(); LANES]; N];
        let mut from = self.start;
        while from < self.end {
            let to = self.end.min(from + PIECES * self.step);
            let mut part = [[T::zero(); LANES]; N];
            (from..to).step_by(self.step).for_each(|at| add(self.piece(at), &mut part));
            for (total, part) in total.as_flattened_mut().iter_mut().zip(part.as_flattened()) {
                *total += *part;
            }
            from = to;
        }
        if self.is_row {
            for total in &mut total {
                let mut width = LANES / 2;
                while width > 0 {
                    for i in 0..width {
                        total[i] += total[i + width];
                    }
                    width /= 2;
                }
                *total = [total[0]; LANES];
            }
        }
        total
    }

    /// The mean (0 if it stays) and 1 / √(variance + eps) of each row.
    #[inline(always)]
    fn moments<T: Scalar>(&self, of: &Normalize, x: &[T]) -> [[T; LANES]; 2] {
        let n = T::lit(of.n as f64);
        let mut mean = [T::zero(); LANES];
        if of.center {
            [mean] = self.sums(|piece, [sum]| {
                sum.iter_mut().zip(&x[piece]).for_each(|(sum, &x)| *sum += x);
            });
            mean.iter_mut().for_each(|m| *m /= n);
        }
        let [mut scale]: [[T; LANES]; 1] = self.sums(|piece, [sum]| {
            for ((sum, &x), &m) in sum.iter_mut().zip(&x[piece]).zip(&mean) {
                *sum += (x - m) * (x - m);
            }
        });
        scale.iter_mut().for_each(|s| *s = T::one() / (*s / n + T::lit(of.eps)).sqrt());
        [mean, scale]
    }
}

multiversion! {
    fn value_of<T: Scalar>(of: &Normalize, block: &Block, x: &[T], y: &mut Runs<'_, T>) {
        let [mean, scale] = block.moments(of, x);
        block.write(y, |piece, y| {
            for ((y, &x), (&m, &s)) in y.iter_mut().zip(&x[piece]).zip(mean.iter().zip(&scale)) {
                *y = (x - m) * s;
            }
        });
    }
}

multiversion! {
    fn slope_of<T: Scalar>(of: &Normalize, block: &Block, x: &[T], ct: &[T], dx: &mut Runs<'_, T>) {
        let n = T::lit(of.n as f64);
        let [mean, scale] = block.moments(of, x);
        let [mut a, mut b] = block.sums(|piece, [a, b]| {
            let (x, ct) = (&x[piece.clone()], &ct[piece]);
            for ((a, b), ((&x, &ct), &m)) in
                a.iter_mut().zip(b).zip(x.iter().zip(ct).zip(&mean))
            {
                *a += ct;
                *b += ct * (x - m);
            }
        });
        // y is (x − mean)·scale, and stands in the formula twice.
        a.iter_mut().for_each(|a| *a = if of.center { *a / n } else { T::zero() });
        b.iter_mut().zip(&scale).for_each(|(b, &s)| *b = *b / n * s * s);
        block.write(dx, |piece, dx| {
            let (x, ct) = (&x[piece.clone()], &ct[piece]);
            let of_row = mean.iter().zip(&scale).zip(a.iter().zip(&b));
            for (((dx, &x), &ct), ((&m, &s), (&a, &b))) in
                dx.iter_mut().zip(x).zip(ct).zip(of_row)
            {
                *dx = (ct - a - (x - m) * b) * s;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu::Cpu;

    /// Rows far from 0, of every way they lie in memory, against the formula, element by element.
    #[test]
    fn rows_are_normalized_as_by_the_formula() {
        let large: &[[usize; 3]] = &[[200, 70, 1], [1, 5000, 2], [64, 3, 2], [600, 7, 2]];
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
                let (period, unit) = of.period();
                // Units apart, the last one first, have the bits of all at once.
                let cut = unit.min(period);
                for (y, slope) in [(&mut y, false), (&mut dx, true)] {
                    let mut whole = vec![f64::NAN; len];
                    let (first, rest) = Runs::new(y, period).split_at(cut);
                    let all = [rest, first, Runs::new(&mut whole, period)];
                    all.into_iter().for_each(|y| match slope {
                        true => of.slope(&x, &ct, y),
                        false => of.value(&x, y),
                    });
                    assert!(*y == whole, "{cpu:?} {of:?}");
                }
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
