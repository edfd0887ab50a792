#!/usr/bin/env bash
# compile_time.sh <source folder> <C++ compiler> [<CUDA compiler>]: prints what compiling an empty program that includes
# <meristem/meristem.hpp> takes, for parsing alone and as a whole, and how much text that is. The GPU's parsing is done
# for one architecture.
set -euo pipefail
root=$1
compiler=$2
nvcc=${3:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <meristem/meristem.hpp>\nint main() {}\n' >"$work/all.cpp"
printf '#include <meristem/core/tensor.hpp>\nint main() {}\n' >"$work/core.cpp"
cp "$work/all.cpp" "$work/all.cu"
flags=(-std=c++20 -I "$root/include" -I "$root/kernels")

# seconds <what> <command>...: processor time, which other programs on the machine disturb less than that of the clock.
seconds() {
  local what=$1
  shift
  TIMEFORMAT="$what: %U s of processor time, %R s by the clock"
  time "$@"
}

seconds "g++, core/tensor.hpp, parsing" "$compiler" "${flags[@]}" -fopenmp -fsyntax-only "$work/core.cpp"
seconds "g++, meristem.hpp, parsing" "$compiler" "${flags[@]}" -fopenmp -fsyntax-only "$work/all.cpp"
seconds "g++, meristem.hpp, empty main at -O2" "$compiler" "${flags[@]}" -fopenmp -O2 -c "$work/all.cpp" -o "$work/all.o"
echo "g++, meristem.hpp: $("$compiler" "${flags[@]}" -fopenmp -E -P "$work/all.cpp" | wc -l) lines after the preprocessor"
if [[ -n $nvcc ]]; then
  seconds "nvcc, meristem.hpp, empty main at -O3" "$nvcc" "${flags[@]}" -arch=sm_90 -O3 -c "$work/all.cu" -o "$work/all_cuda.o"
fi
