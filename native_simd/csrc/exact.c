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
