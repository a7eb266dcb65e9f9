"""The Debian package: built, installed, run, removed; its unit, its man pages."""

import gzip
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest
from harness import edge as harness_edge
from harness import net
from harness.ca import Authority
from harness.ends import establish, hang_up
from harness.fixtures import absent
from harness.lab import Lab

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
BUILD = PROJECT / "build/package"


def run(*argv, **options):
    result = subprocess.run(
        [str(a) for a in argv], capture_output=True, text=True, check=False, **options
    )
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def package():
    code, said = run(PROJECT / "deploy/package")
    assert code == 0, said
    packages = list(BUILD.glob("*.deb"))
    assert len(packages) == 1
    return packages[0]


@pytest.fixture
def unpacked(package, tmp_path):
    code, said = run("dpkg-deb", "-x", package, tmp_path / "unpacked")
    assert code == 0, said
    return tmp_path / "unpacked"


def test_one_version():
    def found(file, pattern):
        return set(re.findall(pattern, (PROJECT / file).read_text(encoding="utf-8"), re.M))

    version = found("CMakeLists.txt", r"^project\(sipward VERSION (\S+)")
    assert len(version) == 1
    assert found("deploy/Dockerfile", r'image\.version="(.*?)"') == version
    assert version <= found("deploy/debian/changelog", r"^sipward \((.*)-\d+\)")
    assert version <= found("CHANGELOG.md", r"^## (\d\S*)")


def test_lintian(package):
    code, said = run("lintian", "--fail-on", "error", package)
    assert code == 0, said


def test_unit(unpacked, tmp_path):  # X6
    text = (unpacked / "usr/lib/systemd/system/sipward.service").read_text(encoding="utf-8")
    unit = tmp_path / "sipward.service"
    unit.write_text(text.replace("/usr/sbin/sipward", str(unpacked / "usr/sbin/sipward")))
    assert run("systemd-analyze", "verify", "--man=no", unit) == (0, "")
    code, said = run(
        "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit
    )
    assert code == 0, said


@pytest.fixture
def open_lab():
    """A lab whose files everybody may read."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sipward-unit-"))
    folder.chmod(0o755)
    lab = Lab(folder, Authority(folder / "ca"))
    yield lab
    lab.close()
    shutil.rmtree(folder)


def test_call_with_what_the_unit_leaves(open_lab, unpacked, monkeypatch):  # X6
    if os.geteuid() or not net.isolated:
        absent("this needs root, and a network namespace")
    lab = open_lab
    shutil.copy(unpacked / "usr/sbin/sipward", lab.path)
    unit = unpacked / "usr/lib/systemd/system/sipward.service"
    starter = lab.path / "start"
    starter.write_text(
        f"#!/bin/sh\nchmod -R a+rX {lab.path}\n"
        f'exec {HERE}/as-the-unit {unit} nobody {lab.path}/sipward "$@"\n'
    )
    starter.chmod(0o755)
    monkeypatch.setattr(harness_edge, "PROGRAM", starter)
    edge = lab.edge(users=("alice", "bob"), listeners=('  - tls: "127.0.0.1:443"',))
    status = pathlib.Path(f"/proc/{edge.pid}/status").read_text(encoding="ascii")
    for line in ("Seccomp:\t2", "NoNewPrivs:\t1", "CapBnd:\t0000000000000400"):
        assert f"\n{line}\n" in status, status
    assert "\nUid:\t0" not in status
    alice, bob = lab.client(edge, "alice", "tls"), lab.client(edge, "bob", "wss")
    alice.register()
    bob.register()
    invite = alice.call_with_digest("sip:bob@sip.test")
    hang_up(*establish(alice, invite, bob))
    assert "Operation not permitted" not in edge.log()
    edge.stop()


def test_man_pages(unpacked):
    for page in ("man8/sipward.8.gz", "man5/sipward.yaml.5.gz"):
        text = gzip.decompress((unpacked / "usr/share/man" / page).read_bytes())
        assert run("mandoc", "-T", "lint", "-W", "warning", input=text.decode()) == (0, "")
        code, shown = run("mandoc", "-T", "ascii", input=text.decode())
        assert code == 0 and "sipward" in shown
    shown = re.sub(".\b", "", shown)  # bold is typed twice
    for word in ("domain:", "backends:", "idle_timeout", "flow_gone_status"):
        assert word in shown, shown
