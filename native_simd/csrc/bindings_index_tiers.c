/* Two tiers of concepts: those whose bindings are here, and those outside, of which the index has the line alone and the
 * caller keeps the bindings. What must come and what should go is found here; fetching and keeping is the caller's.
 *
 * Uses are counted in the line, up to 255, and halved from time to time: how often a concept was used lately. */
#include <stdatomic.h>

#include "bindings_index_spread.h"

enum { SAMPLE = 8 }; /* lines of which the least used goes; chosen, not measured */

static uint8_t uses_of(const ns_concept_line *line) { return atomic_load_explicit(&line->uses, memory_order_relaxed); }

/* Two threads that use a concept at the same moment may count as one. */
static void count_use(ns_concept_line *line) {
    const uint8_t uses = uses_of(line);
    if (uses < UINT8_MAX) atomic_store_explicit(&line->uses, (uint8_t)(uses + 1), memory_order_relaxed);
}

void ns_index_find(ns_index *index, int32_t how, const int64_t *concepts, int64_t n, int64_t *fan_outs, int64_t *kept_at,
                   uint8_t *uses, uint8_t *tiers) {
    uint8_t touched[NS_MOST_SHARDS];
    ns_touched_by(index, concepts, n, touched);
    ns_index_lock(index, touched, how == NS_CHANGE);
    for (int64_t first = 0; first < n; first += NS_LINES) {
        ns_concept_line *lines[NS_LINES];
        const int64_t size = n - first < NS_LINES ? n - first : NS_LINES;
        ns_find_lines(index, concepts + first, size, lines);
        for (int64_t i = 0; i < size; i++) {
            ns_concept_line *line = lines[i];
            if (line && how != NS_LOOK) count_use(line);
            fan_outs[first + i] = line ? line->fan_out : 0;
            kept_at[first + i] = line ? line->kept_at : NS_NOWHERE;
            uses[first + i] = line ? uses_of(line) : 0;
            tiers[first + i] = !line ? NS_UNKNOWN : ns_n_here(line) ? NS_HERE : NS_OUTSIDE;
            if (how == NS_CHANGE && line && ns_n_here(line)) line->kept_at = NS_NOWHERE;
        }
    }
    ns_index_unlock(index, touched);
}

/* ---- to and fro; a batch changes nothing unless all of it does ---- */

static ns_shard *shard_of(ns_index *index, int64_t concept) {
    return &index->shards[ns_shard_number(index, ns_mix(concept))];
}

static uint32_t slot_of(const ns_shard *s, int64_t concept) { return ns_find_concept(s, concept, ns_mix(concept)); }

static int32_t adopt_one(ns_shard *s, int64_t concept, int64_t fan_out, int64_t kept_at) {
    if (fan_out < 1 || fan_out >= NS_NONE || kept_at < 0) return NS_E_ROW;
    if (slot_of(s, concept) != NS_NONE) return NS_E_TWICE;
    const uint32_t slot = ns_reserve_concept(s, concept, ns_mix(concept));
    if (slot == NS_NONE) return NS_E_MEMORY;
    s->lines[slot].fan_out = (uint32_t)fan_out;
    s->lines[slot].version = (uint64_t)fan_out; /* as if they had come one by one */
    s->lines[slot].kept_at = kept_at;
    s->n_outside++;
    return NS_OK;
}

int32_t ns_index_adopt(ns_index *index, const int64_t *concepts, int64_t n, const int64_t *fan_outs,
                       const int64_t *kept_at, int64_t *bad_row) {
    int32_t status = NS_OK;
    int64_t i = 0;
    ns_index_lock(index, NULL, 1);
    for (; i < n; i++) {
        status = adopt_one(shard_of(index, concepts[i]), concepts[i], fan_outs[i], kept_at[i]);
        if (status != NS_OK) break;
    }
    *bad_row = i;
    while (status != NS_OK && i-- > 0) {
        ns_shard *s = shard_of(index, concepts[i]);
        const uint32_t slot = slot_of(s, concepts[i]);
        s->lines[slot].fan_out = 0;
        s->n_outside--;
        ns_drop_concept(s, slot);
    }
    ns_index_unlock(index, NULL);
    return status;
}

/* Those of a batch that are here go; one that comes twice is outside the second time. */
static void evict_all(ns_index *index, const int64_t *concepts, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        ns_shard *s = shard_of(index, concepts[i]);
        const uint32_t slot = slot_of(s, concepts[i]);
        if (ns_n_here(&s->lines[slot])) ns_shard_evict(s, slot);
    }
}

int32_t ns_index_evict(ns_index *index, const int64_t *concepts, int64_t n, int64_t *bad_row) {
    int32_t status = NS_OK;
    uint8_t touched[NS_MOST_SHARDS];
    ns_touched_by(index, concepts, n, touched);
    ns_index_lock(index, touched, 1);
    for (int64_t i = 0; status == NS_OK && i < n; i++) {
        const ns_shard *s = shard_of(index, concepts[i]);
        const uint32_t slot = slot_of(s, concepts[i]);
        if (slot != NS_NONE && ns_n_here(&s->lines[slot]) && s->lines[slot].kept_at != NS_NOWHERE) continue;
        status = NS_E_UNKNOWN;
        *bad_row = i;
    }
    if (status == NS_OK) evict_all(index, concepts, n);
    ns_index_unlock(index, touched);
    return status;
}

static int32_t admit_one(ns_shard *s, int64_t concept, int64_t n, const int64_t *episodes, const float *strengths) {
    const uint32_t slot = slot_of(s, concept);
    if (slot == NS_NONE || ns_n_here(&s->lines[slot])) return NS_E_UNKNOWN;
    if (n != s->lines[slot].fan_out) return NS_E_ROW;
    for (int64_t i = 0; i < n; i++)
        if (!(strengths[i] >= 0.0f && strengths[i] <= 1.0f)) return NS_E_ROW;
    return ns_shard_admit(s, slot, episodes, strengths);
}

int32_t ns_index_admit(ns_index *index, const int64_t *concepts, int64_t n, const int64_t *offsets,
                       const int64_t *episodes, const float *strengths, int32_t change, int64_t *bad_row) {
    int32_t status = NS_OK;
    int64_t i = 0;
    uint8_t touched[NS_MOST_SHARDS];
    ns_touched_by(index, concepts, n, touched);
    ns_index_lock(index, touched, 1);
    for (; i < n; i++) {
        status = admit_one(shard_of(index, concepts[i]), concepts[i], offsets[i + 1] - offsets[i], episodes + offsets[i],
                           strengths + offsets[i]);
        if (status != NS_OK) break;
    }
    *bad_row = i;
    if (status != NS_OK) evict_all(index, concepts, i);
    for (i = 0; status == NS_OK && change && i < n; i++) {
        ns_shard *s = shard_of(index, concepts[i]);
        s->lines[slot_of(s, concepts[i])].kept_at = NS_NOWHERE;
    }
    ns_index_unlock(index, touched);
    return status;
}

void ns_index_settle(ns_index *index, const int64_t *concepts, int64_t n, const int64_t *kept_at) {
    ns_index_lock(index, NULL, 1);
    for (int64_t i = 0; i < n; i++) {
        ns_shard *s = shard_of(index, concepts[i]);
        const uint32_t slot = slot_of(s, concepts[i]);
        if (slot != NS_NONE && kept_at[i] >= 0) s->lines[slot].kept_at = kept_at[i];
    }
    ns_index_unlock(index, NULL);
}

/* ---- sweeps over lines ---- */

static int64_t count_concepts(const ns_index *index) {
    int64_t n = 0;
    for (int32_t number = 0; number < index->n_shards; number++) n += index->shards[number].n_concepts;
    return n;
}

int64_t ns_index_n_concepts(ns_index *index, int64_t *n_outside) {
    ns_index_lock(index, NULL, 0);
    const int64_t n = count_concepts(index);
    *n_outside = 0;
    for (int32_t number = 0; number < index->n_shards; number++) *n_outside += index->shards[number].n_outside;
    ns_index_unlock(index, NULL);
    return n;
}

int64_t ns_index_lines(ns_index *index, int64_t capacity, int64_t *concepts, int64_t *fan_outs, int64_t *kept_at,
                       uint8_t *uses, uint8_t *tiers) {
    ns_index_lock(index, NULL, 0);
    const int64_t n = count_concepts(index);
    int64_t at = 0;
    for (int32_t number = 0; n <= capacity && number < index->n_shards; number++) {
        const ns_shard *s = &index->shards[number];
        for (uint32_t slot = 0; slot < s->n_lines; slot++) {
            const ns_concept_line *line = &s->lines[slot];
            if (!line->fan_out) continue;
            concepts[at] = line->id;
            fan_outs[at] = line->fan_out;
            kept_at[at] = line->kept_at;
            uses[at] = uses_of(line);
            tiers[at++] = ns_n_here(line) ? NS_HERE : NS_OUTSIDE;
        }
    }
    ns_index_unlock(index, NULL);
    return n;
}

typedef struct {
    const ns_concept_line *least; /* used, of a sample */
    int64_t n_sampled, n_wanted, capacity, *concepts, n_chosen, n_uses;
} choice;

static void end_sample(choice *c) {
    if (!c->least) return;
    c->concepts[c->n_chosen++] = c->least->id;
    c->n_wanted -= c->least->fan_out;
    c->n_uses += uses_of(c->least);
    c->least = NULL;
    c->n_sampled = 0;
}

static void sample(choice *c, const ns_concept_line *line) {
    if (!ns_n_here(line) || line->kept_at == NS_NOWHERE) return;
    if (!c->least || uses_of(line) < uses_of(c->least)) c->least = line;
    if (++c->n_sampled == SAMPLE) end_sample(c);
}

int64_t ns_index_choose(ns_index *index, int64_t *hand, int64_t n_wanted, int64_t capacity, int64_t *concepts,
                        int64_t *n_uses) {
    choice c = {.n_wanted = n_wanted, .capacity = capacity, .concepts = concepts};
    int32_t number = (int32_t)(((uint64_t)*hand >> 32) % (uint64_t)index->n_shards);
    uint32_t slot = (uint32_t)*hand;
    int64_t n_lines = 0;
    ns_index_lock(index, NULL, 0);
    for (int32_t s = 0; s < index->n_shards; s++) n_lines += index->shards[s].n_lines;
    for (; n_lines > 0 && c.n_wanted > 0 && c.n_chosen < c.capacity; n_lines--) {
        while (slot >= index->shards[number].n_lines) slot = 0, number = (number + 1) % index->n_shards;
        sample(&c, &index->shards[number].lines[slot++]);
    }
    if (c.n_wanted > 0 && c.n_chosen < c.capacity) end_sample(&c);
    ns_index_unlock(index, NULL);
    *hand = (int64_t)number << 32 | slot;
    *n_uses = c.n_uses;
    return c.n_chosen;
}

void ns_index_halve_uses(ns_index *index) {
    ns_index_lock(index, NULL, 0);
    for (int32_t number = 0; number < index->n_shards; number++)
        for (uint32_t slot = 0; slot < index->shards[number].n_lines; slot++) {
            ns_concept_line *line = &index->shards[number].lines[slot];
            atomic_store_explicit(&line->uses, uses_of(line) / 2, memory_order_relaxed);
        }
    ns_index_unlock(index, NULL);
}

/* ---- memory ---- */

int64_t ns_index_bytes(ns_index *index) {
    pthread_mutex_lock(&index->spread_lock);
    int64_t n_bytes = index->activations ? ns_activations_bytes(index->activations) : 0;
    ns_index_lock(index, NULL, 0);
    for (int32_t number = 0; number < index->n_shards; number++) n_bytes += ns_shard_bytes(&index->shards[number]);
    ns_index_unlock(index, NULL);
    pthread_mutex_unlock(&index->spread_lock);
    pthread_mutex_lock(&index->lock);
    n_bytes += (int64_t)(index->operation_mask + 1) * 9 + index->spare.n_bytes;
    pthread_mutex_unlock(&index->lock);
    return n_bytes;
}

void ns_index_shrink(ns_index *index) {
    pthread_mutex_lock(&index->spread_lock);
    ns_index_lock(index, NULL, 1);
    for (int32_t number = 0; number < index->n_shards; number++) {
        ns_shard *s = &index->shards[number];
        for (uint32_t slot = 0; slot < s->n_lines; slot++) s->lines[slot].n_numbered = 0;
        ns_index_free(s->numbers, (int64_t)s->slab_capacity * (int64_t)sizeof *s->numbers);
        s->numbers = NULL;
        ns_shard_shrink(s);
    }
    ns_index_unlock(index, NULL);
    ns_activations_destroy(index->activations);
    index->activations = NULL;
    pthread_mutex_unlock(&index->spread_lock);
    const ns_scratch spare = ns_take_scratch(index, 0);
    ns_index_free(spare.memory, spare.n_bytes);
}
