/* What every vector set writes alike, over its own `tile` and `vector_panels`: the entries of its table. Included by each
 * kernel file within its target region, so it has no guard. */

static void tile_dot(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c) {
    tile(a, b, d, a_panels, b_panels, c, 0);
}

static void tile_sqeuclidean(const float *a, const float *b, int64_t d, int64_t a_panels, int64_t b_panels, float *c) {
    tile(a, b, d, a_panels, b_panels, c, 1);
}

static void vector_dot(const float *vector, const float *panels, int64_t d, int64_t n_panels, float *out) {
    int64_t j = 0;
    for (; j + 4 <= n_panels; j += 4) vector_panels(vector, panels + j * NS_LANES * d, d, out + j * NS_LANES, 4);
    panels += j * NS_LANES * d, out += j * NS_LANES;
    switch (n_panels - j) {
        case 3: vector_panels(vector, panels, d, out, 3); break;
        case 2: vector_panels(vector, panels, d, out, 2); break;
        case 1: vector_panels(vector, panels, d, out, 1); break;
        default: break;
    }
}
