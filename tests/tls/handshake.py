"""TLS clients for the tests: one handshake at a time, by Python's ssl."""

import socket
import ssl

from harness import sip

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


def context(ca, version=None, identity=None):
    """A client that trusts `ca` and, with `identity` (chain file, key file), shows a certificate."""
    made = ssl.create_default_context(cafile=ca.file)
    if version:
        made.minimum_version = made.maximum_version = VERSIONS[version]
    if identity:
        made.load_cert_chain(*identity)
    return made


def connect(address, port, client, name="localhost", session=None):
    """A TLS connection. ssl.SSLError, ConnectionError: refused."""
    plain = socket.create_connection((address, port), 10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        return client.wrap_socket(plain, server_hostname=name, session=session)
    except Exception:
        plain.close()
        raise


def ping(tls):
    """The keepalive of RFC 5626: its answer proves that SIP is served, and brings a TLS 1.3 ticket along."""
    tls.sendall(b"\r\n\r\n")
    return tls.recv(2) == b"\r\n"


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)


def upgrade(tls):
    """Open a WebSocket: what ping() is on a port for WebSocket."""
    tls.sendall(UPGRADE)
    return tls.recv(4096).startswith(b"HTTP/1.1 101 ")


def outcome(address, port, client, speak=ping, **options):
    """What a client sees: "served", "resumed", or why it was refused, as OpenSSL names the alert."""
    try:
        with connect(address, port, client, **options) as tls:
            if not speak(tls):
                return "closed"
            return "resumed" if tls.session_reused else "served"
    except ssl.SSLError as error:
        return error.reason
    except ConnectionError as error:
        return type(error).__name__


def session(address, port, client, name="localhost", speak=ping):
    """A session to resume."""
    with connect(address, port, client, name) as tls:
        assert speak(tls)
        return tls.session


class Pipe:
    """A TLS client that gives its bytes out by hand."""

    def __init__(self, address, port, client, name="localhost"):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.socket = socket.create_connection((address, port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = "{}:{}".format(*self.socket.getsockname())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def run(self, call, send):
        """Finish a call of ssl, its bytes sent by `send`."""
        while True:
            try:
                result = call()
                send(self.outgoing.read())
                return result
            except ssl.SSLWantReadError:
                send(self.outgoing.read())
                data = self.socket.recv(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()
            except ssl.SSLError:
                send(self.outgoing.read())  # the alert, and then wait for their end: it shall be read
                self.socket.shutdown(socket.SHUT_WR)
                while self.socket.recv(65536):
                    pass
                raise

    def bytewise(self, data):
        for i in range(len(data)):
            self.socket.sendall(data[i : i + 1])


def options_request():
    """Bytes of a SIP request that sipward answers by itself."""
    return sip.Message(
        "OPTIONS sip:sip.test SIP/2.0",
        [
            ("Via", f"SIP/2.0/TLS a.invalid;branch={sip.new_branch()}"),
            ("Max-Forwards", "0"),
            ("From", "<sip:a@sip.test>;tag=1"),
            ("To", "<sip:sip.test>"),
            ("Call-ID", sip.new_branch()),
            ("CSeq", "1 OPTIONS"),
        ],
    ).bytes()
