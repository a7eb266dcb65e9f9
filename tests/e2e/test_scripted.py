"""sipward between scripted ends: clients over TLS and WSS, a PBX over UDP. Every message that an
end receives is judged by harness.sip.parse: N1, N2, N3 and V7 are proved by each test here."""

import os
import socket
import time

import pytest
from harness import ends, net, sip
from harness.ends import Dialog, establish, hang_up
from websockets.exceptions import InvalidStatus

KINDS = ("tls", "wss")
MODES = ("mask", "path")


def routes_to(client):
    """The Route that a PBX puts in front for a client: its Path, where it keeps that."""
    return [("Route", path) for path in client.paths]


def ring(pbx, client, body=None):
    """INVITE from the PBX to a registered client, not answered yet."""
    invite = pbx.invite(client.bound, body=body)
    for name, value in reversed(routes_to(client)):
        invite.headers.insert(1, (name, value))
    pbx.send(invite)
    return invite


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_client_calls_the_pbx_and_is_called(lab, kind, mode):  # R1 to R7, R9, R11, T2, T3
    edge, pbx = lab.scripted(contact=mode)
    alice = lab.registered(edge, pbx, "alice", kind)
    if mode == "mask":
        assert ends.host_port(alice.bound) == edge.core and "transport=" not in alice.bound
    else:
        assert alice.bound == sip.uri_of(alice.contact())
        assert ends.host_port(sip.uri_of(alice.paths[0])) == edge.core
        assert "lr" in sip.uri_of(alice.paths[0]).split(";")

    invite = alice.invite("sip:100@sip.test")
    alice.send(invite)
    of_alice, of_pbx = establish(alice, invite, pbx)
    assert ends.host_port(of_pbx.routes[0].strip("<>")) == edge.core
    assert "transport=" not in of_pbx.routes[0]
    of_pbx.request("INVITE", body=sip.sdp(port=40010))  # hold, say
    again = alice.expect("INVITE")
    alice.respond(again, 200, "OK", body=sip.sdp(port=40012))
    assert pbx.expect(200).body == sip.sdp(port=40012)
    of_pbx.request("ACK", cseq=of_pbx.cseq)
    alice.expect("ACK")
    of_alice.request("INFO", [("Content-Type", "application/dtmf-relay")], b"Signal=5\r\n")
    assert pbx.expect("INFO").body == b"Signal=5\r\n"
    hang_up_pbx = of_alice.request("BYE")
    # the INFO stays open: it is answered after the BYE, and both find their way
    bye = pbx.expect("BYE")
    pbx.respond(bye, 200, "OK")
    assert alice.expect(200).branch == hang_up_pbx.branch

    invite = ring(pbx, alice)
    of_pbx, of_alice = establish(pbx, invite, alice)
    hang_up(of_alice, of_pbx)

    invite = ring(pbx, alice)
    of_pbx, of_alice = establish(pbx, invite, alice)
    hang_up(of_pbx, of_alice)


@pytest.mark.parametrize("kind", KINDS)
def test_client_sees_its_own_contact_again(lab, kind):  # R6: restored exactly
    edge, pbx = lab.scripted()
    alice = lab.client(edge, "alice", kind)
    contact = f'"A. Lice" <sip:alice@{alice.host};transport={alice.uri_transport};x=%41>;q=0.7' + (
        f';+sip.instance="{alice.instance}";reg-id=1'
    )
    alice.send(alice.register_request(120, contact))
    register, bound = pbx.accept_register(expires=60)
    seen = register.get("Contact")
    assert sip.parameter(seen, "q") == "0.7" and sip.parameter(seen, "reg-id") == "1"
    assert sip.parameter(seen, "+sip.instance") == f'"{alice.instance}"'
    answer = alice.expect(200)
    assert sip.uri_of(answer.get("Contact")) == sip.uri_of(contact)
    assert sip.parameter(answer.get("Contact"), "expires") == "60"

    options = pbx.request("OPTIONS", bound)
    pbx.send(options)
    arrived = alice.expect("OPTIONS")
    assert arrived.uri == sip.uri_of(contact)
    alice.respond(arrived, 200, "OK")
    pbx.expect(200)


@pytest.mark.parametrize("caller_kind", KINDS)
@pytest.mark.parametrize("callee_kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_spiral_passes(lab, caller_kind, callee_kind, mode):  # M4, R3, R4
    """Client, edge, PBX, the same edge, another client; the PBX stays in the dialog."""
    edge, pbx = lab.scripted(contact=mode)
    alice = lab.registered(edge, pbx, "alice", caller_kind)
    bob = lab.registered(edge, pbx, "bob", callee_kind)

    def through(method):
        """A request that goes on by its own Route, through the PBX in the middle."""
        request = pbx.expect(method)
        routes = [r for r in request.all("Route") if pbx.host not in r]
        pbx.forward(request, request.uri, routes)
        return request

    invite = alice.invite("sip:bob@sip.test")
    alice.send(invite)
    first = pbx.expect("INVITE")
    pbx.respond(first, 100, "Trying")
    pbx.forward(first, bob.bound, bob.paths, record_route=True)
    arrived = bob.expect("INVITE")
    assert arrived.uri == sip.uri_of(bob.contact())
    bob.respond(arrived, 180, "Ringing")
    pbx.forward_response(pbx.expect(180))
    alice.expect(180)
    answer = bob.respond(arrived, 200, "OK", body=sip.sdp(port=40002))
    pbx.forward_response(pbx.expect(200))
    answered = alice.expect(200)
    of_alice = Dialog.of_caller(alice, invite, answered)
    of_bob = Dialog.of_callee(bob, arrived, answer)
    of_alice.ack(invite)
    through("ACK")
    bob.expect("ACK")
    for one, other in ((of_alice, of_bob), (of_bob, of_alice)):
        one.request("INFO")
        through("INFO")
        other.end.respond(other.end.expect("INFO"), 200, "OK")
        pbx.forward_response(pbx.expect(200))
        one.end.expect(200)
    of_bob.request("BYE")
    through("BYE")
    alice.respond(alice.expect("BYE"), 200, "OK")
    pbx.forward_response(pbx.expect(200))
    bob.expect(200)


def test_loop_ends_at_once(lab):  # M3 refused
    """The backend sends the request back as it came: 482 on the first turn."""
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    invite = alice.invite("sip:nobody@sip.test")
    alice.send(invite)
    arrived = pbx.expect("INVITE")
    pbx.send(arrived.bytes())  # unchanged
    refused = pbx.expect(482)
    pbx.ack_failure(arrived, refused)
    # and with the Via that a proxy would add
    looped = pbx.forward(arrived, arrived.uri, arrived.all("Route"))
    refused = pbx.expect(482)
    pbx.ack_failure(looped, refused)
    pbx.respond(arrived, 482, "Loop Detected")
    failed = alice.expect(482)
    alice.ack_failure(invite, failed)
    pbx.expect("ACK")


# What the client sends; what the PBX sees, or the status that the client gets.
MAX_FORWARDS = (
    ("0", None, 483),
    ("1", "0", None),
    ("70", "69", None),
    (None, "70", None),
    ("71", "69", None),
    ("255", "69", None),
    ("256", None, 400),
    ("x", None, 400),
    ("-1", None, 400),
    ("", None, 400),
)


@pytest.mark.parametrize("method", ("INVITE", "MESSAGE"))
@pytest.mark.parametrize("kind", KINDS)
def test_max_forwards(lab, kind, method):  # M1, M2
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", kind)
    for sent, seen, status in MAX_FORWARDS:
        request = alice.request(method, "sip:100@sip.test")
        request.set("Max-Forwards", *([] if sent is None else [sent]))
        alice.send(request)
        if status:
            answer = alice.expect(status)
        else:
            arrived = pbx.expect(method)
            assert arrived.all("Max-Forwards") == [seen], f"{sent}: {arrived!r}"
            pbx.respond(arrived, 404, "Not Found")
            answer = alice.expect(404)
        if method == "INVITE":
            alice.ack_failure(request, answer)
            if not status:
                pbx.expect("ACK")
    pbx.quiet()


@pytest.mark.parametrize("kind", KINDS)
def test_options_with_no_hop_left_is_answered_by_the_edge(lab, kind):  # M1
    edge, pbx = lab.scripted()
    alice = lab.client(edge, "alice", kind)
    options = alice.request("OPTIONS", "sip:100@sip.test").set("Max-Forwards", "0")
    alice.send(options)
    assert alice.expect(200).branch == options.branch
    pbx.quiet()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", (6000, 20000, 60000))
def test_large_invite(lab, kind, size):  # F1, F4, F6
    """A browser's INVITE is 3 to 6 kB; what fits the limit passes, in both directions."""
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", kind)
    body = sip.sdp() + b"".join(
        b"a=candidate:%d 1 udp 2113937151 192.0.2.%d 50000 typ host\r\n" % (i, i % 256)
        for i in range(size // 62)
    )
    invite = alice.invite("sip:100@sip.test", body=body)
    alice.send(invite)
    arrived = pbx.expect("INVITE")
    assert arrived.body == body
    answer = pbx.respond(arrived, 200, "OK", body=body[::-1])
    assert alice.expect(200).body == answer.body


@pytest.mark.parametrize("kind", KINDS)
def test_body_of_any_bytes(lab, kind):  # V4
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", kind)
    body = b"\x00INVITE\r\n\r\n" + bytes(range(256)) * 4 + b"\r\n\r\n\x00"
    for plain in (b"\x00", b"a\x00b", body):
        message = alice.request(
            "MESSAGE", "sip:100@sip.test", body=plain, headers=[("Content-Type", "a/b")]
        )
        alice.send(message)
        arrived = pbx.expect("MESSAGE")
        assert arrived.body == plain
        pbx.respond(arrived, 200, "OK", body=plain[::-1], headers=[("Content-Type", "a/b")])
        assert alice.expect(200).body == plain[::-1]

        message = pbx.request("MESSAGE", alice.bound, body=plain, headers=[("Content-Type", "a/b")])
        pbx.send(message)
        arrived = alice.expect("MESSAGE")
        assert arrived.body == plain
        alice.respond(arrived, 200, "OK")
        pbx.expect(200)


def test_body_without_content_type_passes(lab):  # N2: nothing is put in or lost
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    message = alice.request("MESSAGE", "sip:100@sip.test")
    message.body = b"text"
    alice.send(message)
    arrived = pbx.expect("MESSAGE")
    assert arrived.body == b"text" and arrived.get("Content-Type") is None


def test_message_cut_at_every_byte(lab):  # F1
    """A MESSAGE in two TLS records, cut at each place in turn; then a record for each byte; then
    several messages in one record."""
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")

    def message():
        return alice.request("MESSAGE", "sip:1@sip.test", body=b"\r\n\r\nbody\x00", contact=False)

    def passes(request):
        arrived = pbx.expect("MESSAGE")
        assert arrived.body == request.body and arrived.get("Call-ID") == request.get("Call-ID")
        pbx.respond(arrived, 200, "OK")
        assert alice.expect(200).branch == request.branch

    for cut in range(1, len(message().bytes())):
        request = message()
        raw = request.bytes()
        alice.send(raw[:cut])
        time.sleep(0.001)  # not to wait for anything: so that the two are mostly read apart
        alice.send(raw[cut:])
        passes(request)

    request = message()
    for byte in request.bytes():
        alice.send(bytes([byte]))
    passes(request)

    requests = [message() for _ in range(20)]
    alice.send(b"\r\n".join(r.bytes() for r in requests))
    waiting = {r.branch for r in requests}
    for _ in requests:
        pbx.respond(pbx.expect("MESSAGE"), 200, "OK")
    for _ in requests:
        waiting.remove(alice.expect(200).branch)


def test_message_over_20_fragments(lab):  # F4
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", "wss")
    for count in (2, 20, 100000):  # the last: a frame for each byte
        message = alice.request("MESSAGE", "sip:1@sip.test", body=b"x" * 300)
        sent = alice.send_fragments(message.bytes(), min(count, len(message.bytes())))
        assert sent >= min(count, 20)
        arrived = pbx.expect("MESSAGE")
        assert arrived.body == message.body
        pbx.respond(arrived, 200, "OK")
        alice.expect(200)


def test_content_length_over_websocket(lab):  # F4
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", "wss")

    def sent(length, body):
        message = alice.request("MESSAGE", "sip:1@sip.test", body=body)
        raw = message.bytes()
        if length is None:
            raw = raw.replace(b"Content-Length: %d\r\n" % len(body), b"")
        else:
            raw = raw.replace(b"Length: %d" % len(body), b"Length: %d" % length)
        alice.send(raw)

    sent(None, b"twelve bytes")
    assert pbx.expect("MESSAGE").body == b"twelve bytes"
    sent(6, b"twelve bytes")
    assert pbx.expect("MESSAGE").body == b"twelve"
    sent(13, b"twelve bytes")
    alice.expect(400)


@pytest.mark.parametrize("length", (None, "-1", "x", "99999999999999999999", "5\r\nContent-Length: 6"))
def test_framing_lost_on_a_stream(lab, length):  # F3 refused
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    raw = alice.request("MESSAGE", "sip:1@sip.test", body=b"abcdef").bytes()
    line = b"" if length is None else b"Content-Length: %s\r\n" % length.encode()
    alice.send(raw.replace(b"Content-Length: 6\r\n", line))
    assert alice.wait_closed().startswith(b"SIP/2.0 4") or length == "99999999999999999999"
    pbx.quiet()


def test_message_above_the_limit(lab):  # F6 refused
    edge, pbx = lab.scripted()
    body = b"x" * 70000
    alice = lab.registered(edge, pbx, "alice")
    alice.send(alice.request("MESSAGE", "sip:1@sip.test", body=body))
    assert alice.wait_closed().startswith(b"SIP/2.0 513")
    bob = lab.registered(edge, pbx, "bob", "wss")
    try:
        bob.send(bob.request("MESSAGE", "sip:1@sip.test", body=body))
    except OSError:
        pass  # closed while we wrote
    assert bob.wait_closed() == 1009
    pbx.quiet()


@pytest.mark.parametrize("kind", KINDS)
def test_keepalives(lab, kind):  # F2, F8
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", kind)
    alice.send(b"\r\n\r\n")
    alice.send(alice.request("OPTIONS").set("Max-Forwards", "0"))
    alice.expect(200)
    assert alice.pongs == 1
    alice.send(b"\r\n")
    alice.send(alice.request("OPTIONS").set("Max-Forwards", "0"))
    alice.expect(200)
    assert alice.pongs == 1
    pbx.quiet()


def test_handshake(lab):  # F5
    edge, _ = lab.scripted(more="websocket:\n  path: /sip\n")
    lab.client(edge, "alice", "wss", path="/sip")
    lab.client(edge, "alice", "wss", path="/sip", subprotocols=("chat", "sip"))
    for options, status in (
        ({"subprotocols": ("chat",), "path": "/sip"}, 400),
        ({"path": "/other"}, 404),
    ):
        with pytest.raises(InvalidStatus) as refused:
            lab.client(edge, "alice", "wss", **options)
        assert refused.value.response.status_code == status


@pytest.mark.parametrize("kind", KINDS)
def test_untidy_input_comes_out_canonical(lab, kind):  # N1, N2, N3, N4, V1
    edge, pbx = lab.scripted()
    alice = lab.client(edge, "alice", kind)
    raw = (
        f"\r\nMESSAGE  sip:1@sip.test SIP/2.0\r\n".replace("  ", " ")
        + f"v: SIP/2.0/{alice.transport} {alice.host};branch=z9hG4bK{os.urandom(8).hex()}\r\n"
        "f:\t<sip:alice@sip.test> ;tag=1\r\n"
        "t :sip:1@sip.test\r\n"
        f"i: {os.urandom(8).hex()}\r\n"
        "cseq:   7   MESSAGE\r\n"
        "x-unKnown: a ,b,  c\r\n"
        "s: folded\r\n  on two\r\n\tand three  \r\n"
        "c: text/plain\r\n"
        "l: 2\r\n\r\nhi"
    ).encode()
    alice.send(raw)
    arrived = pbx.expect("MESSAGE")  # parse() has judged it
    assert arrived.body == b"hi"
    assert arrived.get("CSeq").split() == ["7", "MESSAGE"]
    assert arrived.get("Subject").split() == ["folded", "on", "two", "and", "three"]
    assert "x-unKnown" in [n for n, _ in arrived.headers]
    assert arrived.get("X-Unknown") == "a ,b,  c"
    assert arrived.get("Max-Forwards") == "70"


def test_trusted_headers_are_stripped(lab):  # N5 refused
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    invite = alice.invite(
        "sip:1@sip.test",
        headers=[
            ("P-Asserted-Identity", "<sip:boss@sip.test>"),
            ("Remote-Party-ID", "<sip:boss@sip.test>;party=calling"),
            ("P-Served-User", "<sip:boss@sip.test>"),
            ("P-Preferred-Identity", "<sip:alice@sip.test>"),
        ],
    )
    alice.send(invite)
    arrived = pbx.expect("INVITE")
    for name in ("P-Asserted-Identity", "Remote-Party-ID", "P-Served-User"):
        assert arrived.get(name) is None
    assert arrived.get("P-Preferred-Identity")


@pytest.mark.parametrize("kind", KINDS)
def test_broken_requests_are_refused(lab, kind):  # V1 to core refused, V2 to core refused, V3 to core refused, V4 to core refused, V6 to core refused
    edge, pbx = lab.scripted()
    alice = lab.client(edge, "alice", kind)

    def broken(change):
        message = alice.request("MESSAGE", "sip:1@sip.test")
        change(message)
        return message

    def start(text):
        return lambda m: setattr(m, "start", text)

    for change, status in (
        (lambda m: m.set("CSeq", "1 INVITE"), 400),
        (lambda m: m.set("CSeq", "2147483648 MESSAGE"), 400),
        (lambda m: m.set("Call-ID", "a", "b"), 400),
        (lambda m: m.set("Max-Forwards", "70", "70"), 400),
        (lambda m: m.set("From", "<sip:alice@sip.test>"), 400),
        (lambda m: m.headers.append(("X-Bad", "a\x00b")), 400),
        (lambda m: m.headers.append(("Proxy-Require", "foo")), 420),
        (start("MESSAGE sip:1@sip.test SIP/3.0"), 505),
        (start("MESSAGE http://sip.test/ SIP/2.0"), 416),
    ):
        message = broken(change)
        alice.send(message)
        answer = alice.expect(status)
        if status == 420:
            assert answer.get("Unsupported") == "foo"
    # the connection is as good as before
    alice.send(alice.request("OPTIONS").set("Max-Forwards", "0"))
    alice.expect(200)
    pbx.quiet()


def test_foreign_routes_are_refused(lab):  # R2 refused
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    victim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    victim.bind(("127.0.0.1", 0))
    where = "127.0.0.1:%d" % victim.getsockname()[1]
    message = alice.request("MESSAGE", "sip:1@sip.test")
    message.headers.insert(1, ("Route", f"<sip:{where};lr>"))
    alice.send(message)
    alice.expect(403)
    # a foreign Request-URI goes to the backend all the same
    alice.send(alice.request("MESSAGE", f"sip:1@{where}"))
    assert pbx.expect("MESSAGE").uri == f"sip:1@{where}"
    victim.setblocking(False)
    with pytest.raises(BlockingIOError):
        victim.recv(1)
    victim.close()


@pytest.mark.parametrize("mode", MODES)
def test_forged_and_stale_flow_tokens(lab, mode):  # R7, R7 refused
    edge, pbx = lab.scripted(contact=mode)
    alice = lab.registered(edge, pbx, "alice")
    bob = lab.registered(edge, pbx, "bob", "wss")

    def asked(uri, paths):
        options = pbx.request("OPTIONS", uri)
        for path in reversed(paths):
            options.headers.insert(1, ("Route", path))
        pbx.send(options)
        return pbx.expect(200, 403, 404, 430).status

    def forge(text):
        """Change one letter in the middle of the longest word: the token."""
        words = [w for part in text.split("@") for w in part.replace("<", ";").split(";")]
        token = max((w.rpartition("=")[2].rpartition(":")[2] for w in words), key=len)
        middle = len(token) // 2
        changed = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
        return text.replace(token, changed)

    if mode == "mask":
        assert asked(forge(alice.bound), []) == 403
    else:
        assert asked(alice.bound, [forge(alice.paths[0])]) == 403
    alice.quiet(0.2)
    bob.quiet(0.1)
    alice.close()
    net.until(lambda: asked(alice.bound, alice.paths) == 430, "the flow is gone")
    bob.quiet(0.1)


def test_flow_gone_status_can_be_set(lab):  # R7 refused
    edge, pbx = lab.scripted(more="flow_gone_status: 410\n")
    alice = lab.registered(edge, pbx, "alice")
    alice.close()

    def gone():
        pbx.send(pbx.request("OPTIONS", alice.bound))
        return pbx.expect(410, 408, 200).status == 410

    net.until(gone, "the flow is gone")


def test_strangers_on_the_core_side_are_ignored(lab):  # R8 refused
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    stranger = ends.Pbx(lab, "stranger", address="127.0.0.2")
    stranger.edge = edge
    stranger.send(stranger.request("MESSAGE", alice.bound, body=b"spam"))
    stranger.quiet()
    alice.quiet(0.1)


def test_retransmissions(lab):  # T1, T8
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    # towards the PBX: again until it answers
    alice.send(alice.request("MESSAGE", "sip:1@sip.test"))
    raw = [pbx.receive_bytes(time.monotonic() + 5) for _ in range(3)]
    assert raw[0] == raw[1] == raw[2]
    pbx.respond(sip.parse(raw[0]), 200, "OK")
    alice.expect(200)
    # from the PBX: to the client once
    message = pbx.request("MESSAGE", alice.bound, body=b"once")
    pbx.send(message)
    pbx.send(message)
    arrived = alice.expect("MESSAGE")
    alice.quiet(0.2)
    alice.respond(arrived, 200, "OK")
    pbx.expect(200)
    pbx.send(message)
    assert pbx.expect(200).branch == message.branch
    alice.quiet(0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_cancel(lab, kind):  # T4
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", kind)
    invite = alice.invite("sip:1@sip.test")
    alice.send(invite)
    arrived = pbx.expect("INVITE")
    pbx.respond(arrived, 180, "Ringing")
    alice.expect(180)
    alice.cancel(invite)
    assert alice.expect(200).get("CSeq") == "1 CANCEL"
    cancel = pbx.expect("CANCEL")
    assert cancel.branch == arrived.branch and cancel.uri == arrived.uri
    pbx.respond(cancel, 200, "OK")
    pbx.respond(arrived, 487, "Request Terminated")
    alice.ack_failure(invite, alice.expect(487))
    pbx.expect("ACK")
    alice.cancel(alice.invite("sip:1@sip.test"))
    alice.expect(481)

    invite = ring(pbx, alice)
    arrived = alice.expect("INVITE")
    alice.respond(arrived, 180, "Ringing")
    pbx.expect(180)
    pbx.cancel(invite)
    pbx.expect(200)
    cancel = alice.expect("CANCEL")
    alice.respond(cancel, 200, "OK")
    alice.respond(arrived, 487, "Request Terminated")
    pbx.ack_failure(invite, pbx.expect(487))
    alice.expect("ACK")


@pytest.mark.parametrize("kind", KINDS)
def test_declined(lab, kind):  # T3
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", kind)
    for status in (302, 404, 486, 603):
        invite = ring(pbx, alice)
        arrived = alice.expect("INVITE")
        alice.respond(arrived, status, "No")
        pbx.ack_failure(invite, pbx.expect(status))
        alice.expect("ACK")


@pytest.mark.parametrize("kind", KINDS)
def test_client_that_hangs_up_cancels_its_calls(lab, kind):  # T6
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", kind)
    alice.send(alice.invite("sip:1@sip.test"))
    arrived = pbx.expect("INVITE")
    pbx.respond(arrived, 180, "Ringing")
    alice.expect(180)
    alice.close()
    cancel = pbx.expect("CANCEL")
    assert cancel.branch == arrived.branch
    pbx.respond(cancel, 200, "OK")
    pbx.respond(arrived, 487, "Request Terminated")
    pbx.expect("ACK")
    pbx.quiet()


@pytest.mark.parametrize("mode", MODES)
def test_call_answered_to_a_client_that_hung_up_is_ended(lab, mode):  # T6 to core
    edge, pbx = lab.scripted(contact=mode)
    alice = lab.registered(edge, pbx, "alice")
    alice.send(alice.invite("sip:1@sip.test"))
    arrived = pbx.expect("INVITE")
    alice.close()
    net.until(lambda: "flow closed" in edge.log(), "the edge sees that alice is gone")
    answer = pbx.respond(arrived, 200, "OK")
    for method, cseq in (("ACK", arrived.cseq), ("BYE", arrived.cseq + 1)):
        request = pbx.expect(method)
        assert request.uri == sip.uri_of(pbx.contact()) and request.cseq == cseq
        assert request.all("Route") == []
        assert request.get("To") == answer.get("To")
    pbx.respond(request, 200, "OK")
    pbx.quiet()


@pytest.mark.parametrize("kind", KINDS)
def test_call_to_a_client_that_goes_away_fails_at_once(lab, kind):  # T6, R7
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice", kind)
    invite = ring(pbx, alice)
    alice.expect("INVITE")
    alice.close()
    pbx.ack_failure(invite, pbx.expect(430))


@pytest.mark.parametrize("workers", (1, 4))
def test_every_worker_has_its_flows(lab, workers):  # R7
    """Calls to and from clients on all workers, whichever of them the core's datagrams meet."""
    edge, pbx = lab.scripted(workers=workers)
    clients = [lab.registered(edge, pbx, f"user{i}", KINDS[i % 2]) for i in range(12)]
    for client in clients:
        options = pbx.request("OPTIONS", client.bound)
        pbx.send(options)
        client.respond(client.expect("OPTIONS"), 200, "OK")
        assert pbx.expect(200).branch == options.branch
    for client in clients:
        invite = client.invite("sip:100@sip.test")
        client.send(invite)
        of_client, of_pbx = establish(client, invite, pbx)
        hang_up(of_pbx, of_client)


@pytest.mark.parametrize("kind", KINDS)
def test_over_ipv6(lab, kind):  # R1, R3
    edge, pbx = lab.scripted(address="::1")
    alice = lab.registered(edge, pbx, "alice", kind)
    assert ends.host_port(alice.bound) == edge.core
    invite = alice.invite("sip:1@sip.test")
    alice.send(invite)
    of_alice, of_pbx = establish(alice, invite, pbx)
    hang_up(of_pbx, of_alice)
    of_pbx, of_alice = establish(pbx, ring(pbx, alice), alice)
    hang_up(of_alice, of_pbx)


def test_status_says_how_much_there_is(lab):
    edge, pbx = lab.scripted(level="warning")
    alice = lab.registered(edge, pbx, "alice")
    bob = lab.client(edge, "bob", "wss")
    alice.send(alice.invite("sip:1@sip.test"))
    pbx.expect("INVITE")
    status = edge.status()
    assert status["connections"] == status["flows"] == status["flows-opened"] == 2, status
    assert status["requests"] == 2, status  # the REGISTER too is kept for a while
    assert status["requests-access"] == 2 and status["transactions"] >= 3, status
    bob.close()
    net.until(lambda: edge.status()["flows"] == 1, "a flow less")


def test_stop_closes_connections_properly(lab):
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    bob = lab.registered(edge, pbx, "bob", "wss")
    alice.send(alice.invite("sip:1@sip.test"))
    pbx.expect("INVITE")  # open, never answered
    edge.stop()
    assert bob.wait_closed() == 1001
    alice.wait_closed()
    assert not alice.ragged and not bob.ragged
