//! Where the largest or smallest element along an axis is.

use super::{LANES, around};
use crate::kernel::cpu::multiversion;
use crate::scalar::{Index, Scalar};
use crate::shape::Shape;

/// Which element is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extremum {
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// The position along `axis` of the largest or smallest element of `x`: the first of equals; the
/// first NaN if there is one, as in NumPy. `y` has the other axes. The axis has at least one
/// element, and no more than an [`Index`] counts.
pub(crate) fn arg_reduce<T: Scalar>(
    which: Extremum,
    shape: &Shape,
    axis: usize,
    x: &[T],
    y: &mut [Index],
) {
    let (lanes, n, _) = around(shape, axis);
    debug_assert!(y.is_empty() || n > 0, "{which:?} of {shape}");
    if x.is_empty() {
        return;
    }
    for (x, y) in x.chunks_exact(lanes * n).zip(y.chunks_exact_mut(lanes)) {
        for (block, y) in y.chunks_mut(LANES).enumerate() {
            let x = &x[block * LANES..];
            match which {
                Extremum::Max => arg_rows(|a: T, b: T| a > b, x, lanes, n, y),
                Extremum::Min => arg_rows(|a: T, b: T| a < b, x, lanes, n, y),
            }
        }
    }
}

multiversion! {
    /// Walks down `n` rows, `stride` apart, as many lanes wide as `y` is long.
    fn arg_rows<T: Scalar, F: Fn(T, T) -> bool>(
        beats: F, x: &[T], stride: usize, n: usize, y: &mut [Index]
    ) {
        let width = y.len();
        let best = &mut [T::zero(); LANES][..width];
        best.copy_from_slice(&x[..width]);
        y.fill(0);
        for r in 1..n {
            let row = &x[r * stride..][..width];
            for i in 0..width {
                let (new, old) = (row[i], best[i]);
                let wins = beats(new, old) | (new.is_nan() & !old.is_nan());
                best[i] = if wins { new } else { old };
                y[i] = if wins { r as Index } else { y[i] };
            }
        }
    }
}
