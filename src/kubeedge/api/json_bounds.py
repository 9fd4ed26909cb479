"""How much is in a JSON text, seen in its bytes: values and depth are bounded before an object is made of any of them.

A body of 3 MiB can be one long string, which costs nothing, or a million empty lists, which cost 200 MB and, with all that is done to
each value afterwards (checks, defaults, copies), half a minute. The size says little; the number of values says it all.

The scan is exact for what is JSON. It works on pieces of the text in C (replace, split, translate), so 3 MiB take some milliseconds, no call
holds the interpreter's lock for long, and it ends where a limit is passed:

    {"a\\"[": [1, {}]}      escapes out, then every second part between quotes is outside of strings:
    {  : [1, {}]}           brackets and commas that are left are structure

What is no JSON may be counted wrongly from its first mistake on; the parser stops there too.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

MAX_DEPTH = 100  # levels; the deepest built-in kind has about 20
MAX_VALUES = 20_000  # of one object; a ConfigMap with a key for each of 10,000 files has half as many
_PIECE = 64 * 1024  # bytes that are looked at in one call
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


@dataclass(frozen=True, slots=True)
class JsonBounds:
    """Limits of one JSON document, checked on its bytes."""

    values: int = MAX_VALUES
    depth: int = MAX_DEPTH


DEFAULT = JsonBounds()


class TooManyValues(Invalid):
    """More than this side takes, whatever the values are."""


def check(data: bytes, bounds: JsonBounds = DEFAULT, *, what: str = "it") -> None:
    """Raises Invalid; TooManyValues for a number that is beyond the bounds. What passes need not be JSON."""
    if _within(data, bounds):
        return
    depth = values = quotes = 0
    for structure, strings in _structure(data):
        for byte in structure.translate(None, _NO_BRACKETS):
            depth += 1 if byte in b"[{" else -1
            if depth > bounds.depth:
                raise Invalid(f"{what} is nested deeper than {bounds.depth} levels")
        values += _openers(structure) + structure.count(b",")
        quotes += strings
        # a value has at most one string, and one for its key
        if values > bounds.values or quotes > 4 * (bounds.values + 1):
            raise TooManyValues(f"{what} has more than {bounds.values} values")


def _within(data: bytes, bounds: JsonBounds) -> bool:
    """The usual case: not even what is inside strings would be too much."""
    openers = commas = 0
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE]
        openers += _openers(piece)
        commas += piece.count(b",")
        if openers > bounds.depth or openers + commas > bounds.values:
            return False
    return True


def _openers(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def _structure(data: bytes) -> Iterator[tuple[bytes, int]]:
    """What is outside of strings, piece by piece, and how many quotes there were in each."""
    start, inside = 0, False
    while start < len(data):
        end = start + _PIECE
        piece = data[start:end]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # what is escaped by its last byte belongs to it
            end += 1
            piece = data[start:end]
        start = end
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.split(b'"')
        yield b"".join(parts[inside::2]), len(parts) - 1
        inside ^= len(parts) % 2 == 0
