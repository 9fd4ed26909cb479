"""Passwords of MQTT users, as scrypt (RFC 7914) keeps them: `scrypt:N:R:P:SALT:KEY`, salt and key in base64.

To try one password costs 4 MiB and some hundredths of a second of a small machine; what a file may ask for is bounded to 16 times that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

_N, _R, _P = 4096, 8, 1
_MOST = 64 * 1024 * 1024  # bytes that a file may ask for
_MOST_P = 4
_KEY = 32  # bytes


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """The parameters, salt and key of scrypt."""

    n: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)

    def matches(self, password: bytes) -> bool:
        """It is the password. Takes its time: for a thread."""
        return hmac.compare_digest(_derived(password, self.salt, self.n, self.r, self.p), self.key)


def _derived(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=2 * _MOST, dklen=_KEY)


def hashed(password: bytes) -> str:
    """The text for the file of users."""
    salt = os.urandom(16)
    key = _derived(password, salt, _N, _R, _P)
    return ":".join(("scrypt", str(_N), str(_R), str(_P), *(base64.b64encode(one).decode() for one in (salt, key))))


def parsed(text: str) -> PasswordHash:
    """Raises Invalid; the text is a secret and not in the message."""
    parts = text.split(":")
    if len(parts) != 6 or parts[0] != "scrypt" or not all(part.isascii() and part.isdigit() for part in parts[1:4]):
        raise Invalid("a password is scrypt:N:R:P:SALT:KEY, which `kubeedge devices user` prints")
    n, r, p = (int(part[:9]) for part in parts[1:4])
    if n < 2 or n & (n - 1) or not 0 < r or not 0 < p <= _MOST_P or 128 * n * r > _MOST:
        raise Invalid(f"scrypt with these numbers takes more than {_MOST >> 20} MiB, or they are none of its")
    try:
        salt, key = (base64.b64decode(part, validate=True) for part in parts[4:])
    except (binascii.Error, ValueError) as exc:
        raise Invalid("salt and key of a password are no base64") from exc
    if not 8 <= len(salt) <= 64 or len(key) != _KEY:
        raise Invalid(f"a password has a salt of 8 to 64 bytes and a key of {_KEY}")
    return PasswordHash(n, r, p, salt, key)
