/* The state of an agglomeration without a matrix: agglomeration.c (chains, merges), candidates.c (lists), rescan.c. */
#ifndef NS_AGGLOMERATION_H
#define NS_AGGLOMERATION_H

#include "internal.h"

enum { NS_CHAINS = NS_TILE_ROWS }; /* chains at a time, so that their rescans fill a tile */

typedef struct {
    int32_t node; /* a cluster when it was listed; it may be part of a larger one by now */
    float upper;  /* its similarity is not above this */
} candidate;

enum { IDLE, READY, WAITING, ASKING };

typedef struct {
    int32_t state, tip; /* tip: the end of the chain, -1 if it has none */
    int32_t target;     /* nearest neighbour of the tip: what a waiting chain waits for, what a rescan found, or -1 */
    int32_t target_node;
    int32_t is_stale;   /* it waits for what has merged since: no longer surely the nearest */
    double value;       /* similarity of tip and target; not below it, if stale */
} chain;

/* A cluster is named by its smallest leaf. A node is a cluster at one time: leaf i is node i, merge t forms node
 * n + t. */
struct ns_agglomeration {
    const ns_kernels *kernels;
    int32_t method, metric;
    int64_t n, d, width;
    const float *rows;
    int64_t stride;
    const double *divisors; /* NULL: the vectors are the rows as they are */
    double max_norm, least_weight, gamma, underflow, cut;
    double share; /* 1 / (1 + epsilon): of the best similarity there may be, what is near enough */
    /* per node */
    int32_t *parent, *smallest, *n_leaves;
    double *node_weight;
    /* per cluster */
    int32_t *node; /* -1: joined to another */
    int32_t *sums_row; /* -1: a leaf, whose sum is made from its row */
    double *norm, *spread; /* of the mean; mean squared distance of the members from it */
    double *low; /* least similarity of the merges within; with epsilon 0, where none is above it later, infinity */
    candidate *lists;
    int32_t *n_listed;
    float *rest; /* the similarity to whatever is not listed is not above this */
    int32_t *chain_of, *below; /* -1: in no chain; first of its chain */
    uint8_t *is_retired, *is_moved; /* is_moved: its column does not hold its mean */
    /* sums of clusters of two leaves or more; rows are used again, the last freed first */
    double *sums;
    int32_t *free_sums;
    int64_t n_free_sums, n_sums;
    /* packed means of the living, for rescans */
    float *panels, *terms;
    int32_t *columns, *changed; /* changed: columns that were last rewritten */
    int64_t n_columns, n_changed;
    chain chains[NS_CHAINS];
    int32_t queries[NS_CHAINS]; /* chains whose tips ask for a rescan */
    int64_t n_queries, n_nodes, n_living, n_chained, cursor;
    int64_t n_wakes;   /* stale chains that may wake */
    int64_t n_regrown; /* since the last merge: times that a chain was cut back, or all were started again */
    /* scratch */
    int32_t *mark;    /* per cluster: its place in `joined` + 1, or 0 */
    candidate *joined;
    double *joined_weight;
    int32_t *joined_leaves, *joined_parts;
    uint8_t *is_compared;
    double *leaf_sums[2];
    int32_t leaf_of[2];
    int64_t counters[NS_N_AGGLOMERATION_COUNTERS];
};

/* candidates.c */
double ns_similarity_of(ns_agglomeration *s, int32_t a, int32_t b);
float ns_upper_of_pass(const ns_agglomeration *s, int32_t a, int32_t b, double value);
float ns_upper_of_rest(const ns_agglomeration *s, int32_t a, double value);
/* The best of the listed, or -1; 1 if it is certain that nothing else is as near. */
int ns_is_nearest_listed(ns_agglomeration *s, int32_t a, int32_t *nearest, double *similarity);
/* The same, but 1 if it is certain that nothing else is nearer, by a factor of more than 1 + epsilon, than the least
 * similarity there will be within the two together: the good merge of Dhulipala et al. 2023. So the factors of merges
 * on top of each other do not multiply. */
int ns_is_near_listed(ns_agglomeration *s, int32_t a, int32_t *nearest, double *similarity);
int ns_introduce(ns_agglomeration *s, int32_t a, int32_t b, double value);
float ns_highest(const ns_agglomeration *s, int32_t a);
void ns_join_lists(ns_agglomeration *s, int32_t a, int32_t b);
const double *ns_sum_of(ns_agglomeration *s, int32_t a, int which);

#endif
