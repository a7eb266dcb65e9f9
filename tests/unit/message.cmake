unit_test(test_frame proxy)
unit_test(test_message proxy PkgConfig::OSIP)
unit_test(test_value proxy)
unit_test(test_dialog proxy)
