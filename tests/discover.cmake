# meristem_discover_tests(<target> [PREFIX <text>] [LABEL <label>] [ONLY <regex>] [EXCEPT <regex>] [SLOW <regex>]
#                         [ENVIRONMENT <name>=<value>]): one ctest entry for each pair of source file and
# test suite in a doctest executable, asked from the executable after it was linked, so that no entry runs nothing.
# The suite is the entry's label unless LABEL names another. The expressions are for <folder>/<name>; what matches SLOW
# gets that label in place of unit, and more time. Run as a script, this file writes the entries.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  function(meristem_discover_tests target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "PREFIX;LABEL;ONLY;EXCEPT;SLOW;ENVIRONMENT" "")
    string(MAKE_C_IDENTIFIER "${target} ${arg_PREFIX}" name)
    set(entries "${CMAKE_CURRENT_BINARY_DIR}/${name}_entries.cmake")
    add_custom_command(
      TARGET ${target} POST_BUILD
      COMMAND "${CMAKE_COMMAND}" -D "EXECUTABLE=$<TARGET_FILE:${target}>" -D "ENTRIES=${entries}" -D "PREFIX=${arg_PREFIX}"
              -D "LABEL=${arg_LABEL}" -D "ONLY=${arg_ONLY}" -D "EXCEPT=${arg_EXCEPT}" -D "SLOW=${arg_SLOW}"
              -D "ENVIRONMENT=${arg_ENVIRONMENT}" -P "${CMAKE_CURRENT_FUNCTION_LIST_FILE}"
      BYPRODUCTS "${entries}" VERBATIM)
    set(include_file "${CMAKE_CURRENT_BINARY_DIR}/${name}_include.cmake")
    file(CONFIGURE OUTPUT "${include_file}" @ONLY CONTENT [[
if(EXISTS "@entries@")
  include("@entries@")
else()
  add_test("@target@ was not built" "@target@_was_not_built")
endif()
]])
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${include_file}")
  endfunction()
  return()
endif()

execute_process(COMMAND "${EXECUTABLE}" --list-test-cases --reporters=xml --no-skip OUTPUT_VARIABLE listing
                RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${EXECUTABLE} could not list its test cases: ${status}\n${listing}")
endif()
string(REGEX MATCHALL "testsuite=\"[^\"]*\" filename=\"[^\"]*\" line=\"[0-9]*\" skipped=\"false\"" cases "${listing}")
list(TRANSFORM cases REPLACE " line=.*" "")
list(REMOVE_DUPLICATES cases)
if(NOT cases)
  message(FATAL_ERROR "${EXECUTABLE} has no test case")
endif()

set(text "")
foreach(case IN LISTS cases)
  if(NOT case MATCHES "testsuite=\"(unit|slow|gpu)\" filename=\"(.*/tests/(.*)/test_(.*)\\.cpp)\"")
    message(FATAL_ERROR "a test case is in no suite of unit, slow, gpu, or not in tests/<folder>/test_<name>.cpp: ${case}")
  endif()
  set(suite "${CMAKE_MATCH_1}")
  set(file "*/${CMAKE_MATCH_3}/test_${CMAKE_MATCH_4}.cpp")
  set(file_name "${CMAKE_MATCH_3}/${CMAKE_MATCH_4}")
  if((ONLY AND NOT file_name MATCHES "${ONLY}") OR (EXCEPT AND file_name MATCHES "${EXCEPT}"))
    continue()
  endif()
  set(name "${PREFIX}${file_name}")
  set(labels "${suite}")
  if(LABEL)
    set(labels "${LABEL}")
  elseif(SLOW AND file_name MATCHES "${SLOW}")
    set(labels slow)
  endif()
  set(timeout 900)
  if(SLOW AND file_name MATCHES "${SLOW}")
    set(timeout 3600)
  endif()
  if(NOT suite STREQUAL "unit")
    string(APPEND name " (${suite})")
    list(APPEND labels "${suite}")
  endif()
  list(REMOVE_DUPLICATES labels)
  string(APPEND text "add_test([==[${name}]==] [==[${EXECUTABLE}]==] [==[--source-file=${file}]==] --test-suite=${suite})\n"
                     "set_tests_properties([==[${name}]==] PROPERTIES LABELS [==[${labels}]==] SKIP_RETURN_CODE 77 "
                     "FAIL_REGULAR_EXPRESSION [==[test cases: +0 ]==] TIMEOUT ${timeout}")
  if(LABEL STREQUAL "gpu")
    string(APPEND text " RESOURCE_LOCK gpu")
  endif()
  if(ENVIRONMENT)
    string(APPEND text " ENVIRONMENT [==[${ENVIRONMENT}]==]")
  endif()
  string(APPEND text ")\n")
endforeach()
file(WRITE "${ENTRIES}" "${text}")
