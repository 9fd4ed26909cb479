"""What the kernel tells of a TCP connection, asked of a real one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from kubeedge.kit import tcp


def test_bytes_that_came_and_bytes_that_were_taken_are_counted() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(lambda r, w: connected.set_result((r, w)), "127.0.0.1", 0)
        connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()
        async with server:
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
            theirs, answer = await connected
            before = tcp.progress(writer.transport)
            assert before is not None and before.received == 0
            writer.write(bytes(5000))
            await theirs.readexactly(5000)
            answer.write(b"x" * 300)
            await reader.readexactly(300)
            after, other = tcp.progress(writer.transport), tcp.progress(answer.transport)
            assert after is not None and other is not None
            assert (after.received, after.acknowledged - before.acknowledged) == (300, 5000)
            assert other.received == 5000 and 0 <= after.since_received < 60 and 0 <= after.since_acknowledged < 60
            for stream in (writer, answer):
                stream.close()
                await stream.wait_closed()
            assert tcp.progress(writer.transport) is None, "it is closed"

    asyncio.run(scenario())


def test_what_is_no_tcp_connection_has_no_progress(tmp_path: Path) -> None:
    class Unix:
        def get_extra_info(self, name: str) -> socket.socket:
            return ours

    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert tcp.progress(Unix()) is None
    assert tcp.progress(object()) is None
