//! The triangular factor of a Jacobian with columns of length at most 1, and the steps that it
//! gives. Knows nothing of residuals, weights or units.

use crate::kernel::linalg::{cholesky, qr_pivoted};
use crate::kernel::vector::dot;

/// How the linear least-squares problem of a step is solved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Solver {
    /// QR by Householder reflections with column pivoting: about 2mn² operations, for Jacobians of
    /// any condition and rank.
    #[default]
    Qr,
    /// Cholesky of the normal equations JᵀJ: about mn² operations. Half the digits go to the
    /// condition of J, so where less than a quarter of all would be left, QR takes over.
    Normal,
}

/// R of A·P = Q·R and c = Qᵀb, for the m × n matrix A of min ‖A·q − b‖.
#[derive(Clone, Debug)]
pub(super) struct Factor {
    n: usize,
    /// R by rows, of which the first `rank` are not zero but for rounding; zeros below.
    rows: Vec<f64>,
    c: Vec<f64>,
    /// The column of A that each column of R is.
    order: Vec<usize>,
    rank: usize,
}

impl Factor {
    pub(super) fn qr((m, n): (usize, usize), mut a: Vec<f64>, b: &[f64], epsilon: f64) -> Factor {
        let (mut order, mut norms, mut qtb) = (vec![0; n], vec![0.0; 2 * n], b.to_vec());
        qr_pivoted((m, n), &mut a, &mut qtb, &mut order, &mut norms);
        let (mut rows, mut c) = (vec![0.0; n * n], vec![0.0; n]);
        for k in 0..m.min(n) {
            c[k] = qtb[k];
            for j in k..n {
                rows[k * n + j] = a[k + j * m];
            }
        }
        let least = m.max(n) as f64 * epsilon * rows.first().map_or(0.0, |r| r.abs());
        let rank = (0..m.min(n)).take_while(|&k| rows[k * n + k].abs() > least).count();
        Factor { n, rows, c, order, rank }
    }

    /// By the normal equations; `None` if they are too ill-conditioned.
    pub(super) fn normal(
        (m, n): (usize, usize),
        a: &[f64],
        b: &[f64],
        epsilon: f64,
    ) -> Option<Factor> {
        if m == 0 {
            return None;
        }
        let column = |j: usize| &a[j * m..][..m];
        let mut rows = vec![0.0; n * n];
        let mut c: Vec<f64> = (0..n).map(|j| dot(column(j), b)).collect();
        for j in 0..n {
            for i in j..n {
                rows[j * n + i] = dot(column(i), column(j));
            }
        }
        // By columns this is the lower triangle of AᵀA, and its factor is R by rows.
        cholesky(n, &mut rows).ok()?;
        let diagonal = |k: usize| rows[k * n + k];
        if (0..n).any(|k| diagonal(k) < epsilon.powf(0.25)) {
            return None;
        }
        for k in 0..n {
            c[k] /= diagonal(k);
            let known = c[k];
            (k + 1..n).for_each(|i| c[i] -= rows[k * n + i] * known);
        }
        Some(Factor { n, rows, c, order: (0..n).collect(), rank: n })
    }

    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    /// The first column of A that those before it determine, if there is one.
    pub(super) fn dependent(&self) -> Option<usize> {
        self.order.get(self.rank).copied()
    }

    /// ‖Qᵀb‖ of what A can explain.
    pub(super) fn explained(&self) -> f64 {
        norm(&self.c[..self.rank])
    }

    /// (AᵀA)⁻¹, if the rank is full.
    pub(super) fn inverse(&self) -> Option<Vec<f64>> {
        let n = self.n;
        if self.rank < n {
            return None;
        }
        // R⁻¹, column by column.
        let mut x = vec![0.0; n * n];
        for j in 0..n {
            let column = &mut x[j * n..][..n];
            column[j] = 1.0;
            solve_upper(n, &self.rows, &mut column[..=j]);
        }
        let mut inverse = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                let sum = (i.max(j)..n).map(|k| x[k * n + i] * x[k * n + j]).sum();
                inverse[self.order[i] + self.order[j] * n] = sum;
            }
        }
        Some(inverse)
    }

    /// The Gauss-Newton step: q of least ‖A·q − b‖, with zeros beyond the rank.
    pub(super) fn newton(&self, q: &mut [f64]) {
        let mut x = self.c[..self.rank].to_vec();
        solve_upper(self.n, &self.rows, &mut x);
        x.resize(self.n, 0.0);
        self.scatter(&x, q);
    }

    fn scatter(&self, x: &[f64], q: &mut [f64]) {
        self.order.iter().zip(x).for_each(|(&at, &x)| q[at] = x);
    }

    /// q of least ‖A·q − b‖² + λ‖q‖² with ‖q‖ = radius to a tenth, or the Gauss-Newton step with
    /// λ = 0 if that is not longer; λ starts from what it was (Moré 1978, section 5).
    pub(super) fn damped(&self, radius: f64, lambda: f64, q: &mut [f64]) -> f64 {
        /// How far the step's length may be from the radius.
        const SLACK: f64 = 0.1;
        const MAX_TRIALS: usize = 10;
        let n = self.n;
        let mut x = self.c[..self.rank].to_vec();
        solve_upper(n, &self.rows, &mut x);
        x.resize(n, 0.0);
        let mut length = norm(&x);
        let mut excess = length - radius;
        if excess <= SLACK * radius {
            self.scatter(&x, q);
            return 0.0;
        }
        // Newton's step on 1/‖q‖ − 1/radius from λ = 0 is a lower bound.
        let newton = |rows: &[f64], x: &[f64], length: f64, excess: f64| {
            let mut w: Vec<f64> = x.iter().map(|x| x / length).collect();
            solve_lower(n, rows, &mut w);
            excess / radius / dot(&w, &w)
        };
        let mut lower = match self.rank == n {
            true => newton(&self.rows, &x, length, excess),
            false => 0.0,
        };
        let mut gradient = vec![0.0; n];
        for (row, c) in self.rows.chunks_exact(n).zip(&self.c) {
            gradient.iter_mut().zip(row).for_each(|(g, r)| *g += r * c);
        }
        let mut upper = norm(&gradient) / radius;
        if upper == 0.0 {
            upper = f64::MIN_POSITIVE / radius.min(SLACK);
        }
        let mut lambda = lambda.max(lower).min(upper);
        if lambda == 0.0 {
            lambda = norm(&gradient) / length;
        }
        let mut damped = vec![0.0; n * n];
        for trial in 1..=MAX_TRIALS {
            if lambda == 0.0 {
                lambda = f64::MIN_POSITIVE.max(1e-3 * upper);
            }
            self.damp(lambda.sqrt(), &mut damped, &mut x);
            length = norm(&x);
            let before = std::mem::replace(&mut excess, length - radius);
            let flat = lower == 0.0 && excess <= before && before < 0.0;
            if excess.abs() <= SLACK * radius || flat || trial == MAX_TRIALS {
                break;
            }
            let correction = newton(&damped, &x, length, excess);
            match excess > 0.0 {
                true => lower = lower.max(lambda),
                false => upper = upper.min(lambda),
            }
            lambda = lower.max(lambda + correction);
        }
        self.scatter(&x, q);
        lambda
    }

    /// The factor by rows and the solution x of [R; d·1]·x = [c; 0], by Givens rotations.
    fn damp(&self, d: f64, rows: &mut [f64], x: &mut [f64]) {
        let n = self.n;
        rows.copy_from_slice(&self.rows);
        x.copy_from_slice(&self.c);
        let mut row = vec![0.0; n];
        for j in 0..n {
            // The row d·eⱼ fills up while it is rotated away; right of it stands `rest`.
            row[j..].fill(0.0);
            row[j] = d;
            let mut rest = 0.0;
            for k in j..n {
                if row[k] == 0.0 {
                    continue;
                }
                let own = &mut rows[k * n..][..n];
                let length = own[k].hypot(row[k]);
                let (cos, sin) = (own[k] / length, row[k] / length);
                for (own, row) in own[k..].iter_mut().zip(&mut row[k..]) {
                    (*own, *row) = (cos * *own + sin * *row, cos * *row - sin * *own);
                }
                (x[k], rest) = (cos * x[k] + sin * rest, cos * rest - sin * x[k]);
            }
        }
        solve_upper(n, rows, x);
    }
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

/// R⁻¹x in place of x, for the leading block of R that x has the size of.
fn solve_upper(n: usize, rows: &[f64], x: &mut [f64]) {
    for k in (0..x.len()).rev() {
        let known = dot(&rows[k * n + k + 1..k * n + x.len()], &x[k + 1..]);
        x[k] = (x[k] - known) / rows[k * n + k];
    }
}

/// R⁻ᵀx in place of x.
fn solve_lower(n: usize, rows: &[f64], x: &mut [f64]) {
    for k in 0..n {
        x[k] /= rows[k * n + k];
        let known = x[k];
        (k + 1..n).for_each(|i| x[i] -= rows[k * n + i] * known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::{DMatrix, DVector};

    fn problem(m: usize, n: usize) -> (DMatrix<f64>, DVector<f64>) {
        let mut rng = crate::Philox::new(3, 0);
        let mut random = || rng.below(2001) as f64 / 1000.0 - 1.0;
        (DMatrix::from_fn(m, n, |_, _| random()), DVector::from_fn(m, |_, _| random()))
    }

    fn close(x: &[f64], y: &[f64], tolerance: f64) {
        assert_eq!(x.len(), y.len());
        let worst = x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(worst <= tolerance, "{worst}: {x:?} {y:?}");
    }

    #[test]
    fn both_solvers_give_the_least_squares_solution() {
        let (a, b) = problem(9, 4);
        let want = a.clone().svd(true, true).solve(&b, 1e-12).unwrap();
        let explained = (&a * &want).norm();
        let inverse = (a.transpose() * &a).try_inverse().unwrap();
        let qr = Factor::qr((9, 4), a.as_slice().to_vec(), b.as_slice(), f64::EPSILON);
        let normal = Factor::normal((9, 4), a.as_slice(), b.as_slice(), f64::EPSILON).unwrap();
        for factor in [qr, normal] {
            let mut q = vec![0.0; 4];
            factor.newton(&mut q);
            close(&q, want.as_slice(), 1e-13);
            close(&factor.inverse().unwrap(), inverse.as_slice(), 1e-13);
            assert!((factor.explained() - explained).abs() < 1e-13);
            assert_eq!((factor.rank(), factor.dependent()), (4, None));
        }
    }

    #[test]
    fn damped_steps_have_the_radius_and_solve_the_damped_equations() {
        let (mut a, b) = problem(9, 4);
        // Once of full rank, once with a column twice, once with more columns than rows.
        for case in 0..3 {
            if case == 1 {
                let twice = a.column(0).clone_owned();
                a.set_column(2, &twice);
            }
            let (a, b) = match case {
                2 => (a.rows(0, 3).clone_owned(), b.rows(0, 3).clone_owned()),
                _ => (a.clone(), b.clone()),
            };
            let size = (a.nrows(), 4);
            let factor = Factor::qr(size, a.as_slice().to_vec(), b.as_slice(), f64::EPSILON);
            for radius in [1e-6, 1e-3, 0.1] {
                let mut q = vec![0.0; 4];
                let lambda = factor.damped(radius, 0.0, &mut q);
                assert!((norm(&q) / radius - 1.0).abs() <= 0.1 + 1e-12, "{case} {radius}: {q:?}");
                let damped = a.transpose() * &a + DMatrix::identity(4, 4) * lambda;
                let want = damped.lu().solve(&(a.transpose() * &b)).unwrap();
                close(&q, want.as_slice(), 1e-9 * radius);
            }
            let mut q = vec![0.0; 4];
            assert_eq!(factor.damped(1e6, 1.0, &mut q), 0.0);
        }
    }

    #[test]
    fn rank_is_found_and_named() {
        let (mut a, b) = problem(9, 4);
        let sum = a.column(0) + a.column(1);
        a.set_column(3, &sum);
        let factor = Factor::qr((9, 4), a.as_slice().to_vec(), b.as_slice(), f64::EPSILON);
        assert_eq!(factor.rank(), 3);
        assert!(factor.inverse().is_none());
        assert!([0, 1, 3].contains(&factor.dependent().unwrap()));
        assert!(Factor::normal((9, 4), a.as_slice(), b.as_slice(), f64::EPSILON).is_none());
        let none = Factor::qr((0, 2), vec![], &[], f64::EPSILON);
        assert_eq!((none.rank(), none.explained()), (0, 0.0));
        let zero = Factor::qr((3, 2), vec![0.0; 6], &[1.0; 3], f64::EPSILON);
        assert_eq!((zero.rank(), zero.damped(1.0, 0.0, &mut [1.0, 1.0])), (0, 0.0));
    }
}
