"""baresip over TLS, with Kamailio and with the embedded registrar."""

import pytest
from harness import net
from harness.baresip import Baresip
from harness.ca import Authority
from harness.kamailio import Kamailio


class Embedded:
    """What Kamailio is asked for in these tests, of the embedded registrar."""

    def __init__(self, edge):
        self.edge = edge

    def check(self):
        pass


@pytest.fixture(params=("mask", "path", "embedded"))
def registrar(request, lab):
    if request.param == "embedded":
        more = "registrar:\n  min_expires: 5\n"
        registrar = Embedded(lab.edge(users=("bar1", "bar2"), more=more))
    else:
        registrar = Kamailio(lab, path=request.param == "path")
        registrar.edge = lab.edge(backends=[registrar.host], contact=request.param)
    yield registrar
    registrar.check()


def test_two_phones_call_each_other(lab, registrar):  # R1 to R7, R12, T1 to T3
    port = registrar.edge.tls_port
    one = Baresip(lab, port, "bar1", lab.ca)
    two = Baresip(lab, port, "bar2", lab.ca)
    one.wait_registered()
    two.wait_registered()
    # the caller hangs up, then the callee: each of the two once
    for call, (caller, callee) in enumerate(((one, two), (two, one)), 1):
        before = {phone: phone.flowing() for phone in (one, two)}
        caller.command("dial", f"sip:{callee.user}@sip.test")
        callee.wait("CALL_INCOMING")
        caller.wait("CALL_RINGING")
        callee.command("accept")
        for phone in (one, two):
            phone.wait("CALL_ESTABLISHED", call)
        for phone in (one, two):
            phone.rtp_flows(before[phone])
        (caller if call == 1 else callee).command("hangup")
        for phone in (one, two):
            phone.wait("CALL_CLOSED", call)
            sent, received = phone.packets(call)
            assert received > 10 and sent > 10


def test_declined_and_given_up(lab, registrar):  # T3, T4
    port = registrar.edge.tls_port
    one = Baresip(lab, port, "bar1", lab.ca)
    two = Baresip(lab, port, "bar2", lab.ca)
    one.wait_registered()
    two.wait_registered()
    for call, by in enumerate((two, one), 1):
        one.command("dial", "sip:bar2@sip.test")
        two.wait("CALL_INCOMING", call)
        one.wait("CALL_RINGING", call)
        by.command("hangup")
        two.wait("CALL_CLOSED", call)
        one.wait("CALL_CLOSED", call)


def test_refresh_and_unregister(lab, registrar):  # R5, R6, R12, S1, S2
    phone = Baresip(lab, registrar.edge.tls_port, "bar1", lab.ca, interval=6)
    phone.wait("REGISTER_OK", 2, timeout=30)  # it refreshes at 90 % of its interval
    if isinstance(registrar, Kamailio):
        assert len(registrar.bindings("bar1")) == 1
    phone.quit()
    if isinstance(registrar, Kamailio):
        net.until(lambda: registrar.bindings("bar1") == [], "unregistered")
    else:
        alice = lab.client(registrar.edge, "bar2")
        alice.register()
        invite = alice.call_with_digest("sip:bar1@sip.test")
        alice.ack_failure(invite, alice.expect(480))


def test_wrong_password_is_refused(lab, registrar):  # R12, S3 refused
    phone = Baresip(lab, registrar.edge.tls_port, "bar1", lab.ca, password="guess")
    phone.process.wait_output(r"reg: sip:bar1@sip.test( \(prio \d\))?: 40[13] ")
    if isinstance(registrar, Kamailio):
        assert registrar.bindings("bar1") == []
    assert not phone.process.matches(r"200 OK .*\[\d+ binding")


def test_a_phone_shows_its_certificate(lab, tmp_path):  # X4, X4 refused
    port = net.free_port()
    edge = lab.edge(
        users=("bar1", "bar2"),
        listeners=[f"  - {{tls: 127.0.0.1:{port}, client_certificate: required}}"],
        more=f"client_ca: {lab.ca.file}\n",
    )
    Baresip(lab, port, "bar1", lab.ca).wait_registered()
    edge.process.wait_output('flow opened .* client="?CN=bar1"?$')
    other = Baresip(lab, port, "bar2", Authority(tmp_path / "other", "Other CA"), trust=lab.ca)
    edge.process.wait_output("TLS handshake failed .* certificate is by no CA of client_ca")
    assert not other.process.matches(r"200 OK .*\[\d+ binding")
