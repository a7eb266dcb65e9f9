"""/api/flows: who is connected, and who was, and why not any more."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import urllib.parse

import pytest
from harness import net
from harness.ca import Authority
from harness.ends import establish, hang_up

LINGER_NOT = struct.pack("ii", 1, 0)
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def ask(edge, path, status=200, **arguments):
    query = urllib.parse.urlencode(arguments)
    connection = http.client.HTTPConnection("127.0.0.1", edge.admin_port, timeout=15)
    connection.request("GET", path + (f"?{query}" if query else ""))
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    assert response.status == status, body
    if status != 200:
        return body
    assert response.headers["Content-Type"] == "application/json"
    return json.loads(body)


def pages(edge, **arguments):
    """Every flow, page by page."""
    flows = []
    while True:
        page = ask(edge, "/api/flows", **arguments)
        assert page["silent_workers"] == []
        flows += page["flows"]
        yield page["flows"]
        if not page["next"]:
            return
        assert page["next"] == page["flows"][-1]["id"]
        arguments["after"] = page["next"]


def listed(edge, **arguments):
    return [flow for page in pages(edge, **arguments) for flow in page]


def one(edge, **arguments):
    """The one that is there, or will be soon."""
    found = net.until(lambda: listed(edge, **arguments), f"a flow with {arguments}")
    assert len(found) == 1, found
    return found[0]


def name_of(plain):
    address, port = plain.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def connect(port):
    return socket.create_connection(("127.0.0.1", port), 10)


def wrap(edge, plain, **options):
    context = ssl.create_default_context(cafile=edge.ca.file)
    for key, value in options.items():
        setattr(context, key, value)
    return context.wrap_socket(plain, server_hostname="localhost")


def reset(plain):
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    plain.close()


@pytest.fixture
def lab(module_lab):
    """The one of the edges below: to end another one would end what belongs to them."""
    return module_lab


def way(value):
    return getattr(value, "__name__", "-")


@pytest.fixture(scope="module")
def edge(module_lab):
    """One for all endings that need no limits of their own."""
    clients = Authority(module_lab.folder("clients"), "Client CA")
    ports = [net.free_port() for _ in range(4)]
    edge = module_lab.edge(
        users=["alice", "bob"],
        listeners=[
            f'  - {{tls: "127.0.0.1:{ports[0]}", client_certificate: required}}',
            f'  - tcp: "127.0.0.1:{ports[1]}"',
            f'  - {{tcp: "127.0.0.1:{ports[2]}", proxy_protocol: [127.0.0.1]}}',
            f'  - {{tcp: "127.0.0.1:{ports[3]}", proxy_protocol: [192.0.2.1]}}',
        ],
        more=f"client_ca: {clients.file}\n",
    )
    edge.mutual, edge.tcp, edge.behind, edge.stranger = ports
    edge.clients = clients
    return edge


# ---- while it is there ----


def test_a_registered_client_is_shown_with_all_that_is_known(lab):
    edge, pbx = lab.scripted()
    alice = lab.client(edge, "alice")
    peer = name_of(alice.socket)
    flow = one(edge, peer=peer)
    assert flow["state"] == "open" and flow["aors"] == [] and flow["last_response"] is None

    alice.send(alice.register_request(300, headers=[("Authorization", "Digest secret")]))
    register = pbx.expect("REGISTER")
    pbx.respond(register, 200, headers=[
        ("Contact", register.get("Contact")), ("Expires", "300"), ("Require", "outbound"),
        ("Flow-Timer", "60")])
    alice.expect(200)
    flow = one(edge, peer=peer)
    assert re.fullmatch(r"[01]\.\d+", flow["id"])
    assert f"flow opened flow={flow['id']} peer={peer} " in edge.log()
    assert (flow["peer"], flow["transport"]) == (peer, "tls")
    assert flow["local"] == f"127.0.0.1:{edge.tls_port}"
    assert flow["listener"] == {"kind": "tls", "address": f"127.0.0.1:{edge.tls_port}"}
    assert flow["proxy"] is None and flow["closed"] is None
    assert flow["tls"]["version"] == alice.socket.version()
    assert flow["tls"]["cipher"] == alice.socket.cipher()[0]
    assert (flow["tls"]["server_name"], flow["host"]) == ("localhost", "localhost")
    assert flow["tls"]["alpn"] is None and flow["tls"]["client_certificate"] is None
    assert flow["aors"] == ["sip:alice@sip.test"]
    assert (flow["messages_in"], flow["messages_out"]) == (1, 1)
    assert flow["bytes_in"] > 500 and flow["bytes_out"] > 500 and flow["queued_bytes"] == 0
    assert flow["keepalive"] == {"kind": "flow-timer", "by": "client", "seconds": 60}
    assert flow["last_response"]["status"] == 200
    assert flow["last_response"]["method"] == "REGISTER"
    for at in flow["since"], flow["last_heard"], flow["last_response"]["at"]:
        assert TIME.fullmatch(at)
    assert flow["since"] <= flow["last_heard"]
    again = ask(edge, f"/api/flows/{flow['id']}")
    varies = {"rtt_ms", "last_heard", "last_response"}  # by a millisecond
    assert {**again, **{key: flow[key] for key in varies}} == flow

    invite = alice.call("sip:bob@sip.test")
    dialog, other = establish(alice, invite, pbx)
    assert one(edge, peer=peer)["dialogs"] == 1
    hang_up(dialog, other)
    net.until(lambda: one(edge, peer=peer)["dialogs"] == 0, "the call is over")

    text = json.dumps(ask(edge, "/api/flows"))  # X5
    assert "secret" not in text and "Digest" not in text
    token = re.search(r"flow=([^;>]+)", register.get("Contact"))[1]
    assert token[-16:] not in text

    alice.send(alice.register_request(0))
    pbx.respond(pbx.expect("REGISTER"), 200)
    alice.expect(200)
    assert one(edge, peer=peer)["aors"] == []


def test_a_browser_of_the_embedded_registrar_is_shown(lab, edge):
    bob = lab.client(edge, "bob", "wss")
    bob.register()
    flow = one(edge, peer=name_of(bob.socket))
    assert (flow["transport"], flow["aors"]) == ("wss", ["sip:bob@sip.test"])
    assert flow["keepalive"]["kind"] == "websocket-ping"
    bob.register(expires=0)
    assert one(edge, peer=name_of(bob.socket))["aors"] == []


def test_a_client_certificate_and_a_proxy_are_named(edge):
    chain, key = edge.clients.issue("phone", names=("phone.test",), addresses=(), subject="phone 7")
    context = ssl.create_default_context(cafile=edge.ca.file)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["sip/2"])
    with context.wrap_socket(connect(edge.mutual), server_hostname="localhost") as client:
        flow = one(edge, peer=name_of(client))
        assert flow["tls"]["client_certificate"] == "CN=phone 7"
        assert flow["tls"]["alpn"] == "sip/2"
    with connect(edge.behind) as client:
        client.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + socket.inet_aton("192.0.2.7")
                       + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 50003, 5060))
        flow = one(edge, peer="192.0.2.7:50003")
        assert flow["proxy"] == name_of(client)
        assert flow["local"] == "198.51.100.1:5060"
        assert flow["listener"] == {"kind": "tcp", "address": f"127.0.0.1:{edge.behind}"}


# ---- why it ended ----


def ended(edge, peer, ready=True):
    flow = one(edge, peer=peer, state="closed" if ready else "failed")
    assert flow["state"] == "closed" and TIME.fullmatch(flow["closed"]["at"])
    assert flow == ask(edge, f"/api/flows/{flow['id']}")
    return flow["closed"], flow


def tls_client(edge):
    return wrap(edge, connect(edge.tls_port))


def close_notify(edge):
    client = tls_client(edge)
    peer = name_of(client)
    client.unwrap().close()
    return peer


def fin(edge):
    client = connect(edge.tcp)
    peer = name_of(client)
    client.close()
    return peer


def rst(edge):
    client = tls_client(edge)
    peer = name_of(client)
    net.until(lambda: one(edge, peer=peer)["state"] == "open", "the handshake is done")
    reset(client)
    return peer


def framing(edge):
    client = tls_client(edge)
    client.sendall(b"no SIP at all\r\n\r\n")
    assert client.recv(100) == b""
    return name_of(client)


def too_large(edge):
    client = tls_client(edge)
    client.sendall(b"OPTIONS sip:sip.test SIP/2.0\r\nContent-Length: 99999999\r\n\r\n")
    while client.recv(1000):
        pass
    return name_of(client)


def record(edge):
    client = tls_client(edge)
    peer = name_of(client)
    plain = socket.socket(fileno=client.detach())
    plain.settimeout(10)
    plain.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    while plain.recv(1000):
        pass
    return peer


@pytest.mark.parametrize("end, by, kind, cause, reason, more", [
    (close_notify, "client", "normal", "client-closed", "closed by client", {}),
    (fin, "client", "normal", "client-closed", "closed by client", {}),
    (rst, "client", "network", "reset",
     "reset by the client, or by a firewall or NAT on the way", {}),
    (framing, "sipward", "protocol", "broken-framing", "broken framing", {}),
    (too_large, "sipward", "limit", "message-too-large", "message too large", {}),
    (record, "sipward", "protocol", "tls-broken", "TLS error: ",
     {"number": 20, "name": "bad record mac", "by": "sipward"}),
], ids=way)
def test_the_end_of_a_flow_is_told(edge, end, by, kind, cause, reason, more):
    closed, flow = ended(edge, end(edge))
    assert (closed["by"], closed["class"], closed["cause"]) == (by, kind, cause)
    assert closed["reason"].startswith(reason)
    assert closed.get("tls_alert", {}) == more
    assert f"flow closed flow={flow['id']} " in edge.log()


def ws_close(client):
    client.ws.send_close(1000)
    client.flush()
    client.wait_closed()


def ws_fin(client):
    client.socket.close()


def ws_unmasked(client):
    client.socket.sendall(b"\x81\x05hello")
    client.wait_closed()


def ws_not_utf8(client):
    client.ws.send_text(b"\xff\xfe")
    client.flush()
    client.wait_closed()


def ws_too_large(client):
    client.socket.sendall(b"\x82\xff\0\0\0\0\0\xff\xff\xffmask" + b"x" * 100)
    client.wait_closed()


@pytest.mark.parametrize("end, by, kind, cause, reason, code", [
    (ws_close, "client", "normal", "client-closed", "closed by client",
     {"code": 1000, "by": "client"}),
    (ws_fin, "client", "normal", "client-closed",
     "closed by client, without a WebSocket close", None),
    (ws_unmasked, "sipward", "protocol", "websocket-error", "WebSocket protocol error",
     {"code": 1002, "by": "sipward"}),
    (ws_not_utf8, "sipward", "protocol", "websocket-error", "text that is not UTF-8",
     {"code": 1007, "by": "sipward"}),
    (ws_too_large, "sipward", "limit", "message-too-large", "message too large",
     {"code": 1009, "by": "sipward"}),
], ids=way)
def test_the_end_of_a_websocket_is_told(lab, edge, end, by, kind, cause, reason, code):
    client = lab.client(edge, "bob", "wss")
    peer = name_of(client.socket)
    end(client)
    closed, _ = ended(edge, peer)
    assert (closed["by"], closed["class"], closed["cause"]) == (by, kind, cause)
    assert closed["reason"] == reason and closed.get("websocket_close") == code


def refused(edge, plain, **options):
    """A handshake that fails; its address."""
    peer = name_of(plain)
    with pytest.raises(OSError):
        wrap(edge, plain, **options).recv(1)
    return peer


def says(port, bytes_):
    client = connect(port)
    client.sendall(bytes_)
    try:
        while client.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return name_of(client)


def old_version(edge):
    plain = connect(edge.tls_port)
    hello = bytes.fromhex("0302") + bytes(32) + b"\0" + b"\0\x04\xc0\x13\xc0\x14" + b"\x01\0"
    hello = b"\x01" + struct.pack(">I", len(hello))[1:] + hello
    plain.sendall(b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello)
    assert plain.recv(100)[0] == 21  # an alert
    return name_of(plain)


def no_cipher(edge):
    plain = connect(edge.tls_port)
    peer = name_of(plain)
    context = ssl.create_default_context(cafile=edge.ca.file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")
    return peer


def unknown_ca(edge):
    plain = connect(edge.tls_port)
    peer = name_of(plain)
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
    return peer


def http_request(edge):
    return says(edge.tls_port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def plain_sip(edge):
    return says(edge.tls_port, b"OPTIONS sip:sip.test SIP/2.0\r\n\r\n")


def garbage(edge):
    return says(edge.tls_port, bytes(range(200, 256)))


def leaves(edge):
    plain = connect(edge.tls_port)
    peer = name_of(plain)
    plain.close()
    return peer


def resets(edge):
    plain = connect(edge.tls_port)
    peer = name_of(plain)
    reset(plain)
    return peer


def without_certificate(edge):
    return refused(edge, connect(edge.mutual), maximum_version=ssl.TLSVersion.TLSv1_2)


def foreign_certificate(edge):
    plain = connect(edge.mutual)
    peer = name_of(plain)
    context = ssl.create_default_context(cafile=edge.ca.file)
    context.load_cert_chain(*edge.ca.issue("foreign"))
    with pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname="localhost").recv(1)
    return peer


def no_upgrade(edge):
    client = wrap(edge, connect(edge.wss_port))
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while client.recv(1000):
        pass
    return name_of(client)


def no_proxy_header(edge):
    return says(edge.behind, b"OPTIONS sip:sip.test SIP/2.0\r\n\r\n")


def strange_sender(edge):
    return says(edge.stranger, b"")


@pytest.mark.parametrize("end, by, cause, reason, alert", [
    (old_version, "sipward", "tls-version", "client can only do TLS 1.1 or older", (70, "sipward")),
    (no_cipher, "sipward", "tls-cipher", "client has no cipher suite in common with us",
     (40, "sipward")),
    (unknown_ca, "client", "tls-unknown-ca", "client does not know the certificate's CA",
     (48, "client")),
    (http_request, "sipward", "not-tls", "not TLS: plain HTTP, or SIP, on a TLS port", None),
    (plain_sip, "sipward", "not-tls", "not TLS: plain ", None),  # OpenSSL 3.5 takes it for HTTP
    (garbage, "sipward", "not-tls", "not TLS: plain SIP, or something else, on a TLS port", None),
    (leaves, "client", "handshake-closed", "closed by client", None),
    (resets, "client", "handshake-reset",
     "reset by the client, or by a firewall or NAT on the way", None),
    (without_certificate, "sipward", "client-certificate-missing",
     "the client shows no certificate, and this port requires one", (40, "sipward")),
    (foreign_certificate, "sipward", "client-certificate-refused",
     "the client's certificate is by no CA of client_ca", (48, "sipward")),
    (no_upgrade, "sipward", "upgrade-refused",
     "This is a SIP over WebSocket server (RFC 7118).", None),
    (no_proxy_header, "sipward", "proxy-header", "", None),
    (strange_sender, "sipward", "proxy-sender", "not in this listener's proxy_protocol", None),
], ids=way)
def test_a_connection_that_never_became_a_flow_is_told(edge, end, by, cause, reason, alert):
    closed, flow = ended(edge, end(edge), ready=False)
    assert (closed["by"], closed["class"], closed["cause"]) == (by, "handshake", cause)
    assert closed["reason"].startswith(reason) and closed["reason"]
    assert flow["transport"] is None and flow["last_response"] is None
    if alert:
        assert (closed["tls_alert"]["number"], closed["tls_alert"]["by"]) == alert
    elif cause != "not-tls":
        assert "tls_alert" not in closed


# ---- limits ----


@pytest.fixture(scope="module")
def strict(module_lab):
    """Short times and small sizes. TCP's own buffers are small for who never reads."""
    port = net.free_port()
    edge = module_lab.edge(
        users=["alice"],
        listeners=[f'  - tcp: "127.0.0.1:{port}"'],
        more="limits:\n  handshake_timeout: 1\n  upgrade_timeout: 1\n  message_timeout: 1\n"
        "  first_message_timeout: 1\n  idle_timeout: 3\n  message_size: 4096\n  send_queue: 4096\n"
        "websocket: {ping_interval: 1, pong_timeout: 1}\n",
    )
    edge.tcp = port
    return edge


PING = b"OPTIONS sip:sip.test SIP/2.0\r\nVia: SIP/2.0/TCP x.invalid;branch=z9hG4bKx\r\nFrom: <sip:a@sip.test>;tag=a\r\nTo: <sip:sip.test>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 0\r\nContent-Length: 0\r\n\r\n"


def handshake(edge):
    return connect(edge.tls_port), "handshake"


def upgrade(edge):
    return wrap(edge, connect(edge.wss_port)), "handshake"


def first_message(edge):
    return tls_client(edge), "timeout"


def message(edge):
    client = tls_client(edge)
    client.sendall(b"OPTIONS sip:")
    return client, "timeout"


def idle(edge):
    client = tls_client(edge)
    client.sendall(PING)
    return client, "timeout"


def ping(edge):
    """A browser that answers no pings."""
    client = wrap(edge, connect(edge.wss_port))
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                   b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   b"Sec-WebSocket-Protocol: sip\r\n"
                   b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    client.sendall(b"\x81" + bytes([0x80 | 126]) + struct.pack(">H", len(PING)) + bytes(4) + PING)
    return client, "keepalive"


def slow_reader(edge):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", edge.tcp))
    client.settimeout(20)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            client.sendall(PING * 100)
    return client, "limit"


@pytest.mark.parametrize("begin, cause", [
    (handshake, "handshake-timeout"),
    (upgrade, "upgrade-timeout"),
    (first_message, "first-message-timeout"),
    (message, "message-timeout"),
    (idle, "idle-timeout"),
    (ping, "ping-missed"),
    (slow_reader, "slow-reader"),
], ids=way)
def test_a_limit_that_ended_it_is_named(strict, begin, cause):
    client, kind = begin(strict)
    closed, flow = ended(strict, name_of(client), ready=kind != "handshake")
    assert (closed["by"], closed["class"], closed["cause"]) == ("sipward", kind, cause)
    assert closed["reason"] == {"upgrade-timeout": "HTTP upgrade not finished in time"}.get(
        cause, cause.replace("-", " "))
    if cause == "slow-reader":
        assert flow["queued_bytes"] > 0
    if cause == "ping-missed":
        assert closed["websocket_close"] == {"code": 1001, "by": "sipward"}
    if cause in ("idle-timeout", "slow-reader"):
        assert flow["last_response"]["status"] == 200
        assert flow["last_response"]["method"] == "OPTIONS"
    client.close()


def test_one_too_many_is_told(lab):
    port = net.free_port()
    edge = lab.edge(users=["alice"], listeners=[f'  - tcp: "127.0.0.1:{port}"'],
                    more="limits: {connections: 2}\n")
    net.until(lambda: edge.status()["connections"] == 0, "the harness's own are gone")
    held = [connect(port) for _ in range(2)]
    for client in held:
        one(edge, peer=name_of(client))
    closed, flow = ended(edge, says(port, b""), ready=False)
    assert (closed["by"], closed["class"], closed["cause"], closed["reason"]) == (
        "sipward", "limit", "connection-limit", "limits.connections reached")
    assert flow["listener"] == {"kind": "tcp", "address": f"127.0.0.1:{port}"}
    for client in held:
        client.close()


def test_a_drain_is_told_while_it_lasts(lab):
    edge, pbx = lab.scripted(more="limits: {drain_spread: 1, drain_timeout: 30}\n")
    alice, bob = lab.registered(edge, pbx, "alice"), lab.registered(edge, pbx, "bob", "wss")
    peers = {client: name_of(client.socket) for client in (alice, bob)}
    invite = alice.call("sip:carol@sip.test")
    dialog, other = establish(alice, invite, pbx)
    os.kill(edge.pid, signal.SIGTERM)
    assert bob.wait_closed() == 1001
    closed, flow = ended(edge, peers[bob])
    assert (closed["by"], closed["class"], closed["cause"]) == ("sipward", "drain", "draining")
    assert closed["websocket_close"] == {"code": 1001, "by": "sipward"}
    assert flow["aors"] == ["sip:bob@sip.test"]
    assert one(edge, peer=peers[alice])["dialogs"] == 1
    hang_up(dialog, other)
    assert edge.process.wait(20) == 0
    edge.stop()


# ---- lists ----


def test_flows_are_found_by_aor_and_peer(lab, edge):
    alice, bob = lab.client(edge, "alice"), lab.client(edge, "bob", "wss")
    alice.register()
    bob.register()
    for words in "sip:alice@sip.test", "alice@sip.test", "alice", "ALICE":
        assert one(edge, aor=words)["peer"] == name_of(alice.socket)
    assert listed(edge, aor="alic") == [] == listed(edge, aor="alice@other.test")
    assert {f["peer"] for f in listed(edge, peer="127.0.0.1")} >= {
        name_of(alice.socket), name_of(bob.socket)}
    assert listed(edge, peer="127.0.0.2") == []
    assert listed(edge, peer=name_of(alice.socket), aor="bob") == []
    peer = name_of(alice.socket)
    alice.close()
    net.until(lambda: not listed(edge, aor="alice"), "she is gone")
    assert peer in [flow["peer"] for flow in listed(edge, aor="alice", state="closed")]


@pytest.mark.parametrize("arguments, says_", [
    ({"limit": "0"}, "limit is a number from 1 to 1000"),
    ({"limit": "1001"}, "limit is a number from 1 to 1000"),
    ({"limit": "x"}, "limit is a number from 1 to 1000"),
    ({"after": "7"}, "after is an id"),
    ({"peer": "alice"}, "peer is ADDRESS"),
    ({"aor": ""}, "aor is sip:USER@DOMAIN"),
    ({"state": "gone"}, "state is open, closed, or failed"),
])
def test_what_cant_be_asked_is_told(edge, arguments, says_):
    assert ask(edge, "/api/flows", status=400, **arguments).startswith(says_)


@pytest.mark.parametrize("id_", ["7", "0.", ".7", "alice", "0.99999999", "250.1", "0.7/x", "-1.1"])
def test_what_is_not_there_is_not_found(edge, id_):
    assert ask(edge, f"/api/flows/{id_}", status=404)


def test_pages_are_complete_while_clients_come_and_go(edge):
    stay = [connect(edge.tcp) for _ in range(60)]
    leave = [connect(edge.tcp) for _ in range(60)]
    names = {name_of(client) for client in stay}
    net.until(lambda: len(listed(edge)) >= 120, "all are there")
    seen, ids, come = [], [], []
    for page in pages(edge, limit=7):
        assert len(page) <= 7
        seen += [flow["peer"] for flow in page]
        ids += [flow["id"] for flow in page]
        for _ in range(5):
            come.append(connect(edge.tcp))
            if leave:
                leave.pop().close()
    assert len(ids) == len(set(ids))
    for name in names:
        assert seen.count(name) == 1
    for client in stay + leave + come:
        client.close()
    opened = re.findall(r"flow opened flow=(\S+)", edge.log())
    assert len(opened) == len(set(opened)), "an id came again"


def test_a_thousand_ended_ones_are_kept_and_no_more(lab):
    port = net.free_port()
    edge = lab.edge(users=["alice"], workers=1, level="info",
                    listeners=[f'  - tcp: "127.0.0.1:{port}"'])
    total = 1030
    for _ in range(total):
        connect(port).close()
    edge.process.wait_output("flow closed", count=total)
    ids = [flow["id"] for flow in listed(edge, state="closed", limit=300)]
    assert len(ids) == len(set(ids)) == 1000
    kept = min(int(id_.split(".")[1]) for id_ in ids)
    assert ask(edge, f"/api/flows/0.{kept}")["closed"]["cause"] == "client-closed"
    ask(edge, "/api/flows/0.3", status=404)
