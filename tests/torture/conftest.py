"""Fixtures of the torture test of the built program: those of the end-to-end tests."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
sys.dont_write_bytecode = True

from harness.fixtures import *  # noqa: E402, F401, F403
