/* The binding index as a whole: its shards, their locks and the operations that have been applied. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "bindings_index_spread.h"

enum { LEAST_OPERATIONS = 16, MOST_SPARE_BYTES = 1 << 26 };

ns_index *ns_index_create(int32_t n_shards) {
    if (n_shards < 1 || n_shards > NS_MOST_SHARDS || n_shards & (n_shards - 1)) return NULL;
    ns_index *index = calloc(1, sizeof *index);
    if (!index) return NULL;
    index->origins = ns_index_memory(NS_MOST_NODES * (int64_t)sizeof *index->origins, NULL, 0);
    index->shards = aligned_alloc(_Alignof(ns_shard), sizeof *index->shards * (size_t)n_shards);
    index->operations = malloc(LEAST_OPERATIONS * sizeof *index->operations);
    index->occupied = calloc(LEAST_OPERATIONS, 1);
    index->operation_mask = LEAST_OPERATIONS - 1;
    index->shard_bits = __builtin_ctz((unsigned)n_shards);
    pthread_mutex_init(&index->spread_lock, NULL);
    pthread_mutex_init(&index->lock, NULL);
    int32_t status = index->origins && index->shards && index->operations && index->occupied ? NS_OK : NS_E_MEMORY;
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
#ifdef __GLIBC__
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    for (; status == NS_OK && index->n_shards < n_shards; index->n_shards++) {
        status = ns_shard_create(&index->shards[index->n_shards], &index->placement);
        pthread_rwlock_init(&index->shards[index->n_shards].lock, &attributes);
    }
    pthread_rwlockattr_destroy(&attributes);
    if (status == NS_OK) return index;
    ns_index_destroy(index);
    return NULL;
}

void ns_index_destroy(ns_index *index) {
    for (int32_t s = 0; s < index->n_shards; s++) {
        ns_shard_destroy(&index->shards[s]);
        pthread_rwlock_destroy(&index->shards[s].lock);
    }
    ns_activations_destroy(index->activations);
    pthread_mutex_destroy(&index->spread_lock);
    pthread_mutex_destroy(&index->lock);
    ns_index_free(index->spare.memory, index->spare.n_bytes);
    ns_index_free(index->origins, NS_MOST_NODES * (int64_t)sizeof *index->origins);
    free(index->shards), free(index->operations), free(index->occupied), free(index);
}

void ns_index_lock(ns_index *index, const uint8_t *touched, int32_t write) {
    for (int32_t s = 0; s < index->n_shards; s++) {
        if (touched && !touched[s]) continue;
        if (write) {
            pthread_rwlock_wrlock(&index->shards[s].lock);
            index->shards[s].n_writes++;
        } else {
            pthread_rwlock_rdlock(&index->shards[s].lock);
        }
    }
}

void ns_index_unlock(ns_index *index, const uint8_t *touched) {
    for (int32_t s = index->n_shards - 1; s >= 0; s--)
        if (!touched || touched[s]) pthread_rwlock_unlock(&index->shards[s].lock);
}

void ns_touched_by(const ns_index *index, const int64_t *concepts, int64_t n, uint8_t *touched) {
    memset(touched, n > NS_MOST_SHARDS, NS_MOST_SHARDS);
    for (int64_t i = 0; i < n && n <= NS_MOST_SHARDS; i++) touched[ns_shard_number(index, ns_mix(concepts[i]))] = 1;
}

/* ---- scratch memory ---- */

ns_scratch ns_take_scratch(ns_index *index, int64_t n_bytes) {
    pthread_mutex_lock(&index->lock);
    ns_scratch scratch = index->spare;
    index->spare = (ns_scratch){NULL, 0};
    pthread_mutex_unlock(&index->lock);
    if (scratch.n_bytes >= n_bytes) return scratch;
    ns_index_free(scratch.memory, scratch.n_bytes);
    return (ns_scratch){ns_index_memory(n_bytes, NULL, 0), n_bytes};
}

void ns_leave_scratch(ns_index *index, ns_scratch scratch) {
    pthread_mutex_lock(&index->lock);
    if (scratch.n_bytes <= MOST_SPARE_BYTES && scratch.n_bytes > index->spare.n_bytes) {
        const ns_scratch smaller = index->spare;
        index->spare = scratch;
        scratch = smaller;
    }
    pthread_mutex_unlock(&index->lock);
    ns_index_free(scratch.memory, scratch.n_bytes);
}

/* ---- operations ---- */

static uint64_t find_operation(const int64_t *operations, const uint8_t *occupied, uint64_t mask, int64_t id) {
    uint64_t i = ns_mix(id) & mask;
    while (occupied[i] && operations[i] != id) i = (i + 1) & mask;
    return i;
}

int32_t ns_operation_known(ns_index *index, int64_t id) {
    pthread_mutex_lock(&index->lock);
    const uint64_t i = find_operation(index->operations, index->occupied, index->operation_mask, id);
    const int32_t known = index->occupied[i];
    pthread_mutex_unlock(&index->lock);
    return known;
}

static int32_t grow_operations(ns_index *index) {
    const uint64_t n = (index->operation_mask + 1) * 2;
    int64_t *operations = malloc(n * sizeof *operations);
    uint8_t *occupied = calloc(n, 1);
    if (!operations || !occupied) {
        free(operations), free(occupied);
        return 0;
    }
    for (uint64_t i = 0; i <= index->operation_mask; i++) {
        if (!index->occupied[i]) continue;
        const uint64_t to = find_operation(operations, occupied, n - 1, index->operations[i]);
        operations[to] = index->operations[i];
        occupied[to] = 1;
    }
    free(index->operations), free(index->occupied);
    index->operations = operations;
    index->occupied = occupied;
    index->operation_mask = n - 1;
    return 1;
}

int32_t ns_operation_add(ns_index *index, int64_t id) {
    int32_t status = NS_E_MEMORY;
    pthread_mutex_lock(&index->lock);
    if ((uint64_t)index->n_operations * 2 <= index->operation_mask || grow_operations(index)) {
        const uint64_t i = find_operation(index->operations, index->occupied, index->operation_mask, id);
        status = index->occupied[i] ? NS_REPEATED : NS_OK;
        if (status == NS_OK) {
            index->operations[i] = id;
            index->occupied[i] = 1;
            index->n_operations++;
        }
    }
    pthread_mutex_unlock(&index->lock);
    return status;
}

int64_t ns_index_operations(ns_index *index, int64_t capacity, int64_t *ids) {
    pthread_mutex_lock(&index->lock);
    const int64_t n = index->n_operations;
    for (uint64_t i = 0, at = 0; n <= capacity && i <= index->operation_mask; i++)
        if (index->occupied[i]) ids[at++] = index->operations[i];
    pthread_mutex_unlock(&index->lock);
    return n;
}

int32_t ns_index_restore_operations(ns_index *index, const int64_t *ids, int64_t n) {
    uint64_t size = LEAST_OPERATIONS;
    while (size < (uint64_t)n * 2) size *= 2;
    int64_t *operations = malloc(size * sizeof *operations), n_operations = 0;
    uint8_t *occupied = calloc(size, 1);
    if (!operations || !occupied) {
        free(operations), free(occupied);
        return NS_E_MEMORY;
    }
    for (int64_t i = 0; i < n; i++) {
        const uint64_t at = find_operation(operations, occupied, size - 1, ids[i]);
        n_operations += !occupied[at];
        operations[at] = ids[i];
        occupied[at] = 1;
    }
    pthread_mutex_lock(&index->lock);
    free(index->operations), free(index->occupied);
    index->operations = operations;
    index->occupied = occupied;
    index->operation_mask = size - 1;
    index->n_operations = n_operations;
    pthread_mutex_unlock(&index->lock);
    return NS_OK;
}
