"""What counts as a change of this machine's network, in bytes of rtnetlink(7)."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.networkwatch.core import is_change


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def link(change: int) -> bytes:
    return message(16, struct.pack("=BxHiII", 0, 1, 2, 0x1043, change))


def route(table: int) -> bytes:
    return message(24, struct.pack("=BBBBBBBBI", 2, 24, 0, 0, table, 2, 0, 1, 0))


def test_addresses_routes_and_links_that_come_and_go_are_changes() -> None:
    assert is_change(message(20, bytes(8)))  # an address came
    assert is_change(message(21, bytes(8)))
    assert is_change(message(17, bytes(16)))  # a link was deleted
    assert is_change(link(0x40))  # the cable was put in
    assert is_change(link(0x1))
    assert is_change(route(254))


def test_noise_is_not() -> None:
    assert not is_change(b"")
    assert not is_change(link(0))  # statistics, a Wi-Fi scan
    assert not is_change(route(255))  # the kernel's own route of an address
    assert not is_change(message(28, bytes(12)))  # a neighbour
    assert is_change(link(0) + route(255) + message(20, bytes(8)))


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    assert is_change(data) in (True, False)
