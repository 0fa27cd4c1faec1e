/* An index of bindings whose allocations fail: what is refused has changed nothing, and works once there is memory.
 *
 * The driver is linked with --wrap for the calls that the library allocates with. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "index_memory.h"
#include "internal.h"

void *__real_malloc(size_t n_bytes);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t n_bytes);
void *__real_aligned_alloc(size_t alignment, size_t n_bytes);
void *__real_mmap(void *address, size_t n_bytes, int protection, int flags, int file, off_t offset);

static _Atomic int64_t n_left = INT64_MAX; /* allocations that work; none is ever the last of so many */
static _Atomic int32_t fails_for_good;

/* One fails, or that and all after it. */
static int32_t is_failing(void) {
    const int64_t before = atomic_fetch_sub(&n_left, 1);
    return fails_for_good ? before <= 0 : before == 0;
}

void *__wrap_malloc(size_t n_bytes) { return is_failing() ? NULL : __real_malloc(n_bytes); }
void *__wrap_calloc(size_t n, size_t size) { return is_failing() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *memory, size_t n_bytes) { return is_failing() ? NULL : __real_realloc(memory, n_bytes); }
void *__wrap_aligned_alloc(size_t alignment, size_t n_bytes) {
    return is_failing() ? NULL : __real_aligned_alloc(alignment, n_bytes);
}

void *__wrap_mmap(void *address, size_t n_bytes, int protection, int flags, int file, off_t offset) {
    return is_failing() ? MAP_FAILED : __real_mmap(address, n_bytes, protection, flags, file, offset);
}

enum { N_KNOWN = 400, N_NEW = 700, N_ALL = N_KNOWN + N_NEW, N_CONCEPTS = 60 };

static int64_t concepts[N_ALL], episodes[N_ALL];
static float values[N_ALL], halves[N_ALL];

/* Pairs, none twice: of the last 12 episodes, each is bound to 30 concepts, so that its places go to the heap. */
static void fill(void) {
    for (int64_t i = 0; i < N_ALL; i++) {
        concepts[i] = i % N_CONCEPTS * 1000003;
        episodes[i] = i / N_CONCEPTS < 12 ? i / N_CONCEPTS : i;
        values[i] = (float)(i % 97) / 128.0f;
        halves[i] = 0.5f;
    }
}

/* All that can be seen of an index. */
typedef struct {
    int64_t n, n_operations, concepts[N_ALL], episodes[N_ALL], operations[8];
    float strengths[N_ALL];
    int64_t fan_outs[N_CONCEPTS], times[N_CONCEPTS], counts[N_CONCEPTS], versions[N_CONCEPTS];
} view;

static view *view_of(ns_index *index) {
    view *v = calloc(1, sizeof *v);
    if (!v || ns_index_check(index)) abort();
    if (ns_index_bindings(index, N_ALL, &v->n, v->concepts, v->episodes, v->strengths, 1)) abort();
    if (ns_index_look_up(index, concepts, N_CONCEPTS, v->fan_outs, v->times, v->counts, v->versions, 1)) abort();
    v->n_operations = ns_index_operations(index, 8, v->operations);
    return v;
}

static ns_index *known_index(int32_t n_shards) {
    int64_t bad_row;
    ns_index *index = ns_index_create(n_shards);
    if (!index || ns_index_change(index, NS_BIND, 1, concepts, episodes, values, N_KNOWN, &bad_row, 1)) abort();
    return index;
}

static int32_t spread(ns_index *index) {
    const int64_t units[2] = {1000, 2000};
    const ns_spread_request request = {.law = NS_FAN_SQRT, .steps = 3, .k = -1, .n_concepts = 2, .concepts = concepts,
                                       .concept_units = units, .n_episodes = 2, .episodes = episodes + 398,
                                       .episode_units = units};
    ns_spread_answer answer;
    const int32_t status = ns_index_spread(index, NS_SCALAR, &request, &answer, 3);
    if (status == NS_OK && answer.n_episodes < 2) abort();
    ns_spread_answer_free(&answer);
    return status;
}

static int32_t call(ns_index *index, int32_t number, int32_t threads) {
    int64_t bad_row, n, offsets[N_CONCEPTS + 1];
    static int64_t ids[2 * N_ALL], others[N_ALL];
    static float strengths[N_ALL];
    switch (number) {
    case 0: return ns_index_change(index, NS_BIND, 2, concepts + 200, episodes + 200, halves, N_ALL - 200, &bad_row, threads);
    case 1: return ns_index_change(index, NS_SET_STRENGTHS, 2, concepts, episodes, halves, N_KNOWN, &bad_row, threads);
    case 2: return ns_index_change(index, NS_ADD_STRENGTHS, 2, concepts, episodes, halves, N_KNOWN, &bad_row, threads);
    case 3: return ns_index_change(index, NS_UNBIND, 2, concepts, episodes, NULL, N_KNOWN - 3, &bad_row, threads);
    case 4: return ns_index_activate(index, 2, concepts, N_CONCEPTS, 7, &bad_row);
    case 5: return ns_index_decay(index, NS_SCALAR, 2, 0.5, threads);
    case 6: return ns_index_decay_concepts(index, NS_SCALAR, 2, concepts, halves, N_CONCEPTS, 1.0, &bad_row);
    case 7: return ns_index_forget(index, 2, 0.5f, 1, &n, threads);
    case 8: return spread(index);
    case 9: return ns_index_lists(index, 0, concepts, N_CONCEPTS, N_ALL, offsets, ids, strengths);
    case 10: return ns_index_bindings(index, N_ALL, &n, ids, others, strengths, threads);
    default: return ns_index_restore_operations(index, concepts, N_CONCEPTS);
    }
}

enum { N_CALLS = 12 };

/* Fails each allocation of a call in turn, until there are no more. Returns how many there are. */
static int64_t fail_each(int32_t n_shards, int32_t number, int32_t for_good, int64_t *n_failures) {
    ns_index *untroubled = known_index(n_shards);
    if (call(untroubled, number, 1) != NS_OK) abort();
    view *after = view_of(untroubled);
    int64_t n = 0;
    for (int32_t status = NS_E_MEMORY; status == NS_E_MEMORY; n++) {
        ns_index *index = known_index(n_shards);
        view *before = view_of(index);
        fails_for_good = for_good;
        n_left = n;
        status = call(index, number, 1 + (int32_t)(n % 2));
        const int32_t has_failed = n_left < 0;
        n_left = INT64_MAX;
        view *seen = view_of(index);
        if (status == NS_OK ? memcmp(seen, after, sizeof *seen) : memcmp(seen, before, sizeof *seen)) {
            fprintf(stderr, "call %d, allocation %lld: what was refused has changed something\n", number, (long long)n);
            ++*n_failures;
        }
        if (status != NS_OK && (status != NS_E_MEMORY || !has_failed || call(index, number, 1) != NS_OK)) {
            fprintf(stderr, "call %d, allocation %lld: status %d, or refused again\n", number, (long long)n, status);
            ++*n_failures;
        }
        view *in_the_end = view_of(index);
        if (memcmp(in_the_end, after, sizeof *after)) ++*n_failures;
        free(before), free(seen), free(in_the_end);
        ns_index_destroy(index);
        if (status == NS_OK && has_failed) status = NS_E_MEMORY; /* it went well without that one: on to the next */
    }
    free(after);
    ns_index_destroy(untroubled);
    return n - 1;
}

int64_t check_failing_allocations(void) {
    int64_t n_failures = 0, n_failed = 0;
    fill();
    for (int32_t n_shards = 1; n_shards <= 16; n_shards *= 16)
        for (int32_t number = 0; number < N_CALLS; number++)
            for (int32_t for_good = 0; for_good < 2; for_good++)
                n_failed += fail_each(n_shards, number, for_good, &n_failures);
    printf("failed allocations: %lld\n", (long long)n_failed);
    return n_failures;
}
