//! Row B4: initial weights, dense layers, penalties; a network that learns.

use gradtape::nn::{Activation, Dense, Init, Mlp, l1, l2, summary};
use gradtape::optim::Sgd;
use gradtape::{ANY, ErrorKind, Philox, Scalar, Session, Shape, Tape, Tensor};
use nalgebra::{DMatrix, RowDVector};
use rand_distr::{Distribution, StandardNormal};

const RANDOM: [Init; 7] = [
    Init::Uniform { low: -1.0, high: 3.0 },
    Init::Normal { std: 0.7 },
    Init::GlorotUniform,
    Init::GlorotNormal,
    Init::HeUniform,
    Init::HeNormal,
    Init::Orthogonal { gain: 1.5 },
];

fn draw<T: Scalar>(init: Init, shape: impl Into<Shape>, seed: u64) -> Tensor<T> {
    init.tensor(shape, &mut Philox::new(seed, 0)).unwrap()
}

#[test]
fn b4_constant_weights() {
    assert_eq!(draw::<f64>(Init::Zeros, [2, 3], 0), Tensor::zeros([2, 3]).unwrap());
    assert_eq!(draw::<f32>(Init::Constant(0.1), [4], 0), Tensor::full([4], 0.1).unwrap());
}

/// Mean and variance of n draws lie within five standard deviations of what they should be.
#[test]
fn b4_random_weights_have_their_moments_and_bounds() {
    let dense: Shape = [200, 300].into();
    let kernel: Shape = [3, 5, 40, 60].into();
    let bound = |variance: f64| Some((3.0 * variance).sqrt());
    for (init, shape, mean, variance, bound) in [
        (RANDOM[0], dense, 1.0, 16.0 / 12.0, Some(2.0)),
        (RANDOM[1], dense, 0.0, 0.49, None),
        (Init::GlorotUniform, dense, 0.0, 2.0 / 500.0, bound(2.0 / 500.0)),
        (Init::GlorotNormal, dense, 0.0, 2.0 / 500.0, None),
        (Init::HeUniform, dense, 0.0, 2.0 / 200.0, bound(2.0 / 200.0)),
        (Init::HeNormal, dense, 0.0, 2.0 / 200.0, None),
        (Init::GlorotUniform, kernel, 0.0, 2.0 / 1500.0, bound(2.0 / 1500.0)),
        (Init::HeNormal, kernel, 0.0, 2.0 / 600.0, None),
        (Init::GlorotNormal, [30_000].into(), 0.0, 1.0 / 30_000.0, None),
    ] {
        let w = draw::<f64>(init, shape, 11);
        let n = w.len() as f64;
        let got_mean = w.as_slice().iter().sum::<f64>() / n;
        let got_variance = w.as_slice().iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n;
        let (kurtosis, farthest) = match bound {
            Some(_) => (1.8, f64::INFINITY),
            None => (3.0, 3.5),
        };
        let what = format!("{init:?} {shape}: {got_mean} {got_variance}");
        assert!((got_mean - mean).abs() < 5.0 * (variance / n).sqrt(), "{what}");
        let spread = ((kurtosis - 1.0) / n).sqrt();
        assert!((got_variance / variance - 1.0).abs() < 5.0 * spread, "{what}");
        let largest = w.as_slice().iter().map(|w| (w - mean).abs()).fold(0.0, f64::max);
        match bound {
            Some(bound) => assert!(largest <= bound && largest > 0.999 * bound, "{what}"),
            None => assert!(largest > farthest * variance.sqrt(), "{what}: tails"),
        }
    }
}

/// Not only the same twice: the words of the generator in order, so the same for ever.
#[test]
fn b4_the_same_seed_gives_the_same_bits() {
    for init in RANDOM {
        let w = draw::<f64>(init, [6, 4], 3);
        assert_eq!(w, draw(init, [6, 4], 3));
        assert_ne!(w, draw(init, [6, 4], 4));
        assert_eq!(draw::<f32>(init, [6, 4], 3), w.map(|w| w as f32), "{init:?}");
        let mut rng = Philox::new(3, 0);
        let first: Tensor = init.tensor([6, 4], &mut rng).unwrap();
        let second: Tensor = init.tensor([6, 4], &mut rng).unwrap();
        assert_eq!(first, w);
        assert_ne!(second, w, "{init:?}");
    }
    let rng = Philox::new(3, 0);
    let words = |i: u64| rng.at(i / 2).map(u64::from);
    let unit = |i: u64| {
        let [low, high] = [words(i)[i as usize % 2 * 2], words(i)[i as usize % 2 * 2 + 1]];
        ((high << 32 | low) >> 11) as f64 / (1u64 << 53) as f64
    };
    let w = draw::<f64>(Init::Uniform { low: -1.0, high: 3.0 }, [3, 2], 3);
    let want: Vec<f64> = (0..6).map(|i| -1.0 + 4.0 * unit(i)).collect();
    assert_eq!(w.as_slice(), want);
}

#[test]
fn b4_orthogonal_weights_are_orthogonal() {
    for (shape, m, n) in [
        (Shape::from([20, 7]), 20, 7),
        ([7, 20].into(), 7, 20),
        ([5, 5].into(), 5, 5),
        ([3, 2, 2, 5].into(), 12, 5),
        ([2, 1, 2, 9].into(), 4, 9),
        ([1, 1].into(), 1, 1),
    ] {
        let w = draw::<f64>(Init::Orthogonal { gain: 1.5 }, shape, 5);
        assert_eq!(w.shape(), shape);
        let q = DMatrix::from_column_slice(m, n, w.as_slice());
        let product = if m < n { &q * q.transpose() } else { q.transpose() * &q };
        let error = (product - DMatrix::identity(m.min(n), m.min(n)) * 2.25).amax();
        assert!(error < 1e-14, "{shape}: {error}");
    }
    assert_eq!(draw::<f64>(Init::Orthogonal { gain: 1.0 }, [3, 0], 1).shape(), [3, 0].into());
    assert_eq!(draw::<f64>(Init::Orthogonal { gain: 1.0 }, [0, 3], 1).shape(), [0, 3].into());
}

/// The trace of a uniform orthogonal matrix has mean 0 and variance 1. Without the fixed signs a
/// QR decomposition by reflections does not: its diagonal has a sign.
#[test]
fn b4_orthogonal_weights_are_uniform() {
    const DRAWS: u32 = 2000;
    let mut rng = Philox::new(9, 0);
    let mut traces = (0..DRAWS).map(|_| {
        let q: Tensor = Init::Orthogonal { gain: 1.0 }.tensor([4, 4], &mut rng).unwrap();
        q.as_matrix().trace()
    });
    let (sum, squares) = traces.by_ref().fold((0.0, 0.0), |(s, q), t| (s + t, q + t * t));
    let n = f64::from(DRAWS);
    assert!((sum / n).abs() < 5.0 / n.sqrt(), "{}", sum / n);
    assert!((squares / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{}", squares / n);
}

#[test]
fn b4_impossible_weights_are_refused() {
    let kind = |init: Init, shape: Shape| {
        init.tensor::<f64>(shape, &mut Philox::new(0, 0)).unwrap_err().kind()
    };
    for (low, high) in [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (-1e308, 1e308)] {
        let init = Init::Uniform { low, high };
        assert_eq!(kind(init, [2].into()), ErrorKind::Argument, "{init:?}");
    }
    for std in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(kind(Init::Normal { std }, [2].into()), ErrorKind::Argument, "{std}");
    }
    for shape in [Shape::SCALAR, [4].into()] {
        assert_eq!(kind(Init::Orthogonal { gain: 1.0 }, shape), ErrorKind::Shape);
    }
    for init in RANDOM {
        assert_eq!(kind(init, [ANY, 3].into()), ErrorKind::Shape, "{init:?}");
        assert_eq!(kind(init, [1 << 40, 1 << 40].into()), ErrorKind::Memory, "{init:?}");
    }
    let mut rng = Philox::new(0, 0);
    let tape = Tape::<f64>::new();
    let e = Dense::new(&tape, "huge", [1 << 40, 1 << 40], Activation::Tanh, &mut rng).unwrap_err();
    assert!(e.message().starts_with("huge: tensor: [1099511627776, 1099511627776] "), "{e}");
    let flat = Tensor::<f64>::zeros([3]).unwrap();
    let e = Dense::with_weights(&tape, "flat", flat, Activation::Tanh).unwrap_err();
    assert_eq!(e.message(), "flat: expected weights [inputs, outputs], got [3]");
    for extents in [&[][..], &[3]] {
        let e = Mlp::new(&tape, extents, Activation::Relu, &mut rng).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Argument);
    }
}

fn dense_is_its_formula<T: Scalar>() {
    let mut rng = Philox::new(2, 0);
    let mut normal = |m, n| DMatrix::from_fn(m, n, |_, _| T::lit(StandardNormal.sample(&mut rng)));
    let (x, w, b, ct) = (normal(5, 3), normal(3, 2), normal(1, 2), normal(5, 2));
    type Function = fn(f64) -> f64;
    let sigmoid: Function = |a| 1.0 / (1.0 + (-a).exp());
    let cases: [(Activation, Function, Function); 5] = [
        (Activation::Identity, |a| a, |_| 1.0),
        (Activation::Relu, |a| a.max(0.0), |a| f64::from(u8::from(a > 0.0))),
        (Activation::Elu, |a| if a > 0.0 { a } else { a.exp() - 1.0 }, |a| a.min(0.0).exp()),
        (Activation::Tanh, f64::tanh, |a| 1.0 - a.tanh().powi(2)),
        (Activation::Sigmoid, sigmoid, |a| 1.0 / (a / 2.0).cosh().powi(2) / 4.0),
    ];
    for (activation, value, slope) in cases {
        let tape = Tape::new();
        let input = tape.placeholder("x", [ANY, 3]);
        let layer = Dense::with_weights(&tape, "layer", w.clone().into(), activation).unwrap();
        let y = layer.forward(input);
        let loss = (y * tape.constant(ct.clone())).sum();
        let dw = tape.gradient(loss, &[layer.w, layer.b]).unwrap();
        let mut session = Session::new(&tape).unwrap();
        session.assign(layer.b, &Tensor::vector(b.as_slice().to_vec())).unwrap();
        let (y, dw, db) = session.run((y, dw[0], dw[1]), &[input.feed(&x)]).unwrap();

        let b = RowDVector::from_row_slice(b.as_slice());
        let mut affine = &x * &w;
        affine.row_iter_mut().for_each(|mut row| row += &b);
        let want_y = affine.map(|a| T::lit(value(a.to_f64())));
        let back = affine.map(|a| T::lit(slope(a.to_f64()))).component_mul(&ct);
        let close = |got: &Tensor<T>, want: &[T]| {
            assert_eq!(got.len(), want.len());
            for (got, want) in got.as_slice().iter().zip(want) {
                let error = (got.to_f64() - want.to_f64()).abs();
                assert!(error < 40.0 * T::EPSILON, "{activation:?}: {got}, want {want}");
            }
        };
        close(&y, want_y.as_slice());
        close(&dw, (x.transpose() * &back).as_slice());
        close(&db, back.row_sum().as_slice());
    }
}

#[test]
fn b4_dense_is_its_formula_f64() {
    dense_is_its_formula::<f64>();
}

#[test]
fn b4_dense_is_its_formula_f32() {
    dense_is_its_formula::<f32>();
}

#[test]
fn b4_activations_are_the_methods_of_their_names() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [3]);
    for (activation, method) in [
        (Activation::Gelu, x.gelu()),
        (Activation::Silu, x.silu()),
        (Activation::Softplus, x.softplus()),
    ] {
        assert_eq!(activation.of(x).name(), method.name());
    }
}

#[test]
fn b4_layers_are_named_scoped_and_counted() {
    let tape = Tape::<f32>::new();
    let mut rng = Philox::new(1, 0);
    let x = tape.placeholder("x", [ANY, 2]);
    let model = {
        let _scope = tape.scope("net");
        Mlp::new(&tape, &[2, 4, 3], Activation::Relu, &mut rng).unwrap()
    };
    let again = Dense::new(&tape, "out", [3, 1], Activation::Identity, &mut rng).unwrap();
    let twice = Dense::new(&tape, "out", [3, 1], Activation::Identity, &mut rng).unwrap();
    let y = model.forward(x);
    assert_eq!((y.shape(), again.forward(y).shape()), ([ANY, 3].into(), [ANY, 1].into()));
    assert!(y.name().starts_with("dense_2/add#"), "{}", y.name());
    let names: Vec<String> = model.parameters().iter().map(|&v| tape.expr(v).name()).collect();
    assert_eq!(names, ["net/dense_1/w", "net/dense_1/b", "net/dense_2/w", "net/dense_2/b"]);
    assert_eq!(model.weights(), [model.parameters()[0], model.parameters()[2]]);
    assert_eq!(tape.expr(again.w).name(), "out/w");
    assert_eq!(tape.expr(twice.w).name(), "out/w_1");
    assert_eq!(summary(&tape).n_parameters(), 12 + 15 + 2 * 4);
    // Layers of one shape start apart.
    let session = Session::new(&tape).unwrap();
    assert_ne!(session.value(again.w).unwrap(), session.value(twice.w).unwrap());
    // A mistake names the user's line.
    model.forward(tape.placeholder("wide", [ANY, 3]));
    let e = tape.check().unwrap_err();
    assert!(e.location().is_some_and(|at| at.file().ends_with("tests/nn.rs")), "{e}");
}

#[test]
fn b4_penalties_leave_other_variables_alone() {
    let tape = Tape::<f64>::new();
    let a = tape.variable("a", Tensor::vector(vec![1.0, -2.0, 0.0]));
    let b = tape.variable("b", DMatrix::from_element(1, 2, 3.0));
    let free = tape.variable("free", 1.0);
    for (penalty, value, da, db) in [
        (l2(&tape, &[a, b], 0.1), 0.1 * 23.0, [0.2, -0.4, 0.0], 0.6),
        (l1(&tape, &[a, b], 0.1), 0.1 * 9.0, [0.1, -0.1, 0.0], 0.1),
    ] {
        let gradient = tape.gradient(penalty, &[a, b]).unwrap();
        let fetches = (penalty, gradient[0], gradient[1]);
        let got = Session::new(&tape).unwrap().run(fetches, &[]).unwrap();
        assert!((got.0.item().unwrap() - value).abs() < 1e-15);
        let want = da.into_iter().chain([db; 2]);
        let all = got.1.as_slice().iter().chain(got.2.as_slice());
        assert!(all.zip(want).all(|(got, want)| (got - want).abs() < 1e-15), "{got:?}");
        assert_eq!(tape.gradient(penalty, &[free]).unwrap_err().kind(), ErrorKind::Gradient);
    }
    let none = l2(&tape, &[] as &[gradtape::Var], 0.1);
    assert_eq!(Session::new(&tape).unwrap().run(none, &[]).unwrap(), 0.0.into());
}

fn a_network_learns_xor<T: Scalar>() {
    let tape = Tape::<T>::new();
    let table = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0].map(T::lit);
    let x = tape.constant(Tensor::from_rows([4, 2], &table).unwrap());
    let y = tape.constant(Tensor::from_rows([4, 1], &[0.0, 1.0, 1.0, 0.0].map(T::lit)).unwrap());
    let model = Mlp::new(&tape, &[2, 8, 1], Activation::Tanh, &mut Philox::new(1, 0)).unwrap();
    let logits = model.forward(x);
    let loss = logits.logistic_loss(y).mean();
    let train = Sgd::new(1.0).minimize(loss).unwrap();
    let mut session = Session::new(&tape).unwrap();
    let first = session.run(loss, &[]).unwrap().item().unwrap().to_f64();
    for _ in 0..500 {
        session.run(train, &[]).unwrap();
    }
    let (loss, logits) = session.run((loss, logits), &[]).unwrap();
    let loss = loss.item().unwrap().to_f64();
    assert!(first > 0.5 && loss < 0.02, "{first} {loss}");
    let classes: Vec<bool> = logits.as_slice().iter().map(|z| z.to_f64() > 0.0).collect();
    assert_eq!(classes, [false, true, true, false]);
}

#[test]
fn b4_a_network_learns_xor_f64() {
    a_network_learns_xor::<f64>();
}

#[test]
fn b4_a_network_learns_xor_f32() {
    a_network_learns_xor::<f32>();
}
