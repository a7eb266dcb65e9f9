"""Which certificate a client is shown: by the name it asks for, and by what it can verify."""

import random
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from harness.ca import Authority

import handshake
import raw

HOST = "127.0.0.1"
PORTS = ["tls", "wss"]


@pytest.fixture(scope="module")
def edge(module_lab, ca):
    """Four pairs: RSA and EC for the domain (with its addresses), a wildcard (EC), another name (RSA)."""
    def key():
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    home = {"names": ("sip.test", "localhost")}
    pairs = [
        ca.issue("home-ec", **home),
        ca.issue("wild", names=("*.wild.test",), addresses=()),
        ca.issue("other", names=("other.test", "second.test"), addresses=(), key=key()),
    ]
    more = ", ".join(f"{{chain: {chain}, key: {key}}}" for chain, key in pairs)
    return module_lab.edge(
        users=["alice"],
        certificate=ca.issue("home-rsa", key=key(), **home),
        more=f"certificates: [{more}]\n",
    )


def port_of(edge, port):
    return {"tls": edge.tls_port, "wss": edge.wss_port}[port]


def shown(der):
    """"NAME KIND" of a certificate: its first name, the kind of its key."""
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    kind = "RSA" if isinstance(certificate.public_key(), rsa.RSAPublicKey) else "EC"
    return f"{names.get_values_for_type(x509.DNSName)[0]} {kind}"


HOME, HOME_RSA, WILD, OTHER = "sip.test EC", "sip.test RSA", "*.wild.test EC", "other.test RSA"
NAMES = {  # for clients that can verify both kinds
    "sip.test": HOME,
    "localhost": HOME,
    "SIP.Test": HOME,
    "other.test": OTHER,
    "second.test": OTHER,
    "a.wild.test": WILD,
    "A-1.WILD.test": WILD,
    "a.b.wild.test": HOME,
    "wild.test": HOME,
    ".wild.test": HOME,
    "xn--mnchen-3ya.wild.test": WILD,
    "nobody.test": HOME,
    "test": HOME,
    "sip.test.": HOME,
    HOST: HOME,
}


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("port", PORTS)
def test_the_name_chooses_and_then_what_the_client_can_verify(edge, port, version):  # X4
    """openssl s_client, which sends as a name whatever it is told, an address too."""
    def asked(*options):
        ran = subprocess.run(
            ["openssl", "s_client", "-connect", f"{HOST}:{port_of(edge, port)}", version, *options],
            input="Q\n", capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
        return shown(ssl.PEM_cert_to_DER_cert(ran.stdout[ran.stdout.index("-----BEGIN"):
                                                         ran.stdout.index("-----END") + 25] + "\n"))

    rsa_only = "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"
    ecdsa_only = "-sigalgs", "ECDSA+SHA256"
    for name in "sip.test", "other.test", "a.wild.test", "nobody.test", HOST:
        assert asked("-servername", name) == NAMES[name], name
    assert asked("-noservername") == HOME
    assert asked("-noservername", *rsa_only) == HOME_RSA
    assert asked("-servername", "sip.test", *rsa_only) == HOME_RSA
    assert asked("-servername", "nobody.test", *rsa_only) == HOME_RSA
    assert asked("-servername", "sip.test", *ecdsa_only) == HOME
    if version == "-tls1_2":
        assert asked("-servername", "sip.test", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256") == HOME_RSA
        assert asked("-servername", "sip.test", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256") == HOME
        assert asked("-servername", "sip.test", "-curves", "X25519") == HOME_RSA  # not of P-256


@pytest.mark.parametrize("version", handshake.VERSIONS)
@pytest.mark.parametrize("port", PORTS)
def test_a_client_that_verifies_is_content(edge, port, version):  # X4
    """Chain, name or address, and time, as Python's ssl checks them; an address goes without a name (RFC 6066 3)."""
    client = handshake.context(edge.ca, version)
    for name in "sip.test", "localhost", "other.test", "a.wild.test", HOST, "::1":
        with handshake.connect(HOST, port_of(edge, port), client, name) as tls:
            assert shown(tls.getpeercert(binary_form=True)) == NAMES.get(name, HOME)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake.connect(HOST, port_of(edge, port), client, "nobody.test")


def test_a_client_that_does_not_know_the_ca_is_logged(edge, tmp_path):  # X4
    other = handshake.context(Authority(tmp_path, "Other CA"))
    with handshake.Pipe(HOST, edge.tls_port, other) as pipe:
        with pytest.raises(ssl.SSLCertVerificationError):
            pipe.run(pipe.tls.do_handshake, pipe.socket.sendall)
        says = r"TLS handshake failed flow=\S+ peer={} reason=.client does not know the certificate's CA"
        edge.process.wait_output(says.format(pipe.peer))


def hello(body):
    return raw.records(raw.client_hello(name=body, extensions=[(0xFF01, b"\0")]))


@pytest.mark.parametrize("port", PORTS)
def test_names_byte_by_byte(edge, port):  # X4
    """Each name that a certificate has is found, in whatever case; none that only looks like one is."""
    for name, what in NAMES.items():
        answer = raw.ask(HOST, port_of(edge, port), hello(raw.server_name(name.encode())))
        assert shown(answer.certificates[0]) == what, name


STRANGE = {
    "a NUL inside": raw.server_name(b"sip.test\0.wild.test"),
    "a NUL before the suffix": raw.server_name(b"a\0.wild.test"),
    "a NUL at the end": raw.server_name(b"other.test\0"),
    "only a NUL": raw.server_name(b"\0"),
    "no bytes": raw.server_name(b""),
    "no list": b"\0\0",
    "nothing": b"",
    "one byte": b"\0",
    "a list longer than the extension": b"\0\x20" + raw.server_name(b"other.test")[2:],
    "a name longer than the list": b"\0\x0d\0\0\xff" + b"other.test",
    "another kind of name": raw.server_name(b"other.test", kind=1),
    "two names": raw.vector(b"\0\0\x0aother.test\0\0\x08sip.test", 2),
    "the same twice": raw.vector(b"\0\0\x0aother.test" * 2, 2),
    "256 bytes": raw.server_name(b"a" * 244 + b".wild.test" + b"xx"),
    "16,000 bytes": raw.server_name(b"a" * 16000),
}
ODD = {
    "a star": (b"*", HOME),
    "a star in a label": (b"a*.wild.test", HOME),
    "the wildcard itself": (b"*.wild.test", HOME),
    "255 bytes": (b"a" * 245 + b".wild.test", WILD),
    "only dots": (b"." * 200, HOME),
    "a dot at the end": (b"other.test.", HOME),
    "blanks": (b"a b.wild.test", HOME),
    "bytes that are no text": (b"\xff\xfe\x80.wild.test", HOME),
    "line ends": (b"a\r\nb.wild.test", HOME),
    "a port": (b"other.test:5061", HOME),
    "an IPv6 address": (b"[::1]", HOME),
}


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("kind", STRANGE)
def test_a_broken_name_ends_the_handshake_or_is_none(edge, port, kind):  # X4 refused
    """OpenSSL refuses what RFC 6066 does not allow; in no case is another's certificate shown for it."""
    answer = raw.ask(HOST, port_of(edge, port), hello(STRANGE[kind]))
    assert answer.version is None or shown(answer.certificates[0]) == HOME, answer.text
    assert handshake.outcome(HOST, edge.tls_port, handshake.context(edge.ca)) == "served"


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("kind", ODD)
def test_an_odd_name_is_nobodys(edge, port, kind):  # X4
    name, what = ODD[kind]
    answer = raw.ask(HOST, port_of(edge, port), hello(raw.server_name(name)))
    assert answer.alert or shown(answer.certificates[0]) == what


@pytest.mark.parametrize("port", PORTS)
def test_names_at_random(edge, port):  # X4
    """Bytes of all kinds where the name, its lengths and the lists behind it stand."""
    noise = random.Random(11)
    for _ in range(300):
        body = bytearray(raw.server_name(noise.choice([b"sip.test", b"a.wild.test", b"other.test"])))
        for _ in range(noise.randrange(1, 4)):
            body[noise.randrange(len(body))] = noise.choice([0, 1, 0x2A, 0x2E, 0xFF, noise.randrange(256)])
        answer = raw.ask(HOST, port_of(edge, port), hello(bytes(body)))
        assert answer.alert or answer.certificates
    assert handshake.outcome(HOST, edge.tls_port, handshake.context(edge.ca)) == "served"
