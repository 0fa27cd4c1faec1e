/* What keeps an index in order: weak bindings go, figures come, and the invariants are checked. */
#include <stdlib.h>

#include "bindings_index_spread.h"

typedef struct {
    int64_t *pairs; /* concept and episode of each binding that goes */
    int64_t n, capacity;
} victims;

typedef struct {
    ns_index *index;
    float below;
    int64_t keep;
    victims *found; /* [shard] */
    _Atomic int32_t status;
} forget_call;

/* Whether an episode has at least `keep` bindings, in all shards, that come before this one: stronger, or equally
 * strong and of a smaller concept. */
static int32_t is_dispensable(const forget_call *c, int64_t concept, int64_t episode, float strength) {
    const uint64_t hash = ns_mix(episode);
    int64_t n_before = 0;
    for (int32_t number = 0; number < c->index->n_shards; number++)
        __builtin_prefetch(ns_episode_bucket(&c->index->shards[number], hash));
    for (int32_t number = 0; number < c->index->n_shards; number++) {
        const ns_shard *s = &c->index->shards[number];
        ns_episode_entry *e = ns_find_episode(s, episode, hash);
        const ns_place *places = e ? ns_places(s, e) : NULL;
        for (uint32_t i = 0, n = e ? ns_n_places(e) : 0; i < n; i++) {
            const ns_concept_line *line = &s->lines[places[i].concept];
            const float other = s->strengths[line->offset + places[i].index];
            n_before += other > strength || (other == strength && line->id < concept);
        }
    }
    return n_before >= c->keep;
}

static int32_t add_victim(victims *v, int64_t concept, int64_t episode) {
    if (v->n == v->capacity) {
        const int64_t capacity = v->capacity ? 2 * v->capacity : 64;
        int64_t *pairs = realloc(v->pairs, (size_t)capacity * 2 * sizeof *pairs);
        if (!pairs) return 0;
        v->pairs = pairs;
        v->capacity = capacity;
    }
    v->pairs[2 * v->n] = concept;
    v->pairs[2 * v->n++ + 1] = episode;
    return 1;
}

static void find_victims(void *context, int64_t number) {
    forget_call *c = context;
    const ns_shard *s = &c->index->shards[number];
    for (uint32_t slot = 0; slot < s->n_lines; slot++) {
        const ns_concept_line *line = &s->lines[slot];
        if (line->segment == NS_NONE) continue;
        for (uint32_t i = 0; i < line->fan_out; i++) {
            const float strength = s->strengths[line->offset + i];
            const int64_t episode = s->episodes[line->offset + i];
            if (strength >= c->below || !is_dispensable(c, line->id, episode, strength)) continue;
            if (!add_victim(&c->found[number], line->id, episode)) {
                c->status = NS_E_MEMORY;
                return;
            }
        }
    }
}

static void remove_victims(void *context, int64_t number) {
    const forget_call *c = context;
    const victims *v = &c->found[number];
    ns_shard *s = &c->index->shards[number];
    for (int64_t i = 0; i < v->n; i++) {
        const uint32_t slot = ns_find_concept(s, v->pairs[2 * i], ns_mix(v->pairs[2 * i]));
        ns_episode_entry *e = ns_find_episode(s, v->pairs[2 * i + 1], ns_mix(v->pairs[2 * i + 1]));
        ns_shard_remove(s, slot, e, ns_find_place(s, e, slot));
    }
    if (v->n) ns_shard_compact(s);
}

int32_t ns_index_forget(ns_index *index, int64_t op_id, float below, int64_t keep, int64_t *n_forgotten,
                        int32_t threads) {
    if (!(below >= 0.0f) || keep < 1 || threads < 1) return NS_E_ARGUMENT;
    forget_call c = {.index = index, .below = below, .keep = keep};
    c.found = calloc((size_t)index->n_shards, sizeof *c.found);
    if (!c.found) return NS_E_MEMORY;
    *n_forgotten = 0;
    ns_index_lock(index, NULL, 1);
    const double item_ns = 10.0 * (double)index->shards[0].n_bindings; /* if a few are weak */
    int32_t status = ns_operation_known(index, op_id) ? NS_REPEATED : NS_OK;
    if (status == NS_OK) status = ns_parallel(find_victims, &c, index->n_shards, item_ns, threads);
    if (status == NS_OK) status = c.status;
    if (status == NS_OK) status = ns_operation_add(index, op_id);
    if (status == NS_OK)
        while (ns_parallel(remove_victims, &c, index->n_shards, item_ns, threads) != NS_OK) threads = 1;
    ns_index_unlock(index, NULL);
    for (int32_t s = 0; s < index->n_shards; s++) {
        if (status == NS_OK) *n_forgotten += c.found[s].n;
        free(c.found[s].pairs);
    }
    free(c.found);
    return status;
}

static void count_line(const ns_concept_line *line, int64_t *values) {
    const int32_t here = line->segment != NS_NONE;
    if (line->fan_out > values[3]) values[3] = line->fan_out;
    values[5] += here && line->kept_at == NS_NOWHERE ? line->fan_out : 0;
    values[7] += here ? 0 : line->fan_out;
}

void ns_index_statistics(ns_index *index, int64_t *values, int64_t *bindings_by_shard) {
    for (int32_t i = 0; i < NS_N_INDEX_STATISTICS; i++) values[i] = 0;
    pthread_mutex_lock(&index->spread_lock);
    ns_index_lock(index, NULL, 0);
    if (index->activations) values[2] += ns_activations_bytes(index->activations);
    for (int32_t number = 0; number < index->n_shards; number++) {
        const ns_shard *s = &index->shards[number];
        bindings_by_shard[number] = s->n_bindings;
        values[0] += s->n_bindings;
        values[1] += s->n_concepts;
        values[2] += ns_shard_bytes(s);
        values[6] += s->n_outside;
        values[8] += (int64_t)(s->concept_mask + 1) * (int64_t)sizeof *s->concept_table +
                     s->line_capacity * (int64_t)sizeof *s->lines;
        for (uint32_t slot = 0; slot < s->n_lines; slot++)
            count_line(&s->lines[slot], values);
    }
    ns_index_unlock(index, NULL);
    pthread_mutex_unlock(&index->spread_lock);
    pthread_mutex_lock(&index->lock);
    values[2] += (int64_t)(index->operation_mask + 1) * 9 + index->spare.n_bytes;
    values[4] = index->n_operations;
    pthread_mutex_unlock(&index->lock);
}

/* ---- the invariants; each returns 0 or its number ---- */

/* Every binding of a segment is known to its episode, and what is not a binding is 0; what has no segment is kept. */
static int32_t check_concepts(const ns_index *index, int32_t number, const ns_shard *s) {
    int64_t n_bindings = 0, n_concepts = 0, n_outside = 0, n_set = 0;
    for (uint32_t slot = 0; slot < s->n_lines; slot++) {
        const ns_concept_line *line = &s->lines[slot];
        if (!line->fan_out) continue;
        const uint64_t hash = ns_mix(line->id);
        if (ns_shard_number(index, hash) != number || ns_find_concept(s, line->id, hash) != slot) return 1;
        n_concepts++;
        if (line->segment == NS_NONE && line->kept_at == NS_NOWHERE) return 12;
        n_outside += line->segment == NS_NONE;
        if (line->segment == NS_NONE) continue;
        if (line->fan_out < 1 || line->fan_out > ns_segment_capacity(line->segment)) return 2;
        for (uint32_t i = 0; i < line->fan_out; i++) {
            const float strength = s->strengths[line->offset + i];
            const int64_t episode = s->episodes[line->offset + i];
            if (!(strength >= 0.0f && strength <= 1.0f)) return 3;
            ns_episode_entry *e = ns_find_episode(s, episode, ns_mix(episode));
            const ns_place *place = e ? ns_find_place(s, e, slot) : NULL;
            if (!place || place->index != i) return 4;
            n_set += strength != 0.0f;
        }
        n_bindings += line->fan_out;
    }
    for (uint32_t i = 0; i < s->slab_used; i++) n_set -= s->strengths[i] != 0.0f;
    if (n_set) return 5;
    return n_bindings != s->n_bindings || n_concepts != s->n_concepts || n_outside != s->n_outside ? 6 : 0;
}

/* Numbers are of the episodes that they lie beside. */
static int32_t check_numbers(const ns_activations *a, const ns_shard *s) {
    for (uint32_t slot = 0; slot < s->n_lines; slot++) {
        const ns_concept_line *line = &s->lines[slot];
        if (line->segment == NS_NONE) continue;
        if (line->n_numbered > line->fan_out) return 10;
        for (uint32_t i = line->offset; i < line->offset + line->n_numbered; i++)
            if (s->numbers[i] >= a->n_episodes || a->ids[s->numbers[i]] != s->episodes[i]) return 11;
    }
    return 0;
}

/* There are as many places of episodes as bindings, and every entry is found. */
static int32_t check_episodes(const ns_shard *s) {
    int64_t n_places = 0, n_episodes = 0;
    for (uint64_t i = 0; i <= s->episode_mask; i++) {
        ns_episode_entry *e = &s->episode_table[i];
        if (e->place.concept == NS_NONE) continue;
        if (ns_find_episode(s, e->id, ns_mix(e->id)) != e) return 7;
        n_places += ns_n_places(e);
        n_episodes++;
    }
    if (n_places != s->n_bindings || n_episodes != (int64_t)s->n_episodes) return 8;
    for (uint32_t i = 0; i < (s->slab_used + 63) / 64; i++)
        if (s->marks[i]) return 9;
    return 0;
}

int32_t ns_index_check(ns_index *index) {
    int32_t broken = 0;
    pthread_mutex_lock(&index->spread_lock);
    ns_index_lock(index, NULL, 0);
    for (int32_t s = 0; s < index->n_shards && !broken; s++) {
        broken = check_concepts(index, s, &index->shards[s]);
        if (!broken) broken = check_episodes(&index->shards[s]);
        if (!broken) broken = check_numbers(index->activations, &index->shards[s]);
    }
    ns_index_unlock(index, NULL);
    pthread_mutex_unlock(&index->spread_lock);
    return broken;
}
