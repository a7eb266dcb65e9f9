"""All torture entries, thrown at the running program: over TLS, over WSS, and at its core address.

Each comes to the outcome that its entry wants, what passes is answered and the answer finds its way
back, and behind them all a call is made as ever. Run it by hand:
SIPWARD=build/dev/sipward /usr/bin/python3 -m pytest tests/torture/test_front_door.py"""

import pytest
from entries import expand, read_all
from harness import sip
from harness.ends import Closed

ENTRIES = read_all()
BUSY = 486  # the answer to what passes


class Lane:
    """One end that throws entries and the end that gets what passes, with a sentinel behind each:
    what came before it, is all that came."""

    def __init__(self, edge, pbx, sender, receiver):
        self.edge, self.pbx, self.sender, self.receiver = edge, pbx, sender, receiver
        self.asked = None  # branch of the request that the entry is a response to
        self.refusals = set()  # of INVITEs, that the PBX has got

    def here(self, raw):
        """The addresses of the entries are those of the tests without sockets."""
        core = "%s:%d" % self.edge.core
        raw = raw.replace(b"10.0.0.2:5060", core.encode()).replace(b"10.0.0.2", core.encode())
        return raw.replace(b"10.0.0.5", self.pbx.host.encode())

    def sentinel(self):
        message = self.sender.request("MESSAGE", "sip:sentinel@sip.test", contact=False)
        for route in self.routes():
            message.push("Route", route)
        return message

    def routes(self):
        return self.receiver.paths if self.sender is self.pbx else []

    def receive(self, end):
        """The next message. A refused INVITE of an entry is not acknowledged by the PBX, so that over
        UDP its refusal comes again and again (RFC 3261 17.2.1): that is passed over."""
        while True:
            message = end.receive()
            if end is not self.pbx or message.is_request or message.status < 300:
                return message
            raw = message.bytes()
            if message.method != "INVITE" or raw not in self.refusals:
                self.refusals.add(raw)
                return message

    def passed(self, sentinel):
        """What reaches the receiver before the sentinel; requests are answered."""
        got = []
        while True:
            message = self.receive(self.receiver)
            if message.get("Call-ID") == sentinel.get("Call-ID"):
                self.receiver.respond(message, 200)
                return got
            if message.is_request and message.method != "ACK":
                self.receiver.respond(message, BUSY)
                got.append(message)
            elif message.branch == self.asked and message.status > 100:
                got.append(message)

    def answers(self, sentinel, mark=None):
        """Final responses to the sender before that to the sentinel, with the mark in their Via."""
        got = []
        while True:
            message = self.receive(self.sender)
            if message.get("Call-ID") == sentinel.get("Call-ID"):
                return got
            strange = mark and "z9hG4bKn" in message.get("Via") and mark not in message.get("Via")
            if not message.is_request and message.status > 100 and not strange:
                got.append(message)


def compare(entry, want, passed, answers):
    """What is not as it should be, as text; empty: nothing."""
    statuses = [a.start[len("SIP/2.0 ") :] for a in answers if a.status != BUSY]
    busy = {a.get("Via") + a.get("CSeq") for a in answers if a.status == BUSY}
    wrong = []
    if len(passed) != want.passes:
        wrong.append(f"{len(passed)} messages passed, not {want.passes}")
    if statuses != want.statuses:
        wrong.append(f"answered {statuses}, not {want.statuses}")
    if not entry.of and len(busy) != want.passes:
        wrong.append(f"{len(busy)} answers came back, not {want.passes}")
    return [f"{entry.name}: {what}" for what in wrong]


def before(lane, method):
    """A request the other way, that the entry is a response to. Returns its Via lines."""
    uri = lane.sender.bound if lane.receiver is lane.pbx else "sip:bob@sip.test"
    request = lane.receiver.request(method, uri, contact=False)
    request.set("Call-ID", "before").set("From", "<sip:alice@sip.test>;tag=a")
    request.set("To", "<sip:bob@sip.test>")
    for route in lane.sender.paths if lane.receiver is lane.pbx else []:
        request.push("Route", route)
    lane.asked = request.branch
    lane.receiver.send(request)
    arrived = lane.receive(lane.sender)
    assert arrived.is_request and arrived.method == method, f"{method} was sent, and came:\n{arrived!r}"
    return "\r\n".join(f"Via: {via}" for via in arrived.all("Via"))


def until(end, method):
    """The next request of a method; what else comes has been dealt with before, or gave up."""
    while True:
        message = end.receive()
        if message.is_request and message.method == method:
            return message


def registered(lab, edge, pbx, name, kind):
    client = lab.client(edge, name, kind)
    client.send(client.register_request(300))
    register = until(pbx, "REGISTER")
    client.bound, client.paths = sip.uri_of(register.get("Contact")), register.all("Path")
    pbx.respond(register, 200)
    client.expect(200)
    return client


def throw_at_access(lab, edge, pbx, kind, way, entry):
    """On a connection of its own. Returns what is wrong."""
    want = entry.ways[way]
    client = (registered(lab, edge, pbx, "alice", kind) if entry.of
              else lab.client(edge, "alice", kind))
    lane = Lane(edge, pbx, client, pbx)
    via = before(lane, entry.of) if entry.of else ""
    client.send_bytes(lane.here(expand(entry.text, "", via)))
    try:
        if want.closed:
            rest, answers = client.wait_closed(), []
            while rest:
                raw, rest = sip.cut(rest)
                answers.append(sip.parse(raw))
            return compare(entry, want, [], answers)
        if want.waits:
            return []
        sentinel = lane.sentinel()
        client.send(sentinel)
        passed = lane.passed(sentinel)
        return compare(entry, want, passed, lane.answers(sentinel))
    except (Closed, TimeoutError) as error:
        return [f"{entry.name}: {error!r}"]
    finally:
        client.close()
        lab.ends.remove(client)


def make_a_call(lab, edge, pbx, kind):
    client = registered(lab, edge, pbx, "carol", kind)
    invite = client.invite("sip:100@sip.test")
    client.send(invite)
    arrived = until(pbx, "INVITE")
    assert arrived.get("Call-ID") == invite.get("Call-ID")
    answer = pbx.respond(arrived, 200, body=sip.sdp())
    assert client.expect(200).body == answer.body


@pytest.mark.parametrize("kind, way, mode", [("tls", "tls", "mask"), ("wss", "ws", "path")])
def test_access_side_stands_torture(lab, kind, way, mode):  # V7, F3, F4, V1 to V6, N1 to N5, N8
    edge, pbx = lab.scripted(contact=mode)
    wrong = []
    for entry in ENTRIES:
        if way in entry.ways:
            wrong += throw_at_access(lab, edge, pbx, kind, way, entry)
            assert edge.process.child.poll() is None, f"{entry.name}: sipward ended"
    assert not wrong, "\n".join(wrong)
    make_a_call(lab, edge, pbx, kind)


def test_core_side_stands_torture(lab):  # V7, V1 to V6, N1 to N5, N8
    edge, pbx = lab.scripted(contact="path")
    wrong = []
    client = registered(lab, edge, pbx, "bob", "wss")
    token = sip.uri_of(client.paths[0]).split("@")[0].removeprefix("sip:")
    lane = Lane(edge, pbx, pbx, client)
    for number, entry in enumerate(ENTRIES):
        if "core" not in entry.ways:
            continue
        mark = f"z9hG4bKn{number}n"
        via = before(lane, entry.of) if entry.of else ""
        raw = lane.here(expand(entry.text, token, via))
        if not entry.of:
            # other transactions than the entries before, and answers to this very port (RFC 3581)
            raw = raw.replace(b";branch=z9hG4bK", f";rport;branch={mark}".encode())
            if "{token}" not in entry.text:
                line, end, rest = raw.partition(b"\n")
                raw = line + end + f"Route: {client.paths[0]}\r\n".encode() + rest
        pbx.send_bytes(raw)
        sentinel = lane.sentinel()
        pbx.send(sentinel)
        try:
            passed = lane.passed(sentinel)
            answers = lane.answers(sentinel, mark)
            if entry.of or mark.encode() in raw:
                wrong += compare(entry, entry.ways["core"], passed, answers)
            elif len(passed) != entry.ways["core"].passes:
                wrong.append(f"{entry.name}: {len(passed)} messages passed")
        except TimeoutError as error:
            wrong.append(f"{entry.name}: {error!r}")
        assert edge.process.child.poll() is None, f"{entry.name}: sipward ended"
    assert not wrong, "\n".join(wrong)
    make_a_call(lab, edge, pbx, "tls")
