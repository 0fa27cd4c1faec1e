/* Measures one operation of the registry (tests/native/operations.c), without Python.
 *
 *     measure list                      names
 *     measure once NAME ISA             one call; prints how many blocks and bytes it allocated
 *     measure counters NAME ISA CALLS   hardware counters a call, where the kernel gives them
 *
 * Valgrind collects within `measured` alone: neither preparing nor the loader counts. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "allocations.h"
#include "operations.h"

int32_t measured(const operation *o, workload *w, int32_t isa);

__attribute__((noinline, noclone)) int32_t measured(const operation *o, workload *w, int32_t isa) {
    return o->call(w, isa, 1);
}

static void require(int holds, const char *what, const char *name) {
    if (holds) return;
    fprintf(stderr, "measure: %s %s\n", what, name);
    exit(2);
}

static const operation *find_operation(const char *name) {
    int i = 0;
    while (i < n_operations && strcmp(operations[i].name, name)) i++;
    require(i < n_operations, "no such operation:", name);
    return &operations[i];
}

static int32_t find_isa(const char *name) {
    int32_t isa = NS_SCALAR;
    while (isa < NS_N_ISAS && strcmp(ns_isa_name(isa), name)) isa++;
    require(isa < NS_N_ISAS && ns_table(isa), "this CPU lacks the instruction set", name);
    return isa;
}

static void once(const operation *o, int32_t isa) {
    workload w = prepare(o, o->n, o->d);
    int64_t n, n_bytes;
    allocations_reset(0);
    const int32_t status = measured(o, &w, isa);
    allocations_read(&n, &n_bytes);
    require(status == NS_OK, "a failed call of", o->name);
    printf("allocations %lld\nallocated bytes %lld\n", (long long)n, (long long)n_bytes);
    release(&w);
}

static const struct {
    const char *name;
    uint32_t type;
    uint64_t config;
} events[] = {
    {"cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    {"instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    {"cache references", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_REFERENCES},
    {"cache misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
    {"branches", PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_INSTRUCTIONS},
    {"branch misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_MISSES},
    {"nanoseconds", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK},
    {"page faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS},
};

static const char *reason(int error) {
    switch (error) {
        case EACCES:
        case EPERM: return "not allowed: kernel.perf_event_paranoid, or a container's filter";
        case ENOENT:
        case ENODEV:
        case EOPNOTSUPP: return "the CPU, or the virtual one, has no such counter";
        case ENOSYS: return "the kernel is built without perf_event_open";
        default: return strerror(error);
    }
}

/* One event at a time, so that none is scaled for want of a register. */
static void count_event(size_t e, const operation *o, int32_t isa, int64_t calls) {
    struct perf_event_attr attributes = {.size = sizeof attributes, .type = events[e].type, .config = events[e].config,
                                         .disabled = 1, .exclude_kernel = 1, .exclude_hv = 1};
    const int counter = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
    if (counter < 0) {
        printf("  %s: not available here: %s (%s)\n", events[e].name, strerrorname_np(errno), reason(errno));
        return;
    }
    uint64_t value;
    for (int64_t c = -1; c < calls; c++) { /* the first is to warm up */
        workload w = prepare(o, o->n, o->d);
        if (c == 0) ioctl(counter, PERF_EVENT_IOC_RESET, 0);
        ioctl(counter, PERF_EVENT_IOC_ENABLE, 0);
        const int32_t status = measured(o, &w, isa);
        ioctl(counter, PERF_EVENT_IOC_DISABLE, 0);
        require(status == NS_OK, "a failed call of", o->name);
        release(&w);
    }
    require(read(counter, &value, sizeof value) == sizeof value, "cannot read", events[e].name);
    printf("  %s: %.1f\n", events[e].name, (double)value / (double)calls);
    close(counter);
}

int main(int n_arguments, char **arguments) {
    const char *mode = n_arguments > 1 ? arguments[1] : "";
    if (!strcmp(mode, "list") && n_arguments == 2) {
        for (int i = 0; i < n_operations; i++) puts(operations[i].name);
    } else if (!strcmp(mode, "once") && n_arguments == 4) {
        once(find_operation(arguments[2]), find_isa(arguments[3]));
    } else if (!strcmp(mode, "counters") && n_arguments == 5) {
        const int64_t calls = atoll(arguments[4]);
        require(calls > 0, "calls must be a positive number, got", arguments[4]);
        for (size_t e = 0; e < sizeof events / sizeof *events; e++)
            count_event(e, find_operation(arguments[2]), find_isa(arguments[3]), calls);
    } else {
        fprintf(stderr, "usage: measure list | once NAME ISA | counters NAME ISA CALLS\n");
        return 2;
    }
    return 0;
}
