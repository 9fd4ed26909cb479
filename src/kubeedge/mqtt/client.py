"""A client of an MQTT broker: one connection, its subscriptions, and messages of QoS 1 with their acknowledgements.

It does not connect again by itself: `serve` ends with the connection, and what was not acknowledged fails with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence

from kubeedge.errors import Unavailable
from kubeedge.kit.streams import abort_writer, close_writer
from kubeedge.mqtt import answers, requests
from kubeedge.mqtt.codec import V311, MqttError, Puback, Publish
from kubeedge.mqtt.requests import AnswerDecoder, Connack, Suback

_READ = 32 * 1024  # bytes at once
_KEEPALIVE = 30  # seconds
_ANSWER = 10.0  # seconds that the broker has for an answer
_IN_FLIGHT = 64  # messages that the broker has not acknowledged
#: bytes of ours that the broker has not taken: to wait until it has would make two wait for each other
_UNREAD = 16 * 1024 * 1024


class MqttClient:
    """`received` gets the messages of the subscriptions, each before it is acknowledged."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: Callable[[Publish], None]
    ) -> None:
        self._reader, self._writer = reader, writer
        self._received = received
        self._decoder = AnswerDecoder()
        self._free = asyncio.Semaphore(_IN_FLIGHT)
        self._waiting: dict[int, asyncio.Future[Sequence[int]]] = {}
        self._next_id = 0
        self._pinged = self._ended = False

    @property
    def has_ended(self) -> bool:
        """There is no connection any more."""
        return self._ended

    @staticmethod
    async def open(
        host: str,
        port: int,
        client_id: str,
        received: Callable[[Publish], None],
        *,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str | None] | None = None,
    ) -> MqttClient:
        """Connected and welcome. `login` as `welcomed`. Raises OSError, TimeoutError, and Unavailable when the broker refuses the client."""
        async with asyncio.timeout(_ANSWER):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_READ)
            return await MqttClient.welcomed(reader, writer, client_id, received, login)

    @staticmethod
    async def welcomed(
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client_id: str,
        received: Callable[[Publish], None],
        login: tuple[str, str | None] | None = None,
    ) -> MqttClient:
        """The client of a connection that is there. `login`: user, and password unless a certificate stands for it. Raises as `open`; the connection has ended then."""
        client = MqttClient(reader, writer, received)
        try:
            async with asyncio.timeout(_ANSWER):
                writer.write(requests.connect(client_id, _KEEPALIVE, login))
                await client._welcome()
        except BaseException:
            abort_writer(writer)
            raise
        return client

    async def _welcome(self) -> None:
        while True:
            for packet in self._decoder.feed(await self._some()):
                if not isinstance(packet, Connack):
                    raise MqttError("the broker says something before CONNACK")
                if packet.code:
                    raise Unavailable(f"the broker refuses the connection: {packet.reason}")
                return

    async def _some(self) -> bytes:
        if not (data := await self._reader.read(_READ)):
            raise ConnectionResetError("the broker has closed the connection")
        return data

    async def serve(self) -> None:
        """Takes messages in until the connection ends. Raises OSError, TimeoutError or MqttError then."""
        ping_at = asyncio.get_running_loop().time()
        try:
            while True:
                try:
                    async with asyncio.timeout_at(ping_at):
                        data = await self._some()
                except TimeoutError:
                    if self._pinged:
                        raise
                    self._pinged = True
                    ping_at += _KEEPALIVE / 2
                    self._writer.write(requests.pingreq())
                    continue
                self._pinged = False
                for packet in self._decoder.feed(data):
                    self._take(packet)
                if self._writer.transport.get_write_buffer_size() > _UNREAD:
                    raise MqttError("the broker sends messages, and takes no acknowledgements")
        finally:
            await self.close()

    def _take(self, packet: requests.ServerPacket) -> None:
        match packet:
            case Publish():
                self._received(packet)
                if packet.qos:
                    self._writer.write(answers.puback(V311, packet.packet_id))
            case Puback():
                self._answered(packet.packet_id, ())
            case Suback():
                self._answered(packet.packet_id, packet.codes)
            case Connack():
                raise MqttError("a second CONNACK")

    def _answered(self, packet_id: int, codes: Sequence[int]) -> None:
        future = self._waiting.get(packet_id)
        if future is not None and not future.done():
            future.set_result(codes)

    async def subscribe(self, *filters: str) -> None:
        """While `serve` runs. Raises Unavailable when the broker refuses one, ConnectionError when the connection ends."""
        codes = await self._ask(lambda packet_id: requests.subscribe(packet_id, filters))
        refused = [name for name, code in zip(filters, codes, strict=False) if code >= 0x80]
        if refused or len(codes) != len(filters):
            raise Unavailable(f"the broker refuses subscriptions: {', '.join(refused or filters)}")

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Returns when the broker has acknowledged it, while `serve` runs; of QoS 0 when it is written. Raises ConnectionError when the connection
        ends."""
        if qos:
            await self._ask(
                lambda packet_id: answers.publish(V311, Publish(topic, payload, 1, retain=retain, packet_id=packet_id)),
            )
            return
        if self._ended:
            raise ConnectionResetError("the connection to the broker has ended")
        self._writer.write(answers.publish(V311, Publish(topic, payload, 0, retain=retain)))
        await self._writer.drain()

    async def _ask(self, packet: Callable[[int], bytes]) -> Sequence[int]:
        async with self._free:
            if self._ended:
                raise ConnectionResetError("the connection to the broker has ended")
            packet_id = self._identifier()
            future: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
            self._waiting[packet_id] = future
            try:
                self._writer.write(packet(packet_id))
                await self._writer.drain()
                return await future
            finally:
                del self._waiting[packet_id]
                future.cancel()

    def _identifier(self) -> int:
        while True:
            self._next_id = self._next_id % 65535 + 1
            if self._next_id not in self._waiting:
                return self._next_id

    async def close(self) -> None:
        """Ends the connection; whoever waits for an answer gets ConnectionError."""
        self._ended = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the connection to the broker has ended"))
        with contextlib.suppress(OSError):
            self._writer.write(requests.disconnect())
        await close_writer(self._writer)
