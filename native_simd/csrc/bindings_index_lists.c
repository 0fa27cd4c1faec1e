/* Bindings going out: of concepts, of episodes, and all of them in order. */
#include <stdlib.h>

#include "bindings_index.h"

typedef struct {
    int64_t id;
    float strength;
} listed;

static int by_strength(const void *a, const void *b) {
    const listed *x = a, *y = b;
    if (x->strength != y->strength) return x->strength < y->strength ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static int by_id(const void *a, const void *b) {
    const listed *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static void write_list(listed *list, int64_t n, int (*order)(const void *, const void *), int64_t *ids,
                       float *strengths) {
    if (n > 1) qsort(list, (size_t)n, sizeof *list, order);
    for (int64_t i = 0; i < n; i++) {
        ids[i] = list[i].id;
        strengths[i] = list[i].strength;
    }
}

/* Writes the bindings of one concept; returns their number. */
static int64_t list_concept(const ns_index *index, int64_t concept, listed *list) {
    const uint64_t hash = ns_mix(concept);
    const ns_shard *s = &index->shards[ns_shard_number(index, hash)];
    const uint32_t slot = ns_find_concept(s, concept, hash);
    if (slot == NS_NONE) return 0;
    const ns_concept_line *line = &s->lines[slot];
    const uint32_t n = ns_n_here(line);
    for (uint32_t i = 0; list && i < n; i++)
        list[i] = (listed){s->episodes[line->offset + i], s->strengths[line->offset + i]};
    return n;
}

/* The same of one episode, which every shard may know. */
static int64_t list_episode(const ns_index *index, int64_t episode, listed *list) {
    const uint64_t hash = ns_mix(episode);
    int64_t n = 0;
    for (int32_t number = 0; number < index->n_shards; number++) {
        const ns_shard *s = &index->shards[number];
        ns_episode_entry *e = ns_find_episode(s, episode, hash);
        if (!e) continue;
        const ns_place *places = ns_places(s, e);
        for (uint32_t i = 0; list && i < ns_n_places(e); i++) {
            const ns_concept_line *line = &s->lines[places[i].concept];
            list[n + i] = (listed){line->id, s->strengths[line->offset + places[i].index]};
        }
        n += ns_n_places(e);
    }
    return n;
}

int32_t ns_index_lists(ns_index *index, int32_t of_episodes, const int64_t *names, int64_t n, int64_t capacity,
                       int64_t *offsets, int64_t *ids, float *strengths) {
    int64_t (*list_one)(const ns_index *, int64_t, listed *) = of_episodes ? list_episode : list_concept;
    if (n < 0) return NS_E_ARGUMENT;
    uint8_t touched[NS_MOST_SHARDS];
    if (!of_episodes) ns_touched_by(index, names, n, touched);
    ns_index_lock(index, of_episodes ? NULL : touched, 0);
    int64_t longest = 0;
    int32_t status = NS_OK;
    offsets[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t size = list_one(index, names[i], NULL);
        if (size > longest) longest = size;
        offsets[i + 1] = offsets[i] + size;
    }
    if (offsets[n] && offsets[n] <= capacity) {
        ns_count_rows(index, n); /* of the two calls that make an answer, the second */
        listed *list = malloc((size_t)longest * sizeof *list);
        for (int64_t i = 0; list && i < n; i++) {
            list_one(index, names[i], list);
            write_list(list, offsets[i + 1] - offsets[i], by_strength, ids + offsets[i], strengths + offsets[i]);
        }
        status = list ? NS_OK : NS_E_MEMORY;
        free(list);
    }
    ns_index_unlock(index, of_episodes ? NULL : touched);
    return status;
}

typedef struct {
    const ns_index *index;
    int64_t n_concepts, *concept_ids, *concepts, *episodes; /* concept_ids: all, ascending */
    const int64_t *starts;
    float *strengths;
    _Atomic int32_t status;
} export_call;

enum { CONCEPTS_A_CHUNK = 64 };

static void export_chunk(void *context, int64_t chunk) {
    export_call *c = context;
    const int64_t first = chunk * CONCEPTS_A_CHUNK, last = first + CONCEPTS_A_CHUNK;
    int64_t longest = 0, end = last < c->n_concepts ? last : c->n_concepts;
    for (int64_t i = first; i < end; i++)
        if (c->starts[i + 1] - c->starts[i] > longest) longest = c->starts[i + 1] - c->starts[i];
    listed *list = malloc((size_t)longest * sizeof *list);
    if (!list) {
        c->status = NS_E_MEMORY;
        return;
    }
    for (int64_t i = first; i < end; i++) {
        const int64_t start = c->starts[i], n = list_concept(c->index, c->concept_ids[i], list);
        write_list(list, n, by_id, c->episodes + start, c->strengths + start);
        for (int64_t k = 0; k < n; k++) c->concepts[start + k] = c->concept_ids[i];
    }
    free(list);
}

static int compare_ids(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int32_t export_locked(export_call *c, int32_t threads) {
    int64_t n = 0, *ids = malloc(sizeof *ids * (size_t)(2 * c->n_concepts + 1)), *starts = ids + c->n_concepts;
    if (!ids) return NS_E_MEMORY;
    for (int32_t number = 0; number < c->index->n_shards; number++) {
        const ns_shard *s = &c->index->shards[number];
        for (uint32_t slot = 0; slot < s->n_lines; slot++)
            if (s->lines[slot].segment != NS_NONE) ids[n++] = s->lines[slot].id;
    }
    qsort(ids, (size_t)n, sizeof *ids, compare_ids);
    starts[0] = 0;
    for (int64_t i = 0; i < n; i++) starts[i + 1] = starts[i] + list_concept(c->index, ids[i], NULL);
    c->concept_ids = ids;
    c->n_concepts = n;
    c->starts = starts;
    const double item_ns = 50.0 * (double)starts[n] / (double)n * CONCEPTS_A_CHUNK; /* sorting */
    int32_t status = ns_parallel(export_chunk, c, (n + CONCEPTS_A_CHUNK - 1) / CONCEPTS_A_CHUNK, item_ns, threads);
    free(ids);
    return status == NS_OK ? c->status : status;
}

int32_t ns_index_bindings(ns_index *index, int64_t capacity, int64_t *n_bindings, int64_t *concepts, int64_t *episodes,
                          float *strengths, int32_t threads) {
    if (threads < 1) return NS_E_ARGUMENT;
    export_call c = {.index = index, .concepts = concepts, .episodes = episodes, .strengths = strengths};
    ns_index_lock(index, NULL, 0);
    *n_bindings = 0;
    for (int32_t s = 0; s < index->n_shards; s++) {
        *n_bindings += index->shards[s].n_bindings;
        c.n_concepts += index->shards[s].n_concepts;
    }
    const int32_t status = *n_bindings > 0 && *n_bindings <= capacity ? export_locked(&c, threads) : NS_OK;
    ns_index_unlock(index, NULL);
    return status;
}
