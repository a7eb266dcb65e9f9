# The listeners of a worker are nobody's folder: they are built into their test.
add_executable(test_listeners integration/test_listeners.c ${PROJECT_SOURCE_DIR}/listeners.c)
target_include_directories(test_listeners PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(test_listeners PRIVATE tls PkgConfig::UV PkgConfig::CMOCKA Threads::Threads)
add_test(NAME integration/test_listeners COMMAND test_listeners)
set_tests_properties(integration/test_listeners PROPERTIES LABELS integration TIMEOUT 60)
