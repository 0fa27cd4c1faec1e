/* What the operations work on, and at the end their registry. */
#include "operations.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_PLACES = 17 }; /* of a ranked list */

enum { N_QUERIES = 3 }; /* by cell */

static const int64_t NOW = 1700000000000000; /* microseconds */
static const double HALF_LIFE = 2.6e12;

static const int64_t WIDTH = 15; /* candidates of each point in an agglomeration */

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

static void *allocate(int64_t n_bytes) {
    void *memory = n_bytes < 0 ? NULL : aligned_alloc(64, (size_t)(n_bytes + 63) / 64 * 64);
    if (!memory) abort();
    return memset(memory, 0, (size_t)n_bytes);
}

static uint64_t state;

static uint32_t next_random(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static float *uniform(int64_t n, float low, float high) {
    float *values = allocate(n * 4);
    for (int64_t i = 0; i < n; i++) values[i] = low + (high - low) * (float)(next_random() >> 8) * 0x1p-24f;
    return values;
}

static void write_to(workload *w, int64_t n_bytes) {
    w->out = allocate(n_bytes);
    w->n_out_bytes = n_bytes;
}

static int64_t n_panel_bytes(const workload *w) { return (w->n + NS_LANES - 1) / NS_LANES * NS_LANES * w->d * 4; }

static int64_t n_word_bytes(const workload *w) {
    return (w->n + NS_LANES - 1) / NS_LANES * NS_LANES * ((w->d + 1) / 2) * 4;
}

static int64_t n_tiles(const workload *w) {
    const int64_t n_blocks = (w->n + NS_TILE_ROWS - 1) / NS_TILE_ROWS;
    return n_blocks * (n_blocks + 1) / 2;
}

static void vectors(workload *w) {
    w->rows = uniform(w->n * w->d, -1.0f, 1.5f);
    w->panels = allocate(n_panel_bytes(w));
    w->norms = allocate(w->n * 8);
    if (ns_pack(w->rows, w->n, w->d, w->d, 1, w->panels, w->norms, &w->bad_row, 1) != NS_OK) abort();
}

static void times(workload *w) {
    w->times = allocate(w->n * 8);
    for (int64_t i = 0; i < w->n; i++) w->times[i] = NOW - (int64_t)next_random() * 1000;
}

/* Each named by what the operation writes. */

static void panels(workload *w) {
    vectors(w);
    write_to(w, n_panel_bytes(w));
}

static void square(workload *w) {
    vectors(w);
    times(w);
    write_to(w, w->n * w->n * 4);
}

static void row(workload *w) {
    vectors(w);
    write_to(w, w->n * 4);
}

/* Places of 8 bytes, and similarities where those are indices. */
static void lists(workload *w) {
    vectors(w);
    write_to(w, w->n * N_PLACES * 12);
}

static void copy(workload *w) {
    vectors(w);
    w->scales = allocate(n_panel_bytes(w) / w->d);
    write_to(w, n_word_bytes(w));
}

static void lists_by_copy(workload *w) {
    lists(w);
    w->words = allocate(n_word_bytes(w));
    w->scales = allocate(n_panel_bytes(w) / w->d);
    if (ns_quantize(w->panels, w->n, w->d, w->words, w->scales, &w->error, 1) != NS_OK) abort();
}

enum { CELL = 60 }; /* vectors of a cell, about */

static int64_t n_cells(const workload *w) { return (w->n + CELL - 1) / CELL; }

/* Cell c has the vectors c, c + n_cells, ...; its centre is the first. */
static void places(workload *w) {
    const int64_t n = n_cells(w), of_centres = (n + NS_LANES - 1) / NS_LANES * NS_LANES;
    const int64_t panels_of_cell = ((w->n + n - 1) / n + NS_LANES - 1) / NS_LANES, positions = n * panels_of_cell * NS_LANES;
    vectors(w);
    w->units = allocate(w->n * w->d * 4);
    if (ns_unit_rows(w->rows, w->n, w->d, w->d, w->units) != NS_OK) abort();
    w->numbers = allocate((positions + of_centres) * 8); /* and those of centres */
    for (int64_t p = 0; p < positions; p++) {
        const int64_t rank = p % (panels_of_cell * NS_LANES), number = rank * n + p / (panels_of_cell * NS_LANES);
        w->numbers[p] = number < w->n ? number : -1;
    }
    for (int64_t c = 0; c < of_centres; c++) w->numbers[positions + c] = c < n ? c : -1;
    w->starts = allocate((n + 1) * 8);
    for (int64_t c = 0; c <= n; c++) w->starts[c] = c * panels_of_cell;
    w->scales = allocate(positions * 4);
    w->errors = allocate(positions * 4);
    w->centre_scales = allocate(of_centres * 4);
    w->cells = (ns_cells){w->n, w->d, n, w->units, w->numbers, w->starts, NULL, w->scales, w->errors, NULL,
                          w->centre_scales};
}

static int64_t n_places(const workload *w) { return w->starts[w->cells.n_cells] * NS_LANES; }

static int64_t n_byte_pairs(const workload *w) { return (w->d + 1) / 2 * 2; }

static void bytes_of_places(workload *w) {
    places(w);
    write_to(w, n_places(w) * n_byte_pairs(w));
}

static void lists_by_cell(workload *w) {
    places(w);
    const int64_t of_centres = (w->cells.n_cells + NS_LANES - 1) / NS_LANES * NS_LANES;
    float *unused = allocate(of_centres * 4);
    w->bytes = allocate(n_places(w) * n_byte_pairs(w));
    w->centre_bytes = allocate(of_centres * n_byte_pairs(w));
    if (ns_round_to_bytes(w->units, w->numbers, n_places(w), w->d, w->bytes, w->scales, w->errors, 1) != NS_OK) abort();
    if (ns_round_to_bytes(w->units, w->numbers + n_places(w), of_centres, w->d, w->centre_bytes, w->centre_scales,
                          unused, 1) != NS_OK)
        abort();
    free(unused);
    w->cells.bytes = w->bytes, w->cells.centre_bytes = w->centre_bytes;
    w->allowed = allocate(w->n);
    for (int64_t i = 0; i < w->n; i++) w->allowed[i] = next_random() % 4 != 0;
    write_to(w, N_QUERIES * (N_PLACES * 12 + 8));
}

static int64_t n_positions(const workload *w) { return n_panel_bytes(w) / w->d / 4; }

/* Of the first coordinates of the unit vectors. Terms are at most about 1, which is 8 steps. */
static void digits(workload *w) {
    vectors(w);
    const int64_t h = least(w->d, 24), n_copies = 40;
    w->digits = (ns_digits){.n = w->n, .h = h, .groups = (h + 3 * n_copies + 3) / 4, .left_unit = 0x1p-5,
                            .right_unit = 0x1p-6, .rounding = 0x1p-20};
    for (int t = 0; t < NS_N_TERMS; t++) {
        w->digits.copies[t] = n_copies;
        w->digits.left_steps[t] = w->digits.right_steps[t] = 0.125; /* below the root of n_copies * 0x1p-11 */
    }
    w->coordinates = allocate(w->n * h * 4);
    for (int64_t i = 0; i < w->n; i++)
        for (int64_t k = 0; k < h; k++)
            w->coordinates[i * h + k] = w->panels[i / NS_LANES * NS_LANES * w->d + k * NS_LANES + i % NS_LANES];
    w->terms = allocate(w->n * 2 * NS_N_TERMS * 8);
    w->order = allocate(w->n * 8);
    for (int64_t i = 0; i < w->n; i++) w->order[i] = i;
    w->offsets = allocate(n_positions(w) * 4);
}

static void panels_of_digits(workload *w) {
    digits(w);
    write_to(w, n_positions(w) * w->digits.groups * 8);
}

static void unpacked(workload *w) {
    digits(w);
    write_to(w, w->n * w->d * 4);
}

static int32_t sketch(workload *w, uint8_t *left, int8_t *right, int32_t threads) {
    const int32_t status = ns_sketch_terms(&w->digits, w->coordinates, w->terms, threads);
    return status != NS_OK ? status
                           : ns_sketch_digits(&w->digits, w->coordinates, w->terms, w->order, left, right, w->offsets,
                                              threads);
}

static void lists_by_sketch(workload *w) {
    digits(w);
    w->left = allocate(n_positions(w) * w->digits.groups * 4);
    w->right = allocate(n_positions(w) * w->digits.groups * 4);
    if (sketch(w, w->left, w->right, 1) != NS_OK) abort();
    if (ns_unpack(w->panels, w->n, w->d, w->order, w->rows, 1) != NS_OK) abort();
    write_to(w, w->n * N_PLACES * 8);
}

static void strengths(workload *w) {
    w->rates = uniform(w->n, 0.0f, 1.0f);
    times(w);
    w->fan_out = allocate(w->n * 4);
    write_to(w, w->n * 4);
    for (int64_t i = 0; i < w->n; i++) {
        ((float *)w->out)[i] = (float)(1 + next_random() % 1000) * 1e-3f;
        w->fan_out[i] = next_random() % 1000;
    }
}

/* Bindings in no order, about 40 a concept and one or two an episode, and an index for them. What is written: answers to
 * n concepts. */
static void new_bindings(workload *w) {
    w->rates = uniform(w->n, 0.0f, 1.0f);
    w->concepts = allocate(w->n * 8);
    w->episodes = allocate(w->n * 8);
    for (int64_t i = 0; i < w->n; i++) { /* odd factors: no two are equal */
        const uint64_t number = (uint64_t)i * 0x9e3779b97f4a7c15;
        w->episodes[i] = (int64_t)(number >> 1);
        w->concepts[i] = (int64_t)((number >> 40) % (uint64_t)(1 + w->n / 40)) * 1000003;
    }
    if (!(w->index = ns_index_create(16))) abort();
    write_to(w, w->n * 8);
}

static void known_bindings(workload *w) {
    new_bindings(w);
    if (ns_index_change(w->index, NS_BIND, 0, w->concepts, w->episodes, w->rates, w->n, &w->bad_row, 1)) abort();
}

/* Merges: first and second leaf, similarity. */
static void merges(workload *w, int32_t metric) {
    vectors(w);
    w->matrix = allocate(w->n * w->n * 4);
    w->sums = allocate(w->n * w->d * 8);
    w->counts = allocate(w->n * 8);
    for (int64_t i = 0; i < w->n; i++) {
        w->counts[i] = 1.0;
        for (int64_t k = 0; k < w->d; k++) w->sums[i * w->d + k] = (double)w->rows[i * w->d + k] / w->norms[i];
    }
    if (ns_pairwise_symmetric(NS_SCALAR, metric, w->panels, w->n, w->d, NULL, NULL, 0, n_tiles(w), w->matrix,
                              w->n, 1) != NS_OK)
        abort();
    write_to(w, w->n * 24);
}

static void cosine_merges(workload *w) { merges(w, NS_COSINE); }
static void distance_merges(workload *w) { merges(w, NS_SQEUCLIDEAN); }

static void listed_merges(workload *w) {
    vectors(w);
    w->counts = allocate(w->n * 8);
    for (int64_t i = 0; i < w->n; i++) w->counts[i] = 1.0;
    w->lists = allocate(w->n * (WIDTH + 1) * 8);
    const ns_ranked_block all = {w->panels, NULL, w->n, 0, w->lists};
    if (ns_neighbours(NS_SCALAR, NS_COSINE, &all, NULL, w->d, 0, n_tiles(w), WIDTH + 1, 1) != NS_OK) abort();
    write_to(w, w->n * 24);
}

static int32_t pairwise(workload *w, int32_t isa, int32_t metric, const ns_temporal *temporal,
                        const ns_sigmoid *sigmoid, int32_t threads) {
    return ns_pairwise(isa, metric, w->panels, w->n, w->panels, w->n, w->d, temporal, sigmoid, w->out, w->n, NULL, 0,
                       threads);
}

static int32_t cluster(workload *w, int32_t isa, int32_t method) {
    ns_chain *chain = ns_chain_create(isa, method, w->matrix, w->n, w->n, w->counts,
                                      method == NS_AVERAGE ? w->sums : NULL, w->d, 1e-5, 1.0);
    if (!chain) return NS_E_MEMORY;
    int64_t *first = w->out, *second = first + w->n;
    const int64_t done = ns_chain_advance(chain, w->n, first, second, (double *)(second + w->n));
    ns_chain_destroy(chain);
    return done == w->n - 1 ? NS_OK : NS_E_ARGUMENT;
}

static int32_t rescan(ns_agglomeration *a, int64_t n_queries, int64_t d, int32_t isa, int32_t threads) {
    const int64_t n_panels = (n_queries + NS_LANES - 1) / NS_LANES;
    float *queries = allocate(n_panels * NS_LANES * d * 4), *query_terms = allocate(n_panels * NS_LANES * 4);
    uint64_t *ranked = allocate(n_queries * (WIDTH + 2) * 8);
    const float *columns, *terms;
    const int32_t *changed;
    int64_t n_columns, n_changed;
    ns_agglomeration_columns(a, &n_columns, &columns, &terms, &n_changed, &changed);
    ns_agglomeration_queries(a, queries, query_terms);
    int32_t status = ns_rank_clusters(isa, NS_AVERAGE, NS_COSINE, queries, query_terms, n_queries, columns, terms,
                                      n_columns, d, ranked, WIDTH + 2, threads);
    if (status == NS_OK) status = ns_agglomeration_answer(a, ranked);
    free(queries), free(query_terms), free(ranked);
    return status;
}

/* Merges as `cluster` does, from the lists of neighbours instead of a matrix. Panels may be shared, and are overwritten
 * by an agglomeration: it gets a copy. */
static int32_t agglomerate(workload *w, int32_t isa, double epsilon, int32_t threads) {
    float *panels = memcpy(allocate(n_panel_bytes(w)), w->panels, (size_t)n_panel_bytes(w));
    ns_agglomeration *a = ns_agglomeration_create(isa, NS_AVERAGE, NS_COSINE, w->rows, w->n, w->d, w->d, w->norms,
                                                  w->counts, panels, w->lists, WIDTH, 1.0, -INFINITY, epsilon);
    if (!a) return NS_E_MEMORY;
    int64_t *first = w->out, *second = first + w->n, done = 0, advanced, n_queries;
    double *similarity = (double *)(second + w->n);
    int32_t status = NS_OK;
    do {
        advanced = ns_agglomeration_advance(a, w->n - done, 1, first + done, second + done, similarity + done,
                                            &n_queries);
        done += advanced;
        if (n_queries) status = rescan(a, n_queries, w->d, isa, threads);
    } while (status == NS_OK && (advanced > 0 || n_queries > 0));
    ns_agglomeration_destroy(a);
    free(panels);
    return status != NS_OK || done == w->n - 1 ? status : NS_E_ARGUMENT;
}

static int32_t search(workload *w, int32_t isa, int64_t n_queries, int32_t threads) {
    const int64_t k = least(N_PLACES, w->n);
    int64_t *indices = w->out;
    return ns_top_k(isa, w->rows, least(n_queries, w->n), w->d, w->panels, w->n, w->d, k, indices,
                    (float *)(indices + w->n * N_PLACES), threads);
}

static int32_t search_copy(workload *w, int32_t isa, int32_t threads) {
    const int64_t k = least(N_PLACES, w->n);
    int64_t *indices = w->out;
    return ns_top_k_quantized(isa, w->rows, 1, w->d, w->panels, w->words, w->scales, w->error, w->n, w->d, k, indices,
                              (float *)(indices + w->n * N_PLACES), threads);
}

static int32_t search_cells(workload *w, int32_t isa, const uint8_t *allowed, int64_t n_rows, int32_t threads) {
    int64_t *indices = w->out, *n_compared = indices + N_QUERIES * N_PLACES;
    return ns_search_cells(isa, w->rows, least(N_QUERIES, w->n), w->d, &w->cells, allowed, n_rows, least(N_PLACES, w->n),
                           indices, (float *)(n_compared + N_QUERIES), n_compared, threads);
}

static int32_t change_index(workload *w, int32_t kind, int32_t threads) {
    return ns_index_change(w->index, kind, 1, w->concepts, w->episodes, kind == NS_UNBIND ? NULL : w->rates, w->n,
                           &w->bad_row, threads);
}

/* What a concept's bindings are after a call that went well. */
static int32_t list_first(workload *w, int32_t status) {
    int64_t offsets[2], *ids = allocate(w->n * 8);
    if (status == NS_OK) status = ns_index_lists(w->index, 0, w->concepts, 1, w->n, offsets, ids, w->out);
    free(ids);
    return status;
}

/* From as many cues as the bindings divided by so many; all that was reached, in sum. */
static int32_t spread_index(workload *w, int32_t isa, int64_t divisor, int32_t threads) {
    const int64_t n_cues = (w->n + divisor - 1) / divisor;
    int64_t *units = allocate(n_cues * 8), *sums = w->out;
    for (int64_t i = 0; i < n_cues; i++) units[i] = (int64_t)1 << 20;
    const ns_spread_request request = {.law = NS_FAN_LOG, .steps = 3, .half_lives = 0.5, .k = 10, .n_episodes = n_cues,
                                       .episodes = w->episodes, .episode_units = units};
    ns_spread_answer answer;
    const int32_t status = ns_index_spread(w->index, isa, &request, &answer, threads);
    for (int64_t i = 0; i < w->n; i++) {
        sums[i] = (int64_t)answer.passed;
        if (i < answer.n_concepts + answer.n_episodes) sums[i] += answer.ids[i] ^ answer.units[i];
    }
    ns_spread_answer_free(&answer);
    free(units);
    return status;
}

/* Name, measured n and d, what it writes, call. */
#define OPERATIONS(ADD) \
    ADD(pack, 512, 256, panels, ns_pack(w->rows, w->n, w->d, w->d, 1, w->out, w->norms, &w->bad_row, threads)) \
    ADD(pairwise_dot, 256, 192, square, pairwise(w, isa, NS_DOT, NULL, NULL, threads)) \
    ADD(pairwise_sqeuclidean, 256, 192, square, pairwise(w, isa, NS_SQEUCLIDEAN, NULL, NULL, threads)) \
    ADD(pairwise_temporal, 256, 48, square, \
        pairwise(w, isa, NS_COSINE, &(ns_temporal){w->times, w->times, HALF_LIFE}, NULL, threads)) \
    ADD(pairwise_sigmoid, 256, 48, square, \
        pairwise(w, isa, NS_COSINE, NULL, &(ns_sigmoid){10.0, 0.25}, threads)) \
    ADD(pairwise_symmetric, 400, 192, square, \
        ns_pairwise_symmetric(isa, NS_COSINE, w->panels, w->n, w->d, NULL, NULL, 0, n_tiles(w), w->out, w->n, \
                              threads)) \
    ADD(neighbours, 600, 64, lists, \
        ns_neighbours(isa, NS_COSINE, &(ns_ranked_block){w->panels, NULL, w->n, 0, w->out}, NULL, w->d, 0, n_tiles(w), \
                      N_PLACES, threads)) \
    ADD(sketch, 2048, 64, panels_of_digits, \
        sketch(w, w->out, (int8_t *)w->out + n_positions(w) * w->digits.groups * 4, threads)) \
    ADD(unpack, 2048, 64, unpacked, ns_unpack(w->panels, w->n, w->d, w->order, w->out, threads)) \
    ADD(neighbours_sketched, 600, 64, lists_by_sketch, \
        ns_neighbours_sketched(isa, &(ns_sketch){w->n, w->digits.groups, w->digits.left_unit * w->digits.right_unit, \
                                                 w->left, w->right, w->offsets, w->order}, \
                               w->rows, w->d, 0, n_tiles(w), w->out, N_PLACES, threads)) \
    ADD(top_k_one, 4096, 192, lists, search(w, isa, 1, threads)) \
    ADD(top_k_many, 2048, 192, lists, search(w, isa, 16, threads)) \
    ADD(quantize, 2048, 192, copy, ns_quantize(w->panels, w->n, w->d, w->out, w->scales, &w->error, threads)) \
    ADD(top_k_quantized, 4096, 192, lists_by_copy, search_copy(w, isa, threads)) \
    ADD(round_to_bytes, 2048, 192, bytes_of_places, \
        ns_round_to_bytes(w->units, w->numbers, n_places(w), w->d, w->out, w->scales, w->errors, threads)) \
    ADD(search_all_cells, 4096, 192, lists_by_cell, search_cells(w, isa, NULL, w->n, threads)) \
    ADD(search_near_cells, 4096, 192, lists_by_cell, search_cells(w, isa, NULL, w->n / 8, threads)) \
    ADD(search_allowed, 4096, 192, lists_by_cell, search_cells(w, isa, w->allowed, w->n / 8, threads)) \
    ADD(batch_similarity, 4096, 192, row, ns_batch_similarity(isa, w->rows, w->panels, w->n, w->d, w->out)) \
    ADD(decay, 131072, 0, strengths, ns_decay(isa, w->out, w->rates, w->n, 1.5, threads)) \
    ADD(decay_half_life, 131072, 0, strengths, \
        ns_decay_half_life(isa, w->out, w->times, w->n, NOW, HALF_LIFE, 0.1f, threads)) \
    ADD(fan_effect_sqrt, 131072, 0, strengths, ns_fan_effect(isa, NS_FAN_SQRT, w->out, w->fan_out, w->n, threads)) \
    ADD(fan_effect_linear, 131072, 0, strengths, ns_fan_effect(isa, NS_FAN_LINEAR, w->out, w->fan_out, w->n, threads)) \
    ADD(fan_effect_log, 131072, 0, strengths, ns_fan_effect(isa, NS_FAN_LOG, w->out, w->fan_out, w->n, threads)) \
    ADD(index_bind, 65536, 0, new_bindings, list_first(w, change_index(w, NS_BIND, threads))) \
    ADD(index_add_strengths, 65536, 0, known_bindings, list_first(w, change_index(w, NS_ADD_STRENGTHS, threads))) \
    ADD(index_unbind, 65536, 0, known_bindings, change_index(w, NS_UNBIND, threads)) \
    ADD(index_fan_out, 65536, 0, known_bindings, \
        ns_index_look_up(w->index, w->concepts, w->n, w->out, NULL, NULL, NULL, threads)) \
    ADD(index_decay, 65536, 0, known_bindings, list_first(w, ns_index_decay(w->index, isa, 1, 0.25, threads))) \
    ADD(index_spread_few, 65536, 0, known_bindings, spread_index(w, isa, 10000, threads)) \
    ADD(index_spread_all, 65536, 0, known_bindings, spread_index(w, isa, 1, threads)) \
    ADD(agglomeration, 500, 64, listed_merges, agglomerate(w, isa, 0.0, threads)) \
    ADD(near_agglomeration, 500, 64, listed_merges, agglomerate(w, isa, 0.1, threads)) \
    ADD(chain_average, 500, 64, cosine_merges, cluster(w, isa, NS_AVERAGE)) \
    ADD(chain_complete, 500, 64, cosine_merges, cluster(w, isa, NS_COMPLETE)) \
    ADD(chain_ward, 500, 64, distance_merges, cluster(w, isa, NS_WARD))

#define CALL(name, n, d, writes, call) \
    static int32_t call_##name(workload *w, int32_t isa, int32_t threads) { return (void)isa, (void)threads, (call); }
OPERATIONS(CALL)

#define ENTRY(name, n, d, writes, call) {#name, n, d, writes, call_##name},
const operation operations[] = {OPERATIONS(ENTRY)};
const int n_operations = sizeof operations / sizeof *operations;

workload prepare(const operation *o, int64_t n, int64_t d) {
    workload w = {.n = n, .d = d};
    state = 1;
    o->prepare(&w);
    return w;
}

void release(workload *w) {
    void *arrays[] = {w->rows, w->panels, w->norms, w->words, w->scales, w->matrix, w->sums, w->counts, w->lists, w->rates,
                      w->coordinates, w->terms, w->left, w->right, w->offsets, w->order, w->times, w->fan_out,
                      w->concepts, w->episodes, w->units, w->errors, w->centre_scales, w->numbers, w->starts, w->bytes,
                      w->centre_bytes, w->allowed, w->out};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    if (w->index) ns_index_destroy(w->index);
}
