unit_test(test_conf conf)
target_compile_definitions(test_conf PRIVATE
  SAMPLE_FILE="${PROJECT_SOURCE_DIR}/deploy/sipward.yaml")
