/* The only threads of the library: a team of pthreads per call, sharing a counter of items.
 *
 * A team is started and joined inside each call: no pool to keep, so nothing survives a fork, and every thread inherits
 * the CPU affinity and the memory policy of its caller. A thread costs 60 to 100 us, so there are no more than the work
 * is worth. Which thread takes which item never shows in a result: items write disjoint outputs. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* CPU affinity */
#endif
#include "internal.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#ifndef NS_WORTH_NS /* tests start threads for any work */
#define NS_WORTH_NS 500000 /* work of a thread: where its CPU has other work, all wait for its last item */
#endif

enum { STACK_BYTES = 1 << 20 };

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

/* Linux may create a thread on the CPU of its creator, who is at work there, and move it only milliseconds later: in a
 * virtual machine, where it does not see which CPUs are idle. So each starts on the next CPU that the caller may use, and
 * from then on runs where the kernel likes. */
#ifdef __linux__
typedef struct {
    cpu_set_t allowed;
    int cpu;
} places;

static places places_of_caller(void) {
    places p = {.cpu = sched_getcpu()};
    if (sched_getaffinity(0, sizeof p.allowed, &p.allowed)) CPU_ZERO(&p.allowed);
    return p;
}

static int start(pthread_t *thread, pthread_attr_t *attributes, team *t, places *p) {
    if (!CPU_COUNT(&p->allowed)) return pthread_create(thread, attributes, work, t); /* more CPUs than a set holds */
    do p->cpu = (p->cpu + 1) % CPU_SETSIZE;
    while (!CPU_ISSET(p->cpu, &p->allowed));
    cpu_set_t next;
    CPU_ZERO(&next);
    CPU_SET(p->cpu, &next);
    pthread_attr_setaffinity_np(attributes, sizeof next, &next);
    const int status = pthread_create(thread, attributes, work, t);
    if (!status) pthread_setaffinity_np(*thread, sizeof p->allowed, &p->allowed);
    return status;
}
#else
typedef struct {
    int unknown;
} places;

static places places_of_caller(void) { return (places){0}; }

static int start(pthread_t *thread, pthread_attr_t *attributes, team *t, places *p) {
    (void)p;
    return pthread_create(thread, attributes, work, t);
}
#endif

int32_t ns_parallel(void (*body)(void *, int64_t), void *context, int64_t n_items, double item_ns, int32_t threads) {
    team t = {.body = body, .context = context, .n_items = n_items};
    pthread_t others[NS_MOST_THREADS];
    int32_t started = 0, status = NS_OK;
    const double worth = (double)n_items * item_ns / NS_WORTH_NS;
    if (threads > worth) threads = (int32_t)worth;
    if (threads > n_items) threads = (int32_t)n_items;
    if (threads > NS_MOST_THREADS) threads = NS_MOST_THREADS;
    if (threads > 1) {
        pthread_attr_t attributes;
        if (pthread_attr_init(&attributes)) return NS_E_MEMORY;
        if (pthread_attr_setstacksize(&attributes, STACK_BYTES)) status = NS_E_MEMORY;
        places p = places_of_caller();
        while (status == NS_OK && started < threads - 1) {
            if (start(&others[started], &attributes, &t, &p)) break; /* fewer threads do the same work */
            started++;
        }
        pthread_attr_destroy(&attributes);
    }
    if (status == NS_OK) work(&t);
    for (int32_t i = 0; i < started; i++) pthread_join(others[i], NULL);
    return status;
}
