"""Backends by name, while their records come, change and go: a real name server (dnsmasq), scripted
ends. Records are followed after 5 s at the earliest, whatever their TTL."""

import os
import pathlib
import select
import subprocess
import time

import pytest
from harness import net, sip
from harness.edge import PROGRAM
from harness.ends import Pbx, TcpPbx, establish, hang_up
from harness.name_server import Dnsmasq, Faulty

SERVER, WAIT_S = "127.0.1.1", 30
HOSTS = ("127.0.0.11", "127.0.0.12")

if not net.isolated:
    reason = "needs a network namespace of its own, and mounts"
    if os.environ.get("CI"):
        pytest.exit(reason, 1)
    pytest.skip(reason, allow_module_level=True)


class Names:
    """What the name server says; set() is for all of it at once."""

    def __init__(self, lab):
        self.server = Dnsmasq(SERVER, lab.folder("dns"))
        lab.cleanups.append(self.server.stop)
        net.write("/etc/resolv.conf", f"nameserver {SERVER}\n")

    def set(self, *lines):
        self.server.stop()
        self.server.start(*lines)
        net.until(self.server.ready, "dnsmasq answers")


@pytest.fixture
def names(lab):
    return Names(lab)


def pbxs(lab, kind=Pbx):
    """Two of them, at one port of two addresses."""
    port = net.free_port(HOSTS[0])
    return [kind(lab, f"pbx{i}", address=host, port=port) for i, host in enumerate(HOSTS)]


def taker(ends):
    """The one of them that something has come to."""
    ready = select.select([end.socket for end in ends], [], [], 10)[0]
    assert len(ready) == 1, f"{len(ready)} of the backends got it"
    return next(end for end in ends if end.socket is ready[0])


def follows(edge, **what):
    """Wait until the log says so of a name's addresses."""
    words = "".join(f'.* {key}="[^"]*{value}' for key, value in what.items())
    edge.process.wait_output(f"backend's addresses{words}", timeout=WAIT_S)


def call_out(client, pbx):
    invite = client.call("sip:100@sip.test")
    return establish(client, invite, pbx)


def call_in(pbx, client):
    invite = pbx.invite(client.bound)
    for path in reversed(client.paths):
        invite.headers.insert(1, ("Route", path))
    pbx.send(invite)
    return establish(pbx, invite, client)


def refused(client, method="REGISTER"):
    """It is answered 503 at once. Returns the seconds of Retry-After."""
    since = time.monotonic()
    request = client.register_request(300) if method == "REGISTER" else client.request(method)
    client.send(request)
    answer = client.expect(503)
    assert time.monotonic() - since < 1
    if method == "INVITE":
        client.ack_failure(request, answer)
    return int(answer.get("Retry-After"))


def test_users_are_spread_over_the_hosts_of_srv_records(lab, names):  # B1, B3, R2
    first, second = ends = [Pbx(lab, f"pbx{i}", address=host) for i, host in enumerate(HOSTS)]
    names.set(
        f"srv-host=_sip._udp.pbx.test,one.pbx.test,{first.port},0,10",
        f"srv-host=_sip._udp.pbx.test,two.pbx.test,{second.port},0,10",
        f"srv-host=_sip._udp.pbx.test,three.pbx.test,{second.port},1,10",
        *(f"host-record={name}.pbx.test,{host}" for name, host in zip(("one", "two"), HOSTS)),
        "host-record=three.pbx.test,127.0.0.13",
    )
    edge = lab.edge(backends=["udp:pbx.test"])
    for end in ends:
        end.edge = edge
    used = set()
    for i in range(12):
        user = lab.client(edge, f"user{i}", "wss" if i % 2 else "tls")
        user.send(user.register_request(300))
        pbx = taker(ends)
        register, user.bound = pbx.accept_register()
        user.paths = register.all("Path")
        user.expect(200)
        used.add(pbx)
        if i < 4:
            hang_up(*call_out(user, pbx))
            hang_up(*call_in(pbx, user))
        user.send(user.request("MESSAGE", "sip:100@sip.test"))
        pbx.respond(pbx.expect("MESSAGE"), 200, "OK")
        user.expect(200)
    assert used == set(ends)


@pytest.mark.parametrize("kind", (Pbx, TcpPbx))
def test_a_call_stays_where_it_is_while_the_name_moves(lab, names, kind):  # B1, B3, R2, R4, R8
    old, new = pbxs(lab, kind)
    names.set(f"host-record=pbx.test,{HOSTS[0]}")
    edge = old.edge = new.edge = lab.edge(backends=[f"{kind.transport.lower()}:pbx.test:{old.port}"])
    alice = lab.registered(edge, old, "alice")
    of_alice, of_old = call_out(alice, old)
    names.set(f"host-record=pbx.test,{HOSTS[1]}")
    follows(edge, added=HOSTS[1], removed=HOSTS[0])
    hang_up(*call_out(alice, new))
    again = of_alice.request("INVITE", body=sip.sdp(port=40004))
    old.respond(old.expect("INVITE"), 200, "OK", body=sip.sdp())
    alice.expect(200)
    of_alice.ack(again)
    old.expect("ACK")
    hang_up(of_old, of_alice)
    hang_up(*call_in(new, alice))
    hang_up(*call_in(old, alice))
    stranger = kind(lab, "stranger", address="127.0.0.13")
    stranger.edge = edge
    try:
        stranger.send(stranger.invite(alice.bound))
    except OSError:
        pass  # by TCP it is not even let in
    alice.quiet()


def test_a_name_server_that_died_changes_nothing(lab, names):  # B1
    pbx, _ = pbxs(lab)
    names.set(f"host-record=pbx.test,{HOSTS[0]}")
    edge = pbx.edge = lab.edge(backends=[f"udp:pbx.test:{pbx.port}"])
    alice = lab.registered(edge, pbx, "alice")
    names.server.stop()
    edge.process.wait_output("look-ups of a backend's name fail", timeout=WAIT_S)
    hang_up(*call_out(alice, pbx))
    hang_up(*call_in(pbx, alice))


@pytest.mark.parametrize("kind", (Pbx, TcpPbx))
def test_a_name_that_comes_to_be_later(lab, names, kind):  # B1, B4, T5
    pbx, _ = pbxs(lab, kind)
    names.set()
    edge = pbx.edge = lab.edge(
        backends=[f"{kind.transport.lower()}:pbx.test:{pbx.port}"], core="127.0.0.1"
    )
    alice = lab.client(edge, "alice")
    for method in ("REGISTER", "INVITE", "MESSAGE"):
        assert refused(alice, method) > 0
    assert "backend has no address yet" in edge.log()
    assert not net.bound(edge.core[1])
    names.set(f"host-record=pbx.test,{HOSTS[0]}")
    follows(edge, added=HOSTS[0])
    alice = lab.registered(edge, pbx, "alice")
    hang_up(*call_out(alice, pbx))
    hang_up(*call_in(pbx, alice))


@pytest.mark.parametrize("kind", (Pbx, TcpPbx))
@pytest.mark.parametrize("mode", ("mask", "path"))
def test_a_backend_and_core_of_ipv6_alone(lab, names, mode, kind):  # B1, R3, R5 to R7, T2, T3
    pbx = kind(lab, address="::1")
    names.set("host-record=pbx.test,::1")
    edge = pbx.edge = lab.edge(
        backends=[f"{kind.transport.lower()}:pbx.test:{pbx.port}"], core="::1", contact=mode
    )
    alice = lab.registered(edge, pbx, "alice", "wss")
    assert f"[::1]:{edge.core[1]}" in (alice.paths[0] if alice.paths else alice.bound)
    hang_up(*call_out(alice, pbx))
    hang_up(*call_in(pbx, alice))


@pytest.mark.parametrize("kind", (Pbx, TcpPbx))
def test_the_other_family_comes_while_calls_run(lab, names, kind):  # B1, B3, R4, R8
    old = kind(lab, "old", address="127.0.0.11")
    new = kind(lab, "new", address="::1", port=old.port)
    by = kind.transport.lower()
    service = f"srv-host=_sip._{by}.pbx.test,%s.test,{old.port}"
    hosts = ("host-record=four.test,127.0.0.11", "host-record=six.test,::1")
    names.set(service % "four", *hosts)
    edge = old.edge = lab.edge(backends=[f"{by}:pbx.test"], core="127.0.0.1")
    alice = lab.registered(edge, old, "alice")
    of_alice, of_old = call_out(alice, old)
    names.set(service % "six", *hosts)
    follows(edge, added="::1", removed="127.0.0.11")
    new.edge = type("Side", (), {"core": ("::1", edge.core[1])})
    alice = lab.registered(edge, new, "alice")
    hang_up(*call_out(alice, new))
    hang_up(*call_in(new, alice))
    hang_up(of_alice, of_old)


def test_backends_in_order_and_by_weight(lab, names):  # B1, B3
    names.set()
    ends = [Pbx(lab, f"pbx{i}", address=f"127.0.0.{20 + i}") for i in range(3)]
    ranks = ({"priority": 2}, {"weight": 0}, {"weight": 5})
    file = "".join(
        f'  - {{udp: "{end.host}"' + "".join(f", {k}: {v}" for k, v in rank.items()) + "}\n"
        for end, rank in zip(ends, ranks)
    )
    edge = lab.edge(more="backends:\n" + file)
    for end in ends:
        end.edge = edge
    for i in range(8):
        lab.registered(edge, ends[2], f"user{i}")
    for end in ends[:2]:
        end.quiet(0.1)


def test_mistakes_of_backends_are_told_by_check(lab, names):  # B1
    file = pathlib.Path(lab.folder("check")) / "sipward.yaml"
    file.write_text(
        "domain: sip.test\nlisten: [tcp: 5060]\nbackends:\n"
        "  - udp:pbx.test\n  - {auto: pbx.test, priority: 2}\n  - {tcp: pbx2.test, weight: 3}\n"
    )
    done = subprocess.run([PROGRAM, "check", file], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and ":5: backends[1]: '{...}' is wrong: each one once" in done.stderr
    file.write_text(file.read_text().replace("auto: pbx.test", "auto: pbx.test:5070"))
    done = subprocess.run([PROGRAM, "check", file], capture_output=True, text=True, timeout=20, check=True)
    for line in (
        '- {udp: "pbx.test", priority: 1, weight: 1}',
        '- {auto: "pbx.test:5070", priority: 2, weight: 1}',
        '- {tcp: "pbx2.test", priority: 1, weight: 3}',
    ):
        assert line in done.stdout


def test_a_silent_name_server_at_start(lab):  # B1, B4
    silent = Faulty(SERVER, other=None)
    lab.cleanups.append(silent.stop)
    net.write("/etc/resolv.conf", f"nameserver {SERVER}\n")
    pbx, _ = pbxs(lab)
    since = time.monotonic()
    edge = pbx.edge = lab.edge(backends=[f"udp:pbx.test:{pbx.port}"])
    assert time.monotonic() - since < 6
    assert refused(lab.client(edge, "alice")) > 0
    silent.set({"pbx.test A": [HOSTS[0]]})
    follows(edge, added=HOSTS[0])
    hang_up(*call_out(lab.registered(edge, pbx, "alice"), pbx))
