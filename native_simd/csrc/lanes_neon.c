/* NEON (AArch64): 4 values at a time. */
#include "lanes.h"

#if defined(__aarch64__)
#include <arm_neon.h>

enum { WIDTH = 4 };
typedef float32x4_t V;
typedef int32x4_t I;

static inline V load(const float *p) { return vld1q_f32(p); }
static inline void store(float *p, V x) { vst1q_f32(p, x); }
static inline V splat(float x) { return vdupq_n_f32(x); }
static inline V plus(V a, V b) { return vaddq_f32(a, b); }
static inline V minus(V a, V b) { return vsubq_f32(a, b); }
static inline V times(V a, V b) { return vmulq_f32(a, b); }
static inline V quotient(V a, V b) { return vdivq_f32(a, b); }
static inline V root(V a) { return vsqrtq_f32(a); }
static inline V fused(V a, V b, V c) { return vfmaq_f32(c, a, b); }
static inline V less_product(V a, V b, V c) { return vfmsq_f32(a, b, c); } /* a - b c */
/* a < b ? a : b, as scalar; vminq orders zeros and NaN otherwise */
static inline V lesser(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline V greater(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
/* x, but 0 where a is at least b; and NaN where a is not */
static inline V zero_where(V x, V a, V b) { return vbslq_f32(vcgeq_f32(a, b), splat(0.0f), x); }
static inline V nan_unless(V x, V a, V b) { return vbslq_f32(vcgeq_f32(a, b), x, splat(__builtin_nanf(""))); }

static inline I isplat(int32_t n) { return vdupq_n_s32(n); }
static inline I iadd(I a, I b) { return vaddq_s32(a, b); }
static inline I isub(I a, I b) { return vsubq_s32(a, b); }
static inline I iand(I a, I b) { return vandq_s32(a, b); }
static inline I halve(I n) { return vshrq_n_s32(n, 1); }
static inline I shift_left_23(I n) { return vshlq_n_s32(n, 23); }
static inline I shift_right_23(I n) { return vshrq_n_s32(n, 23); }
static inline V from_integer(I n) { return vcvtq_f32_s32(n); }
static inline I bits(V x) { return vreinterpretq_s32_f32(x); }
static inline V from_bits(I n) { return vreinterpretq_f32_s32(n); }

static inline V at_least_one(const uint32_t *fan_out) {
    return vcvtq_f32_u32(vmaxq_u32(vld1q_u32(fan_out), vdupq_n_u32(1)));
}

/* (x + 1/2) 2^23, for x up to `most` */
static inline I fixed_point(const float64x2_t *x, double most) {
    I words[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++)
        words[h] = vreinterpretq_s32_f64(vaddq_f64(vminq_f64(x[h], vdupq_n_f64(most)), vdupq_n_f64(POINT_23)));
    return vuzp1q_s32(words[0], words[1]);
}

static inline uint64x2_t ticks(const int64_t *from, int64_t to, const int either_way) {
    const int64x2_t t = vld1q_s64(from), at = vdupq_n_s64(to), forward = vsubq_s64(at, t);
    const int64x2_t otherwise = either_way ? vsubq_s64(t, at) : vdupq_n_s64(0);
    return vreinterpretq_u64_s64(vbslq_s64(vcltq_s64(t, at), forward, otherwise));
}

static inline I half_lives(const int64_t *from, int64_t to, double per_tick, const int either_way) {
    float64x2_t passed[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) passed[h] = vmulq_n_f64(vcvtq_f64_u64(ticks(from + 2 * h, to, either_way)), per_tick);
    return fixed_point(passed, MOST_HALF_LIVES);
}

static inline I units_above(V s, double midpoint, double per_unit) {
    const float64x2_t halves[2] = {vcvt_f64_f32(vget_low_f32(s)), vcvt_high_f64_f32(s)};
    float64x2_t units[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const float64x2_t above = vsubq_f64(halves[h], vdupq_n_f64(midpoint));
        units[h] = vmaxq_f64(vmulq_n_f64(above, per_unit), vdupq_n_f64(LEAST_UNITS));
    }
    return fixed_point(units, MOST_UNITS);
}

#include "bindings_lanes.h"
#include "epilogue_lanes.h"

const ns_lane_kernels ns_lane_kernels_neon = LANE_KERNELS("neon");
#endif
