"""The embedded registrar, with scripted clients."""

import hashlib

import pytest
from harness import net, sip
from harness.ends import establish, hang_up
from harness.net import until

KINDS = ("tls", "wss")


@pytest.mark.parametrize("kind", KINDS)
def test_register(lab, kind):  # S1, S2, S3
    edge = lab.edge(users=("alice", "bob"))
    alice = lab.client(edge, "alice", kind)
    answer = alice.register(expires=600)
    assert sip.uri_of(answer.get("Contact")) == sip.uri_of(alice.contact())
    assert 595 <= int(sip.parameter(answer.get("Contact"), "expires")) <= 600
    assert len(alice.register(expires=300).all("Contact")) == 1
    assert alice.register(expires=5, status=423).get("Min-Expires") == "60"
    assert int(sip.parameter(alice.register(expires=999999).get("Contact"), "expires")) <= 7200
    assert alice.register(expires=0).get("Contact") is None
    alice.register()
    assert alice.register(expires=0, contact="*").get("Contact") is None


def test_digest_by_sha_256(lab):  # S3
    ha1 = hashlib.sha256(b"alice:sip.test:pw-alice").hexdigest()
    edge = lab.edge(users=(f"{{name: alice, ha1_sha256: {ha1}}}",))
    alice = lab.client(edge, "alice")
    answer = alice.register_once(300, None, [])
    assert answer.status == 401
    challenge = sip.challenge(answer, "WWW-Authenticate", "SHA-256")
    value = sip.digest(challenge, "REGISTER", "sip:sip.test", "alice", "pw-alice", "SHA-256")
    assert alice.register_once(300, None, [("Authorization", value)]).status == 200


def test_who_may_not_register(lab):  # S3 refused
    edge = lab.edge(users=("alice", "bob"))
    lab.client(edge, "alice", password="guess").register(status=401)
    lab.client(edge, "nobody").register(status=401)
    bob = lab.client(edge, "bob")
    request = bob.register_request(300).set("To", "<sip:alice@sip.test>")
    bob.send(request)
    challenge = sip.challenge(bob.expect(401), "WWW-Authenticate")
    again = bob.register_request(300).set("To", "<sip:alice@sip.test>")
    again.headers.append(
        ("Authorization", sip.digest(challenge, "REGISTER", "sip:sip.test", "bob", "pw-bob"))
    )
    bob.send(again)
    bob.expect(403)


@pytest.mark.parametrize("caller_kind", KINDS)
@pytest.mark.parametrize("callee_kind", KINDS)
def test_call(lab, caller_kind, callee_kind):  # M4, R3, R4, R7, S4
    edge = lab.edge(users=("alice", "bob"))
    alice = lab.client(edge, "alice", caller_kind)
    bob = lab.client(edge, "bob", callee_kind)
    alice.register()
    bob.register()
    for by_caller in (True, False):
        invite = alice.call_with_digest("sip:bob@sip.test")
        of_alice, of_bob = establish(alice, invite, bob)
        for one, other in ((of_alice, of_bob), (of_bob, of_alice)):
            one.request("INFO")
            other.end.respond(other.end.expect("INFO"), 200, "OK")
            one.end.expect(200)
        if by_caller:
            hang_up(of_alice, of_bob)
        else:
            hang_up(of_bob, of_alice)


def test_nobody_there(lab):  # S4 refused
    edge = lab.edge(users=("alice", "bob"))
    alice = lab.client(edge, "alice")
    alice.register()
    for user, status in (("bob", 480), ("nobody", 404)):
        invite = alice.call_with_digest(f"sip:{user}@sip.test")
        alice.ack_failure(invite, alice.expect(status))


def test_device_that_comes_back_replaces_its_old_flow(lab):  # S5
    edge = lab.edge(users=("alice", "bob"))
    alice = lab.client(edge, "alice", "wss")
    alice.register()
    again = lab.client(edge, "alice", "wss")
    again.instance = alice.instance
    assert len(again.register().all("Contact")) == 1
    bob = lab.client(edge, "bob")
    bob.register()
    invite = bob.call_with_digest("sip:alice@sip.test")
    of_bob, of_alice = establish(bob, invite, again)
    hang_up(of_alice, of_bob)
    alice.quiet(0.1)


def test_call_to_a_client_that_is_gone(lab):  # R7 refused, S4 refused
    edge = lab.edge(users=("alice", "bob"))
    alice = lab.client(edge, "alice")
    alice.register()
    bob = lab.client(edge, "bob", "wss")
    bob.register()
    bob.close()
    invite = alice.call_with_digest("sip:bob@sip.test")
    alice.ack_failure(invite, alice.expect(430, 480))


def test_cancel(lab):  # T4, S4
    edge = lab.edge(users=("alice", "bob"))
    alice = lab.client(edge, "alice", "wss")
    bob = lab.client(edge, "bob")
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


@pytest.mark.parametrize("kind", KINDS)
def test_call_answered_to_a_client_that_hung_up_is_ended(lab, kind):  # T6, M4: by the edge itself
    edge = lab.edge(users=("alice", "bob"))
    alice = lab.client(edge, "alice", "wss")
    bob = lab.client(edge, "bob", kind)
    alice.register()
    bob.register()
    alice.call_with_digest("sip:bob@sip.test")
    arrived = bob.expect("INVITE")
    alice.close()
    net.until(lambda: "flow closed" in edge.log(), "the edge sees that alice is gone")
    answer = bob.respond(arrived, 200, "OK")
    for method, cseq in (("ACK", arrived.cseq), ("BYE", arrived.cseq + 1)):
        request = bob.expect(method)
        assert request.uri == sip.uri_of(bob.contact()) and request.cseq == cseq
        assert request.get("To") == answer.get("To")
    bob.respond(request, 200, "OK")


@pytest.mark.parametrize("contact", ("mask", "path"))
@pytest.mark.parametrize("kind", KINDS)
def test_a_binding_ends_with_its_connection(lab, kind, contact):  # T6, S4
    edge = lab.edge(users=("alice", "bob"), contact=contact)
    alice = lab.client(edge, "alice", kind)
    alice.register()
    assert edge.status()["bindings"] == 1
    alice.close()
    until(lambda: edge.status()["bindings"] == 0, "the binding is gone", 10, 0.05)
