#!/usr/bin/env bash
# Runs all of the native library under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer.
# Any report ends it with a non-zero exit code; no suppressions.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/driver.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# On the heap AddressSanitizer sees what leaves an array; mapped, all arrays are moved beside the threads that use them.
for sanitizers in address,undefined "thread -DNS_LEAST_MAPPED=64"; do
    read -ra flags <<<"-fsanitize=$sanitizers"
    echo "${flags[*]}"
    build_driver "${CC:-gcc}" "$folder/driver" -g -O1 -fno-omit-frame-pointer "${flags[@]}" \
        -fno-sanitize-recover=all -DNS_WORTH_NS=1
    ASAN_OPTIONS=detect_stack_use_after_return=1 TSAN_OPTIONS=halt_on_error=1 "$folder/driver"
done
