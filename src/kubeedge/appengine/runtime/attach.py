"""The streams of a container itself, by the socket that its conmon listens on.

    RUN/s/<container id>/attach     SOCK_SEQPACKET; from conmon one byte (2 stdout, 3 stderr) and what was written, to it input as it is

conmon waits for who is attached, and the container for conmon: nothing is lost, and nothing is kept here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from kubeedge.appengine.runtime.base import CHUNK, NotRunning, Output

_STREAMS: dict[int, Literal["stdout", "stderr"]] = {2: "stdout", 3: "stderr"}
_INPUT = 8192  # bytes of a packet to conmon, which has room for 32 KiB


async def connect(path: Path) -> socket.socket:
    """Connect to the streams of a container. Raises NotRunning."""
    attached = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # the name of a socket has room for 107 bytes
            await asyncio.get_running_loop().sock_connect(attached, f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
    except OSError as exc:
        attached.close()
        raise NotRunning(f"the streams of the container are not served: {exc.strerror or exc}") from exc
    except BaseException:
        attached.close()
        raise
    return attached


class Attachment:
    """Streams of one container, whose input ends with ours if it is `once`. `resize` changes its terminal; `over` is set when the container ended with `exit_status`."""

    def __init__(
        self,
        attached: socket.socket,
        *,
        stdin: bool,
        once: bool,
        resize: Callable[[int, int], None],
        over: asyncio.Event,
        exit_status: Callable[[], int | None],
    ) -> None:
        self._socket = attached
        self._stdin = stdin
        self._once = once
        self._resize = resize
        self._over = over
        self._exit_status = exit_status
        self._closed = asyncio.Event()
        self._ended = False
        self._receiving: asyncio.Task[bytes] | None = None

    async def receive(self) -> Output | None:
        while packet := await self._packet():
            stream = _STREAMS.get(packet[0])
            if stream is not None and len(packet) > 1:
                return Output(stream, packet[1:])
        self._ended = True
        return None

    async def _packet(self) -> bytes:
        """The next packet of conmon; b"" at the end."""
        if self._ended or self._closed.is_set():
            return b""
        self._receiving = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(self._socket, CHUNK + 1))
        try:
            return await self._receiving
        except OSError:
            return b""
        except asyncio.CancelledError:
            if self._closed.is_set():  # closed while we waited
                return b""
            raise
        finally:
            self._receiving = None

    async def send(self, data: bytes) -> None:
        if not self._stdin:
            return
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # it has ended
            for at in range(0, len(data), _INPUT):
                await loop.sock_sendall(self._socket, data[at : at + _INPUT])

    async def end_input(self) -> None:
        """Of what we send. The container's own stays open for the next one, unless there is to be none (stdinOnce)."""
        if self._stdin and self._once:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        self._stdin = False

    def resize(self, rows: int, columns: int) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self._resize(rows, columns)

    async def wait(self) -> int | None:
        waiting = [asyncio.create_task(event.wait()) for event in (self._over, self._closed)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return self._exit_status()

    async def close(self) -> None:
        self._closed.set()
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.gather(self._receiving, return_exceptions=True)
        self._socket.close()
