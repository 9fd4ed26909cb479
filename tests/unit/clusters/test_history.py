"""A server that was restored from a backup: it has not got as far as what was seen of it, and would say nothing to a watch from there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kubeedge.api import status
from kubeedge.api.names import NodeName
from kubeedge.api.resources import CONFIGMAPS, SECRETS
from kubeedge.kit.http1 import Request, Response
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.history import precedes
from kubeedge_cloud.controllers.informer.driver import Informer
from tests.kit import virtual_time
from tests.unit.clusters.test_client import Server, answer, lines, obj


class Restorable:
    """A server at a revision; `restore` sets it back, with other objects. A watch from what it has not reached is silent, as kube-apiserver's."""

    def __init__(self) -> None:
        self.revision = 100
        self.names = ["a"]
        self.asked: Counter[str] = Counter()
        self.news = asyncio.Event()
        self.server = Server(self.handle)

    async def handle(self, request: Request) -> Response:
        if "sendInitialEvents" in request.query:
            return answer(422, status.failure(422, "Invalid", "not here", {}))
        if "watch" not in request.query:
            self.asked["short list" if request.query.get("limit") == ["1"] else "list"] += 1
            found = {"resourceVersion": str(self.revision)}
            return answer(200, {"metadata": found, "items": [obj(name) for name in self.names]})
        self.asked["watch"] += 1
        await self.news.wait()
        if int(request.query["resourceVersion"][0]) > self.revision:
            await asyncio.Event().wait()
        return lines(("ADDED", obj("new", str(self.revision))), forever=True)

    def restore(self, revision: int, *names: str) -> None:
        handle = self.server.handle
        self.server.power_cut()
        self.server.handle, self.revision, self.names = handle, revision, list(names)


def with_server(test: Callable[[Restorable, RemoteClient], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def whole() -> None:
            world = Restorable()
            try:
                await test(world, world.server.client())
            finally:
                await world.server.close()

        virtual_time.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def watch(client: RemoteClient, version: str, resource: Any = CONFIGMAPS) -> str:
    async for event in client.watch(resource, resource_version=version, bookmarks=True):
        return str(event.object["metadata"]["name"])
    return ""


@pytest.mark.parametrize("revision", [40, 150])
def test_an_informer_reads_a_restored_server_anew(revision: int) -> None:
    """Whether it is behind what was seen of it, or has got beyond that in its new history."""

    @with_server
    async def test(world: Restorable, client: RemoteClient) -> None:
        await _restored_under_an_informer(world, client, revision)

    test()


async def _restored_under_an_informer(world: Restorable, client: RemoteClient, revision: int) -> None:
    informer = Informer(client, CONFIGMAPS)
    running = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), 10)
        assert [o["metadata"]["name"] for o in informer] == ["a"] and world.asked["short list"] == 0
        await asyncio.sleep(1)
        world.restore(revision, "b")
        world.news.set()
        await asyncio.sleep(60)
        assert {o["metadata"]["name"] for o in informer} == {"b", "new"}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@with_server
async def test_a_watch_from_what_the_server_has_costs_a_short_list_once(
    world: Restorable, client: RemoteClient
) -> None:
    world.news.set()
    for version in ("100", "70", "100"):
        assert await watch(client, version) == "new"
    assert world.asked == {"watch": 3, "short list": 1}
    assert await watch(client.as_node(NodeName("edge1")), "99") == "new"
    assert world.asked["short list"] == 1, "seen by one client, known to all of the server"
    await watch(client, "99", SECRETS)
    assert world.asked["short list"] == 2, "another resource may be kept elsewhere"
    world.revision = 130
    assert await watch(client, "130") == "new" and world.asked["short list"] == 3


@with_server
async def test_thousands_that_go_on_at_once_look_once(world: Restorable, client: RemoteClient) -> None:
    world.news.set()
    await asyncio.gather(*(watch(client, "100") for _ in range(50)))
    assert world.asked == {"watch": 50, "short list": 1}


@with_server
async def test_what_was_seen_before_a_break_does_not_count(world: Restorable, client: RemoteClient) -> None:
    await client.list(CONFIGMAPS, "n")
    task = asyncio.create_task(watch(client, "100"))
    await asyncio.sleep(1)
    assert world.asked["short list"] == 0
    world.restore(99, "a")
    with pytest.raises(status.ServerUnavailable):
        await task
    with pytest.raises(status.Expired, match="version 100 is after 99"):
        await watch(client, "100")


@with_server
async def test_a_watch_that_ends_before_its_time_is_one_of_a_server_that_stops(
    world: Restorable, client: RemoteClient
) -> None:
    await client.list(CONFIGMAPS, "n")
    handle = world.server.handle

    async def stopping(request: Request) -> Response:
        return lines()

    world.server.handle = stopping
    assert await watch(client, "100") == ""
    world.server.handle, world.revision = handle, 99
    with pytest.raises(status.Expired):
        await watch(client, "100")


def test_which_version_precedes_which() -> None:
    assert precedes("9", "10") and not precedes("10", "9") and not precedes("9", "9")
    for odd in ("", "opaque", "-5", "9" * 30, "١٢"):
        assert not precedes(odd, "10") and not precedes("10", odd)
