# find_package(meristem): defines meristem::meristem. Projects that compile .cu files enable CUDA before they call it.
include("${CMAKE_CURRENT_LIST_DIR}/meristem-dependencies.cmake")
if(meristem_missing)
  set(meristem_FOUND FALSE)
  set(meristem_NOT_FOUND_MESSAGE "${meristem_missing}")
  return()
endif()
include("${CMAKE_CURRENT_LIST_DIR}/meristem-targets.cmake")
