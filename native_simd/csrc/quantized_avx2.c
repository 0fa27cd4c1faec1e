/* The search of 16-bit and 8-bit integers for both x86 sets: one instruction multiplies pairs and adds the two products,
 * 512 bits at a time only with AVX-512BW, and reading bounds it. */
#include "internal.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2")
#include <immintrin.h>

enum { PREFETCH = 16, BYTE_PREFETCH = 32, HALF = NS_LANES, PAIR = 2 * NS_LANES };

/* Four panels at a time, as for float32: the line PREFETCH pairs on is asked for, past the end of a panel that of the one
 * that follows the four. */
static inline __attribute__((always_inline)) void quantized_panels(const int16_t *vector, const int16_t *panels,
                                                                   int64_t n_pairs, int32_t *sums, const int n) {
    const int64_t panel = PAIR * n_pairs;
    __m256i acc[4][2];
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) acc[p][h] = _mm256_setzero_si256();
    for (int64_t k = 0; k < n_pairs; k++) {
        int32_t pair;
        __builtin_memcpy(&pair, vector + 2 * k, sizeof pair);
        const __m256i x = _mm256_set1_epi32(pair);
        const int64_t ahead = (k + PREFETCH) * PAIR + (k + PREFETCH < n_pairs ? 0 : (n - 1) * panel);
#pragma GCC unroll 4
        for (int p = 0; p < n; p++) {
            __builtin_prefetch(panels + p * panel + ahead);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const __m256i y = _mm256_loadu_si256((const __m256i *)(panels + p * panel + k * PAIR + h * HALF));
                acc[p][h] = _mm256_add_epi32(acc[p][h], _mm256_madd_epi16(x, y));
            }
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) _mm256_storeu_si256((__m256i *)(sums + p * NS_LANES + h * 8), acc[p][h]);
}

void ns_quantized_dot_avx2(const int16_t *vector, const int16_t *panels, int64_t n_pairs, int64_t n_panels,
                           int32_t *sums) {
    int64_t j = 0;
    for (; j + 4 <= n_panels; j += 4) quantized_panels(vector, panels + j * PAIR * n_pairs, n_pairs, sums + j * NS_LANES, 4);
    panels += j * PAIR * n_pairs, sums += j * NS_LANES;
    switch (n_panels - j) {
        case 3: quantized_panels(vector, panels, n_pairs, sums, 3); break;
        case 2: quantized_panels(vector, panels, n_pairs, sums, 2); break;
        case 1: quantized_panels(vector, panels, n_pairs, sums, 1); break;
        default: break;
    }
}

/* As above. A line holds two pairs. */
static inline __attribute__((always_inline)) void byte_panels(const int16_t *vector, const int8_t *panels,
                                                              int64_t n_pairs, int32_t *sums, const int n) {
    const int64_t panel = PAIR * n_pairs;
    __m256i acc[4][2];
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) acc[p][h] = _mm256_setzero_si256();
    for (int64_t k = 0; k < n_pairs; k++) {
        int32_t pair;
        __builtin_memcpy(&pair, vector + 2 * k, sizeof pair);
        const __m256i x = _mm256_set1_epi32(pair);
        const int64_t ahead = (k + BYTE_PREFETCH) * PAIR + (k + BYTE_PREFETCH < n_pairs ? 0 : (n - 1) * panel);
#pragma GCC unroll 4
        for (int p = 0; p < n; p++) {
            if (k % 2 == 0) __builtin_prefetch(panels + p * panel + ahead);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const __m128i y = _mm_loadu_si128((const __m128i *)(panels + p * panel + k * PAIR + h * HALF));
                acc[p][h] = _mm256_add_epi32(acc[p][h], _mm256_madd_epi16(x, _mm256_cvtepi8_epi16(y)));
            }
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) _mm256_storeu_si256((__m256i *)(sums + p * NS_LANES + h * 8), acc[p][h]);
}

void ns_bytes_dot_avx2(const int16_t *vector, const int8_t *panels, int64_t n_pairs, int64_t n_panels, int32_t *sums) {
    int64_t j = 0;
    for (; j + 4 <= n_panels; j += 4) byte_panels(vector, panels + j * PAIR * n_pairs, n_pairs, sums + j * NS_LANES, 4);
    panels += j * PAIR * n_pairs, sums += j * NS_LANES;
    switch (n_panels - j) {
        case 3: byte_panels(vector, panels, n_pairs, sums, 3); break;
        case 2: byte_panels(vector, panels, n_pairs, sums, 2); break;
        case 1: byte_panels(vector, panels, n_pairs, sums, 1); break;
        default: break;
    }
}
#pragma GCC pop_options
#endif
