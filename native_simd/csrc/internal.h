/* What the C files share: the ABI, the kernel table and the team of threads. */
#ifndef NS_INTERNAL_H
#define NS_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "native_simd.h"

/* One table per instruction set. All kernels of a table return the same bits as those of every other table. */
typedef struct {
    const char *name;
    /* c[a_panels * 16][NS_TILE_ROWS] = similarities of a_panels panels with b_panels panels, unfinished: the raw
     * accumulators. Six arguments, no calls: it runs on an emulated CPU as it is. */
    void (*tile_dot)(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c);
    void (*tile_sqeuclidean)(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c);
    /* out[j][i] = in[i][j] for rows x columns; strides in elements. */
    void (*transpose)(const float *in, int64_t in_stride, int64_t rows, int64_t columns, float *out,
                      int64_t out_stride);
    /* max over j of row[j] + bias[j] (bias is 0 or -infinity) */
    float (*row_max)(const float *row, const float *bias, int64_t n);
    /* ascending j with row[j] + bias[j] >= threshold; returns their number, all of them written */
    int64_t (*row_at_least)(const float *row, const float *bias, int64_t n, float threshold, int32_t *found);
} ns_kernels;

extern const ns_kernels ns_kernels_scalar;
#if defined(__x86_64__)
extern const ns_kernels ns_kernels_avx2;
extern const ns_kernels ns_kernels_avx512;
void ns_transpose_sse(const float *in, int64_t in_stride, int64_t rows, int64_t columns, float *out,
                      int64_t out_stride);
#elif defined(__aarch64__)
extern const ns_kernels ns_kernels_neon;
#endif

/* NULL when the instruction set is not available (dispatch.c). */
const ns_kernels *ns_table(int32_t isa);

/* Calls body(context, item) for item = 0..n_items-1 from up to `threads` threads (threads.c). */
int32_t ns_parallel(void (*body)(void *context, int64_t item), void *context, int64_t n_items, int32_t threads);

#endif
