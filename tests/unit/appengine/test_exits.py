"""Exits of containers: what conmon reports, however late, and what nobody can report any more."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeedge.appengine.runtime.exits import ExitWatch
from tests.kit import virtual_time


class Told:
    """What a watch says, and when."""

    def __init__(self, directory: Path) -> None:
        self.exits: list[tuple[float, str]] = []
        self.lost: list[tuple[float, str]] = []
        clock = asyncio.get_running_loop().time
        self.watch = ExitWatch(
            directory, lambda id: self.exits.append((clock(), id)), lambda id: self.lost.append((clock(), id))
        )


def ended() -> int:
    """The id of a process that is gone."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@contextmanager
def conmon(bundle: Path, id: str) -> Iterator[None]:
    """A process that runs as the conmon of that container."""
    bundle.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()", "-c", id], stdin=subprocess.PIPE) as process:
        (bundle / "conmon.pid").write_text(f"{process.pid}\n")
        try:
            yield
        finally:
            process.kill()


def test_a_conmon_that_is_slow_is_waited_for_and_its_report_counts(tmp_path: Path) -> None:
    """It syncs the log to the disk before it says how the container ended: a card that stalls made every such exit an unknown one."""

    async def scenario() -> None:
        told = Told(tmp_path)
        with conmon(tmp_path / "bundle", "slow"):
            told.watch.add("slow", ended(), tmp_path / "bundle")
            await asyncio.sleep(20)
            assert told.lost == []
            (tmp_path / ".slow").write_text("3")
            (tmp_path / ".slow").rename(tmp_path / "slow")
            await asyncio.sleep(0.1)
            assert [id for _, id in told.exits] == ["slow"]
            told.watch.discard("slow")  # as its owner does then
            await asyncio.sleep(600)
        assert told.lost == []
        told.watch.close()

    virtual_time.run(scenario())


def test_without_a_conmon_an_exit_is_lost_after_a_moment_and_with_one_that_hangs_at_last(tmp_path: Path) -> None:
    async def scenario() -> None:
        told = Told(tmp_path)
        with conmon(tmp_path / "bundle", "hangs"):
            told.watch.add("hangs", ended(), tmp_path / "bundle")
            told.watch.add("dead", ended(), tmp_path / "none")
            told.watch.add("other", ended(), tmp_path / "bundle")  # whose conmon's process id is another one's now
            await asyncio.sleep(400)
        assert sorted(told.lost) == [(2.0, "dead"), (2.0, "other"), (300.0, "hangs")]
        told.watch.close()

    virtual_time.run(scenario())
