"""Fixtures of the tests that run the built program. A part's conftest.py imports all of it."""

import os
import pathlib
import tempfile

import pytest

from . import net

scratch = tempfile.TemporaryDirectory(prefix="sipward-e2e-")
net.isolate(pathlib.Path(scratch.name))

from .ca import Authority  # noqa: E402
from .lab import Lab  # noqa: E402


def pytest_report_header():
    return "network: " + ("a namespace of its own" if net.isolated else "the machine's loopback")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    lab = item.funcargs.get("lab") if hasattr(item, "funcargs") else None
    if report.failed and lab:
        report.sections += list(lab.logs())


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def lab(tmp_path, ca):
    lab = Lab(tmp_path, ca)
    yield lab
    lab.close()


def absent(reason):
    """A part that can't be had here: skipped, but an error where CI is set."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
