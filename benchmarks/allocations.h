/* Blocks of at least from_bytes that this process took from malloc and its kin since the last reset. */
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

#include <stdint.h>

void allocations_reset(int64_t from_bytes);
void allocations_read(int64_t *n, int64_t *n_bytes);

#endif
