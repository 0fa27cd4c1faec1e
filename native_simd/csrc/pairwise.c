/* The pairwise pass: panels in, finished similarities out, one tile of 192 x 192 at a time.
 *
 * A tile's raw accumulators live in a buffer on the thread's stack (147 KiB, L2); finishing them (clamp, sign, root),
 * the epilogue and writing them out, once or twice, happen while they are there. Tile and panel sizes never change a
 * bit. */
#include <math.h>

#include "epilogue.h"

typedef struct {
    const ns_kernels *kernels;
    ns_epilogue epilogue;
    int32_t metric, symmetric;
    const float *a, *b;
    int64_t m, n, d, tile_columns, first_tile;
    float *out, *mirror;
    int64_t out_stride, mirror_stride;
} pass;

enum { STRIP_ROWS = 48 };

/* Nothing is NaN here, and a zero stays what it is: told so, the compiler takes one max and one min for 4 values. */
__attribute__((optimize("finite-math-only", "no-signed-zeros"))) static void clamp(float *row, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        const float low = row[j] < -1.0f ? -1.0f : row[j];
        row[j] = low > 1.0f ? 1.0f : low;
    }
}

void ns_finish(int32_t metric, float *tile, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i++) {
        float *row = tile + i * NS_TILE_ROWS;
        switch (metric) {
            case NS_COSINE: clamp(row, columns); break;
            case NS_SQEUCLIDEAN:
                for (int64_t j = 0; j < columns; j++) row[j] = -row[j];
                break;
            case NS_EUCLIDEAN:
                for (int64_t j = 0; j < columns; j++) row[j] = -sqrtf(row[j]);
                break;
            default: break;
        }
    }
}

/* The raw accumulators of the panels that hold these rows and columns. */
static void accumulate_tile(const ns_kernels *kernels, int32_t metric, const float *a, int64_t rows, const float *b,
                            int64_t columns, int64_t d, float *tile) {
    const int euclidean = metric == NS_SQEUCLIDEAN || metric == NS_EUCLIDEAN;
    (euclidean ? kernels->tile_sqeuclidean : kernels->tile_dot)(a, b, d, ns_panels(rows), ns_panels(columns), tile);
}

void ns_similarity_tile(const ns_kernels *kernels, int32_t metric, const float *a, int64_t rows, const float *b,
                        int64_t columns, int64_t d, float *tile) {
    accumulate_tile(kernels, metric, a, rows, b, columns, d, tile);
    ns_finish(metric, tile, rows, columns);
}

/* Rows i0.. and columns j0.. of the result, through `tile`; columns from j0 + mirror_from on are mirrored too. A panel
 * of rows is finished and written while it is in L1. */
static void compute_block(const pass *p, float *tile, int64_t i0, int64_t rows, int64_t j0, int64_t columns,
                          int64_t mirror_from) {
    accumulate_tile(p->kernels, p->metric, p->a + i0 * p->d, rows, p->b + j0 * p->d, columns, p->d, tile);
    for (int64_t i = 0; i < rows; i += NS_LANES) {
        float *strip = tile + i * NS_TILE_ROWS;
        const int64_t height = ns_least(NS_LANES, rows - i);
        ns_finish(p->metric, strip, height, columns);
        ns_apply_epilogue(&p->epilogue, strip, i0 + i, height, j0, columns);
        for (int64_t r = 0; r < height; r++)
            __builtin_memcpy(p->out + (i0 + i + r) * p->out_stride + j0, strip + r * NS_TILE_ROWS,
                             sizeof(float) * (size_t)columns);
    }
    if (p->mirror && mirror_from < columns)
        p->kernels->transpose(tile + mirror_from, NS_TILE_ROWS, rows, columns - mirror_from,
                              p->mirror + (j0 + mirror_from) * p->mirror_stride + i0, p->mirror_stride);
}

static void compute_tile(const pass *p, int64_t tile_row, int64_t tile_column) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    const int64_t i0 = tile_row * NS_TILE_ROWS, j0 = tile_column * NS_TILE_ROWS;
    const int64_t rows = ns_least(NS_TILE_ROWS, p->m - i0), columns = ns_least(NS_TILE_ROWS, p->n - j0);
    if (!p->symmetric || tile_row != tile_column) {
        compute_block(p, tile, i0, rows, j0, columns, 0);
        return;
    }
    /* A tile on the diagonal in strips, each from the diagonal to the right: an eighth is computed twice, not half. */
    for (int64_t s = 0; s < rows; s += STRIP_ROWS) {
        const int64_t height = ns_least(STRIP_ROWS, rows - s);
        compute_block(p, tile, i0 + s, height, j0 + s, columns - s, height);
    }
}

static void rectangular_item(void *context, int64_t item) {
    const pass *p = context;
    compute_tile(p, item / p->tile_columns, item % p->tile_columns);
}

/* Line l starts at l * (2 n - l + 1) / 2. */
void ns_triangle_place(int64_t n, int64_t t, int64_t *line, int64_t *place) {
    const double edge = (double)(2 * n + 1);
    int64_t l = (int64_t)((edge - sqrt(edge * edge - 8.0 * (double)t)) / 2.0);
    while (l > 0 && l * (2 * n - l + 1) / 2 > t) l--;
    while ((l + 1) * (2 * n - l) / 2 <= t) l++;
    *line = l;
    *place = t - l * (2 * n - l + 1) / 2;
}

static void symmetric_item(void *context, int64_t item) {
    const pass *p = context;
    int64_t row, right;
    ns_triangle_place(p->tile_columns, p->first_tile + item, &row, &right);
    compute_tile(p, row, row + right);
}

double ns_tile_ns(int64_t m, int64_t n, int64_t d) {
    return (double)(ns_least(m, NS_TILE_ROWS) * ns_least(n, NS_TILE_ROWS)) * (double)d / 64.0;
}

static int64_t tiles(int64_t n) { return (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS; }

int32_t ns_pairwise(int32_t isa, int32_t metric, const float *a, int64_t m, const float *b, int64_t n, int64_t d,
                    const ns_temporal *temporal, const ns_sigmoid *sigmoid, float *out, int64_t out_stride,
                    float *mirror, int64_t mirror_stride, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    if (metric < NS_DOT || metric > NS_EUCLIDEAN || m < 0 || n < 0 || d < 1 || out_stride < n ||
        (mirror && mirror_stride < m) || threads < 1)
        return NS_E_ARGUMENT;
    pass p = {kernels, {0}, metric, 0, a, b, m, n, d, tiles(n), 0, out, mirror, out_stride, mirror_stride};
    const int32_t status = ns_prepare_epilogue(isa, metric, temporal, sigmoid, &p.epilogue);
    if (status != NS_OK) return status;
    return ns_parallel(rectangular_item, &p, tiles(m) * tiles(n), ns_tile_ns(m, n, d), threads);
}

int32_t ns_pairwise_symmetric(int32_t isa, int32_t metric, const float *a, int64_t n, int64_t d,
                              const ns_temporal *temporal, const ns_sigmoid *sigmoid, int64_t first_tile,
                              int64_t n_tiles, float *out, int64_t out_stride, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    const int64_t c = tiles(n), all = c * (c + 1) / 2;
    if (metric < NS_DOT || metric > NS_EUCLIDEAN || n < 0 || d < 1 || out_stride < n || threads < 1 ||
        first_tile < 0 || n_tiles < 0 || first_tile + n_tiles > all)
        return NS_E_ARGUMENT;
    pass p = {kernels, {0}, metric, 1, a, a, n, n, d, c, first_tile, out, out, out_stride, out_stride};
    const int32_t status = ns_prepare_epilogue(isa, metric, temporal, sigmoid, &p.epilogue);
    if (status != NS_OK) return status;
    return ns_parallel(symmetric_item, &p, n_tiles, ns_tile_ns(n, n, d), threads);
}
