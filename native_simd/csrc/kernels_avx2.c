/* AVX2 and FMA. Micro-kernel 4 x 24: a quarter panel of a against one and a half panels of b.
 *
 * 12 accumulators, 3 halves of b and 1 broadcast fill the 16 registers; 12 chains cover the 4-cycle latency of two FMA
 * ports. 4 broadcasts and 3 loads feed 12 FMAs, fewer than for 6 x 16, and 4 rows divide a panel. */
#include "cells.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include <immintrin.h>

enum { ROWS = 4, GROUP = 3, BLOCK = 128, STRIDE = NS_TILE_ROWS, HALF = 8, PREFETCH = 16 };

static inline __attribute__((always_inline)) __m256 step(__m256 a, __m256 b, __m256 acc, int squared_difference) {
    if (!squared_difference) return _mm256_fmadd_ps(a, b, acc);
    const __m256 t = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(t, t, acc);
}

/* `n` halves (up to 3) of the panels of b, from `half` on; the line at `next + k * pace` is asked for on the way. */
static inline __attribute__((always_inline)) void micro(const float *a, const float *b, int64_t panel, int64_t kc,
                                                        float *c, int first, const int half, const int n, const int sq,
                                                        const float *next, const int pace) {
    __m256 acc[ROWS][3];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int h = 0; h < n; h++)
            acc[r][h] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(c + r * STRIDE + (half + h) * HALF);
    for (int64_t k = 0; k < kc; k++) {
        __m256 y[3];
        __builtin_prefetch(next + k * pace);
#pragma GCC unroll 3
        for (int h = 0; h < n; h++)
            y[h] = _mm256_loadu_ps(b + (half + h) / 2 * panel + k * NS_LANES + (half + h) % 2 * HALF);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            const __m256 x = _mm256_broadcast_ss(a + k * NS_LANES + r);
#pragma GCC unroll 3
            for (int h = 0; h < n; h++) acc[r][h] = step(x, y[h], acc[r][h], sq);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int h = 0; h < n; h++) _mm256_storeu_ps(c + r * STRIDE + (half + h) * HALF, acc[r][h]);
}

/* `n` panels of b (1 to GROUP): two calls a quarter of a, of n halves each; a lone panel is one call. */
static inline __attribute__((always_inline)) void panel_tile(const float *a, const float *b, int64_t panel, int64_t kc,
                                                             float *c, int first, const int n, const int sq,
                                                             const float *next_a, const float *next_b) {
    const int width = n > 1 ? n : 2;
    for (int r = 0; r < NS_LANES; r += ROWS) {
        micro(a + r, b, panel, kc, c + r * STRIDE, first, 0, width, sq, next_a + r * kc, NS_LANES / ROWS);
        if (n > 1)
            micro(a + r, b, panel, kc, c + r * STRIDE, first, n, n, sq, next_b + r * kc / 4, NS_LANES / ROWS / 4);
    }
}

static float row_max(const float *row, const float *bias, int64_t n) {
    const __m256 lowest = _mm256_set1_ps(-__builtin_inff());
    __m256 best[4] = {lowest, lowest, lowest, lowest};
    int64_t j = 0;
    /* max(value, best) returns best when value is NaN: a dead column can hold anything */
    for (; j + 32 <= n; j += 32)
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++)
            best[p] = _mm256_max_ps(
                _mm256_add_ps(_mm256_loadu_ps(row + j + p * 8), _mm256_loadu_ps(bias + j + p * 8)), best[p]);
    float lanes[8], top = -__builtin_inff();
    _mm256_storeu_ps(lanes, _mm256_max_ps(_mm256_max_ps(best[0], best[1]), _mm256_max_ps(best[2], best[3])));
    for (int p = 0; p < 8; p++) top = lanes[p] > top ? lanes[p] : top;
    for (; j < n; j++) {
        const float value = row[j] + bias[j];
        top = value > top ? value : top;
    }
    return top;
}

static int64_t row_at_least(const float *row, const float *bias, int64_t n, float threshold, int32_t *found) {
    const __m256 floor = _mm256_set1_ps(threshold);
    int64_t count = 0, j = 0;
    for (; j + 8 <= n; j += 8) {
        const __m256 value = _mm256_add_ps(_mm256_loadu_ps(row + j), _mm256_loadu_ps(bias + j));
        uint32_t hits = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(value, floor, _CMP_GE_OQ));
        for (; hits; hits &= hits - 1) found[count++] = (int32_t)(j + __builtin_ctz(hits));
    }
    for (; j < n; j++)
        if (row[j] + bias[j] >= threshold) found[count++] = (int32_t)j;
    return count;
}

/* Four panels at a time: 8 chains cover the 4-cycle latency of two FMA ports. Each panel is read from start to end; the
 * line PREFETCH dimensions on is asked for, past the end of a panel that of the one that follows the four. */
static inline __attribute__((always_inline)) void vector_panels(const float *vector, const float *const *panels,
                                                                int64_t d, int64_t follow, float *out, const int n) {
    __m256 acc[4][2];
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) acc[p][h] = _mm256_setzero_ps();
    for (int64_t k = 0; k < d; k++) {
        const __m256 x = _mm256_broadcast_ss(vector + k);
        const int64_t ahead = (k + PREFETCH) * NS_LANES + (k + PREFETCH < d ? 0 : follow);
#pragma GCC unroll 4
        for (int p = 0; p < n; p++) {
            __builtin_prefetch(panels[p] + ahead);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++)
                acc[p][h] =
                    _mm256_fmadd_ps(x, _mm256_loadu_ps(panels[p] + k * NS_LANES + h * HALF), acc[p][h]);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) _mm256_storeu_ps(out + p * NS_LANES + h * HALF, acc[p][h]);
}

#include "kernel_entries.h"

static int64_t row_at_least_either(const float *row, const float *thresholds, int64_t n, const float *threshold,
                                   int32_t *found) {
    const __m256 floor = _mm256_set1_ps(*threshold);
    int64_t count = 0, j = 0;
    for (; j + 8 <= n; j += 8) {
        const __m256 lower = _mm256_min_ps(_mm256_loadu_ps(thresholds + j), floor);
        uint32_t hits = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(row + j), lower, _CMP_GE_OQ));
        for (; hits; hits &= hits - 1) found[count++] = (int32_t)(j + __builtin_ctz(hits));
    }
    for (; j < n; j++)
        if (row[j] >= *threshold || row[j] >= thresholds[j]) found[count++] = (int32_t)j;
    return count;
}

static void row_dot_of(const float *vector, const float *rows, int64_t d, const int64_t *which, int64_t n, float *out) {
    ns_row_dot_of(vector, rows, d, which, n, out);
}

const ns_kernels ns_kernels_avx2 = {"avx2",       tile_dot, tile_sqeuclidean,   ns_transpose, row_max,
                                   row_at_least, vector_dot, vector_dot_of, row_at_least_either,
                                   ns_quantized_dot_avx2, ns_bytes_dot_avx2, row_dot_of};
#pragma GCC pop_options
#endif
