/* The nearest-neighbour pass that computes only the pairs that the digits of a sketch do not rule out, with the bits of
 * every other pass. Tile by tile: integer products; of what they leave, cosines that are fast to add up; of what those
 * leave, cosines as everywhere. Where the digits leave much, whole tiles. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sketch.h"

/* rows[positions[v]] = vector v of the panels. */
typedef struct {
    const float *panels;
    int64_t n, d;
    const int64_t *positions;
    float *rows;
} unpacking;

enum { BLOCK = 64 }; /* dimensions, as in pack.c */

static void unpack_panel(void *context, int64_t panel) {
    const unpacking *u = context;
    const int64_t first = panel * NS_LANES, lanes = ns_least(NS_LANES, u->n - first);
    float block[NS_LANES * BLOCK];
    for (int64_t k = 0; k < u->d; k += BLOCK) {
        const int64_t width = ns_least(BLOCK, u->d - k);
        ns_transpose(u->panels + first * u->d + k * NS_LANES, NS_LANES, width, lanes, block, BLOCK);
        for (int64_t v = 0; v < lanes; v++)
            memcpy(u->rows + u->positions[first + v] * u->d + k, block + v * BLOCK, sizeof(float) * (size_t)width);
    }
}

int32_t ns_unpack(const float *panels, int64_t n, int64_t d, const int64_t *positions, float *rows, int32_t threads) {
    if (n < 0 || d < 1 || threads < 1) return NS_E_ARGUMENT;
    unpacking u = {panels, n, d, positions, rows};
    return ns_parallel(unpack_panel, &u, ns_panels(n), 0.5 * NS_LANES * (double)d, threads);
}

/* A tile's pairs that may enter a list: places i * NS_TILE_ROWS + j, and the cosines. */
typedef struct {
    int64_t n;
    int32_t places[NS_TILE_ROWS * NS_TILE_ROWS];
    float cosines[NS_TILE_ROWS * NS_TILE_ROWS];
} survivors;

/* What a thread works in: too much for its stack. */
typedef struct {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    survivors found;
    float *panels; /* of two blocks */
    _Atomic int8_t is_taken;
} desk;

typedef struct {
    const ns_kernels *kernels;
    const ns_sketch_kernels *sketch_kernels;
    const ns_sketch *sketch;
    const float *rows;
    int64_t d, n_blocks, first_tile;
    float error; /* of a float32 cosine, however summed (README.md) */
    uint64_t *lists;
    int64_t width;
    pthread_mutex_t *locks;
    desk *desks; /* as many as there are threads */
    int32_t n_desks;
} pass;

static desk *take_desk(const pass *p) {
    int32_t number = 0;
    while (atomic_exchange(&p->desks[number].is_taken, 1)) number = (number + 1) % p->n_desks;
    return &p->desks[number];
}

/* NS_TILE_ROWS positions, fewer in the last one; and below which similarity nothing enters their lists. */
typedef struct {
    int64_t number, first, n;
    float entries[NS_TILE_ROWS];
} block;

static uint64_t *list_at(const pass *p, int64_t position) { return p->lists + p->sketch->order[position] * p->width; }

static void read_block(const pass *p, int64_t number, block *b) {
    b->number = number, b->first = number * NS_TILE_ROWS, b->n = ns_least(NS_TILE_ROWS, p->sketch->n - b->first);
    pthread_mutex_lock(&p->locks[number]);
    for (int64_t i = 0; i < b->n; i++) b->entries[i] = ns_least_listed(list_at(p, b->first + i), p->width);
    pthread_mutex_unlock(&p->locks[number]);
}

/* No integer product below it belongs to a pair that would enter the list. */
static int32_t threshold(const pass *p, float entry) {
    if (!(entry >= -1.0f)) return INT32_MIN; /* not full */
    return (int32_t)floor(((double)entry - (double)p->error) / p->sketch->unit) - 1; /* at most 2^28 */
}

static int is_pair(const block *a, const block *b, int64_t i, int64_t j) {
    return i < a->n && j < b->n && (a->number != b->number || i < j);
}

static void sift(const pass *p, const block *a, const block *b, survivors *s) {
    const ns_sketch *digits = p->sketch;
    const int64_t panel = digits->groups * NS_STEP;
    const int64_t n_panels[2] = {ns_panels(a->n), ns_panels(b->n)};
    ns_sift_levels levels;
    for (int64_t i = 0; i < n_panels[0] * NS_LANES; i++)
        levels.rows[i] = i < a->n ? threshold(p, a->entries[i]) : INT32_MAX;
    for (int64_t j = 0; j < n_panels[1] * NS_LANES; j++)
        levels.columns[j] = j < b->n ? threshold(p, b->entries[j]) : INT32_MAX;
    memcpy(levels.offsets, digits->offsets + b->first, sizeof(int32_t) * (size_t)(n_panels[1] * NS_LANES));
    const int64_t n = p->sketch_kernels->sift(digits->left + a->first / NS_LANES * panel,
                                              digits->right + b->first / NS_LANES * panel, digits->groups, n_panels,
                                              &levels, s->places);
    s->n = 0;
    for (int64_t f = 0; f < n; f++)
        if (is_pair(a, b, s->places[f] / NS_TILE_ROWS, s->places[f] % NS_TILE_ROWS)) s->places[s->n++] = s->places[f];
}

static const float *row_of(const pass *p, const block *b, int64_t place) { return p->rows + (b->first + place) * p->d; }

/* Keeps those whose cosine, added up in an order that is fast, may be large enough. */
static void estimate(const pass *p, const block *a, const block *b, survivors *s) {
    int64_t kept = 0;
    for (int64_t f = 0; f < s->n; f++) {
        const int32_t place = s->places[f];
        const int64_t i = place / NS_TILE_ROWS, j = place % NS_TILE_ROWS;
        float most;
        p->sketch_kernels->estimate(row_of(p, a, i), row_of(p, b, j), p->d, &most);
        most += 2.0f * p->error;
        if (most >= a->entries[i] || most >= b->entries[j]) s->places[kept++] = place;
    }
    s->n = kept;
}

/* The cosines with the bits of every other pass. */
static void compute(const pass *p, const block *a, const block *b, survivors *s) {
    for (int64_t f = 0; f < s->n; f += NS_CHAINS_AT_A_TIME) {
        int32_t places[NS_CHAINS_AT_A_TIME];
        float cosines[NS_CHAINS_AT_A_TIME];
        for (int64_t c = 0; c < NS_CHAINS_AT_A_TIME; c++) places[c] = s->places[ns_least(f + c, s->n - 1)];
        p->sketch_kernels->chains(row_of(p, a, 0), row_of(p, b, 0), p->d, places, cosines);
        ns_finish(NS_COSINE, cosines, 1, NS_CHAINS_AT_A_TIME);
        memcpy(s->cosines + f, cosines, sizeof(float) * (size_t)ns_least(NS_CHAINS_AT_A_TIME, s->n - f));
    }
}

static void pack_block(const pass *p, const block *b, float *panels) {
    for (int64_t i = 0; i < b->n; i += NS_LANES) {
        const int64_t lanes = ns_least(NS_LANES, b->n - i);
        if (lanes < NS_LANES) memset(panels + i * p->d, 0, sizeof(float) * (size_t)(NS_LANES * p->d));
        p->kernels->transpose(row_of(p, b, i), p->d, lanes, p->d, panels + i * p->d, NS_LANES);
    }
}

/* Where digits tell too little of a tile: all its cosines, in panels. */
static void compute_whole(const pass *p, const block *a, const block *b, desk *own) {
    int32_t columns[NS_TILE_ROWS];
    float *x = own->panels, *y = x + NS_TILE_ROWS * p->d;
    survivors *s = &own->found;
    pack_block(p, a, x), pack_block(p, b, y);
    ns_similarity_tile(p->kernels, NS_COSINE, x, a->n, y, b->n, p->d, own->tile);
    s->n = 0;
    for (int64_t i = 0; i < a->n; i++) {
        const float *row = own->tile + i * NS_TILE_ROWS;
        const int64_t n = p->kernels->row_at_least_either(row, b->entries, b->n, &a->entries[i], columns);
        for (int64_t f = 0; f < n; f++)
            if (is_pair(a, b, i, columns[f])) {
                s->places[s->n] = (int32_t)(i * NS_TILE_ROWS + columns[f]);
                s->cosines[s->n++] = row[columns[f]];
            }
    }
}

static void offer(const pass *p, const block *a, const block *b, const survivors *s) {
    pthread_mutex_lock(&p->locks[a->number]); /* the smaller first: no deadlock */
    if (a->number != b->number) pthread_mutex_lock(&p->locks[b->number]);
    for (int64_t f = 0; f < s->n; f++) {
        const int64_t i = a->first + s->places[f] / NS_TILE_ROWS, j = b->first + s->places[f] % NS_TILE_ROWS;
        ns_offer(list_at(p, i), p->width, s->cosines[f], p->sketch->order[j]);
        ns_offer(list_at(p, j), p->width, s->cosines[f], p->sketch->order[i]);
    }
    if (a->number != b->number) pthread_mutex_unlock(&p->locks[b->number]);
    pthread_mutex_unlock(&p->locks[a->number]);
}

enum { DENSE = 8 }; /* one pair in so many: about where a tile of float32 costs what single products do */

/* Diagonal by diagonal: those who are near in the order meet first, so that lists are good early. */
static void rank_item(void *context, int64_t item) {
    const pass *p = context;
    desk *own = take_desk(p);
    survivors *s = &own->found;
    block a, b;
    int64_t away, row;
    ns_triangle_place(p->n_blocks, p->first_tile + item, &away, &row);
    read_block(p, row, &a), read_block(p, row + away, &b);
    sift(p, &a, &b, s);
    if (s->n > a.n * b.n / DENSE)
        compute_whole(p, &a, &b, own);
    else
        estimate(p, &a, &b, s), compute(p, &a, &b, s);
    offer(p, &a, &b, s);
    atomic_store(&own->is_taken, 0);
}

int32_t ns_neighbours_sketched(int32_t isa, const ns_sketch *sketch, const float *rows, int64_t d, int64_t first_tile,
                               int64_t n_tiles, uint64_t *lists, int64_t width, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    const int64_t n_blocks = (sketch->n + NS_TILE_ROWS - 1) / NS_TILE_ROWS, all = n_blocks * (n_blocks + 1) / 2;
    if (sketch->n < 0 || sketch->n > UINT32_MAX || sketch->groups < 1 || sketch->groups > NS_MOST_GROUPS ||
        !(sketch->unit >= 0x1p-28) || d < 1 || d > NS_MOST_DIMENSIONS || width < 1 || threads < 1 || first_tile < 0 ||
        n_tiles < 0 || first_tile + n_tiles > all)
        return NS_E_ARGUMENT;
    if (threads > NS_MOST_THREADS) threads = NS_MOST_THREADS;
    pthread_mutex_t *locks = malloc(sizeof *locks * (size_t)(n_blocks + 1));
    desk *desks = aligned_alloc(64, sizeof *desks * (size_t)threads);
    float *panels = aligned_alloc(64, sizeof(float) * 2 * NS_TILE_ROWS * (size_t)(d * threads));
    if (!locks || !desks || !panels) {
        free(locks), free(desks), free(panels);
        return NS_E_MEMORY;
    }
    for (int32_t t = 0; t < threads; t++) {
        desks[t].panels = panels + t * 2 * NS_TILE_ROWS * d;
        atomic_init(&desks[t].is_taken, 0);
    }
    for (int64_t b = 0; b < n_blocks; b++) locks[b] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    const double steps = ((double)d + 16.0) * 0x1p-24;
    pass p = {.kernels = kernels, .sketch_kernels = ns_sketch_table(isa), .sketch = sketch, .rows = rows, .d = d,
              .n_blocks = n_blocks, .first_tile = first_tile, .error = (float)(steps / (1.0 - steps)), .lists = lists,
              .width = width, .locks = locks, .desks = desks, .n_desks = threads};
    const int32_t status = ns_parallel(rank_item, &p, n_tiles, ns_tile_ns(sketch->n, sketch->n, d) / 2, threads);
    for (int64_t b = 0; b < n_blocks; b++) pthread_mutex_destroy(&locks[b]);
    free(locks), free(desks), free(panels);
    return status;
}
