//! Largest numbers and means in windows over two axes, and their adjoints, channel by channel.
//! Samples are neighbors in memory, so every loop runs along them. Knows no tapes.

use crate::Scalar;
use crate::kernel::cpu::multiversion;
use crate::kernel::window::Axis;

/// Windows over the rows and columns of one channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pool {
    pub batch: usize,
    pub rows: Axis,
    pub columns: Axis,
    /// Whether a mean counts the zeros of the border.
    pub count_border: bool,
}

/// Samples whose places are found at a time.
const CHUNK: usize = 64;

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
        (0..rows.taps).filter_map(move |p| rows.input_of(i, p)).flat_map(move |row| {
            (0..columns.taps)
                .filter_map(move |q| columns.input_of(j, q))
                .map(move |column| (row + rows.input * column) * batch)
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

    /// The tap that holds the first largest number, of up to [`CHUNK`] samples from `from` on.
    #[inline(always)]
    fn places<T: Scalar>(&self, x: &[T], at: (usize, usize), from: usize, place: &mut [T]) {
        let mut best = [-T::infinity(); CHUNK];
        place.fill(T::zero());
        for (tap, start) in self.taps(at).enumerate() {
            let (tap, x) = (T::lit(tap as f64), &x[start + from..][..place.len()]);
            for ((best, place), &x) in best.iter_mut().zip(&mut *place).zip(x) {
                let better = exceeds(x, *best);
                *best = if better { x } else { *best };
                *place = if better { tap } else { *place };
            }
        }
    }
}

/// Whether x is taken rather than an earlier number: it is larger, or the first that is NaN.
#[inline(always)]
fn exceeds<T: Scalar>(x: T, best: T) -> bool {
    (x > best) | (x.is_nan() & !best.is_nan())
}

multiversion! {
    /// y = the largest number in each window of x; NaN if there is one.
    pub(crate) fn max<T: Scalar>(p: &Pool, x: &[T], y: &mut [T]) {
        for (out, at) in p.windows() {
            let y = &mut y[out..][..p.batch];
            y.fill(-T::infinity());
            for start in p.taps(at) {
                for (y, &x) in y.iter_mut().zip(&x[start..]) {
                    *y = if exceeds(x, *y) { x } else { *y };
                }
            }
        }
    }
}

multiversion! {
    /// y = u, an image like x, where x has the first largest number of each window.
    pub(crate) fn max_take<T: Scalar>(p: &Pool, x: &[T], u: &[T], y: &mut [T]) {
        for (out, at) in p.windows() {
            for (n, y) in y[out..][..p.batch].chunks_mut(CHUNK).enumerate() {
                let mut place = [T::zero(); CHUNK];
                let place = &mut place[..y.len()];
                p.places(x, at, n * CHUNK, place);
                for (tap, start) in p.taps(at).enumerate() {
                    let tap = T::lit(tap as f64);
                    let u = &u[start + n * CHUNK..];
                    for ((y, &place), &u) in y.iter_mut().zip(&*place).zip(u) {
                        *y = if place == tap { u } else { *y };
                    }
                }
            }
        }
    }
}

multiversion! {
    /// dx = zeros, and each dy added where x has the first largest number of its window.
    pub(crate) fn max_add<T: Scalar>(p: &Pool, x: &[T], dy: &[T], dx: &mut [T]) {
        dx.fill(T::zero());
        for (out, at) in p.windows() {
            for (n, dy) in dy[out..][..p.batch].chunks(CHUNK).enumerate() {
                let mut place = [T::zero(); CHUNK];
                let place = &mut place[..dy.len()];
                p.places(x, at, n * CHUNK, place);
                for (tap, start) in p.taps(at).enumerate() {
                    let tap = T::lit(tap as f64);
                    let dx = &mut dx[start + n * CHUNK..];
                    for ((dx, &place), &dy) in dx.iter_mut().zip(&*place).zip(dy) {
                        *dx += if place == tap { dy } else { T::zero() };
                    }
                }
            }
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
