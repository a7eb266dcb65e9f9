"""TLS by hand: hellos that no library would send, and what comes back."""

import itertools
import os
import socket
import struct

ALERTS = {
    10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure",
    47: "illegal_parameter", 50: "decode_error", 70: "protocol_version", 71: "insufficient_security",
    80: "internal_error", 109: "missing_extension", 112: "unrecognized_name",
}  # fmt: skip

# Suites of TLS 1.2 and before (IANA's TLS Cipher Suites)
ECDHE_ECDSA_AES128_GCM, ECDHE_RSA_AES128_GCM = 0xC02B, 0xC02F
GOOD_SUITES = (ECDHE_ECDSA_AES128_GCM, ECDHE_RSA_AES128_GCM)
X25519, P256, P384 = 29, 23, 24


SOURCES = itertools.count(1)


def connect(address, port, timeout=10):
    """From an address of its own in 127.0.0.0/8, as ports are used again: in the log each client is another."""
    n = next(SOURCES)
    return socket.create_connection((address, port), timeout, (f"127.1.{n >> 8}.{n & 255}", 0))


def vector(data, size):
    """Bytes behind their length in `size` bytes."""
    return len(data).to_bytes(size, "big") + data


def numbers(values):
    return b"".join(struct.pack(">H", v) for v in values)


def server_name(name, kind=0):
    """The body of a server_name extension (RFC 6066 3) of one name."""
    return vector(bytes([kind]) + vector(name, 2), 2)


def client_hello(
    version=0x0303,
    suites=GOOD_SUITES,
    groups=(X25519, P256, P384),
    signatures=(0x0403, 0x0804, 0x0401),
    compressions=(0,),
    name=None,
    extensions=(),
):
    """The handshake message. `name`: the body of server_name; `extensions`: more, (type, body)."""
    more = list(extensions)
    if name is not None:
        more.insert(0, (0, name))
    if groups:
        more += [(10, vector(numbers(groups), 2)), (11, vector(b"\0", 1))]
    if signatures:
        more.append((13, vector(numbers(signatures), 2)))
    body = struct.pack(">H", version) + os.urandom(32) + vector(b"", 1)
    body += vector(numbers(suites), 2) + vector(bytes(compressions), 1)
    if version > 0x0300:
        body += vector(b"".join(struct.pack(">H", t) + vector(b, 2) for t, b in more), 2)
    return b"\x01" + vector(body, 3)


def records(message, version=0x0301, size=16384):
    """Handshake records of at most `size` bytes."""
    parts = [message[i : i + size] for i in range(0, len(message), size)]
    return b"".join(b"\x16" + struct.pack(">H", version) + vector(p, 2) for p in parts)


class Answer:
    """What the server said to a hello: .version, .suite, .compression and .certificates (DER) of its
    hello, or .alert, or neither: it closed the connection. .peer is our address as it logs it."""

    def __init__(self, data, peer):
        self.peer, self.alert, self.version, self.certificates = peer, None, None, []
        messages = b""
        while len(data) >= 5:
            kind, length = data[0], int.from_bytes(data[3:5], "big")
            body, data = data[5 : 5 + length], data[5 + length :]
            if kind == 21:
                self.alert = ALERTS.get(body[1], str(body[1]))
            elif kind == 22:
                messages += body
        while len(messages) >= 4:
            kind, length = messages[0], int.from_bytes(messages[1:4], "big")
            body, messages = messages[4 : 4 + length], messages[4 + length :]
            if kind == 2:
                self.version = int.from_bytes(body[:2], "big")
                after = 35 + body[34]
                self.suite = int.from_bytes(body[after : after + 2], "big")
                self.compression = body[after + 2]
            elif kind == 11:
                at = 3
                while at < len(body):
                    size = int.from_bytes(body[at : at + 3], "big")
                    self.certificates.append(body[at + 3 : at + 3 + size])
                    at += 3 + size

    @property
    def text(self):
        if self.alert:
            return self.alert
        return "closed" if self.version is None else f"{self.version:04x} {self.suite:04x}"


def ask(address, port, data, pieces=None, timeout=10):
    """Send bytes, whole or in pieces of so many, and take in what comes until the server has said its
    hello (to its ServerHelloDone), an alert, or has closed. TimeoutError: none of it."""
    with connect(address, port, timeout) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got, peer = b"", "{}:{}".format(*plain.getsockname())
        try:
            for i in range(0, len(data), pieces or len(data)):
                plain.sendall(data[i : i + (pieces or len(data))])
            while True:
                more = plain.recv(65536)
                got += more
                answer = Answer(got, peer)
                if not more or answer.alert or b"\x0e\0\0\0" in got[-4:]:
                    return answer
        except ConnectionError:  # reset, as bytes of ours were not read any more
            return Answer(b"", peer)
