/* What searching by cell shares: rounding to integers, and exact similarities of scattered rows. */
#ifndef NS_CELLS_H
#define NS_CELLS_H

#include <math.h>

#include "internal.h"

/* Adding and subtracting it rounds a float64 to an integer. */
#define NS_ROUNDER_64 0x1.8p52

/* What 1 is worth of the integers that d elements, `stride` apart, become: none is above `largest`, and no inner product
 * of two such vectors, one of them of unit length, overflows an int32 (quantized.c). */
float ns_rounding_step(const float *vector, int64_t stride, int64_t d, double largest);

/* Writes a unit vector as pairs of 16-bit integers, `pair_stride` apart, and their step; returns the norm of what
 * rounding took away (quantized.c). */
double ns_round_to_words(const float *vector, int64_t stride, int64_t d, int16_t *words, int64_t pair_stride,
                         float *step);

/* At most what lies between the float32 cosine of two vectors and that of their integers, from which rounding took `a`
 * and `b` (quantized.c). */
double ns_similarity_error(double a, double b, int64_t d);

enum { NS_ROWS_AT_A_TIME = 8, NS_ROW_PREFETCH = 128 };

/* The text of row_dot_of for every instruction set: as many chains as hide the latency of one. Rows come from anywhere, so
 * each asks for its own elements ahead; the last ask past the end of a row does nothing. */
static inline __attribute__((always_inline)) void ns_row_dot_of(const float *vector, const float *rows, int64_t d,
                                                                const int64_t *which, int64_t n, float *out) {
    for (int64_t first = 0; first < n; first += NS_ROWS_AT_A_TIME) {
        const float *x[NS_ROWS_AT_A_TIME];
        float sums[NS_ROWS_AT_A_TIME];
        for (int64_t c = 0; c < NS_ROWS_AT_A_TIME; c++) {
            x[c] = rows + which[first + c < n ? first + c : first] * d;
            sums[c] = 0.0f;
        }
        for (int64_t k = 0; k < d; k++) {
            if (k % NS_LANES == 0)
                for (int c = 0; c < NS_ROWS_AT_A_TIME; c++) __builtin_prefetch(x[c] + k + NS_ROW_PREFETCH);
            for (int c = 0; c < NS_ROWS_AT_A_TIME; c++) sums[c] = fmaf(vector[k], x[c][k], sums[c]);
        }
        for (int64_t c = 0; c < NS_ROWS_AT_A_TIME && first + c < n; c++) out[first + c] = sums[c];
    }
}

#endif
