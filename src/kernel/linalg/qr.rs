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

/// The reflection 1 − τ(1, v)(1, v)ᵀ that maps x to (β, 0): β and v in place of x, and τ.
fn reflection<T: Scalar>(x: &mut [T]) -> T {
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

fn reflect<T: Scalar>(tau: T, v: &[T], x: &mut [T]) {
    if let Some((first, tail)) = x.split_first_mut() {
        let along = tau.to_f64() * (first.to_f64() + dot(v, tail));
        *first -= T::lit(along);
        add_scaled(tail, -along, v);
    }
}
