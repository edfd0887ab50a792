#!/usr/bin/env bash
# readme.sh <source folder> <compiler>: compiles the C++ examples of the README files. Each of README.md stands alone;
# those of any other file follow one another, as a reader meets them. The first, the quick start, runs as well, for
# two epochs on a folder with a few images where it looks for CIFAR-10. Links between files of the tree must lead
# somewhere. The pages of docs/ have a test of their own, docs.sh.
set -euo pipefail
root=$1
compiler=$2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {
  "$compiler" -std=c++20 -Wall -Wextra -Werror -I "$root/include" -I "$root/kernels" -I "$root/examples/own_kernel" "$@"
}
check() { compile -DMERISTEM_COMPILED -fsyntax-only -x c++ -; }
# example <i>: the i-th of README.md.
example() { awk -v wanted="$1" '/^```/ { inside = 0 } inside; /^```cpp$/ { inside = ++seen == wanted }' "$root/README.md"; }

# images <file> <count>: records of CIFAR-10 with labels 0, 1, .., each class of one pattern.
images() {
  for ((r = 0; r < $2; ++r)); do
    printf '%b' "\\x0$((r % 10))"
    head -c 3072 < <(yes "class $((r % 10))")
  done >"$1"
}

# shellcheck disable=SC2016  # backquotes of Markdown
count=$(grep -c '^```cpp$' "$root/README.md")
mkdir "$work/cifar-10-batches-bin"
for batch in data_batch_{1..5} test_batch; do images "$work/cifar-10-batches-bin/$batch.bin" 10; done
example 1 | sed 's/epoch < 10;/epoch < 2;/' >"$work/quick_start.cpp"
compile -fopenmp "$work/quick_start.cpp" -o "$work/quick_start" -llapacke -lopenblas -lboost_context
(cd "$work" && OMP_NUM_THREADS=1 ./quick_start) | tee "$work/output"
(($(grep -c '^test accuracy' "$work/output") == 2))
for ((i = 2; i <= count; ++i)); do example "$i" | check; done
echo "README.md: $count examples"
((count > 0))

others=0
while IFS= read -r file; do
  awk '/^```/ { inside = 0 } inside; /^```cpp$/ { inside = 1 }' "$file" | check
  echo "${file#"$root"/}: $(grep -c '^```cpp$' "$file") examples"
  others=$((others + 1))
done < <(grep -rl --include='*.md' '^```cpp$' "$root"/{include,examples,bench,tests,CONTRIBUTING.md} | sort)
((others > 0))

broken=0
while IFS= read -r file; do
  while IFS= read -r target; do
    [[ -e $(dirname "$file")/${target%%#*} ]] && continue
    echo "${file#"$root"/}: there is no $target"
    broken=$((broken + 1))
  done < <(awk '/^```/ { code = !code } !code' "$file" | grep -oE '\]\([^)# ]+' | sed 's/^](//' | grep -vE '^[a-z]+:')
done < <(find "$root"/{*.md,docs,include,kernels,examples,bench,tests} -name '*.md')
((broken == 0))
