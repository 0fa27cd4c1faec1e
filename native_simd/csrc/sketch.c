/* Sketches: of unit vectors a few 8-bit digits, whose integer product bounds the cosine from above. README.md,
 * "Sketches", proves the bound.
 *
 * Row i of the basis H (h x d) is nearly orthonormal to the others; z = H x up to `rounding`. Left digits are
 * z / left_unit and right ones z / right_unit, rounded; so a pair takes the left digits of one and the right ones of the
 * other. What digits leave out enters by three products of two terms each, in further digits that are rounded up. */
#include <math.h>
#include <string.h>

#include "sketch.h"

typedef struct {
    const ns_digits *digits;
    const float *z;
    double *terms;
    const int64_t *order;
    uint8_t *left;
    int8_t *right;
    int32_t *offsets;
} encoding;

static int32_t digit(float z, double per_unit, double most) {
    const double digit = (double)z * per_unit;
    return (int32_t)lrint(digit > most ? most : digit < -most ? -most : digit);
}

/* Of digits in `unit`: the length of what they stand for, how far H (x - it) can be from 0, and x - it itself. */
static void measure(const ns_digits *c, const float *z, double unit, double most, double *length, double *inside,
                    double *missed) {
    double squares = 0.0, misses = 0.0, whole = 0.0;
    for (int64_t k = 0; k < c->h; k++) {
        const double q = (double)digit(z[k], 1.0 / unit, most), e = (double)z[k] - unit * q;
        squares += q * q, misses += e * e, whole += (double)z[k] * (double)z[k];
    }
    const double up = 1.0 + 0x1p-40; /* pays for float64, of NS_MOST_COORDINATES terms at most */
    *length = unit * sqrt(squares) * up;
    *inside = (sqrt(misses) + c->rounding + 2.0 * c->skew * *length) * up;
    const double outside = 1.0 - whole + misses + (2.0 * c->rounding + c->skew * *length) * *length;
    *missed = sqrt((outside > 0.0 ? outside : 0.0) + 0x1p-36) * up; /* float64 again: the differences */
}

static void terms_item(void *context, int64_t panel) {
    const encoding *e = context;
    const ns_digits *c = e->digits;
    for (int64_t i = panel * NS_LANES; i < ns_least(c->n, (panel + 1) * NS_LANES); i++) {
        double *t = e->terms + i * 2 * NS_N_TERMS;
        const float *z = e->z + i * c->h;
        measure(c, z, c->left_unit, NS_MOST_LEFT, &t[0], &t[1], &t[2]);
        measure(c, z, c->right_unit, NS_MOST_RIGHT, &t[4], &t[3], &t[5]);
    }
}

static int is_basis(const ns_digits *c) {
    return c->n >= 0 && c->h >= 1 && c->h <= NS_MOST_COORDINATES && c->left_unit >= 0x1p-14 && c->left_unit <= 1.0 &&
           c->right_unit >= 0x1p-14 && c->right_unit <= 1.0 && c->rounding > 0.0 && c->rounding <= 1.0 &&
           c->skew >= 0.0 && c->skew <= 1.0;
}

static double panel_ns(const ns_digits *c) { return 4.0 * NS_LANES * (double)c->h; }

int32_t ns_sketch_terms(const ns_digits *digits, const float *z, double *terms, int32_t threads) {
    if (!is_basis(digits) || threads < 1) return NS_E_ARGUMENT;
    encoding e = {.digits = digits, .z = z, .terms = terms};
    return ns_parallel(terms_item, &e, ns_panels(digits->n), panel_ns(digits), threads);
}

static void digits_item(void *context, int64_t panel) {
    const encoding *e = context;
    const ns_digits *c = e->digits;
    uint8_t *left = e->left + panel * c->groups * NS_STEP;
    int8_t *right = e->right + panel * c->groups * NS_STEP;
    memset(left, 0, (size_t)(c->groups * NS_STEP)), memset(right, 0, (size_t)(c->groups * NS_STEP));
    for (int64_t v = 0; v < NS_LANES; v++) {
        const int64_t position = panel * NS_LANES + v;
        int32_t sum = 0;
        if (position < c->n) {
            const float *z = e->z + e->order[position] * c->h;
            const double *terms = e->terms + e->order[position] * 2 * NS_N_TERMS;
            int64_t place = 0;
            for (; place < c->h; place++) {
                const int64_t at = place / NS_GROUP * NS_STEP + v * NS_GROUP + place % NS_GROUP;
                const int32_t b = digit(z[place], 1.0 / c->right_unit, NS_MOST_RIGHT);
                left[at] = (uint8_t)(digit(z[place], 1.0 / c->left_unit, NS_MOST_LEFT) + NS_MOST_LEFT);
                right[at] = (int8_t)b;
                sum += b;
            }
            for (int t = 0; t < NS_N_TERMS; t++)
                for (int64_t copy = 0; copy < c->copies[t]; copy++, place++) {
                    const int64_t at = place / NS_GROUP * NS_STEP + v * NS_GROUP + place % NS_GROUP;
                    left[at] = (uint8_t)ceil(terms[t] / c->left_steps[t]);
                    right[at] = (int8_t)ceil(terms[NS_N_TERMS + t] / c->right_steps[t]);
                }
        }
        e->offsets[position] = -NS_MOST_LEFT * sum;
    }
}

int32_t ns_sketch_digits(const ns_digits *digits, const float *z, const double *terms, const int64_t *order,
                         uint8_t *left, int8_t *right, int32_t *offsets, int32_t threads) {
    if (!is_basis(digits) || threads < 1 || digits->groups > NS_MOST_GROUPS) return NS_E_ARGUMENT;
    int64_t width = digits->h;
    for (int t = 0; t < NS_N_TERMS; t++) width += digits->copies[t];
    if (width > NS_GROUP * digits->groups) return NS_E_ARGUMENT;
    encoding e = {digits, z, (double *)terms, order, left, right, offsets};
    return ns_parallel(digits_item, &e, ns_panels(digits->n), panel_ns(digits), threads);
}
