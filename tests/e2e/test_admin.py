"""The admin side: HTTP for those who run sipward, through its front door."""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import time

import pytest
from harness import net
from harness.backend import Backend
from harness.crowd import Phone
from harness.edge import PROGRAM
from harness.process import Process

TOKEN = "0123456789abcdef-Right"
PLACES = 64  # connections at once


def ask(edge, path, method="GET", token=None, address="127.0.0.1", **headers):
    """(status, headers, body) of one request."""
    connection = http.client.HTTPConnection(address, edge.admin_port, timeout=20)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.headers, body


def talk(edge, sent):
    """What comes back for these bytes, until sipward hangs up."""
    with socket.create_connection(("127.0.0.1", edge.admin_port), timeout=20) as s:
        s.sendall(sent)
        return rest(s)


def rest(s):
    got = b""
    try:
        while more := s.recv(65536):
            got += more
    except ConnectionResetError:
        pass
    return got


def healthy(*words, timeout=20):
    """sipward --healthcheck: (exit status, what it said)."""
    done = subprocess.run([pathlib.Path(PROGRAM).resolve(), "--healthcheck", *words], timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


@pytest.fixture
def edge(lab):
    return lab.edge(users=["alice"])


def test_a_running_sipward_is_alive_and_ready(edge):
    for path, word in (("/healthz", "alive\n"), ("/readyz", "ready\n")):
        status, headers, body = ask(edge, path)
        assert (status, body) == (200, word)
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"


def test_the_first_page_lists_those_there_are(edge):
    status, headers, body = ask(edge, "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    pages = re.findall(r'href="([^"]+)"', body)
    assert {"/healthz", "/readyz", "/api/backends"} <= set(pages)
    for page in pages:
        assert ask(edge, page)[0] == 200


def test_other_pages_and_methods_are_refused(edge):
    for path in ("/nothing", "/healthz/", "/api", "//healthz", "/../etc/passwd", "/%2e%2e/healthz"):
        assert ask(edge, path)[0] == 404
    assert ask(edge, "/healthz?any=thing&more")[0] == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "FROB"):
        status, headers, _ = ask(edge, "/healthz", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_the_page(edge):
    for path in ("/healthz", "/", "/api/backends", "/nothing"):
        got, head = ask(edge, path), ask(edge, path, "HEAD")
        assert head[0] == got[0] and head[2] == ""
        assert head[1]["Content-Length"] == got[1]["Content-Length"] != "0"


def test_a_token_is_wanted_where_one_is_set(lab):
    edge = lab.edge(users=["alice"], more=f"admin: {{listen: '127.0.0.1:0', token: {TOKEN}}}\n")
    for path in ("/healthz", "/readyz"):
        assert ask(edge, path)[0] == 200
        assert ask(edge, path, token="wrong" * 4)[0] == 200
    for path in ("/", "/api/backends", "/nothing"):
        for token in (None, "x", TOKEN[:-1], TOKEN + "x", TOKEN.lower(), " ", "x" * 4000):
            status, headers, body = ask(edge, path, token=token)
            assert status == 401
            assert headers["WWW-Authenticate"] == 'Bearer realm="sipward"'
            assert "token" in body and TOKEN not in body
        assert ask(edge, path, Authorization=f"Basic {TOKEN}")[0] == 401
        assert ask(edge, path, Authorization=f"bearer {TOKEN}")[0] == (404 if path == "/nothing" else 200)
    assert TOKEN not in edge.log()


def test_no_page_is_of_more_than_it_takes(edge):
    long = b"x" * 100_000
    for request in (
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + long + b"\r\n\r\n",
        b"GET /" + long + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + long,
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"GET /healthz?" + b"a=b&" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        assert re.match(rb"HTTP/1\.[01] 4\d\d ", talk(edge, request) or b"HTTP/1.1 400 ")
    assert ask(edge, "/healthz")[0] == 200


def test_garbage_ends_its_own_connection(edge):
    seed = random.randrange(1 << 32)
    print(f"GARBAGE_SEED={seed}")
    rand = random.Random(seed)
    good = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    for n in range(60):
        if n % 3 == 0:
            sent = rand.randbytes(rand.randrange(1, 3000))
        else:  # a good one with some bytes of it changed, or cut short
            sent = bytearray(good)
            for _ in range(rand.randrange(1, 6)):
                sent[rand.randrange(len(sent))] = rand.randrange(256)
            sent = bytes(sent[: rand.randrange(1, len(sent) + 1)])
        with socket.create_connection(("127.0.0.1", edge.admin_port), timeout=20) as s:
            s.sendall(sent)
            if n % 2:
                s.shutdown(socket.SHUT_WR)
            else:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    assert talk(edge, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.0 400")
    assert ask(edge, "/healthz")[0] == 200


def test_a_hundred_at_once_are_all_answered(edge):
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        paths = ["/healthz", "/readyz", "/api/backends", "/"] * 25
        assert [got[0] for got in pool.map(lambda path: ask(edge, path), paths)] == [200] * 100
    connection = http.client.HTTPConnection("127.0.0.1", edge.admin_port, timeout=20)
    for _ in range(100):  # and on one, one after the other
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"alive\n"
    connection.close()


def test_who_is_slow_is_hung_up_on_and_holds_up_nobody(edge):
    assert ask(edge, "/healthz")[0] == 200  # all threads have begun
    before = edge.descriptors()
    start = time.monotonic()
    slow = [socket.create_connection(("127.0.0.1", edge.admin_port), timeout=20) for _ in range(3)]
    slow[1].sendall(b"GET /healthz HT")
    ended = [None] * len(slow)
    while None in ended:  # the last one sends a byte of a header now and then, for ever
        assert time.monotonic() - start < 20
        try:
            slow[2].sendall(b"G" if time.monotonic() - start < 0.5 else b"x")
        except OSError:
            pass
        for n, s in enumerate(slow):
            s.settimeout(0.1)
            try:
                if ended[n] is None and not s.recv(1000):
                    ended[n] = time.monotonic() - start
            except TimeoutError:
                pass
            except ConnectionError:
                ended[n] = time.monotonic() - start
        assert ask(edge, "/healthz")[0] == 200
    assert min(ended) > 9
    for s in slow:
        s.close()

    start = time.monotonic()  # more than there are places for, and none says anything
    crowd = [socket.create_connection(("127.0.0.1", edge.admin_port), timeout=20) for _ in range(2 * PLACES)]
    assert ask(edge, "/healthz")[0] == 200
    assert time.monotonic() - start < 9  # long before their ten seconds
    for s in crowd:
        s.close()
    net.until(lambda: edge.descriptors() <= before, "its descriptors are free")


def test_ipv6_and_its_own_words_about_who_can_read(lab):
    edge = lab.edge(users=["alice"], more='admin: "[::1]:0"\n')
    assert ask(edge, "/healthz", address="::1")[0] == 200
    assert "can read who is connected" not in edge.log()
    for listen, token in ((":", TOKEN), (":", None), ("0.0.0.0", None)):
        listen = "[::]" if listen == ":" else listen
        more = f", token: {token}" if token else ""
        edge = lab.edge(users=["alice"], more=f"admin: {{listen: '{listen}:0'{more}}}\n")
        assert ask(edge, "/healthz")[0] == 200
        warned = re.search(r"warn\S* +anybody who reaches the admin address can read who is connected address=", edge.log())
        assert bool(warned) == (token is None)


@contextlib.contextmanager
def halted(thread):
    """One thread of a child stands still, as if it hung."""
    seize, interrupt, detach, wall = 0x4206, 0x4207, 17, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    for what in (seize, interrupt):
        assert libc.ptrace(what, thread, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(thread, wall)
    try:
        yield
    finally:
        assert libc.ptrace(detach, thread, None, None) == 0


def test_a_worker_that_hangs_is_named_and_holds_up_no_page(lab):
    port = net.free_port("127.0.0.1")
    edge = lab.edge(users=["alice"], more=f"admin: 127.0.0.1:{port}\n")
    assert ask(edge, "/healthz")[0] == 200
    named = set()
    for thread in map(int, os.listdir(f"/proc/{edge.pid}/task")):
        if thread == edge.pid:
            continue
        with halted(thread):
            status, _, body = ask(edge, "/healthz")
            if status == 200:
                continue  # a thread of a library
            assert status == 503
            worker = int(re.fullmatch(r"no answer within a second from worker (\d)\n", body).group(1))
            named.add(worker)
            with concurrent.futures.ThreadPoolExecutor() as pool:  # a second each
                said = pool.submit(healthy, edge.file)
                pages = list(pool.map(lambda path: ask(edge, path), ("/readyz", "/api/backends", "/metrics")))
                assert [page[0] for page in pages] == [200] * 3
                assert f'sipward_worker_responding{{worker="{worker}"}} 0' in pages[-1][2]
                assert said.result() == (1, f"127.0.0.1:{port}: {body}")
        assert ask(edge, "/healthz")[::2] == (200, "alive\n")
        assert f'sipward_worker_responding{{worker="{worker}"}} 1' in ask(edge, "/metrics")[2]
    assert named == {0, 1}


def test_there_may_be_none(lab):
    edge = lab.edge(users=["alice"], more="admin: no\n")
    assert "admin listening" not in edge.log() and "admin side" not in edge.log()
    code, said = healthy(edge.file)
    assert code == 2 and re.search(r"sipward\.yaml:\d+: admin: no: nobody can be asked", said)


def test_an_address_that_is_taken(lab):
    """Is a mistake where the file asks for it; the one that is there unless set is done without."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as prometheus:
        port = taken.getsockname()[1]
        prometheus.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        prometheus.bind(("127.0.0.1", 9090))
        prometheus.listen()
        edge = lab.edge(users=["alice"], more="# admin:\n")
        text = edge.file.read_text().replace("admin: 127.0.0.1:0\n", "")
        edge.stop()
        edge.file.write_text(text)
        edge.start()
        edge.process.wait_output(r"warn\S* +there is no admin side address=127\.0\.0\.1:9090 .*remedy=")
        edge.stop()
        edge.file.write_text(text + f"admin: 127.0.0.1:{port}\n")
        line = text.count("\n") + 1
        process = Process(lab, "sipward", [pathlib.Path(PROGRAM).resolve(), edge.file])
        assert process.wait() == 1
        assert re.search(rf"sipward\.yaml:{line}: admin: 127\.0\.0\.1:{port}: Address already in use: .*ss -ltnp", process.output())


def test_a_healthcheck_says_what_the_running_one_says(lab):
    port = net.free_port("127.0.0.1")
    edge = lab.edge(users=["alice"], more=f"admin: {{listen: '0.0.0.0:{port}', token: {TOKEN}}}\n")
    assert healthy(edge.file) == (0, f"127.0.0.1:{port}: alive\n")
    edge.process.signal(signal.SIGSTOP)
    code, said = healthy(edge.file)
    assert code == 1 and "timed out" in said
    edge.process.signal(signal.SIGCONT)
    assert healthy(edge.file)[0] == 0
    edge.stop()
    code, said = healthy(edge.file)
    assert code == 1 and "Connection refused: sipward does not run" in said
    with socket.create_server(("127.0.0.1", port)) as other:  # another program

        def answer():
            with other.accept()[0] as s:
                s.recv(1000)
                s.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n")

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answered = pool.submit(answer)
            code, said = healthy(edge.file)
            answered.result()
        assert (code, said) == (1, f"127.0.0.1:{port}: not what sipward says: HTTP/1.0 404 Not Found\n")
    assert healthy()[0] == 2  # no /etc/sipward/sipward.yaml
    assert healthy(edge.file, edge.file)[0] == 2


PROBES = "probe: {interval: 1, timeout: 1, down_after: 2, up_after: 1}\n"


def backends(edge):
    status, headers, body = ask(edge, "/api/backends")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    return {entry["address"]: entry for entry in json.loads(body)["backends"]}


@pytest.mark.parametrize("probes", (PROBES, "probe: {interval: 0}\n"), ids=("probes", "none"))
def test_an_only_backend_that_does_not_answer_is_told(lab, probes):  # B2
    backend = Backend(lab, "127.0.1.1")
    edge = lab.edge(backends=[backend.host], more=probes)
    client = lab.client(edge, "alice")
    client.send(client.register_request(300))
    client.expect(503)
    line = rf"backend does not answer address={backend.host} transport=udp reason=\"Connection refused\""
    edge.process.wait_output(line)
    entry = backends(edge)[backend.host]
    assert (entry["state"], entry["reason"]) == ("unknown", "Connection refused") and entry["since"]
    backend.start()
    net.until(lambda: register_once(client) == 200, "it answers")
    edge.process.wait_output(rf"backend answers address={backend.host}")
    assert len(edge.process.matches(line)) == 1


def register_once(client):
    client.send(client.register_request(300))
    return client.expect(200, 503).status


def test_backends_are_up_or_down_and_why(lab):  # B2
    one, two = (Backend(lab, f"127.0.1.{n}").start() for n in (1, 2))
    edge = lab.edge(backends=[one.host, two.host, "no-such-name.invalid"], more=PROBES)
    net.until(lambda: [backends(edge)[b.host]["state"] for b in (one, two)] == ["up"] * 2, "both are up")
    entry = backends(edge)[one.host]
    assert entry["backend"] == "127.0.1.1" and entry["transport"] == "udp" and entry["reason"] == "1 probes answered"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["since"])
    assert backends(edge)[None]["state"] == "unresolved"

    one.kill()
    net.until(lambda: backends(edge)[one.host]["state"] == "down", "one is down")
    entry = backends(edge)[one.host]
    assert entry["reason"] in ("Connection refused", "2 probes without an answer")
    assert ask(edge, "/readyz")[::2] == (200, "ready\n")
    two.kill()
    net.until(lambda: ask(edge, "/readyz")[::2] == (503, "no backend is up\n"), "it is not ready")
    assert ask(edge, "/healthz")[0] == 200

    two.start()
    net.until(lambda: ask(edge, "/readyz")[0] == 200, "it is ready again")
    assert [backends(edge)[b.host]["state"] for b in (one, two)] == ["down", "up"]


def test_pages_are_answered_while_phones_are_busy(lab):
    backend = Backend(lab, "127.0.1.1").start()
    edge = lab.edge(backends=[backend.host])

    async def play():
        phones = [Phone(lab, edge, f"user{n}", ("tls", "wss")[n % 2]) for n in range(40)]
        await asyncio.gather(*(phone.connect() for phone in phones))
        going = True

        async def live(phone):
            while going:
                request = phone.request("OPTIONS", "sip:pbx@sip.test", to=None)
                leg = phone.leg(request.get("Call-ID"))
                phone.send(request)
                await leg.expect(200)

        tasks = [asyncio.ensure_future(live(phone)) for phone in phones]
        for _ in range(20):
            got = await asyncio.gather(*(
                asyncio.to_thread(ask, edge, path) for path in ("/healthz", "/readyz", "/api/backends", "/")
            ))
            assert [status for status, _, _ in got] == [200] * 4
        going = False
        await asyncio.gather(*tasks)
        for phone in phones:
            assert not phone.errors, phone.errors[0]
            phone.hang_up()

    asyncio.run(play())


def test_a_stop_waits_for_nobody_who_asks(edge):
    silent = [socket.create_connection(("127.0.0.1", edge.admin_port), timeout=20) for _ in range(5)]
    silent[0].sendall(b"GET /heal")
    start = time.monotonic()
    edge.stop(signal.SIGINT)
    assert time.monotonic() - start < 8
    for s in silent:
        assert rest(s) == b""
        s.close()
