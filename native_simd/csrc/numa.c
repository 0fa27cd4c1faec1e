/*
 * Where this process's memory lies: the kernel's memory-policy calls, made directly.
 *
 * libnuma is not used: it is seldom installed, and five system calls need no library. The caller says
 * which nodes it wants; nothing here knows the machine's topology or decides a placement.
 *
 * Every function returns 0, or -errno. A platform or kernel without the call gives -ENOSYS.
 * Node masks are little arrays of 64-bit words: node i is bit i % 64 of word i / 64.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall(2) */
#endif
#include "internal.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>
#endif

int64_t ns_page_bytes(void)
{
    return (int64_t)sysconf(_SC_PAGESIZE);
}

#if defined(__linux__) && defined(SYS_set_mempolicy) && defined(SYS_get_mempolicy) && defined(SYS_mbind) && \
    defined(SYS_move_pages) && defined(SYS_getcpu)

_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "the kernel's mask words are unsigned long");

/* linux/mempolicy.h; the header itself is missing where only the C library's headers are installed. */
enum { MOVE_STRICT = 1 << 0, MOVE_OWN_PAGES = 1 << 1 };

/* Pages asked about in one move_pages call: 4 KiB of addresses on the stack. */
enum { PAGES_PER_CALL = 512 };

static int32_t result_of(long returned)
{
    return returned < 0 ? -errno : 0;
}

/* The kernel reads maxnode - 1 bits (a quirk of these calls since 2.6.7), so one more is said than is meant. */
static unsigned long max_node(int32_t n_words)
{
    return (unsigned long)n_words * 64 + 1;
}

int32_t ns_mempolicy_set(int32_t mode, const uint64_t *node_mask, int32_t n_words)
{
    if (n_words < 0)
        return -EINVAL;
    return result_of(syscall(SYS_set_mempolicy, (long)mode, node_mask, max_node(n_words)));
}

int32_t ns_mempolicy_get(int32_t *mode, uint64_t *node_mask, int32_t n_words)
{
    if (n_words < 0)
        return -EINVAL;
    int raw = 0;
    int32_t result = result_of(syscall(SYS_get_mempolicy, &raw, node_mask, max_node(n_words), NULL, 0UL));
    if (result == 0)
        *mode = raw;
    return result;
}

/*
 * Gives every page that holds a byte of the range the policy; the first and the last page may hold bytes of
 * neighbours, which share the page's fate. With move, pages touched before are moved too, and -EIO says
 * that some could not be.
 */
int32_t ns_memory_bind(void *address, int64_t n_bytes, int32_t mode, const uint64_t *node_mask, int32_t n_words,
                       int32_t move)
{
    if (n_bytes < 0 || n_words < 0)
        return -EINVAL;
    uintptr_t begin = (uintptr_t)address & ~((uintptr_t)ns_page_bytes() - 1);
    uintptr_t end = (uintptr_t)address + (uintptr_t)n_bytes;
    unsigned flags = move ? MOVE_OWN_PAGES | MOVE_STRICT : 0; /* without STRICT a page left behind is not told */
    return result_of(syscall(SYS_mbind, begin, (unsigned long)(end - begin), (long)mode, node_mask, max_node(n_words),
                             flags));
}

/*
 * nodes[i] becomes the node of the i-th page that holds a byte of the range, or -errno of that page: -ENOENT or
 * -EFAULT for one that was never written. n_pages must be the number of such pages.
 */
int32_t ns_page_nodes(const void *address, int64_t n_bytes, int32_t *nodes, int64_t n_pages)
{
    if (n_bytes < 0)
        return -EINVAL;
    uintptr_t page = (uintptr_t)ns_page_bytes();
    uintptr_t begin = (uintptr_t)address & ~(page - 1);
    uintptr_t end = (uintptr_t)address + (uintptr_t)n_bytes;
    int64_t n_spanned = n_bytes == 0 ? 0 : (int64_t)((end - begin + page - 1) / page);
    if (n_pages != n_spanned)
        return -EINVAL;
    const void *pages[PAGES_PER_CALL];
    for (int64_t first = 0; first < n_pages; first += PAGES_PER_CALL) {
        int64_t n_asked = n_pages - first < PAGES_PER_CALL ? n_pages - first : PAGES_PER_CALL;
        for (int64_t i = 0; i < n_asked; i++)
            pages[i] = (const void *)(begin + (uintptr_t)(first + i) * page);
        /* No target nodes: the call only asks. */
        int32_t result =
            result_of(syscall(SYS_move_pages, 0L, (unsigned long)n_asked, pages, NULL, nodes + first, 0L));
        if (result < 0)
            return result;
    }
    return 0;
}

int32_t ns_cpu_node(int32_t *cpu, int32_t *node)
{
    unsigned raw_cpu = 0, raw_node = 0;
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 29)
    int32_t result = result_of(getcpu(&raw_cpu, &raw_node)); /* does not enter the kernel, where the machine allows */
#else
    int32_t result = result_of(syscall(SYS_getcpu, &raw_cpu, &raw_node, NULL));
#endif
    if (result == 0) {
        *cpu = (int32_t)raw_cpu;
        *node = (int32_t)raw_node;
    }
    return result;
}

#else

int32_t ns_mempolicy_set(int32_t mode, const uint64_t *node_mask, int32_t n_words)
{
    (void)mode, (void)node_mask, (void)n_words;
    return -ENOSYS;
}

int32_t ns_mempolicy_get(int32_t *mode, uint64_t *node_mask, int32_t n_words)
{
    (void)mode, (void)node_mask, (void)n_words;
    return -ENOSYS;
}

int32_t ns_memory_bind(void *address, int64_t n_bytes, int32_t mode, const uint64_t *node_mask, int32_t n_words,
                       int32_t move)
{
    (void)address, (void)n_bytes, (void)mode, (void)node_mask, (void)n_words, (void)move;
    return -ENOSYS;
}

int32_t ns_page_nodes(const void *address, int64_t n_bytes, int32_t *nodes, int64_t n_pages)
{
    (void)address, (void)n_bytes, (void)nodes, (void)n_pages;
    return -ENOSYS;
}

int32_t ns_cpu_node(int32_t *cpu, int32_t *node)
{
    (void)cpu, (void)node;
    return -ENOSYS;
}

#endif
