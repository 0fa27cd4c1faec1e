/* Typed ids: one integer that says whether it names a concept or an episode.
 *
 * The lowest bit is the type, the others are the plain id, which must lie in [-2^62, 2^62). Whoever knows from the
 * context what an id names, as the index of bindings does of its arguments, takes plain ids: any int64. */
#ifndef NS_IDS_H
#define NS_IDS_H

#include <stdint.h>

enum { NS_EPISODE_ID = 0, NS_CONCEPT_ID = 1 };

static inline int64_t ns_typed_id(int64_t id, int32_t type) { return (int64_t)((uint64_t)id << 1) | type; }
static inline int32_t ns_is_concept(int64_t typed) { return typed & NS_CONCEPT_ID; }
static inline int64_t ns_plain_id(int64_t typed) { return typed >> 1; }

#endif
