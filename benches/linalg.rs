//! Our factorizations beside nalgebra's, one thread, microseconds: medians of alternating runs.
//! `cargo bench --bench linalg [filter]`; GRADTAPE_CPU=avx2|portable lowers ours.
//!
//! Both copy the matrix first, which they use up; nalgebra also allocates its factors.

use gradtape::Scalar;
use kernel::linalg;
use nalgebra::{DMatrix, DVector, RealField};
use std::hint::black_box;
use std::time::Instant;

// The kernels are private to the crate: the bench compiles them from their source.
#[allow(dead_code, unused_imports)]
#[path = "../src/kernel"]
mod kernel {
    pub mod cpu;
    pub mod gemm;
    pub mod linalg;
    pub mod vector;
    pub mod copy {
        /// As the crate's own, which is beside loops that need more of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Triangle {
            Lower,
            Upper,
        }
    }
}
mod scalar {
    pub use gradtape::Scalar;
}
#[allow(unused_imports)] // what their tests use
use gradtape::{MAX_RANK, Philox};

/// How far the two results may lie apart.
trait Number: Scalar + RealField {
    const TOLERANCE: f64;
}

impl Number for f32 {
    const TOLERANCE: f64 = 2e-4;
}

impl Number for f64 {
    const TOLERANCE: f64 = 1e-11;
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    println!("{:<18}{:>12}{:>12}{:>18}", "", "ours", "nalgebra", "ours / nalgebra");
    for n in [4, 32, 128, 512] {
        run::<f32>(n, &filter);
        run::<f64>(n, &filter);
    }
}

fn random<T: Number>(rows: usize, columns: usize, seed: u64) -> DMatrix<T> {
    let mut rng = Philox::new(seed, rows as u64);
    DMatrix::from_fn(rows, columns, |_, _| {
        T::lit(rng.below(1 << 20) as f64 / (1 << 19) as f64 - 1.0)
    })
}

fn run<T: Number>(n: usize, filter: &str) {
    let square = random::<T>(n, n, 1);
    let symmetric = &square + square.transpose();
    let spd = &square * square.transpose() + DMatrix::identity(n, n) * T::lit(n as f64);
    let right = DVector::from_element(n, T::one());
    let (mut a, mut r, mut v) = (square.clone(), square.clone(), square.clone());
    let mut w = vec![T::zero(); 8 * n + 8];

    row::<T>(
        "cholesky",
        n,
        filter,
        [
            &mut || {
                a.copy_from(&spd);
                linalg::cholesky(n, a.as_mut_slice()).expect("a factor");
                size(a.as_slice())
            },
            &mut || {
                size(
                    spd.clone().cholesky().expect("a factor").l_dirty().lower_triangle().as_slice(),
                )
            },
        ],
    );
    row::<T>(
        "lu + solve",
        n,
        filter,
        [
            &mut || {
                a.copy_from(&square);
                linalg::lu(n, a.as_mut_slice(), &mut w[..n]);
                let mut x = right.clone();
                linalg::lu_solve(n, a.as_slice(), &w[..n], false, x.as_mut_slice())
                    .expect("pivots");
                size(x.as_slice())
            },
            &mut || size(square.clone().lu().solve(&right).expect("pivots").as_slice()),
        ],
    );
    row::<T>(
        "qr",
        n,
        filter,
        [
            &mut || {
                a.copy_from(&square);
                linalg::qr(n, n, a.as_mut_slice(), r.as_mut_slice(), &mut w[..n]);
                size(r.as_slice()) + size(a.as_slice())
            },
            &mut || {
                let (q, r) = square.clone().qr().unpack();
                size(r.as_slice()) + size(q.as_slice())
            },
        ],
    );
    row::<T>(
        "eigh",
        n,
        filter,
        [
            &mut || {
                a.copy_from(&symmetric);
                assert!(linalg::eigh(n, a.as_mut_slice(), v.as_mut_slice(), &mut w[..n]));
                size(&w[..n])
            },
            &mut || size(symmetric.clone().symmetric_eigen().eigenvalues.as_slice()),
        ],
    );
    row::<T>(
        "svd",
        n,
        filter,
        [
            &mut || {
                a.copy_from(&square);
                assert!(linalg::svd(n, n, a.as_mut_slice(), &mut w[..n], v.as_mut_slice()));
                size(&w[..n])
            },
            &mut || size(square.clone().svd(true, true).singular_values.as_slice()),
        ],
    );
}

/// What both results are compared by: a sum that does not depend on signs and order.
fn size<T: Number>(x: &[T]) -> f64 {
    x.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt()
}

/// Runs both in turns and prints the medians.
fn row<T: Number>(name: &str, n: usize, filter: &str, mut calls: [&mut dyn FnMut() -> f64; 2]) {
    const ROUNDS: usize = 7;
    let name = format!("{name} {n} {}", T::NAME);
    if !name.contains(filter) {
        return;
    }
    let mut time = |which: usize, reps: usize| {
        let start = Instant::now();
        (0..reps).for_each(|_| {
            black_box(calls[which]());
        });
        start.elapsed().as_secs_f64() / reps as f64
    };
    let reps = [0, 1].map(|i| (0.005 / time(i, 1)).ceil() as usize);
    let mut seconds = [vec![], vec![]];
    for _ in 0..ROUNDS {
        for (i, seconds) in seconds.iter_mut().enumerate() {
            seconds.push(time(i, reps[i]));
        }
    }
    let [ours, theirs] = seconds.map(|mut s| {
        s.sort_by(f64::total_cmp);
        1e6 * s[ROUNDS / 2]
    });
    let [value, expected] = calls.map(|f| f());
    assert!((value - expected).abs() <= T::TOLERANCE * expected, "{name}: {value} {expected}");
    println!("{name:<18}{ours:>12.2}{theirs:>12.2}{:>18.2}", ours / theirs);
}
