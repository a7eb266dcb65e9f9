"""Scripted SIP ends: clients over TLS and WSS on the access side, a PBX over UDP on the core side.

All calls block, with deadlines; one test drives several ends in turn."""

import os
import re
import select
import socket
import ssl
import time

import websockets.client
from websockets.frames import Opcode
from websockets.uri import parse_uri

from . import net, sip

WebSocket = getattr(websockets.client, "ClientProtocol", None) or getattr(
    websockets.client, "ClientConnection"
)


class Closed(AssertionError):
    """The other side closed the connection."""


class End:
    """What clients and PBX have in common: requests, responses, waiting for them."""

    transport = "?"
    name = "?"
    host = "127.0.0.1"
    domain = "sip.test"

    def __init__(self):
        self.trace = []
        self.seen = set()  # requests received over UDP, where they may come again

    # What goes out

    def via(self):
        return f"SIP/2.0/{self.transport} {self.host};rport;branch={sip.new_branch()}"

    def contact(self):
        raise NotImplementedError

    def aor(self, user=None):
        return f"sip:{user or self.name}@{self.domain}"

    def request(self, method, uri=None, to=None, headers=(), body=b"", cseq=1, contact=True):
        """A request outside a dialog, not sent yet."""
        uri = uri or f"sip:{self.domain}"
        message = sip.Message(
            f"{method} {uri} SIP/2.0",
            [
                ("Via", self.via()),
                ("Max-Forwards", "70"),
                ("From", f"<{self.aor()}>;tag={sip.new_tag()}"),
                ("To", f"<{to or uri}>"),
                ("Call-ID", f"{os.urandom(8).hex()}@{self.name}"),
                ("CSeq", f"{cseq} {method}"),
            ],
            body,
        )
        if contact and method not in ("OPTIONS", "MESSAGE", "BYE", "CANCEL", "ACK", "PRACK"):
            message.headers.append(("Contact", self.contact()))
        message.headers += list(headers)
        if body and message.get("Content-Type") is None:
            message.headers.append(("Content-Type", "application/sdp"))
        return message

    def invite(self, uri, body=None, headers=()):
        return self.request("INVITE", uri, headers=headers, body=sip.sdp() if body is None else body)

    def response(self, request, status, reason="", headers=(), body=b"", tag=None):
        message = sip.Message(f"SIP/2.0 {status} {reason or 'Because'}")
        for name, value in request.headers:
            if name in ("Via", "From", "Call-ID", "CSeq"):
                message.headers.append((name, value))
            elif name == "Record-Route" and status > 100:
                message.headers.append((name, value))
            elif name == "To":
                if sip.parameter(value, "tag") is None and status > 100:
                    request.to_tag = tag or getattr(request, "to_tag", None) or sip.new_tag()
                    value += f";tag={request.to_tag}"
                message.headers.append((name, value))
        if request.method in ("INVITE", "SUBSCRIBE", "REFER", "UPDATE") and 100 < status < 300:
            message.headers.append(("Contact", self.contact()))
        message.headers += list(headers)
        if body and message.get("Content-Type") is None:
            message.headers.append(("Content-Type", "application/sdp"))
        message.body = body
        return message

    def respond(self, request, status, reason="", **more):
        message = self.response(request, status, reason, **more)
        self.send(message)
        return message

    def cancel(self, request):
        message = sip.Message(f"CANCEL {request.uri} SIP/2.0")
        for name, value in request.headers:
            if name in ("Max-Forwards", "From", "To", "Call-ID", "Route"):
                message.headers.append((name, value))
            elif name == "CSeq":
                message.headers.append((name, f"{request.cseq} CANCEL"))
            elif name == "Via" and not message.all("Via"):
                message.headers.append((name, value))
        self.send(message)
        return message

    def ack_failure(self, invite, response):
        """The ACK for a final response other than 2xx (RFC 3261 17.1.1.3)."""
        message = sip.Message(f"ACK {invite.uri} SIP/2.0", [("Via", invite.get("Via"))])
        message.headers += [(n, v) for n, v in invite.headers if n == "Route"]
        message.headers += [
            ("Max-Forwards", "70"),
            ("From", invite.get("From")),
            ("To", response.get("To")),
            ("Call-ID", invite.get("Call-ID")),
            ("CSeq", f"{invite.cseq} ACK"),
        ]
        self.send(message)

    def send(self, message):
        raw = message if isinstance(message, bytes) else message.bytes()
        self.trace.append(("sent", raw))
        self.send_bytes(raw)

    # What comes in

    def receive(self, timeout=10.0):
        """The next message, but for requests that were seen before."""
        deadline = time.monotonic() + timeout
        while True:
            raw = self.receive_bytes(deadline)
            self.trace.append(("received", raw))
            message = sip.parse(raw)
            if self.transport == "UDP" and message.is_request and message.method != "ACK":
                key = (message.branch, message.method)
                if key in self.seen:
                    continue
                self.seen.add(key)
            return message

    def expect(self, *what, timeout=10.0, skip=(100,)):
        """The next message, which must be one of the methods or statuses given. Messages in
        `skip` that come before it are passed over."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.receive(max(0.0, deadline - time.monotonic()))
            kind = message.method if message.is_request else message.status
            if kind in what:
                return message
            if kind not in skip:
                raise AssertionError(f"{self.name} wants {what}, got:\n{message!r}")

    def quiet(self, seconds=0.3, skip=(100,)):
        """Nothing comes (but what is in `skip`) for so long."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                message = self.receive(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return
            kind = message.method if message.is_request else message.status
            if kind not in skip:
                raise AssertionError(f"{self.name} wants nothing, got:\n{message!r}")

    def text(self):
        return "\n".join(
            f"--- {self.name} {way}\n{raw.decode('utf-8', 'replace')}" for way, raw in self.trace[-12:]
        )


class Client(End):
    """A client on the access side: one connection."""

    uri_transport = "?"

    def __init__(self, lab, edge, name, password=None):
        super().__init__()
        self.name, self.edge = name, edge
        self.password = password or f"pw-{name}"
        self.instance = f"<urn:uuid:00000000-0000-4000-8000-{os.urandom(6).hex()}>"
        self.register_id = f"{os.urandom(8).hex()}@{name}"
        self.register_cseq = 0
        self.buffer = b""
        self.pongs = 0
        self.ragged = False  # the connection ended without a close_notify
        self.context = ssl.create_default_context(cafile=edge.ca.file)
        self.socket = None
        lab.ends.append(self)

    def connect(self, port, alpn=None):
        if alpn:
            self.context.set_alpn_protocols(alpn)
        plain = socket.create_connection((self.edge.address, port), 10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = self.context.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        )
        address, port = self.socket.getsockname()[:2]
        self.host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def close(self):
        if self.socket:
            self.socket.close()

    def read_more(self, deadline):
        """Bytes of the connection. TimeoutError, Closed."""
        while True:
            try:
                self.socket.settimeout(0)
                data = self.socket.recv(65536)
            except (ssl.SSLWantReadError, BlockingIOError):
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                    raise TimeoutError(f"nothing for {self.name} in time") from None
                continue
            except (ConnectionResetError, ssl.SSLEOFError) as error:
                self.ragged = True
                raise Closed(f"{self.name}: {error}") from None
            finally:
                self.socket.settimeout(10)
            if not data:
                raise Closed(f"{self.name}: closed")
            return data

    def contact(self):
        return f"<sip:{self.name}@{self.host};transport={self.uri_transport}>"

    def register(self, expires=300, status=200, contact=None, headers=(), user=None):
        """REGISTER, with digest when asked for it. Returns the final response."""
        user = user or self.name
        answer = self.register_once(expires, contact, headers)
        if answer.status in (401, 407) and self.password:
            name = "WWW-Authenticate" if answer.status == 401 else "Proxy-Authenticate"
            challenge = sip.challenge(answer, name)
            value = sip.digest(challenge, "REGISTER", f"sip:{self.domain}", user, self.password)
            into = "Authorization" if answer.status == 401 else "Proxy-Authorization"
            answer = self.register_once(expires, contact, [*headers, (into, value)])
        assert answer.status == status, f"wanted {status}, got:\n{answer!r}"
        return answer

    def register_request(self, expires, contact=None, headers=()):
        self.register_cseq += 1
        message = self.request(
            "REGISTER", to=self.aor(), cseq=self.register_cseq, headers=headers, contact=False
        )
        message.set("Call-ID", self.register_id)
        message.headers.append(
            (
                "Contact",
                contact or f'{self.contact()};reg-id=1;+sip.instance="{self.instance}"',
            )
        )
        message.headers += [("Expires", str(expires)), ("Supported", "path, outbound, gruu")]
        return message

    def register_once(self, expires, contact, headers):
        message = self.register_request(expires, contact, headers)
        self.send(message)
        answer = self.receive()
        while answer.status == 100:
            answer = self.receive()
        assert not answer.is_request and answer.branch == message.branch, repr(answer)
        return answer

    def call(self, uri, body=None, headers=()):
        """INVITE. Returns it, with the answer still to come."""
        invite = self.invite(uri, body=body, headers=headers)
        self.send(invite)
        return invite

    def call_with_digest(self, uri, body=None, headers=()):
        """INVITE that is challenged, and again with digest. Returns the second."""
        invite = self.call(uri, body, headers)
        answer = self.expect(401, 407)
        self.ack_failure(invite, answer)
        name, into = {
            401: ("WWW-Authenticate", "Authorization"),
            407: ("Proxy-Authenticate", "Proxy-Authorization"),
        }[answer.status]
        again = invite.copy().set("CSeq", "2 INVITE").set("Via", self.via())
        again.headers.append(
            (into, sip.digest(sip.challenge(answer, name), "INVITE", uri, self.name, self.password))
        )
        self.send(again)
        return again


class TlsClient(Client):
    """SIP over TLS (RFC 3261 26.3.2.1)."""

    transport, uri_transport = "TLS", "tls"

    def __init__(self, lab, edge, name, password=None):
        super().__init__(lab, edge, name, password)
        self.connect(edge.tls_port)

    def send_bytes(self, raw):
        self.socket.sendall(raw)

    def receive_bytes(self, deadline):
        while True:
            while self.buffer.startswith(b"\r\n"):
                self.buffer = self.buffer[2:]
                self.pongs += 1
            raw, self.buffer = sip.cut(self.buffer)
            if raw:
                return raw
            self.buffer += self.read_more(deadline)

    def wait_closed(self, timeout=10.0):
        """What still came (bytes) until the connection was closed."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.buffer += self.read_more(deadline)
            except Closed:
                return self.buffer


class WssClient(Client):
    """SIP over secure WebSocket (RFC 7118), framed by python3-websockets."""

    transport, uri_transport = "WSS", "ws"

    def __init__(self, lab, edge, name, password=None, subprotocols=("sip",), path="/"):
        super().__init__(lab, edge, name, password)
        self.connect(edge.wss_port)
        uri = parse_uri(f"wss://localhost:{edge.wss_port}{path}")
        self.ws = WebSocket(uri, subprotocols=list(subprotocols))
        self.ws.send_request(self.ws.connect())
        self.messages, self.fragments, self.close_code = [], [], None
        self.flush()
        deadline = time.monotonic() + 10
        while self.ws.state.name == "CONNECTING" and not self.ws.handshake_exc:
            self.feed(deadline)
        if self.ws.handshake_exc:
            raise self.ws.handshake_exc
        assert self.ws.subprotocol == "sip"
        self.host = f"{os.urandom(6).hex()}.invalid"  # RFC 7118 5: as a browser has to

    def flush(self):
        for data in self.ws.data_to_send():
            if data:
                self.socket.sendall(data)

    def feed(self, deadline):
        self.ws.receive_data(self.read_more(deadline))
        self.flush()  # pongs, close
        for event in self.ws.events_received():
            if not hasattr(event, "opcode"):
                continue  # the handshake's response
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self.fragments.append(bytes(event.data))
                if event.fin:
                    self.messages.append(b"".join(self.fragments))
                    self.fragments = []
            elif event.opcode is Opcode.CLOSE:
                self.close_code = int.from_bytes(event.data[:2], "big") if event.data else 1005

    def send_bytes(self, raw):
        try:
            raw.decode()
            self.ws.send_text(raw)
        except UnicodeDecodeError:
            self.ws.send_binary(raw)
        self.flush()

    def send_fragments(self, raw, count):
        """One message in so many frames, each written on its own."""
        self.trace.append(("sent", raw))
        size = -(-len(raw) // count)
        parts = [raw[i : i + size] for i in range(0, len(raw), size)]
        self.ws.send_text(parts[0], fin=len(parts) == 1)
        self.flush()
        for i, part in enumerate(parts[1:], 2):
            self.ws.send_continuation(part, fin=i == len(parts))
            self.flush()
        return len(parts)

    def receive_bytes(self, deadline):
        while True:
            while self.messages:
                raw = self.messages.pop(0)
                if raw.strip(b"\r\n"):
                    return raw
                self.pongs += 1
            self.feed(deadline)

    def wait_closed(self, timeout=10.0):
        """The close code that came (None: none came)."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.feed(deadline)
            except Closed:
                return self.close_code


class Pbx(End):
    """A registrar or PBX on the core side: one UDP socket."""

    transport = "UDP"

    kind = socket.SOCK_DGRAM

    def __init__(self, lab, name="pbx", address="127.0.0.1", port=0):
        super().__init__()
        self.name = name
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(self.family, self.kind)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port or net.free_port(address)))
        self.address, self.port = self.socket.getsockname()[:2]
        self.host = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self.edge = None  # set by whoever starts the edge
        lab.ends.append(self)

    def close(self):
        self.socket.close()

    def contact(self):
        return f"<sip:{self.name}@{self.host}>"

    def send_bytes(self, raw):
        self.socket.sendto(raw, self.edge.core)

    def receive_bytes(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0 and not select.select([self.socket], [], [], 0)[0]:
            raise TimeoutError(f"nothing for {self.name} in time")
        self.socket.settimeout(max(left, 0.001))
        try:
            raw, source = self.socket.recvfrom(65536)
        except socket.timeout:
            raise TimeoutError(f"nothing for {self.name} in time") from None
        assert source[:2] == self.edge.core[:2], f"from {source}, not the edge's core address"
        return raw

    def accept_register(self, expires=300):
        """Answer the next REGISTER with 200. Returns (the request, its Contact's URI)."""
        register = self.expect("REGISTER")
        contact = register.get("Contact")
        headers = [("Contact", f"{contact};expires={expires}")]
        headers += [("Path", p) for p in register.all("Path")]
        self.respond(register, 200, "OK", headers=headers)
        return register, sip.uri_of(contact)

    def forward(self, request, uri, routes=(), record_route=False):
        """Act as a proxy: send a request on through the edge. Returns what was sent."""
        onward = request.copy()
        onward.start = f"{request.method} {uri} SIP/2.0"
        onward.set("Max-Forwards", str(int(request.get("Max-Forwards")) - 1))
        onward.set("Route", *routes)
        if record_route:
            onward.push("Record-Route", f"<sip:{self.host};lr>")
        onward.push("Via", self.via())
        self.send(onward)
        return onward

    def forward_response(self, response):
        """Act as a proxy: take off our Via and send a response on."""
        onward = response.copy()
        place = next(i for i, (n, _) in enumerate(onward.headers) if n == "Via")
        assert self.host in onward.headers[place][1], repr(response)
        del onward.headers[place]
        self.send(onward)
        return onward


class TcpPbx(Pbx):
    """The same over TCP. It answers on the connection that a request came on, and sends its own
    requests by one that it opens."""

    transport, kind = "TCP", socket.SOCK_STREAM

    def __init__(self, lab, name="pbx", address="127.0.0.1", port=0):
        super().__init__(lab, name, address, port)
        self.socket.listen(16)
        self.connections = {}  # socket: bytes that are not yet a message
        self.came_on = {}  # branch of a request: its socket
        self.own = None
        self.pings = 0

    def contact(self):
        return f"<sip:{self.name}@{self.host};transport=tcp>"

    def connect(self):
        """The connection for its own requests, anew."""
        self.own = socket.create_connection(self.edge.core[:2], 10, (self.address, 0))
        self.own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections[self.own] = b""
        return self.own

    def hang_up(self):
        """Close all connections, not the listening socket."""
        for connection in self.connections:
            connection.close()
        self.connections, self.came_on, self.own = {}, {}, None

    def close(self):
        self.hang_up()
        self.socket.close()

    def reopen(self):
        """Listen again after close()."""
        self.socket = socket.socket(self.family, self.kind)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((self.address, self.port))
        self.socket.listen(16)

    def send_bytes(self, raw):
        connection = None
        if raw.startswith(b"SIP/2.0 "):
            branch = re.search(rb"branch=([^;,\s]+)", raw).group(1)
            connection = self.came_on.get(branch)
        (connection or self.own or self.connect()).sendall(raw)

    def receive_bytes(self, deadline):
        while True:
            for connection, data in self.connections.items():
                while data.startswith(b"\r\n"):
                    data, self.pings = data[2:], self.pings + 1
                raw, self.connections[connection] = sip.cut(data)
                if raw:
                    if not raw.startswith(b"SIP/2.0 "):
                        branch = re.search(rb"branch=([^;,\s]+)", raw).group(1)
                        self.came_on[branch] = connection
                    return raw
            self.read_some(deadline)

    def read_some(self, deadline):
        left = max(0.0, deadline - time.monotonic())
        ready = select.select([self.socket, *self.connections], [], [], left)[0]
        if not ready:
            raise TimeoutError(f"nothing for {self.name} in time")
        for connection in ready:
            if connection is self.socket:
                accepted, source = self.socket.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                assert source[0] == self.edge.core[0], f"from {source}, not the core address"
                self.connections[accepted] = b""
                continue
            data = connection.recv(65536)
            if not data:
                raise Closed(f"{self.name}: closed")
            self.connections[connection] += data


class Dialog:
    """One end's view of a dialog (RFC 3261 12)."""

    def __init__(self, end, local, remote, call_id, target, routes, cseq):
        self.end, self.local, self.remote, self.call_id = end, local, remote, call_id
        self.target, self.routes, self.cseq = target, routes, cseq

    @classmethod
    def of_caller(cls, end, invite, response):
        return cls(
            end,
            invite.get("From"),
            response.get("To"),
            invite.get("Call-ID"),
            sip.uri_of(response.get("Contact")),
            response.all("Record-Route")[::-1],
            invite.cseq,
        )

    @classmethod
    def of_callee(cls, end, invite, response):
        return cls(
            end,
            response.get("To"),
            invite.get("From"),
            invite.get("Call-ID"),
            sip.uri_of(invite.get("Contact")),
            invite.all("Record-Route"),
            0,
        )

    def request(self, method, headers=(), body=b"", cseq=None):
        """Make and send a request in the dialog."""
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        message = self.end.request(method, self.target, headers=headers, body=body, cseq=cseq)
        message.set("From", self.local).set("To", self.remote).set("Call-ID", self.call_id)
        for route in reversed(self.routes):
            message.push("Route", route)
        # Via stays on top: Route is put where the first Route stands, which was the top
        vias = message.all("Via")
        message.set("Via")
        message.headers[:0] = [("Via", v) for v in vias]
        self.end.send(message)
        return message

    def ack(self, invite, body=b""):
        return self.request("ACK", cseq=invite.cseq, body=body)


def establish(caller, invite, callee, answer_body=None, ring=True):
    """Answer an INVITE that is on its way. Returns (the caller's dialog, the callee's)."""
    arrived = callee.expect("INVITE")
    if ring:
        callee.respond(arrived, 180, "Ringing")
        ringing = caller.expect(180)
        assert ringing.get("Record-Route") or isinstance(caller, Pbx)
    answer = callee.respond(
        arrived, 200, "OK", body=sip.sdp(port=40002) if answer_body is None else answer_body
    )
    answered = caller.expect(200)
    assert answered.body == answer.body
    caller_dialog = Dialog.of_caller(caller, invite, answered)
    callee_dialog = Dialog.of_callee(callee, arrived, answer)
    caller_dialog.ack(invite)
    callee.expect("ACK")
    return caller_dialog, callee_dialog


def hang_up(dialog, other):
    """BYE from one end of a dialog, 200 from the other."""
    dialog.request("BYE")
    other.end.respond(other.end.expect("BYE"), 200, "OK")
    dialog.end.expect(200)


def host_port(uri):
    """(host, port) of a SIP URI, 5060 where it has none."""
    m = re.match(r"sips?:(?:[^@>]*@)?(\[[^\]]*\]|[^:;?>]+)(?::(\d+))?", uri)
    return m.group(1).strip("[]"), int(m.group(2) or 5060)
