/* Runs all of the native library without Python: every instruction set of this CPU against scalar, bit for bit.
 *
 *     driver ISA...    fails unless each ISA named was there
 *
 * Arrays are allocated to the byte, so that a sanitizer sees a stray access. Prints what was compared. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index_histories.h"
#include "index_memory.h"
#include "lanes.h"
#include "internal.h"
#include "sketch.h"
#include "operations.h"

static int64_t n_compared, n_different;

static void *allocate(size_t n_bytes) {
    void *memory = malloc(n_bytes ? n_bytes : 1);
    if (!memory) abort();
    return memory;
}

static float *floats(int64_t n) { return allocate(sizeof(float) * (size_t)n); }
static double *doubles(int64_t n) { return allocate(sizeof(double) * (size_t)n); }

static uint64_t state = 1;

static uint32_t next_random(void) { return (uint32_t)((state = state * 6364136223846793005u + 1442695040888963407u) >> 32); }

/* Mostly ordinary numbers; a sixteenth each of 0, -0, subnormal and large ones. */
static float any_float(void) {
    const uint32_t kind = next_random() % 16;
    const float value = (float)next_random() / 2147483648.0f - 1.0f;
    return kind == 0 ? 0.0f : kind == 1 ? -0.0f : kind == 2 ? value * 0x1p-135f : kind == 3 ? value * 0x1p30f : value;
}

static float *random_floats(int64_t n) {
    float *values = floats(n);
    for (int64_t i = 0; i < n; i++) values[i] = any_float();
    return values;
}

static void compare(const char *what, const void *got, const void *expected, size_t n_bytes) {
    n_compared++;
    if (memcmp(got, expected, n_bytes)) {
        n_different++;
        fprintf(stderr, "%s differs\n", what);
    }
}

static void compare_tiles(const ns_kernels *kernels, int64_t d, int64_t n_a, int64_t n_b) {
    float *a = random_floats(n_a * NS_LANES * d), *b = random_floats(n_b * NS_LANES * d);
    const int64_t n = (n_a * NS_LANES - 1) * NS_TILE_ROWS + n_b * NS_LANES;
    float *got = calloc((size_t)n, sizeof(float)), *expected = calloc((size_t)n, sizeof(float));
    if (!got || !expected) abort();
    kernels->tile_dot(a, b, d, n_a, n_b, got);
    ns_kernels_scalar.tile_dot(a, b, d, n_a, n_b, expected);
    compare("tile_dot", got, expected, sizeof(float) * (size_t)n);
    kernels->tile_sqeuclidean(a, b, d, n_a, n_b, got);
    ns_kernels_scalar.tile_sqeuclidean(a, b, d, n_a, n_b, expected);
    compare("tile_sqeuclidean", got, expected, sizeof(float) * (size_t)n);
    free(a), free(b), free(got), free(expected);
}

static void compare_transposes(const ns_kernels *kernels, int64_t rows, int64_t columns) {
    const int64_t in_stride = columns + rows % 3, out_stride = rows + columns % 5;
    float *in = random_floats((rows - 1) * in_stride + columns);
    const size_t n_bytes = sizeof(float) * (size_t)((columns - 1) * out_stride + rows);
    float *got = allocate(n_bytes), *expected = allocate(n_bytes);
    memset(got, 0x55, n_bytes), memset(expected, 0x55, n_bytes);
    kernels->transpose(in, in_stride, rows, columns, got, out_stride);
    ns_kernels_scalar.transpose(in, in_stride, rows, columns, expected, out_stride);
    compare("transpose", got, expected, n_bytes);
    free(in), free(got), free(expected);
}

static void compare_row_scans(const ns_kernels *kernels, int64_t n) {
    float *row = random_floats(n), *bias = floats(n);
    int32_t *got = allocate(sizeof(int32_t) * (size_t)n), *expected = allocate(sizeof(int32_t) * (size_t)n);
    for (int64_t j = 0; j < n; j++) {
        bias[j] = next_random() % 4 ? 0.0f : -INFINITY;
        if (bias[j] != 0.0f && next_random() % 2) row[j] = next_random() % 2 ? NAN : INFINITY;
    }
    const float best = kernels->row_max(row, bias, n), known = ns_kernels_scalar.row_max(row, bias, n);
    compare("row_max", &best, &known, sizeof best);
    const float thresholds[] = {-INFINITY, -0.25f, 0.0f, known, INFINITY};
    for (size_t t = 0; t < sizeof thresholds / sizeof *thresholds; t++) {
        const int64_t found = kernels->row_at_least(row, bias, n, thresholds[t], got);
        const int64_t count = ns_kernels_scalar.row_at_least(row, bias, n, thresholds[t], expected);
        compare("row_at_least: count", &found, &count, sizeof count);
        if (found == count) compare("row_at_least", got, expected, sizeof(int32_t) * (size_t)count);
    }
    free(row), free(bias), free(got), free(expected);
}

static void compare_vector_dots(const ns_kernels *kernels, int64_t d, int64_t n_panels) {
    float *vector = random_floats(d), *panels = random_floats(n_panels * NS_LANES * d);
    float *got = floats(n_panels * NS_LANES), *expected = floats(n_panels * NS_LANES);
    kernels->vector_dot(vector, panels, d, n_panels, got);
    ns_kernels_scalar.vector_dot(vector, panels, d, n_panels, expected);
    compare("vector_dot", got, expected, sizeof(float) * (size_t)(n_panels * NS_LANES));
    int64_t *which = allocate(sizeof(int64_t) * (size_t)n_panels);
    for (int64_t p = 0; p < n_panels; p++) which[p] = next_random() % (uint32_t)n_panels;
    kernels->vector_dot_of(vector, panels, d, which, n_panels, got);
    ns_kernels_scalar.vector_dot_of(vector, panels, d, which, n_panels, expected);
    compare("vector_dot_of", got, expected, sizeof(float) * (size_t)(n_panels * NS_LANES));
    free(vector), free(panels), free(got), free(expected), free(which);
}

static void compare_quantized_dots(const ns_kernels *kernels, int64_t n_pairs, int64_t n_panels) {
    const int64_t n_words = n_panels * NS_LANES * 2 * n_pairs;
    int16_t *vector = allocate(sizeof(int16_t) * (size_t)(2 * n_pairs));
    int16_t *panels = allocate(sizeof(int16_t) * (size_t)n_words);
    int32_t *got = allocate(sizeof(int32_t) * (size_t)(n_panels * NS_LANES));
    int32_t *expected = allocate(sizeof(int32_t) * (size_t)(n_panels * NS_LANES));
    for (int64_t k = 0; k < 2 * n_pairs; k++) vector[k] = (int16_t)(next_random() % 3001) - 1500;
    for (int64_t k = 0; k < n_words; k++) panels[k] = (int16_t)(next_random() % 3001) - 1500;
    kernels->quantized_dot(vector, panels, n_pairs, n_panels, got);
    ns_kernels_scalar.quantized_dot(vector, panels, n_pairs, n_panels, expected);
    compare("quantized_dot", got, expected, sizeof(int32_t) * (size_t)(n_panels * NS_LANES));
    free(vector), free(panels), free(got), free(expected);
}

static void compare_byte_dots(const ns_kernels *kernels, int64_t n_pairs, int64_t n_panels) {
    const int64_t n_bytes = n_panels * NS_LANES * 2 * n_pairs;
    int16_t *vector = allocate(sizeof(int16_t) * (size_t)(2 * n_pairs));
    int8_t *panels = allocate((size_t)n_bytes);
    int32_t *got = allocate(sizeof(int32_t) * (size_t)(n_panels * NS_LANES));
    int32_t *expected = allocate(sizeof(int32_t) * (size_t)(n_panels * NS_LANES));
    for (int64_t k = 0; k < 2 * n_pairs; k++) vector[k] = (int16_t)(next_random() % 3001) - 1500;
    for (int64_t k = 0; k < n_bytes; k++) panels[k] = (int8_t)(next_random() % 255 - 127);
    kernels->bytes_dot(vector, panels, n_pairs, n_panels, got);
    ns_kernels_scalar.bytes_dot(vector, panels, n_pairs, n_panels, expected);
    compare("bytes_dot", got, expected, sizeof(int32_t) * (size_t)(n_panels * NS_LANES));
    free(vector), free(panels), free(got), free(expected);
}

static void compare_row_dots(const ns_kernels *kernels, int64_t d, int64_t n) {
    float *vector = random_floats(d), *rows = random_floats(n * d), *got = floats(n), *expected = floats(n);
    int64_t *which = allocate(sizeof(int64_t) * (size_t)n);
    for (int64_t i = 0; i < n; i++) which[i] = next_random() % (uint32_t)n;
    kernels->row_dot_of(vector, rows, d, which, n, got);
    ns_kernels_scalar.row_dot_of(vector, rows, d, which, n, expected);
    compare("row_dot_of", got, expected, sizeof(float) * (size_t)n);
    free(vector), free(rows), free(got), free(expected), free(which);
}

static void compare_row_thresholds(const ns_kernels *kernels, int64_t n) {
    float *row = random_floats(n), *thresholds = random_floats(n);
    int32_t *got = allocate(sizeof(int32_t) * (size_t)n), *expected = allocate(sizeof(int32_t) * (size_t)n);
    const float levels[] = {-INFINITY, -0.25f, 0.0f, 0.5f, INFINITY};
    for (size_t t = 0; t < sizeof levels / sizeof *levels; t++) {
        const int64_t found = kernels->row_at_least_either(row, thresholds, n, &levels[t], got);
        const int64_t count = ns_kernels_scalar.row_at_least_either(row, thresholds, n, &levels[t], expected);
        compare("row_at_least_either: count", &found, &count, sizeof count);
        if (found == count) compare("row_at_least_either", got, expected, sizeof(int32_t) * (size_t)count);
    }
    free(row), free(thresholds), free(got), free(expected);
}

static int64_t sift(const ns_sketch_kernels *kernels, int64_t groups, const int64_t *n_panels, int32_t *found) {
    const int64_t n_bytes[2] = {n_panels[0] * NS_LANES * groups * NS_GROUP, n_panels[1] * NS_LANES * groups * NS_GROUP};
    uint8_t *left = allocate((size_t)n_bytes[0]);
    int8_t *right = allocate((size_t)n_bytes[1]);
    ns_sift_levels levels;
    for (int64_t i = 0; i < n_bytes[0]; i++) left[i] = next_random() % 128;
    for (int64_t i = 0; i < n_bytes[1]; i++) right[i] = (int8_t)((int)(next_random() % 255) - 127);
    for (int i = 0; i < NS_TILE_ROWS; i++) {
        levels.rows[i] = (int32_t)(groups * (next_random() % 40000));
        levels.columns[i] = next_random() % 8 ? INT32_MAX : (int32_t)(groups * (next_random() % 20000));
        levels.offsets[i] = (int32_t)(next_random() % 1000) - 500;
    }
    const int64_t count = kernels->sift(left, right, groups, n_panels, &levels, found);
    free(left), free(right);
    return count;
}

static void compare_sifts(const ns_sketch_kernels *kernels, int64_t groups, int64_t n_rows, int64_t n_columns) {
    static int32_t found[NS_TILE_ROWS * NS_TILE_ROWS];
    static int8_t got[NS_TILE_ROWS * NS_TILE_ROWS], expected[NS_TILE_ROWS * NS_TILE_ROWS];
    const int64_t n_panels[2] = {n_rows, n_columns};
    const uint64_t before = state;
    memset(got, 0, sizeof got), memset(expected, 0, sizeof expected);
    for (int64_t f = sift(kernels, groups, n_panels, found); f > 0; f--) got[found[f - 1]]++;
    state = before;
    for (int64_t f = sift(&ns_sketch_kernels_scalar, groups, n_panels, found); f > 0; f--) expected[found[f - 1]]++;
    compare("sift", got, expected, sizeof got);
}

static void compare_single_products(const ns_sketch_kernels *kernels, int64_t d) {
    float *a = random_floats(3 * d), *b = random_floats(3 * d);
    float got[NS_CHAINS_AT_A_TIME + 1], expected[NS_CHAINS_AT_A_TIME + 1];
    int32_t places[NS_CHAINS_AT_A_TIME];
    for (int c = 0; c < NS_CHAINS_AT_A_TIME; c++) places[c] = c / 3 * NS_TILE_ROWS + c % 3;
    kernels->chains(a, b, d, places, got), kernels->estimate(a, b, d, got + NS_CHAINS_AT_A_TIME);
    ns_sketch_kernels_scalar.chains(a, b, d, places, expected);
    ns_sketch_kernels_scalar.estimate(a, b, d, expected + NS_CHAINS_AT_A_TIME);
    compare("chains and estimate", got, expected, sizeof got);
    free(a), free(b);
}

static void compare_sketch_kernels(const ns_sketch_kernels *kernels) {
    for (int64_t groups = 1; groups <= 97; groups++) compare_sifts(kernels, groups, 1 + groups % 3, 1 + groups % 4);
    compare_sifts(kernels, 5, 12, 12);
    for (int64_t d = 1; d <= 97; d++) compare_single_products(kernels, d);
    for (int64_t d = 767; d <= 769; d++) compare_single_products(kernels, d);
}

static void compare_kernels(const ns_kernels *kernels) {
    static const int64_t long_d[] = {127, 128, 129, 191, 192, 193, 383, 384, 385, 767, 768, 769};
    for (int64_t d = 1; d <= 97; d++) compare_tiles(kernels, d, 1 + d % 3, 1 + d % 4);
    for (size_t i = 0; i < sizeof long_d / sizeof *long_d; i++) compare_tiles(kernels, long_d[i], 2, 3);
    compare_tiles(kernels, 3, 12, 12);
    for (int64_t rows = 1; rows <= 35; rows++)
        for (int64_t columns = 1; columns <= 35; columns++) compare_transposes(kernels, rows, columns);
    compare_transposes(kernels, NS_TILE_ROWS, NS_TILE_ROWS);
    for (int64_t n = 1; n <= 300; n++) compare_row_scans(kernels, n);
    for (int64_t d = 1; d <= 97; d++) compare_vector_dots(kernels, d, 1 + d % 9);
    for (int64_t n_pairs = 1; n_pairs <= 97; n_pairs++) compare_quantized_dots(kernels, n_pairs, 1 + n_pairs % 9);
    for (int64_t n_pairs = 1; n_pairs <= 97; n_pairs++) compare_byte_dots(kernels, n_pairs, 1 + n_pairs % 9);
    for (int64_t d = 1; d <= 97; d++) compare_row_dots(kernels, d, 1 + d % 19);
    for (int64_t n = 1; n <= NS_TILE_ROWS; n++) compare_row_thresholds(kernels, n);
}

static int64_t *random_times(int64_t n) {
    static const int64_t odd[] = {INT64_MIN, INT64_MAX, -1, 0};
    int64_t *times = allocate(sizeof(int64_t) * (size_t)n);
    for (int64_t i = 0; i < n; i++)
        times[i] = next_random() % 4 ? 1700000000000000 - (int64_t)next_random() * 1000 : odd[next_random() % 4];
    return times;
}

static void compare_epilogues(const ns_lane_kernels *kernels, int64_t n) {
    float *start = random_floats(n), *got = floats(n), *expected = floats(n);
    int64_t *times = random_times(n);
    const size_t n_bytes = sizeof(float) * (size_t)n;
    for (int64_t i = 0; i < n; i++) start[i] = fminf(start[i], 1.0f);
    for (double half_life = 1.0; half_life < 1e20; half_life *= 1e3) {
        const ns_fade_step step = {times[n / 2], 1.0 / half_life};
        memcpy(got, start, n_bytes), memcpy(expected, start, n_bytes);
        kernels->fade(got, times, n, &step), ns_lane_kernels_scalar.fade(expected, times, n, &step);
        compare("fade", got, expected, n_bytes);
    }
    for (double slope = 1e-10; slope < 1e10; slope *= 30.0) {
        const ns_sigmoid_step step = {0.1, slope};
        memcpy(got, start, n_bytes), memcpy(expected, start, n_bytes);
        kernels->sigmoid(got, n, &step), ns_lane_kernels_scalar.sigmoid(expected, n, &step);
        compare("sigmoid", got, expected, n_bytes);
    }
    free(start), free(got), free(expected), free(times);
}

static float *pack(const float *rows, int64_t n, int64_t d, int64_t stride, int32_t normalize, int32_t threads,
                   double *norms) {
    const int64_t n_panels = (n + NS_LANES - 1) / NS_LANES;
    float *panels = aligned_alloc(64, sizeof(float) * (size_t)(n_panels * NS_LANES * d));
    int64_t bad_row;
    if (!panels || ns_pack(rows, n, d, stride, normalize, panels, norms, &bad_row, threads) != NS_OK) abort();
    return panels;
}

/* All ways through the pairwise pass: with a mirror, and symmetric in two slices. */
static void compare_passes(int32_t isa, int32_t metric, const float *a, int64_t m, const float *b, int64_t n, int64_t d,
                           const ns_temporal *temporal, const ns_sigmoid *sigmoid, int32_t threads) {
    float *got = floats(m * n), *mirror = floats(n * m), *expected = floats(m * n);
    if (ns_pairwise(isa, metric, a, m, b, n, d, temporal, sigmoid, got, n, mirror, m, threads)) abort();
    if (ns_pairwise(NS_SCALAR, metric, a, m, b, n, d, temporal, sigmoid, expected, n, NULL, 0, 1)) abort();
    compare("pairwise", got, expected, sizeof(float) * (size_t)(m * n));
    ns_kernels_scalar.transpose(expected, n, m, n, got, m);
    compare("mirror", mirror, got, sizeof(float) * (size_t)(m * n));

    const int64_t c = (m + NS_TILE_ROWS - 1) / NS_TILE_ROWS, all = c * (c + 1) / 2, half = all / 2;
    ns_temporal own = {0};
    if (temporal) own = (ns_temporal){temporal->a_times, temporal->a_times, temporal->half_life};
    const ns_temporal *within = temporal ? &own : NULL;
    float *square = floats(m * m), *whole = floats(m * m);
    if (ns_pairwise_symmetric(isa, metric, a, m, d, within, sigmoid, 0, half, square, m, threads)) abort();
    if (ns_pairwise_symmetric(isa, metric, a, m, d, within, sigmoid, half, all - half, square, m, threads)) abort();
    if (ns_pairwise(NS_SCALAR, metric, a, m, a, m, d, within, sigmoid, whole, m, NULL, 0, 1)) abort();
    compare("symmetric", square, whole, sizeof(float) * (size_t)(m * m));
    free(got), free(mirror), free(expected), free(square), free(whole);
}

static void compare_pairwise(int32_t isa, int64_t m, int64_t n, int64_t d, int32_t threads) {
    const int64_t stride = d + 3;
    float *x = random_floats((m - 1) * stride + d), *y = random_floats((n - 1) * stride + d);
    double *x_norms = doubles(m), *y_norms = doubles(n);
    int64_t *x_times = random_times(m), *y_times = random_times(n);
    for (int64_t i = 0; i < m; i++) x[i * stride] += 2.0f;
    for (int64_t i = 0; i < n; i++) y[i * stride] += 2.0f;
    for (int32_t metric = NS_DOT; metric <= NS_EUCLIDEAN; metric++) {
        float *a = pack(x, m, d, stride, metric == NS_COSINE, threads, x_norms);
        float *b = pack(y, n, d, stride, metric == NS_COSINE, threads, y_norms);
        compare_passes(isa, metric, a, m, b, n, d, NULL, NULL, threads);
        if (metric == NS_COSINE) {
            const ns_temporal temporal = {x_times, y_times, 3e11};
            const ns_sigmoid sigmoid = {10.0, 0.5};
            compare_passes(isa, metric, a, m, b, n, d, &temporal, NULL, threads);
            compare_passes(isa, metric, a, m, b, n, d, NULL, &sigmoid, threads);
            compare_passes(isa, metric, a, m, b, n, d, &temporal, &sigmoid, threads);
        }
        free(a), free(b);
    }
    free(x), free(y), free(x_norms), free(y_norms), free(x_times), free(y_times);
}

/* The best others of n vectors, as two blocks of them: each alone, then one with the other, merged. */
static void rank_in_two_blocks(int32_t isa, int32_t metric, const float *vectors, int64_t n, int64_t d, uint64_t *lists,
                               int64_t width, int32_t threads) {
    const int64_t m = n / 2 / NS_LANES * NS_LANES;
    uint64_t *met = calloc((size_t)(n * width) + 1, sizeof(uint64_t));
    if (!met) abort();
    ns_ranked_block a = {vectors, NULL, m, 0, lists}, b = {vectors + m * d, NULL, n - m, m, lists + m * width};
    const int64_t rows = (a.n + NS_TILE_ROWS - 1) / NS_TILE_ROWS, columns = (b.n + NS_TILE_ROWS - 1) / NS_TILE_ROWS;
    if (ns_neighbours(isa, metric, &a, NULL, d, 0, rows * (rows + 1) / 2, width, threads) != NS_OK) abort();
    if (ns_neighbours(isa, metric, &b, NULL, d, 0, columns * (columns + 1) / 2, width, threads) != NS_OK) abort();
    a.lists = met, b.lists = met + m * width;
    if (ns_neighbours(isa, metric, &a, &b, d, 0, rows * columns, width, threads) != NS_OK) abort();
    if (ns_merge_lists(lists, met, n, width) != NS_OK) abort();
    free(met);
}

/* The best others of n vectors, and the best of them for q other vectors, in slices on several threads, against scalar
 * on one. */
static void compare_rankings(int32_t isa, int64_t n, int64_t d, int64_t width, int64_t q, int32_t threads) {
    float *x = random_floats(n * d), *y = random_floats(q * d);
    for (int64_t i = 0; i < n; i++) x[i * d] += 2.0f;
    for (int64_t i = 0; i < q; i++) y[i * d] += 2.0f;
    for (int64_t i = 0; i + 7 < n; i += 7) memcpy(x + (i + 7) * d, x + i * d, sizeof(float) * (size_t)d); /* ties */
    double *norms = doubles(n);
    float *vectors = pack(x, n, d, d, 1, 1, norms);
    const int64_t blocks = (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS, all = blocks * (blocks + 1) / 2, half = all / 2;
    const size_t n_bytes = sizeof(uint64_t) * (size_t)(n * width);
    uint64_t *got = allocate(n_bytes), *expected = allocate(n_bytes);
    for (int32_t metric = NS_DOT; metric <= NS_EUCLIDEAN; metric++) {
        memset(got, 0, n_bytes), memset(expected, 0, n_bytes);
        const ns_ranked_block mine = {vectors, NULL, n, 0, got}, known = {vectors, NULL, n, 0, expected};
        if (ns_neighbours(isa, metric, &mine, NULL, d, half, all - half, width, threads) != NS_OK) abort();
        if (ns_neighbours(isa, metric, &mine, NULL, d, 0, half, width, threads) != NS_OK) abort();
        if (ns_neighbours(NS_SCALAR, metric, &known, NULL, d, 0, all, width, 1) != NS_OK) abort();
        compare("neighbours", got, expected, n_bytes);
        memset(got, 0, n_bytes);
        rank_in_two_blocks(isa, metric, vectors, n, d, got, width, threads);
        compare("neighbours: blocks", got, expected, n_bytes);
    }
    int32_t *labels = allocate(sizeof *labels * (size_t)n);
    for (int64_t i = 0; i < n; i++) labels[i] = (int32_t)(i % 5);
    memset(got, 0, n_bytes), memset(expected, 0, n_bytes);
    const ns_ranked_block mine = {vectors, labels, n, 0, got}, known = {vectors, labels, n, 0, expected};
    if (ns_neighbours(isa, NS_DOT, &mine, NULL, d, 0, all, width, threads) != NS_OK) abort();
    if (ns_neighbours(NS_SCALAR, NS_DOT, &known, NULL, d, 0, all, width, 1) != NS_OK) abort();
    compare("neighbours of other labels", got, expected, n_bytes);
    free(labels);
    int64_t *ids = allocate(sizeof(int64_t) * (size_t)(n * width));
    float *best = floats(n * width), *bounds = floats(n);
    if (ns_ranked(got, n, width, width - 1, ids, best, bounds) != NS_OK) abort();
    free(x), free(norms), free(got), free(expected), free(ids), free(best), free(bounds);

    const int64_t k = width < n ? width : n;
    int64_t *got_ids = allocate(sizeof(int64_t) * (size_t)(q * k)), *known_ids = allocate(sizeof(int64_t) * (size_t)(q * k));
    float *got_best = floats(q * k), *known_best = floats(q * k), *got_row = floats(n), *known_row = floats(n);
    if (ns_top_k(isa, y, q, d, vectors, n, d, k, got_ids, got_best, threads) != NS_OK) abort();
    if (ns_top_k(NS_SCALAR, y, q, d, vectors, n, d, k, known_ids, known_best, 1) != NS_OK) abort();
    compare("top_k: ids", got_ids, known_ids, sizeof(int64_t) * (size_t)(q * k));
    compare("top_k: similarities", got_best, known_best, sizeof(float) * (size_t)(q * k));
    const int64_t n_lanes = (n + NS_LANES - 1) / NS_LANES * NS_LANES;
    int16_t *words = allocate(sizeof(int16_t) * (size_t)(n_lanes * ((d + 1) / 2) * 2));
    float *scales = floats(n_lanes);
    double error;
    if (ns_quantize(vectors, n, d, words, scales, &error, threads) != NS_OK) abort();
    for (int64_t few = 1; few <= q; few += q > 1 ? q - 1 : 1) {
        const size_t n_places = (size_t)(few * k);
        memset(got_ids, 0, sizeof(int64_t) * n_places), memset(got_best, 0, sizeof(float) * n_places);
        if (ns_top_k_quantized(isa, y, few, d, vectors, words, scales, error, n, d, k, got_ids, got_best, threads)) abort();
        compare("top_k_quantized: ids", got_ids, known_ids, sizeof(int64_t) * n_places);
        compare("top_k_quantized: similarities", got_best, known_best, sizeof(float) * n_places);
    }
    free(words), free(scales);
    if (ns_batch_similarity(isa, y, vectors, n, d, got_row) != NS_OK) abort();
    if (ns_batch_similarity(NS_SCALAR, y, vectors, n, d, known_row) != NS_OK) abort();
    compare("batch_similarity", got_row, known_row, sizeof(float) * (size_t)n);
    for (int64_t p = 0; p < k; p++) {
        const float value = got_row[got_ids[p]] + 0.0f;
        compare("top_k of one query", &got_best[p], &value, sizeof value);
    }
    free(y), free(vectors), free(got_ids), free(known_ids), free(got_best), free(known_best), free(got_row), free(known_row);
}

typedef struct {
    int64_t *first, *second;
    double *similarity;
} merges;

/* Clusters n unit vectors: in slices of 50 merges; with_sums as far as the method has a use for them. */
static merges cluster(int32_t isa, int32_t method, const float *x, int64_t n, int64_t d, int with_sums) {
    double *norms = doubles(n), *counts = doubles(n), *sums = with_sums ? doubles(n * d) : NULL;
    float *panels = pack(x, n, d, d, 1, 2, norms), *matrix = floats(n * n);
    const int32_t metric = method == NS_WARD ? NS_SQEUCLIDEAN : NS_COSINE;
    const int64_t c = (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS, all = c * (c + 1) / 2;
    if (ns_pairwise_symmetric(isa, metric, panels, n, d, NULL, NULL, 0, all, matrix, n, 2) != NS_OK) abort();
    for (int64_t i = 0; i < n; i++) {
        counts[i] = method == NS_WEIGHTED ? 1.0 : 1.0 + (double)(i % 3);
        for (int64_t k = 0; k < d && sums; k++) sums[i * d + k] = counts[i] * (double)x[i * d + k] / norms[i];
    }
    ns_chain *chain = ns_chain_create(isa, method, matrix, n, n, counts, sums, d, 1e-5, 1.0);
    if (!chain) abort();
    merges made = {allocate(sizeof(int64_t) * (size_t)n), allocate(sizeof(int64_t) * (size_t)n), doubles(n)};
    int64_t done = 0, advanced;
    do {
        const int64_t most = n - done < 50 ? n - done : 50;
        advanced = ns_chain_advance(chain, most, made.first + done, made.second + done, made.similarity + done);
        done += advanced > 0 ? advanced : 0;
    } while (advanced > 0);
    int64_t counters[4];
    ns_chain_counters(chain, counters);
    if (advanced < 0 || done != n - 1 || (n >= 512 && counters[3] == 0)) abort();
    ns_chain_destroy(chain);
    free(norms), free(counts), free(sums), free(panels), free(matrix);
    return made;
}

static void compare_chains(int32_t isa, int64_t n, int64_t d) {
    float *x = random_floats(n * d);
    for (int64_t i = 0; i < n; i++) x[i * d] += 0.5f;
    for (int64_t i = 0; i + 7 < n; i += 7) memcpy(x + (i + 7) * d, x + i * d, sizeof(float) * (size_t)d); /* ties */
    for (int32_t method = NS_AVERAGE; method <= NS_WARD; method++)
        for (int with_sums = 0; with_sums < (method == NS_COMPLETE || method == NS_SINGLE ? 1 : 2); with_sums++) {
            const merges got = cluster(isa, method, x, n, d, with_sums);
            const merges expected = cluster(NS_SCALAR, method, x, n, d, with_sums);
            const size_t n_bytes = sizeof(int64_t) * (size_t)(n - 1);
            compare("chain: first", got.first, expected.first, n_bytes);
            compare("chain: second", got.second, expected.second, n_bytes);
            compare("chain: similarity", got.similarity, expected.similarity, n_bytes);
            free(got.first), free(got.second), free(got.similarity);
            free(expected.first), free(expected.second), free(expected.similarity);
        }
    free(x);
}

typedef struct {
    int32_t method, metric;
    double epsilon;
} agglomeration_kind;

/* Merges n points without a matrix, from very short lists, so that rescans and exhausted ties come in. */
static merges agglomerate(int32_t isa, agglomeration_kind kind, const float *x, int64_t n, int64_t d, int64_t width,
                          int32_t threads) {
    const int unit = kind.metric == NS_COSINE;
    double *norms = doubles(n), *weights = doubles(n), max_norm = 0.0;
    float *panels = pack(x, n, d, d, unit, threads, norms);
    for (int64_t i = 0; i < n; i++) {
        weights[i] = kind.method == NS_WEIGHTED ? 1.0 : 1.0 + (double)(i % 3);
        if (norms[i] > max_norm) max_norm = norms[i];
    }
    const int64_t c = (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS, all = c * (c + 1) / 2;
    uint64_t *lists = allocate(sizeof *lists * (size_t)(n * (width + 1)));
    memset(lists, 0, sizeof *lists * (size_t)(n * (width + 1)));
    const ns_ranked_block whole = {panels, NULL, n, 0, lists};
    if (ns_neighbours(isa, kind.metric, &whole, NULL, d, 0, all, width + 1, threads) != NS_OK) abort();
    ns_agglomeration *a = ns_agglomeration_create(isa, kind.method, kind.metric, x, n, d, d, unit ? norms : NULL, weights,
                                                  panels, lists, width, unit ? 1.0 : max_norm, -INFINITY, kind.epsilon);
    if (!a) abort();
    merges made = {allocate(sizeof(int64_t) * (size_t)n), allocate(sizeof(int64_t) * (size_t)n), doubles(n)};
    int64_t done = 0, advanced, n_queries;
    do {
        const int64_t most = n - done < 50 ? n - done : 50;
        advanced = ns_agglomeration_advance(a, most, 1, made.first + done, made.second + done, made.similarity + done,
                                            &n_queries);
        done += advanced;
        if (!n_queries) continue;
        const float *columns, *terms;
        const int32_t *changed;
        int64_t n_columns, n_changed;
        ns_agglomeration_columns(a, &n_columns, &columns, &terms, &n_changed, &changed);
        const int64_t rounded = (n_queries + NS_LANES - 1) / NS_LANES * NS_LANES, places = width + 2;
        float *queries = floats(rounded * d), *query_terms = floats(rounded);
        uint64_t *ranked = allocate(sizeof *ranked * (size_t)(n_queries * places));
        memset(ranked, 0, sizeof *ranked * (size_t)(n_queries * places));
        ns_agglomeration_queries(a, queries, query_terms);
        if (ns_rank_clusters(isa, kind.method, kind.metric, queries, query_terms, n_queries, columns, terms, n_columns,
                             d, ranked, places, threads) != NS_OK)
            abort();
        if (ns_agglomeration_answer(a, ranked) != NS_OK) abort();
        free(queries), free(query_terms), free(ranked);
    } while (advanced > 0 || n_queries > 0);
    if (done != n - 1) abort();
    int64_t leaf[1];
    double *sum = doubles(d), weight[1];
    if (ns_agglomeration_living(a, leaf, sum, weight) != 1 || leaf[0] != 0) abort();
    ns_agglomeration_destroy(a);
    free(norms), free(weights), free(panels), free(lists), free(sum);
    return made;
}

static void compare_agglomerations(int32_t isa, int64_t n, int64_t d, int64_t width, int32_t threads) {
    static const agglomeration_kind kinds[] = {
        {NS_AVERAGE, NS_COSINE, 0.0},  {NS_AVERAGE, NS_DOT, 0.0},        {NS_AVERAGE, NS_SQEUCLIDEAN, 0.0},
        {NS_WEIGHTED, NS_COSINE, 0.0}, {NS_WARD, NS_SQEUCLIDEAN, 0.0},   {NS_AVERAGE, NS_COSINE, 0.1},
        {NS_AVERAGE, NS_DOT, 2.0},     {NS_WEIGHTED, NS_COSINE, 1000.0}};
    float *x = random_floats(n * d);
    for (int64_t i = 0; i < n; i++) x[i * d] += 0.5f;
    for (int64_t i = 0; i + 7 < n; i += 7) memcpy(x + (i + 7) * d, x + i * d, sizeof(float) * (size_t)d); /* ties */
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const merges got = agglomerate(isa, kinds[k], x, n, d, width, threads);
        const merges expected = agglomerate(NS_SCALAR, kinds[k], x, n, d, width, 1);
        const size_t n_bytes = sizeof(int64_t) * (size_t)(n - 1);
        compare("agglomeration: first", got.first, expected.first, n_bytes);
        compare("agglomeration: second", got.second, expected.second, n_bytes);
        compare("agglomeration: similarity", got.similarity, expected.similarity, n_bytes);
        double *pairs = doubles(n - 1), *known = doubles(n - 1);
        const int32_t metric = kinds[k].metric == NS_COSINE ? NS_DOT : kinds[k].metric;
        if (ns_pair_similarities(metric, x, d, d, NULL, got.first, got.second, n - 1, pairs, threads)) abort();
        if (ns_pair_similarities(metric, x, d, d, NULL, got.second, got.first, n - 1, known, 1)) abort();
        compare("pair_similarities", pairs, known, n_bytes);
        free(got.first), free(got.second), free(got.similarity), free(pairs), free(known);
        free(expected.first), free(expected.second), free(expected.similarity);
    }
    free(x);
}

/* The kernels may leave any NaN where scalar leaves one. */
static void compare_in_place(const char *what, float *got, float *expected, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (isnan(got[i]) && isnan(expected[i])) got[i] = expected[i] = 0.0f;
    compare(what, got, expected, sizeof(float) * (size_t)n);
}

static void compare_bindings(int32_t isa, int64_t n, int32_t threads) {
    static const float odd_rates[] = {0.0f, -0.0f, INFINITY, NAN, -1.0f, 3e38f, 1e-45f, 150.0f};
    static const int64_t now = 1700000000000000, odd_times[] = {INT64_MIN, INT64_MAX, now + 1, now, now - 1, 0};
    float *start = random_floats(n), *rates = floats(n), *got = floats(n), *expected = floats(n);
    int64_t *times = allocate(sizeof(int64_t) * (size_t)n);
    uint32_t *fans = allocate(sizeof(uint32_t) * (size_t)n);
    const size_t n_bytes = sizeof(float) * (size_t)n;
    for (int64_t i = 0; i < n; i++) {
        rates[i] = next_random() % 4 ? (float)next_random() * 0x1p-26f : odd_rates[next_random() % 8];
        times[i] = next_random() % 4 ? now - (int64_t)next_random() * 1000 : odd_times[next_random() % 6];
        fans[i] = next_random() >> next_random() % 32;
    }
    for (double dt = 0.0; dt < 8.0; dt += 0.7) {
        memcpy(got, start, n_bytes), memcpy(expected, start, n_bytes);
        if (ns_decay(isa, got, rates, n, dt, threads) || ns_decay(NS_SCALAR, expected, rates, n, dt, 1)) abort();
        compare_in_place("decay", got, expected, n);
    }
    for (double half_life = 1e9; half_life < 1e15; half_life *= 30.0) {
        memcpy(got, start, n_bytes), memcpy(expected, start, n_bytes);
        if (ns_decay_half_life(isa, got, times, n, now, half_life, 0.1f, threads)) abort();
        if (ns_decay_half_life(NS_SCALAR, expected, times, n, now, half_life, 0.1f, 1)) abort();
        compare_in_place("decay_half_life", got, expected, n);
    }
    for (int32_t law = 0; law < NS_N_FAN_LAWS; law++) {
        memcpy(got, start, n_bytes), memcpy(expected, start, n_bytes);
        if (ns_fan_effect(isa, law, got, fans, n, threads)) abort();
        if (ns_fan_effect(NS_SCALAR, law, expected, fans, n, 1)) abort();
        compare_in_place("fan_effect", got, expected, n);
    }
    free(start), free(rates), free(got), free(expected), free(times), free(fans);
}

/* Every operation of the registry. */
static void compare_operations(int32_t isa, int64_t n, int64_t d, int32_t threads) {
    for (int i = 0; i < n_operations; i++) {
        const operation *o = &operations[i];
        workload got = prepare(o, n, d), expected = prepare(o, n, d);
        if (o->call(&got, isa, threads) != NS_OK || o->call(&expected, NS_SCALAR, 1) != NS_OK) abort();
        compare(o->name, got.out, expected.out, (size_t)got.n_out_bytes);
        release(&got), release(&expected);
    }
}

static const operation *operation_of(const char *name) {
    const operation *o = operations;
    while (strcmp(o->name, name)) o++;
    return o;
}

/* The lists of a pass by sketches are those of the other pass. */
static void compare_sketched(int32_t isa, int64_t n, int64_t d, int32_t threads) {
    const operation *sketched = operation_of("neighbours_sketched"), *plain = operation_of("neighbours");
    workload got = prepare(sketched, n, d), expected = prepare(plain, n, d);
    if (sketched->call(&got, isa, threads) != NS_OK || plain->call(&expected, NS_SCALAR, 1) != NS_OK) abort();
    compare("neighbours_sketched: neighbours", got.out, expected.out, (size_t)got.n_out_bytes);
    release(&got), release(&expected);
}

typedef struct {
    const operation *called;
    workload work;
    int32_t isa, status;
} caller;

static void *call_once(void *argument) {
    caller *c = argument;
    c->status = c->called->call(&c->work, c->isa, 2);
    return NULL;
}

/* Every operation from several threads at a time that read the same panels, as a process does that searches with many;
 * before any other call, so that they also race to ask which instruction sets there are. */
static void compare_callers(int32_t isa, int64_t n, int64_t d) {
    enum { N_CALLERS = 4 };
    for (int i = 0; i < n_operations; i++) {
        const operation *o = &operations[i];
        caller callers[N_CALLERS];
        float *own_panels[N_CALLERS];
        pthread_t threads[N_CALLERS];
        for (int c = 0; c < N_CALLERS; c++) {
            callers[c] = (caller){o, prepare(o, n, d), isa, NS_OK};
            own_panels[c] = callers[c].work.panels;
            callers[c].work.panels = own_panels[0];
        }
        for (int c = 0; c < N_CALLERS; c++)
            if (pthread_create(&threads[c], NULL, call_once, &callers[c])) abort();
        for (int c = 0; c < N_CALLERS; c++) pthread_join(threads[c], NULL);
        workload expected = prepare(o, n, d);
        if (o->call(&expected, NS_SCALAR, 1) != NS_OK) abort();
        for (int c = 0; c < N_CALLERS; c++) {
            if (callers[c].status != NS_OK) abort();
            compare(o->name, callers[c].work.out, expected.out, (size_t)expected.n_out_bytes);
            callers[c].work.panels = own_panels[c];
            release(&callers[c].work);
        }
        release(&expected);
    }
}

static void refuse(void) {
    float row[2] = {1.0f, NAN};
    double norm;
    int64_t bad_row = -1;
    const int32_t status = ns_pack(row, 1, 2, 2, 0, NULL, &norm, &bad_row, 1), wanted = NS_E_ROW;
    compare("NaN refused", &status, &wanted, sizeof status);
    const int32_t backwards = ns_decay(NS_SCALAR, row, row, 0, -1.0, 1), refused = NS_E_ARGUMENT;
    compare("negative time refused", &backwards, &refused, sizeof backwards);
    const int32_t absent = NS_E_ISA,
                  isa_status = ns_pairwise(NS_N_ISAS, NS_DOT, row, 0, row, 0, 1, NULL, NULL, row, 0, NULL, 0, 1);
    compare("absent ISA refused", &isa_status, &absent, sizeof absent);
    const ns_sigmoid sigmoid = {1.0, 0.0};
    const int32_t bent = ns_pairwise(NS_SCALAR, NS_DOT, row, 0, row, 0, 1, NULL, &sigmoid, row, 0, NULL, 0, 1);
    compare("sigmoid of a dot product refused", &bent, &refused, sizeof bent);
}

int main(int n_arguments, char **arguments) {
    for (int32_t isa = NS_SCALAR; isa < NS_N_ISAS; isa++) {
        if (!ns_isa_available(isa)) continue;
        n_compared = 0;
        compare_callers(isa, 200, 5);
        compare_kernels(ns_table(isa));
        compare_sketch_kernels(ns_sketch_table(isa));
        compare_pairwise(isa, 1, 1, 1, 1);
        compare_pairwise(isa, 17, 97, 33, 2);
        compare_pairwise(isa, 385, 193, 20, 4);
        compare_rankings(isa, 1, 1, 2, 1, 1);
        compare_rankings(isa, 17, 5, 20, 3, 2);
        compare_rankings(isa, 769, 6, 9, 3, 4);
        compare_rankings(isa, 769, 6, 9, 200, 4);
        compare_chains(isa, 1, 3);
        compare_chains(isa, 60, 9);
        compare_chains(isa, 700, 8);
        compare_agglomerations(isa, 2, 3, 1, 1);
        compare_agglomerations(isa, 60, 9, 2, 2);
        compare_agglomerations(isa, 700, 8, 5, 4);
        for (int64_t n = NS_LANES; n <= NS_TILE_ROWS; n += NS_LANES) compare_epilogues(ns_lane_table(isa), n);
        for (int64_t n = 1; n <= 97; n++) compare_bindings(isa, n, 1);
        compare_bindings(isa, 100001, 4);
        compare_operations(isa, 1, 1, 1);
        compare_operations(isa, 17, 97, 2);
        compare_operations(isa, 385, 20, 4);
        compare_sketched(isa, 17, 97, 2);
        compare_sketched(isa, 577, 40, 4);
        refuse();
        printf("%s: %lld comparisons, %lld different\n", ns_isa_name(isa), (long long)n_compared,
               (long long)n_different);
    }
    n_different += check_failing_allocations();
    n_different += check_index_histories();
    for (int i = 1; i < n_arguments; i++) {
        int32_t isa = NS_SCALAR;
        while (isa < NS_N_ISAS && strcmp(ns_isa_name(isa), arguments[i])) isa++;
        if (isa == NS_N_ISAS || !ns_isa_available(isa)) {
            fprintf(stderr, "%s is not available here\n", arguments[i]);
            return 2;
        }
    }
    return n_different > 0;
}
