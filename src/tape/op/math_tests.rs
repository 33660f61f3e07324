//! Every function against std in f64 and against mpmath, at every level of the CPU.

use crate::kernel::cpu::Cpu;
use crate::kernel::map::Loop;
use crate::scalar::Scalar;
use crate::tape::op::ScalarOp;
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

fn run<T: Scalar>(op: ScalarOp, a: &[T], b: &[T]) -> Vec<T> {
    let mut y = vec![T::lit(7.0); a.len()];
    match op.kernel() {
        Loop::One(f) => f(a, &mut y),
        Loop::Two(f) => f(a, b, &mut y),
        Loop::Three(_) | Loop::Sum => unreachable!("a function of one or two numbers"),
    }
    y
}

fn bits<T: Scalar>(y: &[T]) -> Vec<u64> {
    y.iter().map(|y| if y.is_nan() { u64::MAX } else { y.to_f64().to_bits() }).collect()
}

/// |y − (want + rest)| in units of the last place of T at `want`.
fn ulps<T: Scalar>(y: T, want: f64, rest: f64) -> f64 {
    if want.is_nan() || y.is_nan() {
        return if want.is_nan() && y.is_nan() { 0.0 } else { f64::INFINITY };
    }
    // The largest binade, and the number after it for ∞.
    let [least, top, digits] = if T::NAME == "f32" { [-126, 127, 23] } else { [-1022, 1023, 52] };
    let unit = |exponent: i32| f64::from(exponent - digits).exp2();
    let size = want.abs().clamp(2f64.powi(least), 2f64.powi(top));
    let exponent = (size.to_bits() >> 52) as i32 - 1023;
    let bounded = |x: f64| x.clamp(-2.0 * 2f64.powi(top), 2.0 * 2f64.powi(top));
    let (y, want) = (bounded(y.to_f64()), bounded(want));
    if y == want {
        return rest.abs() / unit(exponent);
    }
    ((y - want) - rest).abs() / unit(exponent)
}

type Unary = (ScalarOp, fn(f64) -> f64, f64);
type Binary = (ScalarOp, fn(f64, f64) -> f64, f64);

/// The op, the same in f64 by std, and the bound of its error: what `Level::mul_add` rounding
/// twice costs is in it.
const UNARY: [Unary; 17] = [
    (ScalarOp::Exp, f64::exp, 1.5),
    (ScalarOp::Expm1, f64::exp_m1, 1.5),
    (ScalarOp::Sigmoid, sigmoid, 2.5),
    (ScalarOp::Log, f64::ln, 1.0),
    (ScalarOp::Log1p, f64::ln_1p, 1.0),
    (ScalarOp::Softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), 2.0),
    (ScalarOp::Tanh, f64::tanh, 2.0),
    (ScalarOp::Sinh, f64::sinh, 2.0),
    (ScalarOp::Cosh, f64::cosh, 2.0),
    (ScalarOp::Sin, f64::sin, 1.0),
    (ScalarOp::Cos, f64::cos, 1.0),
    (ScalarOp::Tan, f64::tan, 2.5),
    (ScalarOp::Asin, f64::asin, 1.5),
    (ScalarOp::Acos, f64::acos, 1.5),
    (ScalarOp::Atan, f64::atan, 2.0),
    (ScalarOp::Erf, libm::erf, 1.5),
    (ScalarOp::Reciprocal, |x| 1.0 / x, 0.5),
];

fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

#[test]
fn single_precision_is_within_its_bound_of_std_in_double() {
    let mut x: Vec<f32> = (0..u32::MAX).step_by(65_521).map(f32::from_bits).collect();
    // Where the functions change their formulas.
    for edge in [0.0, 0.25, 0.4142, 0.5, 0.5493, 0.69, 1.0, 2.4142, 4.0, 9.01, 22.0, 87.34, 88.72] {
        x.extend((-50..50).flat_map(|i| {
            let near = f32::from_bits((edge as f32).to_bits().saturating_add_signed(i));
            [near, -near]
        }));
    }
    Cpu::for_each(|cpu| {
        for (op, std, bound) in UNARY {
            for (&x, y) in x.iter().zip(run(op, &x, &[])) {
                let error = ulps(y, std(x.into()), 0.0);
                assert!(error <= bound, "{cpu:?} {}({x:?}) = {y:?}: {error} ulp", op.name());
            }
        }
        let pairs = x.iter().zip(x.iter().rev().step_by(3).cycle());
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.map(|(a, b)| (*a, *b)).unzip();
        let binary: [Binary; 2] =
            [(ScalarOp::Pow, f64::powf, 1.0), (ScalarOp::Atan2, f64::atan2, 2.0)];
        for (op, std, bound) in binary {
            for ((&a, &b), y) in a.iter().zip(&b).zip(run(op, &a, &b)) {
                let error = ulps(y, std(a.into(), b.into()), 0.0);
                assert!(error <= bound, "{cpu:?} {}({a:?}, {b:?}) = {y:?}: {error}", op.name());
            }
        }
    });
}

#[test]
fn double_precision_is_within_its_bound_of_mpmath() {
    let number = |word: &str| f64::from_bits(u64::from_str_radix(word, 16).unwrap());
    Cpu::for_each(|cpu| {
        let mut n = 0;
        for line in include_str!("../../../tests/reference/elementary.txt").lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, x @ .., y, rest] = &words[..] else { panic!("{line}") };
            let op = *ScalarOp::ALL.iter().find(|op| op.name() == *name).unwrap();
            let bound = UNARY.iter().find(|u| u.0 == op).map_or(2.0, |u| u.2);
            let x: Vec<f64> = x.iter().map(|x| number(x)).collect();
            let (want, rest) = (number(y), rest.parse::<f64>().unwrap());
            let unit = (((want.abs().to_bits() >> 52) as f64) - 1023.0 - 52.0).exp2();
            let got = run(op, &x[..1], x.get(1..).unwrap_or(&[]))[0];
            let error = ulps(got, want, rest * 2f64.powi(-64) * unit);
            assert!(error <= bound, "{cpu:?} {name}({x:?}) = {got:?}, not {want:?}: {error} ulp");
            n += 1;
        }
        assert_eq!(n, 18 * 40);
    });
}

#[test]
fn special_values_are_exact() {
    fn check<T: Scalar>() {
        let inf = f64::INFINITY;
        let nan = f64::NAN;
        let largest = if T::NAME == "f32" { f64::from(f32::MAX) } else { f64::MAX };
        let least = if T::NAME == "f32" { 2f64.powi(-149) } else { f64::from_bits(1) };
        let unary: &[(ScalarOp, &[(f64, f64)])] = &[
            (ScalarOp::Exp, &[(0.0, 1.0), (-0.0, 1.0), (inf, inf), (-inf, 0.0), (largest, inf)]),
            (ScalarOp::Expm1, &[(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -1.0)]),
            (ScalarOp::Expm1, &[(least, least), (-least, -least), (-largest, -1.0)]),
            (ScalarOp::Sigmoid, &[(0.0, 0.5), (inf, 1.0), (-inf, 0.0), (-largest, 0.0)]),
            (ScalarOp::Log, &[(1.0, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-1.0, nan)]),
            (ScalarOp::Log, &[(-inf, nan), (-least, nan)]),
            (ScalarOp::Log1p, &[(0.0, 0.0), (-0.0, -0.0), (-1.0, -inf), (inf, inf), (-2.0, nan)]),
            (ScalarOp::Log1p, &[(least, least), (-least, -least), (-inf, nan)]),
            (ScalarOp::Softplus, &[(inf, inf), (-inf, 0.0), (largest, largest)]),
            (ScalarOp::Tanh, &[(0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0)]),
            (ScalarOp::Tanh, &[(least, least), (-least, -least), (largest, 1.0)]),
            (ScalarOp::Sinh, &[(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -inf)]),
            (ScalarOp::Sinh, &[(least, least), (largest, inf)]),
            (ScalarOp::Cosh, &[(0.0, 1.0), (inf, inf), (-inf, inf), (largest, inf)]),
            (ScalarOp::Sin, &[(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan), (least, least)]),
            (ScalarOp::Cos, &[(0.0, 1.0), (-0.0, 1.0), (inf, nan), (-inf, nan), (least, 1.0)]),
            (ScalarOp::Tan, &[(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan), (least, least)]),
            (ScalarOp::Asin, &[(0.0, 0.0), (-0.0, -0.0), (1.0, FRAC_PI_2), (1.1, nan), (inf, nan)]),
            (ScalarOp::Asin, &[(-1.0, -FRAC_PI_2), (least, least)]),
            (ScalarOp::Acos, &[(1.0, 0.0), (-1.0, PI), (0.0, FRAC_PI_2), (-1.1, nan), (inf, nan)]),
            (ScalarOp::Atan, &[(0.0, 0.0), (-0.0, -0.0), (inf, FRAC_PI_2), (-inf, -FRAC_PI_2)]),
            (ScalarOp::Atan, &[(1.0, FRAC_PI_4), (least, least), (largest, FRAC_PI_2)]),
            (ScalarOp::Erf, &[(0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0)]),
        ];
        for (op, cases) in unary {
            for &(x, want) in cases.iter().chain(&[(nan, nan)]) {
                let y = run(*op, &[T::lit(x)], &[])[0];
                assert_eq!(bits(&[y]), bits(&[T::lit(want)]), "{}({x})", op.name());
            }
        }
        // All pairs: std's pow and atan2 know their tables, and exact powers are exact.
        let x = [0.0, 0.5, 1.0, 2.0, 3.0, -7.0, 9.5, least, largest, inf];
        let x: Vec<T> = x.into_iter().flat_map(|x| [x, -x]).chain([nan]).map(T::lit).collect();
        for op in [ScalarOp::Pow, ScalarOp::Atan2] {
            for &a in &x {
                for &b in &x {
                    let y = run(op, &[a], &[b])[0];
                    let want = if op == ScalarOp::Pow { a.powf(b) } else { a.atan2(b) };
                    let near = want.is_finite() && ulps(y, want.to_f64(), 0.0) <= 2.0;
                    let exact = op == ScalarOp::Pow && (want.to_f64() * 2.0).fract() == 0.0;
                    let right = bits(&[y]) == bits(&[want]) || (near && !exact);
                    assert!(right, "{} {}({a}, {b}) = {y}, not {want}", T::NAME, op.name());
                    let sign = y.copysign(T::one()) != y;
                    assert!(
                        y.is_nan() || sign == (want.copysign(T::one()) != want) || y != T::zero()
                    );
                }
            }
        }
    }
    Cpu::for_each(|_| {
        check::<f32>();
        check::<f64>();
    });
}

/// The bits of an element depend on neither its place nor its neighbors, nor on which of the
/// levels with fused operations it is.
#[test]
fn an_element_has_the_same_bits_wherever_it_stands() {
    fn check<T: Scalar>() {
        let x: Vec<T> = (0..80)
            .map(|i: i32| match i % 11 {
                0 => T::lit(1e30), // beyond what sin reduces in lanes
                1 => T::lit(-0.0),
                _ => T::lit((f64::from(i) * 0.37).sin() * 2f64.powi(i % 7 - 3)),
            })
            .collect();
        let ops = UNARY.iter().map(|u| u.0).chain([ScalarOp::Pow, ScalarOp::Atan2]);
        for op in ops {
            let mut fused = vec![];
            Cpu::for_each(|cpu| {
                let alone: Vec<T> = x.iter().map(|&x| run(op, &[x], &[x])[0]).collect();
                for (start, n) in (0..70).map(|n| (n % 9, n)) {
                    let part = &x[start..start + n];
                    let (got, want) = (bits(&run(op, part, part)), bits(&alone[start..start + n]));
                    assert_eq!(got, want, "{cpu:?} {} {start} {n}", op.name());
                }
                if cpu > Cpu::Portable {
                    fused.push(bits(&alone));
                }
            });
            assert!(fused.windows(2).all(|w| w[0] == w[1]), "{}", op.name());
        }
    }
    check::<f32>();
    check::<f64>();
}

/// Neighboring numbers on both sides of a change of formula: no step down but by rounding.
#[test]
fn formulas_meet() {
    let edges: &[(ScalarOp, &[f64])] = &[
        (ScalarOp::Tanh, &[0.549_306_144, 22.0]),
        (ScalarOp::Sinh, &[1.0, 22.0]),
        (ScalarOp::Erf, &[1.0]),
        (ScalarOp::Asin, &[0.5]),
        (ScalarOp::Atan, &[0.414_213_562, 2.414_213_562]),
        (ScalarOp::Exp, &[0.346_573_59, 1.039_720_77]),
        (ScalarOp::Log, &[std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2, 1.0]),
    ];
    Cpu::for_each(|cpu| {
        for (op, edges) in edges {
            for &edge in *edges {
                let x: Vec<f64> = (0..4000)
                    .map(|i| f64::from_bits((edge * (1.0 - 1e-9)).to_bits() + i * 2_500))
                    .collect();
                let y = run(*op, &x, &[]);
                for (i, w) in y.windows(2).enumerate() {
                    let step_back = (w[0] - w[1]) / (w[0].abs() * f64::EPSILON);
                    assert!(step_back <= 2.0, "{cpu:?} {} at {:?}: {w:?}", op.name(), x[i]);
                }
            }
        }
    });
}
