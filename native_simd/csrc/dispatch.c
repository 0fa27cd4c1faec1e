/* From the number of an instruction set to its kernels. */
#include "internal.h"

const char *ns_isa_name(int32_t isa) {
    switch (isa) {
        case NS_SCALAR: return "scalar";
        case NS_NEON: return "neon";
        case NS_AVX2: return "avx2";
        case NS_AVX512: return "avx512";
        default: return NULL;
    }
}

const ns_kernels *ns_table(int32_t isa) {
    if (!ns_isa_available(isa)) return NULL;
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
