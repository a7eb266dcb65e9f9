"""Fixtures of tests/e2e for the test of the bench."""

import pathlib
import sys

here = pathlib.Path(__file__).parent
sys.path[:0] = [str(here), str(here.parent / "e2e")]
sys.dont_write_bytecode = True

from harness.fixtures import *  # noqa: E402, F401, F403
