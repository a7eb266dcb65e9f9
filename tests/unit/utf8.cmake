unit_test(test_utf8 ws)
