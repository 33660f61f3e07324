//! Conjugate gradients, Newton-CG, trust region and L-BFGS-B: functions with known minima, bounds,
//! and that everything else they may meet has a name.

mod errors;

use errors::refused;
use gradtape::optim::{
    Bounds, ConjugateGradient, FullBatch, LbfgsB, Method, NewtonCg, Outcome, Reason, TrustRegion,
};
use gradtape::{ErrorKind, Expr, Result, Scalar, Session, Tape, Tensor};
use std::ops::ControlFlow;

type Loss<T = f64> = for<'t> fn(Expr<'t, T>) -> Expr<'t, T>;

/// The methods, each as a function that minimizes a loss of one vector from a start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Cg,
    NewtonCg,
    TrustRegion,
    LbfgsB,
}

const ALL: [By; 4] = [By::Cg, By::NewtonCg, By::TrustRegion, By::LbfgsB];

/// What to change of the defaults.
#[derive(Clone, Copy, Default)]
struct Limits {
    tolerance: Option<f64>,
    iterations: Option<u64>,
    evaluations: Option<u64>,
}

const EXACT: Limits = Limits { tolerance: Some(1e-10), iterations: None, evaluations: None };

fn run<T: Scalar, M: Method>(
    start: &[T],
    record: impl for<'t> Fn(Expr<'t, T>) -> Result<FullBatch<M>>,
    mut observe: impl FnMut(&gradtape::optim::Progress) -> ControlFlow<()>,
) -> Result<(Outcome, Vec<T>)> {
    let tape = Tape::new();
    let x = tape.variable("x", Tensor::vector(start.to_vec()));
    let fit = record(x)?;
    let mut session = Session::new(&tape)?;
    let outcome = fit.run_with(&mut session, &[], &mut observe)?;
    Ok((outcome, session.value(x)?.into_vec()))
}

macro_rules! with_limits {
    ($method:expr, $limits:expr) => {{
        let (mut method, limits) = ($method, $limits);
        if let Some(tolerance) = limits.tolerance {
            method = method.with_gradient_tolerance(tolerance);
        }
        if let Some(iterations) = limits.iterations {
            method = method.with_max_iterations(iterations);
        }
        if let Some(evaluations) = limits.evaluations {
            method = method.with_max_evaluations(evaluations);
        }
        method
    }};
}

impl By {
    fn minimize<T: Scalar>(
        self,
        limits: Limits,
        start: &[T],
        loss: impl for<'t> Fn(Expr<'t, T>) -> Expr<'t, T>,
    ) -> Result<(Outcome, Vec<T>)> {
        self.observed(limits, start, loss, |_| ControlFlow::Continue(()))
    }

    fn observed<T: Scalar>(
        self,
        limits: Limits,
        start: &[T],
        loss: impl for<'t> Fn(Expr<'t, T>) -> Expr<'t, T>,
        observe: impl FnMut(&gradtape::optim::Progress) -> ControlFlow<()>,
    ) -> Result<(Outcome, Vec<T>)> {
        match self {
            By::Cg => {
                let method = with_limits!(ConjugateGradient::new(), limits);
                run(start, |x| method.minimize(loss(x)), observe)
            }
            By::NewtonCg => {
                let method = with_limits!(NewtonCg::new(), limits);
                run(start, |x| method.minimize(loss(x)), observe)
            }
            By::TrustRegion => {
                let method = with_limits!(TrustRegion::new(), limits);
                run(start, |x| method.minimize(loss(x)), observe)
            }
            By::LbfgsB => {
                let method = with_limits!(LbfgsB::new(), limits);
                run(start, |x| method.minimize(loss(x)), observe)
            }
        }
    }
}

fn part<T: Scalar>(x: Expr<'_, T>, at: usize, of: usize) -> Expr<'_, T> {
    x.reshape([of, x.shape().len() / of]).slice((at..at + 1,))
}

/// Number 21 of Moré, Garbow and Hillstrom 1981, of any even size; the minimum is 0 at (1, …).
fn rosenbrock<T: Scalar>(x: Expr<'_, T>) -> Expr<'_, T> {
    let (odd, even) = (part(x, 0, 2), part(x, 1, 2));
    ((even - odd.square()).square() * odd.lit(100.0)).sum() + (odd.lit(1.0) - odd).square().sum()
}

/// Number 22, of any size divisible by 4; the minimum is 0 at 0, where the Hessian is singular.
fn powell_singular(x: Expr<'_>) -> Expr<'_> {
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| part(x, at, 4));
    ((a + b * 10.0).square() + (c - d).square() * 5.0).sum()
        + ((b - c * 2.0).square().square() + (a - d).square().square() * 10.0).sum()
}

/// Number 5; the minimum is 0 at (3, ½).
fn beale(x: Expr<'_>) -> Expr<'_> {
    let (a, b) = (part(x, 0, 2), part(x, 1, 2));
    let first = (1.5 - a * (1.0 - b)).square();
    let second = (2.25 - a * (1.0 - b.powi(2))).square();
    (first + second + (2.625 - a * (1.0 - b.powi(3))).square()).sum()
}

fn repeated(start: &[f64], n: usize) -> Vec<f64> {
    start.iter().copied().cycle().take(n).collect()
}

#[test]
fn functions_with_known_minima_small_and_large() -> Result<()> {
    for by in ALL {
        for n in [2, 1000] {
            let start = repeated(&[-1.2, 1.0], n);
            let (outcome, x) = by.minimize(EXACT, &start, rosenbrock)?;
            assert!(outcome.converged(), "{by:?} {n}: {outcome}");
            assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-8), "{by:?} {n}: {outcome}");
        }
        for n in [4, 1000] {
            let start = repeated(&[3.0, -1.0, 0.0, 1.0], n);
            let (outcome, x) = by.minimize(EXACT, &start, powell_singular)?;
            assert!(outcome.converged() && outcome.loss < 1e-9, "{by:?} {n}: {outcome}");
            assert!(x.iter().all(|x| x.abs() < 1e-2), "{by:?} {n}: {x:?}");
        }
        let (outcome, x) = by.minimize(EXACT, &[1.0, 1.0], beale)?;
        assert!(outcome.converged(), "{by:?}: {outcome}");
        assert!((x[0] - 3.0).abs() < 1e-9 && (x[1] - 0.5).abs() < 1e-9, "{by:?}: {x:?}");
    }
    Ok(())
}

/// ½Σ hᵢ(xᵢ − i)² with ten different h: the minimum is known, and so is the number of steps to it.
#[test]
fn parabolas_end_after_as_many_steps_as_they_have_curvatures() -> Result<()> {
    let n = 10;
    let h: Vec<f64> = (0..n).map(|i| f64::from(i + 1)).collect();
    let minimum: Vec<f64> = (0..n).map(f64::from).collect();
    let loss = |x: &[f64], g: &mut [f64]| {
        let mut sum = 0.0;
        for i in 0..x.len() {
            g[i] = h[i] * (x[i] - minimum[i]);
            sum += 0.5 * g[i] * (x[i] - minimum[i]);
        }
        Ok(sum)
    };
    let product = |_: &[f64], v: &[f64], out: &mut [f64]| {
        out.iter_mut().zip(v.iter().zip(&h)).for_each(|(out, (v, h))| *out = v * h);
        Ok(())
    };
    let close = |x: &[f64], outcome: Outcome| {
        assert!(outcome.converged(), "{outcome}");
        let worst = x.iter().zip(&minimum).map(|(x, m)| (x - m).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-8, "{outcome} {x:?}");
    };
    let observe = &mut |_: &_| ControlFlow::Continue(());

    let mut x = vec![0.0; 10];
    // Searches that end at the minimum of the line.
    let method = ConjugateGradient::new().with_wolfe(1e-12, 1e-9);
    let outcome = method.descend(&mut { loss }, &mut x, observe)?;
    close(&x, outcome);
    assert!(outcome.iterations <= 10, "{outcome}");

    let mut x = vec![0.0; 10];
    let outcome = NewtonCg::new().descend(&mut (loss, product), &mut x, observe)?;
    close(&x, outcome);
    assert!(outcome.iterations <= 8 && outcome.products <= 40, "{outcome}");

    let mut x = vec![0.0; 10];
    let method = TrustRegion::new().with_radius(100.0);
    let outcome = method.descend(&mut (loss, product), &mut x, observe)?;
    close(&x, outcome);
    assert!(outcome.iterations <= 8 && outcome.products <= 40, "{outcome}");

    let mut x = vec![0.0; 10];
    let outcome = LbfgsB::new().descend(&mut { loss }, &mut x, observe)?;
    close(&x, outcome);

    // A gradient alone has no products.
    let without = TrustRegion::new().descend(&mut { loss }, &mut [0.0; 10], observe);
    refused(without, ErrorKind::Gradient, &["with Hessian-vector products"]);
    Ok(())
}

#[test]
fn negative_curvature_and_saddles_are_left() -> Result<()> {
    // At (0, 1) the gradient is along the second axis, where the minimum is a saddle.
    let wells: Loss = |x| {
        let (a, b) = (part(x, 0, 2), part(x, 1, 2));
        (a.powi(4) - a.square() + b.square()).sum()
    };
    for by in ALL {
        let (outcome, x) = by.minimize(EXACT, &[1e-6, 1.0], wells)?;
        assert!(outcome.converged(), "{by:?}: {outcome}");
        assert!((x[0].abs() - 0.5f64.sqrt()).abs() < 1e-9 && x[1].abs() < 1e-9, "{by:?}: {x:?}");
    }
    // Curvature is negative where it starts and everywhere up to the minimum.
    for by in [By::NewtonCg, By::TrustRegion] {
        let (outcome, x) = by.minimize(EXACT, &[3.0f64], |x| -(-x.square()).exp().sum())?;
        assert!(outcome.converged() && x[0].abs() < 1e-9, "{by:?}: {outcome} {x:?}");
    }
    Ok(())
}

#[test]
fn f32_converges_as_far_as_f32_goes() -> Result<()> {
    for by in ALL {
        let (outcome, x) = by.minimize(Limits::default(), &[-1.2f32, 1.0], rosenbrock)?;
        assert!(outcome.converged(), "{by:?}: {outcome}");
        assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-2), "{by:?}: {x:?}");
    }
    Ok(())
}

#[test]
fn hostile_losses_have_a_named_end() -> Result<()> {
    for by in ALL {
        let default = Limits::default();
        for (start, loss) in [
            (-1.0, (|x| x.log().sum()) as Loss),
            (0.0, |x| (x.lit(1.0) / x).sum()),
            (f64::NAN, rosenbrock),
        ] {
            let (outcome, x) = by.minimize(default, &[start, 1.0], loss)?;
            assert_eq!((outcome.reason, outcome.evaluations), (Reason::NotFinite, 1), "{by:?}");
            assert!(x[1] == 1.0 && x[0].to_bits() == start.to_bits());
        }
        // Not finite beside the path: exp(1000 x²) overflows at 0.85, and 10x − log 10x at 0.
        let (outcome, x) =
            by.minimize(default, &[0.8f64], |x| (x.square() * 1000.0).exp().sum())?;
        assert!(outcome.converged() && x[0].abs() < 1e-6, "{by:?}: {outcome} {x:?}");
        let barrier: Loss = |x| (x * 10.0 - (x * 10.0).log()).sum();
        let (outcome, x) = by.minimize(default, &[0.15, 0.3], barrier)?;
        assert!(outcome.converged(), "{by:?}: {outcome}");
        assert!(x.iter().all(|x| (x - 0.1).abs() < 1e-7), "{by:?}: {x:?}");

        for loss in [(|x| -x.square().sum()) as Loss, |x| (x - x.powi(3)).sum(), |x| -x.exp().sum()]
        {
            let (outcome, x) = by.minimize(default, &[1.0, 2.0], loss)?;
            assert_eq!(outcome.reason, Reason::Unbounded, "{by:?}: {outcome}");
            assert!(outcome.loss.is_finite() && x.iter().all(|x| x.is_finite()), "{by:?}");
        }
        // A kink: no derivative tells where it is.
        let kink: Loss = |x| (x - 0.3).abs().sum() + x.square().sum() * 0.1;
        let (outcome, x) = by.minimize(default, &[1.0], kink)?;
        let expected = [Reason::NoProgress, Reason::Converged];
        assert!(expected.contains(&outcome.reason), "{by:?}: {outcome}");
        assert!((x[0] - 0.3).abs() < 1e-6, "{by:?}: {outcome} {x:?}");

        let (outcome, x) =
            by.minimize(default, &[3.0f64, -1.0], |x| ((x - 1.0).square() * 1e290).sum())?;
        assert!(x.iter().all(|x| x.is_finite()), "{by:?}: {outcome}");
    }
    Ok(())
}

#[test]
fn limits_are_kept_and_an_observer_can_stop() -> Result<()> {
    let start = repeated(&[-1.2, 1.0], 10);
    for by in ALL {
        let mut last = f64::INFINITY;
        for iterations in [0, 1, 7] {
            let limits = Limits { iterations: Some(iterations), ..Limits::default() };
            let (outcome, x) = by.minimize(limits, &start, rosenbrock)?;
            assert_eq!(outcome.reason, Reason::MaxIterations, "{by:?}: {outcome}");
            assert_eq!(outcome.iterations, iterations, "{by:?}");
            assert!(outcome.loss < last && (x == start) == (iterations == 0), "{by:?}");
            last = outcome.loss;
        }
        for evaluations in [1, 2, 9] {
            let limits = Limits { evaluations: Some(evaluations), ..Limits::default() };
            let (outcome, _) = by.minimize(limits, &start, rosenbrock)?;
            assert_eq!(outcome.reason, Reason::MaxEvaluations, "{by:?}: {outcome}");
            assert_eq!(outcome.evaluations, evaluations, "{by:?}");
        }
        let mut seen = vec![];
        let (outcome, _) = by.observed(Limits::default(), &start, rosenbrock, |progress| {
            seen.push(*progress);
            if progress.iteration == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        assert_eq!((outcome.reason, outcome.iterations), (Reason::Stopped, 5), "{by:?}");
        assert_eq!((outcome.loss, seen.len()), (seen[5].loss, 6), "{by:?}");
        assert!(seen.windows(2).all(|w| w[1].loss < w[0].loss && w[1].step > 0.0), "{by:?}");
        let counted = matches!(by, By::NewtonCg | By::TrustRegion);
        assert_eq!(outcome.products > 0, counted, "{by:?}");
    }
    Ok(())
}

#[test]
fn products_follow_start_scales() -> Result<()> {
    // The same problem in units of 2¹⁰ and 2⁻¹⁰ as in units of 1: the same path, bit for bit.
    let run = |units: [f64; 2], scaled: bool| -> Result<(Outcome, Vec<f64>)> {
        let tape = Tape::new();
        let x = tape.variable("x", Tensor::vector(vec![-1.5 * units[0], units[1]]));
        let loss = rosenbrock(x / Tensor::vector(units.to_vec()));
        let fit = NewtonCg::new().minimize(loss)?;
        let fit = if scaled { fit.with_start_scales() } else { fit };
        let mut session = Session::new(&tape)?;
        let outcome = fit.run(&mut session, &[])?;
        let x = session.value(x)?.into_vec();
        Ok((outcome, x.iter().zip(units).map(|(x, unit)| x / unit).collect()))
    };
    let plain = run([1.0, 1.0], false)?;
    assert!(plain.0.converged());
    assert_eq!(run([1024.0, 1.0 / 1024.0], true)?, plain);
    assert_ne!(run([1024.0, 1.0 / 1024.0], false)?, plain);
    Ok(())
}

/// Σ over several variables: products are fed and taken apart by variable.
#[test]
fn several_variables_of_several_shapes() -> Result<()> {
    let tape = Tape::<f64>::new();
    let a = tape.variable("a", Tensor::zeros([2, 3])?);
    let b = tape.variable("b", 1.0);
    let c = tape.variable("c", Tensor::zeros([3])?);
    let loss =
        (a + c - b).cosh().sum() + (a.square().sum() + (b - 2.0).square()) + c.square().sum();
    let newton = TrustRegion::new().with_gradient_tolerance(1e-10).minimize(loss)?;
    let over = NewtonCg::new().with_gradient_tolerance(1e-10).minimize_over(loss, &[b])?;
    let mut session = Session::new(&tape)?;
    let outcome = newton.run(&mut session, &[])?;
    assert!(outcome.converged() && outcome.iterations < 20, "{outcome}");
    let gradient_norm = outcome.gradient_norm;
    assert!(gradient_norm <= 1e-10);
    assert_eq!(newton.variables(), [a.var(), b.var(), c.var()]);
    // It is the minimum of each variable alone, too.
    assert_eq!(over.run(&mut session, &[])?.iterations, 0);
    let linear = NewtonCg::new().minimize((a * 2.0).sum());
    refused(linear, ErrorKind::Gradient, &["the loss is linear"]);
    Ok(())
}

/// Minimizes between bounds from a start; the run may not evaluate outside.
fn between(
    start: &[f64],
    lower: &[f64],
    upper: &[f64],
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Result<(Outcome, Vec<f64>)> {
    let mut x = start.to_vec();
    let bounds = Bounds::new(lower.to_vec(), upper.to_vec())?;
    let mut inside = |x: &[f64], g: &mut [f64]| {
        let outside = x.iter().zip(lower.iter().zip(upper)).any(|(x, (l, u))| x < l || x > u);
        assert!(!outside, "{x:?} is outside");
        Ok(f(x, g))
    };
    let method = LbfgsB::new().with_bounds(bounds).with_gradient_tolerance(1e-9);
    let outcome = method.descend(&mut inside, &mut x, &mut |_| ControlFlow::Continue(()))?;
    Ok((outcome, x))
}

const FREE: f64 = f64::INFINITY;

/// Problems of Hock and Schittkowski 1981 with bounds alone.
#[test]
fn bounded_minima_are_found() -> Result<()> {
    // Numbers 1 to 5, and 45 of five variables.
    let banana = |x: &[f64], g: &mut [f64]| {
        let (u, v) = (x[1] - x[0] * x[0], 1.0 - x[0]);
        g.copy_from_slice(&[-400.0 * x[0] * u - 2.0 * v, 200.0 * u]);
        100.0 * u * u + v * v
    };
    let (outcome, x) = between(&[-2.0, 1.0], &[-FREE, -1.5], &[FREE; 2], banana)?;
    assert!(outcome.converged() && outcome.loss < 1e-15, "1: {outcome} {x:?}");
    let (outcome, x) = between(&[-2.0, 1.0], &[-FREE, 1.5], &[FREE; 2], banana)?;
    // Both minima on the bound x₂ = 1.5 are known; from this start either may be found.
    let root = (598.0f64 / 1200.0).sqrt();
    let angle = (1.0 / (400.0 * root.powi(3))).acos() / 3.0;
    let best = 2.0 * root * angle.cos();
    let other = -2.0 * root * (std::f64::consts::PI / 3.0 - angle).cos();
    assert!(outcome.converged() && x[1] == 1.5, "2: {outcome} {x:?}");
    let near = |at: f64| (x[0] - at).abs() < 1e-6;
    assert!(near(best) || near(other), "2: {x:?}, expected {best} or {other}");
    let (outcome, x) = between(&[10.0, 1.0], &[-FREE, 0.0], &[FREE; 2], |x, g| {
        let d = x[1] - x[0];
        g.copy_from_slice(&[-2e-5 * d, 1.0 + 2e-5 * d]);
        x[1] + 1e-5 * d * d
    })?;
    assert!(outcome.converged() && outcome.loss < 1e-8 && x[1] == 0.0, "3: {outcome} {x:?}");
    let (outcome, x) = between(&[1.125, 0.125], &[1.0, 0.0], &[FREE; 2], |x, g| {
        g.copy_from_slice(&[(x[0] + 1.0).powi(2), 1.0]);
        (x[0] + 1.0).powi(3) / 3.0 + x[1]
    })?;
    assert!(outcome.converged() && x == [1.0, 0.0], "4: {outcome} {x:?}");
    let (outcome, x) = between(&[0.0, 0.0], &[-1.5, -3.0], &[4.0, 3.0], |x, g| {
        let (s, d) = (x[0] + x[1], x[0] - x[1]);
        g.copy_from_slice(&[s.cos() + 2.0 * d - 1.5, s.cos() - 2.0 * d + 2.5]);
        s.sin() + d * d - 1.5 * x[0] + 2.5 * x[1] + 1.0
    })?;
    let want = -0.5 * 3.0f64.sqrt() - std::f64::consts::FRAC_PI_3;
    assert!(outcome.converged() && (outcome.loss - want).abs() < 1e-12, "5: {outcome} {x:?}");
    let (outcome, x) = between(&[2.0; 5], &[0.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0], |x, g| {
        let product: f64 = x.iter().product();
        for (i, g) in g.iter_mut().enumerate() {
            let others: f64 = (0..5).filter(|&j| j != i).map(|j| x[j]).product();
            *g = -others / 120.0;
        }
        2.0 - product / 120.0
    })?;
    assert!(outcome.converged() && x == [1.0, 2.0, 3.0, 4.0, 5.0], "45: {outcome} {x:?}");
    Ok(())
}

/// A thousand variables, half of which end at a bound: min ½Σ hᵢ(xᵢ − mᵢ)² in a box is the minimum
/// projected into it; and coupled ones satisfy the conditions of a minimum.
#[test]
fn many_variables_between_bounds() -> Result<()> {
    let n = 1000;
    let h = |i: usize| 1.0 + 1e3 * (i as f64 / n as f64).powi(2);
    let m = |i: usize| ((i * 7919) % 200) as f64 / 50.0 - 2.0;
    let (lower, upper) = (vec![-1.0; n], vec![1.0; n]);
    let (outcome, x) = between(&vec![0.3; n], &lower, &upper, |x, g| {
        let mut sum = 0.0;
        for i in 0..n {
            g[i] = h(i) * (x[i] - m(i));
            sum += 0.5 * g[i] * (x[i] - m(i));
        }
        sum
    })?;
    assert!(outcome.converged() && outcome.iterations < 600, "{outcome}");
    let worst = (0..n).map(|i| (x[i] - m(i).clamp(-1.0, 1.0)).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-8, "{outcome}: {worst}");

    let upper: Vec<f64> = (0..n).map(|i| if i % 3 == 0 { 0.5 } else { FREE }).collect();
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", Tensor::vector(repeated(&[-1.2, 1.0], n)));
    let loss = rosenbrock(w);
    let gradient = tape.gradient(loss, &[w])?[0];
    let fit = LbfgsB::new().with_gradient_tolerance(1e-8).minimize(loss)?.with_bounds(
        w,
        -FREE,
        Tensor::vector(upper.clone()),
    )?;
    let mut session = Session::new(&tape)?;
    let outcome = fit.run(&mut session, &[])?;
    assert!(outcome.converged(), "{outcome}");
    let gradient = session.run(gradient, &[])?;
    let x = session.value(w)?;
    let mut held = 0;
    for ((&x, &g), &upper) in x.as_slice().iter().zip(gradient.as_slice()).zip(&upper) {
        assert!(x <= upper);
        match x == upper {
            true => assert!(g < 1e-8),
            false => assert!(g.abs() <= 1e-8),
        }
        held += usize::from(x == upper);
    }
    assert_eq!(held, n.div_ceil(3));
    Ok(())
}

#[test]
fn bounds_are_in_the_variables_units_and_what_is_fixed_stays() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (a, b) = (tape.variable("a", 700.0), tape.variable("b", Tensor::vector(vec![1e-3; 2])));
    let loss = (a / 1000.0 - 1.0).square() + ((b * 1000.0) - 3.0).square().sum();
    let fit = LbfgsB::new()
        .minimize(loss)?
        .with_bounds(a, 0.0, 900.0)?
        .with_bounds(b, Tensor::vector(vec![0.0, 1e-3]), Tensor::vector(vec![0.1, 1e-3]))?
        .with_start_scales();
    let mut session = Session::new(&tape)?;
    let outcome = fit.run(&mut session, &[])?;
    assert!(outcome.converged(), "{outcome}");
    assert_eq!(session.value(a)?.item()?, 900.0);
    let b = session.value(b)?;
    assert!((b.as_slice()[0] - 3e-3).abs() < 1e-9 && b.as_slice()[1] == 1e-3, "{b:?}");
    // From outside: the start is projected first.
    session.assign(a, &5000.0)?;
    assert!(fit.run(&mut session, &[])?.converged());
    assert_eq!(session.value(a)?.item()?, 900.0);
    Ok(())
}

#[test]
fn misuse_is_refused_by_name() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", Tensor::zeros([3])?);
    let other = tape.variable("other", 0.0);
    let loss = x.square().sum();
    let argument = ErrorKind::Argument;
    refused(
        LbfgsB::new().with_history(0).minimize(loss),
        argument,
        &["lbfgsb: expected a history"],
    );
    refused(
        TrustRegion::new().with_radius(0.0).minimize(loss),
        argument,
        &["trust_region", "radius"],
    );
    for bad in [-1.0, f64::NAN] {
        let text = "expected a finite gradient tolerance ≥ 0, got";
        let cg = ConjugateGradient::new().with_gradient_tolerance(bad).minimize(loss);
        refused(cg, argument, &["conjugate_gradient", text]);
        refused(NewtonCg::new().with_gradient_tolerance(bad).minimize(loss), argument, &[text]);
    }
    refused(ConjugateGradient::new().with_wolfe(0.5, 0.6).minimize(loss), argument, &["c1 < 1/2"]);
    refused(NewtonCg::new().with_max_evaluations(0).minimize(loss), argument, &["evaluations ≥ 1"]);
    let fit = || LbfgsB::new().minimize(loss);
    refused(fit()?.with_bounds(other, 0.0, 1.0), argument, &["lbfgsb", "variables that are moved"]);
    refused(fit()?.with_bounds(x, 1.0, 0.0), argument, &["lower ≤ upper, got 1 and 0"]);
    refused(fit()?.with_bounds(x, f64::NAN, 0.0), argument, &["lower ≤ upper, got NaN"]);
    let two = Tensor::vector(vec![0.0; 2]);
    refused(fit()?.with_bounds(x, two, 1.0), ErrorKind::Shape, &["a number or [3], got [2]"]);
    refused(Bounds::new(vec![0.0], vec![]), argument, &["as many lower as upper, got 1 and 0"]);
    let method = LbfgsB::new().with_bounds(Bounds::new(vec![0.0], vec![1.0])?);
    let mut f = |_: &[f64], _: &mut [f64]| Ok(0.0);
    let wrong = method.descend(&mut f, &mut [0.0, 0.0], &mut |_| ControlFlow::Continue(()));
    refused(wrong, argument, &["lbfgsb: expected bounds for 2 variables, got 1"]);
    Ok(())
}
