/* The only threads of the library: a team of pthreads per call, sharing a counter of items.
 *
 * A team is started and joined inside each call (about 30 us a thread): no pool to keep, so nothing survives a fork,
 * and every thread inherits the CPU affinity and the memory policy of its caller. Which thread takes which item
 * never shows in a result: items write disjoint outputs. */
#include <pthread.h>
#include <stdatomic.h>

#include "internal.h"

enum { MAX_THREADS = 256, STACK_BYTES = 1 << 20 };

typedef struct {
    void (*body)(void *, int64_t);
    void *context;
    int64_t n_items;
    _Atomic int64_t next;
} team;

static void *work(void *argument) {
    team *t = argument;
    for (;;) {
        const int64_t item = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
        if (item >= t->n_items) return NULL;
        t->body(t->context, item);
    }
}

int32_t ns_parallel(void (*body)(void *, int64_t), void *context, int64_t n_items, int32_t threads) {
    team t = {.body = body, .context = context, .n_items = n_items};
    pthread_t others[MAX_THREADS];
    int32_t started = 0, status = NS_OK;
    if (threads > n_items) threads = (int32_t)n_items;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads > 1) {
        pthread_attr_t attributes;
        if (pthread_attr_init(&attributes)) return NS_E_MEMORY;
        if (pthread_attr_setstacksize(&attributes, STACK_BYTES)) status = NS_E_MEMORY;
        while (status == NS_OK && started < threads - 1) {
            if (pthread_create(&others[started], &attributes, work, &t)) break; /* fewer threads do the same work */
            started++;
        }
        pthread_attr_destroy(&attributes);
    }
    if (status == NS_OK) work(&t);
    for (int32_t i = 0; i < started; i++) pthread_join(others[i], NULL);
    return status;
}
