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

/// A Gaussian process's marginal likelihood and its gradient, and solutions of batches.
#[test]
fn a_second_run_allocates_nothing() {
    let tape = Tape::<f64>::new();
    let a = tape.placeholder("a", [2, N, N]);
    let b = tape.placeholder("b", [N]);
    let spd = a.matmul(a.t()) + a.identity();
    let factor = (spd * 0.01 + tape.constant(DMatrix::<f64>::identity(N, N))).cholesky();
    let likelihood = factor.solve_lower_triangular(b).square().sum() + factor.diag().log().sum();
    let (sign, log_det) = spd.slogdet();
    let x = spd.solve(b).sum() + sign.sum() + log_det.sum() + a.inverse().trace().sum();
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
