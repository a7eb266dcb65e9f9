"""Two JsSIP pages in headless Chromium over WSS: calls with real ICE, DTLS-SRTP and sound."""

import pytest
from harness.browser import Browser
from harness.kamailio import Kamailio


@pytest.fixture(params=("mask", "path", "embedded"))
def edge(request, lab):
    if request.param == "embedded":
        yield lab.edge(users=("alice", "bob"))
        return
    kamailio = Kamailio(lab, path=request.param == "path")
    yield lab.edge(backends=[kamailio.host], contact=request.param)
    kamailio.check()


@pytest.fixture
def phones(lab, edge):
    browser = Browser(lab)
    alice, bob = browser.phone(edge, "alice"), browser.phone(edge, "bob")
    assert (alice.outcome, bob.outcome) == ("registered", "registered")
    yield alice, bob
    assert not browser.process.matches("PAGE ERROR.*")


def test_call(phones):  # F4, F5, R1 to R10, R12, T2, T3
    alice, bob = phones
    # the caller hangs up, then the callee: each page once
    for count, (caller, callee) in enumerate(((alice, bob), (bob, alice)), 1):
        caller.call(f"sip:{callee.user}@sip.test")
        assert callee.wait("session", count)["originator"] == "remote"
        callee.answer()
        for phone in (caller, callee):
            phone.wait("confirmed", count)
        for phone in (caller, callee):
            phone.wait_media()
        (caller if count == 1 else callee).hangup()
        for phone in (caller, callee):
            assert phone.wait("ended", count)["cause"] == "Terminated"
    for phone in phones:
        phone.close()  # unregisters


def test_hold(phones):  # R4, R11: a re-INVITE by each side
    alice, bob = phones
    alice.call("sip:bob@sip.test")
    bob.wait("session")
    bob.answer()
    alice.wait("confirmed")
    bob.wait("confirmed")
    assert alice.hold() and bob.wait("hold")
    assert bob.hold()
    bob.hangup()
    alice.wait("ended")


@pytest.mark.parametrize("status, cause", ((486, "Busy"), (603, "Rejected"), (480, "Unavailable")))
def test_callee_does_not_want_to(phones, status, cause):  # T3
    alice, bob = phones
    alice.call("sip:bob@sip.test")
    bob.wait("session")
    bob.reject(status)
    failed = alice.wait("failed")
    assert (failed["status"], failed["cause"]) == (status, cause)
    assert failed["originator"] == "remote"


def test_caller_cancels_while_it_rings(phones):  # T4
    alice, bob = phones
    alice.call("sip:bob@sip.test")
    bob.wait("session")
    alice.wait("progress")
    alice.hangup()
    assert bob.wait("failed")["cause"] == "Canceled"
    assert alice.wait("failed")["cause"] == "Canceled"
    # and both are free for the next call
    bob.call("sip:alice@sip.test")
    alice.wait("session", 2)
    alice.answer()
    bob.wait_media()
    bob.hangup()
    alice.wait("ended")


def test_callee_closes_its_page(phones):  # T6
    alice, bob = phones
    alice.call("sip:bob@sip.test")
    bob.wait("session")
    alice.wait("progress")
    bob.browser.do(bob.page, "close")
    assert alice.wait("failed")["originator"] == "remote"


def test_wrong_password(lab, edge):  # R12, S3 refused
    browser = Browser(lab)
    assert browser.phone(edge, "alice", password="guess").outcome == "Authentication Error"
