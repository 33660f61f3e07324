//! What one core can do: multiply-adds in registers, and plain loops over arrays that fit each
//! level of memory. Knows nothing of our kernels.

use super::kernel::cpu::{Cpu, multiversion};
use super::least_seconds;
use std::hint::black_box;

/// The measured rates of one core, f32.
pub struct Peaks {
    /// GFLOP/s, a multiply-add counted as two.
    pub flops: f64,
    levels: [Level; 5],
}

/// GB/s over arrays of `bytes` in all; what a cache reads before it is written is not counted.
pub struct Level {
    bytes: usize,
    pub read: f64,
    pub copy: f64,
    pub triad: f64,
}

impl Peaks {
    pub fn measure() -> Peaks {
        // For most machines: within L1, L2, a part of L3, around its size, and far above.
        let sizes = [24, 512, 8 << 10, 40 << 10, 256 << 10].map(|kib| kib << 10);
        Peaks { flops: flops(), levels: sizes.map(Level::measure) }
    }

    /// The level whose measured arrays were the least ones not smaller than this.
    pub fn level(&self, bytes: usize) -> &Level {
        let [.., memory] = &self.levels;
        self.levels.iter().find(|l| bytes <= l.bytes).unwrap_or(memory)
    }

    pub fn print(&self) {
        println!("{:?}: {:.1} GFLOP/s of f32 multiply-adds; GB/s:", Cpu::get(), self.flops);
        println!("{:>10}{:>8}{:>8}{:>8}", "KiB", "read", "copy", "triad");
        for Level { bytes, read, copy, triad } in &self.levels {
            println!("{:>10}{read:>8.1}{copy:>8.1}{triad:>8.1}", bytes >> 10);
        }
    }
}

impl Level {
    fn measure(bytes: usize) -> Level {
        let floats = |arrays: usize| vec![1f32; bytes / arrays / size_of::<f32>()];
        let rate = |moved: usize, run: &mut dyn FnMut()| moved as f64 / least_seconds(run) * 1e-9;
        let x = floats(1);
        let read = rate(bytes, &mut || {
            black_box(sum(black_box(&x)));
        });
        drop(x);
        let (mut a, b) = (floats(2), floats(2));
        let copy = rate(bytes, &mut || copy_to(black_box(&mut a), black_box(&b)));
        drop((a, b));
        let (mut a, b, c) = (floats(3), floats(3), floats(3));
        let triad = rate(bytes, &mut || triad_to(black_box(&mut a), &b, black_box(&c)));
        Level { bytes, read, copy, triad }
    }
}

multiversion! {
    fn sum(x: &[f32]) -> f32 {
        let mut lanes = [0f32; 128];
        for x in x.as_chunks::<128>().0 {
            for (lane, x) in lanes.iter_mut().zip(x) {
                *lane += x;
            }
        }
        lanes.iter().sum()
    }
}

multiversion! {
    fn copy_to(a: &mut [f32], b: &[f32]) {
        a.copy_from_slice(b);
    }
}

multiversion! {
    fn triad_to(a: &mut [f32], b: &[f32], c: &[f32]) {
        for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
            *a = b + 3.0 * c;
        }
    }
}

/// GFLOP/s of independent multiply-adds in registers, with the widest the machine has.
fn flops() -> f64 {
    const ROUNDS: usize = 100_000;
    let rate = |lanes: usize, run: &mut dyn FnMut()| {
        (2 * ACCUMULATORS * lanes * ROUNDS) as f64 / least_seconds(run) * 1e-9
    };
    match Cpu::get() {
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx512 => rate(16, &mut || {
            // SAFETY: the machine has the features; `Cpu::get` looked.
            black_box(unsafe { x86::fma_512(black_box(ROUNDS)) });
        }),
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx2Fma => rate(8, &mut || {
            // SAFETY: as above.
            black_box(unsafe { x86::fma_256(black_box(ROUNDS)) });
        }),
        _ => rate(4, &mut || {
            black_box(mul_add_portable(black_box(ROUNDS)));
        }),
    }
}

/// More than the latency of a multiply-add times the units that do it.
const ACCUMULATORS: usize = 12;

/// Where the target guarantees no fused multiply-add: a product and a sum.
fn mul_add_portable(rounds: usize) -> [[f32; 4]; ACCUMULATORS] {
    let (m, mut a) = (black_box(0.9), [[1f32; 4]; ACCUMULATORS]);
    for _ in 0..rounds {
        for a in a.iter_mut().flatten() {
            *a = *a * m + 0.5;
        }
    }
    a
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::ACCUMULATORS;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub fn fma_512(rounds: usize) -> [__m512; ACCUMULATORS] {
        let (m, c) = (_mm512_set1_ps(black_box(0.9)), _mm512_set1_ps(0.5));
        let mut a = [_mm512_set1_ps(1.0); ACCUMULATORS];
        for _ in 0..rounds {
            for a in &mut a {
                *a = _mm512_fmadd_ps(*a, m, c);
            }
        }
        a
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn fma_256(rounds: usize) -> [__m256; ACCUMULATORS] {
        let (m, c) = (_mm256_set1_ps(black_box(0.9)), _mm256_set1_ps(0.5));
        let mut a = [_mm256_set1_ps(1.0); ACCUMULATORS];
        for _ in 0..rounds {
            for a in &mut a {
                *a = _mm256_fmadd_ps(*a, m, c);
            }
        }
        a
    }
}
