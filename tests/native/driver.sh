# Sourced: build_driver COMPILER OUTPUT FLAGS... compiles driver.c, the histories and failing allocations of an index and the registry of operations
# with all of csrc and the flags of the wheel.
build_driver() {
    local compiler=$1 output=$2 root
    shift 2
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    "$compiler" -std=gnu11 -O3 -ffp-contract=off -fno-math-errno -Wall -Wextra -pthread "$@" \
        -I"$root/native_simd/csrc" "$root"/tests/native/{driver,index_histories,index_memory,operations}.c "$root"/native_simd/csrc/*.c \
        -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=mmap -lm -o "$output"
}
