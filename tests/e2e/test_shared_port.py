"""Phones and browsers on one port (tls+wss): scripted clients, baresip, and JsSIP in Chromium."""

import pytest
from harness import ends, net
from harness.baresip import Baresip
from harness.browser import Browser
from harness.ends import establish, hang_up
from harness.process import Process


def shared(lab, scripted=False, **options):
    """An edge whose tls and wss port are the same one. With `scripted`, its PBX too."""
    port = net.free_port()
    listeners = (f'  - tls+wss: "127.0.0.1:{port}"',)
    if scripted:
        edge, pbx = lab.scripted(listeners=listeners, **options)
    else:
        edge, pbx = lab.edge(listeners=listeners, **options), None
    edge.tls_port = edge.wss_port = port
    return edge, pbx


@pytest.mark.parametrize("kinds", (("tls", "wss"), ("wss", "tls")))
def test_a_phone_and_a_browser_reach_the_pbx(lab, kinds):  # R1, R3, R5, R6, R7, R9, T3
    edge, pbx = shared(lab, scripted=True)
    for kind in kinds:
        client = lab.registered(edge, pbx, kind, kind)
        invite = client.invite("sip:100@sip.test")
        client.send(invite)
        of_client, of_pbx = establish(client, invite, pbx)
        # what the client goes back to is the shared port, and its own transport
        host, port = ends.host_port(of_client.routes[0].strip("<>"))
        assert (host, port) == ("localhost", edge.tls_port)
        assert f"transport={client.uri_transport}" in of_client.routes[0]
        hang_up(of_client, of_pbx)

        invite = pbx.invite(client.bound)
        pbx.send(invite)
        ringing = client.expect("INVITE")
        assert ringing.get("Via").startswith(f"SIP/2.0/{client.transport} localhost:{edge.tls_port}")
        client.respond(ringing, 486, "Busy Here")
        pbx.ack_failure(invite, pbx.expect(486))
        client.expect("ACK")


def test_options_first_and_keepalive_first(lab):  # F2, M1, R1
    edge, _ = shared(lab, users=("alice",))
    alice = lab.client(edge, "alice")
    options = alice.request("OPTIONS", "sip:sip.test")
    options.set("Max-Forwards", "0")
    alice.send(options)
    alice.expect(200)
    other = lab.client(edge, "alice")
    other.send_bytes(b"\r\n\r\n")
    with pytest.raises(TimeoutError):
        other.receive(0.5)
    assert other.pongs == 1
    other.register()


CONFIG = """global
    maxconn 100
defaults
    mode tcp
    timeout connect 3s
    timeout client 1m
    timeout server 1m
frontend clients
    bind 127.0.0.1:{port}
    default_backend edge
backend edge
    server edge 127.0.0.1:{edge} send-proxy-v2 check inter 100ms
"""


def test_behind_haproxy(lab):  # R1, R3: the addresses are the client's, and the load balancer's
    inner, outer = net.free_port(), net.free_port()
    edge, pbx = lab.scripted(
        listeners=(f'  - {{tls+wss: "127.0.0.1:{inner}", proxy_protocol: [127.0.0.1/32]}}',)
    )
    config = lab.folder("haproxy") / "haproxy.cfg"
    config.write_text(CONFIG.format(port=outer, edge=inner))
    Process(lab, "haproxy", ["haproxy", "-db", "-f", config])
    net.until(lambda: net.can_connect("127.0.0.1", outer), "haproxy listens")
    edge.tls_port = edge.wss_port = outer
    for kind in ("tls", "wss"):
        client = lab.registered(edge, pbx, kind, kind)
        peer = "%s:%d" % client.socket.getsockname()
        edge.process.wait_output(rf"flow opened flow=\S+ peer={peer} .*transport={kind} ")
        invite = client.invite("sip:100@sip.test")
        client.send(invite)
        of_client, of_pbx = establish(client, invite, pbx)
        assert ends.host_port(of_client.routes[0].strip("<>")) == ("localhost", outer)
        hang_up(of_client, of_pbx)


def test_a_phone_and_a_browser_call_each_other(lab):  # F4, F5, R6, R7, R12, T2, T3, T4
    """Each rings at the other; no sound, for which the phone would need ICE."""
    edge, _ = shared(lab, users=("bar1", "alice"))
    phone = Baresip(lab, edge.tls_port, "bar1", lab.ca, dtls=True)
    phone.wait_registered()
    browser = Browser(lab)
    alice = browser.phone(edge, "alice")
    assert alice.outcome == "registered"

    alice.call("sip:bar1@sip.test")
    phone.wait("CALL_INCOMING")
    alice.wait("progress")
    phone.command("hangup")
    assert alice.wait("failed")["originator"] == "remote"

    phone.command("dial", "sip:alice@sip.test")
    assert alice.wait("session", 2)["originator"] == "remote"
    phone.wait("CALL_RINGING")
    alice.reject(486)
    phone.wait("CALL_CLOSED", 2)

    alice.call("sip:bar1@sip.test")
    phone.wait("CALL_INCOMING", 2)
    alice.wait("progress", 2)
    alice.hangup()
    phone.wait("CALL_CLOSED", 3)
    assert not browser.process.matches("PAGE ERROR.*")
