//! The reference: sums of two f64, some 100 bits, and elementary functions of them by Taylor
//! series and Newton steps from std's value. Slow and plain.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number and the rest, which is below half a unit in the last place of it.
#[derive(Clone, Copy, Debug)]
pub struct Pair(pub f64, pub f64);

pub const LN_2: Pair = Pair(std::f64::consts::LN_2, 2.3190468138462996e-17);
const TWO_OVER_SQRT_PI: Pair = Pair(std::f64::consts::FRAC_2_SQRT_PI, 1.533545961316588e-17);
/// π/2 in four.
const HALF_PI: [f64; 4] = [
    std::f64::consts::FRAC_PI_2,
    6.123233995736766e-17,
    -1.4973849048591698e-33,
    5.562271104316826e-50,
];

fn sum(a: f64, b: f64) -> Pair {
    let s = a + b;
    let t = s - a;
    Pair(s, (a - (s - t)) + (b - t))
}

fn ordered(a: f64, b: f64) -> Pair {
    let s = a + b;
    Pair(s, b - (s - a))
}

fn product(a: f64, b: f64) -> Pair {
    let p = a * b;
    Pair(p, a.mul_add(b, -p))
}

impl From<f64> for Pair {
    fn from(x: f64) -> Pair {
        Pair(x, 0.0)
    }
}

impl Add for Pair {
    type Output = Pair;
    fn add(self, b: Pair) -> Pair {
        let (s, t) = (sum(self.0, b.0), sum(self.1, b.1));
        let s = ordered(s.0, s.1 + t.0);
        ordered(s.0, s.1 + t.1)
    }
}

impl Neg for Pair {
    type Output = Pair;
    fn neg(self) -> Pair {
        Pair(-self.0, -self.1)
    }
}

impl Sub for Pair {
    type Output = Pair;
    fn sub(self, b: Pair) -> Pair {
        self + -b
    }
}

impl Mul for Pair {
    type Output = Pair;
    fn mul(self, b: Pair) -> Pair {
        let p = product(self.0, b.0);
        ordered(p.0, p.1 + (self.0 * b.1 + self.1 * b.0))
    }
}

impl Div for Pair {
    type Output = Pair;
    fn div(self, b: Pair) -> Pair {
        let q = self.0 / b.0;
        let r = self - b * q.into();
        let q2 = r.0 / b.0;
        let r = r - b * q2.into();
        ordered(q, q2) + (r.0 / b.0).into()
    }
}

impl Pair {
    fn scaled(self, n: f64) -> Pair {
        let (half, n) = ((n * 0.5).floor(), n);
        let (a, b) = (half.exp2(), (n - half).exp2());
        Pair(self.0 * a * b, self.1 * a * b)
    }

    /// eˣ − 1 for |x| ≤ 0.5
    fn small_expm1(self) -> Pair {
        // (1 + e)² − 1 = e(2 + e), five times.
        let r = Pair(self.0 / 32.0, self.1 / 32.0);
        let mut term = r;
        let mut y = r;
        for n in 2..15 {
            term = term * r / f64::from(n).into();
            y = y + term;
        }
        for _ in 0..5 {
            y = y * (y + 2.0.into());
        }
        y
    }

    /// 2ⁿ and eʳ − 1 of x = n·ln 2 + r
    fn exp_parts(self) -> (f64, Pair) {
        let n = (self.0 / LN_2.0).round();
        // ln 2 in three, as n takes bits.
        let third = 5.707708438416212e-34;
        let r = self - LN_2 * n.into() - (third * n).into();
        (n, r.small_expm1())
    }

    pub fn exp(self) -> Pair {
        let (n, y) = self.exp_parts();
        (y + 1.0.into()).scaled(n)
    }

    pub fn expm1(self) -> Pair {
        if self.0.abs() < 0.5 { self.small_expm1() } else { self.exp() - 1.0.into() }
    }

    /// ln(1 + x)
    pub fn log1p(self) -> Pair {
        let y = Pair::from(self.0.ln_1p());
        let y = y + (self - y.expm1()) / (self + 1.0.into());
        y + (self - y.expm1()) / (self + 1.0.into())
    }

    /// The sum of x^(2i + 1)/(2i + 1)! or x^(2i)/(2i)!, of alternating sign, for |x| ≤ π/4.
    fn sin_series(self, first: Pair, from: i32) -> Pair {
        let z = self * self;
        let (mut term, mut y) = (first, first);
        let mut n = from;
        while n < 34 {
            term = -(term * z) / f64::from((n + 1) * (n + 2)).into();
            y = y + term;
            n += 2;
        }
        y
    }

    pub fn sin_cos(self) -> (Pair, Pair) {
        let q = (self.0 / HALF_PI[0]).round();
        let mut r = self;
        for part in HALF_PI {
            let p = product(part, q);
            r = r - p.0.into() - p.1.into();
        }
        let (s, c) = (r.sin_series(r, 1), r.sin_series(1.0.into(), 0));
        match q.rem_euclid(4.0) as u8 {
            0 => (s, c),
            1 => (c, -s),
            2 => (-s, -c),
            _ => (-c, s),
        }
    }

    /// The error function, for x ≥ 0.
    pub fn erf(self) -> Pair {
        if self.0 > 3.0 {
            return Pair::from(1.0) - libm::erfc(self.0).into();
        }
        // 2/√π · e^(−x²) · Σ 2ⁿ x^(2n + 1)/(2n + 1)!!
        let z = self * self;
        let (mut term, mut y) = (self, self);
        for n in 1..200 {
            term = term * z * 2.0.into() / f64::from(2 * n + 1).into();
            y = y + term;
            if term.0 < y.0 * 1e-33 {
                break;
            }
        }
        y * TWO_OVER_SQRT_PI * (-z).exp()
    }
}

/// ln x
pub fn log(x: f64) -> Pair {
    // x = 2ᵏ·m, so that e^−y neither overflows nor is subnormal.
    let k = x.log2().round();
    let m = Pair::from(x).scaled(-k).0;
    let y = Pair::from(m - 1.0).log1p();
    y + LN_2 * k.into() + (5.707708438416212e-34 * k).into()
}

pub fn atan2(a: f64, b: f64) -> Pair {
    let y = Pair::from(a.atan2(b));
    let (s, c) = y.sin_cos();
    // tan(y + d) = a/b
    let (a, b) = (Pair::from(a), Pair::from(b));
    y + (a * c - b * s) / (b * c + a * s)
}

pub fn asin(x: f64) -> Pair {
    let y = Pair::from(x.asin());
    let (s, c) = y.sin_cos();
    if x.abs() < 0.7 {
        return y + (Pair::from(x) - s) / c;
    }
    // Of the better conditioned √(1 − x²), halved.
    let x = Pair::from(x.abs());
    let root = ((Pair::from(1.0) - x) * (Pair::from(1.0) + x)).sqrt();
    let angle = atan2_pair(x, root, y.0.abs());
    if y.0 < 0.0 { -angle } else { angle }
}

pub fn acos(x: f64) -> Pair {
    let root = ((Pair::from(1.0) - x.into()) * (Pair::from(1.0) + x.into())).sqrt();
    atan2_pair(root, x.into(), x.acos())
}

fn atan2_pair(a: Pair, b: Pair, near: f64) -> Pair {
    let y = Pair::from(near);
    let (s, c) = y.sin_cos();
    y + (a * c - b * s) / (b * c + a * s)
}

impl Pair {
    fn sqrt(self) -> Pair {
        let y = self.0.sqrt();
        if y == 0.0 {
            return self;
        }
        let rest = self - product(y, y);
        ordered(y, rest.0 / (2.0 * y))
    }
}
