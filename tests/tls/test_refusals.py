"""What is refused, hello by hello: with an alert, a line in the log that says why, and no harm to others."""

import itertools
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import handshake
import raw

HOST = "127.0.0.1"
TLS12 = {"version": 0x0303}
EXTENDED = [(0xFF01, b"\0")]  # renegotiation_info, so that nothing but the point in question is odd


@pytest.fixture(scope="module")
def edge(module_lab, ca):
    """With an EC and an RSA certificate, so that no suite is refused for want of one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    more = "certificates: [{{chain: {}, key: {}}}]\n".format(*ca.issue("rsa", key=key))
    return module_lab.edge(users=["alice"], more=more)


def refused(edge, hello, alert, says, version=0x0301):
    """The hello gets this alert and this reason in the log; then another client is served."""
    answer = raw.ask(HOST, edge.tls_port, raw.records(hello, version))
    assert answer.text == alert
    (line,) = edge.process.wait_output(rf"TLS handshake failed flow=\S+ peer={answer.peer} .*", 10)
    assert says in line
    assert handshake.outcome(HOST, edge.tls_port, handshake.context(edge.ca)) == "served"


NO_SUITE = "client has no cipher suite in common with us"
OLD = "client can only do TLS 1.1 or older"
SUITES = {
    "CBC": ([0xC009, 0xC00A, 0xC013, 0xC014, 0xC023, 0xC024, 0xC027, 0xC028, 0x002F, 0x0035, 0x003C], NO_SUITE),
    "3DES": ([0x000A, 0xC008, 0xC012, 0x0016], NO_SUITE),
    "RC4": ([0x0004, 0x0005, 0xC007, 0xC011, 0x0018], NO_SUITE),
    "DES, IDEA, SEED and Camellia": ([0x0009, 0x0015, 0x0007, 0x0096, 0x0041, 0x0084, 0xC072], NO_SUITE),
    "export": ([0x0003, 0x0006, 0x0008, 0x000B, 0x000E, 0x0011, 0x0014, 0x0017, 0x0019, 0x0062, 0x0064], NO_SUITE),
    "no encryption": ([0x0001, 0x0002, 0x003B, 0xC001, 0xC006, 0xC00B, 0xC010], NO_SUITE),
    "anonymous": ([0x0018, 0x001B, 0x0034, 0x003A, 0x006C, 0x00A6, 0x00A7, 0xC016, 0xC018, 0xC019], NO_SUITE),
    "RSA key exchange": ([0x009C, 0x009D, 0xC09C, 0xC0A0, 0x003D], NO_SUITE),
    "static ECDH": ([0xC02D, 0xC02E, 0xC031, 0xC032, 0xC004, 0xC00E], NO_SUITE),
    "finite-field DH": ([0x009E, 0x009F, 0xCCAA, 0x0033, 0x0039, 0x0067, 0x006B, 0x00A2, 0x00A3], NO_SUITE),
    "short tags and CCM": ([0xC0AE, 0xC0AF, 0xC0AC, 0xC0A2, 0xC0A3], NO_SUITE),
    "pre-shared keys": ([0x008C, 0x00A8, 0xC035, 0xD001, 0xCCAC], NO_SUITE),
    "none that is known": ([0xFAFA, 0x00FF], NO_SUITE),
}  # fmt: skip


@pytest.mark.parametrize("kind", SUITES)
def test_a_weak_suite_is_refused(edge, kind):  # X4 refused
    suites, says = SUITES[kind]
    for group in [suites, *([s] for s in suites)] if len(suites) < 6 else [suites]:
        hello = raw.client_hello(suites=group, extensions=EXTENDED)
        refused(edge, hello, "handshake_failure", says)


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302], ids=["SSL 3.0", "TLS 1.0", "TLS 1.1"])
def test_an_old_version_is_refused(edge, version):  # X4 refused
    hello = raw.client_hello(version, suites=[0xC009, 0xC013, 0x002F, *raw.GOOD_SUITES])
    alert = "handshake_failure" if version == 0x0300 else "protocol_version"  # SSL 3.0 knows no other
    refused(edge, hello, alert, OLD, version)


def test_an_old_version_behind_a_new_extension_is_refused(edge):  # X4 refused: RFC 8446 4.2.1
    hello = raw.client_hello(extensions=[(43, raw.vector(raw.numbers([0x0302, 0x0301]), 1))])
    refused(edge, hello, "protocol_version", OLD)


def test_an_ssl_2_hello_is_refused(edge):  # X4 refused
    """Of the old form, in which some asked for more than SSL 2 (RFC 5246 E.2): no TLS 1.2 client needs it."""
    for version, form in itertools.product((b"\0\2", b"\3\0", b"\3\1", b"\3\3"), (b"\7\0\xc0", b"\0\xc0\x2b")):
        body = b"\1" + version + b"\0\3\0\0\0\x10" + form + b"r" * 16
        answer = raw.ask(HOST, edge.tls_port, (0x8000 | len(body)).to_bytes(2, "big") + body)
        assert answer.version is None
    assert handshake.outcome(HOST, edge.tls_port, handshake.context(edge.ca)) == "served"


GROUPS = {
    "weak curves": [1, 2, 15, 16, 17, 18, 19, 20, 21, 22],
    "brainpool": [26, 27, 28],
    "finite fields": [256, 257, 258, 259, 260],
    "arbitrary curves": [0xFF01, 0xFF02],
}


@pytest.mark.parametrize("kind", GROUPS)
def test_a_group_that_is_not_ours_is_refused(edge, kind):  # X4 refused
    hello = raw.client_hello(groups=GROUPS[kind], extensions=EXTENDED)
    refused(edge, hello, "handshake_failure", NO_SUITE)
    share = raw.numbers([GROUPS[kind][0]]) + raw.vector(b"\4" * 65, 2)
    hello = raw.client_hello(
        suites=[0x1301, 0x1302],
        groups=GROUPS[kind],
        extensions=[(43, b"\2\3\4"), (51, raw.vector(share, 2))],
    )
    refused(edge, hello, "handshake_failure", "client has no key exchange in common with us")


def test_a_weak_signature_is_refused(edge):  # X4 refused: SHA-1 and MD5
    hello = raw.client_hello(signatures=[0x0203, 0x0201, 0x0101, 0x0103], extensions=EXTENDED)
    refused(edge, hello, "handshake_failure", "client has no signature")


def test_what_is_accepted(edge):  # X4: and compression is not, though offered
    for suite, version in itertools.product(
        (0xC02B, 0xC02C, 0xCCA9, 0xC02F, 0xC030, 0xCCA8), (0x0301, 0x0303)
    ):
        hello = raw.client_hello(suites=[0x000A, 0x002F, suite], compressions=[1, 0], extensions=EXTENDED)
        answer = raw.ask(HOST, edge.tls_port, raw.records(hello, version))
        assert answer.text == f"0303 {suite:04x}" and answer.compression == 0
    for suite in "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256":
        said = s_client(edge, "-tls1_3", "-ciphersuites", suite, "-groups", "P-384").stdout
        assert f"Cipher is {suite}" in said and "Compression: NONE" in said


def s_client(edge, *options, text="Q\n"):
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"{HOST}:{edge.tls_port}", "-CAfile", edge.ca.file, *options],
        input=text, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def test_suites_of_tls_1_3_with_short_tags_are_refused(edge):  # X4 refused
    hello = raw.client_hello(suites=[0x1304, 0x1305], extensions=[(43, b"\2\3\4"), (51, b"\0\0")])
    refused(edge, hello, "handshake_failure", NO_SUITE)


def test_a_client_may_not_renegotiate(edge):  # X4 refused
    """It is told so (RFC 5746 4.5), and what it then does is its own affair: OpenSSL's gives up."""
    ran = s_client(edge, "-tls1_2", text="R\n")
    assert "RENEGOTIATING" in ran.stdout + ran.stderr and "no renegotiation" in ran.stderr
    assert "Secure Renegotiation IS supported" in ran.stdout
    assert ran.stdout.count("BEGIN CERTIFICATE") == 1
    assert handshake.outcome(HOST, edge.tls_port, handshake.context(edge.ca)) == "served"
