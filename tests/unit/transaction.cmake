unit_test(test_server_transaction proxy)
unit_test(test_client_transaction proxy)
foreach(test test_server_transaction test_client_transaction) # memory runs out in them
  target_link_options(${test} PRIVATE LINKER:--wrap=malloc,--wrap=calloc,--wrap=realloc)
endforeach()
