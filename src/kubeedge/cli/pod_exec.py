"""`kubeedge exec`: a command in a container of this node, with its streams and its exit status, as by `kubectl exec`.

It speaks v5.channel.k8s.io over a WebSocket to the agent's control socket: a byte before each message says which stream it is of.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Iterator
from typing import Any, BinaryIO

from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from kubeedge.cli import local_kubelet
from kubeedge.cli.control import failing, said_of
from kubeedge.cli.errors import CommandError, UsageError

_STDIN, _STDOUT, _STDERR, _STATUS, _SIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_PROTOCOL: Any = "v5.channel.k8s.io"
_CHUNK = 32 * 1024


def run(options: argparse.Namespace) -> int:
    """The command's exit status. Raises CommandError, UsageError."""
    if not options.words:
        raise UsageError("no command: kubeedge exec POD -- COMMAND")
    pod = local_kubelet.pod(options)
    container = local_kubelet.container(pod, options.container)
    has_terminal = options.tty and options.stdin and sys.stdin.isatty()
    if options.tty and not has_terminal:
        print("Unable to use a TTY - input is not a terminal or -i is missing", file=sys.stderr)
    query = [("output", "1"), *([("tty", "1")] if options.tty else [("error", "1")])]
    query += [("input", "1")] if options.stdin else []
    query += [("command", word) for word in options.words]
    target = local_kubelet.target("exec", pod, container, query)
    return asyncio.run(_converse(options.socket, target, stdin=options.stdin, terminal=has_terminal))


async def _converse(socket: str, target: str, *, stdin: bool, terminal: bool) -> int:
    async with _connected(socket, target) as connection:
        with _raw_terminal() if terminal else contextlib.nullcontext():
            if stdin:
                loop = asyncio.get_running_loop()
                threading.Thread(target=_send_input, args=(connection, loop), daemon=True).start()
            with _sizes(connection) if terminal else contextlib.nullcontext():
                return await _receive(connection)


@contextlib.asynccontextmanager
async def _connected(socket: str, target: str) -> AsyncIterator[ClientConnection]:
    with failing(socket, "the agent", "start it with `kubeedge edge`"):
        try:
            connection = await unix_connect(
                socket, f"ws://localhost{target}", subprotocols=[_PROTOCOL], compression=None, ping_interval=None
            )
        except InvalidStatus as exc:
            raise CommandError(said_of(bytes(exc.response.body or b""), exc.response.reason_phrase)) from exc
        except WebSocketException as exc:
            raise CommandError(f"the agent does not answer on {socket}: {exc}") from exc
    try:
        yield connection
    finally:
        await connection.close()


async def _receive(connection: ClientConnection) -> int:
    """Until it has ended. What we cannot write yet is waited for in a thread: input goes on meanwhile."""
    outputs: dict[int, BinaryIO] = {_STDOUT: sys.stdout.buffer, _STDERR: sys.stderr.buffer}
    while True:
        try:
            message = await connection.recv()
        except ConnectionClosed as exc:
            raise CommandError("the connection to the agent broke off") from exc
        data = message.encode() if isinstance(message, str) else message
        if data[:1] == bytes([_STATUS]):
            return _exit_status(data[1:])
        if data and (out := outputs.get(data[0])) is not None:
            await asyncio.to_thread(_write, out, data[1:])


def _write(out: BinaryIO, data: bytes) -> None:
    out.write(data)
    out.flush()


def _exit_status(said: bytes) -> int:
    """Of a Status (meta/v1). Raises CommandError for a command that was not started, or cut off."""
    status = json.loads(said)
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
    if not codes:
        raise CommandError(str(status.get("message") or "the command was not started"))
    print(f"command terminated with exit code {codes[0]}", file=sys.stderr)
    return int(codes[0])


def _send_input(connection: ClientConnection, loop: asyncio.AbstractEventLoop) -> None:
    """In a thread: a terminal or a pipe may say nothing for ever. No more is read than the command takes."""

    def send(message: bytes) -> None:
        asyncio.run_coroutine_threadsafe(connection.send(message), loop).result()

    with contextlib.suppress(OSError, RuntimeError, ConnectionClosed, asyncio.CancelledError):
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            send(bytes([_STDIN]) + data)
        send(bytes([_CLOSE, _STDIN]))


@contextlib.contextmanager
def _sizes(connection: ClientConnection) -> Iterator[None]:
    """Now, and whenever the window changes."""
    loop, sending = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def send() -> None:
        size = os.get_terminal_size(sys.stdin.fileno())
        message = json.dumps({"Width": size.columns, "Height": size.lines})
        with contextlib.suppress(ConnectionClosed):
            await connection.send(bytes([_SIZE]) + message.encode())

    def changed() -> None:
        task = loop.create_task(send())
        sending.add(task)
        task.add_done_callback(sending.discard)

    changed()
    loop.add_signal_handler(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Keys go to the other side as they are; ours is as it was afterwards."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
