//! Conjugate gradients on a quadratic model, given by products with its Hessian, which stop early:
//! at the edge of a ball, at negative curvature, or when the residual is small enough.

use crate::error::Result;
use crate::kernel::update::all_finite;
use crate::kernel::vector::{add_scaled, dot, max_norm, scale, scaled};
use crate::scalar::Scalar;

/// The product of the model's Hessian with the first vector, into the second.
pub(super) type Product<'a, T> = &'a mut dyn FnMut(&[T], &mut [T]) -> Result<()>;

/// Memory for the step and three vectors beside it.
pub(super) struct Work<'a, T> {
    /// The step, when it is found.
    pub(super) p: &'a mut [T],
    pub(super) residual: &'a mut [T],
    pub(super) d: &'a mut [T],
    pub(super) hd: &'a mut [T],
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ended {
    /// The residual ‖g + Hp‖ is as small as asked for, or there were enough products.
    Inside,
    /// At the edge of the ball.
    Edge,
    /// At a direction along which the model has no minimum, in a ball without an edge.
    NegativeCurvature,
    /// At a product or a step that is not finite.
    NotFinite,
}

/// Makes m(p) = gᵀp + ½pᵀHp small over ‖p‖ ≤ radius, from p = 0 (Steihaug 1983, Toint 1981): the
/// edge is where the path leaves the ball, or where a direction of negative curvature does. With an
/// infinite radius it stays where such a direction came up, at p = 0 if it was the first.
pub(super) fn truncated_cg<T: Scalar>(
    product: Product<'_, T>,
    g: &[T],
    radius: f64,
    tolerance: f64,
    max_products: usize,
    work: &mut Work<'_, T>,
) -> Result<Ended> {
    // In units in which squares neither overflow nor vanish: ‖g‖∞ and the radius are 1.
    let (slope, length) = (max_norm(g), if radius.is_finite() { radius } else { 1.0 });
    scaled(work.residual, 1.0 / slope, g);
    let mut in_units = |d: &[T], hd: &mut [T]| {
        product(d, hd)?;
        scale(hd, length / slope);
        Ok(())
    };
    let ended = iterate(&mut in_units, radius / length, tolerance, max_products, work)?;
    scale(work.p, length);
    scale(work.residual, slope);
    Ok(if all_finite(work.p) { ended } else { Ended::NotFinite })
}

/// As [`truncated_cg`], with g in the residual's place.
fn iterate<T: Scalar>(
    product: Product<'_, T>,
    radius: f64,
    tolerance: f64,
    max_products: usize,
    work: &mut Work<'_, T>,
) -> Result<Ended> {
    let Work { p, residual: r, d, hd } = work;
    p.fill(T::zero());
    scaled(d, -1.0, r);
    let mut rr = dot(r, r);
    let enough = tolerance * tolerance * rr;
    for _ in 0..max_products {
        if rr <= enough {
            break;
        }
        product(d, hd)?;
        if !all_finite(hd) {
            return Ok(Ended::NotFinite);
        }
        let (curvature, dd) = (dot(d, hd), dot(d, d));
        let convex = curvature > T::EPSILON * max_norm(d) * max_norm(hd);
        if !convex && radius == f64::INFINITY {
            return Ok(Ended::NegativeCurvature);
        }
        let alpha = rr / curvature;
        let (pp, pd) = (dot(p, p), dot(p, d));
        let leaves = pp + alpha * (2.0 * pd + alpha * dd) >= radius * radius;
        if !convex || leaves {
            // The positive root of ‖p + τd‖ = radius, of two forms the one without cancellation.
            let missing = (radius * radius - pp).max(0.0);
            let root = (pd * pd + dd * missing).sqrt();
            let tau = if pd > 0.0 { missing / (pd + root) } else { (root - pd) / dd };
            add_scaled(p, tau, d);
            add_scaled(r, tau, hd);
            return Ok(Ended::Edge);
        }
        add_scaled(p, alpha, d);
        add_scaled(r, alpha, hd);
        let before = std::mem::replace(&mut rr, dot(r, r));
        scale(d, rr / before);
        add_scaled(d, -1.0, r);
    }
    Ok(Ended::Inside)
}

impl<T: Scalar> Work<'_, T> {
    /// m(p), by the residual g + Hp.
    pub(super) fn model(&self, g: &[T]) -> f64 {
        0.5 * (dot(g, self.p) + dot(self.residual, self.p))
    }
}

/// How small the residual has to be relative to ‖g‖, so that steps end up converging faster than
/// linearly (Nocedal and Wright 2006, section 7.1), whatever the units of the loss.
pub(super) fn forcing(gradient_norm: f64, first_norm: f64) -> f64 {
    (gradient_norm / first_norm).sqrt().min(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H = diag(h), and what comes of it: how it ended, p, and m(p).
    fn run(h: &[f64], g: &[f64], radius: f64) -> (Ended, Vec<f64>, f64, usize) {
        let mut memory = vec![0.0; 4 * g.len()];
        let [p, residual, d, hd] = super::super::descent::pieces(&mut memory, g.len());
        let mut work = Work { p, residual, d, hd };
        let mut products = 0;
        let mut product = |v: &[f64], out: &mut [f64]| {
            products += 1;
            out.iter_mut().zip(v.iter().zip(h)).for_each(|(o, (v, h))| *o = v * h);
            Ok(())
        };
        let ended = truncated_cg(&mut product, g, radius, 1e-12, 100, &mut work).unwrap();
        let model = work.model(g);
        (ended, work.p.to_vec(), model, products)
    }

    #[test]
    fn as_many_products_as_variables_minimize_a_parabola() {
        let (h, g) = ([1.0, 10.0, 100.0, 4.0], [1.0, -2.0, 3.0, 5.0]);
        let (ended, p, model, products) = run(&h, &g, f64::INFINITY);
        assert_eq!((ended, products), (Ended::Inside, 4));
        let want: Vec<f64> = g.iter().zip(h).map(|(g, h)| -g / h).collect();
        assert!(p.iter().zip(&want).all(|(p, want)| (p - want).abs() < 1e-12), "{p:?}");
        let least: f64 = g.iter().zip(h).map(|(g, h)| -0.5 * g * g / h).sum();
        assert!((model - least).abs() < 1e-12, "{model} {least}");
    }

    #[test]
    fn the_edge_is_reached_exactly() {
        for (h, radius) in [([1.0, 10.0, 100.0], 0.1), ([1.0, -3.0, 2.0], 5.0), ([-1.0; 3], 1e-3)] {
            let g = [1.0, -2.0, 3.0];
            let (ended, p, model, _) = run(&h, &g, radius);
            assert_eq!(ended, Ended::Edge);
            assert!((dot(&p, &p).sqrt() / radius - 1.0).abs() < 1e-12);
            let direct: f64 = (0..3).map(|i| g[i] * p[i] + 0.5 * h[i] * p[i] * p[i]).sum();
            assert!((model - direct).abs() < 1e-12 * direct.abs() && direct < 0.0);
        }
    }

    #[test]
    fn other_ends() {
        let (ended, p, ..) = run(&[-1.0, 1.0], &[1.0, 0.0], f64::INFINITY);
        assert_eq!((ended, p), (Ended::NegativeCurvature, vec![0.0, 0.0]));
        assert_eq!(run(&[f64::NAN, 1.0], &[1.0, 1.0], 1.0).0, Ended::NotFinite);
        let (ended, p, model, _) = run(&[1e290, 3e290], &[1e285, -2e285], 1e-3);
        assert_eq!(ended, Ended::Inside);
        assert!((p[0] * 1e5 + 1.0).abs() < 1e-12 && model < 0.0 && model.is_finite());
    }
}
