"""Three backends over UDP, of which some die in every way, while phones register, call and send messages all the time. What is asked is
answered, once. Each backend is a process of its own and writes down what it got; the report says how long the answers took."""

import asyncio
import collections
import datetime
import os
import random
import signal
import subprocess
import time

import pytest
from harness import net, sip
from harness.backend import Backend
from harness.crowd import Phone, gather
from harness.ends import Dialog, establish, hang_up
from harness.kamailio import Kamailio

PHONES = 200
PROBES = "probe: {interval: 1, timeout: 1, down_after: 2, up_after: 2}\n"
LONG = 40.0  # 64*T1 and some more
LATE = 0.5  # seconds: what a worker decides may be sent, or logged, so much later where the machine has a lot to do

Asked = collections.namedtuple("Asked", "method call at status seconds")


@pytest.fixture
def backends(lab):
    return [Backend(lab, f"127.0.1.{n}").start() for n in (1, 2, 3)]


class Crowd:
    """Phones that ask for this and that, until stop()."""

    def __init__(self, lab, edge, count=PHONES):
        self.edge, self.asked, self.going = edge, [], True
        self.unended = set()  # calls whose BYE could not be delivered, as its sender knows
        self.phones = [Phone(lab, edge, f"user{n}", ("tls", "wss")[n % 2]) for n in range(count)]

    async def start(self):
        await gather([phone.connect() for phone in self.phones], 20)
        self.tasks = [asyncio.ensure_future(self.live(phone)) for phone in self.phones]
        return self

    async def stop(self):
        self.going = False
        await asyncio.gather(*self.tasks)
        for phone in self.phones:
            assert not phone.errors, phone.errors[0]
            phone.hang_up()
        twice = [call for call, n in collections.Counter(a.call for a in self.asked).items() if n > 1]
        assert not twice
        return self.asked

    async def live(self, phone):
        while self.going:
            await self.ask(phone, random.choice(("INVITE", "REGISTER", "OPTIONS", "MESSAGE")))
            await asyncio.sleep(random.uniform(0.1, 0.6))

    async def answers(self, count):
        """So many more requests have come to their end, of all that the phones keep asking."""
        enough, deadline = len(self.asked) + count, time.monotonic() + LONG
        while len(self.asked) < enough:
            assert time.monotonic() < deadline, f"{enough - len(self.asked)} of {count} answers are missing"
            await asyncio.sleep(0.02)

    async def ask(self, phone, method):
        request = phone.request(method, "sip:sip.test" if method == "REGISTER" else "sip:pbx@sip.test", to=None)
        if method == "REGISTER":
            request.set("To", f"<{phone.aor()}>")
        leg, at = phone.leg(request.get("Call-ID")), time.monotonic()
        phone.send(request)
        answer = await self.final(leg)
        status = answer.status if answer else None
        self.asked.append(Asked(method, leg.call_id, at, status, time.monotonic() - at))
        if method == "INVITE" and status == 200:
            dialog = Dialog.of_caller(phone, request, answer)
            dialog.ack(request)
            dialog.request("BYE")
            bye = await self.final(leg, 1)
            if bye and bye.status == 503:
                self.unended.add(leg.call_id)
        elif method == "INVITE" and answer:
            phone.ack_failure(request, answer)

    @staticmethod
    async def final(leg, timeout=LONG):
        try:
            while True:
                message = await asyncio.wait_for(leg.queue.get(), timeout)
                if message.status >= 200:
                    return message
        except asyncio.TimeoutError:
            return None


def play(lab, backends, script, more=PROBES, count=PHONES, **options):
    """Run script(crowd) while the phones are at it. Returns what they asked, and the edge; how it went is printed. No call is left over."""
    edge = lab.edge(backends=[b.host for b in backends], more=more, level="info", **options)

    async def run():
        crowd = await Crowd(lab, edge, count).start()
        await crowd.answers(400)
        await script(crowd)
        return await crowd.stop(), crowd.unended

    asked, unended = asyncio.run(run())
    slow = sorted(a.seconds for a in asked)
    print(f"{len(asked)} requests, {collections.Counter(a.status for a in asked)}, moved {edge.status()['moved']}, "
          f"median {slow[len(slow) // 2] * 1000:.0f} ms, longest {slow[-1]:.2f} s")
    no_call_is_left(backends, unended)
    return asked, edge


def all_served(asked):
    lost = [a for a in asked if a.status != 200]
    assert not lost, f"{len(lost)} of {len(asked)}: {lost[:5]}"


def no_call_is_left(backends, unended):
    """Each INVITE that a living backend got is refused, cancelled or hung up, whichever of them its caller was answered by."""

    def open_calls():
        left = []
        for backend in backends:
            if backend.process.child.poll() is not None:
                continue
            ends = collections.defaultdict(set)
            for event in backend.events(last=True):
                ends[event["call"]].add((event["what"], event["method"]))
            left += [c for c, e in ends.items() if c not in unended and ("got", "INVITE") in e
                     and not e & {("cancelled", "INVITE"), ("got", "BYE"), ("refused", "INVITE")}]
        return left

    net.until(lambda: not open_calls(), "all calls have ended", 15)


def went(backend, since):
    return [e for e in backend.events() if e["what"] == "got" and e["at"] > since and e["method"] in ("REGISTER", "INVITE", "MESSAGE")]


async def down(edge, backend, count=1):
    pattern = rf"backend down address={backend.host} .*"
    for _ in range(600):
        if len(edge.process.matches(pattern)) >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{backend.host} is not down")


async def up(edge, backend, count=1):
    pattern = rf"backend up address={backend.host} .*"
    for _ in range(900):
        if len(edge.process.matches(pattern)) >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{backend.host} is not up")


def test_one_is_killed_and_comes_back(lab, backends):  # B2, B3
    times = {}

    async def script(crowd):
        backends[0].kill()
        await down(crowd.edge, backends[0])
        times["down"] = time.monotonic()
        await crowd.answers(400)
        backends[0].start()
        await up(crowd.edge, backends[0])
        times["up"] = time.monotonic()
        await crowd.answers(800)

    asked, edge = play(lab, backends, script)
    all_served(asked)
    assert max(a.seconds for a in asked) < 5
    assert len(went(backends[0], times["up"])) > 0, "its users come back"
    assert edge.process.matches(rf'backend down address={backends[0].host} .* reason="Connection refused"')


def test_one_falls_silent_and_goes_on(lab, backends):  # B2, B3, T4
    async def script(crowd):
        backends[1].signal(signal.SIGSTOP)
        await down(crowd.edge, backends[1])
        await crowd.answers(1200)
        backends[1].signal(signal.SIGCONT)  # and finds all that came meanwhile
        await up(crowd.edge, backends[1])
        await crowd.answers(400)

    asked, edge = play(lab, backends, script)
    all_served(asked)
    assert 1.5 < max(a.seconds for a in asked) < 20  # a call that it had begun to serve waits for it
    assert edge.status()["moved"] > 0
    assert edge.process.matches(rf'backend down address={backends[1].host} .* reason="\d+ (?:requests|probes) without an answer"')


def test_nobody_listens_from_the_start(lab, backends):  # B2, B3: without a probe that knew it
    backends[2].kill()

    async def script(crowd):
        await crowd.answers(600)

    asked, edge = play(lab, backends, script, more="probe: {interval: 0}\n")
    all_served(asked)
    assert edge.status()["moved"] > 0
    assert max(a.seconds for a in asked) < 1.5, "ICMP is not waited for"


def test_tcp_is_refused(lab, backends):  # B3, T7
    nobody = f"tcp:127.0.1.9:{net.free_port('127.0.1.9')}"
    edge = lab.edge(backends=[nobody, *(f"udp:{b.host}" for b in backends)], more="probe: {interval: 0}\n")
    longest = 0
    for n in range(48):  # a quarter of them would be its users
        client = lab.client(edge, f"user{n}")
        at = time.monotonic()
        client.register()
        longest = max(longest, time.monotonic() - at)
    print(f"longest {longest * 1000:.0f} ms, moved {edge.status()['moved']}")
    assert edge.status()["moved"] > 0 and longest < 1.5


@pytest.mark.skipif(not net.isolated, reason="changes routes")
@pytest.mark.parametrize("kind", ("blackhole", "unreachable"))
def test_the_way_is_gone(lab, backends, kind):  # B2, B3
    def route(verb):
        subprocess.run(["ip", "route", verb, kind, "127.0.1.2/32", "table", "local"], check=True)

    async def script(crowd):
        route("add")
        await down(crowd.edge, backends[1])
        await crowd.answers(200)
        route("del")
        await up(crowd.edge, backends[1])

    asked, _ = play(lab, backends, script)
    all_served(asked)
    assert max(a.seconds for a in asked) < (20 if kind == "blackhole" else 5)


def test_a_storm_of_503(lab, backends):  # B3
    async def script(crowd):
        backends[0].signal(signal.SIGUSR1)
        await crowd.answers(1200)
        backends[0].signal(signal.SIGUSR2)
        await crowd.answers(1000)

    asked, edge = play(lab, backends, script, more="probe: {interval: 60}\n")
    all_served(asked)
    busy = edge.process.matches(rf'^(\S+) warning backend busy address={backends[0].host} .* reason="503, Retry-After: 2"')
    assert busy and any(e["what"] == "refused" for e in backends[0].events())
    begins = [datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() for text in busy]
    early = [(e["method"], e["call"], f"{e['came'] - begin:.3f} s after it asked for 2")
             for e in went(backends[0], 0) for begin in begins if begin + LATE < e["came"] < begin + 2 - LATE]
    assert not early, f"it is not left alone: {len(early)} requests, {early[:5]}"


def test_two_of_three_and_then_all(lab, backends):  # B2, B3, B4
    times = {}

    async def script(crowd):
        backends[0].kill()
        backends[1].kill()
        await down(crowd.edge, backends[0])
        await down(crowd.edge, backends[1])
        await crowd.answers(200)
        times["before"] = time.monotonic()
        backends[2].kill()
        await down(crowd.edge, backends[2])
        times["all"] = time.monotonic()
        await crowd.answers(400)
        assert crowd.edge.status()["backends-down"] == 3
        times["start"] = time.monotonic()
        for backend in backends:
            backend.start()
        for backend in backends:
            await up(crowd.edge, backend)
        times["up"] = time.monotonic()
        await crowd.answers(400)

    asked, edge = play(lab, backends, script)
    before = [a for a in asked if a.at + a.seconds < times["before"]]
    without = [a for a in asked if times["all"] < a.at < times["start"] - 0.2]
    after = [a for a in asked if a.at > times["up"]]
    assert before and without and after
    all_served(before)
    all_served(after)
    assert {a.status for a in asked} == {200, 503}, "everyone hears something"
    assert {a.status for a in without} == {503} and max(a.seconds for a in without) < 1
    assert edge.status()["backends-up"] == 3 and edge.status()["backends-down"] == 0


def test_two_kamailios_of_which_one_is_killed(lab):  # B2, B3, R12
    pbxs = [Kamailio(lab, path=True), Kamailio(lab, path=True)]
    edge = lab.edge(backends=[p.host for p in pbxs], contact="path", more=PROBES)
    clients = [lab.client(edge, f"user{n}") for n in range(6)]
    for client in clients:
        client.register()
    homes = [[client.name for client in clients if pbx.bindings(client.name)] for pbx in pbxs]
    assert sorted(homes[0] + homes[1]) == sorted(c.name for c in clients)
    dead = 0 if homes[0] else 1
    os.killpg(pbxs[dead].process.child.pid, signal.SIGKILL)
    pbxs[dead].process.wait()
    for client in clients:  # a new challenge, by the other one
        client.register()
    for client in clients:
        assert pbxs[1 - dead].bindings(client.name)
    invite = clients[0].call_with_digest(f"sip:{clients[1].name}@sip.test")
    of_caller, of_callee = establish(clients[0], invite, clients[1])
    hang_up(of_callee, of_caller)
    pbxs[1 - dead].check()
