# Tests of the whole proxy, by strings and a hand-set clock: one file for each family of rules.
foreach(family headers reordered routing torn transactions validation)
  unit_test(test_proxy_${family} proxy)
  target_sources(test_proxy_${family} PRIVATE unit/edge.c)
endforeach()
