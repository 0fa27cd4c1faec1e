/* Memory of spreading activation (bindings_index_spread.c), kept by an index from one call to the next.
 *
 * Episodes have numbers here, one each, whatever shards know them, and so have concepts; sums lie in arrays. Shards keep
 * the numbers of their bindings beside the ids (bindings_index_numbers.c). All sums, and all that marks them, are 0
 * between calls. */
#ifndef NS_BINDINGS_INDEX_SPREAD_H
#define NS_BINDINGS_INDEX_SPREAD_H

#include "bindings_index.h"

enum { NS_MOST_WORKERS = 8, NS_GROUP = 8 }; /* threads with sums of their own; nodes that share a byte of marks */

/* Of a group: something passes on, or is to be passed on, in this step; there are sums to clear. */
enum { NS_PASSES = 1, NS_TOUCHED = 2 };

typedef struct {
    uint64_t received, total; /* in this step; in all. A cue is in `received`, and taken from `total` beforehand */
} ns_concept_sum;

typedef struct {
    int64_t id;
    double passed;
} ns_source;

typedef struct {
    uint32_t tag, number;
} ns_number_entry;

/* A binding as its episode has it, in a copy of all bindings by episode (bindings_index_ties.c). */
typedef struct {
    uint32_t concept; /* its number */
    float strength;
} ns_tie;

struct ns_activations {
    ns_number_entry *table; /* linear probing, at most half full */
    uint64_t mask;
    uint32_t n_episodes, capacity; /* numbers given; room for, a multiple of 64 */
    int64_t *ids;                  /* of each number */
    uint64_t *sums, *totals;       /* received in this step, to be passed on in the next; in all */
    uint8_t *states;               /* [group] */

    uint32_t bases[NS_MOST_SHARDS + 1]; /* numbers of a shard's concepts: its base plus the slot; multiples of 64 */
    uint32_t concept_capacity;
    ns_concept_sum *concepts;
    double *passed;          /* by each concept in this step */
    uint8_t *concept_states; /* [group] */

    int32_t n_workers; /* beyond the first: what concepts received from each, one after the other */
    uint32_t worker_capacity;
    uint64_t *worker_sums;

    ns_source *sources;
    int64_t source_capacity;

    ns_tie *ties; /* of episode e: starts[e] .. starts[e + 1] - 1 */
    uint32_t *starts;
    int64_t tie_capacity, start_capacity;
    uint32_t n_tied;    /* episodes with a start */
    uint64_t tied_at;   /* number of writes that the copy is of; UINT64_MAX: of none */
    double untied_ns;   /* time spent without a copy since the last one */
};

/* NULL, or NS_E_MEMORY, if memory is short: then all is as it was. */
ns_activations *ns_activations_create(void);
void ns_activations_destroy(ns_activations *a);
int64_t ns_activations_bytes(const ns_activations *a);

/* Replaces *array, one of the above or NULL, by one of n_bytes, zeroed, that begins with the first n_kept bytes of the old
 * one. 0 if memory is short, and nothing changes. */
int32_t ns_regrow_array(void *array, int64_t n_kept, int64_t n_bytes);

/* Numbers and sums for all concepts of the index; sums for so many workers; so many sources. */
int32_t ns_reserve_concepts(ns_activations *a, const ns_index *index);
int32_t ns_reserve_workers(ns_activations *a, int32_t n_workers);
int32_t ns_reserve_sources(ns_activations *a, int64_t n);

/* Numbers the bindings of a concept that have no numbers yet; and an episode, NS_NONE if memory is short. */
int32_t ns_number_places(ns_activations *a, ns_shard *s, ns_concept_line *line);
uint32_t ns_number_episode(ns_activations *a, int64_t episode);

static inline void ns_prefetch_number(const ns_activations *a, int64_t episode) {
    __builtin_prefetch(&a->table[ns_mix(episode) & a->mask]);
}

/* Forgets all numbers, if most are of episodes that have gone. */
void ns_renumber(ns_activations *a, ns_index *index);

/* Whether the copy of all bindings by episode is up to date; making it so. */
int32_t ns_is_tied(const ns_activations *a, const ns_index *index);
int32_t ns_tie_all(ns_activations *a, ns_index *index);

/* Clears all sums; if the status is NS_OK, answers with the totals above 0 first. Returns the status, or NS_E_MEMORY
 * (bindings_index_reached.c). */
int32_t ns_drain_activations(ns_activations *a, const ns_index *index, int32_t status, int64_t k,
                             ns_spread_answer *answer);

#endif
