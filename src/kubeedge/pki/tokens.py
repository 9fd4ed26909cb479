"""Bootstrap tokens as text: `<sha256 of the CA certificate>.<id>.<secret>`.

    5f0a...64 hex digits...c3.k3x9f2.4jq8...32 characters...

The hash lets a machine that knows no authority yet trust the right cloud and no other; the secret buys one certificate. Only a hash of the secret
is kept in the cloud.

Lives elsewhere: records, expiry and use of tokens (kubeedge_cloud.bootstrap).
"""

from __future__ import annotations

import hashlib
import hmac
import re

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without what is easily misread
ID_LENGTH = 6
SECRET_LENGTH = 32
_FORM = re.compile(rf"([0-9a-f]{{64}})\.([{ALPHABET}]{{{ID_LENGTH}}})\.([{ALPHABET}]{{{SECRET_LENGTH}}})")


@dataclass(frozen=True, slots=True)
class Token:
    """A bootstrap token in its three parts; its repr does not have the secret."""

    ca_hash: str  # hex SHA-256 of the CA certificate's DER
    id: str
    secret: str

    def __str__(self) -> str:
        return f"{self.ca_hash}.{self.id}.{self.secret}"

    def __repr__(self) -> str:  # what ends up in a log by accident
        return f"Token({self.id})"


def parse(text: str) -> Token:
    """The token in a text. Raises Invalid, without repeating the secret."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise Invalid(
            f"a token looks like <64 hex digits>.<{ID_LENGTH} characters>.<{SECRET_LENGTH} characters>; "
            f"this one has {len(text.strip())} characters in {text.strip().count('.') + 1} parts (was it cut?)"
        )
    return Token(*match.groups())


def hash_secret(secret: str) -> str:
    """What the cloud keeps of a secret: hex SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_matches(secret: str, kept_hash: str) -> bool:
    """Whether the secret has that hash; compared in constant time."""
    return hmac.compare_digest(hash_secret(secret), kept_hash)


def ca_hash(der: bytes) -> str:
    """Hex SHA-256 of a certificate in DER."""
    return hashlib.sha256(der).hexdigest()
