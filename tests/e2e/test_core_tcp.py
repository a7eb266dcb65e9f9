"""SIP over TCP between sipward and its backend: scripted ends with faults, and SIPp. Two workers."""

import re
import socket
import subprocess
import time

import pytest
from harness import ends, net, sip
from harness.edge import PROGRAM
from harness.ends import Dialog, Pbx, TcpPbx, establish, hang_up
from harness.sipp import Sipp

KINDS = ("tls", "wss")


def call_in(pbx, client):
    """A whole call from the PBX to a registered client."""
    invite = pbx.invite(client.bound)
    for path in reversed(client.paths):
        invite.headers.insert(1, ("Route", path))
    pbx.send(invite)
    of_pbx, of_client = establish(pbx, invite, client)
    hang_up(of_pbx, of_client)


def final(client, since, within=1.0):
    """The final response to a request, in good time."""
    answer = client.receive(10)
    while answer.status < 200:
        answer = client.receive(10)
    assert time.monotonic() - since < within
    return answer


def auto(lab, udp=True, tcp=True, **options):
    """A backend with UDP and TCP at one port, or one of them. Returns (edge, udp, tcp)."""
    port = net.free_port()
    by_udp = Pbx(lab, "udp", port=port) if udp else None
    by_tcp = TcpPbx(lab, "tcp", port=port) if tcp else None
    edge = lab.edge(backends=[f"auto:127.0.0.1:{port}"], **options)
    for pbx in (by_udp, by_tcp):
        if pbx:
            pbx.edge = edge
    return edge, by_udp, by_tcp


def message(client, size=0):
    """MESSAGE with a body of that size, sent."""
    request = client.request("MESSAGE", "sip:100@sip.test", body=b"x" * size,
                             headers=[("Content-Type", "text/plain")])
    client.send(request)
    return request


@pytest.mark.parametrize("mode", ("mask", "path"))
@pytest.mark.parametrize("kind", KINDS)
def test_calls_in_both_directions(lab, kind, mode):  # F1, R3, R5 to R7, R9, T2, T3
    edge, pbx = lab.scripted(transport="tcp", contact=mode)
    alice = lab.registered(edge, pbx, "alice", kind)
    ours = sip.uri_of(alice.paths[0]) if mode == "path" else alice.bound
    assert ends.host_port(ours) == edge.core and sip.parameter(ours, "transport") == "tcp"
    for _ in range(3):
        invite = alice.invite("sip:100@sip.test")
        alice.send(invite)
        of_alice, of_pbx = establish(alice, invite, pbx)
        assert "transport=tcp" in of_pbx.routes[0]
        hang_up(of_alice, of_pbx)
        call_in(pbx, alice)
    pbx.quiet()


def test_ipv6(lab):  # F1, R9
    edge, pbx = lab.scripted("::1", transport="tcp")
    alice = lab.registered(edge, pbx, "alice")
    call_in(pbx, alice)
    alice.call("sip:100@sip.test")
    invite = pbx.expect("INVITE")
    assert invite.get("Via").startswith(f"SIP/2.0/TCP [::1]:{edge.core[1]};")


def test_one_connection_reaches_clients_of_every_worker(lab):  # R7
    edge, pbx = lab.scripted(transport="tcp")
    clients = [lab.registered(edge, pbx, f"u{i}", KINDS[i % 2]) for i in range(10)]
    workers = {re.search(rf"flow opened flow=(\d+)\.\d+ peer={re.escape(c.host)}", edge.log())
               for c in clients if c.transport == "TLS"}
    assert all(workers)
    pbx.connect()
    invites = []
    for client in clients:  # all at once, on one connection
        invites.append(pbx.invite(client.bound))
    pbx.own.sendall(b"".join(invite.bytes() for invite in invites))
    for client in clients:
        client.respond(client.expect("INVITE"), 486, "Busy Here")
    busy = [pbx.expect(486) for _ in clients]
    assert {b.get("Call-ID") for b in busy} == {i.get("Call-ID") for i in invites}
    for invite, answer in [(i, b) for i in invites for b in busy if b.branch == i.branch]:
        pbx.ack_failure(invite, answer)


def test_connections_that_the_pbx_opens_for_each_call(lab):  # R7, F1
    edge, pbx = lab.scripted(transport="tcp")
    alice = lab.registered(edge, pbx, "alice")
    for _ in range(12):  # any worker may get one
        pbx.connect()
        call_in(pbx, alice)


def test_bytes_one_by_one(lab):  # F1, F2
    edge, pbx = lab.scripted(transport="tcp")
    alice = lab.registered(edge, pbx, "alice")
    invite = pbx.invite(alice.bound)
    own = pbx.connect()
    for byte in b"\r\n" + invite.bytes():
        own.sendall(bytes([byte]))
    arrived = alice.expect("INVITE")
    assert arrived.body == invite.body
    assert pbx.expect(100, skip=()) and pbx.pings == 0
    own.sendall(b"\r\n\r\n")
    alice.respond(arrived, 486, "Busy Here")
    pbx.ack_failure(invite, pbx.expect(486))
    alice.expect("ACK")
    call_in(pbx, alice)
    assert pbx.pings == 1  # its pong


def test_a_response_after_its_connection_is_gone(lab):  # RFC 3261 18.2.2
    edge, pbx = lab.scripted(transport="tcp")
    alice = lab.registered(edge, pbx, "alice")
    pbx.hang_up()
    invite = pbx.invite(alice.bound)
    pbx.send(invite)
    arrived = alice.expect("INVITE")
    pbx.hang_up()  # while the phone rings
    alice.respond(arrived, 486, "Busy Here")
    assert pbx.expect(486).branch == invite.branch  # by a connection to the port of its Via
    pbx.ack_failure(invite, sip.Message("x", [("To", invite.get("To") + ";tag=x")]))


@pytest.mark.parametrize("rings", (False, True))
@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_that_ends_in_a_transaction(lab, kind, rings):  # T5
    edge, pbx = lab.scripted(transport="tcp")
    alice = lab.registered(edge, pbx, "alice", kind)
    message(alice)
    invite = alice.call("sip:100@sip.test")
    pbx.expect("MESSAGE")
    arrived = pbx.expect("INVITE")
    if rings:
        pbx.respond(arrived, 180, "Ringing")
        alice.expect(180)
    since = time.monotonic()
    pbx.hang_up()
    answers = {a.method: a for a in (final(alice, since), final(alice, since))}
    assert answers["INVITE"].status == answers["MESSAGE"].status == 503
    alice.ack_failure(invite, answers["INVITE"])
    if rings:  # by a new connection: nobody goes on ringing
        cancel = pbx.expect("CANCEL")
        assert cancel.branch == arrived.branch
        pbx.respond(cancel, 481, "No Such Call")
    message(alice)  # and the next one works
    pbx.respond(pbx.expect("MESSAGE"), 200, "OK")
    alice.expect(200)


def test_a_backend_that_restarts(lab):  # T5
    edge, pbx = lab.scripted(transport="tcp")
    alice = lab.registered(edge, pbx, "alice")
    pbx.close()
    since = time.monotonic()
    message(alice)
    assert final(alice, since).status == 503
    pbx.reopen()

    def served():
        message(alice)
        try:
            pbx.respond(pbx.expect("MESSAGE", timeout=0.5), 200, "OK")
        except TimeoutError:
            assert alice.expect(503)
            return False
        return alice.expect(200)

    since = time.monotonic()
    net.until(served, "a request is served again", 5, 0.05)
    assert time.monotonic() - since < 3  # the longest hold-off is 2.5 s, after many failures


def test_a_backend_that_is_silent(lab):  # T5, T7
    port = net.free_port()
    silent = socket.socket()
    silent.bind(("127.0.0.1", port))
    silent.listen(0)
    lab.cleanups.append(silent.close)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:  # the backlog is full: SYNs get no answer
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        lab.cleanups.append(filler.close)
    edge = lab.edge(backends=[f"tcp:127.0.0.1:{port}"])
    alice = lab.client(edge, "alice")
    since = time.monotonic()
    message(alice)
    assert final(alice, since, within=6).status == 503
    assert time.monotonic() - since > 3
    since = time.monotonic()
    message(alice)  # known to be silent, for a moment
    assert final(alice, since, within=0.5).status == 503


@pytest.mark.parametrize("kind", KINDS)
def test_auto_takes_tcp_for_what_is_large(lab, kind):  # T7 to core, T7 refused, R9
    edge, udp, tcp = auto(lab)
    alice = lab.registered(edge, udp, "alice", kind)
    assert "transport" not in alice.bound
    message(alice, 100)
    udp.respond(udp.expect("MESSAGE"), 200, "OK")
    alice.expect(200)
    message(alice, 3000)
    arrived = tcp.expect("MESSAGE")
    assert arrived.get("Via").startswith("SIP/2.0/TCP ") and len(arrived.body) == 3000
    tcp.respond(arrived, 200, "OK")
    alice.expect(200)

    invite = alice.invite("sip:100@sip.test", body=b"v" * 6000)  # a browser's
    alice.send(invite)
    of_alice, of_pbx = establish(alice, invite, tcp)
    assert "transport" not in of_pbx.routes[0] + of_pbx.remote
    # Its Contact says tcp, so what follows goes by TCP, small or not; from it by UDP, as we said.
    of_alice.request("INFO")
    tcp.respond(tcp.expect("INFO"), 200, "OK")
    alice.expect(200)
    of_pbx.end = udp
    of_pbx.request("BYE")
    alice.respond(alice.expect("BYE"), 200, "OK")
    udp.expect(200)
    tcp.quiet(0.1)


def test_auto_without_tcp(lab):  # T7
    edge, udp, _ = auto(lab, tcp=False, workers=1)
    alice = lab.registered(edge, udp, "alice")
    for size in (3000, 4000, 5000):
        since = time.monotonic()
        message(alice, size)
        arrived = udp.expect("MESSAGE")
        assert time.monotonic() - since < 1 and len(arrived.body) == size
        assert arrived.get("Via").startswith("SIP/2.0/UDP ")
        udp.respond(arrived, 200, "OK")
        alice.expect(200)
    said = re.findall(r"no TCP: large requests go by UDP.*", edge.log())
    assert len(said) == 1 and f"127.0.0.1:{udp.port}" in said[0] and "bytes=3" in said[0], said


def test_auto_whose_tcp_closes(lab):  # T7
    edge, udp, tcp = auto(lab)
    alice = lab.registered(edge, udp, "alice")
    message(alice, 3000)
    first = tcp.expect("MESSAGE")
    tcp.hang_up()
    again = udp.expect("MESSAGE")
    assert again.branch == first.branch and again.body == first.body
    udp.respond(again, 200, "OK")
    alice.expect(200)


def test_strangers_are_hung_up_on(lab):  # R8
    edge, pbx = lab.scripted(transport="tcp")
    alice = lab.registered(edge, pbx, "alice")
    for _ in range(6):
        stranger = socket.create_connection(edge.core, 10, ("127.0.0.2", 0))
        stranger.settimeout(10)
        try:
            stranger.sendall(pbx.invite(alice.bound).bytes())
            assert stranger.recv(1) == b""
        except (ConnectionResetError, BrokenPipeError):
            pass
        stranger.close()
    alice.quiet(0.2)
    assert "core connection refused peer=127.0.0.2" in edge.log()
    call_in(pbx, alice)


@pytest.mark.parametrize("transport", ("udp", "tcp"))
def test_without_tcp_backends_nothing_listens(lab, transport):  # R8
    edge, _ = lab.scripted(transport=transport)
    assert net.can_connect(*edge.core) == (transport == "tcp")


def refused_start(lab, listen, core, backend):
    """What sipward says when it can't start so."""
    file = lab.folder("mistake") / "sipward.yaml"
    file.write_text(f"domain: sip.test\nlisten: [tcp: '{listen}']\ncore: {core}\nbackends: ['{backend}']\n")
    done = subprocess.run([PROGRAM, file], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    return done.stderr


def test_the_core_address_is_for_one(lab):  # a mistake that would lose connections, or messages
    port, other = net.free_port(), net.free_port()
    for listen in (port, f"127.0.0.1:{port}"):
        for transport in ("tcp", "auto"):
            said = refused_start(lab, listen, f"127.0.0.1:{port}", f"{transport}:127.0.0.1:{other}")
            assert re.search(rf":2: listen: sipward has 127.0.0.1:{port} for TCP connections", said), said
    with socket.create_server(("127.0.0.1", port)):
        said = refused_start(lab, other, f"127.0.0.1:{port}", f"tcp:127.0.0.1:{other}")
        assert f"core 127.0.0.1:{port}: Address already in use" in said


# SIPp


@pytest.mark.parametrize("how", ("t1", "tn"))
@pytest.mark.parametrize("kind", KINDS)
def test_sipp_call_with_everything(lab, kind, how):  # F1, R3, R4, R11, T2, T3
    edge, pbx = lab.scripted(transport="tcp")
    alice = lab.registered(edge, pbx, "alice", kind)
    pbx.close()
    sipp = Sipp(lab, "pbx", port=pbx.port, transport=how)
    invite = alice.invite("sip:100@sip.test", headers=[("Supported", "100rel")])
    alice.send(invite)
    early = alice.expect(183)
    dialog = Dialog.of_caller(alice, invite, early)
    dialog.request("PRACK", [("RAck", f"{early.get('RSeq')} {invite.get('CSeq')}")])
    alice.expect(200)
    dialog.request("UPDATE", body=sip.sdp(port=40004))
    assert alice.expect(200).get("CSeq").endswith("UPDATE")
    alice.expect(180)
    assert alice.expect(200).get("CSeq") == invite.get("CSeq")
    dialog.ack(invite)
    again = dialog.request("INVITE", body=sip.sdp(port=40006))
    alice.expect(200)
    dialog.ack(again)
    dialog.request("REFER", [("Refer-To", "<sip:101@sip.test>")])
    alice.expect(202)
    alice.respond(alice.expect("NOTIFY"), 200, "OK")
    alice.respond(alice.expect("BYE"), 200, "OK")
    sipp.done()


@pytest.mark.parametrize("how", ("t1", "tn"))
def test_sipp_calls_into_a_client(lab, how):  # F1, R6, R7
    edge, pbx = lab.scripted(transport="tcp")
    alice = lab.registered(edge, pbx, "alice")
    pbx.close()
    sipp = Sipp(lab, "caller-short", target=edge.core, port=pbx.port, calls=6,
                keys={"target": alice.bound}, transport=how)
    ended = 0
    while ended < 6:  # several calls at once, in any order
        request = alice.expect("INVITE", "ACK", "BYE")
        if request.method == "INVITE":
            alice.respond(request, 180, "Ringing")
        if request.method != "ACK":
            body = sip.sdp() if request.method == "INVITE" else b""
            alice.respond(request, 200, "OK", body=body)
        ended += request.method == "BYE"
    sipp.done()
