"""A bundle in a file or at a URL, read from any offset. A transfer that breaks goes on where it was; one that does not come on ends.

A URL of this node's client proxy (http://localhost:10080/TENANT/NODE/SERVICE/...) is fetched over KubeBus.
"""

from __future__ import annotations

import http.client
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit.shown_url import shown_url

MAX_URL = 2048  # characters
_TIMEOUT = 60.0  # seconds of silence
_TRIES = 8  # without a byte in between
_LONGEST_PAUSE = 60.0  # seconds between two of them
_LONGEST = 1800.0  # seconds for what is read at once
_REDIRECTS = 5
_SKIPPED = 256 * 1024  # bytes that are read and dropped rather than asked for anew
_PIECE = 64 * 1024  # bytes
_HEADERS = {"accept-encoding": "identity", "connection": "close"}  # an answer that is too short ends, too


class BundleSource(Protocol):
    """Where a bundle is."""

    def read(self, offset: int, length: int) -> bytes:
        """That many bytes from there. Raises Invalid for what has fewer, Unavailable for what cannot be read now."""

    def close(self) -> None:
        """Nothing is read any more."""


def open_source(
    text: str, say: Callable[[str], None] | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> BundleSource:
    """A file's, or that of http:// and https://, which tells `say` when it has to wait. Raises Invalid, Unavailable."""
    if "://" not in text:
        return FileSource(Path(text))
    return HttpSource(text, say, sleep=sleep)


class FileSource:
    """In a file of this machine."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as exc:
            raise Invalid(f"{path}: {exc.strerror}") from exc

    def read(self, offset: int, length: int) -> bytes:
        """See BundleSource: the same."""
        try:
            self._file.seek(offset)
            data = self._file.read(length)
        except OSError as exc:
            raise Unavailable(f"the bundle cannot be read: {exc.strerror}") from exc
        return _whole(data, offset, length)

    def close(self) -> None:
        """See BundleSource: the same."""
        self._file.close()


class HttpSource:
    """At a URL. Of one answer as much is read as follows each other; anything else is asked for with Range."""

    def __init__(
        self, url: str, say: Callable[[str], None] | None = None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._url = _checked(url)
        self._say, self._sleep = say, sleep
        self._answer: _Answer | None = None

    def read(self, offset: int, length: int) -> bytes:
        """See BundleSource: the same."""
        out = bytearray()
        failures, until = 0, time.monotonic() + _LONGEST
        while len(out) < length:
            if time.monotonic() > until:
                raise Unavailable(f"{shown_url(self._url)} is too slow: {len(out)} bytes in {_LONGEST:g} s")
            try:
                piece = self._from(offset + len(out)).read(min(_PIECE, length - len(out)))
                if not piece:  # the end, or a connection that has ended early
                    raise ConnectionError("the answer has ended")
                out += piece
                failures = 0
            except (OSError, http.client.HTTPException) as exc:
                self.close()
                failures += 1
                why = str(exc) or type(exc).__name__
                if failures >= _TRIES:
                    raise Unavailable(f"{shown_url(self._url)} stopped after {offset + len(out)} bytes: {why}") from exc
                if failures == 1 and self._say:
                    self._say(f"{shown_url(self._url)}: {why}; it is asked again, for two minutes or more")
                self._sleep(min(_LONGEST_PAUSE, 2.0 ** (failures - 1)))
        return bytes(out)

    def close(self) -> None:
        """See BundleSource: the same."""
        if self._answer is not None:
            self._answer.close()
        self._answer = None

    def _from(self, offset: int) -> _Answer:
        answer = self._answer
        if answer is None or not 0 <= offset - answer.offset <= _SKIPPED:
            self.close()
            answer = self._answer = _ask(self._url, offset)
        answer.skip(offset - answer.offset)
        return answer


class _Answer:
    """The body of an answer; `offset`: of its next byte in the bundle."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, offset: int) -> None:
        self._connection, self._response, self.offset = connection, response, offset

    def read(self, length: int) -> bytes:
        data = self._response.read1(length)  # what has come: whoever sends a byte a minute is not waited for here
        self.offset += len(data)
        return data

    def skip(self, length: int) -> None:
        while length > 0:
            if not (data := self.read(min(_PIECE, length))):
                raise ConnectionError("the answer has ended")
            length -= len(data)

    def close(self) -> None:
        _close(self._connection, self._response)


def _ask(url: str, offset: int) -> _Answer:
    """From that byte on, or from the first one where the server knows no ranges. Raises OSError, HTTPException, Invalid."""
    for _ in range(_REDIRECTS + 1):
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=_TIMEOUT)
        response = None
        try:
            target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request("GET", target, headers={"range": f"bytes={offset}-", **_HEADERS})
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308):
                url = _redirected(url, response.getheader("location") or "")
            elif response.status == 416:
                raise Invalid(f"{shown_url(url)} ends before byte {offset}: the bundle is truncated")
            elif response.status == 206 and _first(response) == offset:
                return _Answer(connection, response, offset)
            elif response.status == 200:
                return _Answer(connection, response, 0)
            elif response.status in (408, 425, 429) or response.status >= 500:
                raise ConnectionError(f"status {response.status}")
            else:
                raise Invalid(f"{shown_url(url)}: status {response.status}")
        except BaseException:
            _close(connection, response)
            raise
        _close(connection, response)
    raise Invalid(f"more than {_REDIRECTS} redirections")


def _close(connection: http.client.HTTPConnection, response: http.client.HTTPResponse | None) -> None:
    """Of an answer after which the server ends the connection, the response has the socket."""
    if response is not None:
        response.close()
    connection.close()


def _first(response: http.client.HTTPResponse) -> int:
    """The first byte of a partial answer; -1 where it does not say."""
    kind, _, rest = (response.getheader("content-range") or "").partition(" ")
    number = rest.partition("-")[0].strip()
    return int(number) if kind == "bytes" and number.isdecimal() and len(number) < 16 else -1


def _redirected(url: str, location: str) -> str:
    try:
        target = urllib.parse.urljoin(url, location)
    except ValueError as exc:
        raise Invalid(f"{shown_url(url)} leads to what is no URL") from exc
    target = _checked(target)
    if url.startswith("https:") and not target.startswith("https:"):
        raise Invalid(f"{shown_url(url)} leads to {shown_url(target)}, which is not encrypted")
    return target


def _checked(url: str) -> str:
    """Raises Invalid for what is no such URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
        (parts.hostname or "").encode("idna")  # what looks it up does, and finds labels that are empty or too long
    except ValueError:
        good = False
    if (
        not good
        or len(url) > MAX_URL
        or not url.isascii()
        or any(c <= " " or c == "\x7f" for c in url)
        or "@" in parts.netloc
    ):
        raise Invalid(f"{shown_url(url)[:100]!r} is no URL of a bundle: http:// or https:// and a host are expected")
    return url


def _whole(data: bytes, offset: int, length: int) -> bytes:
    if len(data) < length:
        raise Invalid(f"the bundle ends at byte {offset + len(data)}: it is truncated")
    return data
