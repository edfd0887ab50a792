#!/usr/bin/env bash
# tests/gpu.sh with stand-ins for nvidia-smi, compute-sanitizer and the tests: what it says, writes and returns.
set -uo pipefail
script=$1/tests/gpu.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

# expect <name> <exit code> <text in the output> <command...>
expect() {
  local name=$1 code=$2 text=$3 output got=0
  shift 3
  output=$("$@" 2>&1) || got=$?
  if ((got != code)) || ! grep -qF -- "$text" <<<"$output"; then
    echo "$name: expected exit code $code and '$text', got $got and"
    sed 's/^/    /' <<<"$output"
    failures=$((failures + 1))
  fi
}
# program <path> <line...>: a script that does these lines.
program() {
  local path=$1
  shift
  { echo '#!/usr/bin/env bash' && printf '%s\n' "$@"; } >"$path"
  chmod +x "$path"
}

mkdir "$folder/bin" "$folder/programs" "$folder/headers"
PATH=$folder/bin:$PATH
program "$folder/programs/meristem_tests_cuda" \
  'if [[ $1 == --list-test-cases ]]; then printf "[doctest] listing\n====\nblas: one\nlaunch: two\n"; exit; fi' \
  'echo "[doctest] test cases: 2 | 2 passed"; exit ${FAILING:-0}'
program "$folder/bin/compute-sanitizer" 'echo "========= ERROR SUMMARY: 0 errors ($2)"; if [[ $2 == ${BAD:-} ]]; then exit 1; fi'

# Without a GPU.
program "$folder/bin/nvidia-smi" 'exit 9'
run=("$script" --programs "$folder/programs" --results "$folder/results")
expect "no GPU" 77 "nothing was proven" "${run[@]}"
expect "list" 0 "launch: two" "${run[@]}" --list
expect "unknown option" 2 "unknown option --frob" "$script" --frob
expect "no value" 2 "--programs needs a value" "$script" --programs
expect "no program" 2 "there is no program $folder/headers/meristem_tests_cuda" "$script" --programs "$folder/headers"
expect "no header" 2 "has no doctest/doctest.h" "$script" --dependencies "$folder/headers"
expect "no folder" 2 "(--dependencies)" "$script" --dependencies "$folder/nowhere"

# With one.
program "$folder/bin/nvidia-smi" 'echo "NVIDIA H100 80GB HBM3"'
result=$folder/results/gpu-nvidia-h100-80gb-hbm3-$(date -u +%F).txt
expect "all passes" 0 "all stages passed" "${run[@]}"
for line in 'suite .* passed' 'memcheck.* passed' 'racecheck.* passed' 'initcheck.* passed' 'synccheck.* passed' \
  'test cases: 2 | 2 passed' 'GPU  *NVIDIA H100'; do
  grep -q -- "$line" "$result" || { echo "the result file lacks '$line'" && failures=$((failures + 1)); }
done
expect "failing suite" 1 "1 stages FAILED" env FAILING=3 "${run[@]}" --quick
expect "failing sanitizer" 1 "racecheck, kernel tests" env BAD=racecheck "${run[@]}"
grep -q 'racecheck.* FAILED' "$result" || { echo "the result file hides a failure" && failures=$((failures + 1)); }
expect "left out" 0 "left out by --quick" "${run[@]}" --quick
((failures == 0))
