#!/bin/sh
# Installs Debian's Chromium where none is found, for the test that opens a report in a browser.
set -eu

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        echo "Found $(command -v "$name")."
        exit 0
    fi
done

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Chromium should be installed for the tests of the report, and there is no apt-get here to do it." >&2
    echo "Install Chromium with this system's package manager, so that 'chromium' is on the PATH." >&2
    exit 1
fi

if [ "$(id -u)" -eq 0 ]; then
    sudo=""
elif command -v sudo >/dev/null 2>&1; then
    sudo="sudo"
else
    echo "Chromium should be installed for the tests of the report, which needs root and there is no sudo." >&2
    echo "Run as root: apt-get update && apt-get install -y --no-install-recommends chromium" >&2
    exit 1
fi

$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium
echo "Installed $(command -v chromium)."
