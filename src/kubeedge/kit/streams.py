"""What asyncio's streams lack: an end that is certain, two streams joined into one, a port for both versions of IP."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from kubeedge.kit import tcp

StreamPair: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]  # of one connection
#: serves one connection to its end
ConnectionHandler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_TIMEOUT = 2.0  # seconds in which the peer of a connection that we close takes nothing
_LONGEST = 60.0  # seconds

# asyncio makes a buffer of this size for each TLS connection, before anything is known of the peer, and another for each read: 256 KiB,
# of which a read returns one record (16 KiB, RFC 8446 section 5.1). Clients that did no more than connect cost a cloud 28 MB.
asyncio.sslproto.SSLProtocol.max_size = 32 * 1024

_IP_FREEBIND = 15  # <linux/in.h>


def unix_listener(path: Path, mode: int) -> socket.socket:
    """A Unix socket that is bound. Its file replaces one that a killed process left behind, and has its mode from the first moment on. Raises
    OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # unix(7), Linux: the file of a socket gets the mode of the socket. A umask would be that of all files which others write meanwhile
        os.fchmod(listener.fileno(), mode)
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    return listener


def listening_socket(address: str, port: int, *, backlog: int = 128, freebind: bool = False) -> socket.socket:
    """A port of an IPv4 or IPv6 address; "::" means all addresses, of IPv4 too. It does not block. Raises OSError.

    `freebind`: an IPv4 address that need not be there yet, or for all the time."""
    if freebind:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            listener.bind((address, port))
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
        listener.setblocking(False)
        return listener
    listener = socket.create_server(
        (address, port),
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        dualstack_ipv6=address == "::",
        backlog=backlog,
    )
    listener.setblocking(False)
    return listener


async def close_writer(writer: asyncio.StreamWriter, *, timeout: float = _TIMEOUT) -> None:
    """Close, and wait for as long as the peer takes what was written; one that takes nothing for `timeout` seconds is cut off, and every one
    after _LONGEST: on a slow line the last 64 KiB of an answer need more than a moment."""
    taken = _taken(writer)
    writer.close()
    closed = asyncio.ensure_future(writer.wait_closed())
    until = asyncio.get_running_loop().time() + max(timeout, _LONGEST)
    try:
        while not (await asyncio.wait((closed,), timeout=timeout))[0]:
            before, taken = taken, _taken(writer)
            if taken == before or asyncio.get_running_loop().time() >= until:
                break
    finally:
        if not closed.done():
            closed.cancel()
            abort_writer(writer)
        await asyncio.gather(closed, return_exceptions=True)
        if not closed.cancelled() and isinstance(closed.exception(), OSError | ssl.SSLError):
            abort_writer(writer)


def _taken(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """A value that changes whenever the peer, or our kernel, has taken something."""
    known = tcp.progress(writer.transport)
    return writer.transport.get_write_buffer_size(), known.acknowledged if known else 0


def abort_writer(writer: asyncio.StreamWriter) -> None:
    """Cut off at once. Python 3.11's TLS transport fails when the connection was lost already."""
    with contextlib.suppress(AttributeError):
        writer.transport.abort()


def reset_writer(writer: asyncio.StreamWriter) -> None:
    """Cut off so that the peer knows it: over TCP with a reset, where abort alone looks like an orderly close."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    abort_writer(writer)


async def splice(
    ours: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    theirs: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    *,
    chunk: int = 64 * 1024,
    count: Callable[[int, int], None] = lambda out, in_: None,
) -> None:
    """Carry bytes both ways, with back pressure, until both directions have ended or one has broken. The end of one
    direction is passed on, where the stream can say it (TLS cannot), and the other direction goes on. Closes nothing.
    `count` hears of bytes from ours to theirs, and from theirs to ours."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_carry(ours[0], theirs[1], chunk, lambda n: count(n, 0)), name="splice out")
            both.create_task(_carry(theirs[0], ours[1], chunk, lambda n: count(0, n)), name="splice in")
    except* OSError:
        pass  # which of the two broke makes no difference: the caller closes both


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chunk: int, count: Callable[[int], None]
) -> None:
    while data := await reader.read(chunk):
        count(len(data))
        writer.write(data)
        await writer.drain()
    if not writer.can_write_eof():
        raise ConnectionResetError("one direction ended, and this stream cannot say so")
    writer.write_eof()
