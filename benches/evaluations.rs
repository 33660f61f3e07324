//! Evaluations of loss and gradient a second: `value_and_grad` beside gradients written by hand
//! with nalgebra, and beside num-dual's forward mode, for 10 to 10,000 parameters.
//!
//!     cargo bench --bench evaluations [name]
//!
//! By hand means as one writes it who knows nalgebra: no temporaries, products by `gemv`, one pass
//! for what is elementwise, and gradients derived on paper.

use gradtape::{Expr, value_and_grad};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector, DVectorView, DVectorViewMut, Dyn};
use num_dual::{DualDVec64, DualNum, gradient};
use std::hint::black_box;
use std::time::Instant;

const EXTENTS: [usize; 4] = [10, 100, 1_000, 10_000];
/// Rows of data.
const M: usize = 256;
/// Hidden units of the network, whose features are as many as parameters allow.
const HIDDEN: usize = 8;

/// Seconds of one call: the least of some rounds.
fn seconds(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    f();
    let once = start.elapsed().as_secs_f64().max(1e-8);
    let calls = ((0.02 / once) as usize).clamp(1, 100_000);
    let round = |_| {
        let start = Instant::now();
        (0..calls).for_each(|_| f());
        start.elapsed().as_secs_f64() / calls as f64
    };
    (0..15).map(round).fold(once, f64::min)
}

/// Numbers between −1 and 1 without a pattern.
fn numbers(n: usize, seed: u64) -> impl FnMut() -> f64 {
    let mut rng = gradtape::Philox::new(seed, n as u64);
    move || rng.below(1 << 20) as f64 / (1 << 19) as f64 - 1.0
}

fn vector(n: usize, seed: u64) -> DVector<f64> {
    let mut next = numbers(n, seed);
    DVector::from_fn(n, |_, _| next())
}

fn matrix(m: usize, n: usize, seed: u64) -> DMatrix<f64> {
    let mut next = numbers(m * n, seed);
    DMatrix::from_fn(m, n, |_, _| next())
}

/// Ours, by hand and by forward mode at one point; prints a line.
fn compare(
    name: &str,
    w: DVector<f64>,
    ours: impl for<'t> Fn(Expr<'t, f64>) -> Expr<'t, f64>,
    mut by_hand: impl FnMut(&DVector<f64>, &mut DVector<f64>) -> f64,
    duals: Option<&dyn Fn(DVector<DualDVec64>) -> DualDVec64>,
) {
    if std::env::args().skip(1).any(|arg| !arg.starts_with('-') && !name.contains(&arg)) {
        return;
    }
    let n = w.len();
    let mut f = value_and_grad(ours);
    let (mut g, mut want) = (DVector::zeros(n), DVector::zeros(n));
    let value = f.at_into(&w, &mut g).expect("a value");
    let expected = by_hand(&w, &mut want);
    assert!((value - expected).abs() <= 1e-10 * expected.abs(), "{name}: {value} {expected}");
    assert!((&g - &want).amax() <= 1e-10 * want.amax(), "{name}: gradients differ");

    let ours = seconds(|| {
        f.at_into(black_box(&w), &mut g).expect("a value");
    });
    let hand = seconds(|| {
        black_box(by_hand(black_box(&w), &mut want));
    });
    let rate = |seconds: f64| format!("{:>12.0}", 1.0 / seconds);
    let (dual, dual_ratio) = match duals {
        Some(f) => {
            let (_, g): (f64, DVector<f64>) = gradient::<_, f64, Dyn, _>(f, &w);
            assert!((&g - &want).amax() <= 1e-10 * want.amax(), "{name}: num-dual differs");
            let dual = seconds(|| {
                black_box(gradient::<_, f64, Dyn, _>(f, black_box(&w)));
            });
            (rate(dual), format!("{:>8.1}", dual / ours))
        }
        None => (format!("{:>12}", "-"), format!("{:>8}", "-")),
    };
    let (own, by_hand, ratio) = (rate(ours), rate(hand), hand / ours);
    println!("{name:12} {n:6} {own} {by_hand} {ratio:8.2} {dual} {dual_ratio}");
}

/// ‖Xw − y‖² / m.
fn linear(n: usize) {
    let (x, y) = (matrix(M, n, 1), vector(M, 2));
    let mut r = y.clone();
    let by_hand = |w: &DVector<f64>, g: &mut DVector<f64>| {
        r.copy_from(&y);
        r.gemv(1.0, &x, w, -1.0);
        g.gemv_tr(2.0 / M as f64, &x, &r, 0.0);
        r.norm_squared() / M as f64
    };
    let dual = |w: DVector<DualDVec64>| {
        let residual = |i: usize| {
            let row = x.row(i);
            let z = w.iter().zip(row.iter());
            z.fold(DualDVec64::from_re(-y[i]), |z, (w, &x)| z + w.clone() * x)
        };
        (0..M).map(residual).fold(DualDVec64::from_re(0.0), |s, r| s + &r * &r) / M as f64
    };
    compare(
        "linear",
        vector(n, 3),
        |w| w.constant(&x).matmul(w).squared_error(&y).mean(),
        by_hand,
        (n <= 100).then_some(&dual),
    );
}

/// The mean of ln(1 + exp z) − y z for z = Xw.
fn logistic(n: usize) {
    let (x, y) = (matrix(M, n, 1), vector(M, 2).map(|y| f64::from(y > 0.0)));
    let mut z = y.clone();
    let by_hand = |w: &DVector<f64>, g: &mut DVector<f64>| {
        z.gemv(1.0, &x, w, 0.0);
        let mut loss = 0.0;
        z.zip_apply(&y, |z, y| {
            let small = (-z.abs()).exp();
            loss += z.max(0.0) + small.ln_1p() - y * *z;
            *z = if *z >= 0.0 { 1.0 } else { small } / (1.0 + small) - y;
        });
        g.gemv_tr(1.0 / M as f64, &x, &z, 0.0);
        loss / M as f64
    };
    let dual = |w: DVector<DualDVec64>| {
        let loss = |i: usize| {
            let row = x.row(i);
            let z = w.iter().zip(row.iter());
            let z = z.fold(DualDVec64::from_re(0.0), |z, (w, &x)| z + w.clone() * x);
            z.exp().ln_1p() - z * y[i]
        };
        (0..M).map(loss).fold(DualDVec64::from_re(0.0), |s, l| s + l) / M as f64
    };
    compare(
        "logistic",
        vector(n, 3) / n as f64,
        |w| w.constant(&x).matmul(w).logistic_loss(&y).mean(),
        by_hand,
        (n <= 100).then_some(&dual),
    );
}

/// Σ tanh(w) σ(w) + exp(−w²).
fn elementwise(n: usize) {
    let by_hand = |w: &DVector<f64>, g: &mut DVector<f64>| {
        let mut loss = 0.0;
        g.zip_apply(w, |g, w| {
            let (t, s, e) = (w.tanh(), 1.0 / (1.0 + (-w).exp()), (-w * w).exp());
            loss += t * s + e;
            *g = (1.0 - t * t) * s + t * s * (1.0 - s) - 2.0 * w * e;
        });
        loss
    };
    let dual = |w: DVector<DualDVec64>| {
        let term = |w: &DualDVec64| {
            let sigmoid = ((-w).exp() + 1.0).recip();
            w.tanh() * sigmoid + (-(w * w)).exp()
        };
        w.iter().map(term).fold(DualDVec64::from_re(0.0), |s, t| s + t)
    };
    compare(
        "elementwise",
        vector(n, 3),
        |w| (w.tanh() * w.sigmoid() + (-w.square()).exp()).sum(),
        by_hand,
        (n <= 1000).then_some(&dual),
    );
}

/// Σ 100 (wᵢ₊₁ − wᵢ²)² + (1 − wᵢ)².
fn rosenbrock(n: usize) {
    let by_hand = |w: &DVector<f64>, g: &mut DVector<f64>| {
        let mut loss = 0.0;
        g.fill(0.0);
        for i in 0..n - 1 {
            let (a, b) = (1.0 - w[i], w[i + 1] - w[i] * w[i]);
            loss += a * a + 100.0 * b * b;
            g[i] -= 2.0 * a + 400.0 * b * w[i];
            g[i + 1] += 200.0 * b;
        }
        loss
    };
    let dual = |w: DVector<DualDVec64>| {
        let term = |i: usize| {
            let (a, b) = (-(w[i].clone() - 1.0), &w[i + 1] - &w[i] * &w[i]);
            &a * &a + &b * &b * 100.0
        };
        (0..n - 1).map(term).fold(DualDVec64::from_re(0.0), |s, t| s + t)
    };
    compare(
        "rosenbrock",
        vector(n, 3),
        |w| {
            let (a, b) = (w.slice((..-1,)), w.slice((1..,)));
            (100.0 * (b - a.square()).square() + (1.0 - a).square()).sum()
        },
        by_hand,
        (n <= 1000).then_some(&dual),
    );
}

/// The mean of (tanh(XV) u − y)², V of 8 hidden units.
fn network(n: usize) {
    let p = (n / HIDDEN).max(2) - 1;
    let n = (p + 1) * HIDDEN;
    let (x, y) = (matrix(M, p, 1), vector(M, 2));
    let (mut h, mut r) = (DMatrix::zeros(M, HIDDEN), y.clone());
    let transposed = x.transpose(); // `gemm_tr` is slower by far
    let by_hand = |w: &DVector<f64>, g: &mut DVector<f64>| {
        let (v, u) = w.as_slice().split_at(p * HIDDEN);
        let v = DMatrixView::from_slice(v, p, HIDDEN);
        let u = DVectorView::from_slice(u, HIDDEN);
        h.gemm(1.0, &x, &v, 0.0);
        h.apply(|h| *h = h.tanh());
        r.copy_from(&y);
        r.gemv(1.0, &h, &u, -1.0);
        let loss = r.norm_squared() / M as f64;
        r *= 2.0 / M as f64;
        let (gv, gu) = g.as_mut_slice().split_at_mut(p * HIDDEN);
        DVectorViewMut::from_slice(gu, HIDDEN).gemv_tr(1.0, &h, &r, 0.0);
        for (k, mut column) in h.column_iter_mut().enumerate() {
            column.zip_apply(&r, |h, r| *h = r * u[k] * (1.0 - *h * *h));
        }
        DMatrixViewMut::from_slice(gv, p, HIDDEN).gemm(1.0, &transposed, &h, 0.0);
        loss
    };
    compare(
        "network",
        vector(n, 3) / p as f64,
        |w| {
            let v = w.slice((..p * HIDDEN,)).reshape([p, HIDDEN]);
            let h = w.constant(&x).matmul(v).tanh();
            h.matmul(w.slice((p * HIDDEN..,))).squared_error(&y).mean()
        },
        by_hand,
        None,
    );
}

fn main() {
    println!(
        "{:12} {:>6} {:>12} {:>12} {:>8} {:>12} {:>8}",
        "evaluations", "n", "ours /s", "by hand /s", "ratio", "num-dual /s", "ratio"
    );
    for case in [linear, logistic, elementwise, rosenbrock, network] {
        EXTENTS.into_iter().for_each(case);
    }
}
