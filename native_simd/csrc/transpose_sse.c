/* Transposition with SSE, which every x86-64 CPU has: the tables for AVX2 and AVX-512 share it. */
#include "internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* 4 x 4 blocks in 128-bit registers: the writes, not the shuffles, are what costs. */
void ns_transpose_sse(const float *in, int64_t in_stride, int64_t rows, int64_t columns, float *out,
                      int64_t out_stride) {
    const int64_t rows4 = rows & ~(int64_t)3, columns4 = columns & ~(int64_t)3;
    for (int64_t j = 0; j < columns4; j += 4)
        for (int64_t i = 0; i < rows4; i += 4) {
            __m128 r0 = _mm_loadu_ps(in + i * in_stride + j), r1 = _mm_loadu_ps(in + (i + 1) * in_stride + j);
            __m128 r2 = _mm_loadu_ps(in + (i + 2) * in_stride + j), r3 = _mm_loadu_ps(in + (i + 3) * in_stride + j);
            _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
            _mm_storeu_ps(out + j * out_stride + i, r0);
            _mm_storeu_ps(out + (j + 1) * out_stride + i, r1);
            _mm_storeu_ps(out + (j + 2) * out_stride + i, r2);
            _mm_storeu_ps(out + (j + 3) * out_stride + i, r3);
        }
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = j < columns4 ? rows4 : 0; i < rows; i++) out[j * out_stride + i] = in[i * in_stride + j];
}
#endif
