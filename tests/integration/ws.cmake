# tls/ and ws/ through real sockets, with a proxy that does what a message says.
add_executable(ws_server integration/ws_server.c)
target_link_libraries(ws_server PRIVATE ws)
foreach(name ws ws_conformance shared_port proxy_protocol)
  add_test(NAME integration/${name}
    COMMAND /usr/bin/python3 -m pytest -q -p no:cacheprovider
            ${CMAKE_CURRENT_SOURCE_DIR}/integration/test_${name}.py)
  set_tests_properties(integration/${name} PROPERTIES LABELS integration TIMEOUT 300
    ENVIRONMENT "WS_SERVER=$<TARGET_FILE:ws_server>;PYTHONDONTWRITEBYTECODE=1")
endforeach()
