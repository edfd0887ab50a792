#!/usr/bin/env bash
# readme.sh <source folder> <compiler>: compiles the C++ examples of the README files. Each of README.md stands alone;
# those of any other file follow one another, as a reader meets them.
set -euo pipefail
root=$1
compiler=$2

check() {
  "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Werror -I "$root/include" -I "$root/kernels" \
    -I "$root/examples/own_kernel" -x c++ -
}

# shellcheck disable=SC2016  # backquotes of Markdown
count=$(grep -c '^```cpp$' "$root/README.md")
for ((i = 1; i <= count; ++i)); do
  awk -v wanted="$i" '/^```/ { inside = 0 } inside; /^```cpp$/ { inside = ++seen == wanted }' "$root/README.md" | check
done
echo "README.md: $count examples"
((count > 0))

others=0
while IFS= read -r file; do
  awk '/^```/ { inside = 0 } inside; /^```cpp$/ { inside = 1 }' "$file" | check
  echo "${file#"$root"/}: $(grep -c '^```cpp$' "$file") examples"
  others=$((others + 1))
done < <(grep -rl --include='*.md' '^```cpp$' "$root"/{include,examples,bench,tests,CONTRIBUTING.md} | sort)
((others > 0))
