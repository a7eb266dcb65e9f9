add_executable(ws_server integration/ws_server.c)
target_link_libraries(ws_server PRIVATE ws)
add_test(NAME integration/ws
  COMMAND /usr/bin/python3 -m pytest -q -p no:cacheprovider
          ${CMAKE_CURRENT_SOURCE_DIR}/integration/test_ws.py)
set_tests_properties(integration/ws PROPERTIES LABELS integration TIMEOUT 300
  ENVIRONMENT "WS_SERVER=$<TARGET_FILE:ws_server>;PYTHONDONTWRITEBYTECODE=1")
