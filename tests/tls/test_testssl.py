"""testssl.sh, a judge from outside, on the TLS port and the WSS port side by side."""

import json
import subprocess

import pytest

PORTS = "tls", "wss"

# What it finds above LOW, and why it stays so.
ARGUED = {
    "engine_problem": "of testssl.sh itself: Debian's openssl has no GOST to test with",
    "cert_revocation": "the authority of this test offers no CRL or OCSP; whether a certificate "
    "names one is the affair of who issues it, and sipward serves what it is given",
    "sessionresumption_ticket": "a race in testssl.sh: its s_client may leave before the ticket of TLS 1.3 "
    "has come (WARN, connect problem); test_resumption.py does what it wanted",
    "HTTP_status_code": "a GET without an upgrade gets 426 Upgrade Required: this is no web site",
}
# What it must have looked at, and found good, on both ports: a scan that ended early is none. Some have two names,
# in 3.0 and 3.2 of testssl.sh.
LOOKED_AT = (
    "SSLv2 SSLv3 cipherlist_NULL cipherlist_aNULL cipherlist_EXPORT cipherlist_LOW cipherlist_STRONG|cipherlist_STRONG_FS "
    "PFS|FS cipher_order heartbleed CCS secure_renego secure_client_renego CRIME_TLS POODLE_SSL "
    "SWEET32 FREAK DROWN LOGJAM BEAST LUCKY13 RC4 cert_trust cert_chain_of_trust"
).split()


@pytest.fixture(scope="module")
def scans(module_lab, ca):
    """{port: its findings}. Its parts without a verdict (each cipher by name, simulated clients) are left out."""
    edge = module_lab.edge(users=["alice"], certificate=ca.issue("scanned", days=90))
    files = {port: edge.file.parent / f"{port}.json" for port in PORTS}
    children = [
        subprocess.Popen(
            ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--ip", "127.0.0.1", "--nodns", "none",
             "--add-ca", ca.file, "--jsonfile", files[port],
             "-p", "-s", "-f", "-P", "-S", "-h", "-U", "-g",
             f"localhost:{getattr(edge, port + '_port')}"],
            stdin=subprocess.DEVNULL, stdout=edge.file.parent.joinpath(f"{port}.txt").open("wb"),
            stderr=subprocess.STDOUT,
        )
        for port in PORTS
    ]  # fmt: skip
    try:
        for child in children:
            child.wait(300)
    finally:
        for child in children:
            child.kill()
    return {port: json.loads(files[port].read_text()) for port in PORTS}


@pytest.mark.parametrize("port", PORTS)
def test_testssl_finds_nothing_that_is_not_argued(scans, port):  # X4, X4 refused
    found = [
        f for f in scans[port]
        if f["severity"] not in ("OK", "INFO", "LOW", "DEBUG") and f["id"] not in ARGUED
    ]  # fmt: skip
    assert not found, json.dumps(found, indent=1)


@pytest.mark.parametrize("port", PORTS)
def test_testssl_looked_at_everything(scans, port):  # X4, X4 refused
    good = {f["id"] for f in scans[port] if f["severity"] == "OK"}
    assert not [names for names in LOOKED_AT if good.isdisjoint(names.split("|"))]
