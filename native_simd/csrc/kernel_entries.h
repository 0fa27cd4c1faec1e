/* What every vector set writes alike, over its own `panel_tile` and `vector_panels`: the entries of its table. Included by
 * each kernel file within its target region, so it has no guard.
 *
 * A tile is computed in blocks of BLOCK dimensions, a panel of a and up to GROUP panels of b at a time. Those of b stay
 * in L1 while all of a passes; the whole block stays in L2. Between blocks the accumulators rest in c, which keeps each
 * chain whole. A block comes from L3 or memory in runs too short for the CPU to foresee what follows, so `panel_tile`
 * is told: next_a is the next panel of a; next_b is a quarter of a panel of the next group, so that the 12 calls of a
 * full tile ask for all 3. After the last group both are of the next block; after the last block, next_b is what lies
 * behind b, the next tile of the row. A prefetch past the end of an array does nothing. */

static inline __attribute__((always_inline)) void tile(const float *a, const float *b, int64_t d, int64_t a_panels,
                                                       int64_t b_panels, float *c, const int sq) {
    const int64_t panel = NS_LANES * d;
    for (int64_t k = 0; k < d; k += BLOCK) {
        const int64_t kc = d - k < BLOCK ? d - k : BLOCK;
        for (int64_t j = 0; j < b_panels; j += GROUP) {
            const int last = j + GROUP >= b_panels;
            const float *y = b + j * panel + k * NS_LANES;
            const float *next_group = !last           ? y + GROUP * panel
                                      : k + BLOCK < d ? b + (k + BLOCK) * NS_LANES
                                                      : b + b_panels * panel;
            for (int64_t i = 0; i < a_panels; i++) {
                const float *x = a + i * panel + k * NS_LANES;
                const float *next_x = i + 1 < a_panels ? x + panel : a + (last ? k + BLOCK : k) * NS_LANES;
                const float *next_y = next_group + i / 4 % GROUP * panel + i % 4 * kc * (NS_LANES / 4);
                float *out = c + (i * NS_TILE_ROWS + j) * NS_LANES;
                if (b_panels - j >= GROUP)
                    panel_tile(x, y, panel, kc, out, k == 0, GROUP, sq, next_x, next_y);
                else if (b_panels - j == 2)
                    panel_tile(x, y, panel, kc, out, k == 0, 2, sq, next_x, next_y);
                else
                    panel_tile(x, y, panel, kc, out, k == 0, 1, sq, next_x, next_y);
            }
        }
    }
}

static void tile_dot(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c) {
    tile(a, b, d, a_panels, b_panels, c, 0);
}

static void tile_sqeuclidean(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c) {
    tile(a, b, d, a_panels, b_panels, c, 1);
}

/* Up to four panels, `follow` elements behind which the next ones lie. */
static inline __attribute__((always_inline)) void vector_few(const float *vector, const float *const *panels,
                                                             int64_t d, int64_t follow, float *out, int64_t n) {
    switch (n) {
        case 1: vector_panels(vector, panels, d, follow, out, 1); break;
        case 2: vector_panels(vector, panels, d, follow, out, 2); break;
        case 3: vector_panels(vector, panels, d, follow, out, 3); break;
        default: vector_panels(vector, panels, d, follow, out, 4); break;
    }
}

static void vector_dot(const float *vector, const float *panels, int64_t d, int64_t n_panels, float *out) {
    const int64_t panel = NS_LANES * d;
    for (int64_t j = 0; j < n_panels; j += 4) {
        const float *p = panels + j * panel, *const few[] = {p, p + panel, p + 2 * panel, p + 3 * panel};
        vector_few(vector, few, d, 3 * panel, out + j * NS_LANES, n_panels - j);
    }
}

static void vector_dot_of(const float *vector, const float *panels, int64_t d, const int64_t *which, int64_t n_panels,
                          float *out) {
    for (int64_t j = 0; j < n_panels; j += 4) {
        const float *few[4];
        for (int64_t p = 0; p < 4; p++) few[p] = panels + which[j + p < n_panels ? j + p : j] * NS_LANES * d;
        vector_few(vector, few, d, 0, out + j * NS_LANES, n_panels - j);
    }
}
