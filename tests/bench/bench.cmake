# The instrument of tests/bench/run, and a test that it works: every scenario through sipward, no time asserted.
function(bench_program name)
  add_executable(bench_${name} ${ARGN})
  target_link_libraries(bench_${name} PRIVATE PkgConfig::OPENSSL)
endfunction()

bench_program(load bench/load.c bench/client.c bench/wire.c bench/sip.c bench/histogram.c)
bench_program(floor bench/floor.c bench/wire.c bench/sip.c)
bench_program(backend bench/backend.c bench/sip.c)

if(TARGET sipward)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/e2e)
  add_test(NAME bench/instrument
    COMMAND /usr/bin/python3 -m pytest -q -p no:cacheprovider
            --basetemp=${PROJECT_BINARY_DIR}/e2e/bench ${CMAKE_CURRENT_LIST_DIR}/test_bench.py
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(bench/instrument PROPERTIES LABELS bench TIMEOUT 300 ENVIRONMENT
    "SIPWARD=$<TARGET_FILE:sipward>;BENCH_PROGRAMS=$<TARGET_FILE_DIR:bench_load>;PYTHONDONTWRITEBYTECODE=1")
endif()
