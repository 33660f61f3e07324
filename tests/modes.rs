//! Forward mode, Hessian-vector and Gauss-Newton products, Jacobians and Hessians: against closed
//! forms, explicit matrices and differences of gradients; what is refused.

use gradtape::{ANY, ErrorKind, Expr, Feed, Fetches, Report, Result, Session, Tape, Tensor};

fn vector(values: &[f64]) -> Tensor {
    Tensor::vector(values.to_vec())
}

fn matrix(rows: usize, columns: usize, seed: f64) -> Tensor {
    Tensor::from_fn([rows, columns], |at| (seed + at[0] as f64 * 1.7 + at[1] as f64 * 0.9).sin())
        .unwrap()
}

fn run<F: Fetches<f64>>(tape: &Tape, fetches: F, feeds: &[Feed<'_, f64>]) -> F::Output {
    Session::new(tape).unwrap().run(fetches, feeds).unwrap()
}

fn assert_near(got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.shape(), want.shape());
    let scale = want.as_slice().iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    for (got, want) in got.as_slice().iter().zip(want.as_slice()) {
        assert!((got - want).abs() <= tolerance * scale, "expected {want}, got {got}");
    }
}

/// A small network with a softmax loss: its loss, its logits, its variables.
fn network<'t>(tape: &'t Tape, x: Expr<'t>) -> (Expr<'t>, Expr<'t>, [Expr<'t>; 3]) {
    let w1 = tape.variable("w1", matrix(3, 4, 0.2));
    let b1 = tape.variable("b1", vector(&[0.1, -0.2, 0.3, 0.05]));
    let w2 = tape.variable("w2", matrix(4, 3, 1.3));
    let logits = (x.matmul(w1) + b1).tanh().matmul(w2);
    let labels = tape.index_constant(Tensor::vector(vec![2, 0, 1, 1, 2]));
    (logits.softmax_cross_entropy(labels).mean(), logits, [w1, b1, w2])
}

#[test]
fn tangents_of_formulas() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (x, y) = (tape.variable("x", vector(&[1.0, 2.0])), tape.variable("y", 3.0));
    let (dx, dy) = (tape.placeholder("dx", [2]), tape.placeholder("dy", []));
    let f = x * y + x.exp().sum();
    let both = tape.jvp(f, &[(x, dx), (y, dy)])?;
    let of_y = tape.jvp(f, &[(y, dy)])?;
    let along = vector(&[0.5, -1.0]);
    let feeds = [dx.feed(&along), dy.feed(&2.0)];
    let (both, of_y) = run(&tape, (both, of_y), &feeds);
    let sum = 1f64.exp() * 0.5 - 2f64.exp();
    assert_near(&both, &vector(&[1.5 + 2.0 + sum, -3.0 + 4.0 + sum]), 1e-15);
    assert_eq!(of_y, vector(&[2.0, 4.0]));
    Ok(())
}

/// A target between another one and the value counts for both, as in a gradient.
#[test]
fn targets_on_the_way() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 2.0);
    let h = x.square();
    let y = h * x;
    let one = tape.literal(1.0);
    let both = tape.jvp(y, &[(x, one), (h, one)])?;
    let itself = tape.jvp(y, &[(y, tape.literal(5.0))])?;
    let twice = tape.jvp(y, &[(x, one), (x, one)])?;
    let gradient = tape.gradient(y, &[x, h])?;
    let sum = gradient[0] + gradient[1];
    let values = run(&tape, &vec![both, itself, twice, sum], &[]);
    let values: Vec<f64> = values.iter().map(|v| v.item().unwrap()).collect();
    assert_eq!(values, [14.0, 5.0, 24.0, 14.0]);
    Ok(())
}

/// What of the tape does not lead from a target to the value gets no tangent.
#[test]
fn nothing_is_recorded_beside_the_path() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", 2.0);
    let other = (0..50).fold(x, |h, _| h.sin());
    let y = x.square();
    let before = tape.len();
    tape.jvp(y, &[(x, tape.literal(1.0))])?;
    assert!(tape.len() - before < 6, "{}", tape.len() - before);
    assert!(other.shape() == y.shape());
    Ok(())
}

#[test]
fn tangents_with_an_unknown_batch() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 3]);
    let (dx, w) = (tape.placeholder("dx", [ANY, 3]), tape.variable("w", vector(&[1.0, -2.0, 0.5])));
    let y = (x * w).tanh().softmax(-1) - x.mean_axes(&[0]);
    let along = tape.jvp(y, &[(x, dx)])?;
    let mut session = Session::new(&tape)?;
    for rows in [1, 4, 0] {
        let (at, v) = (matrix(rows, 3, 0.3), matrix(rows, 3, 2.0));
        let got = session.run(along, &[x.feed(&at), dx.feed(&v)])?;
        let h = 1e-6;
        let mut shifted = |h: f64| {
            let steps = at.as_slice().iter().zip(v.as_slice()).map(|(x, v)| x + h * v);
            let at = Tensor::new([rows, 3], steps.collect())?;
            session.run(y, &[x.feed(&at)])
        };
        let (up, down) = (shifted(h)?, shifted(-h)?);
        let slopes = up.as_slice().iter().zip(down.as_slice()).map(|(a, b)| (a - b) / (2.0 * h));
        assert_near(&got, &Tensor::new([rows, 3], slopes.collect())?, 1e-9);
    }
    let error = session.run(along, &[x.feed(&matrix(4, 3, 0.0)), dx.feed(&matrix(2, 3, 0.0))]);
    let text = "jvp: [4, 3], [2, 3]: expected targets of shape [4, 3]";
    assert_eq!(error.unwrap_err().message(), text);
    Ok(())
}

#[test]
fn tangents_follow_custom_gradients() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", vector(&[0.4, 1.7]));
    let y = tape.custom_gradient(&[x], x.round(), |_, _, ct| vec![ct * 3.0]);
    let v = tape.constant(vector(&[1.0, -2.0]));
    assert_eq!(run(&tape, tape.jvp(y, &[(x, v)])?, &[]), vector(&[3.0, -6.0]));
    Ok(())
}

#[test]
fn hessian_of_a_quadratic_times_a_vector() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (a, x) =
        (tape.constant(matrix(4, 4, 0.7)), tape.variable("x", vector(&[1.0, 2.0, -1.0, 0.5])));
    let v = tape.constant(vector(&[0.3, -1.0, 2.0, 1.0]));
    let loss = x.dot(a.matmul(x)) + x.sum();
    let product = tape.hessian_vector_product(loss, &[(x, v)])?[0];
    let hessian = tape.hessian(loss, x)?;
    let (product, hessian, want_product, want) =
        run(&tape, (product, hessian, (a + a.t()).matmul(v), a + a.t()), &[]);
    assert_near(&product, &want_product, 1e-14);
    assert_near(&hessian, &want, 1e-14);
    Ok(())
}

/// Rosenbrock's function Σ 100(x_{i+1} − x_i²)² + (1 − x_i)² and its tridiagonal Hessian.
#[test]
fn rosenbrock() -> Result<()> {
    let at = [-1.2, 1.0, 0.3, 2.0, -0.5];
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [5]);
    let (head, tail) = (x.slice_axis(0, ..4), x.slice_axis(0, 1..));
    let loss = ((tail - head.square()).square() * 100.0 + (1.0 - head).square()).sum();
    let v = tape.constant(vector(&[1.0, -0.5, 0.25, 2.0, 3.0]));
    let product = tape.hessian_vector_product(loss, &[(x, v)])?[0];
    let hessian = tape.hessian(loss, x)?;
    let want = Tensor::from_fn([5, 5], |ij| {
        let (i, j) = (ij[0].min(ij[1]), ij[0].max(ij[1]));
        let inner = if i < 4 { 1200.0 * at[i] * at[i] - 400.0 * at[i + 1] + 2.0 } else { 0.0 };
        match j - i {
            0 => inner + if i > 0 { 200.0 } else { 0.0 },
            1 => -400.0 * at[i],
            _ => 0.0,
        }
    })?;
    let want = tape.constant(want);
    let (hessian, product, want, want_product) =
        run(&tape, (hessian, product, want, want.matmul(v)), &[x.feed(&vector(&at))]);
    assert_near(&hessian, &want, 1e-14);
    assert_near(&product, &want_product, 1e-14);
    Ok(())
}

/// The network's gradient, and Hv by the method and as the gradient of ⟨g, v⟩.
struct Second<'t> {
    w: [Expr<'t>; 3],
    v: Vec<Expr<'t>>,
    gradient: Vec<Expr<'t>>,
    products: Vec<Expr<'t>>,
    reverse: Vec<Expr<'t>>,
}

impl<'t> Second<'t> {
    fn of_network(tape: &'t Tape, x: Expr<'t>) -> Result<Self> {
        let (loss, _, w) = network(tape, x);
        let v: Vec<_> = w.iter().map(|w| tape.placeholder("v", w.shape())).collect();
        let pairs: Vec<_> = w.iter().copied().zip(v.iter().copied()).collect();
        let products = tape.hessian_vector_product(loss, &pairs)?;
        let gradient = tape.gradient(loss, &w)?;
        let slope = gradient.iter().zip(&v).map(|(&g, &v)| (g * v).sum()).reduce(|a, b| a + b);
        let reverse = tape.gradient(slope.unwrap(), &w)?;
        Ok(Second { w, v, gradient, products, reverse })
    }
}

/// Of a network with any batch: against differences of gradients, and the gradient of ⟨g, v⟩.
#[test]
fn hessian_of_a_network_times_a_vector() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 3]);
    let Second { w, v, gradient, products, reverse } = Second::of_network(&tape, x)?;
    let batch = matrix(5, 3, 0.4);
    let at = [matrix(3, 4, 0.9), vector(&[0.7, -1.0, 0.2, 0.4]), matrix(4, 3, 2.2)];
    let mut feeds = vec![x.feed(&batch)];
    feeds.extend(v.iter().zip(&at).map(|(v, at)| v.feed(at)));
    let (products, reverse) = run(&tape, (&products, &reverse), &feeds);
    let mut session = Session::new(&tape)?;
    let start: Vec<Tensor> = w.iter().map(|w| session.value(*w)).collect::<Result<_>>()?;
    let h = 1e-5;
    let mut gradient_at = |h: f64| -> Result<Vec<Tensor>> {
        for ((w, start), v) in w.iter().zip(&start).zip(&at) {
            let moved = start.as_slice().iter().zip(v.as_slice()).map(|(w, v)| w + h * v);
            session.assign(*w, &Tensor::new(start.shape(), moved.collect())?)?;
        }
        session.run(&gradient, &[x.feed(&batch)])
    };
    let (up, down) = (gradient_at(h)?, gradient_at(-h)?);
    for i in 0..3 {
        assert_near(&products[i], &reverse[i], 1e-14);
        let slopes = up[i].as_slice().iter().zip(down[i].as_slice());
        let slopes = slopes.map(|(a, b)| (a - b) / (2.0 * h)).collect();
        assert_near(&products[i], &Tensor::new(products[i].shape(), slopes)?, 1e-9);
    }
    Ok(())
}

/// Forward over reverse mode takes about two gradients, the products of reverse over reverse and
/// less memory.
#[test]
fn products_with_the_hessian_are_cheap() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 3]);
    let Second { w, v, gradient, products, reverse } = Second::of_network(&tape, x)?;
    let batch = matrix(5, 3, 0.4);
    let at: Vec<Tensor> = w.iter().map(|w| Tensor::zeros(w.shape())).collect::<Result<_>>()?;
    let mut feeds = vec![x.feed(&batch)];
    feeds.extend(v.iter().zip(&at).map(|(v, at)| v.feed(at)));
    let mut session = Session::new(&tape)?;
    let [gradient, forward, reverse] =
        [gradient, products, reverse].map(|fetches| session.report(&fetches, &feeds).unwrap());
    let n_products = |r: &Report| r.instructions.iter().filter(|w| w.name == "matmul").count();
    assert_eq!(n_products(&forward), n_products(&reverse), "{forward}{reverse}");
    assert!(forward.arena_bytes < reverse.arena_bytes, "{forward}{reverse}");
    assert!(2 * forward.flops < 5 * gradient.flops, "{forward}{gradient}");
    Ok(())
}

/// A row of the Hessian without a path is zero; without any the loss is linear.
#[test]
fn linear_parts_of_a_loss() -> Result<()> {
    let tape = Tape::<f64>::new();
    let (a, b) = (tape.variable("a", vector(&[1.0, 2.0])), tape.variable("b", 3.0));
    let (va, vb) = (tape.constant(vector(&[1.0, 1.0])), tape.literal(1.0));
    let loss = a.sum() + b.powi(3);
    let products = tape.hessian_vector_product(loss, &[(a, va), (b, vb)])?;
    let (pa, pb) = run(&tape, (products[0], products[1]), &[]);
    assert_eq!((pa, pb.item()?), (vector(&[0.0, 0.0]), 18.0));
    let error = tape.hessian_vector_product(loss, &[(a, va)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gradient);
    assert!(error.message().ends_with("variable `a` [2]; the loss is linear there"), "{error}");
    let error = tape.hessian(loss, a).unwrap_err();
    assert!(error.message().starts_with("hessian: "), "{error}");
    Ok(())
}

#[test]
fn gauss_newton_against_explicit_matrices() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.constant(matrix(5, 3, 0.4));
    let (loss, logits, [w1, b1, w2]) = network(&tape, x);
    for w in [w1, b1, w2] {
        let n = w.shape().len();
        let v = tape.constant(matrix(n, 1, 0.8)).reshape(w.shape());
        let product = tape.gauss_newton_product(loss, logits, &[(w, v)])?[0];
        let jacobian = tape.jacobian(logits, w)?.reshape([15, n]);
        let hessian = tape.hessian(loss, logits)?.reshape([15, 15]);
        let along = jacobian.matmul(v.reshape([n]));
        let want = jacobian.t().matmul(hessian.matmul(along)).reshape(w.shape());
        let (product, want) = run(&tape, (product, want), &[]);
        assert_near(&product, &want, 1e-14);
    }
    // All targets at once are the sum of the products with each.
    let v: Vec<_> = [w1, b1, w2].iter().map(|w| (*w, w.cos())).collect();
    let whole = tape.gauss_newton_product(loss, logits, &v)?;
    let each = v.iter().map(|&pair| tape.jvp(logits, &[pair]));
    let each = each.collect::<Result<Vec<_>>>()?;
    let along = each.into_iter().reduce(|a, b| a + b).unwrap();
    let slope = tape.gradient(loss, &[logits])?[0];
    let curved = tape.jvp(slope, &[(logits, along)])?;
    let want = tape.vjp(logits, curved, &[w1, b1, w2])?;
    for (got, want) in whole.into_iter().zip(want.into_iter().flatten()) {
        let (got, want) = run(&tape, (got, want), &[]);
        assert_near(&got, &want, 1e-14);
    }
    Ok(())
}

/// Of a model that is linear it is the Hessian; a penalty takes no part.
#[test]
fn gauss_newton_of_a_linear_model() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 3]);
    let (w, v) = (tape.variable("w", vector(&[1.0, -1.0, 0.5])), tape.placeholder("v", [3]));
    let outputs = x.matmul(w);
    let data = (outputs - 1.0).square().mean();
    let loss = data + w.powi(4).sum();
    let product = tape.gauss_newton_product(loss, outputs, &[(w, v)])?[0];
    let hessian = tape.hessian_vector_product(data, &[(w, v)])?[0];
    let (batch, along) = (matrix(7, 3, 0.1), vector(&[0.2, 1.0, -2.0]));
    let feeds = [x.feed(&batch), v.feed(&along)];
    let (product, hessian) = run(&tape, (product, hessian), &feeds);
    assert_near(&product, &hessian, 1e-14);
    let error = tape.gauss_newton_product(outputs.sum(), outputs, &[(w, v)]).unwrap_err();
    assert!(error.message().contains("the loss is linear there"), "{error}");
    let other = tape.variable("other", 1.0);
    let pairs = [(w, v), (other, tape.literal(1.0))];
    let error = tape.gauss_newton_product(data, outputs, &pairs).unwrap_err();
    let text =
        "gauss_newton_product: squeeze [?] does not depend on variable `other` []; leave it out";
    assert_eq!(error.message(), text);
    Ok(())
}

/// (y, x) of every pair of shapes: the two modes and the chain rule by hand agree.
#[test]
fn jacobians_in_both_modes() -> Result<()> {
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", matrix(2, 3, 0.5));
    let shape = |e: Expr<'_>| e.shape().extents().to_vec();
    // Few outputs: reverse. y = A·vec(W) with a known A, through an exponential.
    let a = matrix(2, 6, 1.0);
    let y = tape.constant(a.clone()).matmul(w.exp().reshape([6]));
    let jacobian = tape.jacobian(y, w)?;
    assert_eq!(shape(jacobian), [2, 2, 3]);
    let (got, e) = run(&tape, (jacobian, w.exp()), &[]);
    let want = a.as_slice().iter().enumerate().map(|(k, a)| a * e.as_slice()[k / 2]).collect();
    assert_near(&got, &Tensor::new([2, 2, 3], want)?, 1e-15);
    // Few inputs: forward. Y = s·W, element by element.
    let s = tape.variable("s", vector(&[2.0, -1.0, 0.5]));
    let jacobian = tape.jacobian(w * s, s)?;
    assert_eq!(shape(jacobian), [2, 3, 3]);
    let (got, w_value) = run(&tape, (jacobian, w), &[]);
    let want = Tensor::from_fn([2, 3, 3], |at| match at[1] == at[2] {
        true => w_value.as_slice()[at[0] + 2 * at[1]],
        false => 0.0,
    })?;
    assert_eq!(got, want);
    // Numbers on either side.
    let number = tape.variable("number", 0.5);
    let (by_number, of_number) =
        (tape.jacobian(w * number, number)?, tape.jacobian(number.exp() * w.sum(), w)?);
    assert_eq!((shape(by_number), shape(of_number)), (vec![2, 3], vec![2, 3]));
    let (by_number, of_number, w_value) = run(&tape, (by_number, of_number, w), &[]);
    assert_eq!(by_number, w_value);
    assert_near(&of_number, &Tensor::full([2, 3], 0.5f64.exp())?, 1e-15);
    Ok(())
}

#[test]
fn jacobians_with_an_unknown_batch() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 2]);
    let w = tape.variable("w", vector(&[0.3, -0.7]));
    let by_w = tape.jacobian(x.matmul(w).exp(), w)?;
    let by_x = tape.jacobian((x * x).sum_axes(&[0]), x)?;
    assert_eq!((by_w.shape(), by_x.shape()), ([ANY, 2].into(), [2, ANY, 2].into()));
    let at = matrix(3, 2, 0.6);
    let (by_w, by_x, y) = run(&tape, (by_w, by_x, x.matmul(w).exp()), &[x.feed(&at)]);
    let value = |i: usize, j: usize| at.as_slice()[i + 3 * j];
    let want = Tensor::from_fn([3, 2], |ij| y.as_slice()[ij[0]] * value(ij[0], ij[1]))?;
    assert_near(&by_w, &want, 1e-15);
    let want = Tensor::from_fn([2, 3, 2], |at| match at[0] == at[2] {
        true => 2.0 * value(at[1], at[2]),
        false => 0.0,
    })?;
    assert_eq!(by_x, want);
    Ok(())
}

#[test]
fn hessians_of_matrices_and_of_nothing() -> Result<()> {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", matrix(2, 2, 0.3));
    // ∂²(Σ x³)/∂x_ij∂x_kl = 6 x_ij δ.
    let (hessian, value) = run(&tape, (tape.hessian(x.powi(3).sum(), x)?, x), &[]);
    let want = Tensor::from_fn([2, 2, 2, 2], |at| match at[..2] == at[2..] {
        true => 6.0 * value.as_slice()[at[0] + 2 * at[1]],
        false => 0.0,
    })?;
    assert_near(&hessian, &want, 1e-15);
    let empty = tape.variable("empty", Tensor::zeros([0])?);
    let hessian = run(&tape, tape.hessian(empty.powi(3).sum(), empty)?, &[]);
    assert_eq!(hessian.shape(), [0, 0].into());
    Ok(())
}

#[test]
fn refused() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", vector(&[1.0, 2.0]));
    let (one, other) = (tape.constant(vector(&[1.0, 1.0])), tape.variable("other", 1.0));
    let long = tape.variable("long", Tensor::zeros([5000]).unwrap());
    let deep = tape.placeholder("deep", [1; 5]);
    let open = tape.placeholder("open", [ANY, 2]);
    let rows: [(Result<()>, &str); 11] = [
        (
            tape.jvp(x.sin(), &[(x, tape.literal(1.0))]).map(drop),
            "jvp: expected a tangent of [2] for variable `x`, got []",
        ),
        (
            tape.jvp(other.sin(), &[(x, one)]).map(drop),
            "jvp: sin [] does not depend on variable `x` [2]; its tangent is zero",
        ),
        (
            tape.jvp(x.floor().sin(), &[(x, one)]).map(drop),
            "jvp: sin [2] does not depend on variable `x` [2] but through floor of [2], whose \
             derivative is zero; its tangent is zero",
        ),
        (
            tape.jvp(x.sin(), &[] as &[(Expr<'_>, Expr<'_>)]).map(drop),
            "jvp: expected at least one target, got none",
        ),
        (
            tape.hessian_vector_product(x, &[(x, one)]).map(drop),
            "gradient: expected a scalar loss, got variable `x` of shape [2]; reduce it with sum() \
             or mean()",
        ),
        (
            tape.gauss_newton_product(x.sum(), other, &[(x, one)]).map(drop),
            "gauss_newton_product: variable `other` [] does not depend on variable `x` [2]; its \
             derivative is zero",
        ),
        (
            tape.jacobian(deep.sin(), deep).map(drop),
            "jacobian: sin [1, 1, 1, 1, 1] by placeholder `deep` [1, 1, 1, 1, 1]: expected at most \
             8 axes of both together, got 10",
        ),
        (
            tape.jacobian(long.sin(), long).map(drop),
            "jacobian: sin [5000] by variable `long` [5000]: expected at most 4096 elements in one \
             of them; use products with vectors (jvp, vjp, hessian_vector_product)",
        ),
        (
            tape.jacobian(open.sin(), open).map(drop),
            "jacobian: sin [?, 2] by placeholder `open` [?, 2]: expected one of them of known \
             extents, the other with at most one unknown",
        ),
        (
            tape.jacobian(other.sin(), x).map(drop),
            "jacobian: sin [] does not depend on variable `x` [2]; its derivative is zero",
        ),
        (
            tape.hessian(x.abs().sum(), x).map(drop),
            "hessian: mul [2] does not depend on variable `x` [2] but through sign of [2], whose \
             derivative is zero; the loss is linear there",
        ),
    ];
    for (result, text) in rows {
        assert_eq!(result.unwrap_err().message(), text);
    }
}

/// A mistake while recording is reported by every mode, with its line.
#[test]
fn mistakes_come_first() {
    let tape = Tape::<f64>::new();
    let x = tape.variable("x", vector(&[1.0, 2.0]));
    let wrong = x.matmul(x.matmul(x.expand_dims(&[0])));
    let loss = wrong.sum();
    let errors = [
        tape.jvp(loss, &[(x, x)]).map(drop),
        tape.hessian_vector_product(loss, &[(x, x)]).map(drop),
        tape.gauss_newton_product(loss, wrong, &[(x, x)]).map(drop),
        tape.jacobian(loss, x).map(drop),
        tape.hessian(loss, x).map(drop),
    ];
    for error in errors {
        assert!(error.unwrap_err().message().starts_with("matmul: "));
    }
}
