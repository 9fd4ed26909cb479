"""TCP connections to the loopback of a pod: a socket stays in the network namespace in which it was made (network_namespaces(7))."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from pathlib import Path

from kubeedge._fastpath import libc

_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
_CONNECT = 10.0  # seconds


async def connect(namespace: Path | None, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To what listens on the port there, on IPv4 or else IPv6. `namespace` None: the network of the node. Raises OSError."""
    sockets = await asyncio.to_thread(_sockets, namespace)
    error: OSError | None = None
    try:
        while sockets:
            tried = sockets.pop(0)
            try:
                async with asyncio.timeout(_CONNECT):
                    await asyncio.get_running_loop().sock_connect(tried, (_LOOPBACK[tried.family], port))
                return await asyncio.open_connection(sock=tried)
            except OSError as exc:  # TimeoutError is one
                tried.close()
                error = error or exc  # that of IPv4 says more: most pods have no other
            except BaseException:
                tried.close()
                raise
    finally:
        for left in sockets:
            left.close()
    if error is not None and error.errno:
        raise OSError(error.errno, os.strerror(error.errno)) from error
    raise error or OSError("the network of the pod has no sockets")


def _sockets(namespace: Path | None) -> list[socket.socket]:
    """In a thread of its own, which ends with the namespace that it has entered. Raises OSError."""
    made: list[socket.socket] = []
    problems: list[OSError] = []
    thread = threading.Thread(target=_make, args=(namespace, made, problems), name="sockets of a pod")
    thread.start()
    thread.join()
    if problems and not made:
        raise problems[0]
    return made


def _make(namespace: Path | None, made: list[socket.socket], problems: list[OSError]) -> None:
    try:
        if namespace is not None:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc.setns(descriptor, libc.CLONE_NEWNET)
            finally:
                os.close(descriptor)
        made.append(_socket(socket.AF_INET))
        with contextlib.suppress(OSError):  # a kernel without IPv6
            made.append(_socket(socket.AF_INET6))
    except OSError as exc:
        problems.append(exc)


def _socket(family: socket.AddressFamily) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
