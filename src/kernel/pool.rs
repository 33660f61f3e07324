//! Largest numbers and means in windows over two axes, and their adjoints, channel by channel.
//! Samples are neighbors in memory, so every loop runs along them. Knows no tapes.

use crate::Scalar;
use crate::kernel::cpu::multiversion;
use crate::kernel::window::Axis;

/// Windows over the rows and columns of one channel, without dilation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pool {
    pub batch: usize,
    pub rows: Axis,
    pub columns: Axis,
    /// Whether a mean counts the zeros of the border.
    pub count_border: bool,
}

impl Pool {
    /// Numbers in one channel of x, and of y.
    pub(crate) fn channels(&self) -> (usize, usize) {
        let n = |rows, columns| self.batch * rows * columns;
        (n(self.rows.input, self.columns.input), n(self.rows.output, self.columns.output))
    }

    /// Where the samples of each window begin in y.
    #[inline(always)]
    fn windows(&self) -> impl Iterator<Item = (usize, (usize, usize))> {
        let Pool { batch, rows, columns, .. } = *self;
        (0..columns.output).flat_map(move |j| {
            (0..rows.output).map(move |i| ((i + rows.output * j) * batch, (i, j)))
        })
    }

    /// Where the samples of each tap of a window begin in x, row by row, without the border.
    #[inline(always)]
    fn taps(&self, (i, j): (usize, usize)) -> impl Iterator<Item = usize> {
        let Pool { batch, rows, columns, .. } = *self;
        let seen = columns.inputs_of(j);
        rows.inputs_of(i).flat_map(move |row| {
            seen.clone().map(move |column| (row + rows.input * column) * batch)
        })
    }

    /// What the sum over a window is divided by.
    #[inline(always)]
    fn count<T: Scalar>(&self, at: (usize, usize)) -> T {
        T::lit(match self.count_border {
            true => self.rows.taps * self.columns.taps,
            false => self.taps(at).count(),
        } as f64)
    }

    /// The first largest numbers of a window for N samples from `from` on, and the taps with them.
    #[inline(always)]
    fn largest<T: Scalar, const N: usize>(
        &self,
        x: &[T],
        at: (usize, usize),
        from: usize,
    ) -> ([T; N], [T; N]) {
        let (mut best, mut place) = ([-T::infinity(); N], [T::zero(); N]);
        for (tap, start) in self.taps(at).enumerate() {
            let (tap, x) = (T::lit(tap as f64), &x[start + from..][..N]);
            for i in 0..N {
                let better = exceeds(x[i], best[i]);
                best[i] = if better { x[i] } else { best[i] };
                place[i] = if better { tap } else { place[i] };
            }
        }
        (best, place)
    }

    /// Whether every number of x is in one window, no more and no less.
    fn tiles(&self) -> bool {
        [self.rows, self.columns].iter().all(|axis| {
            axis.stride == axis.taps && axis.before == 0 && axis.output * axis.taps == axis.input
        })
    }
}

/// Runs over all samples, so many at a time that what is known of them stays in vector registers,
/// then fewer, then one by one.
macro_rules! each_chunk {
    ($batch:expr, |$from:ident, $N:ident| $body:block) => {
        let mut $from = 0;
        {
            const $N: usize = 64;
            while $from + $N <= $batch {
                $body
                $from += $N;
            }
        }
        {
            const $N: usize = 32;
            while $from + $N <= $batch {
                $body
                $from += $N;
            }
        }
        {
            const $N: usize = 8;
            while $from + $N <= $batch {
                $body
                $from += $N;
            }
        }
        {
            const $N: usize = 1;
            while $from < $batch {
                $body
                $from += $N;
            }
        }
    };
}

/// Whether x is taken rather than an earlier number: it is larger, or the first that is NaN.
#[allow(clippy::neg_cmp_op_on_partial_ord)] // so that it holds for NaN
#[inline(always)]
fn exceeds<T: Scalar>(x: T, best: T) -> bool {
    !(x <= best) & !best.is_nan()
}

multiversion! {
    /// y = the largest number in each window of x; NaN if there is one.
    pub(crate) fn max<T: Scalar>(p: &Pool, x: &[T], y: &mut [T]) {
        for (out, at) in p.windows() {
            each_chunk!(p.batch, |from, N| {
                let (best, _) = p.largest::<T, N>(x, at, from);
                y[out + from..][..N].copy_from_slice(&best);
            });
        }
    }
}

multiversion! {
    /// y = u, an image like x, where x has the first largest number of each window.
    pub(crate) fn max_take<T: Scalar>(p: &Pool, x: &[T], u: &[T], y: &mut [T]) {
        for (out, at) in p.windows() {
            each_chunk!(p.batch, |from, N| {
                let (_, place) = p.largest::<T, N>(x, at, from);
                let y = &mut y[out + from..][..N];
                for (tap, start) in p.taps(at).enumerate() {
                    let (tap, u) = (T::lit(tap as f64), &u[start + from..][..N]);
                    for i in 0..N {
                        y[i] = if place[i] == tap { u[i] } else { y[i] };
                    }
                }
            });
        }
    }
}

multiversion! {
    /// dx = zeros, and each dy added where x has the first largest number of its window.
    pub(crate) fn max_add<T: Scalar>(p: &Pool, x: &[T], dy: &[T], dx: &mut [T]) {
        let tiles = p.tiles();
        if !tiles {
            dx.fill(T::zero());
        }
        for (out, at) in p.windows() {
            each_chunk!(p.batch, |from, N| {
                let (_, place) = p.largest::<T, N>(x, at, from);
                let mut ct = [T::zero(); N];
                ct.copy_from_slice(&dy[out + from..][..N]);
                for (tap, start) in p.taps(at).enumerate() {
                    let (tap, dx) = (T::lit(tap as f64), &mut dx[start + from..][..N]);
                    let mut share = [T::zero(); N];
                    for i in 0..N {
                        share[i] = if place[i] == tap { ct[i] } else { T::zero() };
                    }
                    if tiles {
                        dx.copy_from_slice(&share);
                    } else {
                        dx.iter_mut().zip(&share).for_each(|(dx, &share)| *dx += share);
                    }
                }
            });
        }
    }
}

multiversion! {
    /// y = the mean of each window of x.
    pub(crate) fn mean<T: Scalar>(p: &Pool, x: &[T], y: &mut [T]) {
        for (out, at) in p.windows() {
            let (y, count) = (&mut y[out..][..p.batch], p.count::<T>(at));
            y.fill(T::zero());
            for start in p.taps(at) {
                y.iter_mut().zip(&x[start..]).for_each(|(y, &x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y /= count);
        }
    }
}

multiversion! {
    /// dx = zeros, and each dy added to its window in equal parts.
    pub(crate) fn mean_add<T: Scalar>(p: &Pool, dy: &[T], dx: &mut [T]) {
        dx.fill(T::zero());
        for (out, at) in p.windows() {
            let (dy, count) = (&dy[out..][..p.batch], p.count::<T>(at));
            for start in p.taps(at) {
                dx[start..].iter_mut().zip(dy).for_each(|(dx, &dy)| *dx += dy / count);
            }
        }
    }
}
