"""A process in a container that runs already: `crun exec` (or runc), with pipes or on a terminal of ours.

The OCI runtime gives the process its own standard streams; on a terminal it copies between ours and the one in the container, and tells
it the size of ours when a SIGWINCH says that it changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
import tty
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from kubeedge.appengine.runtime import cgroups
from kubeedge.appengine.runtime.base import CHUNK, EXEC_OUTPUT, ExecResult, Output, StartError
from kubeedge.appengine.runtime.programs import Programs

_PENDING = 4  # chunks of one process that wait to be received


class ExecProcess:
    """Streams of one process. Made by start()."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        terminal: Terminal | None,
        kill: Callable[[], None],
        pid_file: Path,
    ) -> None:
        self._process = process
        self._terminal = terminal
        self._kill = kill
        self._pid_file = pid_file
        self._output: asyncio.Queue[Output | None] = asyncio.Queue(_PENDING)
        if terminal is not None:
            self._pumps = [asyncio.create_task(self._pump(terminal.reader, "stdout"), name="terminal of exec")]
        else:
            assert process.stdout is not None and process.stderr is not None
            self._pumps = [
                asyncio.create_task(self._pump(process.stdout, "stdout"), name="stdout of exec"),
                asyncio.create_task(self._pump(process.stderr, "stderr"), name="stderr of exec"),
            ]
        self._open = len(self._pumps)

    async def _pump(self, reader: asyncio.StreamReader, stream: Literal["stdout", "stderr"]) -> None:
        try:
            while data := await _read(reader):
                await self._output.put(Output(stream, data))
        finally:
            self._open -= 1
        if self._open == 0:
            await self._output.put(None)

    async def receive(self) -> Output | None:
        output = await self._output.get()
        if output is None:
            self._output.put_nowait(None)  # for whoever asks again
        return output

    async def send(self, data: bytes) -> None:
        writer = self._terminal.writer if self._terminal is not None else self._process.stdin
        if writer is None or writer.is_closing():
            return
        with contextlib.suppress(OSError):  # it reads no more
            writer.write(data)
            await writer.drain()

    async def end_input(self) -> None:
        if self._terminal is None and self._process.stdin is not None:
            self._process.stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal is not None and self._process.returncode is None:
            self._terminal.resize(rows, columns)
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGWINCH)

    async def wait(self) -> int | None:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        if self._process.returncode is None:
            self._kill()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._terminal is not None:
            self._terminal.close()
        await self._process.wait()
        self._pid_file.unlink(missing_ok=True)


class Terminal:
    """Our end of a pseudo-terminal; the other end belongs to the OCI runtime."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fd: int) -> None:
        self.reader, self.writer = reader, writer
        self._fd = fd

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))

    def close(self) -> None:
        self.writer.close()
        self.reader.feed_eof()


async def open_terminal() -> tuple[Terminal, int]:
    """And the file descriptor of its other end, for a process."""
    ours, theirs = os.openpty()
    try:
        tty.setraw(theirs)  # the one in the container echoes
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(CHUNK, loop=loop)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(ours), "rb", 0))
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(ours, "wb", 0)
        )
    except BaseException:
        os.close(theirs)
        raise
    return Terminal(reader, asyncio.StreamWriter(transport, protocol, None, loop), ours), theirs


async def _read(reader: asyncio.StreamReader) -> bytes:
    """b"" at the end. A terminal ends with EIO."""
    try:
        return await reader.read(CHUNK)
    except OSError:
        return b""


class Execs:
    """Runs processes in containers. A run's control group says which processes are its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory  # of pid files; short-lived

    async def start(
        self, programs: Programs, id: str, group: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> ExecProcess:
        """Raises StartError."""
        pid_file = self._pid_file()
        terminal, theirs = await open_terminal() if tty else (None, None)
        piped = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *programs.runtime_command(
                    "exec", "--pid-file", str(pid_file), *(["--tty"] if tty else []), id, *command
                ),
                stdin=theirs if theirs is not None else piped if stdin else asyncio.subprocess.DEVNULL,
                stdout=theirs if theirs is not None else piped,
                stderr=theirs if theirs is not None else piped,
                limit=CHUNK,
                start_new_session=True,
            )
        except OSError as exc:
            if terminal is not None:
                terminal.close()
            raise StartError("RunContainerError", f"cannot run {programs.runtime}: {exc}") from exc
        finally:
            if theirs is not None:
                os.close(theirs)
        return ExecProcess(process, terminal, lambda: _kill(pid_file, group), pid_file)

    async def run(self, programs: Programs, id: str, group: str, command: Sequence[str], timeout: float) -> ExecResult:
        """To its end, or to that of the timeout."""
        pid_file = self._pid_file()
        process = await asyncio.create_subprocess_exec(
            *programs.runtime_command("exec", "--pid-file", str(pid_file), id, *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                output = await process.stdout.read(EXEC_OUTPUT)
                while await process.stdout.read(EXEC_OUTPUT):
                    pass
                code = await process.wait()
        except TimeoutError:
            return ExecResult(124, f"no answer within {timeout:g} s".encode())
        finally:
            if process.returncode is None:
                _kill(pid_file, group)
                process.kill()
                await process.wait()
            pid_file.unlink(missing_ok=True)
        return ExecResult(code, output)

    def _pid_file(self) -> Path:
        return self._directory / f"exec-{uuid.uuid4().hex}"


def _kill(pid_file: Path, group: str) -> None:
    """The process in the container: the runtime that started it would leave it behind."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        fd = os.pidfd_open(pid)
        try:
            if pid in cgroups.processes(group):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
