/* Agglomeration without a matrix: nearest-neighbour chains over certified candidate lists (candidates.c).
 *
 * Many chains grow at a time. Each step asks for the nearest neighbour of a tip: most answers come from its list; the
 * tips whose lists are not certain wait until every chain is stuck, and are then compared with all living clusters
 * together, as the rows of one tile (rescan.c). A chain whose tip's nearest neighbour is in another chain waits for it.
 * When that merges, one of those that wait, the nearest, looks again at once; the others sleep until they are needed, or
 * until merges have paid for it. So a nearest neighbour is looked for a few times a merge, whatever the data: a method
 * that merges all reciprocal pairs round by round has no such bound (a cloud with ever farther outliers needs a round,
 * and a look at every outlier, for each).
 *
 * All methods here are reducible and similarities are exact and totally ordered (candidates.c), so the merges are those
 * of greedy agglomeration, whatever the chains visit first; only their order of discovery differs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agglomeration.h"

enum { RESTARTS = 5 };

static int is_loose(const ns_agglomeration *s, int32_t a) {
    return s->node[a] >= 0 && !s->is_retired[a] && s->chain_of[a] < 0;
}

static void push(ns_agglomeration *s, int32_t c, int32_t a) {
    s->below[a] = s->chains[c].tip;
    s->chain_of[a] = c;
    s->chains[c].tip = a;
    s->n_chained++;
}

static void pop(ns_agglomeration *s, int32_t c) {
    chain *of = &s->chains[c];
    const int32_t a = of->tip;
    *of = (chain){.tip = s->below[a], .target = -1, .state = s->below[a] < 0 ? IDLE : READY};
    s->chain_of[a] = -1;
    s->n_chained--;
}

static void start(ns_agglomeration *s, int32_t c) {
    if (s->n_chained == s->n_living) return;
    while (!is_loose(s, (int32_t)s->cursor)) s->cursor = (s->cursor + 1) % s->n;
    push(s, c, (int32_t)s->cursor);
    s->chains[c].state = READY;
}

/* Nothing will ever come nearer to these than the cut. */
static void retire(ns_agglomeration *s, int32_t c) {
    while (s->chains[c].tip >= 0) {
        s->is_retired[s->chains[c].tip] = 1;
        s->n_living--;
        pop(s, c);
    }
}

/* The row of the sum of a u b: one of theirs, or a free one. */
static int32_t joint_row(ns_agglomeration *s, int32_t a, int32_t b) {
    const int32_t of_a = s->sums_row[a], of_b = s->sums_row[b];
    if (of_a < 0 && of_b < 0) return s->n_free_sums ? s->free_sums[--s->n_free_sums] : (int32_t)s->n_sums++;
    if (of_a >= 0 && of_b >= 0) s->free_sums[s->n_free_sums++] = of_b;
    return of_a >= 0 ? of_a : of_b;
}

static void join_sums(ns_agglomeration *s, int32_t a, int32_t b, double weight_a, double weight_b) {
    const double *x = ns_sum_of(s, a, 0), *y = ns_sum_of(s, b, 1);
    if (s->method == NS_AVERAGE && s->metric == NS_SQEUCLIDEAN) {
        const double joint = weight_a + weight_b;
        s->spread[a] = (weight_a * s->spread[a] + weight_b * s->spread[b]) / joint +
                       weight_a * weight_b / (joint * joint) * ns_centroid_sqdistance(x, weight_a, y, weight_b, s->d);
    }
    const int32_t row = joint_row(s, a, b);
    double *sum = s->sums + row * s->d;
    const double share = s->method == NS_WEIGHTED ? 0.5 : 1.0;
    for (int64_t k = 0; k < s->d; k++) sum[k] = share * (x[k] + y[k]);
    s->norm[a] = sqrt(ns_sums_dot(sum, sum, s->d)) / (s->method == NS_WEIGHTED ? 1.0 : weight_a + weight_b);
    s->sums_row[a] = row;
    s->sums_row[b] = -1;
}

static void wake(ns_agglomeration *s, int32_t c) {
    s->chains[c].state = READY;
    s->chains[c].target = -1;
    s->chains[c].is_stale = 0;
}

/* Of the chains that wait for a or b, now one cluster named a. */
static void wake_nearest(ns_agglomeration *s, int32_t a, int32_t b) {
    int32_t nearest = -1;
    for (int32_t c = 0; c < NS_CHAINS; c++) {
        chain *of = &s->chains[c];
        if (of->state != WAITING || (of->target != a && of->target != b)) continue;
        of->target = a;
        of->is_stale = 1;
        if (nearest < 0 || of->value > s->chains[nearest].value) nearest = c;
    }
    if (nearest >= 0) wake(s, nearest);
}

/* When every chain is stuck: as many of the stale as merges have paid for, or all of them; returns how many. */
static int64_t wake_stale(ns_agglomeration *s, int all) {
    int64_t n = 0;
    for (int32_t c = 0; c < NS_CHAINS && (all || s->n_wakes > 0); c++) {
        if (s->chains[c].state != WAITING || !s->chains[c].is_stale) continue;
        wake(s, c);
        s->n_wakes -= !all;
        n++;
    }
    return n;
}

/* Joins b into a; neither is in a chain. */
static void merge(ns_agglomeration *s, int32_t a, int32_t b, double similarity) {
    const int32_t node_a = s->node[a], node_b = s->node[b], node = (int32_t)s->n_nodes++;
    ns_join_lists(s, a, b);
    join_sums(s, a, b, s->node_weight[node_a], s->node_weight[node_b]);
    s->parent[node] = s->parent[node_a] = s->parent[node_b] = node;
    s->smallest[node] = a;
    s->n_leaves[node] = s->n_leaves[node_a] + s->n_leaves[node_b];
    s->node_weight[node] = s->node_weight[node_a] + s->node_weight[node_b];
    s->node[a] = node;
    s->node[b] = -1;
    if (s->share < 1.0) s->low[a] = fmin(similarity, fmin(s->low[a], s->low[b]));
    s->is_moved[a] = 1;
    s->n_living--;
    s->cursor = a;
    s->n_wakes++;
    s->n_regrown = 0;
    wake_nearest(s, a, b);
}

/* The chain gives up what it holds above a, whose nearest neighbour may be another than it was. */
static void look_again(ns_agglomeration *s, int32_t c, int32_t a) {
    while (s->chains[c].tip != a) pop(s, c);
    if (s->chains[c].state == WAITING) wake(s, c);
    s->n_regrown++;
}

/* One step of a chain that is ready; 1 if it found a pair to merge. */
static int step(ns_agglomeration *s, int32_t c, int32_t *nearest, double *similarity) {
    chain *of = &s->chains[c];
    const int32_t tip = of->tip;
    if (of->target >= 0 && s->node[of->target] == of->target_node) {
        *nearest = of->target;
        *similarity = of->value;
    } else {
        s->counters[0]++;
        if (!ns_is_near_listed(s, tip, nearest, similarity)) {
            if ((double)ns_highest(s, tip) < s->cut) retire(s, c);
            else of->state = ASKING;
            return 0;
        }
    }
    of->target = -1;
    if (*similarity < s->cut) {
        retire(s, c);
        return 0;
    }
    const int is_news = ns_introduce(s, *nearest, tip, *similarity);
    const int32_t other = s->chain_of[*nearest];
    if (other < 0) {
        push(s, c, *nearest);
    } else if (other == c) {
        if (s->below[tip] == *nearest) return 1;
        /* a cycle, so a link in it is older than a merge and off by a rounding, or than news: grow again from here */
        while (of->tip != *nearest) pop(s, c);
        s->n_regrown++;
    } else {
        if (is_news) look_again(s, other, *nearest);
        const chain *theirs = &s->chains[other];
        const int is_theirs = theirs->state == WAITING && theirs->tip == *nearest;
        if (is_theirs && !theirs->is_stale && theirs->target == tip) return 1;
        if (is_theirs && theirs->is_stale) wake(s, other);
        *of = (chain){.state = WAITING, .tip = tip, .target = *nearest, .value = *similarity};
    }
    return 0;
}

static void restart(ns_agglomeration *s) {
    for (int32_t c = 0; c < NS_CHAINS; c++)
        while (s->chains[c].tip >= 0) pop(s, c);
    s->counters[RESTARTS]++;
    s->n_regrown++;
}

static int any_ready(const ns_agglomeration *s) {
    for (int32_t c = 0; c < NS_CHAINS; c++)
        if (s->chains[c].state == READY) return 1;
    return 0;
}

/* More chains were cut back since the last merge than there are old links and, twice, candidates that can be news: the
 * lists lie. */
static int is_endless(const ns_agglomeration *s) { return s->n_regrown > s->n * (2 * s->width + 1); }

static int64_t collect_queries(ns_agglomeration *s) {
    s->n_queries = 0;
    for (int32_t c = 0; c < NS_CHAINS; c++)
        if (s->chains[c].state == ASKING) s->queries[s->n_queries++] = c;
    return s->n_queries;
}

int64_t ns_agglomeration_advance(ns_agglomeration *s, int64_t max_merges, int64_t n_enough, int64_t *first,
                                 int64_t *second, double *similarity, int64_t *n_queries) {
    int64_t done = 0;
    *n_queries = 0;
    while (done < max_merges && s->n_living > n_enough) {
        for (int32_t c = 0; c < NS_CHAINS; c++) {
            if (s->chains[c].state == IDLE) start(s, c);
            while (s->chains[c].state == READY && done < max_merges && s->n_living > n_enough) {
                int32_t nearest;
                const int32_t tip = s->chains[c].tip;
                if (!step(s, c, &nearest, &similarity[done])) {
                    if (is_endless(s)) return NS_E_ARGUMENT;
                    continue;
                }
                const int32_t other = s->chain_of[nearest];
                pop(s, c);
                pop(s, other);
                first[done] = tip < nearest ? tip : nearest;
                second[done] = tip < nearest ? nearest : tip;
                merge(s, (int32_t)first[done], (int32_t)second[done], similarity[done]);
                done++;
            }
        }
        if (s->n_living <= n_enough || done == max_merges || any_ready(s) || wake_stale(s, 0)) continue;
        if ((*n_queries = collect_queries(s))) break;
        if (wake_stale(s, 1)) continue;
        restart(s);
        if (is_endless(s)) return NS_E_ARGUMENT;
    }
    return done;
}

int64_t ns_agglomeration_living(ns_agglomeration *s, int64_t *leaves, double *sums, double *weights) {
    int64_t n = 0;
    for (int32_t a = 0; a < s->n; a++) {
        if (s->node[a] < 0 || s->is_retired[a]) continue;
        leaves[n] = a;
        if (sums) {
            memcpy(sums + n * s->d, ns_sum_of(s, a, 0), sizeof *sums * (size_t)s->d);
            weights[n] = s->node_weight[s->node[a]];
        }
        n++;
    }
    return n;
}

void ns_agglomeration_counters(const ns_agglomeration *s, int64_t *counters) {
    memcpy(counters, s->counters, sizeof s->counters);
}

void ns_agglomeration_destroy(ns_agglomeration *s) {
    if (!s) return;
    void *blocks[] = {s->parent, s->smallest, s->n_leaves, s->node_weight, s->node, s->sums_row, s->norm, s->spread,
                      s->low, s->lists, s->n_listed, s->rest, s->chain_of, s->below, s->is_retired, s->is_moved, s->sums,
                      s->free_sums, s->terms, s->columns, s->changed, s->mark, s->joined, s->joined_weight,
                      s->joined_leaves, s->joined_parts, s->is_compared, s->leaf_sums[0], s->leaf_sums[1]};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    free(s);
}

static int allocate(ns_agglomeration *s) {
    const size_t n = (size_t)s->n, m = 2 * n, w = 2 * (size_t)s->width, d = (size_t)s->d;
    s->parent = malloc(m * sizeof *s->parent);
    s->smallest = malloc(m * sizeof *s->smallest);
    s->n_leaves = malloc(m * sizeof *s->n_leaves);
    s->node_weight = malloc(m * sizeof *s->node_weight);
    s->node = malloc(n * sizeof *s->node);
    s->sums_row = malloc(n * sizeof *s->sums_row);
    s->norm = malloc(n * sizeof *s->norm);
    s->spread = calloc(n, sizeof *s->spread);
    s->low = malloc(n * sizeof *s->low);
    s->lists = malloc(n * (size_t)s->width * sizeof *s->lists);
    s->n_listed = calloc(n, sizeof *s->n_listed);
    s->rest = malloc(n * sizeof *s->rest);
    s->chain_of = malloc(n * sizeof *s->chain_of);
    s->below = malloc(n * sizeof *s->below);
    s->is_retired = calloc(n, sizeof *s->is_retired);
    s->is_moved = calloc(n, sizeof *s->is_moved);
    s->sums = malloc((n / 2 + 1) * d * sizeof *s->sums); /* pages come as they are used */
    s->free_sums = malloc((n / 2 + 1) * sizeof *s->free_sums);
    s->terms = malloc((n + NS_LANES) * sizeof *s->terms);
    s->columns = malloc(n * sizeof *s->columns);
    s->changed = malloc(n * sizeof *s->changed);
    s->mark = calloc(n, sizeof *s->mark);
    s->joined = malloc(w * sizeof *s->joined);
    s->joined_weight = malloc(w * sizeof *s->joined_weight);
    s->joined_leaves = malloc(w * sizeof *s->joined_leaves);
    s->joined_parts = malloc(w * sizeof *s->joined_parts);
    s->is_compared = malloc(w);
    s->leaf_sums[0] = malloc(d * sizeof(double));
    s->leaf_sums[1] = malloc(d * sizeof(double));
    return s->parent && s->smallest && s->n_leaves && s->node_weight && s->node && s->sums_row && s->norm &&
           s->spread && s->low && s->lists && s->n_listed && s->rest && s->chain_of && s->below && s->is_retired &&
           s->is_moved && s->sums && s->free_sums && s->terms && s->columns && s->changed && s->mark && s->joined &&
           s->joined_weight && s->joined_leaves && s->joined_parts && s->is_compared && s->leaf_sums[0] &&
           s->leaf_sums[1];
}

static void set_leaf(ns_agglomeration *s, int32_t a, double weight) {
    s->parent[a] = s->smallest[a] = s->node[a] = s->columns[a] = a;
    s->n_leaves[a] = 1;
    s->node_weight[a] = weight;
    s->low[a] = INFINITY;
    s->sums_row[a] = s->chain_of[a] = s->below[a] = -1;
    const double *sum = ns_sum_of(s, a, 0);
    s->norm[a] = sqrt(ns_sums_dot(sum, sum, s->d)) / (s->method == NS_WEIGHTED ? 1.0 : weight);
}

/* The pass ranks Ward's leaves by plain squared distance; an unlisted one may have the least weight. */
static void list_leaf(ns_agglomeration *s, int32_t a, const int64_t *indices, const float *similarities) {
    const double weight = s->node_weight[a], least = s->least_weight;
    int32_t n = 0;
    for (; n < s->width && indices[n] >= 0; n++) {
        const int32_t b = (int32_t)indices[n];
        double value = (double)similarities[n];
        if (s->method == NS_WARD) value *= 2.0 * weight * s->node_weight[b] / (weight + s->node_weight[b]);
        s->lists[a * s->width + n] = (candidate){b, ns_upper_of_pass(s, a, b, value)};
    }
    double rest = (double)similarities[s->width];
    if (s->method == NS_WARD) rest *= 2.0 * weight * least / (weight + least);
    s->n_listed[a] = n;
    s->rest[a] = ns_upper_of_rest(s, a, rest);
}

static int list_leaves(ns_agglomeration *s, const uint64_t *lists) {
    const int64_t places = s->width + 1;
    int64_t *indices = malloc((size_t)places * sizeof *indices);
    float *similarities = malloc((size_t)places * sizeof *similarities);
    if (indices && similarities)
        for (int32_t a = 0; a < s->n; a++) {
            ns_ranked(lists + a * places, 1, places, places, indices, similarities, NULL);
            list_leaf(s, a, indices, similarities);
        }
    free(indices);
    free(similarities);
    return indices && similarities;
}

ns_agglomeration *ns_agglomeration_create(int32_t isa, int32_t method, int32_t metric, const float *rows, int64_t n,
                                          int64_t d, int64_t stride, const double *divisors, const double *weights,
                                          float *panels, const uint64_t *lists, int64_t width, double max_norm,
                                          double cut, double epsilon) {
    const ns_kernels *kernels = ns_table(isa);
    const int bilinear = metric == NS_DOT || metric == NS_COSINE;
    const int known = (method == NS_AVERAGE && (bilinear || metric == NS_SQEUCLIDEAN)) ||
                      (method == NS_WEIGHTED && bilinear) || (method == NS_WARD && metric == NS_SQEUCLIDEAN);
    if (!kernels || !known || n < 1 || n > INT32_MAX / 2 || d < 1 || stride < d || width < 1 || width > INT16_MAX ||
        !(epsilon >= 0.0 && epsilon < INFINITY))
        return NULL;
    ns_agglomeration *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    const double steps = (double)(d + 8) * 0x1p-24;
    *s = (ns_agglomeration){.kernels = kernels, .method = method, .metric = metric, .n = n, .d = d, .width = width,
                            .rows = rows, .stride = stride, .divisors = divisors, .max_norm = max_norm,
                            .gamma = steps / (1.0 - steps), .underflow = (double)d * 0x1p-126, .cut = cut,
                            .share = 1.0 / (1.0 + epsilon),
                            .panels = panels, .n_columns = n, .n_nodes = n, .n_living = n, .leaf_of = {-1, -1},
                            .least_weight = INFINITY};
    for (int32_t c = 0; c < NS_CHAINS; c++) s->chains[c] = (chain){.state = IDLE, .tip = -1, .target = -1};
    if (!allocate(s)) {
        ns_agglomeration_destroy(s);
        return NULL;
    }
    for (int32_t a = 0; a < n; a++) {
        set_leaf(s, a, weights[a]);
        s->least_weight = fmin(s->least_weight, weights[a]);
    }
    if (!list_leaves(s, lists)) {
        ns_agglomeration_destroy(s);
        return NULL;
    }
    return s;
}
