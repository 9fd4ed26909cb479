"""What the agent answers to `kubeedge publish --list`, from its store."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from kubeedge.edgecore import Agent
from kubeedge.store.memory import MemoryStore


def test_services_of_both_kinds_are_listed_and_the_command_hides_the_service():
    async def listed():
        store = MemoryStore()
        await store.put(
            "/desired/webservices/_/web", b'{"namespace": "default", "selector": {"app": "web"}, "port": 80}'
        )
        await store.put("/desired/webservices/_/cam", b'{"namespace": "x", "selector": {"app": "cam"}, "port": 1}')
        await store.put("/reported/webservices/_/cam", b'{"target": "127.0.0.1:8080"}')
        await store.put("/reported/webservices/_/odd", b"[" * 100_000)
        await store.put("/reported/pods/default/cam", b"{}")
        agent = SimpleNamespace(store=store, credentials=SimpleNamespace(tenant="t", node="n"))
        return (await Agent.published(agent))["services"]

    assert asyncio.run(listed()) == [
        {"name": "cam", "by": "kubeedge publish", "target": "127.0.0.1:8080", "path": "/t/n/cam/"},
        {"name": "odd", "by": "kubeedge publish", "target": "", "path": "/t/n/odd/"},
        {"name": "web", "by": "Service", "target": "pods default/app=web port 80", "path": "/t/n/web/"},
    ]
