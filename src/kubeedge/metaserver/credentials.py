"""`python -m kubeedge.metaserver.credentials DIR NODE [HOST...]`: a key and a self-signed certificate for the edge's API, then end.

A process of its own, because the agent does not carry the libraries for it. The kubeconfig trusts this one certificate and nothing else.
Its dates are wide: a machine without a battery begins its life in 1970.
"""

from __future__ import annotations

import datetime
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubeedge.pki import csr
from kubeedge.pki.files import write_secret, write_whole

LOCAL = ("127.0.0.1", "::1", "localhost")
_FROM = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_UNTIL = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


def write_pair(directory: Path, node: str, hosts: Sequence[str] = ()) -> None:
    """Writes server.crt and server.key to the directory; the certificate names this machine, the node and `hosts`. Raises OSError."""
    key = csr.new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edge API of {node}"[:64])])
    names = [_name(host) for host in dict.fromkeys((*LOCAL, node, *hosts))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_secret(directory / "server.key", csr.key_pem(key))
    write_whole(directory / "server.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _usage() -> x509.KeyUsage:
    """It is its own authority. Python 3.13 refuses one that does not say so (RFC 5280 section 4.2.1.9)."""
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def main(arguments: Sequence[str]) -> int:
    """The exit status: 2 for wrong usage, 1 when the files cannot be written."""
    if len(arguments) < 2:
        print("usage: python -m kubeedge.metaserver.credentials DIR NODE [HOST...]", file=sys.stderr)
        return 2
    directory, node, *hosts = arguments
    try:
        write_pair(Path(directory), node, hosts)
    except OSError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
