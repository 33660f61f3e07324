//! Problems that optimizers are compared on, with gradients in plain code, and PyTorch's numbers.

use gradtape::{Expr, Philox, Result, Session, Tape, Tensor};
use std::collections::BTreeMap;

/// From a loss to a train op.
pub type Minimize<T = f64> = for<'t> fn(Expr<'t, T>) -> Result<Expr<'t, T>>;

pub fn vector(x: &[f64]) -> Tensor<f64> {
    Tensor::vector(x.to_vec())
}

#[track_caller]
pub fn close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= tolerance * w.abs(), "got {got:?}, want {want:?}");
    }
}

type Loss = Box<dyn for<'t> Fn(Expr<'t>) -> Expr<'t>>;
type Gradient = Box<dyn Fn(&[f64]) -> Vec<f64>>;

/// A loss of one vector, and its gradient.
struct Problem {
    start: Vec<f64>,
    loss: Loss,
    gradient: Gradient,
}

pub fn rosenbrock(w: Expr<'_>) -> Expr<'_> {
    let n = w.shape().len();
    let (head, tail) = (w.slice_axis(0, ..n as isize - 1), w.slice_axis(0, 1..));
    ((tail - head.square()).square() + (1.0 - head).square()).sum()
}

fn of_rosenbrock() -> Problem {
    let gradient = |w: &[f64]| {
        let mut g = vec![0.0; w.len()];
        for i in 0..w.len() - 1 {
            let gap = w[i + 1] - w[i] * w[i];
            g[i + 1] += 2.0 * gap;
            g[i] += -4.0 * gap * w[i] - 2.0 * (1.0 - w[i]);
        }
        g
    };
    let start = vec![-0.5, 0.25, 1.25, 0.5];
    Problem { start, loss: Box::new(rosenbrock), gradient: Box::new(gradient) }
}

/// A loss for tapes of any lifetime.
fn any<F: for<'t> Fn(Expr<'t>) -> Expr<'t> + 'static>(f: F) -> Loss {
    Box::new(f)
}

/// mean log(1 + exp(−s · x·w)), whose gradient is −mean s · σ(−s · x·w) · x.
fn of_logistic_regression() -> Problem {
    let (n, mut rng) = (20, Philox::new(3, 0));
    let x: Vec<f64> = (0..n * 3).map(|_| rng.below(200) as f64 / 100.0 - 1.0).collect();
    let sign: Vec<f64> = (0..n).map(|_| rng.below(2) as f64 * 2.0 - 1.0).collect();
    let (rows, signs) = (Tensor::from_rows([n, 3], &x).unwrap(), vector(&sign));
    let loss = any(move |w| {
        let xw = (w.tape().constant(rows.clone()) * w).sum_axes(&[1]);
        (-(w.tape().constant(signs.clone()) * xw)).softplus().mean()
    });
    let gradient = move |w: &[f64]| {
        let mut g = vec![0.0; 3];
        for (x, s) in x.chunks(3).zip(&sign) {
            let margin: f64 = s * x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
            let factor = -s / (1.0 + margin.exp()) / n as f64;
            g.iter_mut().zip(x).for_each(|(g, x)| *g += factor * x);
        }
        g
    };
    Problem { start: vec![0.5, -1.0, 2.0], loss, gradient: Box::new(gradient) }
}

/// On both problems, how far 1,000 steps of the crate and of plain code, which takes (state, t, w,
/// g), go apart at most, in units of the largest parameter: single ones pass through 0.
pub fn a_thousand_steps<S: Default>(
    minimize: Minimize,
    step: impl Fn(&mut S, i32, &mut [f64], &[f64]),
) -> [f64; 2] {
    [of_rosenbrock(), of_logistic_regression()].map(|problem| {
        let tape = Tape::new();
        let w = tape.variable("w", vector(&problem.start));
        let train = minimize((problem.loss)(w)).unwrap();
        let mut session = Session::new(&tape).unwrap();
        let (mut want, mut state) = (problem.start.clone(), S::default());
        let mut worst = 0.0f64;
        for t in 1..=1000 {
            session.run(train, &[]).unwrap();
            let g = (problem.gradient)(&want);
            step(&mut state, t, &mut want, &g);
            let largest = want.iter().fold(0.0, |a: f64, w| a.max(w.abs()));
            for (got, want) in session.parameters().iter().zip(&want) {
                // Not f64::max, which drops NaN.
                let apart = (got - want).abs() / largest;
                worst = if apart <= worst { worst } else { apart };
            }
        }
        assert!(want != problem.start, "nothing moved");
        assert_eq!(session.steps(train).unwrap(), 1000);
        worst
    })
}

/// The cases of tests/reference/optim.csv: the step and its numbers.
pub fn reference() -> BTreeMap<&'static str, Vec<(usize, Vec<f64>)>> {
    let mut cases: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in include_str!("../reference/optim.csv").lines() {
        let mut fields = line.split(',');
        let rows = cases.entry(fields.next().unwrap()).or_default();
        let step = fields.next().unwrap().parse().unwrap();
        rows.push((step, fields.map(|x| x.parse().unwrap()).collect()));
    }
    cases
}

/// The rule goes where PyTorch's of this name went, from the start of optim.py.
#[track_caller]
pub fn as_pytorch(
    name: &str,
    minimize: Minimize,
    shown: impl Fn(&mut Session<f64>, gradtape::Fetch) -> Vec<f64>,
) {
    let tape = Tape::new();
    let w = tape.variable("w", vector(&[-0.5, 0.25, 1.5, -0.0]));
    let train = minimize(rosenbrock(w)).unwrap();
    let mut session = Session::new(&tape).unwrap();
    let mut taken = 0;
    for (step, want) in &reference()[name] {
        while taken < *step {
            session.run(train, &[]).unwrap();
            taken += 1;
        }
        close(&shown(&mut session, train.into()), want, 1e-12);
    }
    assert_eq!(taken, 20, "{name}");
}
