"""Hellos in pieces, without end, and none at all: each ends by itself, while others are served."""

import random
import re
import socket
import time

import pytest

import handshake
import raw

HOST = "127.0.0.1"
TIMEOUT = 2  # handshake_timeout, in seconds


@pytest.fixture(scope="module")
def edge(module_lab):
    return module_lab.edge(users=["alice"], more=f"limits: {{handshake_timeout: {TIMEOUT}}}\n")


def served(edge):
    return handshake.outcome(HOST, edge.tls_port, handshake.context(edge.ca)) == "served"


def logged(edge, peer):
    """Why the handshake of a client failed."""
    line = edge.process.wait_output(rf"TLS handshake failed flow=\S+ peer={peer} reason=.*", 10)[0]
    return re.search(r'reason="?([^"]*)', line)[1]


@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_handshake_may_come_byte_by_byte(edge, version):  # F1, X4
    with handshake.Pipe(HOST, edge.tls_port, handshake.context(edge.ca, version)) as pipe:
        pipe.run(pipe.tls.do_handshake, pipe.bytewise)
        pipe.run(lambda: pipe.tls.write(b"\r\n\r\n"), pipe.bytewise)
        assert pipe.run(lambda: pipe.tls.read(2), pipe.bytewise) == b"\r\n"


def test_a_hello_may_come_in_many_records(edge):  # X4
    """RFC 8446 5.1: a handshake message may be cut anywhere."""
    hello = raw.client_hello(extensions=[(0xFF01, b"\0")])
    for size in 1, 3, 100:
        assert raw.ask(HOST, edge.tls_port, raw.records(hello, size=size)).text == "0303 c02b"
        assert raw.ask(HOST, edge.tls_port, raw.records(hello, size=size), pieces=2).text == "0303 c02b"


WAITING = {
    "nothing": b"",
    "half a header": b"\x16\3\1",
    "a record without end": b"\x16\3\1\x40\0\1\0\x3f\xfc\3\3" + b"r" * 1000,
    "a message without end": raw.records(b"\1\0\x3f\xfc\3\3" + b"r" * 200),
    "half a hello": raw.records(raw.client_hello())[:60],
    "a hello and no more": raw.records(raw.client_hello(extensions=[(0xFF01, b"\0")])),
}


@pytest.mark.parametrize("kind", WAITING)
def test_half_a_handshake_ends_by_its_deadline(edge, kind):  # F7 refused
    """Others come and go meanwhile."""
    began = time.monotonic()
    with raw.connect(HOST, edge.tls_port) as plain:
        peer = "{}:{}".format(*plain.getsockname())
        plain.sendall(WAITING[kind])
        assert served(edge)
        assert time.monotonic() - began < TIMEOUT  # so it is still there
        while plain.recv(65536):
            pass
    assert TIMEOUT * 0.9 <= time.monotonic() - began < TIMEOUT + 5
    assert logged(edge, peer) == "handshake timeout"


def test_a_drop_now_and_then_does_not_move_the_deadline(edge):  # F7 refused
    hello = raw.records(raw.client_hello())
    began = time.monotonic()
    with raw.connect(HOST, edge.tls_port) as plain:
        peer = "{}:{}".format(*plain.getsockname())
        plain.settimeout(TIMEOUT / 25)
        ended = False
        for i in range(len(hello) - 1):
            try:
                plain.sendall(hello[i : i + 1])
                ended = plain.recv(1) == b""
            except socket.timeout:
                continue
            except ConnectionError:
                ended = True
            break
    assert ended and time.monotonic() - began < TIMEOUT + 5
    assert logged(edge, peer) == "handshake timeout"


def test_many_that_never_finish_are_in_nobodys_way(edge):  # F7 refused
    waiting = [raw.connect(HOST, edge.tls_port) for _ in range(300)]
    for plain in waiting:
        plain.sendall(WAITING["half a hello"])
    assert all(served(edge) for _ in range(5))
    for plain in waiting:
        assert plain.recv(1) == b""
        plain.close()


PLAIN = {
    "SIP": (handshake.options_request(), "not TLS: plain "),
    "a ping of SIP": (b"\r\n\r\n\r\n\r\n", "not TLS: plain SIP, or something else, on a TLS port"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "not TLS: plain HTTP, or SIP, on a TLS port"),
    "a POST": (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "not TLS: plain HTTP, or SIP, on a TLS port"),
    "an HTTP proxy's": (b"CONNECT a.test:443 HTTP/1.1\r\n\r\n", "not TLS: plain HTTP, or SIP, on a TLS port"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "not TLS: plain SIP, or something else, on a TLS port"),
    "zeros": (bytes(600), "not TLS: plain SIP, or something else, on a TLS port"),
    # Of these OpenSSL has words of its own.
    "a record of data": (b"\x17\3\3\0\5hello", ""),
    "a record of no kind": (b"\x63\3\3\0\5hello", ""),
    "an alert": (b"\x15\3\1\0\2\2\x28", ""),
    "a Finished": (raw.records(b"\x14\0\0\x0c" + b"f" * 12), ""),
    "a record that is too long": (b"\x16\3\1\xff\xff" + b"r" * 600, ""),
    "a hello that is too long": (raw.records(b"\1\xff\xff\xff" + b"r" * 600), ""),
    "a hello of nothing": (raw.records(b"\1\0\0\0"), ""),
    "lengths that do not fit": (raw.records(raw.client_hello()[:-9] + b"\0" * 8 + b"\xff"), ""),
}


@pytest.mark.parametrize("port", ["tls_port", "wss_port"])
@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_no_handshake_is_refused_at_once(edge, kind, port):  # X4 refused
    data, says = PLAIN[kind]
    began = time.monotonic()
    answer = raw.ask(HOST, getattr(edge, port), data)
    assert answer.version is None and time.monotonic() - began < TIMEOUT * 0.9
    reason = logged(edge, answer.peer)
    assert says in reason and reason not in ("handshake timeout", "closed by client")
    assert served(edge)


def test_garbage_is_refused(edge):  # X4 refused
    """Noise, and good hellos with some bytes changed. Whatever comes back, sipward is there afterwards, and slow
    ends are those of the deadline."""
    noise = random.Random(7)
    sockets = []
    for i in range(400):
        if i % 2:
            data = noise.randbytes(noise.randrange(1, 700))
        else:
            data = bytearray(raw.records(raw.client_hello(name=raw.server_name(b"localhost"))))
            for _ in range(noise.randrange(1, 6)):
                data[noise.randrange(len(data))] = noise.randrange(256)
        plain = raw.connect(HOST, edge.tls_port)
        plain.sendall(data)
        sockets.append(plain)
    assert served(edge)
    for plain in sockets:
        try:
            while plain.recv(65536):
                pass
        except ConnectionError:
            pass
        plain.close()
    assert served(edge)
