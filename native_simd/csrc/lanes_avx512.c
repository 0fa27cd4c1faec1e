/* AVX-512F: 16 values at a time. */
#include "lanes.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f")
#include <immintrin.h>

enum { WIDTH = 16 };
typedef __m512 V;
typedef __m512i I;

static inline V load(const float *p) { return _mm512_loadu_ps(p); }
static inline void store(float *p, V x) { _mm512_storeu_ps(p, x); }
static inline V splat(float x) { return _mm512_set1_ps(x); }
static inline V plus(V a, V b) { return _mm512_add_ps(a, b); }
static inline V minus(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V times(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V quotient(V a, V b) { return _mm512_div_ps(a, b); }
static inline V root(V a) { return _mm512_sqrt_ps(a); }
static inline V fused(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V less_product(V a, V b, V c) { return _mm512_fnmadd_ps(b, c, a); } /* a - b c */
static inline V lesser(V a, V b) { return _mm512_min_ps(a, b); } /* a < b ? a : b, as scalar: b where one is NaN */
static inline V greater(V a, V b) { return _mm512_max_ps(a, b); }
/* x, but 0 where a is at least b; and NaN where a is not */
static inline V zero_where(V x, V a, V b) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NGE_UQ), x);
}
static inline V nan_unless(V x, V a, V b) {
    return _mm512_mask_mov_ps(splat(__builtin_nanf("")), _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), x);
}

static inline I isplat(int32_t n) { return _mm512_set1_epi32(n); }
static inline I iadd(I a, I b) { return _mm512_add_epi32(a, b); }
static inline I isub(I a, I b) { return _mm512_sub_epi32(a, b); }
static inline I iand(I a, I b) { return _mm512_and_si512(a, b); }
static inline I halve(I n) { return _mm512_srai_epi32(n, 1); }
static inline I shift_left_23(I n) { return _mm512_slli_epi32(n, 23); }
static inline I shift_right_23(I n) { return _mm512_srli_epi32(n, 23); }
static inline V from_integer(I n) { return _mm512_cvtepi32_ps(n); }
static inline I bits(V x) { return _mm512_castps_si512(x); }
static inline V from_bits(I n) { return _mm512_castsi512_ps(n); }

static inline V at_least_one(const uint32_t *fan_out) {
    return _mm512_cvtepu32_ps(_mm512_max_epu32(_mm512_loadu_si512(fan_out), isplat(1)));
}

/* AVX-512F has no conversion from uint64: halves of 32 bits in the fractions of 2^84 and 2^52 are exact, so their sum
 * is rounded once. */
static inline __m512d as_float64(I n) {
    const I at_84 = _mm512_castpd_si512(_mm512_set1_pd(0x1p84)), at_52 = _mm512_castpd_si512(_mm512_set1_pd(0x1p52));
    const __m512d high = _mm512_castsi512_pd(_mm512_or_si512(_mm512_srli_epi64(n, 32), at_84));
    const __m512d low = _mm512_castsi512_pd(_mm512_mask_blend_epi32(0xaaaa, n, at_52));
    return _mm512_add_pd(_mm512_sub_pd(high, _mm512_set1_pd(0x1p84 + 0x1p52)), low);
}

/* (x + 1/2) 2^23, for x up to `most` */
static inline I fixed_point(const __m512d *x, double most) {
    const I low_words = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    I words[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m512d cut = _mm512_min_pd(x[h], _mm512_set1_pd(most));
        words[h] = _mm512_castpd_si512(_mm512_add_pd(cut, _mm512_set1_pd(POINT_23)));
    }
    return _mm512_permutex2var_epi32(words[0], low_words, words[1]);
}

static inline I ticks(const int64_t *from, int64_t to, const int either_way) {
    const I t = _mm512_loadu_si512(from), at = _mm512_set1_epi64(to);
    if (!either_way) return _mm512_maskz_sub_epi64(_mm512_cmplt_epi64_mask(t, at), at, t);
    return _mm512_sub_epi64(_mm512_max_epi64(t, at), _mm512_min_epi64(t, at));
}

static inline I half_lives(const int64_t *from, int64_t to, double per_tick, const int either_way) {
    __m512d passed[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++)
        passed[h] = _mm512_mul_pd(as_float64(ticks(from + 8 * h, to, either_way)), _mm512_set1_pd(per_tick));
    return fixed_point(passed, MOST_HALF_LIVES);
}

static inline I units_above(V s, double midpoint, double per_unit) {
    const __m256 halves[2] = {_mm512_castps512_ps256(s),
                              _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(s), 1))};
    __m512d units[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m512d above = _mm512_sub_pd(_mm512_cvtps_pd(halves[h]), _mm512_set1_pd(midpoint));
        units[h] = _mm512_max_pd(_mm512_mul_pd(above, _mm512_set1_pd(per_unit)), _mm512_set1_pd(LEAST_UNITS));
    }
    return fixed_point(units, MOST_UNITS);
}

#include "bindings_lanes.h"
#include "epilogue_lanes.h"

const ns_lane_kernels ns_lane_kernels_avx512 = LANE_KERNELS("avx512");
#pragma GCC pop_options
#endif
