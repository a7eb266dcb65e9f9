unit_test(test_value proxy)
