//! Symmetric eigenvalues and singular values by Jacobi rotations (Golub, Van Loan 2013, sections
//! 8.5 and 8.6.3): in place and accurate, where nalgebra's and LAPACK's ways need more memory.

use crate::kernel::vector::{add_scaled, dot, scale};
use crate::scalar::Scalar;

/// Rounds over all pairs of columns; convergence is quadratic and takes about ten.
pub(crate) const SWEEPS: usize = 60;

/// The eigenvalues of the symmetric n × n matrix A, ascending, and in the columns of `v` its
/// eigenvectors. A is used up. Whether it converged.
pub(crate) fn eigh<T: Scalar>(n: usize, a: &mut [T], v: &mut [T], w: &mut [T]) -> bool {
    identity(n, v);
    let size = a.iter().fold(0.0, |m: f64, x| m.max(x.to_f64().abs()));
    let negligible = T::lit(T::EPSILON * size / n as f64);
    let converged = (0..SWEEPS).any(|_| !eigh_sweep(n, a, v, negligible));
    (0..n).for_each(|k| w[k] = a[k + k * n]);
    sort(w, |a, b| a < b, |i, j| swap(n, v, i, j));
    converged
}

/// Whether any rotation was needed.
fn eigh_sweep<T: Scalar>(n: usize, a: &mut [T], v: &mut [T], negligible: T) -> bool {
    let mut rotated = false;
    for (p, q) in pairs(n) {
        let off = a[p + q * n];
        if off.abs() <= negligible {
            continue;
        }
        rotated = true;
        let (app, aqq) = (a[p + p * n], a[q + q * n]);
        let (c, s, t) = rotation(((aqq - app) / (off + off)).to_f64());
        let (ap, aq) = columns(n, a, p, q);
        rotate(ap, aq, c, s);
        for k in 0..n {
            a[p + k * n] = a[k + p * n];
            a[q + k * n] = a[k + q * n];
        }
        a[p + p * n] = app - t * off;
        a[q + q * n] = aqq + t * off;
        a[p + q * n] = T::zero();
        a[q + p * n] = T::zero();
        let (vp, vq) = columns(n, v, p, q);
        rotate(vp, vq, c, s);
    }
    rotated
}

/// The singular values of the m × n matrix A, m ≥ n, descending, with the left vectors in place of
/// A and the right ones in the columns of `v`. Whether it converged.
pub(crate) fn svd<T: Scalar>(m: usize, n: usize, a: &mut [T], s: &mut [T], v: &mut [T]) -> bool {
    identity(n, v);
    let size = a.iter().fold(T::zero(), |m, x| m.max(x.abs()));
    if size > T::zero() {
        a.iter_mut().for_each(|x| *x /= size);
    }
    let tolerance = 4.0 * T::EPSILON * (m as f64).sqrt();
    let converged = (0..SWEEPS).any(|_| !svd_sweep(m, n, a, v, tolerance));
    for (s, column) in s.iter_mut().zip(a.chunks_exact(m.max(1))) {
        *s = T::lit(dot(column, column).sqrt());
    }
    sort(
        s,
        |a, b| a > b,
        |i, j| {
            swap(m, a, i, j);
            swap(n, v, i, j);
        },
    );
    for (k, s) in s.iter_mut().enumerate() {
        let (before, column) = a.split_at_mut(k * m);
        let column = &mut column[..m];
        if s.to_f64() > T::EPSILON * T::EPSILON {
            scale(column, 1.0 / s.to_f64());
        } else {
            complete(m, before, column);
        }
        *s *= size;
    }
    converged
}

/// Whether any rotation was needed.
fn svd_sweep<T: Scalar>(m: usize, n: usize, a: &mut [T], v: &mut [T], tolerance: f64) -> bool {
    let mut rotated = false;
    for (p, q) in pairs(n) {
        let (ap, aq) = columns(m, a, p, q);
        let (pp, qq, pq) = (dot(ap, ap), dot(aq, aq), dot(ap, aq));
        if pq.abs() <= tolerance * pp.sqrt() * qq.sqrt() {
            continue;
        }
        rotated = true;
        let (c, s, _) = rotation((qq - pp) / (2.0 * pq));
        rotate(ap, aq, c, s);
        let (vp, vq) = columns(n, v, p, q);
        rotate(vp, vq, c, s);
    }
    rotated
}

/// A unit vector orthogonal to the columns before it, of which there are fewer than m.
fn complete<T: Scalar>(m: usize, before: &[T], column: &mut [T]) {
    for axis in 0..m {
        column.fill(T::zero());
        column[axis] = T::one();
        // Once more, for what rounding leaves of the first time (Kahan: twice is enough).
        for other in before.chunks_exact(m).chain(before.chunks_exact(m)) {
            let along = dot(other, column);
            add_scaled(column, -along, other);
        }
        let left = dot(column, column);
        // Of the m axes one keeps at least 1/m of its square.
        if left * 2.0 * m as f64 > 1.0 {
            scale(column, 1.0 / left.sqrt());
            return;
        }
    }
}

/// Cosine, sine and tangent of the smaller angle whose double has this cotangent.
fn rotation<T: Scalar>(cot: f64) -> (T, T, T) {
    let t = 1f64.copysign(cot) / (cot.abs() + cot.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    (T::lit(c), T::lit(c * t), T::lit(t))
}

fn rotate<T: Scalar>(x: &mut [T], y: &mut [T], c: T, s: T) {
    for (x, y) in x.iter_mut().zip(y) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |p| (p + 1..n).map(move |q| (p, q)))
}

/// Columns p < q of a matrix of m rows.
fn columns<T>(m: usize, a: &mut [T], p: usize, q: usize) -> (&mut [T], &mut [T]) {
    let (left, right) = a.split_at_mut(q * m);
    (&mut left[p * m..][..m], &mut right[..m])
}

fn swap<T>(m: usize, a: &mut [T], i: usize, j: usize) {
    let (x, y) = columns(m, a, i.min(j), i.max(j));
    x.swap_with_slice(y);
}

/// Sorts by selection, which exchanges least: `swap` moves what belongs to the keys.
fn sort<T: Copy>(
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

fn identity<T: Scalar>(n: usize, v: &mut [T]) {
    v.fill(T::zero());
    (0..n).for_each(|k| v[k + k * n] = T::one());
}
