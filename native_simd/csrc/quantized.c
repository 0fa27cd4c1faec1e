/* Unit vectors in 16-bit fixed point, and the search that reads them in place of float32.
 *
 * A first pass over the integers, half the bytes, finds approximate similarities within a proven bound of those in
 * float32. What may be among the best k within that bound, usually hardly more than k, goes through the float32 kernel,
 * panel by panel. So the result has the bits of ns_top_k: the bound decides only what is looked at. */
#include <pthread.h>
#include <stdlib.h>

#include "cells.h"

/* Elements become integers v / scale, and the norm of a vector of integers stays below sqrt(2^31). By Cauchy and Schwarz
 * no inner product, nor a part of one, reaches 2^31. */
#define LARGEST_NORM 46340.0
#define LARGEST_WORD 32767.0

/* What else a similarity may be off by: unit vectors and scales are rounded (2^-24 each, and a cosine is cut at 1), the
 * approximation is rounded three times. */
#define SLACK 0x1p-20

enum { PAIR = 2 * NS_LANES, FEW_PANELS = 4, LARGEST_D = 1 << 20 };

static int64_t n_tiles(int64_t n) { return (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS; }

static int64_t n_pairs(int64_t d) { return (d + 1) / 2; }

float ns_rounding_step(const float *vector, int64_t stride, int64_t d, double largest) {
    const double norm = LARGEST_NORM * (1.0 - 0x1p-20) - 0.5 * sqrt((double)d); /* rounding adds up to 1/2 an element */
    float most = 0.0f;
    for (int64_t k = 0; k < d; k++) {
        const float size = fabsf(vector[k * stride]);
        most = size > most ? size : most;
    }
    return (float)fmax(1.0 / norm, (double)most / largest);
}

double ns_round_to_words(const float *vector, int64_t stride, int64_t d, int16_t *words, int64_t pair_stride,
                         float *step) {
    *step = ns_rounding_step(vector, stride, d, LARGEST_WORD);
    const double unit = (double)*step, inverse = 1.0 / unit;
    double lost[2] = {0.0, 0.0};
    for (int64_t k = 0; k < d + d % 2; k++) {
        const double x = k < d ? (double)vector[k * stride] : 0.0;
        const double rounded = x * inverse + NS_ROUNDER_64 - NS_ROUNDER_64, rest = x - rounded * unit;
        words[k / 2 * pair_stride + k % 2] = (int16_t)rounded;
        lost[k % 2] += rest * rest;
    }
    return sqrt(lost[0] + lost[1]);
}

typedef struct {
    const float *panels;
    int64_t d;
    int16_t *words;
    float *scales;
    double *lost; /* of each panel the largest */
} quantization;

static void quantize_panel(void *context, int64_t panel) {
    const quantization *q = context;
    double most = 0.0;
    for (int64_t v = 0; v < NS_LANES; v++)
        most = fmax(most, ns_round_to_words(q->panels + panel * NS_LANES * q->d + v, NS_LANES, q->d,
                                            q->words + panel * PAIR * n_pairs(q->d) + 2 * v, PAIR,
                                            q->scales + panel * NS_LANES + v));
    q->lost[panel] = most;
}

int32_t ns_quantize(const float *panels, int64_t n, int64_t d, int16_t *words, float *scales, double *error,
                    int32_t threads) {
    if (n < 0 || d < 1 || threads < 1) return NS_E_ARGUMENT;
    double *lost = malloc(sizeof *lost * (size_t)(ns_panels(n) + 1));
    if (!lost) return NS_E_MEMORY;
    quantization q = {panels, d, words, scales, lost};
    const int32_t status = ns_parallel(quantize_panel, &q, ns_panels(n), 2.0 * NS_LANES * (double)d, threads);
    *error = 0.0;
    for (int64_t p = 0; status == NS_OK && p < ns_panels(n); p++) *error = fmax(*error, lost[p]);
    free(lost);
    return status;
}

double ns_similarity_error(double a, double b, int64_t d) {
    if (d > LARGEST_D) return INFINITY;
    const double rounding = (double)d * 0x1p-24;
    return a + b + a * b + rounding / (1.0 - rounding) + SLACK;
}

typedef struct {
    const ns_kernels *kernels;
    const float *unit, *panels; /* the query and the vectors, in float32 */
    const int16_t *unit_words, *words;
    const float *scales;
    float unit_scale;
    int64_t n, d, k;
    float *approximate; /* n similarities */
    int64_t *which;     /* panels with a candidate */
    int64_t n_which;
    uint64_t *list;
    pthread_mutex_t lock;
} search;

static void rank(search *s, const float *similarities, int64_t columns, int64_t first_column) {
    pthread_mutex_lock(&s->lock);
    ns_rank_tile(s->kernels, similarities, 1, columns, 0, first_column, s->k, s->list, NULL);
    pthread_mutex_unlock(&s->lock);
}

static void approximate_tile(void *context, int64_t tile) {
    search *s = context;
    const int64_t j0 = tile * NS_TILE_ROWS, columns = ns_least(NS_TILE_ROWS, s->n - j0);
    int32_t sums[NS_TILE_ROWS];
    s->kernels->quantized_dot(s->unit_words, s->words + j0 * 2 * n_pairs(s->d), n_pairs(s->d), ns_panels(columns), sums);
    for (int64_t j = 0; j < columns; j++)
        s->approximate[j0 + j] = (float)sums[j] * (s->unit_scale * s->scales[j0 + j]);
    rank(s, s->approximate + j0, columns, j0);
}

static void rank_panels(void *context, int64_t item) {
    search *s = context;
    const int64_t first = item * FEW_PANELS, n = ns_least(FEW_PANELS, s->n_which - first);
    float similarities[FEW_PANELS * NS_LANES];
    s->kernels->vector_dot_of(s->unit, s->panels, s->d, s->which + first, n, similarities);
    ns_finish(NS_COSINE, similarities, 1, n * NS_LANES);
    for (int64_t p = 0; p < n; p++) {
        const int64_t j0 = s->which[first + p] * NS_LANES;
        rank(s, similarities + p * NS_LANES, ns_least(NS_LANES, s->n - j0), j0);
    }
}

/* The k-th best similarity is at least the k-th best approximation less the error; what reaches it is approximately as
 * much less the error again. */
static void find_candidates(search *s, double error) {
    float kth;
    int64_t index;
    ns_ranked(s->list + s->k - 1, 1, 1, 1, &index, &kth, NULL);
    const float least_similarity = nextafterf((float)((double)kth - 2.0 * error), -INFINITY);
    s->n_which = 0;
    for (int64_t p = 0; p < ns_panels(s->n); p++) {
        const float *row = s->approximate + p * NS_LANES;
        int n_found = 0;
        for (int l = 0; l < NS_LANES; l++) n_found += row[l] >= least_similarity;
        if (n_found) s->which[s->n_which++] = p;
    }
}

static int32_t search_one(search *s, double error, int32_t threads, int64_t *indices, float *similarities) {
    for (int64_t p = 0; p < s->k; p++) s->list[p] = 0;
    const double vector_ns = (double)s->d / 16; /* 64 bytes each, as from L3 */
    int32_t status = ns_parallel(approximate_tile, s, n_tiles(s->n), NS_TILE_ROWS * vector_ns / 2, threads);
    if (status != NS_OK) return status;
    find_candidates(s, error);
    for (int64_t p = 0; p < s->k; p++) s->list[p] = 0;
    status = ns_parallel(rank_panels, s, (s->n_which + FEW_PANELS - 1) / FEW_PANELS, FEW_PANELS * NS_LANES * vector_ns,
                         threads);
    return status == NS_OK ? ns_ranked(s->list, 1, s->k, s->k, indices, similarities, NULL) : status;
}

int32_t ns_top_k_quantized(int32_t isa, const float *queries, int64_t q, int64_t stride, const float *vectors,
                           const int16_t *words, const float *scales, double error, int64_t n, int64_t d, int64_t k,
                           int64_t *indices, float *similarities, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    if (q >= NS_FEW) return ns_top_k(isa, queries, q, stride, vectors, n, d, k, indices, similarities, threads);
    if (q < 0 || d < 1 || stride < d || n < 0 || n > UINT32_MAX || k < 0 || k > n || threads < 1) return NS_E_ARGUMENT;
    float *units = malloc(sizeof *units * (size_t)(q * d + 1));
    int16_t *unit_words = malloc(sizeof *unit_words * (size_t)(2 * n_pairs(d)));
    float *approximate = malloc(sizeof *approximate * (size_t)(ns_panels(n) * NS_LANES + 1));
    int64_t *which = malloc(sizeof *which * (size_t)(ns_panels(n) + 1));
    uint64_t *list = malloc(sizeof *list * (size_t)(k + 1));
    int32_t status = units && unit_words && approximate && which && list ? NS_OK : NS_E_MEMORY;
    if (status == NS_OK) status = ns_unit_rows(queries, q, d, stride, units);
    if (status == NS_OK && k > 0) {
        search s = {.kernels = kernels, .panels = vectors, .unit_words = unit_words, .words = words, .scales = scales,
                    .n = n, .d = d, .k = k, .approximate = approximate, .which = which, .list = list,
                    .lock = PTHREAD_MUTEX_INITIALIZER};
        for (int64_t j = n; j < ns_panels(n) * NS_LANES; j++) approximate[j] = -INFINITY;
        for (int64_t i = 0; status == NS_OK && i < q; i++) {
            s.unit = units + i * d;
            const double lost = ns_round_to_words(s.unit, 1, d, unit_words, 2, &s.unit_scale);
            status = search_one(&s, ns_similarity_error(lost, error, d), threads, indices + i * k, similarities + i * k);
        }
        pthread_mutex_destroy(&s.lock);
    }
    free(units), free(unit_words), free(approximate), free(which), free(list);
    return status;
}
