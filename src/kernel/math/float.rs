//! f32 and f64 as the functions of this folder see them: bit patterns, and the coefficients that
//! `tests/reference/minimax.py` prints.
#![allow(clippy::excessive_precision, clippy::unreadable_literal)] // as the script prints them

use crate::Scalar;
use crate::kernel::cpu::{Level, Unfused};

/// A type the elementary functions are written for.
pub(crate) trait Elementary: Scalar {
    /// The unsigned integer of the same size.
    type Bits: Copy;

    /// e^x is ∞ from here on.
    const EXP_MAX: Self;
    /// e^x is 0 down from here.
    const EXP_MIN: Self;
    /// ln 2: a head whose product with any exponent is exact, and the rest.
    const LN_2: [Self; 2];
    /// π/2: heads whose products with the quarter turns in `MODERATE` are exact, and the rest.
    const HALF_PI: &'static [Self];
    /// The largest |x| that is reduced by `HALF_PI`.
    const MODERATE: Self;
    /// π/4 and the error of that.
    const QUARTER_PI: [Self; 2];
    /// Here erf rounds to 1, and `ERFCX` ends.
    const ERF_MAX: Self;

    const EXP: &'static [Self];
    const LOG: &'static [Self];
    const SIN: &'static [Self];
    const COS: &'static [Self];
    const SINH: &'static [Self];
    const ERF: &'static [Self];
    const ERFCX: &'static [Self];
    const ATAN: &'static [Self];
    const ASIN: &'static [Self];

    /// The nearest integer (|x| < 2^21), also as low bits for the functions below.
    fn nearest(self) -> (Self, Self::Bits);
    /// The same of a product, which is not rounded first where the level need not.
    fn nearest_product<L: Level>(self, factor: Self) -> (Self, Self::Bits);
    /// x·2^n, where both are normal numbers.
    fn scaled(self, n: Self::Bits) -> Self;
    /// Two factors of 2^n, for n down to the logarithm of half the least subnormal.
    fn two_powers(n: Self::Bits) -> [Self; 2];
    /// Whether n is odd, and whether n/2 rounded down is.
    fn quadrant(n: Self::Bits) -> (bool, bool);
    /// Of a positive number 2^k·m with √½ ≤ m < √2: k, m − 1 and 2^−k.
    fn split(self) -> (Self, Self, Self);
    /// x with the lower half of its significand cleared.
    fn head(self) -> Self;
    /// a^b
    fn pow<L: Level>(self, b: Self) -> Self;
    /// The sine and cosine of numbers beyond [`Elementary::MODERATE`].
    fn far_sin_cos(self) -> (Self, Self);
}

macro_rules! bits {
    ($T:ident, $Bits:ident, $digits:literal) => {
        type Bits = $Bits;

        #[inline(always)]
        fn nearest(self) -> ($T, $Bits) {
            self.nearest_product::<Unfused>(1.0)
        }

        #[inline(always)]
        fn nearest_product<L: Level>(self, factor: $T) -> ($T, $Bits) {
            // Numbers of this size are the integers, so the sum is rounded to one.
            const MAGIC: $T = 1.5 * ((1 as $Bits) << $digits) as $T;
            let sum = L::mul_add(self, factor, MAGIC);
            (sum - MAGIC, sum.to_bits().wrapping_sub(MAGIC.to_bits()))
        }

        #[inline(always)]
        fn scaled(self, n: $Bits) -> $T {
            $T::from_bits(self.to_bits().wrapping_add(n << $digits))
        }

        #[inline(always)]
        fn two_powers(n: $Bits) -> [$T; 2] {
            const BIAS: $Bits = $T::MAX_EXP as $Bits - 1;
            let n = n.wrapping_add(2 * BIAS);
            let half = n >> 1;
            [$T::from_bits(half << $digits), $T::from_bits(n.wrapping_sub(half) << $digits)]
        }

        #[inline(always)]
        fn quadrant(n: $Bits) -> (bool, bool) {
            (n & 1 != 0, n & 2 != 0)
        }

        #[inline(always)]
        fn split(self) -> ($T, $T, $T) {
            const SCALE: $T = ((1 as $Bits) << $digits) as $T;
            const BIAS: $Bits = $T::MAX_EXP as $Bits - 1;
            const SQRT_HALF: $Bits = std::$T::consts::FRAC_1_SQRT_2.to_bits();
            let subnormal = self < $T::MIN_POSITIVE;
            let x = if subnormal { self * SCALE } else { self };
            let raised = x.to_bits().wrapping_add((1.0 as $T).to_bits()).wrapping_sub(SQRT_HALF);
            let biased = raised >> $digits;
            let m = $T::from_bits((raised & ((1 << $digits) - 1)).wrapping_add(SQRT_HALF));
            let k = $T::from_bits(biased | SCALE.to_bits());
            let offset = SCALE + BIAS as $T;
            let k = k - if subnormal { offset + $digits as $T } else { offset };
            (k, m - 1.0, $T::from_bits((2 * BIAS).wrapping_sub(biased) << $digits))
        }

        #[inline(always)]
        fn head(self) -> $T {
            $T::from_bits(self.to_bits() & ($Bits::MAX << ($digits / 2 + 1)))
        }
    };
}

impl Elementary for f32 {
    bits!(f32, u32, 23);

    const EXP_MAX: f32 = 89.0;
    const EXP_MIN: f32 = -104.0;
    const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
    const HALF_PI: &'static [f32] = &[1.5703125, 0.0004837513, 7.5495336e-08, 2.563344e-12];
    const MODERATE: f32 = 6_433.0;
    const QUARTER_PI: [f32; 2] = [std::f32::consts::FRAC_PI_4, -2.1855694e-08];
    const ERF_MAX: f32 = 4.0;

    const EXP: &'static [Self] = &[0.5, 0.16666542, 0.04166628, 0.008366644, 0.0013946469];
    const LOG: &'static [Self] = &[0.66666776, 0.39977545, 0.29871684];
    const SIN: &'static [Self] = &[-0.16666655, 0.008332178, -0.00019517241];
    const COS: &'static [Self] = &[0.041666646, -0.0013887367, 2.4438366e-05];
    const SINH: &'static [Self] = &[0.16666718, 0.008330212, 0.0002037739];
    const ERF: &'static [Self] = &[
        0.12837917,
        -0.37612626,
        0.112835854,
        -0.026853811,
        0.0051883277,
        -0.00080101937,
        7.853866e-05,
    ];
    const ERFCX: &'static [Self] = &[
        0.2553956,
        -0.106797785,
        0.041801564,
        -0.015443011,
        0.0054755528,
        -0.0018573889,
        0.00050350284,
        -0.00020232229,
        0.00010683699,
    ];
    const ATAN: &'static [Self] = &[-0.33333316, 0.1999849, -0.14243846, 0.10595983, -0.06083412];
    const ASIN: &'static [Self] = &[0.16666754, 0.07495241, 0.0454772, 0.024147151, 0.04221927];

    #[inline(always)]
    fn pow<L: Level>(self, b: f32) -> f32 {
        super::pow::single::<L>(self, b)
    }

    fn far_sin_cos(self) -> (f32, f32) {
        libm::sincosf(self)
    }
}

impl Elementary for f64 {
    bits!(f64, u64, 52);

    const EXP_MAX: f64 = 710.0;
    const EXP_MIN: f64 = -746.0;
    const LN_2: [f64; 2] = [0.693147180559663, 2.8235290563031577e-13];
    const HALF_PI: &'static [f64] =
        &[1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32];
    const MODERATE: f64 = 1.6e6;
    const QUARTER_PI: [f64; 2] = [std::f64::consts::FRAC_PI_4, 3.061616997868383e-17];
    const ERF_MAX: f64 = 6.0;

    const EXP: &'static [Self] = &[
        0.5000000000000006,
        0.16666666666666685,
        0.04166666666657295,
        0.00833333333331445,
        0.0013888888932614783,
        0.00019841269903382559,
        2.480150414662495e-05,
        2.755722760522346e-06,
        2.762645109028472e-07,
        2.511459321641941e-08,
    ];
    const LOG: &'static [Self] = &[
        0.6666666666666734,
        0.3999999999941465,
        0.28571428742391586,
        0.22222198572882995,
        0.18183564340760025,
        0.15314050148670044,
        0.14795954280494386,
    ];
    const SIN: &'static [Self] = &[
        -0.16666666666666632,
        0.008333333333322415,
        -0.0001984126982980798,
        2.7557313691937977e-06,
        -2.505075811541566e-08,
        1.5896795581605703e-10,
    ];
    const COS: &'static [Self] = &[
        0.0416666666666666,
        -0.0013888888888874125,
        2.4801587289482035e-05,
        -2.7557314352277083e-07,
        2.0875723264407054e-09,
        -1.1359647299908761e-11,
    ];
    const SINH: &'static [Self] = &[
        0.16666666666666669,
        0.008333333333333139,
        0.0001984126984143768,
        2.755731915533744e-06,
        2.5052123398465796e-08,
        1.605724034703374e-10,
        7.759312078890281e-13,
    ];
    const ERF: &'static [Self] = &[
        0.12837916709551256,
        -0.3761263890318352,
        0.11283791670944185,
        -0.02686617064311148,
        0.005223977606118598,
        -0.0008548325929319941,
        0.00012055293577027264,
        -1.49247123036256e-05,
        1.644713158143662e-06,
        -1.6206313769690034e-07,
        1.3710980202645715e-08,
        -7.779467751091709e-10,
    ];
    const ERFCX: &'static [Self] = &[
        0.25539567631050564,
        -0.10679646185348926,
        0.04180275260354417,
        -0.015460637764267624,
        0.005440738537083369,
        -0.0018316642764802929,
        0.0005924699982251958,
        -0.00018477836107436932,
        5.572830500453564e-05,
        -1.6293741354662187e-05,
        4.628196902877497e-06,
        -1.279479116495603e-06,
        3.448236567253742e-07,
        -9.078603497744507e-08,
        2.3373616532781687e-08,
        -5.848378666864303e-09,
        1.4237295258271705e-09,
        -3.554594145596168e-10,
        9.314737555775712e-11,
        -2.1331687303362706e-11,
        3.189490145811139e-12,
        -2.141131107744093e-13,
    ];
    const ATAN: &'static [Self] = &[
        -0.333333333333332,
        0.19999999999954077,
        -0.14285714280248096,
        0.11111110786119928,
        -0.09090897835977049,
        0.07692061629068732,
        -0.06663120293533886,
        0.05848008255603989,
        -0.05039842495917963,
        0.03807824313096079,
        -0.017922192725460244,
    ];
    const ASIN: &'static [Self] = &[
        0.16666666666666763,
        0.07499999999970257,
        0.044642857175124576,
        0.030381942683467465,
        0.02237221566385665,
        0.017351600037183838,
        0.01398096202132899,
        0.011397771865038472,
        0.010786549825676665,
        0.00368297027450902,
        0.021763661102852827,
        -0.021077508051461604,
        0.03267701851826902,
    ];

    #[inline(always)]
    fn pow<L: Level>(self, b: f64) -> f64 {
        super::pow::double::<L>(self, b)
    }

    fn far_sin_cos(self) -> (f64, f64) {
        libm::sincos(self)
    }
}
