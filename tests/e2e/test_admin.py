"""The admin side: HTTP for those who run sipward, through its front door."""

import http.client

import pytest

TOKEN = "0123456789abcdef-Right"


def ask(edge, path, method="GET", token=None, address="127.0.0.1", **headers):
    """(status, headers, body) of one request."""
    connection = http.client.HTTPConnection(address, edge.admin_port, timeout=15)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.headers, body


@pytest.fixture
def edge(lab):
    return lab.edge(users=["alice"])


def test_a_running_sipward_is_alive_and_ready(edge):
    for path, word in (("/healthz", "alive\n"), ("/readyz", "ready\n")):
        status, headers, body = ask(edge, path)
        assert (status, body) == (200, word)
        assert headers["Content-Type"] == "text/plain; charset=utf-8"


def test_the_first_page_lists_those_there_are(edge):
    status, headers, body = ask(edge, "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    for path in ("/healthz", "/readyz"):
        assert f'href="{path}"' in body
