"""Fixtures of the tests of the container images: those of the end-to-end tests. Run one by hand, as root:
tests/container/images build/container && SIPWARD_CONTAINER=build/container
/usr/bin/python3 -m pytest tests/container/test_container.py"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
sys.dont_write_bytecode = True

from harness.fixtures import *  # noqa: E402, F401, F403
