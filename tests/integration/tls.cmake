# tls/ over loopback, with a proxy that echoes in the place of proxy/'s flows.
foreach(name test_stream test_listener test_stream_facts)
  add_executable(${name} integration/${name}.c integration/tls_edge.c integration/fake_proxy.c
                         integration/pki.c)
  target_link_libraries(${name} PRIVATE tls PkgConfig::CMOCKA)
  add_test(NAME integration/${name} COMMAND ${name})
  set_tests_properties(integration/${name} PROPERTIES LABELS integration TIMEOUT 120)
endforeach()
