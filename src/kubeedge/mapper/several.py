"""Several mappers in one process: on a small machine each process of Python is 10 MB.

They share a loop and nothing else: each has its own connection to the broker, and devices of one do not wait for those of another. One that
fails ends the process, whose supervisor starts it again; what a device does is no failure (driver.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from kubeedge.kit.tasks import until_one_ends
from kubeedge.mapper.broker import NodeBroker
from kubeedge.mapper.mapper import ARENAS, SPARE, Mapper

_STDIN = 0


def run(mappers: Sequence[Mapper], broker: NodeBroker, *, until_stdin_ends: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; with `until_stdin_ends` also until whoever started it is gone, who has the other end of the pipe."""
    from kubeedge._fastpath import libc
    from kubeedge.kit import logs

    libc.limit_malloc(ARENAS, SPARE)
    logs.setup()
    asyncio.run(_until_told(mappers, broker, until_stdin_ends))


async def _until_told(mappers: Sequence[Mapper], broker: NodeBroker, until_stdin_ends: bool) -> None:
    serving = asyncio.ensure_future(until_one_ends(*(mapper.serve(broker) for mapper in mappers)))
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
