"""The container images as operators run them: hardened, told by environment variables, with a call through them."""

import json
import os
import pathlib
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from containers import COMPOSE, FOLDER, Compose, Container, layers, network_prepare, podman
from harness import net
from harness.browser import Browser
from harness.ends import establish, hang_up
from harness.fixtures import absent
from harness.kamailio import Kamailio

UID = 10001
pytestmark = pytest.mark.usefixtures("images")


@pytest.fixture(scope="session")
def images():
    if not (FOLDER / "built").exists():
        absent("there are no images: tests/container/images says why")
    if not net.isolated:
        absent("containers need a network of the test's own")
    network_prepare()


@pytest.fixture
def tls(lab):
    """The folder with the certificate, as an operator has to provide it."""
    folder = lab.folder("tls")
    for file, name in zip(lab.ca.issue("edge"), ("fullchain.pem", "privkey.pem")):
        shutil.copy(file, folder / name)
        os.chown(folder / name, UID, UID)
    for parent in [folder, *folder.parents]:
        if parent.stat().st_uid == os.getuid() and parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o011)  # to be passed through
    return folder


@pytest.mark.parametrize("image", ("sipward", "sipward-distroless"))
def test_call_through_a_hardened_container(lab, tls, image):  # X6
    kamailio = Kamailio(lab, path=True)
    core = net.free_port()
    edge = Container(
        lab, image, tls, "--memory", "256m", "--pids-limit", "64",
        SIPWARD_DOMAIN="sip.test", SIPWARD_BACKENDS=f"udp:{kamailio.host}", SIPWARD_PROFILE="kamailio",
        SIPWARD_CORE=f"127.0.0.1:{core}", SIPWARD_LOG="json",
    )
    status = edge.status()
    assert status["Uid"].split() == [str(UID)] * 4 and status["Gid"].split() == [str(UID)] * 4
    assert all(int(status[caps], 16) == 0 for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = pathlib.Path(f"/proc/{edge.inspect('{{.State.Pid}}')}/mountinfo").read_text().splitlines()
    root = [line.split() for line in mounts if line.split()[4] == "/"][-1]
    assert "ro" in root[5].split(",")

    health = edge.execute("--healthcheck")
    assert health.returncode == 0, health.stdout
    checked = edge.execute("check", "/etc/sipward/sipward.yaml")
    assert 'domain: "sip.test" # by SIPWARD_DOMAIN\n' in checked.stdout, checked.stdout

    alice, bob = lab.client(edge, "alice", "tls"), lab.client(edge, "bob", "wss")
    alice.register()
    bob.register()
    of_alice, of_bob = establish(alice, alice.call_with_digest("sip:bob@sip.test"), bob)

    with ThreadPoolExecutor() as beside:
        stop = beside.submit(podman, "stop", "-t", "30", edge.name)
        edge.process.wait_output('"event":"draining"')
        hang_up(of_alice, of_bob)  # the call that runs ends as its ends want it
        stop.result()
    kamailio.check()
    assert edge.inspect("{{.State.ExitCode}}") == "0"
    lines = [json.loads(line) for line in podman("logs", edge.name).stdout.splitlines()]
    assert "drained" in [line["event"] for line in lines]


def test_what_is_missing_is_said():
    done = podman("run", "--rm", "--network", "none", "--no-healthcheck", "localhost/sipward", check=False)
    assert done.returncode == 2
    for words in ("SIPWARD_DOMAIN", "SIPWARD_BACKENDS", "/etc/sipward/tls/fullchain.pem"):
        assert words in done.stdout, done.stdout


def test_a_key_that_can_not_be_read_is_said(tls):
    os.chown(tls / "privkey.pem", 0, 0)
    done = podman(
        "run", "--rm", "--network", "none", "--no-healthcheck", "-v", f"{tls}:/etc/sipward/tls:ro",
        "localhost/sipward", "check", "/etc/sipward/sipward.yaml", check=False,
    )
    assert f"(Permission denied for uid {UID}): /etc/sipward/tls/privkey.pem" in done.stdout, done.stdout


def test_the_same_source_is_the_same_layers():
    assert layers("sipward-distroless") == layers("sipward-distroless-again")


def test_labels():
    version = podman("run", "--rm", "--network", "none", "--no-healthcheck", "localhost/sipward", "--version")
    for image in ("sipward", "sipward-distroless"):
        config = json.loads(podman("image", "inspect", image).stdout)[0]
        labels = config["Labels"]
        assert f"sipward {labels['org.opencontainers.image.version']}\n" == version.stdout
        assert config["Config"]["StopSignal"] == "SIGTERM"
        assert config["Healthcheck"]["Test"] == ["CMD", "/usr/sbin/sipward", "--healthcheck"]


def test_compose_file_is_right():
    if shutil.which("docker-compose") is None:
        absent("there is no docker-compose")
    done = subprocess.run(
        ["docker-compose", "-f", COMPOSE, "config", "-q"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_browsers_call_each_other_after_compose_up(lab):
    if shutil.which("podman-compose") is None:
        absent("there is no podman-compose")
    compose = Compose(lab)
    net.until(lambda: net.can_connect("127.0.0.1", 443), "sipward listens on port 443", 40)
    ca = lab.folder("ca") / "ca.pem"
    podman("cp", f"{compose.name('sipward')}:/etc/sipward/tls/ca.pem", ca)
    passwords = dict(re.findall(r"users=>(\w+)\) = \"(\S+)\"", (COMPOSE.parent / "kamailio/users.cfg").read_text()))
    browser = Browser(lab, ca)
    alice, bob = (
        browser.phone(None, user, passwords[user], url="wss://localhost/", domain="localhost")
        for user in ("alice", "bob")
    )
    assert (alice.outcome, bob.outcome) == ("registered", "registered"), compose.logs("sipward") + compose.logs("kamailio")
    alice.call("sip:bob@localhost")
    bob.wait("session")
    bob.answer()
    alice.wait("confirmed")
    alice.wait_media()
    bob.wait_media()
    bob.hangup()
    alice.wait("ended")
    assert browser.phone(None, "eve", "", url="wss://localhost/", domain="localhost").outcome != "registered"
