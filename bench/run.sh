#!/usr/bin/env bash
# Builds the benchmarks, runs them, and writes one file of results for each device: bench/results/<device>.json.
#
#   bench/run.sh                       everything, on the CPU and on the GPU if there is one
#   bench/run.sh --quick               the rows of the README's table, in few minutes
#   bench/run.sh --programs gemm       one program; several in quotes
#
#   --filter REGEX      rows by name            --repetitions N  each row N times; the file holds all of them
#   --device cpu|gpu    only that               --list           names of the rows, nothing is run
#   --minutes N         no row begins later     --out FOLDER     where to write, in place of bench/results
#   --build FOLDER      programs built elsewhere: bench_<name> and bench_<name>_cuda, or bench_all and bench_all_cuda, are in
#                       it; nothing is built
set -euo pipefail
folder=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$folder")
# shellcheck source=cmake/prepare.sh
source "$root/cmake/prepare.sh"

usage() { sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
fail() {
  echo "bench/run.sh: $*" >&2
  exit 2
}

command="bench/run.sh${*:+ $*}"
all=(gemm covariance conv_statistics solver conv2d layers train_step growth_step)
programs=("${all[@]}")
options=() minutes='' filter='' device=all build='' out=$folder/results list=false
# What the quick mode runs: the rows that stand in the README's tables.
quick_filter='^(gemm|copy|covariance/blas/n:1024/p:3072|statistics/(S1|set_full)_offsets/n:[0-9]+/c:64|train_step/(mlp|resnet18_strided)|train_step/n:128/c:64/|new_units/.*/p:(577|1153)/|hard/|resnet18/blas/n:128/width:16|layers|growth_step/mlp)'
while (($#)); do
  case $1 in
    --quick | --list) ;;
    --filter | --programs | --repetitions | --device | --build | --out | --minutes)
      [[ -n ${2:-} ]] || fail "$1 needs a value; --help lists the options"
      ;;
    --help)
      usage
      exit 0
      ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
  case $1 in
    --quick)
      options+=(--quick)
      filter=${filter:-$quick_filter}
      shift
      ;;
    --list) list=true && shift ;;
    --filter) filter=$2 && shift 2 ;;
    --programs) read -ra programs <<<"$2" && shift 2 ;;
    --repetitions) options+=("--benchmark_repetitions=$2" --benchmark_display_aggregates_only=true) && shift 2 ;;
    --device) device=$2 && shift 2 ;;
    --build) build=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --minutes) minutes=$2 && shift 2 ;;
  esac
done
[[ $device =~ ^(all|cpu|gpu)$ ]] || fail "--device is $device; it is cpu, gpu or all"
[[ -z $minutes || $minutes =~ ^[1-9][0-9]*$ ]] || fail "--minutes is $minutes; it is a whole number"
for program in "${programs[@]}"; do
  [[ " ${all[*]} " == *" $program "* ]] || fail "there is no program $program; there are: ${all[*]}"
done
if [[ -n $build && ! -d $build ]]; then fail "there is no folder $build (--build)"; fi
if [[ -x $build/bench_all || -x $build/bench_all_cuda ]]; then programs=(all); fi

suffixes=()
if [[ $device != gpu ]]; then suffixes+=('') ; fi
if [[ $device != cpu ]]; then
  if nvidia-smi -L >/dev/null 2>&1; then
    if [[ -n $build ]] || has_cuda; then
      suffixes+=(_cuda)
    else
      echo "Skipped: the GPU. There is one, but no nvcc to compile for it: put nvcc into PATH, or name a folder by --build."
    fi
  else
    echo "Skipped: the GPU. nvidia-smi shows none on this machine."
  fi
fi
if ((${#suffixes[@]} == 0)); then
  echo "Nothing was measured."
  exit 77
fi

if [[ -z $build ]]; then
  install_packages "${library_packages[@]}" libbenchmark-dev
  cuda=OFF targets=()
  if [[ " ${suffixes[*]} " == *_cuda* ]]; then cuda=ON; fi
  for program in "${programs[@]}"; do for suffix in "${suffixes[@]}"; do targets+=("bench_$program$suffix"); done; done
  cmake -S "$root" --preset release -DMERISTEM_BUILD_BENCH=ON -DMERISTEM_CUDA=$cuda >/dev/null
  cmake --build "$root/build" --target "${targets[@]}"
  build=$root/build/bench
fi

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
left=()
for suffix in "${suffixes[@]}"; do
  files=()
  for program in "${programs[@]}"; do
    binary=$build/bench_$program$suffix
    if [[ ! -x $binary ]]; then
      echo "Skipped: $program. There is no $binary." >&2
      continue
    fi
    matches=$("$binary" --benchmark_list_tests "--benchmark_filter=${filter:-.}" 2>/dev/null | grep -v '^Failed' || true)
    if [[ -z $matches ]]; then continue; fi
    if $list; then
      sed 's|/iterations:.*||' <<<"$matches"
      continue
    fi
    echo "== bench_$program$suffix"
    file=$run/$program.json
    if [[ -n $minutes ]]; then left=("--seconds=$((60 * minutes - SECONDS))"); fi
    "$binary" "${options[@]}" "${left[@]}" "--benchmark_filter=${filter:-.}" "--benchmark_out=$file" --benchmark_out_format=json
    files+=("$file")
  done
  if $list; then continue; fi
  ((${#files[@]})) || fail "no row matches; --list shows their names"
  mkdir -p "$out"
  written=$(PYTHONPATH=$folder python3 -B - "$out" "$command" "$(date -u +%F)" "${files[@]}" <<'PYTHON'
import json, sys
from pathlib import Path
import results

out, command, date, *files = sys.argv[1:]
try:
    merged = results.merge(files, command, date)
except results.ResultError as error:
    sys.exit(f"bench/run.sh: {error}")
path = Path(out) / f"{results.device_slug(merged['context'])}.json"
path.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
print(path)
PYTHON
  )
  echo "Wrote $written"
done
