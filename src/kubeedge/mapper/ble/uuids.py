"""UUIDs of services and characteristics. Pure."""

from __future__ import annotations

import re

from kubeedge.errors import Invalid

_BASE = "-0000-1000-8000-00805f9b34fb"  # of those that have a short form (Core Specification, 3.B.2.5.1)
_LONG = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT = re.compile(r"(0x)?([0-9a-f]{4}|[0-9a-f]{8})")


def uuid_of(text: str) -> str:
    """The long form in lower case of a UUID of 4, 8 or 32 digits. Raises Invalid."""
    lower = text.lower()
    if _LONG.fullmatch(lower):
        return lower
    if found := _SHORT.fullmatch(lower):
        return f"{found[2]:0>8}{_BASE}"
    raise Invalid(f"{text[:40]!r} is no UUID: 4, 8 or 32 hexadecimal digits")


def from_wire(data: bytes) -> str:
    """The long form of 2 or 16 bytes, the lowest first. Raises Invalid for other lengths."""
    if len(data) not in (2, 16):
        raise Invalid(f"a UUID of {len(data)} bytes")
    digits = data[::-1].hex()
    if len(digits) == 4:
        return f"0000{digits}{_BASE}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
