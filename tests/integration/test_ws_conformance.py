"""RFC 6455 to the letter: what a client may send is taken, and what it may not is closed with the
code that the RFC has for it."""

import select
import socket
import ssl
import struct
import time

import pytest
from ws_edge import (ACCEPT, BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, Client, frame,
                     pair, request, start)

__all__ = ["pair", "start"] # fixtures

KINDS = pytest.mark.parametrize("kind", ["ws", "wss"])
MASK = b"\x11\x22\x33\x44"


def each(server, kind, table, check):
    """check(client, frames, what is right) on a connection for each row; all that fails is told."""
    wrong = []
    for name, frames, right in table:
        client = Client(server, kind)
        number = server.event("open").split()[1]
        try:
            client.send(frames)
        except (ConnectionResetError, BrokenPipeError): # closed before it was all sent
            pass
        try:
            check(client, number, right)
        except (AssertionError, OSError, EOFError) as error:
            wrong.append(f"{name}: {error!r}")
        client.socket.close()
    assert not wrong, "\n".join(wrong)


def raw(first, length, payload=b"x"):
    """A frame whose length field is what it is."""
    return bytes([first]) + length + MASK + payload


def long(size, field=127):
    return bytes([0x80 | field]) + struct.pack(">H" if field == 126 else ">Q", size)


def close(code, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


FIRST = frame(TEXT, "a", fin=False)
EURO = "€".encode()
BROKEN = [
    *((f"reserved bit {bit:#x} in {name}", frame(opcode, "x", first=bit), 1002)
      for bit in (0x10, 0x20, 0x40, 0x70)
      for name, opcode in (("text", TEXT), ("binary", BINARY), ("ping", PING), ("close", CLOSE))),
    ("reserved bit in a continuation", FIRST + frame(CONTINUATION, "x", first=0x40), 1002),
    *((f"opcode {opcode}", frame(opcode, "x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *((f"opcode {opcode} in a message", FIRST + frame(opcode, "x"), 1002) for opcode in (3, 7, 11, 15)),
    *((f"half a {name}", frame(opcode, "xx", fin=False), 1002)
      for name, opcode in (("ping", PING), ("pong", PONG), ("close", CLOSE))),
    *((f"a {name} of 126 bytes", frame(opcode, "x" * 126), 1002)
      for name, opcode in (("ping", PING), ("pong", PONG), ("close", CLOSE))),
    ("a ping of 70,000 bytes", frame(PING, "x" * 70000), 1002),
    ("a short length in two bytes", raw(0x81, long(5, 126), b"12345"), 1002),
    ("125 in two bytes", raw(0x82, long(125, 126), b"x" * 125), 1002),
    ("a short length in eight bytes", raw(0x81, long(5), b"12345"), 1002),
    ("65535 in eight bytes", raw(0x82, long(65535)), 1002),
    ("2^63", raw(0x82, long(1 << 63)), 1002),
    ("2^64 - 1", raw(0x82, long((1 << 64) - 1)), 1002),
    ("2^62", raw(0x82, long(1 << 62)), 1009),
    ("2^63 - 1", raw(0x82, long((1 << 63) - 1)), 1009),
    ("2^32", raw(0x81, long(1 << 32)), 1009),
    ("2^31", raw(0x81, long(1 << 31)), 1009),
    ("a byte more than the limit", frame(BINARY, "x" * 65537), 1009),
    ("2^62 in a continuation", FIRST + raw(0x80, long(1 << 62)), 1009),
    ("a continuation first", frame(CONTINUATION, "x"), 1002),
    ("an unfinished continuation first", frame(CONTINUATION, "x", fin=False), 1002),
    ("a continuation of a ping", frame(PING) + frame(CONTINUATION, "x"), 1002),
    ("text in a message", FIRST + frame(TEXT, "b"), 1002),
    ("binary in a message", FIRST + frame(BINARY, "b"), 1002),
    ("unfinished text in a message", FIRST + frame(TEXT, "b", fin=False), 1002),
    ("text behind an empty fragment", frame(TEXT, fin=False) + frame(TEXT, "b"), 1002),
    ("unmasked", frame(TEXT, "x", mask=b""), 1002),
    ("an unmasked pong", frame(PONG, mask=b""), 1002),
    ("an unmasked fragment", FIRST + frame(CONTINUATION, "b", mask=b""), 1002),
    *((f"text {bad.hex()}", frame(TEXT, b"a" + bad + b"b"), 1007)
      for bad in (b"\x80", b"\xbf", b"\xc0\xaf", b"\xc1\xbf", b"\xc3", b"\xe0\x80\xaf", b"\xe2\x82",
                  b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\xaf", b"\xf4\x90\x80\x80",
                  b"\xf5\x80\x80\x80", b"\xfe", b"\xff")),
    ("text that ends in a character", frame(TEXT, b"a" + EURO[:2]), 1007),
    ("text whose fragments end in a character", FIRST + frame(CONTINUATION, EURO[:2]), 1007),
    ("a character that is wrong in the next fragment",
     frame(TEXT, EURO[:1], fin=False) + frame(CONTINUATION, b"\x82a"), 1007),
    ("wrong bytes in a first fragment", frame(TEXT, b"\xff", fin=False), 1007),
    ("wrong bytes behind a ping", frame(TEXT, EURO[:1], fin=False) + frame(PING, EURO[1:])
     + frame(CONTINUATION, b"x"), 1007),
]


@KINDS
def test_what_breaks_the_rfc_is_closed_with_its_code(start, pair, kind):  # F4 refused
    server = start(*pair)

    def check(client, number, code):
        opcode = None
        while opcode != CLOSE: # pongs may come before
            opcode, payload = client.frame()
            assert opcode in (CLOSE, PONG)
        assert struct.unpack(">H", payload[:2])[0] == code
        client.ended()
        assert client.unread == b""
        assert server.event(f"closed {number} ")

    late = frame(TEXT, "not heard any more")
    each(server, kind, [(name, frames + late, code) for name, frames, code in BROKEN], check)


GOOD = [
    ("a length of 125", frame(TEXT, "x" * 125), [(TEXT, b"x" * 125)]),
    ("a length of 126", frame(TEXT, "x" * 126), [(TEXT, b"x" * 126)]),
    ("a length of 65535", frame(TEXT, "x" * 65535), [(TEXT, b"x" * 65535)]),
    ("a length of 65536", frame(TEXT, "x" * 65536), [(TEXT, b"x" * 65536)]),
    ("a mask of zeros", frame(TEXT, "x", mask=b"\0\0\0\0"), [(TEXT, b"x")]),
    ("text in all lengths of UTF-8", frame(TEXT, "aä€😀\U0010ffff"), [(TEXT, "aä€😀\U0010ffff".encode())]),
    ("each byte of a character in its own fragment",
     frame(TEXT, EURO[:1], fin=False) + frame(CONTINUATION, EURO[1:2], fin=False)
     + frame(CONTINUATION, EURO[2:]), [(TEXT, EURO)]),
    ("an empty last fragment", FIRST + frame(CONTINUATION), [(TEXT, b"a")]),
    ("an empty first fragment", frame(BINARY, fin=False) + frame(CONTINUATION, "a"), [(TEXT, b"a")]),
    ("a pong that nobody asked for", frame(PONG, "x") + frame(TEXT, "a"), [(TEXT, b"a")]),
    ("an empty ping", frame(PING), [(PONG, b"")]),
    ("a ping of 125 bytes", frame(PING, b"\xff" * 125), [(PONG, b"\xff" * 125)]),
    ("pings and pongs in a message",
     FIRST + frame(PING, "1") + frame(PONG) + frame(CONTINUATION, "b", fin=False) + frame(PING, "2")
     + frame(CONTINUATION, "c"), [(PONG, b"1"), (PONG, b"2"), (TEXT, b"abc")]),
    ("20,000 empty fragments", frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 20000
     + frame(CONTINUATION, "x"), [(TEXT, b"x")]),
    ("3000 fragments of a byte", frame(TEXT, "x", fin=False) + frame(CONTINUATION, "x", fin=False) * 2998
     + frame(CONTINUATION, "x"), [(TEXT, b"x" * 3000)]),
    ("100 messages and pings", b"".join(frame(TEXT, str(i)) + frame(PING, str(i)) for i in range(100)),
     [answer for i in range(100) for answer in ((TEXT, b"%d" % i), (PONG, b"%d" % i))]),
]


@KINDS
def test_what_the_rfc_allows_is_taken(start, pair, kind):  # F4, F8
    def check(client, number, answers):
        # a pong may overtake a message, and the other way round: only their own order counts
        came = [client.frame() for _ in answers]
        for opcode in (TEXT, PONG):
            assert [a for a in came if a[0] == opcode] == [a for a in answers if a[0] == opcode]
        client.echo(TEXT, "and on it goes")

    each(start(*pair), kind, GOOD, check)


VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
# 1012 to 1014 are newer than wslay 1.1.1
INVALID = [0, 1, 999, 1004, 1005, 1006, 1012, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
CLOSES = [
    ("no code", frame(CLOSE), b""),
    *((f"code {code}", close(code), struct.pack(">H", code)) for code in VALID),
    ("a reason", close(1000, "tschüß".encode()), struct.pack(">H", 1000) + "tschüß".encode()),
    ("the longest reason", close(1000, b"x" * 123), struct.pack(">H", 1000) + b"x" * 123),
    ("in a message", FIRST + close(1001), struct.pack(">H", 1001)),
    ("with data behind", close(1000) + frame(TEXT, "late") + frame(PING) + b"nonsense",
     struct.pack(">H", 1000)),
    ("twice", close(1000) + close(1001), struct.pack(">H", 1000)),
]


@KINDS
def test_a_close_is_answered_and_is_the_last(start, pair, kind):  # F4
    server = start(*pair)

    def check(client, number, answer):
        assert client.frame() == (CLOSE, answer)
        client.ended()
        assert client.unread == b""
        assert server.event(f"closed {number}") == f"closed {number} closed by client"

    each(server, kind, CLOSES, check)


def test_a_close_that_is_wrong_is_told_so(start):  # F4 refused
    def check(client, number, code):
        opcode, payload = client.frame()
        assert (opcode, struct.unpack(">H", payload[:2])[0]) == (CLOSE, code)
        client.ended()

    each(start(), "ws", [
        *((f"code {code}", close(code), 1002) for code in INVALID),
        ("half a code", frame(CLOSE, b"\x03"), 1002),
        ("a reason that is not UTF-8", close(1000, b"gr\xfcn"), 1007),
        ("a reason that ends in a character", close(1000, EURO[:2]), 1007)], check)


@KINDS
def test_messages_under_way_come_before_the_close_and_none_behind_it(start, pair, kind):  # X2, F4
    client = Client(start(*pair), kind, small=True)
    client.send(frame(TEXT, "FLOOD 50 3000") + close(1000))
    for i in range(50):
        opcode, payload = client.frame()
        assert opcode == TEXT and payload.startswith(b"%d " % i)
    assert client.frame() == (CLOSE, struct.pack(">H", 1000))
    client.ended()
    assert client.unread == b""


@KINDS
def test_pings_without_end_to_who_reads_nothing(start, pair, kind):  # X2 refused
    server = start(*pair, "queue=100000")
    client = Client(server, kind, small=True)
    pings = frame(PING, "x" * 125) * 500
    with pytest.raises((ConnectionResetError, BrokenPipeError, ssl.SSLError)):
        for _ in range(1000): # 65 MB
            client.send(pings)
    assert server.event("closed") == "closed 1 slow reader"
    client.socket.close()


def test_empty_fragments_without_end_are_cut(start):  # F7 refused
    server = start("message_timeout=1")
    client = Client(server)
    client.send(FIRST)
    begin = time.monotonic()
    client.socket.settimeout(5)
    try:
        while time.monotonic() - begin < 5:
            client.send(frame(CONTINUATION, fin=False) * 100)
            if select.select([client.socket], [], [], 0.05)[0]:
                break
    except (ConnectionResetError, BrokenPipeError):
        pass
    assert 0.8 < time.monotonic() - begin < 4
    assert server.event("closed") == "closed 1 message timeout"
    client.socket.close()


@KINDS
def test_every_frame_kind_cut_at_every_byte(start, pair, kind):  # F4
    data = (FIRST + frame(PING, "p") + frame(CONTINUATION, "b" * 130) + frame(BINARY)
            + frame(TEXT, "end"))
    server = start(*pair)
    for cut in range(1, len(data), 7 if kind == "wss" else 1):
        client = Client(server, kind)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.send(data[:cut])
        client.send(data[cut:])
        came = [client.frame() for _ in range(3)]
        assert (PONG, b"p") in came
        assert [a for a in came if a[0] == TEXT] == [(TEXT, b"a" + b"b" * 130), (TEXT, b"end")]
        client.socket.close()


# The opening handshake


def test_upgrades_that_are_right(start):  # F5
    server = start()
    for fields in (
            {"Connection": "Upgrade"}, {"Connection": "UPGRADE"}, {"Connection": "keep-alive,upgrade"},
            {"Connection": ["keep-alive", "Upgrade"]}, {"Upgrade": "WebSocket"},
            {"Upgrade": "WEBSOCKET"}, {"Upgrade": "foo, websocket"},
            {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
            {"Sec-WebSocket-Protocol": ["xmpp", "sip"]}, {"Sec-WebSocket-Protocol": "msrp, sip, xmpp"},
            {"Host": "sip.example.com:443"}, {"Origin": "null"}, {"Content-Length": "0"},
            {"User-Agent": ""}, {"Cookie": "a=" + "x" * 6144}):
        client = Client(server, **fields)
        assert client.headers["upgrade"] == "websocket" and client.headers["connection"] == "Upgrade"
        assert client.headers["sec-websocket-accept"] == ACCEPT
        assert client.headers["sec-websocket-protocol"] == "sip"
        assert "sec-websocket-extensions" not in client.headers
        client.echo(TEXT, "x")


def test_header_names_in_any_case_and_without_a_blank(start):  # F5
    for change in (bytes.lower, bytes.upper):
        client = Client(start(), upgrade=False)
        lines = request().split(b"\r\n")
        named = [line.split(b": ", 1) for line in lines[1:-2]]
        client.send(b"\r\n".join([lines[0], *(change(name) + b":" + value for name, value in named),
                                  b"", b""]))
        assert client.response()[0] == 101


def test_keys_that_are_wrong(start):  # F5 refused
    server = start()
    for key in ("", "AAAA", KEY[:-1], KEY + "=", "x" * 24, KEY[:-2] + "xx",
                "dGhlIHNhbXBsZSBub25j*Q==", KEY + ", " + KEY):
        client = Client(server, upgrade=False)
        client.send(request(Sec_WebSocket_Key=key))
        status, headers, body = client.response()
        assert status == 400 and b"Sec-WebSocket-Key" in body and headers["connection"] == "close"
        client.ended()


def test_each_handshake_has_its_own_accept(start):  # F5
    client = Client(start(), Sec_WebSocket_Key="x3JJHMbDL1EzLkh9GBhXDw==")
    assert client.headers["sec-websocket-accept"] == "HSmrc0sMlYUkAGmm5OPpG2HaGWk="
