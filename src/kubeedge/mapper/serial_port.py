"""A serial port of the machine: raw bytes with the settings of the line (termios(3))."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import termios
from collections.abc import Mapping

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.machine import device_file
from kubeedge.mapper.values import MappedDevice

_BUFFER = 4096  # bytes that nobody has read; older ones are of no use
_SPEEDS: Mapping[int, int] = {
    rate: getattr(termios, f"B{rate}")
    for rate in (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 921600)
    if hasattr(termios, f"B{rate}")
}
_PARITIES: Mapping[str, int] = {"none": 0, "even": termios.PARENB, "odd": termios.PARENB | termios.PARODD}
#: what a Device may name: serial lines, but no console, no terminal of a user, and no other device of the machine
_PATH = re.compile(
    r"/dev/(tty[A-Za-z][A-Za-z0-9_-]{0,60}|rfcomm[0-9]{1,3}|serial/by-(id|path)/[A-Za-z0-9_.:+@-]{1,200})"
)


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """`parity`: "none", "even" or "odd"; `rate` in bits a second."""

    rate: int = 9600
    data_bits: int = 8
    parity: str = "none"
    stop_bits: int = 1

    @property
    def character(self) -> float:
        """Seconds that a byte takes on the line."""
        return (1 + self.data_bits + (self.parity != "none") + self.stop_bits) / self.rate

    def __str__(self) -> str:
        return f"{self.rate} {self.data_bits}{self.parity[0].upper()}{self.stop_bits}"


def path_of(device: MappedDevice) -> str:
    """The Device's `serialPort`. Raises Invalid for what is no serial line."""
    found = device.config.get("serialPort")
    if not isinstance(found, str) or not _PATH.fullmatch(found):
        raise device.invalid("serialPort must be a serial line: /dev/tty..., /dev/rfcomm... or /dev/serial/by-id/...")
    return found


def settings_of(device: MappedDevice) -> SerialSettings:
    """The Device's `baudRate`, `dataBits`, `parity` and `stopBits`. Raises Invalid."""
    rate = device.number("baudRate", 1, 1_000_000, 9600)
    parity = str(device.config.get("parity") or "none").lower()
    if rate not in _SPEEDS:
        raise device.invalid(f"baudRate must be one of {', '.join(map(str, _SPEEDS))}")
    if parity not in _PARITIES:
        raise device.invalid("parity must be none, even or odd")
    return SerialSettings(rate, device.number("dataBits", 7, 8, 8), parity, device.number("stopBits", 1, 2, 1))


class SerialPort:
    """An open port; this process alone has it."""

    def __init__(self, path: str, settings: SerialSettings, file: int) -> None:
        self.path = path
        self.settings = settings
        self._file = file
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._error: OSError | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(file, self._read)

    @staticmethod
    def open(path: str, settings: SerialSettings) -> SerialPort:
        """Raises OSError: it is missing, no serial line, or another program has it."""
        file = os.open(device_file(path), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _configure(file, path, settings)
            return SerialPort(path, settings, file)
        except BlockingIOError as exc:
            os.close(file)
            raise OSError(exc.errno, "another program has this serial line", path) from exc
        except BaseException:
            os.close(file)
            raise

    @property
    def is_open(self) -> bool:
        """Neither closed nor broken."""
        return self._file >= 0 and self._error is None

    def write(self, data: bytes) -> None:
        """A few bytes, as much as the kernel holds for the line. Raises OSError."""
        if self._error is not None:
            raise self._error
        if os.write(self._file, data) != len(data):
            raise OSError(f"{self.path}: the line does not take what is written")

    async def read(self, size: int) -> bytes:
        """So many bytes. Raises OSError when the port has gone."""
        while len(self._received) < size:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        found = bytes(self._received[:size])
        del self._received[:size]
        return found

    async def read_line(self, end: bytes, limit: int) -> bytes:
        """What comes before the next `end`. Raises OSError when the port has gone, PeerError for more than `limit` bytes without an end."""
        while (at := self._received.find(end)) < 0:
            if self._error is not None:
                raise self._error
            if len(self._received) >= min(limit, _BUFFER):
                raise PeerError(f"{self.path}: a line of more than {limit} bytes")
            self._arrived.clear()
            await self._arrived.wait()
        found = bytes(self._received[:at])
        del self._received[: at + len(end)]
        return found

    def discard(self) -> None:
        """What has arrived and was not read."""
        self._received.clear()

    def close(self) -> None:
        """The port is free for others. A reader that waits gets an OSError."""
        if self._file >= 0:
            self._fail(OSError(f"{self.path}: closed"))
            os.close(self._file)
            self._file = -1

    def _read(self) -> None:
        try:
            data = os.read(self._file, _BUFFER)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._fail(exc)
            return
        if not data:
            self._fail(OSError(f"{self.path}: the serial line has gone"))
            return
        self._received += data
        del self._received[:-_BUFFER]
        self._arrived.set()

    def _fail(self, error: OSError) -> None:
        self._error = self._error or error
        self._loop.remove_reader(self._file)
        self._arrived.set()


def _configure(file: int, path: str, settings: SerialSettings) -> None:
    if not os.isatty(file):
        raise OSError(f"{path}: is no serial line")
    speed = _SPEEDS[settings.rate]
    flags = termios.CREAD | termios.CLOCAL | (termios.CS8 if settings.data_bits == 8 else termios.CS7)
    flags |= _PARITIES[settings.parity] | (termios.CSTOPB if settings.stop_bits == 2 else 0)
    with contextlib.suppress(termios.error):  # what came before the port was opened
        termios.tcflush(file, termios.TCIOFLUSH)
    try:
        controls = termios.tcgetattr(file)[6]
        controls[termios.VMIN], controls[termios.VTIME] = 1, 0
        termios.tcsetattr(file, termios.TCSANOW, [0, 0, flags, 0, speed, speed, controls])
    except termios.error as exc:
        raise OSError(f"{path}: the line cannot be {settings}: {exc.args[-1]}") from exc
