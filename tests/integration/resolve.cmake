# Names against name servers, in a network namespace of their own: dnsmasq, and one that misbehaves.
add_executable(resolve_cli integration/resolve_cli.c)
target_link_libraries(resolve_cli PRIVATE proxy PkgConfig::UV)
target_link_options(resolve_cli PRIVATE LINKER:--wrap=malloc,--wrap=calloc) # it can run out
add_test(NAME integration/resolve
  COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
          ${CMAKE_CURRENT_SOURCE_DIR}/integration/test_resolve.py)
set_tests_properties(integration/resolve PROPERTIES LABELS integration TIMEOUT 300
  ENVIRONMENT "RESOLVE_CLI=$<TARGET_FILE:resolve_cli>;PYTHONDONTWRITEBYTECODE=1")
