# What operators install: the Debian package, in a clean root too; the unit of systemd, the man pages.
if(TARGET sipward)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/e2e)
  add_test(
    NAME packaging/package
    COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
            --basetemp=${PROJECT_BINARY_DIR}/e2e/packaging ${CMAKE_CURRENT_LIST_DIR}/test_package.py
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  add_test(NAME packaging/install COMMAND ${CMAKE_CURRENT_LIST_DIR}/install-and-purge)
  add_test(
    NAME packaging/certbot
    COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
            --basetemp=${PROJECT_BINARY_DIR}/e2e/certbot ${CMAKE_CURRENT_LIST_DIR}/test_certbot.py
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(packaging/certbot PROPERTIES LABELS packaging TIMEOUT 300
    ENVIRONMENT "SIPWARD=$<TARGET_FILE:sipward>;PYTHONDONTWRITEBYTECODE=1")
  set_tests_properties(packaging/package packaging/install PROPERTIES
    LABELS packaging TIMEOUT 900 RESOURCE_LOCK package ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
  set_tests_properties(packaging/install PROPERTIES SKIP_RETURN_CODE 77)
endif()
