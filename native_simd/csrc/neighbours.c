/* The symmetric nearest-neighbour pass: each pair is computed once and offered to the lists of both its rows while the
 * tile is in L2. The matrix is never stored.
 *
 * A list belongs to its block of NS_TILE_ROWS rows, and a tile holds the locks of its two blocks while it is ranked.
 * Tiles come row by row, so that the panels of a row stay in L2: along diagonals, where threads would never want the
 * same block, the pass took 10 to 15 % longer on 2 threads. Ranking is some 5 % of a tile's time at large n, so that a
 * dozen threads wait for the lock of their row now and then, no more. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

typedef struct {
    const ns_kernels *kernels;
    int32_t metric;
    const float *panels;
    const int32_t *labels;
    int64_t n, d, n_blocks, first_tile, width;
    uint64_t *lists;
    pthread_mutex_t *locks;
} pass;

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

/* Rows of one label are no candidates of each other. */
static void hide(const pass *p, float *tile, int64_t i0, int64_t rows, int64_t j0, int64_t columns) {
    for (int64_t i = 0; i < rows; i++) {
        float *row = tile + i * NS_TILE_ROWS;
        const int32_t label = p->labels[i0 + i];
        for (int64_t j = 0; j < columns; j++) row[j] = p->labels[j0 + j] == label ? -INFINITY : row[j];
    }
}

static void rank_item(void *context, int64_t item) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    const pass *p = context;
    int64_t row, right;
    ns_triangle_place(p->n_blocks, p->first_tile + item, &row, &right);
    const int64_t column = row + right, i0 = row * NS_TILE_ROWS, j0 = column * NS_TILE_ROWS;
    const int64_t rows = least(NS_TILE_ROWS, p->n - i0), columns = least(NS_TILE_ROWS, p->n - j0);
    ns_similarity_tile(p->kernels, p->metric, p->panels + i0 * p->d, rows, p->panels + j0 * p->d, columns, p->d, tile);
    if (p->labels) hide(p, tile, i0, rows, j0, columns);
    pthread_mutex_lock(&p->locks[row]); /* always the smaller block first: no deadlock */
    if (right) pthread_mutex_lock(&p->locks[column]);
    ns_rank_tile(p->kernels, tile, rows, columns, i0, j0, p->width, p->lists + i0 * p->width,
                 p->lists + j0 * p->width);
    if (right) pthread_mutex_unlock(&p->locks[column]);
    pthread_mutex_unlock(&p->locks[row]);
}

int32_t ns_neighbours(int32_t isa, int32_t metric, const float *panels, const int32_t *labels, int64_t n, int64_t d,
                      int64_t first_tile, int64_t n_tiles, uint64_t *lists, int64_t width, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    const int64_t n_blocks = (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS, all = n_blocks * (n_blocks + 1) / 2;
    if (metric < NS_DOT || metric > NS_EUCLIDEAN || n < 0 || n > UINT32_MAX || d < 1 || width < 1 || threads < 1 ||
        first_tile < 0 || n_tiles < 0 || first_tile + n_tiles > all)
        return NS_E_ARGUMENT;
    pthread_mutex_t *locks = malloc(sizeof *locks * (size_t)(n_blocks + 1));
    if (!locks) return NS_E_MEMORY;
    for (int64_t b = 0; b < n_blocks; b++) locks[b] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pass p = {kernels, metric, panels, labels, n, d, n_blocks, first_tile, width, lists, locks};
    const int32_t status = ns_parallel(rank_item, &p, n_tiles, threads);
    for (int64_t b = 0; b < n_blocks; b++) pthread_mutex_destroy(&locks[b]);
    free(locks);
    return status;
}
