//! Row B3: optimizers against hand-worked numbers, against scalar code straight from the papers,
//! and against PyTorch (tests/reference/optim.py); what they refuse; what a run leaves untouched.

use descent::{Minimize, a_thousand_steps, as_pytorch, close, reference, vector};
use errors::refused;
use gradtape::optim::{self, Adam, AdamW, Clip, Rule, Schedule, Sgd, Step, Whole};
use gradtape::{ErrorKind, Expr, Fetch, Passes, Result, Scalar, Session, Tape, Tensor};

mod descent;
mod errors;
mod support;

#[global_allocator]
static COUNTING: support::Counting = support::Counting;

#[test]
fn b3_steps_worked_by_hand() {
    // f(w) = w² from 2, so that g = 2w. Two steps, at the rates 0.1 or 0.15625 and 0.1.
    fn falling() -> Schedule {
        Schedule::custom(|t| if t == 1 { 0.15625 } else { 0.1 })
    }
    let cases: [(Minimize, [f64; 2]); 8] = [
        (|f| Sgd::new(0.1).minimize(f), [1.6, 1.28]),
        // g + λw = 4 + 1, then 3 + 0.75.
        (|f| Sgd::new(0.1).with_weight_decay(0.5).minimize(f), [1.5, 1.125]),
        // b = 4, then 0.9 · 4 + 3.2 = 6.8.
        (|f| Sgd::new(0.1).with_momentum(0.9).minimize(f), [1.6, 0.92]),
        // g + μb = 4 + 0.9 · 4; then b = 3.6 + 2.48 = 6.08 and 2.48 + 0.9 · 6.08 = 7.952.
        (|f| Sgd::new(0.1).with_nesterov(0.9).minimize(f), [1.24, 0.4448]),
        // m̂ = 4, √v̂ = 4, so 0.15625 · 4 / 5 = 0.125; then g = 3.75, m = 0.36 + 0.375 and
        // v = 0.1584 + 0.140625.
        (
            |f| Adam::new(falling()).with_betas(0.9, 0.99).with_epsilon(1.0).minimize(f),
            [1.875, 1.875 - 0.1 * (0.735 / 0.19) / ((0.299025f64 / 0.0199).sqrt() + 1.0)],
        ),
        // Less 0.15625 · 0.4 · 2 = 0.125 first; then g = 3.5, m = 0.36 + 0.35,
        // v = 0.1584 + 0.1225, and less 0.1 · 0.4 · 1.75 = 0.07 first.
        (
            |f| {
                let adamw = AdamW::new(falling()).with_betas(0.9, 0.99).with_epsilon(1.0);
                adamw.with_weight_decay(0.4).minimize(f)
            },
            [1.75, 1.68 - 0.1 * (0.71 / 0.19) / ((0.2809f64 / 0.0199).sqrt() + 1.0)],
        ),
        // g = 3.5 and, of 3.3, 3.3.
        (|f| Sgd::new(0.1).with_clip(Clip::Value(3.5)).minimize(f), [1.65, 1.32]),
        // 3 and 3; the decay comes after clipping: 0.1 · 2 and 0.1 · 1.68 more.
        (
            |f| Sgd::new(0.1).with_weight_decay(0.1).with_clip(Clip::Norm(3.0)).minimize(f),
            [1.68, 1.3632],
        ),
    ];
    for (n, (minimize, want)) in cases.iter().enumerate() {
        let tape = Tape::new();
        let w = tape.variable("w", 2.0);
        let train = minimize(w.square()).unwrap();
        let mut session = Session::new(&tape).unwrap();
        for (t, want) in (1..).zip(want) {
            // What is fetched beside the train op is from before the step; its value is the step.
            let before = session.value(w).unwrap();
            assert_eq!(session.run((train, w), &[]).unwrap(), (f64::from(t).into(), before));
            let got = session.value(w).unwrap().item().unwrap();
            assert!((got - want).abs() < 5e-15, "case {n}, step {t}: {got}, want {want}");
        }
    }
}

/// One optimizer in scalar code, written from its paper: the next w, given (m, v) of the parameter.
type Paper = fn(&mut (f64, f64), t: i32, w: f64, g: f64) -> f64;

const RATE: f64 = 0.01;

fn adam(s: &mut (f64, f64), t: i32, w: f64, g: f64) -> f64 {
    s.0 = 0.9 * s.0 + (1.0 - 0.9) * g;
    s.1 = 0.999 * s.1 + (1.0 - 0.999) * g * g;
    let m_hat = s.0 / (1.0 - 0.9f64.powi(t));
    let v_hat = s.1 / (1.0 - 0.999f64.powi(t));
    w - RATE * m_hat / (v_hat.sqrt() + 1e-8)
}

fn nesterov(s: &mut (f64, f64), _: i32, w: f64, g: f64) -> f64 {
    let g = g + 0.05 * w;
    s.0 = 0.9 * s.0 + g;
    w - RATE * (g + 0.9 * s.0)
}

fn momentum(s: &mut (f64, f64), _: i32, w: f64, g: f64) -> f64 {
    s.0 = 0.9 * s.0 + g;
    w - RATE * s.0
}

#[test]
fn b3_a_thousand_steps() {
    let rules: [(&str, Minimize, Paper); 5] = [
        ("sgd", |f| Sgd::new(RATE).minimize(f), |_, _, w, g| w - RATE * g),
        ("momentum", |f| Sgd::new(RATE).with_momentum(0.9).minimize(f), momentum),
        (
            "nesterov",
            |f| Sgd::new(RATE).with_nesterov(0.9).with_weight_decay(0.05).minimize(f),
            nesterov,
        ),
        ("adam", |f| Adam::new(RATE).minimize(f), adam),
        (
            "adamw",
            |f| AdamW::new(RATE).with_weight_decay(0.05).minimize(f),
            |s, t, w, g| adam(s, t, w, g) - RATE * 0.05 * w,
        ),
    ];
    for (name, minimize, paper) in rules {
        let apart = a_thousand_steps(minimize, |states: &mut Vec<(f64, f64)>, t, w, g| {
            states.resize(w.len(), (0.0, 0.0));
            for ((w, g), state) in w.iter_mut().zip(g).zip(states) {
                *w = paper(state, t, *w, *g);
            }
        });
        assert!(apart.iter().all(|&a| a <= 1e-12), "{name}: {apart:?}");
    }
}

#[test]
fn b3_as_pytorch() {
    const SGD: fn() -> Sgd = || Sgd::new(0.02);
    let rules: [(&str, Minimize); 11] = [
        ("sgd", |f| SGD().minimize(f)),
        ("sgd_decay", |f| SGD().with_weight_decay(0.1).minimize(f)),
        ("sgd_momentum", |f| SGD().with_momentum(0.9).minimize(f)),
        ("sgd_momentum_decay", |f| SGD().with_momentum(0.8).with_weight_decay(0.1).minimize(f)),
        ("sgd_nesterov", |f| SGD().with_nesterov(0.9).minimize(f)),
        ("sgd_nesterov_decay", |f| SGD().with_nesterov(0.8).with_weight_decay(0.1).minimize(f)),
        ("sgd_clip_value", |f| SGD().with_clip(Clip::Value(0.5)).minimize(f)),
        ("adam", |f| Adam::new(0.1).minimize(f)),
        ("adam_betas", |f| Adam::new(0.1).with_betas(0.5, 0.9).with_epsilon(1e-3).minimize(f)),
        ("adamw", |f| AdamW::new(0.1).minimize(f)),
        ("adamw_decay", |f| {
            let adamw = AdamW::new(0.1).with_betas(0.5, 0.9).with_epsilon(1e-3);
            adamw.with_weight_decay(0.3).minimize(f)
        }),
    ];
    for (name, minimize) in rules {
        as_pytorch(name, minimize, |session, _| session.parameters().to_vec());
    }
}

#[test]
fn schedules_as_pytorch() {
    let cases = reference();
    for (name, schedule) in [
        ("rate_step", Schedule::Step { rate: 0.1, factor: 0.5, every: 7 }),
        ("rate_exponential", Schedule::Exponential { rate: 0.1, factor: 0.9 }),
        ("rate_cosine", Schedule::Cosine { rate: 0.1, end: 0.01, n_steps: 59 }),
        ("rate_one_cycle", Schedule::OneCycle { peak: 0.1, n_steps: 60 }),
    ] {
        let got: Vec<f64> = (1..=60).map(|t| schedule.at(t)).collect();
        // PyTorch's are partly recurrences, which gather rounding errors.
        let want: Vec<f64> = cases[name].iter().flat_map(|row| row.1.clone()).collect();
        close(&got, &want, 1e-13);
    }
}

#[test]
fn schedules_at_their_ends() {
    let cosine = Schedule::Cosine { rate: 1.0, end: 0.25, n_steps: 8 };
    assert_eq!([1, 5, 9, 10, u64::MAX].map(|t| cosine.at(t)), [1.0, 0.625, 0.25, 0.25, 0.25]);
    let cycle = Schedule::OneCycle { peak: 2.5, n_steps: 100 };
    assert_eq!([1, 30, 100, 101].map(|t| cycle.at(t)), [0.1, 2.5, 1e-5, 1e-5]);
    for n_steps in 1..8 {
        let short = Schedule::OneCycle { peak: 1.0, n_steps };
        assert!((1..10).all(|t| (4e-6..=1.0).contains(&short.at(t))), "{n_steps}");
        assert_eq!(short.at(n_steps + 1), 4e-6);
    }
    assert_eq!(Schedule::Exponential { rate: 1.0, factor: 0.5 }.at(u64::MAX), 0.0);

    let warm = Schedule::Step { rate: 1.0, factor: 0.5, every: 2 }.after_warm_up(4);
    let rates = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25];
    assert_eq!([1, 2, 3, 4, 5, 6, 7, 8, 9].map(|t| warm.at(t)), rates);
    // A session asks for the rates of t = 1, 2, …; the gradient of w is 1.
    let tape = Tape::new();
    let w = tape.variable("w", 0.0);
    let train = Sgd::new(warm).minimize(w).unwrap();
    let mut session = Session::new(&tape).unwrap();
    for t in 1..=rates.len() {
        session.run(train, &[]).unwrap();
        assert_eq!(session.value(w).unwrap(), (-rates[..t].iter().sum::<f64>()).into());
    }
}

#[test]
fn b3_a_rate_of_0_leaves_every_bit() {
    fn check<T: Scalar>(bits: impl Fn(&T) -> u64, special: &[T]) {
        let rules: [Minimize<T>; 5] = [
            |f| Sgd::new(0.0).with_weight_decay(0.1).minimize(f),
            |f| Sgd::new(0.0).with_momentum(0.9).minimize(f),
            |f| Sgd::new(0.0).with_nesterov(0.9).with_clip(Clip::Norm(0.1)).minimize(f),
            |f| Adam::new(0.0).minimize(f),
            |f| AdamW::new(0.0).with_weight_decay(0.5).minimize(f),
        ];
        for (n, minimize) in rules.iter().enumerate() {
            let tape = Tape::<T>::new();
            let start: Vec<T> = special.iter().flat_map(|&x| [x; 4]).collect();
            let g = [-3.0, 2.0, 0.0, -0.0].map(T::lit).repeat(special.len());
            let w = tape.variable("w", Tensor::vector(start.clone()));
            let train = minimize((w * tape.constant(Tensor::vector(g))).sum()).unwrap();
            let mut session = Session::new(&tape).unwrap();
            for _ in 0..3 {
                session.run(train, &[]).unwrap();
                let same = session.parameters().iter().map(&bits).eq(start.iter().map(&bits));
                assert!(same, "{}, rule {n}: {:?}", T::NAME, session.parameters());
            }
            assert_eq!(session.steps(train).unwrap(), 3);
        }
    }
    let nan = f64::from_bits(0x7ff8_0000_0000_1234);
    check(|x: &f64| x.to_bits(), &[-0.0, 0.0, 5e-324, 1.5, -1e308, f64::INFINITY, nan]);
    let nan = f32::from_bits(0x7fc0_1234);
    check(|x: &f32| x.to_bits().into(), &[-0.0, 0.0, 1e-45, 1.5, -3e38, f32::INFINITY, nan]);
}

#[test]
fn b3_f32_follows_f64() {
    fn trained<T: Scalar>(rule: impl Rule<T> + 'static) -> Vec<f64> {
        let tape = Tape::<T>::new();
        let start = Tensor::vector([3.0, -2.0, 0.5].map(T::lit).to_vec());
        let train = optim::minimize(rule, tape.variable("w", start).square().sum()).unwrap();
        let mut session = Session::new(&tape).unwrap();
        (0..50).for_each(|_| drop(session.run(train, &[]).unwrap()));
        session.parameters().iter().map(|x| x.to_f64()).collect()
    }
    let sgd = Sgd::new(0.01).with_nesterov(0.9).with_clip(Clip::Norm(1.0));
    close(&trained::<f32>(sgd.clone()), &trained::<f64>(sgd), 1e-5);
    let adamw = AdamW::new(0.01);
    close(&trained::<f32>(adamw.clone()), &trained::<f64>(adamw), 1e-5);
}

#[test]
fn clipping_by_norm_is_global() {
    // Gradients 3 and (0, 4): norm 5.
    let step = |clip| {
        let tape = Tape::new();
        let (a, b) = (tape.variable("a", 0.0), tape.variable("b", vector(&[0.0, 0.0])));
        let loss = a * 3.0 + (b * tape.constant(vector(&[0.0, 4.0]))).sum();
        let train = Sgd::new(1.0).with_clip(clip).minimize(loss).unwrap();
        let mut session = Session::new(&tape).unwrap();
        session.run(train, &[]).unwrap();
        session.parameters().to_vec()
    };
    assert_eq!(step(Clip::Norm(2.5)), [-1.5, 0.0, -2.0]);
    assert_eq!(step(Clip::Norm(5.0)), [-3.0, 0.0, -4.0]);
    assert_eq!(step(Clip::Norm(6.0)), [-3.0, 0.0, -4.0]);
    assert_eq!(step(Clip::Value(3.5)), [-3.0, 0.0, -3.5]);
    assert_eq!(step(Clip::None), [-3.0, 0.0, -4.0]);
}

#[test]
fn an_infinite_norm_changes_nothing() {
    let tape = Tape::new();
    let w = tape.variable("w", 1.0);
    let train = Adam::new(0.1).with_clip(Clip::Norm(1.0)).minimize(w * 1e200).unwrap();
    let mut session = Session::new(&tape).unwrap();
    let text = ["adam: step 1: expected a finite norm of the gradients, got inf", file!()];
    refused(session.run(train, &[]), ErrorKind::NotFinite, &text);
    assert_eq!((session.value(w).unwrap(), session.steps(train).unwrap()), (1.0.into(), 0));
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for clip in [Clip::None, Clip::Value(1.0), Clip::Norm(1.0)] {
        let tape = Tape::new();
        let x = tape.placeholder("x", [2]);
        let alone = tape.variable("alone", 1.0);
        let u = tape.variable("u", vector(&[1.0, 1.0]));
        let w = tape.variable("w", vector(&[1.0, 1.0]));
        let sgd = Sgd::new(0.5).with_clip(clip);
        // Another train op in the same run, of a loss that is fine, does not step either.
        let fine = sgd.minimize(alone.square()).unwrap();
        let train = sgd.minimize(u.square().sum() + (w * x).sum()).unwrap();
        let mut session = Session::new(&tape).unwrap();
        for bad in [f64::NAN, f64::INFINITY] {
            let feed = vector(&[0.0, bad]);
            let result = session.run([fine, train], &[x.feed(&feed)]);
            let text =
                format!("sgd: step 1: expected a finite gradient of variable `w`, got {bad}");
            refused(result, ErrorKind::NotFinite, &[&text, file!()]);
            assert_eq!(session.parameters(), [1.0; 5]);
            assert_eq!([fine, train].map(|t| session.steps(t).unwrap()), [0, 0]);
        }
        session.run([fine, train], &[x.feed(&vector(&[0.0, 0.0]))]).unwrap();
        assert_eq!([fine, train].map(|t| session.steps(t).unwrap()), [1, 1]);
        assert!(session.parameters()[..3].iter().all(|&x| x < 1.0));
    }
}

#[test]
fn hyperparameters_out_of_range_are_refused() {
    fn check<T: Scalar>(rule: impl Rule<T> + 'static, text: &str) {
        let tape = Tape::<T>::new();
        let loss = tape.variable("w", T::lit(1.0)).square();
        refused(optim::minimize(rule, loss), ErrorKind::Argument, &[text]);
        assert!(tape.check().is_ok() && tape.len() == 2);
    }
    for bad in [f64::NAN, -1e-3, f64::INFINITY] {
        check::<f64>(Sgd::new(bad), &format!("sgd: expected a finite rate ≥ 0, got {bad}"));
        check::<f64>(Adam::new(bad), "adam: expected a finite rate");
        check::<f64>(AdamW::new(bad), "adamw: expected a finite rate");
        check::<f64>(Sgd::new(0.1).with_weight_decay(bad), "sgd: expected a finite weight decay");
        check::<f64>(AdamW::new(0.1).with_weight_decay(bad), "adamw: expected a finite weight");
        for schedule in [
            Schedule::Step { rate: bad, factor: 0.5, every: 3 },
            Schedule::Step { rate: 0.1, factor: bad, every: 3 },
            Schedule::Exponential { rate: bad, factor: 0.5 },
            Schedule::Exponential { rate: 0.1, factor: bad },
            Schedule::Cosine { rate: bad, end: 0.0, n_steps: 3 },
            Schedule::Cosine { rate: 0.1, end: bad, n_steps: 3 },
            Schedule::OneCycle { peak: bad, n_steps: 3 },
            Schedule::Constant(bad).after_warm_up(3),
        ] {
            check::<f64>(Adam::new(schedule), &format!("≥ 0, got {bad}"));
        }
    }
    for schedule in [
        Schedule::Step { rate: 0.1, factor: 0.5, every: 0 },
        Schedule::Cosine { rate: 0.1, end: 0.0, n_steps: 0 },
        Schedule::OneCycle { peak: 0.1, n_steps: 0 },
        Schedule::Constant(0.1).after_warm_up(0),
    ] {
        check::<f64>(Sgd::new(schedule), "≥ 1, got 0");
    }
    for beta in [f64::NAN, -0.1, 1.0, 1.5] {
        check::<f64>(Sgd::new(0.1).with_momentum(beta), "sgd: expected momentum in [0, 1), got");
        check::<f64>(Sgd::new(0.1).with_nesterov(beta), "sgd: expected momentum in [0, 1), got");
        check::<f64>(Adam::new(0.1).with_betas(beta, 0.9), "adam: expected beta1 in [0, 1), got");
        check::<f64>(AdamW::new(0.1).with_betas(0.9, beta), "adamw: expected beta2 in [0, 1)");
    }
    for limit in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
        check::<f64>(Adam::new(0.1).with_epsilon(limit), "adam: expected a finite epsilon > 0");
        for clip in [Clip::Value(limit), Clip::Norm(limit)] {
            let text = "adamw: expected a finite limit to clip to > 0";
            check::<f64>(AdamW::new(0.1).with_clip(clip), text);
        }
    }
    check::<f32>(Adam::new(0.1).with_epsilon(1e-50), "epsilon > 0 in f32");

    // A function of the step is looked at in each step.
    let tape = Tape::new();
    let w = tape.variable("w", 1.0);
    let rate = Schedule::custom(|t| if t < 3 { 0.25 } else { -1.0 });
    let train = Sgd::new(rate).minimize(w).unwrap();
    let mut session = Session::new(&tape).unwrap();
    session.run(train, &[]).unwrap();
    session.run(train, &[]).unwrap();
    refused(session.run(train, &[]), ErrorKind::Argument, &["sgd: step 3", "≥ 0", "got -1"]);
    assert_eq!((session.value(w).unwrap(), session.steps(train).unwrap()), (0.5.into(), 2));
}

#[test]
fn what_is_trained_is_never_guessed() {
    let tape = Tape::new();
    let sgd = Sgd::new(0.1);
    let (u, v, w) = (tape.variable("u", 1.0), tape.variable("v", 1.0), tape.variable("w", 1.0));
    let x = tape.placeholder("x", []);
    let wide = tape.constant(vector(&[1.0; 2]));
    let gradient = ErrorKind::Gradient;
    refused(sgd.minimize(x.square()), gradient, &["depends on a variable, got square", file!()]);
    refused(sgd.minimize(u * wide), gradient, &["expected a scalar loss"]);
    refused(sgd.minimize(u + v.floor()), gradient, &["`v`", "floor", "minimize_over"]);
    let text = ["square", "variable `v`", "leave it out of minimize_over"];
    refused(sgd.minimize_over(u.square(), &[u, v]), gradient, &text);

    let argument = ErrorKind::Argument;
    let none: [(Expr<'_>, Expr<'_>); 0] = [];
    refused(sgd.apply(&none), argument, &["sgd: expected variables with their gradients"]);
    refused(sgd.apply(&[(u, x), (u, v)]), argument, &["`u` twice"]);
    refused(sgd.apply(&[(x, x)]), argument, &["a variable, got placeholder `x`"]);
    refused(sgd.apply(&[(u, wide)]), argument, &["gradient of [] for variable `u`, got [2]"]);
    let other = Tape::new();
    refused(sgd.apply(&[(other.variable("o", 1.0), u)]), ErrorKind::Tape, &["of another"]);
    assert!(tape.check().is_ok());

    // What stands only behind a stop_gradient or a custom gradient is not trained.
    let cut = tape.custom_gradient(&[w], w * v, |_, _, ct| vec![ct]);
    let train = sgd.minimize(u.square() * v.stop_gradient() + cut).unwrap();
    let info = train.info().unwrap();
    assert_eq!(info.inputs.iter().step_by(2).collect::<Vec<_>>(), ["u", "w"]);
    assert_eq!((info.op.as_str(), info.at.file()), ("sgd", file!()));
    let mut session = Session::new(&tape).unwrap();
    session.run(train, &[]).unwrap();
    close(session.parameters(), &[0.8, 1.0, 0.9], 1e-15);
    refused(session.steps(u), ErrorKind::Tape, &["steps: expected a train op, got variable `u`"]);

    refused(sgd.minimize((wide + tape.constant(vector(&[1.0; 3]))).sum()), ErrorKind::Shape, &[]);
}

#[test]
fn groups_need_not_lie_side_by_side() {
    let tape = Tape::new();
    let start = [3, 20, 1, 0, 7].map(|n| vec![n as f64; n]);
    let names = ["a", "b", "c", "d", "e"];
    let vars: Vec<_> =
        names.iter().zip(&start).map(|(name, x)| tape.variable(name, vector(x))).collect();
    let loss = vars.iter().map(|v| v.square().sum()).reduce(|a, b| a + b).unwrap() * 0.5;
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|i| vars[i]);
    let fast = Sgd::new(0.5).with_momentum(0.5).minimize_over(loss, &[e, a, c]).unwrap();
    let slow = Sgd::new(0.25).minimize_over(loss, &[d.var(), b.var()]).unwrap();
    for passes in [Passes::ALL, Passes::NONE] {
        let mut session = Session::new(&tape).unwrap().with_passes(passes);
        assert_eq!(session.run((fast, slow), &[]).unwrap(), (1.0.into(), 1.0.into()));
        session.run(fast, &[]).unwrap();
        // The fast ones have b = w, then w/2 + w/2, so that w goes to w/2 and to 0.
        for (v, (x, factor)) in vars.iter().zip(start.iter().zip([0.0, 0.75, 0.0, 1.0, 0.0])) {
            let want: Vec<_> = x.iter().map(|x| x * factor).collect();
            assert_eq!(session.value(*v).unwrap(), vector(&want), "{}", v.name());
        }
        assert_eq!((session.steps(fast).unwrap(), session.steps(slow).unwrap()), (2, 1));
    }
}

#[test]
fn sessions_and_train_ops_have_states_of_their_own() {
    let tape = Tape::new();
    let w = tape.variable("w", 0.0);
    let rule = Sgd::new(1.0).with_momentum(0.5);
    let (train, again) = (rule.minimize(w).unwrap(), rule.minimize(w).unwrap());
    let mut sessions = [Session::new(&tape).unwrap(), Session::new(&tape).unwrap()];
    let mut step = |which: usize, train| {
        sessions[which].run(train, &[]).unwrap();
        sessions[which].value(w).unwrap().item().unwrap()
    };
    assert_eq!([step(0, train), step(0, train), step(0, train)], [-1.0, -2.5, -4.25]);
    assert_eq!([step(1, train), step(1, train)], [-1.0, -2.5]);
    assert_eq!([step(1, again), step(1, again)], [-3.5, -5.0]);
    assert_eq!([0, 1].map(|i| sessions[i].steps(train).unwrap()), [3, 2]);
    assert_eq!([0, 1].map(|i| sessions[i].steps(again).unwrap()), [0, 2]);
}

#[test]
fn gradients_may_be_shared_fed_or_the_variable_itself() {
    let tape = Tape::new();
    let (a, b) = (tape.variable("a", vector(&[1.0, 2.0])), tape.variable("b", vector(&[3.0, 4.0])));
    let g = tape.placeholder("g", [gradtape::ANY]);
    let sgd = Sgd::new(0.5);
    let shared = sgd.minimize((a + b).square().sum()).unwrap();
    let swapped = sgd.apply(&[(b, a), (a, b)]).unwrap();
    let fed = sgd.apply(&[(b, g), (a, g)]).unwrap();
    for passes in [Passes::ALL, Passes::NONE] {
        let run = |train: Expr<'_>, feed: &[f64], want: [f64; 4]| {
            let mut session = Session::new(&tape).unwrap().with_passes(passes);
            let feed = vector(feed);
            let result = session.run(train, &[g.feed(&feed)]);
            assert_eq!(session.parameters(), want);
            result
        };
        run(shared, &[0.0], [-3.0, -4.0, -1.0, -2.0]).unwrap();
        run(swapped, &[0.0], [-0.5, 0.0, 2.5, 3.0]).unwrap();
        run(fed, &[2.0, 4.0], [0.0, 0.0, 2.0, 2.0]).unwrap();
        let short = run(fed, &[2.0], [1.0, 2.0, 3.0, 4.0]);
        refused(short, ErrorKind::Shape, &["sgd", "[2]", "[1]"]);
    }
}

#[test]
fn a_variable_without_a_value_is_not_trained() {
    let tape = Tape::new();
    let w = tape.uninitialized("w", []);
    let train = Sgd::new(0.5).minimize(w).unwrap();
    let mut session = Session::new(&tape).unwrap();
    refused(session.run(train, &[]), ErrorKind::Uninitialized, &["`w`"]);
    session.assign(w, &1.0).unwrap();
    session.run(train, &[]).unwrap();
    assert_eq!(session.value(w).unwrap(), 0.5.into());
}

#[test]
fn training_allocates_nothing_after_the_first_step() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [4]);
    let w = tape.variable("w", vector(&[1.0; 4]));
    let loss = (w * x - 1.0).square().mean();
    let train = AdamW::new(Schedule::OneCycle { peak: 0.1, n_steps: 20 })
        .with_clip(Clip::Norm(0.5))
        .minimize(loss)
        .unwrap();
    let fetches: (Fetch, Fetch) = (loss.into(), train.into());
    let mut session = Session::new(&tape).unwrap();
    let (feed, mut out) = (vector(&[1.0, 2.0, 3.0, 4.0]), Default::default());
    session.run_into(fetches, &[x.feed(&feed)], &mut out).unwrap();
    let steps = || (0..19).try_for_each(|_| session.run_into(fetches, &[x.feed(&feed)], &mut out));
    let (result, _, calls) = support::counted(steps);
    assert_eq!((result.is_ok(), calls), (true, 0));
    assert_eq!(out.1, 20.0.into());
}

/// A user's rule with state and an error of its own: gradients summed up.
#[derive(Debug)]
struct Summed {
    n_slots: usize,
}

impl Rule<f64> for Summed {
    fn name(&self) -> &str {
        "summed"
    }
    fn slots(&self) -> usize {
        self.n_slots
    }
    fn begin(&self, whole: &Whole<'_, f64>, steps: &mut [Step]) -> Result<()> {
        if whole.gradients.iter().sum::<f64>() > 100.0 {
            return Err(gradtape::Error::new(ErrorKind::Argument, "too much"));
        }
        steps.fill(Step::new(whole.t, 1.0));
        Ok(())
    }
    fn update(&self, step: &Step, w: &mut [f64], g: &[f64], state: &mut [&mut [f64]]) {
        for (i, (w, g)) in w.iter_mut().zip(g).enumerate() {
            state.iter_mut().for_each(|s| s[i] += g);
            *w -= step.rate * state[state.len() - 1][i];
        }
    }
}

#[test]
fn rules_from_outside() {
    let tape = Tape::new();
    let w = tape.variable("w", vector(&[0.0, 0.0]));
    let x = tape.placeholder("x", [2]);
    let train = optim::minimize(Summed { n_slots: 4 }, (w * x).sum()).unwrap();
    let too_many = optim::minimize(Summed { n_slots: 7 }, (w * x).sum());
    refused(too_many, ErrorKind::Argument, &["summed: expected at most 6 slots, got 7"]);
    let mut session = Session::new(&tape).unwrap();
    let mut run = |feed: [f64; 2]| {
        let result = session.run(train, &[x.feed(&vector(&feed))]);
        (result.map(|t| t.item().unwrap()), session.parameters().to_vec())
    };
    assert_eq!(run([1.0, 2.0]).1, [-1.0, -2.0]);
    let (result, w) = run([99.0, 2.0]);
    refused(result, ErrorKind::Argument, &["summed: step 2: too much"]);
    assert_eq!(w, [-1.0, -2.0]);
    let (result, w) = run([1.0, 0.0]);
    assert_eq!((result.unwrap(), w), (2.0, vec![-3.0, -4.0]));
}
