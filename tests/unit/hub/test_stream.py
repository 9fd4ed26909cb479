"""Streams over TLS on loopback: with each other, and with the `websockets` library, which nodes of yesterday speak through."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from kubeedge.errors import PeerError
from kubeedge.hub.core import MAX_MESSAGE, SYNC_DOWN, SYNC_UP, ChannelSession
from kubeedge.hub.driver import Channel
from kubeedge.hub.stream import Rejected, Stream
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.cloudhub.module import CloudHub, CloudHubSettings
from tests.kit.certs import Credentials, TestAuthority
from tests.kit.directory import SomeNodes
from tests.kit.ports import ADDRESS, ports
from tests.unit.hub.test_channel import client_tls, server_tls, until

URI = "spiffe://kubeedge/tenant/default/node/edge1"
REQUEST = (
    b"GET /v1/channel HTTP/1.1\r\nHost: a:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(limited())


class Site:
    def __init__(self, tmp_path: Path) -> None:
        self.authority = TestAuthority(tmp_path)
        self.server = server_tls(self.authority.issue("cloud", hosts=[ADDRESS], uri="spiffe://kubeedge/cloud/hub"))
        self.node: Credentials = self.authority.issue("edge1", uri=URI)
        self.port = 0

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Stream, Stream]]:
        """Both ends of an upgraded connection: the client's and the server's."""
        with socket.create_server((ADDRESS, 0)) as listener:
            mine = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        client = Stream(mine, client_tls(self.node)(), server_hostname=ADDRESS)
        server = Stream(theirs, self.server())
        try:
            await asyncio.gather(client.handshake(), server.handshake())
            upgrading = asyncio.create_task(client.upgrade("127.0.0.1:1", "/v1/channel"))
            path, answer = await server.asked()
            assert path == "/v1/channel"
            server.accept(answer)
            await upgrading
            yield client, server
        finally:
            client.abort()
            server.abort()

    @contextlib.asynccontextmanager
    async def hub(self, *nodes: str) -> AsyncIterator[CloudHub]:
        (self.port,) = ports(1)
        settings = CloudHubSettings(address=ADDRESS, port=self.port)
        hub = CloudHub(settings, MemoryStore(), SomeNodes(*nodes), self.server)
        ready = asyncio.Event()
        running = asyncio.create_task(hub.run(ready))
        await ready.wait()
        try:
            yield hub
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def url(self, path: str = "/v1/channel") -> str:
        return f"wss://{ADDRESS}:{self.port}{path}"


def _unauthenticated(hub: CloudHub) -> int:
    assert hub.acceptor is not None
    return len(hub.acceptor.limiter.silent) + len(hub.acceptor.limiter.served)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_messages_of_all_sizes_both_ways_at_once(site: Site) -> None:
    rng = random.Random(7)
    messages = [rng.randbytes(n) for n in (0, 1, 125, 126, 65_535, 65_536, MAX_MESSAGE, 3)]

    async def scenario() -> None:
        async with site.streams() as ends:

            async def speak(end: Stream) -> None:
                for message in messages:
                    await end.send(message)

            async def listen(end: Stream) -> list[bytes]:
                return [await end.recv() for _ in messages]

            *_, one, other = await asyncio.gather(*map(speak, ends), *map(listen, ends))
            assert one == other == messages

    run(scenario)


def test_a_sender_waits_for_a_reader_that_does_not_read(site: Site) -> None:
    async def scenario() -> None:
        async with site.streams() as (client, server):
            sent = 0

            async def speak() -> None:
                nonlocal sent
                while True:
                    await client.send(bytes(100_000))
                    sent += 1

            speaking = asyncio.create_task(speak())
            before = -1
            while sent > before:  # until nothing more goes
                before = sent
                await asyncio.sleep(0.2)
            assert before < 500 and len(server._messages) <= 17 and client._out is not None
            for _ in range(before + 10):
                await server.recv()
            await until(lambda: sent > before, "more, after the other end has read")
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    run(scenario)


def test_a_close_is_answered_and_its_reason_is_heard(site: Site) -> None:
    async def scenario() -> None:
        async with site.streams() as (client, server):
            await client.send(b"last words")
            closing = asyncio.create_task(client.close(4000, "replaced"))
            assert await server.recv() == b"last words"
            with pytest.raises(ConnectionResetError, match=r"\(4000\): replaced"):
                await server.recv()
            with pytest.raises(ConnectionResetError):
                await server.send(b"too late")
            started = asyncio.get_running_loop().time()
            await closing
            assert asyncio.get_running_loop().time() - started < 0.9  # the answer came: nobody waited for the deadline

    run(scenario)


@pytest.mark.parametrize(
    ("wire", "code", "words"),
    [
        (b"\x81\x80abcd", 1003, "a text message"),
        (b"\x82\x00", 1002, "masking"),
        (b"\xc2\x80abcd", 1002, "reserved bits"),
        (b"\x83\x80abcd", 1002, "opcode"),
        (b"\x89\xfe\x00\x7eabcd" + bytes(126), 1002, "control frame"),
        (b"\x80\x80abcd", 1002, "unexpected continuation"),
        (b"\x02\x80abcd\x82\x80abcd", 1002, "continuation frame"),
        (b"\x82\xff" + (1 << 63).to_bytes(8, "big"), 1009, "exceeds limit"),
        (b"\x82\xff" + (MAX_MESSAGE + 1).to_bytes(8, "big"), 1009, "exceeds limit"),
        (b"\x02\xff" + MAX_MESSAGE.to_bytes(8, "big") + bytes(4 + MAX_MESSAGE) + b"\x80\x81abcd?", 1009, "exceeds limit"),
    ],
    ids=["text", "not masked", "an extension", "a kind", "a long ping", "a piece of nothing", "a piece left out", "2^63", "too long",
         "too long in pieces"],
)  # fmt: skip
def test_a_broken_rule_ends_the_stream_and_the_other_end_hears_which(
    site: Site, wire: bytes, code: int, words: str
) -> None:
    async def scenario() -> None:
        async with site.streams() as (client, server):
            client._write(wire)
            with pytest.raises(PeerError, match=words):
                await server.recv()
            with pytest.raises(ConnectionResetError, match=rf"\({code}\): .*{words}"):
                await client.recv()

    run(scenario)


def test_a_message_in_pieces_with_a_ping_between_them(site: Site) -> None:
    async def scenario() -> None:
        async with site.streams() as (client, server):
            pieces = [
                (Opcode.BINARY, b"one", False),
                (Opcode.PING, b"?", True),
                (Opcode.CONT, b"", False),
                (Opcode.CONT, b"two", True),
            ]
            wire = b"".join(Frame(kind, data, fin).serialize(mask=True) for kind, data, fin in pieces)
            for n in range(len(wire)):
                client._write(wire[n : n + 1])
            assert await server.recv() == b"onetwo"

    run(scenario)


def test_pings_are_answered_but_not_without_end(site: Site) -> None:
    async def scenario() -> None:
        async with site.streams() as (client, server):
            listening = asyncio.create_task(server.recv())
            client._loop.remove_reader(client._socket.fileno())  # it does not read what it asks for
            ping = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 100
            while not listening.done():
                if client._out is None or len(client._out) < 1_000_000:
                    client._write(ping)
                await asyncio.sleep(0)
            with pytest.raises(PeerError, match="faster than their answers are read"):
                await listening

    run(scenario)


def test_the_end_of_the_other_process_is_an_end(site: Site) -> None:
    async def scenario() -> None:
        async with site.streams() as (client, server):
            listening = asyncio.create_task(server.recv())
            client._socket.close()
            with pytest.raises(OSError):
                await listening
            client._error = ConnectionAbortedError()  # its socket is gone already

    run(scenario)


def test_what_came_before_a_broken_connection_is_read_and_then_it_is_an_error_of_the_connection(site: Site) -> None:
    """So many messages that nothing more is read; then writing fails."""

    async def scenario() -> None:
        async with site.streams() as (client, server):
            client._write(b"".join(Frame(Opcode.BINARY, b"%02d" % n).serialize(mask=True) for n in range(40)))
            await until(lambda: server._paused, "messages wait")
            server._end(ConnectionResetError("the writer met it"))
            for n in range(40):
                assert await server.recv() == b"%02d" % n
            with pytest.raises(ConnectionResetError):
                await server.recv()

    run(scenario)


@pytest.mark.parametrize("pieces", [False, True], ids=["one frame", "fragments"])
def test_a_large_message_is_told_of_before_it_is_whole(site: Site, pieces: bool) -> None:
    """Two megabytes in each of a tenant's channels are as much as all that a tenant's channels may hold."""

    async def scenario() -> None:
        async with site.streams() as (client, server):
            told: list[int] = []
            server.on_unfinished(told.append)
            size = 1_000_000
            if pieces:
                frames = [Frame(Opcode.BINARY if not n else Opcode.CONT, bytes(size // 20), False) for n in range(20)]
                frames.append(Frame(Opcode.CONT, b"", True))
            else:
                frames = [Frame(Opcode.BINARY, bytes(size), True)]
            wire = b"".join(frame.serialize(mask=True) for frame in frames)
            client._write(wire[:-1])
            receiving = asyncio.create_task(server.recv())
            while not told or told[-1] < size - 100:
                assert not receiving.done()
                await asyncio.sleep(0.01)
            client._write(wire[-1:])
            assert len(await receiving) == size
            assert told[-1] == 0 and max(told) <= size + 100
            client._write(Frame(Opcode.BINARY, b"small").serialize(mask=True))
            assert await server.recv() == b"small" and told[-1] == 0

    run(scenario)


@pytest.mark.parametrize("wire", [b"", b"\x82\x00", b"\x82\xff" + MAX_MESSAGE.to_bytes(8, "big") + bytes(99_999)])
def test_a_stream_that_ended_is_no_garbage(site: Site, wire: bytes) -> None:
    """Unauthenticated peers come and go faster than the collector."""
    left: list[weakref.ref[object]] = []

    async def scenario() -> None:
        async with site.streams() as (client, server):
            client._write(wire)
            listening = asyncio.gather(server.recv(), return_exceptions=True)
            client.abort()
            await listening
            left.extend((weakref.ref(server._socket), weakref.ref(server._websocket)))

    gc.disable()
    try:
        run(scenario)
        assert [found() for found in left] == [None, None]
    finally:
        gc.enable()


def test_a_server_of_another_name_is_not_spoken_to(site: Site) -> None:
    async def scenario() -> None:
        with socket.create_server((ADDRESS, 0)) as listener:
            mine = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        client = Stream(mine, client_tls(site.node)(), server_hostname="127.0.0.2")
        server = Stream(theirs, site.server())
        both = await asyncio.gather(client.handshake(), server.handshake(), return_exceptions=True)
        assert isinstance(both[0], ssl.SSLCertVerificationError) and isinstance(both[1], OSError)
        assert client._socket.fileno() == server._socket.fileno() == -1

    run(scenario)


# -- the other end is the library --------------------------------------------------------------------------------------


class Speaker:
    """The library's connection as a channel's WebSocket: what a node of yesterday has."""

    def __init__(self, connection: object) -> None:
        self._connection: object = connection

    def on_unfinished(self, listener: Callable[[int], None]) -> None:
        """The library keeps that to itself."""

    async def send(self, message: bytes) -> None:
        with _closed_is_oserror():
            await self._connection.send(message)  # type: ignore[attr-defined]

    async def recv(self) -> bytes:
        with _closed_is_oserror():
            message = await self._connection.recv()  # type: ignore[attr-defined]
        assert isinstance(message, bytes)
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.close(code, reason)  # type: ignore[attr-defined]

    @property
    def transport(self) -> asyncio.Transport:
        found: asyncio.Transport = self._connection.transport  # type: ignore[attr-defined]
        return found


@contextlib.contextmanager
def _closed_is_oserror() -> object:  # type: ignore[misc]
    try:
        yield
    except ConnectionClosed as exc:
        raise ConnectionResetError(str(exc)) from exc


async def echo(kind_in: int, kind_out: int, channel: Channel) -> None:
    receive = channel.stream(kind_in)
    for _ in range(3):
        await channel.send(kind_out, await receive())


async def ask(kind_out: int, kind_in: int, channel: Channel, messages: list[bytes], answers: list[bytes]) -> None:
    receive = channel.stream(kind_in)
    for message in messages:
        await channel.send(kind_out, message)
        answers.append(await receive())


MESSAGES = [b"a", bytes(70_000), bytes(MAX_MESSAGE - 1)]


def test_a_client_that_speaks_through_the_library(site: Site) -> None:
    async def scenario() -> None:
        async with site.hub("edge1") as hub:
            async with connect(site.url(), ssl=client_tls(site.node)(), compression=None, max_size=None) as theirs:
                channel = Channel(Speaker(theirs), ChannelSession({}), asyncio.get_running_loop().time)

                async def use(_: Channel) -> None:
                    await until(lambda: len(hub.attached()) == 1 and hub.attached()[0].key.revision > 0, "the session")
                    await (await theirs.ping())  # and its own pings are answered
                    hub.attached()[0].channel.close("go away", 4000)
                    await asyncio.get_running_loop().create_future()

                assert await channel.run(use) == "peer says: go away"

    run(scenario)


def test_a_server_that_speaks_through_the_library(site: Site) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        async def hold(theirs: ServerConnection) -> None:
            channel = Channel(Speaker(theirs), ChannelSession({}), loop.time)
            await channel.run(lambda c: echo(SYNC_UP, SYNC_DOWN, c))

        async with serve(hold, ADDRESS, 0, ssl=site.server(), compression=None, max_size=None) as server:
            site.port = next(iter(server.sockets)).getsockname()[1]
            tcp = socket.create_connection((ADDRESS, site.port))
            stream = Stream(tcp, client_tls(site.node)(), server_hostname=ADDRESS)
            try:
                await stream.handshake()
                await stream.upgrade(f"{ADDRESS}:{site.port}", "/v1/channel")
                answers: list[bytes] = []
                channel = Channel(stream, ChannelSession({}), loop.time)
                await channel.run(lambda c: ask(SYNC_UP, SYNC_DOWN, c, MESSAGES, answers))
                assert answers == MESSAGES
            finally:
                stream.abort()

    run(scenario)


@pytest.mark.parametrize(
    ("path", "nodes", "status", "text"),
    [("/v1/other", ["edge1"], 404, "not found"), ("/v1/channel", [], 403, "join it again")],
    ids=["another path", "an unknown node"],
)
def test_a_refusal_is_one_for_the_library_and_for_us(
    site: Site, path: str, nodes: list[str], status: int, text: str
) -> None:
    async def scenario() -> None:
        async with site.hub(*nodes) as hub:
            with pytest.raises(InvalidStatus) as caught:
                await connect(site.url(path), ssl=client_tls(site.node)(), compression=None)
            assert caught.value.response.status_code == status
            assert text in (caught.value.response.body or b"").decode()
            tcp = socket.create_connection((ADDRESS, site.port))
            stream = Stream(tcp, client_tls(site.node)(), server_hostname=ADDRESS)
            await stream.handshake()
            with pytest.raises(Rejected, match=text) as refused:
                await stream.upgrade(f"{ADDRESS}:{site.port}", path)
            assert refused.value.status == status
            stream.abort()
            await until(lambda: not _unauthenticated(hub), "the end of both")

    run(scenario)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"GET /v1/channel HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 426 "),
        (b"junk\r\n\r\n", b"HTTP/1.1 400 "),
        (b"x" * 8192, b"HTTP/1.1 400 "),
        (REQUEST + b"\x82\x00", b"HTTP/1.1 101 "),  # then the end: a frame is not masked
    ],
    ids=["no upgrade", "no request", "no end", "a broken rule behind the request"],
)
def test_what_a_known_node_may_say_wrong(site: Site, said: bytes, answer: bytes) -> None:
    async def scenario() -> None:
        async with site.hub("edge1") as hub:
            reader, writer = await asyncio.open_connection(ADDRESS, site.port, ssl=client_tls(site.node)())
            writer.write(said)
            assert (await reader.read()).startswith(answer)
            await until(lambda: not _unauthenticated(hub) and not hub.attached(), "its end")
            writer.close()

    run(scenario)


def test_a_stop_says_goodbye_and_does_not_wait_for_unauthenticated_peers(site: Site) -> None:
    async def scenario() -> None:
        async with site.hub("edge1") as hub:
            silent, _writer = await asyncio.open_connection(ADDRESS, site.port)
            tcp = socket.create_connection((ADDRESS, site.port))
            stream = Stream(tcp, client_tls(site.node)(), server_hostname=ADDRESS)
            await stream.handshake()
            await stream.upgrade(f"{ADDRESS}:{site.port}", "/v1/channel")
            channel = Channel(stream, ChannelSession({}), asyncio.get_running_loop().time)
            running = asyncio.create_task(channel.run(lambda _: asyncio.get_running_loop().create_future()))  # type: ignore[arg-type, return-value]
            await until(lambda: len(hub.attached()) == 1 and hub.attached()[0].key.revision > 0, "the session")
        assert await running == "peer says: the cloud process stops"
        assert hub.attached() == [] and await silent.read() == b""
        assert not [k for k in (await hub._store.range("/sessions/", "/sessions0")).kvs]
        _writer.close()
        stream.abort()

    run(scenario)
