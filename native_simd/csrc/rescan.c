/* Rescans: the tips whose lists are not certain, compared with all living clusters as panels of means. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "agglomeration.h"

enum { RESCANS = 2, RESCANNED = 3, EXHAUSTED = 4 };

typedef struct {
    const ns_kernels *kernels;
    int32_t method, metric;
    const float *queries, *query_terms;
    int64_t q;
    const float *panels, *terms;
    int64_t n, d, width, n_blocks;
    uint64_t *lists;
    pthread_mutex_t *locks;
} ranking;

/* The similarities of up to NS_TILE_ROWS queries with as many clusters. */
static void cluster_tile(const ns_kernels *kernels, int32_t method, int32_t metric, const float *queries,
                         const float *query_terms, int64_t rows, const float *panels, const float *terms,
                         int64_t columns, int64_t d, float *tile) {
    const int squared = metric == NS_SQEUCLIDEAN;
    (squared ? kernels->tile_sqeuclidean : kernels->tile_dot)(queries, panels, d, ns_panels(rows), ns_panels(columns),
                                                              tile);
    if (!squared) return;
    for (int64_t i = 0; i < rows; i++) {
        float *row = tile + i * NS_TILE_ROWS;
        const float term = query_terms[i];
        if (method == NS_WARD)
            for (int64_t j = 0; j < columns; j++) row[j] *= -(2.0f * term * (terms[j] / (term + terms[j])));
        else
            for (int64_t j = 0; j < columns; j++) row[j] = -(row[j] + (term + terms[j]));
    }
}

static void rank_item(void *context, int64_t item) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    const ranking *r = context;
    const int64_t block = item % r->n_blocks, i0 = block * NS_TILE_ROWS, j0 = item / r->n_blocks * NS_TILE_ROWS;
    const int64_t rows = ns_least(NS_TILE_ROWS, r->q - i0), columns = ns_least(NS_TILE_ROWS, r->n - j0);
    cluster_tile(r->kernels, r->method, r->metric, r->queries + i0 * r->d, r->query_terms + i0, rows,
                 r->panels + j0 * r->d, r->terms + j0, columns, r->d, tile);
    pthread_mutex_lock(&r->locks[block]);
    ns_rank_tile(r->kernels, tile, rows, columns, i0, j0, r->width, r->lists + i0 * r->width, NULL);
    pthread_mutex_unlock(&r->locks[block]);
}

int32_t ns_rank_clusters(int32_t isa, int32_t method, int32_t metric, const float *queries, const float *query_terms,
                         int64_t q, const float *panels, const float *terms, int64_t n, int64_t d, uint64_t *lists,
                         int64_t width, int32_t threads) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels) return NS_E_ISA;
    if (q < 0 || n < 0 || n > UINT32_MAX || d < 1 || width < 1 || threads < 1)
        return NS_E_ARGUMENT;
    const int64_t n_blocks = (q + NS_TILE_ROWS - 1) / NS_TILE_ROWS, n_chunks = (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS;
    pthread_mutex_t *locks = malloc(sizeof *locks * (size_t)(n_blocks + 1));
    if (!locks) return NS_E_MEMORY;
    for (int64_t b = 0; b < n_blocks; b++) locks[b] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    ranking r = {kernels, method, metric, queries, query_terms, q, panels, terms, n, d, width, n_blocks, lists, locks};
    const int32_t status = ns_parallel(rank_item, &r, n_blocks * n_chunks, ns_tile_ns(q, n, d), threads);
    for (int64_t b = 0; b < n_blocks; b++) pthread_mutex_destroy(&locks[b]);
    free(locks);
    return status;
}

static float *lane(float *panels, int64_t d, int64_t v) {
    return panels + v / NS_LANES * NS_LANES * d + v % NS_LANES;
}

static void write_mean(ns_agglomeration *s, int32_t a, float *panels, int64_t v) {
    const double *sum = ns_sum_of(s, a, 0);
    const double weight = s->method == NS_WEIGHTED ? 1.0 : s->node_weight[s->node[a]];
    float *mean = lane(panels, s->d, v);
    for (int64_t k = 0; k < s->d; k++) mean[k * NS_LANES] = (float)(sum[k] / weight);
}

static float term_of(const ns_agglomeration *s, int32_t a) {
    return (float)(s->method == NS_WARD ? s->node_weight[s->node[a]] : s->spread[a]);
}

static int has_column(const ns_agglomeration *s, int64_t c) {
    return s->node[s->columns[c]] >= 0 && !s->is_retired[s->columns[c]];
}

/* The last columns move into the places of those that are gone. */
static void fill_gaps(ns_agglomeration *s) {
    for (int64_t c = 0; c < s->n_columns; c++) {
        while (s->n_columns > c && !has_column(s, s->n_columns - 1)) s->n_columns--;
        if (c >= s->n_columns || has_column(s, c)) continue;
        const int32_t moved = s->columns[--s->n_columns];
        s->columns[c] = moved;
        s->changed[s->n_changed++] = (int32_t)c;
        if (s->is_moved[moved]) continue; /* will be written anew */
        const float *from = lane(s->panels, s->d, s->n_columns);
        float *to = lane(s->panels, s->d, c);
        for (int64_t k = 0; k < s->d; k++) to[k * NS_LANES] = from[k * NS_LANES];
    }
}

void ns_agglomeration_columns(ns_agglomeration *s, int64_t *n_columns, const float **panels, const float **terms,
                              int64_t *n_changed, const int32_t **changed) {
    s->n_changed = 0;
    fill_gaps(s);
    const int64_t n_filled = s->n_changed;
    for (int64_t c = 0, filled = 0; c < s->n_columns; c++) {
        const int32_t a = s->columns[c];
        const int is_filled = filled < n_filled && s->changed[filled] == c;
        filled += is_filled;
        s->terms[c] = term_of(s, a);
        if (!s->is_moved[a]) continue;
        write_mean(s, a, s->panels, c);
        s->is_moved[a] = 0;
        if (!is_filled) s->changed[s->n_changed++] = (int32_t)c;
    }
    for (int64_t c = s->n_columns; c < ns_panels(s->n_columns) * NS_LANES; c++)
        for (int64_t k = 0; k < s->d; k++) lane(s->panels, s->d, c)[k * NS_LANES] = 0.0f;
    *n_columns = s->n_columns;
    *panels = s->panels;
    *terms = s->terms;
    *n_changed = s->n_changed;
    *changed = s->changed;
}

/* Packs the means of the tips of chains, and their terms. */
static void pack_tips(ns_agglomeration *s, const int32_t *chains, int64_t n, float *panels, float *terms) {
    for (int64_t i = 0; i < n; i++) {
        write_mean(s, s->chains[chains[i]].tip, panels, i);
        terms[i] = term_of(s, s->chains[chains[i]].tip);
    }
    for (int64_t i = n; i < ns_panels(n) * NS_LANES; i++)
        for (int64_t k = 0; k < s->d; k++) lane(panels, s->d, i)[k * NS_LANES] = 0.0f;
}

void ns_agglomeration_queries(ns_agglomeration *s, float *panels, float *terms) {
    pack_tips(s, s->queries, s->n_queries, panels, terms);
}

/* Offers column c to a tip, if float32 cannot rule it out. */
static void compare(ns_agglomeration *s, chain *of, int64_t c, float value) {
    const int32_t a = of->tip, b = s->columns[c];
    if (b == a || (double)ns_upper_of_pass(s, a, b, (double)value) < of->value) return;
    const double exact = ns_similarity_of(s, a, b);
    if (exact < of->value || (exact == of->value && of->target >= 0 && b >= of->target)) return;
    of->value = exact;
    of->target = b;
}

/* The nearest of all columns, where too many are too near to each other for a list: all that float32 cannot rule out
 * are compared in float64, starting from the best known. */
static int32_t exhaust(ns_agglomeration *s, const int32_t *chains, int64_t n) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS], terms[NS_TILE_ROWS];
    if (!n) return NS_OK;
    float *panels = malloc((size_t)(ns_panels(n) * NS_LANES * s->d) * sizeof *panels);
    if (!panels) return NS_E_MEMORY;
    pack_tips(s, chains, n, panels, terms);
    for (int64_t j0 = 0; j0 < s->n_columns; j0 += NS_TILE_ROWS) {
        const int64_t columns = ns_least(NS_TILE_ROWS, s->n_columns - j0);
        cluster_tile(s->kernels, s->method, s->metric, panels, terms, n, s->panels + j0 * s->d, s->terms + j0, columns,
                     s->d, tile);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < columns; j++) compare(s, &s->chains[chains[i]], j0 + j, tile[i * NS_TILE_ROWS + j]);
    }
    s->counters[EXHAUSTED] += n;
    free(panels);
    return NS_OK;
}

static void take_list(ns_agglomeration *s, int32_t a, const int64_t *columns, const float *similarities) {
    int32_t n = 0;
    int64_t p = 0;
    for (; n < s->width && columns[p] >= 0; p++) {
        const int32_t b = s->columns[columns[p]];
        if (b == a) continue;
        s->lists[a * s->width + n++] = (candidate){s->node[b], ns_upper_of_pass(s, a, b, (double)similarities[p])};
    }
    if (columns[p] >= 0 && s->columns[columns[p]] == a) p++; /* at most width + 1 places are behind us */
    s->n_listed[a] = n;
    s->rest[a] = ns_upper_of_rest(s, a, p < s->width + 2 ? (double)similarities[p] : -INFINITY);
}

/* Whether the columns were brought up to date since the last merge, and lists name no other. */
static int are_columns(const ns_agglomeration *s, const uint64_t *lists, int64_t places, int64_t *columns,
                       float *similarities) {
    for (int64_t c = 0; c < s->n_columns; c++)
        if (!has_column(s, c)) return 0;
    for (int64_t i = 0; i < s->n_queries; i++) {
        ns_ranked(lists + i * places, 1, places, places, columns, similarities, NULL);
        for (int64_t p = 0; p < places; p++)
            if (columns[p] >= s->n_columns) return 0;
    }
    return 1;
}

int32_t ns_agglomeration_answer(ns_agglomeration *s, const uint64_t *lists) {
    const int64_t places = s->width + 2;
    int64_t *columns = malloc((size_t)(places + 1) * sizeof *columns), n_open = 0;
    float *similarities = malloc((size_t)(places + 1) * sizeof *similarities);
    int32_t open[NS_CHAINS], status = NS_E_MEMORY;
    if (columns && similarities) {
        columns[places] = -1;
        status = are_columns(s, lists, places, columns, similarities) ? NS_OK : NS_E_ARGUMENT;
    }
    if (status == NS_OK) {
        for (int64_t i = 0; i < s->n_queries; i++) {
            chain *of = &s->chains[s->queries[i]];
            ns_ranked(lists + i * places, 1, places, places, columns, similarities, NULL);
            take_list(s, of->tip, columns, similarities);
            if (!ns_is_nearest_listed(s, of->tip, &of->target, &of->value)) open[n_open++] = s->queries[i];
        }
        status = exhaust(s, open, n_open);
        for (int64_t i = 0; i < s->n_queries; i++) {
            chain *of = &s->chains[s->queries[i]];
            of->state = READY;
            if (of->target >= 0) of->target_node = s->node[of->target];
        }
        s->counters[RESCANS] += s->n_queries;
        s->counters[RESCANNED] += s->n_queries * s->n_columns;
        s->n_queries = 0;
    }
    free(columns);
    free(similarities);
    return status;
}
