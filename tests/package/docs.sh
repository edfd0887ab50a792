#!/usr/bin/env bash
# docs.sh <source folder> <compiler> <page> <compiled library> [<Python>]: does what docs/<page>.md tells its reader to do, in a folder of its
# own with the library beside it as `meristem`. C++ blocks, one after the other, are <page>.cpp or the file that they name;
# Python blocks are the files that they name; sh blocks are run in order. Warnings are errors. To compile faster, nothing is optimised, and the
# compiled library has the definitions.
# Prints "skipped: ..." where Python lacks a package that a page needs.
set -euo pipefail
root=$(cd -- "$1" && pwd)
compiler=$2
page=$3
library=$(realpath "$4")
python=${5:-python3}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$root" "$work/meristem"
cd -- "$work"

awk -v page="$page" '
  /^```/ {
    file = ""
    if ($0 ~ /^```cpp/) file = NF > 1 ? $2 : page ".cpp"
    if ($0 ~ /^```python/) file = $2
    if ($0 == "```sh") file = "commands.sh"
    next
  }
  file != "" { print >file }' "$root/docs/$page.md"
compgen -G "*.cpp" >/dev/null
[[ -s commands.sh ]]

if grep -q '^python3 ' commands.sh; then
  imports=$(sed -nE 's/^(from|import) ([a-z]+).*/\2/p' ./*.py | sort -u | paste -sd,)
  if ! "$python" -c "import $imports" 2>/dev/null; then
    "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Werror -I meristem/include -I meristem/kernels "$page.cpp"
    echo "skipped: $page.cpp compiles; to run it, $python would have to import $imports"
    exit
  fi
fi
sed -i -e "s|^g++ |'$compiler' -Wall -Wextra -Werror -DMERISTEM_COMPILED |" -e 's/ -O2 / -O0 /' \
  -e "s|-llapacke|'$library' -llapacke|" -e "s|^python3 |'$python' |" commands.sh
OMP_NUM_THREADS=1 bash -euxo pipefail commands.sh | tee output

# What a page promises its reader: the last number between two texts is from .. to ..
promise() {
  local number
  number=$(grep -oE -- "$1-?[0-9.e+-]+$2" output | tail -n 1 | sed -E "s/^$1//; s/$2\$//") || true
  if ! awk -v number="$number" "BEGIN { exit !(number != \"\" && number >= $3 && number <= $4) }"; then
    echo "docs/$page.md promises '$1NUMBER$2' from $3 to $4; the program printed '$number'"
    exit 1
  fi
}
# A program that the page calls short has so many lines at most.
short() { (($(wc -l <"$1") <= $2)) || { echo "docs/$page.md: $1 has more than $2 lines" && exit 1; }; }
case $page in
  short_programs)
    short csv_regression.cpp 40
    short conv_units.cpp 30
    short own_layer.cpp 60
    promise 'test: .* R² ' '' 0.95 1
    promise '' ' units, lambda .*' 1 1
    [[ -s own.safetensors && -s own.onnx ]]
    ;;
  regression) promise 'test: .* R² ' '' 0.95 1 ;;
  training_loop) promise 'test: .*accuracy ' ' %' 90 100 ;;
  # Eight of ten, give or take three deviations of a thousand draws and a bias of as much.
  loss_and_layer) promise '' ' of 1000 targets' 730 870 ;;
esac
