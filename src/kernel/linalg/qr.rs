//! QR factors by Householder reflections, with LAPACK's signs (`geqr2`, `org2r`).

use crate::kernel::vector::{add_scaled, dot, scale};
use crate::scalar::Scalar;

/// Q, of orthonormal columns, in place of the m × n matrix A, m ≥ n, and the upper triangular
/// n × n R of A = Q·R. `tau` is scratch of length n.
pub(crate) fn qr<T: Scalar>(m: usize, n: usize, a: &mut [T], r: &mut [T], tau: &mut [T]) {
    r.fill(T::zero());
    for k in 0..n {
        let (left, right) = a.split_at_mut((k + 1) * m);
        let column = &mut left[k * m..];
        tau[k] = reflection(&mut column[k..]);
        r[k * n..][..=k].copy_from_slice(&column[..=k]);
        right
            .chunks_exact_mut(m)
            .for_each(|next| reflect(tau[k], &column[k + 1..], &mut next[k..]));
    }
    for k in (0..n).rev() {
        let (left, right) = a.split_at_mut((k + 1) * m);
        let column = &mut left[k * m..];
        right
            .chunks_exact_mut(m)
            .for_each(|next| reflect(tau[k], &column[k + 1..], &mut next[k..]));
        column[..k].fill(T::zero());
        column[k] = T::one() - tau[k];
        scale(&mut column[k + 1..], -tau[k].to_f64());
    }
}

/// The upper triangular R of A·P = Q·R in the upper triangle of A, an m × n matrix of any rank, and
/// Qᵀ·b in place of b. Each pivot is the column of which most is left (Businger, Golub 1965), so
/// the diagonal of R falls in size; `order[k]` is the column that came to place k. `norms` is
/// scratch of length 2n. What is left is updated as in LAPACK's `geqp3`.
pub(crate) fn qr_pivoted(
    (m, n): (usize, usize),
    a: &mut [f64],
    b: &mut [f64],
    order: &mut [usize],
    norms: &mut [f64],
) {
    let (left, known) = norms.split_at_mut(n);
    for (j, order) in order.iter_mut().enumerate() {
        *order = j;
        left[j] = norm(&a[j * m..][..m]);
        known[j] = left[j];
    }
    for k in 0..m.min(n) {
        let longer = |best: usize, j: usize| if left[j] > left[best] { j } else { best };
        let pivot = (k..n).fold(k, longer);
        if pivot != k {
            let (before, from) = a.split_at_mut(pivot * m);
            before[k * m..][..m].swap_with_slice(&mut from[..m]);
            order.swap(k, pivot);
            left.swap(k, pivot);
            known.swap(k, pivot);
        }
        let (before, rest) = a.split_at_mut((k + 1) * m);
        let column = &mut before[k * m..];
        let tau = reflection(&mut column[k..]);
        reflect(tau, &column[k + 1..], &mut b[k..]);
        for (j, next) in (k + 1..n).zip(rest.chunks_exact_mut(m)) {
            reflect(tau, &column[k + 1..], &mut next[k..]);
            if left[j] == 0.0 {
                continue;
            }
            let kept = (1.0 - (next[k] / left[j]).powi(2)).max(0.0);
            match kept * (left[j] / known[j]).powi(2) > f64::EPSILON.sqrt() {
                true => left[j] *= kept.sqrt(),
                false => {
                    left[j] = norm(&next[k + 1..]);
                    known[j] = left[j];
                }
            }
        }
    }
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

/// The reflection 1 − τ(1, v)(1, v)ᵀ that maps x to (β, 0): β and v in place of x, and τ.
pub(super) fn reflection<T: Scalar>(x: &mut [T]) -> T {
    let Some((alpha, tail)) = x.split_first_mut() else { return T::zero() };
    let size = tail.iter().fold(T::zero(), |m, x| m.max(x.abs()));
    if size == T::zero() {
        return T::zero();
    }
    // Squares of numbers up to 1 neither overflow nor lose what matters to underflow.
    let size = size.max(alpha.abs());
    tail.iter_mut().for_each(|x| *x /= size);
    let first = (*alpha / size).to_f64();
    let norm = (first * first + dot(tail, tail)).sqrt();
    let beta = -norm.copysign(first);
    scale(tail, 1.0 / (first - beta));
    *alpha = T::lit(beta) * size;
    T::lit((beta - first) / beta)
}

/// x less its part along the reflection's vector (1, v), twice.
pub(super) fn reflect<T: Scalar>(tau: T, v: &[T], x: &mut [T]) {
    if let Some((first, tail)) = x.split_first_mut() {
        let along = tau.to_f64() * (first.to_f64() + dot(v, tail));
        *first -= T::lit(along);
        add_scaled(tail, -along, v);
    }
}
