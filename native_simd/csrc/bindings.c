/* Decay and the fan effect: checks, the scalars of a call, and threads. */
#include <float.h>
#include <math.h>

#include "lanes.h"

enum { CHUNK = 1 << 14 }; /* bindings a thread takes at a time: 128 to 192 KiB, a part of L2 */

static const double CHUNK_NS = 0.3 * CHUNK;

static int64_t n_chunks(int64_t n) { return (n + CHUNK - 1) / CHUNK; }
static int64_t chunk_size(int64_t n, int64_t first) { return n - first < CHUNK ? n - first : CHUNK; }

typedef struct {
    const ns_lane_kernels *kernels;
    float *strengths;
    const float *rates;
    int64_t n;
    ns_decay_step step;
} decay_call;

static void decay_chunk(void *context, int64_t item) {
    const decay_call *c = context;
    const int64_t first = item * CHUNK;
    c->kernels->decay(c->strengths + first, c->rates + first, chunk_size(c->n, first), &c->step);
}

int32_t ns_decay(int32_t isa, float *strengths, const float *rates, int64_t n, double dt, int32_t threads) {
    const ns_lane_kernels *kernels = ns_lane_table(isa);
    if (!kernels) return NS_E_ISA;
    const double exponent = dt * 0x1.71547652b82fep+0; /* 1 / ln 2 */
    if (n < 0 || threads < 1 || !(dt >= 0.0) || exponent > (double)FLT_MAX) return NS_E_ARGUMENT;
    const float high = (float)exponent;
    const float enough = (float)(MOST_HALF_LIVES / exponent); /* infinity where no rate is */
    decay_call c = {kernels, strengths, rates, n, {high, (float)(exponent - (double)high), enough}};
    return ns_parallel(decay_chunk, &c, n_chunks(n), CHUNK_NS, threads);
}

typedef struct {
    const ns_lane_kernels *kernels;
    float *strengths;
    const int64_t *last_touched;
    int64_t n;
    ns_half_life_step step;
} half_life_call;

static void half_life_chunk(void *context, int64_t item) {
    const half_life_call *c = context;
    const int64_t first = item * CHUNK;
    c->kernels->decay_half_life(c->strengths + first, c->last_touched + first, chunk_size(c->n, first), &c->step);
}

int32_t ns_decay_half_life(int32_t isa, float *strengths, const int64_t *last_touched, int64_t n, int64_t now,
                           double half_life, float floor, int32_t threads) {
    const ns_lane_kernels *kernels = ns_lane_table(isa);
    if (!kernels) return NS_E_ISA;
    if (n < 0 || threads < 1 || !(half_life > 0.0) || !(floor >= 0.0f && floor <= FLT_MAX)) return NS_E_ARGUMENT;
    const double per_tick = fmin(1.0 / half_life, DBL_MAX); /* finite, so that no time is no decay */
    half_life_call c = {kernels, strengths, last_touched, n, {now, per_tick, floor}};
    return ns_parallel(half_life_chunk, &c, n_chunks(n), CHUNK_NS, threads);
}

typedef struct {
    void (*kernel)(float *activations, const uint32_t *fan_out, int64_t n);
    float *activations;
    const uint32_t *fan_out;
    int64_t n;
} fan_call;

static void fan_chunk(void *context, int64_t item) {
    const fan_call *c = context;
    const int64_t first = item * CHUNK;
    c->kernel(c->activations + first, c->fan_out + first, chunk_size(c->n, first));
}

int32_t ns_fan_effect(int32_t isa, int32_t law, float *activations, const uint32_t *fan_out, int64_t n,
                      int32_t threads) {
    const ns_lane_kernels *kernels = ns_lane_table(isa);
    if (!kernels) return NS_E_ISA;
    if (law < 0 || law >= NS_N_FAN_LAWS || n < 0 || threads < 1) return NS_E_ARGUMENT;
    fan_call c = {kernels->fan_effect[law], activations, fan_out, n};
    return ns_parallel(fan_chunk, &c, n_chunks(n), CHUNK_NS, threads);
}
