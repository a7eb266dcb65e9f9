unit_test(test_timer proxy)
unit_test(test_pool proxy)
