# A fuzz target: fuzz_target(name library ...). With preset `fuzz` it is a libFuzzer program, for
# tests/fuzz/run; with any other, a test replays its corpus.
function(fuzz_target name)
  set(target fuzz_${name})
  add_executable(${target} fuzz/${target}.c $<$<NOT:$<BOOL:${SIPWARD_FUZZ}>>:fuzz/replay.c>)
  target_compile_options(${target} PRIVATE -UNDEBUG) # its assert() is the test
  target_link_libraries(${target} PRIVATE ${ARGN})
  set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name})
  if(SIPWARD_FUZZ)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    add_test(NAME fuzz/${name} COMMAND ${target} -runs=0 ${corpus})
  else()
    add_test(NAME fuzz/${name} COMMAND ${target} ${corpus})
  endif()
  set_tests_properties(fuzz/${name} PROPERTIES LABELS fuzz TIMEOUT 120)
endfunction()

fuzz_target(frame proxy PkgConfig::XXHASH)
fuzz_target(message proxy PkgConfig::OSIP)

fuzz_target(proxy proxy PkgConfig::OSIP PkgConfig::CRYPTO PkgConfig::XXHASH)
target_sources(fuzz_proxy PRIVATE fuzz/world.c fuzz/oracle.c)
if(SIPWARD_FUZZ) # what judges is not what is explored
  set_source_files_properties(fuzz/world.c fuzz/oracle.c PROPERTIES
                              COMPILE_OPTIONS -fno-sanitize=fuzzer-no-link)
endif()
target_link_options(fuzz_proxy PRIVATE LINKER:--wrap=getrandom,--wrap=RAND_bytes)
fuzz_target(value proxy)
fuzz_target(conf conf)
fuzz_target(proxy_protocol tls)
fuzz_target(websocket ws System::wslay)
fuzz_target(log proxy)
target_link_options(fuzz_log PRIVATE LINKER:--wrap=write)
fuzz_target(dns proxy)
