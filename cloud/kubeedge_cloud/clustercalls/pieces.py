"""A ConversionReview, read and written object by object: a list has thousands of them, and no call into C may take long (apiserver/offload.py). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from kubeedge.api import json_bounds, meta, strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.errors import Invalid
from kubeedge.store.model import MAX_VALUE

_BOUNDS = JsonBounds(values=2_000_000)
_WINDOW = 16 * 1024  # characters in which most objects end
_MOST = 2 * MAX_VALUE  # characters of one object
_SPACE = re.compile(r"[ \t\n\r]*")
_Read: TypeAlias = Callable[[str, str, int], tuple[Any, int]]  # name, text, begin -> value, end


def review(body: bytes) -> Any:
    """What json.loads would give. Raises Invalid, also for what no API server sends."""
    json_bounds.check(body, _BOUNDS, what="the review")
    try:
        text = body.decode()
        value, end = _members(text, _skip(text, 0), _of_review)
    except (ValueError, IndexError, RecursionError) as exc:
        raise Invalid(f"the review is not JSON: {str(exc)[:200]}") from exc
    if _skip(text, end) != len(text):
        raise Invalid("the review is not JSON: there is something behind it")
    return value


def encoded(answer: Mapping[str, Any]) -> bytes:
    """The answer as JSON. Raises Invalid for text that came as half of a surrogate pair."""
    response = answer["response"]
    try:
        objects = b",".join(map(meta.encode, response.get("convertedObjects", ())))
        rest = {key: value for key, value in response.items() if key != "convertedObjects"}
        head = meta.encode({**answer, "response": {**rest, "convertedObjects": []}})
    except UnicodeEncodeError as exc:
        raise Invalid("the review holds text that is not Unicode (half of a surrogate pair)") from exc
    if "convertedObjects" not in response:
        return meta.encode(answer)
    return b"".join((head[: -len(b"]}}")], objects, b"]}}"))


def _of_review(name: str, text: str, begin: int) -> tuple[Any, int]:
    return _members(text, begin, _of_request) if name == "request" else _one(text, begin)


def _of_request(name: str, text: str, begin: int) -> tuple[Any, int]:
    if name != "objects" or text[begin] != "[":
        return _one(text, begin)
    found: list[Any] = []
    at = _skip(text, begin + 1)
    while text[at] != "]":
        if found:
            at = _skip(text, _expect(text, at, ","))
        value, at = _one(text, at)
        found.append(value)
        at = _skip(text, at)
    return found, at + 1


def _members(text: str, begin: int, read: _Read) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, _expect(text, begin, "{"))
    while text[at] != "}":
        if found:
            at = _skip(text, _expect(text, at, ","))
        name, at = _one(text, at)
        if not isinstance(name, str) or name in found:
            raise ValueError(f"the name of a member at {at}")
        at = _skip(text, _expect(text, _skip(text, at), ":"))
        found[name], at = read(name, text, at)
        at = _skip(text, at)
    return found, at + 1


def _one(text: str, begin: int) -> tuple[Any, int]:
    """The value there, which is read in a window that grows: how long it is, is not known before."""
    size = _WINDOW
    while True:
        window = text[begin : begin + size]
        try:
            value, end = strict_json.first(window)
            if end + 2 < size or begin + end == len(text):  # else it may be the beginning of a number, as 1 of 1e+5
                return value, begin + end
        except ValueError:
            if begin + size >= len(text):
                raise
        if size >= _MOST:
            raise ValueError(f"a value of more than {_MOST} characters")
        size *= 4


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at


def _expect(text: str, at: int, what: str) -> int:
    if text[at] != what:
        raise ValueError(f"{text[at]!r} at {at} instead of {what!r}")
    return at + 1
