# The container images of deploy/, built and run for real by buildah and podman, as root: images makes them, for
# the test after it.
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/e2e)
add_test(NAME container/images COMMAND ${CMAKE_CURRENT_LIST_DIR}/images ${PROJECT_BINARY_DIR}/container)
set_tests_properties(container/images PROPERTIES
  LABELS container TIMEOUT 900 SKIP_RETURN_CODE 77 FIXTURES_SETUP container_images)
add_test(
  NAME container/container
  COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
          --basetemp=${PROJECT_BINARY_DIR}/e2e/container ${CMAKE_CURRENT_LIST_DIR}/test_container.py
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
set_tests_properties(container/container PROPERTIES
  LABELS container TIMEOUT 300 FIXTURES_REQUIRED container_images
  ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1;SIPWARD_CONTAINER=${PROJECT_BINARY_DIR}/container;SIPWARD_E2E_WEB=${PROJECT_SOURCE_DIR}/build/e2e-web")
