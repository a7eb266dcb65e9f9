"""ws/ on tls/ through real sockets: the handshake, messages, limits, and how connections end."""

import re
import select
import socket
import struct
import time

import pytest
from ws_edge import (ACCEPT, BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, WAIT_S, Client,
                     frame, pair, refused, request, start)

__all__ = ["pair", "start"] # fixtures

# The handshake


def test_sip_is_the_only_sub_protocol_that_comes_back(start):  # F5
    server = start()
    for offer in ("sip", "xmpp, sip", "sip,msrp", ["msrp", "sip"], " a ,\tsip , b",
                  "x" * 200 + ", sip", ["a", "", "b,sip"]):
        client = Client(server, Sec_WebSocket_Protocol=offer)
        assert client.headers["sec-websocket-protocol"] == "sip"
        assert client.headers["sec-websocket-accept"] == ACCEPT
        assert "sec-websocket-extensions" not in client.headers
        client.echo(TEXT, "x")


@pytest.mark.parametrize("offer", [
    None, "", "xmpp", "SIP", "sips", "sip/2.0", "xmpp, msrp", "sipsip", "x" * 200])
def test_without_sip_among_the_sub_protocols_400(start, offer):  # F5 refused
    status, headers, body = refused(start(), request(Sec_WebSocket_Protocol=offer))
    assert status == 400 and headers["connection"] == "close" and b"sip" in body


def test_unknown_path_404(start):  # F5 refused
    server = start("path=/sip")
    for path in ("/", "/sip/", "/si", "/sipp", "/SIP", "/other?x=/sip"):
        assert refused(server, request(path))[0] == 404, path
    Client(server, path="/sip").echo(TEXT, "x")
    Client(server, path="/sip?token=1").echo(TEXT, "x")


def test_any_path_where_none_is_configured(start):  # F5
    Client(start(), path="/any/thing?at=all").echo(TEXT, "x")


def test_origin_must_be_on_the_list_if_there_is_one(start):  # F5, F5 refused
    server = start("origin=https://phone.example.com", "origin=https://b.example.com:8443")
    for origin in ("https://evil.example.com", "http://phone.example.com", "null",
                   "https://phone.example.com.evil.org", "https://" + "x" * 300):
        assert refused(server, request(Origin=origin))[0] == 403, origin
    Client(server, Origin="https://phone.example.com").echo(TEXT, "x")
    Client(server, Origin="https://b.example.com:8443").echo(TEXT, "x")
    Client(server, Origin=None).echo(TEXT, "x") # no browser


def test_any_origin_without_a_list(start):  # F5
    Client(start(), Origin="https://anywhere.example.org").echo(TEXT, "x")


def test_plain_get_is_told_what_this_is(start):  # F5
    server = start()
    status, headers, body = refused(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, headers["upgrade"], headers["connection"]) == (426, "websocket", "close")
    assert body == b"This is a SIP over WebSocket server (RFC 7118).\n"
    assert refused(server, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")[0] == 405


REQUESTS = [
    ("HTTP/2", request(Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQAAP__"), {400}),
    ("another upgrade", request(Upgrade="TLS/1.0"), {400}),
    ("version 8", request(Sec_WebSocket_Version="8"), {426}),
    ("version 14", request(Sec_WebSocket_Version="14"), {426}),
    ("no version", request(Sec_WebSocket_Version=None), {426}),
    ("no key", request(Sec_WebSocket_Key=None), {400}),
    ("a short key", request(Sec_WebSocket_Key="AAAA"), {400}),
    ("not a key", request(Sec_WebSocket_Key="!" * 22 + "=="), {400}),
    ("no host", request(Host=None), {400}),
    ("no connection", request(Connection=None), {400}),
    ("another connection", request(Connection="close"), {400}),
    ("not GET", request(method="POST"), {405}),
    ("HTTP/1.0", request().replace(b"HTTP/1.1", b"HTTP/1.0"), {400}),
    ("CONNECT", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", {405}),
    ("SIP", b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\n\r\n", {400}),
    ("HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    ("two keys", request(Sec_WebSocket_Key=[KEY, KEY]), {400}),
    ("two hosts", request(Host=["a", "b"]), {400}),
    ("a folded header", request(Origin="https://a\r\n b"), {400}),
    ("a body", request(Content_Length="3") + b"abc", {400}),
    ("a chunked body", request(Transfer_Encoding="chunked") + b"0\r\n\r\n", {400}),
    ("a header without a name", request().replace(b"Upgrade:", b":"), {400}),
    ("a blank before the colon", request().replace(b"Upgrade:", b"Upgrade :"), {400}),
    ("NUL in a header", request(Cookie="a\0b"), {400}),
    ("more sub-protocol lines than anybody needs",
     request(Sec_WebSocket_Protocol=["a"] * 30 + ["sip"]), {400}),
    ("nonsense", b"\x16\x03\x01\r\n\r\n\0\0\0\r\n\r\n", {400}),
]


@pytest.mark.parametrize("data, expected", [row[1:] for row in REQUESTS],
                         ids=[row[0] for row in REQUESTS])
def test_what_is_no_upgrade_is_refused(start, data, expected):  # F5 refused, V7
    status, headers, _ = refused(start(), data)
    assert status in expected
    if status == 426:
        assert headers["sec-websocket-version"] == "13"


def test_a_cookie_of_6_kb_is_no_obstacle(start):  # F5
    Client(start(), Cookie="a=" + "x" * 6144).echo(TEXT, "x")


def test_a_request_larger_than_16_kb_is_refused(start):  # F7 refused
    server = start()
    for size, expected in ((15900, 101), (40000, 431)):
        client = Client(server, upgrade=False)
        client.send(request(Cookie="a=" + "x" * size))
        assert client.response()[0] == expected
        client.socket.close()


def test_upgrade_in_single_bytes(start):  # F5
    client = Client(start(), upgrade=False)
    for byte in request():
        client.send(bytes([byte]))
    assert client.response()[0] == 101
    client.echo(TEXT, "hello")


def test_a_message_right_behind_the_upgrade_request_arrives(start):  # F4
    """RFC 6455 4.1 forbids it to clients; it is clear all the same."""
    server = start()
    for cut in (1, 100, len(request()) - 1, len(request()) + 1, len(request()) + 8):
        client = Client(server, upgrade=False)
        data = request() + frame(TEXT, "hello")
        client.send(data[:cut])
        client.send(data[cut:])
        assert client.response()[0] == 101
        assert client.frame() == (TEXT, b"hello")
        client.echo(TEXT, "x")


@pytest.mark.parametrize("kind, host, name", [
    ("ws", "sip.example.com", "sip.example.com"), ("ws", "EDGE.example.com:8080", "edge.example.com"),
    ("ws", "192.0.2.1", "-"), ("ws", "other.example.com", "-"), ("ws6", "[::1]:5066", "::1")],
    ids=["domain", "alias and port", "address", "foreign", "IPv6"])
def test_flow_knows_its_transport_addresses_and_name(start, kind, host, name):
    server = start()
    if not server.ports[kind]:
        pytest.skip("no IPv6 here")
    client = Client(server, kind, Host=host)
    peer = client.socket.getsockname()
    brackets = "[%s]:%d" if kind == "ws6" else "%s:%d"
    assert server.event("open") == " ".join(
        ["open 1 WS ws 80", name, brackets % peer[:2],
         brackets % (peer[0], server.ports[kind])])
    client.echo(TEXT, "x")


# Messages


def test_text_and_binary_messages_arrive_whole(start):  # F4
    client = Client(start("size=65536"))
    for size in (1, 125, 126, 2047, 2048, 2049, 5000, 32768, 65535, 65536):
        client.echo(TEXT, b"t" * size)
        client.echo(BINARY, b"\xff" * size)


def test_answer_is_text_where_it_is_utf_8_and_else_binary(start):  # F4
    client = Client(start())
    client.send(frame(BINARY, "grün"))
    assert client.frame() == (TEXT, "grün".encode())
    client.send(frame(BINARY, b"a body\0\xfe\xff"))
    assert client.frame() == (BINARY, b"a body\0\xfe\xff")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_20_fragments_are_one_message(start, opcode):  # F4
    client = Client(start())
    parts = [bytes([65 + i]) * (i * 37) for i in range(20)] # the first one is empty
    for i, part in enumerate(parts):
        client.send(frame(CONTINUATION if i else opcode, part, fin=i == 19))
    assert client.frame() == (TEXT, b"".join(parts))
    client.echo(TEXT, "next")


def test_a_character_may_be_cut_by_a_fragment_and_a_ping_stand_between(start):  # F4, F8
    client = Client(start())
    euro = "€".encode()
    client.send(frame(TEXT, b"a" + euro[:1], fin=False) + frame(PING, b"\xff\x00ping"))
    assert client.frame() == (PONG, b"\xff\x00ping")
    client.send(frame(PONG, b"\xfe unasked") + frame(CONTINUATION, euro[1:2], fin=False))
    client.send(frame(CONTINUATION, euro[2:]))
    assert client.frame() == (TEXT, b"a" + euro)


def test_a_frame_cut_at_every_byte(start):  # F4
    client = Client(start())
    data = frame(TEXT, "INVITE sip:b@example.com SIP/2.0\r\n\r\n" + "v=0 " * 40)
    for cut in range(1, len(data)):
        client.send(data[:cut])
        client.send(data[cut:])
    for _ in range(1, len(data)):
        assert client.frame()[0] == TEXT


def test_many_messages_in_one_segment_keep_their_order(start):  # F4
    client = Client(start())
    client.send(b"".join(frame(TEXT, f"message {i}") for i in range(200)))
    for i in range(200):
        assert client.frame() == (TEXT, f"message {i}".encode())


def test_an_empty_message_is_ignored(start):  # F4
    client = Client(start())
    client.send(frame(TEXT) + frame(BINARY, fin=False) + frame(CONTINUATION))
    client.echo(TEXT, "x")


@pytest.mark.parametrize("frames", [
    frame(TEXT, b"x" * 1001),
    frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 401, fin=False),
    frame(TEXT, b"x" * 999, fin=False) + frame(CONTINUATION, b"xx"),
    b"\x81\xff\x7f" + b"\xff" * 7 + b"mask" + b"x", # 2^63 - 1 bytes are announced
    frame(TEXT, "TOO LARGE"), # proxy/ says so
], ids=["one frame", "two fragments", "the last byte", "announced", "proxy says so"])
def test_too_large_a_message_closes_with_1009(start, frames):  # F6 refused
    server = start("size=1000")
    client = Client(server)
    client.echo(TEXT, b"x" * 1000)
    client.send(frames)
    assert client.closed() == 1009
    assert server.event("closed") == "closed 1 message too large"


@pytest.mark.parametrize("frames", [
    frame(TEXT, b"gr\xfcn"),
    frame(TEXT, b"\xc3"),
    frame(TEXT, b"a\xe2\x82", fin=False) + frame(CONTINUATION),
    frame(TEXT, b"a\xe2", fin=False) + frame(CONTINUATION, b"a"),
    frame(TEXT, b"\xed\xa0\x80"),
], ids=["Latin-1", "cut", "cut, and nothing more", "cut by a letter", "surrogate"])
def test_text_that_is_not_utf_8_closes_with_1007(start, frames):  # F4 refused
    client = Client(start())
    client.send(frames)
    assert client.closed() == 1007


@pytest.mark.parametrize("frames", [
    frame(TEXT, "x", first=0x40), frame(3, "x"), frame(11), frame(PING, "x", fin=False),
    frame(CONTINUATION, "x"), frame(TEXT, "a", fin=False) + frame(TEXT, "b")],
    ids=["RSV1", "opcode 3", "opcode 11", "half a ping", "continues nothing", "interrupted"])
def test_a_broken_frame_ends_the_connection(start, frames):  # V7
    server = start()
    client = Client(server)
    client.echo(TEXT, "x")
    client.send(frames)
    assert client.closed() == 1002
    assert server.event("closed") == "closed 1 WebSocket protocol error"


@pytest.mark.parametrize("kind", ["ws", "wss"])
@pytest.mark.parametrize("unmasked", [
    frame(TEXT, "x", mask=b""), frame(PING, "x", mask=b""), frame(CLOSE, b"\x03\xe8", mask=b""),
    frame(TEXT, mask=b""), frame(TEXT, "x" * 70000, mask=b""),
    frame(BINARY, "a", fin=False) + frame(CONTINUATION, "b", mask=b"")],
    ids=["text", "ping", "close", "empty", "long", "second fragment"])
def test_an_unmasked_frame_closes_with_1002(start, pair, kind, unmasked):  # F4, RFC 6455 5.1
    server = start(*pair, "size=100000")
    client = Client(server, kind)
    client.echo(TEXT, "x")
    client.send(unmasked + frame(TEXT, "not heard any more"))
    assert client.closed() == 1002
    assert server.event("closed") == "closed 1 WebSocket protocol error"


def test_nothing_that_comes_in_breaks_the_server(start):  # V7
    import random
    server = start("size=4096")
    chance = random.Random(7118)
    for _ in range(60):
        client = Client(server)
        data = bytearray(b"".join(
            frame(chance.choice((TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE)),
                  chance.randbytes(chance.randrange(200)), fin=chance.random() < 0.7)
            for _ in range(5)))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            client.send(bytes(data))
        except (ConnectionResetError, BrokenPipeError):
            pass
        client.socket.close()
    Client(server).echo(TEXT, "still here")


# Pings, limits, ends


def test_pings_are_answered(start):  # F8
    client = Client(start())
    for payload in (b"", b"x", b"p" * 125):
        client.send(frame(PING, payload))
        assert client.frame() == (PONG, payload)


def test_an_idle_connection_is_pinged_and_lives_while_it_answers(start):  # F8
    server = start("ping=1", "pong=1")
    client = Client(server)
    client.echo(TEXT, "x")
    for _ in range(3):
        opcode, payload = client.frame()
        assert opcode == PING
        client.send(frame(PONG, payload))
    client.echo(TEXT, "y")


def test_a_missed_pong_ends_the_connection(start):  # F8 refused
    server = start("ping=1", "pong=1")
    client = Client(server)
    begin = time.monotonic()
    assert client.frame()[0] == PING
    assert client.closed() == 1001
    assert 1.8 < time.monotonic() - begin < 4
    assert server.event("closed") == "closed 1 ping missed"


def test_a_dead_peer_is_cut_after_its_missed_pong(start):  # F8 refused, F7 refused
    server = start("ping=1", "pong=1")
    client = Client(server) # reads nothing, answers nothing
    assert server.event("closed") == "closed 1 ping missed"
    client.socket.close()


def test_half_an_upgrade_is_cut(start):  # F7 refused
    server = start("upgrade=1")
    silent, half = Client(server, upgrade=False), Client(server, upgrade=False)
    half.send(request()[:60])
    begin = time.monotonic()
    silent.ended()
    half.ended()
    assert 0.8 < time.monotonic() - begin < 3


def test_who_drips_an_upgrade_is_cut_as_well(start):  # F7 refused
    client = Client(start("upgrade=1"), upgrade=False)
    begin = time.monotonic()
    try:
        for byte in request(Cookie="x" * 1000):
            client.send(bytes([byte]))
            if select.select([client.socket], [], [], 0.05)[0]:
                break
    except (ConnectionResetError, BrokenPipeError):
        pass
    client.ended()
    assert 0.8 < time.monotonic() - begin < 3


def test_half_a_message_is_cut(start):  # F7 refused
    for data in (frame(TEXT, "half", fin=False), frame(TEXT, "x" * 50)[:20]):
        server = start("message_timeout=1")
        client = Client(server)
        client.echo(TEXT, "x")
        client.send(data)
        begin = time.monotonic()
        assert client.closed() == 1008
        assert 0.8 < time.monotonic() - begin < 3
        assert server.event("closed") == "closed 1 message timeout"


def test_a_client_that_says_nothing_is_closed(start):  # F7 refused
    server = start("first=1")
    talks, silent = Client(server), Client(server)
    talks.echo(TEXT, "x")
    assert silent.closed() == 1008
    assert server.event("closed") == "closed 2 first message timeout"
    talks.echo(TEXT, "y")


def test_a_client_that_went_silent_is_closed(start):  # F7 refused
    server = start("idle=1", "ping=0")
    client = Client(server)
    client.echo(TEXT, "x")
    assert client.closed() == 1001
    assert server.event("closed") == "closed 1 idle timeout"


def test_a_slow_reader_is_closed_and_what_it_got_is_in_order(start):  # X2 refused
    server = start("queue=100000")
    client = Client(server, small=True)
    client.send(frame(TEXT, "FLOOD 100000 3000"))
    assert server.event("flood") == "flood 1 No buffer space available"
    assert server.event("closed") == "closed 1 slow reader"
    count = 0
    try:
        while True:
            opcode, payload = client.frame()
            assert opcode == TEXT and payload.startswith(b"%d " % count)
            assert len(payload) == 3000
            count += 1
    except (EOFError, ConnectionResetError):
        pass
    assert count > 0


def test_a_reader_that_catches_up_gets_everything(start):  # X2
    server = start("queue=20000000")
    client = Client(server, small=True)
    client.send(frame(TEXT, "FLOOD 4000 3000"))
    assert server.event("flood") == "flood 1 sent"
    client.send(frame(PING, "behind it all"))
    received = []
    while len(received) < 4001:
        received.append(client.frame())
    messages = [payload for opcode, payload in received if opcode == TEXT]
    assert (PONG, b"behind it all") in received
    for i, payload in enumerate(messages):
        assert payload.startswith(b"%d " % i) and len(payload) == 3000
        assert set(payload[10:]) == {97 + i % 26}
    client.echo(TEXT, "x")


def test_a_client_closes_and_gets_its_code_back(start):  # V7
    server = start()
    client = Client(server)
    client.send(frame(CLOSE, struct.pack(">H", 1000) + b"bye"))
    assert client.frame()[1][:2] == struct.pack(">H", 1000)
    client.ended()
    assert server.event("closed") == "closed 1 closed by client"


def test_a_lost_connection_is_told(start):  # T6
    server = start()
    client = Client(server)
    client.echo(TEXT, "x")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    assert server.event("closed") == "closed 1 reset by the client, or by a firewall or NAT on the way"


def test_the_proxy_closes_a_connection(start):
    server = start()
    client = Client(server)
    client.send(frame(TEXT, "CLOSE") + frame(TEXT, "not heard any more"))
    assert client.closed() == 1008
    assert server.event("closed") == "closed 1 silent for longer than its Flow-Timer"


def test_more_flows_than_there_may_be_are_told_to_come_later(start):
    server = start("flows=1")
    first, second = Client(server), Client(server)
    assert second.closed() == 1013
    first.echo(TEXT, "x")


def test_at_a_stop_every_connection_is_closed_with_1001(start):  # clean stop
    server = start()
    clients = [Client(server) for _ in range(5)]
    half = Client(server, upgrade=False)
    half.send(request()[:30])
    server.stop()
    for client in clients:
        assert client.closed() == 1001
    half.ended()
    for number in range(1, 6):
        assert server.event(f"closed {number} ") == f"closed {number} server is stopping"


def test_a_stop_does_not_wait_for_who_does_not_answer(start):  # clean stop
    server = start("queue=20000000")
    deaf, slow = Client(server), Client(server, small=True)
    slow.send(frame(TEXT, "FLOOD 4000 3000"))
    server.event("flood")
    begin = time.monotonic()
    server.end()
    assert time.monotonic() - begin < 3
    deaf.socket.close()


# WSS


def test_wss(start, pair):  # F4, X4
    server = start(*pair)
    client = Client(server, "wss", name="sip.example.com", alpn=["h2", "http/1.1"])
    assert client.socket.selected_alpn_protocol() == "http/1.1"
    assert client.socket.version() == "TLSv1.3"
    assert server.event("open").startswith("open 1 WSS ws 443 sip.example.com 127.0.0.1:")
    for size in (1, 3000, 20000, 65536):
        client.echo(TEXT, b"t" * size)
    for i in range(20):
        client.send(frame(CONTINUATION if i else TEXT, b"x" * 900, fin=i == 19))
    assert client.frame() == (TEXT, b"x" * 18000)
    server.stop()
    assert client.closed() == 1001


def test_wss_without_or_with_a_foreign_name(start, pair):  # X4
    server = start(*pair)
    for number, name in enumerate((None, "other.example.org"), 1):
        client = Client(server, "wss", name=name)
        assert server.event("open").startswith(f"open {number} WSS ws 443 - ")
        client.echo(TEXT, "x")


def test_wss_only_http_11_is_agreed_on(start, pair):  # F5
    server = start(*pair)
    client = Client(server, "wss", alpn=["h2"])
    assert client.socket.selected_alpn_protocol() is None
    client.echo(TEXT, "x")


def test_wss_slow_reader(start, pair):  # X2 refused
    server = start(*pair, "queue=100000")
    client = Client(server, "wss", small=True)
    client.send(frame(TEXT, "FLOOD 100000 3000"))
    assert server.event("closed") == "closed 1 slow reader"
    client.socket.close()


def test_wss_limits_of_handshake_and_upgrade(start, pair):  # F7 refused
    server = start(*pair, "handshake=1", "upgrade=1")
    silent = socket.create_connection(("127.0.0.1", server.ports["wss"]))
    half = socket.create_connection(("127.0.0.1", server.ports["wss"]))
    half.send(b"\x16\x03\x01\x02\x00\x01\x00")
    wrong = socket.create_connection(("127.0.0.1", server.ports["wss"]))
    wrong.send(request())
    no_upgrade = Client(server, "wss", upgrade=False)
    begin = time.monotonic()
    for one in (wrong, silent, half):
        one.settimeout(WAIT_S)
        try:
            while one.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert 0.8 < time.monotonic() - begin < 3
    no_upgrade.ended()
    assert time.monotonic() - begin < 4


def test_wss_refuses_like_ws(start, pair):  # F5 refused
    server = start(*pair)
    assert refused(server, request(Sec_WebSocket_Protocol="xmpp"), "wss")[0] == 400
    assert refused(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "wss")[0] == 426


def test_without_a_certificate_there_is_no_wss(start):
    assert "wss" not in start().ports


def test_the_log_names_what_was_refused_and_why(start):
    server = start()
    refused(server, request(Sec_WebSocket_Protocol="xmpp"))
    errors = server.end()
    assert re.search(r"upgrade refused .*peer=127\.0\.0\.1:\d+ .*400", errors), errors
