"""Asterisk 22 as the existing PBX behind sipward: chan_pjsip with its defaults (no Path)."""

import re

import pytest
from conftest import absent
from harness import net
from harness.asterisk import Asterisk, why_absent
from harness.baresip import Baresip
from harness.browser import Browser


@pytest.fixture
def pbx(request, lab):
    reason = why_absent()
    if reason:
        absent(reason)
    options = {"by": "udp", **getattr(request, "param", {})}
    by = options.pop("by")
    transports = {"udp": ("udp",), "tcp": ("tcp",), "auto": ("udp", "tcp")}[by]
    pbx = Asterisk(lab, browsers=("alice", "bob"), phones=("bar1",), transports=transports, **options)
    pbx.edge, pbx.by = lab.edge(backends=[f"{by}:{pbx.host}"]), by
    return pbx


def registered(browser, pbx, user):
    phone = browser.phone(pbx.edge, user)
    assert phone.outcome == "registered"
    return phone


def test_browser_hears_itself(lab, pbx):  # R2 to R6, R9, R12
    """Asterisk ends DTLS-SRTP itself: the media goes straight to it."""
    alice = registered(Browser(lab), pbx, "alice")
    uri = re.search(r"sip:\S+", pbx.contacts()).group(0)
    assert f"127.0.0.1:{pbx.edge.core[1]}" in uri
    alice.call("sip:echo@sip.test")
    alice.wait("confirmed")
    alice.wait_media()
    alice.hangup()
    alice.wait("ended")
    alice.close()
    net.until(lambda: "alice" not in pbx.contacts(), "alice is unregistered")


def test_asterisk_calls_the_browser(lab, pbx):  # R6, R7
    alice = registered(Browser(lab), pbx, "alice")
    pbx.command("channel originate PJSIP/alice application Echo")
    alice.wait("session")
    alice.answer()
    alice.wait("confirmed")
    alice.wait_media()
    pbx.command("channel request hangup all")
    alice.wait("ended")


@pytest.mark.parametrize("pbx", [{"qualify": 1}], indirect=True)
def test_qualify_is_answered_by_the_client(lab, pbx):  # R6, R7
    registered(Browser(lab), pbx, "alice")
    phone = Baresip(lab, pbx.edge.tls_port, "bar1", lab.ca)
    phone.wait_registered()
    for user in ("alice", "bar1"):
        net.until(
            lambda user=user: re.search(rf"{user}/sip:.*\sAvail\s", pbx.contacts()),
            f"Asterisk reaches {user}", 20, 0.2,
        )
    phone.process.wait_output(r"^OPTIONS sip:bar1")


@pytest.mark.parametrize(
    "pbx",
    [
        {},
        {"options": "rewrite_contact=yes\n"},
        {"by": "tcp", "options": "rewrite_contact=yes\n"},
        {"by": "auto"},
    ],
    indirect=True,
    ids=("udp", "udp-rewrite", "tcp-rewrite", "auto"),
)
def test_phone_and_browser_call_each_other(lab, pbx):  # M4, R3 to R7
    """With rewrite_contact, as many set-ups have it, too: the Contact's host and port become those
    that the REGISTER came from, which are the edge's anyway: by TCP those of its connection."""
    alice = registered(Browser(lab), pbx, "alice")
    phone = Baresip(lab, pbx.edge.tls_port, "bar1", lab.ca)
    phone.wait_registered()
    alice.call("sip:bar1@sip.test")
    phone.wait("CALL_INCOMING")
    phone.command("accept")
    phone.wait("CALL_ESTABLISHED")
    alice.wait("confirmed")
    alice.wait_media()
    phone.rtp_flows(0)  # no call before
    phone.command("hangup")
    alice.wait("ended")

    phone.command("dial", "sip:alice@sip.test")
    alice.wait("session", 2)
    alice.answer()
    phone.wait("CALL_ESTABLISHED", 2)
    alice.wait_media()
    alice.hangup()
    phone.wait("CALL_CLOSED", 2)
    opened = "core connection opened" in pbx.edge.log()  # auto: for the browser's INVITE
    assert opened == (pbx.by != "udp")


def test_browser_calls_browser(lab, pbx):  # M4
    browser = Browser(lab)
    alice, bob = registered(browser, pbx, "alice"), registered(browser, pbx, "bob")
    alice.call("sip:bob@sip.test")
    bob.wait("session")
    bob.answer()
    alice.wait("confirmed")
    alice.wait_media()
    bob.wait_media()
    assert alice.hold()
    bob.hangup()
    alice.wait("ended")
    alice.call("sip:bob@sip.test")
    bob.wait("session", 2)
    bob.reject(486)
    assert alice.wait("failed")["cause"] == "Busy"
    alice.call("sip:bob@sip.test")
    bob.wait("session", 3)
    alice.wait("progress", 3)
    alice.hangup()
    assert bob.wait("failed", 2)["cause"] == "Canceled"


def test_call_to_a_page_that_is_gone(lab, pbx):  # R7 refused
    """Its binding is still there; its connection is not."""
    browser = Browser(lab)
    alice, bob = registered(browser, pbx, "alice"), registered(browser, pbx, "bob")
    browser.do(bob.page, "close")
    alice.call("sip:bob@sip.test")
    assert alice.wait("failed")["originator"] == "remote"
