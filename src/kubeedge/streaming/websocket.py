"""A WebSocket of a client (RFC 6455): the handshake's answer, then messages. The frames are the `websockets` library's."""

from __future__ import annotations

from collections import deque

from websockets.exceptions import WebSocketException
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.utils import accept_key

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.kit.http1 import Request
from kubeedge.streaming.byte_stream import HELD, SocketStream

MESSAGE_BYTES = 1024 * 1024  # of one message, in however many frames


def offered(request: Request) -> list[str]:
    """The protocols that the client names, its favourite first. Raises Invalid for what is no handshake."""
    if (
        request.method != "GET"
        or not request.header("sec-websocket-key")
        or request.header("sec-websocket-version") != "13"
    ):
        raise Invalid("not the handshake of a WebSocket of version 13 (RFC 6455)")
    values = [value for name, value in request.headers if name == "sec-websocket-protocol"]
    return [name.strip() for value in values for name in value.split(",")]


def accept(request: Request, protocol: str) -> list[tuple[str, str]]:
    """The headers of the 101. `protocol`: "" when the client offers none."""
    return [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", accept_key(request.header("sec-websocket-key") or "")),
        *([("sec-websocket-protocol", protocol)] if protocol else []),
    ]


class WebSocket:
    """Messages in both directions, after the handshake."""

    def __init__(self, connection: SocketStream, held: HeldBytes | None = None) -> None:
        self._connection = connection
        self._held = held or HeldBytes(HELD)
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=MESSAGE_BYTES)
        self._messages: deque[bytes] = deque()
        self._message = bytearray()  # as far as it has come; a list would grow by fragments that are empty

    async def receive(self) -> bytes | None:
        """The next message, text as UTF-8; None at the end. Raises OSError, PeerError."""
        while not self._messages:
            if self._protocol.close_rcvd is not None:
                return None
            data = await self._connection.read()
            if not data:
                return None
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._take(event)
            unfinished = len(self._protocol.reader.buffer) + len(self._message)
            self._held.hold(self._connection, "message", unfinished)
            await self._flush()  # a pong, or a close
            if (broken := self._protocol.parser_exc) is not None and not self._messages:
                if isinstance(broken, WebSocketException | UnicodeDecodeError):
                    raise PeerError(f"not a WebSocket's frame: {broken}") from broken
                return None
        return self._messages.popleft()

    async def send(self, data: bytes) -> None:
        """Send one binary message; waits while the client does not read. Raises OSError."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(data)
        await self._flush()

    async def end(self, code: int = CloseCode.NORMAL_CLOSURE) -> None:
        """Says that we are done. Raises OSError."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
        await self._flush()

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._connection.write(data)
        await self._connection.drain()

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._message += frame.data
            if frame.fin:
                self._messages.append(bytes(self._message))
                self._message.clear()


class Tunnel:
    """A ByteStream in the binary messages of a WebSocket: SPDY in it is what port-forward of today's kubectl speaks."""

    def __init__(self, connection: SocketStream, held: HeldBytes | None = None) -> None:
        self._connection = connection
        self._socket = WebSocket(connection, held)
        self._out = bytearray()

    async def read(self) -> bytes:
        while (message := await self._socket.receive()) is not None:
            if message:
                return message
        return b""

    def write(self, data: bytes) -> None:
        self._out += data

    async def drain(self) -> None:
        data = bytes(self._out)
        self._out.clear()
        if data:
            await self._socket.send(data)
        else:
            await self._connection.drain()

    async def lost(self) -> None:
        await self._connection.lost()

    async def close(self) -> None:
        await self._socket.end()
        await self._connection.close()

    def abort(self) -> None:
        self._connection.abort()
