//! Symmetric eigenvalues by reduction to a tridiagonal matrix and implicit QL steps (Golub, Van Loan
//! 2013, sections 8.3.1 and 8.3.5; `tred2` and `tql2` of EISPACK), in place.

use super::SWEEPS;
use super::qr::{reflect, reflection};
use super::rotation::{columns, identity, rotate, sort, swap};
use crate::kernel::vector::{add_scaled, dot};
use crate::scalar::Scalar;

/// The eigenvalues of the symmetric n × n matrix A, ascending, and in the columns of `v` its
/// eigenvectors. Of A the lower triangle is read; all of it is used up. Whether it converged.
pub(crate) fn eigh<T: Scalar>(n: usize, a: &mut [T], v: &mut [T], w: &mut [T]) -> bool {
    identity(n, v);
    let size = a.iter().fold(T::zero(), |m, x| m.max(x.abs()));
    if size > T::zero() {
        a.iter_mut().for_each(|x| *x /= size);
    }
    tridiagonalize(n, a, v, w);
    (0..n).for_each(|k| w[k] = a[k + k * n]);
    // The reflections are done with: the elements below the diagonal come to the front.
    (1..n).for_each(|k| a[k - 1] = a[k + (k - 1) * n]);
    let converged = (0..n).all(|l| ql(n, l, w, &mut a[..n], v));
    sort(w, |a, b| a < b, |i, j| swap(n, v, i, j));
    w.iter_mut().for_each(|w| *w *= size);
    converged
}

/// A ← Qᵀ·A·Q, of which the diagonal and what is below it are left, and Q in place of the identity
/// in `v`. `p` is scratch.
fn tridiagonalize<T: Scalar>(n: usize, a: &mut [T], v: &mut [T], p: &mut [T]) {
    for k in 0..n.saturating_sub(2) {
        let (left, right) = a.split_at_mut((k + 1) * n);
        let column = &mut left[k * n..];
        let tau = reflection(&mut column[k + 1..]);
        // Above the diagonal nothing is read.
        right[k] = tau;
        if tau == T::zero() {
            continue;
        }
        let below = std::mem::replace(&mut column[k + 1], T::one());
        let u = &column[k + 1..];
        let (p, rest) = (&mut p[k + 1..n], right.chunks_exact_mut(n).enumerate());
        // p = A·u, of the lower triangle.
        p.fill(T::zero());
        for (j, next) in rest {
            let next = &next[k + 1 + j..];
            p[j] += T::lit(dot(&next[1..], &u[j + 1..]));
            add_scaled(&mut p[j..], u[j].to_f64(), next);
        }
        // A − u·qᵀ − q·uᵀ for q = τp − (τ²/2)(pᵀu)u
        let tau = tau.to_f64();
        let along = 0.5 * tau * tau * dot(p, u);
        for (q, &u) in p.iter_mut().zip(u) {
            *q = T::lit(tau * q.to_f64() - along * u.to_f64());
        }
        for (j, next) in right.chunks_exact_mut(n).enumerate() {
            let next = &mut next[k + 1 + j..];
            add_scaled(next, -p[j].to_f64(), &u[j..]);
            add_scaled(next, -u[j].to_f64(), &p[j..]);
        }
        column[k + 1] = below;
    }
    for k in (0..n.saturating_sub(2)).rev() {
        let (tau, tail) = (a[k + (k + 1) * n], &a[k * n..][k + 2..n]);
        for column in v[(k + 1) * n..].chunks_exact_mut(n) {
            reflect(tau, tail, &mut column[k + 1..]);
        }
    }
}

/// QL steps until eigenvalue `l` of the tridiagonal matrix with diagonal `d` and `e` beside it stands
/// in `d[l]`, with the rotations done to the columns of `v`. Whether it converged.
fn ql<T: Scalar>(n: usize, l: usize, d: &mut [T], e: &mut [T], v: &mut [T]) -> bool {
    for _ in 0..SWEEPS {
        let negligible = |m: usize| {
            let beside = d[m].to_f64().abs() + d[m + 1].to_f64().abs();
            e[m].to_f64().abs() <= T::EPSILON * beside
        };
        let m = (l..n - 1).find(|&m| negligible(m)).unwrap_or(n - 1);
        if m == l {
            return true;
        }
        // Wilkinson's shift.
        let beside = e[l].to_f64();
        let half = (d[l + 1] - d[l]).to_f64() / (2.0 * beside);
        let shift = beside / (half + half.hypot(1.0).copysign(half));
        let mut g = (d[m] - d[l]).to_f64() + shift;
        let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
        let mut split = false;
        for i in (l..m).rev() {
            let (f, b) = (s * e[i].to_f64(), c * e[i].to_f64());
            let r = f.hypot(g);
            e[i + 1] = T::lit(r);
            if r == 0.0 {
                // The matrix has fallen into two.
                d[i + 1] = T::lit(d[i + 1].to_f64() - p);
                e[m] = T::zero();
                split = true;
                break;
            }
            (s, c) = (f / r, g / r);
            g = d[i + 1].to_f64() - p;
            let r = (d[i].to_f64() - g) * s + 2.0 * c * b;
            p = s * r;
            d[i + 1] = T::lit(g + p);
            g = c * r - b;
            let (left, right) = columns(n, v, i, i + 1);
            rotate(left, right, T::lit(c), T::lit(s));
        }
        if !split {
            d[l] = T::lit(d[l].to_f64() - p);
            e[l] = T::lit(g);
            e[m] = T::zero();
        }
    }
    false
}
