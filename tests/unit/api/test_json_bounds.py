"""How much is in a JSON text, before any of it is made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import json_bounds, strict_json
from kubeedge.api.json_bounds import JsonBounds, TooManyValues
from kubeedge.errors import Invalid

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a,[]{}\\":é\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='k,[{\\"'), inner),
    max_leaves=40,
)


def weight(value: Any) -> int:
    """Brackets and commas, counted the slow way."""
    if isinstance(value, list | dict):
        inner = list(value.values()) if isinstance(value, dict) else value
        return 1 + max(0, len(inner) - 1) + sum(map(weight, inner))
    return 0


def depth(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(VALUES, st.booleans())
def test_the_scan_counts_what_the_parser_will_make(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    count, deep = weight(value), depth(value)
    json_bounds.check(text, JsonBounds(max(count, 1), max(deep, 1)))
    if count > 1:
        with pytest.raises(TooManyValues):
            json_bounds.check(text, JsonBounds(count - 1, max(deep, 1)))
    if deep > 1:
        with pytest.raises(Invalid):
            json_bounds.check(text, JsonBounds(max(count, 1), deep - 1))


@given(VALUES, st.integers(1, 9))
def test_where_a_piece_ends_makes_no_difference(value: Any, piece: int) -> None:
    """In the middle of a string, between a backslash and what it escapes, before a bracket."""
    usual, json_bounds._PIECE = json_bounds._PIECE, piece
    try:
        test_the_scan_counts_what_the_parser_will_make.hypothesis.inner_test(value, True)  # type: ignore[attr-defined]
    finally:
        json_bounds._PIECE = usual


MIB3 = 3 * 1024 * 1024


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"[]," * (MIB3 // 3 - 1) + b"1]",
        b'{"a":[' + b"{}," * (MIB3 // 3 - 4) + b"1]}",
        b"{" + b'"":1,' * (MIB3 // 5 - 1) + b'"":1}',
        b"[" + b'"",' * (MIB3 // 3 - 1) + b"1]",
        b"[" + b'"\\"",' * (MIB3 // 5 - 1) + b"1]",
        b"[" + b"1," * (MIB3 // 2 - 1) + b"1]",
    ],
    ids=["lists", "objects", "keys", "strings", "escapes", "numbers"],
)
def test_a_million_values_are_refused_before_one_of_them_is_made(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*args: object, **more: object) -> None:
        raise AssertionError("the text was parsed")

    monkeypatch.setattr(json, "loads", parsed)
    with pytest.raises(TooManyValues, match="the body has more than 20000 values"):
        strict_json.loads(text, what="the body")


@pytest.mark.parametrize("text", [b"[" * 1000, b'{"a":' * 100_000, b'["x",' * 100_000, b"[[]," * 100_000])
def test_what_is_nested_too_deep_is_called_so(text: bytes) -> None:
    with pytest.raises(Invalid, match="nested deeper than 100 levels"):
        strict_json.loads(text)


def test_what_is_inside_of_strings_does_not_count() -> None:
    value = {"data": {"table": "[a,b,{c}]\\" * 100_000 + '"'}}
    assert strict_json.loads(json.dumps(value).encode()) == value


def test_the_largest_numbers_are_refused_as_fast_as_any() -> None:
    for text in (b"1" * MIB3, b"-" + b"9" * 5000, b"1e" + b"9" * MIB3):
        with pytest.raises(Invalid):
            strict_json.loads(text)
