//! Rotations of the columns of a matrix, and their order afterwards: what iterations for eigenvalues
//! and singular values share.

use crate::kernel::cpu::multiversion;
use crate::scalar::Scalar;

multiversion! {
    /// x ← cx − sy and y ← sx + cy
    pub(super) fn rotate<T: Scalar>(x: &mut [T], y: &mut [T], c: T, s: T) {
        for (x, y) in x.iter_mut().zip(y) {
            (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
        }
    }
}

/// Columns p < q of a matrix of m rows.
pub(super) fn columns<T>(m: usize, a: &mut [T], p: usize, q: usize) -> (&mut [T], &mut [T]) {
    let (left, right) = a.split_at_mut(q * m);
    (&mut left[p * m..][..m], &mut right[..m])
}

pub(super) fn swap<T>(m: usize, a: &mut [T], i: usize, j: usize) {
    let (x, y) = columns(m, a, i.min(j), i.max(j));
    x.swap_with_slice(y);
}

/// Sorts by selection, which exchanges least: `swap` moves what belongs to the keys.
pub(super) fn sort<T: Copy>(
    keys: &mut [T],
    before: impl Fn(T, T) -> bool,
    mut swap: impl FnMut(usize, usize),
) {
    for i in 0..keys.len() {
        let mut best = i;
        for j in i + 1..keys.len() {
            if before(keys[j], keys[best]) {
                best = j;
            }
        }
        if best != i {
            keys.swap(i, best);
            swap(i, best);
        }
    }
}

pub(super) fn identity<T: Scalar>(n: usize, v: &mut [T]) {
    v.fill(T::zero());
    (0..n).for_each(|k| v[k + k * n] = T::one());
}
