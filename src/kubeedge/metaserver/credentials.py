"""A key and a self-signed certificate for the edge's API.

The kubeconfig trusts this one certificate and nothing else. Its dates are wide: a machine without a battery begins its life in 1970.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from pathlib import Path

from kubeedge.pki import asn1, csr
from kubeedge.pki.files import write_secret, write_whole

LOCAL = ("127.0.0.1", "::1", "localhost")
_FROM = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_UNTIL = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
_VERSION_3 = asn1.tagged(0, asn1.integer(2))
# RFC 5280, sections 4.2.1 and 4.2.1.12
_SUBJECT_KEY_ID, _KEY_USAGE, _ALT_NAME, _CONSTRAINTS, _EXTENDED_USAGE = (
    "2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"
)  # fmt: skip
_SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
_DNS_NAME, _IP_ADDRESS = 2, 7  # choices of GeneralName
#: it is its own authority. Python 3.13 refuses one that does not say so (RFC 5280 section 4.2.1.9)
_SIGNS_AND_IS_SIGNED = asn1.bit_string(b"\x84", unused=2)  # bits 0 and 5: digitalSignature, keyCertSign


def write_pair(directory: Path, node: str, hosts: Sequence[str] = ()) -> None:
    """Writes server.crt and server.key to the directory; the certificate names this machine, the node and `hosts`. Raises OSError."""
    key = csr.new_key()
    certificate = self_signed(key, f"edge API of {node}", list(dict.fromkeys((*LOCAL, node, *hosts))))
    write_secret(directory / "server.key", csr.key_pem(key))
    write_whole(directory / "server.crt", certificate)


def self_signed(key: csr.SigningKey, name: str, hosts: Sequence[str]) -> bytes:
    """A certificate in PEM of a server that is its own authority, for these names and addresses, under a random serial number."""
    subject, public = csr.subject(name), key.public()
    contents = asn1.sequence(
        _VERSION_3,
        asn1.integer(secrets.randbits(159) + 1),
        csr.signature_algorithm(),
        subject,
        asn1.sequence(asn1.utc_time(_FROM), asn1.generalized_time(_UNTIL)),
        subject,
        public,
        asn1.tagged(3, asn1.sequence(*_extensions(public, hosts))),
    )
    return csr.pem("CERTIFICATE", csr.signed(key, contents))


def _extensions(public: bytes, hosts: Sequence[str]) -> list[bytes]:
    key_id = hashlib.sha1(
        public[-65:], usedforsecurity=False
    ).digest()  # RFC 5280, section 4.2.1.2, method 1: of the point
    return [
        _extension(_CONSTRAINTS, asn1.sequence(asn1.true(), asn1.integer(0)), critical=True),
        _extension(_SUBJECT_KEY_ID, asn1.octet_string(key_id)),
        _extension(_KEY_USAGE, _SIGNS_AND_IS_SIGNED, critical=True),
        _extension(_ALT_NAME, asn1.sequence(*map(_general_name, hosts))),
        _extension(_EXTENDED_USAGE, asn1.sequence(asn1.oid(_SERVER_AUTH))),
    ]


def _extension(kind: str, value: bytes, *, critical: bool = False) -> bytes:
    flags = (asn1.true(),) if critical else ()
    return asn1.sequence(asn1.oid(kind), *flags, asn1.octet_string(value))


def _general_name(host: str) -> bytes:
    try:
        return asn1.implicit(_IP_ADDRESS, ipaddress.ip_address(host).packed)
    except ValueError:
        return asn1.implicit(_DNS_NAME, host.encode("ascii"))
