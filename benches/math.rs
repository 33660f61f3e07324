//! Our elementary functions beside std's (libm's for erf): ns an element over 1024 numbers in L1,
//! one thread, medians. `cargo bench --bench math [filter]`; GRADTAPE_CPU=avx2|portable lowers ours.

use gradtape::Scalar;
use kernel::cpu::{Level, multiversion};
use kernel::math::{Elementary, Math};
use std::hint::black_box;
use std::time::Instant;

// The kernels are private to the crate: the bench compiles them from their source.
#[allow(dead_code, unused_imports)]
#[path = "../src/kernel"]
mod kernel {
    pub mod cpu;
    pub mod math;
}

trait Pair<T>: Copy {
    fn at<L: Level>(self, a: T, b: T) -> T;
}

multiversion! {
    fn each<L: Level, T: Scalar, F: Pair<T>>(f: F, a: &[T], b: &[T], y: &mut [T]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = f.at::<L>(a, b);
        }
    }
}

macro_rules! functions {
    ($($name:ident($a:ident, $b:ident) on $low:literal..$high:literal = $ours:expr, std $std:expr;)*) => {
        fn run<T: Elementary>(filter: &str) {
            $({
                #[derive(Clone, Copy)]
                struct Ours;
                impl<T: Elementary> Pair<T> for Ours {
                    #[inline(always)]
                    fn at<L: Level>(self, $a: T, $b: T) -> T {
                        let _ = $b;
                        $ours
                    }
                }
                let std = |$a: T, $b: T| { let _ = $b; $std };
                let name = format!("{} {}", T::NAME, stringify!($name));
                if name.contains(filter) {
                    compare(&name, $low, $high, Ours, std);
                }
            })*
        }
    };
}

functions! {
    exp(a, b) on -10.0..10.0 = L::exp(a), std a.exp();
    expm1(a, b) on -10.0..10.0 = L::expm1(a), std a.exp_m1();
    log(a, b) on 0.0..10.0 = L::log(a), std a.ln();
    log1p(a, b) on -1.0..10.0 = L::log1p(a), std a.ln_1p();
    sigmoid(a, b) on -10.0..10.0 = L::sigmoid(a), std T::lit(1.0) / (T::lit(1.0) + (-a).exp());
    softplus(a, b) on -10.0..10.0 = L::softplus(a), std a.max(T::lit(0.0)) + (-a.abs()).exp().ln_1p();
    tanh(a, b) on -5.0..5.0 = L::tanh(a), std a.tanh();
    sinh(a, b) on -5.0..5.0 = L::sinh(a), std a.sinh();
    cosh(a, b) on -5.0..5.0 = L::cosh(a), std a.cosh();
    sin(a, b) on -10.0..10.0 = L::sin(a), std a.sin();
    cos(a, b) on -10.0..10.0 = L::cos(a), std a.cos();
    tan(a, b) on -10.0..10.0 = L::tan(a), std a.tan();
    asin(a, b) on -1.0..1.0 = L::asin(a), std a.asin();
    acos(a, b) on -1.0..1.0 = L::acos(a), std a.acos();
    atan(a, b) on -5.0..5.0 = L::atan(a), std a.atan();
    atan2(a, b) on -5.0..5.0 = L::atan2(a, b), std a.atan2(b);
    erf(a, b) on -3.0..3.0 = L::erf(a), std a.erf();
    pow(a, b) on 0.0..10.0 = L::pow(a, b), std a.powf(b);
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    println!("{:<16}{:>9}{:>9}{:>8}", "ns an element", "ours", "std", "ratio");
    run::<f32>(&filter);
    run::<f64>(&filter);
}

fn compare<T: Scalar>(
    name: &str,
    low: f64,
    high: f64,
    ours: impl Pair<T>,
    std: impl Fn(T, T) -> T,
) {
    const N: usize = 1024;
    let number = |i: usize| T::lit(low + (high - low) * (i as f64 * 0.618_033_988).fract());
    let a: Vec<T> = (0..N).map(number).collect();
    let b: Vec<T> = (0..N).map(|i| number(i * 7 + 3)).collect();
    let mut y = a.clone();
    let ours = median(N, || each(ours, black_box(&a), &b, &mut y));
    let mut y = a.clone();
    let std = median(N, || {
        for ((y, &a), &b) in y.iter_mut().zip(black_box(&a)).zip(&b) {
            *y = std(a, b);
        }
    });
    println!("{name:<16}{ours:>9.3}{std:>9.3}{:>8.2}", ours / std);
}

/// Nanoseconds an element.
fn median(n: usize, mut call: impl FnMut()) -> f64 {
    let mut ns: Vec<f64> = (0..25)
        .map(|_| {
            let start = Instant::now();
            (0..50).for_each(|_| call());
            start.elapsed().as_secs_f64() * 1e9 / (50 * n) as f64
        })
        .collect();
    ns.sort_by(f64::total_cmp);
    ns[ns.len() / 2]
}
