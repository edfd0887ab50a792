#!/usr/bin/env bash
# Builds everything and runs the tests; options go to ctest (for instance -L unit, or -R blas). Installs packages that
# are missing. MERISTEM_PRESET names another preset of CMakePresets.json than release.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=cmake/prepare.sh
source "$root/cmake/prepare.sh"

install_packages "${library_packages[@]}" libcli11-dev nlohmann-json3-dev libstb-dev doctest-dev libbenchmark-dev \
  libdlpack-dev libcsv-dev pkg-config python3-dev python3-venv

preset=${MERISTEM_PRESET:-release}
build=$root/build
options=()
if [[ $preset == release ]]; then
  # The same folder as the main program's, which leaves the tests out.
  options=(-DMERISTEM_BUILD_TESTS=ON -DMERISTEM_BUILD_EXAMPLES=ON -DMERISTEM_BUILD_BENCH=ON -DMERISTEM_CUDA=OFF)
  if has_cuda; then options+=(-DMERISTEM_CUDA=ON); fi
else
  build=$root/build-$preset
fi
cmake -S "$root" --preset "$preset" "${options[@]}"
cmake --build "$build"

if ! has_cuda; then
  echo "There is no GPU with nvcc here; tests for the GPU (label gpu) are reported as skipped."
fi
# One test for each processor at a time, each with one thread. nproc would take OMP_NUM_THREADS for the processors.
processors=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec ctest --test-dir "$build" --output-on-failure -j "$processors" "$@"
