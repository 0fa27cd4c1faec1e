#!/usr/bin/env bash
# Runs the native tests on an extension and test kernels built with AddressSanitizer and UndefinedBehaviorSanitizer:
#
#     sanitize_tests.sh PYTHON [PYTEST ARGUMENT]...
#
# Any report ends it with a non-zero exit code; no suppressions. Leaks are not looked for: what Python itself never
# frees would hide ours; the driver (sanitize.sh) looks for them. Left out: tests on an emulated CPU, where the
# instrumentation cannot run, and those that build something of their own.
set -euo pipefail
python=$(realpath -s "$1") # of the virtual environment, so its links stay
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cp -r "$root"/{native_simd,cluster_engine} "$folder"
find "$folder" -name '*.so' -delete
export CFLAGS="-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
cd "$folder"
"$python" - <<'BUILD'
import os
import shlex
import subprocess
import sys
import sysconfig

sys.path.insert(0, "native_simd")  # the package cannot be imported before this has built it
import _build as build

build.ffibuilder.emit_c_code("_simd.c")
sources = [str(build.csrc / name) for name in build.SOURCES]
flags = [*build.COMPILE_ARGS, *shlex.split(os.environ["CFLAGS"]), f"-I{build.csrc}", f"-I{sysconfig.get_path('include')}"]
command = ["gcc", *flags, "-shared", "-fPIC", "_simd.c", *sources, "-lm", "-o", "native_simd/_simd.abi3.so"]
subprocess.run(command, check=True)
BUILD

runtime=
for library in libasan.so libubsan.so libstdc++.so; do # the last for exceptions, which it must find before Python runs
    runtime+="$(gcc -print-file-name=$library) "
done
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1
builders=()
for name in driver packaging gate; do
    builders+=(--ignore "$root/tests/native/test_$name.py")
done
LD_PRELOAD=$runtime "$python" -m pytest -c "$root/pyproject.toml" --rootdir "$root" -p no:cacheprovider --capture=sys \
    -m "not emulated" "${builders[@]}" "$root/tests/native" "$root"/tests/unit/test_native_*.py "$@"
