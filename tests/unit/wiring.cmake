unit_test(test_log proxy)
unit_test(test_core proxy)
unit_test(test_refusal proxy)
unit_test(test_metrics admin)
unit_test(test_backends proxy m)
unit_test(test_endpoints proxy)
target_link_options(test_endpoints PRIVATE LINKER:--wrap=malloc,--wrap=calloc) # it runs out
unit_test(test_cause proxy)
