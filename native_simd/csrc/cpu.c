/* Which instruction sets this CPU and this operating system offer. Makes no calls: it runs on an emulated CPU too. */
#include "internal.h"

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

/* CPUID says what the CPU decodes, XCR0 which registers the OS saves; both are needed. */
static int32_t x86_available(int32_t isa) {
    uint32_t eax, ebx, ecx, edx, leaf7_ebx;
    const uint64_t ymm_state = 0x6, zmm_state = 0xe6;
    if (!__get_cpuid_count(7, 0, &eax, &leaf7_ebx, &ecx, &edx) || !__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return 0;
    if (!(ecx & bit_OSXSAVE) || !(ecx & bit_FMA) || !(leaf7_ebx & bit_AVX2)) return 0;
    const uint64_t saved = xcr0();
    if ((saved & ymm_state) != ymm_state) return 0;
    if (isa == NS_AVX2) return 1;
    return isa == NS_AVX512 && (leaf7_ebx & bit_AVX512F) && (saved & zmm_state) == zmm_state;
}
#endif

int32_t ns_isa_available(int32_t isa) {
    if (isa == NS_SCALAR) return 1;
#if defined(__x86_64__)
    return x86_available(isa);
#elif defined(__aarch64__)
    return isa == NS_NEON; /* part of the base architecture */
#else
    return 0;
#endif
}

int32_t ns_vnni_available(void) {
#if defined(__x86_64__)
    uint32_t eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & bit_AVX512VNNI) && x86_available(NS_AVX512);
#else
    return 0;
#endif
}
