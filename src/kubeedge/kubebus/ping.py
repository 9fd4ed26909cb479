"""Ping over L4: what `kubeedge ping` measures. Every node and every relay answers on one port.

A ping is a line of at most 64 bytes; its echo is the same line. One connection carries all pings of a run, so a figure is a round trip of
the connection and not of its beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubeedge.api.names import L4Port
from kubeedge.kit.streams import StreamPair, abort_writer

PORT = L4Port(10249)  # L4, on every node and every relay
PER_NODE = 16  # connections of one node at the same time; a run has one
MAX_COUNT = 1000
_MAX_LINE = 64
_IDLE = 30.0  # seconds that a caller may stay silent


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers pings on a connection until it ends."""
    try:
        while True:
            async with asyncio.timeout(_IDLE):
                line = await reader.readuntil(b"\n")
                if len(line) > _MAX_LINE:
                    break
                writer.write(line)
                await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    abort_writer(writer)


async def measure(
    connect: Callable[[], Awaitable[StreamPair]], count: int, interval: float, timeout: float
) -> list[float | None]:
    """Seconds of each round trip; None where no echo came within `timeout`. Raises what `connect` raises."""
    loop = asyncio.get_running_loop()
    times: list[float | None] = []
    reader, writer = await connect()
    try:
        for n in range(min(count, MAX_COUNT)):
            line = b"ping %d\n" % n
            begun = loop.time()
            try:
                writer.write(line)
                async with asyncio.timeout(timeout):
                    while await reader.readuntil(b"\n") != line:  # the echo of an earlier one, which was late
                        pass
            except TimeoutError:
                times.append(None)
            except (OSError, asyncio.IncompleteReadError):
                times += [None] * (count - n)
                break
            else:
                times.append(loop.time() - begun)
            if n + 1 < count:
                await asyncio.sleep(max(0.0, begun + interval - loop.time()))
    finally:
        abort_writer(writer)
    return times
