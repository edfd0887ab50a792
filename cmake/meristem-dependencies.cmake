# Finds what programs that use meristem link with, for the source tree and the installed package alike. Defines
# meristem::dependencies and, where CUDA is enabled, meristem::cuda. Sets meristem_missing to a sentence if something
# indispensable is not there.
#
# Plain paths, not other packages' imported targets: those are visible only in the directory that looked for them.
set(meristem_missing "")
if(NOT TARGET meristem::dependencies)
  if(DEFINED MERISTEM_CPU AND NOT MERISTEM_CPU)
    # Programs for the GPU alone need no BLAS, LAPACK or fibers.
    add_library(meristem::dependencies INTERFACE IMPORTED GLOBAL)
  else()
    find_path(MERISTEM_CBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas DOC "Folder of cblas.h")
    find_path(MERISTEM_LAPACKE_INCLUDE_DIR lapacke.h PATH_SUFFIXES openblas DOC "Folder of lapacke.h")
    find_library(MERISTEM_BLAS_LIBRARY NAMES openblas DOC "OpenBLAS, or another library with the CBLAS interface")
    find_library(MERISTEM_LAPACKE_LIBRARY NAMES lapacke DOC "LAPACKE; not needed if the BLAS library contains it")
    find_path(MERISTEM_BOOST_INCLUDE_DIR boost/context/detail/fcontext.hpp DOC "Folder of boost/context")
    find_library(MERISTEM_BOOST_CONTEXT_LIBRARY NAMES boost_context DOC "Boost.Context")
    mark_as_advanced(MERISTEM_CBLAS_INCLUDE_DIR MERISTEM_LAPACKE_INCLUDE_DIR MERISTEM_LAPACKE_LIBRARY
                     MERISTEM_BOOST_INCLUDE_DIR MERISTEM_BOOST_CONTEXT_LIBRARY)

    if(NOT MERISTEM_BLAS_LIBRARY OR NOT MERISTEM_CBLAS_INCLUDE_DIR)
      set(meristem_missing "meristem needs OpenBLAS and found no library or no cblas.h: install libopenblas-openmp-dev \
(Debian, Ubuntu), or set MERISTEM_BLAS_LIBRARY and MERISTEM_CBLAS_INCLUDE_DIR.")
      return()
    endif()
    if(NOT MERISTEM_LAPACKE_INCLUDE_DIR)
      set(meristem_missing "meristem needs LAPACKE and found no lapacke.h: install liblapacke-dev (Debian, Ubuntu), or set \
MERISTEM_LAPACKE_INCLUDE_DIR and MERISTEM_LAPACKE_LIBRARY.")
      return()
    endif()

    add_library(meristem::dependencies INTERFACE IMPORTED GLOBAL)
    target_include_directories(meristem::dependencies INTERFACE "${MERISTEM_CBLAS_INCLUDE_DIR}"
                                                                "${MERISTEM_LAPACKE_INCLUDE_DIR}")
    if(MERISTEM_LAPACKE_LIBRARY)
      target_link_libraries(meristem::dependencies INTERFACE "${MERISTEM_LAPACKE_LIBRARY}")
    endif()
    target_link_libraries(meristem::dependencies INTERFACE "${MERISTEM_BLAS_LIBRARY}")

    find_package(OpenMP QUIET COMPONENTS CXX)
    if(OpenMP_CXX_FOUND)
      separate_arguments(meristem_openmp_flags UNIX_COMMAND "${OpenMP_CXX_FLAGS}")
      target_compile_options(meristem::dependencies INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${meristem_openmp_flags}>")
      target_link_libraries(meristem::dependencies INTERFACE ${OpenMP_CXX_LIBRARIES})
      unset(meristem_openmp_flags)
    endif()

    # Boost's headers may be there without the library; the executor has to be told then.
    if(MERISTEM_BOOST_INCLUDE_DIR AND MERISTEM_BOOST_CONTEXT_LIBRARY)
      target_include_directories(meristem::dependencies INTERFACE "${MERISTEM_BOOST_INCLUDE_DIR}")
      target_link_libraries(meristem::dependencies INTERFACE "${MERISTEM_BOOST_CONTEXT_LIBRARY}")
    else()
      target_compile_definitions(meristem::dependencies INTERFACE MERISTEM_UCONTEXT)
    endif()
  endif()

  # meristem::io is for programs that include <meristem/io.hpp>; it is there if nlohmann-json is.
  find_path(MERISTEM_JSON_INCLUDE_DIR nlohmann/json.hpp DOC "Folder of nlohmann/json.hpp, for <meristem/io.hpp>")
  mark_as_advanced(MERISTEM_JSON_INCLUDE_DIR)
  if(MERISTEM_JSON_INCLUDE_DIR)
    add_library(meristem::io INTERFACE IMPORTED GLOBAL)
    target_link_libraries(meristem::io INTERFACE meristem::meristem)
    target_include_directories(meristem::io INTERFACE "${MERISTEM_JSON_INCLUDE_DIR}")
  endif()

  # meristem::csv is for programs that include <meristem/io/csv.hpp>; it is there if libcsv is.
  find_path(MERISTEM_CSV_INCLUDE_DIR csv.h DOC "Folder of libcsv's csv.h, for <meristem/io/csv.hpp>")
  find_library(MERISTEM_CSV_LIBRARY csv DOC "libcsv")
  mark_as_advanced(MERISTEM_CSV_INCLUDE_DIR MERISTEM_CSV_LIBRARY)
  if(MERISTEM_CSV_INCLUDE_DIR AND MERISTEM_CSV_LIBRARY)
    add_library(meristem::csv INTERFACE IMPORTED GLOBAL)
    target_link_libraries(meristem::csv INTERFACE meristem::meristem "${MERISTEM_CSV_LIBRARY}")
    target_include_directories(meristem::csv INTERFACE "${MERISTEM_CSV_INCLUDE_DIR}")
  endif()
endif()

# meristem::cuda is what programs with .cu files link, also if CUDA was enabled after the library was found first. CMake
# itself adds the CUDA runtime to those.
get_property(meristem_languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if("CUDA" IN_LIST meristem_languages AND NOT TARGET meristem::cuda)
  find_package(CUDAToolkit QUIET)
  if(NOT CUDA_cublas_LIBRARY OR NOT CUDA_cusolver_LIBRARY)
    set(meristem_missing "meristem needs cuBLAS and cuSOLVER for CUDA programs and found only nvcc \
(${CMAKE_CUDA_COMPILER}): install the CUDA toolkit's libcublas and libcusolver development packages.")
    return()
  endif()
  add_library(meristem::cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(meristem::cuda INTERFACE meristem::meristem "${CUDA_cusolver_LIBRARY}" "${CUDA_cublas_LIBRARY}")
  target_include_directories(meristem::cuda INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${CUDAToolkit_INCLUDE_DIRS}>")
  # CMake before 3.25.2 ignores cuda_std_20 or refuses it.
  if(CMAKE_VERSION VERSION_LESS 3.25.2)
    target_compile_options(meristem::cuda INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>")
  else()
    target_compile_features(meristem::cuda INTERFACE cuda_std_20)
  endif()
endif()
unset(meristem_languages)
