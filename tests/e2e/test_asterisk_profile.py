"""`profile: asterisk` before Asterisk 22: as it is installed, with what others set in it, and over TCP.
What both phones say is scripted; test_asterisk.py has real ones."""

import re
import time

import pytest
from conftest import absent
from harness import net, sip
from harness.asterisk import Asterisk, why_absent
from harness.ends import Dialog
from harness.lab import Lab

USERS = ("alice", "bob", "carol", "dave")
QUALIFIED = "qualify_frequency=1\nqualify_2xx_only=yes\n"
VARIANTS = {
    "udp": {},
    "udp-rewrite": {"options": "rewrite_contact=yes\n"},
    "udp-path": {"aor": "support_path=yes\n", "contact": "path"},
    "tcp": {"by": "tcp"},
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def lab(request, tmp_path_factory, ca):
    """One for all tests of a variant: Asterisk is started once for each."""
    lab = Lab(tmp_path_factory.mktemp("asterisk"), ca)
    lab.variant = request.param
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def pbx(lab):
    reason = why_absent()
    if reason:
        absent(reason)
    options = dict(lab.variant)
    by, contact = options.pop("by", "udp"), options.pop("contact", None)
    pbx = Asterisk(lab, phones=USERS, aors={"dave": QUALIFIED}, transports=(by,), **options)
    pbx.lab, pbx.phones, pbx.contact = lab, [], contact
    pbx.edge = lab.edge(backends=[f"{by}:{pbx.host}"], contact=contact, more="profile: asterisk\n")
    return pbx


class Phone:
    """A scripted client that does by itself what any phone does: it rings, agrees to a new offer,
    answers OPTIONS and NOTIFY, hangs up when it is told to."""

    def __init__(self, pbx, name, kind="tls"):
        self.pbx, self.name = pbx, name
        self.client = pbx.lab.client(pbx.edge, name, kind)
        self.dialog = self.invite = None
        self.notified, self.finals, self.asking, self.ended = [], [], False, False
        pbx.phones.append(self)
        self.register()

    def step(self):
        try:
            message = self.client.receive(0)
        except TimeoutError:
            return
        if not message.is_request:
            if message.status >= 200:
                self.finals.append(message)
        elif message.method == "INVITE" and sip.parameter(message.get("To"), "tag") is None:
            self.invite = message
            self.client.respond(message, 180, "Ringing")
        elif message.method == "INVITE":
            if self.asking:
                self.client.respond(message, 491, "Request Pending")
            else:
                self.client.respond(message, 200, "OK", body=sip.sdp(port=40002))
        elif message.method != "ACK":
            self.client.respond(message, 200, "OK")
            self.ended |= message.method == "BYE"
            self.notified += [message.body.decode()] if message.method == "NOTIFY" else []

    def wait(self, condition, what, timeout=10):
        def done():
            for phone in self.pbx.phones:
                phone.step()
            return condition()

        return net.until(done, f"{self.name}: {what}", timeout, 0.01)

    def final(self, timeout=10):
        self.wait(lambda: self.finals, "a final response", timeout)
        return self.finals.pop(0)

    def call(self, user):
        uri = f"sip:{user}@sip.test"
        self.invite = self.client.call_with_digest(uri)

    def answer(self):
        self.wait(lambda: self.invite, "a call")
        answer = self.client.respond(self.invite, 200, "OK", body=sip.sdp(port=40002))
        self.dialog = Dialog.of_callee(self.client, self.invite, answer)

    def answered(self):
        answer = self.final()
        assert answer.status == 200, repr(answer)
        self.dialog = Dialog.of_caller(self.client, self.invite, answer)
        self.dialog.ack(self.invite)

    def ask(self, method, headers=(), **more):
        """A request in the dialog, with digest if that is asked for, again if both ask at once
        (491). Returns the final response."""
        proof = []
        while True:
            request = self.dialog.request(method, headers=[*headers, *proof], **more)
            self.asking = method == "INVITE"
            answer = self.final()
            self.asking = False
            if method == "INVITE" and answer.status == 200:
                self.dialog.ack(request)
            elif method == "INVITE":
                self.client.ack_failure(request, answer)
            if answer.status == 401 and not proof:
                proof = [self.proof(answer, method, request.uri)]
            elif answer.status != 491:
                return answer

    def proof(self, answer, method, uri):
        challenge = sip.challenge(answer, "WWW-Authenticate")
        return "Authorization", sip.digest(challenge, method, uri, self.name, self.client.password)

    def register(self, expires=300, contact=None):
        self.finals.clear()
        self.client.send(self.client.register_request(expires, contact))
        proof = self.proof(self.final(), "REGISTER", "sip:sip.test")
        self.client.send(self.client.register_request(expires, contact, [proof]))
        answer = self.final()
        assert answer.status == 200, repr(answer)

    def hang_up(self):
        assert self.ask("BYE").status == 200

    def leave(self):
        """Away without a word."""
        self.client.close()
        self.pbx.phones.remove(self)


def talking(pbx, *kinds):
    alice, bob = Phone(pbx, "alice", kinds[0]), Phone(pbx, "bob", kinds[1])
    alice.call("bob")
    bob.answer()
    alice.answered()
    return alice, bob


@pytest.fixture(autouse=True)
def phones(pbx):
    yield
    try:
        for phone in pbx.phones:
            phone.register(0, "*")  # those of connections that are gone, too
    finally:
        for phone in pbx.phones:
            phone.client.close()
        pbx.phones.clear()


def test_registration_is_seen_as_it_is(pbx):  # R5, R6
    """What Asterisk keeps: a Contact of ours, or with support_path the client's own and our Path."""
    alice = Phone(pbx, "alice")
    core = f"{pbx.edge.core[0]}:{pbx.edge.core[1]}"
    contacts = pbx.contacts()
    assert (core in contacts) == (pbx.contact != "path")
    assert (alice.client.host in contacts) == (pbx.contact == "path")
    alice.register(0)
    assert "alice" not in pbx.contacts()


@pytest.mark.parametrize("kinds", (("tls", "wss"), ("wss", "tls")), ids="-".join)
def test_call_is_held_and_resumed_by_either(pbx, kinds):  # M4, R3, R4, R6, R7
    """Asterisk has its own new offers in between: it lets the media go directly (direct_media)."""
    alice, bob = talking(pbx, *kinds)
    for phone in (alice, bob):
        for way in (b"sendonly", b"sendrecv"):
            offer = sip.sdp(port=40004) + b"a=" + way + b"\r\n"
            answer = phone.ask("INVITE", body=offer)
            assert answer.status == 200, repr(answer)
    bob.hang_up()
    alice.wait(lambda: alice.ended, "the end of the call")


def test_client_transfers_the_call(pbx):  # R4, R7, R11
    """A REFER without attendance: who was called is sent on, and whoever sent him there goes."""
    alice, bob = talking(pbx, "tls", "wss")
    carol = Phone(pbx, "carol")
    referred = alice.ask("REFER", headers=[("Refer-To", "<sip:carol@sip.test>")])
    assert referred.status == 202, repr(referred)
    carol.answer()
    carol.wait(lambda: any("200" in told for told in alice.notified), "alice is told of it")
    alice.hang_up()
    assert not bob.ended
    bob.hang_up()
    carol.wait(lambda: carol.ended, "the end of the call")


def test_call_to_a_client_that_is_gone(pbx):  # R7 refused
    """Asterisk's caller is told so at once, its dialplan in its own word for it."""
    alice, bob = Phone(pbx, "alice"), Phone(pbx, "bob")
    bob.leave()
    began = time.monotonic()
    alice.call("bob")
    answer = alice.final()
    alice.client.ack_failure(alice.invite, answer)
    assert answer.status == 502 and time.monotonic() - began < 2
    net.until(lambda: pbx.dialled() == [("CHANUNAVAIL", "27")], "the dialplan is told")

    again = Phone(pbx, "bob", "wss")  # the old contact is there still, and is no hindrance
    alice.call("all-bob")
    again.wait(lambda: again.invite, "a call")
    again.client.respond(again.invite, 486, "Busy Here")
    answer = alice.final()
    alice.client.ack_failure(alice.invite, answer)
    assert answer.status == 486
    net.until(lambda: pbx.dialled() == [("BUSY", "17")], "the dialplan is told")


def test_client_that_is_gone_is_known_by_its_pings(pbx):  # R7 refused
    """With qualify_2xx_only; else Asterisk takes any answer for a life sign."""
    dave = Phone(pbx, "dave")
    state = lambda: re.search(r"dave/sip:\S+ +\S+ +(\S+)", pbx.contacts()).group(1)
    dave.wait(lambda: state() == "Avail", "Asterisk reaches dave")
    dave.leave()
    net.until(lambda: state() == "Unavail", "Asterisk knows that dave is gone", 10, 0.1)
    alice = Phone(pbx, "alice")
    alice.call("dave")
    answer = alice.final()
    alice.client.ack_failure(alice.invite, answer)
    assert answer.status == 404
    net.until(lambda: pbx.dialled() == [("CHANUNAVAIL", "3")], "the dialplan is told")


def test_asterisk_sees_no_intruder(pbx):  # B2
    """A probe would be one, of sipward: and all of these tests' calls and registrations were none."""
    Phone(pbx, "alice")
    assert "No matching endpoint found" not in pbx.process.output()
