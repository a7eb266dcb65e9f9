"""Many scripted ends at once, on one asyncio loop: phones over TLS and WSS that can vanish in any
way, and a PBX that keeps the timers of RFC 3261 over a UDP that may be as bad as it likes.

Messages are made as in ends.py; what comes is sorted by Call-ID, one leg for each call."""

import asyncio
import collections
import ctypes
import random
import socket
import struct

from websockets.uri import parse_uri

from . import sip
from .ends import Client, End, WebSocket

T1, T2, GIVE_UP = 0.5, 4.0, 32.0  # RFC 3261 17.1.1.1; timers B, F, H
WAYS = ("close", "fin", "rst", "silence")


# Why the edge hangs up on phones that a machine with too much to do made late: each has its limit.
LATE = (
    "handshake timeout",
    "HTTP upgrade not finished in time",
    "first message timeout",
    "message timeout",
    "idle timeout",
    "ping missed",
)


class Gone(AssertionError):
    """The connection was closed. `why`: what the edge's log says; None: the phone vanished."""

    def __init__(self, phone, what):
        self.why = None if phone.gone else phone.edge.why_closed(phone.peer)
        end = f"vanished: {phone.gone}" if phone.gone else f"was hung up on: {self.why}"
        super().__init__(f"{phone.name} {what}, then {end}")


def kind_of(message):
    return message.method if message.is_request else message.status


class Leg:
    """What one end was sent in one call."""

    def __init__(self, end, call_id):
        self.end, self.call_id, self.queue, self.got = end, call_id, asyncio.Queue(), []

    async def expect(self, *what, timeout=20.0, skip=(100,)):
        """The next message, which must be one of the methods or statuses given."""
        while True:
            try:
                message = await asyncio.wait_for(self.queue.get(), timeout)
            except asyncio.TimeoutError:
                raise AssertionError(f"{self.end.name} wants {what}, got {self.got}") from None
            if message is None:
                raise Gone(self.end, f"wants {what}, got {self.got}")
            kind = kind_of(message)
            self.got.append(kind)
            if kind in what:
                return message
            if kind not in skip:
                raise AssertionError(f"{self.end.name} wants {what}, got {self.got}:\n{message!r}")


class Crowded:
    """What phones and the PBX have in common."""

    def start(self):
        self.legs = {}
        self.called = None  # coroutine function: (leg, request), for calls that nobody waits for
        self.errors = []  # what no end may ever see
        self.counts = collections.Counter()  # new requests by (Call-ID, method, CSeq)
        self.tasks = set()

    def leg(self, call_id):
        if call_id not in self.legs:
            self.legs[call_id] = Leg(self, call_id)
        return self.legs[call_id]

    def task(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)

        def done(task):
            self.tasks.discard(task)
            if not task.cancelled() and task.exception():
                self.errors.append(task.exception())

        task.add_done_callback(done)
        return task

    def stop_tasks(self):
        for task in list(self.tasks):
            task.cancel()

    def deliver(self, message):
        call_id = message.get("Call-ID")
        new = call_id not in self.legs
        self.leg(call_id).queue.put_nowait(message)
        if new and message.is_request and self.called:
            self.task(self.called(self.leg(call_id), message))

    async def repeat(self, raw, until, limit=T2):
        """Send again and again, at first after T1, until until()."""
        loop = asyncio.get_running_loop()
        end, interval = loop.time() + GIVE_UP, T1
        while loop.time() + interval < end:
            await asyncio.sleep(interval)
            if until():
                return
            self.send_bytes(raw)
            interval = min(2 * interval, limit)


# ---- phones ----


class Phone(Crowded, Client):
    """A client on one connection. It sends requests and refusals once, as nothing gets lost on its
    connection; 2xx to INVITE until ACK, and ACK for each 2xx, as RFC 3261 13 asks of any."""

    def __init__(self, lab, edge, name, kind="tls", keepalive=None):
        super().__init__(lab, edge, name)
        self.start()
        self.kind = kind
        self.transport, self.uri_transport = {"tls": ("TLS", "tls"), "wss": ("WSS", "ws")}[kind]
        self.keepalive = keepalive  # seconds between pings (RFC 5626 3.5.1); None: none
        self.answered = {}  # Call-ID: whether our 2xx was acknowledged
        self.acks = {}  # (Call-ID, CSeq number): the ACK that we sent
        self.requests, self.finals = set(), collections.Counter()
        self.ws = self.writer = self.plain = None
        self.open, self.gone = False, None  # gone: the way in which it vanished
        self.fragments = []

    async def connect(self):
        self.loop = asyncio.get_running_loop()
        port = self.edge.tls_port if self.kind == "tls" else self.edge.wss_port
        self.plain = socket.socket()
        self.plain.setblocking(False)
        await self.loop.sock_connect(self.plain, (self.edge.address, port))
        self.plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = self.peer = "%s:%d" % self.plain.getsockname()[:2]
        try:
            self.reader, self.writer = await asyncio.open_connection(
                sock=self.plain, ssl=self.context, server_hostname="localhost"
            )
            self.open = True
            if self.kind == "wss":
                await self.upgrade(port)
        except OSError as error:
            self.open = False
            raise Gone(self, f"connects, {error!r}") from error
        self.task(self.read())
        if self.keepalive:
            self.task(self.ping())
        return self

    async def upgrade(self, port):
        self.ws = WebSocket(parse_uri(f"wss://localhost:{port}/"), subprotocols=["sip"])
        self.ws.send_request(self.ws.connect())
        self.flush()
        while self.ws.state.name == "CONNECTING" and not self.ws.handshake_exc:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionResetError("the end, in the upgrade")
            self.feed(data)
        if self.ws.handshake_exc:
            raise self.ws.handshake_exc
        self.host = f"{random.getrandbits(48):012x}.invalid"

    def flush(self):
        for data in self.ws.data_to_send():
            if data and self.open:
                self.writer.write(data)

    def send_bytes(self, raw):
        if not self.open:
            return
        if self.ws:
            self.ws.send_text(raw)
            self.flush()
        else:
            self.writer.write(raw)

    async def ping(self):
        while self.open:
            await asyncio.sleep(self.keepalive)
            self.send_bytes(b"\r\n\r\n")

    async def read(self):
        try:
            while self.open:
                data = await self.reader.read(65536)
                if not data:
                    break
                self.feed(data)
        except (ConnectionError, OSError):
            pass
        self.open = False
        for leg in self.legs.values():
            leg.queue.put_nowait(None)

    def feed(self, data):
        if self.ws:
            self.ws.receive_data(data)
            self.flush()
            for event in self.ws.events_received():
                if getattr(event, "opcode", None) in (0, 1, 2):
                    self.fragments.append(bytes(event.data))
                    if event.fin:
                        self.take(b"".join(self.fragments))
                        self.fragments = []
            if self.ws.state.name in ("CLOSING", "CLOSED"):
                self.open = False  # by the edge: nothing more can be sent
            return
        self.buffer += data
        while True:
            while self.buffer.startswith(b"\r\n"):
                self.buffer = self.buffer[2:]
            raw, self.buffer = sip.cut(self.buffer)
            if not raw:
                return
            self.take(raw)

    def take(self, raw):
        if not raw.strip(b"\r\n"):
            return
        self.trace.append(("received", raw))
        message = sip.parse(raw)
        call_id = message.get("Call-ID")
        if message.is_request:
            self.take_request(message, call_id)
        elif message.method == "INVITE" and 200 <= message.status < 300:
            key = (call_id, message.cseq, message.method)
            self.finals[key] += 1
            if self.finals[key] == 1:
                self.deliver(message)
            elif key[:2] in self.acks:
                self.send(self.acks[key[:2]])  # the one that we sent got lost
        else:
            if message.status >= 200:
                key = (call_id, message.cseq, message.method)
                self.finals[key] += 1
                if self.finals[key] > 1:
                    self.errors.append(f"{self.name} got a second final response:\n{message!r}")
            self.deliver(message)

    def take_request(self, message, call_id):
        if message.method == "ACK":
            if self.answered.get(call_id):
                return  # for a 2xx that we sent again
            self.answered[call_id] = True
        else:
            key = (call_id, message.cseq, message.method)
            if key in self.requests:
                self.errors.append(f"{self.name} got it twice:\n{message!r}")
            self.requests.add(key)
            self.counts[call_id, message.method, message.cseq] += 1
        self.deliver(message)

    def send(self, message):
        super().send(message)
        if isinstance(message, bytes):
            return
        if message.is_request and message.method == "ACK":
            self.acks[message.get("Call-ID"), message.cseq] = message
        elif not message.is_request and message.method == "INVITE" and message.status // 100 == 2:
            call_id = message.get("Call-ID")
            self.answered[call_id] = False
            self.task(
                self.repeat(message.bytes(), lambda: not self.open or self.answered[call_id])
            )

    async def register(self, expires=300, timeout=35.0):
        """REGISTER, with digest where that is asked for. Returns the 200."""
        leg = self.leg(self.register_id)
        self.send(self.register_request(expires))
        answer = await leg.expect(200, 401, timeout=timeout)
        if answer.status == 401:
            challenge = sip.challenge(answer, "WWW-Authenticate")
            value = sip.digest(
                challenge, "REGISTER", f"sip:{self.domain}", self.name, self.password
            )
            self.send(self.register_request(expires, headers=[("Authorization", value)]))
            answer = await leg.expect(200, timeout=timeout)
        return answer

    def lost(self):
        """It was hung up on, and asyncio has closed the socket."""
        return self.plain.fileno() < 0

    def vanish(self, way):
        """close: as a client that ends properly; fin: as one that is killed; rst: as one whose
        system knows nothing of it any more; silence: as one that drove into a tunnel."""
        self.gone = way
        if self.lost() or not self.open:
            self.hang_up()
        elif way == "silence":
            # This kernel drops whatever comes for the socket, and acknowledges nothing.
            program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # ret 0
            so_attach_filter = 26
            self.plain.setsockopt(
                socket.SOL_SOCKET,
                so_attach_filter,
                struct.pack("HL", 1, ctypes.addressof(program)),
            )
        elif way == "close":
            if self.ws:
                self.ws.send_close(1000)
                self.flush()
            self.writer.close()
        else:
            if way == "rst":
                self.plain.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            self.writer.transport.abort()
        self.open = False
        self.stop_tasks()

    def hang_up(self):
        """Whatever was left of it."""
        self.open = False
        self.stop_tasks()
        if self.writer and not self.lost():
            self.writer.transport.abort()

    def close(self):
        """The lab's word for it, when the loop may be over."""
        if self.writer and not self.loop.is_closed():
            self.hang_up()


# ---- the network in between ----


class Weather:
    """What happens to datagrams, one after the other. Each is a probability."""

    def __init__(self, seed, loss=0.1, twice=0.1, late=0.1, disorder=0.1):
        self.random = random.Random(seed)
        self.loss, self.twice, self.late, self.disorder = loss, twice, late, disorder
        self.held = []
        self.happened = collections.Counter()

    def chance(self, what):
        hit = self.random.random() < getattr(self, what)
        self.happened[what] += hit
        return hit

    def carry(self, raw, deliver):
        self.happened["all"] += 1
        if self.chance("loss"):
            return
        for _ in range(2 if self.chance("twice") else 1):
            if self.chance("late"):
                asyncio.get_running_loop().call_later(
                    self.random.uniform(0.05, 0.8), deliver, raw
                )
            elif self.chance("disorder"):
                self.held.append((deliver, raw))
                asyncio.get_running_loop().call_later(0.1, self.let_go)
            else:
                deliver(raw)
                self.let_go()

    def let_go(self):
        held, self.held = self.held, []
        for deliver, raw in held:
            deliver(raw)


# ---- the PBX ----


class Transaction:
    def __init__(self, message):
        self.message = message
        self.last = None  # server: bytes of its newest response
        self.status = 0
        self.acked = False
        self.ack = None  # client, INVITE answered by 2xx: the ACK


class Exchange(Crowded, End, asyncio.DatagramProtocol):
    """A PBX over UDP: server and client transactions with their timers. It absorbs what comes again.
    By itself it answers REGISTER, sends 100 to an INVITE at once, and answers CANCEL by 200, and the
    INVITE by 487. Two users are different. mute: nothing is answered; crossing: when CANCEL comes,
    the INVITE is answered by 200."""

    transport = "UDP"

    def __init__(self, lab, name="pbx", address="127.0.0.1", weather=None):
        super().__init__()
        self.start()
        self.name, self.weather, self.edge = name, weather, None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind((address, 0))
        self.host = "%s:%d" % self.socket.getsockname()[:2]
        self.servers, self.clients = {}, {}
        self.bound, self.paths = {}, {}  # by user
        self.repeated = collections.Counter()  # by method or status
        self.udp = None
        lab.ends.append(self)

    async def open(self):
        self.loop = asyncio.get_running_loop()
        self.udp, _ = await self.loop.create_datagram_endpoint(lambda: self, sock=self.socket)
        return self

    def connection_made(self, transport):
        pass

    def close(self):
        if self.udp and not self.loop.is_closed():
            self.stop_tasks()
            self.udp.abort()
        self.socket.close()

    def contact(self):
        return f"<sip:{self.name}@{self.host}>"

    def send_bytes(self, raw):
        if self.weather:
            self.weather.carry(raw, self.put)
        else:
            self.put(raw)

    def put(self, raw):
        if self.udp and not self.udp.is_closing():
            self.udp.sendto(raw, self.edge.core)

    def send(self, message):
        super().send(message)
        key = (message.branch, message.method)
        if message.is_request:
            if message.method == "ACK":
                return
            client = self.clients[key] = Transaction(message)
            invite = message.method == "INVITE"
            self.task(
                self.repeat(
                    message.bytes(),
                    lambda: client.status >= 200 or (invite and client.status),
                    GIVE_UP if invite else T2,
                )
            )
            return
        server = self.servers[key]
        server.last, server.status = message.bytes(), message.status
        if message.status >= 200 and message.method == "INVITE":
            self.task(self.repeat(server.last, lambda: server.acked))

    def datagram_received(self, raw, source):
        if source[:2] != self.edge.core[:2]:
            self.errors.append(f"from {source}, not the edge's core address")
        elif self.weather:
            self.weather.carry(raw, self.take)
        else:
            self.take(raw)

    def take(self, raw):
        self.trace.append(("received", raw))
        message = sip.parse(raw)
        if message.is_request:
            self.take_request(message)
        else:
            self.take_response(message)

    def take_request(self, message):
        key = (message.branch, message.method)
        if message.method == "ACK":
            self.take_ack(message)
            return
        server = self.servers.get(key)
        if server:
            self.repeated[message.method] += 1
            if server.last:
                self.send_bytes(server.last)
            return
        server = self.servers[key] = Transaction(message)
        self.counts[message.get("Call-ID"), message.method, message.cseq] += 1
        if "sip:mute" not in message.get("To"):
            self.act(message)
        self.deliver(message)

    def act(self, message):
        if message.method == "INVITE":
            self.respond(message, 100, "Trying")
        elif message.method == "REGISTER":
            self.accept(message)
        elif message.method == "CANCEL":
            invite = self.servers.get((message.branch, "INVITE"))
            self.respond(message, 200 if invite else 481)
            if invite and invite.status < 200:
                crossing = "sip:crossing" in message.get("To")
                self.respond(invite.message, 200 if crossing else 487)

    def take_ack(self, ack):
        """For a refusal by its branch; for a 2xx by its dialog."""
        server = self.servers.get((ack.branch, "INVITE"))
        if not server:
            same = [
                s
                for (_, method), s in self.servers.items()
                if method == "INVITE"
                and s.message.get("Call-ID") == ack.get("Call-ID")
                and s.message.cseq == ack.cseq
            ]
            server = same[0] if same else None
            if not server or server.status // 100 != 2:
                self.errors.append(f"an ACK for nothing:\n{ack!r}")
                return
        if not server.acked:
            server.acked = True
            self.deliver(ack)

    def accept(self, register):
        user = sip.uri_of(register.get("To")).split(":")[1].split("@")[0]
        contact = register.get("Contact")
        self.bound[user], self.paths[user] = sip.uri_of(contact), register.all("Path")
        headers = [("Contact", f"{contact};expires={register.get('Expires')}")]
        self.respond(
            register, 200, "OK", headers=headers + [("Path", p) for p in register.all("Path")]
        )

    def take_response(self, message):
        client = self.clients.get((message.branch, message.method))
        if not client:
            self.errors.append(f"a response to nothing:\n{message!r}")
            return
        before, status = client.status, message.status
        if before >= 200:
            self.repeated[status] += 1
            # A CANCEL that is repeated when its INVITE is over gets 481.
            if status >= 200 and status != before and message.method != "CANCEL":
                self.errors.append(f"{before}, and then:\n{message!r}")
        else:
            client.status = max(before, status)
        if message.method == "INVITE" and status >= 300:
            self.ack_failure(client.message, message)
        elif client.ack and status // 100 == 2:
            self.send_bytes(client.ack)
        if before < 200 and before != status:
            self.deliver(message)

    def ack(self, dialog, invite):
        """ACK for the 2xx to our INVITE, again for each one that comes."""
        ack = dialog.ack(invite)
        self.clients[invite.branch, "INVITE"].ack = ack.bytes()
        return ack

    def request_to(self, method, user, **more):
        """A request to a registered user, not sent yet."""
        message = self.request(method, self.bound[user], **more)
        for path in reversed(self.paths[user]):
            message.headers.insert(1, ("Route", path))
        return message


async def gather(coroutines, at_once):
    """Run them, so many at a time. The first error of one is raised when all are done."""
    gate = asyncio.Semaphore(at_once)

    async def one(coroutine):
        async with gate:
            return await coroutine

    results = await asyncio.gather(*(one(c) for c in coroutines), return_exceptions=True)
    errors = [r for r in results if isinstance(r, BaseException)]
    if errors:
        some = "\n".join(str(e).split("\n")[0] for e in errors[:20])
        raise AssertionError(f"{len(errors)} of {len(results)} failed:\n{some}") from errors[0]
    return results
