/* Queries against packed vectors: all similarities of one query, or the best few of many queries.
 *
 * A few queries take the kernel for one vector, which streams the panels once; from NS_FEW on, the tile kernel is faster
 * although it computes whole panels of 16 queries. Both return the same bits. A block of queries owns a lock and its
 * lists; consecutive items belong to different blocks. */
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

typedef struct {
    const ns_kernels *kernels;
    const float *queries; /* fewer than NS_FEW: unit vectors one after the other; else panels */
    const float *vectors;
    int64_t q, n, d, n_blocks, k;
    uint64_t *lists;
    pthread_mutex_t *locks;
} search;

static int64_t n_tiles(int64_t n) { return (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS; }

static void rank_item(void *context, int64_t item) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    const search *s = context;
    const int64_t block = item % s->n_blocks, i0 = block * NS_TILE_ROWS, j0 = item / s->n_blocks * NS_TILE_ROWS;
    const int64_t rows = ns_least(NS_TILE_ROWS, s->q - i0), columns = ns_least(NS_TILE_ROWS, s->n - j0);
    const float *queries = s->queries + i0 * s->d, *vectors = s->vectors + j0 * s->d;
    if (s->q < NS_FEW)
        for (int64_t i = 0; i < rows; i++)
            ns_vector_similarities(s->kernels, queries + i * s->d, vectors, columns, s->d, tile + i * NS_TILE_ROWS);
    else
        ns_similarity_tile(s->kernels, NS_COSINE, queries, rows, vectors, columns, s->d, tile);
    pthread_mutex_lock(&s->locks[block]);
    ns_rank_tile(s->kernels, tile, rows, columns, i0, j0, s->k, s->lists + i0 * s->k, NULL);
    pthread_mutex_unlock(&s->locks[block]);
}

int32_t ns_top_k(int32_t isa, const float *queries, int64_t q, int64_t stride, const float *vectors, int64_t n,
                 int64_t d, int64_t k, int64_t *indices, float *similarities, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    if (q < 0 || d < 1 || stride < d || n < 0 || n > UINT32_MAX || k < 0 || k > n || threads < 1) return NS_E_ARGUMENT;
    const int64_t n_blocks = n_tiles(q);
    float *units = aligned_alloc(64, sizeof(float) * (size_t)((ns_panels(q) + 1) * NS_LANES * d));
    double *norms = malloc(sizeof *norms * (size_t)(q + 1));
    uint64_t *lists = calloc((size_t)(q * k + 1), sizeof *lists);
    pthread_mutex_t *locks = malloc(sizeof *locks * (size_t)(n_blocks + 1));
    int32_t status = NS_E_MEMORY;
    if (units && norms && lists && locks) {
        int64_t bad_row;
        status = q < NS_FEW ? ns_unit_rows(queries, q, d, stride, units)
                         : ns_pack(queries, q, d, stride, 1, units, norms, &bad_row, threads);
    }
    if (status == NS_OK && k > 0) {
        for (int64_t b = 0; b < n_blocks; b++) locks[b] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
        search s = {kernels, units, vectors, q, n, d, n_blocks, k, lists, locks};
        /* few queries one by one, 64 bytes a nanosecond, as from L3 */
        const double item_ns = q < NS_FEW ? NS_TILE_ROWS * (double)(q * d) / 16 : ns_tile_ns(q, n, d);
        status = ns_parallel(rank_item, &s, n_blocks * n_tiles(n), item_ns, threads);
        for (int64_t b = 0; b < n_blocks; b++) pthread_mutex_destroy(&locks[b]);
        if (status == NS_OK) status = ns_ranked(lists, q, k, k, indices, similarities, NULL);
    }
    free(units), free(norms), free(lists), free(locks);
    return status;
}

void ns_vector_similarities(const ns_kernels *kernels, const float *unit, const float *panels, int64_t n, int64_t d,
                            float *out) {
    for (int64_t j = 0; j < n; j += NS_TILE_ROWS) {
        _Alignas(64) float row[NS_TILE_ROWS];
        const int64_t columns = ns_least(NS_TILE_ROWS, n - j);
        kernels->vector_dot(unit, panels + j * d, d, ns_panels(columns), row);
        ns_finish(NS_COSINE, row, 1, columns);
        __builtin_memcpy(out + j, row, sizeof(float) * (size_t)columns);
    }
}

int32_t ns_batch_similarity(int32_t isa, const float *query, const float *vectors, int64_t n, int64_t d, float *out) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    if (n < 0 || d < 1) return NS_E_ARGUMENT;
    float *unit = malloc(sizeof *unit * (size_t)d);
    if (!unit) return NS_E_MEMORY;
    const int32_t status = ns_unit_rows(query, 1, d, d, unit);
    if (status == NS_OK) ns_vector_similarities(kernels, unit, vectors, n, d, out);
    free(unit);
    return status;
}
