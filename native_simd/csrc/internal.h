/* What the C files share: the ABI, the kernel table and the team of threads. */
#ifndef NS_INTERNAL_H
#define NS_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "native_simd.h"

static inline int64_t ns_least(int64_t x, int64_t y) { return x < y ? x : y; }

/* Panels of n vectors. */
static inline int64_t ns_panels(int64_t n) { return (n + NS_LANES - 1) / NS_LANES; }

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
    /* out[n_panels * 16] = dot products of the panels' vectors with one vector of d contiguous elements, unfinished;
     * each panel is read once, from start to end. No calls. */
    void (*vector_dot)(const float *vector, const float *panels, int64_t d, int64_t n_panels, float *out);
    /* The same of the panels which[0..n_panels-1] alone; six arguments. No calls. */
    void (*vector_dot_of)(const float *vector, const float *panels, int64_t d, const int64_t *which, int64_t n_panels,
                          float *out);
    /* ascending j with row[j] >= *threshold or row[j] >= thresholds[j] (no NaN); returns their number. No calls. */
    int64_t (*row_at_least_either)(const float *row, const float *thresholds, int64_t n, const float *threshold,
                                   int32_t *found);
    /* sums[n_panels * 16] = inner products of the panels' vectors with one vector, all of n_pairs pairs of 16-bit
     * integers: those of pair k of a panel's 16 vectors lie at panels + 32 k. No sum overflows (quantized.c). No calls. */
    void (*quantized_dot)(const int16_t *vector, const int16_t *panels, int64_t n_pairs, int64_t n_panels,
                          int32_t *sums);
    /* The same of panels of 8-bit integers. */
    void (*bytes_dot)(const int16_t *vector, const int8_t *panels, int64_t n_pairs, int64_t n_panels, int32_t *sums);
    /* out[c] = inner product of one vector with row which[c] of those at rows, in one chain as in tile_dot, unfinished;
     * six arguments. No calls. */
    void (*row_dot_of)(const float *vector, const float *rows, int64_t d, const int64_t *which, int64_t n, float *out);
} ns_kernels;

extern const ns_kernels ns_kernels_scalar;
#if defined(__x86_64__)
extern const ns_kernels ns_kernels_avx2;
extern const ns_kernels ns_kernels_avx512;
void ns_quantized_dot_avx2(const int16_t *vector, const int16_t *panels, int64_t n_pairs, int64_t n_panels,
                           int32_t *sums);
void ns_bytes_dot_avx2(const int16_t *vector, const int8_t *panels, int64_t n_pairs, int64_t n_panels, int32_t *sums);
#elif defined(__aarch64__)
extern const ns_kernels ns_kernels_neon;
#endif

/* out[j][i] = in[i][j], as the entry of a table (transpose.c). */
void ns_transpose(const float *in, int64_t in_stride, int64_t rows, int64_t columns, float *out, int64_t out_stride);

/* NULL when the instruction set is not available (dispatch.c). */
const ns_kernels *ns_table(int32_t isa);

/* Calls body(context, item) for item = 0..n_items-1 from up to `threads` threads, fewer where items that take one
 * thread some `item_ns` are not worth their start, and at most NS_MOST_THREADS (threads.c). */
enum { NS_MOST_THREADS = 256 };
int32_t ns_parallel(void (*body)(void *context, int64_t item), void *context, int64_t n_items, double item_ns,
                    int32_t threads);

/* Bytes of a page of memory (numa.c). */
int64_t ns_page_bytes(void);

/* Nanoseconds of a tile of m rows and n columns or, of more, a full one: of 64 multiply-adds each, as AVX2 does at 4 GHz
 * (pairwise.c). */
double ns_tile_ns(int64_t m, int64_t n, int64_t d);

/* Raw accumulators to similarities, in place: rows of a tile (pairwise.c). */
void ns_finish(int32_t metric, float *tile, int64_t rows, int64_t columns);

/* tile[rows][NS_TILE_ROWS] = similarities of rows vectors with columns vectors, up to NS_TILE_ROWS each (pairwise.c). */
void ns_similarity_tile(const ns_kernels *kernels, int32_t metric, const float *a, int64_t rows, const float *b,
                        int64_t columns, int64_t d, float *tile);

/* out[n] = cosines of the n vectors in panels with a unit vector of d contiguous elements (search.c). */
void ns_vector_similarities(const ns_kernels *kernels, const float *unit, const float *panels, int64_t n, int64_t d,
                            float *out);

/* Fewer queries than this take the kernel for one vector: a panel of 16 at the tile kernel's speed costs about what 8
 * queries cost one by one. */
enum { NS_FEW = NS_LANES / 2 };

/* Float64 arithmetic on sums of clusters (exact.c): the inner product, and the squared distance of the means. */
double ns_sums_dot(const double *a, const double *b, int64_t d);
double ns_centroid_sqdistance(const double *a, double a_weight, const double *b, double b_weight, int64_t d);

/* Place number t of a triangle of n lines that is counted line by line, line l having n - l places (pairwise.c). */
void ns_triangle_place(int64_t n, int64_t t, int64_t *line, int64_t *place);

/* Offers a tile of finished similarities to the ranked lists of its rows (candidates first_column, ...) and of its
 * columns (candidates first_row, ...). column_lists is NULL where only rows have lists, and row_lists on the diagonal,
 * where no row is its own candidate (ranking.c). */
void ns_rank_tile(const ns_kernels *kernels, const float *tile, int64_t rows, int64_t columns, int64_t first_row,
                  int64_t first_column, int64_t width, uint64_t *row_lists, uint64_t *column_lists);

/* Offers one candidate to a list, and the similarity in its last place: -INFINITY while it is not full (ranking.c). */
void ns_offer(uint64_t *list, int64_t width, float similarity, int64_t index);
float ns_least_listed(const uint64_t *list, int64_t width);

#endif
