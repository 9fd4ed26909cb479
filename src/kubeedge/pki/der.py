"""When a certificate is valid, and for which key, read with the standard library alone.

Reads just enough of DER (X.690) to reach the Validity and the key of a certificate (RFC 5280, section 4.1):

    Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version OPTIONAL, serialNumber INTEGER, signature SEQUENCE, issuer SEQUENCE,
                                                         validity SEQUENCE { notBefore, notAfter }, subject SEQUENCE,
                                                         subjectPublicKeyInfo SEQUENCE, ... }, ... }

Nothing is verified here: it reads our own file, which TLS checks whenever it is used. asn1.py writes.
"""

from __future__ import annotations

import binascii
import datetime
import re

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

MAX_PEM = 64 * 1024
_SEQUENCE, _INTEGER, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x02, 0x17, 0x18, 0xA0
_TIME = re.compile(rb"[0-9]{14}Z")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Validity:
    """The time in which a certificate is valid, in seconds since 1970."""

    not_before: float  # seconds since 1970
    not_after: float


def validity(pem: bytes) -> Validity:
    """The validity of the first certificate in the text. Raises Invalid."""
    try:
        dates, _ = _take(_from_validity(pem), _SEQUENCE)
        not_before, dates = _time(dates)
        not_after, _ = _time(dates)
    except (ValueError, IndexError, OverflowError) as exc:
        raise Invalid(f"not a certificate: {exc}") from exc
    return Validity(not_before, not_after)


def public_key(pem: bytes) -> bytes:
    """SubjectPublicKeyInfo, in DER, of the first certificate in the text. Raises Invalid."""
    try:
        rest = _from_validity(pem)
        for tag in (_SEQUENCE, _SEQUENCE):
            _, rest = _take(rest, tag)
        _, following = _take(rest, _SEQUENCE)
    except (ValueError, IndexError) as exc:
        raise Invalid(f"not a certificate: {exc}") from exc
    return rest[: len(rest) - len(following)]


def _from_validity(pem: bytes) -> bytes:
    """The validity, and what follows it in the first certificate of the text. Raises Invalid, ValueError or IndexError."""
    match = _PEM.search(pem[:MAX_PEM])
    if match is None:
        raise Invalid("no certificate in PEM form")
    certificate, _ = _take(binascii.a2b_base64(match[1]), _SEQUENCE)
    rest, _ = _take(certificate, _SEQUENCE)
    if rest[:1] == bytes([_VERSION]):
        _, rest = _take(rest, _VERSION)
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):
        _, rest = _take(rest, tag)
    return rest


def _take(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The contents of the first element, and what follows it."""
    if data[0] != tag:
        raise ValueError(f"tag {data[0]:#x} instead of {tag:#x}")
    length, start = data[1], 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4:
            raise ValueError(f"a length of {size} bytes")
        length, start = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    if len(data) < start + length:
        raise ValueError(f"{length} bytes announced, {len(data) - start} there")
    return data[start : start + length], data[start + length :]


def _time(data: bytes) -> tuple[float, bytes]:
    text, rest = _take(data, data[0])
    if data[0] == _UTC_TIME:
        year = int(text[:2])  # RFC 5280, section 4.1.2.5.1: 50 to 99 are of the last century
        text = b"%d%s" % (1900 + year if year >= 50 else 2000 + year, text[2:])
    elif data[0] != _GENERALIZED_TIME:
        raise ValueError(f"tag {data[0]:#x} instead of a time")
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not a time")
    year, month, day, hour, minute, second = int(text[:4]), *(int(text[n : n + 2]) for n in range(4, 14, 2))
    return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC).timestamp(), rest
