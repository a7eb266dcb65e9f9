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
    for name in ("lab", "module_lab") if report.failed else ():
        if name in getattr(item, "funcargs", {}):
            report.sections += list(item.funcargs[name].logs())


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def lab(tmp_path, ca):
    lab = Lab(tmp_path, ca)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def module_lab(tmp_path_factory, ca):
    """A lab for all tests of a file."""
    lab = Lab(tmp_path_factory.mktemp("lab"), ca)
    yield lab
    lab.close()


def absent(reason):
    """A part that can't be had here: skipped, but an error where CI is set."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
