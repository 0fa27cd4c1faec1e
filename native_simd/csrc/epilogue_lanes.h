/* The kernels of the epilogue, written once over lanes. Included by the file of each instruction set (hence no include
 * guard) after bindings_lanes.h, whose power of two they use. */

static inline void fade_lanes(float *similarities, const int64_t *times, ns_fade_step step) {
    const I apart = half_lives(times, step.time, step.per_tick, 1);
    const V left = zero_where(load(similarities), from_integer(shift_right_23(apart)), splat(FADED));
    store(similarities, times_exp2_fixed(left, apart));
}

/* Both ends come out as 0 and 1 without a branch: the power is infinite from 2^128 on, and lost in 1 below 2^-24. */
static inline void sigmoid_lanes(float *similarities, ns_sigmoid_step step) {
    const I units = units_above(load(similarities), step.midpoint, step.per_unit);
    const V power = times_exp2_fixed(splat(1.0f), units);
    store(similarities, quotient(splat(1.0f), plus(splat(1.0f), power)));
}

static void fade(float *similarities, const int64_t *times, int64_t n, const ns_fade_step *step) {
    const ns_fade_step s = *step;
    for (int64_t j = 0; j < n; j += WIDTH) fade_lanes(similarities + j, times + j, s);
}

static void sigmoid(float *similarities, int64_t n, const ns_sigmoid_step *step) {
    const ns_sigmoid_step s = *step;
    for (int64_t j = 0; j < n; j += WIDTH) sigmoid_lanes(similarities + j, s);
}

#define LANE_KERNELS(isa) {isa, decay, decay_half_life, {fan_sqrt, fan_linear, fan_log}, fade, sigmoid}
