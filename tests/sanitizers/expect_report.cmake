# Runs PROGRAM CASE VARIANT and fails unless a sanitizer reports the line of SOURCE marked `BUG: CASE` (VARIANT broken)
# or the program runs in silence (VARIANT correct).
execute_process(COMMAND "${PROGRAM}" ${CASE} ${VARIANT} RESULT_VARIABLE status OUTPUT_VARIABLE output
                ERROR_VARIABLE output)

# Older ThreadSanitizers cannot start where the system spreads addresses widely.
if(output MATCHES "unexpected memory mapping")
  message(STATUS "skipped: ThreadSanitizer does not run on this system (vm.mmap_rnd_bits is too large for it)")
  return()
endif()

if(VARIANT STREQUAL "correct")
  if(NOT status EQUAL 0 OR NOT output STREQUAL "")
    message(FATAL_ERROR "the correct kernel did not run in silence (exit code ${status}):\n${output}")
  endif()
  return()
endif()

file(READ "${SOURCE}" text)
string(FIND "${text}" "// BUG: ${CASE}\n" marker)
if(marker EQUAL -1)
  message(FATAL_ERROR "no line of ${SOURCE} is marked `BUG: ${CASE}`")
endif()
string(SUBSTRING "${text}" 0 ${marker} before)
string(REGEX REPLACE "[^\n]" "" newlines "${before}")
string(LENGTH "${newlines}" line)
math(EXPR line "${line} + 1")

get_filename_component(file "${SOURCE}" NAME)
if(status EQUAL 0)
  message(FATAL_ERROR "the broken kernel was not reported")
endif()
if(NOT output MATCHES "AddressSanitizer|runtime error|ThreadSanitizer: data race")
  message(FATAL_ERROR "the broken kernel ended with exit code ${status} but no sanitizer's report:\n${output}")
endif()
if(NOT output MATCHES "${file}:${line}[^0-9]")
  message(FATAL_ERROR "the report does not name ${file}:${line}:\n${output}")
endif()
message(STATUS "reported at ${file}:${line}")
