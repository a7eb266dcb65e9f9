"""/metrics, through the front door: each family's event is made to happen, and its number moves. The last tests hold the page against
Prometheus' own check, and the dashboard and alert rules against the page."""

import collections
import http.client
import json
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from harness import net, sip
from harness.ends import TcpPbx, establish, hang_up

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? ([\d.e+]+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

# What can't be made to happen from outside, and where it is shown instead.
ELSEWHERE = {
    "sipward_mailbox_dropped_total": "integration/test_mailbox.c",
    "sipward_mailbox_waiting": "it is over before anyone can look",
}

Sample = collections.namedtuple("Sample", "name labels value")


def page(edge):
    connection = http.client.HTTPConnection("127.0.0.1", edge.admin_port, timeout=15)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return text


def samples(edge):
    found = []
    for line in page(edge).splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.match(line).groups()
            found.append(Sample(name, dict(LABEL.findall(labels or "")), float(value)))
    return found


def value(edge, name, **labels):
    """The sum of all samples of that name with these labels; None: there are none."""
    chosen = [s.value for s in samples(edge) if s.name == name and labels.items() <= s.labels.items()]
    return sum(chosen) if chosen else None


class Watch:
    """What the numbers were when the test began."""

    def __init__(self, edge):
        self.edge, self.before = edge, samples(edge)

    def was(self, name, labels):
        return sum(s.value for s in self.before if s.name == name and labels.items() <= s.labels.items())

    def rose(self, name, at_least=1, **labels):
        """It has risen by so much, or will in good time."""
        wanted = self.was(name, labels) + at_least
        net.until(lambda: (value(self.edge, name, **labels) or 0) >= wanted, f"{name}{labels} rises by {at_least}")

    def still(self, name, **labels):
        assert value(self.edge, name, **labels) == self.was(name, labels), (name, labels)


def shows(edge, name, wanted, **labels):
    net.until(lambda: value(edge, name, **labels) == wanted, f"{name}{labels} is {wanted}")


def option(client, **headers):
    """OPTIONS that sipward answers itself."""
    request = client.request("OPTIONS", "sip:sip.test").set("Max-Forwards", "0")
    client.send(request)
    client.expect(200)


# ---- connections ----


def test_connections_and_handshakes(lab):
    edge, pbx = lab.scripted()
    watch = Watch(edge)
    tls, wss = lab.client(edge, "alice", "tls"), lab.client(edge, "bob", "wss")
    watch.rose("sipward_connections_opened_total", transport="tls")
    watch.rose("sipward_connections_opened_total", transport="wss")
    watch.rose("sipward_handshakes_total", 2, version="1.3", resumed="false")
    shows(edge, "sipward_connections", 1, transport="wss")
    shows(edge, "sipward_flows", 2)
    wss.close()
    watch.rose("sipward_connections_closed_total", transport="wss")
    shows(edge, "sipward_connections", 0, transport="wss")
    shows(edge, "sipward_connections", 1, transport="tls")
    option(tls)  # it lives

    context = ssl.create_default_context(cafile=edge.ca.file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    session = None
    for _ in range(2):
        plain = socket.create_connection(("127.0.0.1", edge.tls_port), 10)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            session = client.session
    watch.rose("sipward_handshakes_total", version="1.2", resumed="false")
    watch.rose("sipward_handshakes_total", version="1.2", resumed="true")
    with socket.create_connection(("127.0.0.1", edge.tls_port), 10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while plain.recv(4096):
            pass
    watch.rose("sipward_handshake_failures_total", reason="not-tls")
    watch.rose("sipward_connections_closed_total", transport="tls", reason="not-tls", by="sipward")
    stranger = ssl.create_default_context()  # it does not know our CA

    def refuses():
        """Its alert may be lost behind the reset of a socket that was closed unread."""
        with socket.create_connection(("127.0.0.1", edge.tls_port), 10) as plain, pytest.raises(ssl.SSLError):
            stranger.wrap_socket(plain, server_hostname="localhost")
        return value(edge, "sipward_handshake_failures_total", reason="tls-unknown-ca")

    net.until(refuses, "the refusal is counted")
    assert pbx.quiet(0.1) is None


def test_a_client_over_the_limit_is_refused(lab):
    edge = lab.edge(users=["alice"], more="limits: {connections: 1}\n")
    watch = Watch(edge)
    shows(edge, "sipward_connections_limit", 1)
    net.until(lambda: value(edge, "sipward_connections") == 0, "the harness' own look is over")
    lab.client(edge, "alice")
    with socket.create_connection(("127.0.0.1", edge.tls_port), 10) as second:
        assert second.recv(1) == b""
    watch.rose("sipward_connections_refused_total", reason="connection-limit")


def test_bytes_wait_for_a_slow_reader(lab):  # X2
    edge, pbx = lab.scripted(more="limits: {send_queue: 33554432}\n")
    alice = lab.registered(edge, pbx, "alice")
    shows(edge, "sipward_send_queue_bytes", 0)
    deadline = time.monotonic() + 20
    while not value(edge, "sipward_send_queue_bytes"):
        assert time.monotonic() < deadline, "nothing ever waits"
        for _ in range(20):
            pbx.send(pbx.request("MESSAGE", alice.bound, body=b"x" * 30000))
    alice.close()
    shows(edge, "sipward_send_queue_bytes", 0)


# ---- messages ----


def test_calls_and_registrations(lab):
    edge, pbx = lab.scripted()
    watch = Watch(edge)
    alice = lab.registered(edge, pbx, "alice")
    watch.rose("sipward_requests_total", side="access", method="REGISTER")
    watch.rose("sipward_responses_total", side="core", method="REGISTER", **{"class": "2xx"})
    invite = alice.invite("sip:100@sip.test")
    alice.send(invite)
    of_alice, of_pbx = establish(alice, invite, pbx)
    shows(edge, "sipward_dialogs", 1)
    watch.rose("sipward_requests_total", side="access", method="INVITE")
    watch.rose("sipward_responses_total", side="core", method="INVITE", **{"class": "1xx"})
    watch.rose("sipward_responses_total", side="core", method="INVITE", **{"class": "2xx"})
    watch.rose("sipward_transactions")
    watch.rose("sipward_timers")
    hang_up(of_pbx, of_alice)
    watch.rose("sipward_requests_total", side="core", method="BYE")
    watch.rose("sipward_responses_total", side="access", method="BYE", **{"class": "2xx"})
    shows(edge, "sipward_dialogs", 0)
    alice.send(alice.request("FROBNICATE", "sip:100@sip.test"))
    pbx.respond(pbx.expect("FROBNICATE"), 404)
    alice.expect(404)
    watch.rose("sipward_requests_total", side="access", method="other")
    watch.rose("sipward_backend_response_seconds_count", 3, transport="udp", address=pbx.host)
    watch.rose("sipward_backend_response_seconds_bucket", 3, le="+Inf")
    watch.rose("sipward_core_messages_total", 3, transport="udp", direction="sent")
    watch.rose("sipward_core_messages_total", 3, transport="udp", direction="received")
    watch.rose("sipward_loop_lag_seconds_count")
    watch.still("sipward_requests_rejected_total")
    watch.still("sipward_messages_dropped_total")


def test_what_is_refused_by_which_rule(lab):  # M1 to core refused, M2 to access refused, F6 refused, T4 to core refused
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    watch = Watch(edge)
    alice.send(alice.request("MESSAGE", "sip:100@sip.test").set("Max-Forwards", "0"))
    alice.expect(483)
    watch.rose("sipward_requests_rejected_total", rule="M1", code="483")
    pbx.send(pbx.request("MESSAGE", alice.bound).set("Max-Forwards", "x"))
    pbx.expect(400)
    watch.rose("sipward_requests_rejected_total", rule="M2", code="400")
    alice.cancel(alice.invite("sip:100@sip.test"))
    alice.expect(481)
    watch.rose("sipward_requests_rejected_total", rule="T4", code="481")
    big = alice.request("MESSAGE", "sip:100@sip.test").bytes().replace(b"Content-Length: 0", b"Content-Length: 99999")
    alice.send(big)
    alice.expect(513)
    watch.rose("sipward_requests_rejected_total", rule="F6", code="513")
    watch.rose("sipward_messages_oversize_total")
    watch.rose("sipward_connections_closed_total", transport="tls", reason="message-too-large")


def test_forged_tokens_and_flows_that_are_gone(lab):  # R7 refused
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    watch = Watch(edge)
    token = re.search(r";flow=([\w-]+)", alice.bound)[1]
    forged = alice.bound.replace(token, token[:20] + ("B" if token[20] == "A" else "A") + token[21:])
    pbx.send(pbx.request("MESSAGE", forged))
    pbx.expect(403)
    watch.rose("sipward_flow_tokens_refused_total")
    watch.rose("sipward_requests_rejected_total", rule="R7", code="403")
    alice.close()
    shows(edge, "sipward_flows", 0)
    pbx.send(pbx.request("MESSAGE", alice.bound))
    pbx.expect(430)
    watch.rose("sipward_requests_rejected_total", rule="R7", code="430")
    assert token not in page(edge)  # X5


def test_what_is_dropped_or_comes_again(lab):  # T1, T8, V5 to access refused, R8 refused
    edge, pbx = lab.scripted()
    alice = lab.registered(edge, pbx, "alice")
    watch = Watch(edge)
    request = alice.request("MESSAGE", "sip:100@sip.test")
    alice.send(request)
    message = pbx.expect("MESSAGE")
    watch.rose("sipward_retransmissions_total", side="core", direction="sent")  # after half a second
    shows(edge, "sipward_requests_open", 1 + watch.was("sipward_requests_open", {}))
    pbx.respond(message, 200)
    alice.expect(200)
    pbx.respond(message, 200)
    watch.rose("sipward_retransmissions_total", side="core", direction="received")

    stray = pbx.response(message, 200)
    stray.set("Via", re.sub(r"branch=z9hG4bK\w+", "branch=z9hG4bK" + "0" * 16, message.get("Via")))
    pbx.send(stray)
    watch.rose("sipward_messages_dropped_total", reason="stray")
    pbx.send_bytes(b"nothing that anybody could read\r\n\r\n")
    watch.rose("sipward_messages_dropped_total", reason="broken")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.77", 0))
        stranger.sendto(pbx.request("OPTIONS", "sip:sip.test").bytes(), edge.core)
    watch.rose("sipward_messages_dropped_total", reason="foreign")


def test_answered_requests_make_room(lab):  # X3
    edge, pbx = lab.scripted(more="limits: {transactions: 3}\n")
    alice = lab.registered(edge, pbx, "alice")
    watch = Watch(edge)
    for _ in range(12):  # of two workers one has six or more
        alice.send(alice.request("MESSAGE", "sip:100@sip.test"))
        pbx.respond(pbx.expect("MESSAGE"), 200)
        alice.expect(200)
    watch.rose("sipward_transactions_given_up_total", 8)
    watch.still("sipward_requests_rejected_total")


# ---- backends ----


def test_backends_that_fail(lab):  # B2 refused, B3
    """The first one refuses (ICMP), so the second one gets what was for it."""
    pbx = TcpPbx(lab)
    dead = f"127.0.0.1:{net.free_port()}"
    edge = pbx.edge = lab.edge(backends=[f"udp:{dead}", f"tcp:{pbx.host}"])
    watch = Watch(edge)
    assert value(edge, "sipward_backend_up", address=dead, transport="udp") == 1
    for name in ("alice", "bob", "carol", "dave", "erin", "frank"):  # by hash, so some to either
        client = lab.client(edge, name)
        client.send(client.register_request(300))
        pbx.accept_register()
        client.expect(200)
    watch.rose("sipward_requests_moved_total")
    assert value(edge, "sipward_backend_up", address=dead) == 0
    assert value(edge, "sipward_backend_up", address=pbx.host, transport="tcp", backend="127.0.0.1") == 1
    watch.rose("sipward_core_connections_total", event="opened")
    watch.rose("sipward_core_messages_total", transport="tcp", direction="sent")
    watch.rose("sipward_backend_response_seconds_sum", 0, transport="tcp")


def test_udp_in_place_of_tcp(lab):  # T7
    edge, pbx = lab.scripted()
    edge.stop()
    edge = pbx.edge = lab.edge(backends=[f"auto:{pbx.host}"])
    alice = lab.registered(edge, pbx, "alice")
    watch = Watch(edge)
    alice.send(alice.request("MESSAGE", "sip:100@sip.test", body=b"x" * 3000))
    pbx.respond(pbx.expect("MESSAGE"), 200)
    alice.expect(200)
    watch.rose("sipward_requests_by_udp_total")


def test_no_way_to_a_backend(lab):
    edge = lab.edge(backends=["udp:192.0.2.99:5060"])
    watch = Watch(edge)
    alice = lab.client(edge, "alice")
    alice.send(alice.request("MESSAGE", "sip:100@sip.test"))
    watch.rose("sipward_core_messages_dropped_total", transport="udp")


# ---- the process ----


def test_the_process(lab):
    edge = lab.edge(users=["alice"])
    watch = Watch(edge)
    shows(edge, "sipward_build_info", 1)
    shows(edge, "sipward_worker_responding", 2)
    shows(edge, "sipward_draining", 0)
    assert abs(value(edge, "process_start_time_seconds") - time.time()) < 120
    assert value(edge, "process_resident_memory_bytes") > 1e6
    assert value(edge, "process_virtual_memory_bytes") > value(edge, "process_resident_memory_bytes")
    assert value(edge, "process_max_fds") > value(edge, "process_open_fds")

    alice = lab.client(edge, "alice")
    watch.rose("process_open_fds")
    alice.register()
    shows(edge, "sipward_registrar_bindings", 1)
    watch.rose("sipward_mailbox_messages_total", 2)
    assert value(edge, "sipward_loop_lag_longest_seconds") < 60
    busy = value(edge, "process_cpu_seconds_total")
    deadline = time.monotonic() + 30
    while value(edge, "process_cpu_seconds_total") <= busy or not value(edge, "sipward_loop_lag_longest_seconds"):
        assert time.monotonic() < deadline
        lab.client(edge, "alice").close()


def test_when_the_certificate_ends(lab):
    chain, key = lab.ca.issue("shown")
    edge = lab.edge(users=["alice"], certificate=(chain, key))
    text = subprocess.run(["openssl", "x509", "-enddate", "-noout", "-in", chain], capture_output=True, text=True, check=True).stdout
    ends = ssl.cert_time_to_seconds(text.strip().split("=", 1)[1])
    shows(edge, "sipward_certificate_expiry_timestamp_seconds", ends, certificate=str(chain))


def test_reloads_by_what_came_of_them(lab):
    edge = lab.edge(users=["alice"])
    watch = Watch(edge)
    assert value(edge, "sipward_reload_last_timestamp_seconds", what="configuration") == 0
    edge.reload()
    watch.rose("sipward_reloads_total", what="configuration", result="done")
    watch.rose("sipward_reload_last_timestamp_seconds", time.time() - 60, what="configuration")
    shows(edge, "sipward_reload_last_successful", 1, what="configuration")
    edge.reload(("domain: sip.test", "domain: ["), refused=True)
    watch.rose("sipward_reloads_total", what="configuration", result="refused")
    shows(edge, "sipward_reload_last_successful", 0, what="configuration")
    shows(edge, "sipward_reload_last_successful", 1, what="certificates")


def test_a_stop_is_shown(lab):
    edge, pbx = lab.scripted()
    alice = lab.client(edge, "alice")
    invite = alice.call("sip:100@sip.test")
    asked = pbx.expect("INVITE")
    pbx.respond(asked, 180)
    alice.expect(180)
    edge.process.child.terminate()
    shows(edge, "sipward_draining", 1)
    watch = Watch(edge)
    alice.send(alice.request("MESSAGE", "sip:100@sip.test"))
    alice.expect(503)
    watch.rose("sipward_requests_rejected_total", rule="T9", code="503")
    pbx.respond(asked, 486)
    alice.ack_failure(invite, alice.expect(486))
    alice.close()
    assert edge.process.wait(30) == 0


# ---- all of them ----


@pytest.fixture(scope="module")
def shown(module_lab):
    """A page of an edge with everything that has labels: {family: (kind, its labels)}."""
    edge = module_lab.edge(backends=["udp:127.0.0.1:9"])
    module_lab.client(edge, "alice").close()
    net.until(lambda: value(edge, "sipward_connections_closed_total"), "one has closed")
    text = page(edge)
    families = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            families[name] = kind, set()
        elif not line.startswith("#"):
            families[name][1].update(k for k, _ in LABEL.findall(SAMPLE.match(line)[2] or ""))
    return text, families


def family_of(name, families):
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return base if base in families and families[base][0] == "histogram" else name


def test_every_family_is_made_to_move(shown):
    families = shown[1]
    proved = set(re.findall(r'\b(?:rose|shows|value)\((?:edge, )?"(\w+)"', pathlib.Path(__file__).read_text(encoding="utf-8")))
    proved = {family_of(name, families) for name in proved}
    assert not families.keys() - proved - ELSEWHERE.keys(), "no test makes these move"
    assert not (proved | ELSEWHERE.keys()) - families.keys(), "there are no such metrics"


def promtool(*command, **more):
    if not shutil.which("promtool"):
        pytest.skip("promtool is missing: apt install prometheus")
    result = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False, **more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def test_prometheus_has_nothing_against_the_page(shown):
    assert promtool("check", "metrics", input=shown[0]).stderr == ""


def test_prometheus_has_nothing_against_the_rules():
    promtool("check", "rules", DEPLOY / "prometheus/alerts.yml")
    promtool("test", "rules", pathlib.Path(__file__).with_name("alerts.test.yml"))


def dashboard():
    """(where, expression) of each panel."""
    board = json.loads((DEPLOY / "grafana/sipward.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]
    for note in board["annotations"]["list"]:
        yield note["name"], note["expr"], note["textFormat"]
    for variable in board["templating"]["list"]:
        for expression in re.findall(r"label_values\((.*)\)", variable.get("definition", "")):
            yield variable["name"], expression.split(",")[0], ""


def alerts():
    text = (DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8")
    for rule in re.split(r"\n +- alert: ", text)[1:]:
        name, rest = rule.split("\n", 1)
        expression, texts = re.split(r"\n +(?:for|labels):", rest, maxsplit=1)
        yield name, expression.split("expr:", 1)[1], texts


@pytest.mark.parametrize("source", [dashboard, alerts])
def test_what_is_watched_exists(shown, source):
    families, general = shown[1], {"instance", "job", "le", "severity"}
    count = 0
    for where, expression, texts in source():
        names = set(re.findall(r"\b(?:sipward|process)_\w+|\bup\b", expression)) - {"up"}
        assert names or "up{" in expression, f"{where}: it watches nothing"
        labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression))
        for group in re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", expression):
            labels.update(re.findall(r"\w+", group))
        labels.update(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", texts))
        known = set(general)
        for name in names:
            family = family_of(name, families)
            assert family in families, f"{where}: there is no metric {name}"
            known |= families[family][1]
        assert labels <= known, f"{where}: no metric there has {labels - known}"
        count += 1
    assert count > 20
