"""The readable checksum and the one in C agree, for every length and alignment."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.wire_format import checksum as checksum_module
from tests.reference import checksum as reference

fast = pytest.importorskip("kubeedge._fastpath.checksum")


def test_the_example_of_rfc_1071() -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert reference.ones_sum(data) == 0xDDF2 == fast.ones_sum(data)
    assert checksum_module.checksum(data) == 0x220D


def test_every_length_at_every_alignment() -> None:
    data = random.Random(1).randbytes(2064)
    for length in range(2049):
        for offset in {0, 1, length % 16}:
            piece = data[offset : offset + length]
            assert fast.ones_sum(memoryview(data)[offset : offset + length]) == reference.ones_sum(piece), (
                length,
                offset,
            )


def test_sums_that_carry_for_ever() -> None:
    for data in (b"", b"\xff" * 65_535, b"\xff" * 65_536, bytes(3000), b"\0\1" * 40_000, b"\xff"):
        for initial in (0, 1, 0xFFFF, 0xFFFFFFFF):
            assert fast.ones_sum(data, initial) == reference.ones_sum(data, initial), (len(data), initial)


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_any_bytes_on_any_initial_sum(data: bytes, initial: int) -> None:
    assert fast.ones_sum(data, initial) == reference.ones_sum(data, initial)
    assert fast.ones_sum(bytearray(data), initial) == reference.ones_sum(memoryview(data), initial)


@pytest.mark.parametrize("ones_sum", [fast.ones_sum, reference.ones_sum])
def test_what_is_not_bytes_or_too_large_is_refused(ones_sum: object) -> None:
    assert callable(ones_sum)
    with pytest.raises(TypeError):
        ones_sum(None)
    with pytest.raises(OverflowError):
        ones_sum(b"", 1 << 32)
    with pytest.raises(OverflowError):
        ones_sum(b"", -1)
