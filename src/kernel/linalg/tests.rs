//! Factors against their products, solves against the product with the solution.

use super::*;
use crate::Philox;
use crate::kernel::copy::Triangle::{Lower, Upper};
use rand::Rng;

fn random(len: usize, seed: u64) -> Vec<f64> {
    let mut rng = Philox::new(seed, 0);
    (0..len).map(|_| f64::from(rng.next_u32()) / f64::from(1u32 << 31) - 1.0).collect()
}

/// op(A)·B for column-major A (m × k) and B (k × n).
fn product(m: usize, k: usize, n: usize, a: impl Fn(usize, usize) -> f64, b: &[f64]) -> Vec<f64> {
    let entry = |i: usize, j: usize| (0..k).map(|l| a(i, l) * b[l + j * k]).sum::<f64>();
    (0..m * n).map(|at| entry(at % m, at / m)).collect()
}

fn near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!((a - b).abs() < 1e-11, "element {i}: expected {b}, got {a}");
    }
}

fn transpose(n: usize, a: &[f64]) -> Vec<f64> {
    (0..n * n).map(|at| a[at / n + at % n * n]).collect()
}

#[test]
fn a_batch_is_interleaved() {
    let batch: Vec<u32> = (0..12).collect();
    let mut matrix = [0; 4];
    gather(&batch, 1, 3, &mut matrix);
    assert_eq!(matrix, [1, 4, 7, 10]);
    let mut back = [0; 12];
    (0..3).for_each(|i| {
        gather(&batch, i, 3, &mut matrix);
        scatter(&matrix, i, 3, &mut back);
    });
    assert_eq!(back, batch[..]);
}

#[test]
fn cholesky_factors_multiply_to_the_matrix() {
    for n in [0, 1, 2, 3, 5, 17, 40] {
        let x = random(n * n, n as u64);
        let mut a = product(n, n, n, |i, l| x[i + l * n], &transpose(n, &x));
        (0..n).for_each(|i| a[i + i * n] += 1.0);
        let mut factor = a.clone();
        cholesky(n, &mut factor).unwrap();
        for (at, x) in factor.iter().enumerate() {
            assert!(at % n.max(1) >= at / n.max(1) || *x == 0.0);
        }
        near(&product(n, n, n, |i, l| factor[i + l * n], &transpose(n, &factor)), &a);
    }
    let mut indefinite = [1.0, 2.0, 2.0, 1.0];
    assert_eq!(cholesky(2, &mut indefinite), Err(Pivot { at: 1, value: -3.0 }));
    for bad in [f64::NAN, f64::INFINITY, 0.0] {
        assert_eq!(cholesky(1, &mut [bad]).unwrap_err().at, 0);
    }
}

#[test]
fn solutions_satisfy_their_equations() {
    for n in [0, 1, 2, 3, 5, 17, 40] {
        let (a, b) = (random(n * n, n as u64), random(n * 3, 100 + n as u64));
        let (mut factors, mut rows) = (a.clone(), vec![f64::NAN; n]);
        lu(n, &mut factors, &mut rows);
        let mut x = b.clone();
        lu_solve(n, &factors, &rows, false, &mut x).unwrap();
        near(&product(n, n, 3, |i, l| a[i + l * n], &x), &b);
        let mut x = b.clone();
        lu_solve(n, &factors, &rows, true, &mut x).unwrap();
        near(&product(n, n, 3, |i, l| a[l + i * n], &x), &b);

        for (side, transposed, unit) in (0..8).map(|i| (i & 1 == 0, i & 2 == 0, i & 4 == 0)) {
            let side = if side { Lower } else { Upper };
            // Small beside the diagonal: random unit triangles are nearly singular.
            let a: Vec<f64> = (0..n * n)
                .map(|at| if at % n == at / n { 1.5 + a[at] * 0.5 } else { a[at] / n as f64 })
                .collect();
            let mut x = b.clone();
            solve_triangle(SolveTriangle { side, transposed, unit }, n, &a, &mut x).unwrap();
            let element = |i: usize, j: usize| match (i == j, (i > j) == (side == Lower)) {
                (true, _) if unit => 1.0,
                (true, _) | (_, true) => a[i + j * n],
                _ => 0.0,
            };
            let triangle = |i, l| if transposed { element(l, i) } else { element(i, l) };
            near(&product(n, n, 3, triangle, &x), &b);
        }
    }
}

#[test]
fn singular_matrices_keep_their_zero_pivot() {
    let (mut a, mut rows) = ([1.0, 2.0, 2.0, 4.0], [0.0; 2]);
    lu(2, &mut a, &mut rows);
    assert_eq!((a, rows), ([2.0, 0.5, 4.0, 0.0], [1.0, 1.0]));
    let refused = Err(Pivot { at: 1, value: 0.0 });
    assert_eq!(lu_solve(2, &a, &rows, false, &mut [1.0, 1.0]), refused);
    assert_eq!(lu_solve(2, &a, &rows, true, &mut [1.0, 1.0]), refused);
}

fn is_orthonormal(m: usize, n: usize, q: &[f64]) {
    let identity: Vec<f64> = (0..n * n).map(|at| f64::from(at % n == at / n)).collect();
    near(&product(n, m, n, |i, l| q[l + i * m], q), &identity);
}

#[test]
fn qr_factors_multiply_to_the_matrix() {
    for (m, n) in [(0, 0), (3, 0), (1, 1), (2, 2), (5, 3), (40, 17)] {
        let a = random(m * n, (m + n) as u64);
        let (mut q, mut r, mut tau) = (a.clone(), vec![f64::NAN; n * n], vec![f64::NAN; n]);
        qr(m, n, &mut q, &mut r, &mut tau);
        is_orthonormal(m, n, &q);
        near(&product(m, n, n, |i, l| q[i + l * m], &r), &a);
        assert!((0..n * n).all(|at| at % n <= at / n || r[at] == 0.0));
    }
    // A column of zeros has a direction all the same, and huge numbers do not overflow.
    for a in [[0.0, 0.0, 3.0, 4.0], [3e300, 4e300, 0.0, 1e300]] {
        let (mut q, mut r, mut tau) = (a, [f64::NAN; 4], [f64::NAN; 2]);
        qr(2, 2, &mut q, &mut r, &mut tau);
        is_orthonormal(2, 2, &q);
        assert!(r.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn eigenvectors_diagonalize() {
    for n in [0, 1, 2, 3, 5, 17, 40] {
        let mut a = random(n * n, n as u64);
        symmetrize(n, &mut a);
        let (mut used, mut v, mut w) = (a.clone(), vec![f64::NAN; n * n], vec![f64::NAN; n]);
        assert!(eigh(n, &mut used, &mut v, &mut w));
        is_orthonormal(n, n, &v);
        assert!(w.is_sorted());
        let scaled: Vec<f64> = (0..n * n).map(|at| v[at] * w[at / n]).collect();
        near(&product(n, n, n, |i, l| a[i + l * n], &v), &scaled);
    }
    // Parts that do not touch, equal values, and a diagonal of zeros.
    for (a, want) in [
        (
            [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 3.0],
            [-1.0, 1.0, 3.0, 3.0],
        ),
        (
            [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
            [-1.0, -1.0, 1.0, 1.0],
        ),
    ] {
        let (mut v, mut w) = ([f64::NAN; 16], [f64::NAN; 4]);
        assert!(eigh(4, &mut a.clone(), &mut v, &mut w));
        is_orthonormal(4, 4, &v);
        near(&w, &want);
    }
    let (mut v, mut w) = ([f64::NAN; 4], [f64::NAN; 2]);
    for a in [[0.0; 4], [2.0, 0.0, 0.0, 2.0], [1e-300, 1e-300, 1e-300, 1e-300], [1e300; 4]] {
        assert!(eigh(2, &mut a.clone(), &mut v, &mut w));
        is_orthonormal(2, 2, &v);
        let want = (a[0] - a[1], a[0] + a[1]);
        assert!(
            (w[0] - want.0).abs() <= 1e-15 * want.1 && (w[1] / want.1 - 1.0).abs() < 1e-15
                || want.1 == 0.0
        );
    }
}

#[test]
fn singular_vectors_multiply_to_the_matrix() {
    let check = |m: usize, n: usize, a: &[f64]| {
        let (mut u, mut s, mut v) = (a.to_vec(), vec![f64::NAN; n], vec![f64::NAN; n * n]);
        assert!(svd(m, n, &mut u, &mut s, &mut v));
        is_orthonormal(m, n, &u);
        is_orthonormal(n, n, &v);
        assert!(s.iter().rev().is_sorted() && s.iter().all(|&s| s >= 0.0));
        let scaled: Vec<f64> = (0..n * n).map(|at| v[at / n + at % n * n] * s[at % n]).collect();
        near(&product(m, n, n, |i, l| u[i + l * m], &scaled), a);
        s
    };
    for (m, n) in [(0, 0), (3, 0), (1, 1), (2, 2), (5, 3), (40, 17), (30, 30)] {
        check(m, n, &random(m * n, (m + n) as u64));
    }
    // Columns whose lengths have squares that f32 does not hold.
    let (mut u, mut s, mut v) = ([1.0, 2.0, 3e-25, 1e-25f32], [f32::NAN; 2], [f32::NAN; 4]);
    assert!(svd(2, 2, &mut u, &mut s, &mut v));
    assert!((s[0] - 5f32.sqrt()).abs() < 1e-6 && (u[0] * u[2] + u[1] * u[3]).abs() < 1e-6);
    // Of rank 1 and 0: vectors for the values of 0, too.
    let s = check(3, 2, &[1.0, 2.0, 2.0, 2.0, 4.0, 4.0]);
    assert!((s[0] - 45f64.sqrt()).abs() < 1e-14 && s[1] < 1e-15);
    assert_eq!(check(3, 3, &[0.0; 9]), [0.0; 3]);
    assert_eq!(check(2, 2, &[3.0, 0.0, 0.0, 3.0]), [3.0, 3.0]);
    assert_eq!(check(2, 1, &[3e-200, 4e-200])[0], 5e-200);
}
