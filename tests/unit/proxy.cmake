# Tests of the whole proxy, by strings and a hand-set clock: one file for each family of rules.
file(GLOB files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/unit/test_proxy_*.c)
foreach(file ${files})
  get_filename_component(name ${file} NAME_WE)
  unit_test(${name} proxy)
  target_sources(${name} PRIVATE unit/edge.c)
endforeach()
target_link_libraries(test_proxy_memory PRIVATE PkgConfig::CRYPTO)
target_link_options(test_proxy_memory PRIVATE
  LINKER:--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup)
