"""A process of mappers, from its start to its end: by a signal, or when whoever started it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

_ARENAS, _SPARE = 2, 64 * 1024  # heaps of a mapper's process, and bytes of each that are kept free: it has few threads
_STDIN = 0


def run_until_told(serve: Callable[[], Coroutine[Any, Any, None]], *, until_stdin_ends: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; with `until_stdin_ends` also until whoever started it is gone, who has the other end of the pipe."""
    from kubeedge._fastpath import libc
    from kubeedge.kit import logs

    libc.limit_malloc(_ARENAS, _SPARE)
    logs.setup()
    asyncio.run(_until_told(serve, until_stdin_ends))


async def _until_told(serve: Callable[[], Coroutine[Any, Any, None]], until_stdin_ends: bool) -> None:
    serving = asyncio.ensure_future(serve())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)

    def readable() -> None:
        if not os.read(_STDIN, 256):
            loop.remove_reader(_STDIN)
            serving.cancel()

    if until_stdin_ends:
        loop.add_reader(_STDIN, readable)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
