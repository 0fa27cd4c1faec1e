/* The nearest-neighbour pass: each pair is computed once and offered to the lists of both its rows while the tile is in
 * L2. The matrix is never stored. All vectors meet each other (a triangle of tiles), or one block another (a rectangle).
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
    int64_t d, width, first_tile, tile_columns;
    ns_ranked_block a, b; /* rows and columns; the same in a triangle */
    pthread_mutex_t *row_locks, *column_locks; /* one for NS_TILE_ROWS lists */
} pass;

static int64_t n_blocks(int64_t n) { return (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS; }

/* Vectors of one label are no candidates of each other. */
static void hide(const int32_t *row_labels, int64_t rows, const int32_t *column_labels, int64_t columns, float *tile) {
    for (int64_t i = 0; i < rows; i++) {
        float *row = tile + i * NS_TILE_ROWS;
        const int32_t label = row_labels[i];
        for (int64_t j = 0; j < columns; j++) row[j] = column_labels[j] == label ? -INFINITY : row[j];
    }
}

static void rank_tile(const pass *p, int64_t row, int64_t column) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    const int64_t i0 = row * NS_TILE_ROWS, j0 = column * NS_TILE_ROWS;
    const int64_t rows = ns_least(NS_TILE_ROWS, p->a.n - i0), columns = ns_least(NS_TILE_ROWS, p->b.n - j0);
    pthread_mutex_t *row_lock = &p->row_locks[row], *column_lock = &p->column_locks[column];
    ns_similarity_tile(p->kernels, p->metric, p->a.panels + i0 * p->d, rows, p->b.panels + j0 * p->d, columns, p->d,
                       tile);
    if (p->a.labels) hide(p->a.labels + i0, rows, p->b.labels + j0, columns, tile);
    pthread_mutex_lock(row_lock); /* those of rows first, and in a triangle the smaller: no deadlock */
    if (column_lock != row_lock) pthread_mutex_lock(column_lock);
    ns_rank_tile(p->kernels, tile, rows, columns, p->a.first + i0, p->b.first + j0, p->width,
                 p->a.lists + i0 * p->width, p->b.lists + j0 * p->width);
    if (column_lock != row_lock) pthread_mutex_unlock(column_lock);
    pthread_mutex_unlock(row_lock);
}

static void triangle_item(void *context, int64_t item) {
    const pass *p = context;
    int64_t row, right;
    ns_triangle_place(p->tile_columns, p->first_tile + item, &row, &right);
    rank_tile(p, row, row + right);
}

static void rectangle_item(void *context, int64_t item) {
    const pass *p = context;
    const int64_t tile = p->first_tile + item;
    rank_tile(p, tile / p->tile_columns, tile % p->tile_columns);
}

static int is_block(const ns_ranked_block *block) {
    return block->n >= 0 && block->first >= 0 && block->n <= UINT32_MAX - block->first;
}

int32_t ns_neighbours(int32_t isa, int32_t metric, const ns_ranked_block *a, const ns_ranked_block *b, int64_t d,
                      int64_t first_tile, int64_t n_tiles, int64_t width, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    if (metric < NS_DOT || metric > NS_EUCLIDEAN || !is_block(a) || (b && (!is_block(b) || !a->labels != !b->labels)) ||
        d < 1 || width < 1 || threads < 1)
        return NS_E_ARGUMENT;
    const int64_t rows = n_blocks(a->n), columns = b ? n_blocks(b->n) : rows;
    const int64_t all = b ? rows * columns : rows * (rows + 1) / 2, n_locks = b ? rows + columns : rows;
    if (first_tile < 0 || n_tiles < 0 || first_tile + n_tiles > all) return NS_E_ARGUMENT;
    pthread_mutex_t *locks = malloc(sizeof *locks * (size_t)(n_locks + 1));
    if (!locks) return NS_E_MEMORY;
    for (int64_t l = 0; l < n_locks; l++) locks[l] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pass p = {kernels, metric, d, width, first_tile, columns, *a, b ? *b : *a, locks, b ? locks + rows : locks};
    const int32_t status =
        ns_parallel(b ? rectangle_item : triangle_item, &p, n_tiles, ns_tile_ns(p.a.n, p.b.n, d), threads);
    for (int64_t l = 0; l < n_locks; l++) pthread_mutex_destroy(&locks[l]);
    free(locks);
    return status;
}
