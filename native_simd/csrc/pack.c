/* Rows to panels of 16, with norms. Squares are summed in float64: those of a block in order, then the blocks in order. So
 * a panel has a chain for each lane, and a single vector one for each of some blocks, with the same bits. */
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

/* BLOCK: dimensions transposed at a time, 16 rows x 64 floats stay in L1 until they are squared. CHAINS: of one vector, and
 * of 3 to 4 cycles a step, hardly longer than it takes to read and to square. */
enum { BLOCK = 64, CHAINS = 4 };

/* The product of two float32 is exact in float64. */
static void add_squares(const float *block, int64_t width, double *sums) {
    double s[NS_LANES] = {0.0};
    for (int64_t k = 0; k < width; k++)
        for (int v = 0; v < NS_LANES; v++) s[v] += (double)block[k * NS_LANES + v] * (double)block[k * NS_LANES + v];
    for (int v = 0; v < NS_LANES; v++) sums[v] += s[v];
}

static double sum_of_squares(const float *row, int64_t d) {
    double sum = 0.0;
    int64_t k = 0;
    for (; k + CHAINS * BLOCK <= d; k += CHAINS * BLOCK) {
        double s[CHAINS] = {0.0};
        for (int64_t i = k; i < k + BLOCK; i++)
            for (int c = 0; c < CHAINS; c++) s[c] += (double)row[i + c * BLOCK] * (double)row[i + c * BLOCK];
        for (int c = 0; c < CHAINS; c++) sum += s[c];
    }
    for (; k < d; k += BLOCK) {
        const int64_t end = ns_least(k + BLOCK, d);
        double s = 0.0;
        for (int64_t i = k; i < end; i++) s += (double)row[i] * (double)row[i];
        sum += s;
    }
    return sum;
}

static void scale_panel(float *panel, int64_t d, const double *scale) {
    for (int64_t k = 0; k < d; k++)
        for (int v = 0; v < NS_LANES; v++)
            panel[k * NS_LANES + v] = (float)((double)panel[k * NS_LANES + v] * scale[v]);
}

static void pack_panel(void *context, int64_t panel) {
    packing *p = context;
    const int64_t first = panel * NS_LANES, lanes = ns_least(NS_LANES, p->n - first);
    float scratch[BLOCK * NS_LANES], *out = p->panels ? p->panels + first * p->d : NULL;
    double sums[NS_LANES] = {0}, scale[NS_LANES] = {0};
    for (int64_t k = 0; k < p->d; k += BLOCK) {
        const int64_t width = ns_least(BLOCK, p->d - k);
        float *block = out ? out + k * NS_LANES : scratch;
        if (lanes < NS_LANES) memset(block, 0, sizeof(float) * NS_LANES * (size_t)width);
        ns_transpose(p->rows + first * p->stride + k, p->stride, lanes, width, block, NS_LANES);
        add_squares(block, width, sums);
    }
    for (int64_t v = 0; v < lanes; v++) {
        p->norms[first + v] = sqrt(sums[v]);
        scale[v] = 1.0 / p->norms[first + v];
    }
    if (out && p->normalize) scale_panel(out, p->d, scale);
}

/* NaN fails every comparison, so the test is written to pass only what is good. */
static int is_usable(double norm, int32_t normalize) {
    return norm <= (normalize ? DBL_MAX : LARGEST_NORM) && (!normalize || norm >= (double)FLT_MIN);
}

int32_t ns_unit_rows(const float *rows, int64_t n, int64_t d, int64_t stride, float *units) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = rows + i * stride;
        const double norm = sqrt(sum_of_squares(row, d)), scale = 1.0 / norm;
        if (!is_usable(norm, 1)) return NS_E_ROW;
        for (int64_t k = 0; k < d; k++) units[i * d + k] = (float)((double)row[k] * scale);
    }
    return NS_OK;
}

int32_t ns_is_packed(const float *rows, int64_t n, int64_t d, int64_t stride, const double *divisors,
                     const float *panels) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = rows + i * stride, *lane = panels + i / NS_LANES * NS_LANES * d + i % NS_LANES;
        const double scale = divisors ? 1.0 / divisors[i] : 1.0;
        for (int64_t k = 0; k < d; k++)
            if (lane[k * NS_LANES] != (float)((double)row[k] * scale)) return 0;
    }
    return 1;
}

int32_t ns_pack(const float *rows, int64_t n, int64_t d, int64_t stride, int32_t normalize, float *panels,
                double *norms, int64_t *bad_row, int32_t threads) {
    if (n < 0 || d < 1 || stride < d || threads < 1) return NS_E_ARGUMENT;
    packing p = {rows, n, d, stride, normalize, panels, norms, -1};
    const int32_t status = ns_parallel(pack_panel, &p, ns_panels(n), 0.5 * NS_LANES * (double)d, threads);
    if (status != NS_OK) return status;
    for (int64_t i = 0; i < n; i++)
        if (!is_usable(norms[i], normalize)) {
            *bad_row = i;
            return NS_E_ROW;
        }
    return NS_OK;
}
