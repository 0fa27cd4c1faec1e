/* Batches that change bindings: sorted by shard, then applied shard by shard, or taken back as if they had never been.
 *
 * All shards of a batch are locked before the first is changed and unlocked after the last, so a batch is atomic. */
#include <stdlib.h>
#include <string.h>

#include "bindings_index.h"

enum { STAGE = 32, RING = 128 }; /* rows between two stages of a lookup; a power of two above three times as many */
enum { AHEAD = 8 };             /* insertions between a prefetch and its use */
enum { ROW_NS = 8, SORT_NS = 2 };

#define INSERTED (NS_NONE - 1) /* in place of a position */

typedef struct {
    int64_t concept, episode;
    float value;       /* to set or to add; once applied, the strength that was before */
    uint32_t position; /* in the slab, when it was found; INSERTED; NS_NONE: nothing was done */
} batch_row;

typedef struct {
    ns_index *index;
    int32_t kind, verify_only;
    const int64_t *concepts, *episodes;
    const float *values; /* NULL for NS_UNBIND */
    int64_t n, n_chunks;
    uint8_t *numbers;  /* of the shard of each row */
    int64_t *starts;   /* [chunk][shard]: where its rows go */
    int64_t *bad_rows; /* [chunk] */
    batch_row *rows;   /* by shard, in the order given */
    int64_t *bounds;   /* rows of shard s: bounds[s] .. bounds[s + 1] - 1 */
    int64_t *refused;  /* [shard]: which of its rows, and */
    int32_t *statuses; /* [shard] why */
} batch;

static int64_t chunk_start(const batch *b, int64_t chunk) {
    return chunk == b->n_chunks ? b->n : b->n / b->n_chunks * chunk;
}

static void number_chunk(void *context, int64_t chunk) {
    batch *b = context;
    int64_t counts[NS_MOST_SHARDS] = {0}, bad_row = -1;
    const float low = b->kind == NS_ADD_STRENGTHS ? -1.0f : 0.0f;
    for (int64_t i = chunk_start(b, chunk), end = chunk_start(b, chunk + 1); i < end; i++) {
        const int32_t number = ns_shard_number(b->index, ns_mix(b->concepts[i]));
        b->numbers[i] = (uint8_t)number;
        counts[number]++;
        if (b->values && !(b->values[i] >= low && b->values[i] <= 1.0f) && bad_row < 0) bad_row = i;
    }
    memcpy(b->starts + chunk * b->index->n_shards, counts, sizeof *counts * (size_t)b->index->n_shards);
    b->bad_rows[chunk] = bad_row;
}

static void place_chunk(void *context, int64_t chunk) {
    batch *b = context;
    int64_t next[NS_MOST_SHARDS];
    memcpy(next, b->starts + chunk * b->index->n_shards, sizeof *next * (size_t)b->index->n_shards);
    for (int64_t i = chunk_start(b, chunk), end = chunk_start(b, chunk + 1); i < end; i++) {
        b->rows[next[b->numbers[i]]++] =
            (batch_row){b->concepts[i], b->episodes[i], b->values ? b->values[i] : 0.0f, NS_NONE};
    }
}

/* Counts to starts, shard by shard and within a shard chunk by chunk. */
static void sum_counts(batch *b) {
    int64_t sum = 0;
    for (int32_t s = 0; s < b->index->n_shards; s++) {
        b->bounds[s] = sum;
        for (int64_t chunk = 0; chunk < b->n_chunks; chunk++) {
            int64_t *start = &b->starts[chunk * b->index->n_shards + s];
            const int64_t count = *start;
            *start = sum;
            sum += count;
        }
    }
    b->bounds[b->index->n_shards] = sum;
}

static float changed(int32_t kind, float before, float value) {
    if (kind != NS_ADD_STRENGTHS) return value + 0.0f; /* no -0 */
    const float sum = before + value;
    return sum < 0.0f ? 0.0f : sum > 1.0f ? 1.0f : sum;
}

/* Where in the slab a binding is, given the entry of its episode; NS_NONE if it is not there. The concept's line tells
 * whether a place is the concept's, so its table is not looked at. */
static inline uint32_t find_position(const ns_shard *s, ns_episode_entry *e, int64_t concept) {
    const ns_place *places = ns_places(s, e);
    for (uint32_t i = 0, n = ns_n_places(e); i < n; i++) {
        const ns_concept_line *line = &s->lines[places[i].concept];
        if (line->id == concept) return line->offset + places[i].index;
    }
    return NS_NONE;
}

/* Changes the strengths of the bindings that are there; counts the others. NS_E_TWICE, NS_E_UNKNOWN: of row *done,
 * which is n if all went well.
 *
 * A row passes four stages, STAGE rows apart, each of which reads what the one before has prefetched: the bucket of its
 * episode; its entry; where the binding is; the strength. */
static int32_t change_known(const ns_shard *s, int32_t kind, batch_row *restrict rows, int64_t n, int64_t *n_unknown,
                            int64_t *done) {
    ns_episode_entry *entries[RING];
    float *restrict const strengths = s->strengths;
    uint64_t *restrict const marks = s->marks;
    for (int64_t i = 0; i < n + 3 * STAGE; i++) {
        const int64_t second = i - STAGE, third = i - 2 * STAGE, fourth = i - 3 * STAGE;
        if (i < n) {
            entries[i & (RING - 1)] = ns_episode_bucket(s, ns_mix(rows[i].episode));
            __builtin_prefetch(entries[i & (RING - 1)]);
        }
        if (second >= 0 && second < n) {
            ns_episode_entry *e = ns_find_episode_from(s, rows[second].episode, entries[second & (RING - 1)]);
            entries[second & (RING - 1)] = e;
            if (e && e->place.concept & NS_MANY) __builtin_prefetch(&s->records[e->place.index]);
            else if (e) __builtin_prefetch(&s->lines[e->place.concept]);
        }
        if (third >= 0 && third < n) {
            ns_episode_entry *e = entries[third & (RING - 1)];
            const uint32_t position = e ? find_position(s, e, rows[third].concept) : NS_NONE;
            rows[third].position = position;
            if (position != NS_NONE) __builtin_prefetch(&strengths[position], 1);
        }
        if (fourth < 0) continue;
        batch_row *row = &rows[fourth];
        const uint32_t p = row->position;
        const uint64_t bit = (uint64_t)1 << p % 64;
        if (p != NS_NONE && !(marks[p / 64] & bit)) {
            const float before = strengths[p];
            marks[p / 64] |= bit;
            if (kind != NS_UNBIND) strengths[p] = changed(kind, before, row->value);
            row->value = before;
        } else if (p == NS_NONE && kind == NS_BIND) {
            ++*n_unknown;
        } else {
            *done = fourth;
            return p == NS_NONE ? NS_E_UNKNOWN : NS_E_TWICE;
        }
    }
    *done = n;
    return NS_OK;
}

static void clear_marks(ns_shard *s, const batch_row *rows, int64_t n) {
    if (!s->slab_used) return;
    if (n > s->slab_used / 64) {
        memset(s->marks, 0, ((size_t)s->slab_used + 63) / 64 * 8);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        if (rows[i].position != NS_NONE) s->marks[rows[i].position / 64] = 0;
}

static int32_t insert_unknown(ns_shard *s, batch_row *rows, int64_t n, int64_t *refused) {
    for (int64_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            __builtin_prefetch(&s->concept_table[ns_mix(rows[i + AHEAD].concept) & s->concept_mask]);
            __builtin_prefetch(ns_episode_bucket(s, ns_mix(rows[i + AHEAD].episode)), 1);
        }
        if (rows[i].position != NS_NONE) continue;
        const int32_t status = ns_shard_insert(s, rows[i].concept, rows[i].episode, rows[i].value + 0.0f);
        if (status != NS_OK) {
            *refused = i;
            return status;
        }
        rows[i].position = INSERTED;
    }
    return NS_OK;
}

static batch_row *rows_of_shard(const batch *b, int64_t number, int64_t *n) {
    *n = b->bounds[number + 1] - b->bounds[number];
    return b->rows + b->bounds[number];
}

static void apply_to_shard(void *context, int64_t number) {
    batch *b = context;
    ns_shard *s = &b->index->shards[number];
    int64_t n, n_unknown = 0, done = 0;
    batch_row *rows = rows_of_shard(b, number, &n);
    if (!n) return;
    int32_t status = change_known(s, b->kind, rows, n, &n_unknown, &done);
    clear_marks(s, rows, done);
    b->refused[number] = done;
    for (int64_t i = done; i < n; i++) rows[i].position = NS_NONE; /* found, not changed */
    if (status == NS_OK && n_unknown) status = insert_unknown(s, rows, n, &b->refused[number]);
    b->statuses[number] = status;
}

static void take_back_from_shard(void *context, int64_t number) {
    batch *b = context;
    ns_shard *s = &b->index->shards[number];
    int64_t n;
    batch_row *rows = rows_of_shard(b, number, &n);
    for (int64_t i = 0; i < n; i++) {
        if (rows[i].position == NS_NONE) continue;
        const uint32_t slot = ns_find_concept(s, rows[i].concept, ns_mix(rows[i].concept));
        ns_concept_line *line = &s->lines[slot];
        ns_episode_entry *e = ns_find_episode(s, rows[i].episode, ns_mix(rows[i].episode));
        ns_place *place = ns_find_place(s, e, slot);
        if (rows[i].position == INSERTED) {
            line->version -= 2;
            ns_shard_remove(s, slot, e, place);
        } else { /* not by position: insertions have moved segments */
            s->strengths[line->offset + place->index] = rows[i].value;
        }
    }
}

static void remove_from_shard(void *context, int64_t number) {
    batch *b = context;
    ns_shard *s = &b->index->shards[number];
    int64_t n;
    batch_row *rows = rows_of_shard(b, number, &n);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t slot = ns_find_concept(s, rows[i].concept, ns_mix(rows[i].concept));
        ns_episode_entry *e = ns_find_episode(s, rows[i].episode, ns_mix(rows[i].episode));
        ns_shard_remove(s, slot, e, ns_find_place(s, e, slot));
    }
}

static int64_t row_in_batch(const batch *b, int32_t shard, int64_t number) {
    for (int64_t i = 0;; i++)
        if (b->numbers[i] == shard && number-- == 0) return i;
}

/* The status of a batch: that of the first row that was refused while known bindings were changed, or else while others
 * were inserted; so it is the same for any number of shards. */
static int32_t outcome(const batch *b, int64_t *bad_row) {
    static const int32_t ranks[] = {[-NS_E_MEMORY] = 3, [-NS_E_ROW] = 1, [-NS_E_TWICE] = 2, [-NS_E_UNKNOWN] = 2,
                                    [-NS_E_OUTSIDE] = 1};
    int32_t status = NS_OK, rank = 0;
    for (int32_t s = 0; s < b->index->n_shards; s++) {
        const int32_t found = b->statuses[s];
        if (found == NS_OK || ranks[-found] < rank) continue;
        const int64_t row = row_in_batch(b, s, b->refused[s]);
        if (ranks[-found] > rank || row < *bad_row) {
            status = found;
            *bad_row = row;
        }
        rank = ranks[-found];
    }
    return status == NS_E_ROW ? NS_E_TWICE : status;
}

/* To verify is to apply and to take back, under locks that no reader shares. */
static int32_t change_locked(batch *b, int64_t op_id, int32_t threads, int64_t *bad_row) {
    const int64_t n_shards = b->index->n_shards;
    const double item_ns = ROW_NS * (double)b->n / (double)n_shards;
    if (!b->verify_only && ns_operation_known(b->index, op_id)) return NS_REPEATED;
    int32_t status = ns_parallel(apply_to_shard, b, n_shards, item_ns, threads);
    if (status == NS_OK) status = outcome(b, bad_row);
    if (status == NS_OK && !b->verify_only) status = ns_operation_add(b->index, op_id);
    if (status != NS_OK || b->verify_only)
        while (b->kind != NS_UNBIND && ns_parallel(take_back_from_shard, b, n_shards, item_ns, threads) != NS_OK)
            threads = 1;
    else if (b->kind == NS_UNBIND)
        while (ns_parallel(remove_from_shard, b, n_shards, item_ns, threads) != NS_OK) threads = 1;
    return status;
}

static int32_t sort_by_shard(batch *b, int32_t threads, int64_t *bad_row) {
    const double item_ns = SORT_NS * (double)b->n / (double)b->n_chunks;
    int32_t status = ns_parallel(number_chunk, b, b->n_chunks, item_ns, threads);
    for (int64_t chunk = 0; status == NS_OK && chunk < b->n_chunks; chunk++) {
        *bad_row = b->bad_rows[chunk];
        if (*bad_row >= 0) return NS_E_ROW;
    }
    sum_counts(b);
    return status == NS_OK ? ns_parallel(place_chunk, b, b->n_chunks, item_ns, threads) : status;
}

static int32_t run_batch(batch b, int64_t op_id, int64_t *bad_row, int32_t threads) {
    ns_index *index = b.index;
    if (b.n < 0 || threads < 1 || b.kind < NS_BIND || b.kind > NS_UNBIND || !b.values != (b.kind == NS_UNBIND))
        return NS_E_ARGUMENT;
    b.n_chunks = threads < NS_MOST_SHARDS ? threads : NS_MOST_SHARDS;
    const int64_t n_shards = index->n_shards, n_numbers = (b.n_chunks + 3) * n_shards + b.n_chunks + 1;
    const int64_t n_bytes = b.n * (int64_t)(sizeof *b.rows + 1) + n_numbers * 8;
    ns_scratch scratch = ns_take_scratch(index, n_bytes);
    if (!scratch.memory) return NS_E_MEMORY;
    b.starts = memset(scratch.memory, 0, (size_t)n_numbers * 8);
    b.refused = b.starts + b.n_chunks * n_shards;
    b.statuses = (int32_t *)(b.refused + n_shards);
    b.bounds = b.refused + 2 * n_shards;
    b.bad_rows = b.bounds + n_shards + 1;
    b.rows = (batch_row *)(b.bad_rows + b.n_chunks);
    b.numbers = (uint8_t *)(b.rows + b.n);
    int32_t status = sort_by_shard(&b, threads, bad_row);
    if (status == NS_OK) {
        uint8_t touched[NS_MOST_SHARDS];
        for (int64_t s = 0; s < n_shards; s++) touched[s] = b.bounds[s] < b.bounds[s + 1];
        if (!b.verify_only) ns_count_rows(index, b.n);
        ns_index_lock(index, touched, 1);
        status = change_locked(&b, op_id, threads, bad_row);
        ns_index_unlock(index, touched);
    }
    ns_leave_scratch(index, scratch);
    return status;
}

int32_t ns_index_change(ns_index *index, int32_t kind, int64_t op_id, const int64_t *concepts, const int64_t *episodes,
                        const float *values, int64_t n, int64_t *bad_row, int32_t threads) {
    const batch b = {.index = index, .kind = kind, .concepts = concepts, .episodes = episodes, .values = values, .n = n};
    return run_batch(b, op_id, bad_row, threads);
}

int32_t ns_index_verify_change(ns_index *index, int32_t kind, const int64_t *concepts, const int64_t *episodes,
                               const float *values, int64_t n, int64_t *bad_row, int32_t threads) {
    const batch b = {.index = index, .kind = kind, .verify_only = 1, .concepts = concepts, .episodes = episodes,
                     .values = values, .n = n};
    return run_batch(b, 0, bad_row, threads);
}
