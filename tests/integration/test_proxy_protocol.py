"""Listeners behind a load balancer: the PROXY protocol, version 2, in front of TLS or WebSocket."""

import socket
import struct
import time

import pytest
from ws_edge import TEXT, WAIT_S, Client, pair, request, start

__all__ = ["pair", "start"] # fixtures

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BOTH = pytest.mark.parametrize("kind", ["ws-behind", "wss-behind"])


def header(family=0x11, body=None, command=0x21, length=None):
    if body is None:
        body = (socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1")
                + struct.pack(">HH", 50003, 8443))
    size = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", size) + body


V6 = (socket.inet_pton(socket.AF_INET6, "2001:db8::7")
      + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + struct.pack(">HH", 50003, 443))


def opened(server):
    """The client's address, and the one that it connected to."""
    return server.event("open").split()[-2:]


@BOTH
@pytest.mark.parametrize("preface, peer, local", [
    (header(), "192.0.2.7:50003", "198.51.100.1:8443"),
    (header(0x21, V6), "[2001:db8::7]:50003", "[2001:db8::1]:443"),
    (header(body=header()[16:] + b"\x03\0\4abcd\x20\0\3xyz"), "192.0.2.7:50003", "198.51.100.1:8443"),
    (header(body=header()[16:] + b"\4" + struct.pack(">H", 2000) + bytes(2000)),
     "192.0.2.7:50003", "198.51.100.1:8443")], ids=["IPv4", "IPv6", "TLVs", "2 kB of TLVs"])
def test_the_addresses_are_the_clients(start, pair, kind, preface, peer, local):  # R1
    server = start(*pair)
    client = Client(server, kind, preface=preface)
    client.echo(TEXT, "hello")
    assert opened(server) == [peer, local]


@BOTH
@pytest.mark.parametrize("preface", [
    header(0, b"", 0x20), header(command=0x20), header(0, b""), header(0x31, bytes(216)), header(0x12)],
    ids=["LOCAL", "LOCAL with addresses", "unknown", "Unix", "UDP"])
def test_the_sockets_own_addresses_hold(start, pair, kind, preface):  # R1
    server = start(*pair)
    client = Client(server, kind, preface=preface)
    client.echo(TEXT, "hello")
    assert opened(server) == ["%s:%d" % client.socket.getsockname(),
                              "%s:%d" % client.socket.getpeername()]


def test_a_header_byte_by_byte_with_the_upgrade_behind(start, pair):  # F7
    server = start(*pair)
    client = Client(server, "ws-behind", upgrade=False)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = header() + request()
    for byte in data[:60]:
        client.send(bytes([byte]))
    client.send(data[60:])
    assert client.response()[0] == 101
    assert opened(server)[0] == "192.0.2.7:50003"


@BOTH
@pytest.mark.parametrize("preface, reason", [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 50003 443\r\n", "version 1: the sender must use version 2"),
    (request(), "no PROXY protocol header"), (b"\x16\x03\x01\x02\0\x01", "no PROXY protocol header"),
    (b"\r\n\r\n\r\n", "no PROXY protocol header"), (header(command=0x31), "unknown version or command"),
    (header(length=65535), "too long"), (header(0x21), "too short for its addresses")],
    ids=["version 1", "HTTP", "TLS", "CRLF", "version 3", "too long", "too short"])
def test_what_is_no_header_is_closed(start, pair, kind, preface, reason):  # V7, F7 refused
    server = start(*pair)
    client = Client(server, "ws-behind", upgrade=False, preface=preface) # nothing of ours behind it
    client.ended()
    errors = server.end()
    assert "PROXY protocol failed" in errors and reason in errors
    assert "open" not in server.events


@BOTH
def test_others_are_closed_and_the_log_says_why(start, pair, kind):  # R1 refused
    server = start(*pair)
    client = socket.socket()
    client.settimeout(WAIT_S)
    client.bind(("127.0.0.2", 0))
    client.connect(("127.0.0.1", server.ports[kind]))
    client.send(header() + request())
    try:
        assert client.recv(100) == b""
    except ConnectionResetError:
        pass
    errors = server.end()
    assert 'connection refused peer=127.0.0.2:' in errors and "not in this listener's" in errors


@BOTH
def test_a_header_that_does_not_come_is_cut(start, pair, kind):  # F7
    server = start(*pair, "handshake=1")
    begin = time.monotonic()
    clients = [socket.create_connection(("127.0.0.1", server.ports[kind]), WAIT_S) for _ in range(3)]
    clients[1].send(header()[:9])
    clients[2].send(header()[:20])
    for client in clients:
        try:
            assert client.recv(100) == b""
        except ConnectionResetError:
            pass
    assert 0.8 < time.monotonic() - begin < 3
    assert "PROXY protocol header timeout" in server.end()


def test_a_health_check_is_not_logged(start, pair):  # X5: of HAProxy, each second
    server = start(*pair)
    for preface in (b"", header(0, b"", 0x20)):
        client = socket.create_connection(("127.0.0.1", server.ports["wss-behind"]), WAIT_S)
        client.send(preface)
        client.shutdown(socket.SHUT_WR)
        while client.recv(100): # an alert of TLS
            pass
    assert "failed" not in server.end()


def test_a_stop_in_the_header(start, pair):  # clean stop
    server = start(*pair)
    client = Client(server, "ws-behind", upgrade=False, preface=header()[:9])
    server.stop()
    client.ended()
