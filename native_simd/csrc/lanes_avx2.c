/* AVX2 and FMA: 8 values at a time. */
#include "lanes.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include <immintrin.h>

enum { WIDTH = 8 };
typedef __m256 V;
typedef __m256i I;

static inline V load(const float *p) { return _mm256_loadu_ps(p); }
static inline void store(float *p, V x) { _mm256_storeu_ps(p, x); }
static inline V splat(float x) { return _mm256_set1_ps(x); }
static inline V plus(V a, V b) { return _mm256_add_ps(a, b); }
static inline V minus(V a, V b) { return _mm256_sub_ps(a, b); }
static inline V times(V a, V b) { return _mm256_mul_ps(a, b); }
static inline V quotient(V a, V b) { return _mm256_div_ps(a, b); }
static inline V root(V a) { return _mm256_sqrt_ps(a); }
static inline V fused(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
static inline V less_product(V a, V b, V c) { return _mm256_fnmadd_ps(b, c, a); } /* a - b c */
static inline V lesser(V a, V b) { return _mm256_min_ps(a, b); } /* a < b ? a : b, as scalar: b where one is NaN */
static inline V greater(V a, V b) { return _mm256_max_ps(a, b); }
/* x, but 0 where a is at least b; and NaN where a is not */
static inline V zero_where(V x, V a, V b) { return _mm256_andnot_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ), x); }
static inline V nan_unless(V x, V a, V b) { return _mm256_or_ps(_mm256_cmp_ps(a, b, _CMP_NGE_UQ), x); }

static inline I isplat(int32_t n) { return _mm256_set1_epi32(n); }
static inline I iadd(I a, I b) { return _mm256_add_epi32(a, b); }
static inline I isub(I a, I b) { return _mm256_sub_epi32(a, b); }
static inline I iand(I a, I b) { return _mm256_and_si256(a, b); }
static inline I halve(I n) { return _mm256_srai_epi32(n, 1); }
static inline I shift_left_23(I n) { return _mm256_slli_epi32(n, 23); }
static inline I shift_right_23(I n) { return _mm256_srli_epi32(n, 23); }
static inline V from_integer(I n) { return _mm256_cvtepi32_ps(n); }
static inline I bits(V x) { return _mm256_castps_si256(x); }
static inline V from_bits(I n) { return _mm256_castsi256_ps(n); }

/* There is no conversion from uint32: two halves of 16 bits are exact, so their sum is rounded once. */
static inline V at_least_one(const uint32_t *fan_out) {
    const I n = _mm256_max_epu32(_mm256_loadu_si256((const I *)fan_out), isplat(1));
    const I high = _mm256_srli_epi32(n, 16), low = _mm256_and_si256(n, isplat(0xffff));
    return fused(from_integer(high), splat(0x1p16f), from_integer(low));
}

/* Nor one from uint64: halves of 32 bits in the fractions of 2^84 and 2^52; again one rounding. */
static inline __m256d as_float64(I n) {
    const I at_84 = _mm256_castpd_si256(_mm256_set1_pd(0x1p84)), at_52 = _mm256_castpd_si256(_mm256_set1_pd(0x1p52));
    const __m256d high = _mm256_castsi256_pd(_mm256_or_si256(_mm256_srli_epi64(n, 32), at_84));
    const __m256d low = _mm256_castsi256_pd(_mm256_blend_epi32(n, at_52, 0xaa));
    return _mm256_add_pd(_mm256_sub_pd(high, _mm256_set1_pd(0x1p84 + 0x1p52)), low);
}

/* (x + 1/2) 2^23, for x up to `most`; a shuffle stays within 128 bits, hence the permutation. */
static inline I fixed_point(const __m256d *x, double most) {
    __m256 words[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m256d cut = _mm256_min_pd(x[h], _mm256_set1_pd(most));
        words[h] = _mm256_castpd_ps(_mm256_add_pd(cut, _mm256_set1_pd(POINT_23)));
    }
    return _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(words[0], words[1], 0x88)), 0xd8);
}

static inline I ticks(const int64_t *from, int64_t to, const int either_way) {
    const I t = _mm256_loadu_si256((const I *)from), at = _mm256_set1_epi64x(to), forward = _mm256_sub_epi64(at, t);
    if (!either_way) return _mm256_and_si256(forward, _mm256_cmpgt_epi64(at, t));
    const I backward = _mm256_cmpgt_epi64(t, at);
    return _mm256_sub_epi64(_mm256_xor_si256(forward, backward), backward);
}

static inline I half_lives(const int64_t *from, int64_t to, double per_tick, const int either_way) {
    __m256d passed[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++)
        passed[h] = _mm256_mul_pd(as_float64(ticks(from + 4 * h, to, either_way)), _mm256_set1_pd(per_tick));
    return fixed_point(passed, MOST_HALF_LIVES);
}

static inline I units_above(V s, double midpoint, double per_unit) {
    const __m128 halves[2] = {_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)};
    __m256d units[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m256d above = _mm256_sub_pd(_mm256_cvtps_pd(halves[h]), _mm256_set1_pd(midpoint));
        units[h] = _mm256_max_pd(_mm256_mul_pd(above, _mm256_set1_pd(per_unit)), _mm256_set1_pd(LEAST_UNITS));
    }
    return fixed_point(units, MOST_UNITS);
}

#include "bindings_lanes.h"
#include "epilogue_lanes.h"

const ns_lane_kernels ns_lane_kernels_avx2 = LANE_KERNELS("avx2");
#pragma GCC pop_options
#endif
