//! Linear algebra on matrices large enough to matter: against nalgebra's own decompositions,
//! without allocation in a second run, one factorization for all that reads it.

mod support;

use gradtape::{Expr, Philox, Session, Tape, Tensor};
use nalgebra::DMatrix;
use rand::Rng;
use support::{Counting, counted};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn random(rows: usize, columns: usize, seed: u64) -> DMatrix<f64> {
    let mut rng = Philox::new(seed, 0);
    DMatrix::from_fn(rows, columns, |_, _| f64::from(rng.next_u32()) / f64::from(1u32 << 31) - 1.0)
}

/// The value of a function of a matrix.
fn value(a: &DMatrix<f64>, f: impl for<'t> Fn(Expr<'t, f64>) -> Expr<'t, f64>) -> DMatrix<f64> {
    let tape = Tape::<f64>::new();
    let x = tape.constant(a.clone());
    let y = f(x);
    Session::new(&tape).unwrap().run(y, &[]).unwrap().into_matrix().unwrap()
}

#[track_caller]
fn near(got: &DMatrix<f64>, want: &DMatrix<f64>) {
    let gap = (got - want).amax();
    assert!(gap <= 1e-11 * want.amax().max(1.0), "{gap:e}");
}

const N: usize = 60;

#[test]
fn factors_and_solutions_are_nalgebras() {
    let a = random(N, N, 1);
    let spd = &a * a.transpose() + DMatrix::identity(N, N);
    let b = random(N, 3, 2);
    let right = Tensor::from(b.clone());
    near(&value(&spd, |x| x.cholesky()), &spd.clone().cholesky().unwrap().l());
    near(
        &value(&spd, |x| x.solve_spd(x.tape().constant(right.clone()))),
        &spd.clone().cholesky().unwrap().solve(&b),
    );
    near(
        &value(&a, |x| x.solve(x.tape().constant(right.clone()))),
        &a.clone().lu().solve(&b).unwrap(),
    );
    near(&value(&a, |x| x.inverse().matmul(x)), &DMatrix::identity(N, N));
    let det = a.determinant();
    near(&(value(&a, |x| x.det().reshape([1, 1])) / det), &DMatrix::repeat(1, 1, 1.0));
    let log = value(&a, |x| x.log_det().reshape([1, 1]));
    near(&log, &DMatrix::repeat(1, 1, det.abs().ln()));
}

#[test]
fn orthogonal_factors_are_nalgebras() {
    let (a, b) = (random(N, 40, 3), random(N, 2, 4));
    let right = Tensor::from(b.clone());
    let qr = a.clone().qr();
    // nalgebra's R has a positive diagonal.
    near(&value(&a, |x| x.qr().1.abs()), &qr.r().abs());
    near(&value(&a, |x| x.qr().0.abs()), &qr.q().abs());
    let (wide, qr) = (a.transpose(), a.transpose().qr());
    near(&value(&wide, |x| x.qr().1.abs()), &qr.r().abs());
    near(&value(&wide, |x| x.qr().0.abs()), &qr.q().abs());
    let svd = a.clone().svd(true, true);
    near(&value(&a, |x| x.lstsq(x.tape().constant(right.clone()))), &svd.solve(&b, 1e-12).unwrap());
    near(&value(&a, |x| x.pinv()), &svd.clone().pseudo_inverse(1e-12).unwrap());
    let mut values: Vec<f64> = svd.singular_values.iter().copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    let values = DMatrix::from_vec(40, 1, values);
    near(&value(&a, |x| x.svd().1.expand_dims(&[1])), &values);
    near(&value(&a.transpose(), |x| x.svd().1.expand_dims(&[1])), &values);
    let square = random(N, N, 5);
    let symmetric = &square + square.transpose();
    let mut values: Vec<f64> = symmetric.symmetric_eigenvalues().iter().copied().collect();
    values.sort_by(f64::total_cmp);
    near(&value(&symmetric, |x| x.eigh().0.expand_dims(&[1])), &DMatrix::from_vec(N, 1, values));
}

/// Where values are equal, or 0, gradients of what does not depend on the choice of vectors are
/// right: of Σw² = Σs² = |A|², and of the sum of the two equal singular values alone.
#[test]
fn equal_values_have_gradients() {
    let gradient = |a: &DMatrix<f64>, f: for<'t> fn(Expr<'t, f64>) -> Expr<'t, f64>| {
        value(a, |x| x.tape().gradient(f(x).sum(), &[x]).unwrap()[0])
    };
    let equal = DMatrix::from_diagonal(&vec![2.0, 2.0, 5.0].into());
    near(&gradient(&equal, |x| x.eigh().0.square()), &(&equal * 2.0));
    near(&gradient(&equal, |x| x.svd().1.square()), &(&equal * 2.0));
    let two = DMatrix::from_diagonal(&vec![1.0, 1.0, 0.0].into());
    near(&gradient(&equal, |x| x.eigh().0.slice((..2,))), &two);
    near(&gradient(&equal, |x| x.svd().1.slice((1..,))), &two);
    // Of rank 1, with a singular value of 0.
    let lower = random(4, 1, 6) * random(1, 3, 7);
    near(&gradient(&lower, |x| x.svd().1.square()), &(&lower * 2.0));
    assert!(gradient(&lower, |x| x.svd().0.square()).iter().all(|x| x.is_finite()));
}

/// A Gaussian process's marginal likelihood and its gradient, and solutions of batches.
#[test]
fn a_second_run_allocates_nothing() {
    let tape = Tape::<f64>::new();
    let a = tape.placeholder("a", [2, N, N]);
    let b = tape.placeholder("b", [N]);
    let spd = a.matmul(a.t());
    let factor = (spd * 0.01 + tape.constant(DMatrix::<f64>::identity(N, N))).cholesky();
    let likelihood = factor.solve_lower_triangular(b).square().sum() + factor.diag().log().sum();
    let (sign, log_det) = spd.slogdet();
    let x = spd.solve(b).sum() + sign.sum() + log_det.sum() + a.inverse().trace().sum();
    let (small, tall) = (spd.slice((.., ..6, ..6)), a.slice((.., .., ..5)));
    let x = x + small.eigh().0.log().sum() + tall.qr().0.sum() + tall.norm2().sum();
    let x = x + tall.pinv().sum() + tall.lstsq(b).sum() + small.svd().0.square().sum();
    let loss = likelihood + x;
    let gradients = tape.gradient(loss, &[a, b]).unwrap();
    let fetches = (loss, gradients[0], gradients[1]);
    let matrices = Tensor::from_fn([2, N, N], |at| {
        f64::from((at[0] + 7 * at[1] * at[1] + 3 * at[2]) as u32 % 11) - 5.0
            + if at[1] == at[2] { 40.0 } else { 0.0 }
    });
    let matrices = matrices.unwrap();
    let vector = Tensor::full([N], 0.5).unwrap();
    let feeds = [a.feed(&matrices), b.feed(&vector)];
    let mut session = Session::new(&tape).unwrap();
    let mut out = Default::default();
    for run in 0..3 {
        let (result, _, allocations) = counted(|| session.run_into(fetches, &feeds, &mut out));
        result.unwrap();
        assert!(run == 0 || allocations == 0, "run {run}: {allocations} allocations");
    }
}

/// Solutions, inverses, determinants and all their gradients read one factorization.
#[test]
fn one_factorization_serves_all() {
    let tape = Tape::<f64>::new();
    let a = tape.placeholder("a", [3, 3]);
    let b = tape.placeholder("b", [3]);
    let loss = a.solve(b).sum() + a.inverse().sum() + a.det() + a.log_det() + a.slogdet().0;
    let first = tape.gradient(loss, &[a]).unwrap()[0];
    tape.gradient(first.square().sum(), &[a, b]).unwrap();
    let factorizations = tape.nodes().iter().filter(|node| node.op == "lu").count();
    assert_eq!(factorizations, 1);
}
