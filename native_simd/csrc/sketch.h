/* What the C files of sketches share: kernels on 8-bit integers, and single inner products. */
#ifndef NS_SKETCH_H
#define NS_SKETCH_H

#include <math.h>

#include "internal.h"

enum { NS_GROUP = 4 };       /* bytes of a vector that lie together: one step of a kernel */
enum { NS_STEP = NS_LANES * NS_GROUP }; /* bytes of a panel that a step reads */
enum { NS_MOST_LEFT = 63 };  /* left digits, stored with this added: the sum of two products fits into 16 bits */
enum { NS_MOST_RIGHT = 127 };

/* Thresholds of a tile, and what the digits of its columns count for too little: -NS_MOST_LEFT * their sum. */
typedef struct {
    int32_t rows[NS_TILE_ROWS], columns[NS_TILE_ROWS], offsets[NS_TILE_ROWS];
} ns_sift_levels;

/* One table per instruction set, of the same results as every other. No calls: they run on an emulated CPU. */
typedef struct {
    const char *name;
    /* In an order of their own, the places i * NS_TILE_ROWS + j of the pairs whose integer product, of `groups` groups
     * and with the offset of column j, is at least the threshold of row i or of column j; n_panels: of rows, and of
     * columns. Returns their number. Padded rows and columns are compared as well. */
    int64_t (*sift)(const uint8_t *left, const int8_t *right, int64_t groups, const int64_t *n_panels,
                    const ns_sift_levels *levels, int32_t *found);
    /* *out = the inner product, NS_SUMS chains added by halves. */
    void (*estimate)(const float *a, const float *b, int64_t d, float *out);
    /* out[c] = inner product of rows i of a and j of b, in one chain as in tile_dot, where places[c] = i * NS_TILE_ROWS
     * + j; for c below NS_CHAINS_AT_A_TIME. */
    void (*chains)(const float *a, const float *b, int64_t d, const int32_t *places, float *out);
} ns_sketch_kernels;

enum { NS_SUMS = 64, NS_CHAINS_AT_A_TIME = 8 };

/* The text of both for every instruction set, which the compiler turns into vectors of its own. */
static inline __attribute__((always_inline)) void ns_estimate(const float *a, const float *b, int64_t d, float *out) {
    float sums[NS_SUMS] = {0};
    int64_t k = 0;
    for (; k + NS_SUMS <= d; k += NS_SUMS)
        for (int l = 0; l < NS_SUMS; l++) sums[l] = fmaf(a[k + l], b[k + l], sums[l]);
    for (int l = 0; k + l < d; l++) sums[l] = fmaf(a[k + l], b[k + l], sums[l]);
    for (int width = NS_SUMS / 2; width; width /= 2)
        for (int l = 0; l < width; l++) sums[l] += sums[l + width];
    *out = sums[0];
}

static inline __attribute__((always_inline)) void ns_chains(const float *a, const float *b, int64_t d,
                                                            const int32_t *places, float *out) {
    const float *x[NS_CHAINS_AT_A_TIME], *y[NS_CHAINS_AT_A_TIME];
    float sums[NS_CHAINS_AT_A_TIME];
    for (int c = 0; c < NS_CHAINS_AT_A_TIME; c++) {
        x[c] = a + places[c] / NS_TILE_ROWS * d, y[c] = b + places[c] % NS_TILE_ROWS * d;
        sums[c] = 0.0f;
    }
    for (int64_t k = 0; k < d; k++)
        for (int c = 0; c < NS_CHAINS_AT_A_TIME; c++) sums[c] = fmaf(x[c][k], y[c][k], sums[c]);
    for (int c = 0; c < NS_CHAINS_AT_A_TIME; c++) out[c] = sums[c];
}

extern const ns_sketch_kernels ns_sketch_kernels_scalar;
#if defined(__x86_64__)
extern const ns_sketch_kernels ns_sketch_kernels_avx2;
extern const ns_sketch_kernels ns_sketch_kernels_avx512;
#endif

/* The fastest kernels that the CPU has for an instruction set: AVX-512 without VNNI takes those of AVX2, NEON the scalar
 * ones. NULL when the instruction set is not available (dispatch.c). */
const ns_sketch_kernels *ns_sketch_table(int32_t isa);

/* The CPU has AVX-512 with 8-bit products; makes no calls (cpu.c). */
int32_t ns_vnni_available(void);

#endif
