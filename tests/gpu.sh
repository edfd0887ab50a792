#!/usr/bin/env bash
# Proof on a GPU: builds the tests with nvcc for the GPU found, runs the whole suite, then memcheck, racecheck, initcheck
# and synccheck of compute-sanitizer over the tests of the kernels, and writes what came out to
# tests/results/gpu-<device>-<date>.txt. Needs the CUDA toolkit, CMake and ninja, no network and no Debian packages.
#
#   --dependencies FOLDER  has doctest/doctest.h and nlohmann/json.hpp, and dlpack/dlpack.h for the tests of DLPack
#   --programs FOLDER      holds meristem_tests_cuda, built elsewhere: nothing is built
#   --build FOLDER         where to build; build-gpu in the repository by default
#   --architecture N       compile for sm_N in place of the GPU found; this is how to build where there is none
#   --results FOLDER       where to write, in place of tests/results
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
while (($#)); do
  case $1 in
    --dependencies | --programs | --build | --architecture | --results)
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

if [[ -n $programs ]]; then
  tests=$programs/meristem_tests_cuda
  [[ -x $tests ]] || fail "there is no program $tests; --programs names the folder that holds meristem_tests_cuda"
else
  for tool in cmake ninja; do find_tool $tool >/dev/null || fail "$tool is missing: install it, or name programs built elsewhere by --programs"; done
  nvcc=$(find_tool nvcc) || fail "nvcc is missing: install the CUDA toolkit, set CUDA_PATH, or name programs built elsewhere by --programs"
  options=(-DCMAKE_BUILD_TYPE=Release -DMERISTEM_CUDA=ON -DMERISTEM_CPU=OFF -DMERISTEM_INSTALL=OFF
    "-DCMAKE_CUDA_COMPILER=$nvcc" -DMERISTEM_BUILD_TESTS=ON -DMERISTEM_BUILD_EXAMPLES=OFF -DMERISTEM_BUILD_BENCH=OFF)
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
  cmake --build "$build" --target meristem_tests_cuda || fail "the tests could not be built"
  tests=$build/tests/meristem_tests_cuda
fi

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
result=$results/gpu-$slug-$(date -u +%F).txt
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0 missing=0

say() { echo "$*" | tee -a "$result"; }
# stage <name> <command...>: one line with the outcome and the last lines of the output that count something.
stage() {
  local name=$1 start=$SECONDS outcome=passed
  shift
  echo "== $name"
  "$@" >"$log" 2>&1 || outcome=FAILED
  if [[ $outcome == FAILED ]]; then
    failed=$((failed + 1))
    tail -100 "$log"
  fi
  say "$(printf '%-40s %-7s %5d s' "$name" "$outcome" $((SECONDS - start)))"
  grep -E '^\[doctest\] (test cases|assertions)|ERROR SUMMARY|RACECHECK SUMMARY' "$log" | sed 's/^/    /' | tee -a "$result"
  if [[ $outcome == FAILED ]]; then grep -E 'ERROR:|=========.*(error|Error|hazard)' "$log" | head -40 | sed 's/^/    /' | tee -a "$result"; fi
}

: >"$result"
say "command    $command"
say "date       $(date -u +'%F %T') UTC"
say "commit     $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)"
say "GPU        $(nvidia-smi --query-gpu=name,driver_version,compute_cap,clocks.max.sm,memory.total --format=csv,noheader | head -1)"
say "toolkit    $("${nvcc:-$(find_tool nvcc || echo true)}" --version 2>/dev/null | grep release || echo 'none here: programs built elsewhere')"
say "test cases $cases"
stage "suite" "$tests" --no-skip

kernel_tests='--source-file=*/tests/kernels/*,*/tests/core/test_launch.cpp'
if $quick; then
  say "sanitizers: left out by --quick"
elif sanitizer=$(find_tool compute-sanitizer); then
  # Slow cases repeat at larger sizes what the unit cases show.
  for tool in memcheck racecheck initcheck synccheck; do
    stage "$tool, kernel tests" env MERISTEM_MEMORY_CACHE=0 "$sanitizer" --tool $tool --error-exitcode 1 "$tests" "$kernel_tests" --test-suite=unit
  done
else
  missing=1
  say "sanitizers: compute-sanitizer is missing; it is part of the CUDA toolkit (package cuda-sanitizer)"
fi
say "$( ((failed)) && echo "$failed stages FAILED" || echo "all stages passed")"
echo "Wrote $result"
if ((failed)); then exit 1; fi
if ((missing)); then exit 78; fi
