"""What the table of web services reads of the store, and that it follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from kubeedge.api.names import Revision
from kubeedge.publishing.servicetable.core import PREFIXES
from kubeedge.publishing.servicetable.module import ServiceFeed
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import WatchBatch
from tests.kit import virtual_time

SECRET, CONFIG = "/desired/secrets/default/db", "/desired/configmaps/default/c"
SERVICE, POD, REPORT = "/reported/webservices/_/cam", "/desired/pods/default/web", "/reported/pods/default/web"


class Recording(MemoryStore):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.watched: list[str] = []

    async def range(self, key: str, end: str = "", **options: Any) -> Any:
        self.read.append(key)
        return await super().range(key, end, **options)

    def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        self.watched.append(prefix)
        return super().watch(prefix, after=after, progress=progress)


def test_the_feed_reads_and_watches_what_the_table_needs_and_no_secret() -> None:
    async def scenario() -> None:
        store, seen = Recording(), dict[str, bytes | None]()
        for key in (SECRET, CONFIG, SERVICE, POD):
            await store.put(key, b"{}")
        feed, ready = ServiceFeed(store, PREFIXES, seen.__setitem__), asyncio.Event()
        running = asyncio.create_task(feed.run(ready))
        await ready.wait()
        assert seen == {SERVICE: b"{}", POD: b"{}"}
        await asyncio.sleep(1)
        await store.put(SECRET, b"new")
        await store.put(REPORT, b"up")
        await store.delete(POD)
        await asyncio.sleep(1)
        assert seen == {SERVICE: b"{}", POD: None, REPORT: b"up"}
        assert store.read == store.watched == list(PREFIXES)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual_time.run(scenario())


def test_a_feed_that_is_started_again_forgets_what_was_deleted_meanwhile() -> None:
    async def scenario() -> None:
        store, seen = MemoryStore(), dict[str, bytes | None]()
        await store.put(SERVICE, b"{}")
        feed = ServiceFeed(store, PREFIXES, seen.__setitem__)
        for _ in range(2):
            ready = asyncio.Event()
            running = asyncio.create_task(feed.run(ready))
            await ready.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await store.delete(SERVICE)
        assert seen == {SERVICE: None}

    virtual_time.run(scenario())
