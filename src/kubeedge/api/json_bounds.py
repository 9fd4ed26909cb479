"""How much is in a JSON text, seen in its bytes: values and depth are bounded before an object is made of any of them.

A body of 3 MiB can be one long string, which costs nothing, or a million empty lists, which cost 200 MB and, with all that is done to
each value afterwards (checks, defaults, copies), half a minute. The size says little; the number of values says it all.

The scan is exact for what is JSON, and works on whole texts in C (replace, split, translate), so 3 MiB take some milliseconds:

    {"a\\"[": [1, {}]}      escapes out, then every second part between quotes is outside of strings:
    {  : [1, {}]}           brackets and commas that are left are structure

What is no JSON may be counted wrongly from its first mistake on; the parser stops there too.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeedge.errors import Invalid

MAX_DEPTH = 100  # levels; the deepest built-in kind has about 20
MAX_VALUES = 20_000  # of one object; a ConfigMap with a key for each of 10,000 files has half as many
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
    openers = _openers(data)
    if openers <= bounds.depth and openers + data.count(b",") <= bounds.values:
        return  # the usual case: not even what is inside strings would be too much
    structure, whole = _structure(data, 4 * (bounds.values + 1))  # a value has at most one string, and one for its key
    depth = 0
    for byte in structure.translate(None, _NO_BRACKETS)[: 2 * bounds.values]:
        depth += 1 if byte in b"[{" else -1
        if depth > bounds.depth:
            raise Invalid(f"{what} is nested deeper than {bounds.depth} levels")
    if not whole or _openers(structure) + structure.count(b",") > bounds.values:
        raise TooManyValues(f"{what} has more than {bounds.values} values")


def _openers(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def _structure(data: bytes, quotes: int) -> tuple[bytes, bool]:
    """What is outside of strings, up to so many quotes; whether that is all."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    parts = data.split(b'"', quotes + 1)
    return b"".join(parts[:quotes:2]), len(parts) <= quotes
