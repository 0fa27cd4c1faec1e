/* Float64 arithmetic on sums of clusters, in one fixed order: the same bits from every compiler and instruction set. */
#include "internal.h"

enum { DOT_LANES = 16 };

static double sum_of_lanes(double *lanes) {
    for (int width = DOT_LANES / 2; width; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    return lanes[0];
}

double ns_sums_dot(const double *a, const double *b, int64_t d) {
    double lanes[DOT_LANES] = {0};
    int64_t k = 0;
    for (; k + DOT_LANES <= d; k += DOT_LANES)
        for (int l = 0; l < DOT_LANES; l++) lanes[l] += a[k + l] * b[k + l];
    for (int l = 0; k + l < d; l++) lanes[l] += a[k + l] * b[k + l];
    return sum_of_lanes(lanes);
}

double ns_centroid_sqdistance(const double *a, double a_weight, const double *b, double b_weight, int64_t d) {
    double lanes[DOT_LANES] = {0};
    for (int64_t k = 0; k < d; k++) {
        const double t = a[k] / a_weight - b[k] / b_weight;
        lanes[k % DOT_LANES] += t * t;
    }
    return sum_of_lanes(lanes);
}

typedef struct {
    int32_t metric;
    const float *rows;
    int64_t d, stride;
    const double *divisors;
    const int64_t *first, *second;
    int64_t n_pairs;
    double *out;
} pairs;

enum { PAIRS = 256 }; /* an item: some tenths of a millisecond */

static double value_at(const pairs *p, int64_t row, int64_t k) {
    const double value = (double)p->rows[row * p->stride + k];
    return p->divisors ? value / p->divisors[row] : value;
}

static double pair_similarity(const pairs *p, int64_t a, int64_t b) {
    double lanes[DOT_LANES] = {0};
    for (int64_t k = 0; k < p->d; k++) {
        const double x = value_at(p, a, k), y = value_at(p, b, k), t = x - y;
        lanes[k % DOT_LANES] += p->metric == NS_DOT ? x * y : t * t;
    }
    return p->metric == NS_DOT ? sum_of_lanes(lanes) : -sum_of_lanes(lanes);
}

static void pairs_item(void *context, int64_t item) {
    const pairs *p = context;
    const int64_t stop = (item + 1) * PAIRS < p->n_pairs ? (item + 1) * PAIRS : p->n_pairs;
    for (int64_t t = item * PAIRS; t < stop; t++) p->out[t] = pair_similarity(p, p->first[t], p->second[t]);
}

int32_t ns_pair_similarities(int32_t metric, const float *rows, int64_t d, int64_t stride, const double *divisors,
                             const int64_t *first, const int64_t *second, int64_t n_pairs, double *out,
                             int32_t threads) {
    if ((metric != NS_DOT && metric != NS_SQEUCLIDEAN) || d < 1 || stride < d || n_pairs < 0 || threads < 1)
        return NS_E_ARGUMENT;
    pairs p = {metric, rows, d, stride, divisors, first, second, n_pairs, out};
    return ns_parallel(pairs_item, &p, (n_pairs + PAIRS - 1) / PAIRS, 0.5 * PAIRS * (double)d, threads);
}
