/* The epilogue of the pairwise pass: rows of a tile, one after the other, while the tile is in L2. */
#include "epilogue.h"

#include <float.h>
#include <math.h>

int32_t ns_prepare_epilogue(int32_t isa, int32_t metric, const ns_temporal *temporal, const ns_sigmoid *sigmoid,
                            ns_epilogue *epilogue) {
    *epilogue = (ns_epilogue){
        .kernels = ns_lane_table(isa), .has_temporal = temporal != NULL, .has_sigmoid = sigmoid != NULL};
    if (!epilogue->kernels) return NS_E_ISA;
    if ((temporal || sigmoid) && metric != NS_COSINE) return NS_E_ARGUMENT;
    if (temporal) {
        if (!(temporal->half_life > 0.0)) return NS_E_ARGUMENT;
        epilogue->a_times = temporal->a_times;
        epilogue->b_times = temporal->b_times;
        epilogue->per_tick = fmin(1.0 / temporal->half_life, DBL_MAX); /* finite, so that no time is no decay */
    }
    if (sigmoid) {
        if (!(sigmoid->slope > 0.0 && sigmoid->slope <= DBL_MAX && fabs(sigmoid->midpoint) <= DBL_MAX))
            return NS_E_ARGUMENT;
        const double per_unit = fmin(sigmoid->slope * 0x1.71547652b82fep+0, DBL_MAX); /* 1 / ln 2 */
        epilogue->step = (ns_sigmoid_step){sigmoid->midpoint, per_unit};
    }
    return NS_OK;
}

void ns_apply_epilogue(const ns_epilogue *epilogue, float *tile, int64_t i0, int64_t rows, int64_t j0,
                       int64_t columns) {
    const int64_t n = (columns + NS_LANES - 1) / NS_LANES * NS_LANES;
    int64_t times[NS_TILE_ROWS]; /* as many as the panels have lanes: b_times may end before */
    for (int64_t j = 0; epilogue->has_temporal && j < n; j++) times[j] = j < columns ? epilogue->b_times[j0 + j] : 0;
    for (int64_t i = 0; i < rows; i++) {
        float *row = tile + i * NS_TILE_ROWS;
        if (epilogue->has_temporal) {
            const ns_fade_step step = {epilogue->a_times[i0 + i], epilogue->per_tick};
            epilogue->kernels->fade(row, times, n, &step);
        }
        if (epilogue->has_sigmoid) epilogue->kernels->sigmoid(row, n, &epilogue->step);
    }
}
