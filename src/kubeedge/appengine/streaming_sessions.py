"""exec, attach and port-forward of the kubelet's API: a client's streams joined to a process, a container, or ports of a pod.

Lives elsewhere: the protocols (kubeedge.streaming); paths (server.py); processes (runtime).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from kubeedge.appengine.module import AppEngine
from kubeedge.appengine.runtime.base import Streams
from kubeedge.errors import Invalid, KubeEdgeError, NotFound, PeerError, Refused
from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.kit.http1 import Request, Response, Upgrade
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.streaming import negotiation
from kubeedge.streaming.byte_stream import HELD, IDLE, ByteStream, SocketStream
from kubeedge.streaming.command import (
    Command,
    CommandOptions,
    SpdyCommand,
    until_hung_up,
)
from kubeedge.streaming.negotiation import Choice
from kubeedge.streaming.ports import Dial
from kubeedge.streaming.refusal import refused
from kubeedge.streaming.status import exited, failed, success

log = logging.getLogger("kubeedge.appengine.streaming_sessions")

SESSIONS = 64  # of this node at the same time
_STREAMS = 30.0  # seconds for a client to open its streams: the kubelet's streamCreationTimeout
_COMMAND_BYTES = 64 * 1024  # of all arguments; the head of a request has room for half of it
#: seconds in which a client of attach takes nothing; conmon waits for whoever is attached, and the container for conmon
_ATTACHED = 10.0
_QUIET = (
    1.0  # seconds without output after the process has ended: children that have its streams may say nothing for ever
)

StartStreams = Callable[[], Awaitable[Streams]]


class StreamingSessions:
    """Those of one node. `attached`: seconds for which a client of attach may hold a container up."""

    def __init__(self, engine: AppEngine, *, attached: float = _ATTACHED, idle: float = IDLE) -> None:
        self._engine = engine
        self._attached, self._idle = attached, idle
        self._open = 0
        self._held = HeldBytes(HELD)

    async def exec(self, request: Request, namespace: str, pod: str, container: str) -> Response | Upgrade:
        """Join the client to the streams of a running container. Raises Invalid, NotFound, Refused."""
        options, command = _options(request), request.query.get("command", [])
        if not command:
            raise Invalid("you must specify at least one command for the container")
        if sum(map(len, command)) > _COMMAND_BYTES or any("\0" in word for word in command):
            raise Invalid("a command that is too long, or that has a zero byte")
        id = self._engine.running(namespace, pod, container)
        runtime = self._engine.runtime

        async def start() -> Streams:
            return await runtime.exec(id, command, stdin=options.stdin, tty=options.tty)

        return self._command(request, options, start, timeout=None)

    async def attach(self, request: Request, namespace: str, pod: str, container: str) -> Response | Upgrade:
        """The answer to an attach request. Raises Invalid, NotFound or Refused."""
        options = _options(request)
        id = self._engine.running(namespace, pod, container)

        async def start() -> Streams:
            return await self._engine.runtime.attach(id, stdin=options.stdin)

        return self._command(request, options, start, timeout=self._attached)

    async def forward(self, request: Request, namespace: str, pod: str) -> Response | Upgrade:
        """Join the client to ports of the pod. Raises Invalid, NotFound, Refused."""
        uid = self._engine.uid_of(namespace, pod)
        choice = negotiation.negotiate(request, negotiation.FORWARD_SPDY, negotiation.FORWARD_WEBSOCKET)

        async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await self._engine.runtime.port_forward(uid, port)

        if choice.websocket and choice.protocol in negotiation.FORWARD_CHANNELS:
            return self._upgrade(choice, _channel_forwarding(request, dial, self._held))

        async def serve(connection: SocketStream) -> None:
            from kubeedge.streaming.forward import Forwarder

            await Forwarder(_byte_stream(choice, connection, self._held), dial).run()

        return self._upgrade(choice, serve)

    def _command(
        self, request: Request, options: CommandOptions, start: StartStreams, *, timeout: float | None
    ) -> Response | Upgrade:
        choice = negotiation.negotiate(request, negotiation.COMMAND_SPDY, negotiation.COMMAND_WEBSOCKET)

        async def serve(connection: SocketStream) -> None:
            await converse(_client(choice, connection, options, self._held), start, timeout=timeout)

        return self._upgrade(choice, serve)

    def _upgrade(self, choice: Choice, serve: Callable[[SocketStream], Awaitable[None]]) -> Response | Upgrade:
        if self._open >= SESSIONS:
            return refused(429, f"{SESSIONS} streaming sessions are open on this node: close some of them")

        async def takeover(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
            connection = SocketStream(reader, writer, first, idle=self._idle)
            self._open += 1
            try:
                async with connection.watched():
                    await serve(connection)
            except (OSError, PeerError) as exc:
                log.info("a streaming session broke off: %s", exc)
            finally:
                self._open -= 1
                self._held.release(connection)

        return Upgrade(choice.headers, takeover)


async def converse(command: Command, start: StartStreams, *, timeout: float | None) -> None:
    """One client and one process, until either is gone. `timeout`: seconds in which the client may take nothing of the output, and exit
    statuses are not told (attach); None: as long as it likes. Raises OSError, PeerError."""
    reading = asyncio.create_task(command.run(), name="client of a streaming session")
    try:
        if not await _is_ready(command, reading):
            return
        try:
            streams = await start()
        except KubeEdgeError as exc:
            status = failed(str(exc))
        else:
            try:
                conversation = _Conversation(command, streams, timeout)
                if not await conversation.run(reading):
                    return
                code = await streams.wait() if timeout is None else None
            finally:
                await streams.close()
            status = success() if timeout is not None else exited(code if code is not None else 137)
        await command.finish(status)
        await until_hung_up(command, reading)
    finally:
        await cancel_and_wait(reading)


async def _is_ready(command: Command, reading: asyncio.Task[None]) -> bool:
    opening = asyncio.create_task(command.ready(), name="streams of a client")
    try:
        await asyncio.wait((opening, reading), timeout=_STREAMS, return_when=asyncio.FIRST_COMPLETED)
        return opening.done() and not reading.done()
    finally:
        await cancel_and_wait(opening)


class _Conversation:
    """Copies bytes between a client's streams and those of a container."""

    def __init__(self, command: Command, streams: Streams, timeout: float | None) -> None:
        self._command, self._streams, self._timeout = command, streams, timeout
        self._pieces = 0  # of output that the client has taken
        self._sending = False

    async def run(self, reading: asyncio.Task[None]) -> bool:
        """Whether the process is the one that has ended; else the client is gone. Raises OSError, TimeoutError."""
        copying = [
            asyncio.create_task(self._input(), name="input of a session"),
            asyncio.create_task(self._sizes(), name="sizes of a session"),
        ]
        output = asyncio.create_task(self._output(), name="output of a session")
        ended = asyncio.create_task(self._end(output), name="end of a session")
        try:
            await asyncio.wait((ended, reading), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
                return True
            return False
        finally:
            await cancel_and_wait(ended, output, *copying)

    async def _end(self, output: asyncio.Task[None]) -> None:
        """Of the output; after that of the process only what comes without a pause is waited for."""
        exiting = asyncio.create_task(self._streams.wait(), name="exit of a session")
        try:
            await asyncio.wait((output, exiting), return_when=asyncio.FIRST_COMPLETED)
            while not output.done():
                before = self._pieces
                await asyncio.wait((output,), timeout=_QUIET)
                if not self._sending and self._pieces == before:
                    break
            if output.done():
                output.result()
        finally:
            await cancel_and_wait(exiting)

    async def _output(self) -> None:
        while (piece := await self._streams.receive()) is not None:
            self._sending = True
            async with asyncio.timeout(self._timeout):
                await self._command.output(piece.stream, piece.data)
            self._sending = False
            self._pieces += 1

    async def _input(self) -> None:
        while data := await self._command.input():
            await self._streams.send(data)
        await self._streams.end_input()

    async def _sizes(self) -> None:
        while (size := await self._command.size()) is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._streams.resize(*size)


def _client(choice: Choice, connection: SocketStream, options: CommandOptions, held: HeldBytes) -> Command:
    if choice.websocket:
        from kubeedge.streaming.channels import ChannelCommand

        return ChannelCommand(connection, choice.protocol, options, held)
    return SpdyCommand(connection, choice.protocol, options)


def _channel_forwarding(request: Request, dial: Dial, held: HeldBytes) -> Callable[[SocketStream], Awaitable[None]]:
    """Raises Invalid, before the upgrade, for ports that are none."""
    from kubeedge.streaming.port_channels import ChannelForwarder, requested_ports

    ports = requested_ports(request.query.get("port", []))

    async def serve(connection: SocketStream) -> None:
        await ChannelForwarder(connection, ports, dial, held).run()

    return serve


def _byte_stream(choice: Choice, connection: SocketStream, held: HeldBytes) -> ByteStream:
    if choice.websocket:
        from kubeedge.streaming.websocket import Tunnel

        return Tunnel(connection, held)
    return connection


def _options(request: Request) -> CommandOptions:
    """The API server's words, and those of PodExecOptions. Raises Invalid."""
    query = request.query

    def flag(*names: str) -> bool:
        return any(query.get(name, [""])[-1] in ("1", "true") for name in names)

    options = CommandOptions(
        stdin=flag("input", "stdin"),
        stdout=flag("output", "stdout"),
        stderr=flag("error", "stderr"),
        tty=flag("tty"),
    )
    if options.tty and options.stderr:
        options = CommandOptions(stdin=options.stdin, stdout=options.stdout, tty=True)  # all comes as stdout
    if not (options.stdin or options.stdout or options.stderr):
        raise Invalid("you must specify at least 1 of stdin, stdout, stderr")
    return options


def answer_to(exc: KubeEdgeError) -> Response:
    """To a request that is not upgraded."""
    status = 404 if isinstance(exc, NotFound) else 403 if isinstance(exc, Refused) else 400
    return refused(status, str(exc))
