"""Name servers of the tests, on port 53 of an address of the test's own network namespace."""

import contextlib
import ipaddress
import socket
import struct
import subprocess
import threading
import time

A, CNAME, AAAA, SRV, NAPTR, IN = 1, 5, 28, 33, 35, 1
TYPES = {"A": A, "CNAME": CNAME, "AAAA": AAAA, "SRV": SRV, "NAPTR": NAPTR}
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5
DATAGRAM_MAX = 512  # without EDNS (RFC 1035 2.3.4)


def encode_name(name):
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def encode_string(text):
    return bytes([len(text)]) + text.encode()


def encode_data(kind, data):
    """RDATA of what a zone file has: "10.0.0.1", "0 10 5060 a.test", '1 1 "s" "SIP+D2U" "" a.test'."""
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(data).packed
    if kind == "CNAME":
        return encode_name(data)
    words = data.split()
    if kind == "SRV":
        return struct.pack(">HHH", *map(int, words[:3])) + encode_name(words[3])
    order, preference, flags, service, regexp, replacement = (w.strip('"') for w in words)
    return (
        struct.pack(">HH", int(order), int(preference))
        + b"".join(map(encode_string, (flags, service, regexp)))
        + encode_name(replacement)
    )


def record(name, ttl, kind, data):
    data = encode_data(kind, data)
    return encode_name(name) + struct.pack(">HHIH", TYPES[kind], IN, ttl, len(data)) + data


class Faulty:
    """Answers what its zone says, and misbehaves as told.

    zone: {"pbx.test A": ["10.0.0.1", ...], ...}. An answer can also be a number, the RCODE of an
    answer without records; None, no answer at all; or bytes, sent behind the query's id. For a name that is not there it is `other`."""

    def __init__(self, address, zone=(), ttl=0, other=NXDOMAIN):
        self.address, self.zone, self.ttl, self.other = address, dict(zone), ttl, other
        self.queries = []  # (when, "pbx.test A", "udp"), ...
        self.lock = threading.Lock()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, 53))
        self.tcp = socket.create_server((address, 53))
        self.stopping = False
        self.threads = [
            threading.Thread(target=serve, daemon=True) for serve in (self.serve_udp, self.serve_tcp)
        ]
        for thread in self.threads:
            thread.start()

    def set(self, zone):
        with self.lock:
            self.zone.update(zone)

    def asked(self, question, transport=None):
        with self.lock:
            return sum(q == question and transport in (None, t) for _, q, t in self.queries)

    def response(self, query, transport):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        number = struct.unpack(">H", query[at + 1 : at + 3])[0]
        kind = next((k for k, v in TYPES.items() if v == number), str(number))
        name, question = ".".join(labels).lower(), query[12 : at + 5]
        with self.lock:
            self.queries.append((time.monotonic(), f"{name} {kind}", transport))
            data = self.zone.get(f"{name} {kind}")
            if data is None and f"{name} {kind}" not in self.zone:
                known = any(q.split()[0] == name for q in self.zone)
                data = 0 if known else self.other
        if data is None:
            return None
        if isinstance(data, bytes):
            return query[:2] + data
        if isinstance(data, int):
            return query[:2] + struct.pack(">HHHHH", 0x8180 | data, 1, 0, 0, 0) + question
        # "pbx.test CNAME other.test" is a record of another name or kind, as it stands
        records = [
            record(*self.whole(line)) if " CNAME " in line else record(name, self.ttl, kind, line)
            for line in data
        ]
        header = struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0)
        return query[:2] + header + question + b"".join(records)

    def whole(self, line):
        name, kind, data = line.split(" ", 2)
        return name, self.ttl, kind, data

    def serve_udp(self):
        while True:
            query, source = self.udp.recvfrom(4096)
            if self.stopping:
                return
            response = self.response(query, "udp")
            if response is None:
                continue
            if len(response) > DATAGRAM_MAX:  # truncated (RFC 1035 4.1.1: TC)
                flags = struct.unpack(">H", response[2:4])[0] | 0x0200
                end = 12 + len(query[12:])
                response = query[:2] + struct.pack(">HHHHH", flags, 1, 0, 0, 0) + query[12:end]
            self.udp.sendto(response, source)

    def serve_tcp(self):
        while True:
            connection, _ = self.tcp.accept()
            if self.stopping:
                return
            threading.Thread(target=self.serve_connection, args=(connection,), daemon=True).start()

    def serve_connection(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            while size := connection.recv(2, socket.MSG_WAITALL):
                query = connection.recv(*struct.unpack(">H", size), socket.MSG_WAITALL)
                response = self.response(query, "tcp")
                if response is not None:
                    connection.sendall(struct.pack(">H", len(response)) + response)

    def stop(self):
        self.stopping = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", (self.address, 53))
        socket.create_connection((self.address, 53), 5).close()
        for thread in self.threads:
            thread.join(5)
        self.udp.close()
        self.tcp.close()


class Dnsmasq:
    """A real one, with the lines of a configuration file."""

    def __init__(self, address, folder):
        self.address, self.folder, self.process = address, folder, None

    def start(self, *lines, ttl=1):
        file = self.folder / "dnsmasq.conf"
        settings = (
            "keep-in-foreground no-resolv no-hosts bind-interfaces user=root group=root pid-file="
            f" local-ttl={ttl} listen-address={self.address} local=/test/"
        )
        file.write_text("\n".join((*settings.split(), *lines, "host-record=up.test,127.0.0.1\n")))
        self.process = subprocess.Popen(
            ["/usr/sbin/dnsmasq", f"--conf-file={file}"],
            stdout=open(self.folder / "dnsmasq.log", "ab"),
            stderr=subprocess.STDOUT,
        )

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "dnsmasq.log").read_text())
        query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + encode_name("up.test") + b"\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.2)
            s.connect((self.address, 53))
            try:
                s.send(query)
                return len(s.recv(512)) > len(query)
            except OSError:
                return False

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait(10)
            self.process = None
