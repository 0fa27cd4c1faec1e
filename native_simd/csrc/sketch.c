/* Sketches: of unit vectors a few 8-bit digits, whose integer product bounds the cosine from above, and the
 * nearest-neighbour pass that computes only the pairs it does not rule out. README.md, "Sketches", proves the bound.
 *
 * Row i of the basis H (h x d) is nearly orthonormal to the others; z = H x up to `rounding`. Left digits are
 * z / left_unit and right ones z / right_unit, rounded; so a pair takes the left digits of one and the right ones of the
 * other. What digits leave out enters by three products of two terms each, in further digits that are rounded up. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sketch.h"

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

enum { PANEL_STEP = NS_LANES * NS_GROUP, MOST_THREADS = 256 };

typedef struct {
    const ns_digits *digits;
    const float *z;
    double *terms;
    const int64_t *order;
    uint8_t *left;
    int8_t *right;
    int32_t *offsets;
} encoding;

static int32_t digit(float z, double per_unit, double most) {
    const double digit = (double)z * per_unit;
    return (int32_t)lrint(digit > most ? most : digit < -most ? -most : digit);
}

/* Of digits in `unit`: the length of what they stand for, how far H (x - it) can be from 0, and x - it itself. */
static void measure(const ns_digits *c, const float *z, double unit, double most, double *length, double *inside,
                    double *missed) {
    double squares = 0.0, misses = 0.0, whole = 0.0;
    for (int64_t k = 0; k < c->h; k++) {
        const double q = (double)digit(z[k], 1.0 / unit, most), e = (double)z[k] - unit * q;
        squares += q * q, misses += e * e, whole += (double)z[k] * (double)z[k];
    }
    const double up = 1.0 + 0x1p-40; /* pays for float64 */
    *length = unit * sqrt(squares) * up;
    *inside = (sqrt(misses) + c->rounding + 2.0 * c->skew * *length) * up;
    const double outside = 1.0 - whole + misses + (2.0 * c->rounding + c->skew * *length) * *length;
    *missed = sqrt((outside > 0.0 ? outside : 0.0) + 0x1p-40) * up;
}

static void terms_item(void *context, int64_t panel) {
    const encoding *e = context;
    const ns_digits *c = e->digits;
    for (int64_t i = panel * NS_LANES; i < least(c->n, (panel + 1) * NS_LANES); i++) {
        double *t = e->terms + i * 2 * NS_N_TERMS;
        const float *z = e->z + i * c->h;
        measure(c, z, c->left_unit, NS_MOST_LEFT, &t[0], &t[1], &t[2]);
        measure(c, z, c->right_unit, NS_MOST_RIGHT, &t[4], &t[3], &t[5]);
    }
}

static int is_basis(const ns_digits *c) {
    return c->n >= 0 && c->h >= 1 && c->left_unit >= 0x1p-14 && c->right_unit >= 0x1p-14 && c->left_unit <= 1.0 &&
           c->right_unit <= 1.0 && c->rounding > 0.0 && c->rounding <= 1.0 && c->skew >= 0.0 && c->skew <= 1.0;
}

int32_t ns_sketch_terms(const ns_digits *digits, const float *z, double *terms, int32_t threads) {
    if (!is_basis(digits) || threads < 1) return NS_E_ARGUMENT;
    encoding e = {.digits = digits, .z = z, .terms = terms};
    return ns_parallel(terms_item, &e, (digits->n + NS_LANES - 1) / NS_LANES, threads);
}

static void digits_item(void *context, int64_t panel) {
    const encoding *e = context;
    const ns_digits *c = e->digits;
    uint8_t *left = e->left + panel * c->groups * PANEL_STEP;
    int8_t *right = e->right + panel * c->groups * PANEL_STEP;
    memset(left, 0, (size_t)(c->groups * PANEL_STEP)), memset(right, 0, (size_t)(c->groups * PANEL_STEP));
    for (int64_t v = 0; v < NS_LANES; v++) {
        const int64_t position = panel * NS_LANES + v;
        int32_t sum = 0;
        if (position < c->n) {
            const float *z = e->z + e->order[position] * c->h;
            const double *terms = e->terms + e->order[position] * 2 * NS_N_TERMS;
            int64_t place = 0;
            for (; place < c->h; place++) {
                const int64_t at = place / NS_GROUP * PANEL_STEP + v * NS_GROUP + place % NS_GROUP;
                const int32_t b = digit(z[place], 1.0 / c->right_unit, NS_MOST_RIGHT);
                left[at] = (uint8_t)(digit(z[place], 1.0 / c->left_unit, NS_MOST_LEFT) + NS_MOST_LEFT);
                right[at] = (int8_t)b;
                sum += b;
            }
            for (int t = 0; t < NS_N_TERMS; t++)
                for (int64_t copy = 0; copy < c->copies[t]; copy++, place++) {
                    const int64_t at = place / NS_GROUP * PANEL_STEP + v * NS_GROUP + place % NS_GROUP;
                    left[at] = (uint8_t)ceil(terms[t] / c->left_steps[t]);
                    right[at] = (int8_t)ceil(terms[NS_N_TERMS + t] / c->right_steps[t]);
                }
        }
        e->offsets[position] = -NS_MOST_LEFT * sum;
    }
}

int32_t ns_sketch_digits(const ns_digits *digits, const float *z, const double *terms, const int64_t *order,
                         uint8_t *left, int8_t *right, int32_t *offsets, int32_t threads) {
    if (!is_basis(digits) || threads < 1 || digits->groups > NS_MOST_GROUPS) return NS_E_ARGUMENT;
    int64_t width = digits->h;
    for (int t = 0; t < NS_N_TERMS; t++) width += digits->copies[t];
    if (width > NS_GROUP * digits->groups) return NS_E_ARGUMENT;
    encoding e = {digits, z, (double *)terms, order, left, right, offsets};
    return ns_parallel(digits_item, &e, (digits->n + NS_LANES - 1) / NS_LANES, threads);
}

typedef struct {
    const ns_kernels *kernels;
    const ns_sketch_kernels *sketch_kernels;
    const ns_sketch *sketch;
    const float *rows;
    int64_t d, stride, n_blocks, first_tile;
    const double *norms;
    uint64_t *lists;
    int64_t width;
    pthread_mutex_t *locks;
    float *panels; /* of two blocks, for each thread; whose turn it is takes a place that is not taken */
    _Atomic int8_t taken[MOST_THREADS];
} pass;

static int take_place(pass *p) {
    int place = 0;
    while (atomic_exchange(&p->taken[place], 1)) place = (place + 1) % MOST_THREADS;
    return place;
}

/* Where a block of NS_TILE_ROWS positions starts, and how many it has. */
typedef struct {
    int64_t number, first, n;
} block;

static block block_of(const pass *p, int64_t number) {
    const int64_t first = number * NS_TILE_ROWS;
    return (block){number, first, least(NS_TILE_ROWS, p->sketch->n - first)};
}

static int64_t row_at(const pass *p, int64_t position) { return p->sketch->order[position]; }

static uint64_t *list_at(const pass *p, int64_t position) { return p->lists + row_at(p, position) * p->width; }

/* Beyond this a cosine may be listed as what it is, rounded to float32. */
static const double LISTED = 0x1p-22;

static void read_entries(const pass *p, block b, float *entries) {
    pthread_mutex_lock(&p->locks[b.number]);
    for (int64_t i = 0; i < b.n; i++) entries[i] = ns_least_listed(list_at(p, b.first + i), p->width);
    pthread_mutex_unlock(&p->locks[b.number]);
}

/* No integer product below it belongs to a pair that would enter the list. */
static int32_t threshold(const pass *p, float entry) {
    if (entry == -INFINITY) return INT32_MIN;
    return (int32_t)floor(((double)entry - LISTED) / p->sketch->unit) - 1; /* at most 2^29 */
}

static int64_t sift(const pass *p, block a, block b, const float *row_entries, const float *column_entries,
                    int32_t *found) {
    const ns_sketch *s = p->sketch;
    const int64_t panel = s->groups * PANEL_STEP;
    const int64_t n_panels[2] = {(a.n + NS_LANES - 1) / NS_LANES, (b.n + NS_LANES - 1) / NS_LANES};
    ns_sift_levels levels;
    for (int64_t i = 0; i < n_panels[0] * NS_LANES; i++)
        levels.rows[i] = i < a.n ? threshold(p, row_entries[i]) : INT32_MAX;
    for (int64_t j = 0; j < n_panels[1] * NS_LANES; j++)
        levels.columns[j] = j < b.n ? threshold(p, column_entries[j]) : INT32_MAX;
    memcpy(levels.offsets, s->offsets + b.first, sizeof(int32_t) * (size_t)(n_panels[1] * NS_LANES));
    const int64_t n = p->sketch_kernels->sift(s->left + a.first / NS_LANES * panel, s->right + b.first / NS_LANES * panel,
                                              s->groups, n_panels, &levels, found);
    int64_t kept = 0;
    for (int64_t f = 0; f < n; f++) {
        const int64_t i = found[f] / NS_TILE_ROWS, j = found[f] % NS_TILE_ROWS;
        if (i < a.n && j < b.n && (a.number != b.number || i < j)) found[kept++] = found[f];
    }
    return kept;
}

static void pack_block(const pass *p, block b, float *panels) {
    for (int64_t i = 0; i < (b.n + NS_LANES - 1) / NS_LANES * NS_LANES; i++) {
        float *out = panels + i / NS_LANES * NS_LANES * p->d + i % NS_LANES;
        const float *row = i < b.n ? p->rows + row_at(p, b.first + i) * p->stride : NULL;
        const double scale = row ? 1.0 / p->norms[row_at(p, b.first + i)] : 0.0;
        for (int64_t k = 0; k < p->d; k++) out[k * NS_LANES] = row ? (float)((double)row[k] * scale) : 0.0f;
    }
}

/* Where sketches tell too little of a tile: finds the same pairs, or fewer, by float32 cosines of all. */
static int64_t sift_whole(const pass *p, block a, block b, const float *row_entries, const float *column_entries,
                          float *panels, int32_t *found) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    float *other = panels + NS_TILE_ROWS * p->d;
    const float error = (float)(((double)p->d + 8.0) * 0x1.01p-24 + LISTED); /* README.md: `cosine` */
    float columns[NS_TILE_ROWS];
    int32_t places[NS_TILE_ROWS];
    int64_t count = 0;
    pack_block(p, a, panels), pack_block(p, b, other);
    ns_similarity_tile(p->kernels, NS_COSINE, panels, a.n, other, b.n, p->d, tile);
    for (int64_t j = 0; j < b.n; j++) columns[j] = column_entries[j] - error;
    for (int64_t i = 0; i < a.n; i++) {
        const float level = row_entries[i] - error;
        const int64_t n = p->kernels->row_at_least_either(tile + i * NS_TILE_ROWS, columns, b.n, &level, places);
        for (int64_t f = 0; f < n; f++)
            if (a.number != b.number || i < places[f]) found[count++] = (int32_t)(i * NS_TILE_ROWS + places[f]);
    }
    return count;
}

static void fetch(const float *row, int64_t d) {
    for (int64_t k = 0; k < d; k += NS_LANES) __builtin_prefetch(row + k);
}

/* Exact cosines, rounded to float32. */
static void compute(const pass *p, block a, block b, const int32_t *found, int64_t n, float *values) {
    int64_t x = 0, y = 0;
    for (int64_t f = 0; f <= n; f++) {
        const int64_t i = x, j = y;
        if (f < n) {
            x = row_at(p, a.first + found[f] / NS_TILE_ROWS), y = row_at(p, b.first + found[f] % NS_TILE_ROWS);
            fetch(p->rows + x * p->stride, p->d), fetch(p->rows + y * p->stride, p->d);
        }
        if (!f) continue;
        double product;
        p->sketch_kernels->dot(p->rows + i * p->stride, p->rows + j * p->stride, p->d, &product);
        values[f - 1] = (float)(product / (p->norms[i] * p->norms[j]));
    }
}

static void offer(const pass *p, block a, block b, const int32_t *found, int64_t n, const float *values) {
    pthread_mutex_lock(&p->locks[a.number]); /* the smaller first: no deadlock */
    if (a.number != b.number) pthread_mutex_lock(&p->locks[b.number]);
    for (int64_t f = 0; f < n; f++) {
        const int64_t i = row_at(p, a.first + found[f] / NS_TILE_ROWS), j = row_at(p, b.first + found[f] % NS_TILE_ROWS);
        ns_offer(p->lists + i * p->width, p->width, values[f], j);
        ns_offer(p->lists + j * p->width, p->width, values[f], i);
    }
    if (a.number != b.number) pthread_mutex_unlock(&p->locks[b.number]);
    pthread_mutex_unlock(&p->locks[a.number]);
}

enum { DENSE = 8 }; /* one pair in so many: about where float32 tiles cost what single products do */

/* Diagonal by diagonal: those who are near in the order meet first, so that lists are good early. */
static void rank_item(void *context, int64_t item) {
    pass *p = context;
    int32_t found[NS_TILE_ROWS * NS_TILE_ROWS];
    float values[NS_TILE_ROWS * NS_TILE_ROWS], row_entries[NS_TILE_ROWS], column_entries[NS_TILE_ROWS];
    int64_t away, row;
    ns_triangle_place(p->n_blocks, p->first_tile + item, &away, &row);
    const block a = block_of(p, row), b = block_of(p, row + away);
    read_entries(p, a, row_entries), read_entries(p, b, column_entries);
    int64_t n = sift(p, a, b, row_entries, column_entries, found);
    if (n > a.n * b.n / DENSE) {
        const int place = take_place(p);
        n = sift_whole(p, a, b, row_entries, column_entries, p->panels + place * 2 * NS_TILE_ROWS * p->d, found);
        atomic_store(&p->taken[place], 0);
    }
    compute(p, a, b, found, n, values);
    offer(p, a, b, found, n, values);
}

int32_t ns_neighbours_sketched(int32_t isa, const ns_sketch *sketch, const float *rows, int64_t d, int64_t stride,
                               const double *norms, int64_t first_tile, int64_t n_tiles, uint64_t *lists,
                               int64_t width, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    const int64_t n_blocks = (sketch->n + NS_TILE_ROWS - 1) / NS_TILE_ROWS, all = n_blocks * (n_blocks + 1) / 2;
    if (sketch->n < 0 || sketch->n > UINT32_MAX || sketch->groups < 1 || sketch->groups > NS_MOST_GROUPS ||
        !(sketch->unit >= 0x1p-28) || d < 1 || stride < d || width < 1 || threads < 1 || first_tile < 0 || n_tiles < 0 ||
        first_tile + n_tiles > all)
        return NS_E_ARGUMENT;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    pthread_mutex_t *locks = malloc(sizeof *locks * (size_t)(n_blocks + 1));
    float *panels = aligned_alloc(64, sizeof(float) * 2 * NS_TILE_ROWS * (size_t)(d * threads));
    if (!locks || !panels) {
        free(locks), free(panels);
        return NS_E_MEMORY;
    }
    for (int64_t b = 0; b < n_blocks; b++) locks[b] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pass p = {.kernels = kernels, .sketch_kernels = ns_sketch_table(isa), .sketch = sketch, .rows = rows, .d = d,
              .stride = stride, .n_blocks = n_blocks, .first_tile = first_tile, .norms = norms, .lists = lists,
              .width = width, .locks = locks, .panels = panels};
    const int32_t status = ns_parallel(rank_item, &p, n_tiles, threads);
    for (int64_t b = 0; b < n_blocks; b++) pthread_mutex_destroy(&locks[b]);
    free(locks), free(panels);
    return status;
}
