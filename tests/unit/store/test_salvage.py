"""What goes on of a corrupt file: an edge that is offline keeps its pods."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from kubeedge import faults
from kubeedge.agent.salvage import worth_keeping
from kubeedge.store.model import Delete, Put
from kubeedge.store.salvage import salvage
from kubeedge.store.sqlite import CorruptStore, SqliteStore, open_sqlite

POD = b'{"metadata":{"name":"p%03d"},"spec":{"x":"' + b"y" * 600 + b'"}}'
PODS = {f"/desired/pods/default/p{n:03}": POD % n for n in range(200)}
WRITE = "/reported/writes/_/0000000000000012"


async def fill(path: Path) -> int:
    store = await open_sqlite(path)
    await store.txn((), [Put(key, b"{}") for key in PODS])
    for key, value in PODS.items():
        await store.put(key, value)
    await store.put("/desired/pods/default/gone", b"{}")
    await store.txn(
        (), [Delete("/desired/pods/default/gone"), Put("/sync/down", b'["id", 7]'), Put(WRITE, b'{"id":"w"}')]
    )
    await store.txn((), [Put("/local/written/pods/default/a", b"w"), Put("/reported/pods/default/p000", b"{}")])
    revision = store.revision
    await store.close()
    return revision


async def rebuilt(path: Path) -> tuple[SqliteStore, dict[str, bytes]]:
    store = await open_sqlite(path, on_corrupt="rebuild", wanted=worth_keeping)
    return store, {kv.key: kv.value for kv in (await store.range("/", "0")).kvs}


def spoil(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xa5" * 4096)


def test_the_rows_before_and_behind_a_page_that_cannot_be_read_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "edge.db"
        revision = await fill(path)
        spoil(path, 20)
        with pytest.raises(CorruptStore):
            await open_sqlite(path)
        corrupt = path.read_bytes()
        store, there = await rebuilt(path)
        assert path.with_name("edge.db.corrupt-1").read_bytes() == corrupt
        kept = [key for key in PODS if there.get(key) in (PODS[key], b"{}")]
        assert len(kept) > 150 and sum(there.get(key) == PODS[key] for key in PODS) > 150
        assert there[WRITE] == b'{"id":"w"}' and there["/local/written/pods/default/a"] == b"w"
        assert not {"/sync/down", "/reported/pods/default/p000", "/desired/pods/default/gone"} & there.keys()
        assert store.revision == revision + 1, "a write that is made now comes behind those that wait"
        assert await store.put("/a", b"1") == revision + 2
        await store.close()
        assert sorted(p.name for p in tmp_path.iterdir() if "reading" in p.name or "new" in p.name) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(12))
def test_wherever_pages_are_spoiled_a_store_comes_up_with_nothing_that_was_never_written(
    tmp_path: Path, seed: int
) -> None:
    async def scenario() -> None:
        rng = random.Random(seed)
        path = tmp_path / "edge.db"
        await fill(path)
        for _ in range(rng.randrange(1, 8)):
            spoil(path, rng.randrange(path.stat().st_size // 4096))
        if rng.random() < 0.3:
            path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
        store, there = await rebuilt(path)
        assert all(
            value in (PODS.get(key), b"{}", b"w", b'{"id":"w"}', b'["id", 7]') for key, value in there.items()
        ), seed
        await store.put("/a", b"1")
        await store.close()
        await (await open_sqlite(path)).close()

    asyncio.run(scenario())


def test_a_power_cut_in_the_rebuilding_leaves_the_corrupt_file_to_be_rebuilt_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "edge.db"
        await fill(path)
        spoil(path, 20)

        def cut() -> None:
            raise RuntimeError("the power goes")

        faults.arm("store.rebuild.before_create", cut)
        try:
            with pytest.raises(RuntimeError):
                await rebuilt(path)
        finally:
            faults.disarm()
        store, there = await rebuilt(path)
        assert len(there.keys() & PODS.keys()) > 150
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n" * 900, bytes(8192), b"SQLite format 3\0" + bytes(9000)])
def test_what_is_no_store_has_nothing_to_keep(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "edge.db"
    path.write_bytes(data)
    assert salvage(path, lambda key, value: True).values == {} and path.read_bytes() == data
    assert salvage(tmp_path / "none", lambda key, value: True).values == {}
