"""Writes the few elements of DER (X.690) that certificates and requests for them consist of. Pure.

Each function returns one whole element: tag, length, contents. der.py reads.
"""

from __future__ import annotations

import datetime

_SHORT = 0x80  # lengths below it are one byte


def element(tag: int, *contents: bytes) -> bytes:
    """Any element; `contents` follow each other in it."""
    content = b"".join(contents)
    size = len(content)
    if size < _SHORT:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _SHORT | len(length))) + length + content


def sequence(*elements: bytes) -> bytes:
    """A SEQUENCE, or SEQUENCE OF."""
    return element(0x30, *elements)


def set_of(one: bytes) -> bytes:
    """A SET OF one element: more would have to be sorted."""
    return element(0x31, one)


def tagged(number: int, *elements: bytes) -> bytes:
    """Constructed and context-specific: [number] EXPLICIT, or IMPLICIT in place of a SEQUENCE."""
    return element(0xA0 | number, *elements)


def implicit(number: int, content: bytes) -> bytes:
    """[number] IMPLICIT in place of a primitive element with that content."""
    return element(0x80 | number, content)


def integer(number: int) -> bytes:
    """A number that is not negative."""
    return element(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def true() -> bytes:
    """BOOLEAN TRUE. In certificates FALSE is a default, which DER leaves out."""
    return element(0x01, b"\xff")


def bit_string(content: bytes, unused: int = 0) -> bytes:
    """`unused` bits at the end of the last byte do not count."""
    return element(0x03, bytes((unused,)), content)


def octet_string(content: bytes) -> bytes:
    """An OCTET STRING of those bytes."""
    return element(0x04, content)


def utf8(text: str) -> bytes:
    """A UTF8String (X.690, section 8.23)."""
    return element(0x0C, text.encode())


def generalized_time(moment: datetime.datetime) -> bytes:
    """UTC, to the second. RFC 5280 wants it for the years from 2050 on, and utc_time before."""
    return element(0x18, moment.astimezone(datetime.UTC).strftime("%Y%m%d%H%M%SZ").encode())


def utc_time(moment: datetime.datetime) -> bytes:
    """UTC, to the second, for the years 1950 to 2049."""
    return element(0x17, moment.astimezone(datetime.UTC).strftime("%y%m%d%H%M%SZ").encode())


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER, from its numbers with dots."""
    first, second, *rest = map(int, dotted.split("."))
    return element(0x06, *map(_base128, (40 * first + second, *rest)))


def _base128(number: int) -> bytes:
    """Seven bits a byte, the highest first; all but the last have the highest bit set."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))
