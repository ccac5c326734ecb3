# Runs some seeds twice, in processes of their own: the same trace, to the byte.
foreach(run 1 2)
  execute_process(COMMAND ${PROGRAM} --first 7 --seeds 5 --minutes 2 --trace OUTPUT_VARIABLE trace_${run} ERROR_QUIET
    RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "simulate ended with ${status}")
  endif()
endforeach()
if(NOT trace_1 STREQUAL trace_2)
  message(FATAL_ERROR "two runs of the same seeds differ")
endif()
