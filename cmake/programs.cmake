# How this project compiles its own tests, examples and benchmarks. Users of the library get none of it.

# Release unless the user says otherwise.
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "meristem is made for g++ 12 or later and ${CMAKE_CXX_COMPILER} is ${CMAKE_CXX_COMPILER_VERSION}: \
install g++-12 and set CXX=g++-12 in the environment, with an empty build folder.")
endif()

find_program(MERISTEM_CCACHE ccache DOC "Compiler cache")
mark_as_advanced(MERISTEM_CCACHE)
if(MERISTEM_CCACHE)
  foreach(language CXX CUDA)
    if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER "${MERISTEM_CCACHE}")
    endif()
  endforeach()
endif()

# CUDA only where there is a compiler for it. Sets MERISTEM_WITH_CUDA.
set(MERISTEM_WITH_CUDA OFF)
if(NOT MERISTEM_CUDA STREQUAL "OFF" AND NOT MERISTEM_SANITIZE)
  find_program(MERISTEM_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin
                                                                                                 DOC "CUDA compiler")
  mark_as_advanced(MERISTEM_NVCC)
  if(MERISTEM_NVCC AND NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER "${MERISTEM_NVCC}")
  endif()
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    # "native" needs CMake 3.24 and fails where there is no GPU.
    execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE capability
                    RESULT_VARIABLE status ERROR_QUIET)
    if(status EQUAL 0 AND capability MATCHES "([0-9]+)\\.([0-9]+)")
      set(CMAKE_CUDA_ARCHITECTURES "${CMAKE_MATCH_1}${CMAKE_MATCH_2}")
    elseif(CMAKE_VERSION VERSION_LESS 3.23)
      set(CMAKE_CUDA_ARCHITECTURES 75 80 86 89 90)
    else()
      set(CMAKE_CUDA_ARCHITECTURES all-major)
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(MERISTEM_WITH_CUDA ON)
  elseif(MERISTEM_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA: no nvcc was found; building for the CPU only")
  else()
    message(FATAL_ERROR "MERISTEM_CUDA is ON and no nvcc was found: install the CUDA toolkit, put nvcc into PATH or set \
CMAKE_CUDA_COMPILER; or set MERISTEM_CUDA=OFF to build for the CPU only.")
  endif()
endif()
if(MERISTEM_WITH_CUDA)
  message(STATUS "CUDA: nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
endif()

# Flags of this project's own programs.
set(MERISTEM_OPTIMIZATION -O2 CACHE STRING "Optimisation of this project's own C++ programs in Release builds")
set(CMAKE_CXX_EXTENSIONS OFF)
add_library(meristem_flags INTERFACE)
target_compile_options(
  meristem_flags
  INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic>"
            # sqrt that may set errno is not vectorised; nothing here reads errno after mathematics.
            "$<$<COMPILE_LANGUAGE:CXX>:-fno-math-errno>" "$<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:${MERISTEM_OPTIMIZATION}>")
# g++ 12 warns of copies and comparisons of 2^63 bytes in its own std::string and std::vector (GCC bugs 105651, 105329),
# also where nvcc calls it.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  foreach(warning restrict stringop-overread stringop-overflow array-bounds)
    target_compile_options(meristem_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-${warning}>"
                                                    "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wno-${warning}>")
  endforeach()
endif()
if(MERISTEM_WERROR)
  target_compile_options(meristem_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Werror>"
                                                  "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings>")
endif()
if(MERISTEM_SANITIZE)
  list(JOIN MERISTEM_SANITIZE "," sanitizers)
  set(sanitizer_flags -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(meristem_flags INTERFACE ${sanitizer_flags} -g1 -Og)
  target_link_options(meristem_flags INTERFACE ${sanitizer_flags})
elseif(MERISTEM_NATIVE)
  target_compile_options(meristem_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-march=native>")
endif()

# meristem_units(<out> <extension> <n> <source>...): sets <out> to files that include <n> sources each, named after the first
# one. nvcc reads the headers several times for each, and one source file cannot have two languages in one folder.
function(meristem_units out extension n)
  set(units "")
  set(text "")
  set(count 0)
  foreach(source IN LISTS ARGN)
    get_filename_component(path "${source}" ABSOLUTE)
    if(count EQUAL 0)
      file(RELATIVE_PATH relative "${CMAKE_CURRENT_SOURCE_DIR}" "${path}")
      string(REGEX REPLACE "\\.cpp$" ".${extension}" relative "${relative}")
      set(unit "${CMAKE_CURRENT_BINARY_DIR}/units/${relative}")
      list(APPEND units "${unit}")
      set(text "")
    endif()
    string(APPEND text "#include \"${path}\"\n")
    file(CONFIGURE OUTPUT "${unit}" CONTENT "${text}" @ONLY)
    math(EXPR count "(${count} + 1) % ${n}")
  endforeach()
  set(${out} "${units}" PARENT_SCOPE)
endfunction()

# meristem_add_program(<name> [KERNELS] SOURCES <.cpp files> [LIBRARIES <targets>]): an executable for the CPU, and with
# CUDA a second one for the GPU, <name>_cuda, from the same sources; with KERNELS they start some, and nvcc compiles them.
function(meristem_add_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "KERNELS" "" "SOURCES;LIBRARIES")
  if(MERISTEM_CPU)
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE meristem::compiled meristem_flags ${arg_LIBRARIES})
  endif()
  if(MERISTEM_WITH_CUDA)
    set(cuda_sources ${arg_SOURCES})
    if(arg_KERNELS)
      list(LENGTH arg_SOURCES all)
      meristem_units(cuda_sources cu ${all} ${arg_SOURCES})
    endif()
    add_executable(${name}_cuda ${cuda_sources})
    # CUDA's libraries, also where no source is CUDA's.
    set_target_properties(${name}_cuda PROPERTIES LINKER_LANGUAGE CUDA)
    target_link_libraries(${name}_cuda PRIVATE meristem::compiled_cuda meristem_flags ${arg_LIBRARIES})
  endif()
endfunction()

# meristem_package(<package> <target> <git url> <tag>): the installed package, else its source at a fixed tag.
macro(meristem_package package target url tag)
  find_package(${package} QUIET)
  if(NOT TARGET ${target})
    message(STATUS "${package} is not installed; fetching ${tag} from ${url}")
    include(FetchContent)
    FetchContent_Declare(${package} GIT_REPOSITORY ${url} GIT_TAG ${tag} GIT_SHALLOW ON)
    FetchContent_MakeAvailable(${package})
  endif()
endmacro()

# Says which BLAS programs will load, and warns of OpenBLAS flavours whose threads fight with OpenMP's.
function(meristem_report_blas)
  unset(blas_flavour_runs CACHE)
  set(libraries ${MERISTEM_LAPACKE_LIBRARY} ${MERISTEM_BLAS_LIBRARY})
  if(NOT MERISTEM_LAPACKE_LIBRARY)
    set(libraries ${MERISTEM_BLAS_LIBRARY})
  endif()
  try_run(blas_flavour_runs blas_flavour_compiles "${PROJECT_BINARY_DIR}/blas_flavour"
          "${PROJECT_SOURCE_DIR}/cmake/blas_flavour.cpp" LINK_LIBRARIES ${libraries} RUN_OUTPUT_VARIABLE report)
  if(NOT blas_flavour_compiles OR NOT blas_flavour_runs EQUAL 0)
    message(STATUS "BLAS: ${MERISTEM_BLAS_LIBRARY} (not OpenBLAS)")
    return()
  endif()
  string(STRIP "${report}" report)
  message(STATUS "BLAS: ${report}")
  if(report MATCHES "pthread")
    message(WARNING "The pthread flavour of OpenBLAS is loaded; its threads and OpenMP's compete for the processor, \
which halves the speed. Choose the OpenMP flavour: install libopenblas-openmp-dev and remove libopenblas0-pthread, or \
call update-alternatives --config for libopenblas.so.0, libblas.so.3 and liblapack.so.3.")
  endif()
endfunction()
