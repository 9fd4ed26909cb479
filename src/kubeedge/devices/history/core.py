"""Blocks of a history file, and which files are kept. Pure: values in, bytes out, and the other way round.

    file    {u32 length, u32 CRC-32, payload} for each commit
    payload JSON: {UID: {PROPERTY: [time, value, time, value, ...]}}

A Device that is made anew has another uid, and nothing of its predecessor's. Files of versions before 2026-12 have NAMESPACE/NAME in place of the uid.

A time is in milliseconds: the first of a property since 1970, each further one since the one before it. A block that is torn, as by a power
cut, ends its file: what comes after it was never confirmed.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import TypeAlias

#: uid of a device -> property -> (milliseconds since 1970, 0: not known; value), the oldest first
HistoryValues: TypeAlias = Mapping[str, Mapping[str, list[tuple[int, str]]]]

MAX_BLOCK = 16 * 1024 * 1024  # bytes; what waits for the disk is bounded by devices/core.py, in characters
_HEAD = struct.Struct("!II")


def block(values: HistoryValues) -> bytes:
    """One commit as bytes."""
    found: dict[str, dict[str, list[int | str]]] = {}
    for uid, properties in values.items():
        device = found[uid] = {}
        for name, items in properties.items():
            flat, last = device.setdefault(name, []), 0
            for time, value in items:
                flat += (time - last, value)
                last = time
    payload = json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def valid_length(data: bytes) -> int:
    """Bytes of a file up to the first block that is torn."""
    at = 0
    for payload in _payloads(data):
        at += _HEAD.size + len(payload)
    return at


def values(data: bytes, device: str, prop: str) -> Iterator[tuple[int, str]]:
    """What a file has of one property, in its order. `device`: what it has in the file."""
    wanted = json.dumps(device, ensure_ascii=False).encode("utf-8", "replace")
    for payload in _payloads(data):
        if wanted not in payload:  # most blocks have other devices
            continue
        flat, last = json.loads(payload).get(device, {}).get(prop, ()), 0
        for at in range(0, len(flat), 2):
            last += flat[at]
            yield last, flat[at + 1]


def _payloads(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        payload = data[at : at + length]
        if len(payload) < length or length > MAX_BLOCK or zlib.crc32(payload) != checksum:
            return
        yield payload
        at += length


def superfluous(files: Mapping[int, tuple[int, int]], most: int, oldest: int) -> list[int]:
    """Files to remove, of number -> (bytes, milliseconds of its newest value): the oldest first, until all have at most `most` bytes, and those
    whose values are older than `oldest`. The newest file stays."""
    size, found = sum(one for one, _ in files.values()), []
    for number in sorted(files)[:-1]:
        if size > most or 0 < files[number][1] < oldest:
            found.append(number)
            size -= files[number][0]
    return found
