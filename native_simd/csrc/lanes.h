/* What the kernels over lanes of values share, bindings in place and the epilogue of the pairwise pass: their table and
 * the scalars of a call, worked out once in float64. */
#ifndef NS_LANES_H
#define NS_LANES_H

#include "internal.h"

/* Half-lives after which nothing is left of a strength: float32 ends at 2^-149. */
#define MOST_HALF_LIVES 152.0

/* A strength is multiplied by 2^-(rate * (high + low)): high + low is dt / ln 2, to 48 bits. From the rate `enough` on
 * MOST_HALF_LIVES pass. */
typedef struct {
    float high, low, enough;
} ns_decay_step;

/* A float64 x with it added holds x + 1/2, rounded to 23 binary places, in its low 32 bits: for -256 <= x + 1/2 < 256. */
#define POINT_23 (0x1.8p29 + 0.5)

typedef struct {
    int64_t now;
    double per_tick; /* half-lives that pass in a tick */
    float floor;
} ns_half_life_step;

/* Half-lives after which nothing is left of a cosine: its own rounding errors are far above 2^-100, and no product is
 * a subnormal number, which takes some CPUs a hundred cycles. */
#define FADED 100.0f

typedef struct {
    int64_t time;
    double per_tick;
} ns_fade_step;

/* 1 + 2^-26 is 1 in float32, and 1 + 2^152 infinite: nothing changes beyond these. */
#define MOST_UNITS 26.0
#define LEAST_UNITS -152.0

/* 1 / (1 + 2^-((s - midpoint) * per_unit)) */
typedef struct {
    double midpoint, per_unit;
} ns_sigmoid_step;

/* One table per instruction set, of the same bits as every other. At most four arguments, no calls: the kernels run
 * on an emulated CPU as they are. */
typedef struct {
    const char *name;
    void (*decay)(float *strengths, const float *rates, int64_t n, const ns_decay_step *step);
    void (*decay_half_life)(float *strengths, const int64_t *last_touched, int64_t n, const ns_half_life_step *step);
    void (*fan_effect[NS_N_FAN_LAWS])(float *activations, const uint32_t *fan_out, int64_t n);
    /* Of similarities, n a multiple of NS_LANES: what n vectors at `times` have with one at `time`, and the sigmoid. */
    void (*fade)(float *similarities, const int64_t *times, int64_t n, const ns_fade_step *step);
    void (*sigmoid)(float *similarities, int64_t n, const ns_sigmoid_step *step);
} ns_lane_kernels;

extern const ns_lane_kernels ns_lane_kernels_scalar;
#if defined(__x86_64__)
extern const ns_lane_kernels ns_lane_kernels_avx2;
extern const ns_lane_kernels ns_lane_kernels_avx512;
#elif defined(__aarch64__)
extern const ns_lane_kernels ns_lane_kernels_neon;
#endif

/* NULL when the instruction set is not available (dispatch.c). */
const ns_lane_kernels *ns_lane_table(int32_t isa);

#endif
