"""A process in a container that runs already: `crun exec` (or runc), with pipes or on a terminal of ours.

The OCI runtime gives the process its own standard streams. On a terminal it copies between ours and the one in the container, whose size
is ours at the start; later on we set it where the process has it, for crun does not.

User, groups, capabilities and environment are those of the container, and are said in full (`--process`): by itself crun takes root.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import struct
import termios
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from kubeedge._fastpath import libc
from kubeedge.appengine.runtime import cgroups
from kubeedge.appengine.runtime.base import CHUNK, EXEC_OUTPUT, ExecResult, Output, StartError
from kubeedge.appengine.runtime.programs import Programs

_PENDING = 4  # chunks of one process that wait to be received
_LOOK_EVERY, _LOOKS = (
    0.01,
    6000,
)  # seconds between looks for a process that the OCI runtime is starting, and how many: a minute


class Ends:
    """Our ends of a process's standard streams, and the file descriptors of its own, which are for starting it alone."""

    def __init__(self) -> None:
        self.readers: list[tuple[Literal["stdout", "stderr"], asyncio.StreamReader]] = []
        self.writer: asyncio.StreamWriter | None = None
        self.terminal: int | None = None
        self.theirs: list[int] = []  # stdin, stdout, stderr
        self._transports: list[asyncio.BaseTransport] = []

    async def open_pipes(self, *, stdin: bool) -> None:
        """Open one pipe for each stream. Without `stdin` the process reads from /dev/null."""
        if stdin:
            theirs, ours = os.pipe()
            self.theirs.append(theirs)
            await self._write_to(ours)
        else:
            self.theirs.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for stream in ("stdout", "stderr"):
            ours, theirs = os.pipe()
            self.theirs.append(theirs)
            await self._read_from(ours, "stdout" if stream == "stdout" else "stderr")

    async def open_terminal(self) -> None:
        """One pseudo-terminal for all three streams, in raw mode (pty(7)); what it shows comes as "stdout"."""
        self.terminal, theirs = os.openpty()
        self.theirs += [theirs, os.dup(theirs), os.dup(theirs)]
        tty.setraw(theirs)  # the one in the container echoes
        await self._write_to(self.terminal)
        await self._read_from(os.dup(self.terminal), "stdout")

    async def _read_from(self, fd: int, stream: Literal["stdout", "stderr"]) -> None:
        reader = asyncio.StreamReader(CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(fd, "rb", 0))
        self._transports.append(transport)
        self.readers.append((stream, reader))

    async def _write_to(self, fd: int) -> None:
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(fd, "wb", 0))
        self._transports.append(transport)
        self.writer = asyncio.StreamWriter(transport, protocol, None, loop)

    def close_theirs(self) -> None:
        """Once the process has inherited them: only then our ends see the end of file."""
        while self.theirs:
            os.close(self.theirs.pop())

    def close(self) -> None:
        """Everything of ours. Input that the process has not read is dropped."""
        self.close_theirs()
        if self.writer is not None and self.writer.transport.get_write_buffer_size():
            self.writer.transport.abort()  # input that it has not read is dropped
        for transport in self._transports:
            transport.close()
        self.terminal = None


class ExecProcess:
    """The streams of one process that was started with exec."""

    def __init__(
        self, process: asyncio.subprocess.Process, ends: Ends, pid_file: Path, description: Path, group: str
    ) -> None:
        self._process = process
        self._ends = ends
        self._pid_file = pid_file
        self._description = description
        self._group = group
        self._output: asyncio.Queue[Output | None] = asyncio.Queue(_PENDING)
        self._open = len(ends.readers)
        self._size = b""  # struct winsize, once it was set
        self._has_written = False
        self._pumps = [
            asyncio.create_task(self._pump(reader, stream), name=f"{stream} of exec") for stream, reader in ends.readers
        ]

    async def _pump(self, reader: asyncio.StreamReader, stream: Literal["stdout", "stderr"]) -> None:
        while data := await _read(reader):
            if self._size and not self._has_written:
                await self._apply_first_size()
            self._has_written = True
            await self._output.put(Output(stream, data))
        self._open -= 1
        if self._open == 0:
            await self._output.put(None)

    async def receive(self) -> Output | None:
        output = await self._output.get()
        if output is None:
            self._output.put_nowait(None)  # for the next call
        return output

    async def send(self, data: bytes) -> None:
        writer = self._ends.writer
        if writer is None or writer.is_closing():
            return
        with contextlib.suppress(OSError):  # it reads no more
            writer.write(data)
            await writer.drain()

    async def end_input(self) -> None:
        if self._ends.terminal is None and self._ends.writer is not None:
            self._ends.writer.close()

    def resize(self, rows: int, columns: int) -> None:
        if self._ends.terminal is not None and self._process.returncode is None:
            self._size = struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0)
            fcntl.ioctl(self._ends.terminal, termios.TIOCSWINSZ, self._size)
            self._apply_size()

    def _apply_size(self) -> bool:
        """To the terminal in the container. False: the process is not there (yet)."""
        with contextlib.suppress(OSError), _process_of(self._pid_file, self._group) as pidfd:
            terminal = libc.pidfd_getfd(pidfd, 0)
            try:
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, self._size)
            finally:
                os.close(terminal)
            return True
        return False

    async def _apply_first_size(self) -> None:
        """What the process writes first shows that it is there; runc says its number a moment later. Whoever sees the output finds the
        terminal to be as large as it was asked to be."""
        for _ in range(_LOOKS):
            if self._apply_size() or self._process.returncode is not None:
                return
            await asyncio.sleep(_LOOK_EVERY)

    async def wait(self) -> int | None:
        code = await self._process.wait()
        self._description.unlink(missing_ok=True)
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        await _end(self._process, self._pid_file, self._group)
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._ends.close()
        await self._process.wait()
        self._pid_file.unlink(missing_ok=True)
        self._description.unlink(missing_ok=True)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """b"" at the end. A terminal ends with EIO."""
    try:
        return await reader.read(CHUNK)
    except OSError:
        return b""


class Execs:
    """Runs processes in containers. A run's control group says which processes are its own."""

    def __init__(self, directory: Path, specs: Path) -> None:
        self._directory = directory  # of pid files; short-lived
        self._specs = specs  # what containers were started with, by id; in memory and for root alone

    async def start(
        self, programs: Programs, id: str, group: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> ExecProcess:
        """Start the process in its container. Raises StartError."""
        pid_file, ends = self._pid_file(), Ends()
        description, arguments = self._describe(id, command, tty=tty)
        options = ["--pid-file", str(pid_file), *(["--tty"] if tty else [])]
        try:
            await (ends.open_terminal() if tty else ends.open_pipes(stdin=stdin))
            process = await asyncio.create_subprocess_exec(
                *programs.runtime_command("exec", *options, *arguments),
                stdin=ends.theirs[0],
                stdout=ends.theirs[1],
                stderr=ends.theirs[2],
                start_new_session=True,
            )
        except BaseException as exc:
            ends.close()
            description.unlink(missing_ok=True)
            if isinstance(exc, OSError):
                raise StartError("RunContainerError", f"cannot run {programs.runtime}: {exc}") from exc
            raise
        ends.close_theirs()
        return ExecProcess(process, ends, pid_file, description, group)

    async def run(self, programs: Programs, id: str, group: str, command: Sequence[str], timeout: float) -> ExecResult:
        """Run a command in a container to its end. After `timeout` seconds it is killed, and the exit code is 124; of its output the first
        EXEC_OUTPUT bytes are kept."""
        pid_file = self._pid_file()
        description, arguments = self._describe(id, command, tty=False)
        try:
            process = await asyncio.create_subprocess_exec(
                *programs.runtime_command("exec", "--pid-file", str(pid_file), *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except BaseException:
            description.unlink(missing_ok=True)
            raise
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                output = bytearray()  # read() gives what is there already, which may be the first of several lines
                while part := await process.stdout.read(EXEC_OUTPUT):
                    output += part[: EXEC_OUTPUT - len(output)]
                code = await process.wait()
        except TimeoutError:
            return ExecResult(124, f"no answer within {timeout:g} s".encode())
        finally:
            await _end(process, pid_file, group)
            await process.wait()
            pid_file.unlink(missing_ok=True)
            description.unlink(missing_ok=True)
        return ExecResult(code, bytes(output))

    def _describe(self, id: str, command: Sequence[str], *, tty: bool) -> tuple[Path, list[str]]:
        """A file with the process (runtime-spec, config.md) that is to be removed later, and the arguments of `exec` that name it."""
        description = self._specs / f"exec-{secrets.token_hex(16)}"
        try:
            process = json.loads((self._specs / id).read_bytes())["process"]
        except FileNotFoundError:  # the container is on its way out: the OCI runtime says so
            return description, [id, *command]
        process |= {"args": list(command), "terminal": tty}
        fd = os.open(description, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w") as file:
            json.dump(process, file)
        return description, ["--process", str(description), id]

    def sweep(self, groups: str) -> None:
        """Once after the start: processes that an agent which was killed has left behind. `groups`: below which all containers are."""
        for left in self._directory.glob("exec-*"):
            _kill(left, groups)
            left.unlink(missing_ok=True)

    def _pid_file(self) -> Path:
        return self._directory / f"exec-{secrets.token_hex(16)}"


async def _end(process: asyncio.subprocess.Process, pid_file: Path, group: str) -> None:
    """The process in the container, then the OCI runtime that started it, which would leave it behind. That one runs and may have written
    before the runtime (runc) says its number."""
    for _ in range(_LOOKS):
        if process.returncode is not None or _kill(pid_file, group):
            break
        await asyncio.sleep(_LOOK_EVERY)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _kill(pid_file: Path, group: str) -> bool:
    """False: its number is not known yet."""
    try:
        with _process_of(pid_file, group) as pidfd:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it has ended
    return True


@contextlib.contextmanager
def _process_of(pid_file: Path, group: str) -> Iterator[int]:
    """A pidfd. Raises FileNotFoundError when its number is not known yet, another OSError when it is not there any more."""
    try:
        pid = int(pid_file.read_text())
    except ValueError as exc:
        raise FileNotFoundError(f"{pid_file} is not written yet") from exc
    pidfd = os.pidfd_open(pid)
    try:
        if pid not in cgroups.processes(group):
            raise ProcessLookupError(f"process {pid} is not of the container")
        yield pidfd
    finally:
        os.close(pidfd)
