"""A connection to an OPC-UA server with its secure channel: requests go out, answers come to whoever waits for them; its token is renewed in time."""

from __future__ import annotations

import asyncio
import contextlib
import os

from kubeedge.errors import KubeEdgeError, PeerError
from kubeedge.kit.streams import abort_writer
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper.opcua import channel, messages, security
from kubeedge.mapper.opcua.binary import NodeId, OpcuaDecoder
from kubeedge.mapper.opcua.channel import ChannelMessage, SecureChannel
from kubeedge.mapper.opcua.security import AsymmetricSuite, NoSuite, SealingSuite, SymmetricKeys, SymmetricSuite

_LIFETIME = 3600.0  # seconds of a token that we ask for
_EARLY = 0.75  # of it, after which it is renewed


class OpcuaConnection:
    """`suite`: None for a channel without security. `timeout`: seconds for an answer."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        suite: AsymmetricSuite | None,
        *,
        sign_only: bool,
        timeout: float,
        largest: int,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._suite = suite
        self._mode = 1 if suite is None else security.SIGN if sign_only else security.SIGN_AND_ENCRYPT
        self.timeout = timeout
        policy = security.NONE if suite is None else security.BASIC256SHA256
        own, thumbprint = (None, None) if suite is None else (suite.own.certificate, suite.server.thumbprint)
        self._channel = SecureChannel(suite or NoSuite(), policy, own, thumbprint, largest)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._request = 0
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    async def open(
        host: str, port: int, url: str, suite: AsymmetricSuite | None, *, sign_only: bool, timeout: float
    ) -> OpcuaConnection:
        """Raises OSError, TimeoutError included, EOFError, PeerError, and Invalid when the server does not do this."""
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, limit=channel.MAX_CHUNK)
        try:
            async with asyncio.timeout(timeout):
                writer.write(channel.hello(url))
                await writer.drain()
                header = await reader.readexactly(channel.HEADER)
                largest = channel.acknowledged(header, await reader.readexactly(channel.size_of(header)))
            made = OpcuaConnection(reader, writer, suite, sign_only=sign_only, timeout=timeout, largest=largest)
            made._task = asyncio.create_task(made._read(), name="answers of an OPC-UA server")
        except BaseException:
            abort_writer(writer)
            raise
        try:
            await made._open()
        except BaseException:
            await made.aclose()
            raise
        return made

    async def _open(self) -> None:
        """Opens the channel, or renews its token."""
        nonce = b"" if self._suite is None else os.urandom(security.NONCE)
        body = messages.open_channel(bool(self._channel.id), self._mode, nonce, _LIFETIME)
        decoder = await self._ask(messages.OPEN_CHANNEL, messages.NULL, body, self.timeout, opens=True)
        number, token, lifetime, theirs = messages.opened_channel(decoder)
        suite: SealingSuite = NoSuite()
        if self._suite is not None:
            if len(theirs) != security.NONCE:
                raise PeerError("the server gives no nonce for the channel's keys")
            ours = SymmetricKeys.derived(theirs, nonce)
            suite = SymmetricSuite(
                ours, SymmetricKeys.derived(nonce, theirs), encrypt=self._mode == security.SIGN_AND_ENCRYPT
            )
        self._channel.use(number, token, suite)
        self._renew_at = asyncio.get_running_loop().time() + max(lifetime, 10.0) * _EARLY

    async def call(
        self, kind: tuple[int, int], token: NodeId, body: bytes, *, timeout: float | None = None
    ) -> OpcuaDecoder:
        """What follows the header of the answer. Raises Invalid for a refusal, OSError (TimeoutError included), EOFError or PeerError when the
        connection is of no use any more."""
        if asyncio.get_running_loop().time() >= self._renew_at:
            async with self._renewing:
                if asyncio.get_running_loop().time() >= self._renew_at:
                    await self._open()
        return await self._ask(kind, token, body, self.timeout if timeout is None else timeout)

    async def _ask(
        self, kind: tuple[int, int], token: NodeId, body: bytes, timeout: float, *, opens: bool = False
    ) -> OpcuaDecoder:
        if self._error is not None:
            raise self._error
        self._request = self._request % 0x7FFF_FFFF + 1
        number = self._request
        message = messages.request(kind[0], token, number, timeout, body)
        chunks = self._channel.open_request(number, message) if opens else self._channel.message(number, message)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(chunks)
                await self._writer.drain()
                answer = await future
        finally:
            self._waiting.pop(number, None)
        return messages.answer(answer, kind[1])

    async def _read(self) -> None:
        error: Exception = EOFError("the server has closed the connection")
        try:
            while True:
                header = await self._reader.readexactly(channel.HEADER)
                rest = await self._reader.readexactly(channel.size_of(header))
                if (message := self._channel.received(header, rest)) is not None:
                    self._answered(message)
        except (OSError, PeerError) as exc:
            error = exc
        except asyncio.IncompleteReadError:
            pass
        finally:
            self._error = error
            abort_writer(self._writer)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # whoever waited may be gone

    def _answered(self, message: ChannelMessage) -> None:
        """An answer that comes too late is nobody's."""
        future = self._waiting.get(message.request)
        if future is not None and not future.done():
            future.set_result(message.body)

    async def aclose(self) -> None:
        """Ends the connection; the server is told as far as it still listens."""
        if self._error is None and self._channel.id:
            with contextlib.suppress(OSError, KubeEdgeError, KeyError):
                body = messages.request(messages.CLOSE_CHANNEL[0], messages.NULL, 0, 0.0, b"")
                self._writer.write(self._channel.message(self._request + 1, body, b"CLO"))
        if self._task is not None:
            await cancel_and_wait(self._task)
        abort_writer(self._writer)
