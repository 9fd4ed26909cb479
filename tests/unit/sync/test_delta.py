"""Patches: what comes out is what went in, and a patch of somebody who means harm takes no memory."""

from __future__ import annotations

import json
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import PeerError
from kubeedge.kit.varint import varint
from kubeedge.store.model import MAX_VALUE
from kubeedge.sync import delta


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_a_patch_makes_the_new_value_of_the_old_one(base: bytes, new: bytes) -> None:
    patch = delta.make(base, new)
    assert patch is None or delta.apply(base, patch) == new


@given(
    st.binary(min_size=300, max_size=3000),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 50), st.binary(max_size=50)), max_size=4),
)
def test_a_few_changes_of_a_value_are_a_patch_that_fits(base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    new = base
    for at, length, what in edits:
        new = new[:at] + what + new[at + length :]
    patch = delta.make(base, new)
    assert patch is None or delta.apply(base, patch) == new


@pytest.mark.parametrize("size", [10_000, 200_000, 1_400_000])
def test_fields_far_from_each_other_cost_little(size: int) -> None:
    rng = random.Random(size)
    words = [f"{rng.getrandbits(64):x}" for _ in range(size // 40)]
    obj = {"first": "a", "data": {f"key-{n}": word for n, word in enumerate(words)}, "zlast": "b"}
    base = json.dumps(obj).encode()
    one = json.dumps({**obj, "zlast": "c"}).encode()
    two = json.dumps({**obj, "first": "d", "data": {**obj["data"], "key-5": "e"}}).encode()  # type: ignore[dict-item]
    for new, most in ((one, 20), (two, 200)):
        patch = delta.make(base, new)
        assert patch is not None and len(patch) < most and delta.apply(base, patch) == new


def test_what_has_nothing_in_common_travels_whole() -> None:
    rng = random.Random(1)
    assert delta.make(rng.randbytes(1000), rng.randbytes(1000)) is None


@pytest.mark.parametrize(
    "patch",
    [
        b"",
        b"\x05\x05\x00",  # keeps more than there is
        varint(2**62) + varint(2**62) + b"\x00",
        b"\x01\x01" + varint(MAX_VALUE << 1),  # a value that no store takes
        b"\x01\x01\x14abc",  # ten bytes that are not there
        b"\x01\x01\x06abcd",  # more than it says
        b"\x01\x01\x15\x03abc",  # not DEFLATE
        b"\x01\x01" + varint(10 << 1 | 1) + varint(len(delta.deflate(b"abc", b""))) + delta.deflate(b"abc", b""),
    ],
)
def test_what_is_no_patch_is_refused(patch: bytes) -> None:
    with pytest.raises(PeerError):
        delta.apply(b"12345678", patch)


def test_a_patch_that_would_unpack_to_much_is_refused_before_it_does() -> None:
    bomb = delta.deflate(bytes(100_000_000), b"")
    tracemalloc.start()
    try:
        for says in (5, 100_000, MAX_VALUE - 2, MAX_VALUE):
            with pytest.raises(PeerError):
                delta.apply(b"12", b"\x01\x01" + varint(says << 1 | 1) + varint(len(bomb)) + bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_VALUE
    finally:
        tracemalloc.stop()
