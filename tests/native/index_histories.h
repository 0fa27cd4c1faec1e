/* Histories of threads on one index of bindings (index_histories.c). */
#ifndef NS_INDEX_HISTORIES_H
#define NS_INDEX_HISTORIES_H

#include <stdint.h>

int64_t check_index_histories(void); /* how often one was not as it must be */

#endif
