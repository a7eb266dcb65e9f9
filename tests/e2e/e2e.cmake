# End-to-end tests: the built program among real clients and servers. Each file is one test, in a
# network namespace of its own, so files run side by side.
set(e2e_python /usr/bin/python3) # Debian's, with Debian's pytest

function(e2e_test name timeout)
  add_test(
    NAME e2e/${name}
    COMMAND ${e2e_python} -m pytest -q -rs -p no:cacheprovider
            --basetemp=${PROJECT_BINARY_DIR}/e2e/${name} ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/test_${name}.py
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set(environment "SIPWARD=$<TARGET_FILE:sipward>" "PYTHONDONTWRITEBYTECODE=1"
      "SIPWARD_E2E_WEB=${PROJECT_SOURCE_DIR}/build/e2e-web"
      "SIPWARD_E2E_ASTERISK=${PROJECT_SOURCE_DIR}/build/asterisk-root")
  set_tests_properties(e2e/${name} PROPERTIES LABELS e2e TIMEOUT ${timeout} ENVIRONMENT "${environment}")
endfunction()

if(TARGET sipward)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/e2e)
  e2e_test(scripted 600)
  e2e_test(core_tcp 300)
  e2e_test(failover 300)
  e2e_test(metrics 300)
  e2e_test(names 300)
  e2e_test(reload 300)
  e2e_test(embedded 300)
  e2e_test(drain 300)
  e2e_test(admin 300)
  e2e_test(flows 300)
  e2e_test(torn 300)
  e2e_test(lossy 300)
  e2e_test(kamailio 300)
  e2e_test(sipp 300)
  e2e_test(baresip 300)
  e2e_test(linphone 300)
  e2e_test(jssip 600)
  e2e_test(shared_port 300)
  e2e_test(asterisk 600)
  e2e_test(asterisk_profile 300)
  e2e_test(quickstart 600)
  e2e_test(doctor 300)
endif()
