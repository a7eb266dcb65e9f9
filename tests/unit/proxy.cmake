add_executable(test_proxy unit/test_proxy.c unit/edge.c)
target_link_libraries(test_proxy PRIVATE proxy PkgConfig::CMOCKA)
add_test(NAME unit/test_proxy COMMAND test_proxy)
set_tests_properties(unit/test_proxy PROPERTIES LABELS unit TIMEOUT 120)
