/* Kernel calls in the form that the tests can make on any machine, emulated or not: integers and pointers only. */
#include "internal.h"

void shim_row_max(const ns_kernels *kernels, const float *row, const float *bias, int64_t n, float *best) {
    *best = kernels->row_max(row, bias, n);
}

int64_t shim_row_at_least(const ns_kernels *kernels, const float *row, const float *bias, int64_t n,
                          const float *threshold, int32_t *found) {
    return kernels->row_at_least(row, bias, n, *threshold, found);
}
