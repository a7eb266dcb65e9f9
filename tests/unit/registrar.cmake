unit_test(test_digest proxy PkgConfig::CRYPTO)
unit_test(test_registrar proxy PkgConfig::CRYPTO)
unit_test(test_fork proxy PkgConfig::CRYPTO)
