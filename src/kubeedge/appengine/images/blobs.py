"""Blobs on their way from a registry: into a file, read while they still come, and resumed where a connection broke off.

Lives elsewhere: the files (parts.py), HTTP (transport.py).
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

from kubeedge.appengine.images.parts import Part
from kubeedge.appengine.images.transport import Unreachable
from kubeedge.errors import Invalid
from kubeedge.kit.backoff import Backoff

CHUNK = 256 * 1024  # bytes
_TRIES = 8  # in a row without a byte
PAUSE, _MAX_PAUSE = 0.5, 30.0  # seconds between them, doubling


class Body(Protocol):
    """What a registry sends of a blob."""

    @property
    def status(self) -> int:
        """200: all of it; 206: from where it was asked for."""
        ...

    def header(self, name: str) -> str:
        """ "" when there is none."""
        ...

    def read(self, size: int) -> bytes:
        """The next piece, at most `size` bytes; b"" at the end. Raises Unreachable."""
        ...

    def close(self) -> None:
        """Give up the rest of the body."""
        ...

    def abort(self) -> None:
        """End a read() that runs in another thread, at once."""
        ...


class Download:
    """One blob. A thread fetches it, reader() reads it meanwhile; the end is seen only of a blob that has its digest and its size."""

    def __init__(
        self, part: Part, digest: str, size: int, open_at: Callable[[int], Body], pause: float = PAUSE
    ) -> None:
        """`open_at`: the blob from a byte on; `pause`: seconds after the first failure."""
        self._part = part
        self._digest = digest
        self._size = size
        self._open_at = open_at
        self._pause = pause
        self._fd = part.fd
        self._sha256 = hashlib.sha256()
        self._have = 0  # bytes in the file
        self._error: Exception | None = None
        self._over = False
        self._stopped = threading.Event()
        self._body: Body | None = None
        self._news = threading.Condition()
        self.resumed = False  # it began in an earlier process, so its first bytes are those of that time
        self._thread = threading.Thread(target=self._run, name=f"blob {digest[7:19]}", daemon=True)

    def start(self) -> None:
        """Begins to download, in a thread of its own."""
        self._thread.start()

    def reader(self) -> io.RawIOBase:
        """From the first byte. Its read() waits for more, and raises what made the download fail."""
        return _Following(self)

    def finish(self, *, keep: bool) -> None:
        """Ends it; `keep`: the file stays for the next try."""
        self._stopped.set()
        if (body := self._body) is not None:
            body.abort()
        self._thread.join()
        if not keep:
            self._part.path.unlink(missing_ok=True)
        os.close(self._fd)

    def read_at(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position`; b"" at the end. Raises Invalid or OSError."""
        with self._news:
            while position >= self._have and not self._over:
                self._news.wait()
            if position >= self._have:
                if self._error is not None:
                    raise self._error
                return b""
        return os.pread(self._fd, size, position)

    # -- the thread ------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._take_up()
            self._fetch()
            self._check()
        except Exception as exc:  # whatever it is, the reader raises it
            self._error = exc
        with self._news:
            self._over = True
            self._news.notify_all()

    def _take_up(self) -> None:
        """What an earlier process has left."""
        if os.fstat(self._fd).st_size > self._size:
            os.ftruncate(self._fd, 0)
        while data := os.pread(self._fd, CHUNK, self._have):
            self._sha256.update(data)
            self._got(len(data))
            self.resumed = True

    def _fetch(self) -> None:
        failures = 0
        while self._have < self._size:
            begun = self._have
            try:
                self._receive()
            except Unreachable:
                failures = 1 if self._have > begun else failures + 1
                if failures >= _TRIES or self._stopped.is_set():
                    raise
                self._stopped.wait(Backoff(self._pause, _MAX_PAUSE).delay(failures))

    def _receive(self) -> None:
        """Receive the rest of the blob over one connection."""
        body = self._body = self._open_at(self._have)
        try:
            skip = self._have if body.status == 200 else 0  # it does not know ranges
            if body.status == 206 and not body.header("content-range").startswith(f"bytes {self._have}-"):
                raise Invalid(f"blob {self._digest}: the registry sends another range than it was asked for")
            while not self._stopped.is_set() and (data := body.read(CHUNK)):
                passed = min(skip, len(data))
                skip -= passed
                self._write(data[passed:] if passed else data)
            if self._have < self._size:
                raise Unreachable(f"blob {self._digest}: the registry has {self._have} bytes of {self._size}")
        finally:
            body.close()

    def _write(self, data: bytes) -> None:
        if self._have + len(data) > self._size:
            raise Invalid(f"blob {self._digest} has more than the {self._size} bytes that the manifest says")
        left = memoryview(data)
        while left:
            written = os.pwrite(self._fd, left, self._have)
            self._sha256.update(left[:written])
            left = left[written:]
            self._got(written)

    def _got(self, size: int) -> None:
        with self._news:
            self._have += size
            self._news.notify_all()

    def _check(self) -> None:
        if f"sha256:{self._sha256.hexdigest()}" != self._digest:
            raise Invalid(f"blob {self._digest} does not have its digest")


class _Following(io.RawIOBase):
    def __init__(self, download: Download) -> None:
        self._download = download
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = CHUNK) -> bytes:
        data = self._download.read_at(self._position, size if size > 0 else CHUNK)
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def is_full(exc: BaseException) -> bool:
    """No space is left: what was fetched makes room for others."""
    return isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
