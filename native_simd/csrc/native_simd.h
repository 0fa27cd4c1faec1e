/* The whole ABI of the native library. Free of preprocessor lines, so that cffi parses the very file that C includes.
 *
 * Conventions: n, m, d and strides count elements, never bytes. Functions return NS_OK (0) or one of the negative
 * NS_E... codes, unless their comment says otherwise. Nothing here keeps global state: the instruction set is an
 * argument. "Panels" are 16 vectors interleaved dimension by dimension: element k of vector v is
 * panels[(v / 16) * 16 * d + k * 16 + v % 16]; lanes past the last vector are zero. */

enum { NS_ABI = 14 }; /* goes up with every change of this file that the typed layer depends on */

enum {
    NS_OK = 0,
    NS_E_ARGUMENT = -1, /* a size, stride or code that no caller of the typed layer can produce */
    NS_E_ISA = -2,      /* this instruction set is not compiled in, or the CPU or the OS lacks it */
    NS_E_MEMORY = -3,   /* an allocation or a thread failed */
    NS_E_ROW = -4,      /* a row is not usable; its index was written to *bad_row */
    NS_E_TWICE = -5,    /* so with a row that an earlier one forbids */
    NS_E_UNKNOWN = -6,  /* so with a row that names what is not there */
    NS_E_OVERFLOW = -7, /* a sum would be beyond its limit */
    NS_E_OUTSIDE = -8,  /* a row of a concept whose bindings are outside the index */
    NS_REPEATED = 1     /* this operation has been applied before: nothing was done */
};

enum { NS_LANES = 16, NS_TILE_ROWS = 192 };

/* Instruction sets, in rising order of preference. */
enum { NS_SCALAR = 0, NS_NEON = 1, NS_AVX2 = 2, NS_AVX512 = 3, NS_N_ISAS = 4 };

const char *ns_isa_name(int32_t isa);
int32_t ns_isa_available(int32_t isa); /* 1 or 0: compiled in, and CPU (CPUID) and OS (XCR0) support it */

/* Similarities: larger is closer. Every value is one chain over k = 0..d-1 of correctly rounded float32 operations. */
enum {
    NS_DOT = 0,         /* acc = fma(a_k, b_k, acc) */
    NS_COSINE = 1,      /* the same, of vectors packed with normalize = 1, clamped to [-1, 1] */
    NS_SQEUCLIDEAN = 2, /* t = a_k - b_k; acc = fma(t, t, acc); the value is -acc */
    NS_EUCLIDEAN = 3    /* the value is -sqrt(acc) */
};

/* Packs n rows of d float32 (row i at rows + i * stride) into panels (NULL: norms only). Writes the float64 Euclidean norm of each row,
 * summed in blocks of 64 dimensions, to norms. With normalize, packs rows divided by their norm. NS_E_ROW: a norm that is not
 * finite; without normalize, above 2^52, so that nothing computed from the panels overflows; with normalize, below the
 * float32 range (zero included). */
int32_t ns_pack(const float *rows, int64_t n, int64_t d, int64_t stride, int32_t normalize, float *panels,
                double *norms, int64_t *bad_row, int32_t threads);

/* units[n][d] = rows divided by their norms, with the bits that ns_pack gives them. NS_E_ROW: one has no direction. */
int32_t ns_unit_rows(const float *rows, int64_t n, int64_t d, int64_t stride, float *units);

/* 1 if the panels hold these rows as ns_pack packs them, with normalize if divisors, their norms, are not NULL; else 0. */
int32_t ns_is_packed(const float *rows, int64_t n, int64_t d, int64_t stride, const double *divisors,
                     const float *panels);

/* What a cosine s of vector i of a with vector j of b becomes before it is written. First, if temporal is not NULL,
 * s * 2^-(|a_times[i] - b_times[j]| / half_life), half_life > 0 in the ticks of the times; then, if sigmoid is not NULL,
 * 1 / (1 + exp(-slope * (s - midpoint))), both finite, slope > 0. README.md states the errors. */
typedef struct {
    const int64_t *a_times, *b_times;
    double half_life;
} ns_temporal;

typedef struct {
    double slope, midpoint;
} ns_sigmoid;

/* Similarities of the m vectors of a with the n vectors of b: out[i * out_stride + j]. If mirror is not NULL, also
 * mirror[j * mirror_stride + i]. */
int32_t ns_pairwise(int32_t isa, int32_t metric, const float *a, int64_t m, const float *b, int64_t n, int64_t d,
                    const ns_temporal *temporal, const ns_sigmoid *sigmoid, float *out, int64_t out_stride,
                    float *mirror, int64_t mirror_stride, int32_t threads);

/* Tiles first_tile .. first_tile + n_tiles - 1 of the upper triangle of a with itself, each pair computed once and
 * written to both halves of out. Tiles are NS_TILE_ROWS square and counted row by row. b_times are
 * a_times. */
int32_t ns_pairwise_symmetric(int32_t isa, int32_t metric, const float *a, int64_t n, int64_t d,
                              const ns_temporal *temporal, const ns_sigmoid *sigmoid, int64_t first_tile,
                              int64_t n_tiles, float *out, int64_t out_stride, int32_t threads);

/* Linkage by nearest-neighbour chain on a square float32 similarity matrix, which is consumed. */
enum { NS_AVERAGE = 0, NS_COMPLETE = 1, NS_SINGLE = 2, NS_WEIGHTED = 3, NS_WARD = 4 };

typedef struct ns_chain ns_chain;

/* counts: members of each leaf (> 0). sums (may be NULL; average, weighted): n x d float64, the sum of the members of
 * each leaf, for weighted their mean; it is consumed. With sums, every decision is taken in float64 among all candidates
 * that the float32 matrix, whose entries are within value_error of exact and at most value_bound large, cannot tell
 * apart. Returns NULL if memory is short. */
ns_chain *ns_chain_create(int32_t isa, int32_t method, float *matrix, int64_t n, int64_t stride, const double *counts,
                          double *sums, int64_t d, double value_error, double value_bound);

/* Performs up to max_merges merges; returns how many (0: the tree is complete). Merge t joins the clusters whose
 * smallest leaves are first[t] < second[t]. NS_E_ARGUMENT: the matrix is not symmetric, or value_error is too small. */
int64_t ns_chain_advance(ns_chain *chain, int64_t max_merges, int64_t *first, int64_t *second, double *similarity);

/* scans, candidates compared in float64, entries fetched from newer rows, compactions */
void ns_chain_counters(const ns_chain *chain, int64_t *counters);
void ns_chain_destroy(ns_chain *chain);

/* NUMA placement by plain system calls. Each returns >= 0, or -errno. */
int32_t ns_mempolicy_set(int32_t mode, const uint64_t *node_mask, int32_t n_words); /* this thread */
int32_t ns_mempolicy_get(int32_t *mode, uint64_t *node_mask, int32_t n_words);
int32_t ns_memory_bind(void *address, int64_t n_bytes, int32_t mode, const uint64_t *node_mask, int32_t n_words,
                       int32_t move);
int32_t ns_page_nodes(const void *address, int64_t n_bytes, int32_t *nodes, int64_t n_pages);
int32_t ns_cpu_node(int32_t *cpu, int32_t *node);

/* Bindings, in place; README.md states the errors. A strength whose rate is negative or NaN becomes NaN.
 *
 * strengths[i] *= exp(-rates[i] * dt), for 0 <= dt <= 2^127 */
int32_t ns_decay(int32_t isa, float *strengths, const float *rates, int64_t n, double dt, int32_t threads);

/* strengths[i] *= 2^-((now - last_touched[i]) / half_life), half_life > 0 in the ticks of the times, for those touched
 * before now; but what is at least floor stays at least floor. */
int32_t ns_decay_half_life(int32_t isa, float *strengths, const int64_t *last_touched, int64_t n, int64_t now,
                           double half_life, float floor, int32_t threads);

/* activations[i] /= sqrt(f), f or 1 + ln f, for f = max(fan_out[i], 1) */
enum { NS_FAN_SQRT = 0, NS_FAN_LINEAR = 1, NS_FAN_LOG = 2, NS_N_FAN_LAWS = 3 };
int32_t ns_fan_effect(int32_t isa, int32_t law, float *activations, const uint32_t *fan_out, int64_t n,
                      int32_t threads);

/* Typed ids (ids.h): concepts[i] = 1 if ids[i] is of a concept, 0 if of an episode. */
void ns_are_concepts(const int64_t *ids, int64_t n, uint8_t *concepts);

/* An index of bindings (concept, episode, strength), each pair at most once, 0 <= strength <= 1; in logical shards by
 * concept. Any number of threads may call at a time; a call sees the batches of others whole or not at all. */
typedef struct ns_index ns_index;

ns_index *ns_index_create(int32_t n_shards); /* a power of two up to 256; NULL if memory is short */
void ns_index_destroy(ns_index *index);      /* no other call may be under way */

enum { NS_BIND = 0, NS_SET_STRENGTHS = 1, NS_ADD_STRENGTHS = 2, NS_UNBIND = 3 };

/* Changes n bindings at once, as operation op_id. NS_BIND adds those that are not there and sets the others; the other
 * kinds are of bindings that are there (NS_E_UNKNOWN). NS_ADD_STRENGTHS adds values of [-1, 1], and what leaves [0, 1] is
 * clipped; else values are of [0, 1] (NS_E_ROW), NULL for NS_UNBIND. NS_E_TWICE: a pair that an earlier row has. What is
 * not NS_OK changes nothing. */
int32_t ns_index_change(ns_index *index, int32_t kind, int64_t op_id, const int64_t *concepts, const int64_t *episodes,
                        const float *values, int64_t n, int64_t *bad_row, int32_t threads);

/* What ns_index_change would return for an operation that has not been applied; changes nothing. */
int32_t ns_index_verify_change(ns_index *index, int32_t kind, const int64_t *concepts, const int64_t *episodes,
                               const float *values, int64_t n, int64_t *bad_row, int32_t threads);

/* Of concepts that all have bindings (NS_E_UNKNOWN): activation at a time, which may be earlier than the last. */
int32_t ns_index_activate(ns_index *index, int64_t op_id, const int64_t *concepts, int64_t n, int64_t at,
                          int64_t *bad_row);

/* Strengths after so many half-lives >= 0; and those of concepts (NS_E_UNKNOWN) after dt at rates >= 0 (NS_E_ROW), with
 * the errors of ns_decay. */
int32_t ns_index_decay(ns_index *index, int32_t isa, int64_t op_id, double half_lives, int32_t threads);
int32_t ns_index_decay_concepts(ns_index *index, int32_t isa, int64_t op_id, const int64_t *concepts,
                                const float *rates, int64_t n, double dt, int64_t *bad_row);

/* Removes the bindings below a strength, but none of the strongest `keep` >= 1 of an episode. */
int32_t ns_index_forget(ns_index *index, int64_t op_id, float below, int64_t keep, int64_t *n_forgotten,
                        int32_t threads);

/* What is known of n concepts: fan-out, and unless versions is NULL, the latest activation (INT64_MIN: none), their
 * number, and a version that goes up with every change of the fan-out. 0 for concepts without bindings. */
int32_t ns_index_look_up(ns_index *index, const int64_t *concepts, int64_t n, int64_t *fan_outs,
                         int64_t *last_activations, int64_t *n_activations, int64_t *versions, int32_t threads);

/* Gives concepts that have bindings what another index said of them; others are passed over. No mutation may be under
 * way. */
void ns_index_restore_states(ns_index *index, const int64_t *concepts, int64_t n, const int64_t *last_activations,
                             const int64_t *n_activations, const int64_t *versions);

/* The bindings of n concepts, or episodes: of names[i] the ids and strengths offsets[i] .. offsets[i + 1] - 1, strongest
 * first, then smaller ids. If they are more than `capacity`, offsets alone are written. */
int32_t ns_index_lists(ns_index *index, int32_t of_episodes, const int64_t *names, int64_t n, int64_t capacity,
                       int64_t *offsets, int64_t *ids, float *strengths);

/* All bindings by (concept, episode); if *n_bindings is more than `capacity`, that alone is written. */
int32_t ns_index_bindings(ns_index *index, int64_t capacity, int64_t *n_bindings, int64_t *concepts, int64_t *episodes,
                          float *strengths, int32_t threads);

/* Spreading activation. Everything is counted in whole units; products are rounded to the nearest, ties to even. In each
 * step every concept receives `strength * what the episode passes on` over its bindings, and in the first step its cue
 * beside; it passes on what it has received, times 2^-half_lives, divided by the law of its fan-out (and what this is,
 * rounded); every episode receives `strength * what the concept passes on`, and passes that on in the next step. In the
 * first, cues do. What is below `cutoff` is not passed on.
 *
 * NS_E_OVERFLOW: cues of concepts and all that is passed on, of both sides, are NS_MOST_UNITS or more in sum. */
enum { NS_FAN_NONE = 3 }; /* beside the laws of ns_fan_effect: nothing divides */
enum { NS_MOST_UNITS = 4611686018427387904 }; /* 2^62; a unit is 2^-32 */

typedef struct {
    int32_t law, steps;
    double half_lives;
    uint64_t cutoff;
    int64_t k;                         /* nodes of each side to answer with, best first; below 0: all, in no order */
    int64_t n_concepts, n_episodes;    /* cues: ids, none twice, here or not; units are at least 0 */
    const int64_t *concepts, *concept_units, *episodes, *episode_units;
} ns_spread_request;

/* Nodes that anything reached, with its sum over all steps, cues themselves not counted: concepts, then episodes. */
typedef struct {
    int64_t n_concepts, n_episodes;
    int64_t *ids, *units; /* one block of memory, at ids */
    uint64_t passed;      /* the sum that has a limit */
} ns_spread_answer;

int32_t ns_index_spread(ns_index *index, int32_t isa, const ns_spread_request *request, ns_spread_answer *answer,
                        int32_t threads);
void ns_spread_answer_free(ns_spread_answer *answer);

/* Operations that have been applied, in no order; ids only if they are not more than `capacity`. */
int64_t ns_index_operations(ns_index *index, int64_t capacity, int64_t *ids);

/* Makes these the operations that have been applied, or changes nothing. No mutation may be under way. */
int32_t ns_index_restore_operations(ns_index *index, const int64_t *ids, int64_t n);

enum { NS_N_INDEX_STATISTICS = 9 };
/* Bindings here, concepts, bytes, largest fan-out, operations; bindings here that are kept nowhere else; concepts outside
 * and their bindings; bytes of lines and of what finds them. And the bindings of each shard that are here. */
void ns_index_statistics(ns_index *index, int64_t *values, int64_t *bindings_by_shard);

/* Tiers: a concept's bindings are here, all of them, or outside, where the caller keeps them; its line is always here. A
 * batch of bindings, decay of a concept and such refuse a concept that is outside (NS_E_OUTSIDE; NS_E_UNKNOWN for its
 * bindings); lists, sweeps and spreads pass it over; fan-out and activation do not care. What is not NS_OK changes
 * nothing. */
enum { NS_UNKNOWN = 0, NS_HERE = 1, NS_OUTSIDE = 2, NS_NOWHERE = -1 };

/* What is known of concepts: bindings, where they are kept (NS_NOWHERE), uses lately (up to 255), tier; 0 and NS_NOWHERE if
 * unknown. NS_USE counts a use of each. NS_CHANGE does, too, and what is kept of those that are here counts no more. */
enum { NS_LOOK = 0, NS_USE = 1, NS_CHANGE = 2 };
void ns_index_find(ns_index *index, int32_t how, const int64_t *concepts, int64_t n, int64_t *fan_outs, int64_t *kept_at,
                   uint8_t *uses, uint8_t *tiers);

/* Concepts come, with lines alone: fan_outs[i] bindings at kept_at[i] >= 0 (NS_E_ROW); NS_E_TWICE: one is there. */
int32_t ns_index_adopt(ns_index *index, const int64_t *concepts, int64_t n, const int64_t *fan_outs,
                       const int64_t *kept_at, int64_t *bad_row);

/* Bindings of concepts go outside; NS_E_UNKNOWN: they are not here, or not kept. */
int32_t ns_index_evict(ns_index *index, const int64_t *concepts, int64_t n, int64_t *bad_row);

/* Bindings offsets[i] .. offsets[i + 1] - 1 of concept i come back. NS_E_UNKNOWN: it is not outside; NS_E_ROW: they are not
 * as many as went, or a strength is not in [0, 1]; NS_E_TWICE: an episode comes twice. With change, they are kept nowhere else from now on. */
int32_t ns_index_admit(ns_index *index, const int64_t *concepts, int64_t n, const int64_t *offsets,
                       const int64_t *episodes, const float *strengths, int32_t change, int64_t *bad_row);

/* Says where bindings are kept by now; concepts that are not there are passed over. */
void ns_index_settle(ns_index *index, const int64_t *concepts, int64_t n, const int64_t *kept_at);

/* Concepts, here and outside, and how many are outside; and all of them, in no order, if they are not more than
 * `capacity`. */
int64_t ns_index_n_concepts(ns_index *index, int64_t *n_outside);
int64_t ns_index_lines(ns_index *index, int64_t capacity, int64_t *concepts, int64_t *fan_outs, int64_t *kept_at,
                       uint8_t *uses, uint8_t *tiers);

/* Concepts that should go, to make room for n_wanted bindings: little used of those that are here and kept, at most
 * `capacity`. Returns their number; *n_uses is the sum of their uses. Looks at lines from *hand on, once at most, and moves
 * it: a shard and a slot, at first 0. */
int64_t ns_index_choose(ns_index *index, int64_t *hand, int64_t n_wanted, int64_t capacity, int64_t *concepts,
                        int64_t *n_uses);

void ns_index_halve_uses(ns_index *index);
int64_t ns_index_bytes(ns_index *index);
void ns_index_shrink(ns_index *index); /* gives back what memory is to spare; spreads begin anew */

/* Where the arrays of an index lie. Those found by concept: its table, lines, strengths, episodes, marks; those found by
 * episode: its table, records. Arrays of less than 64 KiB, and places of episodes with more than 8 bindings, lie on the heap
 * and are not looked at. */
enum { NS_BY_CONCEPT = 0, NS_BY_EPISODE = 1, NS_N_SIDES = 2, NS_N_INDEX_ARRAYS = 7, NS_MOST_NODES = 1024 };

/* Gives the arrays of a side, and those that come to be, a memory policy, as ns_memory_bind; with move, their pages move
 * meanwhile, beside readers. 0, or -errno of the last array that was refused; all are tried, and a page of none. */
int32_t ns_index_place(ns_index *index, int32_t side, int32_t mode, const uint64_t *node_mask, int32_t n_words,
                       int32_t move);
int32_t ns_index_refusal(ns_index *index); /* -errno of the last array refused when it came to be since; 0: none */

/* pages[array * n_nodes + node]: pages of the arrays of all shards that lie on each node; 0 or -errno. */
int32_t ns_index_pages(ns_index *index, int64_t n_nodes, int64_t *pages);

/* rows[node]: rows of batches, and names looked up, by calls from each of the first n_nodes nodes; sweeps over all
 * bindings do not count. */
void ns_index_origins(ns_index *index, int64_t n_nodes, int64_t *rows);

int32_t ns_index_check(ns_index *index); /* 0, or the number of an invariant that does not hold (a defect) */

/* Ranked lists: lists[i * width + p] is the candidate in place p of row i, best first, in the total order (similarity
 * descending, then smaller index), as one integer; 0 is an empty place. Whoever calls provides them, at first all 0.
 *
 * A block are n consecutive vectors, candidates first, first + 1, ...; labels: NULL, or n of them. */
typedef struct {
    const float *panels;
    const int32_t *labels;
    int64_t n, first;
    uint64_t *lists;
} ns_ranked_block;

/* Offers the vectors of a to the lists of b, and those of b to the lists of a: tiles first_tile .. first_tile + n_tiles
 * - 1 of NS_TILE_ROWS square, counted row by row. With b NULL the vectors of a meet each other: tiles of the upper
 * triangle, and of every vector the best others. Vectors of one label are infinitely far from each other. Tiles that
 * come again change nothing. */
int32_t ns_neighbours(int32_t isa, int32_t metric, const ns_ranked_block *a, const ns_ranked_block *b, int64_t d,
                      int64_t first_tile, int64_t n_tiles, int64_t width, int32_t threads);

/* lists become the best of both, of the same n rows: as if whatever was offered to either had been to both. */
int32_t ns_merge_lists(uint64_t *lists, const uint64_t *others, int64_t n, int64_t width);

/* Sketches of n unit vectors: digits of 8 bits whose integer product, times `unit`, is at least the cosine; README.md,
 * "Sketches", says how. z (n x h) are the vectors in a basis, each within `rounding` of exact; the rows of the basis have
 * inner products within `skew` (spectral norm) of those of an orthonormal one.
 *
 * First the terms of each vector: 3 that go with left digits, then 3 that go with right ones. From their largest values
 * whoever calls chooses how many copies of each product there are, and the steps in which its terms are counted:
 * left_steps * right_steps <= copies * left_unit * right_unit, and no term is above 127 steps. */
enum { NS_N_TERMS = 3, NS_MOST_COORDINATES = 4096, NS_MOST_GROUPS = 32768 };

typedef struct {
    int64_t n, h, groups; /* of 4 digits; h and the copies fit in */
    double left_unit, right_unit, rounding, skew, left_steps[3], right_steps[3];
    int64_t copies[3];
} ns_digits;

int32_t ns_sketch_terms(const ns_digits *digits, const float *z, double *terms, int32_t threads);

/* Panels of 16 * groups * 4 bytes, byte b of group g of vector v at v / 16 * 64 * groups + 64 * g + v % 16 * 4 + b. Vector
 * order[p] comes in position p. Offsets: one for each position, n rounded up to 16. */
int32_t ns_sketch_digits(const ns_digits *digits, const float *z, const double *terms, const int64_t *order,
                         uint8_t *left, int8_t *right, int32_t *offsets, int32_t threads);

typedef struct {
    int64_t n, groups;
    double unit;
    const uint8_t *left;
    const int8_t *right;
    const int32_t *offsets;
    const int64_t *order;
} ns_sketch;

/* rows[positions[v] * d + k] = element k of vector v of the panels. */
int32_t ns_unpack(const float *panels, int64_t n, int64_t d, const int64_t *positions, float *rows, int32_t threads);

enum { NS_MOST_DIMENSIONS = 1 << 22 };

/* As ns_neighbours of one block under NS_COSINE, to the bit once all tiles are through, but that tiles are counted
 * diagonal by diagonal of the order. rows[p * d]: the unit vector in position p. */
int32_t ns_neighbours_sketched(int32_t isa, const ns_sketch *sketch, const float *rows, int64_t d, int64_t first_tile,
                               int64_t n_tiles, uint64_t *lists, int64_t width, int32_t threads);

/* The first k <= width candidates of each list: indices[i * k + p] and similarities[i * k + p], -1 and -infinity where
 * a place is empty; bounds[i] (if not NULL) is the similarity of the next one, -infinity if there is none. */
int32_t ns_ranked(const uint64_t *lists, int64_t n, int64_t width, int64_t k, int64_t *indices, float *similarities,
                  float *bounds);

/* Of q queries (row i at queries + i * stride) the k <= n vectors of largest cosine among n in panels packed with
 * normalize = 1: indices[i * k + p] and similarities[i * k + p], in the total order. NS_E_ROW as ns_pack of the queries
 * with normalize = 1, which they are not: they are divided by their norms here. */
int32_t ns_top_k(int32_t isa, const float *queries, int64_t q, int64_t stride, const float *vectors, int64_t n,
                 int64_t d, int64_t k, int64_t *indices, float *similarities, int32_t threads);

/* The same vectors in 16-bit fixed point: vector v is about scales[v] times the integers
 * words[(v / 16) * 32 * pairs + (k / 2) * 32 + (v % 16) * 2 + k % 2], where pairs = (d + 1) / 2. Panels packed with
 * normalize = 1; scales for all lanes of the panels. *error is the largest norm of what rounding took from a vector. */
int32_t ns_quantize(const float *panels, int64_t n, int64_t d, int16_t *words, float *scales, double *error,
                    int32_t threads);

/* The bits of ns_top_k, of the vectors and what ns_quantize made of them. */
int32_t ns_top_k_quantized(int32_t isa, const float *queries, int64_t q, int64_t stride, const float *vectors,
                           const int16_t *words, const float *scales, double error, int64_t n, int64_t d, int64_t k,
                           int64_t *indices, float *similarities, int32_t threads);

/* out[j] = cosine of vector j of the n, packed with normalize = 1, with one query of d elements; NS_E_ROW as above. */
int32_t ns_batch_similarity(int32_t isa, const float *query, const float *vectors, int64_t n, int64_t d, float *out);

/* Unit vectors by cell, each cell a whole number of panels. Position p is lane p % 16 of panel p / 16. */
typedef struct {
    int64_t n, d, n_cells;
    const float *rows;          /* the n vectors, row by row */
    const int64_t *numbers;     /* which of them is in each position; -1: none */
    const int64_t *starts;      /* of n_cells + 1: the first panel of each cell */
    const int8_t *bytes;        /* of positions: element k is about scales[p] times bytes[p / 16 * 32 * pairs + k / 2 * 32
                                 * + p % 16 * 2 + k % 2], pairs = (d + 1) / 2 */
    const float *scales;        /* from 0 to 1, as all of these */
    const float *errors;        /* at least the norm of what rounding took from each */
    const int8_t *centre_bytes; /* the same of the n_cells centres, in order */
    const float *centre_scales;
} ns_cells;

/* bytes, scales and errors of the rows in n_positions positions, a multiple of NS_LANES; 0 where there is none. */
int32_t ns_round_to_bytes(const float *rows, const int64_t *numbers, int64_t n_positions, int64_t d, int8_t *bytes,
                          float *scales, float *errors, int32_t threads);

/* Of each of q queries, indices[i * k ...] = the k best of the vectors in the cells whose centres are nearest, taken until
 * n_rows vectors or all are compared: similarities as of ns_top_k, in its order; -1 and -INFINITY where there are fewer.
 * allowed[number] (NULL: all): whether a vector counts. n_compared[i]: how many did. NS_E_ROW as above. */
int32_t ns_search_cells(int32_t isa, const float *queries, int64_t q, int64_t stride, const ns_cells *cells,
                        const uint8_t *allowed, int64_t n_rows, int64_t k, int64_t *indices, float *similarities,
                        int64_t *n_compared, int32_t threads);

/* Agglomeration without a matrix, from the lists of ns_neighbours: exact, decided in float64. Methods: NS_AVERAGE
 * (metrics NS_DOT, NS_COSINE, NS_SQEUCLIDEAN), NS_WEIGHTED (NS_DOT, NS_COSINE), NS_WARD (NS_SQEUCLIDEAN). */
typedef struct ns_agglomeration ns_agglomeration;

enum { NS_N_AGGLOMERATION_COUNTERS = 6 };

/* rows: n x d float32, row i at rows + i * stride, divided by divisors[i] (NULL: as they are); both are read until the
 * end. panels: the same, packed; they are overwritten by means of clusters. weights: of the leaves, > 0. lists: of
 * ns_neighbours under the metric, width + 1 candidates a row. Merges below the similarity `cut` are not made.
 * max_norm: of all vectors. epsilon >= 0: the nearest listed is taken where nothing unlisted is nearer by more than a
 * factor of 1 + epsilon in similarity (1 / (1 + epsilon) of negative ones); lists may then miss near
 * candidates, as the tree will; with 0 they must be those of all pairs. Returns NULL if memory is short. */
ns_agglomeration *ns_agglomeration_create(int32_t isa, int32_t method, int32_t metric, const float *rows, int64_t n,
                                          int64_t d, int64_t stride, const double *divisors, const double *weights,
                                          float *panels, const uint64_t *lists, int64_t width, double max_norm,
                                          double cut, double epsilon);

/* Performs up to max_merges merges, while more than n_enough clusters are left; returns how many. Merge t joins the
 * clusters whose smallest leaves are first[t] < second[t]. Stops early where rescans are asked for: *n_queries of them,
 * else 0. NS_E_ARGUMENT: the lists contradict each other, so they are not of these rows. */
int64_t ns_agglomeration_advance(ns_agglomeration *agglomeration, int64_t max_merges, int64_t n_enough, int64_t *first,
                                 int64_t *second, double *similarity, int64_t *n_queries);

/* Brings the panels up to date: the means of the living clusters, *n_columns of them, and one term for each (Ward: the
 * weight; average under NS_SQEUCLIDEAN: the spread). changed: the *n_changed columns that are not as the last call left
 * them (at first: as the panels were given). */
void ns_agglomeration_columns(ns_agglomeration *agglomeration, int64_t *n_columns, const float **panels,
                              const float **terms, int64_t *n_changed, const int32_t **changed);

/* Packs the means of the queries into panels (n_queries rounded up to NS_LANES), and their terms. */
void ns_agglomeration_queries(ns_agglomeration *agglomeration, float *panels, float *terms);

/* Offers n vectors (columns 0, ...) to the lists of q queries, by the similarity of clusters. */
int32_t ns_rank_clusters(int32_t isa, int32_t method, int32_t metric, const float *queries, const float *query_terms,
                         int64_t q, const float *panels, const float *terms, int64_t n, int64_t d, uint64_t *lists,
                         int64_t width, int32_t threads);

/* Takes the ranked lists of the queries, width + 2 places each, over all columns as they were last brought up to
 * date. NS_E_ARGUMENT, and nothing is taken: they are out of date, or a list names another. */
int32_t ns_agglomeration_answer(ns_agglomeration *agglomeration, const uint64_t *lists);

/* The living clusters that are not retired by the cut, ascending; with their sums (n_living x d) and weights.
 * leaves alone if sums is NULL. Returns their number. */
int64_t ns_agglomeration_living(ns_agglomeration *agglomeration, int64_t *leaves, double *sums, double *weights);

/* nearest neighbours found, similarities computed in float64, rescans, similarities computed by rescans, ties settled
 * by exhaustion, restarts of all chains */
void ns_agglomeration_counters(const ns_agglomeration *agglomeration, int64_t *counters);
void ns_agglomeration_destroy(ns_agglomeration *agglomeration);

/* out[t] = similarity of rows first[t] and second[t] in float64 (NS_DOT, or NS_SQEUCLIDEAN), rows divided by their
 * divisors (NULL: as they are); the same to the bit whichever comes first. */
int32_t ns_pair_similarities(int32_t metric, const float *rows, int64_t d, int64_t stride, const double *divisors,
                             const int64_t *first, const int64_t *second, int64_t n_pairs, double *out,
                             int32_t threads);
