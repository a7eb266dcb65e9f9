"""The instrument of tests/bench/run works: every scenario, few clients, all answers right. It judges
no time. By hand: BENCH_PROGRAMS=build/dev/tests SIPWARD=build/dev/sipward
/usr/bin/python3 -m pytest tests/bench/test_bench.py"""

import os
import pathlib

import pytest
import rig
from harness.net import until

rig.programs = pathlib.Path(os.environ.get("BENCH_PROGRAMS", "build/dev/tests")).resolve()
CLIENTS = 12


@pytest.fixture
def backend(tmp_path):
    backend = rig.Backend(tmp_path / "backend.log")
    yield backend
    backend.end()
    backend.check()


def load_to(tmp_path, kind, port):
    return rig.Load(kind, port, tmp_path / "load.log", timeout=60)


@pytest.mark.parametrize("kind", ["tls", "wss"])
def test_every_scenario_runs_through_sipward(lab, backend, tmp_path, kind):
    edge = lab.edge(backends=[f"127.0.0.1:{backend.port}"], level="info")
    load = load_to(tmp_path, kind, edge.tls_port if kind == "tls" else edge.wss_port)
    assert load.ask(f"connect clients={CLIENTS} register=1")["done"] == CLIENTS
    for what, requests in (("register", 60), ("options", 60), ("call", 120), ("mixed", 66)):
        said = load.ask(f"run what={what} count=60")
        assert (said["done"], said["requests"]) == (60, requests)
    assert load.ask("run what=mixed count=30 rate=300")["done"] == 30
    assert load.ask("run what=register count=40 parallel=3")["done"] == 40
    assert load.ask("hold count=50")["done"] == 50
    assert load.ask("release")["done"] == 50
    assert load.ask("handshake count=10 parallel=4")["done"] == 10
    said = load.ask("handshake count=10 parallel=4 resume=1")
    assert (said["done"], said["resumed"]) == (10, 10)
    said = load.ask("storm")
    assert (said["done"], said["failures"]) == (CLIENTS, 0)
    assert load.ask("state")["open"] == CLIENTS
    load.ask("drop")
    until(lambda: edge.status()["connections"] == 0, "all connections are closed")
    assert load.end() == 0


@pytest.mark.parametrize("kind", ["tls", "wss", "tcp", "ws"])
def test_the_floor_answers(ca, tmp_path, kind):
    certificate = ca.issue("floor") if kind in ("tls", "wss") else ()
    floor = rig.Floor(kind, tmp_path / "floor.log", certificate)
    until(lambda: rig.can_connect(floor.port), "the floor listens")
    load = load_to(tmp_path, kind, floor.port)
    load.ask(f"connect clients={CLIENTS} register=1")
    assert load.ask("run what=options count=60")["requests"] == 60
    assert load.ask("handshake count=10")["done"] == 10
    assert load.end() == 0
    assert floor.end() == 0


def test_a_wrong_answer_makes_a_run_invalid(lab, tmp_path):
    """Calls to clients that never registered: the backend says 404."""
    backend = rig.Backend(tmp_path / "backend.log")
    edge = lab.edge(backends=[f"127.0.0.1:{backend.port}"], level="info")
    load = load_to(tmp_path, "tls", edge.tls_port)
    load.ask(f"connect clients={CLIENTS}")
    with pytest.raises(rig.Invalid, match="refused: 404 to INVITE"):
        load.ask("run what=call count=6")
    load.end()
    backend.end()
    with pytest.raises(rig.Invalid, match="'unknown': 6"):
        backend.check()


def test_a_lost_connection_makes_a_run_invalid(lab, backend, tmp_path):
    edge = lab.edge(backends=[f"127.0.0.1:{backend.port}"], level="info")
    load = load_to(tmp_path, "tls", edge.tls_port)
    load.ask(f"connect clients={CLIENTS} register=1")
    edge.stop()
    with pytest.raises(rig.Invalid):
        load.ask("run what=register count=30")
    load.end()
