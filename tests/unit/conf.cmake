unit_test(test_conf conf)
target_compile_definitions(test_conf PRIVATE
  SAMPLE_FILE="${PROJECT_SOURCE_DIR}/deploy/sipward.yaml")
# memory_that_runs_out_is_an_error: the allocations of conf/, and through it those of libcyaml
target_link_options(test_conf PRIVATE
  LINKER:--wrap=calloc,--wrap=realloc,--wrap=reallocarray,--wrap=strdup,--wrap=strndup
  LINKER:--wrap=asprintf,--wrap=vasprintf)
