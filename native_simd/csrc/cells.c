/* Search by cell: of unit vectors grouped around centres, those of the nearest cells are compared with a query.
 *
 * A first pass reads them as 8-bit integers, a quarter of the bytes of float32, which finds similarities within a proven
 * bound. The best k of these are computed in float32; the k-th best of that is what any other must reach within its own
 * bound to be computed as well. So the answer is that of ns_top_k over what was compared, to the bit: cells decide which
 * vectors are compared, integers only which of them are looked at twice. */
#include <stdlib.h>

#include "cells.h"

#define LARGEST_BYTE 127.0

/* Of the roundings of a vector's d elements, taken as independent: their inner product with a unit vector has a standard
 * deviation of their norm / sqrt(d). That it is beyond six has a chance of 2e-9. */
#define N_DEVIATIONS 6.0

enum {
    PAIR = 2 * NS_LANES,
    TILE_PANELS = NS_TILE_ROWS / NS_LANES,
    FIRST_CELLS = 32 /* ranked at once; twice as many where they are not enough */
};

static int64_t n_pairs(int64_t d) { return (d + 1) / 2; }

typedef struct {
    const float *rows; /* of unit length */
    const int64_t *numbers;
    int64_t d;
    int8_t *bytes;
    float *scales, *errors;
} rounding;

static void round_panel(void *context, int64_t panel) {
    const rounding *r = context;
    for (int64_t p = panel * NS_LANES; p < (panel + 1) * NS_LANES; p++) {
        int8_t *bytes = r->bytes + panel * PAIR * n_pairs(r->d) + p % NS_LANES * 2;
        const float *row = r->numbers[p] < 0 ? NULL : r->rows + r->numbers[p] * r->d;
        const float scale = row ? ns_rounding_step(row, 1, r->d, LARGEST_BYTE) : 0.0f;
        const double inverse = row ? 1.0 / (double)scale : 0.0;
        double lost = 0.0;
        for (int64_t k = 0; k < 2 * n_pairs(r->d); k++) {
            const double x = row && k < r->d ? (double)row[k] : 0.0;
            const double rounded = x * inverse + NS_ROUNDER_64 - NS_ROUNDER_64, rest = x - rounded * (double)scale;
            bytes[k / 2 * PAIR + k % 2] = (int8_t)rounded;
            lost += rest * rest;
        }
        r->scales[p] = scale;
        r->errors[p] = row ? nextafterf((float)sqrt(lost), INFINITY) : 0.0f;
    }
}

int32_t ns_round_to_bytes(const float *rows, const int64_t *numbers, int64_t n_positions, int64_t d, int8_t *bytes,
                          float *scales, float *errors, int32_t threads) {
    if (n_positions < 0 || n_positions % NS_LANES || d < 1 || threads < 1) return NS_E_ARGUMENT;
    rounding r = {rows, numbers, d, bytes, scales, errors};
    return ns_parallel(round_panel, &r, ns_panels(n_positions), 4.0 * NS_LANES * (double)d, threads);
}

/* What one thread searches with, one query after the other. A slot is a panel that is compared: its similarities lie at
 * approximate + slot * NS_LANES. */
typedef struct {
    const ns_kernels *kernels;
    const ns_cells *cells;
    const uint8_t *allowed;
    int64_t n_rows, k;
    const float *unit; /* the query, and its integers */
    int16_t *words;
    float step;
    float *approximate;
    int64_t *slots; /* the panel of each */
    int64_t n_slots, n_compared;
    uint64_t *near, *best; /* the k best approximations, by place, and the k best similarities, by number */
    float *centre_similarities;
    uint64_t *near_cells;
    int64_t *which; /* of n_cells or k, whichever is more */
    float *similarities;
} searcher;

/* Sums to similarities; -INFINITY where there is no vector or it is not allowed. */
static void scale_panel(searcher *s, int64_t panel, const int32_t *sums, float *out) {
    const int64_t *numbers = s->cells->numbers + panel * NS_LANES;
    const float *scales = s->cells->scales + panel * NS_LANES;
    for (int l = 0; l < NS_LANES; l++) out[l] = (float)sums[l] * (s->step * scales[l]);
    for (int l = 0; l < NS_LANES; l++) {
        const int counts = numbers[l] >= 0 && (!s->allowed || s->allowed[numbers[l]]);
        if (!counts) out[l] = -INFINITY;
        s->n_compared += counts;
    }
}

static void compare_run(searcher *s, int64_t first, int64_t count) {
    for (int64_t done = 0; done < count; done += TILE_PANELS) {
        int32_t sums[NS_TILE_ROWS];
        const int64_t panel = first + done, n = ns_least(TILE_PANELS, count - done), first_slot = s->n_slots;
        s->kernels->bytes_dot(s->words, s->cells->bytes + panel * PAIR * n_pairs(s->cells->d), n_pairs(s->cells->d), n,
                              sums);
        for (int64_t p = 0; p < n; p++) {
            scale_panel(s, panel + p, sums + p * NS_LANES, s->approximate + s->n_slots * NS_LANES);
            s->slots[s->n_slots++] = panel + p;
        }
        ns_rank_tile(s->kernels, s->approximate + first_slot * NS_LANES, 1, n * NS_LANES, 0, first_slot * NS_LANES, s->k,
                     s->near, NULL);
    }
}

static int has_allowed(const searcher *s, int64_t panel) {
    const int64_t *numbers = s->cells->numbers + panel * NS_LANES;
    int any = 0;
    for (int l = 0; l < NS_LANES; l++) any |= numbers[l] >= 0 && s->allowed[numbers[l]];
    return any;
}

/* Compares the panels first .. stop - 1, but none of which no vector is allowed. */
static void compare(searcher *s, int64_t first, int64_t stop) {
    if (!s->allowed) compare_run(s, first, stop - first);
    while (s->allowed && first < stop) {
        while (first < stop && !has_allowed(s, first)) first++;
        const int64_t begin = first;
        while (first < stop && has_allowed(s, first)) first++;
        compare_run(s, begin, first - begin);
    }
}

static void rank_centres(searcher *s, int64_t width) {
    for (int64_t c = 0; c < width; c++) s->near_cells[c] = 0;
    for (int64_t c = 0; c < s->cells->n_cells; c += NS_TILE_ROWS)
        ns_rank_tile(s->kernels, s->centre_similarities + c, 1, ns_least(NS_TILE_ROWS, s->cells->n_cells - c), 0, c, width,
                     s->near_cells, NULL);
    ns_ranked(s->near_cells, 1, width, width, s->which, s->similarities, NULL);
}

/* Compares cells, the nearest first, until enough vectors are. */
static void compare_near_cells(searcher *s) {
    const ns_cells *cells = s->cells;
    const int64_t pairs = n_pairs(cells->d);
    for (int64_t c = 0; c < cells->n_cells; c += NS_TILE_ROWS) {
        int32_t sums[NS_TILE_ROWS];
        const int64_t n = ns_least(NS_TILE_ROWS, cells->n_cells - c);
        s->kernels->bytes_dot(s->words, cells->centre_bytes + c * 2 * pairs, pairs, ns_panels(n), sums);
        for (int64_t j = 0; j < n; j++) s->centre_similarities[c + j] = (float)sums[j] * cells->centre_scales[c + j];
    }
    int64_t width = 0;
    for (int64_t done = 0; done < cells->n_cells && s->n_compared < s->n_rows; done++) {
        if (done == width) rank_centres(s, width = ns_least(width ? 2 * width : FIRST_CELLS, cells->n_cells));
        const int64_t cell = s->which[done];
        compare(s, cells->starts[cell], cells->starts[cell + 1]);
    }
}

/* Computes n similarities, of vectors which[...], and offers them to the best. */
static void look_at(searcher *s, const int64_t *which, int64_t n) {
    float similarities[NS_ROWS_AT_A_TIME];
    s->kernels->row_dot_of(s->unit, s->cells->rows, s->cells->d, which, n, similarities);
    ns_finish(NS_COSINE, similarities, 1, n);
    for (int64_t c = 0; c < n; c++) ns_offer(s->best, s->k, similarities[c], which[c]);
}

static int64_t number_at(const searcher *s, int64_t place) {
    return s->cells->numbers[s->slots[place / NS_LANES] * NS_LANES + place % NS_LANES];
}

/* The k best approximations. */
static void look_at_nearest(searcher *s) {
    const int64_t n = ns_least(s->k, s->n_compared);
    ns_ranked(s->near, 1, s->k, s->k, s->which, s->similarities, NULL);
    for (int64_t p = 0; p < n; p++) {
        const int64_t place = s->which[p];
        s->which[p] = number_at(s, place);
        __builtin_prefetch(s->cells->rows + s->which[p] * s->cells->d);
        s->approximate[place] = -INFINITY; /* done */
    }
    for (int64_t p = 0; p < n; p += NS_ROWS_AT_A_TIME) look_at(s, s->which + p, ns_least(NS_ROWS_AT_A_TIME, n - p));
}

/* Whatever else may be among the best k: with its error it reaches the k-th of those that are known. `error` holds for a
 * vector that rounding took nothing from, and `grows` is what it rises by with what was taken; both are rounded up. */
static void look_at_others(searcher *s, float error, float grows) {
    int64_t which[NS_ROWS_AT_A_TIME], n = 0;
    float entry = ns_least_listed(s->best, s->k);
    for (int64_t slot = 0; slot < s->n_slots; slot++) {
        const float *row = s->approximate + slot * NS_LANES, *errors = s->cells->errors + s->slots[slot] * NS_LANES;
        int any = 0;
        for (int l = 0; l < NS_LANES; l++) any |= row[l] + (error + errors[l] * grows) >= entry;
        for (int l = 0; any && l < NS_LANES; l++) {
            if (!(row[l] + (error + errors[l] * grows) >= entry) || row[l] == -INFINITY) continue;
            which[n++] = number_at(s, slot * NS_LANES + l);
            if (n < NS_ROWS_AT_A_TIME) continue;
            look_at(s, which, n);
            entry = ns_least_listed(s->best, s->k), n = 0;
        }
    }
    if (n) look_at(s, which, n);
}

static void search_one(searcher *s, int64_t *indices, float *similarities) {
    s->n_slots = s->n_compared = 0;
    for (int64_t p = 0; p < s->k; p++) s->near[p] = s->best[p] = 0;
    const double lost = ns_round_to_words(s->unit, 1, s->cells->d, s->words, 2, &s->step);
    const int is_exact = s->n_rows >= s->cells->n;
    if (is_exact)
        compare(s, 0, s->cells->starts[s->cells->n_cells]);
    else
        compare_near_cells(s);
    look_at_nearest(s);
    const double rounded_up = 1.0 + 0x1p-20; /* and what the comparison rounds, three times by 2^-24 of 2 at most */
    const double share = is_exact ? 1.0 : fmin(1.0, N_DEVIATIONS / sqrt((double)s->cells->d));
    look_at_others(s, (float)((ns_similarity_error(lost, 0.0, s->cells->d) + 0x1p-21) * rounded_up),
                   (float)((1.0 + lost) * share * rounded_up));
    ns_ranked(s->best, 1, s->k, s->k, indices, similarities, NULL);
}

typedef struct {
    const searcher *model;
    const float *units;
    int64_t q, n_searchers, *indices, *n_compared;
    float *similarities;
    char *scratch; /* n_bytes a searcher */
    size_t n_bytes;
} search;

/* Where n elements begin, on a cache line, in scratch of which so much is used; NULL where there is none yet. */
static void *take(char *scratch, size_t *used, int64_t n, size_t element_bytes) {
    const size_t begin = *used;
    *used += ((size_t)n * element_bytes + 63) / 64 * 64;
    return scratch ? scratch + begin : NULL;
}

/* Gives a searcher its arrays; returns how many bytes they take. */
static size_t equip(searcher *s, char *scratch) {
    const ns_cells *cells = s->cells;
    const int64_t most = cells->starts[cells->n_cells], n_which = s->k > cells->n_cells ? s->k : cells->n_cells;
    size_t used = 0;
    s->words = take(scratch, &used, 2 * n_pairs(cells->d), sizeof *s->words);
    s->approximate = take(scratch, &used, most * NS_LANES, sizeof *s->approximate);
    s->slots = take(scratch, &used, most, sizeof *s->slots);
    s->near = take(scratch, &used, s->k, sizeof *s->near);
    s->best = take(scratch, &used, s->k, sizeof *s->best);
    s->centre_similarities = take(scratch, &used, ns_panels(cells->n_cells) * NS_LANES, sizeof *s->centre_similarities);
    s->near_cells = take(scratch, &used, cells->n_cells, sizeof *s->near_cells);
    s->which = take(scratch, &used, n_which, sizeof *s->which);
    s->similarities = take(scratch, &used, n_which, sizeof *s->similarities);
    return used;
}

static void search_some(void *context, int64_t first) {
    const search *all = context;
    searcher s = *all->model;
    equip(&s, all->scratch + (size_t)first * all->n_bytes);
    for (int64_t i = first; i < all->q; i += all->n_searchers) {
        s.unit = all->units + i * s.cells->d;
        search_one(&s, all->indices + i * s.k, all->similarities + i * s.k);
        all->n_compared[i] = s.n_compared;
    }
}

int32_t ns_search_cells(int32_t isa, const float *queries, int64_t q, int64_t stride, const ns_cells *cells,
                        const uint8_t *allowed, int64_t n_rows, int64_t k, int64_t *indices, float *similarities,
                        int64_t *n_compared, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    const int64_t n = cells->n, d = cells->d;
    if (q < 0 || d < 1 || stride < d || n < 0 || n > UINT32_MAX || cells->n_cells < 0 || n_rows < 0 || k < 0 || k > n ||
        threads < 1)
        return NS_E_ARGUMENT;
    if (q == 0) return NS_OK;
    searcher model = {.kernels = kernels, .cells = cells, .allowed = allowed, .n_rows = n_rows, .k = k};
    search s = {.model = &model, .q = q, .n_searchers = ns_least(q, threads), .indices = indices, .n_compared = n_compared,
                .similarities = similarities, .n_bytes = equip(&model, NULL)};
    float *units = malloc(sizeof *units * (size_t)(q * d));
    s.units = units;
    s.scratch = aligned_alloc(64, s.n_bytes * (size_t)s.n_searchers);
    int32_t status = units && s.scratch ? NS_OK : NS_E_MEMORY;
    if (status == NS_OK) status = ns_unit_rows(queries, q, d, stride, units);
    if (status == NS_OK && k > 0) {
        const double query_ns = (double)(ns_least(n_rows, n) + cells->n_cells) * (double)d / 64; /* a quarter of float32 */
        status = ns_parallel(search_some, &s, s.n_searchers, query_ns * (double)q / (double)s.n_searchers, threads);
    }
    free(units), free(s.scratch);
    return status;
}
