"""SIP and WebSocket on one port: what each connection becomes, by ALPN or by its first bytes.

In place of SIP the server echoes lines.
"""

import socket
import ssl
import time

import pytest
from ws_edge import KEY, TEXT, WAIT_S, Client, frame, pair, request, start, tls_context

__all__ = ["pair", "start"] # fixtures

BOTH = pytest.mark.parametrize("kind", ["tls+wss", "tcp+ws"])
SIP = {"tls+wss": "TLS tls 5061", "tcp+ws": "TCP tcp 5060"}
WEB = {"tls+wss": "WSS ws 443", "tcp+ws": "WS ws 80"}


def is_sip(server, client, kind, said=b""):
    """It became SIP, and what was said so far was not lost."""
    assert f" {SIP[kind]} " in server.event("open ")
    client.send(b"INVITE sip:b@c SIP/2.0\r\n")
    assert client.read(len(said) + 24) == said + b"INVITE sip:b@c SIP/2.0\r\n"


def is_web(server, client, kind):
    assert client.response()[0] == 101
    assert f" {WEB[kind]} " in server.event("open ")
    client.echo(TEXT, "hello")


@BOTH
@pytest.mark.parametrize("first", [
    b"REGISTER sip:example.com SIP/2.0\r\n", b"OPTIONS sip:example.com SIP/2.0\r\n",
    b"OPTIONS tel:1 SIP/2.0\r\n", b"GET sip:example.com SIP/2.0\r\n", b"X" * 40 + b"\r\n",
    b"register sip:a SIP/2.0\n", b"\0\x01\x02\r\n", b"SIP/2.0 200 OK\r\n", b"A  /\n"],
    ids=["REGISTER", "OPTIONS", "tel", "GET sip", "a long word", "small letters", "bytes",
         "a response", "two blanks"])
def test_first_bytes_of_sip(start, pair, kind, first):  # F1
    server = start(*pair)
    for cut in (0, 1, 3, 8, 9, 12):
        client = Client(server, kind, upgrade=False)
        for part in (first[:cut], first[cut:]):
            if part:
                client.send(part)
        is_sip(server, client, kind, first)


@BOTH
@pytest.mark.parametrize("ping", [b"\r\n\r\n", b"\r\n", b"\r"])
def test_a_keepalive_first_is_sip(start, pair, kind, ping):  # F2
    server = start(*pair)
    client = Client(server, kind, upgrade=False)
    client.send(ping)
    assert f" {SIP[kind]} " in server.event("open ")


@BOTH
def test_upgrade_request(start, pair, kind):  # F4, F5
    server = start(*pair)
    data = request()
    for cut in (0, 1, 3, 4, 5, 20):
        client = Client(server, kind, upgrade=False)
        for part in (data[:cut], data[cut:]):
            if part:
                client.send(part)
        is_web(server, client, kind)
    client = Client(server, kind, upgrade=False)
    for byte in data:
        client.send(bytes([byte]))
    is_web(server, client, kind)


@BOTH
@pytest.mark.parametrize("data, status", [
    (b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", 405), (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426), (b"GET /x HTTP/1.0\r\n\r\n", 426),
    (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 426), (b"GET HTTPS://x/ HTTP/1.1\r\n\r\n", 426),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400), (b"ABC / \r\n\r\n", 400)])
def test_other_http_is_answered_as_http(start, pair, kind, data, status):  # F5 refused
    client = Client(start(*pair), kind, upgrade=False)
    for byte in data[:-1]:
        client.send(bytes([byte]))
    try:
        client.send(data[-1:])
    except (BrokenPipeError, ConnectionResetError): # answered and closed before the end
        pass
    assert client.response()[0] == status
    client.ended()


def test_alpn_decides(start, pair):  # F1, F4
    server = start(*pair)
    for offer, agreed in ((["sip/2"], "sip/2"), (["http/1.1"], "http/1.1"),
                          (["h2", "http/1.1"], "http/1.1"), (["sip/2", "http/1.1"], "sip/2"),
                          (["http/1.1", "sip/2"], "http/1.1"), (["h2"], None), (None, None)):
        client = Client(server, "tls+wss", upgrade=False, alpn=offer)
        assert client.socket.selected_alpn_protocol() == agreed
        if agreed != "sip/2":
            client.send(request())
            is_web(server, client, "tls+wss")
        if agreed != "http/1.1":
            if not agreed:
                client = Client(server, "tls+wss", upgrade=False, alpn=offer)
            client.send(b"OPTIONS sip:a SIP/2.0\r\n")
            is_sip(server, client, "tls+wss", b"OPTIONS sip:a SIP/2.0\r\n")


def test_alpn_is_not_guessed_against(start, pair):  # F3, F5 refused
    """Who said SIP and speaks HTTP is a broken SIP client, and the other way round."""
    server = start(*pair)
    client = Client(server, "tls+wss", upgrade=False, alpn=["sip/2"])
    client.send(b"GET / HTTP/1.1\r\n")
    is_sip(server, client, "tls+wss", b"GET / HTTP/1.1\r\n")
    client = Client(server, "tls+wss", upgrade=False, alpn=["http/1.1"])
    client.send(b"OPTIONS sip:a SIP/2.0\r\n\r\n")
    assert client.response()[0] == 400


def test_sip_with_alpn_is_a_flow_before_it_speaks(start, pair):  # F7
    """Requests can go to it, and the limit is that of SIP."""
    server = start(*pair)
    client = Client(server, "tls+wss", upgrade=False, alpn=["sip/2"])
    assert f" {SIP['tls+wss']} " in server.event("open ")
    client.socket.close()


class Hello:
    """A TLS client whose bytes go out by hand."""

    def __init__(self, server, alpn=None):
        self.tcp = socket.create_connection(("127.0.0.1", server.ports["tls+wss"]), WAIT_S)
        self.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read, self.write = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls_context(alpn).wrap_bio(self.read, self.write)

    def step(self, call):
        """One attempt; what has to go out goes out byte by byte. None: not done."""
        try:
            result = call()
        except ssl.SSLWantReadError:
            result = None
        for byte in self.write.read():
            self.tcp.send(bytes([byte]))
        return result

    def until(self, call):
        while (result := self.step(call)) is None:
            more = self.tcp.recv(65536)
            assert more, "closed"
            self.read.write(more)
        return result


@pytest.mark.parametrize("alpn", [None, ["http/1.1"], ["sip/2"]], ids=["no ALPN", "http", "sip"])
def test_a_client_whose_bytes_come_one_by_one(start, pair, alpn):  # F1, F4, F7
    server = start(*pair)
    hello = Hello(server, alpn)
    hello.until(lambda: hello.tls.do_handshake() or True)
    first = b"INVITE sip:a SIP/2.0\r\n" if alpn == ["sip/2"] else request()
    hello.step(lambda: hello.tls.write(first))
    answer = hello.until(lambda: hello.tls.read(65536))
    assert answer.startswith(first if alpn == ["sip/2"] else b"HTTP/1.1 101")


def test_who_never_comes_to_a_choice_is_closed(start, pair):  # F7
    server = start(*pair, "handshake=1", "first=1")
    begin = time.monotonic()
    hello = socket.create_connection(("127.0.0.1", server.ports["tls+wss"]), WAIT_S)
    hello.send(b"\x16\x03\x01\x02\x00\x01\x00")
    silent = Client(server, "tls+wss", upgrade=False)
    half = Client(server, "tls+wss", upgrade=False)
    half.send(b"OPTI")
    plain = Client(server, "tcp+ws", upgrade=False)
    assert hello.recv(100) == b""
    for client in (silent, half, plain):
        client.ended()
    assert 0.8 < time.monotonic() - begin < 4
    errors = server.end()
    assert "handshake timeout" in errors


@BOTH
def test_a_stop_closes_who_has_not_chosen(start, pair, kind):  # clean stop
    server = start(*pair)
    client = Client(server, kind, upgrade=False)
    client.send(b"GE")
    server.stop()
    client.ended()


@BOTH
def test_half_an_upgrade_has_the_limit_of_upgrades(start, pair, kind):  # F7
    server = start(*pair, "upgrade=1")
    client = Client(server, kind, upgrade=False)
    client.send(request()[:50])
    begin = time.monotonic()
    client.ended()
    assert 0.8 < time.monotonic() - begin < 3
    assert KEY not in server.end()


@BOTH
def test_both_live_side_by_side(start, pair, kind):  # F1, F4
    server = start(*pair)
    web, sip = Client(server, kind), Client(server, kind, upgrade=False)
    for i in range(20):
        web.echo(TEXT, f"message {i}")
        sip.send(b"line %d\r\n" % i)
        assert sip.read(len(b"line %d\r\n" % i)) == b"line %d\r\n" % i
    sip.send(frame(TEXT, "not here") + b"\n")
    assert sip.read(1) == b"\x81"
