"""What asyncio's streams lack: an end that is certain, and two streams joined into one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl


async def close_writer(writer: asyncio.StreamWriter) -> None:
    """Close and wait a little; a peer that does not answer is cut off."""
    writer.close()
    try:
        async with asyncio.timeout(2.0):
            await writer.wait_closed()
    except (OSError, TimeoutError, ssl.SSLError):
        abort_writer(writer)
    except asyncio.CancelledError:
        abort_writer(writer)
        raise


def abort_writer(writer: asyncio.StreamWriter) -> None:
    """Cut off at once. Python 3.11's TLS transport fails when the connection was lost already."""
    with contextlib.suppress(AttributeError):
        writer.transport.abort()


async def splice(
    ours: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    theirs: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    *,
    chunk: int = 64 * 1024,
) -> None:
    """Carry bytes both ways, with back pressure, until both directions have ended or one has broken. The end of one
    direction is passed on, where the stream can say it (TLS cannot), and the other direction goes on. Closes nothing."""
    with contextlib.suppress(ConnectionError):
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(ours[0], theirs[1], chunk), name="splice out")
                both.create_task(_carry(theirs[0], ours[1], chunk), name="splice in")
        except* OSError as broken:
            raise ConnectionResetError("one side broke") from broken


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chunk: int) -> None:
    while data := await reader.read(chunk):
        writer.write(data)
        await writer.drain()
    if not writer.can_write_eof():
        raise ConnectionResetError("one direction ended, and this stream cannot say so")
    writer.write_eof()
