"""Fixtures of the tests of TLS: those of the end-to-end tests. Run one by hand:
SIPWARD=build/dev/sipward /usr/bin/python3 -m pytest tests/tls/test_client_certificates.py"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
sys.dont_write_bytecode = True

from harness.fixtures import *  # noqa: E402, F401, F403
