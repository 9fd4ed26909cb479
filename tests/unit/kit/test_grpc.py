"""Calls of gRPC on a real socket: another implementation's server that answers, hangs, lies and ends."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from kubeedge.kit import grpc, hpack, http2
from kubeedge.kit.grpc import GrpcChannel, GrpcError

Answer = Callable[["Server", int, bytes], None]


class Server:
    """One connection; `answer` is told of each whole request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        self.reader, self.writer, self._answer = reader, writer, answer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.headers: dict[int, dict[str, str]] = {}
        self.resets: list[int] = []
        self._bodies: dict[int, bytes] = {}

    async def run(self) -> None:
        self.flush()
        while data := await self.reader.read(65536):
            for event in self.h2.receive_data(data):
                match event:
                    case h2.events.RequestReceived():
                        decoded = {bytes(k).decode(): bytes(v).decode() for k, v in event.headers}
                        self.headers[event.stream_id] = decoded
                    case h2.events.DataReceived():
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                        self._bodies[event.stream_id] = self._bodies.get(event.stream_id, b"") + event.data
                    case h2.events.StreamEnded():
                        self._answer(self, event.stream_id, self._bodies.pop(event.stream_id, b"")[5:])
                    case h2.events.StreamReset():
                        self.resets.append(event.stream_id)
            self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def head(self, stream: int) -> None:
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])

    def message(self, stream: int, data: bytes) -> None:
        whole = struct.pack("!BI", 0, len(data)) + data
        for at in range(0, len(whole), 16384):
            self.h2.send_data(stream, whole[at : at + 16384])

    def end(self, stream: int, status: int = 0, message: str = "") -> None:
        self.h2.send_headers(stream, [("grpc-status", str(status)), ("grpc-message", message)], end_stream=True)


@contextlib.asynccontextmanager
async def serving(path: Path, answer: Answer) -> AsyncIterator[tuple[GrpcChannel, list[Server]]]:
    servers: list[Server] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = Server(reader, writer, answer)
        servers.append(server)
        with contextlib.suppress(OSError):
            await server.run()
        writer.close()

    listener = await asyncio.start_unix_server(connected, str(path))
    channel = GrpcChannel(path)
    try:
        yield channel, servers
    finally:
        await channel.close()
        listener.close()
        for server in servers:
            server.writer.close()
            with contextlib.suppress(OSError):
                await server.writer.wait_closed()
        await asyncio.sleep(0)


def echo(server: Server, stream: int, body: bytes) -> None:
    server.head(stream)
    server.message(stream, body)
    server.end(stream)


def test_headers_without_end_are_not_kept(tmp_path: Path) -> None:
    """A call that streams has no time limit, and a plugin is not of the agent."""
    blocks = 0

    def heads(server: Server, stream: int, body: bytes) -> None:
        nonlocal blocks
        for _ in range(64):
            name = hpack.encode([(":status", "100"), (f"x-{blocks}", "a" * 4096)])
            server.writer.write(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, name))
            blocks += 1
        server.head(stream)
        server.message(stream, b"a message")

    async def main() -> None:
        async with serving(tmp_path / "s", heads) as (channel, _):
            async with contextlib.aclosing(channel.stream("/a.B/C", b"")) as answers:
                assert await anext(answers) == b"a message"
                assert channel._connection is not None
                (call,) = channel._connection.calls.values()
                assert blocks == 64 and dict(call.trailers) == {":status": "200"}

    asyncio.run(main())


def test_many_calls_at_once_share_one_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path / "s", echo) as (channel, servers):
            bodies = [b"%d" % n * 20 for n in range(100)]
            assert await asyncio.gather(*(channel.call("/a.B/C", body, 20) for body in bodies)) == bodies
            (server,) = servers
            head = server.headers[1]
            assert head[":path"] == "/a.B/C" and head["content-type"] == "application/grpc" and head["te"] == "trailers"
            assert head["grpc-timeout"] == "20000m"

    asyncio.run(main())


def test_a_status_is_an_error_with_its_message(tmp_path: Path) -> None:
    def refuse(server: Server, stream: int, body: bytes) -> None:
        heads = [(":status", "200"), ("grpc-status", "5"), ("grpc-message", "no %22x%22")]
        server.h2.send_headers(stream, heads, end_stream=True)  # without a body the end is in the head

    async def main() -> None:
        async with serving(tmp_path / "s", refuse) as (channel, _):
            with pytest.raises(GrpcError, match='^no "x"$') as caught:
                await channel.call("/a.B/C", b"", 20)
            assert caught.value.code == grpc.NOT_FOUND

    asyncio.run(main())


def test_who_does_not_answer_is_given_up(tmp_path: Path) -> None:
    def hang(server: Server, stream: int, body: bytes) -> None:
        if body:
            echo(server, stream, body)

    async def main() -> None:
        async with serving(tmp_path / "s", hang) as (channel, servers):
            await channel.call("/a.B/C", b"x", 20)
            with pytest.raises(GrpcError, match="no answer to /a.B/C within") as caught:
                await channel.call("/a.B/C", b"", 0.05)
            assert caught.value.code == grpc.DEADLINE_EXCEEDED
            async with asyncio.timeout(20):
                while not servers[0].resets:
                    await asyncio.sleep(0.001)
            assert servers[0].resets == [3], "the server is told"

    asyncio.run(main())


def test_a_connection_that_breaks_fails_its_calls_and_the_next_one_connects_again(tmp_path: Path) -> None:
    def once(server: Server, stream: int, body: bytes) -> None:
        if body == b"die":
            server.writer.transport.abort()
        else:
            echo(server, stream, body)

    async def main() -> None:
        async with serving(tmp_path / "s", once) as (channel, servers):
            with pytest.raises(GrpcError) as caught:
                await channel.call("/a.B/C", b"die", 20)
            assert caught.value.code == grpc.UNAVAILABLE
            assert await channel.call("/a.B/C", b"x", 20) == b"x" and len(servers) == 2

    asyncio.run(main())


def test_no_socket_and_no_server_behind_it(tmp_path: Path) -> None:
    async def main() -> None:
        channel = GrpcChannel(tmp_path / "none")
        with pytest.raises(GrpcError, match="No such file") as caught:
            await channel.call("/a.B/C", b"", 20)
        assert caught.value.code == grpc.UNAVAILABLE

        async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async with await asyncio.start_unix_server(http1, str(tmp_path / "s")):
            other = GrpcChannel(tmp_path / "s")
            with pytest.raises(GrpcError, match="does not speak HTTP/2"):
                await other.call("/a.B/C", b"", 20)
            await other.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (lambda s, n: (s.head(n), s.end(n)), "no answer"),
        (lambda s, n: (s.head(n), s.message(n, b"1"), s.message(n, b"2"), s.end(n)), "two answers"),
        (lambda s, n: (s.head(n), s.h2.send_data(n, b"\1\0\0\0\1x"), s.end(n)), "compressed"),
        (lambda s, n: (s.head(n), s.h2.send_data(n, b"\0\xff\xff\xff\xffx"), s.end(n)), "larger than"),
        (lambda s, n: (s.head(n), s.h2.send_data(n, b"\0\0\0\0\x05x"), s.end(n)), "broken off"),
        (lambda s, n: s.h2.send_headers(n, [(":status", "502")], end_stream=True), "HTTP status 502"),
    ],
)
def test_answers_that_are_none(tmp_path: Path, lie: Callable[[Server, int], object], said: str) -> None:
    async def main() -> None:
        async with serving(tmp_path / "s", lambda server, stream, body: (lie(server, stream), None)[1]) as (channel, _):
            with pytest.raises(GrpcError, match=said):
                await channel.call("/a.B/C", b"", 20)

    asyncio.run(main())


def test_a_stream_that_nobody_reads_holds_its_server_back_and_others_go_on(tmp_path: Path) -> None:
    sent = 0

    def flood(server: Server, stream: int, body: bytes) -> None:
        nonlocal sent
        if body:
            echo(server, stream, body)
            return
        server.head(stream)
        while server.h2.local_flow_control_window(stream) > 1005:
            server.message(stream, bytes(1000))
            sent += 1

    async def main() -> None:
        async with serving(tmp_path / "s", flood) as (channel, servers):
            events = channel.stream("/a.B/Events", b"")
            assert await anext(events) == bytes(1000)
            assert await channel.call("/a.B/C", b"x", 20) == b"x"
            assert servers[0].h2.local_flow_control_window(1) < 1005, "nothing was given back"
            for _ in range(sent - 1):
                await anext(events)
            assert await channel.call("/a.B/C", b"y", 20) == b"y"
            assert servers[0].h2.local_flow_control_window(1) > 100_000
            await events.aclose()
            assert await channel.call("/a.B/C", b"z", 20) == b"z"
            assert servers[0].resets == [1], "it was told before"

    asyncio.run(main())
