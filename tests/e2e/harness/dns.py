"""A name server for phones that ask no hosts file: the test names are 127.0.0.1, and there are
no others."""

import socket
import struct
import threading

from .net import NAMES

A, IN = 1, 1


class NameServer:
    def __init__(self, lab):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.host = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.stopping = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        lab.cleanups.append(self.stop)

    def serve(self):
        while True:
            query, source = self.socket.recvfrom(4096)
            if self.stopping:
                return
            self.socket.sendto(answer(query), source)

    def stop(self):
        self.stopping = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", self.socket.getsockname())
        self.thread.join(5)
        self.socket.close()


def answer(query):
    """The response to one query with one question (RFC 1035 4.1)."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    question = query[12 : at + 5]
    kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
    known = ".".join(labels).lower() in NAMES
    flags = 0x8580 if known else 0x8583  # authoritative; no error, or no such name
    records = b""
    if known and kind == A:
        records = struct.pack(">HHHIH4s", 0xC00C, A, IN, 60, 4, socket.inet_aton("127.0.0.1"))
    return query[:2] + struct.pack(">HHHHH", flags, 1, bool(records), 0, 0) + question + records
