//! Closures of vectors and matrices: values, gradients, minima and fits, their errors, and that a
//! replay allocates nothing.

mod support;

use gradtape::closure::Point;
use gradtape::optim::{
    ConjugateGradient, Lbfgs, LevenbergMarquardt, Method, NewtonCg, Reason, TrustRegion,
};
use gradtape::{
    ErrorKind, Expr, Tensor, curve_fit, curve_fit_with, least_squares, minimize, value_and_grad,
};
use nalgebra::{DMatrix, DVector};
use std::cell::Cell;
use support::{Counting, counted};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn vector(x: &[f64]) -> DVector<f64> {
    DVector::from_column_slice(x)
}

fn rosenbrock(w: Expr<'_, f64>) -> Expr<'_, f64> {
    let (a, b) = (w.index_axis(0, 0), w.index_axis(0, 1));
    (1.0 - a).square() + 100.0 * (b - a.square()).square()
}

#[test]
fn gradients_are_those_by_hand_for_vectors_matrices_and_tensors() {
    let x = DMatrix::from_fn(5, 3, |i, j| ((i * 3 + j) % 7) as f64 - 3.0);
    let w = DMatrix::from_fn(3, 2, |i, j| (i + 2 * j) as f64 / 3.0);
    let mut f = value_and_grad(|w| w.constant(&x).matmul(w).square().sum());
    let want = 2.0 * x.transpose() * (&x * &w);
    let (value, gradient) = f.at(&w).unwrap();
    assert!((value - (&x * &w).norm_squared()).abs() < 1e-12 * value);
    assert!((&gradient - &want).amax() < 1e-12 * want.amax());
    let (same, tensor) = f.at(&Tensor::from(w)).unwrap();
    assert_eq!((same, tensor.into_matrix().unwrap()), (value, gradient));
    let (_, vector) = f.at(&vector(&[1.0, 0.0, -1.0])).unwrap();
    assert_eq!(vector.len(), 3);
    assert_eq!(f.n_traces(), 2);
}

#[test]
fn a_closure_is_traced_once_for_each_shape() {
    let calls = Cell::new(0);
    let mut f = value_and_grad(|w| {
        calls.set(calls.get() + 1);
        w.square().sum()
    });
    for n in [2, 3, 2, 3, 2] {
        assert_eq!(
            f.at(&DVector::repeat(n, 2.0)).unwrap(),
            (4.0 * n as f64, DVector::repeat(n, 4.0))
        );
    }
    assert_eq!(calls.get(), 2);
    for n in 1..40 {
        f.at(&DVector::repeat(n, 2.0)).unwrap();
    }
    assert_eq!(f.n_traces(), 16);
}

#[test]
fn a_replay_into_given_memory_allocates_nothing() {
    fn replayed<P: Point>(w: P, mut gradient: P) {
        let mut f = value_and_grad(|w| (w.tanh() * w).sum());
        for _ in 0..3 {
            f.at_into(&w, &mut gradient).unwrap();
        }
        let (value, _, calls) = counted(|| f.at_into(&w, &mut gradient));
        assert_eq!(calls, 0);
        let (fresh, want) = f.at(&w).unwrap();
        assert_eq!(value.unwrap(), fresh);
        assert_eq!(gradient.view(), want.view());
    }
    // Few numbers are copied, many exchanged.
    for n in [3, 1000] {
        replayed(DVector::from_fn(n, |i, _| i as f64 / 100.0), DVector::zeros(n));
        replayed(DMatrix::from_fn(n, 2, |i, j| (i + j) as f64 / 100.0), DMatrix::zeros(n, 2));
        replayed(Tensor::full([n], 0.5).unwrap(), Tensor::default());
    }
}

#[test]
fn mistakes_are_errors_that_name_them() {
    let w = vector(&[1.0, 2.0]);
    let kind = |e: gradtape::Error| (e.kind(), e.to_string());
    let (shape, text) = kind(value_and_grad(|w| w).at(&w).unwrap_err());
    assert!(text.contains("[2]"), "{text}");
    assert!(matches!(shape, ErrorKind::Shape | ErrorKind::Gradient), "{text}");
    let (got, _) = kind(value_and_grad(|w| w.lit(1.0)).at(&w).unwrap_err());
    assert_eq!(got, ErrorKind::Gradient);
    let three = vector(&[1.0; 3]);
    let (got, text) = kind(value_and_grad(|w| (w - &three).sum()).at(&w).unwrap_err());
    assert!(got == ErrorKind::Shape && text.contains("tests/closure.rs"), "{text}");
    let mut singular =
        value_and_grad(|w| w.constant(&DMatrix::zeros(2, 2)).inverse().sum() + w.sum());
    assert_eq!(singular.at(&w).unwrap_err().kind(), ErrorKind::Singular);
    let none = value_and_grad(|w| w.sum()).at(&DVector::<f64>::zeros(0)).unwrap();
    assert_eq!(none, (0.0, DVector::zeros(0)));
    // An error leaves the closure as it was.
    let mut log = value_and_grad(|w| w.cholesky().sum());
    assert!(log.at(&DMatrix::from_diagonal_element(2, 2, -1.0)).is_err());
    assert!(log.at(&DMatrix::<f64>::identity(2, 2)).is_ok());
}

#[test]
fn every_method_minimizes() {
    fn check(method: impl Method) {
        let found = minimize(rosenbrock, vector(&[-1.2, 1.0]), method).unwrap();
        assert!(found.converged(), "{}", found.outcome);
        assert!((found.w - vector(&[1.0, 1.0])).amax() < 1e-6);
    }
    check(Lbfgs::new());
    check(ConjugateGradient::new());
    check(NewtonCg::new());
    check(TrustRegion::new());
    let outcome = minimize(rosenbrock, vector(&[f64::NAN, 1.0]), Lbfgs::new()).unwrap().outcome;
    assert_eq!(outcome.reason, Reason::NotFinite);
    let linear = minimize(|w| w.lit(2.0), vector(&[1.0]), Lbfgs::new());
    assert_eq!(linear.unwrap_err().kind(), ErrorKind::Gradient);
    let matrix = minimize(|w| (w - 3.0).square().sum(), DMatrix::zeros(2, 3), Lbfgs::new());
    assert!((matrix.unwrap().w - DMatrix::repeat(2, 3, 3.0)).amax() < 1e-7);
}

#[test]
fn a_straight_line_has_the_textbook_standard_errors() {
    let xs = vector(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let ys = vector(&[1.1, 2.9, 5.2, 6.8, 9.1, 10.8]);
    // The lifetime of both arguments is one.
    fn same<F>(f: F) -> F
    where
        F: for<'t> Fn(Expr<'t, f64>, Expr<'t, f64>) -> Expr<'t, f64>,
    {
        f
    }
    let line = same(|x, w| w.index_axis(0, 0) + w.index_axis(0, 1) * x);
    let fit = curve_fit(line, &xs, &ys, vector(&[0.0, 0.0])).unwrap();
    assert!(fit.converged());
    let a = DMatrix::from_fn(6, 2, |i, j| if j == 0 { 1.0 } else { xs[i] });
    let inverse = (a.transpose() * &a).try_inverse().unwrap();
    let w = &inverse * a.transpose() * &ys;
    let variance = (&a * &w - &ys).norm_squared() / 4.0;
    assert!((&fit.w - w).amax() < 1e-10);
    let covariance = inverse * variance;
    assert!((fit.covariance().unwrap() - &covariance).amax() < 1e-10);
    let errors = covariance.diagonal().map(f64::sqrt);
    assert!((fit.standard_errors().unwrap() - errors).amax() < 1e-10);
}

#[test]
fn hostile_fits_are_errors_or_outcomes() {
    let (xs, ys) = (vector(&[0.0, 1.0, 2.0]), vector(&[1.0, 2.0, 3.0]));
    let start = || vector(&[1.0]);
    let kind = |ys: &DVector<f64>, start| {
        curve_fit(|x, w| w.sum() * x, &xs, ys, start).unwrap_err().kind()
    };
    assert_eq!(kind(&vector(&[1.0, f64::NAN, 2.0]), start()), ErrorKind::NotFinite);
    assert_eq!(kind(&ys, vector(&[f64::INFINITY])), ErrorKind::NotFinite);
    assert_eq!(kind(&vector(&[1.0, 2.0]), start()), ErrorKind::Shape);
    assert_eq!(kind(&vector(&[]), start()), ErrorKind::Shape);
    let column = curve_fit(|x, w| x.expand_dims(&[1]) * w.sum(), &xs, &ys, start()).unwrap_err();
    assert!(column.message().contains("expected a prediction of the shape [3]"), "{column}");
    // Two parameters of which only the sum matters: fitted, but not known.
    let twice = curve_fit(|x, w| w.sum() * x, &xs, &ys, vector(&[1.0, 1.0])).unwrap();
    assert_eq!(twice.standard_errors().unwrap_err().kind(), ErrorKind::Singular);
    let pole = curve_fit(|x, w| w.sum() / x, &xs, &ys, start()).unwrap();
    assert_eq!(pole.outcome().reason, Reason::NotFinite);
    let refused = LevenbergMarquardt::new().with_tolerance(-1.0);
    assert!(curve_fit_with(|x, w| w.sum() * x, &xs, &ys, start(), refused).is_err());
    assert_eq!(least_squares(|w| w.lit(1.0), start()).unwrap_err().kind(), ErrorKind::Gradient);
}
