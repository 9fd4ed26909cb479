"""JSON from untrusted peers that will be served as JSON again: what a conforming client could not read is rejected on arrival.

Python's parser takes more than RFC 8259 has (NaN, Infinity), makes infinity of 1e999, keeps half of a surrogate pair, which UTF-8 cannot
express, and nests as deep as its stack. One such value in a list of objects, and no kubectl can read the list.

How many values there are is bounded before any is made (json_bounds.py).
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from kubeedge.api import json_bounds
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.errors import Invalid


def loads(data: bytes, *, what: str = "it", bounds: JsonBounds = json_bounds.DEFAULT) -> Any:
    """Raises Invalid, in a sentence that begins with `what`; TooManyValues for what is beyond the bounds."""
    json_bounds.check(data, bounds, what=what)
    try:
        # decoded here, because json.loads would let half of a surrogate pair pass
        value = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as exc:
        raise Invalid(f"{what} is not JSON: {str(exc)[:200]}") from exc
    if b"\\u" in data:  # the only way by which half a surrogate pair gets in: it could not be encoded again
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            raise Invalid(f"{what} holds text that is not Unicode (half of a surrogate pair)") from exc
    return value


def first(text: str) -> tuple[Any, int]:
    """(the value that a text begins with, where it ends), of text whose values are bounded already. Raises ValueError, RecursionError; halves of
    surrogate pairs pass."""
    return _DECODER.raw_decode(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:32]} is too large a number")
    return value


_DECODER = json.JSONDecoder(
    parse_constant=_no_constant, parse_float=_finite
)  # making one takes as long as a small document
