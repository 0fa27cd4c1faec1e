/* Transposition with the vectors that every CPU of the architecture has, so it needs no choice: packing and the tables
 * of the vector sets share it. */
#include "internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

static inline void transpose4(const float *in, int64_t in_stride, float *out, int64_t out_stride) {
    __m128 r0 = _mm_loadu_ps(in), r1 = _mm_loadu_ps(in + in_stride);
    __m128 r2 = _mm_loadu_ps(in + 2 * in_stride), r3 = _mm_loadu_ps(in + 3 * in_stride);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(out, r0);
    _mm_storeu_ps(out + out_stride, r1);
    _mm_storeu_ps(out + 2 * out_stride, r2);
    _mm_storeu_ps(out + 3 * out_stride, r3);
}
#elif defined(__aarch64__)
#include <arm_neon.h>

static inline void transpose4(const float *in, int64_t in_stride, float *out, int64_t out_stride) {
    const float32x4x2_t upper = vtrnq_f32(vld1q_f32(in), vld1q_f32(in + in_stride));
    const float32x4x2_t lower = vtrnq_f32(vld1q_f32(in + 2 * in_stride), vld1q_f32(in + 3 * in_stride));
    for (int j = 0; j < 2; j++) {
        vst1q_f32(out + j * out_stride, vcombine_f32(vget_low_f32(upper.val[j]), vget_low_f32(lower.val[j])));
        vst1q_f32(out + (j + 2) * out_stride, vcombine_f32(vget_high_f32(upper.val[j]), vget_high_f32(lower.val[j])));
    }
}
#else
static inline void transpose4(const float *in, int64_t in_stride, float *out, int64_t out_stride) {
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++) out[j * out_stride + i] = in[i * in_stride + j];
}
#endif

/* 4 x 4 blocks in registers: the writes, not the shuffles, are what costs. */
void ns_transpose(const float *in, int64_t in_stride, int64_t rows, int64_t columns, float *out, int64_t out_stride) {
    const int64_t rows4 = rows & ~(int64_t)3, columns4 = columns & ~(int64_t)3;
    for (int64_t j = 0; j < columns4; j += 4)
        for (int64_t i = 0; i < rows4; i += 4)
            transpose4(in + i * in_stride + j, in_stride, out + j * out_stride + i, out_stride);
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = j < columns4 ? rows4 : 0; i < rows; i++) out[j * out_stride + i] = in[i * in_stride + j];
}
