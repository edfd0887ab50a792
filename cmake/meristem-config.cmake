# find_package(meristem): defines meristem::meristem for programs that g++ or clang++ compiles and, if the project has
# enabled CUDA before, meristem::cuda for programs with .cu files.
include("${CMAKE_CURRENT_LIST_DIR}/meristem-dependencies.cmake")
if(meristem_missing)
  set(meristem_FOUND FALSE)
  set(meristem_NOT_FOUND_MESSAGE "${meristem_missing}")
  return()
endif()
include("${CMAKE_CURRENT_LIST_DIR}/meristem-targets.cmake")
