#!/usr/bin/env bash
# readme.sh <source folder> <compiler>: compiles each C++ example of README.md.
set -euo pipefail
root=$1
compiler=$2

# shellcheck disable=SC2016  # backquotes of Markdown
count=$(grep -c '^```cpp$' "$root/README.md")
for ((i = 1; i <= count; ++i)); do
  awk -v wanted="$i" '/^```/ { inside = 0 } inside; /^```cpp$/ { inside = ++seen == wanted }' "$root/README.md" |
    "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Werror -I "$root/include" -I "$root/kernels" -x c++ -
done
echo "$count examples"
((count > 0))
