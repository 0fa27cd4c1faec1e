/* AVX2. Micro-kernel 4 x 16: products of bytes are added in pairs to 16 bits, which they fit into, and those to 32. */
#include "sketch.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include <immintrin.h>

enum { ROWS = 4 };

static inline __attribute__((always_inline)) __m256i load(const void *p) { return _mm256_loadu_si256(p); }

static inline __attribute__((always_inline)) uint32_t below(__m256i value, __m256i least) {
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(least, value)));
}

/* bit 16 r + c: row r and column c */
static inline __attribute__((always_inline)) uint64_t micro(const uint8_t *x, const int8_t *y, int64_t groups,
                                                            const int32_t *rows, const int32_t *columns,
                                                            const int32_t *offsets) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i acc[ROWS][2];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) acc[r][0] = load(offsets), acc[r][1] = load(offsets + 8);
    for (int64_t g = 0; g < groups; g++) {
        const __m256i low = load(y + g * NS_STEP), high = load(y + g * NS_STEP + NS_STEP / 2);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            int32_t group;
            __builtin_memcpy(&group, x + g * NS_STEP + r * NS_GROUP, sizeof group);
            const __m256i a = _mm256_set1_epi32(group);
            acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(a, low), ones));
            acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(_mm256_maddubs_epi16(a, high), ones));
        }
    }
    uint64_t hits = 0;
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
        const __m256i least = _mm256_set1_epi32(rows[r]);
        const uint32_t low = below(acc[r][0], _mm256_min_epi32(least, load(columns)));
        const uint32_t high = below(acc[r][1], _mm256_min_epi32(least, load(columns + 8)));
        hits |= (uint64_t)(~(low | high << 8) & 0xffff) << (16 * r);
    }
    return hits;
}

static int64_t sift(const uint8_t *left, const int8_t *right, int64_t groups, const int64_t *n_panels,
                    const ns_sift_levels *levels, int32_t *found) {
    const int64_t panel = groups * NS_STEP;
    int64_t count = 0;
    for (int64_t j = 0; j < n_panels[1] * NS_LANES; j += NS_LANES)
        for (int64_t i = 0; i < n_panels[0] * NS_LANES; i += ROWS) {
            uint64_t hits = micro(left + i / NS_LANES * panel + i % NS_LANES * NS_GROUP, right + j / NS_LANES * panel,
                                  groups, levels->rows + i, levels->columns + j, levels->offsets + j);
            for (; hits; hits &= hits - 1) {
                const int64_t bit = __builtin_ctzll(hits);
                found[count++] = (int32_t)((i + bit / NS_LANES) * NS_TILE_ROWS + j + bit % NS_LANES);
            }
        }
    return count;
}

static void estimate(const float *a, const float *b, int64_t d, float *out) { ns_estimate(a, b, d, out); }

static void chains(const float *a, const float *b, int64_t d, const int32_t *places, float *out) {
    ns_chains(a, b, d, places, out);
}

const ns_sketch_kernels ns_sketch_kernels_avx2 = {"avx2", sift, estimate, chains};
#pragma GCC pop_options
#endif
