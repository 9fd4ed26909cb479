"""Container logs as conmon writes them: `TIME stdout|stderr F|P text`, one file a run, size-capped by rotation.

Lives here:      paths, reading with the options of `kubectl logs`, following.
Lives elsewhere: the HTTP route (server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from kubeedge.kit.dataclasses import dataclass

_CHUNK = 64 * 1024
_MAX_LINE = 1024 * 1024  # bytes; conmon breaks lines long before
FIRST_CHECK = (
    10.0  # seconds between looks at the sizes of logs, at most: as the kubelet, for one may be filled in seconds
)
_LAST_BYTES, _LAST_LINES = 2048, 80
_FOLLOW_EVERY = 0.25  # seconds between looks at a log that is followed; only while one is followed


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """The options of `kubectl logs` (PodLogOptions). `tail` is in lines, `since` in seconds since the epoch, `limit_bytes` of the text."""

    follow: bool = False
    tail: int | None = None
    timestamps: bool = False
    since: float | None = None  # wall clock
    limit_bytes: int | None = None
    stream: bytes = b""  # b"stdout" or b"stderr": of what else was written nothing


def directory(root: Path, namespace: str, pod: str, uid: str) -> Path:
    """Where the logs of a pod are, as the kubelet names it: NAMESPACE_POD_UID."""
    return root / f"{namespace}_{pod}_{uid}"


def path(root: Path, namespace: str, pod: str, uid: str, container: str, attempt: int) -> Path:
    """The log file of one run; `attempt` counts from 0. The rotated one is beside it, with the suffix ".log.1"."""
    return directory(root, namespace, pod, uid) / container / f"{attempt}.log"


async def read(log: Path, options: LogOptions, running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log as `kubectl logs` shows it. With follow: until the container ends."""
    left = options.limit_bytes
    until = None
    pending = b""
    file = _opened(log)  # stays open past a rotation: the rest of it is shown, too
    try:
        if options.tail is not None:
            end = 0 if file is None else await asyncio.to_thread(_seek_tail, file, options.tail)
            until = (
                None if options.follow else end
            )  # what is written from here on would be lines more than were asked for
        while True:
            alive = running()  # before reading: what it wrote last is read after
            if file is None:
                file = _opened(log)
            while file is not None and (data := file.read(_size(file, until))):
                lines = (pending + data).split(b"\n")
                pending = lines.pop()[-_MAX_LINE:]
                out = b"".join(shown for line in lines if (shown := _shown(line, options)))
                if left is not None:
                    out, left = out[:left], left - len(out)
                if out:
                    yield out
                if left is not None and left <= 0:
                    return
            if until is not None:
                return
            if file is not None and not _is_current(file, log):
                if os.fstat(file.fileno()).st_size < file.tell():
                    pending = b""  # it was emptied while we read a line of it
                file.close()
                file = None
                continue
            if not options.follow or not alive:
                return
            await asyncio.sleep(_FOLLOW_EVERY)
    finally:
        if file is not None:
            file.close()


def _opened(log: Path) -> BinaryIO | None:
    with contextlib.suppress(FileNotFoundError):
        return open(log, "rb")
    return None


def _is_current(file: BinaryIO, log: Path) -> bool:
    """Not rotated away. A log that is missing for the moment of a rotation still is the one that is open."""
    try:
        now, opened = log.stat(), os.fstat(file.fileno())
    except OSError:
        return True
    return (now.st_ino, now.st_dev) == (opened.st_ino, opened.st_dev)


def _shown(line: bytes, options: LogOptions) -> bytes:
    parts = line.split(b" ", 3)
    if len(parts) < 4:
        return b""
    stamp, stream, flag, text = parts
    if options.stream and stream != options.stream:
        return b""
    if options.since is not None:
        at = _time(stamp)
        if at is not None and at < options.since:
            return b""
    end = b"\n" if flag == b"F" else b""
    return (stamp.replace(b"+00:00", b"Z") + b" " if options.timestamps else b"") + text + end


def _is_partial(line: bytes) -> bool:
    """More of it follows in the next line of the file. What the container wrote does not count: it may look alike."""
    parts = line.split(b" ", 3)
    return len(parts) > 2 and parts[2] == b"P"


def _time(stamp: bytes) -> float | None:
    with contextlib.suppress(ValueError, IndexError):
        text = stamp.decode("ascii").replace("Z", "+00:00")
        head, _, rest = text.partition(".")
        zone = rest[rest.index("+") :] if "+" in rest else "+00:00"
        fraction = rest.split("+")[0]
        return datetime.datetime.fromisoformat(head + zone).timestamp() + float(f"0.{fraction or 0}")
    return None


def _size(file: BinaryIO, until: int | None) -> int:
    """How much to read at once of a file that counts up to `until`; None: to its end."""
    return _CHUNK if until is None else min(_CHUNK, max(0, until - file.tell()))


def _seek_tail(file: BinaryIO, lines: int) -> int:
    """Goes to where the last `lines` lines begin; the position in bytes at which the file ends."""
    position = 0
    ends: deque[int] = deque([0], maxlen=lines + 1)
    for line in file:
        position += len(line)
        if line.endswith(b"\n") and not _is_partial(line):
            ends.append(position)
    file.seek(ends[0] if lines > 0 else ends[-1])
    return position


def rotate(log: Path, limit: int, ask_reopen: Callable[[], None]) -> bool:
    """Move a log that is too large aside; one older file is kept. The one before that is emptied: a client that follows it and does not read
    would keep it on disk."""
    try:
        if log.stat().st_size < limit:
            return False
    except OSError:
        return False
    older = log.with_suffix(".log.1")
    _empty(older)
    log.replace(older)
    ask_reopen()
    return True


def next_check(delay: float, growth: int, limit: int) -> float:
    """Seconds until the next look: in time for the fastest log to grow by a quarter of its limit."""
    wanted = delay * limit / 4 / growth if growth > 0 else FIRST_CHECK
    return max(1.0, min(wanted, delay * 2, FIRST_CHECK))


def last_words(log: Path) -> str:
    """What a container wrote last, for the termination message: at most 80 lines and 2048 bytes, as the kubelet takes."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_BYTES * 8))
            lines = file.read(_LAST_BYTES * 8).split(b"\n")
    except OSError:
        return ""
    text = b"".join(_shown(line, LogOptions()) for line in lines[-_LAST_LINES - 1 :])
    return text[-_LAST_BYTES:].decode(errors="replace")


def prune(directory: Path, attempt: int) -> None:
    """Of earlier runs only the last one's log is kept."""
    for log in directory.glob("*.log*") if directory.is_dir() else ():
        number = log.name.split(".")[0]
        if number.isdigit() and int(number) < attempt - 1:
            _empty(log)
            log.unlink(missing_ok=True)


def _empty(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.truncate(log, 0)
