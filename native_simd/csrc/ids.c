/* Typed ids by the array; one at a time they are inline. */
#include "ids.h"
#include "internal.h"

_Static_assert(-1 >> 1 == -1, "a shift keeps the sign");

void ns_are_concepts(const int64_t *ids, int64_t n, uint8_t *concepts) {
    for (int64_t i = 0; i < n; i++) concepts[i] = (uint8_t)ns_is_concept(ids[i]);
}
