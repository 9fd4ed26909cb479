"""Signals of CAN frames against cantools, an implementation of DBC files that nobody here wrote, and what lies."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Mapping
from typing import Any, cast

import pytest
from cantools.database.can import Message, Signal
from cantools.database.conversion import BaseConversion
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid
from kubeedge.mapper.can import core
from kubeedge.mapper.can.core import CanSignal
from kubeedge.mapper.can.driver import CanClient
from kubeedge.mapper.values import MappedDevice, MappedProperty


def prop(kind: str = "INT", **visitor: Any) -> MappedProperty:
    return MappedProperty("default/ecu", "speed", kind, visitor={"id": 0x181, "start": 0, "length": 8, **visitor})


@st.composite
def signals(draw: st.DrawFn) -> CanSignal:
    length, is_big = draw(st.integers(1, 64)), draw(st.booleans())
    start = draw(st.integers(0, 63))
    signal = CanSignal(0x181, start, length, is_big, draw(st.booleans()), 1.0, 0.0, 8)
    if max(signal.bits) > 63 or min(signal.bits) < 0:
        signal = CanSignal(0x181, 7 if is_big else 0, length, is_big, signal.is_signed, 1.0, 0.0, 8)
    return signal


@given(signals(), st.binary(min_size=8, max_size=8), st.data())
def test_signals_are_where_cantools_has_them(signal: CanSignal, data: bytes, more: st.DataObject) -> None:
    theirs = Message(
        0x181, "m", 8,
        [Signal("s", signal.start, signal.length, "big_endian" if signal.is_big else "little_endian", signal.is_signed,
                conversion=BaseConversion.factory())],
    )  # fmt: skip
    value = signal.of(data)
    assert value == theirs.decode(data)["s"]
    low, high = (
        (-(1 << signal.length - 1), (1 << signal.length - 1) - 1) if signal.is_signed else (0, (1 << signal.length) - 1)
    )
    new = more.draw(st.integers(low, high))
    written = signal.into(data, new)
    assert theirs.decode(written)["s"] == new == signal.of(written)
    assert signal.into(written, value if value is not None else 0) == data, "all other bits stay"
    for wrong in (low - 1, high + 1):
        with pytest.raises(ValueError, match="has no room"):
            signal.into(data, wrong)


def test_scaled_values_and_short_frames() -> None:
    signal = core.signal_of(prop("FLOAT", length=16, scale=0.5, shift=-40))
    assert signal.of(bytes.fromhex("c800")) == 60.0 and signal.into(b"", 60.0)[:2] == bytes.fromhex("c800")
    assert signal.of(b"\x01") is None


def test_frames_are_as_the_kernel_has_them() -> None:
    assert core.FRAME.size == 16  # CAN_MTU
    assert core.parsed(core.frame(0x181, b"abc")) == (0x181, b"abc")
    for wrong in (
        b"",
        bytes(72),
        core.FRAME.pack(0x181, 9, b""),
        core.frame(0x181 | core.REMOTE, b""),
        core.frame(core.ERROR, b""),
    ):
        assert core.parsed(wrong) is None
    assert core.filters([0x181, 0x12345 | core.EXTENDED]) == bytes.fromhex(
        "81010000 ff0700c0 45230180 ffffffdf".replace(" ", "")
    )


@pytest.mark.parametrize(
    "visitor, why",
    [
        ({"id": -1}, "id must be"),
        ({"id": "x"}, "id must be"),
        ({"id": 1 << 29}, "id must be"),
        ({"byteOrder": "middle"}, "byteOrder must be"),
        ({"start": 60}, "is not in 8 bytes"),
        ({"start": 56, "byteOrder": "big", "length": 9}, "is not in 8 bytes"),
        ({"length": 65}, "length must be"),
        ({"scale": 0}, "its scale is not 0"),
        ({"scale": "1"}, "scale must be a number"),
        ({"size": 9}, "size must be"),
    ],
)
def test_a_visitor_that_makes_no_sense_is_refused(visitor: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=f"default/ecu: property speed: .*{why}"):
        core.signal_of(prop(**visitor))


def test_ids_and_interfaces() -> None:
    assert core.signal_of(prop(id="0x181")).id == 0x181
    assert core.signal_of(prop(id="0x18FEF100")).id == 0x18FEF100 | core.EXTENDED
    assert core.signal_of(prop(id=5, extended=True)).id == 5 | core.EXTENDED
    for name in ("", "can0/..", "x" * 16, None):
        with pytest.raises(Invalid, match="device default/ecu: interface must be"):
            core.interface_of(MappedDevice("default/ecu", "can", {"interface": name}, {}))


class Busy:
    """A bus on which there is always another frame."""

    def __init__(self) -> None:
        self.given = 0

    def gettimeout(self) -> float:
        return 0.0

    def recv(self, size: int) -> bytes:
        self.given += 1
        if self.given > 10_000:
            raise OSError("nobody else has had a turn")
        return core.frame(0x181, bytes((self.given & 0xFF,)))


def test_a_busy_bus_leaves_others_their_turn() -> None:
    found: list[Mapping[str, Any]] = []

    async def run() -> None:
        bus = Busy()
        device = MappedDevice("default/ecu", "can", {"interface": "can0"}, {"speed": prop()})
        listening = asyncio.create_task(CanClient(device, cast(socket.socket, bus)).listen(found.append))
        for _ in range(20):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait([listening])
        assert listening.cancelled() and 20 <= len(found) <= 25
        assert found[0] == {"speed": 65}, "of frames that come at once the newest counts"

    asyncio.run(run())


def test_a_kernel_without_can_is_said_with_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("kubeedge.mapper.can.driver.socket.socket", refuse)
    with pytest.raises(OSError, match="can0: the kernel gives no CAN sockets"):
        CanClient.open(MappedDevice("default/hall", "can", {"interface": "can0"}, {}))
