unit_test(test_dns_parse proxy)
target_compile_definitions(test_dns_parse PRIVATE
  CORPUS="${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/dns")
