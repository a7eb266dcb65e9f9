"""`sipward doctor`, as an operator calls it: each check where all is well, and where it is not."""

import datetime
import http.server
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import absent
from harness import net
from harness.asterisk import Asterisk, why_absent
from harness.backend import Backend
from harness.ca import Authority
from harness.edge import PROGRAM, SANITIZER
from harness.kamailio import Kamailio
from harness.name_server import Dnsmasq, Faulty
from harness.process import Process

SERVER, HOME = "127.0.1.1", "192.0.2.1"  # the name server; the machine's address on edge0
LINE = re.compile(r"  [✓!✗] \S.*|    → \S.*|[A-Z][\w ]+||\d+ failed, \d+ to look at, \d+ fine")

if not net.isolated:
    reason = "needs a network namespace of its own, and mounts"
    if os.environ.get("CI"):
        pytest.exit(reason, 1)
    pytest.skip(reason, allow_module_level=True)


class Report:
    """What one run said, by --json."""

    def __init__(self, done, took):
        self.code, self.took = done.returncode, took
        assert not SANITIZER.search(done.stderr) and self.code in (0, 1, 2), done.stderr
        self.whole = json.loads(done.stdout)
        self.checks = self.whole["checks"]
        for status, count in (("failed", "failed"), ("warning", "warnings"), ("ok", "ok")):
            assert self.whole[count] == sum(c["status"] == status for c in self.checks)
        for check in self.checks:
            assert check["status"] == "ok" or "remedy" in check or "configuration" in check["id"] \
                or check["id"] == "certificates.files", check  # those say what is right themselves

    def all(self, name):
        return [(c["status"], c["text"], c.get("remedy", "")) for c in self.checks if c["id"] == name]

    def has(self, name, status, text, remedy=""):
        """One of that name has that status, and the words in its text and its remedy."""
        assert any(
            s == status and text in t and remedy in r for s, t, r in self.all(name)
        ), f"{name}: no {status} with '{text}' and '{remedy}' in\n" + json.dumps(self.checks, indent=1)

    def statuses(self, family):
        return {c["status"] for c in self.checks if c["id"].startswith(family + ".")}


class Office:
    """A configuration to ask about, with ports of its own, and the DNS that it lives in."""

    def __init__(self, lab, ca):
        net.second_interface()
        self.lab, self.ca, self.folder = lab, ca, lab.folder("office")
        self.names = Dnsmasq(SERVER, lab.folder("dns"))
        lab.cleanups.append(self.names.stop)
        net.write("/etc/resolv.conf", f"nameserver {SERVER}\n")
        self.tls, self.wss, self.core = net.free_port(), net.free_port(), net.free_port()
        self.pair = ca.issue("office", names=("sip.test",), addresses=())
        self.file = self.folder / "sipward.yaml"
        self.zone(f"host-record=sip.test,{HOME}")

    def zone(self, *lines):
        self.names.stop()
        self.names.start(*lines)
        net.until(self.names.ready, "dnsmasq answers")

    def write(self, backends=(), more="", listen=None, pair=None, core=None, domain="sip.test"):
        chain, key = pair or self.pair
        listen = listen or [f"tls: {self.tls}", f"wss: {self.wss}"]
        lines = [
            f"domain: {domain}",
            f"certificate: {{chain: {chain}, key: {key}}}",
            f"listen: [{', '.join('{' + l + '}' for l in listen)}]",
            *([f'core: "{core or f"127.0.0.1:{self.core}"}"'] if backends else ()),
            "backends:" if backends else "users: [{name: alice, password: pw}]",
            *(f'  - "{b}"' for b in backends),
        ]
        self.file.write_text("\n".join(lines) + "\n" + more)

    def run(self, *argv, prefix=(), limit=None, trust=True):
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:exitcode=99"}
        if trust:
            environment["SSL_CERT_FILE"] = str(self.ca.file)
        return subprocess.run(
            [*prefix, pathlib.Path(PROGRAM).resolve(), "doctor", *argv],
            capture_output=True, text=True, timeout=30, check=False, env=environment,
            preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)),
        )  # fmt: skip

    def examine(self, *arguments, prefix=(), limit=None, trust=True, **options):
        if arguments or options:
            self.write(*arguments, **options)
        since = time.monotonic()
        done = self.run(self.file, "--json", prefix=prefix, limit=limit, trust=trust)
        return Report(done, time.monotonic() - since)


@pytest.fixture
def office(lab, ca):
    return Office(lab, ca)


class Answers:
    """A PBX that answers each OPTIONS over UDP with the same bytes, or never: None."""

    def __init__(self, lab, answer, port=0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.host = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.answer, self.asked, self.stopping = answer, [], False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        lab.cleanups.append(self.stop)

    def serve(self):
        while True:
            request, source = self.socket.recvfrom(65536)
            if self.stopping:
                return
            self.asked.append((request.decode(), source))
            if self.answer is not None:
                lines = [l for l in request.decode().split("\r\n")
                         if l.split(":")[0] in ("Via", "From", "Call-ID", "CSeq")]
                to = re.search(r"To: .*", request.decode())[0].strip() + ";tag=1"
                head = "\r\n".join([self.answer[0], *lines, to, *self.answer[1:], "Content-Length: 0"])
                self.socket.sendto(head.encode("latin-1") + b"\r\n\r\n", source)

    def stop(self):
        self.stopping = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", self.socket.getsockname())
        self.thread.join(5)
        self.socket.close()


class Web(http.server.ThreadingHTTPServer):
    """Another program with an HTTP server, as Prometheus has one."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()


# ---- the whole -----------------------------------------------------------------------------------


def test_all_is_well_before_kamailio(lab, office):
    kamailio = Kamailio(lab, path=True, transports=("udp", "tcp"))
    report = office.examine([f"auto:{kamailio.host}"], "profile: kamailio\n")
    assert report.code == 0 and report.whole["file"] == str(office.file)
    report.has("configuration.file", "ok", "has no mistakes")
    report.has("names.domain", "ok", f"sip.test is {HOME}, an address of this machine")
    report.has("certificates.files", "ok", "the key fits")
    report.has("certificates.dates", "warning", "office.pem ends in ", "certbot renew")
    report.has("certificates.chain", "ok", "complete, and by a CA that machines know: 'Test CA'")
    report.has("certificates.name", "ok", "is for sip.test")
    assert [t for _, t, _ in report.all("listeners.port")] == [
        f"tls {office.tls} is free", f"wss {office.wss} is free"]  # fmt: skip
    for transport in "UDP", "TCP":
        report.has("core.address", "ok", f"127.0.0.1:{office.core} ({transport}) is free")
    for transport in "udp", "tcp":
        report.has("backends.options", "ok", f"{transport} {kamailio.host} answers OPTIONS in ")
    report.has("backends.options", "ok", ": 200 OK, kamailio (")
    report.has("backends.source", "ok", f"asked from 127.0.0.1:{office.core}, as sipward itself will")
    report.has("backends.path", "ok", "Kamailio's own configuration keeps")
    report.has("backends.size", "ok", "go to " + kamailio.host + " by TCP")
    assert not report.all("backends.profile")
    assert report.all("system.clock") and report.all("system.memory")
    kamailio.check()

    text = office.run(office.file)
    assert text.returncode == 0 and not text.stderr and "\033" not in text.stdout
    assert all(LINE.fullmatch(line) for line in text.stdout.splitlines()), text.stdout
    assert text.stdout.startswith(f"Configuration\n  ✓ {office.file} has no mistakes\n\nNames that")
    for check in report.checks:
        if not re.search(r"\d MB|descriptors|in \d+ ms|\d days", check["text"]):
            assert check["text"] in text.stdout


def test_without_backends(office):
    office.write()
    report = office.examine()
    assert report.code == 0 and not report.statuses("backends")
    report.has("core.embedded", "ok", "registrar serves 1 users")


def test_mistakes_are_all_named(office):
    office.file.write_text("domain: sip.test\nlisten: [{tls: 99999}]\nnonsense: 1\n")
    report = office.examine()
    assert report.code == 2
    assert {c["id"] for c in report.checks[:-1]} == {"configuration.file"}
    report.has("configuration.rest", "warning", "nothing else was tried", "correct that first")
    report.has("configuration.file", "failed", f"{office.file}:2: ")
    report.has("configuration.file", "failed", f"{office.file}:3: nonsense")
    text = office.run(office.file)
    assert text.returncode == 2 and f"  ✗ {office.file}:2: " in text.stdout
    office.file.unlink()
    report = office.examine()
    assert report.code == 2
    report.has("configuration.file", "failed", "can't be read: No such file")


def test_usage(office):
    office.write()
    for argv in ((), (office.file, office.file), ("--json",)):
        done = office.run(*argv)
        assert done.returncode == 2 and "doctor takes one FILE" in done.stderr and not done.stdout
    done = office.run(office.file, "--yaml")
    assert done.returncode == 2 and "unknown option --yaml;" in done.stderr and not done.stdout
    done = office.run("--help")
    assert done.returncode == 0 and "sipward doctor FILE [--json]" in done.stdout and not done.stderr


# ---- names ---------------------------------------------------------------------------------------


def test_names_that_lead_elsewhere(office):
    office.zone(
        "host-record=sip.test,198.51.100.7",
        "host-record=loop.test,127.0.0.1",
        "host-record=six.test,2001:db8::7",
        "host-record=both.test,192.0.2.1",
        "srv-host=_sips._tcp.sip.test,other.test,5061",
        f"srv-host=_sip._tls.sip.test,loop.test,{office.tls}",
    )
    report = office.examine(more="aliases: [loop.test, six.test, gone.test, edge.test, 192.0.2.1, 10.9.8.7, localhost, '::1']\n")
    report.has("names.domain", "warning", "sip.test is 198.51.100.7, and this machine is 192.0.2.1",
               f"fine if 198.51.100.7 forwards TCP ports {office.tls}, {office.wss} to here")  # fmt: skip
    report.has("names.alias", "warning", "loop.test is 127.0.0.1: only programs on this machine")
    report.has("names.alias", "warning", "six.test is 2001:db8::7, but this machine has no IPv6 address", "AAAA record")
    report.has("names.alias", "failed", "the DNS has no address for gone.test", "gone.test. A 192.0.2.1")
    report.has("names.alias", "warning", "edge.test is known to this machine's /etc/hosts, which others don't see; the DNS has no address")
    report.has("names.alias", "ok", "192.0.2.1 is an address of this machine")
    for own in ("localhost", "::1"):
        report.has("names.alias", "ok", f"{own} is for programs on this machine alone")
    report.has("names.alias", "warning", "10.9.8.7 is 10.9.8.7, and this machine is")
    report.has("names.srv", "warning", "_sips._tcp.sip.test leads phones to other.test:5061", "aliases: [other.test]")
    report.has("names.srv", "ok", f"_sip._tls.sip.test leads phones to loop.test:{office.tls}")
    assert report.code == 1


def test_a_domain_of_srv_records_alone(office):
    office.zone(f"srv-host=_sips._tcp.only.test,sip.test,{office.tls}", f"host-record=sip.test,{HOME}")
    report = office.examine(domain="only.test", more="aliases: [sip.test]\n")
    report.has("names.domain", "warning", "has SRV records for only.test but no address", "browsers need")
    report.has("names.srv", "ok", f"_sips._tcp.only.test leads phones to sip.test:{office.tls}")


def test_names_that_lead_to_no_listener(office):
    office.zone(f"host-record=sip.test,{HOME}", "srv-host=_sips._tcp.sip.test,sip.test,1")
    report = office.examine(listen=[f'tls: "127.0.0.1:{office.tls}"'])
    report.has("names.domain", "failed", f"sip.test is {HOME}, an address of this machine, but no listener", "listen")
    report.has("names.srv", "warning", "no listener has SIP over TLS on port 1", "- tls: 1 ")
    report.has("listeners.loopback", "warning", "only programs on this machine connect", "- tls: 5061")


def test_a_name_server_that_is_silent_takes_no_ten_seconds(lab, office):
    office.names.stop()
    silent = Faulty(SERVER, other=None)
    lab.cleanups.append(silent.stop)
    pbx = Answers(lab, None)
    report = office.examine(["udp:pbx.test", f"udp:{pbx.host}"], "aliases: [quiet.test]\n")
    assert report.took < 10
    report.has("names.domain", "warning", "/etc/hosts, which others don't see; the DNS can't be asked")
    report.has("names.alias", "warning", "the DNS can't be asked for quiet.test from here", "/etc/resolv.conf")
    report.has("backends.name", "failed", "no address is known for the backend pbx.test", "nslookup pbx.test")
    report.has("backends.options", "failed", f"udp {pbx.host} does not answer OPTIONS")


# ---- certificates --------------------------------------------------------------------------------


def days(number):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=number)


NAMES = {"names": ("sip.test",), "addresses": ()}
TIMES = {
    "good": ({"days": 60}, "ok", "more days, until ", ""),
    "soon": ({"days": 3}, "warning", " days, on ", "certbot renew"),
    "ended": ({"since": days(-9), "until": days(-2)}, "failed", "has expired on ", "renew it"),
    "early": ({"since": days(2), "until": days(9)}, "failed", "is not valid before", "date -u"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TIMES)
def test_certificate_times(office, ca, kind):
    times, status, text, remedy = TIMES[kind]
    report = office.examine(pair=ca.issue(kind, **NAMES, **times))
    report.has("certificates.dates", status, text, remedy)
    assert report.code == (status == "failed")


def test_certificate_of_another_name_and_key(office, ca):
    other = ca.issue("other", names=("other.test", "*.wild.test"), addresses=())
    report = office.examine(pair=other, more="aliases: [a.wild.test]\n")
    report.has("certificates.name", "failed", "no certificate is for sip.test", "-d sip.test")
    report.has("certificates.name", "ok", "is for a.wild.test")
    report = office.examine(pair=(office.pair[0], other[1]))
    report.has("certificates.files", "failed", f"is not the key of '{office.pair[0]}'")
    assert report.code == 1
    report = office.examine(pair=(office.folder / "none.pem", other[1]))
    assert report.code == 2
    report.has("configuration.file", "failed", "is not a file that can be read")


def test_certificate_chains(office, ca, tmp_path):
    middle = Authority(tmp_path / "middle", "Middle CA", parent=ca)
    chain, key = middle.issue("leaf", **NAMES)
    report = office.examine(pair=(chain, key))
    report.has("certificates.chain", "ok", "complete, and by a CA that machines know: 'Middle CA'")
    report = office.examine(pair=(chain, key), trust=False)
    report.has("certificates.chain", "warning", "can't be verified here" if not os.path.exists(
        "/etc/ssl/certs/ca-certificates.crt") else "comes from 'Test CA', a CA that this machine does not know")

    pems = re.findall(r"-----BEGIN.*?-----END CERTIFICATE-----\n", chain.read_text(), re.S)
    alone, turned, rooted = (tmp_path / f"{n}.pem" for n in ("alone", "turned", "rooted"))
    alone.write_text(pems[0])
    report = office.examine(pair=(alone, key))
    report.has("certificates.chain", "warning", "comes from 'Middle CA'", "append the certificate of 'Middle CA'")
    turned.write_text(pems[0] + ca.file.read_text() + pems[1])
    report = office.examine(pair=(turned, key))
    report.has("certificates.chain", "warning", "in a wrong order", "the server's own first")
    rooted.write_text("".join(pems) + ca.file.read_text())
    report = office.examine(pair=(rooted, key), trust=False)
    report.has("certificates.chain", "warning", "'Middle CA', a CA of somebody's own", "install that CA")
    assert report.code == 0


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=20)


def test_certificate_without_its_issuer(office, ca, tmp_path):
    """As those of public CAs are, which say where their issuer's can be had."""
    key, request, chain = (tmp_path / f"public.{end}" for end in ("key", "csr", "pem"))
    (tmp_path / "extensions").write_text(
        "subjectAltName=DNS:sip.test\nauthorityInfoAccess=caIssuers;URI:http://ca.test/ca.der\n"
    )
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=sip.test",
            "-keyout", key, "-out", request)  # fmt: skip
    openssl("x509", "-req", "-in", request, "-CA", ca.file, "-CAkey", ca.key_file, "-days", 30,
            "-extfile", tmp_path / "extensions", "-out", chain)  # fmt: skip
    report = office.examine(pair=(chain, key), trust=False)
    report.has("certificates.chain", "failed", "lacks the certificate of its issuer 'Test CA'", "fullchain.pem")
    assert report.code == 1


def test_certificate_for_development(office, tmp_path):
    key, chain = tmp_path / "own.key", tmp_path / "own.pem"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30,
            "-subj", "/CN=sip.test", "-addext", "subjectAltName=DNS:sip.test", "-keyout", key, "-out", chain)  # fmt: skip
    key.chmod(0o644)
    report = office.examine(pair=(chain, key))
    report.has("certificates.chain", "warning", "is self-signed", "certbot certonly --standalone -d sip.test")
    report.has("certificates.key", "warning", "can be read by every user", f"chmod o= {key}")
    assert report.code == 0


# ---- ports ---------------------------------------------------------------------------------------


def test_ports_that_others_have(office):
    with socket.create_server(("127.0.0.1", office.tls)), socket.create_server(
        ("::", office.wss), family=socket.AF_INET6, dualstack_ipv6=True
    ), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pbx:
        pbx.bind(("0.0.0.0", office.core))
        report = office.examine(["udp:127.0.0.1:5999"], listen=[f"tls: {office.tls}", f'wss: "{HOME}:{office.wss}"'])
    mine = f"is taken by {pathlib.Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"
    report.has("listeners.port", "failed", f"tls {office.tls} {mine}", "or use another port here")
    report.has("listeners.port", "failed", f"wss {HOME}:{office.wss} {mine}")
    report.has("core.address", "failed", mine, f'core: "127.0.0.1:{office.core + 10}"')
    assert report.code == 1


def test_ports_that_can_not_be_had(office):
    report = office.examine(["udp:10.1.2.3"], listen=['tls: "10.9.9.9:5061"'], core="10.9.9.9:5060")
    report.has("listeners.port", "failed", "can't be had: Cannot assign", f"but: {HOME}")
    report.has("core.address", "failed", "is no address of this machine", f"it has: {HOME}")
    report.has("core.route", "failed", "no way to 10.1.2.3:5060", "ip route get 10.1.2.3")


def test_ports_below_1024_and_rights(office):
    drop = ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"]
    report = office.examine(listen=["tls: 443"], prefix=drop)
    report.has("listeners.port", "failed", "tls 443 can't be had: Permission denied", "CAP_NET_BIND_SERVICE")


def test_core_address_and_backend(office):
    port = office.core
    office.zone("host-record=pbx.test,127.0.0.1")
    report = office.examine([f"udp:pbx.test:{port}", f"udp:{HOME}:{port}", "udp:192.0.2.9"])
    report.has("core.self", "failed", f"127.0.0.1:{port} is also where", f'core: "127.0.0.1:{port + 10}"')
    report.has("core.route", "failed", "192.0.2.9:5060 can't be reached from 127.0.0.1", f'core: "{HOME}:{port}"')
    assert not any(f"{HOME}:{port}" in t for _, t, _ in report.all("core.route"))


def test_load_balancers(office):
    more = [net.free_port() for _ in range(3)]
    report = office.examine(listen=[
        f"tls: {office.tls}, proxy_protocol: [10.0.0.7/32]",
        f"wss: {office.wss}, proxy_protocol: [0.0.0.0/0]",
        f"tcp: {more[0]}",
        f"ws: {more[1]}, proxy_protocol: [10.0.0.7/32]",
        f'tcp: "127.0.0.1:{more[2]}"',
    ])  # fmt: skip
    report.has("listeners.proxy_protocol", "ok", f"tls {office.tls} takes connections from 1 network of load")
    report.has("listeners.proxy_protocol", "warning", f"wss {office.wss} takes a PROXY protocol header of anyone", "10.0.0.7/32")
    report.has("listeners.plain", "warning", f"tcp {more[0]} has no TLS", "proxy_protocol")
    report.has("listeners.plain", "warning", f"ws {more[1]} has no TLS", "fine if the load balancer has the TLS")
    assert not any(str(more[2]) in t for _, t, _ in report.all("listeners.plain"))


# ---- beside a sipward that runs ------------------------------------------------------------------


def test_beside_a_running_sipward(lab, office):
    backend = Backend(lab, "127.0.0.1").start()
    edge = lab.edge(backends=[f"auto:{backend.host}"])
    office.file = edge.file
    report = office.examine()
    runs = f"(process {edge.pid})"
    report.has("configuration.running", "ok", f"a sipward runs with it {runs}")
    for listener in f"tls 127.0.0.1:{edge.tls_port}", f"wss 127.0.0.1:{edge.wss_port}":
        report.has("listeners.port", "ok", f"{listener} is served by the sipward that runs {runs}")
    for transport in "UDP", "TCP":
        report.has("core.address", "ok", f"127.0.0.1:{edge.core[1]} ({transport}), where the backends see it, belongs to the sipward that runs {runs}")
    limits = pathlib.Path(f"/proc/{edge.pid}/limits").read_text()
    may = re.search(r"Max open files +(\d+)", limits)[1]
    report.has("system.running_descriptors", "ok", f"that runs may have {may} file descriptors")
    report.has("backends.options", "ok", f"udp {backend.host} answers OPTIONS")
    report.has("backends.options", "warning", f"tcp {backend.host} refuses: nothing listens there, so large requests")
    report.has("backends.source", "ok", "as sipward's own port is taken")
    assert f"127.0.0.1:{edge.core[1]}," not in report.all("backends.source")[0][1]
    assert "failed" not in report.statuses("listeners") | report.statuses("core") | report.statuses("backends")

    copy = office.folder / "copy.yaml"  # another configuration at the same ports
    copy.write_text(edge.file.read_text())
    office.file = copy
    report = office.examine()
    assert not report.all("configuration.running") and report.code == 1
    report.has("listeners.port", "failed", f"is taken by sipward {runs}")
    report.has("core.address", "failed", f"is taken by sipward {runs}", "another port")
    assert edge.process.child.poll() is None


def test_as_a_user_without_rights(lab, office):
    if int(pathlib.Path("/proc/self/uid_map").read_text().split()[2]) < 65535:
        pytest.skip("there is no other user in this namespace")
    backend = Backend(lab, "127.0.0.1").start()
    port, admin = net.free_port(), net.free_port()
    with tempfile.TemporaryDirectory() as name:  # for all to read
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        shutil.copy(PROGRAM, folder / "sipward")
        pair = [shutil.copy(file, folder) for file in office.pair]
        os.chmod(pair[1], 0o644)
        office.file = folder / "sipward.yaml"
        office.write([f"udp:{backend.host}"], f"admin: 127.0.0.1:{admin}\n", pair=pair,
                     listen=[f'tls: "{HOME}:{port}"'])  # fmt: skip
        edge = Process(lab, "sipward", [folder / "sipward", office.file], expect="is ready")
        nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "env", "ASAN_OPTIONS=detect_leaks=0"]
        report = office.examine(prefix=nobody)
        # its descriptors are not visible; its name, its user and its arguments are
        report.has("listeners.port", "ok", f"is served by the sipward that runs (process {edge.child.pid})")
        report.has("core.address", "ok", f"belongs to the sipward that runs (process {edge.child.pid})")
        report.has("backends.options", "ok", "answers OPTIONS")
        report.has("admin.ready", "ok", f"http://127.0.0.1:{admin}/readyz says: ready")

        # and where no process is visible, its admin side is
        invisible = ["unshare", "--pid", "--fork", "--mount-proc"]
        report = office.examine(prefix=invisible)
        answers = f"the sipward that answers at 127.0.0.1:{admin}"
        report.has("configuration.running", "ok", f"answers at its admin address, 127.0.0.1:{admin}")
        report.has("listeners.port", "ok", f"tls {HOME}:{port} is served by {answers}")
        report.has("core.address", "ok", f"belongs to {answers}")
        edge.stop()

        # a relative name is one in its folder, which root sees, and nobody else
        office.file.write_text(office.file.read_text().replace(f"admin: 127.0.0.1:{admin}", "admin: no"))
        edge = Process(lab, "sipward", [folder / "sipward", "sipward.yaml"], cwd=folder, expect="is ready")
        report = office.examine()
        report.has("listeners.port", "ok", f"is served by the sipward that runs (process {edge.child.pid})")
        report = office.examine(prefix=nobody)
        report.has("listeners.port", "failed", "is taken by another program, which this user can't see", "as root")
        edge.stop()


def test_a_running_sipward_that_is_not_ready(lab, office):
    admin = net.free_port()
    office.write(["udp:nowhere.test"], f"admin: 127.0.0.1:{admin}\n")
    edge = Process(lab, "sipward", [PROGRAM, office.file], cwd=os.getcwd(), expect="is ready")
    report = office.examine()
    report.has("admin.ready", "warning", "/readyz says: no backend is up", f"curl http://127.0.0.1:{admin}/api/backends")
    edge.stop()
    with Web() as other:
        edge = Process(lab, "sipward", [PROGRAM, office.file], cwd=os.getcwd(), expect="is ready")
        office.file.write_text(office.file.read_text().replace(str(admin), str(other.server_port)))
        report = office.examine()
        report.has("admin.ready", "warning", f"127.0.0.1:{other.server_port} is answered by", "admin: 127.0.0.1:9091")
        edge.stop()


def test_admin_side(office):
    report = office.examine(more="admin: no\n")
    report.has("admin.none", "ok", "neither metrics nor pages")
    report = office.examine(more="admin: 0.0.0.0:0\n")
    report.has("admin.address", "ok", "is any free port")
    report.has("admin.token", "warning", "whoever reaches 0.0.0.0:0 can read who is connected", "openssl rand")
    port = net.free_port()
    report = office.examine(more=f"admin: {{listen: 0.0.0.0:{port}, token: 0123456789abcdef}}\n")
    report.has("admin.address", "ok", f"0.0.0.0:{port} is free")
    assert not report.all("admin.token")
    with socket.create_server(("127.0.0.1", port)):
        report = office.examine()
        report.has("admin.address", "failed", f"(process {os.getpid()})", "admin: 127.0.0.1:9091")
        assert report.code == 1
    with socket.create_server(("127.0.0.1", 9090)):  # the default
        report = office.examine(more="log: text\n")
        report.has("admin.address", "warning", "sipward runs without its admin side then", "admin: no")
        assert report.code == 0 and report.took < 8


# ---- backends ------------------------------------------------------------------------------------


def test_backends_that_do_not_answer_as_they_should(lab, office):
    office.zone(f"host-record=sip.test,{HOME}", "host-record=pbx.test,127.0.0.5")
    silent = Answers(lab, None)
    busy = Answers(lab, ["SIP/2.0 503 Later", "Server: Asterisk PBX 22.0.0"])
    hostile = Answers(lab, ["SIP/2.0 403 Go away", "Server: \x9b\xe9 FreeSWITCH"])
    old = Answers(lab, ["SIP/2.0 200 OK", "Date: Sat, 13 Nov 2010 23:29:00 GMT", "Supported: path, gruu"])
    broken = Answers(lab, ["SIP/2.0 200 OK", "CSeq: none"])
    mute = socket.create_server(("127.0.0.1", 0))  # takes connections, and that's all
    refused = net.free_port()
    tcp = "127.0.0.1:%d" % mute.getsockname()[1]
    with mute:
        report = office.examine([
            *(f"udp:{end.host}" for end in (silent, busy, hostile, old, broken)),
            f"udp:pbx.test:{refused}", f"tcp:127.0.0.1:{refused}", f"tcp:{tcp}", "udp:nowhere.test",
        ])  # fmt: skip
    assert report.took < 10 and report.code == 1
    report.has("backends.options", "failed", f"udp {silent.host} does not answer OPTIONS", "tcpdump -ni any host 127.0.0.1")
    report.has("backends.options", "warning", f"udp {busy.host} answers OPTIONS", "in the PBX's log")
    report.has("backends.options", "ok", "403 Go away", "access list")
    report.has("backends.options", "failed", f"udp {broken.host} answers with what is no SIP", "5060")
    report.has("backends.options", "failed", f"udp 127.0.0.5:{refused} (pbx.test) refuses: nothing listens there", "ss -lnup")
    report.has("backends.options", "failed", f"tcp 127.0.0.1:{refused} refuses", "ss -lntp")
    report.has("backends.options", "failed", f"tcp {tcp} does not answer OPTIONS, though it takes the connection")
    report.has("backends.name", "failed", "no address is known for the backend nowhere.test", "nslookup nowhere.test")
    report.has("backends.clock", "warning", "s behind this machine's", "timedatectl")
    report.has("backends.profile", "warning", "a backend is Asterisk, and no profile is set", "profile: asterisk")
    report.has("backends.profile", "warning", "a backend is FreeSWITCH", "profile: freeswitch")
    report.has("backends.path", "ok", "contact: mask")
    request, source = old.asked[0]
    assert source == ("127.0.0.1", office.core) and f"Via: SIP/2.0/UDP 127.0.0.1:{office.core};" in request
    assert len(old.asked) == 1 and 3 <= len(silent.asked) <= 5  # sent again, less and less often


REMEDIES = {
    "asterisk": ("pjsip show transports", "fail2ban-client unban 127.0.0.1"),
    "freeswitch": ("sofia status", "sofia global siptrace on"),
    "kamailio": ("corex.list_sockets", "tcpdump"),
    "3cx": ("ss -lnup", "IP blacklist"),
    "cucm": ("ss -lnup", "tcpdump"),
}


def test_remedies_of_each_profile(lab, office):
    silent, refused = Answers(lab, None), net.free_port()
    office.zone(f"host-record=sip.test,{HOME}")
    offices = []
    for profile, (at_refusal, at_silence) in REMEDIES.items():
        office.write([f"udp:{silent.host}", f"udp:127.0.0.1:{refused}"], f"profile: {profile}\n",
                     core=f"127.0.0.1:{net.free_port()}")  # fmt: skip
        file = office.folder / f"{profile}.yaml"
        office.file.rename(file)
        thread = threading.Thread(
            target=lambda file=file, words=(at_refusal, at_silence): offices.append(
                (Report(office.run(file, "--json"), 0), words)
            )
        )
        thread.start()
        lab.cleanups.append(thread.join)
    net.until(lambda: len(offices) == len(REMEDIES), "all have reported", 25)
    for report, (at_refusal, at_silence) in offices:
        report.has("backends.options", "failed", "refuses", at_refusal)
        report.has("backends.options", "failed", "does not answer", at_silence)


def test_what_supported_says_of_path(lab, office):
    keeps = Answers(lab, ["SIP/2.0 200 OK", "Supported: gruu, path"])
    drops = Answers(lab, ["SIP/2.0 200 OK", "Supported: gruu"])
    mum = Answers(lab, ["SIP/2.0 200 OK"])
    for backend, status, text, remedy in (
        (keeps, "ok", "Supported in the answer to OPTIONS has path", ""),
        (drops, "warning", "does not have path", "contact: mask"),
        (mum, "warning", "no answer says whether", "contact: mask"),
    ):
        report = office.examine([f"udp:{backend.host}"], "contact: path\n")
        report.has("backends.path", status, text, remedy)


def test_large_requests(lab, office):
    kamailio = Kamailio(lab, path=False, transports=("udp", "tcp"))
    backend = Backend(lab, "127.0.0.1").start()
    places = [f"udp:{kamailio.host}", f"udp:{backend.host}"]
    report = office.examine(places)
    assert not report.all("backends.size")  # loopback takes 64 kB
    lab.cleanups.append(lambda: subprocess.run(["ip", "link", "set", "lo", "mtu", "65536"], check=True))
    subprocess.run(["ip", "link", "set", "lo", "mtu", "1400"], check=True)
    report = office.examine(places)
    report.has("backends.size", "warning", "takes packets of 1400 bytes: INVITEs of browsers", f"auto:{kamailio.host} in")
    report.has("backends.size", "warning", "in fragments", f"listen for TCP on that port as well, and write auto:{backend.host}")
    report.has("backends.profile", "warning", "a backend is Kamailio", "profile: kamailio")
    report = office.examine([f"auto:{kamailio.host}"])
    report.has("backends.size", "ok", "the way there takes packets of 1400")
    report = office.examine([f"auto:{kamailio.host}"], "limits: {udp_size: 1390}\n")
    report.has("backends.size", "warning", "requests of up to 1390 go by UDP: in fragments", "limits: {udp_size: 1200}")
    report = office.examine(places, listen=[f"tls: {office.tls}"])
    assert not report.all("backends.size") and report.code == 0


def test_before_asterisk(lab, office):
    reason = why_absent()
    if reason:
        absent(reason)
    asterisk = Asterisk(lab, phones=("alice",), transports=("udp", "tcp"))
    report = office.examine([f"auto:{asterisk.host}"])
    for transport in "udp", "tcp":
        report.has("backends.options", "ok", f"{transport} {asterisk.host} answers OPTIONS")
    report.has("backends.options", "ok", "401 Unauthorized, Asterisk PBX 22")
    report.has("backends.options", "ok", "it wants a password of strangers, which is fine")
    report.has("backends.profile", "warning", "a backend is Asterisk", "profile: asterisk")
    report = office.examine([f"auto:{asterisk.host}"], "profile: asterisk\n")
    assert report.code == 0 and not report.all("backends.profile")


# ---- the system ----------------------------------------------------------------------------------


def test_few_descriptors(office):
    office.write()
    report = office.examine(limit=(60, 60))
    assert report.code == 1
    report.has("system.descriptors", "failed", "60 file descriptors are too few", "LimitNOFILE=65536")
    report = office.examine(limit=(600, 600), more="workers: 2\n")
    assert report.code == 0
    report.has("system.descriptors", "warning", "600 file descriptors leave room for ", "ulimit -n 65536")
    report = office.examine(limit=(4096, 4096), more="workers: 2\nlimits: {connections: 100000}\n")
    report.has("system.descriptors", "warning", "fewer than limits.connections", "LimitNOFILE=104096")
    report = office.examine(limit=(1024, 4096), more="workers: 2\n")  # raised as far as is allowed
    report.has("system.descriptors", "ok", "4096 file descriptors: room for ")
    report = office.examine(more="limits: {connections: 10000000}\n")
    report.has("system.memory", "warning", "connections need that", "limits: {connections: ")
