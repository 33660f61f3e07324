//! The worst error of each elementary function in units in the last place: f32 over all inputs
//! (pairs: random) against std's f64, f64 over random inputs against `pair.rs`. Minutes each.
//! `cargo bench --bench accuracy [filter] [--samples 1e8] [--step 1]`, where a step of n takes
//! every n-th f32 only; GRADTAPE_CPU=portable has other bits.

mod pair;

use gradtape::Scalar;
use kernel::cpu::{Level, multiversion};
use kernel::math::{Elementary, Math};
use pair::Pair;

// The kernels are private to the crate: the bench compiles them from their source.
#[allow(dead_code, unused_imports)]
#[path = "../../src/kernel"]
mod kernel {
    pub mod cpu;
    pub mod math;
}

enum Signs {
    Positive,
    Either,
    /// Above −1.
    Above,
}

trait Function: Copy + Send + Sync {
    const NAME: &'static str;
    const PAIRS: bool;
    /// Which signs samples have, and between which sizes they are drawn.
    const SIGNS: Signs;
    const RANGE: [f64; 2];
    fn at<L: Level, T: Elementary>(self, a: T, b: T) -> T;
    fn single(self, a: f64, b: f64) -> f64;
    fn double(self, a: f64, b: f64) -> Pair;
}

multiversion! {
    fn each<L: Level, T: Elementary, F: Function>(f: F, a: &[T], b: &[T], y: &mut [T]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = f.at::<L, T>(a, b);
        }
    }
}

macro_rules! functions {
    ($($name:ident $signs:ident [$low:literal, $high:literal] ($a:ident $(, $b:ident)?)
       std $single:expr, pair $double:expr;)*) => {
        $(
            #[allow(non_camel_case_types)]
            #[derive(Clone, Copy)]
            struct $name;
            impl Function for $name {
                const NAME: &'static str = stringify!($name);
                const PAIRS: bool = !concat!("" $(, stringify!($b))?).is_empty();
                const RANGE: [f64; 2] = [$low, $high];
                const SIGNS: Signs = Signs::$signs;
                #[inline(always)]
                fn at<L: Level, T: Elementary>(self, $a: T, b: T) -> T {
                    $(let $b = b;)?
                    let _ = b;
                    L::$name($a $(, $b)?)
                }
                fn single(self, $a: f64, b: f64) -> f64 {
                    $(let $b = b;)?
                    let _ = b;
                    $single
                }
                fn double(self, $a: f64, b: f64) -> Pair {
                    $(let $b = b;)?
                    let _ = b;
                    $double
                }
            }
        )*
        fn run(filter: &str, samples: u64, step: u64) {
            $(if filter.is_empty() || $name::NAME == filter {
                let [single, double] = [single($name, samples, step), double($name, samples)];
                println!("{:<10} {single}   {double}", $name::NAME);
            })*
        }
    };
}

functions! {
    exp Either [1e-20, 745.0] (a) std a.exp(), pair Pair::from(a).exp();
    expm1 Either [1e-20, 709.0] (a) std a.exp_m1(), pair Pair::from(a).expm1();
    sigmoid Either [1e-20, 708.0] (a)
        std { let e = (-a.abs()).exp(); if a < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) } },
        pair Pair::from(1.0) / (Pair::from(1.0) + Pair::from(-a).exp());
    log Positive [1e-310, 1e308] (a) std a.ln(), pair pair::log(a);
    log1p Above [1e-20, 1e15] (a) std a.ln_1p(), pair Pair::from(a).log1p();
    softplus Either [1e-20, 700.0] (a) std a.max(0.0) + (-a.abs()).exp().ln_1p(),
        pair Pair::from(a.max(0.0)) + Pair::from(-a.abs()).exp().log1p();
    tanh Either [1e-20, 25.0] (a) std a.tanh(),
        pair { let e = Pair::from(2.0 * a).expm1(); e / (e + 2.0.into()) };
    sinh Either [1e-20, 709.0] (a) std a.sinh(), pair {
        let e = Pair::from(a.abs()).expm1();
        let y = (e + e / (e + 1.0.into())) * 0.5.into();
        if a < 0.0 { -y } else { y }
    };
    cosh Either [1e-20, 709.0] (a) std a.cosh(),
        pair { let e = Pair::from(a.abs()).exp(); (e + Pair::from(1.0) / e) * 0.5.into() };
    sin Either [1e-20, 1.6e6] (a) std a.sin(), pair Pair::from(a).sin_cos().0;
    cos Either [1e-20, 1.6e6] (a) std a.cos(), pair Pair::from(a).sin_cos().1;
    tan Either [1e-20, 1.6e6] (a) std a.tan(),
        pair { let (s, c) = Pair::from(a).sin_cos(); s / c };
    asin Either [1e-20, 1.0] (a) std a.asin(), pair pair::asin(a);
    acos Either [1e-20, 1.0] (a) std a.acos(), pair pair::acos(a);
    atan Either [1e-20, 1e20] (a) std a.atan(), pair pair::atan2(a, 1.0);
    atan2 Either [1e-20, 1e20] (a, b) std a.atan2(b), pair pair::atan2(a, b);
    erf Either [1e-20, 6.5] (a) std libm::erf(a),
        pair if a < 0.0 { -Pair::from(-a).erf() } else { Pair::from(a).erf() };
    pow Positive [1e-300, 1e300] (a, b) std a.powf(b), pair (pair::log(a) * b.into()).exp();
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let option = |name: &str, default: f64| {
        let value = args.iter().skip_while(|a| *a != name).nth(1);
        value.and_then(|v| v.parse().ok()).unwrap_or(default) as u64
    };
    let (samples, step) = (option("--samples", 1e8), option("--step", 1.0));
    let filter = args.first().filter(|a| !a.starts_with("--"));
    println!("worst error in ulp, and where: f32, every {step}; f64, {samples} samples");
    run(filter.map_or("", |f| f), samples, step);
}

/// The largest error, and where.
#[derive(Clone, Copy)]
struct Worst(f64, f64, f64);

impl std::fmt::Display for Worst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Worst(ulp, a, b) = *self;
        let place = if b == 0.0 { format!("{a:?}") } else { format!("{a:?}, {b:?}") };
        write!(f, "{ulp:.3} at {place:<26}")
    }
}

const BLOCK: u64 = 1 << 12;

/// Blocks shared out to two threads; each adds to the worst what it finds.
fn scan(blocks: u64, block: impl Fn(u64, &mut Worst) + Sync) -> Worst {
    let half = |odd: u64| {
        let mut worst = Worst(0.0, 0.0, 0.0);
        (odd..blocks).step_by(2).for_each(|i| block(i, &mut worst));
        worst
    };
    std::thread::scope(|s| {
        let other = s.spawn(|| half(1));
        let mine = half(0);
        let other = other.join().unwrap_or(Worst(f64::NAN, 0.0, 0.0));
        if other.0 > mine.0 { other } else { mine }
    })
}

fn single<F: Function>(f: F, samples: u64, step: u64) -> Worst {
    let inputs = if F::PAIRS { samples } else { (1 << 32) / step };
    scan(inputs.div_ceil(BLOCK), |i, worst| {
        let [mut a, mut b, mut y] = [[0f32; BLOCK as usize]; 3];
        for (j, (a, b)) in a.iter_mut().zip(&mut b).enumerate() {
            let n = i * BLOCK + j as u64;
            (*a, *b) = match F::PAIRS {
                true => {
                    let (a, b) = sample::<F>(n);
                    (a as f32, b as f32)
                }
                false => (f32::from_bits((n * step) as u32), 0.0),
            };
        }
        each(f, &a, &b, &mut y);
        for ((&a, &b), &y) in a.iter().zip(&b).zip(&y) {
            // Beyond, loops call a library.
            if matches!(F::NAME, "sin" | "cos" | "tan") && a.abs() > f32::MODERATE {
                continue;
            }
            let want = f.single(a.into(), b.into());
            let error = match (want.is_nan(), y.is_nan()) {
                (true, true) => 0.0,
                (false, false) => {
                    // ∞ stands for the number after the largest.
                    let bounded = |x: f64| x.clamp(-(2f64.powi(128)), 2f64.powi(128));
                    let exponent = want.abs().clamp(2f64.powi(-126), 2f64.powi(127)).log2_floor();
                    (bounded(y.into()) - bounded(want)).abs() / 2f64.powi(exponent - 23)
                }
                _ => f64::INFINITY,
            };
            if error > worst.0 {
                *worst = Worst(error, a.into(), b.into());
            }
        }
    })
}

fn double<F: Function>(f: F, samples: u64) -> Worst {
    scan(samples.div_ceil(BLOCK), |i, worst| {
        let [mut a, mut b, mut y] = [[0f64; BLOCK as usize]; 3];
        for (j, (a, b)) in a.iter_mut().zip(&mut b).enumerate() {
            (*a, *b) = sample::<F>(i * BLOCK + j as u64);
        }
        each(f, &a, &b, &mut y);
        for ((&a, &b), &y) in a.iter().zip(&b).zip(&y) {
            let want = f.double(a, b);
            if !want.0.is_finite() || want.0.abs() < 1e-290 {
                continue;
            }
            let error = ((y - want.0) - want.1).abs() / 2f64.powi(want.0.abs().log2_floor() - 52);
            if error > worst.0 || error.is_nan() {
                *worst = Worst(error, a, b);
            }
        }
    })
}

trait Exponent {
    fn log2_floor(self) -> i32;
}

impl Exponent for f64 {
    /// ⌊log₂ x⌋ of a normal number.
    fn log2_floor(self) -> i32 {
        (self.to_bits() >> 52) as i32 - 1023
    }
}

/// The n-th random input: half of them uniform, half uniform in the exponent.
fn sample<F: Function>(n: u64) -> (f64, f64) {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut unit = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ x >> 31) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut number = || {
        let [low, high] = F::RANGE;
        let size = match unit() < 0.5 {
            true => low + unit() * (high - low),
            false => low * ((high.log2() - low.log2()) * unit()).exp2(),
        };
        match F::SIGNS {
            Signs::Positive => size,
            Signs::Either if unit() < 0.5 => -size,
            Signs::Above if size < 1.0 && unit() < 0.5 => -size,
            _ => size,
        }
    };
    let (a, b) = (number(), number());
    match F::NAME {
        // Powers that are numbers of all sizes, and small exponents.
        "pow" if unit() < 0.5 => (a, (1400.0 * unit() - 700.0) / a.ln()),
        "pow" => (20.0 * unit(), 40.0 * unit() - 20.0),
        _ if F::PAIRS => (a, b),
        _ => (a, 0.0),
    }
}
