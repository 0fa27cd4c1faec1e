/* The reference: one value at a time, compiled without auto-vectorisation, so that "scalar" is scalar. */
#pragma GCC optimize("no-tree-vectorize")
#include <math.h>

#include "lanes.h"

enum { WIDTH = 1 };
typedef float V;
typedef uint32_t I;

static inline V load(const float *p) { return *p; }
static inline void store(float *p, V x) { *p = x; }
static inline V splat(float x) { return x; }
static inline V plus(V a, V b) { return a + b; }
static inline V minus(V a, V b) { return a - b; }
static inline V times(V a, V b) { return a * b; }
static inline V quotient(V a, V b) { return a / b; }
static inline V root(V a) { return sqrtf(a); }
static inline V fused(V a, V b, V c) { return fmaf(a, b, c); }
static inline V less_product(V a, V b, V c) { return fmaf(-b, c, a); } /* a - b c */
static inline V lesser(V a, V b) { return a < b ? a : b; }
static inline V greater(V a, V b) { return a > b ? a : b; }
/* x, but 0 where a is at least b; and NaN where a is not */
static inline V zero_where(V x, V a, V b) { return a >= b ? 0.0f : x; }
static inline V nan_unless(V x, V a, V b) { return a >= b ? x : NAN; }

static inline I isplat(int32_t n) { return (I)n; }
static inline I iadd(I a, I b) { return a + b; }
static inline I isub(I a, I b) { return a - b; }
static inline I iand(I a, I b) { return a & b; }
static inline I halve(I n) { return (I)((int32_t)n >> 1); }
static inline I shift_left_23(I n) { return n << 23; }
static inline I shift_right_23(I n) { return n >> 23; }
static inline V from_integer(I n) { return (float)(int32_t)n; }

static inline I bits(V x) {
    union { float x; uint32_t n; } u = {.x = x};
    return u.n;
}

static inline V from_bits(I n) {
    union { uint32_t n; float x; } u = {.n = n};
    return u.x;
}

static inline V at_least_one(const uint32_t *fan_out) { return (float)(*fan_out ? *fan_out : 1); }

/* (x + 1/2) 2^23, for x up to `most` */
static inline I fixed_point(double x, double most) {
    union { double x; uint64_t n; } u = {.x = (x < most ? x : most) + POINT_23};
    return (I)u.n;
}

static inline uint64_t ticks(const int64_t *from, int64_t to, const int either_way) {
    const uint64_t forward = (uint64_t)to - (uint64_t)*from;
    return *from < to ? forward : either_way ? -forward : 0;
}

static inline I half_lives(const int64_t *from, int64_t to, double per_tick, const int either_way) {
    return fixed_point((double)ticks(from, to, either_way) * per_tick, MOST_HALF_LIVES);
}

static inline I units_above(V s, double midpoint, double per_unit) {
    const double units = ((double)s - midpoint) * per_unit;
    return fixed_point(units > LEAST_UNITS ? units : LEAST_UNITS, MOST_UNITS);
}

#include "bindings_lanes.h"
#include "epilogue_lanes.h"

const ns_lane_kernels ns_lane_kernels_scalar = LANE_KERNELS("scalar");
