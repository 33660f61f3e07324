//! Singular values by Jacobi rotations (Golub, Van Loan 2013, section 8.6.3): in place and accurate,
//! where nalgebra's and LAPACK's ways need more memory.

use super::SWEEPS;
use super::rotation::{columns, identity, rotate, sort, swap};
use crate::kernel::vector::{add_scaled, dot, scale};
use crate::scalar::Scalar;

/// The singular values of the m × n matrix A, m ≥ n, descending, with the left vectors in place of
/// A and the right ones in the columns of `v`. Whether it converged.
pub(crate) fn svd<T: Scalar>(m: usize, n: usize, a: &mut [T], s: &mut [T], v: &mut [T]) -> bool {
    identity(n, v);
    let size = a.iter().fold(T::zero(), |m, x| m.max(x.abs()));
    if size > T::zero() {
        a.iter_mut().for_each(|x| *x /= size);
    }
    let tolerance = 4.0 * T::EPSILON * (m as f64).sqrt();
    let converged = (0..SWEEPS).any(|_| !svd_sweep((m, n), a, s, v, tolerance));
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

/// Whether any rotation was needed. `squares` is scratch of length n: the squares of the columns'
/// lengths, which rotations change without another sum. In the sweep that needs none they are exact.
fn svd_sweep<T: Scalar>(
    (m, n): (usize, usize),
    a: &mut [T],
    squares: &mut [T],
    v: &mut [T],
    tolerance: f64,
) -> bool {
    let mut rotated = false;
    for (square, column) in squares.iter_mut().zip(a.chunks_exact(m.max(1))) {
        *square = T::lit(dot(column, column));
    }
    for (p, q) in pairs(n) {
        let (ap, aq) = columns(m, a, p, q);
        let (pp, qq, pq) = (squares[p].to_f64(), squares[q].to_f64(), dot(ap, aq));
        // Of columns so short no direction is kept.
        let is_short = pp.min(qq) <= T::EPSILON.powi(4);
        if is_short || pq.abs() <= tolerance * pp.sqrt() * qq.sqrt() {
            continue;
        }
        rotated = true;
        let (c, s, t) = rotation((qq - pp) / (2.0 * pq));
        rotate(ap, aq, c, s);
        squares[p] = T::lit((pp - t * pq).max(0.0));
        squares[q] = T::lit(qq + t * pq);
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
fn rotation<T: Scalar>(cot: f64) -> (T, T, f64) {
    let t = 1f64.copysign(cot) / (cot.abs() + cot.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    (T::lit(c), T::lit(c * t), t)
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |p| (p + 1..n).map(move |q| (p, q)))
}
