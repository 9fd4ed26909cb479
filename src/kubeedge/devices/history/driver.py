"""The files of a node's history, in one directory: appended to with each commit, removed when they are too many or too old.

All methods block: they are for a thread.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from kubeedge.api.names import NamespacedName
from kubeedge.devices.ages import ClockLeaps
from kubeedge.devices.history import core
from kubeedge.pki.files import sync_directory

log = logging.getLogger("kubeedge.devices.history")

_FILES = 16  # that share the bytes
_READ = 256 * 1024  # characters of the values that are read at once: an answer holds less
_SUFFIX = ".history"


class HistoryFiles:
    """`most`: bytes of all files together; `age`: seconds that a value is kept at least, if there is room. `elapsed`: as ClockLeaps has it."""

    def __init__(self, directory: Path, most: int, age: float, elapsed: Callable[[], float] | None = None) -> None:
        self._directory, self._most, self._age = directory, most, age
        self._leaps = ClockLeaps(elapsed)
        self._files: dict[int, tuple[int, int]] = {}  # number -> bytes, milliseconds of the newest value
        self._open: int | None = None  # descriptor of the newest file
        self._lock = threading.Lock()  # whoever awaits a thread may be cancelled, and the thread goes on

    def append(self, values: core.HistoryValues, now: int) -> None:
        """Values are on the disk when it returns. `now`: milliseconds since 1970. Raises OSError."""
        data = core.block(values)
        with self._lock:
            self._append(data, now)

    def _append(self, data: bytes, now: int) -> None:
        fd = self._newest(len(data))
        self._date(now)
        number = max(self._files)
        size, _ = self._files[number]
        try:
            if os.pwrite(fd, data, size) != len(data):
                raise OSError(f"{self._directory}: a write was cut short")
            os.fdatasync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, size)
            raise
        self._files[number] = size + len(data), now
        for old in core.superfluous(self._files, self._most, now - int(self._age * 1000)):
            self._path(old).unlink(missing_ok=True)
            del self._files[old]

    def _date(self, now: int) -> None:
        """Files are no older for a clock that was set; a later life sees it by the times of the files."""
        ahead = self._leaps.ahead(now)
        for number, (size, newest) in self._files.items():
            stamp = self._leaps.stamp(newest, ahead, now)
            if newest and stamp != newest:
                self._files[number] = size, stamp
                with contextlib.suppress(OSError):
                    os.utime(self._path(number), (stamp / 1000, stamp / 1000))

    def adopt(self, devices: Mapping[NamespacedName, str]) -> None:
        """Files that name devices by namespace and name are those of these devices: name -> uid. Once, when the devices of the node are known
        for the first time: later a name may be another device's. Raises OSError."""
        if self._names().exists() or not any(self._directory.glob(f"*{_SUFFIX}")):
            return
        new = self._names().with_suffix(".new")
        new.write_text(json.dumps({"/".join(key): uid for key, uid in devices.items()}))
        new.replace(self._names())

    def _names(self) -> Path:
        return self._directory / "names.json"

    def _before(self, key: NamespacedName, uid: str) -> bool:
        """Whether what has the device's name in old files is its own."""
        try:
            known = json.loads(self._names().read_text())
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(known, dict) and known.get("/".join(key)) == uid

    def read(self, key: NamespacedName, uid: str, prop: str, since: int, count: int) -> list[tuple[int, str]]:
        """The newest `count` values at or after `since` (milliseconds), the oldest first, and fewer where these have more than some characters. A
        report that came twice is there once."""
        names = ["/".join(key), uid] if self._before(key, uid) else [uid]
        found: deque[tuple[int, str]] = deque()
        size = 0
        last: tuple[int, str] | None = None
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):
                data = path.read_bytes()
                for value in itertools.chain.from_iterable(core.values(data, name, prop) for name in names):
                    if value != last and value[0] >= since and count:
                        found.append(value)
                        size += len(value[1])
                        while len(found) > count or (size > _READ and len(found) > 1):
                            size -= len(found.popleft()[1])
                    last = value
        return list(found)

    def close(self) -> None:
        """Idempotent. The next append opens them again."""
        with self._lock:
            if self._open is not None:
                os.close(self._open)
            self._open = None
            self._files.clear()

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:010}{_SUFFIX}"

    def _newest(self, size: int) -> int:
        """The descriptor of the file to append to."""
        if self._open is None:
            self._found()
        number = max(self._files, default=0)
        if self._open is None or (self._files[number][0] and self._files[number][0] + size > self._most // _FILES):
            if self._open is not None:
                os.close(self._open)
                self._open = None
            number += 1
            self._open = os.open(self._path(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._files[number] = 0, 0
            sync_directory(self._directory)
        return self._open

    def _found(self) -> None:
        """Files of an earlier life; the newest one without what a power cut has torn."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            if path.stem.isdigit():
                stat = path.stat()
                self._files[int(path.stem)] = stat.st_size, int(stat.st_mtime * 1000)
        if not self._files:
            return
        newest = max(self._files)
        self._open = os.open(self._path(newest), os.O_RDWR | os.O_CLOEXEC)
        good = core.valid_length(self._path(newest).read_bytes())
        if good != self._files[newest][0]:
            log.warning("%s: %d bytes at its end are torn", self._path(newest), self._files[newest][0] - good)
            os.ftruncate(self._open, good)
        self._files[newest] = good, self._files[newest][1]
