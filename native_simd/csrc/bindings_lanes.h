/* The binding kernels, written once over lanes. Included by the file of each instruction set (hence no include guard)
 * after it has defined WIDTH, the types V (float32 lanes) and I (32-bit lanes, unsigned where it matters), and the
 * operations used below; each rounds correctly or not at all, so the bits are the same everywhere. README.md says
 * where the constants come from and what errors remain. */

/* Adding it rounds to an integer, which is then in the low bits. */
#define ROUNDER 0x1.8p23f
enum { ONE_BITS = 0x3f800000, ROOT_HALF_BITS = 0x3f3504f3, WHOLE_BITS = -(1 << 23) };

/* x 2^(part - n) for part in [-1/2, 1/2] and whole = n 2^23, -200 < n < 200. The power is applied in two halves, the
 * first within the normal range: a subnormal result is as good as its spacing allows, and what is too large is
 * infinite. */
static inline V times_exp2(V x, I whole, V part) {
    V q = splat(0x1.416b56p-13f);
    q = fused(q, part, splat(0x1.5f082ep-10f));
    q = fused(q, part, splat(0x1.3b2de0p-7f));
    q = fused(q, part, splat(0x1.c6af7cp-5f));
    q = fused(q, part, splat(0x1.ebfbdcp-3f));
    q = fused(q, part, splat(0x1.62e430p-1f));
    q = fused(q, part, splat(1.0f));
    const I half = iand(halve(whole), isplat(WHOLE_BITS));
    const V first = from_bits(isub(bits(q), half));
    const V second = from_bits(isub(isplat(ONE_BITS), isub(whole, half)));
    return times(times(x, first), second);
}

/* x 2^-y, of fixed = (y + 1/2) 2^23: what is below the point is the fraction of a float32 in [1, 2). */
static inline V times_exp2_fixed(V x, I fixed) {
    const I whole = iand(fixed, isplat(WHOLE_BITS));
    return times_exp2(x, whole, minus(splat(1.5f), from_bits(iadd(isub(fixed, whole), isplat(ONE_BITS)))));
}

/* 1 + ln f for f = 2^e m >= 1, m in [sqrt(1/2), sqrt(2)): e ln 2 + m + r^2 P(r), r = m - 1 exactly */
static inline V one_plus_log(V f) {
    const I e = shift_right_23(isub(bits(f), isplat(ROOT_HALF_BITS)));
    const V m = from_bits(isub(bits(f), shift_left_23(e))), r = minus(m, splat(1.0f));
    V q = splat(0x1.65abe4p-4f);
    q = fused(q, r, splat(-0x1.27c09ap-3f));
    q = fused(q, r, splat(0x1.32c78ep-3f));
    q = fused(q, r, splat(-0x1.52feb4p-3f));
    q = fused(q, r, splat(0x1.98a660p-3f));
    q = fused(q, r, splat(-0x1.000682p-2f));
    q = fused(q, r, splat(0x1.5557acp-2f));
    q = fused(q, r, splat(-0x1.fffff4p-2f));
    return fused(from_integer(e), splat(0x1.62e430p-1f), fused(times(r, r), q, m));
}

/* The product with high + low is rounded only after its whole part is gone: near 150 it is as good as near 0. */
static inline void decay_lanes(float *strengths, const float *rates, ns_decay_step step) {
    const V rate = load(rates), high = splat(step.high);
    const V rounder = fused(rate, high, splat(ROUNDER)), whole = minus(rounder, splat(ROUNDER));
    const V part = less_product(less_product(whole, rate, high), rate, splat(step.low));
    const V power = times_exp2(load(strengths), shift_left_23(bits(rounder)), part);
    const V decayed = zero_where(power, rate, splat(step.enough));
    store(strengths, nan_unless(decayed, rate, splat(0.0f)));
}

static inline void half_life_lanes(float *strengths, const float *passed, float floor) {
    const V strength = load(strengths), decayed = times_exp2_fixed(strength, bits(load(passed)));
    store(strengths, greater(lesser(strength, splat(floor)), decayed));
}

static inline void fan_lanes(float *activations, const uint32_t *fan_out, const int law) {
    const V f = at_least_one(fan_out);
    const V divisor = law == NS_FAN_SQRT ? root(f) : law == NS_FAN_LINEAR ? f : one_plus_log(f);
    store(activations, quotient(load(activations), divisor));
}

/* The elements past the last full lanes go through a buffer, to which the kernel is applied again: there nothing is known
 * of the buffer's alignment, which AddressSanitizer's stacks do not keep. A fixed number of turns, so that no compiler
 * makes a call of memcpy out of the copies. */
#define COPY_IN(buffer, from, n) for (int64_t l = 0; l < WIDTH; l++) (buffer)[l] = l < (n) ? (from)[l] : 0
#define COPY_OUT(buffer, to, n) for (int64_t l = 0; l < WIDTH; l++) if (l < (n)) (to)[l] = (buffer)[l]

static void decay(float *strengths, const float *rates, int64_t n, const ns_decay_step *step) {
    const ns_decay_step s = *step;
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) decay_lanes(strengths + i, rates + i, s);
    if (i == n) return;
    float last_strengths[WIDTH], last_rates[WIDTH];
    COPY_IN(last_strengths, strengths + i, n - i);
    COPY_IN(last_rates, rates + i, n - i);
    decay(last_strengths, last_rates, WIDTH, step);
    COPY_OUT(last_strengths, strengths + i, n - i);
}

/* In spans, each gone over twice: all of it is one chain of operations, too long for a CPU to overlap that of enough
 * lanes; two halves of it, over many lanes each, overlap. */
enum { SPAN = 256 };

static void decay_half_life(float *strengths, const int64_t *last_touched, int64_t n, const ns_half_life_step *step) {
    const ns_half_life_step s = *step;
    int64_t i = 0;
    for (int64_t span; i + WIDTH <= n; i += span) {
        _Alignas(64) float passed[SPAN]; /* half-lives, in fixed point */
        span = n - i < SPAN ? (n - i) / WIDTH * WIDTH : SPAN;
        for (int64_t j = 0; j < span; j += WIDTH)
            store(passed + j, from_bits(half_lives(last_touched + i + j, s.now, s.per_tick, 0)));
        for (int64_t j = 0; j < span; j += WIDTH) half_life_lanes(strengths + i + j, passed + j, s.floor);
    }
    if (i == n) return;
    float last_strengths[WIDTH];
    int64_t last_times[WIDTH];
    COPY_IN(last_strengths, strengths + i, n - i);
    COPY_IN(last_times, last_touched + i, n - i);
    decay_half_life(last_strengths, last_times, WIDTH, step);
    COPY_OUT(last_strengths, strengths + i, n - i);
}

static inline void fan_effect(float *activations, const uint32_t *fan_out, int64_t n, const int law) {
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) fan_lanes(activations + i, fan_out + i, law);
    if (i == n) return;
    float last_activations[WIDTH];
    uint32_t last_fan[WIDTH];
    COPY_IN(last_activations, activations + i, n - i);
    COPY_IN(last_fan, fan_out + i, n - i);
    fan_effect(last_activations, last_fan, WIDTH, law);
    COPY_OUT(last_activations, activations + i, n - i);
}

static void fan_sqrt(float *activations, const uint32_t *fan_out, int64_t n) {
    fan_effect(activations, fan_out, n, NS_FAN_SQRT);
}

static void fan_linear(float *activations, const uint32_t *fan_out, int64_t n) {
    fan_effect(activations, fan_out, n, NS_FAN_LINEAR);
}

static void fan_log(float *activations, const uint32_t *fan_out, int64_t n) {
    fan_effect(activations, fan_out, n, NS_FAN_LOG);
}
