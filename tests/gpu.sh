#!/usr/bin/env bash
# Proof on a GPU: builds the tests with nvcc for the GPU found, runs the whole suite, one process for each folder, four at a
# time, then memcheck, racecheck, initcheck and synccheck of compute-sanitizer over the tests of the kernels, and writes what
# came out, as it comes, to tests/results/gpu-<device>-<date>.txt, with the whole output of each process in a folder of that
# name. Needs the CUDA toolkit, CMake and ninja, no network and no Debian packages.
#
#   --minutes N            ends within N minutes: memcheck and racecheck see a dozen cases, then the benchmarks run, a step is
#                          profiled by ncu and PyTorch is measured, where they are there; what has no time left is said
#   --pack FOLDER          needs no GPU: builds tests and benchmarks and packs them with the libraries they need beside CUDA's
#                          into FOLDER/meristem-gpu.tar.xz, to be carried to a machine that has nothing but a driver and CUDA
#   --programs FOLDER      what --pack wrote, or a folder with meristem_tests_cuda: nothing is built
#   --dependencies FOLDER  has doctest/doctest.h and nlohmann/json.hpp, and dlpack/dlpack.h for the tests of DLPack
#   --build FOLDER         where to build; build-gpu in the repository by default
#   --architecture N       compile for sm_N in place of the GPU found; this is how to build where there is none
#   --results FOLDER       where to write, in place of tests/results
#   --folders LIST         tests of these folders only, with commas between
#   --list                 build, list the test cases, run none
#   --quick                no sanitizers
#
# Exit code 0: everything passed. 1: something failed. 2: it could not be built or started. 77: nothing was proven, as
# there is no GPU; 78: the tests passed, but sanitizers are missing.
set -uo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
command="tests/gpu.sh${*:+ $*}"

fail() {
  echo "tests/gpu.sh: $*" >&2
  exit 2
}
results=$root/tests/results dependencies='' programs='' build=$root/build-gpu architecture='' list=false quick=false
minutes='' pack='' folders=''
while (($#)); do
  case $1 in
    --dependencies | --programs | --build | --architecture | --results | --minutes | --pack | --folders)
      [[ -n ${2:-} ]] || fail "$1 needs a value; --help lists the options"
      declare "${1#--}=$2"
      shift 2
      ;;
    --list) list=true && shift ;;
    --quick) quick=true && shift ;;
    --help)
      sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
done
[[ -z $minutes || $minutes =~ ^[1-9][0-9]*$ ]] || fail "--minutes is $minutes; it is a whole number"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A place that a tool may be in beside PATH.
find_tool() {
  command -v "$1" && return
  local folder
  for folder in "${CUDA_PATH:-}" "${CUDA_HOME:-}" /usr/local/cuda; do
    if [[ -n $folder && -x $folder/bin/$1 ]]; then
      echo "$folder/bin/$1"
      return
    fi
  done
  return 1
}

gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1) || gpu=''

benchmarks=''
if [[ -n $programs ]]; then
  if [[ -f $programs/meristem-gpu.tar.xz ]]; then
    tar -xJf "$programs/meristem-gpu.tar.xz" -C "$scratch" || fail "$programs/meristem-gpu.tar.xz cannot be unpacked; pack it again"
    programs=$scratch
  fi
  tests=$programs/meristem_tests_cuda
  [[ -x $tests ]] || fail "there is no program $tests; --programs names the folder that holds meristem_tests_cuda, or what --pack wrote"
  if [[ -x $programs/bench_all_cuda ]]; then benchmarks=$programs; fi
else
  for tool in cmake ninja; do find_tool $tool >/dev/null || fail "$tool is missing: install it, or name programs built elsewhere by --programs"; done
  nvcc=$(find_tool nvcc) || fail "nvcc is missing: install the CUDA toolkit, set CUDA_PATH, or name programs built elsewhere by --programs"
  options=(-DCMAKE_BUILD_TYPE=Release -DMERISTEM_CUDA=ON -DMERISTEM_CPU=OFF -DMERISTEM_INSTALL=OFF
    "-DCMAKE_CUDA_COMPILER=$nvcc" -DMERISTEM_BUILD_TESTS=ON -DMERISTEM_BUILD_EXAMPLES=OFF)
  targets=(meristem_tests_cuda)
  if [[ -n $pack ]]; then
    # Benchmarks in one program, and no library of g++'s that is newer than that of the machine they are carried to.
    options+=(-DMERISTEM_BUILD_BENCH=ON -DCMAKE_UNITY_BUILD=ON -DMERISTEM_NATIVE=OFF "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc")
    targets+=(bench_all_cuda)
  else
    options+=(-DMERISTEM_BUILD_BENCH=OFF)
  fi
  if [[ -n $architecture ]]; then
    options+=("-DCMAKE_CUDA_ARCHITECTURES=$architecture")
  elif [[ -z $gpu ]]; then
    options+=(-DCMAKE_CUDA_ARCHITECTURES=90)
    echo "No GPU was found: building for sm_90; --architecture names another."
  fi
  if [[ -n $dependencies ]]; then
    dependencies=$(cd -- "$dependencies" 2>/dev/null && pwd) || fail "there is no folder $dependencies (--dependencies)"
    for header in doctest/doctest.h nlohmann/json.hpp; do
      [[ -f $dependencies/$header ]] || fail "$dependencies has no $header: copy the header of that name there"
    done
    options+=("-DMERISTEM_DOCTEST_INCLUDE_DIR=$dependencies" "-DMERISTEM_JSON_INCLUDE_DIR=$dependencies")
    if [[ -f $dependencies/dlpack/dlpack.h ]]; then options+=("-DMERISTEM_DLPACK_INCLUDE_DIR=$dependencies"); fi
  fi
  cmake -S "$root" -B "$build" -G Ninja "${options[@]}" || fail "the build could not be configured"
  cmake --build "$build" --target "${targets[@]}" || fail "the programs could not be built"
  tests=$build/tests/meristem_tests_cuda
  if [[ -n $pack ]]; then
    mkdir -p "$pack" "$scratch/pack" || fail "there is no folder $pack and it cannot be made (--pack)"
    for program in "$tests" "$build/bench/bench_all_cuda"; do
      strip -o "$scratch/pack/$(basename "$program")" "$program" || fail "$program cannot be stripped"
      # Neither CUDA's libraries, which belong to the driver and the device, nor the C library.
      ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | grep -vE '/(libcu|libnv|libc\.|libm\.|libdl\.|librt\.|libpthread\.|ld-)' |
        xargs -r cp -Lt "$scratch/pack"
    done
    tar -cJf "$pack/meristem-gpu.tar.xz" -C "$scratch/pack" . || fail "$pack/meristem-gpu.tar.xz cannot be written"
    echo "Packed $(find "$scratch/pack" -type f -printf '%f ')into $pack/meristem-gpu.tar.xz, $(du -h "$pack/meristem-gpu.tar.xz" | cut -f 1)"
    exit 0
  fi
fi

# Where a toolkit is only part of a Python environment, its libraries are in no place that the loader looks at.
export LD_LIBRARY_PATH=$programs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for library in $(ldd "$tests" 2>/dev/null | sed -n 's/^[[:space:]]*\(lib[^ ]*\) => not found/\1/p'); do
  found=$(find / -xdev -name "$library" -print -quit 2>/dev/null)
  [[ -n $found ]] || fail "$library is missing, which the tests need; install the CUDA libraries"
  LD_LIBRARY_PATH+=${LD_LIBRARY_PATH:+:}$(dirname "$found")
done

cases=$("$tests" --list-test-cases --no-skip 2>/dev/null | grep -vc '^\[doctest\]\|^=' || true)
echo "$cases test cases in $tests"
((cases > 0)) || fail "$tests lists no test case"
if $list; then
  "$tests" --list-test-cases --no-skip
  exit 0
fi
if [[ -z $gpu ]]; then
  echo "Skipped: nvidia-smi shows no GPU here. The tests are built, none was run: nothing was proven."
  exit 77
fi

mkdir -p "$results"
slug=$(tr '[:upper:]' '[:lower:]' <<<"$gpu" | tr -cs 'a-z0-9' '-' | sed 's/^-//;s/-$//')
logs=$results/gpu-$slug-$(date -u +%F) result=$logs.txt
rm -rf "$logs"
mkdir -p "$logs"
failed=0 missing=0

say() { echo "$*" | tee -a "$result"; }
# Seconds that are left, with some to say so.
left() { if [[ -n $minutes ]]; then echo $((60 * minutes - SECONDS - 10)); else echo 86400; fi; }
# stage <name> <seconds at most> <command...>: one line with the outcome, and the lines of the output that count something.
stage() {
  local name=$1 most=$2 start=$SECONDS outcome=passed log
  shift 2
  log=$logs/$(tr -cs 'a-z0-9\n' '-' <<<"$name").txt
  if (($(left) < most)); then most=$(left); fi
  if ((most < 5)); then
    say "$(printf '%-40s no time was left for it' "$name")"
    return
  fi
  timeout -k 5 "$most" "$@" >"$log" 2>&1
  case $? in
    0) ;;
    124 | 137) outcome="CUT OFF after $most s" ;;
    *) outcome=FAILED ;;
  esac
  # In one piece, as others write as well.
  {
    printf '%-40s %-7s %5d s\n' "$name" "$outcome" $((SECONDS - start))
    grep -E '^\[doctest\] (test cases|assertions)|ERROR SUMMARY|RACECHECK SUMMARY|^Wrote ' "$log" | sed 's/^/    /'
    if [[ $outcome != passed ]]; then
      grep -E '^TEST CASE:|ERROR:|=========.*(error|Error|hazard)' "$log" | sort | uniq -c | head -40 | sed 's/^/    /'
      tail -5 "$log" | sed 's/^/    | /'
      : >"$logs/failed-$name"
    fi
  } | tee -a "$result"
}

: >"$result"
say "command    $command"
say "date       $(date -u +'%F %T') UTC"
say "commit     $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)"
say "GPU        $(nvidia-smi --query-gpu=name,driver_version,compute_cap,clocks.max.sm,memory.total --format=csv,noheader | head -1)"
say "toolkit    $("${nvcc:-$(find_tool nvcc || echo true)}" --version 2>/dev/null | grep release || echo 'none here: programs built elsewhere')"
say "test cases $cases"

# An error that a context does not survive ends the tests of one folder, not all. The order is that of the layers.
if [[ -z $folders ]]; then
  folders=core,kernels,nn,optim
  for folder in "$root"/tests/*/test_*.cpp; do
    folder=$(basename "$(dirname "$folder")")
    [[ ,$folders, == *,$folder,* ]] || folders+=,$folder
  done
fi
for folder in ${folders//,/ }; do
  while (($(jobs -pr | wc -l) >= 4)); do wait -n; done
  stage "tests of $folder" "$([[ -n $minutes ]] && echo 150 || echo 7200)" "$tests" --no-skip "--source-file=*/tests/$folder/*" &
done
wait
ran=$(sed -n 's/^\[doctest\] test cases: *\([0-9]*\) .*/\1/p' "$logs"/tests-of-*.txt | awk '{ sum += $1 } END { print sum + 0 }')
say "$ran of $cases test cases were run"

if $quick; then
  say "sanitizers: left out by --quick"
elif sanitizer=$(find_tool compute-sanitizer); then
  # sanitize <tool> <seconds at most> <option of doctest...>
  sanitize() {
    stage "$1, kernel tests" "$2" env MERISTEM_MEMORY_CACHE=0 "$sanitizer" --tool "$1" --error-exitcode 1 "$tests" "${@:3}"
  }
  if [[ -n $minutes ]]; then
    sanitize memcheck 150 "--test-case=implicit_gemm: axes that*,implicit_gemm: statistics of*,implicit_gemm: pointers*,*offset_products_kernel: maps of*,*offset_products_kernel: channels*,patch rows: chosen*,reduce: column_sums against*,softmax_cross_entropy: loss*,batch norm: forward*,pool: maxima*,optimizer: many parameters*,grow_copy: slices*"
    sanitize racecheck 90 "--test-case=implicit_gemm: axes that*,*offset_products_kernel: maps of*,reduce: sum,*softmax_cross_entropy: loss*,batch norm: statistics*,patch rows: chosen*"
  else
    # Slow cases repeat at larger sizes what the unit cases show.
    for tool in memcheck racecheck initcheck synccheck; do
      sanitize $tool 86400 '--source-file=*/tests/kernels/*,*/tests/core/test_launch.cpp' --test-suite=unit
    done
  fi
else
  missing=1
  say "sanitizers: compute-sanitizer is missing; it is part of the CUDA toolkit (package cuda-sanitizer)"
fi

if [[ -n $minutes && -n $benchmarks ]]; then
  bench=("$root/bench/run.sh" --device gpu --build "$benchmarks" --out "$root/bench/results" --quick)
  stage benchmarks 150 "${bench[@]}" --minutes 2
  if profiler=$(find_tool ncu); then
    stage "profile of a training step" 90 "$profiler" --clock-control none --launch-count 120 \
      --metrics gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed,sm__throughput.avg.pct_of_peak_sustained_elapsed \
      "$benchmarks/bench_all_cuda" --quick '--benchmark_filter=train_step/resnet18_strided/channels:64'
  fi
  if python3 -c 'import torch' 2>/dev/null; then
    stage PyTorch 120 python3 -B "$root/bench/peer/pytorch.py" --device cuda --quick --out "$root/bench/results/peer-pytorch-$slug.json"
  fi
fi
failed=$(find "$logs" -name 'failed-*' | wc -l)
find "$logs" -name 'failed-*' -delete
say "$( ((failed)) && echo "$failed stages FAILED" || echo "all stages passed")"
echo "Wrote $result"
if ((failed)); then exit 1; fi
if ((missing)); then exit 78; fi
