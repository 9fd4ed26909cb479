"""TCP: connecting, and what the kernel knows of a connection: whether its peer is alive, though no whole message has come."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from typing import Any

from kubeedge.kit.dataclasses import dataclass

#: struct tcp_info of Linux (include/uapi/linux/tcp.h), as far as bytes_received, which is there since 4.2: milliseconds since data and since
#: an acknowledgement came, bytes that the peer has acknowledged, bytes that came
_INFO = struct.Struct("=52xII60xQQ")


@dataclass(frozen=True, slots=True)
class TcpProgress:
    """How far a TCP connection has come, as the kernel counts."""

    received: int  # bytes, since the connection began
    acknowledged: int  # likewise
    since_received: float  # seconds
    since_acknowledged: float


def progress(transport: Any) -> TcpProgress | None:
    """Of an asyncio transport, TLS or not; None where there is no TCP socket below it, or not on this kernel."""
    find = getattr(transport, "get_extra_info", None)
    tcp = find("socket") if find else None
    if tcp is None:
        return None
    try:
        info = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:  # it is closed, or no TCP
        return None
    if len(info) < _INFO.size:
        return None
    since_data, since_ack, acknowledged, received = _INFO.unpack(info)
    return TcpProgress(received, acknowledged, since_data / 1000, since_ack / 1000)


#: the same: milliseconds since something was sent, and since something came
_TIMES = struct.Struct("=44xI4xII")


def silence(connection: socket.socket) -> float:
    """Seconds for which the other end had to answer and sent nothing; 0.0 while bytes of it wait to be read, or when it is not known."""
    try:
        unread = struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0\0\0\0"))[0]
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TIMES.size)
    except (OSError, ValueError):  # ValueError: closed
        return 0.0
    if unread or len(info) < _TIMES.size:
        return 0.0
    since_sent, since_received, _ = _TIMES.unpack(info)
    return float(min(since_sent, since_received)) / 1000


def hostname(host: str) -> str | bytes:
    """The same; of ASCII letters as bytes, for which Python does not load what it knows of all others (encodings.idna, 0.3 MB)."""
    return host.encode() if host.isascii() else host


async def connect(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket: the addresses of a name are tried in turn. Raises OSError, that of the last address."""
    loop = asyncio.get_running_loop()
    error: OSError = OSError(f"{host} has no address")
    name = hostname(host)
    try:  # an address needs no resolver, and no thread that waits for one
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
            return connection
        except OSError as exc:
            connection.close()
            error = exc
        except BaseException:
            connection.close()
            raise
    raise error


async def readable(sock: socket.socket) -> None:
    """Wait until there is something to read from it, or a connection to accept."""
    loop, arrived = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    loop.add_reader(sock, lambda: None if arrived.done() else arrived.set_result(None))
    try:
        await arrived
    finally:
        if sock.fileno() >= 0:
            loop.remove_reader(sock)
