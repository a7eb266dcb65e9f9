"""A certificate authority for one test run, and the edge's certificate."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


class Authority:
    """A self-signed CA, or one that `parent` has signed. `key_ids`: its certificates say which key
    signed them, as strict clients (Python 3.13) want it."""

    def __init__(self, folder, name="Test CA", parent=None, key_ids=True):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.parent, self.key_ids = folder, parent, key_ids
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            (parent or self).builder(self.name, self.key.public_key(), days=90)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0 if parent else 1), critical=True)
            .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
            .sign((parent or self).key, hashes.SHA256())
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(pem(self.certificate))
        self.key_file = key_write(folder / "ca.key", self.key)

    def builder(self, subject, public_key, days=7, since=None, until=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since or now - datetime.timedelta(days=1))
            .not_valid_after(until or now + datetime.timedelta(days=days))
        )
        if not self.key_ids:
            return builder
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
        ).add_extension(issuer, critical=False)

    def issue(self, label, names=("localhost", "sip.test"), addresses=("127.0.0.1", "::1"),
              subject=None, key=None, usages=(SERVER, CLIENT), **times):
        """A leaf for servers and clients: (chain file, key file). Its common name is `subject`, or
        the first name; "": none."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        alternatives = [x509.DNSName(n) for n in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        subject = names[0] if subject is None else subject
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
        certificate = (
            self.builder(x509.Name(attributes), key.public_key(), **times)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        chain_file = self.folder / f"{label}.pem"
        chain_file.write_bytes(pem(certificate) + pem(self.certificate))
        return chain_file, key_write(self.folder / f"{label}.key", key)


def key_write(file, key):
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def usage(**yes):
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    ).split()
    return x509.KeyUsage(**{name: yes.get(name, False) for name in names})
