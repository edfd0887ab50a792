#!/usr/bin/env bash
# consume.sh install|add_subdirectory|plain <source folder> <build folder> <C++ compiler> <CMake generator>:
# builds examples/consume outside the source tree and runs it.
set -euo pipefail
way=$1
root=$2
build=$3
compiler=$4
generator=$5

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/examples/consume" "$work/source"

configure() {
  cmake -S "$work/source" -B "$work/build" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" "$@"
  cmake --build "$work/build"
}

case $way in
  install)
    cmake --install "$build" --prefix "$work/prefix"
    configure -DCMAKE_PREFIX_PATH="$work/prefix"
    program=$work/build/consume
    ;;
  add_subdirectory)
    sed -i "s|^find_package(meristem .*|add_subdirectory(\"$root\" meristem)|" "$work/source/CMakeLists.txt"
    configure
    program=$work/build/consume
    ;;
  plain)
    program=$work/consume
    "$compiler" -std=c++20 -fopenmp -I "$root/include" -I "$root/kernels" "$work/source/main.cpp" \
      -llapacke -lopenblas -lboost_context -o "$program"
    ;;
esac

"$program" | tee "$work/output"
grep -q ': 14 32 32 77$' "$work/output"
