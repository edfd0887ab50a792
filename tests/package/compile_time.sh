#!/usr/bin/env bash
# compile_time.sh <source folder> <C++ compiler> [<CUDA compiler>]: prints what compiling an empty program that includes
# <meristem/meristem.hpp> takes, for parsing alone and as a whole, how much text that is, and what the README's quick start
# takes from headers alone and with the compiled library. The GPU's parsing is done for one architecture.
set -euo pipefail
root=$1
compiler=$2
nvcc=${3:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <meristem/meristem.hpp>\nint main() {}\n' >"$work/all.cpp"
printf '#include <meristem/core/tensor.hpp>\nint main() {}\n' >"$work/core.cpp"
cp "$work/all.cpp" "$work/all.cu"
awk '/^```/ { inside = 0 } inside; /^```cpp$/ { inside = ++seen == 1 }' "$root/README.md" >"$work/quick_start.cpp"
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
for mode in "headers alone" "compiled library"; do
  [[ $mode == headers* ]] && more=() || more=(-DMERISTEM_COMPILED)
  seconds "g++, quick start at -O2, $mode" "$compiler" "${flags[@]}" "${more[@]}" -fopenmp -O2 -c "$work/quick_start.cpp" \
    -o "$work/quick_start.o"
  size "$work/quick_start.o" | awk 'END { print "its code and constants:", $1, "bytes" }'
done
if [[ -n $nvcc ]]; then
  seconds "nvcc, meristem.hpp, empty main at -O3" "$nvcc" "${flags[@]}" -arch=sm_90 -O3 -c "$work/all.cu" -o "$work/all_cuda.o"
fi
