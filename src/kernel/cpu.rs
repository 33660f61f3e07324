//! Which instructions this machine has, found once, and loops compiled once for each level.
//! Knows nothing of what the loops compute.

use crate::Scalar;
use std::sync::OnceLock;

/// What the loops may use, least first. `GRADTAPE_CPU=portable|avx2|avx512` lowers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cpu {
    /// What the target guarantees.
    Portable,
    /// x86-64-v3: 256-bit registers and fused multiply-add.
    Avx2Fma,
    /// x86-64-v4: 512-bit registers.
    Avx512,
}

impl Cpu {
    /// The level to run at; never above what the machine has.
    #[inline]
    pub(crate) fn get() -> Cpu {
        #[cfg(test)]
        if let Some(cpu) = FORCED.get() {
            return cpu;
        }
        static LEVEL: OnceLock<Cpu> = OnceLock::new();
        *LEVEL.get_or_init(|| match std::env::var("GRADTAPE_CPU").as_deref() {
            Ok("portable") => Cpu::Portable,
            Ok("avx2") => Cpu::detect().min(Cpu::Avx2Fma),
            _ => Cpu::detect(),
        })
    }

    fn detect() -> Cpu {
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! has {
                ($($feature:tt),*) => { $(is_x86_feature_detected!($feature))&&* };
            }
            if has!("avx2", "fma", "bmi1", "bmi2", "lzcnt", "f16c", "movbe") {
                if has!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl") {
                    return Cpu::Avx512;
                }
                return Cpu::Avx2Fma;
            }
        }
        Cpu::Portable
    }

    /// Runs `f` once at each level that the machine has, on this thread.
    #[cfg(test)]
    pub(crate) fn for_each(mut f: impl FnMut(Cpu)) {
        for cpu in [Cpu::Portable, Cpu::Avx2Fma, Cpu::Avx512] {
            if cpu <= Cpu::detect() {
                FORCED.set(Some(cpu));
                f(cpu);
            }
        }
        FORCED.set(None);
    }
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Cpu>> = const { std::cell::Cell::new(None) };
}

/// How a level rounds a product and a sum: what differs between levels, and nothing else does.
pub(crate) trait Level: Copy {
    /// Whether [`Level::mul_add`] rounds once.
    const FUSED: bool;
    /// a·b + c by the fastest instructions of the level.
    fn mul_add<T: Scalar>(a: T, b: T, c: T) -> T;
}

/// Rounds once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fused;

/// Rounds twice: a fused operation would be a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfused;

/// The level of [`Cpu::Portable`].
#[cfg(any(target_feature = "fma", target_arch = "aarch64"))]
pub(crate) type Portable = Fused;
/// The level of [`Cpu::Portable`].
#[cfg(not(any(target_feature = "fma", target_arch = "aarch64")))]
pub(crate) type Portable = Unfused;

impl Level for Fused {
    const FUSED: bool = true;
    #[inline(always)]
    fn mul_add<T: Scalar>(a: T, b: T, c: T) -> T {
        a.mul_add(b, c)
    }
}

impl Level for Unfused {
    const FUSED: bool = false;
    #[inline(always)]
    fn mul_add<T: Scalar>(a: T, b: T, c: T) -> T {
        a * b + c
    }
}

/// Bytes of a cache line.
pub(in crate::kernel) const LINE: usize = 64;

/// Asks for the cache line of `x` to be brought into L2, where there is an instruction for it.
#[inline(always)]
pub(in crate::kernel) fn fetch<T>(x: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that every x86-64 has; it accesses nothing.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(x).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// `multiversion! { fn name<T: Scalar>(x: &[T]) -> T { … } }`: the same safe loop compiled for each
/// [`Cpu`] level, and the right one called. What the body calls must be `#[inline(always)]` to
/// be compiled with it. The bits are the same at every level: Rust neither reorders sums nor
/// contracts products by itself.
///
/// With a first parameter `L: Level` the body is told its level and may use [`Level::mul_add`].
/// Then AVX2 and AVX-512 give the same bits, and on x86-64 `Cpu::Portable` others.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$level:ident: Level, $($gen:ident : $bound:path),+>
     ($($arg:ident : $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $crate::kernel::cpu::multiversion! {
            @ [$(#[$meta])* $vis] $name [$level: Level] [$($gen: $bound),+] [$($arg: $ty),*]
            [$(-> $out)?] $body
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($gen:ident : $bound:path),+>)?
     ($($arg:ident : $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $crate::kernel::cpu::multiversion! {
            @ [$(#[$meta])* $vis] $name [] [$($($gen: $bound),+)?] [$($arg: $ty),*]
            [$(-> $out)?] $body
        }
    };
    (@ [$($head:tt)*] $name:ident [$($level:ident: Level)?] [$($gen:ident : $bound:path),*]
     [$($arg:ident : $ty:ty),*] [$($out:tt)*] $body:block) => {
        $($head)* fn $name<$($gen: $bound),*>($($arg: $ty),*) $($out)* {
            #[inline(always)]
            fn body<$($level: $crate::kernel::cpu::Level,)? $($gen: $bound),*>($($arg: $ty),*)
            $($out)* $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,f16c,movbe")]
            fn avx2<$($gen: $bound),*>($($arg: $ty),*) $($out)* {
                $(type $level = $crate::kernel::cpu::Fused;)?
                body::<$($level,)? $($gen),*>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,f16c,movbe")]
            fn avx512<$($gen: $bound),*>($($arg: $ty),*) $($out)* {
                $(type $level = $crate::kernel::cpu::Fused;)?
                body::<$($level,)? $($gen),*>($($arg),*)
            }
            $(type $level = $crate::kernel::cpu::Portable;)?
            match $crate::kernel::cpu::Cpu::get() {
                // SAFETY: the machine has the features; `Cpu::get` looked.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::cpu::Cpu::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::cpu::Cpu::Avx2Fma => unsafe { avx2($($arg),*) },
                _ => body::<$($level,)? $($gen),*>($($arg),*),
            }
        }
    };
}
pub(crate) use multiversion;

#[cfg(test)]
mod tests {
    use super::*;

    multiversion! {
        /// Σ x·y over eight lanes.
        fn dot<T: Scalar>(x: &[T], y: &[T]) -> T {
            let mut lanes = [T::zero(); 8];
            for (x, y) in x.chunks_exact(8).zip(y.chunks_exact(8)) {
                for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
                    *lane += x * y;
                }
            }
            lanes.into_iter().sum()
        }
    }
    multiversion! {
        fn map<F: Fn(f32) -> f32>(f: F, y: &mut [f32]) {
            y.iter_mut().for_each(|y| *y = f(*y));
        }
    }

    #[test]
    fn every_level_computes_the_same_bits() {
        let x: Vec<f64> = (0..64).map(|i| (i as f64).sqrt()).collect();
        let want: f64 = (0..8).map(|l| x[l..].iter().step_by(8).fold(0.0, |s, x| s + x * x)).sum();
        let mut levels = vec![];
        Cpu::for_each(|cpu| {
            assert_eq!(Cpu::get(), cpu);
            assert_eq!(dot::<f64>(&x, &x), want);
            let mut y = [1.0, 2.0, 3.0];
            map(|y| 2.0 * y, &mut y);
            assert_eq!(y, [2.0, 4.0, 6.0]);
            levels.push(cpu);
        });
        assert!(levels[0] == Cpu::Portable && levels.is_sorted());
    }
}
