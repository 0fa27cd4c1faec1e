/* What no method can beat, measured with the library's own kernels: the triangle of similarities that nobody looks at,
 * one pass over memory. And calls timed where they are made, without the cost of calling from Python. */
#include <immintrin.h>
#include <math.h>
#include <time.h>

#include "internal.h"

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
    const ns_kernels *kernels;
    const float *panels;
    int64_t n, d, n_blocks;
} triangle;

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

static void compute(void *context, int64_t item) {
    _Alignas(64) float tile[NS_TILE_ROWS * NS_TILE_ROWS];
    const triangle *t = context;
    int64_t row, right;
    ns_triangle_place(t->n_blocks, item, &row, &right);
    const int64_t i0 = row * NS_TILE_ROWS, j0 = (row + right) * NS_TILE_ROWS;
    ns_similarity_tile(t->kernels, NS_COSINE, t->panels + i0 * t->d, least(NS_TILE_ROWS, t->n - i0),
                       t->panels + j0 * t->d, least(NS_TILE_ROWS, t->n - j0), t->d, tile);
}

double triangle_s(int32_t isa, const float *panels, int64_t n, int64_t d, int32_t threads) {
    const int64_t n_blocks = (n + NS_TILE_ROWS - 1) / NS_TILE_ROWS;
    triangle t = {ns_table(isa), panels, n, d, n_blocks};
    const double start = now_s();
    ns_parallel(compute, &t, n_blocks * (n_blocks + 1) / 2, INFINITY, threads);
    return now_s() - start;
}

double batch_s(int32_t isa, const float *unit, const float *vectors, int64_t n, int64_t d, float *out, int64_t calls) {
    const double start = now_s();
    for (int64_t c = 0; c < calls; c++) ns_vector_similarities(ns_table(isa), unit, vectors, n, d, out);
    return (now_s() - start) / (double)calls;
}

enum { AHEAD = 64 }; /* lines asked for in time: a third faster on one thread than without */

typedef uint64_t line __attribute__((vector_size(64)));

typedef struct {
    const line *lines;
    int64_t n_lines, part;
    _Atomic uint64_t sum;
} reading;

static void read_part(void *context, int64_t item) {
    reading *r = context;
    const line *from = r->lines + item * r->part;
    const int64_t n = least(r->part, r->n_lines - item * r->part) & ~(int64_t)3;
    line sums[4] = {{0}, {0}, {0}, {0}}, all;
    for (int64_t i = 0; i < n; i += 4)
        for (int s = 0; s < 4; s++) {
            __builtin_prefetch(from + i + s + AHEAD);
            sums[s] ^= from[i + s];
        }
    all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
    r->sum ^= all[0] ^ all[1] ^ all[2] ^ all[3] ^ all[4] ^ all[5] ^ all[6] ^ all[7];
}

/* Reads aligned memory from start to end, in parts of 1 MiB. */
double read_s(const float *memory, int64_t n, int32_t threads) {
    reading r = {.lines = (const line *)memory, .n_lines = n / 16, .part = 1 << 14};
    const double start = now_s();
    ns_parallel(read_part, &r, (r.n_lines + r.part - 1) / r.part, INFINITY, threads);
    return now_s() - start;
}

/* Fused multiply-adds that wait for nothing, in as many chains as hide their latency on two ports. */
enum { CHAINS = 12, STEPS = 1 << 24 };

typedef struct {
    int32_t isa;
    _Atomic int32_t kept; /* so that nothing is left out */
} multiplying;

__attribute__((target("avx2,fma"))) static float multiply_avx2(void) {
    __m256 sums[CHAINS], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1.0f), all = b;
    for (int c = 0; c < CHAINS; c++) sums[c] = _mm256_set1_ps((float)c);
    for (int i = 0; i < STEPS; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) sums[c] = _mm256_fmadd_ps(sums[c], a, b);
    for (int c = 0; c < CHAINS; c++) all = _mm256_add_ps(all, sums[c]);
    return _mm256_cvtss_f32(all);
}

__attribute__((target("avx512f"))) static float multiply_avx512(void) {
    __m512 sums[CHAINS], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1.0f), all = b;
    for (int c = 0; c < CHAINS; c++) sums[c] = _mm512_set1_ps((float)c);
    for (int i = 0; i < STEPS; i++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) sums[c] = _mm512_fmadd_ps(sums[c], a, b);
    for (int c = 0; c < CHAINS; c++) all = _mm512_add_ps(all, sums[c]);
    return _mm512_cvtss_f32(all);
}

static void multiply(void *context, int64_t item) {
    multiplying *m = context;
    (void)item;
    m->kept += (int32_t)(m->isa == NS_AVX512 ? multiply_avx512() : multiply_avx2());
}

/* Seconds for 2 * CHAINS * STEPS operations in each lane of each thread. */
double multiply_s(int32_t isa, int32_t threads) {
    multiplying m = {.isa = isa};
    const double start = now_s();
    ns_parallel(multiply, &m, threads, INFINITY, threads);
    return now_s() - start;
}
