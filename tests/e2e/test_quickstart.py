"""What deploy/quickstart promises is what these tests do: with the text that it prints, and no more,
phones and browsers register and call each other."""

import pathlib
import re
import signal
import stat
import types

import pytest
from harness import net
from harness.baresip import Baresip
from harness.browser import Browser
from harness.edge import PROGRAM, SANITIZER
from harness.ends import establish, hang_up
from harness.process import Process

QUICKSTART = pathlib.Path(__file__).parent.parent.parent / "deploy/quickstart"


class Quickstart:
    """A running quickstart, known by what it printed."""

    def __init__(self, lab, folder, *options, program=PROGRAM):
        self.address = "127.0.0.1"
        self.process = Process(
            lab,
            "quickstart",
            [QUICKSTART, "--program", pathlib.Path(program).resolve(), "--folder", folder, *options],
            env={"ASAN_OPTIONS": "detect_leaks=1:exitcode=99"},
        )
        self.process.wait_output("Ctrl-C stops", 30)
        text = self.process.output()
        self.host, self.tls_port = re.search(r"Server +(\S+) port (\d+), transport TLS", text).groups()
        self.wss_url = re.search(r"WSS URL +(\S+)", text).group(1)
        self.domain = re.search(r"SIP domain +(\S+)", text).group(1)
        self.passwords = dict(re.findall(r"User \d +(\S+) +password (\S+)", text))
        self.ca = types.SimpleNamespace(file=re.search(r"CA file +(\S+)", text).group(1))
        self.tls_port = int(self.tls_port)
        self.wss_port = int(re.search(r":(\d+)/", self.wss_url).group(1))
        net.until(
            lambda: net.can_connect(self.address, self.tls_port)
            and net.can_connect(self.address, self.wss_port),
            "quickstart's sipward listens", 20,
        )

    def stop(self):
        """Ctrl-C."""
        self.process.child.send_signal(signal.SIGINT)
        status = self.process.wait(20)
        report = SANITIZER.search(self.process.output())
        assert not report, self.process.output()[report.start():][:6000]
        assert status == 0


def ports():
    return ["--tls-port", str(net.free_port()), "--wss-port", str(net.free_port())]


def test_two_softphones_call_each_other(lab, ca):  # S1 to S4
    quickstart = Quickstart(lab, lab.folder("dev"), "--domain", "sip.test", *ports())
    alice, bob = (
        Baresip(lab, quickstart.tls_port, user, ca, password=quickstart.passwords[user],
                trust=quickstart.ca)
        for user in ("alice", "bob")
    )
    alice.wait_registered()
    bob.wait_registered()
    alice.command("dial", "sip:bob@sip.test")
    bob.wait("CALL_INCOMING")
    bob.command("accept")
    for phone in (alice, bob):
        phone.wait("CALL_ESTABLISHED")
    for phone in (alice, bob):
        phone.rtp_flows(0)  # no call before
    bob.command("hangup")
    alice.wait("CALL_CLOSED")
    quickstart.stop()


def test_two_browsers_call_each_other(lab):  # S1 to S4
    if not net.isolated:
        pytest.skip("sip.test has an address only in a namespace of its own")
    quickstart = Quickstart(lab, lab.folder("dev"), "--domain", "sip.test", *ports())
    browser = Browser(lab, quickstart.ca.file)
    alice, bob = (
        browser.phone(quickstart, user, password=quickstart.passwords[user])
        for user in ("alice", "bob")
    )
    assert (alice.outcome, bob.outcome) == ("registered", "registered")
    alice.call("sip:bob@sip.test")
    bob.wait("session")
    bob.answer()
    alice.wait("confirmed")
    alice.wait_media()
    bob.wait_media()
    bob.hangup()
    alice.wait("ended")
    quickstart.stop()


def test_nothing_is_overwritten(lab):
    folder = lab.folder("dev")
    quickstart = Quickstart(lab, folder, *ports())
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    for name in before:
        others = (folder / name).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        assert not others or name == "ca.pem", f"{name} can be read by others"

    taken = Process(
        lab, "second",
        [QUICKSTART, "--program", PROGRAM, "--folder", folder],
        cwd=QUICKSTART.parent.parent,
    )
    assert taken.wait() != 0
    assert f"port {quickstart.tls_port} is taken" in taken.output()
    quickstart.stop()

    again = Quickstart(lab, folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    assert again.passwords == quickstart.passwords
    again.stop()


def test_domain_is_this_machine_unless_given(lab):  # S1, S4
    quickstart = Quickstart(lab, lab.folder("dev"), *ports())
    if net.isolated:
        assert quickstart.domain == "127.0.0.1"  # there is no other interface
    alice = lab.client(quickstart, "alice", "tls", password=quickstart.passwords["alice"])
    bob = lab.client(quickstart, "bob", "wss", password=quickstart.passwords["bob"])
    alice.domain = bob.domain = quickstart.domain
    alice.register()
    bob.register()
    invite = alice.call_with_digest(f"sip:bob@{quickstart.domain}")
    of_alice, of_bob = establish(alice, invite, bob)
    hang_up(of_alice, of_bob)
    quickstart.stop()


def test_help_fits_on_a_screen(lab):
    shown = Process(lab, "help", [QUICKSTART, "--help"])
    assert shown.wait() == 0
    assert len(shown.output().splitlines()) <= 24
