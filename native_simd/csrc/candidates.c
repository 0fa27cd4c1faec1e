/* Certified candidate lists: of every cluster a few others, each with an upper bound on its similarity, and one bound
 * (`rest`) on the similarity to all that are not listed. The best listed one is the nearest neighbour as soon as its
 * exact similarity is above every other bound.
 *
 * Bounds survive merges because the methods are reducible: sim(A u B, C) <= max(sim(A, C), sim(B, C)) for A and B that
 * are nearest to each other; under average linkage it is even the weighted mean of the two. So a list is only read, and
 * brought up to date, when its cluster is asked for its nearest neighbour or joins another. Bounds are float32, rounded
 * up; exact similarities are float64. */
#include <float.h>
#include <math.h>

#include "agglomeration.h"

static float rounded_up(double value) {
    const float nearest = (float)value;
    return (double)nearest < value ? nextafterf(nearest, INFINITY) : nearest;
}

/* What a squared distance of means counts for between clusters of these weights. */
static double ward_factor(double a, double b) { return 2.0 * a * b / (a + b); }

static double weight_of(const ns_agglomeration *s, int32_t a) { return s->node_weight[s->node[a]]; }

const double *ns_sum_of(ns_agglomeration *s, int32_t a, int which) {
    if (s->sums_row[a] >= 0) return s->sums + s->sums_row[a] * s->d;
    double *sum = s->leaf_sums[which];
    if (s->leaf_of[which] == a) return sum;
    const float *row = s->rows + a * s->stride;
    const double weight = s->method == NS_WEIGHTED ? 1.0 : weight_of(s, a);
    if (s->divisors)
        for (int64_t k = 0; k < s->d; k++) sum[k] = (double)row[k] / s->divisors[a];
    else
        for (int64_t k = 0; k < s->d; k++) sum[k] = (double)row[k];
    if (weight != 1.0)
        for (int64_t k = 0; k < s->d; k++) sum[k] *= weight;
    s->leaf_of[which] = a;
    return sum;
}

/* In float64, the same to the bit whichever comes first. `a` is the one that is asked about again and again. */
double ns_similarity_of(ns_agglomeration *s, int32_t a, int32_t b) {
    const double *of_a = ns_sum_of(s, a, 0), *of_b = ns_sum_of(s, b, 1);
    const int in_order = a < b;
    const double *x = in_order ? of_a : of_b, *y = in_order ? of_b : of_a;
    double v = weight_of(s, in_order ? a : b), w = weight_of(s, in_order ? b : a);
    if (s->method == NS_WEIGHTED) v = w = 1.0;
    s->counters[1]++;
    if (s->method == NS_WARD) return -ward_factor(v, w) * ns_centroid_sqdistance(x, v, y, w, s->d);
    if (s->metric == NS_SQEUCLIDEAN)
        return -(ns_centroid_sqdistance(x, v, y, w, s->d) + (s->spread[a] + s->spread[b]));
    return ns_sums_dot(x, y, s->d) / (v * w);
}

/* Above what float64 made of a pair, by enough for any merges to come: sums of a million roundings. */
static float upper_of_exact(const ns_agglomeration *s, int32_t a, int32_t b, double value) {
    double scale = s->norm[a] * s->norm[b];
    if (s->metric == NS_SQEUCLIDEAN) {
        scale = (s->norm[a] + s->norm[b]) * (s->norm[a] + s->norm[b]) + s->spread[a] + s->spread[b];
        if (s->method == NS_WARD) scale *= ward_factor(weight_of(s, a), weight_of(s, b));
    }
    return rounded_up(value + 0x1p-30 * scale);
}

/* Above the exact similarity of a pair of which the float32 pass made `value`; README.md, "Certified lists". */
static float upper_of_float(const ns_agglomeration *s, double value, double norm_a, double norm_b, double factor) {
    if (s->metric != NS_SQEUCLIDEAN) return rounded_up(value + s->gamma * norm_a * norm_b + s->underflow);
    const double rounding = 0x1.02p-24 * (norm_a + norm_b) * sqrt(factor);
    const double root = sqrt(-value * (1.0 - s->gamma)) - rounding;
    return rounded_up(root > 0.0 ? s->underflow - root * root : 0.0);
}

float ns_upper_of_pass(const ns_agglomeration *s, int32_t a, int32_t b, double value) {
    const double factor = s->method == NS_WARD ? ward_factor(weight_of(s, a), weight_of(s, b)) : 1.0;
    return upper_of_float(s, value, s->norm[a], s->norm[b], factor);
}

float ns_upper_of_rest(const ns_agglomeration *s, int32_t a, double value) {
    if (value == -INFINITY) return -INFINITY;
    return upper_of_float(s, value, s->norm[a], s->max_norm, s->method == NS_WARD ? 2.0 * weight_of(s, a) : 1.0);
}

/* What is near enough where nothing is nearer than `rest`: as it is, without an epsilon. */
static double near_enough(const ns_agglomeration *s, float rest) {
    return rest > 0.0f ? (double)rest * s->share : (double)rest / s->share;
}

static int32_t living_node(ns_agglomeration *s, int32_t node) {
    while (s->parent[node] != node) {
        s->parent[node] = s->parent[s->parent[node]];
        node = s->parent[node];
    }
    return node;
}

/* Brings the list of a up to date: entries that are parts of one living cluster become one. Afterwards
 * s->mark[b] - 1 is the place of cluster b, until `unmark`. */
static void settle(ns_agglomeration *s, int32_t a) {
    candidate *list = s->lists + a * s->width;
    int32_t n = 0;
    for (int32_t p = 0; p < s->n_listed[a]; p++) {
        const int32_t node = list[p].node, living = living_node(s, node);
        int32_t *mark = &s->mark[s->smallest[living]];
        if (!*mark) {
            *mark = ++n;
            s->joined[n - 1] = (candidate){living, -INFINITY};
            s->joined_weight[n - 1] = 0.0;
            s->joined_leaves[n - 1] = s->joined_parts[n - 1] = 0;
        }
        const int32_t q = *mark - 1;
        const double sum = s->joined_weight[q] * (double)s->joined[q].upper, weight = s->node_weight[node];
        const double joint = s->joined_weight[q] + weight;
        if (!s->joined_parts[q] || s->method != NS_AVERAGE)
            s->joined[q].upper = fmaxf(s->joined[q].upper, list[p].upper);
        else
            s->joined[q].upper = rounded_up((sum + weight * (double)list[p].upper) / joint);
        s->joined_weight[q] = joint;
        s->joined_leaves[q] += s->n_leaves[node];
        s->joined_parts[q]++;
    }
    for (int32_t q = 0; q < n; q++) {
        const int32_t node = s->joined[q].node;
        list[q] = s->joined[q];
        if (s->joined_leaves[q] == s->n_leaves[node]) continue; /* known in full */
        if (s->method == NS_AVERAGE) {
            const double known = s->joined_weight[q], all = s->node_weight[node];
            const double missing = all > known ? all - known : 0.0;
            list[q].upper =
                rounded_up((known * (double)list[q].upper + missing * (double)s->rest[a]) / (known + missing));
        } else {
            list[q].upper = fmaxf(list[q].upper, s->rest[a]);
        }
    }
    s->n_listed[a] = n;
}

static void unmark(ns_agglomeration *s, int32_t a) {
    for (int32_t p = 0; p < s->n_listed[a]; p++) s->mark[s->smallest[s->lists[a * s->width + p].node]] = 0;
}

/* Entries that could not be taken, whatever they turn out to be. */
static void drop_useless(ns_agglomeration *s, int32_t a) {
    candidate *list = s->lists + a * s->width;
    const double enough = near_enough(s, s->rest[a]);
    int32_t kept = 0;
    for (int32_t p = 0; p < s->n_listed[a]; p++)
        if ((double)list[p].upper > enough) list[kept++] = list[p];
    s->n_listed[a] = kept;
}

float ns_highest(const ns_agglomeration *s, int32_t a) {
    float highest = s->rest[a];
    for (int32_t p = 0; p < s->n_listed[a]; p++) highest = fmaxf(highest, s->lists[a * s->width + p].upper);
    return highest;
}

/* The best of the listed, or -1. */
static void nearest_listed(ns_agglomeration *s, int32_t a, int32_t *nearest, double *similarity) {
    settle(s, a);
    unmark(s, a);
    drop_useless(s, a);
    candidate *list = s->lists + a * s->width;
    const int32_t n = s->n_listed[a];
    *nearest = -1;
    *similarity = -INFINITY;
    for (int32_t p = 0; p < n; p++) s->is_compared[p] = 0;
    for (;;) {
        int32_t next = -1;
        for (int32_t p = 0; p < n; p++)
            if (!s->is_compared[p] && (next < 0 || list[p].upper > list[next].upper)) next = p;
        if (next < 0 || (double)list[next].upper < *similarity) break;
        const int32_t b = s->smallest[list[next].node];
        const double value = ns_similarity_of(s, a, b);
        s->is_compared[next] = 1;
        list[next].upper = fminf(list[next].upper, upper_of_exact(s, a, b, value));
        if (value > *similarity || (value == *similarity && b < *nearest)) {
            *similarity = value;
            *nearest = b;
        }
    }
}

int ns_is_nearest_listed(ns_agglomeration *s, int32_t a, int32_t *nearest, double *similarity) {
    nearest_listed(s, a, nearest, similarity);
    return *nearest >= 0 && *similarity > (double)s->rest[a];
}

int ns_is_near_listed(ns_agglomeration *s, int32_t a, int32_t *nearest, double *similarity) {
    nearest_listed(s, a, nearest, similarity);
    return *nearest >= 0 && fmin(*similarity, fmin(s->low[a], s->low[*nearest])) > near_enough(s, s->rest[a]);
}

/* Lets a know of b; 1 if that may change what a takes for its nearest. So similarities rise along a chain, though with
 * an epsilon a may not list what lists it. With epsilon 0 and true bounds there is never any news. */
int ns_introduce(ns_agglomeration *s, int32_t a, int32_t b, double value) {
    candidate *list = s->lists + a * s->width;
    if (s->share == 1.0 || value <= near_enough(s, s->rest[a])) return 0;
    for (int32_t p = 0; p < s->n_listed[a]; p++)
        if (list[p].node == s->node[b] && (double)list[p].upper >= value) return 0;
    settle(s, a);
    int32_t place = s->mark[b] - 1;
    unmark(s, a);
    if (place >= 0 && (double)list[place].upper >= value) return 0;
    if (place < 0 && s->n_listed[a] < s->width) place = s->n_listed[a]++;
    if (place < 0) {
        place = 0;
        for (int32_t p = 1; p < s->n_listed[a]; p++)
            if (list[p].upper < list[place].upper) place = p;
        s->rest[a] = fmaxf(s->rest[a], list[place].upper);
    }
    list[place] = (candidate){s->node[b], upper_of_exact(s, a, b, value)};
    return 1;
}

/* The bound on the similarity of a u b with a cluster of which bounds with a and b are known. */
static float joint_upper(const ns_agglomeration *s, double weight_a, double weight_b, double upper_a, double upper_b) {
    if (s->method != NS_AVERAGE) return (float)fmax(upper_a, upper_b);
    return rounded_up((weight_a * upper_a + weight_b * upper_b) / (weight_a + weight_b));
}

/* Moves the `width` highest of n candidates to the front; returns the highest of the others. */
static float select_highest(candidate *all, int32_t n, int64_t width) {
    float left_out = -INFINITY;
    for (int32_t kept = 0; kept < n; kept++) {
        int32_t highest = kept;
        for (int32_t p = kept + 1; p < n; p++)
            if (all[p].upper > all[highest].upper) highest = p;
        const candidate c = all[highest];
        if (kept == width) return c.upper;
        all[highest] = all[kept];
        all[kept] = c;
    }
    return left_out;
}

/* The list of a becomes that of a u b, before the two are merged. */
void ns_join_lists(ns_agglomeration *s, int32_t a, int32_t b) {
    const double weight_a = weight_of(s, a), weight_b = weight_of(s, b);
    candidate *list_a = s->lists + a * s->width, *list_b = s->lists + b * s->width, *joined = s->joined;
    settle(s, a);
    unmark(s, a);
    settle(s, b); /* leaves the places of b's candidates marked */
    int32_t n = 0;
    for (int32_t p = 0; p < s->n_listed[a]; p++) {
        const int32_t c = s->smallest[list_a[p].node];
        if (c == b) continue;
        float upper_b = s->rest[b];
        if (s->mark[c]) {
            candidate *known = &list_b[s->mark[c] - 1];
            upper_b = known->upper;
            known->upper = NAN; /* taken */
        }
        joined[n++] = (candidate){list_a[p].node, joint_upper(s, weight_a, weight_b, (double)list_a[p].upper, (double)upper_b)};
    }
    for (int32_t p = 0; p < s->n_listed[b]; p++) {
        const int32_t c = s->smallest[list_b[p].node];
        if (c == a || isnan(list_b[p].upper)) continue;
        joined[n++] = (candidate){list_b[p].node,
                                  joint_upper(s, weight_a, weight_b, (double)s->rest[a], (double)list_b[p].upper)};
    }
    unmark(s, b);
    const float left_out = select_highest(joined, n, s->width);
    s->n_listed[a] = n < s->width ? n : (int32_t)s->width;
    for (int32_t p = 0; p < s->n_listed[a]; p++) list_a[p] = joined[p];
    s->rest[a] = fmaxf(joint_upper(s, weight_a, weight_b, (double)s->rest[a], (double)s->rest[b]), left_out);
    drop_useless(s, a);
}
