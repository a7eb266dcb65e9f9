# Torture: entries (entry.h) through the whole proxy, and all that goes out past libosip2 and tshark.
set(torture ${CMAKE_CURRENT_LIST_DIR})
file(GLOB torture_entries CONFIGURE_DEPENDS ${torture}/*.txt)
add_executable(torture torture/torture.c torture/entry.c torture/capture.c unit/edge.c)
target_link_libraries(torture PRIVATE proxy PkgConfig::OSIP PkgConfig::CMOCKA)
add_test(NAME torture/messages
  COMMAND torture -w ${PROJECT_BINARY_DIR}/torture.pcap ${torture_entries})
set_tests_properties(torture/messages PROPERTIES
  LABELS torture TIMEOUT 300 FIXTURES_SETUP torture_capture)
# The same entries at the door of the built program, by the harness of tests/e2e.
if(TARGET sipward)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/e2e)
  add_test(NAME torture/front_door
    COMMAND /usr/bin/python3 -m pytest -q -p no:cacheprovider
            --basetemp=${PROJECT_BINARY_DIR}/e2e/torture ${torture}/test_front_door.py
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(torture/front_door PROPERTIES LABELS torture TIMEOUT 300
    ENVIRONMENT "SIPWARD=$<TARGET_FILE:sipward>;PYTHONDONTWRITEBYTECODE=1")
endif()
add_test(NAME torture/tshark COMMAND ${torture}/ask_tshark ${PROJECT_BINARY_DIR}/torture.pcap)
set_tests_properties(torture/tshark PROPERTIES
  LABELS torture TIMEOUT 60 FIXTURES_REQUIRED torture_capture)
