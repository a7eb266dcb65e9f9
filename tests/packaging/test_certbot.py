"""Certificates from certbot, for the first time and renewed, into a running sipward."""

import json
import os
import pathlib
import socket
import ssl

from harness import net
from harness.process import Process

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
HOOK = PROJECT / "deploy/certbot-deploy-hook"


class Acme:
    """Pebble, the test server of Let's Encrypt, and a name server that knows all names here."""

    def __init__(self, lab):
        self.lab, self.folder = lab, lab.folder("acme")
        self.port, self.http_port = net.free_port(), net.free_port()
        dns, management, challenges = net.free_port(), net.free_port(), net.free_port()
        chain, key = lab.ca.issue("pebble")
        self.options = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(chain),
            "privateKey": str(key),
            "httpPort": self.http_port,
            "tlsPort": challenges,
        }
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": self.options}))
        none = ["-http01", "", "-https01", "", "-tlsalpn01", ""]
        Process(
            lab, "challtestsrv",
            ["pebble-challtestsrv", *none, "-dns01", f"127.0.0.1:{dns}", "-management",
             f"127.0.0.1:{net.free_port()}", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""],
        )
        Process(
            lab, "pebble",
            ["pebble", "-config", self.folder / "pebble.json", "-dnsserver", f"127.0.0.1:{dns}"],
            env={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"},
        )
        net.until(lambda: net.can_connect("127.0.0.1", self.port), "pebble listens", 15)

    def certbot(self, *arguments, target):
        folders = [f"--{kind}-dir={self.folder / kind}" for kind in ("config", "work", "logs")]
        process = Process(
            self.lab, "certbot", ["certbot", *arguments, "-n", *folders],
            env={
                "REQUESTS_CA_BUNDLE": str(self.lab.ca.file),
                "SIPWARD_CERTIFICATES": str(target),
                "SIPWARD_GROUP": str(os.getegid()),
            },
        )
        assert process.wait(60) == 0, process.output()


def serial(port):
    """Of the certificate that a new client is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            return connection.getpeercert(binary_form=True)


def test_renewal(lab):  # X4: certbot's hook, as README says
    acme, target = Acme(lab), lab.folder("certificates")
    acme.certbot(
        "certonly", "--standalone", "--http-01-address", "127.0.0.1", "--http-01-port",
        str(acme.http_port), "--server", f"https://localhost:{acme.port}/dir", "--agree-tos",
        "--register-unsafely-without-email", "-d", "sip.test", "--deploy-hook", str(HOOK), target=target,
    )
    edge = lab.edge(users=("alice",), certificate=(target / "fullchain.pem", target / "privkey.pem"))
    before = serial(edge.tls_port)
    acme.certbot("renew", "--force-renewal", "--no-random-sleep-on-renew", target=target)
    net.until(lambda: serial(edge.tls_port) != before, "the new certificate is in use", 20)
    edge.stop()
