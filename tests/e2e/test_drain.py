"""A drain: SIGTERM while phones have calls, register and ask for more. Calls end by themselves, everybody else is sent away one
by one; and what ends it sooner."""

import asyncio
import http.client
import os
import random
import re
import signal
import time

import pytest
from harness import net, sip
from harness.crowd import Exchange, Gone, Phone, gather
from harness.ends import Closed, Dialog, establish, hang_up

LONG = 3600  # none of these tests lasts so long: what ends, ends for another reason
PHONES, CALLERS, CALLEES = 60, 10, 10


def limits(spread, timeout):
    return f"limits: {{drain_spread: {spread}, drain_timeout: {timeout}}}\n"


def term(edge):
    os.kill(edge.pid, signal.SIGTERM)


def draining(edge):
    """(connections, dialogs) as it says when it begins."""
    said = edge.process.wait_output(r" draining connections=(\d+) dialogs=(\d+) ")[0]
    return tuple(map(int, said))


def sent_away(edge):
    """The flows that a drain closed, in that order: [(time, flow)]."""
    return edge.process.matches(r"^(\S+) info +flow closed flow=(\S+) .*reason=\"server is draining\"")


def ended(edge, status=0):
    """It ends by itself, cleanly."""
    assert edge.process.wait(30) == status
    edge.stop()


def readyz(edge):
    connection = http.client.HTTPConnection("127.0.0.1", edge.admin_port, timeout=15)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def until(condition, what, timeout=30.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.02)


# ---- many phones ----


class Call:
    """One between a phone and the PBX, the phone's end and the PBX's."""

    def __init__(self, phone, pbx, invite):
        self.phone, self.pbx, self.invite = phone, pbx, invite
        self.here, self.there = phone.leg(invite.get("Call-ID")), pbx.leg(invite.get("Call-ID"))

    async def ring_out(self):
        self.phone.send(self.invite)
        self.arrived = await self.there.expect("INVITE")
        self.pbx.respond(self.arrived, 180, "Ringing")
        await self.here.expect(180)
        return self

    async def answer_out(self):
        answer = self.pbx.respond(self.arrived, 200, "OK", body=sip.sdp())
        self.dialog = Dialog.of_caller(self.phone, self.invite, await self.here.expect(200))
        self.other = Dialog.of_callee(self.pbx, self.arrived, answer)
        self.dialog.ack(self.invite)
        await self.there.expect("ACK")
        return self

    async def come_in(self):
        self.pbx.send(self.invite)
        arrived = await self.here.expect("INVITE")
        answer = self.phone.respond(arrived, 200, "OK", body=sip.sdp())
        self.dialog = Dialog.of_callee(self.phone, arrived, answer)
        self.other = Dialog.of_caller(self.pbx, self.invite, await self.there.expect(200))
        self.pbx.ack(self.other, self.invite)
        await self.here.expect("ACK")
        return self

    async def ask(self, by_phone, method, status=200):
        dialog, asker, asked = (self.dialog, self.here, self.there) if by_phone else (self.other, self.there, self.here)
        dialog.request(method)
        asked.end.respond(await asked.expect(method), status, "OK")
        await asker.expect(status)


async def refused(end, request):
    """It is answered 503; returns its Retry-After."""
    end.send(request)
    answer = await end.leg(request.get("Call-ID")).expect(503)
    if request.method == "INVITE" and isinstance(end, Phone):
        end.ack_failure(request, answer)
    return int(answer.get("Retry-After"))


async def keeps_registering(phone, seen):
    """Until it is sent away. seen: Retry-After of what was refused."""
    try:
        while True:
            request = phone.register_request(300)
            phone.send(request)
            answer = await phone.leg(phone.register_id).expect(200, 503)
            if answer.status == 503:
                seen.append(int(answer.get("Retry-After")))
            await asyncio.sleep(random.uniform(0.02, 0.1))
    except Gone:
        pass


def test_calls_end_by_themselves_and_others_are_sent_away(lab):  # T9, T9 refused, T9 to core, T9 to access
    pbx = Exchange(lab)
    edge = pbx.edge = lab.edge(backends=[pbx.host], more=limits(3, LONG), level="info")
    phones = [Phone(lab, edge, f"user{n}", ("tls", "wss")[n % 2]) for n in range(PHONES)]

    async def run():
        await pbx.open()
        await gather((p.connect() for p in phones), 20)
        await gather((p.register() for p in phones), 20)
        calls = [Call(p, pbx, p.invite("sip:100@sip.test")) for p in phones[:CALLERS]]
        calls += [Call(p, pbx, pbx.request_to("INVITE", p.name, body=sip.sdp())) for p in phones[CALLERS : CALLERS + CALLEES]]
        ringing, talking = calls[:3], calls[3:]
        await gather((c.ring_out() for c in calls[:CALLERS]), 20)
        await gather((c.answer_out() for c in calls[3:CALLERS]), 20)
        await gather((c.come_in() for c in calls[CALLERS:]), 20)
        idle = phones[CALLERS + CALLEES :]
        seen = []
        asking = [asyncio.ensure_future(keeps_registering(p, seen)) for p in idle[:20]]
        assert readyz(edge) == (200, "ready\n")

        term(edge)
        assert draining(edge) == (PHONES, len(talking))
        assert readyz(edge) == (503, "draining\n")
        await until(lambda: not net.can_connect(edge.address, edge.tls_port), "no new connections")
        assert not net.can_connect(edge.address, edge.wss_port)
        # What is new is refused, from either side, on connections that stay too.
        assert 1 <= await refused(phones[0], phones[0].invite("sip:100@sip.test")) <= 7
        assert await refused(pbx, pbx.request_to("INVITE", phones[0].name, body=sip.sdp())) == 1
        assert await refused(pbx, pbx.request("OPTIONS", "sip:%s:%d" % edge.core)) == 1
        # What rings is answered, what is a call goes on.
        await gather((c.answer_out() for c in ringing), 20)
        for by_phone in (True, False):
            await gather((c.ask(by_phone, "INFO") for c in calls), 20)

        await until(lambda: not any(p.open for p in idle), "all without a call are sent away")
        await asyncio.gather(*asking)
        assert seen and all(1 <= s <= 7 for s in seen)
        await until(lambda: len(sent_away(edge)) == len(idle), "the log has them all")
        assert all(c.phone.open for c in calls)
        assert edge.status()["dialogs"] == len(calls)
        for by_phone in (True, False):
            await gather((c.ask(by_phone, "INFO") for c in calls), 20)

        # The connection of a call goes with it, and the last one ends it all.
        for n, call in enumerate(calls):
            assert edge.process.child.poll() is None
            await call.ask(n % 2 == 0, "BYE")
            await until(lambda: not call.phone.open, "a call is over, and its connection too")
            assert all(c.phone.open for c in calls[n + 1 :])
        for end in (*phones, pbx):
            assert not end.errors, end.errors[0]
        for phone in phones:
            assert not phone.ws or phone.ws.close_rcvd.code == 1001, phone.name

    asyncio.run(run())
    ended(edge)
    assert edge.process.matches(" drained seconds=")
    gone = sent_away(edge)[: PHONES - CALLERS - CALLEES]
    order = [flow for _, flow in gone]
    opened = [flow for flow in edge.process.matches(r" flow opened flow=(\S+)") if flow in order]
    assert order not in (opened, opened[::-1]), "that is no random order"
    assert len({at[:21] for at, _ in gone}) >= 5, "all at once"


# ---- one or two clients ----


@pytest.mark.parametrize("kind", ("tls", "wss"))
def test_a_call_that_outlasts_the_timeout_is_closed_properly(lab, kind):  # T9 refused
    edge, pbx = lab.scripted(more=limits(0, 2), level="info")
    alice = lab.registered(edge, pbx, "alice", kind)
    bob = lab.registered(edge, pbx, "bob", kind)
    establish(alice, alice.call("sip:1@sip.test"), pbx)
    bob.call("sip:2@sip.test")
    pbx.respond(pbx.expect("INVITE"), 180, "Ringing")
    bob.expect(180)
    since = time.monotonic()
    term(edge)
    for client in (alice, bob):
        assert client.wait_closed(20) == (1001 if kind == "wss" else b"")
        assert time.monotonic() - since >= 1.9
        assert not client.ragged
    pbx.expect("CANCEL")
    ended(edge)
    assert edge.process.matches(" drain timeout: what is left is closed connections=2 ")
    assert not sent_away(edge)


def test_without_a_call_there_is_nothing_to_wait_for(lab):
    for workers in (1, 4):
        edge, pbx = lab.scripted(more=limits(LONG, LONG), workers=workers)
        alice = lab.registered(edge, pbx, "alice")
        alice.close()
        edge.process.wait_output("flow closed ")
        edge.stop(signal.SIGTERM)
        assert edge.process.matches(" drained seconds=0")


def test_no_spread_sends_all_away_at_once(lab):
    edge, pbx = lab.scripted(more=limits(0, LONG))
    clients = [lab.client(edge, f"user{n}", ("tls", "wss")[n % 2]) for n in range(6)]
    clients.append(lab.registered(edge, pbx, "half"))
    clients[-1].send_bytes(b"MESSAGE sip:1@sip.test SIP/2.0\r\nVia: ")
    edge.stop(signal.SIGTERM)
    for client in clients:
        client.wait_closed()
        assert not client.ragged


def test_a_timeout_of_zero_is_a_quick_stop(lab):
    edge, pbx = lab.scripted(more=limits(10, 0))
    alice = lab.registered(edge, pbx, "alice", "wss")
    establish(alice, alice.call("sip:1@sip.test"), pbx)
    edge.stop(signal.SIGTERM)
    assert alice.wait_closed() == 1001


def test_sigint_waits_for_no_call(lab):
    edge, pbx = lab.scripted(more=limits(LONG, LONG))
    alice = lab.registered(edge, pbx, "alice", "wss")
    establish(alice, alice.call("sip:1@sip.test"), pbx)
    edge.stop(signal.SIGINT)
    assert alice.wait_closed() == 1001


@pytest.mark.parametrize("second", (signal.SIGTERM, signal.SIGINT))
def test_a_second_signal_ends_it_at_once(lab, second):
    edge, pbx = lab.scripted(more=limits(LONG, LONG), level="info")
    alice = lab.registered(edge, pbx, "alice")
    establish(alice, alice.call("sip:1@sip.test"), pbx)
    term(edge)
    assert draining(edge) == (1, 1)

    def gone():  # what comes within half a second is taken for an echo of the first
        if edge.process.child.poll() is None:
            os.kill(edge.pid, second)
        return edge.process.child.poll() is not None

    net.until(gone, "it ends", 20, 0.1)
    assert edge.process.child.returncode == 1
    lab.edges.remove(edge)
    assert edge.process.matches(f" stopped at once by a second signal signal={second.name}")
    with pytest.raises(Closed):
        alice.receive()


def test_a_call_that_came_back_by_another_connection_is_waited_for(lab):
    edge, pbx = lab.scripted(more=limits(0, LONG), level="info")
    alice = lab.registered(edge, pbx, "alice")
    of_alice, of_pbx = establish(alice, alice.call("sip:1@sip.test"), pbx)
    alice.close()
    edge.process.wait_output("flow closed ")
    again = lab.registered(edge, pbx, "alice")
    of_alice.end = again
    update = of_alice.request("INVITE", body=sip.sdp())
    pbx.respond(pbx.expect("INVITE"), 200, "OK", body=sip.sdp())
    again.expect(200)
    of_alice.ack(update)
    pbx.expect("ACK")
    term(edge)
    assert draining(edge) == (1, 1)
    hang_up(of_alice, of_pbx)
    ended(edge)


def test_the_other_end_hung_up_and_is_gone(lab):  # a BYE that nobody answers ends the call as well
    edge, pbx = lab.scripted(more=limits(0, LONG), level="info")
    alice = lab.registered(edge, pbx, "alice")
    of_alice, _ = establish(alice, alice.call("sip:1@sip.test"), pbx)
    term(edge)
    assert draining(edge) == (1, 1)
    of_alice.request("BYE")
    pbx.respond(pbx.expect("BYE"), 481, "Call Does Not Exist")
    alice.expect(481)
    ended(edge)


@pytest.mark.parametrize("kind", ("tls", "wss"))
def test_a_call_by_the_embedded_registrar(lab, kind):  # T9, T9 refused
    edge = lab.edge(users=("alice", "bob", "carol"), more=limits(0, LONG), level="info")
    alice, bob = lab.client(edge, "alice", kind), lab.client(edge, "bob", "tls")
    carol = lab.client(edge, "carol", kind)
    for client in (alice, bob, carol):
        client.register()
    invite = alice.call_with_digest("sip:bob@sip.test")
    arrived = bob.expect("INVITE")
    bob.respond(arrived, 180, "Ringing")
    alice.expect(180)
    term(edge)
    assert draining(edge) == (3, 0)
    carol.wait_closed()
    answer = bob.respond(arrived, 200, "OK", body=sip.sdp())
    of_alice = Dialog.of_caller(alice, invite, alice.expect(200))
    of_bob = Dialog.of_callee(bob, arrived, answer)
    of_alice.ack(invite)
    bob.expect("ACK")
    for one, other in ((of_alice, of_bob), (of_bob, of_alice)):
        one.request("INFO")
        other.end.respond(other.end.expect("INFO"), 200, "OK")
        one.end.expect(200)
    assert edge.status()["dialogs"] == 2  # on either connection
    assert int(alice.register(status=503).get("Retry-After")) >= 1
    alice.send(alice.invite("sip:bob@sip.test"))
    alice.expect(503)
    hang_up(of_bob, of_alice)
    ended(edge)
