"""SIGHUP: whatever the file says anew takes effect, what is wrong changes nothing, and nobody who is
connected notices."""

import asyncio
import datetime
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess

import pytest
from harness import net, sip
from harness.crowd import Exchange, Phone, gather
from harness.edge import PROGRAM
from harness.ends import Dialog, Pbx, TlsClient, establish, hang_up
from harness.net import until


def shown(edge, port=None, name="localhost"):
    """The certificate that a new client is shown, and the handshake's outcome: its DER bytes."""
    context = ssl.create_default_context(cafile=edge.ca.file)
    with socket.create_connection((edge.address, port or edge.tls_port), 10) as plain:
        with context.wrap_socket(plain, server_hostname=name) as tls:
            return tls.getpeercert(binary_form=True)


def der(file):
    text = pathlib.Path(file).read_text()
    return ssl.PEM_cert_to_DER_cert(text[: text.index("-----END") + 25].rstrip() + "\n")


def own_certificate(lab, folder="certificates", **times):
    """A pair of its own folder, which a test may change: (chain, key)."""
    folder = lab.folder(folder)
    return [shutil.copy(f, folder / n) for f, n in zip(lab.ca.issue("own", **times), ("c.pem", "k.pem"))]


def renew(lab, pair, **times):
    """Another pair in its place, as cp does. Returns the certificate."""
    chain, key = lab.ca.issue("next", **times)
    shutil.copy(key, pair[1])
    shutil.copy(chain, pair[0])
    return der(chain)


def message_passes(client, pbx, **more):
    """A new request, to see what becomes of it: as it came, after 200."""
    message = client.request("MESSAGE", "sip:100@sip.test", **more)
    client.send(message)
    arrived = pbx.expect("MESSAGE")
    pbx.respond(arrived, 200, "OK")
    client.expect(200)
    return arrived


# ---- users ----


def test_users_come_and_go(lab):  # S1, S3, S3 refused
    edge = lab.edge(users=("alice", "bob", "carol"))
    alice, bob = lab.client(edge, "alice"), lab.client(edge, "bob", "wss")
    dave = lab.client(edge, "dave")
    alice.register()
    bob.register()
    dave.register(status=401)
    caller, callee = establish(alice, alice.call_with_digest("sip:bob@sip.test"), bob)
    changed = edge.reload(
        ("{name: bob, password: pw-bob}", "{name: dave, password: pw-dave}"),
        ("password: pw-carol", "password: pw-new"),
    )
    assert changed == ["users"]
    dave.register()
    alice.register()  # with the binding that it has
    bob.register(status=401)
    lab.client(edge, "carol").register(status=401)
    lab.client(edge, "carol", password="pw-new").register()
    dave_calls = dave.call_with_digest("sip:bob@sip.test")
    dave.ack_failure(dave_calls, dave.expect(404))
    edge.process.wait_output(r"user removed aor=bob")
    hang_up(callee, caller)  # who is no user any more still ends the call
    establish(dave, dave.call_with_digest("sip:alice@sip.test"), alice)


def test_from_users_to_a_pbx_and_back(lab):  # B3, R8
    edge = lab.edge(users=("alice", "bob"))
    pbx = Pbx(lab)
    pbx.edge = edge
    users = re.search(r"users:\n(  - .*\n)+", edge.file.read_text()).group()
    backends = f'backends:\n  - "udp:{pbx.host}"\nprobe: {{interval: 0}}\n'
    alice, bob = lab.client(edge, "alice"), lab.client(edge, "bob")
    alice.register()
    bob.register()
    caller, callee = establish(alice, alice.call_with_digest("sip:bob@sip.test"), bob)
    assert edge.reload((users, backends)) == ["backends", "probe.interval", "users"]
    message_passes(alice, pbx)
    hang_up(caller, callee)  # through the registrar that it began with
    invite = alice.call("sip:100@sip.test")
    to_pbx, of_pbx = establish(alice, invite, pbx)
    edge.reload((backends, users))
    bob.register()
    hang_up(of_pbx, to_pbx)
    hang_up(*establish(alice, alice.call_with_digest("sip:bob@sip.test"), bob))
    edge.reload((users, backends))
    message_passes(bob, pbx)


# ---- listeners ----


def plain_options(port):
    """The answer to an OPTIONS over TCP, or None where nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            s.settimeout(10)
            s.sendall(
                b"OPTIONS sip:sip.test SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bKo\r\n"
                b"Max-Forwards: 0\r\nFrom: <sip:a@sip.test>;tag=a\r\nTo: <sip:sip.test>\r\n"
                b"Call-ID: o\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            )
            return s.recv(4096).split(b"\r\n")[0]
    except ConnectionRefusedError:
        return None


def test_listeners_come_and_go(lab):  # X1
    edge, pbx = lab.scripted()
    client = lab.client(edge, "alice")
    message_passes(client, pbx)
    new = net.free_port()
    old = f'  - tls: "127.0.0.1:{edge.tls_port}"'
    assert plain_options(new) is None
    assert edge.reload((old, f"{old}\n  - tcp: 127.0.0.1:{new}")) == ["listen"]
    assert plain_options(new) == b"SIP/2.0 200 OK"
    edge.process.wait_output(rf"listening kind=tcp address=127.0.0.1:{new}$")

    # The one of TLS goes, but not who is there; that of TCP becomes one for TLS.
    edge.reload((old + "\n", ""), (f"tcp: 127.0.0.1:{new}", f"tls: 127.0.0.1:{new}"))
    edge.process.wait_output(rf"listening no more kind=tls address=127.0.0.1:{edge.tls_port}$")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((edge.address, edge.tls_port))
    message_passes(client, pbx)
    assert shown(edge, new) == shown(edge, edge.wss_port)

    # All addresses in place of one, on the same port, and the kind of its own.
    edge.reload((f"tls: 127.0.0.1:{new}", f"tls+wss: {new}"))
    shown(edge, new)
    edge.reload((f"tls+wss: {new}", f"tls: 127.0.0.1:{new}"))
    shown(edge, new)
    message_passes(client, pbx)
    assert net.can_connect(edge.address, edge.wss_port)


def test_connections_max_follows(lab):  # X2
    def enters():
        try:
            return shown(edge)
        except (ConnectionError, ssl.SSLError):
            return False

    edge, pbx = lab.scripted(more="limits: {connections: 2}\n")
    until(lambda: edge.status()["connections"] == 0, "the harness has hung up", 10)
    first = lab.client(edge, "alice")
    second = lab.client(edge, "bob")
    assert not enters()
    edge.reload(("connections: 2", "connections: 3"))
    assert enters()
    edge.reload(("connections: 3", "connections: 1"))
    assert not enters()
    message_passes(first, pbx)
    message_passes(second, pbx)


def test_admin_moves(lab):
    edge, _ = lab.scripted()
    before, after = edge.admin_port, net.free_port()
    assert edge.reload(("admin: 127.0.0.1:0", f"admin: 127.0.0.1:{after}")) == ["admin.listen"]
    assert net.can_connect("127.0.0.1", after) and not net.can_connect("127.0.0.1", before)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        mistakes = edge.reload((f"127.0.0.1:{after}", f"127.0.0.1:{port}"), refused=True)
        assert "Address already in use" in mistakes[0], mistakes
    assert net.can_connect("127.0.0.1", after)


# ---- what is wrong ----

MISTAKES = {
    "no YAML": (("domain: sip.test", "domain: [sip.test"), r"{file}:\d+: this is not YAML: "),
    "an unknown key": (("contact: mask", "kontact: mask"), r"{file}:\d+: kontact: "),
    "a value": (("log_level: debug", "log_level: loud"), r"{file}:\d+: log_level: 'loud' is not"),
    "a missing key": (("domain: sip.test\n", ""), r"{file}:\d+: domain: is missing"),
    "a taken port": (
        ("listen:\n", "listen:\n  - tcp: 127.0.0.1:{taken}\n"),
        r"{file}:\d+: listen: tcp 127.0.0.1:{taken}: Address already in use: another program, ",
    ),
    "a foreign address": (
        ("listen:\n", "listen:\n  - tcp: 192.0.2.77:5061\n"),
        r"{file}:\d+: listen: tcp 192.0.2.77:5061: Cannot assign requested address: this machine ",
    ),
    "itself as backend": (
        ("backends:\n", 'backends:\n  - "udp:edge.test:{port}"\n'),
        r"{file}:\d+: backends: {core} is also sipward's own address on the core side",
    ),
    "a listener on the core address": (
        (
            ("listen:\n", "listen:\n  - tcp: {core}\n"),
            ('backends:\n  - "udp:', 'backends:\n  - "tcp:'),
        ),
        r"{file}:\d+: listen: sipward has {core} for TCP connections of its backends; ",
    ),
    "a missing certificate": (("k.pem", "none.pem"), r"{file}:\d+: certificate.key: '.*' is not a file that can be read \(No such file"),
    "another's key": (
        ("k.pem", "other.pem"),
        r"{file}:\d+: certificate: '.*other.pem' is not the key of '.*c.pem': it belongs to another",
    ),
    "an expired certificate": (
        (("c.pem", "past.pem"), ("k.pem", "past.key")),
        r"{file}:\d+: certificate: '.*past.pem' has expired on \d{{4}}-.* UTC: a renewed ",
    ),
    "two at once": (
        (("contact: mask", "contact: hide"), ("workers: 2", "workers: many")),
        r"{file}:\d+: contact: 'hide' is not",
    ),
}


def test_what_is_wrong_changes_nothing(lab):
    chain, key = own_certificate(lab)
    folder = pathlib.Path(chain).parent
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    for made, copies in ((lab.ca.issue("other"), (None, "other.pem")),
                         (lab.ca.issue("past", until=past), ("past.pem", "past.key"))):
        for file, name in zip(made, copies):
            if name:
                shutil.copy(file, folder / name)
    edge, pbx = lab.scripted(certificate=(chain, key))
    client = lab.client(edge, "alice", "wss")
    text, certificate = edge.file.read_text(), shown(edge)
    core, port = "%s:%d" % edge.core, str(edge.core[1])
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        for what, (changes, line) in MISTAKES.items():
            changes = [changes] if isinstance(changes[0], str) else changes
            changes = [(a, b.replace("{core}", core).replace("{taken}", taken).replace("{port}", port)) for a, b in changes]
            mistakes = edge.reload(*changes, refused=True)
            line = line.format(file=re.escape(str(edge.file)), taken=taken, core=core)
            assert re.match(line, mistakes[0].replace('\\"', '"')), (what, mistakes)
            assert len(mistakes) == (2 if what == "two at once" else 1), mistakes
            if what in ("no YAML", "an unknown key", "a value", "two at once", "another's key"):
                check = subprocess.run([PROGRAM, "check", edge.file], capture_output=True, text=True)
                assert check.returncode == 2
                assert check.stderr.splitlines() == [m.replace('\\"', '"') for m in mistakes]
            edge.file.write_text(text)
        message_passes(client, pbx)
        assert shown(edge) == certificate
    os.rename(edge.file, edge.file.with_suffix(".away"))
    os.kill(edge.pid, signal.SIGHUP)
    edge.process.wait_output(r"configuration mistake reason=.*can't be read: No such file")
    os.rename(edge.file.with_suffix(".away"), edge.file)
    assert edge.reload() == ["nothing"]
    message_passes(client, pbx)


def test_some_keys_wait_for_a_restart(lab):
    edge, pbx = lab.scripted()
    changed = edge.reload(
        ("workers: 2", "workers: 3"), ('core: "127.0.0.1:', 'core: "127.0.0.9:'), ("contact: mask", "contact: path")
    )
    assert changed == ["contact"]
    edge.process.wait_output(r"warn\w* +some keys wait for a restart of sipward keys=\"core, workers\"$")
    client = lab.client(edge, "alice")
    message_passes(client, pbx)  # from the core address that it was


# ---- certificates by themselves ----


def test_certificates_that_are_written_anew(lab):  # X4
    pair = own_certificate(lab)
    edge, pbx = lab.scripted(certificate=pair)
    client = lab.client(edge, "alice")
    before = shown(edge)
    after = renew(lab, pair)
    until(lambda: shown(edge) == after, "the new certificate is shown", 10)
    assert shown(edge, edge.wss_port) == after != before

    # One that has expired, or that does not fit, is refused; with its key it is taken.
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    renew(lab, pair, until=past)
    edge.process.wait_output(r"certificate mistake reason=\"\S+:3: certificate: '\S+c.pem' has expired on ")
    assert shown(edge) == after
    chain, key = lab.ca.issue("last")
    shutil.copy(chain, pair[0])
    edge.process.wait_output(r"certificate mistake reason=\"\S+:3: certificate: '\S+k.pem' is not the key of ")
    edge.process.wait_output(r"new certificates refused: the old ones are served on$", count=2)
    assert shown(edge) == after
    shutil.copy(key, pair[1])
    until(lambda: shown(edge) == der(chain), "the last certificate is shown", 10)
    assert "configuration reloaded" not in edge.log()
    message_passes(client, pbx)


def test_certificates_behind_links_as_certbot_has_them(lab):  # X4
    live, archive = lab.folder("live"), lab.folder("archive")

    def version(n):
        for file, name in zip(lab.ca.issue(f"v{n}"), ("fullchain", "privkey")):
            shutil.copy(file, archive / f"{name}{n}.pem")
            link = live / f"{name}.pem"
            if link.is_symlink():
                link.unlink()  # as certbot does: for a moment there is none
            link.symlink_to(f"../archive/{name}{n}.pem")
        return der(archive / f"fullchain{n}.pem")

    first = version(1)
    edge, _ = lab.scripted(certificate=(live / "fullchain.pem", live / "privkey.pem"))
    assert shown(edge) == first
    for n in (2, 3):
        new = version(n)
        until(lambda: shown(edge) == new, f"certificate {n} is shown", 10)


def test_certificates_behind_a_folder_as_kubernetes_has_them(lab):  # X4
    mount = lab.folder("mount")

    def version(n):
        folder = mount / f"..2026_{n}"
        folder.mkdir()
        for file, name in zip(lab.ca.issue(f"k{n}"), ("tls.crt", "tls.key")):
            shutil.copy(file, folder / name)
            if n == 1:
                (mount / name).symlink_to(f"..data/{name}")
        (mount / "..data_tmp").symlink_to(folder.name)
        os.rename(mount / "..data_tmp", mount / "..data")
        for old in mount.glob("..2026_*"):
            if old != folder:
                shutil.rmtree(old)
        return der(folder / "tls.crt")

    first = version(1)
    edge, _ = lab.scripted(certificate=(mount / "tls.crt", mount / "tls.key"))
    assert shown(edge) == first
    for n in (2, 3):
        new = version(n)
        until(lambda: shown(edge) == new, f"certificate {n} is shown", 10)
    assert "certificate mistake" not in edge.log()


def test_client_cas_that_change(lab):  # X4 refused
    ours, theirs = lab.ca, type(lab.ca)(lab.folder("theirs"), "Another CA")
    file = lab.folder("client-ca") / "ca.pem"
    shutil.copy(ours.file, file)
    port = net.free_port()
    edge, _ = lab.scripted(
        listeners=[f"  - {{tls: 127.0.0.1:{port}, client_certificate: required}}"],
        more=f"client_ca: {file}\n",
    )
    context = ssl.create_default_context(cafile=edge.ca.file)
    context.load_cert_chain(*ours.issue("phone"))

    def enters(session=None):
        with socket.create_connection((edge.address, port), 10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
                tls.settimeout(10)
                tls.sendall(b"\r\n\r\n")
                return tls.recv(2) == b"\r\n" and tls.session

    session = enters()
    assert enters(session)
    shutil.copy(theirs.file, file)
    edge.process.wait_output(r"certificate reloaded file=")
    for known in (None, session):  # nor by a ticket of before
        with pytest.raises((ssl.SSLError, ConnectionError)):
            enters(known)


# ---- every key ----

# What another file than the harness' says, in each key that can change beside a PBX.
ALL = """domain: new.test
aliases: [localhost, other.test]
certificate: {{chain: {certificate[0]}, key: {certificate[1]}}}
certificates: [{{chain: {second[0]}, key: {second[1]}}}]
client_ca: {ca}
listen:
  - {{tls: "127.0.0.1:{tls}", client_certificate: asked}}
  - wss: "127.0.0.1:{wss}"
core: "{core}"
workers: 2
backends: ["udp:{pbx}", {{auto: "{second_pbx}", priority: 2}}]
probe: {{interval: 0, timeout: 1, down_after: 1, up_after: 1}}
profile: kamailio
contact: path
flow_gone_status: 480
flow_token_keys: [{key}]
websocket: {{path: /sip, origins: ["https://phone.test"], ping_interval: 1, pong_timeout: 1}}
headers:
  from_clients: [X-Secret]
  to_clients: [X-Inner]
  rules: [{{direction: to_core, action: set, name: X-Edge, value: sipward}}]
  client_address: X-Client
limits: {{message_size: 4096, udp_size: 400, max_forwards: 20, connections: 100, transactions: 5000,
  transactions_per_connection: 1, send_queue: 65536, handshake_timeout: 1, upgrade_timeout: 1,
  message_timeout: 1, first_message_timeout: 1, idle_timeout: 2, try_timeout_ms: 300,
  {more_limits}stop_timeout_ms: 100}}
admin: {{listen: "127.0.0.1:{admin}", token: 0123456789abcdef}}
log: json
log_level: info
"""
ELSEWHERE = {"core", "workers", "users", "registrar"}  # what other tests change, or nobody can


def closes(sock, seconds=8):
    """Whether the other side ends it."""
    sock.settimeout(seconds)
    try:
        while sock.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    except socket.timeout:
        return False
    return True


def test_every_key_takes_effect(lab):
    edge, pbx = lab.scripted()
    other_pbx = Pbx(lab)
    other_pbx.edge = edge
    alice = lab.registered(edge, pbx, "alice")
    admin = net.free_port()
    second = lab.ca.issue("second", names=("other.test",), addresses=())
    new = lab.ca.issue("new", names=("new.test", "localhost"))
    unknown = set(re.findall(r"  (drain\w+): ", (pathlib.Path(__file__).parents[2] / "deploy/sipward.yaml").read_text()))
    edge.file.write_text(
        ALL.format(
            certificate=new, second=second, ca=edge.ca.file, tls=edge.tls_port, wss=edge.wss_port,
            core="%s:%d" % edge.core, pbx=pbx.host, second_pbx=other_pbx.host, key="ab" * 32, admin=admin,
            more_limits="".join(f"{key}: 7, " for key in sorted(unknown)),
        )
    )
    half = socket.create_connection((edge.address, edge.tls_port), 10)  # its handshake never comes
    os.kill(edge.pid, signal.SIGHUP)
    line = edge.process.wait_output(r'"event":"configuration reloaded","changed":"(.*?)"')[0]
    sample = (pathlib.Path(__file__).parents[2] / "deploy/sipward.yaml").read_text()
    keys = set(re.findall(r"^#?([a-z_]+):", sample, re.M)) - ELSEWHERE
    assert keys == {name.split(".")[0] for name in line.split(", ")} - ELSEWHERE

    # Who was there is reached as before, and is called what it was called.
    pbx.send(pbx.request("MESSAGE", alice.bound, headers=[("Route", p) for p in alice.paths]))
    told = alice.expect("MESSAGE")
    alice.respond(told, 200, "OK")
    pbx.expect(200)
    invite = pbx.invite(alice.bound, headers=[("X-Inner", "1"), ("X-Secret", "2")])
    pbx.send(invite)
    told = alice.expect("INVITE")
    assert "localhost" in told.get("Record-Route"), told
    assert told.get("X-Inner") is None and told.get("X-Secret")
    alice.respond(told, 486, "Busy Here")
    alice.expect("ACK")
    pbx.ack_failure(invite, pbx.expect(486))

    # New ones meet the new world: certificates, the name, addresses, headers, Path, limits.
    assert shown(edge) == der(new[0])
    context = ssl.create_default_context(cafile=edge.ca.file)
    silent = [half]
    with socket.create_connection((edge.address, edge.tls_port), 10) as plain:
        with context.wrap_socket(plain, server_hostname="other.test") as tls:
            assert tls.getpeercert(binary_form=True) == der(second[0])
            tls.sendall(b"INVITE sip:half")  # F7
            silent.append(tls)
            silent.append(context.wrap_socket(
                socket.create_connection((edge.address, edge.wss_port), 10), server_hostname="new.test"))
            for sock in silent:
                assert closes(sock)
    bob = lab.client(edge, "bob")
    message = bob.request("MESSAGE", "sip:100@new.test", headers=[("X-Secret", "1")])
    message.set("Max-Forwards", "99")
    bob.send(message)
    told = pbx.expect("MESSAGE")
    assert (told.get("X-Edge"), told.get("X-Secret")) == ("sipward", None)
    assert told.get("Max-Forwards") == "19" and told.get("X-Client").startswith("127.0.0.1:")
    bob.send(bob.request("MESSAGE", "sip:100@new.test"))  # a second one at once
    assert bob.expect(200, 403, 480, 503).status == 503
    pbx.respond(told, 200, "OK")
    bob.expect(200)
    big = bob.request("MESSAGE", "sip:100@new.test", body=b"x" * 5000)
    bob.send(big)
    assert bob.expect(513)
    with socket.create_connection(("127.0.0.1", admin), 10) as http:
        http.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 401 " in http.recv(4096).split(b"\r\n")[0]
    with pytest.raises(Exception, match="404"):
        lab.client(edge, "carol", "wss")  # WebSocket is at another path
    assert '"event":"flow opened"' in edge.log() and " debug " not in edge.log().split('{"time"', 1)[1]


def test_probes_begin_and_end(lab):  # B2
    edge, pbx = lab.scripted()
    client = lab.client(edge, "alice")
    edge.reload(("interval: 0", "interval: 1, timeout: 1, down_after: 1"), ("backends:", "backends:\n  - udp:127.0.0.1:9"))
    pbx.respond(pbx.expect("OPTIONS"), 200, "OK")
    edge.process.wait_output(r"backend (down|left alone for 15 s) address=127.0.0.1:9 ")
    edge.reload(("interval: 1, timeout: 1, down_after: 1", "interval: 0"), ("  - udp:127.0.0.1:9\n", ""))
    message_passes(client, pbx)
    pbx.quiet(1.5)


# ---- many who are there ----

PHONES, CALLS = 300, 30


class Talk:
    """A call that is up: each side's dialog, and what it was sent in it."""

    def __init__(self, here, there, dialog, other):
        self.here, self.there, self.dialog, self.other = here, there, dialog, other

    async def says(self):
        """INFO, one way and the other."""
        for dialog, leg, back, answer in (
            (self.dialog, self.there, self.other, self.here),
            (self.other, self.here, self.dialog, self.there),
        ):
            dialog.request("INFO")
            back.end.respond(await leg.expect("INFO"), 200, "OK")
            await answer.expect(200)

    async def ends(self):
        self.dialog.request("BYE")
        self.other.end.respond(await self.there.expect("BYE"), 200, "OK")
        await self.here.expect(200)


async def call_out(phone, pbx):
    invite = phone.invite("sip:100@sip.test")
    here, there = phone.leg(invite.get("Call-ID")), pbx.leg(invite.get("Call-ID"))
    phone.send(invite)
    arrived = await there.expect("INVITE")
    answer = pbx.respond(arrived, 200, "OK", body=sip.sdp())
    dialog = Dialog.of_caller(phone, invite, await here.expect(200))
    dialog.ack(invite)
    await there.expect("ACK")
    return Talk(here, there, dialog, Dialog.of_callee(pbx, arrived, answer))


async def call_in(phone, pbx):
    invite = pbx.request_to("INVITE", phone.name, body=sip.sdp())
    here, there = phone.leg(invite.get("Call-ID")), pbx.leg(invite.get("Call-ID"))
    pbx.send(invite)
    arrived = await here.expect("INVITE")
    answer = phone.respond(arrived, 200, "OK", body=sip.sdp())
    dialog = Dialog.of_caller(pbx, invite, await there.expect(200))
    pbx.ack(dialog, invite)
    await here.expect("ACK")
    return Talk(here, there, Dialog.of_callee(phone, arrived, answer), dialog)


async def chatter(phones, talks, over):
    """Until it is over somebody registers again, and says something in a call."""
    rounds = 0
    while not over.is_set():
        await random.choice(phones).register()
        await talks[rounds % len(talks)].says()
        rounds += 1
    return rounds


async def crowd(lab, edge, pbxs, reloads):
    for pbx in pbxs:
        await pbx.open()
    phones = [Phone(lab, edge, f"user{i}", ("tls", "wss")[i % 2], keepalive=10) for i in range(PHONES)]
    await gather([phone.connect() for phone in phones], 20)
    await gather([phone.register() for phone in phones], 50)
    talks = await gather(
        [(call_out, call_in)[i // 2 % 2](phones[i], pbxs[0]) for i in range(CALLS)], CALLS
    )
    over = asyncio.Event()
    busy = asyncio.ensure_future(chatter(phones, talks, over))
    for change in reloads:  # each sees itself whether it has taken effect
        await asyncio.get_running_loop().run_in_executor(None, change)
        await talks[-1].says()
    over.set()
    assert await busy > 0
    await gather([talk.says() for talk in talks], CALLS)
    await gather([phone.register() for phone in phones], 50)
    late = await gather([call_in(phone, pbxs[-1]) for phone in phones[CALLS : CALLS + 10]], 10)
    await gather([talk.ends() for talk in talks + late], CALLS + 10)
    for end in (*pbxs, *phones):
        assert not end.errors, f"{end.name}: {end.errors[0]}"
    for phone in phones:
        assert phone.open
        phone.hang_up()


def test_nothing_is_lost(lab):  # R7, R8, B3, X1, X4
    pair, port = own_certificate(lab), net.free_port()
    pbxs = [Exchange(lab), Exchange(lab, "second")]
    edge = lab.edge(backends=[pbxs[0].host], certificate=pair, level="info")
    for pbx in pbxs:
        pbx.edge = edge
    listen = f'  - tls: "127.0.0.1:{edge.tls_port}"\n'
    keys = [f"{n}{n}" * 32 for n in "abc"]

    def certificate_and_sighup():
        assert renew(lab, pair) == (edge.reload(("", "limits: {max_forwards: 60}")), shown(edge))[1]

    def certificate_alone():
        new = renew(lab, pair)
        until(lambda: shown(edge, edge.wss_port) == new, "the certificate is shown", 10)

    def first_key():
        edge.reload(("", f"flow_token_keys: [{keys[0]}]"))

    def second_key():
        edge.reload((f"[{keys[0]}]", f"[{keys[1]}, {keys[0]}]"))

    def listener_away():
        edge.reload((listen, f'  - tls: "127.0.0.1:{port}"\n'))
        assert not net.can_connect(edge.address, edge.tls_port) and shown(edge, port)

    def listener_back():
        edge.reload((f"127.0.0.1:{port}", f"127.0.0.1:{edge.tls_port}"))
        assert not net.can_connect(edge.address, port) and shown(edge)

    def refused():
        edge.reload(("domain: sip.test", "domain: sip test"), refused=True)
        edge.rewrite(("domain: sip test", "domain: sip.test"))

    def domain():
        edge.reload(("domain: sip.test", "domain: new.test"), ("[localhost]", "[localhost, sip.test]"))

    def backend():
        assert edge.reload((pbxs[0].host, pbxs[1].host)) == ["backends"]

    def path():
        edge.reload(("contact: mask", "contact: path"))

    reloads = [certificate_and_sighup, first_key, listener_away, certificate_alone, second_key,
               refused, backend, domain, listener_back, path]
    asyncio.run(crowd(lab, edge, pbxs, reloads))
    assert edge.status()["tokens-refused"] == 0


def test_a_storm_of_reloads(lab):  # X4
    pair, port = own_certificate(lab), net.free_port()
    edge, pbx = lab.scripted(certificate=pair, level="info")
    listen = f'  - tls: "127.0.0.1:{edge.tls_port}"\n'
    text = edge.file.read_text()
    other = text.replace(listen, listen + f"  - tcp: 127.0.0.1:{port}\n") + "limits: {message_size: 200000}\n"
    client = lab.client(edge, "alice")

    async def connects(over):
        count = 0
        while not over.is_set():
            phone = Phone(lab, edge, f"user{count}", random.choice(("tls", "wss")))
            await phone.connect()
            phone.hang_up()
            count += 1
        return count

    async def storm():
        over = asyncio.Event()
        busy = [asyncio.ensure_future(connects(over)) for _ in range(8)]
        for n in range(60):
            new = edge.file.with_suffix(".new")
            new.write_text(other if n % 2 else text)
            os.replace(new, edge.file)
            if n % 10 == 0:
                await asyncio.get_running_loop().run_in_executor(None, renew, lab, pair)
            os.kill(edge.pid, signal.SIGHUP)
            await asyncio.sleep(random.uniform(0, 0.03))
        over.set()
        return sum(await asyncio.gather(*busy))

    assert asyncio.run(storm()) > 0
    edge.file.write_text(text + "limits: {max_forwards: 42}\n")
    os.kill(edge.pid, signal.SIGHUP)
    edge.process.wait_output(r"configuration reloaded changed=.*limits.max_forwards")
    until(lambda: shown(edge) == der(pair[0]), "the last certificate is shown", 10)
    assert message_passes(client, pbx).get("Max-Forwards") == "41"
    assert edge.status()["connections"] == 1
