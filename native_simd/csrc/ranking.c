/* Ranked lists: the best `width` candidates of a row, in the total order (similarity descending, then smaller index).
 *
 * A candidate is one integer: its similarity, mapped so that larger floats are larger integers, above its index,
 * inverted. So the total order is the order of uint64_t, no two candidates are equal, and the best `width` of a set do
 * not depend on the order in which they come, nor on one that comes twice. 0 is an empty place. */
#include <math.h>
#include <string.h>

#include "internal.h"

static uint64_t key_of(float similarity, int64_t index) {
    uint32_t bits;
    similarity += 0.0f; /* -0 ties with +0 */
    memcpy(&bits, &similarity, sizeof bits);
    const uint32_t rising = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)rising << 32 | (uint32_t)~(uint32_t)index;
}

static float float_of(uint32_t rising) {
    const uint32_t bits = rising >> 31 ? rising & 0x7fffffffu : ~rising;
    float similarity;
    memcpy(&similarity, &bits, sizeof similarity);
    return similarity;
}

static float similarity_of(uint64_t key) { return key ? float_of((uint32_t)(key >> 32)) : -INFINITY; }

static int64_t index_of(uint64_t key) { return key ? (int64_t)(uint32_t)~(uint32_t)key : -1; }

/* The least similarity with which an index of first_index or more enters the list. A tie needs the smaller index, so
 * rows of duplicates, where every similarity ties, are passed over without a look at each. */
static float entry(const uint64_t *list, int64_t width, int64_t first_index) {
    const uint64_t last = list[width - 1];
    if (!last) return -INFINITY;
    return float_of((uint32_t)(last >> 32) + (first_index > index_of(last)));
}

static void offer(uint64_t *list, int64_t width, uint64_t key) {
    if (key <= list[width - 1]) return;
    int64_t place = width - 1;
    while (place > 0 && list[place - 1] < key) place--;
    if (place > 0 && list[place - 1] == key) return; /* known */
    memmove(list + place + 1, list + place, sizeof *list * (size_t)(width - 1 - place));
    list[place] = key;
}

void ns_offer(uint64_t *list, int64_t width, float similarity, int64_t index) {
    offer(list, width, key_of(similarity, index));
}

float ns_least_listed(const uint64_t *list, int64_t width) { return similarity_of(list[width - 1]); }

void ns_rank_tile(const ns_kernels *kernels, const float *tile, int64_t rows, int64_t columns, int64_t first_row,
                  int64_t first_column, int64_t width, uint64_t *row_lists, uint64_t *column_lists) {
    const int diagonal = row_lists == column_lists; /* has each pair twice, once in a row of either */
    float entries[NS_TILE_ROWS];
    int32_t found[NS_TILE_ROWS];
    for (int64_t j = 0; j < columns; j++)
        entries[j] = column_lists && !diagonal ? entry(column_lists + j * width, width, first_row) : INFINITY;
    for (int64_t i = 0; i < rows; i++) {
        const float *row = tile + i * NS_TILE_ROWS, row_entry = entry(row_lists + i * width, width, first_column);
        const int64_t n_found = kernels->row_at_least_either(row, entries, columns, &row_entry, found);
        for (int64_t f = 0; f < n_found; f++) {
            const int64_t j = found[f];
            if (diagonal && i == j) continue;
            if (row[j] >= row_entry) offer(row_lists + i * width, width, key_of(row[j], first_column + j));
            if (row[j] < entries[j]) continue;
            offer(column_lists + j * width, width, key_of(row[j], first_row + i));
            entries[j] = entry(column_lists + j * width, width, first_row);
        }
    }
}

int32_t ns_merge_lists(uint64_t *lists, const uint64_t *others, int64_t n, int64_t width) {
    if (n < 0 || width < 1) return NS_E_ARGUMENT;
    for (int64_t i = 0; i < n; i++)
        for (int64_t p = 0; p < width && others[i * width + p] > lists[(i + 1) * width - 1]; p++)
            offer(lists + i * width, width, others[i * width + p]);
    return NS_OK;
}

int32_t ns_ranked(const uint64_t *lists, int64_t n, int64_t width, int64_t k, int64_t *indices, float *similarities,
                  float *bounds) {
    if (n < 0 || width < 1 || k < 0 || k > width) return NS_E_ARGUMENT;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t *list = lists + i * width;
        for (int64_t p = 0; p < k; p++) {
            indices[i * k + p] = index_of(list[p]);
            similarities[i * k + p] = similarity_of(list[p]);
        }
        if (bounds) bounds[i] = k < width ? similarity_of(list[k]) : -INFINITY;
    }
    return NS_OK;
}
