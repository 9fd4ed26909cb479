"""Launches conmon, which launches the OCI runtime and stays with the container: its output, its exit status.

conmon is told where to report by two inherited pipes: it waits for a byte on one, and writes one line of JSON to the other,
{"pid": N}, or a negative number and a message. It goes on when the agent ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.runtime.programs import Programs

#: seconds for one step of the OCI runtime, the kubelet's runtimeRequestTimeout: a loaded machine whose programs come from a cold card takes a
#: minute, and one that was given up half-way begins again from nothing
TIMEOUT = 120.0


def create_and_start(
    programs: Programs,
    *,
    id: str,
    bundle: Path,
    exit_dir: Path,
    socket_dir: Path,
    log_path: Path,
    tty: bool,
    stdin: bool,
    stdin_once: bool = False,
) -> int:
    """Blocking; the container's process id. Raises StartError with the runtime's message."""
    sync_read, sync_write = os.pipe()
    start_read, start_write = os.pipe()
    command = [
        programs.conmon,
        "--api-version", "1",
        "-c", id, "-u", id, "-n", id,
        "-r", programs.runtime,
        "-b", str(bundle),
        "-0", str(bundle),
        "-p", str(bundle / "pidfile"),
        "-P", str(bundle / "conmon.pid"),
        "--exit-dir", str(exit_dir),
        "--socket-dir-path", str(socket_dir),
        "-l", f"k8s-file:{log_path}",
        "--log-level", "error",
        f"--runtime-arg=--root={programs.state}",
        *(["-t"] if tty else []),
        *(["-i"] if stdin else []),
        *(["--leave-stdin-open"] if stdin and not tty and not stdin_once else []),  # for the next one who attaches
    ]  # fmt: skip
    process: subprocess.Popen[bytes] | None = None
    try:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(sync_write, start_read),
                cwd=bundle,  # it leaves a file "oom" where it runs
                env={
                    "_OCI_SYNCPIPE": str(sync_write),
                    "_OCI_STARTPIPE": str(start_read),
                    "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                },
                start_new_session=True,
            )
        except OSError as exc:
            raise StartError("CreateContainerError", f"cannot run {programs.conmon}: {exc}") from exc
        finally:
            os.close(sync_write)
            os.close(start_read)
        with contextlib.suppress(BrokenPipeError):  # it has ended already, and has reported why
            os.write(start_write, b"1")
        assert process.stderr is not None
        with process.stderr:
            answer = _read_line(sync_read)
            errors = b"" if answer else process.stderr.read(4096)
        process.wait(timeout=TIMEOUT)  # it leaves a child behind and ends
    except subprocess.TimeoutExpired as exc:
        raise StartError("CreateContainerError", "conmon does not detach") from exc
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        os.close(sync_read)
        os.close(start_write)
    pid = _pid(answer, errors)
    try:
        done = run(programs, ["start", id])
        problem = (_last_line(done.stderr) or f"{programs.runtime} start failed") if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as exc:
        problem = str(exc)
    if problem:
        run(programs, ["delete", "--force", id])
        raise StartError("RunContainerError", problem)
    return pid


def _read_line(fd: int) -> bytes:
    """Read one line from a pipe, with TIMEOUT seconds for each piece. Blocking."""
    line = b""
    while not line.endswith(b"\n") and len(line) < 65536:
        ready, _, _ = select.select([fd], [], [], TIMEOUT)
        if not ready:
            raise StartError("CreateContainerError", f"no answer from conmon within {TIMEOUT:g} s")
        data = os.read(fd, 4096)
        if not data:
            break
        line += data
    return line


def _pid(answer: bytes, errors: bytes) -> int:
    try:
        report = json.loads(answer)
        pid = report.get("pid", report.get("data", -1))
        message = str(report.get("message", ""))
    except (ValueError, AttributeError):
        pid, message = -1, errors.decode(errors="replace")
    if not isinstance(pid, int) or pid <= 0:
        raise StartError("CreateContainerError", _last_line(message) or "conmon gave no process id")
    return pid


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def run(
    programs: Programs, arguments: Sequence[str], timeout: float = TIMEOUT, *, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """The OCI runtime itself, with `text` on its standard input. Blocking; never raises for a status."""
    command = programs.runtime_command(*arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, input=text)
