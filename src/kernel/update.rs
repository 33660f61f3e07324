//! Optimizer steps: each one pass over parameters, gradients and state, all flat slices.
//! Knows no schedule and no clipping; whoever begins the step hands their numbers over.

use crate::kernel::cpu::multiversion;
use crate::kernel::vector::{BLOCK, dot};
use crate::scalar::Scalar;

/// What every update does with gradients and rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common<T> {
    pub(crate) rate: T,
    /// A factor on each gradient.
    pub(crate) scale: T,
    /// The largest size of each gradient after that.
    pub(crate) limit: T,
}

impl<T: Scalar> Common<T> {
    #[inline(always)]
    fn gradient(self, g: T) -> T {
        let g = g * self.scale;
        let g = if g > self.limit { self.limit } else { g };
        if g < -self.limit { -self.limit } else { g }
    }

    /// w − d, where d has the rate as a factor. Not a subtraction of 0 when the rate is 0: that
    /// would turn −0 to +0.
    #[inline(always)]
    fn moved(self, w: T, d: T) -> T {
        if self.rate == T::zero() { w } else { w - d }
    }
}

multiversion! {
    /// g ← g + λw; w ← w − γg.
    pub(crate) fn sgd<T: Scalar>(c: Common<T>, decay: T, w: &mut [T], g: &[T]) {
        for (w, &g) in w.iter_mut().zip(g) {
            let g = c.gradient(g) + decay * *w;
            *w = c.moved(*w, c.rate * g);
        }
    }
}

/// SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Momentum<T> {
    pub(crate) common: Common<T>,
    pub(crate) decay: T,
    pub(crate) momentum: T,
    pub(crate) nesterov: bool,
}

multiversion! {
    /// g ← g + λw; b ← μb + g; w ← w − γb, or with Nesterov's look ahead w − γ(g + μb).
    pub(crate) fn momentum<T: Scalar>(c: Momentum<T>, w: &mut [T], g: &[T], b: &mut [T]) {
        for ((w, &g), b) in w.iter_mut().zip(g).zip(b) {
            let g = c.common.gradient(g) + c.decay * *w;
            *b = c.momentum * *b + g;
            let d = if c.nesterov { g + c.momentum * *b } else { *b };
            *w = c.common.moved(*w, c.common.rate * d);
        }
    }
}

/// Adam and AdamW, with everything that does not depend on the parameter worked out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adam<T> {
    /// Its rate is γ / (1 − β₁ᵗ).
    pub(crate) common: Common<T>,
    pub(crate) beta1: T,
    pub(crate) beta2: T,
    /// 1 − β₁ and 1 − β₂, rounded once.
    pub(crate) rest1: T,
    pub(crate) rest2: T,
    /// √(1 − β₂ᵗ)
    pub(crate) root: T,
    pub(crate) epsilon: T,
    /// 1 − γλ
    pub(crate) keep: T,
}

multiversion! {
    /// m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; w ← keep·w − rate·m / (√v / root + ε).
    pub(crate) fn adam<T: Scalar>(
        c: Adam<T>,
        w: &mut [T],
        g: &[T],
        m: &mut [T],
        v: &mut [T],
    ) {
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = c.common.gradient(g);
            *m = c.beta1 * *m + c.rest1 * g;
            *v = c.beta2 * *v + c.rest2 * (g * g);
            let d = c.common.rate * *m / (v.sqrt() / c.root + c.epsilon);
            *w = c.common.moved(*w * c.keep, d);
        }
    }
}

/// Σ x² in f64, in an order that the length alone decides.
pub(crate) fn sum_of_squares<T: Scalar>(x: &[T]) -> f64 {
    dot(x, x)
}

multiversion! {
    /// Whether no element is infinite or NaN.
    pub(crate) fn all_finite<T: Scalar>(x: &[T]) -> bool {
        // Without branches inside a block, so that it is a vector loop; ±∞ · 0 is NaN.
        x.chunks(BLOCK).all(|x| x.iter().fold(true, |ok, &x| ok & (x * T::zero() == T::zero())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu::Cpu;

    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = crate::Philox::new(seed, 0);
        (0..n).map(|_| rng.below(2001) as f64 / 1000.0 - 1.0).collect()
    }

    /// What a kernel leaves in w and in the state.
    type Kernel = fn(&mut [f64], &[f64], &mut [f64], &mut [f64]);

    fn common() -> Common<f64> {
        Common { rate: 0.1, scale: 0.5, limit: 0.4 }
    }

    #[test]
    fn every_level_and_every_split_has_the_same_bits() {
        let kernels: [Kernel; 3] = [
            |w, g, _, _| sgd(common(), 0.01, w, g),
            |w, g, b, _| {
                let (common, decay) = (common(), 0.01);
                momentum(Momentum { common, decay, momentum: 0.9, nesterov: true }, w, g, b);
            },
            |w, g, m, v| {
                let c = Adam {
                    common: common(),
                    beta1: 0.9,
                    beta2: 0.99,
                    rest1: 0.1,
                    rest2: 0.01,
                    root: 0.1,
                    epsilon: 1e-8,
                    keep: 0.999,
                };
                adam(c, w, g, m, v);
            },
        ];
        let n = 131;
        for kernel in kernels {
            let g = numbers(n, 1);
            let start =
                || (numbers(n, 2), numbers(n, 3), numbers(n, 4).iter().map(|x| x * x).collect());
            let mut want: (Vec<f64>, Vec<f64>, Vec<f64>) = start();
            for i in 0..n {
                let (w, m, v) = (&mut want.0[i..=i], &mut want.1[i..=i], &mut want.2[i..=i]);
                kernel(w, &g[i..=i], m, v);
            }
            Cpu::for_each(|cpu| {
                let mut got = start();
                kernel(&mut got.0, &g, &mut got.1, &mut got.2);
                assert_eq!(got, want, "{cpu:?}");
            });
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
}
