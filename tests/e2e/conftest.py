"""Fixtures of the end-to-end tests. Run them by ctest, or by hand:
SIPWARD=build/dev/sipward /usr/bin/python3 -m pytest tests/e2e/test_scripted.py"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.dont_write_bytecode = True

from harness.fixtures import *  # noqa: E402, F401, F403
