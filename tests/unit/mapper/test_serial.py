"""Lines of text between our mapper and a device on pyserial, with socat as the line between them; and devices that babble."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serial import Serial, SerialException

from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper import serial_port
from kubeedge.mapper.serial import core
from kubeedge.mapper.serial.driver import serial_mapper
from kubeedge.mapper.simulated import SimulatedDevice
from kubeedge.mapper.values import MappedDevice, MappedProperty

PROPERTIES: dict[str, Any] = {
    "temperature": {"type": "FLOAT", "visitors": {"configData": {"request": "T?", "start": "T=", "field": 0}}},
    "second": {"type": "INT", "visitors": {"configData": {"request": "L?", "start": "L ", "separator": ",", "field": 1}}},
    "json": {"type": "INT", "visitors": {"configData": {"request": "J?", "pointer": "/a/1"}}},
    "target": {"type": "INT", "visitors": {"configData": {"request": "S?", "start": "S=", "write": "S={value}", "answer": "OK"}}},
    "tare": {"type": "INT", "visitors": {"configData": {"write": "S={value}", "answer": "OK"}}},
    "silent": {"type": "INT", "visitors": {"configData": {"request": "X?"}}},
    "weight": {"type": "FLOAT", "accessMode": "ReadOnly", "visitors": {"configData": {"push": True, "start": "W:"}}},
}  # fmt: skip


class Scale:
    """A device: what it says to a line, and what it says by itself."""

    def __init__(self, path: str) -> None:
        self.port = Serial(path, 115200, timeout=0.1)
        self.target = b"20"
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(SerialException, OSError, TypeError):
            while not self.ended.is_set():
                line = self.port.read_until(b"\n").strip()
                if line.startswith(b"S=") and line != b"S=99":
                    self.target = line[2:]
                answers = {
                    b"T?": b"W:1.5\nT=21.5 C",
                    b"L?": b"L 7,8,9",
                    b"J?": b'{"a": [1, 42]}',
                    b"S?": b"S=" + self.target,
                }
                answer = b"NO" if line == b"S=99" else b"OK" if line.startswith(b"S=") else answers.get(line)
                if answer:
                    self.port.write(answer + b"\n")

    def close(self) -> None:
        self.ended.set()
        self.thread.join(30)
        self.port.close()


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The far end of a line; a Device's `serialPort` is the near one."""
    near, far = tmp_path / "near", tmp_path / "far"
    argv = ["socat", "-d", "-d", f"pty,raw,echo=0,link={near}", f"pty,raw,echo=0,link={far}"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as socat:
        try:
            assert socat.stderr is not None
            while "starting data transfer loop" not in (said := socat.stderr.readline()):
                assert said, "socat has ended"
            monkeypatch.setattr(serial_port, "path_of", lambda device: str(near))
            yield str(far)
        finally:
            socat.kill()


def simulated(**config: Any) -> SimulatedDevice:
    return SimulatedDevice(serial_mapper(), PROPERTIES, config={"baudRate": 115200, **config})


def test_lines_are_asked_for_set_and_sent_by_the_device_itself(line: str) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(120), simulated(timeout=20_000) as device:
            assert [await device.read(name) for name in ("temperature", "second", "json")] == ["21.5", "8", "42"]
            await device.sends("weight", "1.5")
            await device.write("target", "-3")
            assert await device.read("target") == "-3"
            with pytest.raises(Invalid, match="property target: the device answers 'NO'"):
                await device.write("target", "99")
            with pytest.raises(Invalid, match="property tare: has no value to be read"):
                await device.read("tare")
            await device.write("tare", "7")
            assert await device.read("tare") == "7"
            scale.port.write(b"W:2.25\nW:x\n")
            await device.sends("weight", "2.25")
            while "weight" not in device.errors:
                await asyncio.sleep(0.02)
            assert "property weight: 'x'" in device.errors["weight"]

    scale = Scale(line)
    try:
        asyncio.run(scenario())
    finally:
        scale.close()


def test_a_device_that_says_nothing_or_babbles_is_an_error_by_name(line: str) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(120), simulated(timeout=200) as device:
            with pytest.raises(Invalid, match="default/simulated: property silent: the device does not answer 'X\\?'"):
                await device.read("silent")
        async with asyncio.timeout(120), simulated() as device:
            far.write(b"x" * 5000)
            with pytest.raises(PeerError, match="a line of more than 4096 bytes"):
                await device.sends("weight", "never")

    far = Serial(line, 115200)
    try:
        asyncio.run(scenario())
    finally:
        far.close()


@pytest.mark.parametrize(
    "visitor, why",
    [
        ({}, "request, push or write is required"),
        ({"request": "a\nb"}, "request must be a text of one line"),
        ({"request": 7}, "request must be a text of one line"),
        ({"request": "x" * 300}, "request must be a text of one line"),
        ({"write": "S"}, "write must have {value} in it"),
        ({"request": "x", "field": 256}, "field must be an integer"),
    ],
)
def test_a_visitor_that_makes_no_sense_is_refused(visitor: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=f"default/s: property p: {why}"):
        core.visitor_of(MappedProperty("default/s", "p", visitor=visitor))
    with pytest.raises(Invalid, match="lineEnd must be one of"):
        core.end_of(MappedDevice("default/s", "serial", {"lineEnd": "x"}, {}))


def test_a_text_that_would_be_two_lines_is_not_sent() -> None:
    prop = MappedProperty("default/s", "p", visitor={"write": "S={value}"})
    visitor = core.visitor_of(prop)
    assert core.writing(prop, visitor, "a b") == "S=a b"
    write: Callable[[str], str] = lambda text: core.writing(prop, visitor, text)  # noqa: E731
    for text in ("a\nREBOOT", "a\rREBOOT", "a;REBOOT", "\x1b"):
        with pytest.raises(Invalid, match="more than one line"):
            write(text)


@pytest.mark.parametrize("line", ["", "T", "T=", "T=x", "S=1", "T=1e999", "T=" + "9" * 100])
def test_lines_that_lie_are_refused_by_name(line: str) -> None:
    prop = MappedProperty("default/s", "p", "FLOAT", visitor={"request": "T?", "start": "T=", "field": 0})
    with pytest.raises(Invalid, match="default/s: property p"):
        core.value_of(prop, core.visitor_of(prop), line)
