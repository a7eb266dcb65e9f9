"""Certificates of clients: who is asked for one, who gets in, and what a resumed session is worth."""

import datetime
import re
import subprocess

import pytest
from harness import net
from harness.ca import SERVER, Authority
from harness.edge import PROGRAM

import handshake

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """The CA of the clients: its intermediate signs them."""
    folder = tmp_path_factory.mktemp("clients")
    root = Authority(folder / "root", "Client root")
    return Authority(folder, "Client CA", parent=root)


@pytest.fixture
def edge(lab, clients):
    """A sipward with three TLS ports: of .no, .asked, .required certificates."""
    asked, required = net.free_port(), net.free_port()
    edge = lab.edge(
        users=["alice"],
        workers=4,
        listeners=[
            f"  - {{tls: {HOST}:{asked}, client_certificate: asked}}",
            f"  - {{tls: {HOST}:{required}, client_certificate: required}}",
        ],
        more=f"client_ca: {clients.file}\n",
    )
    edge.no, edge.asked, edge.required = edge.tls_port, asked, required
    return edge


def logged(edge, pattern):
    """Wait for a line of the log."""
    return edge.process.wait_output(pattern, 10)[0]


def issue(ca, label="phone", **options):
    return ca.issue(label, names=options.pop("names", ("phone.test",)), addresses=(), **options)


def now(**delta):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta)


@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_port_demands_what_its_key_says(lab, edge, clients, version):  # X4
    with_one = handshake.context(lab.ca, version, issue(clients, subject="phone 7"))
    without = handshake.context(lab.ca, version)
    missing = {
        "TLS 1.2": "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLS 1.3": "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    }[version]
    for port, client, what in (
        (edge.no, without, "served"),
        (edge.no, with_one, "served"),
        (edge.asked, without, "served"),
        (edge.asked, with_one, "served"),
        (edge.required, without, missing),
        (edge.required, with_one, "served"),
    ):
        assert handshake.outcome(HOST, port, client) == what
    logged(edge, r"TLS handshake failed .*shows no certificate, and this port requires one")
    lines = re.findall(r"flow opened .*", edge.log())
    assert [("client=" in line) for line in lines] == [False, False, False, True, True]
    assert lines[-1].endswith('client="CN=phone 7"'), lines[-1]


@pytest.mark.parametrize("version", handshake.VERSIONS)
@pytest.mark.parametrize("kind", ["wss", "tls+wss"])
def test_a_websocket_port_demands_what_its_key_says(lab, clients, tmp_path, kind, version):  # X4, X4 refused
    """And the other one none, as browsers would ask their user for it."""
    port = net.free_port()
    edge = lab.edge(
        users=["alice"],
        listeners=[f"  - {{{kind}: {HOST}:{port}, client_certificate: required}}"],
        more=f"client_ca: {clients.file}\n",
    )
    with_one = handshake.context(lab.ca, version, issue(clients, subject="browser 7"))
    foreign = handshake.context(lab.ca, version, issue(Authority(tmp_path, "Other CA")))
    without = handshake.context(lab.ca, version)
    web = {"speak": handshake.upgrade}
    assert handshake.outcome(HOST, edge.wss_port, without, **web) == "served"
    assert handshake.outcome(HOST, port, with_one, **web) == "served"
    logged(edge, r'flow opened .* transport=wss .* client="CN=browser 7"$')
    session = handshake.session(HOST, port, with_one, speak=handshake.upgrade)
    assert handshake.outcome(HOST, port, with_one, session=session, **web) == "resumed"
    assert handshake.outcome(HOST, port, foreign, **web) == "TLSV1_ALERT_UNKNOWN_CA"
    assert handshake.outcome(HOST, port, without, **web) not in ("served", "resumed")
    for session_port in edge.wss_port, edge.tls_port:
        speak = handshake.upgrade if session_port == edge.wss_port else handshake.ping
        session = handshake.session(HOST, session_port, without, speak=speak)
        assert handshake.outcome(HOST, port, without, session=session, **web) not in ("served", "resumed")


def test_a_client_without_a_subject_is_logged_by_its_first_name(lab, edge, clients):  # X4
    client = handshake.context(lab.ca, None, issue(clients, subject="", names=("a.test", "b.test")))
    assert handshake.outcome(HOST, edge.required, client) == "served"
    logged(edge, r"flow opened .* client=DNS:a\.test$")


def test_a_name_can_not_forge_a_line_of_the_log(lab, edge, clients):  # X4
    """Whatever a CA has signed: it is one field of one line."""
    for name in "a\nb flow=9.9", 'a" flow=9.9', "a\x1b[2Jb", "Zo\u00eb \u65e5\u672c", "," * 64:
        identity = issue(clients, subject=name)
        assert handshake.outcome(HOST, edge.required, handshake.context(lab.ca, None, identity)) == "served"
    identity = issue(clients, subject="", names=("a\nb.test flow=9.9", "b.test"))
    assert handshake.outcome(HOST, edge.required, handshake.context(lab.ca, None, identity)) == "served"
    identity = issue(clients, subject="", names=("x" * 600, "b.test"))
    assert handshake.outcome(HOST, edge.required, handshake.context(lab.ca, None, identity)) == "served"
    lines = edge.process.wait_output(r"flow opened .*client=.*", 10, 7)
    one_field = r'flow opened flow=\d\.\d+ peer=\S+ transport=tls host=\S+ client=("([^"\\]|\\.)*"|[^ "]+)'
    for line in lines:
        assert re.fullmatch(one_field, line) and line.isprintable()
    assert "Zo\u00eb \u65e5\u672c" in lines[3] and len(lines[6]) < 400


BAD = {
    "of another CA": ("TLSV1_ALERT_UNKNOWN_CA", "is by no CA of client_ca"),
    "of another CA of that name": ("TLSV1_ALERT_DECRYPT_ERROR", "is by no CA of client_ca"),
    "self-signed": ("TLSV1_ALERT_UNKNOWN_CA", "is by no CA of client_ca"),
    "expired": ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "has expired"),
    "too early": ("SSLV3_ALERT_BAD_CERTIFICATE", "is not valid yet"),
    "for servers": ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "is not one for TLS clients"),
}


@pytest.mark.parametrize("version", handshake.VERSIONS)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_is_refused(lab, edge, clients, tmp_path, kind, version):  # X4 refused
    other = Authority(tmp_path / "other", "Other CA")
    same_name = Authority(tmp_path / "same", "Client CA", key_ids=False)
    identity = {
        "of another CA": lambda: issue(other),
        "of another CA of that name": lambda: issue(same_name),
        "self-signed": lambda: (other.file, other.key_file),
        "expired": lambda: issue(clients, until=now(seconds=-5)),
        "too early": lambda: issue(clients, since=now(hours=1)),
        "for servers": lambda: issue(clients, usages=[SERVER]),
    }[kind]()
    client = handshake.context(lab.ca, version, identity)
    alert, says = BAD[kind]
    for port in edge.asked, edge.required:
        assert alert in handshake.outcome(HOST, port, client)
    edge.process.wait_output(rf"TLS handshake failed .*reason=.*{says}", 10, 2)
    assert handshake.outcome(HOST, edge.no, client) == "served"
    assert "flow opened" not in edge.log().split("TLS handshake failed")[1]


@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_session_is_resumed_only_where_the_same_was_demanded(lab, edge, clients, version):  # X4
    """A session holds the certificate, and is asked for none again: that of one port is worth nothing at another."""
    with_one = handshake.context(lab.ca, version, issue(clients, subject="phone 7"))
    without = handshake.context(lab.ca, version)
    refused = {"TLS 1.2": "HANDSHAKE_FAILURE", "TLS 1.3": "CERTIFICATE_REQUIRED"}[version]
    for client, first, second, what in (
        (without, edge.no, edge.no, "resumed"),
        (without, edge.asked, edge.asked, "resumed"),
        (without, edge.no, edge.asked, "served"),
        (without, edge.asked, edge.no, "served"),
        (without, edge.no, edge.required, refused),
        (without, edge.asked, edge.required, refused),
        (with_one, edge.required, edge.required, "resumed"),
        (with_one, edge.asked, edge.asked, "resumed"),
        (with_one, edge.asked, edge.required, "served"),
        (with_one, edge.required, edge.asked, "served"),
        (with_one, edge.required, edge.no, "served"),
    ):
        session = handshake.session(HOST, first, client)
        before = edge.log().count("client=")
        assert what in handshake.outcome(HOST, second, client, session=session)
        named = what != refused and client is with_one and second != edge.no
        assert edge.log().count("client=") == before + named  # of a resumed session as well


@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_session_ends_with_the_certificate(lab, edge, clients, version):  # X4 refused
    identity = issue(clients, "short", until=now(seconds=3))
    client = handshake.context(lab.ca, version, identity)
    session = handshake.session(HOST, edge.required, client)
    assert handshake.outcome(HOST, edge.required, client, session=session) == "resumed"
    net.until(
        lambda: handshake.outcome(HOST, edge.required, client, session=session)
        == "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "the session is refused",
        step=0.2,
    )


@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_session_ends_with_the_program(lab, edge, clients, version):  # X4 refused: whoever is trusted then
    client = handshake.context(lab.ca, version, issue(clients))
    session = handshake.session(HOST, edge.required, client)
    edge.stop()
    edge.start()
    assert handshake.outcome(HOST, edge.required, client, session=session) == "served"


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_the_client_is_told_which_authorities_count(lab, edge, clients, version):  # X4
    def asked(port):
        return subprocess.run(
            ["openssl", "s_client", "-connect", f"{HOST}:{port}", f"-{version}"],
            input=b"Q\n", capture_output=True, check=False, timeout=20,
        ).stdout.decode().replace(" = ", "=")  # OpenSSL 3.0 writes CN = x, 3.5 CN=x

    assert "Acceptable client certificate CA names\nCN=Client CA\n" in asked(edge.required)
    assert "Acceptable client certificate CA names\nCN=Client CA\n" in asked(edge.asked)
    assert "No client certificate CA names sent" in asked(edge.no)


def test_several_authorities_stand_in_one_file(lab, clients, tmp_path):  # X4
    """A root counts for those whose chain leads to it, by the certificates that the client sends."""
    other = Authority(tmp_path / "other", "Other CA")
    both = tmp_path / "both.pem"
    both.write_bytes(other.file.read_bytes() + clients.parent.file.read_bytes())
    port = net.free_port()
    lab.edge(
        users=["alice"],
        listeners=[f"  - {{tls: {HOST}:{port}, client_certificate: required}}"],
        more=f"client_ca: {both}\n",
    )
    for ca in other, clients:
        client = handshake.context(lab.ca, None, issue(ca))
        assert handshake.outcome(HOST, port, client) == "served"


BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
MISTAKES = {
    "no such file": (None, "a file that can be read (No such file or directory)"),
    "no PEM": (b"no certificate\n", "has no certificate in it: a PEM file with BEGIN CERTIFICATE"),
    "broken PEM": (BROKEN, "has a broken certificate, number 1"),
    "no CA": ("leaf", "has a certificate that is not one of a CA, number 1 in it"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_client_ca_is_told_with_its_line(lab, clients, tmp_path, kind):
    content, says = MISTAKES[kind]
    chain, key = lab.ca.issue("edge")
    file = tmp_path / "clients.pem"
    if content == "leaf":
        content = issue(clients)[0].read_bytes()
    if content:
        file.write_bytes(content)
    conf = tmp_path / "sipward.yaml"
    conf.write_text(
        "domain: sip.test\n"
        f"certificate: {{chain: {chain}, key: {key}}}\n"
        f"listen: [{{tls: {HOST}:{net.free_port()}, client_certificate: asked}}]\n"
        f'core: "{HOST}:{net.free_port()}"\n'
        "users: [{name: alice, password: secret}]\n"
        f"client_ca: {file}\n"
    )
    for words in ["check", conf], [conf]:
        ran = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=30)
        assert ran.returncode != 0 and ran.stdout == ""
        told = [line for line in ran.stderr.splitlines() if line.startswith(f"{conf}:6: client_ca: ")]
        assert len(told) == 1 and says in told[0], ran.stderr
