"""Watches, logs and sessions that are open when their caller's access ends. Virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import SERVICEACCOUNTS
from kubeedge.api.status import Unauthorized
from kubeedge.apiserver.rechecks import EVERY
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request
from kubeedge.pki.identity import UserIdentity
from tests.kit import virtual_time
from tests.unit.apiserver.test_accounts import NS, Api, no_body

A, EDGE1 = TenantId("a"), NodeName("edge1")


class Watching:
    """A client that watches on a connection of its own."""

    def __init__(self, server: ApiServer, token: str = "") -> None:
        self._server = server
        self._headers = [("authorization", f"Bearer {token}")] if token else []
        self.task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        target = f"{NS}/configmaps?watch=true&timeoutSeconds=86400"
        answer = await self._server.handle(Request("GET", target, self._headers, lambda name: None, no_body()))
        assert answer.status == 200, answer
        body: Any = answer.body
        try:
            async for _ in body:
                pass
        finally:
            await body.aclose()

    async def ended(self, within: float) -> bool:
        done, _ = await asyncio.wait([self.task], timeout=within)
        return bool(done)


def with_api(test: Callable[[Api], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def inside() -> None:
            api = Api()
            try:
                await test(api)
            finally:
                await api.store.close()

        virtual_time.run(inside())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@with_api
async def test_a_watch_of_a_machine_that_was_replaced_ends(api: Api) -> None:
    account = await api.account(**{"kubeedge.io/access": "view"})
    pod = await api.pod(serviceAccountName=account["metadata"]["name"], nodeName="edge1")
    api.joins[EDGE1] = "one"
    reference = {"kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]}
    watching = Watching(api.server, await api.token(boundObjectRef=reference, expirationSeconds=86400))
    assert not await watching.ended(10 * EVERY)
    api.joins[EDGE1] = "two"
    assert await watching.ended(EVERY + 1) and api.server.open_watches(A) == 0


@with_api
async def test_a_watch_ends_with_its_token(api: Api) -> None:
    await api.account(**{"kubeedge.io/access": "view"})
    watching = Watching(api.server, await api.token(expirationSeconds=600))
    assert not await watching.ended(599)
    api.now += 600
    assert await watching.ended(EVERY + 1)


@with_api
async def test_a_watch_ends_with_its_kubeconfig_and_not_with_the_store(api: Api) -> None:
    trouble: Exception | None = None

    async def check(who: UserIdentity) -> None:
        if trouble is not None:
            raise trouble

    server = ApiServer(api.registries.get, api.no_node, authenticate=lambda _: UserIdentity(A, "admin"), check=check)
    watching = Watching(server)
    assert not await watching.ended(2 * EVERY)
    trouble = Unavailable("the store is away")
    assert not await watching.ended(2 * EVERY)
    trouble = Unauthorized("Unauthorized: this kubeconfig is expired")
    assert await watching.ended(EVERY + 1) and server.open_watches(A) == 0


@with_api
async def test_a_watch_ends_with_the_right_to_it_and_another_right_takes_nothing_away(api: Api) -> None:
    account = await api.account(**{"kubeedge.io/access": "edit"})
    name = account["metadata"]["name"]
    watching = Watching(api.server, await api.token(expirationSeconds=86400))
    assert not await watching.ended(2 * EVERY)

    async def allow(level: str) -> None:
        change = {"metadata": {"annotations": {"kubeedge.io/access": level}}}
        await api.registries[A].merge_patch(SERVICEACCOUNTS, "default", name, change)

    await allow("view")
    assert not await watching.ended(2 * EVERY)
    await allow("none")
    assert await watching.ended(EVERY + 1) and api.server.open_watches(A) == 0


@with_api
async def test_a_watch_ends_with_its_tenant(api: Api) -> None:
    server = ApiServer(api.registries.get, api.no_node, authenticate=lambda _: UserIdentity(A, "admin"))
    watching = Watching(server)
    assert not await watching.ended(2 * EVERY)
    del api.registries[A]
    assert await watching.ended(EVERY + 1) and server.open_watches(A) == 0


@with_api
async def test_nobody_is_looked_at_once_the_request_is_over(api: Api) -> None:
    before = len(asyncio.all_tasks())
    server = ApiServer(api.registries.get, api.no_node, authenticate=lambda _: UserIdentity(A, "admin"))
    target = f"{NS}/configmaps?watch=true&timeoutSeconds=1"
    answer: Any = await server.handle(Request("GET", target, [], lambda name: None, no_body()))
    assert [one async for one in answer.body] == []
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before
