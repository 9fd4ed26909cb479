"""What a device says of itself to everybody (Core Specification Supplement, part A): its name, and its services. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kubeedge.mapper.ble import uuids

_NAMES = (0x09, 0x08)  # the whole one, a shortened one
_UUIDS = {0x02: 2, 0x03: 2, 0x06: 16, 0x07: 16}  # bytes of each in a list
_MAX_UUIDS = 32


def name_of(data: bytes) -> str:
    """ "" where it says none."""
    found = dict(_parts(data))
    name = next((found[kind] for kind in _NAMES if kind in found), b"")
    return name.decode("utf-8", "replace").strip("\0")


def uuids_of(data: bytes) -> tuple[str, ...]:
    """In their long form."""
    found: list[str] = []
    for kind, content in _parts(data):
        if size := _UUIDS.get(kind):
            found += [uuids.from_wire(content[at : at + size]) for at in range(0, len(content) - size + 1, size)]
    return tuple(dict.fromkeys(found[:_MAX_UUIDS]))


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of each; what is cut off is left out."""
    at = 0
    while at < len(data) and (length := data[at]) and at + 1 + length <= len(data):
        yield data[at + 1], data[at + 2 : at + 1 + length]
        at += 1 + length
