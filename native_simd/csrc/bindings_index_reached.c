/* What a spread has reached: the best of it, or all; and its sums made 0 for the next one. */
#include <stdlib.h>
#include <string.h>

#include "bindings_index_spread.h"

enum { LEAST_REACHED = 256, WORD_GROUPS = 8 };

typedef struct {
    int64_t id;
    uint64_t units;
} node;

/* Nodes; if k is not below 0, the best k of all that have been offered are among them. */
typedef struct {
    node *nodes;
    int64_t n, capacity, k;
    node least; /* of k: no other can be among the best */
    int32_t is_full, status;
} reached;

static int by_units(const void *a, const void *b) {
    const node *x = a, *y = b;
    if (x->units != y->units) return x->units < y->units ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Sorts, and drops what is beyond k. */
static void cut(reached *r) {
    if (r->n > 1) qsort(r->nodes, (size_t)r->n, sizeof *r->nodes, by_units);
    if (r->n < r->k) return;
    r->n = r->k;
    r->is_full = 1;
    if (r->k) r->least = r->nodes[r->k - 1];
}

static void make_room(reached *r) {
    if (r->k >= 0 && r->k <= r->capacity / 2) {
        cut(r);
        return;
    }
    node *nodes = realloc(r->nodes, (size_t)r->capacity * 2 * sizeof *nodes);
    if (!nodes) {
        r->status = NS_E_MEMORY;
        return;
    }
    r->nodes = nodes;
    r->capacity *= 2;
}

static inline void offer(reached *r, int64_t id, uint64_t units) {
    const node offered = {id, units};
    if (!units || r->status != NS_OK) return;
    if (r->is_full && (!r->k || by_units(&offered, &r->least) > 0)) return;
    if (r->n == r->capacity) make_room(r);
    if (r->status == NS_OK) r->nodes[r->n++] = offered;
}

/* Groups, a word of marks at a time, of which all 0 are passed over. */
static int32_t is_clear(const uint8_t *marks) {
    uint64_t word;
    memcpy(&word, marks, sizeof word);
    return !word;
}

static void drain_concepts(ns_activations *a, const ns_shard *s, int32_t number, reached *r) {
    for (uint32_t group = a->bases[number] / NS_GROUP; group < a->bases[number + 1] / NS_GROUP; group++) {
        if (group % WORD_GROUPS == 0 && is_clear(a->concept_states + group)) {
            group += WORD_GROUPS - 1;
            continue;
        }
        const uint32_t first = group * NS_GROUP, slot = first - a->bases[number];
        for (uint32_t i = 0; i < NS_GROUP && slot + i < s->n_lines; i++)
            offer(r, s->lines[slot + i].id, a->concepts[first + i].total);
        memset(&a->concepts[first], 0, NS_GROUP * sizeof *a->concepts);
        memset(&a->passed[first], 0, NS_GROUP * sizeof *a->passed);
        a->concept_states[group] = 0;
    }
}

static void drain_episodes(ns_activations *a, reached *r) {
    for (int64_t group = 0; group < a->capacity / NS_GROUP; group++) {
        if (group % WORD_GROUPS == 0 && is_clear(a->states + group)) {
            group += WORD_GROUPS - 1;
            continue;
        }
        if (!a->states[group]) continue;
        for (int64_t number = group * NS_GROUP; number < (group + 1) * NS_GROUP; number++)
            offer(r, a->ids[number], a->totals[number]);
        memset(&a->totals[group * NS_GROUP], 0, NS_GROUP * sizeof *a->totals);
        memset(&a->sums[group * NS_GROUP], 0, NS_GROUP * sizeof *a->sums);
        a->states[group] = 0;
    }
}

static int32_t write_answer(const reached *concepts, const reached *episodes, ns_spread_answer *answer) {
    const int64_t n = concepts->n + episodes->n;
    int64_t *ids = malloc(sizeof *ids * (size_t)(2 * n + 1));
    if (!ids) return NS_E_MEMORY;
    *answer = (ns_spread_answer){.n_concepts = concepts->n, .n_episodes = episodes->n, .ids = ids, .units = ids + n};
    for (int64_t i = 0; i < n; i++) {
        const node *x = i < concepts->n ? &concepts->nodes[i] : &episodes->nodes[i - concepts->n];
        ids[i] = x->id;
        answer->units[i] = (int64_t)x->units;
    }
    return NS_OK;
}

static reached new_reached(int32_t status, int64_t k) {
    reached r = {.capacity = LEAST_REACHED, .k = k, .status = status, .is_full = k == 0};
    if (status == NS_OK && !(r.nodes = malloc(LEAST_REACHED * sizeof *r.nodes))) r.status = NS_E_MEMORY;
    return r;
}

int32_t ns_drain_activations(ns_activations *a, const ns_index *index, int32_t status, int64_t k,
                             ns_spread_answer *answer) {
    reached concepts = new_reached(status, k), episodes = new_reached(status, k);
    for (int32_t number = 0; number < index->n_shards; number++)
        drain_concepts(a, &index->shards[number], number, &concepts);
    drain_episodes(a, &episodes);
    status = concepts.status != NS_OK ? concepts.status : episodes.status;
    if (status == NS_OK && k >= 0) cut(&concepts), cut(&episodes);
    if (status == NS_OK) status = write_answer(&concepts, &episodes, answer);
    free(concepts.nodes), free(episodes.nodes);
    return status;
}

void ns_spread_answer_free(ns_spread_answer *answer) {
    free(answer->ids);
    *answer = (ns_spread_answer){0};
}
