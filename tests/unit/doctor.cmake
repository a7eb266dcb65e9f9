unit_test(test_doctor doctor proxy PkgConfig::JANSSON PkgConfig::UV)
