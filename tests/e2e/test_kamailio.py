"""Kamailio as registrar and proxy behind sipward, with scripted clients."""

import pytest
from harness import ends, sip
from harness.ends import establish, hang_up
from harness.kamailio import Kamailio

WAYS = (("mask", "udp"), ("path", "udp"), ("mask", "tcp"), ("path", "auto"))


@pytest.fixture(params=WAYS, ids="-".join)
def kamailio(request, lab):
    """With its profile, and so `contact: path`, a registrar that keeps Path, with `mask` one that ignores
    it. `auto`: some requests by UDP, some by TCP."""
    mode, transport = request.param
    kamailio = Kamailio(
        lab, path=mode == "path", transports=("udp", "tcp") if transport == "auto" else (transport,)
    )
    kamailio.mode = mode
    kamailio.edge = lab.edge(
        backends=[f"{transport}:{kamailio.host}"],
        contact=None if mode == "path" else mode,
        more="profile: kamailio\nlimits: {udp_size: 900}\n",
    )
    yield kamailio
    kamailio.check()


@pytest.mark.parametrize("kind", ("tls", "wss"))
def test_register(lab, kamailio, kind):  # R5, R6, R10, R12
    edge = kamailio.edge
    alice = lab.client(edge, "alice", kind)
    answer = alice.register(expires=600)
    assert sip.uri_of(answer.get("Contact")) == sip.uri_of(alice.contact())
    assert sip.parameter(answer.get("Contact"), "expires") == "600"
    assert sip.parameter(answer.get("Contact"), "pub-gruu")  # passes
    ((uri, path),) = kamailio.bindings("alice")
    if kamailio.mode == "path":
        assert uri == sip.uri_of(alice.contact())
        assert ends.host_port(sip.uri_of(path)) == edge.core
    else:
        assert ends.host_port(uri) == edge.core and not path

    alice.register(expires=300)  # a refresh replaces, it does not add
    assert len(kamailio.bindings("alice")) == 1
    alice.register(expires=0)
    assert kamailio.bindings("alice") == []


def test_register_all_away(lab, kamailio):  # R6: a Contact of * stays one
    alice = lab.client(kamailio.edge, "alice")
    alice.register()
    assert alice.register(expires=0, contact="*").get("Contact") is None
    assert kamailio.bindings("alice") == []


def test_wrong_password(lab, kamailio):  # R12 refused
    mallory = lab.client(kamailio.edge, "alice", password="guess")
    mallory.register(status=401)
    assert kamailio.bindings("alice") == []


@pytest.mark.parametrize("caller_kind", ("tls", "wss"))
@pytest.mark.parametrize("callee_kind", ("tls", "wss"))
def test_call(lab, kamailio, caller_kind, callee_kind):  # M4, R1 to R7, R9, R12, T2, T3
    alice = lab.client(kamailio.edge, "alice", caller_kind)
    bob = lab.client(kamailio.edge, "bob", callee_kind)
    alice.register()
    bob.register()
    for by_caller in (True, False):
        invite = alice.call_with_digest("sip:bob@sip.test")
        of_alice, of_bob = establish(alice, invite, bob)
        if by_caller:
            hang_up(of_alice, of_bob)
        else:
            hang_up(of_bob, of_alice)


def test_call_by_gruu(lab, kamailio):  # R10: the registrar knows the way, we follow it
    alice = lab.client(kamailio.edge, "alice")
    bob = lab.client(kamailio.edge, "bob", "wss")
    alice.register()
    gruu = sip.parameter(bob.register().get("Contact"), "pub-gruu").strip('"')
    invite = alice.call_with_digest(gruu)
    of_alice, of_bob = establish(alice, invite, bob)
    hang_up(of_alice, of_bob)


def test_cancel_and_decline(lab, kamailio):  # T3, T4
    alice = lab.client(kamailio.edge, "alice")
    bob = lab.client(kamailio.edge, "bob", "wss")
    alice.register()
    bob.register()

    invite = alice.call_with_digest("sip:bob@sip.test")
    arrived = bob.expect("INVITE")
    bob.respond(arrived, 180, "Ringing")
    alice.expect(180)
    alice.cancel(invite)
    assert alice.expect(200).get("CSeq").endswith("CANCEL")
    bob.respond(bob.expect("CANCEL"), 200, "OK")
    bob.respond(arrived, 487, "Request Terminated")
    alice.ack_failure(invite, alice.expect(487))
    bob.expect("ACK")

    for status in (486, 603):
        invite = alice.call_with_digest("sip:bob@sip.test")
        bob.respond(bob.expect("INVITE"), status, "No")
        alice.ack_failure(invite, alice.expect(status))
        bob.expect("ACK")


def test_many_clients_call_each_other(lab, kamailio):  # R7
    clients = [lab.client(kamailio.edge, f"u{i}", ("tls", "wss")[i % 2]) for i in range(8)]
    for client in clients:
        client.register()
    for caller, callee in zip(clients, clients[3:] + clients[:3]):
        invite = caller.call_with_digest(f"sip:{callee.name}@sip.test")
        of_caller, of_callee = establish(caller, invite, callee)
        hang_up(of_callee, of_caller)
