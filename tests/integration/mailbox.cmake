# A mailbox is nobody's folder: it is built into its test.
add_executable(test_mailbox integration/test_mailbox.c ${PROJECT_SOURCE_DIR}/mailbox.c)
target_include_directories(test_mailbox PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(test_mailbox PRIVATE proxy PkgConfig::UV PkgConfig::CMOCKA Threads::Threads)
add_test(NAME integration/test_mailbox COMMAND test_mailbox)
set_tests_properties(integration/test_mailbox PROPERTIES LABELS integration TIMEOUT 60)

add_executable(test_core_udp integration/test_core_udp.c)
target_link_libraries(test_core_udp PRIVATE proxy PkgConfig::UV PkgConfig::CMOCKA)
add_test(NAME integration/test_core_udp COMMAND test_core_udp)
set_tests_properties(integration/test_core_udp PROPERTIES LABELS integration TIMEOUT 60)

add_executable(test_core_tcp integration/test_core_tcp.c)
target_link_libraries(test_core_tcp PRIVATE proxy PkgConfig::UV PkgConfig::CMOCKA)
add_test(NAME integration/test_core_tcp COMMAND test_core_tcp)
set_tests_properties(integration/test_core_tcp PROPERTIES LABELS integration TIMEOUT 60)

add_executable(test_lag integration/test_lag.c ${PROJECT_SOURCE_DIR}/lag.c)
target_include_directories(test_lag PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(test_lag PRIVATE proxy PkgConfig::UV PkgConfig::CMOCKA)
add_test(NAME integration/test_lag COMMAND test_lag)
set_tests_properties(integration/test_lag PROPERTIES LABELS integration TIMEOUT 60)

add_executable(test_wheel integration/test_wheel.c ${PROJECT_SOURCE_DIR}/wheel.c)
target_include_directories(test_wheel PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(test_wheel PRIVATE proxy PkgConfig::UV PkgConfig::CMOCKA)
add_test(NAME integration/test_wheel COMMAND test_wheel)
set_tests_properties(integration/test_wheel PROPERTIES LABELS integration TIMEOUT 60)
