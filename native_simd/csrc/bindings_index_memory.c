/* The memory of an index: what its arrays are allocated with, the nodes that their pages go to and lie on, and the nodes
 * that calls come from.
 *
 * A large array is a mapping of its own, so that it shares no page with anything else: the kernel places and moves
 * pages, and a policy of a page outlives what was allocated in it. Small ones come from the heap and are left there. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bindings_index.h"

#ifndef NS_LEAST_MAPPED /* tests map arrays of any size */
#define NS_LEAST_MAPPED (64 << 10) /* whole pages, of any size that Linux has; what is never written takes none */
#endif

enum { HUGE_PAGE_BYTES = 2 << 20, LARGEST_PAGE_BYTES = 64 << 10, CACHE_LINE_BYTES = 64, PAGES_AT_A_TIME = 512 };

/* ---- allocation ---- */

static size_t rounded(int64_t n_bytes, size_t unit) { return ((size_t)n_bytes + unit - 1) / unit * unit; }

static size_t mapped_bytes(int64_t n_bytes) {
    return rounded(n_bytes, n_bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : LARGEST_PAGE_BYTES);
}

/* Huge pages if the array is large. More is mapped than is needed, so that it holds an array on such a page. */
static void *map(int64_t n_bytes) {
    const size_t size = mapped_bytes(n_bytes), spare = n_bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0;
    char *begin = mmap(NULL, size + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) return NULL;
    if (!spare) return begin;
    const size_t before = -(uintptr_t)begin % HUGE_PAGE_BYTES;
    if (before) munmap(begin, before);
    if (before < spare) munmap(begin + before + size, spare - before);
    (void)madvise(begin + before, size, MADV_HUGEPAGE); /* a hint: refused, pages are small */
    return begin + before;
}

static int32_t place(void *memory, int64_t n_bytes, const ns_policy *policy, int32_t move) {
    return ns_memory_bind(memory, (int64_t)mapped_bytes(n_bytes), policy->mode, policy->nodes, policy->n_words, move);
}

void *ns_index_memory(int64_t n_bytes, ns_placement *placement, int32_t side) {
    if (n_bytes < NS_LEAST_MAPPED) {
        void *small = aligned_alloc(CACHE_LINE_BYTES, rounded(n_bytes, CACHE_LINE_BYTES));
        return small ? memset(small, 0, (size_t)n_bytes) : NULL;
    }
    void *memory = map(n_bytes);
    if (!memory || !placement || placement->policies[side].mode == 0) return memory;
    const int32_t refusal = place(memory, n_bytes, &placement->policies[side], 0);
    if (refusal) placement->refusal = refusal;
    return memory;
}

void ns_index_free(void *memory, int64_t n_bytes) {
    if (n_bytes < NS_LEAST_MAPPED) free(memory);
    else if (memory) munmap(memory, mapped_bytes(n_bytes));
}

int32_t ns_index_regrow(void *memory, int64_t n_kept, int64_t n_bytes, ns_placement *placement, int32_t side) {
    void *old, *grown = ns_index_memory(n_bytes, placement, side);
    if (!grown) return 0;
    memcpy(&old, memory, sizeof old);
    if (n_kept) memcpy(grown, old, (size_t)n_kept);
    ns_index_free(old, n_kept);
    memcpy(memory, &grown, sizeof grown);
    return 1;
}

/* ---- placement ---- */

typedef struct {
    void *memory;
    int64_t n_bytes;
    int32_t side;
} array;

/* In the order that native_simd.h states. */
static void list_arrays(const ns_shard *s, array *arrays) {
    const array all[NS_N_INDEX_ARRAYS] = {
        {s->concept_table, (int64_t)((s->concept_mask + 1) * sizeof *s->concept_table), NS_BY_CONCEPT},
        {s->lines, s->line_capacity * (int64_t)sizeof *s->lines, NS_BY_CONCEPT},
        {s->strengths, s->slab_capacity * (int64_t)sizeof *s->strengths, NS_BY_CONCEPT},
        {s->episodes, s->slab_capacity * (int64_t)sizeof *s->episodes, NS_BY_CONCEPT},
        {s->marks, s->slab_capacity / 8, NS_BY_CONCEPT},
        {s->episode_table, (int64_t)((s->episode_mask + 1) * sizeof *s->episode_table), NS_BY_EPISODE},
        {s->records, s->record_capacity * (int64_t)sizeof *s->records, NS_BY_EPISODE},
    };
    memcpy(arrays, all, sizeof all);
}

/* A reader's lock: pages move under whoever reads them, and only the arrays themselves must stay. */
static int32_t move_shard(ns_shard *s, int32_t side, int32_t move) {
    int32_t result = 0;
    array arrays[NS_N_INDEX_ARRAYS];
    pthread_rwlock_rdlock(&s->lock);
    list_arrays(s, arrays);
    for (int32_t i = 0; i < NS_N_INDEX_ARRAYS; i++) {
        if (arrays[i].side != side || arrays[i].n_bytes < NS_LEAST_MAPPED) continue;
        const int32_t refusal = place(arrays[i].memory, arrays[i].n_bytes, &s->placement->policies[side], move);
        if (refusal) result = refusal;
    }
    pthread_rwlock_unlock(&s->lock);
    return result;
}

/* What the kernel says of a policy, tried on a page that nobody uses: an index may have no mapped array yet. */
static int32_t try_policy(const ns_policy *policy) {
    void *page = map(1);
    if (!page) return -ENOMEM;
    const int32_t result = place(page, 1, policy, 0);
    munmap(page, mapped_bytes(1));
    return result;
}

int32_t ns_index_place(ns_index *index, int32_t side, int32_t mode, const uint64_t *node_mask, int32_t n_words,
                       int32_t move) {
    if (side < 0 || side >= NS_N_SIDES || n_words < 0 || n_words > NS_NODE_WORDS) return -EINVAL;
    ns_policy policy = {.mode = mode, .n_words = n_words};
    for (int32_t i = 0; i < n_words; i++) policy.nodes[i] = node_mask[i];
    ns_index_lock(index, NULL, 1); /* no array is being allocated */
    index->placement.policies[side] = policy;
    index->placement.refusal = 0;
    ns_index_unlock(index, NULL);
    int32_t result = try_policy(&policy);
    for (int32_t s = 0; s < index->n_shards; s++) {
        const int32_t refusal = move_shard(&index->shards[s], side, move);
        if (refusal) result = refusal;
    }
    return result;
}

int32_t ns_index_refusal(ns_index *index) { return index->placement.refusal; }

/* counts[node] += pages of the array there; a page that was never written lies nowhere. */
static int32_t count_pages(const array *a, int64_t n_nodes, int64_t *counts) {
    int32_t nodes[PAGES_AT_A_TIME];
    const int64_t page_bytes = ns_page_bytes(), step = PAGES_AT_A_TIME * page_bytes, size = (int64_t)mapped_bytes(a->n_bytes);
    for (int64_t at = 0; at < size; at += step) {
        const int64_t n_bytes = size - at < step ? size - at : step;
        const int32_t result = ns_page_nodes((char *)a->memory + at, n_bytes, nodes, n_bytes / page_bytes);
        if (result) return result;
        for (int64_t i = 0; i < n_bytes / page_bytes; i++)
            if (nodes[i] >= 0 && nodes[i] < n_nodes) counts[nodes[i]]++;
    }
    return 0;
}

int32_t ns_index_pages(ns_index *index, int64_t n_nodes, int64_t *pages) {
    int32_t result = 0;
    memset(pages, 0, sizeof *pages * NS_N_INDEX_ARRAYS * (size_t)n_nodes);
    for (int32_t number = 0; number < index->n_shards && !result; number++) {
        ns_shard *s = &index->shards[number];
        array arrays[NS_N_INDEX_ARRAYS];
        pthread_rwlock_rdlock(&s->lock);
        list_arrays(s, arrays);
        for (int32_t i = 0; i < NS_N_INDEX_ARRAYS && !result; i++)
            if (arrays[i].n_bytes >= NS_LEAST_MAPPED) result = count_pages(&arrays[i], n_nodes, pages + i * n_nodes);
        pthread_rwlock_unlock(&s->lock);
    }
    return result;
}

/* ---- where calls come from ---- */

void ns_count_rows(ns_index *index, int64_t n) {
    int32_t cpu, node;
    if (ns_cpu_node(&cpu, &node) == 0 && node < NS_MOST_NODES)
        atomic_fetch_add_explicit(&index->origins[node].n_rows, n, memory_order_relaxed);
}

void ns_index_origins(ns_index *index, int64_t n_nodes, int64_t *rows) {
    for (int64_t node = 0; node < n_nodes && node < NS_MOST_NODES; node++)
        rows[node] = atomic_load_explicit(&index->origins[node].n_rows, memory_order_relaxed);
}
