unit_test(test_admin_pages admin)
