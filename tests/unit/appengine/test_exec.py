"""The streams of exec over a real process, without a container: what they hold is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
from pathlib import Path

import pytest

from kubeedge.appengine.runtime import cgroups
from kubeedge.appengine.runtime.base import CHUNK, EXEC_OUTPUT, StartError
from kubeedge.appengine.runtime.exec import Execs
from kubeedge.appengine.runtime.programs import Programs
from tests.kit.descriptors import descriptors
from tests.kit.topology import until

BOUND = 12 * CHUNK  # bytes: what waits to be received, a reader's buffer, and a pipe of the kernel


#: into the file that the arguments name, as a runtime does it: who ends the process waits a minute for its number otherwise
SAY_NUMBER = 'while [ "$1" != --pid-file ]; do shift; done; echo $$ >"$2"'


def programs(tmp_path: Path, script: str) -> Programs:
    """A runtime that is this script; its arguments are those of `crun exec`."""
    runtime = tmp_path / "runtime"
    runtime.write_text(f"#!/bin/sh\n{script}\n")
    runtime.chmod(runtime.stat().st_mode | stat.S_IXUSR)
    return Programs(conmon="conmon", runtime=str(runtime), state=tmp_path, version="test")


def written(pid: int) -> int:
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise AssertionError("no wchar")


def test_a_flood_that_nobody_receives_is_throttled(tmp_path: Path) -> None:
    async def scenario() -> None:
        execs = Execs(tmp_path, tmp_path)
        streams = await execs.start(
            programs(tmp_path, f"{SAY_NUMBER}; echo $$; exec cat /dev/zero"),
            "id",
            "group",
            ["x"],
            stdin=False,
            tty=False,
        )
        output = await streams.receive()
        assert output is not None
        pid = int(output.data.split(b"\n")[0])
        quiet = 0
        async with asyncio.timeout(60):
            while quiet < 20 and written(pid) <= BOUND:  # the bound holds at every moment; what has none passes it soon
                before = written(pid)
                await asyncio.sleep(0.01)
                quiet = quiet + 1 if written(pid) == before > 0 else 0
        assert written(pid) <= BOUND
        await streams.close()
        assert not Path(f"/proc/{pid}").exists()

    asyncio.run(scenario())


def test_a_runtime_that_is_missing_is_an_error_and_leaves_no_descriptor(tmp_path: Path) -> None:
    async def scenario(tty: bool) -> None:
        missing = Programs(conmon="conmon", runtime=str(tmp_path / "missing"), state=tmp_path, version="test")
        with pytest.raises(StartError, match="cannot run"):
            await Execs(tmp_path, tmp_path).start(missing, "id", "group", ["x"], stdin=True, tty=tty)
        await asyncio.sleep(0)

    for tty in (False, True):
        asyncio.run(scenario(tty))
        before = descriptors()
        asyncio.run(scenario(tty))
        assert not descriptors() - before


def test_all_that_a_command_says_is_kept_up_to_the_bound(tmp_path: Path) -> None:
    async def scenario() -> None:
        slow = await Execs(tmp_path, tmp_path).run(
            programs(tmp_path, "echo a; sleep 0.2; echo b"), "id", "group", ["x"], 30
        )
        assert (slow.exit_code, slow.output) == (0, b"a\nb\n")
        much = await Execs(tmp_path, tmp_path).run(
            programs(tmp_path, "head -c 1000000 /dev/zero"), "id", "group", ["x"], 30
        )
        assert len(much.output) == EXEC_OUTPUT

    asyncio.run(scenario())


def test_a_process_whose_number_comes_late_ends_with_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with runc on a busy machine: the process writes, and the file with its number is written after that."""
    ours = tmp_path / "pid"
    script = f"exec 3>&1; sleep 1000 3>&- & pid=$!; echo $pid >{ours}; echo begun; sleep 0.3; echo $pid >$4; wait"
    monkeypatch.setattr(cgroups, "processes", lambda group: [int(ours.read_text())])

    async def scenario() -> None:
        streams = await Execs(tmp_path, tmp_path).start(
            programs(tmp_path, script), "id", "group", ["x"], stdin=False, tty=False
        )
        output = await streams.receive()
        assert output is not None and output.data == b"begun\n"
        pid = int(ours.read_text())
        try:
            await streams.close()
            until(lambda: not Path(f"/proc/{pid}").exists(), timeout=20, what="it ends")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    asyncio.run(scenario())
