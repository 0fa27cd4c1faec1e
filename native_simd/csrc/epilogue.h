/* What the pairwise pass does to a tile of cosines before it writes them. */
#ifndef NS_EPILOGUE_H
#define NS_EPILOGUE_H

#include "lanes.h"

typedef struct {
    const ns_lane_kernels *kernels;
    const int64_t *a_times, *b_times;
    double per_tick; /* half-lives that pass in a tick */
    ns_sigmoid_step step;
    int has_temporal, has_sigmoid;
} ns_epilogue;

/* Checks the two parts, either of which may be NULL, and works out their scalars. Returns a status. */
int32_t ns_prepare_epilogue(int32_t isa, int32_t metric, const ns_temporal *temporal, const ns_sigmoid *sigmoid,
                            ns_epilogue *epilogue);

/* In place, on the similarities of vectors i0.. of a with vectors j0.. of b. */
void ns_apply_epilogue(const ns_epilogue *epilogue, float *tile, int64_t i0, int64_t rows, int64_t j0, int64_t columns);

#endif
