/* Linkage by nearest-neighbour chain on a square similarity matrix (Murtagh 1983; Muellner 2011, arXiv:1109.2378).
 *
 * Larger is closer. Pairs are totally ordered: similarity descending, then the smaller representative, then the
 * larger; a cluster's representative is its smallest leaf, and clusters keep the order of their representatives in
 * the matrix, so "the first column among equals" is that order. All methods here are reducible, so the tree without
 * ties is unique, whatever the chain visits first; with ties too, but for single linkage, where tied merges depend on
 * the chain's path (which depends on the matrix alone).
 *
 * Three things keep the cost at a few sequential sweeps of the matrix:
 * - A merge writes one row. The entry of a pair is current in the row of whichever cluster was formed later; `refresh`
 *   fetches the entries that a row lacks when the chain next reads it (column writes are what slows other codes).
 * - When half of the clusters are gone, rows and columns of the living are moved together (`compact`).
 * - Decisions in float64 (with sums) are made among candidates only: entries are within a proven error of the exact
 *   similarity, so whatever lies further below the best than twice that error cannot be the nearest neighbour. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { COMPACT_MIN = 256, PREFETCH_AHEAD = 96, N_COUNTERS = 4 };
enum { SCANS, COMPARED, FETCHED, COMPACTIONS };

struct ns_chain {
    const ns_kernels *kernels;
    int32_t method;
    float *matrix;
    int64_t stride, n_columns, n_alive; /* columns of the matrix in use, living clusters among them */
    double *sums;
    int64_t d;
    double value_error, value_bound;
    /* per column of the matrix ("slot") */
    int32_t *representative; /* smallest leaf; also the row of sums */
    double *weight;          /* members; 1 for weighted linkage's means */
    double *count;
    int32_t *depth;     /* roundings that entries of this cluster may carry */
    int64_t *born;      /* time of the merge that formed it, 0 for a leaf */
    int64_t *refreshed; /* time up to which its row is current */
    float *bias;        /* 0 alive, -infinity dead */
    /* merged clusters in order of birth, some since dead or reborn */
    int32_t *births;
    int64_t *birth_times;
    int64_t n_births, n_stale_births;
    int32_t *chain, *place; /* place: where in the chain a slot was last put; it holds if the chain agrees */
    int64_t chain_length, first_fresh; /* links from first_fresh on were found since the last merge */
    int32_t *candidates, *rank; /* scratch: one entry a column */
    int64_t time;
    int32_t max_depth;
    int64_t counters[N_COUNTERS];
};

/* The similarity of two living clusters from their sums, in float64; symmetric in its arguments to the bit. */
static double exact(const ns_chain *s, int32_t a, int32_t b) {
    if (a > b) { const int32_t t = a; a = b; b = t; }
    const double *x = s->sums + (int64_t)s->representative[a] * s->d;
    const double *y = s->sums + (int64_t)s->representative[b] * s->d;
    return ns_sums_dot(x, y, s->d) / (s->weight[a] * s->weight[b]);
}

static float *row_of(const ns_chain *s, int64_t slot) { return s->matrix + slot * s->stride; }

static int is_current_birth(const ns_chain *s, int64_t i) {
    const int32_t slot = s->births[i];
    return s->bias[slot] == 0.0f && s->born[slot] == s->birth_times[i];
}

static void drop_stale_births(ns_chain *s) {
    int64_t kept = 0;
    for (int64_t i = 0; i < s->n_births; i++)
        if (is_current_birth(s, i)) {
            s->births[kept] = s->births[i];
            s->birth_times[kept++] = s->birth_times[i];
        }
    s->n_births = kept;
    s->n_stale_births = 0;
}

/* Fetches into row `slot` the entries of clusters formed since it was last current. */
static void refresh(ns_chain *s, int32_t slot) {
    int64_t low = 0, high = s->n_births;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (s->birth_times[middle] <= s->refreshed[slot]) low = middle + 1; else high = middle;
    }
    float *row = row_of(s, slot);
    for (int64_t i = low; i < s->n_births; i++) {
        if (i + PREFETCH_AHEAD < s->n_births)
            __builtin_prefetch(row_of(s, s->births[i + PREFETCH_AHEAD]) + slot);
        if (!is_current_birth(s, i) || s->births[i] == slot) continue;
        row[s->births[i]] = row_of(s, s->births[i])[slot];
        s->counters[FETCHED]++;
    }
    s->refreshed[slot] = s->time;
}

/* What is nearest when everything is infinitely far. */
static int32_t first_living_but(const ns_chain *s, int32_t slot) {
    int32_t c = 0;
    while (c == slot || s->bias[c] != 0.0f) c++;
    return c;
}

/* The nearest neighbour of the cluster in `slot` under the total order. */
static int32_t nearest(ns_chain *s, int32_t slot, double *similarity) {
    refresh(s, slot);
    const float *row = row_of(s, slot);
    s->counters[SCANS]++;
    s->bias[slot] = -INFINITY; /* not its own neighbour */
    const float best = s->kernels->row_max(row, s->bias, s->n_columns);
    float threshold = best;
    if (s->sums) {
        /* each update rounds once to float32: half an ulp of at most value_bound, 2^-24 of it */
        const double error = s->value_error + 0x1p-24 * s->value_bound * (s->depth[slot] + s->max_depth + 1);
        threshold = nextafterf((float)((double)best - 2.0 * error), -INFINITY);
    }
    if (threshold < -FLT_MAX) threshold = -FLT_MAX; /* -infinity is what dead columns hold */
    const int64_t n = s->kernels->row_at_least(row, s->bias, s->n_columns, threshold, s->candidates);
    s->bias[slot] = 0.0f;
    int32_t choice = n ? s->candidates[0] : first_living_but(s, slot);
    *similarity = (double)row[choice];
    if (!s->sums || n <= 1) return choice;
    s->counters[COMPARED] += n;
    *similarity = exact(s, slot, choice);
    for (int64_t i = 1; i < n; i++) {
        const double value = exact(s, slot, s->candidates[i]);
        if (value > *similarity) {
            *similarity = value;
            choice = s->candidates[i];
        }
    }
    return choice;
}

static void update_row(const ns_chain *s, int32_t a, int32_t b) {
    float *restrict x = row_of(s, a);
    const float *restrict y = row_of(s, b);
    const double na = s->count[a], nb = s->count[b], total = na + nb;
    const double *restrict nc = s->count;
    const double joint = (double)x[b];
    switch (s->method) {
        case NS_AVERAGE: {
            const double wa = na / total, wb = nb / total;
            for (int64_t c = 0; c < s->n_columns; c++) x[c] = (float)(wa * (double)x[c] + wb * (double)y[c]);
            break;
        }
        case NS_WEIGHTED:
            for (int64_t c = 0; c < s->n_columns; c++) x[c] = (float)(0.5 * ((double)x[c] + (double)y[c]));
            break;
        case NS_COMPLETE:
            for (int64_t c = 0; c < s->n_columns; c++) x[c] = y[c] < x[c] ? y[c] : x[c];
            break;
        case NS_SINGLE:
            for (int64_t c = 0; c < s->n_columns; c++) x[c] = y[c] > x[c] ? y[c] : x[c];
            break;
        case NS_WARD:
            for (int64_t c = 0; c < s->n_columns; c++)
                x[c] = (float)(((na + nc[c]) * (double)x[c] + (nb + nc[c]) * (double)y[c] - nc[c] * joint) /
                               (total + nc[c]));
            break;
        default: break;
    }
}

static void merge_sums(const ns_chain *s, int32_t a, int32_t b) {
    double *restrict x = s->sums + (int64_t)s->representative[a] * s->d;
    const double *restrict y = s->sums + (int64_t)s->representative[b] * s->d;
    const double half = s->method == NS_WEIGHTED ? 0.5 : 1.0;
    for (int64_t k = 0; k < s->d; k++) x[k] = half * (x[k] + y[k]);
}

/* Joins b into a (a < b). */
static void merge(ns_chain *s, int32_t a, int32_t b) {
    refresh(s, a);
    refresh(s, b);
    update_row(s, a, b);
    if (s->sums) merge_sums(s, a, b);
    s->count[a] += s->count[b];
    if (s->method != NS_WEIGHTED) s->weight[a] = s->count[a];
    s->depth[a] = 1 + (s->depth[a] > s->depth[b] ? s->depth[a] : s->depth[b]);
    if (s->depth[a] > s->max_depth) s->max_depth = s->depth[a];
    s->bias[b] = -INFINITY;
    s->n_stale_births += (s->born[a] > 0) + (s->born[b] > 0);
    s->born[a] = s->refreshed[a] = ++s->time;
    s->births[s->n_births] = a;
    s->birth_times[s->n_births++] = s->time;
    s->n_alive--;
    if (10 * s->n_stale_births > s->n_births) drop_stale_births(s);
}

/* Moves the rows and columns of living clusters together; their order stays, and so does the stride: the gaps between
 * rows are not ours. */
static void compact(ns_chain *s) {
    drop_stale_births(s);
    int32_t *living = s->candidates; /* free between scans */
    int64_t alive = 0;
    for (int64_t c = 0; c < s->n_columns; c++)
        if (s->bias[c] == 0.0f) living[alive++] = (int32_t)c;
    for (int64_t r = 0; r < alive; r++) {
        /* the target never lies behind its source, so nothing is overwritten before it is read */
        const float *from = row_of(s, living[r]);
        float *to = row_of(s, r);
        for (int64_t c = 0; c < alive; c++) to[c] = from[living[c]];
    }
    for (int64_t r = 0; r < alive; r++) {
        const int32_t from = living[r];
        s->representative[r] = s->representative[from];
        s->weight[r] = s->weight[from];
        s->count[r] = s->count[from];
        s->depth[r] = s->depth[from];
        s->born[r] = s->born[from];
        s->refreshed[r] = s->refreshed[from];
        s->place[r] = s->place[from];
        s->bias[r] = 0.0f;
    }
    /* slots of births and of the chain are living: find their new numbers by rank */
    for (int64_t r = 0; r < alive; r++) s->rank[living[r]] = (int32_t)r;
    for (int64_t i = 0; i < s->n_births; i++) s->births[i] = s->rank[s->births[i]];
    for (int64_t i = 0; i < s->chain_length; i++) s->chain[i] = s->rank[s->chain[i]];
    s->n_columns = alive;
    s->counters[COMPACTIONS]++;
}

static void push(ns_chain *s, int32_t slot) {
    s->place[slot] = (int32_t)s->chain_length;
    s->chain[s->chain_length++] = slot;
}

int64_t ns_chain_advance(ns_chain *s, int64_t max_merges, int64_t *first, int64_t *second, double *similarity) {
    int64_t done = 0;
    while (done < max_merges && s->n_alive > 1) {
        if (s->chain_length == 0) push(s, first_living_but(s, -1));
        const int32_t tip = s->chain[s->chain_length - 1];
        double value;
        const int32_t neighbour = nearest(s, tip, &value);
        const int64_t place = s->place[neighbour];
        if (place >= s->chain_length || s->chain[place] != neighbour) {
            push(s, neighbour);
            continue;
        }
        if (place < s->chain_length - 2) {
            /* A cycle, so a link in it is stale: by rounding or a tie a merged cluster ranks closer to this one than
             * both its parts did. Links found since the last merge cannot close one in a symmetric matrix. */
            if (place >= s->first_fresh) return NS_E_ARGUMENT;
            s->chain_length = place + 1;
            s->first_fresh = place;
            continue;
        }
        s->chain_length -= 2;
        s->first_fresh = s->chain_length ? s->chain_length - 1 : 0;
        const int32_t a = tip < neighbour ? tip : neighbour, b = tip < neighbour ? neighbour : tip;
        first[done] = s->representative[a];
        second[done] = s->representative[b];
        similarity[done++] = s->sums ? exact(s, a, b) : value;
        merge(s, a, b);
        if (s->n_columns >= COMPACT_MIN && 2 * s->n_alive <= s->n_columns) compact(s);
    }
    return done;
}

void ns_chain_counters(const ns_chain *s, int64_t *counters) { memcpy(counters, s->counters, sizeof s->counters); }

void ns_chain_destroy(ns_chain *s) {
    if (!s) return;
    free(s->representative);
    free(s->weight);
    free(s->count);
    free(s->depth);
    free(s->born);
    free(s->refreshed);
    free(s->bias);
    free(s->births);
    free(s->birth_times);
    free(s->chain);
    free(s->place);
    free(s->candidates);
    free(s->rank);
    free(s);
}

ns_chain *ns_chain_create(int32_t isa, int32_t method, float *matrix, int64_t n, int64_t stride, const double *counts,
                          double *sums, int64_t d, double value_error, double value_bound) {
    const ns_kernels *kernels = ns_table(isa);
    if (!kernels || n < 1 || n > INT32_MAX || stride < n || method < NS_AVERAGE || method > NS_WARD) return NULL;
    ns_chain *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    const size_t m = (size_t)n;
    *s = (ns_chain){.kernels = kernels, .method = method, .matrix = matrix, .stride = stride,
                    .n_columns = n, .n_alive = n, .sums = sums, .d = d, .value_error = value_error,
                    .value_bound = value_bound};
    s->representative = malloc(m * sizeof *s->representative);
    s->weight = malloc(m * sizeof *s->weight);
    s->count = malloc(m * sizeof *s->count);
    s->depth = calloc(m, sizeof *s->depth);
    s->born = calloc(m, sizeof *s->born);
    s->refreshed = calloc(m, sizeof *s->refreshed);
    s->bias = calloc(m, sizeof *s->bias);
    s->births = malloc(m * sizeof *s->births);
    s->birth_times = malloc(m * sizeof *s->birth_times);
    s->chain = malloc(m * sizeof *s->chain);
    s->place = calloc(m, sizeof *s->place);
    s->candidates = malloc(m * sizeof *s->candidates);
    s->rank = malloc(m * sizeof *s->rank);
    if (!s->representative || !s->weight || !s->count || !s->depth || !s->born || !s->refreshed || !s->bias ||
        !s->births || !s->birth_times || !s->chain || !s->place || !s->candidates || !s->rank) {
        ns_chain_destroy(s);
        return NULL;
    }
    for (int64_t i = 0; i < n; i++) {
        s->representative[i] = (int32_t)i;
        s->count[i] = counts[i];
        s->weight[i] = method == NS_WEIGHTED ? 1.0 : counts[i];
    }
    return s;
}
