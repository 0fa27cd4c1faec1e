/* The registry of operations, for who calls it from Python. */
#include "operations.h"

#include <stdlib.h>

const char *operation_name(int32_t i) { return i < n_operations ? operations[i].name : NULL; }

workload *operation_prepare(int32_t i) {
    workload *w = malloc(sizeof *w);
    if (!w) abort();
    *w = prepare(&operations[i], operations[i].n, operations[i].d);
    return w;
}

int32_t operation_call(int32_t i, workload *w, int32_t isa) { return operations[i].call(w, isa, 1); }

void operation_release(workload *w) {
    release(w);
    free(w);
}
