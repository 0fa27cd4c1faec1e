/* Allocations of an index that fail, one after the other (index_memory.c). */
#ifndef NS_INDEX_MEMORY_H
#define NS_INDEX_MEMORY_H

#include <stdint.h>

int64_t check_failing_allocations(void); /* how often one changed what it must not */

#endif
