/* NEON (AArch64). Micro-kernel 4 x 16: a quarter panel of a against one panel of b, 16 accumulators.
 *
 * 16 chains cover a 4-cycle latency on four FMA pipes; one load brings four elements of a, used by lane. */
#include "cells.h"

#if defined(__aarch64__)
#include <arm_neon.h>

enum { ROWS = 4, QUADS = 4, GROUP = 1, BLOCK = 192, STRIDE = NS_TILE_ROWS, PREFETCH = 16 };

static inline __attribute__((always_inline)) float32x4_t step(float32x4_t a, float32x4_t b, float32x4_t acc,
                                                              int squared_difference) {
    if (!squared_difference) return vfmaq_f32(acc, a, b);
    const float32x4_t t = vsubq_f32(a, b);
    return vfmaq_f32(acc, t, t);
}

static inline __attribute__((always_inline)) void micro(const float *a, const float *b, int64_t kc, float *c,
                                                        int first, const int sq) {
    float32x4_t acc[ROWS][QUADS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) acc[r][q] = first ? vdupq_n_f32(0.0f) : vld1q_f32(c + r * STRIDE + q * 4);
    for (int64_t k = 0; k < kc; k++) {
        const float32x4_t x = vld1q_f32(a + k * NS_LANES);
        const float32x4_t rows[ROWS] = {vdupq_laneq_f32(x, 0), vdupq_laneq_f32(x, 1), vdupq_laneq_f32(x, 2),
                                        vdupq_laneq_f32(x, 3)};
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) {
            const float32x4_t y = vld1q_f32(b + k * NS_LANES + q * 4);
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; r++) acc[r][q] = step(rows[r], y, acc[r][q], sq);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) vst1q_f32(c + r * STRIDE + q * 4, acc[r][q]);
}

/* One panel of b, and no prefetch: no CPU was at hand to measure one. */
static inline __attribute__((always_inline)) void panel_tile(const float *a, const float *b, int64_t panel, int64_t kc,
                                                             float *c, int first, const int n, const int sq,
                                                             const float *next_a, const float *next_b) {
    (void)panel, (void)n, (void)next_a, (void)next_b;
    for (int r = 0; r < NS_LANES; r += ROWS) micro(a + r, b, kc, c + r * STRIDE, first, sq);
}

static float row_max(const float *row, const float *bias, int64_t n) {
    float32x4_t best = vdupq_n_f32(-__builtin_inff());
    int64_t j = 0;
    /* "maxnm" ignores NaN: a dead column can hold anything */
    for (; j + 4 <= n; j += 4) best = vmaxnmq_f32(vaddq_f32(vld1q_f32(row + j), vld1q_f32(bias + j)), best);
    float top = vmaxnmvq_f32(best);
    for (; j < n; j++) {
        const float value = row[j] + bias[j];
        top = value > top ? value : top;
    }
    return top;
}

static int64_t row_at_least(const float *row, const float *bias, int64_t n, float threshold, int32_t *found) {
    const float32x4_t floor = vdupq_n_f32(threshold);
    int64_t count = 0, j = 0;
    for (; j + 4 <= n; j += 4) {
        const float32x4_t value = vaddq_f32(vld1q_f32(row + j), vld1q_f32(bias + j));
        if (!vmaxvq_u32(vcgeq_f32(value, floor))) continue;
        for (int64_t l = j; l < j + 4; l++)
            if (row[l] + bias[l] >= threshold) found[count++] = (int32_t)l;
    }
    for (; j < n; j++)
        if (row[j] + bias[j] >= threshold) found[count++] = (int32_t)j;
    return count;
}

/* Four panels at a time: 16 chains, as in the micro-kernel. Each panel is read from start to end; the line PREFETCH
 * dimensions on is asked for, past the end of a panel that of the one that follows the four. */
static inline __attribute__((always_inline)) void vector_panels(const float *vector, const float *const *panels,
                                                                int64_t d, int64_t follow, float *out, const int n) {
    float32x4_t acc[4][QUADS];
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) acc[p][q] = vdupq_n_f32(0.0f);
    for (int64_t k = 0; k < d; k++) {
        const float32x4_t x = vld1q_dup_f32(vector + k);
        const int64_t ahead = (k + PREFETCH) * NS_LANES + (k + PREFETCH < d ? 0 : follow);
#pragma GCC unroll 4
        for (int p = 0; p < n; p++) {
            __builtin_prefetch(panels[p] + ahead);
#pragma GCC unroll 4
            for (int q = 0; q < QUADS; q++)
                acc[p][q] = vfmaq_f32(acc[p][q], x, vld1q_f32(panels[p] + k * NS_LANES + q * 4));
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) vst1q_f32(out + p * NS_LANES + q * 4, acc[p][q]);
}

#include "kernel_entries.h"

/* Two panels at a time: 8 sums of four vectors each. The products of a pair are neighbours, and are added first. */
static inline __attribute__((always_inline)) void quantized_panels(const int16_t *vector, const int16_t *panels,
                                                                   int64_t n_pairs, int32_t *sums, const int n) {
    int32x4_t acc[2][QUADS];
#pragma GCC unroll 2
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) acc[p][q] = vdupq_n_s32(0);
    for (int64_t k = 0; k < n_pairs; k++) {
        const int16x8_t x = vzip1q_s16(vld1q_dup_s16(vector + 2 * k), vld1q_dup_s16(vector + 2 * k + 1));
#pragma GCC unroll 2
        for (int p = 0; p < n; p++)
#pragma GCC unroll 4
            for (int q = 0; q < QUADS; q++) {
                const int16x8_t y = vld1q_s16(panels + (p * n_pairs + k) * 2 * NS_LANES + 8 * q);
                const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y)), high = vmull_high_s16(x, y);
                acc[p][q] = vaddq_s32(acc[p][q], vpaddq_s32(low, high));
            }
    }
#pragma GCC unroll 2
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) vst1q_s32(sums + p * NS_LANES + 4 * q, acc[p][q]);
}

static void quantized_dot(const int16_t *vector, const int16_t *panels, int64_t n_pairs, int64_t n_panels,
                          int32_t *sums) {
    const int64_t panel = 2 * NS_LANES * n_pairs;
    int64_t j = 0;
    for (; j + 2 <= n_panels; j += 2) quantized_panels(vector, panels + j * panel, n_pairs, sums + j * NS_LANES, 2);
    if (j < n_panels) quantized_panels(vector, panels + j * panel, n_pairs, sums + j * NS_LANES, 1);
}

static inline __attribute__((always_inline)) void byte_panels(const int16_t *vector, const int8_t *panels,
                                                              int64_t n_pairs, int32_t *sums, const int n) {
    int32x4_t acc[2][QUADS];
#pragma GCC unroll 2
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) acc[p][q] = vdupq_n_s32(0);
    for (int64_t k = 0; k < n_pairs; k++) {
        const int16x8_t x = vzip1q_s16(vld1q_dup_s16(vector + 2 * k), vld1q_dup_s16(vector + 2 * k + 1));
#pragma GCC unroll 2
        for (int p = 0; p < n; p++)
#pragma GCC unroll 4
            for (int q = 0; q < QUADS; q++) {
                const int16x8_t y = vmovl_s8(vld1_s8(panels + (p * n_pairs + k) * 2 * NS_LANES + 8 * q));
                const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y)), high = vmull_high_s16(x, y);
                acc[p][q] = vaddq_s32(acc[p][q], vpaddq_s32(low, high));
            }
    }
#pragma GCC unroll 2
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q++) vst1q_s32(sums + p * NS_LANES + 4 * q, acc[p][q]);
}

static void bytes_dot(const int16_t *vector, const int8_t *panels, int64_t n_pairs, int64_t n_panels, int32_t *sums) {
    const int64_t panel = 2 * NS_LANES * n_pairs;
    int64_t j = 0;
    for (; j + 2 <= n_panels; j += 2) byte_panels(vector, panels + j * panel, n_pairs, sums + j * NS_LANES, 2);
    if (j < n_panels) byte_panels(vector, panels + j * panel, n_pairs, sums + j * NS_LANES, 1);
}

static int64_t row_at_least_either(const float *row, const float *thresholds, int64_t n, const float *threshold,
                                   int32_t *found) {
    const float32x4_t floor = vdupq_n_f32(*threshold);
    int64_t count = 0, j = 0;
    for (; j + 4 <= n; j += 4) {
        const float32x4_t lower = vminq_f32(vld1q_f32(thresholds + j), floor);
        if (!vmaxvq_u32(vcgeq_f32(vld1q_f32(row + j), lower))) continue;
        for (int64_t l = j; l < j + 4; l++)
            if (row[l] >= *threshold || row[l] >= thresholds[l]) found[count++] = (int32_t)l;
    }
    for (; j < n; j++)
        if (row[j] >= *threshold || row[j] >= thresholds[j]) found[count++] = (int32_t)j;
    return count;
}

static void row_dot_of(const float *vector, const float *rows, int64_t d, const int64_t *which, int64_t n, float *out) {
    ns_row_dot_of(vector, rows, d, which, n, out);
}

const ns_kernels ns_kernels_neon = {"neon",       tile_dot, tile_sqeuclidean,   ns_transpose, row_max,
                                   row_at_least, vector_dot, vector_dot_of, row_at_least_either,
                                   quantized_dot, bytes_dot, row_dot_of};
#endif
