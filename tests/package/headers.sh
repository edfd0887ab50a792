#!/usr/bin/env bash
# headers.sh <compiler> <source folder> <macros to define, or ""> <file to include first, or ""> <header>...: compiles the
# headers in one translation unit, each included twice. With a file to include first, all headers from outside come before
# that.
set -euo pipefail
compiler=$1
root=$2
read -ra macros <<<"$3"
first=$4
shift 4

{
  if [[ -n $first ]]; then
    grep -rhoE '^#include <[^>]+>' "$root/include" "$root/kernels" |
      grep -vE '<(meristem/|cuda|cublas|cusolver|sanitizer/)' | sort -u
    echo "#include \"$first\""
  fi
  printf '#include <%s>\n' "$@" "$@"
} | "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Werror -I "$root/include" -I "$root/kernels" \
  "${macros[@]/#/-D}" -x c++ -
