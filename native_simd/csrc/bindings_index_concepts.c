/* Batches of concepts: what their lines say, activation, and decay. */
#include <math.h>
#include <stdlib.h>

#include "bindings_index.h"

enum { CHUNK = 1 << 12, LOOK_UP_NS = 5 }; /* concepts that a thread takes at a time */

void ns_find_lines(const ns_index *index, const int64_t *concepts, int64_t n, ns_concept_line **lines) {
    const ns_shard *shards[NS_LINES];
    uint64_t hashes[NS_LINES];
    for (int64_t i = 0; i < n; i++) {
        hashes[i] = ns_mix(concepts[i]);
        shards[i] = &index->shards[ns_shard_number(index, hashes[i])];
        __builtin_prefetch(&shards[i]->concept_table[hashes[i] & shards[i]->concept_mask]);
    }
    for (int64_t i = 0; i < n; i++) { /* by the tag alone: most likely the line */
        const ns_concept_entry *table = shards[i]->concept_table;
        const uint32_t tag = ns_tag(hashes[i]);
        uint64_t e = hashes[i] & shards[i]->concept_mask;
        while (table[e].slot != NS_NONE && table[e].tag != tag) e = (e + 1) & shards[i]->concept_mask;
        lines[i] = table[e].slot == NS_NONE ? NULL : &shards[i]->lines[table[e].slot];
        __builtin_prefetch(lines[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        if (!lines[i] || lines[i]->id == concepts[i]) continue;
        const uint32_t slot = ns_find_concept(shards[i], concepts[i], hashes[i]);
        lines[i] = slot == NS_NONE ? NULL : &shards[i]->lines[slot];
    }
}

typedef struct {
    const ns_index *index;
    const int64_t *concepts;
    int64_t n, *fan_outs, *last_activations, *n_activations, *versions;
} look_up_call;

static void look_up_chunk(void *context, int64_t chunk) {
    const look_up_call *c = context;
    const int64_t end = (chunk + 1) * CHUNK < c->n ? (chunk + 1) * CHUNK : c->n;
    for (int64_t first = chunk * CHUNK; first < end; first += NS_LINES) {
        ns_concept_line *lines[NS_LINES];
        const int64_t size = end - first < NS_LINES ? end - first : NS_LINES;
        ns_find_lines(c->index, c->concepts + first, size, lines);
        for (int64_t i = 0; i < size; i++) c->fan_outs[first + i] = lines[i] ? lines[i]->fan_out : 0;
        for (int64_t i = 0; c->versions && i < size; i++) {
            c->last_activations[first + i] = lines[i] ? lines[i]->last_activation : INT64_MIN;
            c->n_activations[first + i] = lines[i] ? (int64_t)lines[i]->n_activations : 0;
            c->versions[first + i] = lines[i] ? (int64_t)lines[i]->version : 0;
        }
    }
}

int32_t ns_index_look_up(ns_index *index, const int64_t *concepts, int64_t n, int64_t *fan_outs,
                         int64_t *last_activations, int64_t *n_activations, int64_t *versions, int32_t threads) {
    if (n < 0 || threads < 1) return NS_E_ARGUMENT;
    look_up_call c = {index, concepts, n, fan_outs, last_activations, n_activations, versions};
    uint8_t touched[NS_MOST_SHARDS];
    ns_touched_by(index, concepts, n, touched);
    ns_count_rows(index, n);
    ns_index_lock(index, touched, 0);
    const int32_t status = ns_parallel(look_up_chunk, &c, (n + CHUNK - 1) / CHUNK, LOOK_UP_NS * CHUNK, threads);
    ns_index_unlock(index, touched);
    return status;
}

void ns_index_restore_states(ns_index *index, const int64_t *concepts, int64_t n, const int64_t *last_activations,
                             const int64_t *n_activations, const int64_t *versions) {
    ns_index_lock(index, NULL, 1);
    for (int64_t first = 0; first < n; first += NS_LINES) {
        ns_concept_line *lines[NS_LINES];
        const int64_t size = n - first < NS_LINES ? n - first : NS_LINES;
        ns_find_lines(index, concepts + first, size, lines);
        for (int64_t i = 0; i < size; i++) {
            if (!lines[i]) continue;
            lines[i]->last_activation = last_activations[first + i];
            lines[i]->n_activations = (uint64_t)n_activations[first + i];
            lines[i]->version = (uint64_t)versions[first + i];
        }
    }
    ns_index_unlock(index, NULL);
}

/* NS_E_UNKNOWN of the first concept that has no bindings, NS_E_OUTSIDE of one that must have them here; NS_REPEATED. */
static int32_t require_known(ns_index *index, int64_t op_id, const int64_t *concepts, int64_t n, int32_t here,
                             int64_t *bad_row) {
    if (ns_operation_known(index, op_id)) return NS_REPEATED;
    for (int64_t first = 0; first < n; first += NS_LINES) {
        ns_concept_line *lines[NS_LINES];
        const int64_t size = n - first < NS_LINES ? n - first : NS_LINES;
        ns_find_lines(index, concepts + first, size, lines);
        for (int64_t i = 0; i < size; i++) {
            if (lines[i] && (!here || ns_n_here(lines[i]))) continue;
            *bad_row = first + i;
            return lines[i] ? NS_E_OUTSIDE : NS_E_UNKNOWN;
        }
    }
    return ns_operation_add(index, op_id);
}

int32_t ns_index_activate(ns_index *index, int64_t op_id, const int64_t *concepts, int64_t n, int64_t at,
                          int64_t *bad_row) {
    if (n < 0) return NS_E_ARGUMENT;
    uint8_t touched[NS_MOST_SHARDS];
    ns_touched_by(index, concepts, n, touched);
    ns_count_rows(index, n);
    ns_index_lock(index, touched, 1);
    const int32_t status = require_known(index, op_id, concepts, n, 0, bad_row);
    for (int64_t first = 0; status == NS_OK && first < n; first += NS_LINES) {
        ns_concept_line *lines[NS_LINES];
        const int64_t size = n - first < NS_LINES ? n - first : NS_LINES;
        ns_find_lines(index, concepts + first, size, lines);
        for (int64_t i = 0; i < size; i++) {
            lines[i]->n_activations++;
            if (lines[i]->last_activation < at) lines[i]->last_activation = at;
        }
    }
    ns_index_unlock(index, touched);
    return status;
}

static void multiply(float *values, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i++) values[i] *= factor;
}

typedef struct {
    ns_index *index;
    float factor;
} decay_call;

static void decay_shard(void *context, int64_t number) {
    const decay_call *c = context;
    ns_shard *s = &c->index->shards[number];
    multiply(s->strengths, s->slab_used, c->factor); /* places that are not in use stay 0 */
}

int32_t ns_decay_factor(int32_t isa, double half_lives, float *factor) {
    static const int64_t touched_at = 0;
    if (!(half_lives >= 0.0)) return NS_E_ARGUMENT;
    const double half_life = 1.0 / half_lives; /* in ticks, of which one passes */
    *factor = half_life > 0.0 ? 1.0f : 0.0f;
    return half_life > 0.0 ? ns_decay_half_life(isa, factor, &touched_at, 1, 1, half_life, 0.0f, 1) : NS_OK;
}

int32_t ns_index_decay(ns_index *index, int32_t isa, int64_t op_id, double half_lives, int32_t threads) {
    decay_call c = {index, 1.0f};
    if (threads < 1) return NS_E_ARGUMENT;
    int32_t status = ns_decay_factor(isa, half_lives, &c.factor);
    if (status != NS_OK) return status;
    ns_index_lock(index, NULL, 1);
    status = ns_operation_add(index, op_id);
    if (status == NS_OK)
        while (ns_parallel(decay_shard, &c, index->n_shards, 0.2 * index->shards[0].slab_used, threads) != NS_OK)
            threads = 1;
    ns_index_unlock(index, NULL);
    return status;
}

int32_t ns_index_decay_concepts(ns_index *index, int32_t isa, int64_t op_id, const int64_t *concepts,
                                const float *rates, int64_t n, double dt, int64_t *bad_row) {
    if (n < 0) return NS_E_ARGUMENT;
    for (int64_t i = 0; i < n; i++) {
        if (rates[i] >= 0.0f) continue;
        *bad_row = i;
        return NS_E_ROW;
    }
    float *factors = malloc((size_t)(n ? n : 1) * sizeof *factors);
    if (!factors) return NS_E_MEMORY;
    for (int64_t i = 0; i < n; i++) factors[i] = 1.0f;
    int32_t status = ns_decay(isa, factors, rates, n, dt, 1);
    if (status == NS_OK) {
        uint8_t touched[NS_MOST_SHARDS];
        ns_touched_by(index, concepts, n, touched);
        ns_count_rows(index, n);
        ns_index_lock(index, touched, 1);
        status = require_known(index, op_id, concepts, n, 1, bad_row);
        for (int64_t i = 0; status == NS_OK && i < n; i++) {
            const uint64_t hash = ns_mix(concepts[i]);
            ns_shard *s = &index->shards[ns_shard_number(index, hash)];
            const ns_concept_line *line = &s->lines[ns_find_concept(s, concepts[i], hash)];
            multiply(s->strengths + line->offset, line->fan_out, factors[i]);
        }
        ns_index_unlock(index, touched);
    }
    free(factors);
    return status;
}
