unit_test(test_admin_pages admin)
unit_test(test_admin_flows admin)
