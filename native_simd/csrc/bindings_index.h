/* The binding index, as its files share it. README.md states the layout, the locks and what each call costs. */
#ifndef NS_BINDINGS_INDEX_H
#define NS_BINDINGS_INDEX_H

#include <pthread.h>
#include <stddef.h>

#include "internal.h"

#define NS_NONE UINT32_MAX       /* no slot, no place, an empty entry */
#define NS_MANY ((uint32_t)1 << 31) /* the bit of an entry whose places are in a record */

enum { NS_BUCKET = 4, NS_INLINE_PLACES = 8, NS_SEGMENT_CLASSES = 58, NS_MOST_SHARDS = 256 };
enum { NS_NODE_WORDS = NS_MOST_NODES / 64 };
enum { NS_LINES = 64 }; /* concepts whose misses overlap */

/* All that is kept of a concept beside its bindings: one cache line. */
typedef struct {
    int64_t id;
    int64_t last_activation;  /* INT64_MIN: never */
    uint64_t n_activations;
    uint64_t version;         /* goes up with every change of the fan-out */
    uint32_t fan_out;         /* bindings: the first places of the segment, or all outside; 0: no concept has this line */
    uint32_t offset, segment; /* where the segment begins in the slab, and its class; NS_NONE: no segment */
    uint32_t next_free;       /* of a line that is not in use */
    uint32_t n_numbered;      /* of the bindings, the first so many have numbers */
    _Atomic uint8_t uses;     /* lately (bindings_index_tiers.c) */
    uint8_t unused[3];
    int64_t kept_at;          /* where the caller keeps the same bindings; NS_NOWHERE */
} ns_concept_line;
_Static_assert(sizeof(ns_concept_line) == 64, "a concept is one cache line");

typedef struct {
    uint32_t tag;  /* bits of the hash, so that hardly any other concept's line is looked at */
    uint32_t slot; /* of its line */
} ns_concept_entry;

/* A binding as its episode knows it: number `index` of the segment of a concept, wherever that lies. */
typedef struct {
    uint32_t concept, index;
} ns_place;

/* An episode. One binding: its place. More: concept is NS_MANY | their number, index that of a record. */
typedef struct {
    int64_t id;
    ns_place place;
} ns_episode_entry;
_Static_assert(sizeof(ns_episode_entry) == 16, "four episodes a cache line");

/* Places of an episode: up to 8 here, more on the heap. */
typedef union {
    ns_place inline_places[NS_INLINE_PLACES];
    struct {
        ns_place *places;
        uint32_t capacity;
        uint32_t next_free; /* of a record that is not in use */
    } heap;
} ns_record;
_Static_assert(sizeof(ns_record) == 64, "a record is one cache line");

/* A memory policy, as ns_memory_bind takes it; mode 0: none. */
typedef struct {
    int32_t mode, n_words;
    uint64_t nodes[NS_NODE_WORDS];
} ns_policy;

/* Where arrays go. The policies change while all shards are locked. */
typedef struct {
    ns_policy policies[NS_N_SIDES];
    _Atomic int32_t refusal; /* -errno of the last array that was allocated and not placed; 0: none since ns_index_place */
} ns_placement;

/* Rows of calls that came from one node. */
typedef struct {
    _Alignas(64) _Atomic int64_t n_rows;
} ns_origin;

typedef struct {
    _Alignas(128) pthread_rwlock_t lock; /* shards do not share lines */
    ns_placement *placement;             /* of the index */
    uint64_t n_writes; /* times that it was locked to be changed */
    int64_t n_bindings; /* here, not outside */

    ns_concept_entry *concept_table;
    ns_concept_line *lines;
    uint64_t concept_mask;
    uint32_t n_concepts, n_outside; /* here or outside; outside */
    uint32_t n_lines, line_capacity, free_line; /* lines ever used, allocated; the last one freed */

    ns_episode_entry *episode_table;
    ns_record *records;
    uint64_t episode_mask, n_episodes;
    uint32_t n_records, record_capacity, free_record;
    int64_t n_heap_bytes;

    /* The slab: bindings by concept. Strengths of places that are not in use are 0. */
    float *strengths;
    int64_t *episodes;
    uint32_t *numbers; /* of the episodes, as far as a spread has come by; NULL if none has */
    uint64_t *marks; /* a bit a place: met in this batch; 0 between batches */
    uint32_t slab_used, slab_capacity, slab_live; /* places: ever given out, all, those of living segments */
    uint32_t free_segments[NS_SEGMENT_CLASSES]; /* the next one is in episodes[offset] */
} ns_shard;

typedef struct {
    void *memory;
    int64_t n_bytes;
} ns_scratch;

typedef struct ns_activations ns_activations; /* bindings_index_spread.h */

struct ns_index {
    ns_shard *shards;
    int32_t n_shards, shard_bits;
    ns_placement placement;
    ns_origin *origins; /* [NS_MOST_NODES] */
    pthread_mutex_t spread_lock; /* of activations, and of numbers in shards; taken before the locks of shards */
    ns_activations *activations; /* NULL: none have spread */
    pthread_mutex_t lock; /* of what follows; taken last, and held for a moment */
    ns_scratch spare;     /* of the last batch, so that the next one faults no pages in */
    int64_t *operations; /* a table of ids; `occupied` says which entries are */
    uint8_t *occupied;
    uint64_t operation_mask;
    int64_t n_operations;
};

/* A bijection whose high and low bits all depend on all of the id (the finalizer of splitmix64: Steele, Lea and Flood,
 * OOPSLA 2014, with Stafford's constants). Shards take the highest bits, tables the lowest, tags those between. */
static inline uint64_t ns_mix(int64_t id) {
    uint64_t h = (uint64_t)id + 0x9e3779b97f4a7c15;
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9;
    h = (h ^ h >> 27) * 0x94d049bb133111eb;
    return h ^ h >> 31;
}

static inline uint32_t ns_tag(uint64_t hash) { return (uint32_t)(hash >> 24); }

static inline int32_t ns_shard_number(const ns_index *index, uint64_t hash) {
    return (int32_t)(hash >> 32 >> (32 - index->shard_bits));
}

/* Bindings of a concept that are here: all or, if they are outside, none. */
static inline uint32_t ns_n_here(const ns_concept_line *line) { return line->segment == NS_NONE ? 0 : line->fan_out; }

static inline uint32_t ns_find_concept(const ns_shard *s, int64_t id, uint64_t hash) {
    const uint32_t tag = ns_tag(hash);
    for (uint64_t i = hash & s->concept_mask;; i = (i + 1) & s->concept_mask) {
        const ns_concept_entry e = s->concept_table[i];
        if (e.slot == NS_NONE || (e.tag == tag && s->lines[e.slot].id == id)) return e.slot;
    }
}

/* The bucket where the search for an episode begins: a cache line of NS_BUCKET entries, those in use first. */
static inline ns_episode_entry *ns_episode_bucket(const ns_shard *s, uint64_t hash) {
    return &s->episode_table[hash & s->episode_mask & ~(uint64_t)(NS_BUCKET - 1)];
}

/* Looks at whole buckets, without a branch for each entry, which no CPU could foresee. */
static inline ns_episode_entry *ns_find_episode_from(const ns_shard *s, int64_t id, ns_episode_entry *bucket) {
    for (;;) {
        uint32_t equal = 0;
        for (uint32_t i = 0; i < NS_BUCKET; i++) equal |= (uint32_t)(bucket[i].id == id) << i;
        if (equal) {
            ns_episode_entry *e = &bucket[__builtin_ctz(equal)];
            return e->place.concept == NS_NONE ? NULL : e; /* an entry that is not in use has any id */
        }
        if (bucket[NS_BUCKET - 1].place.concept == NS_NONE) return NULL;
        bucket = bucket - s->episode_table + NS_BUCKET > (int64_t)s->episode_mask ? s->episode_table
                                                                                   : bucket + NS_BUCKET;
    }
}

static inline ns_episode_entry *ns_find_episode(const ns_shard *s, int64_t id, uint64_t hash) {
    return ns_find_episode_from(s, id, ns_episode_bucket(s, hash));
}

static inline uint32_t ns_n_places(const ns_episode_entry *e) {
    return e->place.concept & NS_MANY ? e->place.concept & ~NS_MANY : 1;
}

static inline ns_place *ns_places(const ns_shard *s, ns_episode_entry *e) {
    if (!(e->place.concept & NS_MANY)) return &e->place;
    ns_record *record = &s->records[e->place.index];
    return ns_n_places(e) <= NS_INLINE_PLACES ? record->inline_places : record->heap.places;
}

/* The binding of an episode to the concept in this slot, NULL if there is none. */
static inline ns_place *ns_find_place(const ns_shard *s, ns_episode_entry *e, uint32_t slot) {
    ns_place *places = ns_places(s, e);
    for (uint32_t i = 0, n = ns_n_places(e); i < n; i++)
        if (places[i].concept == slot) return &places[i];
    return NULL;
}

static inline uint32_t ns_segment_capacity(uint32_t class) {
    return (class % 2 ? (uint32_t)6 : (uint32_t)4) << class / 2;
}

/* One shard, whose lock the caller holds (bindings_index_slab.c, bindings_index_tables.c). */
int32_t ns_shard_create(ns_shard *s, ns_placement *placement);
void ns_shard_destroy(ns_shard *s);
void ns_shard_free_slab(ns_shard *s);
int32_t ns_shard_make_numbers(ns_shard *s); /* room for them, beside the ids; NS_E_MEMORY */
int64_t ns_shard_bytes(const ns_shard *s);

/* NS_E_ROW: there is such a binding; NS_E_OUTSIDE: all of the concept's are elsewhere; NS_E_MEMORY. Each leaves the
 * bindings as they are. */
int32_t ns_shard_insert(ns_shard *s, int64_t concept, int64_t episode, float strength);
void ns_shard_remove(ns_shard *s, uint32_t slot, ns_episode_entry *e, ns_place *place);

/* Gives the memory of a shard that has shrunk back, if there is any for the move: of the slab, if half is to spare; of
 * slab and tables, whatever is. */
void ns_shard_compact(ns_shard *s);
void ns_shard_shrink(ns_shard *s);

/* The bindings of a concept go, and its line stays; they come, as many as the line says: NS_E_TWICE, NS_E_MEMORY, and
 * nothing has changed. */
void ns_shard_evict(ns_shard *s, uint32_t slot);
int32_t ns_shard_admit(ns_shard *s, uint32_t slot, const int64_t *episodes, const float *strengths);

/* What insert and remove are made of. A slot or an entry with room for a binding, made if it is not there; NS_NONE or
 * NULL if memory is short. */
uint32_t ns_reserve_concept(ns_shard *s, int64_t id, uint64_t hash);
void ns_drop_concept(ns_shard *s, uint32_t slot);
int32_t ns_add_place(ns_shard *s, int64_t episode, uint64_t hash, ns_place place);
void ns_drop_place(ns_shard *s, ns_episode_entry *e, ns_place *place);
void ns_shrink_episodes(ns_shard *s); /* table and records */

/* Zeroed memory of n_bytes on cache lines, or on huge pages if it is large, placed as arrays of that side are (placement
 * NULL: wherever the system likes); NULL if it is short (bindings_index_memory.c). */
void *ns_index_memory(int64_t n_bytes, ns_placement *placement, int32_t side);
void ns_index_free(void *memory, int64_t n_bytes);
/* Replaces *memory, of n_kept bytes, by one of n_bytes that begins with them. 0 if memory is short, and nothing changes. */
int32_t ns_index_regrow(void *memory, int64_t n_kept, int64_t n_bytes, ns_placement *placement, int32_t side);

/* Notes that a call of n rows came from the node that this thread runs on: once a batch. */
void ns_count_rows(ns_index *index, int64_t n);

/* The locks of the shards s with touched[s] (NULL: of all), in ascending order, so that calls never wait for each other
 * in a circle; and NS_MOST_SHARDS such flags for a batch of concepts: all if it is large (bindings_index.c). */
void ns_index_lock(ns_index *index, const uint8_t *touched, int32_t write);
void ns_index_unlock(ns_index *index, const uint8_t *touched);
void ns_touched_by(const ns_index *index, const int64_t *concepts, int64_t n, uint8_t *touched);

/* Whether an operation has been applied; and that it has been now: NS_REPEATED if another call was first. */
int32_t ns_operation_known(ns_index *index, int64_t id);
int32_t ns_operation_add(ns_index *index, int64_t id);

/* lines[i] = that of concept i, NULL if there is no such concept; for n <= NS_LINES (bindings_index_concepts.c). */
void ns_find_lines(const ns_index *index, const int64_t *concepts, int64_t n, ns_concept_line **lines);

/* What is left of a strength after so many half-lives >= 0 (bindings_index_concepts.c). */
int32_t ns_decay_factor(int32_t isa, double half_lives, float *factor);

/* Memory of at least n_bytes for one call; NULL if it is short. */
ns_scratch ns_take_scratch(ns_index *index, int64_t n_bytes);
void ns_leave_scratch(ns_index *index, ns_scratch scratch);

#endif
