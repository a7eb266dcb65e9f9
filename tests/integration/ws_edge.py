"""What the tests of ws/ and tls/ through real sockets share.

The server is ws_server: it echoes, or does what a message says. The client is written out here,
byte by byte, because most of what is tested is what a proper client never sends.
"""

import datetime
import os
import select
import socket
import ssl
import struct
import subprocess
import time

import pytest

SERVER = os.environ["WS_SERVER"]
WAIT_S = 15
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ==" # of RFC 6455 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Server:
    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [SERVER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        self.events = []
        self.unread = b""
        self.ports = {}
        self.stopped = False
        self.ended = None
        while "ready" not in self.events:
            self.read_event()
        for line in self.events[:-1]:
            name, port = line.split()
            self.ports[name] = int(port)

    def read_event(self):
        deadline = time.monotonic() + WAIT_S
        while b"\n" not in self.unread:
            left = max(0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"no event; so far: {self.events}")
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                raise AssertionError(f"server ended: {self.events} {self.process.stderr.read()}")
            self.unread += more
        line, self.unread = self.unread.split(b"\n", 1)
        self.events.append(line.decode())

    def event(self, start):
        """The next event that starts like this."""
        while True:
            for index, line in enumerate(self.events):
                if line.startswith(start):
                    return self.events.pop(index)
            self.read_event()

    def stop(self):
        if not self.stopped:
            self.process.stdin.close()
            self.stopped = True

    def end(self):
        """Everything was given back, and no sanitizer has anything to say."""
        if self.ended is not None:
            return self.ended
        self.stop()
        assert self.event("end ") == "end loop=0 connections=0 flows=0 descriptors=0"
        self.process.wait(WAIT_S)
        errors = self.process.stderr.read().decode()
        assert self.process.returncode == 0, errors
        assert "Sanitizer" not in errors and "runtime error" not in errors, errors
        self.ended = errors
        return errors


@pytest.fixture
def start():
    servers = []

    def run(*arguments):
        servers.append(Server(*arguments))
        return servers[-1]

    yield run
    for server in servers:
        try:
            server.end()
        finally:
            server.process.kill()


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """A certificate for sip.example.com and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sip.example.com")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=60))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("sip.example.com")]), False)
        .sign(key, hashes.SHA256()))
    folder = tmp_path_factory.mktemp("pair")
    (folder / "chain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    return str(folder / "chain.pem"), str(folder / "key.pem")


def request(path="/", method="GET", **fields):
    """An upgrade request; a field set to None is left out, a list is sent as several."""
    headers = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "sip",
    }
    headers.update({name.replace("_", "-"): value for name, value in fields.items()})
    lines = [f"{method} {path} HTTP/1.1"]
    for name, value in headers.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                lines.append(f"{name}: {one}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def frame(opcode, payload=b"", fin=True, mask=b"\x11\x22\x33\x44", first=0):
    if isinstance(payload, str):
        payload = payload.encode()
    head = bytes([(0x80 if fin else 0) | first | opcode])
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([masked | len(payload)])
    elif len(payload) < 65536:
        head += bytes([masked | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", len(payload))
    if mask:
        key = (mask * (len(payload) // 4 + 1))[:len(payload)]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(
            len(payload), "big")
        head += mask
    return head + payload


def tls_context(alpn=None):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class Client:
    def __init__(self, server, kind="ws", name=None, upgrade=True, small=False, alpn=None,
                 preface=b"", source=None, **fields):
        """`preface` goes out before TLS; `source` is the client's own address."""
        self.socket = socket.socket(socket.AF_INET6 if kind == "ws6" else socket.AF_INET)
        if small: # a receive buffer that is full soon
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(WAIT_S)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(("::1" if kind == "ws6" else "127.0.0.1", server.ports[kind]))
        if preface:
            self.socket.sendall(preface)
        if kind in ("wss", "tls+wss", "wss-behind"):
            self.socket = tls_context(alpn).wrap_socket(self.socket, server_hostname=name)
        self.unread = b""
        if upgrade:
            self.send(request(**fields))
            status, headers, _ = self.response()
            assert status == 101, headers
            self.headers = headers

    def send(self, data):
        self.socket.sendall(data)

    def read(self, count):
        while len(self.unread) < count:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(self.unread)
            self.unread += more
        data, self.unread = self.unread[:count], self.unread[count:]
        return data

    def response(self):
        """Status, headers, and the body if there is one."""
        while b"\r\n\r\n" not in self.unread:
            more = self.socket.recv(65536)
            if not more:
                return 0, {}, b""
            self.unread += more
        head, self.unread = self.unread.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        headers = {name.lower(): value for name, value in headers.items()}
        body = self.read(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, body

    def frame(self):
        """Opcode and payload. Frames of a server are whole and not masked."""
        first, length = self.read(2)
        assert first & 0xF0 == 0x80 and not length & 0x80
        if length == 126:
            length, = struct.unpack(">H", self.read(2))
        elif length == 127:
            length, = struct.unpack(">Q", self.read(8))
        return first & 0x0F, self.read(length)

    def echo(self, opcode, payload):
        """A message goes and comes back."""
        self.send(frame(opcode, payload))
        assert self.frame() == (opcode, payload if isinstance(payload, bytes) else payload.encode())

    def closed(self):
        """The code of the close frame, which is answered; then the connection ends."""
        opcode, payload = self.frame()
        assert opcode == CLOSE
        self.send(frame(CLOSE, payload[:2]))
        self.ended()
        return struct.unpack(">H", payload[:2])[0]

    def ended(self):
        try:
            while True:
                data = self.socket.recv(65536)
                if not data:
                    return
        except (ConnectionResetError, ssl.SSLError):
            pass


def refused(server, data, kind="ws"):
    """What is answered to a request that is not accepted; the connection is closed then."""
    client = Client(server, kind, upgrade=False)
    client.send(data)
    status, headers, body = client.response()
    client.ended()
    return status, headers, body
