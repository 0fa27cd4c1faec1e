/* The two open-addressing tables of a shard, concepts and episodes, and the records of episodes with several
 * bindings.
 *
 * Linear probing, of concepts entry by entry, of episodes bucket by bucket; at most half full. What is deleted leaves
 * no tombstone: later entries move up. */
#include <stdlib.h>
#include <string.h>

#include "bindings_index.h"

enum { LEAST_ENTRIES = 16, LEAST_LINES = 8 };

static int32_t is_full(uint64_t n, uint64_t mask) { return n * 2 > mask; }

static int64_t concept_table_bytes(uint64_t n) { return (int64_t)(n * sizeof(ns_concept_entry)); }

static int64_t episode_table_bytes(uint64_t n) { return (int64_t)(n * sizeof(ns_episode_entry)); }

static ns_concept_entry *new_concept_table(ns_shard *s, uint64_t n) {
    ns_concept_entry *table = ns_index_memory(concept_table_bytes(n), s->placement, NS_BY_CONCEPT);
    return table ? memset(table, 0xff, n * sizeof *table) : NULL;
}

static ns_episode_entry *new_episode_table(ns_shard *s, uint64_t n) {
    ns_episode_entry *table = ns_index_memory(episode_table_bytes(n), s->placement, NS_BY_EPISODE);
    return table ? memset(table, 0xff, n * sizeof *table) : NULL;
}

int32_t ns_shard_create(ns_shard *s, ns_placement *placement) {
    memset(s, 0, sizeof *s);
    s->placement = placement;
    s->free_line = s->free_record = NS_NONE;
    memset(s->free_segments, 0xff, sizeof s->free_segments);
    s->concept_mask = s->episode_mask = LEAST_ENTRIES - 1;
    s->concept_table = new_concept_table(s, LEAST_ENTRIES);
    s->episode_table = new_episode_table(s, LEAST_ENTRIES);
    return s->concept_table && s->episode_table ? NS_OK : NS_E_MEMORY;
}

void ns_shard_destroy(ns_shard *s) {
    for (uint64_t i = 0; s->episode_table && i <= s->episode_mask; i++) {
        ns_episode_entry *e = &s->episode_table[i];
        if (e->place.concept != NS_NONE && ns_n_places(e) > NS_INLINE_PLACES) free(ns_places(s, e));
    }
    ns_index_free(s->concept_table, concept_table_bytes(s->concept_mask + 1));
    ns_index_free(s->episode_table, episode_table_bytes(s->episode_mask + 1));
    ns_index_free(s->lines, s->line_capacity * (int64_t)sizeof *s->lines);
    ns_index_free(s->records, s->record_capacity * (int64_t)sizeof *s->records);
    ns_shard_free_slab(s);
}

int64_t ns_shard_bytes(const ns_shard *s) {
    const uint64_t tables = (s->concept_mask + 1) * sizeof *s->concept_table +
                            (s->episode_mask + 1) * sizeof *s->episode_table;
    const uint64_t cells = s->line_capacity * sizeof *s->lines + s->record_capacity * sizeof *s->records;
    return (int64_t)(sizeof *s + tables + cells) + s->n_heap_bytes +
           (int64_t)s->slab_capacity * (int64_t)(sizeof *s->strengths + sizeof *s->episodes) + s->slab_capacity / 8 +
           (s->numbers ? (int64_t)s->slab_capacity * (int64_t)sizeof *s->numbers : 0);
}

/* ---- concepts ---- */

static void put_concept(ns_concept_entry *table, uint64_t mask, uint64_t hash, uint32_t slot) {
    uint64_t i = hash & mask;
    while (table[i].slot != NS_NONE) i = (i + 1) & mask;
    table[i] = (ns_concept_entry){ns_tag(hash), slot};
}

static int32_t grow_concept_table(ns_shard *s) {
    const uint64_t n = (s->concept_mask + 1) * 2;
    ns_concept_entry *table = new_concept_table(s, n);
    if (!table) return 0;
    for (uint64_t i = 0; i <= s->concept_mask; i++) {
        const uint32_t slot = s->concept_table[i].slot;
        if (slot != NS_NONE) put_concept(table, n - 1, ns_mix(s->lines[slot].id), slot);
    }
    ns_index_free(s->concept_table, concept_table_bytes(s->concept_mask + 1));
    s->concept_table = table;
    s->concept_mask = n - 1;
    return 1;
}

static uint32_t new_line(ns_shard *s) {
    const uint32_t slot = s->free_line;
    if (slot != NS_NONE) {
        s->free_line = s->lines[slot].next_free;
        return slot;
    }
    if (s->n_lines == s->line_capacity) {
        const uint32_t capacity = s->line_capacity ? s->line_capacity * 2 : LEAST_LINES;
        if (capacity >= NS_MANY) return NS_NONE; /* a place has 31 bits for its concept */
        const int64_t line_bytes = (int64_t)sizeof *s->lines;
        if (!ns_index_regrow(&s->lines, s->n_lines * line_bytes, capacity * line_bytes, s->placement, NS_BY_CONCEPT))
            return NS_NONE;
        s->line_capacity = capacity;
    }
    return s->n_lines++;
}

uint32_t ns_reserve_concept(ns_shard *s, int64_t id, uint64_t hash) {
    const uint32_t known = ns_find_concept(s, id, hash);
    if (known != NS_NONE) return known;
    if (is_full(s->n_concepts, s->concept_mask) && !grow_concept_table(s)) return NS_NONE;
    const uint32_t slot = new_line(s);
    if (slot == NS_NONE) return NS_NONE;
    s->lines[slot] = (ns_concept_line){.id = id, .last_activation = INT64_MIN, .segment = NS_NONE, .kept_at = NS_NOWHERE};
    put_concept(s->concept_table, s->concept_mask, hash, slot);
    s->n_concepts++;
    return slot;
}

void ns_drop_concept(ns_shard *s, uint32_t slot) {
    const uint64_t mask = s->concept_mask;
    ns_concept_entry *table = s->concept_table;
    uint64_t gap = ns_mix(s->lines[slot].id) & mask;
    while (table[gap].slot != slot) gap = (gap + 1) & mask;
    for (uint64_t i = (gap + 1) & mask; table[i].slot != NS_NONE; i = (i + 1) & mask) {
        const uint64_t home = ns_mix(s->lines[table[i].slot].id) & mask;
        if (((i - home) & mask) < ((i - gap) & mask)) continue; /* its home is after the gap */
        table[gap] = table[i];
        gap = i;
    }
    table[gap].slot = NS_NONE;
    s->lines[slot].next_free = s->free_line;
    s->free_line = slot;
    s->n_concepts--;
}

/* ---- episodes ---- */

static void put_episode(ns_episode_entry *table, uint64_t mask, uint64_t hash, ns_episode_entry entry) {
    uint64_t i = hash & mask & ~(uint64_t)(NS_BUCKET - 1);
    while (table[i].place.concept != NS_NONE) i = (i + 1) & mask;
    table[i] = entry;
}

static int32_t resize_episode_table(ns_shard *s, uint64_t n) {
    ns_episode_entry *table = new_episode_table(s, n);
    if (!table) return 0;
    for (uint64_t i = 0; i <= s->episode_mask; i++) {
        const ns_episode_entry e = s->episode_table[i];
        if (e.place.concept != NS_NONE) put_episode(table, n - 1, ns_mix(e.id), e);
    }
    ns_index_free(s->episode_table, episode_table_bytes(s->episode_mask + 1));
    s->episode_table = table;
    s->episode_mask = n - 1;
    return 1;
}

static uint32_t new_record(ns_shard *s) {
    const uint32_t record = s->free_record;
    if (record != NS_NONE) {
        s->free_record = s->records[record].heap.next_free;
        return record;
    }
    if (s->n_records == s->record_capacity) {
        const uint32_t capacity = s->record_capacity ? s->record_capacity * 2 : LEAST_LINES;
        const int64_t n_kept = s->n_records * (int64_t)sizeof *s->records, n_bytes = capacity * (int64_t)sizeof *s->records;
        if (!capacity || !ns_index_regrow(&s->records, n_kept, n_bytes, s->placement, NS_BY_EPISODE)) return NS_NONE;
        s->record_capacity = capacity;
    }
    return s->n_records++;
}

/* Makes room for one more place of an episode that has some. */
static ns_place *grow_places(ns_shard *s, ns_episode_entry *e) {
    const uint32_t n = ns_n_places(e);
    if (n == 1) {
        const uint32_t record = new_record(s);
        if (record == NS_NONE) return NULL;
        s->records[record].inline_places[0] = e->place;
        e->place = (ns_place){NS_MANY | 1, record};
    }
    ns_record *record = &s->records[e->place.index];
    if (n < NS_INLINE_PLACES) return record->inline_places;
    if (n == NS_INLINE_PLACES || n == record->heap.capacity) {
        const uint32_t capacity = 2 * n;
        ns_place *places = malloc(capacity * sizeof *places);
        if (!places) return NULL;
        memcpy(places, ns_places(s, e), n * sizeof *places);
        if (n > NS_INLINE_PLACES) free(record->heap.places);
        s->n_heap_bytes += (int64_t)(capacity - (n == NS_INLINE_PLACES ? 0 : n)) * (int64_t)sizeof *places;
        record->heap.places = places;
        record->heap.capacity = capacity;
    }
    return record->heap.places;
}

int32_t ns_add_place(ns_shard *s, int64_t episode, uint64_t hash, ns_place place) {
    ns_episode_entry *e = ns_find_episode(s, episode, hash);
    if (e) {
        ns_place *places = grow_places(s, e);
        if (!places) return NS_E_MEMORY;
        places[ns_n_places(e)] = place;
        e->place.concept++;
        return NS_OK;
    }
    if (is_full(s->n_episodes, s->episode_mask) && !resize_episode_table(s, (s->episode_mask + 1) * 2)) return NS_E_MEMORY;
    put_episode(s->episode_table, s->episode_mask, hash, (ns_episode_entry){episode, place});
    s->n_episodes++;
    return NS_OK;
}

/* Empties a place of a bucket; the last entry in use moves there. Returns the place that is empty then. */
static uint64_t close_gap(ns_episode_entry *table, uint64_t gap) {
    uint64_t last = gap | (NS_BUCKET - 1);
    while (table[last].place.concept == NS_NONE) last--;
    table[gap] = table[last];
    table[last].place.concept = NS_NONE;
    return last;
}

static void drop_episode(ns_shard *s, ns_episode_entry *e) {
    const uint64_t mask = s->episode_mask, in_bucket = NS_BUCKET - 1;
    ns_episode_entry *table = s->episode_table;
    uint64_t gap = close_gap(table, (uint64_t)(e - table));
    s->n_episodes--;
    if ((gap & in_bucket) != in_bucket) return; /* the bucket was not full, so nothing went past it */
    for (uint64_t i = (gap + 1) & mask; table[i].place.concept != NS_NONE; i = (i + 1) & mask) {
        const uint64_t home = ns_mix(table[i].id) & mask & ~in_bucket;
        if (((i - home) & mask) < (((i - gap) & mask) + in_bucket)) continue; /* its bucket is after the gap's */
        table[gap] = table[i];
        gap = close_gap(table, i);
        if ((gap & in_bucket) != in_bucket) return;
        i = gap;
    }
}

void ns_drop_place(ns_shard *s, ns_episode_entry *e, ns_place *place) {
    const uint32_t n = ns_n_places(e);
    if (n == 1) {
        drop_episode(s, e);
        return;
    }
    ns_place *places = ns_places(s, e);
    *place = places[n - 1];
    const uint32_t number = e->place.index;
    ns_record *record = &s->records[number];
    e->place.concept = NS_MANY | (n - 1);
    if (n - 1 == NS_INLINE_PLACES) { /* back from the heap */
        s->n_heap_bytes -= record->heap.capacity * (int64_t)sizeof *places;
        memcpy(record->inline_places, places, sizeof record->inline_places);
        free(places);
    } else if (n - 1 == 1) {
        e->place = places[0];
        record->heap.next_free = s->free_record;
        s->free_record = number;
    }
}

/* Records without gaps, and some to spare; what follows from it is the same if memory is short. */
static void shrink_records(ns_shard *s) {
    uint32_t n = 0;
    for (uint64_t i = 0; i <= s->episode_mask; i++)
        n += s->episode_table[i].place.concept != NS_NONE && s->episode_table[i].place.concept & NS_MANY;
    const uint32_t capacity = n + n / 8 + LEAST_LINES;
    if (capacity >= s->record_capacity) return;
    ns_record *records = ns_index_memory(capacity * (int64_t)sizeof *records, s->placement, NS_BY_EPISODE);
    if (!records) return;
    n = 0;
    for (uint64_t i = 0; i <= s->episode_mask; i++) {
        ns_place *place = &s->episode_table[i].place;
        if (place->concept == NS_NONE || !(place->concept & NS_MANY)) continue;
        records[n] = s->records[place->index];
        place->index = n++;
    }
    ns_index_free(s->records, s->record_capacity * (int64_t)sizeof *records);
    s->records = records;
    s->record_capacity = capacity;
    s->n_records = n;
    s->free_record = NS_NONE;
}

void ns_shrink_episodes(ns_shard *s) {
    uint64_t n = LEAST_ENTRIES;
    while (is_full(s->n_episodes, n - 1)) n *= 2;
    if (n <= s->episode_mask) (void)resize_episode_table(s, n);
    shrink_records(s);
}
