//! Every other first-order optimizer against scalar code straight from its paper and against
//! PyTorch; what they refuse and leave untouched; threads, groups, averages, accumulation.

use descent::{Minimize, a_thousand_steps, as_pytorch, close, reference, vector};
use errors::refused;
use gradtape::optim::{
    self, Accumulate, AdaGrad, Adadelta, Adam, AdamW, Adamax, AmsGrad, Asgd, Averaged,
    BiasCorrection, Clip, Groups, Ista, Lamb, Lion, NAdam, OnPlateau, RAdam, RmsProp, Rprop, Rule,
    Schedule, Sgd, Step, Whole,
};
use gradtape::{ANY, ErrorKind, Expr, Fetch, Philox, Result, Scalar, Session, Tape, Tensor};

mod descent;
mod errors;
mod support;

#[global_allocator]
static COUNTING: support::Counting = support::Counting;

/// A rule as scalar code, written from its paper: the next w, given four numbers of state that are
/// 0 at first.
type Paper = fn(&mut [f64; 4], t: i32, w: f64, g: f64) -> f64;

const RATE: f64 = 0.01;
const EPS: f64 = 1e-8;
/// Rules that forget old gradients soon go at the edge of stability, where roundings grow, unless ε
/// is large or the rate falls.
const LARGE_EPS: f64 = 0.1;

/// m̂ and v̂ of Adam with β = (0.9, 0.999), in the first two numbers.
fn moments(s: &mut [f64; 4], t: i32, g: f64) -> (f64, f64) {
    s[0] = 0.9 * s[0] + (1.0 - 0.9) * g;
    s[1] = 0.999 * s[1] + (1.0 - 0.999) * g * g;
    (s[0] / (1.0 - 0.9f64.powi(t)), s[1] / (1.0 - 0.999f64.powi(t)))
}

/// (μₜ, μₜ₊₁) of NAdam with ψ = 0.004; the product Π in the third number.
fn dozat(s: &mut [f64; 4], t: i32) -> (f64, f64) {
    let mu = |t: i32| 0.9 * (1.0 - 0.5 * 0.96f64.powf(0.004 * f64::from(t)));
    s[2] = if t == 1 { mu(t) } else { s[2] * mu(t) };
    (mu(t), mu(t + 1))
}

fn nadam(s: &mut [f64; 4], t: i32, w: f64, g: f64) -> f64 {
    let (_, v_hat) = moments(s, t, g);
    let (now, next) = dozat(s, t);
    let direction = (1.0 - now) / (1.0 - s[2]) * g + next / (1.0 - s[2] * next) * s[0];
    w - RATE * direction / (v_hat.sqrt() + EPS)
}

/// The rectified step, where it counts from this ρ on, with ε beside √v̂ or beside √v.
fn radam(s: &mut [f64; 4], t: i32, g: f64, threshold: f64, corrected: bool) -> f64 {
    let (m_hat, v_hat) = moments(s, t, g);
    let (t, beta_t) = (f64::from(t), 0.999f64.powi(t));
    let rho_max = 2.0 / (1.0 - 0.999) - 1.0;
    let rho = rho_max - 2.0 * t * beta_t / (1.0 - beta_t);
    if rho <= threshold {
        return RATE * m_hat;
    }
    let r =
        ((rho - 4.0) * (rho - 2.0) * rho_max / ((rho_max - 4.0) * (rho_max - 2.0) * rho)).sqrt();
    match corrected {
        true => RATE * r * m_hat / (v_hat.sqrt() + EPS),
        false => RATE * r * m_hat * (1.0 - beta_t).sqrt() / (s[1].sqrt() + EPS),
    }
}

fn adamax(s: &mut [f64; 4], t: i32, w: f64, g: f64) -> f64 {
    s[0] = 0.9 * s[0] + (1.0 - 0.9) * g;
    s[1] = (0.999 * s[1]).max(g.abs() + EPS);
    w - RATE / (1.0 - 0.9f64.powi(t)) * s[0] / s[1]
}

/// α = 0.9, μ = 0.8, ε beside the root.
fn rmsprop_all(s: &mut [f64; 4], _: i32, w: f64, g: f64) -> f64 {
    s[0] = 0.9 * s[0] + (1.0 - 0.9) * g * g;
    s[1] = 0.9 * s[1] + (1.0 - 0.9) * g;
    s[2] = 0.8 * s[2] + g / ((s[0] - s[1] * s[1]).max(0.0).sqrt() + LARGE_EPS);
    w - RATE * s[2]
}

fn adadelta(s: &mut [f64; 4], _: i32, w: f64, g: f64) -> f64 {
    s[0] = 0.9 * s[0] + (1.0 - 0.9) * g * g;
    let step = (s[1] + LARGE_EPS).sqrt() / (s[0] + LARGE_EPS).sqrt() * g;
    s[1] = 0.9 * s[1] + (1.0 - 0.9) * step * step;
    w - RATE * step
}

fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

fn rprop(s: &mut [f64; 4], t: i32, w: f64, g: f64) -> f64 {
    let ([before, size, ..], g) = (&mut *s, g);
    if t == 1 {
        *size = RATE;
    }
    let turn = g * *before;
    let factor = [0.5, 1.0, 1.2][(sign(turn) + 1.0) as usize];
    *size = (*size * factor).clamp(1e-6, 50.0);
    *before = if turn < 0.0 { 0.0 } else { g };
    w - sign(*before) * *size
}

fn lion(s: &mut [f64; 4], _: i32, w: f64, g: f64) -> f64 {
    let direction = sign(0.9 * s[0] + (1.0 - 0.9) * g);
    s[0] = 0.99 * s[0] + (1.0 - 0.99) * g;
    w - RATE * (direction + 0.1 * w)
}

fn soft_threshold(x: f64, a: f64) -> f64 {
    x.signum() * (x.abs() - a).max(0.0)
}

fn of_rmsprop() -> RmsProp {
    RmsProp::new(RATE).with_alpha(0.9).with_epsilon(LARGE_EPS)
}

/// Every elementwise rule in every form.
const RULES: [(&str, Minimize, Paper); 24] = [
    (
        "adam, coupled",
        |f| Adam::new(RATE).with_weight_decay(0.1).minimize(f),
        |s, t, w, g| {
            let (m, v) = moments(s, t, g + 0.1 * w);
            w - RATE * m / (v.sqrt() + EPS)
        },
    ),
    (
        "amsgrad",
        |f| AmsGrad::new(RATE).minimize(f),
        |s, t, w, g| {
            let (m, _) = moments(s, t, g);
            s[2] = s[2].max(s[1]);
            w - RATE * m / ((s[2] / (1.0 - 0.999f64.powi(t))).sqrt() + EPS)
        },
    ),
    (
        "amsgrad, optax",
        |f| AmsGrad::new(RATE).with_bias_correction(BiasCorrection::BeforeMax).minimize(f),
        |s, t, w, g| {
            let (m, v) = moments(s, t, g);
            s[2] = s[2].max(v);
            w - RATE * m / (s[2].sqrt() + EPS)
        },
    ),
    (
        "amsgrad, paper",
        |f| AmsGrad::new(RATE).with_bias_correction(BiasCorrection::None).minimize(f),
        |s, t, w, g| {
            moments(s, t, g);
            s[2] = s[2].max(s[1]);
            w - RATE * s[0] / (s[2].sqrt() + EPS)
        },
    ),
    ("nadam", |f| NAdam::new(RATE).minimize(f), nadam),
    (
        "nadam, decoupled",
        |f| NAdam::new(RATE).with_decoupled_weight_decay(0.1).minimize(f),
        |s, t, w, g| nadam(s, t, (1.0 - RATE * 0.1) * w, g),
    ),
    (
        "nadam, optax",
        |f| NAdam::new(RATE).with_constant_momentum().minimize(f),
        |s, t, w, g| {
            let (_, v) = moments(s, t, g);
            let ahead = 0.9 * s[0] / (1.0 - 0.9f64.powi(t + 1));
            let here = (1.0 - 0.9) * g / (1.0 - 0.9f64.powi(t));
            w - RATE * (ahead + here) / (v.sqrt() + EPS)
        },
    ),
    ("radam", |f| RAdam::new(RATE).minimize(f), |s, t, w, g| w - radam(s, t, g, 5.0, false)),
    (
        "radam, paper's threshold, optax's ε",
        |f| RAdam::new(RATE).with_threshold(4.0).with_corrected_epsilon().minimize(f),
        |s, t, w, g| w - radam(s, t, g, 4.0, true),
    ),
    ("adamax", |f| Adamax::new(RATE).minimize(f), adamax),
    (
        "adamax, coupled",
        |f| Adamax::new(RATE).with_weight_decay(0.1).minimize(f),
        |s, t, w, g| adamax(s, t, w, g + 0.1 * w),
    ),
    (
        "rmsprop",
        |f| RmsProp::new(RATE).with_epsilon(LARGE_EPS).minimize(f),
        |s, _, w, g| {
            s[0] = 0.99 * s[0] + (1.0 - 0.99) * g * g;
            w - RATE * g / (s[0].sqrt() + LARGE_EPS)
        },
    ),
    (
        "rmsprop, ε inside",
        |f| RmsProp::new(RATE).with_alpha(0.9).with_epsilon_inside(1e-4).minimize(f),
        |s, _, w, g| {
            s[0] = 0.9 * s[0] + (1.0 - 0.9) * g * g;
            w - RATE * g / (s[0] + 1e-4).sqrt()
        },
    ),
    (
        "rmsprop, momentum",
        |f| of_rmsprop().with_momentum(0.8).minimize(f),
        |s, _, w, g| {
            s[0] = 0.9 * s[0] + (1.0 - 0.9) * g * g;
            s[1] = 0.8 * s[1] + g / (s[0].sqrt() + LARGE_EPS);
            w - RATE * s[1]
        },
    ),
    (
        "rmsprop, centered",
        |f| of_rmsprop().centered().minimize(f),
        |s, _, w, g| {
            s[0] = 0.9 * s[0] + (1.0 - 0.9) * g * g;
            s[1] = 0.9 * s[1] + (1.0 - 0.9) * g;
            w - RATE * g / ((s[0] - s[1] * s[1]).max(0.0).sqrt() + LARGE_EPS)
        },
    ),
    ("rmsprop, all", |f| of_rmsprop().centered().with_momentum(0.8).minimize(f), rmsprop_all),
    (
        "adagrad",
        |f| AdaGrad::new(RATE).minimize(f),
        |s, _, w, g| {
            s[0] += g * g;
            w - RATE * g / (s[0].sqrt() + 1e-10)
        },
    ),
    (
        "adagrad, optax",
        |f| AdaGrad::new(RATE).with_initial_accumulator(0.1).with_epsilon_inside(1e-7).minimize(f),
        |s, t, w, g| {
            s[0] = g * g + if t == 1 { 0.1 } else { s[0] };
            w - RATE * g / (s[0] + 1e-7).sqrt()
        },
    ),
    ("adadelta", |f| Adadelta::new(RATE).with_epsilon(LARGE_EPS).minimize(f), adadelta),
    ("rprop", |f| Rprop::new(RATE).minimize(f), rprop),
    (
        "asgd",
        |f| Asgd::new(RATE).with_lambda(0.1).with_alpha(0.5).minimize(f),
        |_, t, w, g| {
            let eta = RATE / (1.0 + 0.1 * RATE * f64::from(t - 1)).sqrt();
            (1.0 - 0.1 * eta) * w - eta * g
        },
    ),
    ("lion", |f| Lion::new(RATE).with_weight_decay(0.1).minimize(f), lion),
    (
        "ista",
        |f| Ista::new(RATE, 0.02).minimize(f),
        |_, _, w, g| soft_threshold(w - RATE * g, RATE * 0.02),
    ),
    (
        "elastic net",
        |f| Ista::new(RATE, 0.02).with_weight_decay(0.2).minimize(f),
        |_, _, w, g| soft_threshold(w - RATE * (g + 0.2 * w), RATE * 0.02),
    ),
];

#[test]
fn a_thousand_steps_of_every_rule() {
    for (name, minimize, paper) in RULES {
        let apart = a_thousand_steps(minimize, |states: &mut Vec<[f64; 4]>, t, w, g| {
            states.resize(w.len(), [0.0; 4]);
            for ((w, g), state) in w.iter_mut().zip(g).zip(states) {
                *w = paper(state, t, *w, *g);
            }
        });
        assert!(apart.iter().all(|&a| a <= 1e-12), "{name}: {apart:?}");
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// One step of LAMB on one variable.
fn lamb(states: &mut Vec<[f64; 4]>, t: i32, w: &mut [f64], g: &[f64], decay: f64) {
    states.resize(w.len(), [0.0; 4]);
    let direction: Vec<f64> = (w.iter().zip(g).zip(states))
        .map(|((w, g), state)| {
            let (m, v) = moments(state, t, *g);
            m / (v.sqrt() + 1e-6) + decay * w
        })
        .collect();
    let ratio = match (norm(w), norm(&direction)) {
        (w, d) if w > 0.0 && d > 0.0 => w / d,
        _ => 1.0,
    };
    let rate = RATE * 0.98f64.powi(t - 1);
    w.iter_mut().zip(direction).for_each(|(w, d)| *w -= rate * ratio * d);
}

#[test]
fn a_thousand_steps_of_lamb() {
    fn falling() -> Schedule {
        Schedule::Exponential { rate: RATE, factor: 0.98 }
    }
    let plain =
        a_thousand_steps(|f| Lamb::new(falling()).minimize(f), |s, t, w, g| lamb(s, t, w, g, 0.0));
    let clipped = a_thousand_steps(
        |f| Lamb::new(falling()).with_weight_decay(0.1).with_clip(Clip::Norm(0.5)).minimize(f),
        |s, t, w, g| {
            let factor = (0.5 / norm(g)).min(1.0);
            let g: Vec<f64> = g.iter().map(|g| g * factor).collect();
            lamb(s, t, w, &g, 0.1);
        },
    );
    assert!([plain, clipped].iter().flatten().all(|&a| a <= 1e-12), "{plain:?} {clipped:?}");
}

/// Two variables with the gradients 3 and (0, 4) · `by`: their values after a step.
fn one_step(train: impl Fn(Expr<'_>) -> Result<Expr<'_>>, by: f64) -> Vec<f64> {
    let tape = Tape::new();
    let (a, b) = (tape.variable("a", 0.0), tape.variable("b", vector(&[0.0, 0.0])));
    let loss = a * (3.0 * by) + (b * tape.constant(vector(&[0.0, 4.0 * by]))).sum();
    let train = train(loss).unwrap();
    let mut session = Session::new(&tape).unwrap();
    session.run(train, &[]).unwrap();
    session.parameters().to_vec()
}

#[test]
fn clipping_by_the_norm_of_each_tensor() {
    let clipped =
        |c, by| one_step(|f| Sgd::new(1.0).with_clip(Clip::TensorNorm(c)).minimize(f), by);
    assert_eq!(clipped(2.0, 1.0), [-2.0, 0.0, -2.0]);
    assert_eq!(clipped(3.5, 1.0), [-3.0, 0.0, -3.5]);
    assert_eq!(clipped(4.0, 1.0), [-3.0, 0.0, -4.0]);
    assert_eq!(clipped(4.0, 0.0), [0.0; 3]);
    // With an ε beside the norm, as PyTorch has it.
    let clipped = |clip| {
        let sgd = Sgd::new(1.0).with_clip(clip).with_clip_epsilon(1.0);
        one_step(|f| sgd.minimize(f), 1.0)
    };
    close(&clipped(Clip::Norm(3.0)), &[-1.5, 0.0, -2.0], 1e-15);
    close(&clipped(Clip::TensorNorm(2.0)), &[-1.5, 0.0, -1.6], 1e-15);
}

#[test]
fn as_pytorch_has_them() {
    const DECAY: f64 = 0.3;
    macro_rules! fast {
        ($rule:ident) => {
            $rule::new(0.1).with_betas(0.5, 0.9).with_epsilon(1e-3)
        };
    }
    let rules: [(&str, Minimize); 24] = [
        ("adam_decay", |f| fast!(Adam).with_weight_decay(DECAY).minimize(f)),
        ("amsgrad", |f| fast!(AmsGrad).minimize(f)),
        ("amsgrad_decoupled", |f| fast!(AmsGrad).with_decoupled_weight_decay(DECAY).minimize(f)),
        ("nadam", |f| NAdam::new(0.1).minimize(f)),
        ("nadam_decay", |f| {
            fast!(NAdam).with_momentum_decay(0.1).with_weight_decay(DECAY).minimize(f)
        }),
        ("nadam_decoupled", |f| fast!(NAdam).with_decoupled_weight_decay(DECAY).minimize(f)),
        ("radam", |f| RAdam::new(0.1).minimize(f)),
        ("radam_decay", |f| fast!(RAdam).with_weight_decay(DECAY).minimize(f)),
        ("radam_decoupled", |f| fast!(RAdam).with_decoupled_weight_decay(DECAY).minimize(f)),
        ("adamax", |f| Adamax::new(0.1).minimize(f)),
        ("adamax_decay", |f| fast!(Adamax).with_weight_decay(DECAY).minimize(f)),
        ("rmsprop", |f| RmsProp::new(0.02).minimize(f)),
        ("rmsprop_momentum", |f| RmsProp::new(0.02).with_alpha(0.9).with_momentum(0.8).minimize(f)),
        ("rmsprop_centered", |f| RmsProp::new(0.02).with_epsilon(1e-3).centered().minimize(f)),
        ("rmsprop_all", |f| {
            let rmsprop = RmsProp::new(0.02).with_alpha(0.9).with_epsilon(1e-2).centered();
            rmsprop.with_momentum(0.5).with_weight_decay(0.1).minimize(f)
        }),
        ("adagrad", |f| AdaGrad::new(0.1).minimize(f)),
        ("adagrad_initial", |f| {
            let adagrad = AdaGrad::new(0.1).with_epsilon(1e-3).with_initial_accumulator(0.1);
            adagrad.with_weight_decay(DECAY).minimize(f)
        }),
        ("adadelta", |f| Adadelta::new(1.0).minimize(f)),
        ("adadelta_decay", |f| {
            let adadelta = Adadelta::new(5.0).with_rho(0.7).with_epsilon(1e-4);
            adadelta.with_weight_decay(DECAY).minimize(f)
        }),
        ("rprop", |f| Rprop::new(0.01).minimize(f)),
        ("rprop_etas", |f| {
            Rprop::new(0.1).with_factors(0.3, 1.5).with_sizes(0.01, 0.3).minimize(f)
        }),
        ("asgd", |f| Asgd::new(0.02).minimize(f)),
        ("sgd_clip_norm", |f| {
            Sgd::new(0.02).with_clip(Clip::Norm(0.5)).with_clip_epsilon(1e-6).minimize(f)
        }),
        ("sgd", |f| Averaged::uniform(Sgd::new(0.02)).minimize(f)),
    ];
    for (name, minimize) in rules {
        as_pytorch(name, minimize, |session, _| session.parameters().to_vec());
    }
    let averaged: [(&str, Minimize); 3] = [
        ("asgd_average", |f| {
            let asgd = Asgd::new(0.02).with_lambda(0.1).with_alpha(0.5).with_start(5);
            asgd.with_weight_decay(0.1).minimize(f)
        }),
        ("sgd_ema", |f| Averaged::exponential(Sgd::new(0.02), 0.9).minimize(f)),
        ("sgd_mean", |f| Averaged::uniform(Sgd::new(0.02)).minimize(f)),
    ];
    for (name, minimize) in averaged {
        as_pytorch(name, minimize, |session, train| {
            session.swap_average(train).unwrap();
            let average = session.parameters().to_vec();
            session.swap_average(train).unwrap();
            average
        });
    }
}

#[test]
fn schedules_as_pytorch_has_them() {
    let cases = reference();
    let rates = |name| cases[name].iter().map(|row| row.1[0]).collect::<Vec<f64>>();
    for (name, schedule) in [
        ("rate_multi_step", Schedule::MultiStep { rate: 0.1, factor: 0.5, after: vec![31, 4, 30] }),
        ("rate_polynomial", Schedule::Polynomial { rate: 0.1, end: 0.0, power: 2.0, n_steps: 40 }),
        ("rate_restarts", Schedule::CosineRestarts { rate: 0.1, end: 0.01, n_steps: 7, growth: 2 }),
    ] {
        let got: Vec<f64> = (1..=60).map(|t| schedule.at(t)).collect();
        close(&got, &rates(name), 1e-13);
    }
    let mut plateau = OnPlateau::new(0.5).with_patience(2).with_cooldown(3);
    let mut got = vec![0.1];
    for t in 0..59u32 {
        let metric = f64::from(20u32.saturating_sub(t).max(1)) + f64::from(t * 7 % 5) / 4096.0;
        got.push(0.1 * plateau.update(metric).unwrap());
    }
    close(&got, &rates("rate_plateau"), 1e-15);
}

#[test]
fn schedules_at_their_ends() {
    let waves = Schedule::CosineRestarts { rate: 1.0, end: 0.0, n_steps: 2, growth: 1 };
    assert_eq!([1, 2, 3, 4, 5, u64::MAX].map(|t| waves.at(t)), [1.0, 0.5, 1.0, 0.5, 1.0, 1.0]);
    let waves = Schedule::CosineRestarts { rate: 1.0, end: 0.0, n_steps: 1, growth: 2 };
    assert_eq!([1, 2, 3, 4, 6, 8].map(|t| waves.at(t)), [1.0, 1.0, 0.5, 1.0, 0.5, 1.0]);
    assert!((0.0..=1.0).contains(&waves.at(u64::MAX)));
    let line = Schedule::Polynomial { rate: 1.0, end: 0.5, power: 1.0, n_steps: 4 };
    assert_eq!([1, 3, 5, 6, u64::MAX].map(|t| line.at(t)), [1.0, 0.75, 0.5, 0.5, 0.5]);
    let root = Schedule::InverseSqrt { peak: 0.5, n_steps: 4 };
    assert_eq!([1, 2, 4, 16, 64].map(|t| root.at(t)), [0.125, 0.25, 0.5, 0.25, 0.125]);
    let steps = Schedule::MultiStep { rate: 1.0, factor: 0.5, after: vec![2, 2, 5] };
    assert_eq!([1, 2, 3, 5, 6, 7].map(|t| steps.at(t)), [1.0, 1.0, 0.25, 0.25, 0.125, 0.125]);
}

#[test]
fn a_plateau_is_told_metrics_and_scales_the_rate() {
    let mut plateau = OnPlateau::new(0.5).with_patience(0).with_smallest_factor(0.2);
    let factors = [f64::NAN, 2.0, 1.0, 1.0 - 5e-5, 0.5, f64::INFINITY, f64::NAN];
    let factors = factors.map(|loss| plateau.update(loss).unwrap());
    assert_eq!(factors, [0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]);
    assert_eq!((plateau.factor(), plateau.best()), (0.2, Some(0.5)));
    // Below 0, too, lower is better.
    let mut negative = OnPlateau::new(0.5).with_patience(0).with_threshold(0.5);
    assert_eq!([-1.0, -1.4, -3.0].map(|x| negative.update(x).unwrap()), [1.0, 0.5, 0.5]);
    for bad in [0.0, 1.0, -0.5, f64::NAN] {
        let text = ["on plateau: expected a multiplier in (0, 1)"];
        refused(OnPlateau::new(bad).update(1.0), ErrorKind::Argument, &text);
    }
    for bad in [-0.1, f64::NAN] {
        let (threshold, smallest) = (OnPlateau::new(0.5), OnPlateau::new(0.5));
        let threshold = threshold.with_threshold(bad).update(1.0);
        refused(threshold, ErrorKind::Argument, &["on plateau: expected a finite threshold ≥ 0"]);
        let smallest = smallest.with_smallest_factor(bad).update(1.0);
        refused(smallest, ErrorKind::Argument, &["on plateau: expected a smallest factor in"]);
    }
}

#[test]
fn a_factor_on_the_rate_is_a_sessions_own() {
    let tape = Tape::<f32>::new();
    let w = tape.variable("w", 0.0);
    let rate = Schedule::Step { rate: 8.0, factor: 0.5, every: 1 };
    let train = Sgd::new(rate).minimize(w).unwrap();
    let mut sessions = [Session::new(&tape).unwrap(), Session::new(&tape).unwrap()];
    sessions[0].scale_rate(train, 0.25).unwrap();
    let mut step = |session: usize| {
        sessions[session].run(train, &[]).unwrap();
        sessions[session].value(w).unwrap().item().unwrap()
    };
    assert_eq!([step(0), step(0), step(1), step(1)], [-2.0, -3.0, -8.0, -12.0]);
    let session = &mut sessions[0];
    session.scale_rate(train, 0.0).unwrap();
    session.run(train, &[]).unwrap();
    session.scale_rate(train, 1.0).unwrap();
    session.run(train, &[]).unwrap();
    assert_eq!(session.value(w).unwrap(), (-4.0).into());
    for bad in [f64::NAN, -0.5, f64::INFINITY] {
        let text = format!("scale_rate: expected a finite factor ≥ 0, got {bad}");
        refused(session.scale_rate(train, bad), ErrorKind::Argument, &[&text]);
    }
    refused(session.scale_rate(w, 0.5), ErrorKind::Tape, &["scale_rate: expected a train op"]);
    session.scale_rate(train, 1e300).unwrap();
    refused(session.run(train, &[]), ErrorKind::Argument, &["sgd: step 5: expected a finite rate"]);
    assert_eq!(session.steps(train).unwrap(), 4);
}

/// As [`Minimize`], of a rule that is held.
type Train<T> = Box<dyn for<'t> Fn(Expr<'t, T>) -> Result<Fetch>>;

/// Every rule at this rate, by what it is called in messages.
fn at_rate<T: Scalar>(rate: f64) -> Vec<(&'static str, Train<T>)> {
    macro_rules! rules {
        ($($name:literal: $rule:expr),* $(,)?) => {
            vec![$(($name, {
                let rule = $rule;
                Box::new(move |f: Expr<'_, T>| rule.minimize(f).map(Fetch::from))
            })),*]
        };
    }
    rules! {
        "sgd": Sgd::new(rate),
        "sgd": Averaged::debiased(Sgd::new(rate).with_clip(Clip::TensorNorm(0.1)), 0.9),
        "adam": Adam::new(rate).with_weight_decay(0.1),
        "adamw": AdamW::new(rate),
        "amsgrad": AmsGrad::new(rate).with_weight_decay(0.1),
        "nadam": NAdam::new(rate).with_decoupled_weight_decay(0.1),
        "radam": RAdam::new(rate).with_decoupled_weight_decay(0.1),
        "adamax": Adamax::new(rate).with_weight_decay(0.1),
        "lamb": Lamb::new(rate).with_weight_decay(0.1),
        "rmsprop": RmsProp::new(rate).with_weight_decay(0.1),
        "rmsprop": RmsProp::new(rate).centered().with_momentum(0.5),
        "adagrad": AdaGrad::new(rate).with_decoupled_weight_decay(0.1),
        "adadelta": Adadelta::new(rate).with_decoupled_weight_decay(0.1),
        "rprop": Rprop::new(rate),
        "asgd": Asgd::new(rate),
        "lion": Lion::new(rate).with_weight_decay(0.1),
        "ista": Ista::new(rate, 0.1),
        "adam": Groups::new(Adam::new(rate)).with_clip_norm(0.1),
    }
}

#[test]
fn rates_out_of_range_are_refused_by_every_rule() {
    for bad in [f64::NAN, -1e-3, f64::INFINITY] {
        for (name, minimize) in at_rate::<f64>(bad) {
            let tape = Tape::new();
            let loss = tape.variable("w", 1.0).square();
            let text = format!("{name}: expected a finite rate ≥ 0, got {bad}");
            refused(minimize(loss), ErrorKind::Argument, &[&text]);
            assert!(tape.check().is_ok() && tape.len() == 2, "{name}");
        }
    }
}

#[test]
fn a_rate_of_0_leaves_every_bit_in_every_rule() {
    fn check<T: Scalar>(bits: impl Fn(&T) -> u64, special: &[T]) {
        for (name, minimize) in at_rate::<T>(0.0) {
            let tape = Tape::<T>::new();
            let start: Vec<T> = special.iter().flat_map(|&x| [x; 4]).collect();
            let g = [-3.0, 2.0, 0.0, -0.0].map(T::lit).repeat(special.len());
            let w = tape.variable("w", Tensor::vector(start.clone()));
            let loss = (w * tape.constant(Tensor::vector(g))).sum();
            let train = minimize(loss).unwrap();
            let mut session = Session::new(&tape).unwrap();
            for _ in 0..3 {
                session.run(train, &[]).unwrap();
                let same = session.parameters().iter().map(&bits).eq(start.iter().map(&bits));
                assert!(same, "{}, {name}: {:?}", T::NAME, session.parameters());
            }
        }
    }
    let nan = f64::from_bits(0x7ff8_0000_0000_1234);
    check(|x: &f64| x.to_bits(), &[-0.0, 0.0, 5e-324, 1.5, -1e308, f64::INFINITY, nan]);
    let nan = f32::from_bits(0x7fc0_1234);
    check(|x: &f32| x.to_bits().into(), &[-0.0, 0.0, 1e-45, 1.5, -3e38, f32::INFINITY, nan]);
}

#[test]
fn hyperparameters_out_of_range_are_refused_by_name() {
    fn check<T: Scalar>(rule: impl Rule<T> + 'static, text: &str) {
        let tape = Tape::<T>::new();
        let loss = tape.variable("w", T::lit(1.0)).square();
        refused(optim::minimize(rule, loss), ErrorKind::Argument, &[text]);
        assert!(tape.check().is_ok() && tape.len() == 2);
    }
    macro_rules! decays {
        ($bad:expr, $($name:literal $rule:ident),*) => {$({
            let text = concat!($name, ": expected a finite weight decay ≥ 0");
            check::<f64>($rule::new(0.1).with_weight_decay($bad), text);
            check::<f64>($rule::new(0.1).with_decoupled_weight_decay($bad), text);
        })*};
    }
    macro_rules! moments {
        ($bad:expr, $($name:literal $rule:ident),*) => {$({
            let [beta1, beta2] = [1, 2].map(|i| format!("{}: expected beta{i} in [0, 1)", $name));
            check::<f64>($rule::new(0.1).with_betas($bad, 0.9), &beta1);
            check::<f64>($rule::new(0.1).with_betas(0.9, $bad), &beta2);
        })*};
    }
    macro_rules! epsilons {
        ($bad:expr, $($name:literal $rule:ident),*) => {$(
            let text = concat!($name, ": expected a finite epsilon > 0 in f64");
            check::<f64>($rule::new(0.1).with_epsilon($bad), text);
        )*};
    }
    for bad in [f64::NAN, -0.1, f64::INFINITY] {
        decays!(bad, "amsgrad" AmsGrad, "nadam" NAdam, "radam" RAdam, "adamax" Adamax);
        decays!(bad, "rmsprop" RmsProp, "adagrad" AdaGrad, "adadelta" Adadelta);
        let decay = "expected a finite weight decay ≥ 0";
        check::<f64>(Adam::new(0.1).with_weight_decay(bad), &format!("adam: {decay}"));
        check::<f64>(Lion::new(0.1).with_weight_decay(bad), &format!("lion: {decay}"));
        check::<f64>(Lamb::new(0.1).with_weight_decay(bad), &format!("lamb: {decay}"));
        check::<f64>(Asgd::new(0.1).with_weight_decay(bad), &format!("asgd: {decay}"));
        check::<f64>(Asgd::new(0.1).with_lambda(bad), "asgd: expected a finite lambda ≥ 0");
        check::<f64>(Asgd::new(0.1).with_alpha(bad), "asgd: expected a finite alpha ≥ 0");
        check::<f64>(Ista::new(0.1, bad), "ista: expected a finite penalty ≥ 0");
        let momentum = NAdam::new(0.1).with_momentum_decay(bad);
        check::<f64>(momentum, "nadam: expected a finite momentum decay ≥ 0");
        let initial = AdaGrad::new(0.1).with_initial_accumulator(bad);
        check::<f64>(initial, "adagrad: expected a finite initial accumulator ≥ 0");
        check::<f64>(RAdam::new(0.1).with_threshold(bad), "radam: expected a finite threshold ≥ 4");
        let clip = Lion::new(0.1).with_clip_epsilon(bad);
        check::<f64>(clip, "lion: expected a finite epsilon of clipping ≥ 0");
        for schedule in [
            Schedule::MultiStep { rate: bad, factor: 0.5, after: vec![] },
            Schedule::MultiStep { rate: 0.1, factor: bad, after: vec![] },
            Schedule::Polynomial { rate: bad, end: 0.0, power: 1.0, n_steps: 3 },
            Schedule::Polynomial { rate: 0.1, end: bad, power: 1.0, n_steps: 3 },
            Schedule::Polynomial { rate: 0.1, end: 0.0, power: bad, n_steps: 3 },
            Schedule::CosineRestarts { rate: bad, end: 0.0, n_steps: 3, growth: 1 },
            Schedule::CosineRestarts { rate: 0.1, end: bad, n_steps: 3, growth: 1 },
            Schedule::InverseSqrt { peak: bad, n_steps: 3 },
        ] {
            check::<f64>(Lion::new(schedule), &format!("≥ 0, got {bad}"));
        }
    }
    for schedule in [
        Schedule::Polynomial { rate: 0.1, end: 0.0, power: 1.0, n_steps: 0 },
        Schedule::CosineRestarts { rate: 0.1, end: 0.0, n_steps: 0, growth: 1 },
        Schedule::CosineRestarts { rate: 0.1, end: 0.0, n_steps: 3, growth: 0 },
        Schedule::InverseSqrt { peak: 0.1, n_steps: 0 },
    ] {
        check::<f64>(Lion::new(schedule), "≥ 1, got 0");
    }
    for bad in [f64::NAN, -0.1, 1.0, f64::INFINITY] {
        moments!(bad, "amsgrad" AmsGrad, "nadam" NAdam, "radam" RAdam, "adamax" Adamax);
        moments!(bad, "lamb" Lamb, "lion" Lion);
        check::<f64>(RmsProp::new(0.1).with_alpha(bad), "rmsprop: expected alpha in [0, 1)");
        check::<f64>(RmsProp::new(0.1).with_momentum(bad), "rmsprop: expected momentum in [0, 1)");
        check::<f64>(Adadelta::new(0.1).with_rho(bad), "adadelta: expected rho in [0, 1)");
        let decay = Averaged::exponential(Sgd::new(0.1), bad);
        check::<f64>(decay, "sgd: expected decay of the average in [0, 1)");
    }
    for bad in [f64::NAN, -0.1, 0.0, f64::INFINITY] {
        epsilons!(bad, "amsgrad" AmsGrad, "nadam" NAdam, "radam" RAdam, "adamax" Adamax);
        epsilons!(bad, "rmsprop" RmsProp, "adagrad" AdaGrad, "adadelta" Adadelta, "lamb" Lamb);
        let clip = Rprop::new(0.1).with_clip(Clip::TensorNorm(bad));
        check::<f64>(clip, "rprop: expected a finite limit to clip to > 0");
        let sizes = Rprop::new(0.1).with_sizes(bad, 1.0);
        check::<f64>(sizes, "rprop: expected a finite smallest size > 0");
    }
    for [shrink, grow] in [[0.0, 1.2], [1.0, 1.2], [0.5, 1.0], [f64::NAN, 1.2], [0.5, f64::NAN]] {
        let rprop = Rprop::new(0.1).with_factors(shrink, grow);
        check::<f64>(rprop, "rprop: expected factors with 0 < η⁻ < 1 < η⁺");
    }
    for largest in [0.5, f64::NAN, f64::INFINITY] {
        let rprop = Rprop::new(0.1).with_sizes(1.0, largest);
        check::<f64>(rprop, "rprop: expected a largest size ≥ 1");
    }
    check::<f64>(RAdam::new(0.1).with_threshold(3.9), "radam: expected a finite threshold ≥ 4");
    check::<f32>(
        Adadelta::new(0.1).with_epsilon(1e-50),
        "adadelta: expected a finite epsilon > 0 in f32",
    );
    let start = Averaged::uniform(Lion::new(0.1)).with_start(0);
    check::<f64>(start, "lion: expected the average to start at step 1 or later, got 0");
}

#[test]
fn f32_follows_f64_in_every_rule() {
    fn trained<T: Scalar>() -> Vec<(&'static str, Vec<f64>)> {
        let train = |(name, minimize): (&'static str, Train<T>)| {
            let tape = Tape::<T>::new();
            let start = Tensor::vector([3.0, -2.0, 0.5].map(T::lit).to_vec());
            let train = minimize(tape.variable("w", start).square().sum()).unwrap();
            let mut session = Session::new(&tape).unwrap();
            (0..20).for_each(|_| drop(session.run(train, &[]).unwrap()));
            (name, session.parameters().iter().map(|x| x.to_f64()).collect())
        };
        at_rate::<T>(0.01).into_iter().map(train).collect()
    }
    for ((name, single), (_, double)) in trained::<f32>().iter().zip(trained::<f64>()) {
        let near = single.iter().zip(&double).all(|(s, d)| (s - d).abs() < 2e-6);
        assert!(near, "{name}: {single:?} {double:?}");
    }
}

/// Long variables of several sizes, not side by side, with gradients of all sizes.
fn long<T: Scalar>(tape: &Tape<T>) -> Expr<'_, T> {
    let mut rng = Philox::new(7, 0);
    let mut numbers = |n| (0..n).map(|_| T::lit(rng.below(2001) as f64 / 1e3 - 1.0)).collect();
    let mut loss = tape.literal(0.0);
    for (i, n) in [40_000, 3, 20_001, 1, 17_000].into_iter().enumerate() {
        let w = tape.variable(&format!("w{i}"), Tensor::vector(numbers(n)));
        tape.variable(&format!("between{i}"), Tensor::vector(numbers(i % 2)));
        loss = loss
            + ((w - tape.constant(Tensor::vector(numbers(n)))).square() * (w + w.lit(0.5))).sum();
    }
    loss
}

#[test]
fn any_number_of_threads_has_the_same_bits_in_every_rule() {
    for n in 0..at_rate::<f32>(0.01).len() {
        let trained = |threads| {
            let tape = Tape::<f32>::new();
            let (name, minimize) = &at_rate::<f32>(0.01)[n];
            let train = minimize(long(&tape)).unwrap();
            let mut session = Session::new(&tape).unwrap().with_threads(threads).unwrap();
            (0..3).for_each(|_| drop(session.run(train, &[]).unwrap()));
            (*name, session.parameters().iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        };
        let alone = trained(1);
        for threads in [2, 3] {
            let (name, bits) = trained(threads);
            assert!(bits == alone.1, "{name} on {threads} threads");
        }
    }
}

#[test]
fn groups_are_train_ops_in_one() {
    let tape = Tape::new();
    let start = [3, 20, 1, 0, 7].map(|n| vec![n as f64; n]);
    let vars: Vec<_> = (start.iter().enumerate())
        .map(|(i, x)| tape.variable(&format!("w{i}"), vector(x)))
        .collect();
    let loss = vars.iter().map(|v| (v.square() * 0.5 + v.sin()).sum()).reduce(|a, b| a + b);
    let loss = loss.unwrap();
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|i| vars[i]);
    let slow = Schedule::Exponential { rate: 0.1, factor: 0.5 };
    let adam = Adam::new(slow).with_clip(Clip::Norm(2.0));
    let lamb = Averaged::exponential(Lamb::new(0.1).with_weight_decay(0.1), 0.5);
    let sgd = Sgd::new(0.25).with_clip(Clip::TensorNorm(1.0));
    let together = Groups::new(adam.clone())
        .with(&[e, b], lamb.clone())
        .with(&[c.var()], sgd.clone())
        .minimize(loss)
        .unwrap();
    let apart = [
        adam.minimize_over(loss, &[a, d]).unwrap(),
        optim::minimize_over(lamb, loss, &[b, e]).unwrap(),
        sgd.minimize_over(loss, &[c]).unwrap(),
    ];
    let mut sessions = [Session::new(&tape).unwrap(), Session::new(&tape).unwrap()];
    for _ in 0..10 {
        sessions[0].run(together, &[]).unwrap();
        sessions[1].run(apart, &[]).unwrap();
        assert_eq!(sessions[0].parameters(), sessions[1].parameters());
    }
    assert_eq!(sessions[0].steps(together).unwrap(), 10);
    let refusal = sessions[0].swap_average(together);
    refused(refusal, ErrorKind::Argument, &["expected an optimizer that averages, got groups"]);
}

#[test]
fn groups_are_clipped_by_one_norm() {
    // Gradients 3 and (0, 4): norm 5.
    let halved =
        |rule: Sgd| one_step(|f| Groups::new(rule.clone()).with_clip_norm(2.5).minimize(f), 1.0);
    assert_eq!(halved(Sgd::new(1.0)), [-1.5, 0.0, -2.0]);
    // Its own clipping comes after: of (0, 2) to 1.6, of 2 to 1.75.
    let own = Sgd::new(1.0).with_clip(Clip::TensorNorm(1.6));
    close(&halved(own), &[-1.5, 0.0, -1.6], 1e-15);
    assert_eq!(halved(Sgd::new(1.0).with_clip(Clip::Value(1.75))), [-1.5, 0.0, -1.75]);
    // LAMB's ratio is that of the clipped gradient: of one that does not move its moments at all.
    let tape = Tape::new();
    let w = tape.variable("w", vector(&[3.0, 4.0]));
    let loss = (w * tape.constant(vector(&[30.0, 40.0]))).sum();
    let rule = Lamb::new(0.1).with_weight_decay(0.5);
    let groups = Groups::new(rule.clone()).with_clip_norm(1e-6).minimize(loss).unwrap();
    let alone = rule.with_clip(Clip::Norm(1e-6)).minimize(loss).unwrap();
    let mut sessions = [Session::new(&tape).unwrap(), Session::new(&tape).unwrap()];
    sessions[0].run(groups, &[]).unwrap();
    sessions[1].run(alone, &[]).unwrap();
    assert_eq!(sessions[0].parameters(), sessions[1].parameters());
}

#[test]
fn groups_say_what_does_not_fit() {
    let tape = Tape::new();
    let (u, v, x) = (tape.variable("u", 1.0), tape.variable("v", 1.0), tape.placeholder("x", []));
    let (sgd, argument) = (Sgd::new(0.1), ErrorKind::Argument);
    let groups = || Groups::new(sgd.clone());
    let with = |variables: &[Expr<'_>]| groups().with(variables, sgd.clone()).minimize(u.square());
    refused(with(&[u, u]), argument, &["groups: expected each variable once, got u twice"]);
    let twice = groups().with(&[u], sgd.clone()).with(&[v, u], sgd.clone()).minimize(u * v);
    refused(twice, argument, &["groups: expected each variable once, got u twice"]);
    refused(with(&[v]), argument, &["groups: expected variables that are trained, got `v`"]);
    refused(with(&[x]), argument, &["groups: expected variables that are trained, got `x`"]);
    let bad = groups().with(&[v], Adam::new(-1.0)).minimize(u * v);
    refused(bad, argument, &["groups: adam: expected a finite rate ≥ 0, got -1"]);
    let bad = groups().with_clip_norm(0.0).minimize(u * v);
    refused(bad, argument, &["groups: expected a finite norm to clip to > 0"]);
    let late = Schedule::custom(|t| if t < 2 { 0.5 } else { f64::NAN });
    let train = groups().with(&[v], Adam::new(late)).minimize(u * v).unwrap();
    let mut session = Session::new(&tape).unwrap();
    session.run(train, &[]).unwrap();
    let before = session.parameters().to_vec();
    let text = ["groups: step 2: adam: expected a finite rate ≥ 0", "got NaN"];
    refused(session.run(train, &[]), argument, &text);
    assert_eq!(session.parameters(), before);
}

/// A user's rule that moves each variable by what it sees of it: w ← w − Σg / Σs, s ← s + |w|.
#[derive(Debug)]
struct Ratio;

impl Rule<f64> for Ratio {
    fn name(&self) -> &str {
        "ratio"
    }
    fn slots(&self) -> usize {
        2
    }
    fn begin(&self, whole: &Whole<'_, f64>, steps: &mut [Step]) -> Result<()> {
        assert_eq!(whole.variables().map(|x| x.g.len()).sum::<usize>(), whole.gradients.len());
        for (step, x) in steps.iter_mut().zip(whole.variables()) {
            assert!(x.state(0)?.iter().all(|&s| s == 0.0));
            let (g, s): (f64, f64) = (x.g.iter().sum(), x.state(1)?.iter().sum());
            *step = Step::new(whole.t, if whole.t == 1 { 0.0 } else { g / s });
            step.numbers = [x.w[0], 0.0];
        }
        Ok(())
    }
    fn update(&self, step: &Step, w: &mut [f64], _: &[f64], state: &mut [&mut [f64]]) {
        for (w, s) in w.iter_mut().zip(state[1].iter_mut()) {
            *s += step.numbers[0];
            *w -= step.rate;
        }
    }
}

#[test]
fn a_rule_sees_each_variable_with_its_state() {
    let tape = Tape::new();
    let (a, b) = (tape.variable("a", vector(&[2.0; 2])), tape.variable("b", vector(&[8.0; 3])));
    let c = tape.variable("c", 32.0);
    let loss = a.sum() * 3.0 + b.sum() * 5.0 + c * 7.0;
    let plain = optim::minimize(Ratio, loss).unwrap();
    let lion = Averaged::uniform(Lion::new(0.0));
    let grouped = Groups::new(lion).with(&[b, c], Averaged::uniform(Ratio)).minimize(loss).unwrap();
    let run = |train| {
        let mut session = Session::new(&tape).unwrap();
        session.run(train, &[]).unwrap();
        session.run(train, &[]).unwrap();
        session.parameters().to_vec()
    };
    let moved = |w: f64, by: f64| w - by / w;
    let (b, c) = ([moved(8.0, 5.0); 3], moved(32.0, 7.0));
    assert_eq!(run(plain), [&[moved(2.0, 3.0); 2][..], &b, &[c]].concat());
    assert_eq!(run(grouped), [&[2.0; 2][..], &b, &[c]].concat());
}

#[test]
fn averages_are_those_of_their_formulas() {
    type Of = fn(Sgd) -> Averaged<Sgd>;
    type Formula = fn(&[f64]) -> f64;
    let cases: [(Of, Formula); 4] = [
        (Averaged::uniform, |w| w.iter().sum::<f64>() / w.len() as f64),
        (
            |r| Averaged::uniform(r).with_start(3),
            |w| {
                let counted = &w[2.min(w.len() - 1)..];
                counted.iter().sum::<f64>() / counted.len() as f64
            },
        ),
        (
            |r| Averaged::exponential(r, 0.75),
            |w| w[1..].iter().fold(w[0], |a, w| 0.75 * a + 0.25 * w),
        ),
        (
            |r| Averaged::debiased(r, 0.75),
            |w| {
                let weighted =
                    w.iter().fold((0.0, 0.0), |(a, n), w| (0.75 * a + w, 0.75 * n + 1.0));
                weighted.0 / weighted.1
            },
        ),
    ];
    for (n, (averaged, want)) in cases.into_iter().enumerate() {
        let tape = Tape::new();
        let w = tape.variable("w", 1.0);
        let rate = Schedule::custom(|t| 1.0 / (t * t) as f64);
        let train = averaged(Sgd::new(rate).with_momentum(0.5)).minimize(w).unwrap();
        let mut session = Session::new(&tape).unwrap();
        let early = session.swap_average(train);
        refused(early, ErrorKind::Argument, &["swap_average: expected sgd after a step"]);
        let mut seen = vec![];
        for t in 0..8 {
            session.run(train, &[]).unwrap();
            let now = session.parameters()[0];
            seen.push(now);
            session.swap_average(train).unwrap();
            close(session.parameters(), &[want(&seen)], 1e-14);
            let text = ["expected the weights back in their place, got their average"];
            refused(session.run(train, &[]), ErrorKind::Argument, &text);
            session.swap_average(train).unwrap();
            assert_eq!(session.parameters(), [now], "case {n}, step {t}");
        }
        refused(session.swap_average(w), ErrorKind::Tape, &["swap_average: expected a train op"]);
    }
}

/// Rows of a regression, and its loss over whatever rows are fed.
fn regression(tape: &Tape<f64>) -> (Expr<'_>, Expr<'_>, [Expr<'_>; 2]) {
    let (x, y) = (tape.placeholder("x", [ANY, 3]), tape.placeholder("y", [ANY]));
    let w = tape.variable("w", vector(&[0.1, -0.2, 0.3]));
    let b = tape.variable("b", 0.5);
    (x, y, [w, b])
}

fn rows(n: usize) -> (Tensor<f64>, Tensor<f64>) {
    let mut rng = Philox::new(11, 0);
    let mut draw = |n| (0..n).map(|_| rng.below(2001) as f64 / 1e3 - 1.0).collect::<Vec<_>>();
    (Tensor::from_rows([n, 3], &draw(3 * n)).unwrap(), vector(&draw(n)))
}

#[test]
fn accumulated_micro_batches_are_the_big_batch() {
    let (xs, ys) = rows(12);
    let part = |k: usize, of: usize| {
        let n = 12 / of;
        let x = Tensor::from_fn([n, 3], |at| xs.as_slice()[at[1] * 12 + k * n + at[0]]).unwrap();
        (x, vector(&ys.as_slice()[k * n..(k + 1) * n]))
    };
    for is_mean in [true, false] {
        let tape = Tape::new();
        let (x, y, [w, b]) = regression(&tape);
        let errors = (x.matmul(w) + b).squared_error(y);
        let loss = if is_mean { errors.mean() } else { errors.sum() };
        let rule = Groups::new(Adam::new(0.05)).with(&[b], Sgd::new(0.01)).with_clip_norm(0.5);
        let whole = rule.minimize(loss).unwrap();
        let micro = match is_mean {
            true => Accumulate::mean(loss, |pairs| rule.apply(pairs)),
            false => Accumulate::sum(loss, |pairs| rule.apply(pairs)),
        };
        let micro = micro.unwrap();
        let mut sessions = [Session::new(&tape).unwrap(), Session::new(&tape).unwrap()];
        for t in 1..=40usize {
            sessions[0].run(whole, &[x.feed(&xs), y.feed(&ys)]).unwrap();
            let of = [4, 1, 2, 3][t % 4];
            for k in 0..of {
                let (xk, yk) = part(k, of);
                let feeds = [x.feed(&xk), y.feed(&yk)];
                match k + 1 < of {
                    true => drop(sessions[1].run(micro.add(), &feeds).unwrap()),
                    false => {
                        let (step, _) = sessions[1].run(micro.step(), &feeds).unwrap();
                        assert_eq!(step, (t as f64).into());
                    }
                }
            }
            for v in [w, b] {
                let [want, got] = [0, 1].map(|i| sessions[i].value(v).unwrap());
                close(got.as_slice(), want.as_slice(), 1e-12);
            }
        }
        // A micro-batch that cannot be added changes nothing.
        let before = sessions[1].parameters().to_vec();
        let nan = vector(&[f64::NAN; 12]);
        for fetch in [micro.add(), micro.step().0] {
            let result = sessions[1].run(fetch, &[x.feed(&xs), y.feed(&nan)]);
            refused(result, ErrorKind::NotFinite, &["expected a finite gradient of variable"]);
            assert_eq!(sessions[1].parameters(), before);
        }
    }
}

#[test]
fn ista_solves_the_lasso() {
    // Where ‖Xw − y‖²/2 + λ‖w‖₁ is least, |Xᵀ(Xw − y)| is λ where w is not 0, and at most λ.
    let (xs, ys) = rows(12);
    let penalty = 1.0;
    let tape = Tape::new();
    let (x, y) = (tape.constant(xs), tape.constant(ys));
    let w = tape.variable("w", vector(&[1.0; 3]));
    let loss = (x.matmul(w) - y).square().sum() * 0.5;
    let gradient = tape.gradient(loss, &[w]).unwrap()[0];
    let train = Ista::new(0.05, penalty).minimize(loss).unwrap();
    let mut session = Session::new(&tape).unwrap();
    for _ in 0..2000 {
        session.run(train, &[]).unwrap();
    }
    let gradient = session.run(gradient, &[]).unwrap();
    let mut zeros = 0;
    for (w, g) in session.parameters().iter().zip(gradient.as_slice()) {
        match *w == 0.0 {
            true => assert!(g.abs() <= penalty, "{g}"),
            false => assert!((g + penalty * w.signum()).abs() < 1e-9, "{w} {g}"),
        }
        zeros += usize::from(*w == 0.0);
    }
    assert!((1..3).contains(&zeros), "{:?}", session.parameters());
}

#[test]
fn no_rule_allocates_in_a_running_step() {
    for n in 0..at_rate::<f64>(0.01).len() {
        let tape = Tape::<f64>::new();
        let (w, b) = (tape.variable("w", vector(&[1.0; 4])), tape.variable("b", 0.5));
        let loss = (w * 2.0 + b - 1.0).square().mean();
        let (name, minimize) = &at_rate::<f64>(0.01)[n];
        let train = minimize(loss).unwrap();
        let mut session = Session::new(&tape).unwrap();
        let mut out = Default::default();
        session.run_into(train, &[], &mut out).unwrap();
        let steps = || (0..9).try_for_each(|_| session.run_into(train, &[], &mut out));
        let (result, _, calls) = support::counted(steps);
        assert_eq!((result.is_ok(), calls), (true, 0), "{name}");
    }
}

#[test]
fn groups_averages_and_sums_allocate_nothing_in_a_running_step() {
    let tape = Tape::<f64>::new();
    let (w, b) = (tape.variable("w", vector(&[1.0; 4])), tape.variable("b", 0.5));
    let loss = (w * 2.0 + b - 1.0).square().mean();
    let lamb = Averaged::exponential(Lamb::new(0.01).with_clip(Clip::TensorNorm(0.1)), 0.9);
    let rule = Groups::new(lamb).with(&[b], AmsGrad::new(0.1)).with_clip_norm(1.0);
    let sums = Accumulate::mean(loss, |pairs| rule.apply(pairs)).unwrap();
    let mut session = Session::new(&tape).unwrap();
    let (mut one, mut two) = Default::default();
    let mut step = || {
        session.run_into(sums.add(), &[], &mut one)?;
        session.run_into(sums.step(), &[], &mut two)
    };
    step().unwrap();
    let (result, _, calls) = support::counted(|| (0..9).try_for_each(|_| step()));
    assert_eq!((result.is_ok(), calls), (true, 0));
    assert_eq!(two.0, 10.0.into());
}
