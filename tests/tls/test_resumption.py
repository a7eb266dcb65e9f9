"""Sessions are resumed on whichever worker accepts the next connection."""

import re

import pytest

import handshake

HOST = "127.0.0.1"
WORKERS = 4
CONNECTIONS = 200
SPEAK = {"tls": handshake.ping, "wss": handshake.upgrade}


@pytest.fixture(scope="module")
def edge(module_lab):
    return module_lab.edge(users=["alice"], workers=WORKERS)


@pytest.mark.parametrize("kind", ["tls", "wss"])
@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_session_is_resumed_by_every_worker(edge, version, kind):  # X4
    """Each connection resumes the session that the one before it was given."""
    port = {"tls": edge.tls_port, "wss": edge.wss_port}[kind]
    client = handshake.context(edge.ca, version)
    before = len(edge.log())
    session, resumed = None, []
    for _ in range(1 + CONNECTIONS):
        with handshake.connect(HOST, port, client, session=session) as tls:
            assert SPEAK[kind](tls)
            session = tls.session
            resumed.append(tls.session_reused)
    assert resumed == [False] + [True] * CONNECTIONS
    workers = set(re.findall(r"flow opened flow=(\d+)\.", edge.log()[before:]))
    assert workers == {str(n) for n in range(WORKERS)}


def test_a_resumed_connection_brings_a_new_ticket(edge):  # X4: clients use each once
    client = handshake.context(edge.ca, "TLS 1.3")
    session, tickets = None, set()
    for _ in range(5):
        with handshake.connect(HOST, edge.tls_port, client, session=session) as tls:
            assert handshake.ping(tls) and tls.session_reused == bool(tickets)
            session = tls.session
            tickets.add(session.id)  # a hash of the ticket
    assert len(tickets) == 5


@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_session_of_one_port_is_good_at_the_other(edge, version):  # X4
    client = handshake.context(edge.ca, version)
    session = handshake.session(HOST, edge.tls_port, client)
    with handshake.connect(HOST, edge.wss_port, client, session=session) as tls:
        assert tls.session_reused and handshake.upgrade(tls)


@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_restart_ends_sessions_but_not_service(module_lab, edge, version):  # X4 refused
    """The keys of the tickets are those of one run: what a former one gave out is worth nothing."""
    client = handshake.context(edge.ca, version)
    session = handshake.session(HOST, edge.tls_port, client)
    edge.stop()
    edge.start()
    assert handshake.outcome(HOST, edge.tls_port, client, session=session) == "served"


@pytest.mark.parametrize("version", handshake.VERSIONS)
def test_a_session_keeps_the_name_that_it_began_with(edge, version):  # X4, R3: of Via and Record-Route
    client = handshake.context(edge.ca, version)
    for expected in False, True:
        session = None if not expected else session
        with handshake.connect(HOST, edge.tls_port, client, "localhost", session) as tls:
            assert handshake.ping(tls) and tls.session_reused == expected
            session = tls.session
            peer = "{}:{}".format(*tls.getsockname())
        edge.process.wait_output(rf"flow opened .* peer={peer} transport=tls host=localhost$")
