#!/usr/bin/env bash
# consume.sh <way> <source folder> <build folder> <CMake generator> <C++ compiler> [<CUDA compiler> <GPU architectures>]:
# builds examples/consume (or own_kernel, own_layer) outside the source tree and runs it. Ways: install, build_tree,
# fetch_content, add_subdirectory, pkg_config, plain, version, components, compiled, own_kernel; and with nvcc: cuda, both,
# plain_nvcc, compiled_cuda, own_kernel_cuda.
set -euo pipefail
way=$1
root=$2
build=$3
generator=$4
compiler=$5
nvcc=${6:-}
architectures=${7:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
example=consume
[[ $way == own_kernel* ]] && example=own_kernel
[[ $way == compiled ]] && example=own_layer
cp -r "$root/examples/$example" "$work/source"
program=$work/build/$example

# As an archive of the library would be, it is moved after it was installed.
install_library() {
  cmake --install "$build" --prefix "$work/first" >/dev/null
  mv "$work/first" "$work/prefix"
}

# build_outside <option>...: the example as a CMake project of its own.
build_outside() {
  cmake -S "$work/source" -B "$work/build" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" "$@"
  cmake --build "$work/build"
}

with_cuda=(-DCMAKE_CUDA_COMPILER="$nvcc" -DCMAKE_CUDA_ARCHITECTURES="$architectures")

case $way in
  install)
    install_library
    build_outside -DCMAKE_PREFIX_PATH="$work/prefix"
    ;;
  build_tree) build_outside -Dmeristem_DIR="$build" ;;
  cuda)
    install_library
    build_outside -DCMAKE_PREFIX_PATH="$work/prefix" -DCONSUME_COMPILER=nvcc "${with_cuda[@]}"
    ;;
  both)
    install_library
    build_outside -DCMAKE_PREFIX_PATH="$work/prefix" -DCONSUME_COMPILER=both "${with_cuda[@]}"
    ;;
  compiled)
    install_library
    cat >"$work/source/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.22)
project(own_layer LANGUAGES CXX)
find_package(meristem 0.1 REQUIRED COMPONENTS compiled io)
add_executable(own_layer main.cpp)
target_link_libraries(own_layer PRIVATE meristem::compiled meristem::io)
EOF
    build_outside -DCMAKE_PREFIX_PATH="$work/prefix"
    # It comes from the library, not from the headers. (With -q, grep would not wait for all that nm writes.)
    nm -C --undefined-only "$(find "$work/build" -name 'main.cpp.o')" | grep 'Grower<float>::grow(' >/dev/null
    ;;
  own_kernel) build_outside -DCMAKE_PREFIX_PATH="$build" ;;
  own_kernel_cuda)
    # With the compiled library nvcc reads declarations, and compiles the kernels of the example alone.
    sed -i 's/^find_package.*/find_package(meristem 0.1 REQUIRED COMPONENTS compiled_cuda)/; s/meristem::cuda)/meristem::compiled_cuda)/' \
      "$work/source/CMakeLists.txt"
    build_outside -DCMAKE_PREFIX_PATH="$build" -DOWN_KERNEL_CUDA=ON "${with_cuda[@]}"
    ;;
  compiled_cuda)
    # The README's quick start, compiled by g++ to run on the GPU.
    awk '/^```/ { inside = 0 } inside; /^```cpp$/ { inside = ++seen == 1 }' "$root/README.md" >"$work/source/main.cpp"
    cat >"$work/source/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.22)
project(quick_start LANGUAGES CXX CUDA)
find_package(meristem 0.1 REQUIRED COMPONENTS compiled_cuda)
add_executable(quick_start main.cpp)
target_link_libraries(quick_start PRIVATE meristem::compiled_cuda)
EOF
    build_outside -DCMAKE_PREFIX_PATH="$build" "${with_cuda[@]}"
    nm -C --undefined-only "$(find "$work/build" -name 'main.cpp.o')" | grep 'gpu::grow::Grower<float>::grow(' >/dev/null
    # A kernel that the library does not hold is refused by a sentence.
    printf '#include <meristem/core/for_each.hpp>\nstruct Nothing {\n  void operator()(std::int64_t) const {}\n};\nint main() {\n  meristem::Context ctx;\n  meristem::for_each(ctx, 1, Nothing());\n}\n' >"$work/source/main.cpp"
    if cmake --build "$work/build" >"$work/refusal" 2>&1; then exit 1; fi
    grep 'this starts a kernel that the compiled library does not hold: let nvcc compile it' "$work/refusal"
    exit
    ;;
  add_subdirectory)
    sed -i "s|^find_package(meristem .*|add_subdirectory(\"$root\" meristem)|" "$work/source/CMakeLists.txt"
    build_outside
    ;;
  fetch_content)
    sed -i "s|^find_package(meristem .*|include(FetchContent)\nFetchContent_Declare(meristem SOURCE_DIR \"$root\")\nFetchContent_MakeAvailable(meristem)|" \
      "$work/source/CMakeLists.txt"
    build_outside
    ;;
  pkg_config)
    install_library
    mkdir "$work/build"
    export PKG_CONFIG_PATH
    PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name meristem.pc)")
    read -ra flags < <(pkg-config --cflags --libs meristem)
    "$compiler" -std=c++20 "$work/source/main.cpp" "$work/source/product.cpp" "${flags[@]}" -o "$program"
    ;;
  plain)
    mkdir "$work/build"
    "$compiler" -std=c++20 -fopenmp -I "$root/include" -I "$root/kernels" "$work/source/main.cpp" \
      "$work/source/product.cpp" -llapacke -lopenblas -lboost_context -o "$program"
    ;;
  plain_nvcc)
    mkdir "$work/build"
    "$nvcc" -std=c++20 -arch="sm_${architectures%%[;-]*}" -I "$root/include" -I "$root/kernels" -x cu \
      "$work/source/main.cpp" "$work/source/product.cpp" -lcublas -lcusolver -o "$program"
    ;;
  version)
    # Versions below 1.0 promise the same interface only within a minor version; a newer one than is there is refused.
    version=$(sed -n 's/^#define MERISTEM_VERSION_[A-Z]* \([0-9]*\)$/\1/p' "$root/include/meristem/core/version.hpp" | paste -sd.)
    IFS=. read -r major minor patch <<<"$version"
    asks() {
      mkdir -p "$work/asks"
      printf 'cmake_minimum_required(VERSION 3.22)\nproject(asks LANGUAGES NONE)\nfind_package(meristem %s)\nmessage("FOUND=${meristem_FOUND} ${meristem_VERSION}")\n' "$1" >"$work/asks/CMakeLists.txt"
      cmake -S "$work/asks" -B "$work/asks/build" -G "$generator" -Dmeristem_DIR="$build" 2>&1
    }
    for refused in "$major.$((minor + 1))" "$((major + 1)).0" "$major.$minor.$((patch + 1))"; do
      answer=$(asks "$refused")
      [[ $answer == *'FOUND=0 '* ]] || { echo "version $refused was not refused by $version"; exit 1; }
      rm -r "$work/asks"
    done
    echo "$version refuses what it should"
    exit
    ;;
  components)
    # A component that is not there is refused by a sentence.
    refuses() {
      sed -i "s|^find_package(meristem .*|find_package(meristem 0.1 REQUIRED COMPONENTS $1)|" "$work/source/CMakeLists.txt"
      answer=$(cmake -S "$work/source" -B "$work/build" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" \
        -Dmeristem_DIR="$build" 2>&1 | tr -s ' \n' ' ' || true)
      [[ $answer == *"$2"* ]] || { echo "component $1 was not refused by '$2': $answer"; exit 1; }
    }
    refuses cuda 'meristem::cuda needs the CUDA language: write project(... LANGUAGES CXX CUDA)'
    refuses gpu 'meristem has no component gpu; there are cuda, io, csv, compiled and compiled_cuda.'
    echo "components are refused as they should"
    exit
    ;;
esac

status=0
"$program" >"$work/output" 2>&1 || status=$?
cat "$work/output"
if [[ $example == consume ]]; then
  # With both, the part for the CPU has run whatever the machine has.
  if [[ $way == both ]] && grep -q 'no GPU was found' "$work/output"; then status=0; fi
  grep -q ': 14 32 32 77$' "$work/output"
fi
exit "$status"
