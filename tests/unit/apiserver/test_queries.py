"""Query parameters that Kubernetes reads in a way of its own, and how slowly a body may come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from kubeedge.api.names import TenantId
from kubeedge.api.resources import CONFIGMAPS, NODES, PODS
from kubeedge.api.status import BadRequest
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.call import Address, Call
from kubeedge.apiserver.registry import Registry
from kubeedge.kit.http1 import Request
from kubeedge.store.memory import MemoryStore
from tests.kit.virtual_time import run
from tests.unit.apiserver.test_http import Api, with_api

CONFIGS = "/api/v1/namespaces/default/configmaps"
POD = "/api/v1/namespaces/default/pods/p"
SPEC = {"nodeName": "edge1", "containers": [{"name": "c", "image": "demo:1"}]}
(ROW,) = (row for row in BUILT_IN if row.resource == CONFIGMAPS)


@pytest.mark.parametrize("limit", ["0", "-1", "-500"])
def test_a_limit_below_one_limits_nothing(limit: str) -> None:
    @with_api
    async def run(api: Api) -> None:
        for name in ("one", "two"):
            await api("POST", CONFIGS, {"metadata": {"name": name}})
        status, answer = await api("GET", f"{CONFIGS}?limit={limit}")
        assert status == 200 and [item["metadata"]["name"] for item in answer["items"]] == ["one", "two"]
        assert "continue" not in answer["metadata"]

    run()


def test_a_negative_grace_period_is_a_second() -> None:
    @with_api
    async def run(api: Api) -> None:
        registry = api.registries[TenantId("a")]
        await registry.create(NODES, "", {"metadata": {"name": "edge1"}})
        await registry.create(PODS, "default", {"metadata": {"name": "p"}, "spec": SPEC})
        status, answer = await api("DELETE", f"{POD}?gracePeriodSeconds=-1")
        assert status == 200 and answer["metadata"]["deletionGracePeriodSeconds"] == 1

    run()


def test_a_list_of_an_exact_version_shows_it() -> None:
    @with_api
    async def run(api: Api) -> None:
        await api("POST", CONFIGS, {"metadata": {"name": "one"}})
        _, before = await api("GET", CONFIGS)
        await api("POST", CONFIGS, {"metadata": {"name": "two"}})
        version = before["metadata"]["resourceVersion"]
        for query in ("resourceVersionMatch=Exact", "limit=5"):  # with a limit, a version is exact, too
            _, then = await api("GET", f"{CONFIGS}?resourceVersion={version}&{query}")
            assert [item["metadata"]["name"] for item in then["items"]] == ["one"]
            assert then["metadata"]["resourceVersion"] == version
        for query in ("", "&resourceVersionMatch=NotOlderThan"):
            _, now = await api("GET", f"{CONFIGS}?resourceVersion={version}{query}")
            assert len(now["items"]) == 2
        status, _ = await api("GET", f"{CONFIGS}?resourceVersion=999999&resourceVersionMatch=Exact")
        assert status == 400

    run()


@pytest.mark.parametrize(
    ("query", "watches"),
    [
        ("?watch", True),
        ("?watch=", True),
        ("?watch=yes", True),
        ("?watch=1", True),
        ("?watch=0", False),
        ("?watch=FALSE", False),
    ],
)
def test_a_flag_is_true_unless_it_says_no(query: str, watches: bool) -> None:
    @with_api
    async def run(api: Api) -> None:
        answer = await api.raw("GET", f"{CONFIGS}{query}")
        assert answer.status == 200 and isinstance(answer.body, bytes) is not watches

    run()


def call(body: AsyncIterator[bytes]) -> Call:
    registry = Registry(MemoryStore(), TenantId("a"))
    request = Request("POST", CONFIGS, [("content-type", "application/json")], lambda name: None, body)
    return Call(registry, Address(ROW, "default"), request, request.query)


def test_a_body_may_come_slowly_as_long_as_it_comes() -> None:
    """A ConfigMap of 1 MB over a line of 4 kB/s takes four minutes."""
    data = json.dumps({"data": {"k": "x" * 1024 * 1024}}).encode()

    async def trickle() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 40_000):
            await asyncio.sleep(10)
            yield data[start : start + 40_000]

    async def read() -> None:
        assert await call(trickle()).body() == data

    run(read())


@pytest.mark.parametrize(("pause", "size"), [(61.0, 1000), (1.0, 100)], ids=["stops", "drips"])
def test_a_body_that_stops_or_drips_is_given_up(pause: float, size: int) -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * size
            await asyncio.sleep(pause)

    async def read() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(BadRequest, match="comes too slowly"):
            await call(drip()).body()
        assert loop.time() - begun < 90

    run(read())
