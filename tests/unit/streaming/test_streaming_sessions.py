"""exec, attach and port-forward over real sockets, with the `websockets` library as client; and time that passes, without it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import pytest
from websockets.asyncio.client import connect

from kubeedge.appengine.runtime.base import Output
from kubeedge.appengine.streaming_sessions import converse
from kubeedge.errors import Invalid, PeerError, Refused
from kubeedge.kit.http1 import Request, Response, Upgrade, serve_connection
from kubeedge.streaming import negotiation
from kubeedge.streaming.byte_stream import SocketStream
from kubeedge.streaming.channels import ChannelCommand
from kubeedge.streaming.command import CommandOptions, Sizes, SpdyCommand
from kubeedge.streaming.forward import Forwarder
from kubeedge.streaming.spdy import DataReceived, Spdy, StreamEnded, StreamReplied
from kubeedge.streaming.websocket import Tunnel
from tests.kit import virtual_time

EVERYTHING = CommandOptions(stdin=True, stdout=True, stderr=True)


class Process:
    """Streams of a process that answers its input in upper case, and ends with it, with status 3."""

    def __init__(self) -> None:
        self.outputs: asyncio.Queue[Output | None] = asyncio.Queue(4)
        self.sizes: list[tuple[int, int]] = []
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def receive(self) -> Output | None:
        return await self.outputs.get()

    async def send(self, data: bytes) -> None:
        await self.outputs.put(Output("stdout", data.upper()))

    async def end_input(self) -> None:
        await self.outputs.put(Output("stderr", b"bye"))
        await self.outputs.put(None)
        if not self.exited.done():
            self.exited.set_result(3)

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    async def wait(self) -> int | None:
        return await asyncio.shield(self.exited)

    async def close(self) -> None:
        self.closed = True


class Client:
    """Command in memory."""

    def __init__(self) -> None:
        self.inputs: asyncio.Queue[bytes] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.said: list[tuple[str, bytes]] = []
        self.status: dict[str, Any] | None = None
        self.reads = asyncio.Event()
        self.reads.set()

    async def run(self) -> None:
        await self.gone.wait()

    async def ready(self) -> None: ...

    async def input(self) -> bytes:
        return await self.inputs.get()

    async def size(self) -> tuple[int, int] | None:
        return None

    async def output(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        await self.reads.wait()
        self.said.append((stream, data))

    async def finish(self, status: dict[str, Any]) -> None:
        self.status = status
        self.gone.set()


def start(process: Process) -> Callable[[], Awaitable[Any]]:
    async def started() -> Any:
        return process

    return started


def test_a_client_of_attach_that_does_not_read_is_let_go_in_time_and_one_of_exec_is_not() -> None:
    async def scenario(timeout: float | None) -> float:
        process, client = Process(), Client()
        client.reads.clear()
        await process.send(b"x")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3600):
                await converse(client, start(process), timeout=timeout)
        assert process.closed
        return loop.time() - begun

    assert virtual_time.run(scenario(10.0)) == pytest.approx(10, abs=0.1)
    assert virtual_time.run(scenario(None)) == pytest.approx(3600, abs=0.1)


def test_children_that_keep_the_streams_of_a_process_that_has_ended_are_not_waited_for() -> None:
    async def scenario() -> None:
        process, client = Process(), Client()
        await process.send(b"x")
        process.exited.set_result(8)
        async with asyncio.timeout(5):
            await converse(client, start(process), timeout=None)
        assert client.said == [("stdout", b"X")] and process.closed
        assert client.status is not None and client.status["details"]["causes"][0]["message"] == "8"

    virtual_time.run(scenario())


def test_what_a_slow_client_has_not_taken_yet_is_not_lost_at_the_exit() -> None:
    async def scenario() -> None:
        process, client = Process(), Client()
        client.reads.clear()
        for _ in range(3):
            await process.send(b"x")
        process.exited.set_result(0)
        asyncio.get_running_loop().call_later(100, client.reads.set)
        async with asyncio.timeout(200):
            await converse(client, start(process), timeout=None)
        assert len(client.said) == 3 and client.status == {"metadata": {}, "status": "Success"}

    virtual_time.run(scenario())


def test_a_process_ends_with_its_client() -> None:
    async def scenario() -> None:
        process, client = Process(), Client()
        asyncio.get_running_loop().call_later(5, client.gone.set)
        await converse(client, start(process), timeout=None)
        assert process.closed and client.status is None

    virtual_time.run(scenario())


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (b'{"Width":80,"Height":24}{"Width":1', [(24, 80)]),
        (b'{"Width":80,"Height":24}\n{"Width":81,"Height":25} ', [(24, 80), (25, 81)]),
        (b'{"Width":true,"Height":24}{"Width":-1,"Height":70000}[]{"Width":2,"Height":3}', [(3, 2)]),
        (b"x" * 50, []),
    ],
)
def test_sizes_of_a_terminal(text: bytes, sizes: list[tuple[int, int]]) -> None:
    parser = Sizes()
    found = []
    for at in range(len(text)):
        parser.feed(text[at : at + 1])
        while (size := parser.next()) is not None:
            found.append(size)
    assert found == sizes
    with pytest.raises(PeerError):
        parser.feed(b"x" * 5000)


def request(method: str = "POST", **headers: str | list[str]) -> Request:
    pairs = [
        (name.replace("_", "-"), one)
        for name, value in headers.items()
        for one in ([value] if isinstance(value, str) else value)
    ]
    return Request(method, "/", pairs, lambda name: None, _nothing())


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def test_the_first_protocol_of_the_client_that_is_ours_is_chosen() -> None:
    spdy, ws = negotiation.COMMAND_SPDY, negotiation.COMMAND_WEBSOCKET
    asked = request(connection="Upgrade", upgrade="SPDY/3.1", x_stream_protocol_version=["v9", "v3.channel.k8s.io", "v4.channel.k8s.io"])  # fmt: skip
    assert negotiation.negotiate(asked, spdy, ws).protocol == "v3.channel.k8s.io"
    websocket = {"connection": "keep-alive, Upgrade", "upgrade": "websocket", "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==", "sec_websocket_version": "13"}  # fmt: skip
    choice = negotiation.negotiate(request("GET", sec_websocket_protocol="x, v5.channel.k8s.io", **websocket), spdy, ws)
    assert choice.websocket and choice.protocol == "v5.channel.k8s.io"
    assert ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in choice.headers
    with pytest.raises(Refused):
        negotiation.negotiate(request("GET", sec_websocket_protocol="x", **websocket), spdy, ws)
    with pytest.raises(Refused):
        negotiation.negotiate(request(connection="Upgrade", upgrade="SPDY/3.1"), spdy, ws)
    for bad in (
        request(),
        request(upgrade="SPDY/3.1"),
        request(connection="upgrade", upgrade="h2c"),
        request("POST", **websocket),
    ):
        with pytest.raises(Invalid):
            negotiation.negotiate(bad, spdy, ws)


@contextlib.asynccontextmanager
async def serving(
    serve: Callable[[negotiation.Choice, SocketStream], Awaitable[None]], spdy: Any, ws: Any
) -> AsyncIterator[int]:
    """A server on loopback; the errors of its sessions come out at the end."""
    errors: list[BaseException] = []

    async def handle(asked: Request) -> Response | Upgrade:
        choice = negotiation.negotiate(asked, spdy, ws)

        async def takeover(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
            try:
                await serve(choice, SocketStream(reader, writer, first))
            except (OSError, PeerError):
                pass
            except BaseException as exc:
                errors.append(exc)

        return Upgrade(choice.headers, takeover)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, handle)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    assert not errors


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"])
def test_exec_over_a_websocket(protocol: str) -> None:
    async def scenario() -> None:
        processes: list[Process] = []

        async def serve(choice: negotiation.Choice, connection: SocketStream) -> None:
            processes.append(Process())
            await converse(ChannelCommand(connection, choice.protocol, EVERYTHING), start(processes[0]), timeout=None)

        async with serving(serve, negotiation.COMMAND_SPDY, negotiation.COMMAND_WEBSOCKET) as port:
            async with connect(f"ws://127.0.0.1:{port}/", subprotocols=[protocol], compression=None) as client:  # type: ignore[list-item]
                assert client.subprotocol == protocol
                assert await client.recv() == b"\x01"
                await client.send([b"\x00he", b"llo"])  # one message in fragments
                assert await client.recv() == b"\x01HELLO"
                await client.send(b'\x04{"Width":80,"Height":24}')
                await client.send(b"\x09unknown")
                await client.send(b"")
                await client.send(b"\x00x")
                assert await client.recv() == b"\x01X"
                if not protocol.startswith("v5"):
                    await processes[0].end_input()  # it cannot say the end of its input
                else:
                    await client.send(b"\xff\x00")
                assert await client.recv() == b"\x02bye"
                said = await client.recv()
                assert isinstance(said, bytes) and said[0] == 3
                if protocol == "channel.k8s.io":
                    assert said[1:] == b"command terminated with non-zero exit code: exit status 3"
                else:
                    assert json.loads(said[1:])["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
                assert [message async for message in client] == []
                assert client.close_code == 1000
        assert processes[0].sizes == [(24, 80)] and processes[0].closed

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_websocket_that_floods_its_process_has_to_wait_and_one_that_lies_is_cut_off() -> None:
    async def scenario() -> None:
        process = Process()
        ended = asyncio.Event()

        async def serve(choice: negotiation.Choice, connection: SocketStream) -> None:
            command = ChannelCommand(connection, choice.protocol, CommandOptions(stdin=True))
            try:
                await converse(command, start(process), timeout=None)
            finally:
                ended.set()
                await connection.close()

        async with serving(serve, negotiation.COMMAND_SPDY, negotiation.COMMAND_WEBSOCKET) as port:
            url = f"ws://127.0.0.1:{port}/"
            async with connect(url, subprotocols=["v5.channel.k8s.io"], compression=None) as client:  # type: ignore[list-item]
                with contextlib.suppress(Exception):  # closed for a message of more than 1 MiB
                    await client.send(b"\0" * (2 * 1024 * 1024))
                await client.wait_closed()
                assert client.close_code == 1009
            await ended.wait()

    asyncio.run(asyncio.wait_for(scenario(), 30))


class SpdyClient:
    """Our own core on a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.core = Spdy(client=True)
        self.reader, self.writer = reader, writer
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()

    async def until(self, condition: Callable[[], bool]) -> None:
        self.writer.write(self.core.data_to_send())
        while not condition():
            data = await self.reader.read(65536)
            assert data, "the connection has ended"
            for event in self.core.receive_data(data):
                match event:
                    case DataReceived(stream, piece):
                        self.data[stream] = self.data.get(stream, b"") + piece
                    case StreamEnded(stream):
                        self.ended.add(stream)
                    case StreamReplied():
                        pass


@pytest.mark.parametrize("protocol", negotiation.COMMAND_SPDY)
def test_exec_over_spdy(protocol: str) -> None:
    async def scenario() -> None:
        process = Process()
        ours, theirs = socket.socketpair()
        connection = SocketStream(*await asyncio.open_connection(sock=theirs))
        options = CommandOptions(stdin=True, stdout=True, stderr=True, tty=True)
        serving = asyncio.create_task(
            converse(SpdyCommand(connection, protocol, options), start(process), timeout=None)
        )
        client = SpdyClient(*await asyncio.open_connection(sock=ours))
        kinds = ["error", "stdin", "stdout", "stderr", *(["resize"] if "v2" not in protocol else [])]
        opened = {kind: client.core.open({"streamType": kind}) for kind in kinds}
        client.core.open({"streamType": "stdin"})  # once more: refused
        if "resize" in opened:
            client.core.send(opened["resize"], b'{"Width":80,"Height":24}')
        client.core.send(opened["stdin"], b"hello")
        client.core.end(opened["stdin"])
        await client.until(lambda: opened["error"] in client.ended)
        assert client.data[opened["stdout"]] == b"HELLO" and client.data[opened["stderr"]] == b"bye"
        said = client.data[opened["error"]]
        if protocol.startswith("v4"):
            assert json.loads(said)["reason"] == "NonZeroExitCode"
        else:
            assert said == b"command terminated with non-zero exit code: exit status 3"
        client.writer.close()
        await serving
        await connection.close()
        assert process.sizes == ([(24, 80)] if "resize" in opened else [])

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_ports_are_forwarded_through_a_websocket() -> None:
    async def scenario() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        target = await asyncio.start_server(echo, "127.0.0.1", 0)

        async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection("127.0.0.1", port)

        async def serve(choice: negotiation.Choice, connection: SocketStream) -> None:
            await Forwarder(Tunnel(connection), dial).run()

        open_port = target.sockets[0].getsockname()[1]
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # nobody listens there
            ports = [open_port, closed.getsockname()[1]]
            name = "tunnel"  # the real one has a slash, which the client takes for a mistake
            async with target, serving(serve, negotiation.FORWARD_SPDY, [name]) as port:
                async with connect(f"ws://127.0.0.1:{port}/", subprotocols=[name], compression=None) as client:  # type: ignore[list-item]
                    core = Spdy(client=True)
                    data: dict[int, bytes] = {}
                    over: set[int] = set()
                    streams = []
                    for n, wanted in enumerate(ports):
                        pair = [
                            core.open({"streamType": kind, "port": str(wanted), "requestID": str(n)})
                            for kind in ("error", "data")
                        ]
                        core.end(pair[0])
                        streams.append(pair)
                    core.open({"streamType": "data", "port": "99999"})  # refused
                    sent = bytes(range(256)) * 4096
                    core.send(streams[0][1], sent)
                    core.end(streams[0][1])
                    wire = core.data_to_send()
                    for at in range(0, len(wire), 10_000):
                        await client.send(wire[at : at + 10_000])
                    while len(over) < 3:
                        for event in core.receive_data(await client.recv()):  # type: ignore[arg-type]
                            match event:
                                case DataReceived(stream, piece):
                                    data[stream] = data.get(stream, b"") + piece
                                case StreamEnded(stream):
                                    over.add(stream)
                                case _:
                                    pass
                    assert data[streams[0][1]] == sent
                    assert b"refused" in data[streams[1][0]] or b"Connect call failed" in data[streams[1][0]]

    asyncio.run(asyncio.wait_for(scenario(), 30))
