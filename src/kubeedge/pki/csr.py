"""A node's keys, and requests for certificates (PKCS #10, RFC 2986), with libcrypto alone.

Lives elsewhere: the authority that answers them (kubeedge_cloud.authority), the certificate that a node makes for itself
(kubeedge.metaserver.credentials).
"""

from __future__ import annotations

import binascii
import re

from kubeedge._fastpath import keys
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.pki import asn1, der

_MAX_NAME = 64  # characters of a common name (RFC 5280, ub-common-name)
_MAX_PEM = 64 * 1024
_PEM = re.compile(rb"-----BEGIN (EC )?PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END (?:EC )?PRIVATE KEY-----")
_COMMON_NAME = asn1.oid("2.5.4.3")
_ECDSA_WITH_SHA256 = asn1.sequence(asn1.oid("1.2.840.10045.4.3.2"))


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A private EC key. `der` is PKCS #8 without a password."""

    der: bytes

    def public(self) -> bytes:
        """The public half: SubjectPublicKeyInfo (RFC 5480) in DER."""
        return keys.public_key(self.der)


def new_key() -> SigningKey:
    """A new key on P-256, from libcrypto's random numbers."""
    return SigningKey(keys.generate())


def key_pem(key: SigningKey) -> bytes:
    """PKCS #8 without a password: it belongs into a file of mode 0600."""
    return pem("PRIVATE KEY", key.der)


def load_key(text: bytes) -> SigningKey:
    """From PEM. Raises ValueError for anything but an EC key without a password."""
    match = _PEM.search(text[:_MAX_PEM])
    if match is None:
        raise ValueError("no private key in PEM form")
    return SigningKey(keys.checked(binascii.a2b_base64(match[2])))


def request_pem(key: SigningKey, name: str) -> bytes:
    """A request in PEM. The name is a courtesy: the issuer decides what a certificate says."""
    info = asn1.sequence(asn1.integer(0), subject(name), key.public(), asn1.tagged(0))
    return pem("CERTIFICATE REQUEST", signed(key, info))


def subject(name: str) -> bytes:
    """The Name (RFC 5280, section 4.1.2.4) that is this common name, cut to 64 characters."""
    return asn1.sequence(asn1.set_of(asn1.sequence(_COMMON_NAME, asn1.utf8(name[:_MAX_NAME]))))


def signed(key: SigningKey, contents: bytes) -> bytes:
    """What both requests and certificates are: the contents, the algorithm, the signature."""
    return asn1.sequence(contents, signature_algorithm(), asn1.bit_string(sign(key, contents)))


def signature_algorithm() -> bytes:
    """The AlgorithmIdentifier of ECDSA with SHA-256 (RFC 5758)."""
    return _ECDSA_WITH_SHA256


def pem(label: str, der: bytes) -> bytes:
    """The textual form of RFC 7468."""
    text = binascii.b2a_base64(der, newline=False)
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label.encode(), lines, label.encode())


def sign(key: SigningKey, data: bytes) -> bytes:
    """ECDSA with SHA-256, in DER."""
    return keys.sign(key.der, data)


def belongs(key: SigningKey, certificate_pem: bytes) -> bool:
    """Whether that certificate was made for this key. Raises ValueError for what is no certificate."""
    try:
        return der.public_key(certificate_pem) == key.public()
    except Invalid as exc:
        raise ValueError(str(exc)) from exc
