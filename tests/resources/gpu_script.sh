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
  'if [[ "$*" == *"/tests/${FAILING:-none}/"* ]]; then echo "TEST CASE:  launch: two"; exit 1; fi' \
  'if [[ "$*" == *"/tests/${SLOW:-none}/"* ]]; then sleep 60; fi' \
  'if [[ "$*" == */tests/core/* ]]; then n=2; else n=0; fi; echo "[doctest] test cases: $n | $n passed"'
program "$folder/programs/bench_all_cuda" \
  'for argument; do if [[ $argument == --benchmark_list_tests ]]; then echo row; exit; fi; done' 'exit ${BENCH:-3}'
program "$folder/bin/compute-sanitizer" 'echo "========= ERROR SUMMARY: 0 errors ($2)"; if [[ $2 == ${BAD:-} ]]; then exit 1; fi'

# Without a GPU.
program "$folder/bin/nvidia-smi" 'exit 9'
run=("$script" --programs "$folder/programs" --results "$folder/results")
expect "no GPU" 77 "nothing was proven" "${run[@]}"
expect "list" 0 "launch: two" "${run[@]}" --list
expect "unknown option" 2 "unknown option --frob" "$script" --frob
expect "no number" 2 "--minutes is soon; it is a whole number" "$script" --minutes soon
expect "no value" 2 "--programs needs a value" "$script" --programs
expect "no program" 2 "there is no program $folder/headers/meristem_tests_cuda" "$script" --programs "$folder/headers"
expect "no header" 2 "has no doctest/doctest.h" "$script" --dependencies "$folder/headers"
expect "no folder" 2 "(--dependencies)" "$script" --dependencies "$folder/nowhere"

# With one.
program "$folder/bin/nvidia-smi" 'echo "NVIDIA H100 80GB HBM3"'
result=$folder/results/gpu-nvidia-h100-80gb-hbm3-$(date -u +%F).txt
expect "all passes" 0 "all stages passed" "${run[@]}"
for line in 'tests of core .* passed' 'tests of grow .* passed' '2 of 2 test cases were run' 'memcheck.* passed' 'racecheck.* passed' 'initcheck.* passed' 'synccheck.* passed' \
  'test cases: 2 | 2 passed' 'GPU  *NVIDIA H100'; do
  grep -q -- "$line" "$result" || { echo "the result file lacks '$line'" && failures=$((failures + 1)); }
done
[[ -s ${result%.txt}/tests-of-core.txt ]] || { echo "the output of a stage is not kept" && failures=$((failures + 1)); }
expect "failing folder" 1 "1 stages FAILED" env FAILING=core "${run[@]}" --quick
grep -q '1 TEST CASE:  launch: two' "$result" || { echo "the failing case is not named" && failures=$((failures + 1)); }
expect "failing sanitizer" 1 "racecheck, kernel tests" env BAD=racecheck "${run[@]}"
grep -q 'racecheck.* FAILED' "$result" || { echo "the result file hides a failure" && failures=$((failures + 1)); }
expect "chosen folders" 0 "2 of 2 test cases" "${run[@]}" --quick --folders core
# bash takes up the seconds that are told to have passed.
expect "little time" 1 "CUT OFF after" env SECONDS=43 SLOW=core "${run[@]}" --minutes 1 --quick --folders core
expect "no time" 0 "no time was left for it" env SECONDS=58 "${run[@]}" --minutes 1 --quick --folders core
expect "benchmarks" 1 "benchmarks                               FAILED" "${run[@]}" --minutes 1 --quick --folders core
expect "left out" 0 "left out by --quick" "${run[@]}" --quick
((failures == 0))
