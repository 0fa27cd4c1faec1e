/* AVX-512 with VNNI: 64 products of bytes an instruction. Micro-kernel 8 x 32, as that of float32. */
#include "sketch.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vnni")
#include <immintrin.h>

enum { ROWS = 8 };

/* `panels` (1 or 2) of columns; hits[r]: bit c is column c of row r. Returns whether there are any. */
static inline __attribute__((always_inline)) uint32_t micro(const uint8_t *x, const int8_t *y, int64_t groups,
                                                            const int32_t *rows, const int32_t *columns,
                                                            const int32_t *offsets, uint32_t *hits, const int panels) {
    __m512i acc[ROWS][2];
    uint32_t any = 0;
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++) acc[r][p] = _mm512_loadu_si512(offsets + p * NS_LANES);
    for (int64_t g = 0; g < groups; g++) {
        __m512i b[2];
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++) b[p] = _mm512_loadu_si512(y + (p * groups + g) * NS_STEP);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            int32_t group;
            __builtin_memcpy(&group, x + g * NS_STEP + r * NS_GROUP, sizeof group);
            const __m512i a = _mm512_set1_epi32(group);
#pragma GCC unroll 2
            for (int p = 0; p < panels; p++) acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], a, b[p]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        const __m512i least = _mm512_set1_epi32(rows[r]);
        hits[r] = 0;
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++) {
            const __m512i either = _mm512_min_epi32(least, _mm512_loadu_si512(columns + p * NS_LANES));
            hits[r] |= (uint32_t)_mm512_cmpge_epi32_mask(acc[r][p], either) << (16 * p);
        }
        any |= hits[r];
    }
    return any;
}

static int64_t sift(const uint8_t *left, const int8_t *right, int64_t groups, const int64_t *n_panels,
                    const ns_sift_levels *levels, int32_t *found) {
    const int64_t panel = groups * NS_STEP;
    int64_t count = 0;
    for (int64_t q = 0; q < n_panels[1]; q += 2) {
        const int64_t j = q * NS_LANES;
        const int8_t *y = right + q * panel;
        for (int64_t i = 0; i < n_panels[0] * NS_LANES; i += ROWS) {
            const uint8_t *x = left + i / NS_LANES * panel + i % NS_LANES * NS_GROUP;
            const int32_t *rows = levels->rows + i, *columns = levels->columns + j, *offsets = levels->offsets + j;
            uint32_t hits[ROWS];
            if (!(q + 1 < n_panels[1] ? micro(x, y, groups, rows, columns, offsets, hits, 2)
                                      : micro(x, y, groups, rows, columns, offsets, hits, 1)))
                continue;
            for (int r = 0; r < ROWS; r++)
                for (; hits[r]; hits[r] &= hits[r] - 1)
                    found[count++] = (int32_t)((i + r) * NS_TILE_ROWS + j + __builtin_ctz(hits[r]));
        }
    }
    return count;
}

static void estimate(const float *a, const float *b, int64_t d, float *out) { ns_estimate(a, b, d, out); }

static void chains(const float *a, const float *b, int64_t d, const int32_t *places, float *out) {
    ns_chains(a, b, d, places, out);
}

const ns_sketch_kernels ns_sketch_kernels_avx512 = {"avx512", sift, estimate, chains};
#pragma GCC pop_options
#endif
