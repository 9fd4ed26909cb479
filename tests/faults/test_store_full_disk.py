"""A disk that is full: an error that names the file, nothing acknowledged lost, and life goes on when there is room."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeedge.errors import Unavailable
from kubeedge.store.sqlite import open_sqlite


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "kubeedge-test", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.root
def test_a_full_disk_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    path = small_disk / "edge.db"

    async def scenario() -> None:
        store = await open_sqlite(path)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(400 * 1024))
        acknowledged = 0
        with pytest.raises(Unavailable, match=r"edge\.db"):
            for n in range(1000):
                await store.put(f"k{n}", b"%d" % n * 2000)
                acknowledged = n + 1
        assert 10 < acknowledged < 1000
        assert store.revision == acknowledged + 1
        with pytest.raises(Unavailable):
            await store.put("big", bytes(1_000_000))
        assert len((await store.range("k", "l")).kvs) == acknowledged  # reading goes on
        ballast.unlink()
        assert await store.put("after", b"room again") == acknowledged + 2
        await store.close()
        again = await open_sqlite(path)
        assert len((await again.range("k", "l")).kvs) == acknowledged
        assert await again.get("after")
        await again.close()

    asyncio.run(scenario())


@pytest.mark.root
def test_a_store_on_a_full_disk_can_be_opened_and_read(small_disk: Path) -> None:
    path = small_disk / "edge.db"

    async def scenario() -> None:
        store = await open_sqlite(path)
        await store.put("a", b"1")
        await store.close()
        with pytest.raises(OSError), (small_disk / "ballast").open("wb") as ballast:
            while True:
                ballast.write(bytes(4096))
        try:
            again = await open_sqlite(path)
        except Unavailable as exc:  # SQLite cannot make its index file: said so, and nothing was touched
            assert "edge.db" in str(exc)
        else:
            assert (await again.get("a")) is not None
            await again.close()
        (small_disk / "ballast").unlink()
        last = await open_sqlite(path)
        assert (await last.get("a")) is not None
        await last.close()

    asyncio.run(scenario())
