"""The log of a store is applied beside its writer, and stays bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeedge import faults
from kubeedge.store.checkpointer import LONG, OFTEN, PAGE
from kubeedge.store.model import Put
from kubeedge.store.sqlite import open_sqlite

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.disarm()


def test_no_commit_waits_for_a_checkpoint(tmp_path: Path) -> None:
    began, let_go, by = threading.Event(), threading.Event(), []

    def stop_here() -> None:
        by.append(threading.current_thread().name)
        began.set()
        let_go.wait(20)

    faults.arm("store.checkpoint.before", stop_here)

    async def scenario() -> None:
        store = await open_sqlite(tmp_path / "store.db")
        log = tmp_path / "store.db-wal"
        try:
            while log.stat().st_size < 2 * OFTEN * PAGE:  # SQLite would have made one in a commit by now
                await store.put("/k", b"x" * MIB)
            assert await asyncio.to_thread(began.wait, 20)
            await store.put("/k", b"while it stands")
            assert log.stat().st_size >= 2 * OFTEN * PAGE
        finally:
            let_go.set()
            await store.close()
        assert by and "store store.db" not in by, "the writer's thread made it"

    asyncio.run(scenario())


def test_the_log_is_bounded_however_fast_others_write(tmp_path: Path) -> None:
    """60 MiB without a pause, and a checkpoint that begins only once the writer has come as far as it may."""

    async def scenario() -> None:
        store = await open_sqlite(tmp_path / "store.db")
        log = tmp_path / "store.db-wal"
        try:
            for n in range(60):
                await asyncio.gather(*(store.txn((), [Put(f"/t/{t}/{n % 4}", b"x" * (MIB // 4))]) for t in "abcd"))
            assert log.stat().st_size < (LONG + OFTEN) * (PAGE + 24)
            assert (await store.range("/t/", "/t0")).count == 16
        finally:
            await store.close()
        assert not log.exists()

    asyncio.run(scenario())
