#!/usr/bin/env bash
# run.sh [executions] [target...]: fuzzes the readers, each in one process, and says how many executions there were.
# Needs clang with libFuzzer. Inputs that were found interesting stay in build/fuzz/corpus/<target>, crashes in
# build/fuzz/crashes.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
runs=${1:-1000000}
shift || true
targets=("$@")
((${#targets[@]})) || targets=(cifar csv npy safetensors checkpoint model architecture history image image_folder)
build=${FUZZ_BUILD:-$root/build/fuzz}
compiler=${FUZZ_CXX:-$(command -v clang++-14 || command -v clang++)}
mkdir -p "$build/crashes"

# shellcheck disable=SC2054  # the commas belong to clang
flags=(-std=c++20 -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -w)
"$compiler" "${flags[@]}" -I "$root/include" -I "$root/kernels" -c "$root/tests/fuzz/fuzz.cpp" -o "$build/fuzz.o"
# In damaged JPEG files stb_image 2.27 shifts zeros too far and lets products of pixels wrap around, which does no harm.
"$compiler" "${flags[@]}" -fno-sanitize=shift,signed-integer-overflow -fwrapv -c "$root/tests/fuzz/images.cpp" -o "$build/images.o"
"$compiler" -fsanitize=fuzzer,address,undefined "$build/fuzz.o" "$build/images.o" -lboost_context -lcsv -lopenblas -llapacke \
  -o "$build/fuzz"

status=0
for target in "${targets[@]}"; do
  corpus=$build/corpus/$target
  mkdir -p "$corpus"
  longest=6144
  [[ $target == cifar ]] && longest=12300
  # No single allocation above 256 MiB, no more than 1 GiB in all, no input that takes longer than 20 seconds.
  if FUZZ_TARGET=$target OMP_NUM_THREADS=1 nice -n 19 "$build/fuzz" "$corpus" "$root/tests/fuzz/seeds/$target" \
    -runs="$runs" -max_len=$longest -malloc_limit_mb=256 -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 \
    -artifact_prefix="$build/crashes/$target-" >"$build/$target.log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$target.log") executions, nothing found"
  else
    echo "$target: a fault; see $build/$target.log" >&2
    status=1
  fi
done
exit "$status"
