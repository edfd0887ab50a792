# find_package(meristem [COMPONENTS cuda io csv compiled compiled_cuda]): defines meristem::meristem for programs that g++
# or clang++ compiles; if the project has enabled CUDA before, meristem::cuda for programs with .cu files; meristem::io for
# <meristem/io.hpp>, if nlohmann-json is there; meristem::csv for <meristem/io/csv.hpp>, if libcsv is; and, if they were
# built, meristem::compiled and meristem::compiled_cuda, to link in place of meristem::meristem and meristem::cuda. A
# component that was asked for and is not there is an error that says why.
include("${CMAKE_CURRENT_LIST_DIR}/meristem-dependencies.cmake")
set(meristem_reason_cuda "meristem::cuda needs the CUDA language: write project(... LANGUAGES CXX CUDA), or \
enable_language(CUDA), before find_package(meristem).")
set(meristem_reason_io "meristem::io needs nlohmann/json.hpp: install nlohmann-json3-dev (Debian, Ubuntu), or set \
MERISTEM_JSON_INCLUDE_DIR.")
set(meristem_reason_csv "meristem::csv needs libcsv: install libcsv-dev (Debian, Ubuntu), or set MERISTEM_CSV_INCLUDE_DIR \
and MERISTEM_CSV_LIBRARY.")
foreach(component compiled compiled_cuda)
  set(meristem_reason_${component} "meristem::${component} was not built with this meristem: configure it with \
MERISTEM_BUILD_COMPILED=ON, build it and install it again, or link the headers alone.")
endforeach()
if(NOT meristem_missing)
  include("${CMAKE_CURRENT_LIST_DIR}/meristem-targets.cmake")
endif()
foreach(component IN LISTS meristem_FIND_COMPONENTS)
  if(component MATCHES "^(cuda|io|csv|compiled|compiled_cuda)$" AND TARGET meristem::${component})
    set(meristem_${component}_FOUND TRUE)
  elseif(meristem_FIND_REQUIRED_${component} AND NOT meristem_missing)
    set(meristem_missing "${meristem_reason_${component}}")
    if(NOT meristem_missing)
      set(meristem_missing "meristem has no component ${component}; there are cuda, io, csv, compiled and compiled_cuda.")
    endif()
  endif()
endforeach()
foreach(component cuda io csv compiled compiled_cuda)
  unset(meristem_reason_${component})
endforeach()
if(meristem_missing)
  set(meristem_FOUND FALSE)
  set(meristem_NOT_FOUND_MESSAGE "${meristem_missing}")
endif()
