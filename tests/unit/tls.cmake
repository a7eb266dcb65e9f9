unit_test(test_certificate tls)
unit_test(test_tls_proxy_protocol tls)
target_sources(test_certificate PRIVATE integration/pki.c)
target_include_directories(test_certificate PRIVATE integration)
