unit_test(test_timer proxy)
