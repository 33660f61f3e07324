//! Gauss-Newton and Levenberg-Marquardt: NIST's certified regressions from both starts, functions
//! with known minima, and that everything else they may meet has a name.

mod errors;
mod nist;

use errors::refused;
use gradtape::optim::{
    Bounds, Fit, Fitter, GaussNewton, LeastSquares, LevenbergMarquardt, Reason, Residuals,
    RobustLoss, Solver,
};
use gradtape::{ANY, ErrorKind, Expr, Philox, Result, Scalar, Session, Tape, Tensor};
use nalgebra::DMatrix;
use std::ops::ControlFlow;

/// The decimal digits that the worst of these has.
fn digits<'a>(got: impl IntoIterator<Item = &'a f64>, want: &[f64]) -> f64 {
    let errors = got.into_iter().zip(want).map(|(got, want)| ((got - want) / want).abs());
    // NaN is the worst.
    let worst = errors.fold(1e-16, |worst, e| if e <= worst { worst } else { e });
    -worst.log10()
}

/// The digits of parameters and standard errors that a fit from this start reaches.
fn certified_digits<M: Fitter>(
    problem: &nist::Problem,
    start: &[f64],
    method: impl for<'t> Fn(Expr<'t>) -> Result<LeastSquares<M>>,
) -> Result<(f64, f64, Fit)> {
    let tape = Tape::new();
    let y = tape.placeholder("y", [ANY]);
    let x: Vec<_> = problem.x.iter().map(|_| tape.placeholder("x", [ANY])).collect();
    let b: Vec<_> = start.iter().map(|&b| tape.variable("b", b)).collect();
    let residuals = (problem.model)(&x, &b) - y;
    let fit = method(residuals)?;
    let mut session = Session::new(&tape)?;
    let data: Vec<_> = problem.x.iter().map(|x| Tensor::vector(x.clone())).collect();
    let ys = Tensor::vector(problem.y.clone());
    let mut feeds: Vec<_> = x.iter().zip(&data).map(|(x, data)| x.feed(data)).collect();
    feeds.push(y.feed(&ys));
    let fit = fit.run(&mut session, &feeds)?;
    let parameters = digits(session.parameters(), &problem.certified);
    let errors = match fit.standard_errors() {
        Ok(errors) => digits(&errors, &problem.standard_errors),
        Err(_) => 0.0,
    };
    Ok((parameters, errors, fit))
}

#[test]
fn nists_certified_values_from_both_starts() -> Result<()> {
    for problem in nist::problems() {
        for start in &problem.starts {
            for solver in [Solver::Qr, Solver::Normal] {
                let method = LevenbergMarquardt::new().with_solver(solver);
                let (parameters, errors, fit) =
                    certified_digits(&problem, start, |r| method.least_squares(r))?;
                let what = format!("{} {solver:?}: {}", problem.name, fit.outcome);
                assert!(parameters >= 8.0, "{what}: {parameters:.1} digits");
                // The residuals of Lanczos1 are rounding, from the fourth digit of their squares.
                let rounding = problem.name == "Lanczos1";
                let (least, tolerance) = if rounding { (2.0, 1e-2) } else { (8.0, 1e-10) };
                assert!(errors >= least, "{what}: {errors:.1} digits of standard errors");
                let sum = 2.0 * fit.outcome.loss / problem.residual_sum_of_squares;
                assert!((sum - 1.0).abs() <= tolerance, "{what}");
                assert!(fit.outcome.converged() || fit.outcome.reason == Reason::NoProgress);
                assert!(fit.outcome.iterations < 1000, "{what}");
            }
        }
    }
    Ok(())
}

/// From the near starts Gauss-Newton finds the same; from the far ones of four it does not.
#[test]
fn gauss_newton_on_nists_regressions() -> Result<()> {
    let mut missed = vec![];
    for problem in nist::problems() {
        for (start, far_or_near) in problem.starts.iter().zip(["far", "near"]) {
            for solver in [Solver::Qr, Solver::Normal] {
                let method = GaussNewton::new().with_solver(solver).with_max_iterations(200);
                let (parameters, _, _) =
                    certified_digits(&problem, start, |r| method.least_squares(r))?;
                // NaN is missed, too.
                if parameters < 8.0 || parameters.is_nan() {
                    missed.push(format!("{} {far_or_near} {solver:?}", problem.name));
                }
            }
        }
    }
    let far = ["Eckerle4", "MGH09", "MGH10", "MGH17", "Rat43"];
    let want = far.iter().flat_map(|name| ["Qr", "Normal"].map(|by| format!("{name} far {by}")));
    assert_eq!(missed, want.collect::<Vec<_>>());
    Ok(())
}

/// A fit of one vector by Levenberg-Marquardt.
fn fit<T: Scalar>(
    method: LevenbergMarquardt,
    start: &[T],
    residuals: impl for<'t> Fn(Expr<'t, T>) -> Expr<'t, T>,
) -> Result<(Fit, Vec<T>)> {
    let tape = Tape::new();
    let x = tape.variable("x", Tensor::vector(start.to_vec()));
    let fit = method.least_squares(residuals(x))?;
    let mut session = Session::new(&tape)?;
    let fit = fit.run(&mut session, &[])?;
    Ok((fit, session.value(x)?.into_vec()))
}

fn element<T: Scalar>(x: Expr<'_, T>, i: usize) -> Expr<'_, T> {
    x.slice((i..i + 1,))
}

fn rosenbrock<T: Scalar>(x: Expr<'_, T>) -> Expr<'_, T> {
    let (a, b) = (element(x, 0), element(x, 1));
    x.tape().concat(&[(b - a.square()) * x.lit(10.0), x.lit(1.0) - a], 0)
}

fn powell_singular(x: Expr<'_>) -> Expr<'_> {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| element(x, i));
    let (bc, ad) = ((b - c * 2.0).square(), (a - d).square());
    x.tape().concat(&[a + b * 10.0, (c - d) * 5f64.sqrt(), bc, ad * 10f64.sqrt()], 0)
}

#[test]
fn residuals_that_vanish_at_the_minimum() -> Result<()> {
    let (outcome, x) = fit(LevenbergMarquardt::new(), &[-1.2f64, 1.0], rosenbrock)?;
    assert!(outcome.outcome.converged() && outcome.outcome.iterations < 30, "{:?}", outcome);
    assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-12), "{x:?}");
    // As many residuals as parameters say nothing of their variance.
    refused(
        outcome.covariance(),
        ErrorKind::Singular,
        &["more residuals than parameters", "2 and 2"],
    );
    assert_eq!(outcome.rank(), 2);

    let (outcome, x) = fit(LevenbergMarquardt::new(), &[3.0, -1.0, 0.0, 1.0], powell_singular)?;
    assert!(x.iter().all(|x| x.abs() < 1e-6), "{} {x:?}", outcome.outcome);
    assert!(outcome.outcome.iterations < 1000, "{}", outcome.outcome);

    let (outcome, x) = fit(LevenbergMarquardt::new(), &[-1.2f32, 1.0], rosenbrock)?;
    assert!(outcome.outcome.converged(), "{}", outcome.outcome);
    assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-5), "{x:?}");

    // Where it starts already.
    let (outcome, _) = fit(LevenbergMarquardt::new(), &[1.0f64, 1.0], rosenbrock)?;
    assert_eq!((outcome.outcome.reason, outcome.outcome.iterations), (Reason::Converged, 0));
    Ok(())
}

fn random(shape: [usize; 2], seed: u64) -> Result<Tensor<f64>> {
    let mut rng = Philox::new(seed, 0);
    Tensor::from_fn(shape, |_| rng.below(2001) as f64 / 1000.0 - 1.0)
}

/// Linear residuals Xw − y: one step, and the textbook's covariance; at 5 parameters with columns
/// recorded, at 40 with products, by rows where residuals are fewer.
#[test]
fn a_linear_regression_is_solved_in_a_step() -> Result<()> {
    for (m, n) in [(30, 5), (90, 40), (35, 40)] {
        let (xs, ys) = (random([m, n], 1)?, random([m, 1], 2)?);
        let tape = Tape::<f64>::new();
        let x = tape.constant(xs.clone());
        let y = tape.placeholder("y", [ANY, 1]);
        // Two variables, one of them a matrix.
        let w = tape.variable("w", Tensor::zeros([n - 1, 1])?);
        let v = tape.variable("v", 0.0);
        let (left, right) = (x.slice((.., 0..n - 1)), x.slice((.., n - 1..n)));
        let residuals = left.matmul(w) + right * v - y;
        for solver in [Solver::Qr, Solver::Normal] {
            let lm = LevenbergMarquardt::new().with_solver(solver).least_squares(residuals)?;
            let gn = GaussNewton::new().with_solver(solver).least_squares(residuals)?;
            assert_eq!(lm.variables(), [w.var(), v.var()]);
            for by in 0..2 {
                let mut session = Session::new(&tape)?;
                let feeds = [y.feed(&ys)];
                let fit = match by {
                    0 => lm.run(&mut session, &feeds)?,
                    _ => gn.run(&mut session, &feeds)?,
                };
                assert!(fit.outcome.converged(), "{m} {n} {by}: {}", fit.outcome);
                let matrix = DMatrix::from(xs.as_matrix());
                let svd = matrix.clone().svd(true, true);
                let b = nalgebra::DVector::from_column_slice(ys.as_slice());
                let got = nalgebra::DVector::from_column_slice(session.parameters());
                if m < n {
                    assert!((&matrix * &got - &b).norm() < 1e-9, "{}", fit.outcome);
                    assert_eq!(fit.rank(), m);
                    refused(fit.covariance(), ErrorKind::Singular, &["expected more residuals"]);
                    continue;
                }
                let want = svd.solve(&b, 1e-12).unwrap();
                assert!((&got - &want).amax() < 1e-10, "{m} {n} {by}: {}", fit.outcome);
                assert!(fit.outcome.iterations <= 3, "{}", fit.outcome);
                let variance = (&matrix * &want - &b).norm_squared() / (m - n) as f64;
                assert!((fit.residual_variance()? / variance - 1.0).abs() < 1e-12);
                let covariance = (matrix.transpose() * &matrix).try_inverse().unwrap() * variance;
                assert!((fit.covariance()? - covariance).amax() < 1e-11);
            }
        }
    }
    Ok(())
}

#[test]
fn singular_jacobians_are_named_and_fitted() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.constant(Tensor::vector((0..8).map(f64::from).collect()));
    let [a, b, c] = ["a", "b", "c"].map(|name| tape.variable(name, 1.0));
    // Only b + c matters.
    let residuals = a * x + (b + c) - x.sqrt();
    let lm = LevenbergMarquardt::new().least_squares(residuals)?;
    let gn = GaussNewton::new().least_squares(residuals)?;
    for by in 0..2 {
        let mut session = Session::new(&tape)?;
        let fit = if by == 0 { lm.run(&mut session, &[])? } else { gn.run(&mut session, &[])? };
        assert!(fit.outcome.converged(), "{}", fit.outcome);
        assert_eq!(fit.rank(), 2);
        let name = ["levenberg_marquardt", "gauss_newton"][by];
        refused(
            fit.standard_errors(),
            ErrorKind::Singular,
            &[name, "of rank 3, got 2", "parameter"],
        );
        assert!(fit.residual_variance()? > 0.0);
    }
    // A parameter that the residuals do not feel where it starts: the slope of x² at 0.
    let (fit, x) = fit(LevenbergMarquardt::new(), &[0.0f64, 3.0], |x| {
        let (a, b) = (element(x, 0), element(x, 1));
        x.tape().concat(&[a.square() + 1.0, b - 1.0, b * 2.0 - 2.0], 0)
    })?;
    assert!(fit.outcome.converged() && x[0] == 0.0 && (x[1] - 1.0).abs() < 1e-12, "{x:?}");
    refused(fit.covariance(), ErrorKind::Singular, &["of rank 2, got 1", "parameter 0"]);
    Ok(())
}

#[test]
fn robust_losses_resist_outliers() -> Result<()> {
    let (slope, intercept) = (2.0, -1.0);
    let noise = |i: usize| 0.01 * (((i * 37) % 11) as f64 - 5.0);
    let xs: Vec<f64> = (0..40).map(|i| i as f64 / 10.0).collect();
    let ys: Vec<f64> = (0..40)
        .map(|i| slope * xs[i] + intercept + noise(i) + if i % 8 == 3 { 10.0 } else { 0.0 })
        .collect();
    let error = |loss: RobustLoss| -> Result<(f64, Fit)> {
        let method = LevenbergMarquardt::new().with_loss(loss);
        let (fit, w) = fit(method, &[0.0f64, 0.0], |w| {
            let x = w.tape().constant(Tensor::vector(xs.clone()));
            element(w, 0) * x + element(w, 1) - Tensor::vector(ys.clone())
        })?;
        assert!(fit.outcome.converged(), "{loss:?}: {}", fit.outcome);
        // The gradient of the loss that is claimed, by its own formula.
        let minimum = |w: &[f64]| -> f64 {
            let r = xs.iter().zip(&ys).map(|(x, y)| w[0] * x + w[1] - y);
            let rho = |r: f64| match loss {
                RobustLoss::Huber(c) if r.abs() > c => c * (r.abs() - 0.5 * c),
                RobustLoss::SoftL1(c) => c * c * ((1.0 + (r / c).powi(2)).sqrt() - 1.0),
                RobustLoss::Cauchy(c) => 0.5 * c * c * (r / c).powi(2).ln_1p(),
                _ => 0.5 * r * r,
            };
            r.map(rho).sum()
        };
        let best = minimum(&w);
        assert!((fit.outcome.loss / best - 1.0).abs() < 1e-12, "{loss:?}");
        for (i, h) in [(0, 1e-4), (0, -1e-4), (1, 1e-4), (1, -1e-4)] {
            let mut beside = w.clone();
            beside[i] += h;
            assert!(minimum(&beside) > best, "{loss:?}");
        }
        Ok(((w[0] - slope).abs().max((w[1] - intercept).abs()), fit))
    };
    assert!(error(RobustLoss::Squares)?.0 > 0.5);
    for loss in [RobustLoss::Huber(0.05), RobustLoss::SoftL1(0.05), RobustLoss::Cauchy(0.05)] {
        let (error, fit) = error(loss)?;
        assert!(error < 0.05, "{loss:?}: {error}");
        assert_eq!(fit.standard_errors()?.len(), 2);
    }
    Ok(())
}

#[test]
fn bounds_hold_and_what_they_hold_has_no_variance() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.constant(Tensor::vector((0..12).map(f64::from).collect()));
    let y: Vec<f64> = (0..12).map(|i| 3.0 * (-0.4 * f64::from(i)).exp() + 0.5).collect();
    let y = Tensor::vector(y);
    let [a, b, c] = ["a", "b", "c"].map(|name| tape.variable(name, 1.0));
    let residuals = a * (-b * x).exp() + c - y.clone();
    let new = LevenbergMarquardt::new;
    let free = new().least_squares(residuals)?;
    let inside =
        new().least_squares(residuals)?.with_bounds(a, 0.0, 10.0)?.with_bounds(b, 0.1, 1.0)?;
    let held = new().least_squares(residuals)?.with_bounds(b, 0.6, f64::INFINITY)?;
    let mut session = Session::new(&tape)?;
    for fit in [&free, &inside] {
        session.assign(b, &1.0)?;
        let fit = fit.run(&mut session, &[])?;
        assert!(fit.outcome.converged(), "{}", fit.outcome);
        let want = [3.0, 0.4, 0.5];
        assert!(digits(session.parameters(), &want) > 10.0, "{:?}", session.parameters());
    }
    let fit = held.run(&mut session, &[])?; // from outside
    assert!(fit.outcome.converged(), "{}", fit.outcome);
    assert_eq!(session.value(b)?.item()?, 0.6);
    // As if it were a constant.
    let (errors, rank) = (fit.standard_errors()?, fit.rank());
    let without = new().least_squares_over(residuals, &[a, c])?.run(&mut session, &[])?;
    assert_eq!((without.outcome.iterations, rank), (0, 2));
    let alone = without.standard_errors()?;
    assert!(
        errors[1] == 0.0 && digits([&errors[0], &errors[2]], &alone) > 9.0,
        "{errors:?} {alone:?}"
    );

    // A corner, and a box without inside; nothing is evaluated outside.
    let bounds = Bounds::new(vec![2.0, 0.25], vec![5.0, 0.25])?;
    let residuals = |x: &[f64], r: &mut [f64]| {
        assert!((2.0..=5.0).contains(&x[0]) && x[1] == 0.25, "{x:?}");
        r.copy_from_slice(&[10.0 * (x[1] - x[0] * x[0]), 1.0 - x[0], 0.1 * x[1]]);
        Ok(())
    };
    let jacobian = |x: &[f64], j: &mut [f64]| {
        j.copy_from_slice(&[-20.0 * x[0], -1.0, 0.0, 10.0, 0.0, 0.1]);
        Ok(())
    };
    let mut x = [4.0, 7.0];
    let method = new().with_bounds(bounds);
    let mut f = (3, residuals, jacobian);
    let fit = method.fit(&mut f, &mut x, &mut |_| ControlFlow::Continue(()))?;
    assert!(fit.outcome.converged() && x == [2.0, 0.25], "{} {x:?}", fit.outcome);
    assert_eq!((fit.rank(), fit.outcome.gradient_norm), (0, 0.0));
    Ok(())
}

#[test]
fn hostile_residuals_have_a_named_end() -> Result<()> {
    let new = LevenbergMarquardt::new;
    // Not finite where it starts: residuals, then the Jacobian alone.
    for (start, residuals) in [
        (-1.0, (|x| x.log()) as for<'t> fn(Expr<'t>) -> Expr<'t>),
        (f64::NAN, |x| x * 2.0),
        (0.0, |x| x.sqrt()),
    ] {
        let (fit, x) = fit(new(), &[start], residuals)?;
        assert_eq!((fit.outcome.reason, fit.outcome.iterations), (Reason::NotFinite, 0));
        assert_eq!(x[0].to_bits(), start.to_bits());
        assert!(fit.covariance().is_err());
    }
    // Not finite beside the path: log of what a full step makes negative.
    let (out, x) = fit(new(), &[40.0f64], |x| x.log() - 1.0)?;
    assert!(out.outcome.converged() && (x[0] - std::f64::consts::E).abs() < 1e-12, "{x:?}");
    // Finite where it starts and nowhere else.
    let mut f = (
        1,
        |x: &[f64], r: &mut [f64]| {
            r[0] = if x[0] == 1.0 { 1.0 } else { f64::NAN };
            Ok(())
        },
        |_: &[f64], j: &mut [f64]| {
            j[0] = 1.0;
            Ok(())
        },
    );
    let go_on = &mut |_: &_| ControlFlow::Continue(());
    let mut x = [1.0];
    let out = new().fit(&mut f, &mut x, go_on)?;
    assert_eq!((out.outcome.reason, x), (Reason::NotFinite, [1.0]));
    let out = GaussNewton::new().fit(&mut f, &mut x, go_on)?;
    assert_eq!((out.outcome.reason, x), (Reason::NotFinite, [1.0]));
    // The Jacobian of another function: no step makes anything smaller.
    let mut f = (
        1,
        |x: &[f64], r: &mut [f64]| {
            r[0] = x[0];
            Ok(())
        },
        |_: &[f64], j: &mut [f64]| {
            j[0] = -1.0;
            Ok(())
        },
    );
    for reason in [
        new().fit(&mut f, &mut x, go_on)?.outcome.reason,
        GaussNewton::new().fit(&mut f, &mut x, go_on)?.outcome.reason,
    ] {
        assert_eq!(reason, Reason::NoProgress);
        assert!((x[0] - 1.0).abs() < 1e-10, "{x:?}");
    }
    // No residuals, and none that depends on anything: nothing is left to do.
    let mut none = (0, |_: &[f64], _: &mut [f64]| Ok(()), |_: &[f64], _: &mut [f64]| Ok(()));
    let out = new().fit(&mut none, &mut [1.0, 2.0], go_on)?;
    assert_eq!((out.outcome.reason, out.outcome.loss), (Reason::Converged, 0.0));
    let (out, x) = fit(new(), &[1.0f64, 2.0], |x| x * 0.0 + 5.0)?;
    assert_eq!((out.outcome.reason, out.rank()), (Reason::Converged, 0));
    assert_eq!(x, [1.0, 2.0]);
    // Sizes near the ends of the range.
    for scale in [1e-150, 1e140] {
        let (out, x) =
            fit(new(), &[3.0f64, -1.0], |x| (x - Tensor::vector(vec![1.0, 2.0])) * scale)?;
        assert!(digits(&x, &[1.0, 2.0]) > 10.0, "{scale}: {} {x:?}", out.outcome);
    }
    Ok(())
}

#[test]
fn limits_are_kept_an_observer_can_stop_and_errors_leave_the_best_point() -> Result<()> {
    let start = [-1.2, 1.0];
    for limit in [0, 1, 3] {
        let (out, _) =
            fit(LevenbergMarquardt::new().with_max_iterations(limit), &start, rosenbrock)?;
        assert_eq!((out.outcome.reason, out.outcome.iterations), (Reason::MaxIterations, limit));
    }
    for limit in [1, 2, 5] {
        let (out, _) =
            fit(LevenbergMarquardt::new().with_max_evaluations(limit), &start, rosenbrock)?;
        assert_eq!((out.outcome.reason, out.outcome.evaluations), (Reason::MaxEvaluations, limit));
    }
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", Tensor::vector(start.to_vec()));
    let handle = GaussNewton::new().least_squares(rosenbrock(x))?;
    let slow = LevenbergMarquardt::new().with_radius(1e-2).least_squares(rosenbrock(x))?;
    let mut session = Session::new(&tape)?;
    assert!(handle.run(&mut session, &[])?.outcome.converged());
    session.assign(x, &Tensor::vector(start.to_vec()))?;
    let mut seen = vec![];
    let out = slow.run_with(&mut session, &[], |progress| {
        seen.push(*progress);
        if progress.iteration == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    assert_eq!((out.outcome.reason, out.outcome.iterations, seen.len()), (Reason::Stopped, 2, 3));
    assert!(seen.windows(2).all(|w| w[1].loss < w[0].loss && w[1].step > 0.0));
    assert_eq!(out.outcome.loss, seen[2].loss);

    let mut calls = 0;
    let mut f = (
        2,
        |x: &[f64], r: &mut [f64]| {
            calls += 1;
            r.copy_from_slice(&[10.0 * (x[1] - x[0] * x[0]), 1.0 - x[0]]);
            match calls {
                4 => Err(gradtape::Error::new(ErrorKind::Io, "gone")),
                _ => Ok(()),
            }
        },
        |x: &[f64], j: &mut [f64]| {
            j.copy_from_slice(&[-20.0 * x[0], -1.0, 10.0, 0.0]);
            Ok(())
        },
    );
    let mut best = start;
    let failed =
        LevenbergMarquardt::new().fit(&mut f, &mut best, &mut |_| ControlFlow::Continue(()));
    refused(failed, ErrorKind::Io, &["gone"]);
    assert!(best != start && f.n_residuals() == 2);
    Ok(())
}

#[test]
fn misuse_is_refused_by_name() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", Tensor::zeros([3])?);
    let fed = tape.placeholder("fed", [3]);
    let residuals = x - fed;
    let (argument, gradient) = (ErrorKind::Argument, ErrorKind::Gradient);
    let lm = LevenbergMarquardt::new;
    for bad in [-1.0, f64::NAN] {
        let text = format!("levenberg_marquardt: expected a finite tolerance ≥ 0, got {bad}");
        refused(lm().with_tolerance(bad).least_squares(residuals), argument, &[&text]);
    }
    refused(lm().with_radius(0.0).least_squares(residuals), argument, &["radius > 0"]);
    refused(lm().with_max_evaluations(0).least_squares(residuals), argument, &["evaluations ≥ 1"]);
    let huber = GaussNewton::new().with_loss(RobustLoss::Huber(-1.0));
    refused(huber.least_squares(residuals), argument, &["gauss_newton", "scale of a robust loss"]);
    refused(lm().least_squares(fed * 2.0), gradient, &["least_squares: expected residuals that"]);
    refused(lm().least_squares_over(residuals, &[fed]), argument, &["expected a variable, got"]);
    refused(lm().least_squares_over(residuals, &[x, x]), argument, &["each variable once"]);
    refused(lm().least_squares_over(residuals, &[x; 0]), argument, &["variables, got none"]);
    let unused = tape.variable("unused", 0.0);
    refused(lm().least_squares_over(residuals, &[unused]), gradient, &["does not depend on"]);
    let many = tape.variable("many", Tensor::zeros([40])?);
    refused(
        lm().least_squares_over(many * 2.0, &[unused, many]),
        gradient,
        &["do not depend on unused"],
    );
    let handle = lm().least_squares(residuals)?;
    refused(handle.clone().with_bounds(unused, 0.0, 1.0), argument, &["variables that are moved"]);
    refused(handle.clone().with_bounds(x, 1.0, 0.0), argument, &["lower ≤ upper"]);
    let mut session = Session::new(&tape)?;
    refused(handle.run(&mut session, &[]), ErrorKind::NotFed, &["fed"]);
    Ok(())
}
