/* AVX-512F. Micro-kernel 8 x 48: half a panel of a against three panels of b.
 *
 * 24 chains cover the 4-cycle latency of two FMA ports three times over; with 3 registers of b and 1 broadcast they fit
 * the 32 registers. 8 broadcasts and 3 loads feed 24 FMAs, so a core with two loads a cycle waits on the FMAs alone. */
#include "cells.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f")
#include <immintrin.h>

enum { ROWS = 8, GROUP = 3, BLOCK = 128, STRIDE = NS_TILE_ROWS, PREFETCH = 16 };

static inline __attribute__((always_inline)) __m512 step(__m512 a, __m512 b, __m512 acc, int squared_difference) {
    if (!squared_difference) return _mm512_fmadd_ps(a, b, acc);
    const __m512 t = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(t, t, acc);
}

/* `n` panels of b (1 to GROUP); the line at `next + k * pace` is asked for on the way. */
static inline __attribute__((always_inline)) void micro(const float *a, const float *b, int64_t panel, int64_t kc,
                                                        float *c, int first, const int n, const int sq,
                                                        const float *next, const int pace) {
    __m512 acc[ROWS][GROUP];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int p = 0; p < n; p++)
            acc[r][p] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(c + r * STRIDE + p * NS_LANES);
    for (int64_t k = 0; k < kc; k++) {
        __m512 y[GROUP];
        __builtin_prefetch(next + k * pace);
#pragma GCC unroll 3
        for (int p = 0; p < n; p++) y[p] = _mm512_loadu_ps(b + p * panel + k * NS_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const __m512 x = _mm512_set1_ps(a[k * NS_LANES + r]);
#pragma GCC unroll 3
            for (int p = 0; p < n; p++) acc[r][p] = step(x, y[p], acc[r][p], sq);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int p = 0; p < n; p++) _mm512_storeu_ps(c + r * STRIDE + p * NS_LANES, acc[r][p]);
}

static inline __attribute__((always_inline)) void panel_tile(const float *a, const float *b, int64_t panel, int64_t kc,
                                                             float *c, int first, const int n, const int sq,
                                                             const float *next_a, const float *next_b) {
    micro(a, b, panel, kc, c, first, n, sq, next_a, NS_LANES);
    micro(a + ROWS, b, panel, kc, c + ROWS * STRIDE, first, n, sq, next_b, NS_LANES / 4);
}

static float row_max(const float *row, const float *bias, int64_t n) {
    const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
    __m512 best[4] = {lowest, lowest, lowest, lowest};
    int64_t j = 0;
    /* max(value, best) returns best when value is NaN: a dead column can hold anything */
    for (; j + 64 <= n; j += 64)
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++)
            best[p] = _mm512_max_ps(
                _mm512_add_ps(_mm512_loadu_ps(row + j + p * 16), _mm512_loadu_ps(bias + j + p * 16)), best[p]);
    for (; j < n; j += 16) {
        const __mmask16 mask = n - j < 16 ? (__mmask16)((1u << (n - j)) - 1) : (__mmask16)0xffff;
        const __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, row + j), _mm512_maskz_loadu_ps(mask, bias + j));
        best[0] = _mm512_mask_max_ps(best[0], mask, value, best[0]);
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(best[0], best[1]), _mm512_max_ps(best[2], best[3])));
}

static int64_t row_at_least(const float *row, const float *bias, int64_t n, float threshold, int32_t *found) {
    const __m512 floor = _mm512_set1_ps(threshold);
    int64_t count = 0;
    for (int64_t j = 0; j < n; j += 16) {
        const __mmask16 mask = n - j < 16 ? (__mmask16)((1u << (n - j)) - 1) : (__mmask16)0xffff;
        const __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, row + j), _mm512_maskz_loadu_ps(mask, bias + j));
        uint32_t hits = _mm512_mask_cmp_ps_mask(mask, value, floor, _CMP_GE_OQ);
        for (; hits; hits &= hits - 1) found[count++] = (int32_t)(j + __builtin_ctz(hits));
    }
    return count;
}

/* Four panels at a time: 4 chains of a 4-cycle latency take a line a cycle, all that L2 delivers. Each panel is read
 * from start to end; the line PREFETCH dimensions on is asked for, past the end of a panel that of the one that follows
 * the four. */
static inline __attribute__((always_inline)) void vector_panels(const float *vector, const float *const *panels,
                                                                int64_t d, int64_t follow, float *out, const int n) {
    __m512 acc[4];
#pragma GCC unroll 4
    for (int p = 0; p < n; p++) acc[p] = _mm512_setzero_ps();
    for (int64_t k = 0; k < d; k++) {
        const __m512 x = _mm512_set1_ps(vector[k]);
        const int64_t ahead = (k + PREFETCH) * NS_LANES + (k + PREFETCH < d ? 0 : follow);
#pragma GCC unroll 4
        for (int p = 0; p < n; p++) {
            __builtin_prefetch(panels[p] + ahead);
            acc[p] = _mm512_fmadd_ps(x, _mm512_loadu_ps(panels[p] + k * NS_LANES), acc[p]);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < n; p++) _mm512_storeu_ps(out + p * NS_LANES, acc[p]);
}

#include "kernel_entries.h"

static int64_t row_at_least_either(const float *row, const float *thresholds, int64_t n, const float *threshold,
                                   int32_t *found) {
    const __m512 floor = _mm512_set1_ps(*threshold);
    int64_t count = 0;
    for (int64_t j = 0; j < n; j += 16) {
        const __mmask16 mask = n - j < 16 ? (__mmask16)((1u << (n - j)) - 1) : (__mmask16)0xffff;
        const __m512 lower = _mm512_min_ps(_mm512_maskz_loadu_ps(mask, thresholds + j), floor);
        uint32_t hits = _mm512_mask_cmp_ps_mask(mask, _mm512_maskz_loadu_ps(mask, row + j), lower, _CMP_GE_OQ);
        for (; hits; hits &= hits - 1) found[count++] = (int32_t)(j + __builtin_ctz(hits));
    }
    return count;
}

static void row_dot_of(const float *vector, const float *rows, int64_t d, const int64_t *which, int64_t n, float *out) {
    ns_row_dot_of(vector, rows, d, which, n, out);
}

const ns_kernels ns_kernels_avx512 = {"avx512",     tile_dot, tile_sqeuclidean,   ns_transpose, row_max,
                                     row_at_least, vector_dot, vector_dot_of, row_at_least_either,
                                     ns_quantized_dot_avx2, ns_bytes_dot_avx2, row_dot_of};
#pragma GCC pop_options
#endif
