#!/usr/bin/env bash
# consume.sh install|cuda|add_subdirectory|plain <source folder> <build folder> <CMake generator> <C++ compiler>
# [<CUDA compiler> <GPU architectures>]: builds examples/consume outside the source tree and runs it.
set -euo pipefail
way=$1
root=$2
build=$3
generator=$4
compiler=$5
shift 5

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/examples/consume" "$work/source"
program=$work/build/consume

build_consume() {
  cmake -S "$work/source" -B "$work/build" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" "$@"
  cmake --build "$work/build"
}

case $way in
  install)
    cmake --install "$build" --prefix "$work/prefix"
    build_consume -DCMAKE_PREFIX_PATH="$work/prefix"
    ;;
  cuda)
    cmake --install "$build" --prefix "$work/prefix"
    build_consume -DCMAKE_PREFIX_PATH="$work/prefix" -DCONSUME_CUDA=ON -DCMAKE_CUDA_COMPILER="$1" \
      -DCMAKE_CUDA_ARCHITECTURES="$2"
    ;;
  add_subdirectory)
    sed -i "s|^find_package(meristem .*|add_subdirectory(\"$root\" meristem)|" "$work/source/CMakeLists.txt"
    build_consume
    ;;
  plain)
    mkdir "$work/build"
    "$compiler" -std=c++20 -fopenmp -I "$root/include" -I "$root/kernels" "$work/source/main.cpp" \
      -llapacke -lopenblas -lboost_context -o "$program"
    ;;
esac

"$program" | tee "$work/output"
grep -q ': 14 32 32 77$' "$work/output"
