"""A process is killed while it writes: what was acknowledged is there afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kubeedge.store.sqlite import open_sqlite


@dataclass
class Told:
    """What a worker said before its end."""

    store_id: str = ""
    at_open: int = 0
    newest: dict[str, int] = field(default_factory=dict)  # key -> number
    last: dict[str, int] = field(default_factory=dict)  # writer -> number
    revision: int = 0
    acknowledged: int = 0

    def hear(self, line: str) -> None:
        key, number, revision = line.split()
        if key == "open":
            self.store_id, self.at_open = number, int(revision)
            return
        self.newest[key] = int(number)
        self.last[key.split("/")[1]] = int(number)
        self.revision = max(self.revision, int(revision))
        self.acknowledged += 1


def kill_while_writing(path: Path, point: str, hits: int, told: Told) -> None:
    """Run a worker until the point was reached `hits` times, or, for the point "none", SIGKILL it after so many lines."""
    command = [sys.executable, "-m", "tests.faults.store_worker", str(path), point, str(hits)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout
            for n, line in enumerate(worker.stdout):
                told.hear(line)
                if point == "none" and n == hits:
                    worker.kill()
        finally:
            worker.kill()
        assert worker.wait(90) == (-9 if point == "none" else 137)


def check(path: Path, told: Told) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        try:
            assert store.store_id == told.store_id
            assert store.revision >= told.revision
            for key, number in told.newest.items():
                kv = await store.get(key)
                assert kv and int(kv.value) >= number, f"{key}: {number} was acknowledged, {kv} is there"
            for writer, number in told.last.items():
                kv = await store.get(f"/{writer}/last")
                assert kv and int(kv.value) >= number
                partner = await store.get(f"/{writer}/{int(kv.value) % 5}")
                assert partner and partner.mod_revision == kv.mod_revision, "half a transaction"
            before = store.revision
            assert await store.put("/after", b"") == before + 1
        finally:
            await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("point", "hits"),
    [
        ("store.commit.before_fsync", 2),
        ("store.commit.before_fsync", 31),
        ("store.commit.after_fsync", 1),
        ("store.commit.after_fsync", 32),
        ("store.compact.after_mark", 1),
        ("store.compact.after_mark", 3),
        ("store.compact.after_sweep", 2),
        ("store.checkpoint.before", 2),
        ("store.checkpoint.after", 1),
        ("store.checkpoint.after", 3),
        ("none", 150),
        ("none", 333),
    ],
)
def test_nothing_acknowledged_is_lost_when_the_process_dies(tmp_path: Path, point: str, hits: int) -> None:
    told = Told()
    kill_while_writing(tmp_path / "store.db", point, hits, told)
    check(tmp_path / "store.db", told)
    assert told.acknowledged or hits < 3


def test_nothing_is_lost_over_many_deaths_of_one_store(tmp_path: Path) -> None:
    told = Told()
    for hits in (20, 1, 33, 7):
        before = told.revision
        kill_while_writing(tmp_path / "store.db", "store.commit.after_fsync", hits, told)
        assert told.at_open >= before
        check(tmp_path / "store.db", told)
