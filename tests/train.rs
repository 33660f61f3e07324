//! Rows C1 to C4, C6, C9: whole trainings against closed forms and reference numbers; and what
//! holds of every training: the same seed gives the same bits, and steps allocate nothing.

mod support;

use gradtape::data::{Dataset, EarlyStopping, Standardizer, Verdict, metrics};
use gradtape::io::Csv;
use gradtape::nn::{self, Activation, Init, Mlp};
use gradtape::optim::{Adam, Lbfgs, Schedule, Sgd};
use gradtape::{ANY, Expr, Feed, Index, Philox, Result, Session, Tape, Tensor};
use nalgebra::{DMatrix, DVector};
use support::counted;

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

/// A CSV file that is shipped, its features standardized: `[n, features]`, and the target column.
fn table(name: &str, target: &str) -> Result<(Tensor, Tensor)> {
    let file = format!("{}/datasets/{name}/{name}.csv", env!("CARGO_MANIFEST_DIR"));
    let table = Csv::new().read(file)?;
    let mut x = table.numbers(table.all_except([target])?)?;
    Standardizer::fit(&x)?.apply(&mut x)?;
    Ok((x, table.numbers([target])?))
}

fn gaussian(shape: [usize; 2], seed: u64) -> Result<Tensor> {
    Init::Normal { std: 1.0 }.tensor(shape, &mut Philox::new(seed, 0))
}

/// ‖∂loss/∂(all of the variables)‖₂
fn gradient_norm<'t>(loss: Expr<'t>, variables: &[Expr<'t>]) -> Result<Expr<'t>> {
    let gradients = loss.tape().gradient(loss, variables)?;
    let squares = gradients.iter().map(|g| g.square().sum());
    Ok(squares.fold(loss.lit(0.0), |sum, square| sum + square).sqrt())
}

/// Minimizes until the gradient's norm is at most `tolerance`; panics after 20,000 steps.
fn descend(
    (loss, variables): (Expr, &[Expr]),
    optimizer: Sgd,
    feeds: &[Feed<f64>],
    tolerance: f64,
) -> Result<Session> {
    let norm = gradient_norm(loss, variables)?;
    let step = optimizer.minimize(loss)?;
    let mut session = Session::new(loss.tape())?;
    for _ in 0..20_000 {
        if session.run(norm, feeds)?.item()? <= tolerance {
            return Ok(session);
        }
        session.run(step, feeds)?;
    }
    panic!("the gradient's norm is {} > {tolerance}", session.run(norm, feeds)?.item()?);
}

/// Heavy-ball steps that converge for curvatures from 0.012 to 15.
fn heavy_ball() -> Sgd {
    Sgd::new(0.25).with_momentum(0.9)
}

/// As [`descend`], by L-BFGS.
fn lbfgs(
    (loss, variables): (Expr, &[Expr]),
    feeds: &[Feed<f64>],
    tolerance: f64,
) -> Result<Session> {
    let fit = Lbfgs::new().with_gradient_tolerance(tolerance).minimize_over(loss, variables)?;
    let mut session = Session::new(loss.tape())?;
    let outcome = fit.run(&mut session, feeds)?;
    assert!(outcome.converged() && outcome.evaluations < 200, "{outcome}");
    Ok(session)
}

/// Minimizes a loss in these variables to a gradient of norm ≤ tolerance.
type Minimize = fn((Expr, &[Expr]), &[Feed<f64>], f64) -> Result<Session>;

/// x·w + b with w of `[features, 1]`, both from 0, the residuals' squares summed, and λ‖w‖²; all
/// divided by n, and minimized. Gives w, then b.
fn ridge(x: &Tensor, y: &Tensor, lambda: f64, tolerance: f64) -> Result<Vec<f64>> {
    ridge_by(
        |problem, feeds, tol| descend(problem, heavy_ball(), feeds, tol),
        x,
        y,
        lambda,
        tolerance,
    )
}

fn ridge_by(
    minimize: Minimize,
    x: &Tensor,
    y: &Tensor,
    lambda: f64,
    tolerance: f64,
) -> Result<Vec<f64>> {
    let (n, n_features) = (x.shape().extents()[0], x.shape().extents()[1]);
    let tape = Tape::new();
    let (inputs, targets) =
        (tape.placeholder("x", [ANY, n_features]), tape.placeholder("y", [ANY, 1]));
    let w = tape.variable("w", Tensor::zeros([n_features, 1])?);
    let b = tape.variable("b", 0.0);
    let squares = (inputs.matmul(w) + b).squared_error(targets).sum();
    let loss = (squares + nn::l2(&tape, &[w], lambda)) / n as f64;
    let feeds = [inputs.feed(x), targets.feed(y)];
    let session = minimize((loss, &[w, b]), &feeds, tolerance)?;
    Ok(session.parameters().to_vec())
}

/// (XᵀX + λI)⁻¹Xᵀy with a column of ones in X, for which λ is 0.
fn ridge_closed_form(x: &Tensor, y: &Tensor, lambda: f64) -> DVector<f64> {
    let n_features = x.as_matrix().ncols();
    let x = x.as_matrix().into_owned().insert_column(n_features, 1.0);
    let mut gram = x.transpose() * &x;
    (0..n_features).for_each(|i| gram[(i, i)] += lambda);
    gram.cholesky().unwrap().solve(&(x.transpose() * y.as_dvector()))
}

/// R⁻¹Qᵀy of [X 1].
fn qr_solution(x: &Tensor, y: &Tensor) -> DVector<f64> {
    let n_features = x.as_matrix().ncols();
    let qr = x.as_matrix().into_owned().insert_column(n_features, 1.0).qr();
    qr.r().solve_upper_triangular(&(qr.q().transpose() * y.as_dvector())).unwrap()
}

fn largest_difference<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    a.into_iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn c1_the_weights_of_noise_free_data_are_recovered() -> Result<()> {
    let (x, truth) = (gaussian([50, 4], 1)?, gaussian([4, 3], 2)?);
    let y = Tensor::from(x.as_matrix() * truth.as_matrix());
    let tape = Tape::new();
    let (inputs, targets) = (tape.placeholder("x", [ANY, 4]), tape.placeholder("y", [ANY, 3]));
    let w = tape.variable("W", gaussian([4, 3], 3)?);
    let loss = inputs.matmul(w).squared_error(targets).sum() / 50.0;
    let feeds = [inputs.feed(&x), targets.feed(&y)];

    // Where it starts, the gradient is 2Xᵀ(XW − Y)/N.
    let gradient = tape.gradient(loss, &[w])?[0];
    let mut session = Session::new(&tape)?;
    let got = session.run(gradient, &feeds)?;
    let start = session.value(w)?;
    let residual = x.as_matrix() * start.as_matrix() - y.as_matrix();
    let want: DMatrix<f64> = x.as_matrix().transpose() * residual * (2.0 / 50.0);
    assert!(largest_difference(got.as_slice(), &want) <= 1e-13 * want.amax());

    let session = descend((loss, &[w]), heavy_ball(), &feeds, 1e-9)?;
    let learned = session.value(w)?;
    assert!(largest_difference(learned.as_slice(), truth.as_slice()) <= 1e-8);
    Ok(())
}

#[test]
fn c2_ridge_with_fewer_samples_than_weights() -> Result<()> {
    let (x, y) = (gaussian([20, 50], 1)?, gaussian([20, 1], 2)?);
    let learned = ridge(&x, &y, 2.0, 1e-12)?;
    let exact = ridge_closed_form(&x, &y, 2.0);
    assert!(largest_difference(&learned, &exact) <= 1e-10);
    Ok(())
}

#[test]
fn c2_descent_from_zero_reaches_the_solution_of_least_norm() -> Result<()> {
    let (x, y) = (gaussian([20, 50], 1)?, gaussian([20, 1], 2)?);
    let tape = Tape::new();
    let (inputs, targets) = (tape.placeholder("x", [ANY, 50]), tape.placeholder("y", [ANY, 1]));
    let w = tape.variable("w", Tensor::zeros([50, 1])?);
    let loss = inputs.matmul(w).squared_error(targets).mean();
    let feeds = [inputs.feed(&x), targets.feed(&y)];
    let session = descend((loss, &[w]), heavy_ball(), &feeds, 1e-10)?;

    // Of all w with Xw = y the shortest is Xᵀ(XXᵀ)⁻¹y; any other differs by a vector X maps to 0.
    let x = x.as_matrix();
    let shortest = x.transpose() * (x * x.transpose()).cholesky().unwrap().solve(&y.as_matrix());
    assert!(largest_difference(session.value(w)?.as_slice(), &shortest) <= 1e-8);
    Ok(())
}

#[test]
fn c2_a_network_with_more_weights_than_samples_fits_noise() -> Result<()> {
    let (x, y) = (gaussian([20, 5], 1)?, gaussian([20, 1], 2)?);
    let tape = Tape::new();
    let (inputs, targets) = (tape.placeholder("x", [ANY, 5]), tape.placeholder("y", [ANY, 1]));
    let model = Mlp::new(&tape, &[5, 50, 1], Activation::Tanh, &mut Philox::new(1, 0))?;
    let loss = model.forward(inputs).squared_error(targets).mean();
    let step = Adam::new(0.01).minimize(loss)?;
    let mut session = Session::new(&tape)?;
    let feeds = [inputs.feed(&x), targets.feed(&y)];
    let first = session.run(loss, &feeds)?.item()?;
    for _ in 0..2000 {
        session.run(step, &feeds)?;
    }
    let last = session.run(loss, &feeds)?.item()?;
    assert!(last < 1e-4 * first, "{first} to {last}");
    Ok(())
}

#[test]
fn c3_linear_regression_equals_its_closed_form() -> Result<()> {
    let (x, y) = table("diabetes", "progression")?;
    let learned = ridge(&x, &y, 0.0, 1e-11)?;
    assert!(largest_difference(&learned, &qr_solution(&x, &y)) <= 1e-8);
    let learned = ridge_by(lbfgs, &x, &y, 0.0, 1e-10)?;
    assert!(largest_difference(&learned, &qr_solution(&x, &y)) <= 1e-8);
    Ok(())
}

/// Minibatches of 32 at a rate that falls as 1/t: the mean square of the residuals ends within
/// one part in a thousand of the least.
#[test]
fn c3_minibatches_come_close_to_the_closed_form() -> Result<()> {
    let (x, y) = table("diabetes", "progression")?;
    let tape = Tape::new();
    let (inputs, targets) = (tape.placeholder("x", [ANY, 10]), tape.placeholder("y", [ANY, 1]));
    let w = tape.variable("w", Tensor::zeros([10, 1])?);
    let b = tape.variable("b", 0.0);
    let loss = (inputs.matmul(w) + b).squared_error(targets).mean();
    // The factor is above the reciprocal of the least curvature, as convergence as 1/t wants.
    let rate = Schedule::custom(|t| 60.0 / (1200.0 + t as f64));
    let step = Sgd::new(rate).minimize(loss)?;
    let mut session = Session::new(&tape)?;
    let mut batches = Dataset::new(x.clone(), y.clone())?.batches(32)?.shuffle(1);
    let (mut batch_x, mut batch_y) = Default::default();
    for _epoch in 0..500 {
        while batches.next_into(&mut batch_x, &mut batch_y)? {
            session.run(step, &[inputs.feed(&batch_x), targets.feed(&batch_y)])?;
        }
    }
    let feeds = [inputs.feed(&x), targets.feed(&y)];
    let reached = session.run(loss, &feeds)?.item()?;
    let exact = qr_solution(&x, &y);
    session.assign(w, &Tensor::new([10, 1], exact.as_slice()[..10].to_vec())?)?;
    session.assign(b, &exact[10])?;
    let least = session.run(loss, &feeds)?.item()?;
    assert!(reached >= least && reached <= 1.001 * least, "{reached} {least}");
    Ok(())
}

#[test]
fn c4_ridge_equals_its_closed_form_and_spares_the_intercept() -> Result<()> {
    let (x, y) = table("diabetes", "progression")?;
    for lambda in [0.1, 10.0, 300.0] {
        let learned = ridge(&x, &y, lambda, 1e-12)?;
        let difference = largest_difference(&learned, &ridge_closed_form(&x, &y, lambda));
        assert!(difference <= 1e-10, "λ = {lambda}: {difference}");
        // Of centered features the intercept is the mean of y, whatever λ.
        let mean = y.as_dvector().mean();
        assert!((learned[10] - mean).abs() <= 1e-10);
    }
    Ok(())
}

#[test]
fn c4_collinear_columns_share_their_weight() -> Result<()> {
    let (x, y) = table("diabetes", "progression")?;
    let bmi = x.as_matrix().column(2).into_owned();
    let mut twice = x.as_matrix().into_owned().insert_column(10, 0.0);
    twice.set_column(10, &bmi);
    let twice = Tensor::from(twice);
    let learned = ridge(&twice, &y, 1.0, 1e-12)?;
    let difference = largest_difference(&learned, &ridge_closed_form(&twice, &y, 1.0));
    assert!(difference <= 1e-10, "{difference}");
    assert!((learned[2] - learned[10]).abs() <= 1e-10);
    Ok(())
}

/// What converges for the classifiers.
fn momentum(problem: (Expr, &[Expr]), feeds: &[Feed<f64>], tolerance: f64) -> Result<Session> {
    descend(problem, Sgd::new(1.0).with_momentum(0.95), feeds, tolerance)
}

/// Minimizes the mean loss of these logits plus ‖w‖²/2n to a gradient of norm ≤ 1e-10, and
/// compares with tests/reference/classifiers.csv, made by scikit-learn.
fn compare_with_reference(
    minimize: Minimize,
    (name, target, n_classes): (&str, &str, usize),
) -> Result<()> {
    let (x, y) = table(name, target)?;
    let (n, n_features) = (x.shape().extents()[0], x.shape().extents()[1]);
    let labels = Tensor::vector(y.as_slice().iter().map(|&y| y as Index).collect());
    let n_columns = if n_classes == 2 { 1 } else { n_classes };
    let tape = Tape::new();
    let inputs = tape.placeholder("x", [ANY, n_features]);
    let targets = tape.index_placeholder("y", [ANY]);
    let w = tape.variable("w", Tensor::zeros([n_features, n_columns])?);
    let b = tape.variable("b", Tensor::zeros(n_columns)?);
    let logits = inputs.matmul(w) + b;
    let losses = match n_classes {
        2 => logits.squeeze(&[-1]).logistic_loss(targets.to_float()),
        _ => logits.softmax_cross_entropy(targets),
    };
    let loss = losses.mean() + nn::l2(&tape, &[w], 0.5 / n as f64);
    let feeds = [inputs.feed(&x), targets.feed(&labels)];
    let mut session = minimize((loss, &[w, b]), &feeds, 1e-10)?;

    let scores = session.run(logits, &feeds[..1])?;
    let predicted = match n_classes {
        2 => Tensor::vector(scores.as_slice().iter().map(|&z| Index::from(z > 0.0)).collect()),
        _ => metrics::argmax(&scores)?,
    };
    let accuracy = metrics::accuracy(&labels, &predicted)?;
    let (w, b) = (session.value(w)?, session.value(b)?);
    // Softmax does not feel a number added to all intercepts; scikit-learn's add up to 0.
    let shift = if n_columns > 1 { b.as_dvector().mean() } else { 0.0 };

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/classifiers.csv");
    let reference = std::fs::read_to_string(file).unwrap();
    let mut compared = 0;
    for row in reference.lines().skip(1).filter(|row| row.starts_with(name)) {
        let cells: Vec<&str> = row.split(',').collect();
        let want: f64 = cells[1].parse().unwrap();
        let class = cells[3].parse().unwrap_or(0);
        let got = match cells[2] {
            "accuracy" => accuracy,
            "intercept" => b.as_slice()[class] - shift,
            feature => w.get(&[feature.parse().unwrap(), class]).unwrap(),
        };
        assert!((got - want).abs() <= 1e-6, "{row}: got {got}");
        compared += 1;
    }
    assert_eq!(compared, (n_features + 1) * n_columns + 1);
    Ok(())
}

#[test]
fn c6_logistic_regression_equals_scikit_learns() -> Result<()> {
    compare_with_reference(momentum, ("breast_cancer", "benign", 2))?;
    compare_with_reference(lbfgs, ("breast_cancer", "benign", 2))
}

#[test]
fn c6_softmax_regression_equals_scikit_learns() -> Result<()> {
    compare_with_reference(momentum, ("iris", "species", 3))?;
    compare_with_reference(lbfgs, ("iris", "species", 3))
}

/// Split, scaling fitted on the training part, early stopping on the validation part, and a test
/// part that nothing of this has seen.
#[test]
fn c9_a_training_stops_early_and_keeps_its_best_weights() -> Result<()> {
    const MAX_EPOCHS: usize = 300;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/breast_cancer/breast_cancer.csv");
    let table = Csv::new().read(file)?;
    let classes = table.classes("benign")?;
    let x = table.numbers::<f64>(table.all_except(["benign"])?)?;
    let data = Dataset::new(x, table.labels("benign", &classes)?)?;
    let [train, validation, test] = data.split_stratified([0.5, 0.25, 0.25], 3)?;
    let scale = Standardizer::fit(&train.x()?)?;
    let [train, validation, test] =
        [&train, &validation, &test].map(|part| part.standardized(&scale).unwrap());

    let tape = Tape::new();
    let inputs = tape.placeholder("x", [ANY, 30]);
    let targets = tape.index_placeholder("y", [ANY]);
    let model = Mlp::new(&tape, &[30, 32, 2], Activation::Relu, &mut Philox::new(3, 0))?;
    let logits = model.forward(inputs);
    let predicted = logits.argmax(-1);
    let loss = logits.softmax_cross_entropy(targets).mean();
    let step = Adam::new(3e-3).minimize(loss)?;
    let mut session = Session::new(&tape)?;
    let mut stopping = EarlyStopping::new(10);
    let mut batches = train.batches(32)?.shuffle(3);
    let (valid_x, valid_y) = (validation.x()?, validation.y()?);
    let valid_feeds = [inputs.feed(&valid_x), targets.feed(&valid_y)];
    let (mut best, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..MAX_EPOCHS {
        for batch in &mut batches {
            session.run(step, &[inputs.feed(&batch.x), targets.feed(&batch.y)])?;
        }
        losses.push(session.run(loss, &valid_feeds)?.item()?);
        match stopping.update(losses[losses.len() - 1]) {
            Verdict::Improved => best = session.run(&model.parameters(), &[])?,
            Verdict::Wait => {}
            Verdict::Stop => break,
        }
    }
    assert!(losses.len() < MAX_EPOCHS, "never stopped");
    let (best_epoch, best_loss) = stopping.best().unwrap();
    assert_eq!(best_epoch + 11, losses.len());
    assert!(losses[losses.len() - 1] > best_loss);
    for (variable, value) in model.parameters().into_iter().zip(&best) {
        session.assign(variable, value)?;
    }
    assert_eq!(session.run(loss, &valid_feeds)?.item()?.to_bits(), best_loss.to_bits());

    let predicted = session.run(predicted, &[inputs.feed(&test.x()?)])?;
    let accuracy = metrics::accuracy(&test.y()?, &predicted)?;
    assert!(accuracy >= 0.94, "{accuracy}");
    Ok(())
}

/// A network, its data in batches of 32 with a rest of 4, and three epochs of Adam.
fn train_small_network(seed: u64) -> Result<(Vec<f32>, [usize; 3])> {
    let mut rng = Philox::new(seed, 0);
    let x = Init::Normal { std: 1.0 }.tensor([100, 20], &mut rng)?;
    let y = Tensor::from_fn([100], |at| (at[0] % 10) as Index)?;
    let tape = Tape::<f32>::new();
    let inputs = tape.placeholder("x", [ANY, 20]);
    let targets = tape.index_placeholder("y", [ANY]);
    let model = Mlp::new(&tape, &[20, 32, 10], Activation::Relu, &mut rng)?;
    let loss = model.forward(inputs).softmax_cross_entropy(targets).mean();
    let step = Adam::new(1e-3).minimize(loss)?;
    let mut session = Session::new(&tape)?;
    let mut batches = Dataset::new(x, y)?.batches(32)?.shuffle(seed);
    let (mut batch_x, mut batch_y, mut out) = Default::default();
    let mut allocations = [0; 3];
    for calls in &mut allocations {
        let (result, _, n) = counted(|| -> Result<()> {
            while batches.next_into(&mut batch_x, &mut batch_y)? {
                let feeds = [inputs.feed(&batch_x), targets.feed(&batch_y)];
                session.run_into((loss, step), &feeds, &mut out)?;
            }
            Ok(())
        });
        (*calls, _) = (n, result?);
    }
    assert_eq!(session.steps(step)?, 12);
    Ok((session.parameters().to_vec(), allocations))
}

#[test]
fn a_training_step_allocates_nothing_once_each_batch_size_was_seen() -> Result<()> {
    let (_, allocations) = train_small_network(1)?;
    assert!(allocations[0] > 0, "the counter counts");
    assert_eq!(allocations[1..], [0, 0]);
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_bits() -> Result<()> {
    let bits = |seed| -> Result<Vec<u32>> {
        Ok(train_small_network(seed)?.0.into_iter().map(f32::to_bits).collect())
    };
    let first = bits(1)?;
    assert_eq!(first, bits(1)?);
    assert_ne!(first, bits(2)?);
    Ok(())
}
