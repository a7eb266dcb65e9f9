# Every rule of RULES.md has its proofs.
add_test(NAME unit/rules COMMAND ${PROJECT_SOURCE_DIR}/tests/rules --quiet)
set_tests_properties(unit/rules PROPERTIES LABELS unit TIMEOUT 60)
