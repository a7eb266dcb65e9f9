"""The core side's UDP as it is: a tenth of all datagrams is lost, a tenth comes twice, late, or in
another order. 500 REGISTER and 200 calls come to their right ends all the same, once each, and
clients never see any of it."""

import asyncio
import os
import random
import time

import pytest
from harness import sip
from harness.crowd import Exchange, Phone, Weather, gather
from harness.ends import Dialog

PHONES, REGISTERS, CALLS = 50, 500, 200
LONG = 40.0  # 64*T1 and some more

OUTCOMES = ("answered", "declined", "cancelled")


async def hang_up(one, other):
    """BYE by either end: (dialog, leg) each."""
    if random.random() < 0.5:
        one, other = other, one
    one[0].request("BYE")
    bye = await other[1].expect("BYE", timeout=LONG)
    other[0].end.respond(bye, 200, "OK")
    await one[1].expect(200, timeout=LONG)


async def call_out(phone, pbx, outcome):
    """From a phone to the PBX."""
    invite = phone.invite(f"sip:{outcome}@sip.test")
    call_id = invite.get("Call-ID")
    here, there = phone.leg(call_id), pbx.leg(call_id)
    phone.send(invite)
    arrived = await there.expect("INVITE", timeout=LONG)
    pbx.respond(arrived, 180, "Ringing")
    if outcome == "declined":
        pbx.respond(arrived, 486, "Busy Here")
        phone.ack_failure(invite, await here.expect(486, timeout=LONG, skip=(100, 180)))
        await there.expect("ACK", timeout=LONG)
    elif outcome == "cancelled":
        await asyncio.sleep(random.uniform(0, 1))
        phone.cancel(invite)
        await here.expect(200, timeout=LONG, skip=(100, 180))
        await there.expect("CANCEL", timeout=LONG)
        phone.ack_failure(invite, await here.expect(487, timeout=LONG, skip=(100, 180)))
        await there.expect("ACK", timeout=LONG)
    else:
        answer = pbx.respond(arrived, 200, "OK", body=sip.sdp(port=40002))
        answered = await here.expect(200, timeout=LONG, skip=(100, 180))
        assert answered.body == answer.body
        dialog = Dialog.of_caller(phone, invite, answered)
        dialog.ack(invite)
        await there.expect("ACK", timeout=LONG)
        await hang_up((dialog, here), (Dialog.of_callee(pbx, arrived, answer), there))
    return phone, call_id, outcome, "out"


async def call_in(phone, pbx, outcome):
    """From the PBX to a phone."""
    invite = pbx.request_to("INVITE", phone.name, body=sip.sdp())
    call_id = invite.get("Call-ID")
    here, there = phone.leg(call_id), pbx.leg(call_id)
    pbx.send(invite)
    arrived = await here.expect("INVITE", timeout=LONG)
    phone.respond(arrived, 180, "Ringing")
    if outcome == "declined":
        phone.respond(arrived, 486, "Busy Here")
        await there.expect(486, timeout=LONG, skip=(100, 180))
        await here.expect("ACK", timeout=LONG)
    elif outcome == "cancelled":
        await there.expect(100, 180, timeout=LONG, skip=())  # RFC 3261 9.1: not before
        pbx.cancel(invite)
        phone.respond(await here.expect("CANCEL", timeout=LONG), 200, "OK")
        phone.respond(arrived, 487, "Request Terminated")
        await here.expect("ACK", timeout=LONG)
        finals = {(await there.expect(200, 487, timeout=LONG, skip=(100, 180))).status}
        finals.add((await there.expect(200, 487, timeout=LONG, skip=(100, 180))).status)
        assert finals == {200, 487}, finals  # of the CANCEL, of the INVITE, in any order
    else:
        answer = phone.respond(arrived, 200, "OK", body=sip.sdp(port=40002))
        answered = await there.expect(200, timeout=LONG, skip=(100, 180))
        assert answered.body == answer.body
        dialog = Dialog.of_caller(pbx, invite, answered)
        pbx.ack(dialog, invite)
        await here.expect("ACK", timeout=LONG)
        await hang_up((dialog, there), (Dialog.of_callee(phone, arrived, answer), here))
    return phone, call_id, outcome, "in"


def judge(pbx, phone, call_id, outcome, way):
    """Each end was told everything once."""
    callee = pbx if way == "out" else phone
    seen = {method: n for (c, method, _), n in callee.counts.items() if c == call_id}
    assert seen["INVITE"] == 1, seen
    assert seen.get("CANCEL", 0) == (outcome == "cancelled"), seen
    byes = [e.counts[key] for e in (pbx, phone) for key in e.counts if key[:2] == (call_id, "BYE")]
    assert byes == ([1] if outcome == "answered" else []), byes


async def storm(lab, edge, pbx, seed):
    await pbx.open()
    phones = [
        Phone(lab, edge, f"user{i}", ("tls", "wss")[i % 2], keepalive=5) for i in range(PHONES)
    ]
    await gather([phone.connect() for phone in phones], 10)

    async def registers(phone):
        for _ in range(REGISTERS // PHONES):
            await phone.register()

    await gather([registers(phone) for phone in phones], PHONES)
    registered = sum(n for (_, method, _), n in pbx.counts.items() if method == "REGISTER")
    assert registered == REGISTERS

    calls = [
        (call_out, call_in)[i % 2](phones[i % PHONES], pbx, OUTCOMES[i // 2 % len(OUTCOMES)])
        for i in range(CALLS)
    ]
    for result in await gather(calls, CALLS):
        judge(pbx, *result)
    for end in (pbx, *phones):
        assert not end.errors, f"{end.name}: {end.errors[0]}"
    for phone in phones:
        assert phone.open
        phone.hang_up()


@pytest.mark.parametrize("mode", ("mask", "path"))
def test_core_that_loses_doubles_delays_and_reorders(lab, mode):  # T1 to T4, T1 to access, T8
    seed = int(os.environ.get("STORM_SEED", time.time_ns() % 1000000))
    print(f"STORM_SEED={seed}")
    random.seed(seed)
    weather = Weather(seed)
    pbx = Exchange(lab, weather=weather)
    pbx.edge = edge = lab.edge(backends=[pbx.host], contact=mode, workers=3, level="info")
    asyncio.run(storm(lab, edge, pbx, seed))
    print(weather.happened, "again:", pbx.repeated)
    assert weather.happened["loss"] > weather.happened["all"] / 15  # it was as bad as announced
    status = edge.status()
    assert status["handover-dropped"] == status["datagrams-dropped"] == 0, status
