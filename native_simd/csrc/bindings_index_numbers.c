/* Numbers of episodes, and the arrays that they are places of.
 *
 * A number is given when a spread first meets an episode, and kept: bindings come and go without a look here, so an index
 * that nobody spreads over pays nothing. The numbers of a concept's bindings lie in its segment, the first n_numbered of
 * them. */
#include <stdlib.h>
#include <string.h>

#include "bindings_index_spread.h"

enum { LEAST_NUMBERS = 1 << 10, MOST_NUMBERS = 1 << 30, AHEAD = 8 };

/* An array knows its size, a cache line before it begins. */
enum { HEAD_BYTES = 64 };

static void *new_array(int64_t n_bytes) {
    char *memory = ns_index_memory(n_bytes + HEAD_BYTES, NULL, 0);
    if (!memory) return NULL;
    memcpy(memory, &n_bytes, sizeof n_bytes);
    return memory + HEAD_BYTES;
}

static void free_array(void *array) {
    int64_t n_bytes;
    if (!array) return;
    char *memory = (char *)array - HEAD_BYTES;
    memcpy(&n_bytes, memory, sizeof n_bytes);
    ns_index_free(memory, n_bytes + HEAD_BYTES);
}

int32_t ns_regrow_array(void *array, int64_t n_kept, int64_t n_bytes) {
    void *old, *grown = new_array(n_bytes);
    if (!grown) return 0;
    memcpy(&old, array, sizeof old);
    if (n_kept) memcpy(grown, old, (size_t)n_kept);
    free_array(old);
    memcpy(array, &grown, sizeof grown);
    return 1;
}

static ns_number_entry *new_table(uint64_t n) {
    ns_number_entry *table = new_array((int64_t)(n * sizeof *table));
    return table ? memset(table, 0xff, n * sizeof *table) : NULL;
}

/* Every array grows before the capacity does, so that it is true whichever of them fails. */
static int32_t grow(ns_activations *a) {
    const int64_t kept = a->capacity, n = kept ? 2 * kept : LEAST_NUMBERS;
    if (n > MOST_NUMBERS) return 0;
    if (!ns_regrow_array(&a->ids, kept * 8, n * 8) || !ns_regrow_array(&a->sums, kept * 8, n * 8) ||
        !ns_regrow_array(&a->totals, kept * 8, n * 8) ||
        !ns_regrow_array(&a->states, kept / NS_GROUP, n / NS_GROUP))
        return 0;
    ns_number_entry *table = new_table((uint64_t)n * 2);
    if (!table) return 0;
    for (uint32_t number = 0; number < a->n_episodes; number++) {
        const uint64_t hash = ns_mix(a->ids[number]);
        uint64_t i = hash & (uint64_t)(2 * n - 1);
        while (table[i].number != NS_NONE) i = (i + 1) & (uint64_t)(2 * n - 1);
        table[i] = (ns_number_entry){ns_tag(hash), number};
    }
    free_array(a->table);
    a->table = table;
    a->mask = (uint64_t)(2 * n - 1);
    a->capacity = (uint32_t)n;
    return 1;
}

ns_activations *ns_activations_create(void) {
    ns_activations *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->n_workers = 1;
    a->tied_at = UINT64_MAX;
    if (grow(a)) return a;
    ns_activations_destroy(a);
    return NULL;
}

void ns_activations_destroy(ns_activations *a) {
    if (!a) return;
    void *arrays[] = {a->table, a->ids, a->sums, a->totals, a->states, a->concepts, a->passed, a->concept_states,
                      a->worker_sums, a->sources, a->ties, a->starts};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free_array(arrays[i]);
    free(a);
}

int64_t ns_activations_bytes(const ns_activations *a) {
    return (int64_t)sizeof *a + a->capacity * (int64_t)(2 * sizeof *a->table + 3 * 8) + a->capacity / NS_GROUP +
           a->concept_capacity * (int64_t)(sizeof *a->concepts + sizeof *a->passed) + a->concept_capacity / NS_GROUP +
           (a->n_workers - 1) * (int64_t)a->worker_capacity * 8 + a->source_capacity * (int64_t)sizeof *a->sources +
           a->tie_capacity * (int64_t)sizeof *a->ties + a->start_capacity * (int64_t)sizeof *a->starts;
}

static int32_t grow_concepts(ns_activations *a, int64_t n) {
    if (!ns_regrow_array(&a->concepts, 0, n * (int64_t)sizeof *a->concepts) ||
        !ns_regrow_array(&a->passed, 0, n * (int64_t)sizeof *a->passed) ||
        !ns_regrow_array(&a->concept_states, 0, n / NS_GROUP))
        return 0;
    a->concept_capacity = (uint32_t)n;
    return 1;
}

int32_t ns_reserve_concepts(ns_activations *a, const ns_index *index) {
    int64_t n = 0;
    for (int32_t number = 0; number < index->n_shards; number++)
        n += ((int64_t)index->shards[number].n_lines + 63) / 64 * 64;
    const int32_t fits = n <= MOST_NUMBERS && (n <= a->concept_capacity || grow_concepts(a, n + n / 512 * 64));
    memset(a->bases, 0, sizeof a->bases);
    for (int32_t number = 0; fits && number < index->n_shards; number++)
        a->bases[number + 1] = a->bases[number] + (index->shards[number].n_lines + 63) / 64 * 64;
    return fits ? NS_OK : NS_E_MEMORY;
}

int32_t ns_reserve_workers(ns_activations *a, int32_t n_workers) {
    if (n_workers == 1 || (n_workers <= a->n_workers && a->concept_capacity <= a->worker_capacity)) return NS_OK;
    if (n_workers < a->n_workers) n_workers = a->n_workers;
    if (!ns_regrow_array(&a->worker_sums, 0, (n_workers - 1) * (int64_t)a->concept_capacity * 8)) return NS_E_MEMORY;
    a->n_workers = n_workers;
    a->worker_capacity = a->concept_capacity;
    return NS_OK;
}

int32_t ns_reserve_sources(ns_activations *a, int64_t n) {
    if (n <= a->source_capacity) return NS_OK;
    if (!ns_regrow_array(&a->sources, 0, 2 * n * (int64_t)sizeof *a->sources)) return NS_E_MEMORY;
    a->source_capacity = 2 * n;
    return NS_OK;
}

/* The entry of an episode, or the empty one where it would be. */
static ns_number_entry *find_number(const ns_activations *a, int64_t episode, uint64_t hash) {
    const uint32_t tag = ns_tag(hash);
    for (uint64_t i = hash & a->mask;; i = (i + 1) & a->mask) {
        ns_number_entry *e = &a->table[i];
        if (e->number == NS_NONE || (e->tag == tag && a->ids[e->number] == episode)) return e;
    }
}

uint32_t ns_number_episode(ns_activations *a, int64_t episode) {
    if (a->n_episodes == a->capacity && !grow(a)) return NS_NONE;
    const uint64_t hash = ns_mix(episode);
    ns_number_entry *e = find_number(a, episode, hash);
    if (e->number == NS_NONE) {
        a->ids[a->n_episodes] = episode;
        *e = (ns_number_entry){ns_tag(hash), a->n_episodes++};
    }
    return e->number;
}

int32_t ns_number_places(ns_activations *a, ns_shard *s, ns_concept_line *line) {
    if (ns_shard_make_numbers(s) != NS_OK) return NS_E_MEMORY;
    const int64_t *episodes = s->episodes + line->offset;
    for (uint32_t i = line->n_numbered; i < line->fan_out; i++) {
        if (i + AHEAD < line->fan_out) ns_prefetch_number(a, episodes[i + AHEAD]);
        const uint32_t number = ns_number_episode(a, episodes[i]);
        if (number == NS_NONE) return NS_E_MEMORY;
        s->numbers[line->offset + i] = number;
        line->n_numbered = i + 1;
    }
    return NS_OK;
}

void ns_renumber(ns_activations *a, ns_index *index) {
    int64_t n_bindings = LEAST_NUMBERS;
    for (int32_t number = 0; number < index->n_shards; number++) n_bindings += index->shards[number].n_bindings;
    if (a->n_episodes <= 2 * n_bindings) return;
    for (int32_t number = 0; number < index->n_shards; number++)
        for (uint32_t slot = 0; slot < index->shards[number].n_lines; slot++)
            index->shards[number].lines[slot].n_numbered = 0;
    memset(a->table, 0xff, (a->mask + 1) * sizeof *a->table);
    a->n_episodes = 0;
    a->tied_at = UINT64_MAX;
}
