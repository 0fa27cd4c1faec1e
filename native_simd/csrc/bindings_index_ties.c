/* A copy of all bindings by episode, for spreads: there are far fewer concepts than episodes, so that what is looked up
 * there stays in cache, while the copy is read from start to end. Any change of the index makes it out of date. */
#include <string.h>

#include "bindings_index_spread.h"

enum { AHEAD = 16 };

static uint64_t count_writes(const ns_index *index) {
    uint64_t n = 0;
    for (int32_t number = 0; number < index->n_shards; number++) n += index->shards[number].n_writes;
    return n;
}

int32_t ns_is_tied(const ns_activations *a, const ns_index *index) { return a->tied_at == count_writes(index); }

static int32_t reserve(ns_activations *a, int64_t n_bindings) {
    const int64_t n_starts = a->n_episodes + (int64_t)2;
    if (n_starts > a->start_capacity) {
        if (!ns_regrow_array(&a->starts, 0, n_starts * 5 / 4 * (int64_t)sizeof *a->starts)) return NS_E_MEMORY;
        a->start_capacity = n_starts * 5 / 4;
    }
    if (n_bindings > a->tie_capacity) {
        if (!ns_regrow_array(&a->ties, 0, n_bindings * 5 / 4 * (int64_t)sizeof *a->ties)) return NS_E_MEMORY;
        a->tie_capacity = n_bindings * 5 / 4;
    }
    return NS_OK;
}

/* Episodes come in the order of their numbers: starts[e + 2] counts those of e, then starts[e + 1] is where its next one
 * goes, and in the end where those of e + 1 begin. */
static void count_ties(uint32_t *starts, const ns_shard *s) {
    for (uint32_t slot = 0; slot < s->n_lines; slot++) {
        const ns_concept_line *line = &s->lines[slot];
        if (line->segment == NS_NONE) continue;
        for (uint32_t i = line->offset; i < line->offset + line->fan_out; i++) starts[s->numbers[i] + 2]++;
    }
}

static void place_ties(ns_activations *a, const ns_shard *s, uint32_t base) {
    for (uint32_t slot = 0; slot < s->n_lines; slot++) {
        const ns_concept_line *line = &s->lines[slot];
        if (line->segment == NS_NONE) continue;
        const uint32_t end = line->offset + line->fan_out;
        for (uint32_t i = line->offset; i < end; i++) {
            if (i + AHEAD < end) __builtin_prefetch(&a->ties[a->starts[s->numbers[i + AHEAD] + 1]], 1);
            a->ties[a->starts[s->numbers[i] + 1]++] = (ns_tie){base + slot, s->strengths[i]};
        }
    }
}

int32_t ns_tie_all(ns_activations *a, ns_index *index) {
    int64_t n_bindings = 0;
    a->tied_at = UINT64_MAX;
    for (int32_t number = 0; number < index->n_shards; number++) {
        ns_shard *s = &index->shards[number];
        n_bindings += s->n_bindings;
        for (uint32_t slot = 0; slot < s->n_lines; slot++)
            if (s->lines[slot].segment != NS_NONE && s->lines[slot].n_numbered < s->lines[slot].fan_out &&
                ns_number_places(a, s, &s->lines[slot]) != NS_OK)
                return NS_E_MEMORY;
    }
    if (n_bindings >= UINT32_MAX || reserve(a, n_bindings) != NS_OK) return NS_E_MEMORY;
    memset(a->starts, 0, (a->n_episodes + (size_t)2) * sizeof *a->starts);
    for (int32_t number = 0; number < index->n_shards; number++) count_ties(a->starts, &index->shards[number]);
    for (uint32_t e = 0; e < a->n_episodes; e++) a->starts[e + 2] += a->starts[e + 1];
    for (int32_t number = 0; number < index->n_shards; number++)
        place_ties(a, &index->shards[number], a->bases[number]);
    a->n_tied = a->n_episodes;
    a->tied_at = count_writes(index);
    a->untied_ns = 0.0;
    return NS_OK;
}
