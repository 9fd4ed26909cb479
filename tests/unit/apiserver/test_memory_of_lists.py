"""A list, and the beginning of a watch, hold a part of the objects decoded, however many a tenant has."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from contextlib import aclosing

from kubeedge.api.names import TenantId
from kubeedge.api.resources import CONFIGMAPS
from kubeedge.apiserver.core import DeleteOptions
from kubeedge.apiserver.registry import Registry
from kubeedge.store.memory import MemoryStore

MIB = 1024 * 1024
OBJECTS, KEYS = 100, 2000  # 40 KB each, of small strings: decoded they take several times as much
WATCHES = 20


async def filled() -> tuple[Registry, int]:
    registry = Registry(MemoryStore(), TenantId("a"))
    data = {f"k{n:05}": f"v{n}" for n in range(KEYS)}
    for n in range(OBJECTS):
        await registry.create(CONFIGMAPS, "default", {"metadata": {"name": f"c{n:04}"}, "data": data})
    return registry, OBJECTS * len(json.dumps(data))


def test_a_watch_that_is_not_read_holds_little_of_what_there_is() -> None:
    async def scenario() -> None:
        registry, size = await filled()
        assert size > 3 * MIB
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            watches = [registry.watch(CONFIGMAPS, resource_version="", initial_events=True) for _ in range(WATCHES)]
            for watch in watches:
                assert (await anext(watch)).type == "ADDED"
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert held < WATCHES * MIB, f"{held / WATCHES / MIB:.1f} MiB each"
        names = []
        async with aclosing(watches[0]) as rest:
            async for event in rest:
                if event.type == "BOOKMARK":
                    break
                names.append(event.object["metadata"]["name"])
        assert names == [f"c{n:04}" for n in range(1, OBJECTS)], "each once, in order"
        for watch in watches[1:]:
            await watch.aclose()

    asyncio.run(scenario())


def test_a_list_is_pages_of_one_revision() -> None:
    async def scenario() -> None:
        registry, _ = await filled()
        whole = await registry.list(CONFIGMAPS)
        assert len(whole.items) == OBJECTS, "who asks for no pages gets all at once"
        names, token, pages, versions = [], "", 0, set()
        while True:
            page = await registry.list_page(CONFIGMAPS, continue_token=token, room=256 * 1024)
            await registry.delete(CONFIGMAPS, "default", f"c{OBJECTS - 1 - pages:04}")  # meanwhile
            names += [item["metadata"]["name"] for item in page.items]
            pages, token = pages + 1, page.continue_token
            versions.add(page.resource_version)
            assert page.size < 400 * 1024
            if not token:
                break
        assert pages > 5 and len(versions) == 1 and names == [f"c{n:04}" for n in range(OBJECTS)]

    asyncio.run(scenario())


def test_who_deletes_a_collection_as_a_trial_holds_little_of_it_and_all_of_it_goes_in_the_end() -> None:
    """As often as one likes, 64 times at once: each held all objects decoded, and its answer had all of them."""

    async def scenario() -> None:
        registry, size = await filled()
        trial, real = DeleteOptions(dry_run=True), DeleteOptions()
        tracemalloc.start()
        try:
            gone = await registry.delete_collection(CONFIGMAPS, "default", trial)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert gone is None and most < 2 * size, f"{most / MIB:.1f} MiB"
        assert len((await registry.list(CONFIGMAPS)).items) == OBJECTS
        some = await registry.delete_collection(CONFIGMAPS, "default", real, field_selector="metadata.name=c0007")
        assert some is not None and [one["metadata"]["name"] for one in some] == ["c0007"]
        assert await registry.delete_collection(CONFIGMAPS, "default", real) is None
        assert not (await registry.list(CONFIGMAPS)).items
        assert await registry.delete_collection(CONFIGMAPS, "default", real) == []

    asyncio.run(scenario())


def test_dependents_are_released_a_part_at_a_time() -> None:
    async def scenario() -> None:
        registry, size = await filled()
        owner = await registry.create(CONFIGMAPS, "default", {"metadata": {"name": "z-owner"}})
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "z-owner", "uid": owner["metadata"]["uid"]}
        await registry.merge_patch(CONFIGMAPS, "default", "c0050", {"metadata": {"ownerReferences": [reference]}})
        tracemalloc.start()
        try:
            await registry.delete_object(CONFIGMAPS, "default", "z-owner", DeleteOptions(propagation="Orphan"))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert "ownerReferences" not in (await registry.get(CONFIGMAPS, "default", "c0050"))["metadata"]
        assert most < 2 * size, f"{most / MIB:.1f} MiB"

    asyncio.run(scenario())


def test_pages_go_on_past_a_compaction() -> None:
    async def scenario() -> None:
        registry, _ = await filled()
        names, compacted = [], False
        async with aclosing(registry.pages(CONFIGMAPS, room=256 * 1024)) as pages:
            async for page in pages:
                names += [one["metadata"]["name"] for one in page.items]
                if not compacted:
                    compacted = True
                    await registry.delete(CONFIGMAPS, "default", "c0099")
                    await registry._store.compact(registry._store.revision)
        assert names == [f"c{n:04}" for n in range(OBJECTS - 1)]

    asyncio.run(scenario())


def test_what_is_kept_of_each_object_is_all_that_is_held() -> None:
    async def scenario() -> None:
        registry, size = await filled()
        tracemalloc.start()
        try:
            names = await registry.reduced_list(CONFIGMAPS, "default", lambda obj: {"name": obj["metadata"]["name"]})
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [one["name"] for one in names] == [f"c{n:04}" for n in range(OBJECTS)]
        assert most < 2 * size, f"{most / MIB:.1f} MiB"

    asyncio.run(scenario())
