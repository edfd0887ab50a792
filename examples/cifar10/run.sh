#!/usr/bin/env bash
# Builds and runs the main program; all options go to it (--help lists them). Installs packages that are missing.
# run.sh --download fetches CIFAR-10 into ./cifar-10-batches-bin, where the program looks by itself, and ends if there
# are no other options. On a machine with nvcc and a GPU the program runs on the GPU, else on the CPU.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=cmake/prepare.sh
source "$root/cmake/prepare.sh"

download=no
arguments=()
for argument in "$@"; do
  if [[ $argument == --download ]]; then download=yes; else arguments+=("$argument"); fi
done
if [[ $download == yes ]]; then
  # shellcheck source=examples/cifar10/download.sh
  source "$root/examples/cifar10/download.sh"
  cifar10_download "$PWD"
  ((${#arguments[@]})) || exit 0
fi

install_packages "${library_packages[@]}" libcli11-dev nlohmann-json3-dev libstb-dev
cuda=OFF
program=cifar10
if has_cuda; then
  cuda=ON
  program=cifar10_cuda
fi

# The terminal is for the program: what building prints goes to a file, and is shown if it fails.
mkdir -p "$root/build"
log=$root/build/run.log
[[ -x $root/build/examples/cifar10/$program ]] || echo "Building $program, once (progress in $log)" >&2
if ! { cmake -S "$root" --preset release -DMERISTEM_CUDA=$cuda -DMERISTEM_BUILD_EXAMPLES=ON -DMERISTEM_BUILD_TESTS=OFF \
  -DMERISTEM_BUILD_BENCH=OFF && cmake --build "$root/build" --target $program; } >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
exec "$root/build/examples/cifar10/$program" "${arguments[@]}"
