#!/usr/bin/env bash
# header.sh <source folder> <header> <compiler>...: compiles a header alone with every compiler, each time included
# twice, and with the first compiler once more after hostile macros.
set -euo pipefail
root=$1
header=$2
shift 2

# compile <compiler> <case> <lines before the header>
compile() {
  printf '%s\n' "$3" "#include <$header>" "#include <$header>" |
    "$1" -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Werror -I "$root/include" -I "$root/kernels" -x c++ - ||
    { echo "$header does not compile with $1 $2" && exit 1; }
}

for compiler in "$@"; do
  compile "$compiler" alone ""
done

# Neither the language's own headers nor other libraries' can stand such macros, so these come first.
outside=$(grep -rhoE '^#include <[^>]+>' "$root/include" "$root/kernels" |
  grep -vE '<(meristem/|cuda|cublas|cusolver|sanitizer/)' | sort -u)
compile "$1" "after hostile macros" "$outside
#include \"$root/tests/package/hostile_macros.hpp\""
