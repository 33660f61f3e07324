//! What follows the product of a step, elementwise, and its gradient: vector loops over slices of
//! equal length.
#![allow(clippy::too_many_arguments)] // as slices of their own the loops know them to be apart

use crate::kernel::cpu::multiversion;
use crate::kernel::math::{Elementary, Math};

multiversion! {
    /// From pre-activations to gates, in place; the new states.
    pub(super) fn lstm<L: Level, T: Elementary>(
        i: &mut [T], f: &mut [T], g: &mut [T], o: &mut [T], c: &[T], new_c: &mut [T], h: &mut [T],
    ) {
        let n = h.len();
        let (i, f, g, o) = (&mut i[..n], &mut f[..n], &mut g[..n], &mut o[..n]);
        let (c, new_c) = (&c[..n], &mut new_c[..n]);
        for k in 0..n {
            i[k] = L::sigmoid(i[k]);
            f[k] = L::sigmoid(f[k]);
            g[k] = L::tanh(g[k]);
            o[k] = L::sigmoid(o[k]);
            new_c[k] = L::mul_add(f[k], c[k], i[k] * g[k]);
            h[k] = o[k] * L::tanh(new_c[k]);
        }
    }
}

multiversion! {
    /// The cotangents of the pre-activations and of the state c before.
    pub(super) fn lstm_gradient<L: Level, T: Elementary>(
        i: &[T], f: &[T], g: &[T], o: &[T], c: &[T], new_c: &[T], dh: &[T], dnew_c: &[T],
        dc: &mut [T], di: &mut [T], df: &mut [T], dg: &mut [T], do_: &mut [T],
    ) {
        let n = dh.len();
        let (i, f, g, o, c, new_c) = (&i[..n], &f[..n], &g[..n], &o[..n], &c[..n], &new_c[..n]);
        let (dnew_c, dc) = (&dnew_c[..n], &mut dc[..n]);
        let (di, df, dg, do_) = (&mut di[..n], &mut df[..n], &mut dg[..n], &mut do_[..n]);
        let one = T::lit(1.0);
        for k in 0..n {
            let tanh = L::tanh(new_c[k]);
            let through = dh[k] * o[k];
            let d = L::mul_add(through, (one - tanh) * (one + tanh), dnew_c[k]);
            do_[k] = dh[k] * tanh * (o[k] * (one - o[k]));
            di[k] = d * g[k] * (i[k] * (one - i[k]));
            df[k] = d * c[k] * (f[k] * (one - f[k]));
            dg[k] = d * i[k] * ((one - g[k]) * (one + g[k]));
            dc[k] = d * f[k];
        }
    }
}

multiversion! {
    /// From pre-activations to gates, in place, given the product n; the new state.
    pub(super) fn gru<L: Level, T: Elementary>(
        r: &mut [T], z: &mut [T], n: &mut [T], product: &[T], h: &[T], new_h: &mut [T],
    ) {
        let len = new_h.len();
        let (r, z, n) = (&mut r[..len], &mut z[..len], &mut n[..len]);
        let (product, h) = (&product[..len], &h[..len]);
        for k in 0..len {
            r[k] = L::sigmoid(r[k]);
            z[k] = L::sigmoid(z[k]);
            n[k] = L::tanh(L::mul_add(r[k], product[k], n[k]));
            new_h[k] = L::mul_add(z[k], h[k] - n[k], n[k]);
        }
    }
}

multiversion! {
    /// The cotangents of the pre-activations and of the product n, and what goes to the state
    /// before without a product.
    pub(super) fn gru_gradient<L: Level, T: Elementary>(
        r: &[T], z: &[T], n: &[T], product: &[T], h: &[T], dnew_h: &[T],
        dh: &mut [T], dr: &mut [T], dz: &mut [T], dn: &mut [T], dproduct: &mut [T],
    ) {
        let len = dnew_h.len();
        let (r, z, n) = (&r[..len], &z[..len], &n[..len]);
        let (product, h, dh) = (&product[..len], &h[..len], &mut dh[..len]);
        let (dr, dz, dn) = (&mut dr[..len], &mut dz[..len], &mut dn[..len]);
        let dproduct = &mut dproduct[..len];
        let one = T::lit(1.0);
        for k in 0..len {
            let d = dnew_h[k];
            let of_n = d * (one - z[k]) * ((one - n[k]) * (one + n[k]));
            dn[k] = of_n;
            dproduct[k] = of_n * r[k];
            dr[k] = of_n * product[k] * (r[k] * (one - r[k]));
            dz[k] = d * (h[k] - n[k]) * (z[k] * (one - z[k]));
            dh[k] = d * z[k];
        }
    }
}

multiversion! {
    pub(super) fn tanh<L: Level, T: Elementary>(a: &[T], h: &mut [T]) {
        for (h, &a) in h.iter_mut().zip(a) {
            *h = L::tanh(a);
        }
    }
}

multiversion! {
    pub(super) fn tanh_gradient<L: Level, T: Elementary>(h: &[T], dh: &[T], da: &mut [T]) {
        for ((da, &h), &dh) in da.iter_mut().zip(h).zip(dh) {
            *da = dh * ((T::lit(1.0) - h) * (T::lit(1.0) + h));
        }
    }
}

multiversion! {
    pub(super) fn relu<L: Level, T: Elementary>(a: &[T], h: &mut [T]) {
        for (h, &a) in h.iter_mut().zip(a) {
            // NaN stays.
            *h = if a < T::lit(0.0) { T::lit(0.0) } else { a };
        }
    }
}

multiversion! {
    pub(super) fn relu_gradient<L: Level, T: Elementary>(h: &[T], dh: &[T], da: &mut [T]) {
        for ((da, &h), &dh) in da.iter_mut().zip(h).zip(dh) {
            *da = if h > T::lit(0.0) { dh } else { T::lit(0.0) };
        }
    }
}
