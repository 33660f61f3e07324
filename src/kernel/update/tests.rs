//! Every kernel at every level and every split; sums and checks of all gradients.

use super::*;
use crate::kernel::cpu::Cpu;

fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = crate::Philox::new(seed, 0);
    (0..n).map(|_| rng.below(2001) as f64 / 1000.0 - 1.0).collect()
}

/// What a kernel leaves in w and in up to three slots.
type Kernel = fn(&mut [f64], &[f64], [&mut [f64]; 3]);

fn common() -> Common<f64> {
    Common { rate: 0.1, scale: 0.5, limit: 0.4, decay: 0.01, keep: 0.999 }
}

fn moments() -> Adam<f64> {
    Adam {
        common: common(),
        beta1: 0.9,
        beta2: 0.99,
        rest1: 0.1,
        rest2: 0.01,
        root: 0.1,
        epsilon: 1e-8,
    }
}

fn of_lamb() -> Lamb<f64> {
    Lamb { adam: moments(), correction: 0.19, decay: 0.02 }
}

fn of_rmsprop() -> RmsProp<f64> {
    RmsProp { common: common(), alpha: 0.9, rest: 0.1, momentum: 0.8, inside: 1e-3, outside: 1e-8 }
}

const KERNELS: [(&str, Kernel); 17] = [
    ("sgd", |w, g, _| sgd(common(), w, g)),
    ("momentum", |w, g, [b, ..]| {
        momentum(Momentum { common: common(), momentum: 0.9, nesterov: true }, w, g, b);
    }),
    ("soft_threshold", |w, g, _| soft_threshold(common(), 0.3, w, g)),
    ("add_up", |w, g, _| add_up(w, g)),
    ("adam", |w, g, [m, v, _]| adam(moments(), w, g, m, v)),
    ("amsgrad", |w, g, [m, v, u]| {
        amsgrad(AmsGrad { adam: moments(), before: 0.3 }, w, g, m, v, u);
    }),
    ("nadam", |w, g, [m, v, _]| {
        nadam(NAdam { adam: moments(), of_gradient: 0.7, of_moment: 1.3 }, w, g, m, v);
    }),
    ("adamax", |w, g, [m, u, _]| adamax(moments(), w, g, m, u)),
    ("lamb", |w, g, [m, v, _]| lamb(of_lamb(), w, g, m, v)),
    ("rmsprop", |w, g, [v, ..]| rmsprop(of_rmsprop(), w, g, v)),
    ("rmsprop_momentum", |w, g, [v, b, _]| rmsprop_momentum(of_rmsprop(), w, g, v, b)),
    ("rmsprop_centered", |w, g, [v, a, _]| rmsprop_centered(of_rmsprop(), w, g, v, a)),
    ("rmsprop_centered_momentum", |w, g, [v, a, b]| {
        rmsprop_centered_momentum(of_rmsprop(), w, g, v, a, b);
    }),
    ("adagrad", |w, g, [s, ..]| {
        adagrad(AdaGrad { common: common(), inside: 0.1, outside: 1e-8 }, w, g, s);
    }),
    ("adadelta", |w, g, [v, u, _]| {
        adadelta(Adadelta { common: common(), rho: 0.9, rest: 0.1, epsilon: 1e-6 }, w, g, v, u);
    }),
    ("lion", |w, g, [m, ..]| {
        let c = Lion { common: common(), beta1: 0.9, beta2: 0.99, rest1: 0.1, rest2: 0.01 };
        lion(c, w, g, m);
    }),
    ("asgd and rprop", |w, g, [a, p, s]| {
        asgd(common(), 0.3, w, g, a);
        let (smallest, largest) = (1e-6, 0.5);
        let (first, shrink, grow) = (0.1, 0.5, 1.2);
        rprop(Rprop { common: common(), first, shrink, grow, smallest, largest }, w, g, p, s);
        average(0.25, w, a);
    }),
];

#[test]
fn every_level_and_every_split_has_the_same_bits() {
    let n = 131;
    let g = numbers(n, 1);
    // Squares are not negative; the same numbers serve as gradients before and as step sizes.
    let start = || {
        let [a, b, c] = [3, 4, 5].map(|seed| numbers(n, seed).iter().map(|x| x * x).collect());
        (numbers(n, 2), [a, b, c])
    };
    for (name, kernel) in KERNELS {
        let one_by_one = {
            let mut want: (Vec<f64>, [Vec<f64>; 3]) = start();
            for i in 0..n {
                let slots = want.1.each_mut().map(|s| &mut s[i..=i]);
                kernel(&mut want.0[i..=i], &g[i..=i], slots);
            }
            want
        };
        assert!(one_by_one.0 != start().0, "{name}");
        Cpu::for_each(|cpu| {
            for cut in [0, 1, 37, 64, 130] {
                let mut got = start();
                let (head, tail) = got.0.split_at_mut(cut);
                let slots = got.1.each_mut().map(|s| s.split_at_mut(cut));
                let [(a, x), (b, y), (c, z)] = slots;
                kernel(tail, &g[cut..], [x, y, z]);
                kernel(head, &g[..cut], [a, b, c]);
                assert_eq!(got, one_by_one, "{name}, {cpu:?}, cut at {cut}");
            }
        });
    }
}

#[test]
fn a_rate_of_0_keeps_every_bit() {
    let still = Common { rate: 0.0, keep: 1.0, ..common() };
    for w in [-0.0, 0.0, 5e-324, f64::INFINITY, f64::from_bits(0x7ff8_0000_0000_1234)] {
        let (mut one, g) = ([w], [0.5]);
        sgd(still, &mut one, &g);
        soft_threshold(still, 0.0, &mut one, &g);
        asgd(still, 1.0, &mut one, &g, &mut [0.0]);
        adam(Adam { common: still, ..moments() }, &mut one, &g, &mut [0.0], &mut [0.0]);
        assert_eq!(one[0].to_bits(), w.to_bits());
    }
}

#[test]
fn nothing_that_is_not_a_number_becomes_one() {
    let mut w = [f64::NAN, 1.0];
    soft_threshold(common(), 5.0, &mut w, &[0.0, 0.0]);
    assert!(w[0].is_nan() && w[1] == 0.0);
}

#[test]
fn the_norm_of_a_lamb_step_is_that_of_its_step() {
    for n in [0, 1, 255, 256, 257, 1000] {
        let (w, g, m) = (numbers(n, 1), numbers(n, 2), numbers(n, 3));
        let v: Vec<f64> = numbers(n, 4).iter().map(|x| x * x).collect();
        let mut sums = vec![];
        Cpu::for_each(|_| sums.push(lamb_squares(of_lamb(), [&w, &g, &m, &v])));
        let unit = Common { rate: 1.0, keep: 0.0, ..common() };
        let c = Lamb { adam: Adam { common: unit, ..moments() }, ..of_lamb() };
        let (mut d, mut m, mut v) = (w.clone(), m.clone(), v.clone());
        lamb(c, &mut d, &g, &mut m, &mut v);
        let want: f64 = d.iter().map(|d| d * d).sum();
        assert!(sums.iter().all(|s| s.to_bits() == sums[0].to_bits()), "{n}");
        assert!((sums[0] - want).abs() <= 1e-13 * want, "{n}: {} {want}", sums[0]);
    }
}

#[test]
fn squares_are_summed_alike_at_every_level() {
    let x = numbers(3 * BLOCK + 7, 5);
    let exact = x.iter().map(|x| (x * 1000.0).round() as i64).map(|x| x * x).sum::<i64>();
    let mut sums = vec![];
    Cpu::for_each(|_| sums.push(sum_of_squares(&x)));
    assert!(sums.iter().all(|s| s.to_bits() == sums[0].to_bits()));
    assert!((sums[0] * 1e6 / exact as f64 - 1.0).abs() < 1e-13);
    assert_eq!(sum_of_squares(&[1e30f32, 1e30]), 2.0 * f64::from(1e30f32).powi(2));
    assert_eq!(sum_of_squares::<f32>(&[]), 0.0);
}

#[test]
fn one_number_that_is_not_finite_is_found_anywhere() {
    let mut x = vec![f32::MAX; BLOCK + 3];
    assert!(all_finite(&x) && all_finite::<f32>(&[]));
    for at in [0, 17, BLOCK - 1, BLOCK, BLOCK + 2] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[at] = bad;
            Cpu::for_each(|cpu| assert!(!all_finite(&x), "{bad} at {at}, {cpu:?}"));
        }
        x[at] = -0.0;
    }
}
