//! Vectors as methods over a whole batch need them: elements in the scalar type, sums in f64.

use crate::kernel::cpu::multiversion;
use crate::scalar::Scalar;

/// Elements whose products are added up before the sum joins that of the others.
pub(crate) const BLOCK: usize = 4096;
/// Sums that go side by side in a block: eight AVX-512 registers of f64, which hide how long an
/// addition takes.
const LANES: usize = 64;

/// Σ x·y in f64, in an order that the length alone decides.
pub(crate) fn dot<T: Scalar>(x: &[T], y: &[T]) -> f64 {
    x.chunks(BLOCK).zip(y.chunks(BLOCK)).map(|(x, y)| block_dot(x, y)).sum()
}

multiversion! {
    fn block_dot<T: Scalar>(x: &[T], y: &[T]) -> f64 {
        let mut lanes = [0.0; LANES];
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        for (x, y) in x.iter().zip(y) {
            add_products(&mut lanes, x, y);
        }
        add_products(&mut lanes, x_rest, y_rest);
        folded(lanes)
    }
}

/// [`add_scaled`], then [`dot`] of y and z, in one pass.
pub(crate) fn add_scaled_dot<T: Scalar>(y: &mut [T], a: f64, x: &[T], z: &[T]) -> f64 {
    let blocks = y.chunks_mut(BLOCK).zip(x.chunks(BLOCK).zip(z.chunks(BLOCK)));
    blocks.map(|(y, (x, z))| block_add_scaled_dot(y, a, x, z)).sum()
}

multiversion! {
    fn block_add_scaled_dot<T: Scalar>(y: &mut [T], a: f64, x: &[T], z: &[T]) -> f64 {
        let mut lanes = [0.0; LANES];
        let ((y, y_rest), (x, x_rest)) = (y.as_chunks_mut::<LANES>(), x.as_chunks::<LANES>());
        let (z, z_rest) = z.as_chunks::<LANES>();
        for (y, (x, z)) in y.iter_mut().zip(x.iter().zip(z)) {
            add_to_each(y, a, x);
            add_products(&mut lanes, y, z);
        }
        add_to_each(y_rest, a, x_rest);
        add_products(&mut lanes, y_rest, z_rest);
        folded(lanes)
    }
}

/// Each lane's product of x and y joins its sum.
#[inline(always)]
fn add_products<T: Scalar>(lanes: &mut [f64; LANES], x: &[T], y: &[T]) {
    for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
        *lane += x.to_f64() * y.to_f64();
    }
}

/// The sum of all lanes: in halves down to as many as one register chain has, then in turn.
#[inline(always)]
fn folded(mut lanes: [f64; LANES]) -> f64 {
    for width in [LANES / 2, LANES / 4] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[..LANES / 4].iter().sum()
}

#[inline(always)]
fn add_to_each<T: Scalar>(y: &mut [T], a: f64, x: &[T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = T::lit(y.to_f64() + a * x.to_f64());
    }
}

multiversion! {
    /// y ← y + ax, each sum rounded once from f64.
    pub(crate) fn add_scaled<T: Scalar>(y: &mut [T], a: f64, x: &[T]) {
        add_to_each(y, a, x);
    }
}

multiversion! {
    /// y ← ax
    pub(crate) fn scaled<T: Scalar>(y: &mut [T], a: f64, x: &[T]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = T::lit(a * x.to_f64());
        }
    }
}

multiversion! {
    /// y ← ay
    pub(crate) fn scale<T: Scalar>(y: &mut [T], a: f64) {
        for y in y {
            *y = T::lit(a * y.to_f64());
        }
    }
}

multiversion! {
    /// z ← x + ay; whether that differs from x anywhere.
    pub(crate) fn moved<T: Scalar>(z: &mut [T], x: &[T], a: f64, y: &[T]) -> bool {
        let mut any = false;
        for ((z, &x), y) in z.iter_mut().zip(x).zip(y) {
            *z = T::lit(x.to_f64() + a * y.to_f64());
            any |= *z != x;
        }
        any
    }
}

multiversion! {
    /// y ← y + x
    pub(crate) fn add<T: Scalar>(y: &mut [T], x: &[T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

multiversion! {
    /// z ← x + y
    pub(crate) fn sum<T: Scalar>(z: &mut [T], x: &[T], y: &[T]) {
        for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
            *z = x + y;
        }
    }
}

multiversion! {
    /// y ← xy, elementwise
    pub(crate) fn multiply<T: Scalar>(y: &mut [T], x: &[T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y *= x;
        }
    }
}

multiversion! {
    /// z ← xy, elementwise
    pub(crate) fn product<T: Scalar>(z: &mut [T], x: &[T], y: &[T]) {
        for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
            *z = x * y;
        }
    }
}

multiversion! {
    /// z ← x/y, elementwise
    pub(crate) fn divide<T: Scalar>(z: &mut [T], x: &[T], y: &[T]) {
        for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
            *z = x / y;
        }
    }
}

multiversion! {
    /// d ← 1 / (a/d + by² − cz²), elementwise, where that is a positive number of this type.
    pub(crate) fn rescale<T: Scalar>(d: &mut [T], y: &[T], z: &[T], factors: [f64; 3]) {
        let [a, b, c] = factors;
        for ((d, y), z) in d.iter_mut().zip(y).zip(z) {
            let (y, z) = (y.to_f64(), z.to_f64());
            let new = T::lit(1.0 / (a / d.to_f64() + b * (y * y) - c * (z * z)));
            if new > T::zero() && new < T::infinity() {
                *d = new;
            }
        }
    }
}

multiversion! {
    /// z ← x − y
    pub(crate) fn difference<T: Scalar>(z: &mut [T], x: &[T], y: &[T]) {
        for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
            *z = x - y;
        }
    }
}

multiversion! {
    /// max |x|, of numbers that are not NaN; 0 if there are none.
    pub(crate) fn max_norm<T: Scalar>(x: &[T]) -> f64 {
        x.iter().fold(T::zero(), |max, &x| if x.abs() > max { x.abs() } else { max }).to_f64()
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

    #[test]
    fn products_are_summed_alike_at_every_level() {
        let (x, y) = (numbers(3 * BLOCK + 7, 5), numbers(3 * BLOCK + 7, 6));
        let thousandths = |x: f64| (x * 1000.0).round() as i64;
        let exact: i64 = x.iter().zip(&y).map(|(&x, &y)| thousandths(x) * thousandths(y)).sum();
        let mut sums = vec![];
        Cpu::for_each(|_| sums.push(dot(&x, &y)));
        assert!(sums.iter().all(|s| s.to_bits() == sums[0].to_bits()));
        assert!((sums[0] - exact as f64 / 1e6).abs() < 1e-11, "{} {exact}", sums[0]);
        assert_eq!(dot(&[1e30f32, 1e30], &[1e30, 1e30]), 2.0 * f64::from(1e30f32).powi(2));
        assert_eq!(dot::<f32>(&[], &[]), 0.0);
        let z = numbers(x.len(), 7);
        Cpu::for_each(|cpu| {
            let (mut one, mut two) = (x.clone(), x.clone());
            add_scaled(&mut two, -0.3, &y);
            let both = (dot(&two, &z), two);
            assert!((add_scaled_dot(&mut one, -0.3, &y, &z), one) == both, "{cpu:?}");
        });
    }

    #[test]
    fn elementwise_ones_equal_plain_loops_at_every_level() {
        let n = 131;
        let (x, y) = (numbers(n, 1), numbers(n, 2));
        let want = |f: fn(f64, f64) -> f64| -> Vec<f64> {
            x.iter().zip(&y).map(|(&x, &y)| f(x, y)).collect()
        };
        Cpu::for_each(|cpu| {
            let mut z = x.clone();
            add_scaled(&mut z, 0.3, &y);
            assert_eq!(z, want(|x, y| x + 0.3 * y), "{cpu:?}");
            scaled(&mut z, 2.0, &y);
            scale(&mut z, -0.15);
            assert_eq!(z, want(|_, y| -0.15 * (2.0 * y)), "{cpu:?}");
            assert!(moved(&mut z, &x, 0.7, &y) && !moved(&mut z, &x, 1e-30, &y));
            assert_eq!(z, x);
            difference(&mut z, &x, &y);
            assert_eq!(z, want(|x, y| x - y), "{cpu:?}");
            multiply(&mut z, &y);
            assert_eq!(z, want(|x, y| (x - y) * y), "{cpu:?}");
            product(&mut z, &x, &y);
            assert_eq!(z, want(|x, y| x * y), "{cpu:?}");
            divide(&mut z, &x, &y);
            assert_eq!(z, want(|x, y| x / y), "{cpu:?}");
            z.fill(2.0);
            rescale(&mut z, &x, &y, [1.0, 0.5, 2.0]);
            let rescaled = |x: f64, y: f64| match 1.0 / (0.5 + 0.5 * (x * x) - 2.0 * (y * y)) {
                z if z > 0.0 => z,
                _ => 2.0,
            };
            let close = |(z, want): (&f64, f64)| (z - want).abs() <= 1e-9 * want;
            assert!(z.iter().zip(want(rescaled)).all(close), "{cpu:?}");
            let largest = x.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
            assert_eq!(max_norm(&x), largest);
        });
        assert_eq!(max_norm::<f32>(&[]), 0.0);
    }
}
