/* Counts what a program allocates: linked into it, or preloaded (LD_PRELOAD). glibc only. */
#define _GNU_SOURCE
#include "allocations.h"

#include <errno.h>
#include <stddef.h>

void *__libc_malloc(size_t n_bytes);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *memory, size_t n_bytes);
void *__libc_memalign(size_t alignment, size_t n_bytes);

static _Atomic int64_t count, sum_bytes, smallest_bytes;

static void note(size_t n_bytes) {
    if ((int64_t)n_bytes < smallest_bytes) return;
    count++;
    sum_bytes += (int64_t)n_bytes;
}

void allocations_reset(int64_t from_bytes) {
    count = sum_bytes = 0;
    smallest_bytes = from_bytes;
}

void allocations_read(int64_t *n, int64_t *n_bytes) {
    *n = count;
    *n_bytes = sum_bytes;
}

void *malloc(size_t n_bytes) {
    note(n_bytes);
    return __libc_malloc(n_bytes);
}

void *calloc(size_t n, size_t size) {
    note(n * size); /* calloc itself refuses a product that overflows */
    return __libc_calloc(n, size);
}

void *realloc(void *memory, size_t n_bytes) {
    note(n_bytes);
    return __libc_realloc(memory, n_bytes);
}

void *aligned_alloc(size_t alignment, size_t n_bytes) {
    note(n_bytes);
    return __libc_memalign(alignment, n_bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t n_bytes) {
    note(n_bytes);
    *memory = __libc_memalign(alignment, n_bytes);
    return *memory ? 0 : ENOMEM;
}
