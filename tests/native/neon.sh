#!/usr/bin/env bash
# Cross-compiles the native library for AArch64 and compares its NEON kernels with scalar under QEMU, bit for bit.
# Installs the Debian packages it needs when it may; exit code 0: all equal.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/driver.sh"

if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "install gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user first" >&2
        exit 3
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user >/dev/null
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
build_driver aarch64-linux-gnu-gcc "$folder/driver" -static
qemu-aarch64 "$folder/driver" neon
