/* Threads that read and change one index of bindings: histories that some order of whole batches explains. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "index_histories.h"
#include "internal.h"

enum { N_CONCEPTS = 40, N_EPISODES = 12, N_BINDINGS = N_CONCEPTS * N_EPISODES }; /* all pairs, in all shards */
#define AMOUNT 0x1p-10f
enum { COUNTED = 77 }; /* the concept and the episode of a binding that counts operations */
enum { N_WRITERS = 3, N_READERS = 3, N_CALLS = 60 };

typedef struct {
    int32_t is_read;
    float value; /* written, or read */
    int64_t start, end;
} event;

typedef struct {
    ns_index *index;
    _Atomic int64_t clock;
    int64_t concepts[N_BINDINGS], episodes[N_BINDINGS];
    event events[N_WRITERS + N_READERS][N_CALLS];
    _Atomic int64_t n_failures;
} history;

typedef struct {
    history *h;
    int64_t number;
} participant;

static void require(history *h, int32_t holds, const char *what) {
    if (holds) return;
    h->n_failures++;
    fprintf(stderr, "%s\n", what);
}

static void fill(int64_t *concepts, int64_t *episodes) {
    for (int64_t i = 0; i < N_BINDINGS; i++) {
        concepts[i] = i % N_CONCEPTS * 1000003;
        episodes[i] = i / N_CONCEPTS - 6;
    }
}

/* Gives all bindings one strength, which no other call gives. */
static void *write_all(void *argument) {
    const participant *p = argument;
    history *h = p->h;
    float values[N_BINDINGS];
    int64_t bad_row;
    for (int64_t call = 0; call < N_CALLS; call++) {
        const int64_t op_id = 1 + p->number * N_CALLS + call;
        for (int64_t i = 0; i < N_BINDINGS; i++) values[i] = (float)op_id / 1024.0f;
        event *e = &h->events[p->number][call];
        e->value = values[0];
        e->start = h->clock++;
        const int32_t status = ns_index_change(h->index, call % 2 ? NS_BIND : NS_SET_STRENGTHS, op_id, h->concepts,
                                               h->episodes, values, N_BINDINGS, &bad_row, 1 + call % 2);
        e->end = h->clock++;
        require(h, status == NS_OK, "a batch was refused");
    }
    return NULL;
}

/* Reads all bindings, or those of one episode, which are in several shards: a batch is seen whole or not at all. */
static void *read_all(void *argument) {
    const participant *p = argument;
    history *h = p->h;
    int64_t n, concepts[N_BINDINGS], episodes[N_BINDINGS], offsets[2];
    float values[N_BINDINGS];
    for (int64_t call = 0; call < N_CALLS; call++) {
        event *e = &h->events[N_WRITERS + p->number][call];
        e->is_read = 1;
        e->start = h->clock++;
        int32_t status;
        if (call % 2) {
            status = ns_index_bindings(h->index, N_BINDINGS, &n, concepts, episodes, values, 2);
        } else {
            status = ns_index_lists(h->index, 1, &h->episodes[call], 1, N_BINDINGS, offsets, concepts, values);
            n = offsets[1];
        }
        e->end = h->clock++;
        e->value = values[0];
        require(h, status == NS_OK && n == (call % 2 ? N_BINDINGS : N_CONCEPTS), "bindings are missing");
        for (int64_t i = 0; i < n; i++) require(h, values[i] == values[0], "a batch was seen in part");
    }
    return NULL;
}

/* A register that each write gives a value of its own: what a read has seen was written before it ended, and not
 * overwritten before it began; and of two reads one after the other, the later has not seen what was overwritten before
 * the write that the earlier has seen began. */
static void check_order(history *h) {
    const event *all = h->events[0];
    const int64_t n = (N_WRITERS + N_READERS) * N_CALLS;
    for (int64_t r = 0; r < n; r++) {
        if (!all[r].is_read) continue;
        const event *seen = NULL;
        for (int64_t w = 0; w < n; w++)
            if (!all[w].is_read && all[w].value == all[r].value) seen = &all[w];
        if (!seen) {
            require(h, all[r].value == 0.0f, "a value was read that nobody wrote");
            continue;
        }
        require(h, seen->start < all[r].end, "a value was read before it was written");
        for (int64_t w = 0; w < n; w++)
            if (!all[w].is_read)
                require(h, !(seen->end < all[w].start && all[w].end < all[r].start), "a value was read after another");
        for (int64_t later = 0; later < n; later++) {
            if (!all[later].is_read || all[later].start < all[r].end) continue;
            for (int64_t w = 0; w < n; w++)
                if (!all[w].is_read && all[w].value == all[later].value)
                    require(h, !(all[w].end < seen->start), "a later read went back");
        }
    }
}

static void run(history *h, void *(*writer)(void *), void *(*reader)(void *)) {
    pthread_t threads[N_WRITERS + N_READERS];
    participant participants[N_WRITERS + N_READERS];
    for (int64_t i = 0; i < N_WRITERS + N_READERS; i++) {
        participants[i] = (participant){h, i < N_WRITERS ? i : i - N_WRITERS};
        if (pthread_create(&threads[i], NULL, i < N_WRITERS ? writer : reader, &participants[i])) abort();
    }
    for (int64_t i = 0; i < N_WRITERS + N_READERS; i++) pthread_join(threads[i], NULL);
}

/* The same operations from every writer: each counts once. Beside them, bindings come and go. */
static void *change_at_random(void *argument) {
    const participant *p = argument;
    history *h = p->h;
    uint64_t state = (uint64_t)p->number + 1;
    const int64_t counted_concept = COUNTED, counted_episode = COUNTED;
    const float amount = AMOUNT;
    int64_t bad_row, n_forgotten, concepts[32], episodes[32];
    float values[32];
    for (int64_t call = 0; call < 4 * N_CALLS; call++) {
        int32_t status = ns_index_change(h->index, NS_ADD_STRENGTHS, call, &counted_concept, &counted_episode, &amount, 1,
                                         &bad_row, 1);
        require(h, status == NS_OK || status == NS_REPEATED, "an operation was refused");
        const int64_t n = 1 + call % 32, op_id = 1000000 * (p->number + 1) + 10 * call;
        for (int64_t i = 0; i < n; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            concepts[i] = (int64_t)(state >> 60) - 8;
            episodes[i] = (int64_t)(state >> 52 & 15);
            values[i] = (float)(state >> 40 & 255) / 256.0f;
        }
        status = ns_index_change(h->index, call % 7 == 6 ? NS_UNBIND : NS_BIND, op_id, concepts, episodes,
                                 call % 7 == 6 ? NULL : values, call % 3 ? n : 1, &bad_row, 1 + call % 2);
        require(h, status == NS_OK || status == NS_E_TWICE || status == NS_E_UNKNOWN, "a batch failed");
        status = ns_index_activate(h->index, op_id + 1, concepts, 1, call, &bad_row);
        require(h, status == NS_OK || status == NS_E_UNKNOWN, "activation failed");
        const float rate = 0.25f;
        status = ns_index_decay_concepts(h->index, NS_SCALAR, op_id + 2, concepts, &rate, 1, 1.0, &bad_row);
        require(h, status == NS_OK || status == NS_E_UNKNOWN, "decay failed");
        if (call % 50 == 49) {
            status = ns_index_forget(h->index, op_id + 3, 0.25f, 1, &n_forgotten, 2);
            require(h, status == NS_OK, "forgetting failed");
        }
    }
    return NULL;
}

/* To node 0, or wherever the kernel likes, while the arrays change. Where it refuses, nothing moves. */
static void move_pages(history *h, int64_t call) {
    static const uint64_t node_0 = 1;
    enum { PREFERRED = 1 };
    int64_t pages[NS_N_INDEX_ARRAYS], n_rows;
    (void)ns_index_place(h->index, (int32_t)(call % NS_N_SIDES), call % 3 ? PREFERRED : 0, &node_0, call % 3 ? 1 : 0, 1);
    require(h, ns_index_pages(h->index, 1, pages) != 0 || pages[0] >= 0, "pages are missing");
    require(h, ns_index_refusal(h->index) <= 0, "a refusal is not an error number");
    ns_index_origins(h->index, 1, &n_rows);
    require(h, n_rows >= 0, "rows are missing");
}

/* Concepts of a reader's own go outside and come back, in shards that the others read and change. */
static void move_concepts(history *h, int64_t number, int64_t call) {
    enum { N_OWN = 8, N_EACH = 4 };
    int64_t concepts[N_OWN], episodes[N_OWN * N_EACH], offsets[N_OWN + 1], ids[N_OWN * N_EACH], bad_row, hand = call, n_uses;
    int64_t pairs[N_OWN * N_EACH], fan_outs[N_OWN], kept_at[N_OWN], chosen[N_OWN];
    float strengths[N_OWN * N_EACH];
    uint8_t uses[N_OWN], tiers[N_OWN];
    for (int64_t i = 0; i < N_OWN * N_EACH; i++) {
        concepts[i / N_EACH] = pairs[i] = 1000 * (number + 1) + i / N_EACH;
        episodes[i] = i % N_EACH;
        strengths[i] = 1.0f; /* nobody forgets it */
    }
    if (call == 0 && ns_index_change(h->index, NS_BIND, -10 - number, pairs, episodes, strengths, N_OWN * N_EACH, &bad_row, 2))
        abort();
    ns_index_settle(h->index, concepts, N_OWN, concepts);
    require(h, ns_index_evict(h->index, concepts, N_OWN, &bad_row) == NS_OK, "concepts did not go");
    ns_index_find(h->index, (int32_t)(call % 2), concepts, N_OWN, fan_outs, kept_at, uses, tiers);
    for (int64_t i = 0; i < N_OWN; i++)
        require(h, tiers[i] == NS_OUTSIDE && fan_outs[i] == N_EACH && kept_at[i] == concepts[i], "a line is wrong");
    if (ns_index_lists(h->index, 0, concepts, N_OWN, N_OWN * N_EACH, offsets, ids, strengths)) abort();
    require(h, offsets[N_OWN] == 0, "what is outside is listed");
    for (int64_t i = 0; i <= N_OWN; i++) offsets[i] = i * N_EACH;
    (void)ns_index_choose(h->index, &hand, 5, N_OWN, chosen, &n_uses);
    require(h, ns_index_bytes(h->index) > 0 && ns_index_n_concepts(h->index, &n_uses) >= N_OWN, "sizes are wrong");
    if (call % 8 == 0) ns_index_shrink(h->index);
    if (call % 8 == 1) ns_index_halve_uses(h->index);
    require(h, ns_index_admit(h->index, concepts, N_OWN, offsets, episodes, strengths, 0, &bad_row) == NS_OK,
            "concepts did not come back");
}

static void *look_at_random(void *argument) {
    const participant *p = argument;
    history *h = p->h;
    int64_t names[16], counts[16], times[16], numbers[16], versions[16], offsets[17], ids[512], values[NS_N_INDEX_STATISTICS], shards[256];
    float strengths[512];
    for (int64_t i = 0; i < 16; i++) names[i] = i - 8;
    for (int64_t call = 0; call < N_CALLS; call++) {
        int32_t status = ns_index_look_up(h->index, names, 16, counts, times, numbers, versions, 2);
        if (status == NS_OK) status = ns_index_lists(h->index, call % 2, names, 16, 512, offsets, ids, strengths);
        require(h, status == NS_OK, "a query failed");
        move_pages(h, call);
        move_concepts(h, p->number, call);
        for (int64_t i = 0; i < offsets[16]; i++)
            require(h, strengths[i] >= 0.0f && strengths[i] <= 1.0f, "a strength is out of range");
        const int64_t units[16] = {[0 ... 15] = 1000};
        const ns_spread_request request = {.law = call % 4, .steps = 3, .k = -1, .n_concepts = 16, .n_episodes = 16,
                                           .concepts = names, .concept_units = units, .episodes = names,
                                           .episode_units = units};
        ns_spread_answer answer;
        require(h, ns_index_spread(h->index, NS_SCALAR, &request, &answer, 2) == NS_OK, "a spread was refused");
        ns_spread_answer_free(&answer);
        ns_index_statistics(h->index, values, shards);
        require(h, ns_index_operations(h->index, 0, NULL) <= 8 * N_CALLS * N_WRITERS * 4, "too many operations");
        require(h, ns_index_check(h->index) == 0, "an invariant does not hold");
    }
    return NULL;
}

/* Episodes that share all their concepts, of one strength at a time: what one of them passes reaches all alike. */
static void *spread_all(void *argument) {
    const participant *p = argument;
    history *h = p->h;
    const int64_t cue = (int64_t)1 << 32;
    for (int64_t call = 0; call < N_CALLS; call++) {
        const ns_spread_request request = {.law = NS_FAN_SQRT, .steps = 2, .k = call % 2 ? -1 : N_BINDINGS,
                                           .n_episodes = 1, .episodes = &h->episodes[0], .episode_units = &cue};
        ns_spread_answer answer;
        event *e = &h->events[N_WRITERS + p->number][call];
        e->start = h->clock++;
        const int32_t status = ns_index_spread(h->index, NS_SCALAR, &request, &answer, 1 + (int32_t)(call % 3));
        e->end = h->clock++;
        require(h, status == NS_OK, "a spread was refused");
        require(h, answer.n_concepts == 0 || answer.n_concepts == N_CONCEPTS, "concepts are missing");
        require(h, answer.n_episodes == 0 || answer.n_episodes == N_EPISODES, "episodes are missing");
        for (int64_t i = 0; i < answer.n_concepts; i++)
            require(h, answer.units[i] == answer.units[0], "concepts were seen at different moments");
        for (int64_t i = answer.n_concepts; i < answer.n_concepts + answer.n_episodes; i++)
            require(h, answer.units[i] == answer.units[answer.n_concepts], "episodes were seen at different moments");
        ns_spread_answer_free(&answer);
    }
    return NULL;
}

static history *new_history(int32_t n_shards) {
    history *h = calloc(1, sizeof *h);
    if (!h || !(h->index = ns_index_create(n_shards))) abort();
    fill(h->concepts, h->episodes);
    return h;
}

static int64_t end_history(history *h) {
    require(h, ns_index_check(h->index) == 0, "an invariant does not hold");
    const int64_t n_failures = h->n_failures;
    ns_index_destroy(h->index);
    free(h);
    return n_failures;
}

int64_t check_index_histories(void) {
    int64_t n_failures = 0, bad_row, offsets[2], id;
    float zeros[N_BINDINGS] = {0.0f}, strength = 0.0f;
    for (int32_t n_shards = 1; n_shards <= 16; n_shards *= 4) {
        history *h = new_history(n_shards);
        if (ns_index_change(h->index, NS_BIND, 0, h->concepts, h->episodes, zeros, N_BINDINGS, &bad_row, 1)) abort();
        run(h, write_all, read_all);
        check_order(h);
        n_failures += end_history(h);

        h = new_history(n_shards);
        if (ns_index_change(h->index, NS_BIND, 0, h->concepts, h->episodes, zeros, N_BINDINGS, &bad_row, 1)) abort();
        run(h, write_all, spread_all);
        n_failures += end_history(h);

        h = new_history(n_shards);
        const int64_t counted = COUNTED;
        if (ns_index_change(h->index, NS_BIND, -1, &counted, &counted, zeros, 1, &bad_row, 1)) abort();
        run(h, change_at_random, look_at_random);
        if (ns_index_lists(h->index, 0, &counted, 1, 1, offsets, &id, &strength)) abort();
        require(h, strength == 4 * N_CALLS * AMOUNT, "an operation has not counted once");
        n_failures += end_history(h);
    }
    return n_failures;
}
