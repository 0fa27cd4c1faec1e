#!/usr/bin/env bash
# Installs Valgrind where it is missing and may be installed.
set -euo pipefail
command -v valgrind >/dev/null && exit
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "install valgrind first" >&2
    exit 3
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends valgrind >/dev/null
