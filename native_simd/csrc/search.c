/* Queries against packed vectors: all similarities of one query, or the best few of many queries.
 *
 * A few queries take the kernel for one vector, which streams the panels once; from FEW on, the tile kernel is faster
 * although it computes whole panels of 16 queries. Both return the same bits. A block of queries owns a lock and its
 * lists; consecutive items belong to different blocks. */
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

enum { FEW = NS_LANES / 2 };

typedef struct {
    const ns_kernels *kernels;
    const float *queries, *vectors;
    int64_t q, n, d, n_blocks, width;
    uint64_t *lists;
    pthread_mutex_t *locks;
} search;

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

static int64_t n_panels(int64_t n) { return (n + NS_LANES - 1) / NS_LANES; }

static void rank_item(void *context, int64_t item) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    const search *s = context;
    const int64_t block = item % s->n_blocks, i0 = block * NS_TILE_ROWS, j0 = item / s->n_blocks * NS_TILE_ROWS;
    const int64_t rows = least(NS_TILE_ROWS, s->q - i0), columns = least(NS_TILE_ROWS, s->n - j0);
    const float *queries = s->queries + i0 * s->d, *vectors = s->vectors + j0 * s->d;
    if (rows < FEW) {
        for (int64_t i = 0; i < rows; i++)
            s->kernels->lane_dot(queries + i, vectors, s->d, n_panels(columns), tile + i * NS_TILE_ROWS);
        ns_finish(NS_COSINE, tile, rows, columns);
    } else {
        ns_similarity_tile(s->kernels, NS_COSINE, queries, rows, vectors, columns, s->d, tile);
    }
    pthread_mutex_lock(&s->locks[block]);
    ns_rank_tile(s->kernels, tile, rows, columns, i0, j0, s->width, s->lists + i0 * s->width, NULL);
    pthread_mutex_unlock(&s->locks[block]);
}

int32_t ns_top_k(int32_t isa, const float *queries, int64_t q, const float *vectors, int64_t n, int64_t d,
                 uint64_t *lists, int64_t width, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    if (q < 0 || n < 0 || n > UINT32_MAX || d < 1 || width < 1 || threads < 1) return NS_E_ARGUMENT;
    const int64_t n_blocks = (q + NS_TILE_ROWS - 1) / NS_TILE_ROWS, n_chunks = (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS;
    pthread_mutex_t *locks = malloc(sizeof *locks * (size_t)(n_blocks + 1));
    if (!locks) return NS_E_MEMORY;
    for (int64_t b = 0; b < n_blocks; b++) locks[b] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    search s = {kernels, queries, vectors, q, n, d, n_blocks, width, lists, locks};
    const int32_t status = ns_parallel(rank_item, &s, n_blocks * n_chunks, threads);
    for (int64_t b = 0; b < n_blocks; b++) pthread_mutex_destroy(&locks[b]);
    free(locks);
    return status;
}

int32_t ns_batch_similarity(int32_t isa, const float *query, const float *vectors, int64_t n, int64_t d, float *out) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    if (n < 0 || d < 1) return NS_E_ARGUMENT;
    for (int64_t j = 0; j < n; j += NS_TILE_ROWS) {
        _Alignas(64) float row[NS_TILE_ROWS];
        const int64_t columns = least(NS_TILE_ROWS, n - j);
        kernels->lane_dot(query, vectors + j * d, d, n_panels(columns), row);
        ns_finish(NS_COSINE, row, 1, columns);
        __builtin_memcpy(out + j, row, sizeof(float) * (size_t)columns);
    }
    return NS_OK;
}
