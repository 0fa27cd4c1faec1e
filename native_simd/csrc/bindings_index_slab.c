/* Bindings of one shard: the slab of segments, a binding in and a binding out, both directions at a time. */
#include <stdlib.h>
#include <string.h>

#include "bindings_index.h"

enum { LEAST_SLAB = 64, AHEAD = 8 }; /* AHEAD: episodes between a prefetch and its use */

static uint32_t class_for(uint32_t n) {
    uint32_t class = 0;
    while (ns_segment_capacity(class) < n) class++;
    return class;
}

static void *slab_memory(ns_shard *s, uint64_t capacity, size_t place_bytes) {
    return ns_index_memory((int64_t)(capacity * place_bytes), s->placement, NS_BY_CONCEPT);
}

static void free_slab(float *strengths, int64_t *episodes, uint32_t *numbers, uint64_t *marks, uint64_t capacity) {
    ns_index_free(strengths, (int64_t)(capacity * sizeof *strengths));
    ns_index_free(episodes, (int64_t)(capacity * sizeof *episodes));
    ns_index_free(numbers, (int64_t)(capacity * sizeof *numbers));
    ns_index_free(marks, (int64_t)capacity / 8);
}

void ns_shard_free_slab(ns_shard *s) {
    free_slab(s->strengths, s->episodes, s->numbers, s->marks, s->slab_capacity);
}

int32_t ns_shard_make_numbers(ns_shard *s) {
    if (!s->numbers) s->numbers = slab_memory(s, s->slab_capacity, sizeof *s->numbers);
    return s->numbers ? NS_OK : NS_E_MEMORY;
}

/* Moves all segments into a new slab of so many places, without gaps. Places name bindings by their number in a segment,
 * so no episode notices. */
static int32_t renew_slab(ns_shard *s, uint64_t wanted) {
    const uint64_t capacity = (wanted + LEAST_SLAB - 1) / LEAST_SLAB * LEAST_SLAB;
    if (capacity > INT32_MAX) return 0;
    float *strengths = slab_memory(s, capacity, sizeof *strengths);
    int64_t *episodes = slab_memory(s, capacity, sizeof *episodes);
    uint32_t *numbers = s->numbers ? slab_memory(s, capacity, sizeof *numbers) : NULL;
    uint64_t *marks = ns_index_memory((int64_t)capacity / 8, s->placement, NS_BY_CONCEPT);
    if (!strengths || !episodes || !marks || !numbers != !s->numbers) {
        free_slab(strengths, episodes, numbers, marks, capacity);
        return 0;
    }
    uint32_t used = 0;
    for (uint32_t slot = 0; slot < s->n_lines; slot++) {
        ns_concept_line *line = &s->lines[slot];
        if (line->segment == NS_NONE) continue;
        memcpy(strengths + used, s->strengths + line->offset, line->fan_out * sizeof *strengths);
        memcpy(episodes + used, s->episodes + line->offset, line->fan_out * sizeof *episodes);
        if (numbers) memcpy(numbers + used, s->numbers + line->offset, line->n_numbered * sizeof *numbers);
        line->offset = used;
        line->segment = class_for(line->fan_out); /* what has shrunk gives places back */
        used += ns_segment_capacity(line->segment);
    }
    free_slab(s->strengths, s->episodes, s->numbers, s->marks, s->slab_capacity);
    s->strengths = strengths;
    s->episodes = episodes;
    s->marks = marks;
    s->numbers = numbers;
    s->slab_used = s->slab_live = used;
    s->slab_capacity = (uint32_t)capacity;
    memset(s->free_segments, 0xff, sizeof s->free_segments);
    return 1;
}

/* Of a slab that begins to grow: a third is to spare. */
static uint64_t roomy(const ns_shard *s, uint64_t n_more) { return (s->slab_live + n_more) * 3 / 2; }

static uint32_t new_segment(ns_shard *s, uint32_t class) {
    const uint32_t freed = s->free_segments[class], capacity = ns_segment_capacity(class);
    if (freed != NS_NONE) {
        s->free_segments[class] = (uint32_t)s->episodes[freed];
        s->slab_live += capacity;
        return freed;
    }
    if ((uint64_t)s->slab_used + capacity > s->slab_capacity && !renew_slab(s, roomy(s, capacity))) return NS_NONE;
    s->slab_used += capacity;
    s->slab_live += capacity;
    return s->slab_used - capacity;
}

static void free_segment(ns_shard *s, ns_concept_line *line) {
    memset(s->strengths + line->offset, 0, ns_segment_capacity(line->segment) * sizeof *s->strengths);
    s->episodes[line->offset] = s->free_segments[line->segment];
    s->free_segments[line->segment] = line->offset;
    s->slab_live -= ns_segment_capacity(line->segment);
    line->segment = NS_NONE;
}

/* Makes room for one more binding of a concept. */
static int32_t grow_segment(ns_shard *s, uint32_t slot) {
    ns_concept_line *line = &s->lines[slot];
    if (line->segment != NS_NONE && line->fan_out < ns_segment_capacity(line->segment)) return 1;
    const uint32_t class = class_for(line->fan_out + 1);
    const uint32_t offset = class < NS_SEGMENT_CLASSES ? new_segment(s, class) : NS_NONE;
    if (offset == NS_NONE) return 0;
    if (line->segment != NS_NONE) {
        memcpy(s->strengths + offset, s->strengths + line->offset, line->fan_out * sizeof *s->strengths);
        memcpy(s->episodes + offset, s->episodes + line->offset, line->fan_out * sizeof *s->episodes);
        if (s->numbers)
            memcpy(s->numbers + offset, s->numbers + line->offset, line->n_numbered * sizeof *s->numbers);
        free_segment(s, line);
    }
    line->offset = offset;
    line->segment = class;
    return 1;
}

void ns_shard_evict(ns_shard *s, uint32_t slot) {
    ns_concept_line *line = &s->lines[slot];
    const int64_t *episodes = s->episodes + line->offset;
    for (uint32_t i = 0; i < line->fan_out; i++) {
        if (i + AHEAD < line->fan_out) __builtin_prefetch(ns_episode_bucket(s, ns_mix(episodes[i + AHEAD])), 1);
        ns_episode_entry *e = ns_find_episode(s, episodes[i], ns_mix(episodes[i]));
        ns_drop_place(s, e, ns_find_place(s, e, slot));
    }
    s->n_bindings -= line->fan_out;
    s->n_outside++;
    line->n_numbered = 0;
    free_segment(s, line);
}

int32_t ns_shard_admit(ns_shard *s, uint32_t slot, const int64_t *episodes, const float *strengths) {
    ns_concept_line *line = &s->lines[slot];
    const uint32_t n = line->fan_out, class = class_for(n), offset = new_segment(s, class);
    if (offset == NS_NONE) return NS_E_MEMORY;
    memcpy(s->strengths + offset, strengths, n * sizeof *strengths);
    memcpy(s->episodes + offset, episodes, n * sizeof *episodes);
    line->offset = offset;
    line->segment = class;
    int32_t status = NS_OK;
    uint32_t i = 0;
    for (; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(ns_episode_bucket(s, ns_mix(episodes[i + AHEAD])), 1);
        const uint64_t hash = ns_mix(episodes[i]);
        ns_episode_entry *e = ns_find_episode(s, episodes[i], hash);
        status = e && ns_find_place(s, e, slot) ? NS_E_TWICE : ns_add_place(s, episodes[i], hash, (ns_place){slot, i});
        if (status != NS_OK) break;
    }
    if (status != NS_OK) {
        while (i-- > 0) {
            ns_episode_entry *e = ns_find_episode(s, episodes[i], ns_mix(episodes[i]));
            ns_drop_place(s, e, ns_find_place(s, e, slot));
        }
        free_segment(s, line);
        return status;
    }
    s->n_bindings += n;
    s->n_outside--;
    return NS_OK;
}

int32_t ns_shard_insert(ns_shard *s, int64_t concept, int64_t episode, float strength) {
    const uint64_t concept_hash = ns_mix(concept), episode_hash = ns_mix(episode);
    const uint32_t known = ns_find_concept(s, concept, concept_hash);
    if (known != NS_NONE && !ns_n_here(&s->lines[known])) return NS_E_OUTSIDE;
    ns_episode_entry *e = known == NS_NONE ? NULL : ns_find_episode(s, episode, episode_hash);
    if (e && ns_find_place(s, e, known)) return NS_E_ROW;
    const uint32_t slot = ns_reserve_concept(s, concept, concept_hash);
    if (slot == NS_NONE) return NS_E_MEMORY;
    if (!grow_segment(s, slot) ||
        ns_add_place(s, episode, episode_hash, (ns_place){slot, s->lines[slot].fan_out}) != NS_OK) {
        if (!s->lines[slot].fan_out) {
            if (s->lines[slot].segment != NS_NONE) free_segment(s, &s->lines[slot]);
            ns_drop_concept(s, slot);
        }
        return NS_E_MEMORY;
    }
    ns_concept_line *line = &s->lines[slot];
    s->strengths[line->offset + line->fan_out] = strength;
    s->episodes[line->offset + line->fan_out] = episode;
    line->fan_out++;
    line->version++;
    s->n_bindings++;
    return NS_OK;
}

/* The last binding of the segment takes the place of the one that goes. */
void ns_shard_remove(ns_shard *s, uint32_t slot, ns_episode_entry *e, ns_place *place) {
    ns_concept_line *line = &s->lines[slot];
    const uint32_t hole = line->offset + place->index, last = line->offset + --line->fan_out;
    if (hole != last) {
        const int64_t moved = s->episodes[last];
        ns_find_place(s, ns_find_episode(s, moved, ns_mix(moved)), slot)->index = place->index;
        s->episodes[hole] = moved;
        s->strengths[hole] = s->strengths[last];
    }
    if (last - line->offset < line->n_numbered) { /* all are numbered */
        s->numbers[hole] = s->numbers[last];
        line->n_numbered--;
    } else if (place->index < line->n_numbered) {
        line->n_numbered = place->index;
    }
    s->strengths[last] = 0.0f;
    line->version++;
    s->n_bindings--;
    ns_drop_place(s, e, place);
    if (!line->fan_out) {
        free_segment(s, line);
        ns_drop_concept(s, slot);
    }
}

void ns_shard_compact(ns_shard *s) {
    if (s->slab_live < s->slab_capacity / 2) (void)renew_slab(s, roomy(s, 0)); /* no memory to spare: it stays as it is */
}

void ns_shard_shrink(ns_shard *s) {
    if (s->slab_live < s->slab_capacity / 8 * 7) (void)renew_slab(s, s->slab_live + s->slab_live / 16);
    ns_shrink_episodes(s);
}
