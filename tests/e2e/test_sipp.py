"""SIPp as the PBX behind sipward, and as a caller from the core side into a registered client."""

import pytest
from harness import sip
from harness.ends import Dialog
from harness.sipp import Sipp

KINDS = ("tls", "wss")


def behind(lab, kind, **options):
    """A registered client, the PBX's place free for SIPp: (edge, client, port)."""
    edge, pbx = lab.scripted(**options)
    alice = lab.registered(edge, pbx, "alice", kind)
    pbx.close()
    return edge, alice, pbx.port


@pytest.mark.parametrize("mode", ("mask", "path"))
@pytest.mark.parametrize("kind", KINDS)
def test_call_with_everything(lab, kind, mode):  # R3, R4, R11, T2, T3
    _, alice, port = behind(lab, kind, contact=mode)
    sipp = Sipp(lab, "pbx", port=port)
    invite = alice.invite("sip:100@sip.test", headers=[("Supported", "100rel")])
    alice.send(invite)
    early = alice.expect(183)
    assert early.get("Require") == "100rel" and early.body
    dialog = Dialog.of_caller(alice, invite, early)
    dialog.request("PRACK", [("RAck", f"{early.get('RSeq')} {invite.get('CSeq')}")])
    alice.expect(200)
    dialog.request("UPDATE", body=sip.sdp(port=40004))
    assert alice.expect(200).get("CSeq").endswith("UPDATE")
    alice.expect(180)
    assert alice.expect(200).get("CSeq") == invite.get("CSeq")
    dialog.ack(invite)

    again = dialog.request("INVITE", body=sip.sdp(port=40006))
    alice.expect(200)
    dialog.ack(again)

    dialog.request("REFER", [("Refer-To", "<sip:101@sip.test>")])
    alice.expect(202)
    notify = alice.expect("NOTIFY")
    assert notify.get("Event") == "refer" and notify.uri == sip.uri_of(alice.contact())
    alice.respond(notify, 200, "OK")
    alice.respond(alice.expect("BYE"), 200, "OK")
    sipp.done()


@pytest.mark.parametrize("kind", KINDS)
def test_call_into_a_client(lab, kind):  # R6, R7, R11
    edge, alice, port = behind(lab, kind)
    sipp = Sipp(lab, "caller", target=edge.core, port=port, keys={"target": alice.bound})
    invite = alice.expect("INVITE")
    alice.respond(invite, 180, "Ringing")
    answer = alice.respond(invite, 200, "OK", body=sip.sdp())
    alice.expect("ACK")
    dialog = Dialog.of_callee(alice, invite, answer)
    dialog.request("INFO")
    alice.expect(200)
    alice.respond(alice.expect("BYE"), 200, "OK")
    sipp.done()
