"""Clients that vanish: at every step of a call, as its caller and as its callee, in every way that
there is, over TLS and WSS. Then 1,000 times at random, and nothing is left of them."""

import asyncio
import os
import random
import time

import pytest
from harness import net, sip
from harness.crowd import LATE, WAYS, Exchange, Gone, Phone, gather
from harness.ends import Dialog

# A silent client is found within FOUND seconds: by a ping after one (and a tenth), 3 s for the answer
# of a machine with a lot to do, and one for the close; on TLS by its silence, since all others here
# send keepalives.
SHORT = """websocket: {ping_interval: 1, pong_timeout: 3}
limits: {idle_timeout: 5, message_timeout: 2, first_message_timeout: 5, handshake_timeout: 2, upgrade_timeout: 2}
registrar: {min_expires: 1}
"""
FOUND, PING = 5.2, 0.5
# ASan keeps what was freed for a while, and since GCC 14 stacks too, which would look like growth.
ASAN = "quarantine_size_mb=1:thread_local_quarantine_size_kb=16:detect_stack_use_after_return=0"
ALL_TIMES_OUT = 60  # timer B, then 64*T1 for its CANCEL, are over in less


class Scene:
    """A phone and what it was doing."""

    def __init__(self, phone, pbx):
        self.phone, self.pbx = phone, pbx
        self.here = self.there = None  # the legs of its call
        self.invite = None  # as it was sent
        self.arrived = None  # as it came to the other side
        self.probe = None  # the PBX's dialog

    def legs(self, message):
        call_id = message.get("Call-ID")
        self.here, self.there = self.phone.leg(call_id), self.pbx.leg(call_id)


# ---- how far they come ----


async def says_nothing(s):
    pass


async def half_an_invite(s):
    s.phone.send_bytes(s.phone.invite("sip:100@sip.test").bytes()[:200])


async def registers(s):
    s.phone.name = "mute-" + s.phone.name
    request = s.phone.register_request(300)
    s.legs(request)
    s.phone.send(request)
    s.arrived = await s.there.expect("REGISTER")


async def registered(s):
    await s.phone.register()


async def sends_a_message(s, to="mute"):
    request = s.phone.request("MESSAGE", f"sip:{to}@sip.test")
    s.legs(request)
    s.phone.send(request)
    s.arrived = await s.there.expect("MESSAGE")


async def invites(s, to="100"):
    s.invite = s.phone.invite(f"sip:{to}@sip.test")
    s.legs(s.invite)
    s.phone.send(s.invite)
    s.arrived = await s.there.expect("INVITE")


async def invites_the_mute(s):
    await invites(s, "mute")


async def rings(s, to="100"):
    await invites(s, to)
    s.pbx.respond(s.arrived, 180, "Ringing")
    ringing = await s.here.expect(180)
    s.dialog = Dialog.of_caller(s.phone, s.invite, ringing)


async def rings_at_one_who_answers(s):
    await rings(s, "crossing")


async def is_answered(s):
    await rings(s)
    answer = s.pbx.respond(s.arrived, 200, "OK", body=sip.sdp())
    await s.here.expect(200)
    s.probe = Dialog.of_callee(s.pbx, s.arrived, answer)


async def talks(s):
    await is_answered(s)
    s.dialog.ack(s.invite)
    await s.there.expect("ACK")


async def hangs_up(s):
    await talks(s)
    s.dialog.request("BYE")
    s.arrived = await s.there.expect("BYE")
    s.probe = None


async def cancels(s):
    await rings(s, "mute")
    s.phone.cancel(s.invite)
    await s.here.expect(200)
    s.cancel = await s.there.expect("CANCEL")


async def pracks(s):
    await rings(s)
    s.dialog.request("PRACK", [("RAck", "1 1 INVITE")])
    s.arrived = await s.there.expect("PRACK")


async def invites_again(s):
    await talks(s)
    s.dialog.request("INVITE", body=sip.sdp())
    await s.there.expect("INVITE")


async def is_sent(s, method):
    await s.phone.register()
    s.invite = s.pbx.request_to(method, s.phone.name)
    s.legs(s.invite)
    s.pbx.send(s.invite)
    s.arrived = await s.here.expect(method)


async def is_sent_a_message(s):
    await is_sent(s, "MESSAGE")


async def is_invited(s):
    await is_sent(s, "INVITE")


async def it_rings(s):
    await is_invited(s)
    ringing = s.phone.respond(s.arrived, 180, "Ringing")
    s.dialog = Dialog.of_callee(s.phone, s.arrived, ringing)
    s.early = Dialog.of_caller(s.pbx, s.invite, await s.there.expect(180))


async def it_answers(s):
    await it_rings(s)
    s.phone.respond(s.arrived, 200, "OK", body=sip.sdp())
    await s.there.expect(200)
    s.probe = s.early


async def it_talks(s):
    await it_answers(s)
    s.pbx.ack(s.early, s.invite)
    await s.here.expect("ACK")


async def it_is_hung_up(s):
    await it_talks(s)
    s.probe.request("BYE")
    await s.here.expect("BYE")
    s.probe = None


async def it_is_cancelled(s):
    await it_rings(s)
    s.pbx.cancel(s.invite)
    await s.here.expect("CANCEL")


async def it_is_pracked(s):
    await it_rings(s)
    s.early.request("PRACK", [("RAck", "1 1 INVITE")])
    await s.here.expect("PRACK")


async def it_is_invited_again(s):
    await it_talks(s)
    s.probe.request("INVITE", body=sip.sdp())
    await s.here.expect("INVITE")


# ---- what comes then ----


async def ok(s):
    s.pbx.respond(s.arrived, 200, "OK")


async def ring_at_last(s):
    s.pbx.respond(s.arrived, 180, "Ringing")
    s.cancel = await s.there.expect("CANCEL")
    await cancelled(s)


async def cancelled(s):
    s.pbx.respond(s.cancel, 200, "OK")
    s.pbx.respond(s.arrived, 487, "Request Terminated")


async def bye(s):
    """The edge hangs up for a caller that can't."""
    s.pbx.respond(await s.there.expect("BYE"), 200, "OK")


# The step; what the PBX is sent when the client has vanished there, in this order; what it still
# does. If there was a dialog, its BYE is then answered 430, and so is whatever it sends to the user.
STEPS = (
    (says_nothing, "", None),
    (half_an_invite, "", None),
    (registers, "", ok),
    (registered, "", None),
    (sends_a_message, "", ok),
    (invites_the_mute, "ACK", ring_at_last),
    (invites, "CANCEL ACK", None),
    (rings, "CANCEL ACK", None),
    (rings_at_one_who_answers, "CANCEL ACK", bye),
    (is_answered, "ACK", bye),
    (talks, "", None),
    (hangs_up, "", ok),
    (cancels, "ACK", cancelled),
    (pracks, "CANCEL ACK", ok),
    (invites_again, "CANCEL ACK", None),
    (is_sent_a_message, "430", None),
    (is_invited, "430", None),
    (it_rings, "430", None),
    (it_answers, "", None),
    (it_talks, "", None),
    (it_is_hung_up, "430", None),
    (it_is_cancelled, "200 487", None),
    (it_is_pracked, "430 430", None),
    (it_is_invited_again, "430", None),
)


async def tear(scene, comes_to, way):
    """A client, torn away at one step."""
    await scene.phone.connect()
    try:
        await comes_to(scene)
    except AssertionError as error:
        if scene.phone.open or isinstance(error, Gone):
            raise
        raise Gone(scene.phone, str(error)) from error
    finally:
        scene.phone.vanish(way)


async def torn(lab, edge, pbx, step, way, kind, name):
    what = f"{step[0].__name__}, {way}, {kind}"
    try:
        scene = Scene(Phone(lab, edge, name, kind, keepalive=PING), pbx)
        comes_to, expected, then = step
        await tear(scene, comes_to, way)
        if then in (ring_at_last, cancelled, ok):
            await then(scene)
        for word in expected.split():
            await scene.there.expect(int(word) if word.isdigit() else word, skip=(100, 180))
        if then is bye:
            await bye(scene)
        elif scene.probe:
            scene.probe.request("BYE")
            await scene.there.expect(430, skip=(100, 180, 200))
        if name in pbx.bound:
            options = pbx.request_to("OPTIONS", name)
            pbx.send(options)
            await pbx.leg(options.get("Call-ID")).expect(430)
    except Exception as error:
        raise AssertionError(f"{what}: {error}") from error


@pytest.mark.parametrize("mode", ("mask", "path"))
@pytest.mark.parametrize("way", WAYS)
def test_torn(lab, way, mode):  # T6 to core, T6 to access, T6 refused, R7 refused, F7, F8
    pbx = Exchange(lab)
    pbx.edge = edge = lab.edge(backends=[pbx.host], contact=mode, more=SHORT, level="info")

    async def all_of_them():
        await pbx.open()
        cases = [(step, kind) for step in STEPS for kind in ("tls", "wss")]
        await gather(
            [
                torn(lab, edge, pbx, step, way, kind, f"user{i}")
                for i, (step, kind) in enumerate(cases)
            ],
            len(cases),
        )
        assert not pbx.errors, pbx.errors[0]

    asyncio.run(all_of_them())
    status = net.until(
        lambda: (lambda s: s if s["flows"] == s["connections"] == 0 else None)(edge.status()),
        "no flow is left",
        step=0.2,
    )
    assert status["stray"] >= 10, status  # what came for those that were gone


# ---- at random ----


class Mortal(Phone):
    """It vanishes when it has got so many messages."""

    lives, way = 0, None

    def take(self, raw):
        super().take(raw)
        self.lives -= 1
        if self.lives == 0:
            self.vanish(self.way)


async def call_between(alice, bob):
    """Two users of the embedded registrar."""
    await alice.register(expires=2)
    await bob.register(expires=2)
    uri = f"sip:{bob.name}@sip.test"
    invite = alice.invite(uri)
    here, there = alice.leg(invite.get("Call-ID")), bob.leg(invite.get("Call-ID"))
    alice.send(invite)
    challenge = await here.expect(407)
    alice.ack_failure(invite, challenge)
    value = sip.challenge(challenge, "Proxy-Authenticate")
    value = sip.digest(value, "INVITE", uri, alice.name, alice.password)
    invite = invite.copy().set("CSeq", "2 INVITE").set("Via", alice.via())
    invite.headers.append(("Proxy-Authorization", value))
    alice.send(invite)
    arrived = await there.expect("INVITE")
    bob.respond(arrived, 180, "Ringing")
    await here.expect(180)
    answer = bob.respond(arrived, 200, "OK", body=sip.sdp())
    of_alice = Dialog.of_caller(alice, invite, await here.expect(200))
    of_alice.ack(invite)
    await there.expect("ACK")
    Dialog.of_callee(bob, arrived, answer).request("BYE")
    alice.respond(await here.expect("BYE"), 200, "OK")
    await there.expect(200)


def in_time(error):
    """Nobody is hung up on that was in time."""
    if isinstance(error, Gone) and error.why not in (None, *LATE):
        raise error


async def tear_call_between(lab, edge, users):
    pair = [
        Mortal(lab, edge, user, random.choice(("tls", "wss")), keepalive=PING) for user in users
    ]
    try:
        for phone in pair:
            phone.way = random.choice(WAYS)
            await phone.connect()
        for phone in random.sample(pair, random.choice((1, 1, 2))):
            phone.lives = random.randint(1, 9)
        await asyncio.wait_for(call_between(*pair), 5)
    except (AssertionError, asyncio.TimeoutError) as error:
        in_time(error)  # but for that, it is as it must be
    for phone in pair:
        if phone.open:
            phone.vanish(phone.way)
    return pair


async def tear_before_it_speaks(edge, kind):
    """In the TLS handshake, or in the upgrade."""
    port = edge.tls_port if kind == "tls" else edge.wss_port
    reader, writer = await asyncio.open_connection(edge.address, port)
    writer.write(bytes.fromhex("16030100c8010000c40303")[: random.randint(0, 11)])
    await asyncio.sleep(random.random() / 10)
    if random.random() < 0.5:
        writer.transport.abort()
    return writer


class Tears:
    """What tears clients away from one edge; each returns what has to be let go of in the end."""

    def __init__(self, lab, **options):
        self.lab, self.number = lab, 0
        self.pbx = None if "users" in options else Exchange(lab)
        backends = [self.pbx.host] if self.pbx else ()
        self.edge = lab.edge(backends=backends, more=SHORT, level="info", asan=ASAN, **options)
        self.pairs = None
        if self.pbx:
            self.pbx.edge = self.edge
        self.edge.process.wait_output("sipward is ready")
        net.until(lambda: not self.edge.status()["connections"], "the one that looked has left")
        self.descriptors = self.edge.descriptors()
        self.memory, self.missed = [], []

    async def open(self):
        if self.pbx:
            await self.pbx.open()
            return
        self.pairs = asyncio.Queue()
        for i in range(0, USERS, 2):
            self.pairs.put_nowait((f"user{i}", f"user{i + 1}"))

    async def one(self):
        self.number += 1
        kind, way = random.choice(("tls", "wss")), random.choice(WAYS)
        if random.random() < 0.05:
            writer = await tear_before_it_speaks(self.edge, kind)
            await asyncio.sleep(3)  # longer than a handshake may last: it holds the socket
            writer.transport.abort()
            return
        if self.pbx:
            phones = [Phone(self.lab, self.edge, f"user{self.number}", kind, keepalive=PING)]
            try:
                await tear(Scene(phones[0], self.pbx), random.choice(STEPS)[0], way)
            except AssertionError as error:
                in_time(error)
                self.missed.append(error)  # a machine with too much to do: it was torn away before
        else:
            pair = await self.pairs.get()
            try:
                phones = await tear_call_between(self.lab, self.edge, pair)
            finally:
                self.pairs.put_nowait(pair)
        if "silence" in (phone.gone for phone in phones):
            await asyncio.sleep(FOUND + 1)
        for phone in phones:
            phone.hang_up()
            self.lab.ends.remove(phone)


USERS, TEARS, AT_ONCE = 80, 1002, 90
GROWTH_MAX = 3 << 20  # by the second half: a connection that is kept has some 50 kB
TABLES = ("connections", "flows", "requests", "transactions", "timers", "bindings")


def test_a_thousand_tears(lab):  # T6 to core, T6 to access, F7, F8, V7
    seed = int(os.environ.get("TORN_SEED", time.time_ns() % 1000000))
    print(f"TORN_SEED={seed}")
    random.seed(seed)
    edges = [
        Tears(lab, contact="mask"),
        Tears(lab, contact="path"),
        Tears(lab, users=[f"user{i}" for i in range(USERS)]),
    ]

    async def tear_away(count):
        began = time.monotonic()
        await gather([edges[i % len(edges)].one() for i in range(count)], AT_ONCE)
        print(f"{count} tears in {time.monotonic() - began:.1f} s")
        for tears in edges:
            tears.memory.append(tears.edge.memory())

    async def all_of_them():
        for tears in edges:
            await tears.open()
        await tear_away(TEARS // 2)
        await tear_away(TEARS // 2)

    asyncio.run(all_of_them())
    for tears in edges:
        net.until(
            lambda: not any(tears.edge.status()[table] for table in TABLES),
            "all tables are empty",
            ALL_TIMES_OUT,
            step=0.5,
        )
        tears.memory.append(tears.edge.memory())
        print("MiB:", [m >> 20 for m in tears.memory], tears.edge.status())
        net.until(lambda: tears.edge.descriptors() <= tears.descriptors, "sockets are closed")
        assert len(tears.missed) < TEARS / 30, tears.missed
        assert tears.memory[-1] < tears.memory[0] + GROWTH_MAX, tears.memory


# ---- and those that never were of use ----


async def slow_reader(lab, edge, pbx, kind):
    """A client that stops to read in its call, while the PBX has a lot to say."""
    scene = Scene(await Phone(lab, edge, f"slow-{kind}", kind).connect(), pbx)
    await it_talks(scene)
    scene.phone.writer.transport.pause_reading()
    legs = []
    for _ in range(500):  # 25 MB: more than the kernel takes and limits.send_queue
        message = pbx.request_to("MESSAGE", scene.phone.name, body=b"x" * 50000)
        pbx.send(message)
        legs.append(pbx.leg(message.get("Call-ID")))
        await asyncio.sleep(0.002)
    for leg in legs:
        await leg.expect(430)
    scene.probe.request("BYE")
    await scene.there.expect(430)


def test_useless_connections_do_no_harm(lab):  # F7, X2, X2 refused
    more = "limits: {first_message_timeout: 3, handshake_timeout: 3, upgrade_timeout: 3}\n"
    pbx = Exchange(lab)
    pbx.edge = edge = lab.edge(backends=[pbx.host], more=more, level="info", asan=ASAN)

    async def say_nothing(i):
        port = edge.tls_port if i % 2 else edge.wss_port
        _, writer = await asyncio.open_connection(edge.address, port)
        if i % 3 == 0:
            writer.write(bytes.fromhex("16030100c8010000c40303"))  # the start of a ClientHello
        if i % 3 == 1:
            writer.transport.abort()
        return writer

    async def call(kind):
        scene = Scene(await Phone(lab, edge, f"caller-{kind}", kind).connect(), pbx)
        await hangs_up(scene)
        await ok(scene)
        await scene.here.expect(200)
        scene.phone.hang_up()

    async def all_of_them():
        await pbx.open()
        writers = await gather([say_nothing(i) for i in range(500)], 50)
        before = edge.memory()
        await gather([slow_reader(lab, edge, pbx, kind) for kind in ("tls", "wss")], 2)
        await gather([call(kind) for kind in ("tls", "wss")], 2)
        print(f"{(edge.memory() - before) >> 10} KiB for 50 MB to clients that don't read")
        assert edge.memory() < before + (25 << 20)
        while edge.status()["connections"]:
            await asyncio.sleep(0.2)
        await gather([call(kind) for kind in ("tls", "wss")], 2)
        for writer in writers:
            writer.transport.abort()

    asyncio.run(asyncio.wait_for(all_of_them(), 60))
    assert edge.log().count("slow reader") >= 2
