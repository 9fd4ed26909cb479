"""What the agent answers to `kubeedge publish --list`, from its store."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from kubeedge.errors import KubeEdgeError
from kubeedge.kubebus.http.access import hashed
from kubeedge.publishing.published import PublishedServices
from kubeedge.store.memory import MemoryStore


def test_services_of_both_kinds_are_listed_and_the_command_hides_the_service():
    async def listed():
        store = MemoryStore()
        await store.put(
            "/desired/webservices/_/web", b'{"namespace": "default", "selector": {"app": "web"}, "port": 80}'
        )
        await store.put("/desired/webservices/_/cam", b'{"namespace": "x", "selector": {"app": "cam"}, "port": 1}')
        await store.put("/reported/webservices/_/cam", b'{"target": "127.0.0.1:8080", "access": "tenant"}')
        await store.put("/reported/webservices/_/odd", b"[" * 100_000)
        await store.put("/reported/pods/default/cam", b"{}")
        return (await PublishedServices(store, "/t/n").list())["services"]

    assert asyncio.run(listed()) == [
        {"name": "cam", "by": "kubeedge publish", "target": "127.0.0.1:8080", "access": "tenant", "path": "/t/n/cam/"},
        {"name": "odd", "by": "kubeedge publish", "target": "", "access": "public", "path": "/t/n/odd/"},
        {
            "name": "web",
            "by": "Service",
            "target": "pods default/app=web port 80",
            "access": "public",
            "path": "/t/n/web/",
        },
    ]


class World(PublishedServices):
    """Over a store in memory."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        super().__init__(self.store, "/t/n")

    async def value(self):
        return json.loads((await self.store.get("/reported/webservices/_/cam")).value)


def test_access_stays_until_it_is_changed_and_tokens_are_kept_as_hashes_only():
    async def told():
        world = World()
        assert (await world.publish("cam", "127.0.0.1:8080", None))["access"] == "public"
        assert await world.value() == {"target": "127.0.0.1:8080"}
        await world.publish("cam", None, "tenant")
        await world.publish("cam", "127.0.0.1:9090", None)
        assert await world.value() == {"target": "127.0.0.1:9090", "access": "tenant"}
        first = (await world.publish("cam", None, "token"))["token"]
        assert "token" not in await world.publish("cam", "127.0.0.1:1", None)
        second = (await world.new_token("cam"))["token"]
        value = await world.value()
        assert value["tokens"] == [hashed(first), hashed(second)] and len(first) > 40 and first != second
        assert first not in json.dumps(value)
        assert (await world.list())["services"][0]["access"] == "token (2)"
        await world.revoke_tokens("cam")
        assert (await world.value())["tokens"] == []
        await world.publish("cam", None, "public")
        assert await world.value() == {"target": "127.0.0.1:1"}

    asyncio.run(told())


@pytest.mark.parametrize(
    ("what", "arguments", "words"),
    [
        ("publish", ("cam", None, None), "where does it listen"),
        ("publish", ("cam", "127.0.0.1:0", None), "'127.0.0.1:0' is not HOST:PORT"),
        ("publish", ("cam", "127.0.0.1:1", "friends"), "'friends'; it must be one of public, tenant, token"),
        ("new_token", ("cam",), "no web service cam"),
        ("new_token", ("open",), "has access public, so a token would guard nothing"),
        ("revoke_tokens", ("open",), "has access public"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_message_that_helps(what, arguments, words):
    async def told():
        world = World()
        await world.publish("open", "127.0.0.1:1", None)
        with pytest.raises(KubeEdgeError, match=re.escape(words)):
            await getattr(world, what)(*arguments)

    asyncio.run(told())


def test_the_number_of_tokens_is_bounded():
    async def told():
        world = World()
        await world.publish("cam", "127.0.0.1:1", "token")
        for _ in range(15):
            await world.new_token("cam")
        with pytest.raises(KubeEdgeError, match="has 16 tokens already; --revoke-tokens"):
            await world.new_token("cam")

    asyncio.run(told())
