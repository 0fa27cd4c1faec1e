#!/usr/bin/env bash
# Installs Chromium and its driver where they are missing and may be installed.
set -euo pipefail
command -v chromium >/dev/null && command -v chromedriver >/dev/null && exit
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "chromium and chromedriver are missing: the tests of the report in a browser will be skipped" >&2
    exit
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null
