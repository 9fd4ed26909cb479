"""Clients of exec and port-forward that want the node's memory: a node has 64 sessions, and may have 128 MB."""

from __future__ import annotations

import asyncio
import gc
import itertools
import struct
import tracemalloc
from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode

from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.streaming.byte_stream import HELD, SocketStream
from kubeedge.streaming.channels import ChannelCommand
from kubeedge.streaming.command import CommandOptions
from kubeedge.streaming.forward import Forwarder
from kubeedge.streaming.spdy import REFUSED_STREAM, RST_STREAM, STREAMS, Spdy
from kubeedge.streaming.spdy_driver import UNREAD, SpdySession, SpdyStream
from kubeedge.streaming.websocket import WebSocket
from tests.kit import virtual_time

CHUNK = 64 * 1024


class Endless:
    """A wire on which one piece after the other comes, and then nothing for an hour. `taken` counts pieces, `said` has what was answered."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.taken, self.said = 0, bytearray()
        self.aborted = False

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if (piece := next(self._pieces, None)) is None:
            await asyncio.sleep(3600)
            return b""
        self.taken += 1
        return piece

    def write(self, data: bytes) -> None:
        self.said += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    async def lost(self) -> None:
        await asyncio.sleep(1800)

    async def close(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of control frames."""
    while data:
        kind, length = struct.unpack_from(">H", data, 2)[0], struct.unpack_from(">I", data, 4)[0] & 0xFFFFFF
        yield kind, data[8 : 8 + length]
        data = data[8 + length :]


def opened_and_reset(count: int) -> Iterator[bytes]:
    client = Spdy(client=True)
    for n in range(count):
        stream = client.open({"streamType": "data", "port": "80", "requestID": str(n)})
        yield client.data_to_send()
        client.reset(stream)
        yield client.data_to_send()


def test_streams_that_are_opened_and_reset_without_end_are_refused_until_some_are_forgotten() -> None:
    async def scenario() -> None:
        wire, kept = Endless(opened_and_reset(4 * STREAMS)), list[SpdyStream]()
        session = SpdySession(wire, kept.append)
        running = asyncio.create_task(session.run())
        await asyncio.sleep(60)
        assert len(kept) == STREAMS and all(stream.was_reset for stream in kept)
        refused = [payload for kind, payload in frames(bytes(wire.said)) if kind == RST_STREAM]
        assert len(refused) == 3 * STREAMS
        assert {struct.unpack(">II", payload)[1] for payload in refused} == {REFUSED_STREAM}
        running.cancel()

    virtual_time.run(scenario())


def test_a_port_forward_has_room_again_once_halves_of_pairs_are_given_up() -> None:
    """The second stream of a pair may take 30 s to come, also when the first one was reset."""

    async def scenario() -> None:
        dialled: list[int] = []

        async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            dialled.append(port)
            raise OSError("nobody listens")

        client = Spdy(client=True)
        flood, later = [], []
        for n in range(2 * STREAMS):
            client.reset(client.open({"streamType": "data", "port": "80", "requestID": str(n)}))
        flood.append(client.data_to_send())
        for kind in ("error", "data"):
            client.open({"streamType": kind, "port": "81", "requestID": "good"})
        later.append(client.data_to_send())
        wire = Endless(iter(flood))
        running = asyncio.create_task(Forwarder(wire, dial).run())
        await asyncio.sleep(60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert dialled == []

        def paused() -> Iterator[bytes]:
            yield flood[0]
            yield later[0]

        class Paused(Endless):
            async def read(self) -> bytes:
                if self.taken == 1:
                    await asyncio.sleep(40)
                return await super().read()

        running = asyncio.create_task(Forwarder(Paused(paused()), dial).run())
        await asyncio.sleep(60)
        assert dialled == [81]
        running.cancel()

    virtual_time.run(scenario())


def test_of_the_headers_of_a_stream_only_what_is_used_is_kept() -> None:
    async def scenario() -> None:
        client = Spdy(client=True)
        client.open({"streamType": "data", "port": "80", "requestID": "1" * 8000, "filler": "x" * 8000})
        kept: list[SpdyStream] = []
        running = asyncio.create_task(SpdySession(Endless(iter([client.data_to_send()])), kept.append).run())
        await asyncio.sleep(1)
        [stream] = kept
        assert stream.headers == {"streamtype": "data", "port": "80", "requestid": "1" * 256}
        running.cancel()

    virtual_time.run(scenario())


def test_input_that_comes_byte_by_byte_over_spdy_counts_with_what_each_byte_costs() -> None:
    async def scenario() -> None:
        client = Spdy(client=True)
        stream = client.open({"streamType": "stdin"})
        first = client.data_to_send()
        byte = struct.pack(">II", stream, 1) + b"x"
        many = CHUNK // len(byte)
        wire, kept = Endless(itertools.chain([first], itertools.repeat(byte * many))), list[SpdyStream]()
        running = asyncio.create_task(SpdySession(wire, kept.append).run())
        await asyncio.sleep(60)
        assert UNREAD // 128 < (wire.taken - 1) * many < UNREAD // 32
        before = wire.taken
        for _ in range(2 * many):  # who reads gets more
            assert await kept[0].read() == b"x"
        await asyncio.sleep(60)
        assert wire.taken > before
        running.cancel()

    virtual_time.run(scenario())


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


def connection(wire: Endless) -> SocketStream:
    return wire  # type: ignore[return-value]


def test_input_that_comes_byte_by_byte_over_a_websocket_counts_likewise() -> None:
    async def scenario() -> None:
        message = masked(Opcode.BINARY, b"\0x")
        wire = Endless(itertools.repeat(message * 100))
        command = ChannelCommand(connection(wire), "v5.channel.k8s.io", CommandOptions(stdin=True, stdout=True))
        running = asyncio.create_task(command.run())
        await asyncio.sleep(60)
        assert UNREAD // 128 < wire.taken * 100 < UNREAD // 32
        running.cancel()

    virtual_time.run(scenario())


def test_fragments_without_content_take_no_memory() -> None:
    async def scenario() -> int:
        begin = masked(Opcode.BINARY, b"a", fin=False)
        more = masked(Opcode.CONT, b"", fin=False) * 1000
        end = masked(Opcode.CONT, b"z")
        socket = WebSocket(connection(Endless(iter([begin, *[more] * 50, end]))))
        gc.collect()  # what other tests left is not to be cleared away, and told of, meanwhile
        tracemalloc.start()
        try:
            assert await socket.receive() == b"az"
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert asyncio.run(scenario()) < 250_000  # a reference to each would be 400,000 bytes


@pytest.mark.parametrize("whole", [False, True], ids=["half a message", "a message that no process reads"])
def test_large_messages_of_all_sessions_together_have_a_bound(whole: bool) -> None:
    """64 sessions of 1 MiB each are half of what the agent may have. Who holds little goes on."""

    async def scenario() -> None:
        held = HeldBytes(HELD)
        options = CommandOptions(stdin=True, stdout=True)
        message = masked(Opcode.BINARY, b"\0" + bytes(1_000_000))
        sent = message if whole else message[:-1]
        small = Endless(iter([masked(Opcode.BINARY, b"\0" + bytes(1000))]))
        wires = [small, *(Endless(sent[at : at + CHUNK] for at in range(0, len(sent), CHUNK)) for _ in range(64))]
        commands = [ChannelCommand(connection(wire), "v5.channel.k8s.io", options, held) for wire in wires]
        running = [asyncio.create_task(command.run()) for command in commands]
        await asyncio.sleep(60)
        assert held.size <= 8 * 1024 * 1024
        assert not small.aborted and sum(wire.aborted for wire in wires) >= 64 - 9
        assert len(await commands[0].input()) == 1000
        for task in running:
            task.cancel()

    virtual_time.run(scenario())
