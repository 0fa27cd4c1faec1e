/* The registry of the library's operations: one line in operations.c is a test (driver.c runs it on every instruction
 * set, against scalar) and a benchmark (benchmarks/measure.c). */
#ifndef NS_OPERATIONS_H
#define NS_OPERATIONS_H

#include "internal.h"

/* What an operation may read and what it writes. Arrays lie on cache lines; those that an operation has no use for are
 * NULL. */
typedef struct {
    int64_t n, d; /* vectors of d dimensions, or n bindings */
    float *rows, *panels; /* the vectors, and the same packed to unit length */
    double *norms;
    int64_t bad_row;
    int16_t *words; /* of the 16-bit copy, with scales and error */
    float *scales;
    double error;
    ns_cells cells; /* of the vectors, with the arrays that it points to: */
    float *units, *errors, *centre_scales;
    int64_t *numbers, *starts;
    int8_t *bytes, *centre_bytes;
    uint8_t *allowed;
    float *matrix; /* n x n similarities; with sums and counts what a chain consumes */
    double *sums, *counts;
    ns_digits digits; /* how coordinates become a sketch; then it, with terms */
    float *coordinates;
    double *terms;
    uint8_t *left;
    int8_t *right;
    int32_t *offsets;
    int64_t *order;
    uint64_t *lists; /* of neighbours: what an agglomeration starts from */
    float *rates;
    int64_t *times; /* of the bindings, or of the vectors */
    uint32_t *fan_out;
    ns_index *index; /* of n bindings, these: */
    int64_t *concepts, *episodes;
    void *out;
    int64_t n_out_bytes;
} workload;

typedef struct {
    const char *name;
    int64_t n, d; /* the size that is measured */
    void (*prepare)(workload *w);
    int32_t (*call)(workload *w, int32_t isa, int32_t threads); /* NS_OK, or what went wrong */
} operation;

extern const operation operations[];
extern const int n_operations;

/* What o works on, at n and d: the same every time. Aborts if memory is short. */
workload prepare(const operation *o, int64_t n, int64_t d);
void release(workload *w);

#endif
