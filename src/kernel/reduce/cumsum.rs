//! Running sums along an axis.

use super::around;
use crate::kernel::cpu::multiversion;
use crate::scalar::Scalar;
use crate::shape::Shape;

/// How a running sum runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cumulate {
    /// From the last element to the first.
    pub reverse: bool,
    /// Each sum leaves its own element out, so that the first is 0.
    pub exclusive: bool,
}

/// y_k = Σ_{j ≤ k} x_j along `axis`, added one after another as in NumPy.
pub(crate) fn cumsum<T: Scalar>(how: Cumulate, shape: &Shape, axis: usize, x: &[T], y: &mut [T]) {
    let (lanes, n, _) = around(shape, axis);
    if x.is_empty() {
        return;
    }
    for (x, y) in x.chunks_exact(lanes * n).zip(y.chunks_exact_mut(lanes * n)) {
        if lanes == 1 {
            run(how, x, y);
        } else {
            rows(how, lanes, x, y);
        }
    }
}

fn run<T: Scalar>(how: Cumulate, x: &[T], y: &mut [T]) {
    let mut sum = T::zero();
    let mut step = |(&x, y): (&T, &mut T)| {
        let before = sum;
        sum += x;
        *y = if how.exclusive { before } else { sum };
    };
    match how.reverse {
        false => x.iter().zip(y).for_each(&mut step),
        true => x.iter().zip(y).rev().for_each(&mut step),
    }
}

multiversion! {
    /// Each row is the row before it plus a row of `x`.
    fn rows<T: Scalar>(how: Cumulate, lanes: usize, x: &[T], y: &mut [T]) {
        let n = x.len() / lanes;
        let at = |k: usize| if how.reverse { n - 1 - k } else { k } * lanes;
        let first = &mut y[at(0)..][..lanes];
        match how.exclusive {
            true => first.fill(T::zero()),
            false => first.copy_from_slice(&x[at(0)..][..lanes]),
        }
        for k in 1..n {
            let x = &x[at(if how.exclusive { k - 1 } else { k })..][..lanes];
            let (low, high) = y.split_at_mut(at(k).max(at(k - 1)));
            let (before, y) = match how.reverse {
                false => (&low[at(k - 1)..][..lanes], &mut high[..lanes]),
                true => (&high[..lanes], &mut low[at(k)..][..lanes]),
            };
            for i in 0..lanes {
                y[i] = before[i] + x[i];
            }
        }
    }
}
