/* The reference: one fused multiply-add at a time, compiled without auto-vectorisation, so that "scalar" is scalar. */
#pragma GCC optimize("no-tree-vectorize")
#include <math.h>

#include "cells.h"

#define STRIDE NS_TILE_ROWS

static inline void tile(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c,
                        int squared_difference) {
    for (int64_t i = 0; i < a_panels * NS_LANES; i++) {
        const float *x = a + (i / NS_LANES) * NS_LANES * d + i % NS_LANES;
        for (int64_t j = 0; j < b_panels * NS_LANES; j++) {
            const float *y = b + (j / NS_LANES) * NS_LANES * d + j % NS_LANES;
            float acc = 0.0f;
            for (int64_t k = 0; k < d; k++) {
                if (squared_difference) {
                    const float t = x[k * NS_LANES] - y[k * NS_LANES];
                    acc = fmaf(t, t, acc);
                } else {
                    acc = fmaf(x[k * NS_LANES], y[k * NS_LANES], acc);
                }
            }
            c[i * STRIDE + j] = acc;
        }
    }
}

static void tile_dot(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c) {
    tile(a, b, d, a_panels, b_panels, c, 0);
}

static void tile_sqeuclidean(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c) {
    tile(a, b, d, a_panels, b_panels, c, 1);
}

static void transpose(const float *in, int64_t in_stride, int64_t rows, int64_t columns, float *out,
                      int64_t out_stride) {
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++) out[j * out_stride + i] = in[i * in_stride + j];
}

static float row_max(const float *row, const float *bias, int64_t n) {
    float best = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        const float value = row[j] + bias[j];
        if (value > best) best = value;
    }
    return best;
}

static int64_t row_at_least(const float *row, const float *bias, int64_t n, float threshold, int32_t *found) {
    int64_t count = 0;
    for (int64_t j = 0; j < n; j++)
        if (row[j] + bias[j] >= threshold) found[count++] = (int32_t)j;
    return count;
}

static void vector_dot(const float *vector, const float *panels, int64_t d, int64_t n_panels, float *out) {
    for (int64_t j = 0; j < n_panels * NS_LANES; j++) {
        const float *y = panels + (j / NS_LANES) * NS_LANES * d + j % NS_LANES;
        float acc = 0.0f;
        for (int64_t k = 0; k < d; k++) acc = fmaf(vector[k], y[k * NS_LANES], acc);
        out[j] = acc;
    }
}

static void vector_dot_of(const float *vector, const float *panels, int64_t d, const int64_t *which, int64_t n_panels,
                          float *out) {
    for (int64_t j = 0; j < n_panels; j++) vector_dot(vector, panels + which[j] * NS_LANES * d, d, 1, out + j * NS_LANES);
}

static void quantized_dot(const int16_t *vector, const int16_t *panels, int64_t n_pairs, int64_t n_panels,
                          int32_t *sums) {
    for (int64_t j = 0; j < n_panels * NS_LANES; j++) {
        const int16_t *y = panels + (j / NS_LANES) * 2 * NS_LANES * n_pairs + 2 * (j % NS_LANES);
        int32_t sum = 0;
        for (int64_t k = 0; k < n_pairs; k++)
            sum += vector[2 * k] * y[2 * NS_LANES * k] + vector[2 * k + 1] * y[2 * NS_LANES * k + 1];
        sums[j] = sum;
    }
}

static void bytes_dot(const int16_t *vector, const int8_t *panels, int64_t n_pairs, int64_t n_panels, int32_t *sums) {
    for (int64_t j = 0; j < n_panels * NS_LANES; j++) {
        const int8_t *y = panels + (j / NS_LANES) * 2 * NS_LANES * n_pairs + 2 * (j % NS_LANES);
        int32_t sum = 0;
        for (int64_t k = 0; k < n_pairs; k++)
            sum += vector[2 * k] * y[2 * NS_LANES * k] + vector[2 * k + 1] * y[2 * NS_LANES * k + 1];
        sums[j] = sum;
    }
}

static int64_t row_at_least_either(const float *row, const float *thresholds, int64_t n, const float *threshold,
                                   int32_t *found) {
    int64_t count = 0;
    for (int64_t j = 0; j < n; j++)
        if (row[j] >= *threshold || row[j] >= thresholds[j]) found[count++] = (int32_t)j;
    return count;
}

static void row_dot_of(const float *vector, const float *rows, int64_t d, const int64_t *which, int64_t n, float *out) {
    ns_row_dot_of(vector, rows, d, which, n, out);
}

const ns_kernels ns_kernels_scalar = {"scalar",     tile_dot, tile_sqeuclidean,   transpose, row_max,
                                     row_at_least, vector_dot, vector_dot_of, row_at_least_either, quantized_dot,
                                     bytes_dot, row_dot_of};
