/* The sieve in portable C: what the other sets must equal. */
#include "sketch.h"

/* With the offset; wraps where digits are none. */
static int32_t product(const uint8_t *left, const int8_t *right, int64_t groups, int32_t offset) {
    uint32_t sum = (uint32_t)offset;
    for (int64_t g = 0; g < groups; g++)
        for (int b = 0; b < NS_GROUP; b++)
            sum += (uint32_t)(left[g * NS_LANES * NS_GROUP + b] * right[g * NS_LANES * NS_GROUP + b]);
    return (int32_t)sum;
}

static int64_t sift(const uint8_t *left, const int8_t *right, int64_t groups, const int64_t *n_panels,
                    const ns_sift_levels *levels, int32_t *found) {
    const int64_t panel = groups * NS_LANES * NS_GROUP;
    int64_t count = 0;
    for (int64_t i = 0; i < n_panels[0] * NS_LANES; i++)
        for (int64_t j = 0; j < n_panels[1] * NS_LANES; j++) {
            const uint8_t *x = left + i / NS_LANES * panel + i % NS_LANES * NS_GROUP;
            const int8_t *y = right + j / NS_LANES * panel + j % NS_LANES * NS_GROUP;
            const int32_t value = product(x, y, groups, levels->offsets[j]);
            if (value >= levels->rows[i] || value >= levels->columns[j])
                found[count++] = (int32_t)(i * NS_TILE_ROWS + j);
        }
    return count;
}

static void estimate(const float *a, const float *b, int64_t d, float *out) { ns_estimate(a, b, d, out); }

static void chains(const float *a, const float *b, int64_t d, const int32_t *places, float *out) {
    ns_chains(a, b, d, places, out);
}

const ns_sketch_kernels ns_sketch_kernels_scalar = {"scalar", sift, estimate, chains};
