/* Rows to panels of 16, with norms. The float64 chains of the norms run over dimensions, lanes over vectors. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "internal.h"

typedef struct {
    const float *rows;
    int64_t n, d, stride;
    int32_t normalize;
    float *panels;
    double *norms;
    int64_t bad_row;
} packing;

/* Inner products and squared distances of such vectors stay below 2^107, so that no sum, and no Ward update of up to
 * 2^21 members, reaches infinity. */
static const double LARGEST_NORM = 0x1p52;

enum { BLOCK = 64 }; /* dimensions transposed at a time: 16 rows x 64 floats stay in L1 */

static void panel_norms(const packing *p, int64_t first, int64_t lanes, double *norms) {
    double sums[NS_LANES] = {0};
    float block[BLOCK][NS_LANES];
    memset(block, 0, sizeof block);
    for (int64_t k0 = 0; k0 < p->d; k0 += BLOCK) {
        const int64_t width = p->d - k0 < BLOCK ? p->d - k0 : BLOCK;
        for (int64_t v = 0; v < lanes; v++) {
            const float *row = p->rows + (first + v) * p->stride + k0;
            for (int64_t k = 0; k < width; k++) block[k][v] = row[k];
        }
        for (int64_t k = 0; k < width; k++)
            for (int v = 0; v < NS_LANES; v++) sums[v] += (double)block[k][v] * (double)block[k][v];
    }
    for (int64_t v = 0; v < lanes; v++) norms[first + v] = sqrt(sums[v]);
}

static void pack_panel(void *context, int64_t panel) {
    packing *p = context;
    const int64_t first = panel * NS_LANES, lanes = p->n - first < NS_LANES ? p->n - first : NS_LANES;
    double scale[NS_LANES];
    panel_norms(p, first, lanes, p->norms);
    if (!p->panels) return;
    float *out = p->panels + first * p->d;
    for (int64_t v = 0; v < lanes; v++) scale[v] = p->normalize ? 1.0 / p->norms[first + v] : 1.0;
    if (lanes < NS_LANES) memset(out, 0, sizeof(float) * NS_LANES * (size_t)p->d);
    for (int64_t k0 = 0; k0 < p->d; k0 += BLOCK) {
        const int64_t end = p->d - k0 < BLOCK ? p->d : k0 + BLOCK;
        for (int64_t v = 0; v < lanes; v++) {
            const float *row = p->rows + (first + v) * p->stride;
            for (int64_t k = k0; k < end; k++) out[k * NS_LANES + v] = (float)((double)row[k] * scale[v]);
        }
    }
}

/* NaN fails every comparison, so the test is written to pass only what is good. */
static int is_usable(double norm, int32_t normalize) {
    return norm <= (normalize ? DBL_MAX : LARGEST_NORM) && (!normalize || norm >= (double)FLT_MIN);
}

int32_t ns_unit_rows(const float *rows, int64_t n, int64_t d, int64_t stride, float *units) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = rows + i * stride;
        double sum = 0.0;
        for (int64_t k = 0; k < d; k++) sum += (double)row[k] * (double)row[k];
        const double norm = sqrt(sum), scale = 1.0 / norm;
        if (!is_usable(norm, 1)) return NS_E_ROW;
        for (int64_t k = 0; k < d; k++) units[i * d + k] = (float)((double)row[k] * scale);
    }
    return NS_OK;
}

int32_t ns_pack(const float *rows, int64_t n, int64_t d, int64_t stride, int32_t normalize, float *panels,
                double *norms, int64_t *bad_row, int32_t threads) {
    if (n < 0 || d < 1 || stride < d || threads < 1) return NS_E_ARGUMENT;
    packing p = {rows, n, d, stride, normalize, panels, norms, -1};
    const int32_t status = ns_parallel(pack_panel, &p, (n + NS_LANES - 1) / NS_LANES, threads);
    if (status != NS_OK) return status;
    for (int64_t i = 0; i < n; i++)
        if (!is_usable(norms[i], normalize)) {
            *bad_row = i;
            return NS_E_ROW;
        }
    return NS_OK;
}
