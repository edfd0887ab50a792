#!/usr/bin/env bash
# dlpack.sh <source folder> <compiler> numpy|torch [<folder of a virtual environment>]: compiles a Python extension that
# uses the library and exchanges tensors with NumPy or PyTorch, under AddressSanitizer and UBSan where the compiler has
# them. MERISTEM_PYTHON names the interpreter; without it, the first that has the package is taken.
set -euo pipefail
root=$1
compiler=$2
package=$3
venv=${4:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=""
for candidate in ${MERISTEM_PYTHON:-"$venv/bin/python" python3 /usr/bin/python3}; do
  if "$candidate" -c "import $package" 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [[ -z $python ]]; then
  echo "skipped: no Python interpreter has $package; install python3-$package, or set MERISTEM_PYTHON to one that has it"
  exit
fi
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
if [[ ! -f $headers/Python.h ]]; then
  echo "skipped: $python has no Python.h in $headers; install python3-dev"
  exit
fi
# Sanitizers in an interpreter without them have to be loaded first, and the C++ library, whose exceptions they watch.
flags=()
preload=""
for library in libasan libubsan libstdc++; do
  path=$("$compiler" -print-file-name=$library.so)
  [[ $path == /* ]] && preload+="$path "
done
if [[ $preload == *libasan*libubsan*libstdc++* ]]; then
  flags=(-g "-fsanitize=address,undefined" -fno-sanitize-recover=all)
else
  echo "$compiler has no sanitizers to load; running without them"
  preload=""
fi
"$compiler" -std=c++20 -O1 -fopenmp -fPIC -shared -fvisibility=hidden -Wall -Wextra -Werror "${flags[@]}" \
  -I "$root/include" -I "$root/kernels" -isystem "$headers" "$root/tests/package/dlpack/extension.cpp" -lboost_context \
  -o "$work/meristem_dlpack.so"
# Python itself leaks what it keeps to the end.
export PYTHONPATH=$work ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc
LD_PRELOAD=$preload "$python" "$root/tests/package/dlpack/round_trip.py" "$package"
