"""Reviews that are read and written object by object are the same as those that are read at once."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid
from kubeedge_cloud.clustercalls import pieces

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from(["kind", "request", "objects", "uid", "x"])


@given(
    st.dictionaries(NAMES, VALUES, max_size=3),
    st.dictionaries(NAMES, VALUES, max_size=3),
    st.lists(VALUES, max_size=4),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.sampled_from([3, 4, 7, 16384]),
)
def test_a_review_is_read_as_at_once(
    outer: dict[str, Any], request: dict[str, Any], objects: list[Any], indent: int | None, escaped: bool, window: int
) -> None:
    whole = {**outer, "request": {**request, "objects": objects}}
    data = json.dumps(whole, indent=indent, ensure_ascii=escaped).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_WINDOW", window)
        assert pieces.review(data) == whole
        with contextlib.suppress(Invalid):
            assert pieces.review(data[:-1]) == json.loads(data[:-1])
    answer = {"kind": "x", "response": {"uid": "1", "result": {}, "convertedObjects": [{"a": one} for one in objects]}}
    assert json.loads(pieces.encoded(answer)) == answer
    assert json.loads(pieces.encoded({"response": {"uid": "1"}})) == {"response": {"uid": "1"}}


@given(st.text(alphabet='{}[]":, \t1truenl\\u', max_size=24))
def test_what_is_no_review_is_said(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert pieces.review(text.encode()) == json.loads(text)


def test_one_value_is_bounded_and_many_are_never_read_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = pieces.strict_json.first, []

    def first(text: str) -> tuple[Any, int]:
        sizes.append(len(text))
        return real(text)

    monkeypatch.setattr(pieces.strict_json, "first", first)
    objects = [{"name": f"d{n}", "more": ["x" * 10] * 100} for n in range(5_000)]
    assert pieces.review(json.dumps({"request": {"objects": objects}}).encode()) == {"request": {"objects": objects}}
    assert max(sizes) <= pieces._WINDOW
    for large in ({"request": {"objects": ["x" * 5_000_000]}}, {"x": "x" * 5_000_000}):
        with pytest.raises(Invalid, match="of more than"):
            pieces.review(json.dumps(large).encode())
    assert max(sizes) <= 4 * pieces._MOST
    with pytest.raises(Invalid, match="surrogate"):
        pieces.encoded({"response": {"convertedObjects": [pieces.review(b'{"a": "\\ud800"}')]}})
