"""JSON from somebody else, which will be JSON again for everybody: what an honest client could not read is refused where it comes in.

Python's parser takes more than RFC 8259 has (NaN, Infinity), makes infinity of 1e999, keeps half of a surrogate pair, which UTF-8 cannot
express, and nests as deep as its stack. One such value in a list of objects, and no kubectl can read the list.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from kubeedge.errors import Invalid

MAX_DEPTH = 100  # levels; the deepest built-in kind has about 20


def loads(data: bytes, *, what: str = "it") -> Any:
    """Raises Invalid, in a sentence that begins with `what`."""
    try:
        # decoded here, because json.loads would let half of a surrogate pair pass
        value = json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as exc:
        raise Invalid(f"{what} is nested deeper than {MAX_DEPTH} levels") from exc
    except ValueError as exc:
        raise Invalid(f"{what} is not JSON: {str(exc)[:200]}") from exc
    _check_depth(value, what)
    if b"\\u" in data:  # the only way by which half a surrogate pair gets in: it could not be encoded again
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            raise Invalid(f"{what} holds text that is not Unicode (half of a surrogate pair)") from exc
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:32]} is too large a number")
    return value


def _check_depth(value: Any, what: str) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following += [inner for inner in item.values() if isinstance(inner, dict | list)]
            elif isinstance(item, list):
                following += [inner for inner in item if isinstance(inner, dict | list)]
        if not following:
            return
        level = following
    raise Invalid(f"{what} is nested deeper than {MAX_DEPTH} levels")
