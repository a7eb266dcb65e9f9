"""linphonec over TLS. It verifies the certificate, and it sends responses to the name and port in
the Via: these must be the certificate's and those that it connected to."""

import re

import pytest
from harness.ca import Authority
from harness.kamailio import Kamailio
from harness.linphone import Linphone


@pytest.fixture(params=("mask", "path", "embedded"))
def edge(request, lab):
    if request.param == "embedded":
        yield lab.edge(users=("lin1", "lin2"))
        return
    kamailio = Kamailio(lab, path=request.param == "path")
    yield lab.edge(backends=[kamailio.host], contact=request.param)
    kamailio.check()


def packets(phone):
    """(sent, received) of the call, once it is over."""
    phone.wait(" RTP STATISTICS")
    phone.wait(r"LinphoneCallReleased")
    text = phone.detail.read_text(errors="replace")
    return tuple(
        int(re.search(rf"ortp-message- ?{way} +(\d+) packets", text).group(1))
        for way in ("sent", "received")
    )


@pytest.mark.parametrize("host", ("localhost", "sip.test"))
def test_register_call_hang_up(lab, edge, host):  # R1, R3, R5, R7, R12, T2, T3, X4
    one = Linphone(lab, edge.tls_port, "lin1", lab.ca.file, host=host)
    two = Linphone(lab, edge.tls_port, "lin2", lab.ca.file, host=host, answer=True)
    one.wait_registered()
    two.wait_registered()
    one.say("call sip:lin2@sip.test")
    one.wait("to LinphoneCallStreamsRunning")
    two.wait("to LinphoneCallStreamsRunning")
    for phone in (one, two):
        phone.wait("Sending RTCP SR", count=2)
    (one if host == "localhost" else two).say("terminate")
    for phone in (one, two):
        sent, received = packets(phone)
        assert sent > 20 and received > 20
        # everything went over the connection it opened
        assert len(phone.process.matches(r"doing TLS handshake", phone.detail)) == 1
    one.quit()
    two.quit()


def test_certificate_of_another_authority_is_not_trusted(lab):  # X4
    edge, pbx = lab.scripted()
    other = Authority(lab.folder("other-ca"), "Another CA")
    phone = Linphone(lab, edge.tls_port, "lin1", other.file)
    phone.wait("Certificate verification failed")
    phone.wait(r"to \[LinphoneRegistrationFailed\]")
    pbx.quiet()
