# find_package(meristem [COMPONENTS cuda io]): defines meristem::meristem for programs that g++ or clang++ compiles; if the
# project has enabled CUDA before, meristem::cuda for programs with .cu files; and meristem::io for <meristem/io.hpp>, if
# nlohmann-json is there. A component that was asked for and is not there is an error that says why.
include("${CMAKE_CURRENT_LIST_DIR}/meristem-dependencies.cmake")
set(meristem_reason_cuda "meristem::cuda needs the CUDA language: write project(... LANGUAGES CXX CUDA), or \
enable_language(CUDA), before find_package(meristem).")
set(meristem_reason_io "meristem::io needs nlohmann/json.hpp: install nlohmann-json3-dev (Debian, Ubuntu), or set \
MERISTEM_JSON_INCLUDE_DIR.")
foreach(component IN LISTS meristem_FIND_COMPONENTS)
  if(component MATCHES "^(cuda|io)$" AND TARGET meristem::${component})
    set(meristem_${component}_FOUND TRUE)
  elseif(meristem_FIND_REQUIRED_${component} AND NOT meristem_missing)
    set(meristem_missing "${meristem_reason_${component}}")
    if(NOT meristem_missing)
      set(meristem_missing "meristem has no component ${component}; there are cuda and io.")
    endif()
  endif()
endforeach()
unset(meristem_reason_cuda)
unset(meristem_reason_io)
if(meristem_missing)
  set(meristem_FOUND FALSE)
  set(meristem_NOT_FOUND_MESSAGE "${meristem_missing}")
  return()
endif()
include("${CMAKE_CURRENT_LIST_DIR}/meristem-targets.cmake")
