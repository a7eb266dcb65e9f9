# TLS as clients see it: the built program among openssl s_client, Python's ssl, raw bytes and testssl.sh, by the
# harness of tests/e2e. Each file is one test, in a network namespace of its own.
function(tls_test name timeout)
  add_test(
    NAME tls/${name}
    COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
            --basetemp=${PROJECT_BINARY_DIR}/e2e/tls-${name} ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/test_${name}.py
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(tls/${name} PROPERTIES LABELS tls TIMEOUT ${timeout}
    ENVIRONMENT "SIPWARD=$<TARGET_FILE:sipward>;PYTHONDONTWRITEBYTECODE=1")
endfunction()

if(TARGET sipward)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/e2e)
  tls_test(client_certificates 300)
  tls_test(names 300)
  tls_test(refusals 300)
  tls_test(hellos 300)
  tls_test(resumption 300)
  tls_test(testssl 400)
endif()
