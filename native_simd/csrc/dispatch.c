/* From the number of an instruction set to its kernels. */
#include <stdatomic.h>

#include "lanes.h"
#include "internal.h"
#include "sketch.h"

const char *ns_isa_name(int32_t isa) {
    switch (isa) {
        case NS_SCALAR: return "scalar";
        case NS_NEON: return "neon";
        case NS_AVX2: return "avx2";
        case NS_AVX512: return "avx512";
        default: return NULL;
    }
}

/* ns_isa_available, asked once: CPUID takes tens of microseconds in a virtual machine. */
static int32_t is_available(int32_t isa) {
    enum { UNKNOWN, NO, YES };
    static _Atomic int8_t answers[NS_N_ISAS];
    if (isa < 0 || isa >= NS_N_ISAS) return 0;
    int8_t answer = atomic_load_explicit(&answers[isa], memory_order_relaxed);
    if (answer == UNKNOWN) {
        answer = ns_isa_available(isa) ? YES : NO;
        atomic_store_explicit(&answers[isa], answer, memory_order_relaxed);
    }
    return answer == YES;
}

const ns_kernels *ns_table(int32_t isa) {
    if (!is_available(isa)) return NULL;
    switch (isa) {
        case NS_SCALAR: return &ns_kernels_scalar;
#if defined(__x86_64__)
        case NS_AVX2: return &ns_kernels_avx2;
        case NS_AVX512: return &ns_kernels_avx512;
#elif defined(__aarch64__)
        case NS_NEON: return &ns_kernels_neon;
#endif
        default: return NULL;
    }
}

const ns_lane_kernels *ns_lane_table(int32_t isa) {
    if (!is_available(isa)) return NULL;
    switch (isa) {
        case NS_SCALAR: return &ns_lane_kernels_scalar;
#if defined(__x86_64__)
        case NS_AVX2: return &ns_lane_kernels_avx2;
        case NS_AVX512: return &ns_lane_kernels_avx512;
#elif defined(__aarch64__)
        case NS_NEON: return &ns_lane_kernels_neon;
#endif
        default: return NULL;
    }
}

const ns_sketch_kernels *ns_sketch_table(int32_t isa) {
    if (!is_available(isa)) return NULL;
#if defined(__x86_64__)
    if (isa == NS_AVX512) return ns_vnni_available() ? &ns_sketch_kernels_avx512 : &ns_sketch_kernels_avx2;
    if (isa == NS_AVX2) return &ns_sketch_kernels_avx2;
#endif
    return &ns_sketch_kernels_scalar;
}
