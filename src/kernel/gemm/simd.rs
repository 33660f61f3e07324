//! The vector registers that microkernels are written over: AVX-512 and AVX2 + FMA, f32 and f64.
//! Knows nothing of matrices and images.

use crate::Scalar;
use core::arch::x86_64::*;

/// One vector register of `LANES` numbers.
///
/// # Safety
/// Every method needs the instructions of its register type; `load` and `store` need `LANES`
/// readable or writable numbers at `p`, and the `_first` forms as many as their mask has lanes.
pub(in crate::kernel) trait Simd: Copy {
    type T: Scalar;
    /// The first few lanes.
    type Mask: Copy;
    const LANES: usize;
    unsafe fn first(n: usize) -> Self::Mask;
    unsafe fn zero() -> Self;
    unsafe fn splat(x: Self::T) -> Self;
    unsafe fn load(p: *const Self::T) -> Self;
    /// The lanes outside the mask are zero and not read.
    unsafe fn load_first(p: *const Self::T, mask: Self::Mask) -> Self;
    unsafe fn store(self, p: *mut Self::T);
    unsafe fn store_first(self, p: *mut Self::T, mask: Self::Mask);
    unsafe fn add(self, y: Self) -> Self;
    /// self · y + z, rounded once.
    unsafe fn mul_add(self, y: Self, z: Self) -> Self;
    /// The lanes of both in turn: x₀ y₀ x₁ y₁ …, as two registers.
    unsafe fn zip(self, y: Self) -> [Self; 2];
    /// The sum of all lanes, halves added to each other: the same order wherever it is inlined.
    unsafe fn sum(self) -> Self::T;
}

macro_rules! simd {
    ($V:ident, $T:ident, $lanes:literal, $Mask:ident, first($n:ident) = $first:expr,
     load_first($p:ident, $mask:ident) = $load_first:expr, sum($x:ident) = $sum:expr,
     zip($a:ident, $b:ident) = $zip:expr,
     $zero:ident, $splat:ident, $load:ident, $store:ident, $store_first:ident, $add:ident, $mul_add:ident) => {
        #[allow(unused_unsafe)] // masks are plain numbers in AVX-512
        impl Simd for $V {
            type T = $T;
            type Mask = $Mask;
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn first($n: usize) -> $Mask {
                // SAFETY: here and below, what the trait asks of the caller.
                unsafe { $first }
            }
            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: as above.
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn splat(x: $T) -> Self {
                // SAFETY: as above.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn load(p: *const $T) -> Self {
                // SAFETY: as above.
                unsafe { $load(p) }
            }
            #[inline(always)]
            unsafe fn load_first($p: *const $T, $mask: $Mask) -> Self {
                // SAFETY: as above.
                unsafe { $load_first }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $T) {
                // SAFETY: as above.
                unsafe { $store(p, self) }
            }
            #[inline(always)]
            unsafe fn store_first(self, p: *mut $T, mask: $Mask) {
                // SAFETY: as above.
                unsafe { $store_first(p, mask, self) }
            }
            #[inline(always)]
            unsafe fn add(self, y: Self) -> Self {
                // SAFETY: as above.
                unsafe { $add(self, y) }
            }
            #[inline(always)]
            unsafe fn mul_add(self, y: Self, z: Self) -> Self {
                // SAFETY: as above.
                unsafe { $mul_add(self, y, z) }
            }
            #[inline(always)]
            unsafe fn zip(self, $b: Self) -> [Self; 2] {
                let $a = self;
                // SAFETY: as above.
                unsafe { $zip }
            }
            #[inline(always)]
            unsafe fn sum(self) -> $T {
                let $x = self;
                // SAFETY: as above.
                unsafe { $sum }
            }
        }
    };
}

simd!(
    __m512,
    f32,
    16,
    __mmask16,
    first(n) = ((1u32 << n) - 1) as __mmask16,
    load_first(p, mask) = _mm512_maskz_loadu_ps(mask, p),
    sum(x) = _mm256_add_ps(
        _mm512_castps512_ps256(x),
        _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)))
    )
    .sum(),
    zip(a, b) = {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
        [_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b)]
    },
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_mask_storeu_ps,
    _mm512_add_ps,
    _mm512_fmadd_ps
);
simd!(
    __m512d,
    f64,
    8,
    __mmask8,
    first(n) = ((1u32 << n) - 1) as __mmask8,
    load_first(p, mask) = _mm512_maskz_loadu_pd(mask, p),
    sum(x) = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd::<1>(x)).sum(),
    zip(a, b) = {
        let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let high = _mm512_add_epi64(low, _mm512_set1_epi64(4));
        [_mm512_permutex2var_pd(a, low, b), _mm512_permutex2var_pd(a, high, b)]
    },
    _mm512_setzero_pd,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_mask_storeu_pd,
    _mm512_add_pd,
    _mm512_fmadd_pd
);
simd!(
    __m256,
    f32,
    8,
    __m256i,
    first(n) =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
    load_first(p, mask) = _mm256_maskload_ps(p, mask),
    sum(x) = {
        let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    },
    zip(a, b) = {
        let (even, odd) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        [_mm256_permute2f128_ps::<0x20>(even, odd), _mm256_permute2f128_ps::<0x31>(even, odd)]
    },
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_maskstore_ps,
    _mm256_add_ps,
    _mm256_fmadd_ps
);
simd!(
    __m256d,
    f64,
    4,
    __m256i,
    first(n) = _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3)),
    load_first(p, mask) = _mm256_maskload_pd(p, mask),
    sum(x) = {
        let x = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
        _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
    },
    zip(a, b) = {
        let (even, odd) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        [_mm256_permute2f128_pd::<0x20>(even, odd), _mm256_permute2f128_pd::<0x31>(even, odd)]
    },
    _mm256_setzero_pd,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_maskstore_pd,
    _mm256_add_pd,
    _mm256_fmadd_pd
);
